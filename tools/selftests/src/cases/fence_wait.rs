// SPDX-License-Identifier: MIT OR Apache-2.0
//! Waits for many fences at once.

use std::path::Path;

use libc::{EFBIG, EINVAL, EIO, ENOENT, EOVERFLOW, ETIME};
use libvaccel::{ioctl, sys, Deadline, Device, Features, Fence, Reached, VmFlags};
use zerocopy::IntoBytes;

use super::{Case, HelperEntry};
use crate::expect::{accepted, refused, refuses_the_unknown};
use crate::helper::{self, Helper};
use crate::rig::{check_device_works, ensure, failed, needs, soon, Result, Rig};
use crate::sync::{break_vm, briefly, fails_with, fence, open, within};

pub const CASES: &[Case] = &[
    Case {
        name: "wait-many-all",
        proves: "a wait for all fences of two vms ends with the last of them, and at its deadline \
                 before",
        run: all,
    },
    Case {
        name: "wait-many-any",
        proves:
            "a wait for any names one that is reached, with its value, whether it was or comes to \
                 be; one fence may be listed twice",
        run: any,
    },
    Case {
        name: "wait-many-limits",
        proves: "a wait takes 1 to 64 fences, more are EFBIG, and lists that are not there or not \
                 sound are refused",
        run: limits,
    },
    Case {
        name: "wait-many-failed",
        proves:
            "a failed vm ends a wait for all at once with EIO, and a wait for any only when no \
                 fence of another vm is left",
        run: failing,
    },
    Case {
        name: "kill-wait-many",
        proves: "a process killed while it waits for 64 fences leaves nothing behind",
        run: killed,
    },
];

pub const HELPERS: &[HelperEntry] = &[("wait-many", wait_many)];

const fn reached(index: usize, value: u64) -> Reached {
    Reached {
        index,
        value,
        error: None,
    }
}

fn all(node: &Path) -> Result {
    let (device, vm) = open(node)?;
    let second = device.create_vm(VmFlags::empty())?;
    let (a, b, c) = (fence(&vm)?, fence(&second)?, fence(&vm)?);
    let list = [(&a, 1), (&b, 2), (&c, 3)];
    fails_with(
        "a poll of none",
        device.wait_all(&list, Deadline::NOW),
        ETIME,
    )?;
    a.signal(1)?;
    c.signal(9)?;
    b.signal(1)?;
    fails_with("two of three", device.wait_all(&list, briefly()), ETIME)?;
    let waited = std::thread::scope(|scope| {
        let waiter = scope.spawn(|| device.wait_all(&list, soon()));
        std::thread::sleep(std::time::Duration::from_millis(20));
        b.signal(2)?;
        waiter
            .join()
            .map_err(|_| crate::rig::Problem::Failed("a thread died".into()))
    })?;
    waited?;
    device.wait_all(&list, Deadline::NOW)?;
    device.wait_all(&[(&b, 1), (&b, 2), (&b, 1)], Deadline::NOW)?;
    Ok(())
}

fn any(node: &Path) -> Result {
    let (device, vm) = open(node)?;
    let second = device.create_vm(VmFlags::empty())?;
    let (a, b) = (fence(&vm)?, fence(&second)?);
    let list = [(&a, 5), (&b, 7), (&a, 3)];
    fails_with(
        "a poll of none",
        device.wait_any(&list, Deadline::NOW),
        ETIME,
    )?;
    fails_with("a wait for none", device.wait_any(&list, briefly()), ETIME)?;
    let waited = std::thread::scope(|scope| {
        let waiter = scope.spawn(|| device.wait_any(&list, soon()));
        std::thread::sleep(std::time::Duration::from_millis(20));
        a.signal(4)?;
        waiter
            .join()
            .map_err(|_| crate::rig::Problem::Failed("a thread died".into()))
    })??;
    ensure(waited == reached(2, 4), format!("woken by {waited:?}"))?;
    // A host with asynchronous messages sets a value a moment later.
    b.signal(8)?;
    b.wait(8, soon())?;
    let seen = device.wait_any(&list[..2], Deadline::NOW)?;
    ensure(seen == reached(1, 8), format!("a poll says {seen:?}"))?;
    a.signal(5)?;
    a.wait(5, soon())?;
    let seen = device.wait_any(&list, Deadline::NOW)?;
    let possible = [reached(0, 5), reached(1, 8), reached(2, 5)];
    ensure(
        possible.contains(&seen),
        format!("all are reached, and a poll says {seen:?}"),
    )
}

fn limits(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let device = &rig.device;
    needs(device, Features::SYNC_BRIDGE)?;
    let write = |entries: &[sys::WaitEntry]| rig.arg.mapping().write(0, entries.as_bytes());
    let entry = sys::WaitEntry {
        fence: rig.fence.handle(),
        ..Default::default()
    };
    write(&[entry; 65])?;
    let wait = sys::FenceWaitMany {
        arg_bo: rig.arg.handle(),
        count: 64,
        ..Default::default()
    };
    let with = |count| sys::FenceWaitMany { count, ..wait };
    let refuse =
        |what: &str, arg, errno| refused::<ioctl::FenceWaitMany>(device, what, arg, &[errno]);
    accepted::<ioctl::FenceWaitMany>(device, "for 64 fences", with(64))?;
    refuse("for none", with(0), EINVAL)?;
    for count in [65, u32::MAX] {
        refuse(&format!("for {count}"), with(count), EFBIG)?;
    }
    refuse(
        "without a list",
        sys::FenceWaitMany { arg_bo: 0, ..wait },
        ENOENT,
    )?;
    let other = sys::FenceWaitMany {
        arg_bo: rig.bo.handle(),
        ..wait
    };
    refuse("with a list in a guest object", other, EINVAL)?;
    let at = |arg_offset| sys::FenceWaitMany { arg_offset, ..wait };
    refuse("with a list behind the end", at(rig.arg.size()), EINVAL)?;
    refuse("with a list over the end", at(rig.arg.size() - 16), EINVAL)?;
    refuse("with a list that overflows", at(u64::MAX - 7), EOVERFLOW)?;
    refuses_the_unknown::<ioctl::FenceWaitMany>(device, &with(1), sys::WAIT_ANY)?;
    let bad = sys::WaitEntry { pad: 1, ..entry };
    write(&[entry, bad])?;
    refuse("with padding set", with(2), EINVAL)?;
    accepted::<ioctl::FenceWaitMany>(device, "ahead of it", with(1))?;
    for fence in [0, 0x7fff_fff0] {
        let bad = sys::WaitEntry { fence, ..entry };
        write(&[entry, bad])?;
        refuse(&format!("for fence {fence:#x}"), with(2), ENOENT)?;
    }
    let fences: Vec<Fence> = (0..64).map(|_| fence(&rig.vm)).collect::<Result<_>>()?;
    let list: Vec<(&Fence, u64)> = fences.iter().map(|fence| (fence, 1)).collect();
    for fence in &fences {
        fails_with("some of 64", device.wait_all(&list, Deadline::NOW), ETIME)?;
        fence.signal(1)?;
    }
    device.wait_all(&list, soon())?;
    Ok(())
}

fn failing(node: &Path) -> Result {
    let (device, vm) = open(node)?;
    let healthy = device.create_vm(VmFlags::empty())?;
    let (lost, good, alive) = (fence(&vm)?, fence(&vm)?, fence(&healthy)?);
    good.signal(1)?;
    let all = [(&lost, 1), (&alive, 1)];
    let waited = std::thread::scope(|scope| {
        let for_all = scope.spawn(|| device.wait_all(&all, soon()));
        let for_any = scope.spawn(|| device.wait_any(&all, within(2000)));
        let for_lost = scope.spawn(|| device.wait_any(&[(&lost, 1), (&lost, 2)], soon()));
        std::thread::sleep(std::time::Duration::from_millis(20));
        break_vm(&vm)?;
        let waits = (for_all.join(), for_lost.join());
        alive.signal(1)?;
        Ok::<_, crate::rig::Problem>((waits, for_any.join()))
    })?;
    let ((Ok(for_all), Ok(for_lost)), Ok(for_any)) = waited else {
        return failed("a thread died");
    };
    fails_with("a wait for all", for_all, EIO)?;
    fails_with("a wait for any of a failed vm", for_lost, EIO)?;
    let seen = for_any?;
    ensure(seen.index == 1, format!("a wait for any says {seen:?}"))?;
    fails_with("a poll for all", device.wait_all(&all, Deadline::NOW), EIO)?;
    // What had been reached before may be called so, or the failure told; never the wrong fence.
    if let Ok(seen) = device.wait_any(&[(&lost, 1), (&good, 1)], Deadline::NOW) {
        ensure(
            seen == reached(1, 1),
            format!("a failed vm's fences: {seen:?}"),
        )?;
    }
    check_device_works(&device)
}

fn killed(node: &Path) -> Result {
    let (device, _vm) = open(node)?;
    let name = node.display().to_string();
    for _ in 0..3 {
        use std::os::fd::AsFd;
        let helper = Helper::start_with("wait-many", &[&name], device.as_fd())?;
        ensure(
            helper.said == "waiting",
            format!("the process: {}", helper.said),
        )?;
        helper.kill()?;
    }
    check_device_works(&device)
}

/// The second process: the argument is the node.
fn wait_many(arguments: &[String]) -> Result {
    let Some(node) = arguments.first() else {
        return failed("no node was named");
    };
    let device = Device::open(node)?;
    let vm = device.create_vm(VmFlags::empty())?;
    let fences: Vec<Fence> = (0..64).map(|_| fence(&vm)).collect::<Result<_>>()?;
    let list: Vec<(&Fence, u64)> = fences.iter().map(|fence| (fence, 1)).collect();
    helper::say("waiting")?;
    device.wait_all(&list, Deadline::NEVER)?;
    failed("a wait that nobody signals has ended")
}
