// SPDX-License-Identifier: MIT OR Apache-2.0
//! Handles and what outlives them.

use std::os::fd::AsFd;
use std::path::Path;

use libc::ENOENT;
use libvaccel::ioctl;
use libvaccel::{sys, BindFlags, BoOptions, FenceFlags, QueueMode, QueueOptions, VmFlags};

use super::Case;
use crate::expect::{accepted, refused};
use crate::rig::{check_device_works, ensure, failed, soon, Result, Rig};

pub const CASES: &[Case] = &[
    Case {
        name: "destroy-bad",
        proves: "handle 0, unknown, destroyed and wrong-kind handles are ENOENT for each kind",
        run: destroy_bad,
    },
    Case {
        name: "destroy-order",
        proves: "queues, fences and objects work on after their vm's handle is gone",
        run: order,
    },
    Case {
        name: "close-everything-open",
        proves: "closing a file with everything in use and work running cleans up by itself",
        run: abandon,
    },
    Case {
        name: "create-many",
        proves: "a hundred of each kind can be made and are all given back",
        run: many,
    },
];

fn destroy_bad(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let destroy = |handle| sys::Destroy { handle, pad: 0 };
    for handle in [0, 0x7fff_fff0, u32::MAX] {
        let arg = destroy(handle);
        let what = format!("handle {handle:#x}");
        refused::<ioctl::VmDestroy>(&rig.device, &what, arg, &[ENOENT])?;
        refused::<ioctl::QueueDestroy>(&rig.device, &what, arg, &[ENOENT])?;
        refused::<ioctl::FenceDestroy>(&rig.device, &what, arg, &[ENOENT])?;
    }
    // Kinds may have separate number spaces, in which a number can mean an object of each kind: a
    // wrong kind is tested with numbers that only one kind has.
    let fences: Vec<_> = (0..8)
        .map(|_| rig.vm.create_fence(FenceFlags::NO_MMAP, 0))
        .collect::<libvaccel::Result<_>>()?;
    if let Some(last) = fences.last().map(|fence| fence.handle()) {
        if last != rig.vm.handle() && last != rig.queue.handle() {
            let arg = destroy(last);
            refused::<ioctl::VmDestroy>(&rig.device, "of a fence", arg, &[ENOENT])?;
            refused::<ioctl::QueueDestroy>(&rig.device, "of a fence", arg, &[ENOENT])?;
        }
    }
    for fence in fences {
        let gone = destroy(fence.handle());
        fence.close()?;
        refused::<ioctl::FenceDestroy>(&rig.device, "a second time", gone, &[ENOENT])?;
    }
    Ok(())
}

fn order(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let vm = rig.vm.handle();
    accepted::<ioctl::VmDestroy>(
        &rig.device,
        "before its queues",
        sys::Destroy { handle: vm, pad: 0 },
    )?;
    let query = sys::VmQuery {
        vm,
        ..Default::default()
    };
    refused::<ioctl::VmQuery>(&rig.device, "of a destroyed vm", query, &[ENOENT])?;
    let create = sys::FenceCreate {
        vm,
        ..Default::default()
    };
    refused::<ioctl::FenceCreate>(&rig.device, "in a destroyed vm", create, &[ENOENT])?;
    rig.fence.signal(1)?;
    ensure(
        rig.fence.wait(1, soon())?.value == 1,
        "a fence without its vm's handle does not work",
    )?;
    rig.queue
        .submit(&libvaccel::Submission::new().signal(&rig.fence, 2))?;
    rig.fence.wait(2, soon())?;
    // What the rig drops now meets a vm handle that is gone, which must not matter.
    drop(rig);
    let device = libvaccel::Device::open(node)?;
    check_device_works(&device)
}

fn abandon(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    // Raw handles, so that nothing is given up by hand.
    for _ in 0..4 {
        let fd = rig.device.as_fd();
        let mut vm = sys::VmCreate::default();
        let mut made = ioctl::call::<ioctl::VmCreate>(fd, &mut vm);
        let mut queue = sys::QueueCreate {
            vm: vm.vm,
            mode: sys::QUEUE_LONG_RUNNING,
            ..Default::default()
        };
        made = made.and_then(|()| ioctl::call::<ioctl::QueueCreate>(fd, &mut queue));
        let mut fence = sys::FenceCreate {
            vm: vm.vm,
            ..Default::default()
        };
        made = made.and_then(|()| ioctl::call::<ioctl::FenceCreate>(fd, &mut fence));
        let mut bo = sys::BoCreate {
            size: 1 << 20,
            vm: vm.vm,
            ..Default::default()
        };
        made = made.and_then(|()| ioctl::call::<ioctl::BoCreate>(fd, &mut bo));
        let mut bind = sys::Bind {
            vm: vm.vm,
            bo: bo.bo,
            size: 1 << 20,
            ..Default::default()
        };
        made = made.and_then(|()| ioctl::call::<ioctl::Bind>(fd, &mut bind));
        if let Err(errno) = made {
            return failed(format!("making objects: {errno}"));
        }
        // The queue waits for what never comes, and is closed like that.
        let wait = sys::OpFence {
            opcode: sys::OP_FENCE_WAIT,
            fence: fence.fence,
            value: 1,
            ..Default::default()
        };
        rig.arg
            .mapping()
            .write(0, zerocopy::IntoBytes::as_bytes(&wait))?;
        let submit = sys::Submit {
            queue: queue.queue,
            arg_bo: rig.arg.handle(),
            nr_ops: 1,
            op_stride: 64,
            ..Default::default()
        };
        accepted::<ioctl::Submit>(&rig.device, "of a wait", submit)?;
    }
    drop(rig);
    let device = libvaccel::Device::open(node)?;
    check_device_works(&device)
}

fn many(node: &Path) -> Result {
    const MANY: usize = 100;
    let rig = Rig::new(node)?;
    let mut fences = Vec::new();
    let mut bindings = Vec::new();
    let mut queues = Vec::new();
    for _ in 0..MANY {
        fences.push(rig.vm.create_fence(FenceFlags::empty(), 0)?);
        let bo = rig.vm.create_bo(&BoOptions::new(4096))?;
        bindings.push(bo.bind(BindFlags::WRITE)?);
        queues.push(
            rig.vm
                .create_queue(&QueueOptions::new(QueueMode::Bounded))?,
        );
    }
    let mut addresses: Vec<u64> = bindings.iter().map(|binding| binding.gpu_va()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    ensure(addresses.len() == MANY, "two bindings share an address")?;
    drop((fences, bindings, queues));
    let vms: Vec<_> = (0..MANY)
        .map(|_| rig.device.create_vm(VmFlags::empty()))
        .collect::<libvaccel::Result<_>>()?;
    for vm in vms {
        vm.close()?;
    }
    check_device_works(&rig.device)
}
