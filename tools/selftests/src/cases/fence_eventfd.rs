// SPDX-License-Identifier: MIT OR Apache-2.0
//! Eventfds that fences signal.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use libc::{EBADF, EINVAL, EIO, ENOENT};
use libvaccel::{ioctl, sys, Deadline, Device, EventFd, Features, VmFlags};

use super::Case;
use crate::expect::{refused, refuses_the_unknown};
use crate::rig::{check_device_works, ensure, eventually, needs, soon, Result, Rig};
use crate::sync::{break_vm, briefly, fails_with, fence, open};

pub const CASES: &[Case] = &[
    Case {
        name: "eventfd-once",
        proves:
            "an eventfd is signalled at once for a value that is reached, later for one that is \
                 not, and never twice",
        run: once,
    },
    Case {
        name: "eventfd-many",
        proves:
            "of 64 eventfds on one fence one signal reaches exactly those whose value it reaches",
        run: many,
    },
    Case {
        name: "eventfd-bad",
        proves: "what is no eventfd is refused, and one that is closed meanwhile harms nobody",
        run: bad,
    },
    Case {
        name: "eventfd-gone",
        proves:
            "an eventfd is signalled when its value cannot come any more: the vm fails, or the \
                 file is closed, its fence's handle given up or not",
        run: gone,
    },
];

fn quiet(what: &str, event: &EventFd) -> Result {
    match event.wait(briefly()) {
        Err(error) if error.kind() == libvaccel::ErrorKind::TimedOut => Ok(()),
        outcome => crate::rig::failed(format!("{what}: {outcome:?}, expected nothing")),
    }
}

fn heard(what: &str, event: &EventFd) -> Result {
    let count = event.wait(soon())?;
    ensure(count == 1, format!("{what}: counted {count}, expected 1"))
}

fn once(node: &Path) -> Result {
    let (_device, vm) = open(node)?;
    let fence = vm.create_fence(libvaccel::FenceFlags::empty(), 5)?;
    let event = EventFd::new()?;
    for value in [0, 4, 5] {
        fence.eventfd(value, event.as_fd())?;
        heard(&format!("value {value} at 5"), &event)?;
    }
    fence.eventfd(6, event.as_fd())?;
    quiet("value 6 at 5", &event)?;
    fence.signal(6)?;
    heard("value 6 at 6", &event)?;
    fence.signal(7)?;
    quiet("value 6 at 7, heard before", &event)?;
    // The same eventfd twice counts twice.
    fence.eventfd(8, event.as_fd())?;
    fence.eventfd(8, event.as_fd())?;
    fence.signal(8)?;
    let mut count = 0;
    eventually("one of two is not heard", || {
        count += event.take()?;
        Ok(count >= 2)
    })?;
    quiet("both were heard", &event)?;
    ensure(count == 2, format!("two were counted as {count}"))
}

fn many(node: &Path) -> Result {
    let (_device, vm) = open(node)?;
    let fence = fence(&vm)?;
    let events: Vec<EventFd> = (0..64)
        .map(|_| EventFd::new())
        .collect::<libvaccel::Result<_>>()?;
    // Not in the order of their values.
    let value = |index: usize| (index as u64 * 37) % 64 + 1;
    for (index, event) in events.iter().enumerate() {
        fence.eventfd(value(index), event.as_fd())?;
    }
    for signalled in [40, 64] {
        fence.signal(signalled)?;
        for (index, event) in events.iter().enumerate() {
            let value = value(index);
            if value <= signalled && (signalled == 40 || value > 40) {
                heard(&format!("value {value} at {signalled}"), event)?;
            }
        }
        for (index, event) in events.iter().enumerate() {
            let count = event.take()?;
            ensure(
                count == 0,
                format!("value {} at {signalled}: heard {count} more", value(index)),
            )?;
        }
    }
    Ok(())
}

fn bad(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let device = &rig.device;
    needs(device, Features::SYNC_BRIDGE)?;
    let event = EventFd::new()?;
    let good = sys::FenceEventfd {
        fence: rig.fence.handle(),
        fd: event.as_fd().as_raw_fd(),
        value: 1,
        ..Default::default()
    };
    refuses_the_unknown::<ioctl::FenceEventfd>(device, &good, 0)?;
    let refuse =
        |what: &str, arg, errno| refused::<ioctl::FenceEventfd>(device, what, arg, &[errno]);
    for fence in [0, 0x7fff_fff0] {
        let bad = sys::FenceEventfd { fence, ..good };
        refuse(&format!("of fence {fence:#x}"), bad, ENOENT)?;
    }
    for fd in [-1, 9999] {
        refuse(
            &format!("of descriptor {fd}"),
            sys::FenceEventfd { fd, ..good },
            EBADF,
        )?;
    }
    let null = File::open("/dev/null")?;
    for (what, fd) in [("/dev/null", null.as_fd()), ("the node", device.as_fd())] {
        let bad = sys::FenceEventfd {
            fd: fd.as_raw_fd(),
            ..good
        };
        refuse(&format!("of {what}"), bad, EINVAL)?;
    }
    quiet("nothing was accepted", &event)?;
    rig.fence.eventfd(1, event.as_fd())?;
    drop(event);
    rig.fence.signal(1)?;
    let next = EventFd::new()?;
    rig.fence.eventfd(2, next.as_fd())?;
    rig.fence.signal(2)?;
    heard("after one that was closed", &next)
}

fn gone(node: &Path) -> Result {
    let (device, vm) = open(node)?;
    let event = EventFd::new()?;
    let lost = fence(&vm)?;
    lost.eventfd(1, event.as_fd())?;
    break_vm(&vm)?;
    heard("the vm failed", &event)?;
    fails_with("a poll then", lost.wait(1, Deadline::NOW), EIO)?;
    fails_with("one more", lost.eventfd(1, event.as_fd()), EIO)?;

    let other = Device::open(node)?;
    let vm = other.create_vm(VmFlags::empty())?;
    let (kept, given_up) = (fence(&vm)?, fence(&vm)?);
    let second = EventFd::new()?;
    kept.eventfd(1, event.as_fd())?;
    given_up.eventfd(1, second.as_fd())?;
    given_up.close()?;
    quiet("nothing has happened yet", &event)?;
    drop((kept, vm, other));
    heard("the file was closed", &event)?;
    heard("the file was closed with the handle given up", &second)?;
    check_device_works(&device)
}
