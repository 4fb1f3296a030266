// SPDX-License-Identifier: MIT OR Apache-2.0
//! FENCE_WAIT and FENCE_WAIT_MANY by io_uring.

use std::os::fd::AsFd;
use std::path::Path;

use libc::{EINVAL, EIO, ENOENT, ETIME};
use libvaccel::{ioctl, sys, ArgBo, Deadline, Device, Features, Fence, VmFlags};
use zerocopy::IntoBytes;

use super::Case;
use crate::foreign::sw_sync::SwSync;
use crate::rig::{ensure, needs, soon, Result};
use crate::sync::{break_vm, fence, reaches, within};
use crate::uring::door::{self, as_refused, refuses_the_unknown, wait_for};
use crate::uring::{Entry, Ring};

pub const CASES: &[Case] = &[
    Case {
        name: "uring-wait",
        proves:
            "a wait by io_uring completes at once for a value that is reached and with the signal \
                 for one that is not, with the value seen",
        run: wait,
    },
    Case {
        name: "uring-wait-many-pending",
        proves: "of waits for many values of one fence a signal completes exactly those it reaches",
        run: pending,
    },
    Case {
        name: "uring-wait-deadline",
        proves:
            "a wait ends with ETIME at its deadline and not before, and one that does not wait at \
                 once",
        run: deadline,
    },
    Case {
        name: "uring-wait-destroyed",
        proves:
            "a wait outlives the handle of its fence and ends by its deadline or with the fence",
        run: destroyed,
    },
    Case {
        name: "uring-wait-failed",
        proves: "a vm that fails ends the waits for its fences with EIO, and waits begun then too",
        run: failing,
    },
    Case {
        name: "uring-wait-recorded",
        proves:
            "a wait for a fence that has an error recorded completes with 1, one that was pending \
                 too",
        run: recorded,
    },
    Case {
        name: "uring-wait-all-any",
        proves:
            "waits for all and for any of several fences complete with the last and with the first \
                 of them, at their deadline, and with EIO",
        run: many,
    },
    Case {
        name: "uring-wait-bad",
        proves: "what the ioctls refuse of a wait io_uring refuses with the same errno",
        run: bad,
    },
];

fn wait(node: &Path) -> Result {
    let (rig, mut ring) = door::rig(node)?;
    let fence = &rig.fence;
    fence.signal(5)?;
    for value in [0, 4, 5] {
        ring.one(&wait_for(fence, value, Deadline::NEVER, 1))?
            .gives("a value that is reached", 5)?;
    }
    ring.push(&wait_for(fence, 6, Deadline::NEVER, 2))?;
    ring.submit()?;
    ring.stays_quiet("a value that is not reached")?;
    fence.signal(8)?;
    for completion in ring.collect(1, soon())? {
        completion.gives("a value that comes", 8)?;
    }
    // Who waits has what was reached, whatever comes of it.
    ring.push(&wait_for(fence, 9, Deadline::NEVER, 3))?;
    ring.submit()?;
    fence.signal(9)?;
    fence.rewind(1)?;
    for completion in ring.collect(1, soon())? {
        completion.is("a value that came and went", 0)?;
    }
    ring.one(&wait_for(fence, 9, Deadline::NOW, 4))?
        .is("a value that is gone", -ETIME)?;
    ring.stays_quiet("nothing is left")
}

fn pending(node: &Path) -> Result {
    const COUNT: u64 = 200;
    let (rig, mut ring) = door::rig(node)?;
    for value in (1..=COUNT).rev() {
        ring.queue(&wait_for(&rig.fence, value, Deadline::NEVER, value))?;
    }
    ring.submit()?;
    let mut before = 0;
    for value in [1, 2, 50, COUNT] {
        ring.stays_quiet("before the signal")?;
        rig.fence.signal(value)?;
        let mut completions = ring.collect((value - before) as usize, soon())?;
        completions.sort_by_key(|completion| completion.user_data);
        for (completion, expected) in completions.iter().zip(before + 1..) {
            completion.gives("a value that comes", value)?;
            ensure(
                completion.user_data == expected,
                format!("{} instead of {expected} at {value}", completion.user_data),
            )?;
        }
        before = value;
    }
    Ok(())
}

fn deadline(node: &Path) -> Result {
    let (rig, mut ring) = door::rig(node)?;
    ring.one(&wait_for(&rig.fence, 1, Deadline::NOW, 1))?
        .is("deadline 0", -ETIME)?;
    let end = within(80);
    ring.one(&wait_for(&rig.fence, 1, end, 2))?
        .is("a deadline", -ETIME)?;
    ensure(
        Deadline::after(std::time::Duration::ZERO) >= end,
        "the wait ended before its deadline",
    )?;
    ring.one(&wait_for(&rig.fence, 1, end, 3))?
        .is("a deadline that has passed", -ETIME)?;
    // The signal is in time.
    ring.push(&wait_for(&rig.fence, 1, soon(), 4))?;
    ring.submit()?;
    rig.fence.signal(1)?;
    for completion in ring.collect(1, soon())? {
        completion.gives("a signal before the deadline", 1)?;
    }
    ring.one(&wait_for(&rig.fence, 1, end, 5))?
        .gives("a value that is reached, and a deadline that has passed", 1)
}

fn destroyed(node: &Path) -> Result {
    let (rig, mut ring) = door::rig(node)?;
    let lost = fence(&rig.vm)?;
    ring.push(&wait_for(&lost, 1, within(300), 1))?;
    ring.submit()?;
    let again = wait_for(&lost, 1, soon(), 2);
    lost.close()?;
    let completions = ring.collect(1, soon())?;
    ensure(
        completions.iter().all(|completion| completion.result < 0),
        format!("a wait for a fence that is gone: {completions:?}"),
    )?;
    ring.one(&again)?.is("a fence that is gone", -ENOENT)
}

fn failing(node: &Path) -> Result {
    let (rig, mut ring) = door::rig(node)?;
    let other = rig.device.create_vm(VmFlags::empty())?;
    let alive = fence(&other)?;
    ring.push(&wait_for(&rig.fence, 1, Deadline::NEVER, 1))?;
    ring.push(&wait_for(&rig.fence, u64::MAX, soon(), 2))?;
    ring.push(&wait_for(&alive, 1, Deadline::NEVER, 3))?;
    ring.submit()?;
    break_vm(&rig.vm)?;
    for completion in ring.collect(2, soon())? {
        completion.is("a vm that fails", -EIO)?;
    }
    ring.stays_quiet("a fence of another vm")?;
    ring.one(&wait_for(&rig.fence, 1, Deadline::NEVER, 4))?
        .is("a failed vm", -EIO)?;
    alive.signal(1)?;
    for completion in ring.collect(1, soon())? {
        completion.gives("a fence of another vm", 1)?;
    }
    Ok(())
}

fn recorded(node: &Path) -> Result {
    let (rig, mut ring) = door::rig(node)?;
    needs(&rig.device, Features::SYNC_BRIDGE)?;
    let timeline = SwSync::open()?;
    let file = timeline.fence(1)?;
    rig.fence.import_sync_file(file.as_fd(), 1)?;
    ring.push(&wait_for(&rig.fence, 1, soon(), 1))?;
    ring.submit()?;
    ring.stays_quiet("nothing is signalled")?;
    // What has not signalled does, with ENOENT.
    drop(timeline);
    for completion in ring.collect(1, soon())? {
        completion.is("an error that comes", 1)?;
    }
    ring.one(&wait_for(&rig.fence, 1, soon(), 2))?
        .is("an error that is there", 1)?;
    reaches("an error that is there", &rig.fence, 1, Some(ENOENT))
}

/// Waits for several fences.
struct Many<'a> {
    device: &'a Device,
    arg: &'a ArgBo,
    next: std::cell::Cell<u64>,
}

impl Many<'_> {
    fn entry(&self, list: &[(&Fence, u64)], flags: u32, deadline: Deadline) -> Result<Entry> {
        let entries: Vec<sys::WaitEntry> = list
            .iter()
            .map(|(fence, value)| sys::WaitEntry {
                fence: fence.handle(),
                value: *value,
                ..Default::default()
            })
            .collect();
        let offset = self.next.get();
        self.next.set(offset + 64);
        self.arg
            .mapping()
            .write(offset as usize, entries.as_bytes())?;
        let arg = sys::FenceWaitMany {
            arg_bo: self.arg.handle(),
            count: list.len() as u32,
            arg_offset: offset,
            deadline_ns: deadline.as_ns(),
            flags,
            ..Default::default()
        };
        Ok(Entry::new::<ioctl::FenceWaitMany>(
            self.device.as_fd(),
            &arg,
            offset,
        ))
    }
}

fn many(node: &Path) -> Result {
    let (rig, mut ring) = door::rig(node)?;
    needs(&rig.device, Features::SYNC_BRIDGE)?;
    let second = rig.device.create_vm(VmFlags::empty())?;
    let (a, b) = (&rig.fence, fence(&second)?);
    let waits = Many {
        device: &rig.device,
        arg: &rig.arg,
        next: std::cell::Cell::new(0),
    };
    let list = [(a, 1), (&b, 2), (a, 3)];
    for flags in [0, sys::WAIT_ANY] {
        ring.one(&waits.entry(&list, flags, Deadline::NOW)?)?
            .is("deadline 0", -ETIME)?;
        ring.one(&waits.entry(&list, flags, within(50))?)?
            .is("a deadline", -ETIME)?;
    }
    ring.push(&waits.entry(&list, 0, Deadline::NEVER)?)?;
    ring.push(&waits.entry(&list, sys::WAIT_ANY, Deadline::NEVER)?)?;
    ring.submit()?;
    ring.stays_quiet("nothing is reached")?;
    b.signal(2)?;
    for completion in ring.collect(1, soon())? {
        completion.gives("any", 1)?;
    }
    a.signal(2)?;
    ring.stays_quiet("two of three")?;
    a.signal(3)?;
    for completion in ring.collect(1, soon())? {
        completion.is("all", 0)?;
    }
    ring.one(&waits.entry(&list, 0, Deadline::NOW)?)?
        .is("all that are reached", 0)?;
    ring.one(&waits.entry(&[(a, 9), (&b, 1)], sys::WAIT_ANY, soon())?)?
        .gives("any that is reached", 1)?;
    ring.push(&waits.entry(&[(a, 9), (&b, 9)], 0, Deadline::NEVER)?)?;
    ring.push(&waits.entry(&[(a, 9), (a, 10)], sys::WAIT_ANY, Deadline::NEVER)?)?;
    ring.submit()?;
    break_vm(&rig.vm)?;
    for completion in ring.collect(2, soon())? {
        completion.is("a vm that fails", -EIO)?;
    }
    Ok(())
}

fn bad(node: &Path) -> Result {
    let (rig, mut ring) = door::rig(node)?;
    let device = &rig.device;
    let good = sys::FenceWait {
        fence: rig.fence.handle(),
        ..Default::default()
    };
    refuses_the_unknown::<ioctl::FenceWait>(device, &mut ring, &good, 0)?;
    for fence in [0, 0x7fff_fff0, u32::MAX] {
        let arg = sys::FenceWait { fence, ..good };
        as_refused::<ioctl::FenceWait>(device, &mut ring, "for an unknown fence", arg)?;
    }
    needs(device, Features::SYNC_BRIDGE)?;
    bad_many(&rig.device, &rig.arg, &rig.fence, &mut ring)
}

fn bad_many(device: &Device, arg: &ArgBo, fence: &Fence, ring: &mut Ring) -> Result {
    let entry = sys::WaitEntry {
        fence: fence.handle(),
        ..Default::default()
    };
    arg.mapping().write(0, [entry; 2].as_bytes())?;
    let good = sys::FenceWaitMany {
        arg_bo: arg.handle(),
        count: 2,
        ..Default::default()
    };
    refuses_the_unknown::<ioctl::FenceWaitMany>(device, ring, &good, sys::WAIT_ANY)?;
    let bad = [
        ("of no object", sys::FenceWaitMany { arg_bo: 0, ..good }),
        ("for none", sys::FenceWaitMany { count: 0, ..good }),
        ("for 65", sys::FenceWaitMany { count: 65, ..good }),
        (
            "behind the end",
            sys::FenceWaitMany {
                arg_offset: 1 << 40,
                ..good
            },
        ),
        (
            "around the end",
            sys::FenceWaitMany {
                arg_offset: u64::MAX - 7,
                ..good
            },
        ),
    ];
    for (what, arg) in bad {
        as_refused::<ioctl::FenceWaitMany>(device, ring, what, arg)?;
    }
    let unknown = sys::WaitEntry {
        fence: 0x7fff_fff0,
        ..entry
    };
    let padded = sys::WaitEntry { pad: 1, ..entry };
    for (bad, errno) in [(unknown, ENOENT), (padded, EINVAL)] {
        arg.mapping().write(0, [entry, bad].as_bytes())?;
        as_refused::<ioctl::FenceWaitMany>(device, ring, "with a bad entry", good)?;
        ring.one(&Entry::new::<ioctl::FenceWaitMany>(
            device.as_fd(),
            &good,
            0,
        ))?
        .is("a bad entry", -errno)?;
    }
    Ok(())
}
