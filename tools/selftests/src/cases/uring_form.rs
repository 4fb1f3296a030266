// SPDX-License-Identifier: MIT OR Apache-2.0
//! Forms of rings and entries: sizes, flags, numbers.

use std::os::fd::AsFd;
use std::path::Path;

use libc::{EINVAL, ENOENT, EOPNOTSUPP, ETIME};
use libvaccel::{ioctl, sys, Deadline, Device, Fence, Submission};

use super::Case;
use crate::expect::fields;
use crate::rig::{check_device_works, ensure, soon, Result};
use crate::sync::{reaches, within};
use crate::uring::door::{self, wait_for, Lists};
use crate::uring::entry::{ASYNC, BUFFER_SELECT};
use crate::uring::{Entry, Ring, Setup, CQE32, CQE_MIXED, IOPOLL, SQE128, SQE_MIXED};

pub const CASES: &[Case] = &[
    Case {
        name: "uring-small-completions",
        proves: "a ring with completions of 16 bytes has all results but the extra ones",
        run: small_completions,
    },
    Case {
        name: "uring-small-entries",
        proves: "by entries of 64 bytes every command but CANCEL is refused with EINVAL, and CANCEL \
                 works on commands of another ring",
        run: small_entries,
    },
    Case {
        name: "uring-mixed",
        proves: "in a ring of mixed sizes large entries work with their extra results, among small ones \
                 and around its end, and small ones are refused but for CANCEL",
        run: mixed,
    },
    Case {
        name: "uring-unknown",
        proves: "numbers that are no command, those of other ioctls too, end with EOPNOTSUPP",
        run: unknown,
    },
    Case {
        name: "uring-flags",
        proves: "fixed buffers, multishot and stray fields of an entry are refused",
        run: flags,
    },
    Case {
        name: "uring-iopoll",
        proves: "a ring that polls has each command done or refused, at once, and is closed with waits \
                 pending",
        run: iopoll,
    },
];

fn ring(flags: u32) -> Result<Ring> {
    Ok(Ring::new(&Setup {
        flags,
        entries: 16,
        ..Default::default()
    })?)
}

fn small_completions(node: &Path) -> Result {
    let (rig, _) = door::rig(node)?;
    let mut ring = ring(SQE128)?;
    let lists = Lists::new(&rig.device, 1)?;
    for value in 1..=4 {
        let list = Submission::new().signal(&rig.fence, value);
        let entry = lists.entry(0, &rig.queue, &list)?;
        let completion = ring.one(&entry)?;
        completion.is("SUBMIT", 0)?;
        ensure(completion.extra.is_none(), "there is an extra result")?;
        ring.one(&wait_for(&rig.fence, value, soon(), value))?
            .is("FENCE_WAIT", 0)?;
    }
    ring.one(&wait_for(&rig.fence, 9, within(30), 9))?
        .is("a deadline", -ETIME)?;
    let target = wait_for(&rig.fence, 9, Deadline::NEVER, 7);
    ring.push(&target)?;
    ring.push(&Entry::cancel(rig.device.as_fd(), 7, 8))?;
    for completion in ring.collect(2, soon())? {
        let expected = if completion.user_data == 7 {
            -libc::ECANCELED
        } else {
            0
        };
        completion.is("CANCEL and its target", expected)?;
    }
    Ok(())
}

/// Each command with a structure of zeros.
fn each(device: &Device) -> Vec<(&'static str, Entry)> {
    const NAMES: &[&str] = &[
        "SUBMIT",
        "FENCE_WAIT",
        "FENCE_WAIT_MANY",
        "RESIDENCY",
        "BIND",
        "UNBIND",
        "SYNC_EXPORT",
        "SYNC_IMPORT",
    ];
    ioctl::OPERATIONS
        .iter()
        .filter(|(name, ..)| NAMES.contains(name))
        .map(|(name, number, _)| (*name, Entry::raw(device.as_fd(), *number, &[], 0)))
        .collect()
}

/// A pending wait of `usual` must end by CANCEL in a ring of small entries.
fn cancels(usual: &mut Ring, small: &mut Ring, device: &Device, fence: &Fence) -> Result {
    let missing = Entry::cancel(device.as_fd(), 1234, 1);
    small.one(&missing)?.is("CANCEL of nothing", -ENOENT)?;
    usual.push(&wait_for(fence, u64::MAX, Deadline::NEVER, 1234))?;
    usual.submit()?;
    let completion = small.one(&missing)?;
    completion.is("CANCEL", 0)?;
    ensure(
        completion.extra == Some(1),
        format!("CANCEL ended {:?}", completion.extra),
    )?;
    for completion in usual.collect(1, soon())? {
        completion.is("what was cancelled", -libc::ECANCELED)?;
    }
    Ok(())
}

fn small_entries(node: &Path) -> Result {
    let (rig, mut usual) = door::rig(node)?;
    let mut small = ring(CQE32)?;
    for (name, entry) in each(&rig.device) {
        small.one(&entry)?.is(name, -EINVAL)?;
    }
    let good = wait_for(&rig.fence, 0, Deadline::NOW, 1);
    usual.one(&good)?.gives("FENCE_WAIT by a large entry", 0)?;
    small
        .one(&good)?
        .is("FENCE_WAIT by a small entry", -EINVAL)?;
    small
        .one(&good.flags(ASYNC))?
        .is("FENCE_WAIT by a small entry, with IOSQE_ASYNC", -EINVAL)?;
    cancels(&mut usual, &mut small, &rig.device, &rig.fence)?;
    small
        .one(&Entry::raw(rig.device.as_fd(), 0, &[], 0))?
        .is("GET_PARAM", -EOPNOTSUPP)
}

fn mixed(node: &Path) -> Result {
    let (rig, mut usual) = door::rig(node)?;
    let mut mixed = match ring(SQE_MIXED | CQE_MIXED) {
        Ok(ring) => ring,
        Err(crate::rig::Problem::Failed(reason)) => {
            return Err(crate::rig::Problem::Skipped(format!(
                "mixed sizes: {reason}"
            )))
        }
        Err(problem) => return Err(problem),
    };
    let lists = Lists::new(&rig.device, 1)?;
    for (name, entry) in each(&rig.device) {
        mixed.one(&entry)?.is(name, -EINVAL)?;
    }
    // An odd number per round, so that large entries get to the end of the ring.
    for value in 1..=40 {
        let list = Submission::new().signal(&rig.fence, value);
        let entry = lists.entry(0, &rig.queue, &list)?.large();
        mixed.one(&entry)?.gives("SUBMIT", value)?;
        mixed.push(&Entry::nop(1))?;
        mixed.push(&wait_for(&rig.fence, value, soon(), 2).large())?;
        mixed.push(&Entry::nop(3))?;
        for completion in mixed.collect(3, soon())? {
            match completion.user_data {
                2 => completion.gives("FENCE_WAIT", value)?,
                _ => completion.is("a small entry", 0)?,
            }
        }
    }
    reaches("the submissions", &rig.fence, 40, None)?;
    cancels(&mut usual, &mut mixed, &rig.device, &rig.fence)?;
    // A large CANCEL is as good, and a large entry in a ring of large ones.
    mixed
        .one(&Entry::cancel(rig.device.as_fd(), 1, 1).large())?
        .is("a large CANCEL of nothing", -ENOENT)?;
    usual
        .one(&wait_for(&rig.fence, 40, Deadline::NOW, 1).large())?
        .gives("a large entry among large ones", 40)
}

fn unknown(node: &Path) -> Result {
    let (rig, mut ring) = door::rig(node)?;
    let file = rig.device.as_fd();
    let commands: Vec<&str> = each(&rig.device).iter().map(|(name, _)| *name).collect();
    let mut entries = Vec::new();
    for (name, number, request) in ioctl::OPERATIONS {
        if !commands.contains(name) {
            entries.push(Entry::raw(file, *number, &[], 0));
        }
        // The ioctl's number is none of a command, also if the operation is one.
        entries.push(Entry::raw(file, *request, &[], 0));
    }
    for number in [
        0x20,
        0x3f,
        0x40,
        0x5b,
        0x9f,
        0xff,
        0x11b,
        1 << 16,
        1 << 31,
        u32::MAX,
    ] {
        entries.push(Entry::raw(file, number, &[0xff; 80], 0));
    }
    for completion in ring.all(&entries)? {
        completion.is("an unknown command", -EOPNOTSUPP)?;
    }
    Ok(())
}

fn flags(node: &Path) -> Result {
    const FIXED: u32 = 1 << 0;
    const MULTISHOT: u32 = 1 << 1;
    let (rig, mut ring) = door::rig(node)?;
    let good = wait_for(&rig.fence, 0, Deadline::NOW, 1);
    let cancel = Entry::cancel(rig.device.as_fd(), 5, 1);
    for entry in [good, cancel] {
        let mut bad = vec![(
            "multishot",
            entry.command_flags(MULTISHOT).flags(BUFFER_SELECT),
        )];
        for bit in 0..32 {
            bad.push(("a flag", entry.command_flags(1 << bit)));
        }
        bad.push(("all flags", entry.command_flags(u32::MAX)));
        bad.push(("both flags", entry.command_flags(FIXED | MULTISHOT)));
        bad.push(("stray bytes behind the number", entry.with(12, &[1])));
        for (what, entry) in bad {
            ring.one(&entry)?.is(what, -EINVAL)?;
        }
    }
    for (name, offset, size) in fields::<sys::Cancel>() {
        if name != "reserved" {
            continue;
        }
        for byte in offset..offset + size {
            let entry = cancel.with(crate::uring::entry::AREA + byte, &[0x80]);
            ring.one(&entry)?
                .is(&format!("CANCEL with reserved byte {byte}"), -EINVAL)?;
        }
    }
    ring.one(&cancel)?.is("CANCEL as it should be", -ENOENT)?;
    ring.one(&good)?.gives("FENCE_WAIT as it should be", 0)
}

fn iopoll(node: &Path) -> Result {
    let (rig, _) = door::rig(node)?;
    let mut polled = ring(SQE128 | CQE32 | IOPOLL)?;
    let reached = wait_for(&rig.fence, 0, Deadline::NOW, 1);
    polled.push(&reached)?;
    polled.submit()?;
    // What is polled for is on disks: there is nothing to wait for.
    polled.look()?;
    let completions = polled.take()?;
    let told = completions
        .iter()
        .all(|seen| [0, -EOPNOTSUPP, -EINVAL].contains(&seen.result));
    ensure(
        completions.len() == 1 && told,
        format!("completions {completions:?}, expected one"),
    )?;
    for user_data in 0..10 {
        polled.push(&wait_for(&rig.fence, 1, Deadline::NEVER, user_data))?;
    }
    polled.submit()?;
    drop(polled);
    check_device_works(&rig.device)
}
