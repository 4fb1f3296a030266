// SPDX-License-Identifier: MIT OR Apache-2.0
//! The file is the identity: handles belong to it, not to processes.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use libc::ENOENT;
use libvaccel::{ioctl, sys, Device};

use super::Case;
use crate::expect::refused;
use crate::helper::Helper;
use crate::rig::{check_device_works, ensure, Result, Rig};

pub const CASES: &[Case] = &[
    Case {
        name: "file-private-handles",
        proves: "handles of one file mean nothing to another",
        run: private,
    },
    Case {
        name: "file-dup",
        proves: "a duplicated descriptor has the same handles, and the last close ends them",
        run: dup,
    },
    Case {
        name: "file-shared-with-process",
        proves: "a process that got the file uses its handles, and its end leaves them alone",
        run: shared,
    },
    Case {
        name: "file-kill-working",
        proves:
            "a process killed in the middle of work leaves nothing behind, and the device works",
        run: kill_working,
    },
    Case {
        name: "file-kill-waiting",
        proves: "a process that waits for ever can be killed at once",
        run: kill_waiting,
    },
];

fn private(node: &Path) -> Result {
    let one = Rig::new(node)?;
    let other = Device::open(node)?;
    let destroy = |handle| sys::Destroy { handle, pad: 0 };
    let query = sys::VmQuery {
        vm: one.vm.handle(),
        ..Default::default()
    };
    refused::<ioctl::VmQuery>(&other, "of another file's vm", query, &[ENOENT])?;
    let (vm, queue, fence) = (one.vm.handle(), one.queue.handle(), one.fence.handle());
    refused::<ioctl::VmDestroy>(&other, "of another file's vm", destroy(vm), &[ENOENT])?;
    refused::<ioctl::QueueDestroy>(&other, "of another file's queue", destroy(queue), &[ENOENT])?;
    refused::<ioctl::FenceDestroy>(&other, "of another file's fence", destroy(fence), &[ENOENT])?;
    let info = sys::BoInfo {
        bo: one.bo.handle(),
        ..Default::default()
    };
    refused::<ioctl::BoInfo>(&other, "of another file's object", info, &[ENOENT])?;
    one.vm.query()?;
    Ok(())
}

fn dup(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let copy: OwnedFd = rig.device.as_fd().try_clone_to_owned()?;
    let copy = Device::from_fd(copy, node);
    let vm = rig.vm.handle();
    let query = sys::VmQuery {
        vm,
        ..Default::default()
    };
    crate::expect::accepted::<ioctl::VmQuery>(&copy, "through the duplicate", query)?;
    drop(copy);
    rig.vm.query()?;
    check_device_works(&rig.device)
}

fn shared(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let helper = Helper::start("query-vm", &rig.device)?;
    let said = helper.said.clone();
    helper.finish()?;
    ensure(
        said == rig.vm.handle().to_string(),
        format!("the other process found vm {said}, not {}", rig.vm.handle()),
    )?;
    rig.vm.query()?;
    rig.fence.signal(1)?;
    Ok(())
}

fn kill_working(node: &Path) -> Result {
    let device = Device::open(node)?;
    for _ in 0..3 {
        let helper = Helper::start("work", &device)?;
        ensure(
            helper.said == "working",
            format!("the process: {}", helper.said),
        )?;
        helper.kill()?;
    }
    check_device_works(&device)
}

fn kill_waiting(node: &Path) -> Result {
    let device = Device::open(node)?;
    let helper = Helper::start("wait", &device)?;
    ensure(
        helper.said == "waiting",
        format!("the process: {}", helper.said),
    )?;
    std::thread::sleep(std::time::Duration::from_millis(50));
    helper.kill()?;
    check_device_works(&device)
}
