// SPDX-License-Identifier: MIT OR Apache-2.0
//! Unknown flags and non-zero reserved fields, of every operation, by the table of fields.

use std::path::Path;

use libvaccel::{ioctl, sys, Features};
use zerocopy::IntoBytes;

use super::Case;
use crate::expect::{accepted, refused, refuses_the_unknown};
use crate::rig::{open_with, Result, Rig};

pub const CASES: &[Case] = &[
    Case {
        name: "unknown-vm-queue",
        proves:
            "vm and queue operations refuse every unknown flag and every non-zero reserved byte",
        run: vm_and_queue,
    },
    Case {
        name: "unknown-memory",
        proves: "object, binding and budget operations refuse every unknown flag and reserved byte",
        run: memory,
    },
    Case {
        name: "unknown-fence-submit",
        proves: "fence operations and submission refuse every unknown flag and reserved byte",
        run: fence_and_submit,
    },
    Case {
        name: "unknown-reserve-events",
        proves:
            "RESERVE, RELEASE, RESIDENCY's flags, EVENTS refuse unknown flags and reserved bytes",
        run: reserve_and_events,
    },
    Case {
        name: "unknown-operation",
        proves: "numbers without an operation are refused, CANCEL included, which is no ioctl",
        run: operation,
    },
];

fn vm_and_queue(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let device = &rig.device;
    refuses_the_unknown::<ioctl::VmCreate>(
        device,
        &sys::VmCreate::default(),
        sys::VM_MANUAL_RESIDENCY,
    )?;
    let vm = rig.vm.handle();
    let query = sys::VmQuery {
        vm,
        ..Default::default()
    };
    refuses_the_unknown::<ioctl::VmQuery>(device, &query, 0)?;
    let create = sys::QueueCreate {
        vm,
        ..Default::default()
    };
    refuses_the_unknown::<ioctl::QueueCreate>(device, &create, 0)?;
    let query = sys::QueueQuery {
        queue: rig.queue.handle(),
        ..Default::default()
    };
    refuses_the_unknown::<ioctl::QueueQuery>(device, &query, 0)?;
    // With padding set nothing may be destroyed: the rig's objects are used again behind it.
    let destroy = |handle| sys::Destroy { handle, pad: 0 };
    refuses_the_unknown::<ioctl::QueueDestroy>(device, &destroy(rig.queue.handle()), 0)?;
    refuses_the_unknown::<ioctl::FenceDestroy>(device, &destroy(rig.fence.handle()), 0)?;
    refuses_the_unknown::<ioctl::VmDestroy>(device, &destroy(vm), 0)?;
    rig.queue.query()?;
    rig.fence.query()?;
    rig.vm.query()?;
    let query = sys::AdapterQuery {
        source: sys::QUERY_DESCRIPTION,
        arg_bo: rig.arg.handle(),
        size: 512,
        ..Default::default()
    };
    refuses_the_unknown::<ioctl::AdapterQuery>(device, &query, 0)
}

fn memory(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let device = &rig.device;
    let create = sys::BoCreate {
        size: 4096,
        vm: rig.vm.handle(),
        ..Default::default()
    };
    let known = sys::BO_READ_ONLY | sys::BO_SHAREABLE;
    refuses_the_unknown::<ioctl::BoCreate>(device, &create, known)?;
    let info = sys::BoInfo {
        bo: rig.bo.handle(),
        ..Default::default()
    };
    accepted::<ioctl::BoInfo>(device, "as it should be", info)?;
    for byte in [0, 7, 8, 15] {
        // In this structure @flags is an output.
        let mut reserved = [0u64; 2];
        if let Some(target) = reserved.as_mut_bytes().get_mut(byte) {
            *target = 1;
        }
        let bad = sys::BoInfo { reserved, ..info };
        refused::<ioctl::BoInfo>(
            device,
            &format!("reserved byte {byte}"),
            bad,
            &[libc::EINVAL],
        )?;
    }
    let sync = sys::BoSync {
        bo: rig.bo.handle(),
        flags: sys::SYNC_FOR_CPU,
        size: 4096,
        ..Default::default()
    };
    let known = sys::SYNC_FOR_CPU | sys::SYNC_FOR_DEVICE;
    accepted::<ioctl::BoSync>(device, "as it should be", sync)?;
    refuses_the_unknown::<ioctl::BoSync>(device, &sync, known)?;
    let bind = sys::Bind {
        vm: rig.vm.handle(),
        bo: rig.bo.handle(),
        size: 4096,
        ..Default::default()
    };
    let known = sys::BIND_WRITE | sys::BIND_EXECUTE | sys::BIND_NULL | sys::BIND_FIXED;
    refuses_the_unknown::<ioctl::Bind>(device, &bind, known)?;
    let unbind = sys::Bind {
        vm: rig.vm.handle(),
        gpu_va: rig.binding.gpu_va(),
        size: rig.binding.size(),
        ..Default::default()
    };
    refuses_the_unknown::<ioctl::Unbind>(device, &unbind, 0)?;
    refuses_the_unknown::<ioctl::Budget>(
        device,
        &sys::Budget::default(),
        sys::BUDGET_SET_RESERVATION,
    )
}

fn reserve_and_events(node: &Path) -> Result {
    open_with(node, Features::VA_RESERVE | Features::EVENTS)?;
    let rig = Rig::new(node)?;
    let device = &rig.device;
    let reserve = sys::VaRange {
        vm: rig.vm.handle(),
        size: 4096,
        ..Default::default()
    };
    refuses_the_unknown::<ioctl::VaReserve>(device, &reserve, sys::VA_ZERO)?;
    let reserved = accepted::<ioctl::VaReserve>(device, "as it should be", reserve)?;
    let release = sys::VaRange {
        gpu_va: reserved.gpu_va,
        ..reserve
    };
    refuses_the_unknown::<ioctl::VaRelease>(device, &release, 0)?;
    accepted::<ioctl::VaRelease>(device, "as it should be", release)?;
    refuses_the_unknown::<ioctl::Events>(device, &sys::Events::default(), 0)?;
    let entry = sys::ResidencyEntry {
        bo: rig.bo.handle(),
        result: 0,
    };
    rig.arg.mapping().write(0, entry.as_bytes())?;
    for (op, known) in [
        (sys::RESIDENCY_RESIDENT, sys::RESIDENT_CANT_TRIM),
        (sys::RESIDENCY_EVICT, 0),
        (sys::RESIDENCY_OFFER, sys::OFFER_ALLOW_DECOMMIT),
        (sys::RESIDENCY_RECLAIM, 0),
        (sys::RESIDENCY_PRIORITY, 0),
    ] {
        let arg = sys::Residency {
            vm: rig.vm.handle(),
            op,
            priority: match op {
                sys::RESIDENCY_OFFER => sys::OFFER_PRIORITY_NORMAL,
                sys::RESIDENCY_PRIORITY => sys::PRIORITY_NORMAL,
                _ => 0,
            },
            arg_bo: rig.arg.handle(),
            count: 1,
            ..Default::default()
        };
        refuses_the_unknown::<ioctl::Residency>(device, &arg, known)?;
    }
    Ok(())
}

fn fence_and_submit(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let device = &rig.device;
    let fence = rig.fence.handle();
    let create = sys::FenceCreate {
        vm: rig.vm.handle(),
        ..Default::default()
    };
    let known = sys::FENCE_SHAREABLE | sys::FENCE_NO_MMAP;
    refuses_the_unknown::<ioctl::FenceCreate>(device, &create, known)?;
    let signal = sys::FenceSignal {
        fence,
        value: 1,
        ..Default::default()
    };
    refuses_the_unknown::<ioctl::FenceSignal>(device, &signal, sys::SIGNAL_REWIND)?;
    let wait = sys::FenceWait {
        fence,
        ..Default::default()
    };
    refuses_the_unknown::<ioctl::FenceWait>(device, &wait, 0)?;

    let op = sys::OpFence {
        opcode: sys::OP_FENCE_SIGNAL,
        fence,
        value: 1,
        ..Default::default()
    };
    rig.arg.mapping().write(0, op.as_bytes())?;
    let submit = sys::Submit {
        queue: rig.queue.handle(),
        arg_bo: rig.arg.handle(),
        nr_ops: 1,
        op_stride: 64,
        ..Default::default()
    };
    let known = sys::SUBMIT_RESULTS
        | sys::SUBMIT_DONE_FENCE
        | sys::SUBMIT_OUT_SYNCOBJ
        | sys::SUBMIT_EXPECT_SEQ
        | sys::SUBMIT_NO_PAGING_WAIT;
    refuses_the_unknown::<ioctl::Submit>(device, &submit, known)
}

fn operation(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    for number in [ioctl::CANCEL_NUMBER, 0x20, 0x3f, 0x5f] {
        let outcome = ioctl::call_unknown(std::os::fd::AsFd::as_fd(&rig.device), number);
        let refused = [libc::EINVAL, libc::ENOTTY, libc::EOPNOTSUPP];
        match outcome {
            Err(errno) if refused.contains(&errno.0) => {}
            other => return crate::rig::failed(format!("operation {number:#x}: {other:?}")),
        }
    }
    Ok(())
}
