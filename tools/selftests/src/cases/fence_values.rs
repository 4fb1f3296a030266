// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a value means: the largest one, and one that was reached and taken back.

use std::path::Path;
use std::sync::mpsc;

use libc::{EIO, ETIME};
use libvaccel::{Deadline, EventFd, State};

use super::Case;
use crate::foreign::sync_file::Status;
use crate::rig::{ensure, failed, soon, Problem, Result};
use crate::sync::{absent, break_vm, fails_with, fence, has_status, open, reaches, signals};
use crate::thread::{sleeps_in_ioctl, this_thread};

pub const CASES: &[Case] = &[
    Case {
        name: "fence-largest-value",
        proves: "the largest value is signalled like any other and ends waits and exports as a \
                 success",
        run: largest,
    },
    Case {
        name: "fence-largest-value-failed",
        proves:
            "after a vm has failed no wait, export or sync_file takes the value it is left with \
                 for a success",
        run: largest_failed,
    },
    Case {
        name: "fence-latch",
        proves:
            "a value that was reached stays so for waits, eventfds and exports that were there, \
                 and for no later one, when the fence is rewound at once",
        run: latch,
    },
];

fn largest(node: &Path) -> Result {
    use std::os::fd::AsFd;
    let (device, vm) = open(node)?;
    let fence = fence(&vm)?;
    let syncobj = device.create_syncobj(false)?;
    let event = EventFd::new()?;
    fence.export_to(&syncobj, 1, u64::MAX)?;
    fence.export_to(&syncobj, 2, 3)?;
    fence.eventfd(u64::MAX, event.as_fd())?;
    absent("nothing is signalled", &syncobj, 1)?;
    fence.signal(u64::MAX)?;
    signals("both were reached", &syncobj, 2, None)?;
    event.wait(soon())?;
    reaches("the largest", &fence, u64::MAX, None)?;
    has_status(
        "the largest value",
        &fence.sync_file(u64::MAX)?.into(),
        Status::Signalled,
    )?;
    device.wait_all(&[(&fence, u64::MAX)], Deadline::NOW)?;
    ensure(
        vm.query()?.state == State::Active,
        "the vm has failed of it",
    )
}

fn largest_failed(node: &Path) -> Result {
    let (device, vm) = open(node)?;
    let lost = fence(&vm)?;
    let syncobj = device.create_syncobj(false)?;
    lost.export_to(&syncobj, 0, 1)?;
    break_vm(&vm)?;
    for value in [1, u64::MAX - 1, u64::MAX] {
        let what = format!("value {value} of a failed vm");
        fails_with(&what, lost.wait(value, soon()), EIO)?;
        let made = lost.sync_file(value);
        ensure(made.is_err(), format!("{what}: it has a sync_file"))?;
    }
    fails_with(
        "a wait for many",
        device.wait_all(&[(&lost, 1)], soon()),
        EIO,
    )?;
    signals("the export", &syncobj, 0, Some(EIO))?;
    fails_with("an export", lost.export_to(&syncobj, 0, 2), EIO)
}

fn latch(node: &Path) -> Result {
    use std::os::fd::AsFd;
    let (device, vm) = open(node)?;
    let fence = fence(&vm)?;
    let syncobj = device.create_syncobj(false)?;
    let event = EventFd::new()?;
    for round in 1..=20 {
        let value = round * 10;
        fence.export_to(&syncobj, round, value)?;
        fence.eventfd(value, event.as_fd())?;
        let waited = std::thread::scope(|scope| {
            let (sender, thread) = mpsc::channel();
            let fence = &fence;
            let waiter = scope.spawn(move || {
                let _ = sender.send(this_thread());
                fence.wait(value, soon())
            });
            let thread = thread.recv().or_else(|_| failed("a thread died"))?;
            sleeps_in_ioctl(&thread?)?;
            fence.signal(value)?;
            fence.rewind(0)?;
            Ok::<_, Problem>(waiter.join())
        })?;
        match waited {
            Ok(waited) => drop(waited?),
            Err(_) => return failed("a thread died"),
        }
        event.wait(soon())?;
        signals(&format!("round {round}"), &syncobj, round, None)?;
        fails_with(
            "a value that was never reached",
            fence.wait(value + 1, Deadline::NOW),
            ETIME,
        )?;
        ensure(fence.query()?.value == 0, "the fence is not rewound")?;
    }
    Ok(())
}
