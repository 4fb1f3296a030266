// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operations that are still to come: EOPNOTSUPP, until a feature bit announces them.

use std::path::Path;

use libc::{EINVAL, EOPNOTSUPP};
use libvaccel::{ioctl, sys, Features};
use zerocopy::IntoBytes;

use super::Case;
use crate::expect::refused;
use crate::rig::{Problem, Result, Rig};

pub const CASES: &[Case] = &[
    Case {
        name: "planned-operations",
        proves: "each planned operation of the header is refused with EOPNOTSUPP on good arguments",
        run: operations,
    },
    Case {
        name: "planned-parts",
        proves: "each planned part of SUBMIT is refused with EOPNOTSUPP",
        run: parts,
    },
];

fn operations(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let device = &rig.device;
    let features = device.param(sys::PARAM_FEATURES)?;
    let lacks = |feature| features & feature == 0;
    let vm = rig.vm.handle();
    let fence = rig.fence.handle();
    let planned = &[EOPNOTSUPP];
    if lacks(sys::FEATURE_FENCE_SHARING) {
        let to_fd = sys::FenceFd {
            fence,
            ..Default::default()
        };
        refused::<ioctl::FenceToFd>(device, "", to_fd, planned)?;
        let from_fd = sys::FenceFd {
            vm,
            ..Default::default()
        };
        refused::<ioctl::FenceFromFd>(device, "", from_fd, planned)?;
    }
    if lacks(sys::FEATURE_SYNC_BRIDGE) {
        let entry = sys::WaitEntry {
            fence,
            ..Default::default()
        };
        rig.arg.mapping().write(0, entry.as_bytes())?;
        let many = sys::FenceWaitMany {
            arg_bo: rig.arg.handle(),
            count: 1,
            ..Default::default()
        };
        refused::<ioctl::FenceWaitMany>(device, "", many, planned)?;
        let eventfd = sys::FenceEventfd {
            fence,
            value: 1,
            ..Default::default()
        };
        refused::<ioctl::FenceEventfd>(device, "", eventfd, planned)?;
        let syncobj = libvaccel::ioctl::syncobj::create(std::os::fd::AsFd::as_fd(device), true);
        let sync = sys::Sync {
            fence,
            value: 1,
            syncobj: syncobj.unwrap_or_default(),
            ..Default::default()
        };
        refused::<ioctl::SyncExport>(device, "", sync, planned)?;
        refused::<ioctl::SyncImport>(device, "", sync, planned)?;
    }
    if !lacks(sys::FEATURE_EVENTS) {
        let mask = 1 << (sys::EVENT_VM_STATE & 0x1f);
        let events = sys::Events { mask, pad: 0 };
        refused::<ioctl::Events>(device, "of vm states", events, planned)?;
    }
    Ok(())
}

fn parts(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let device = &rig.device;
    if device.features()?.contains(Features::SYNC_BRIDGE) {
        return Err(Problem::Skipped("nothing of SUBMIT is planned".into()));
    }
    let planned = &[EOPNOTSUPP];
    let submit = sys::Submit {
        queue: rig.queue.handle(),
        arg_bo: rig.arg.handle(),
        nr_ops: 1,
        op_stride: 64,
        ..Default::default()
    };
    let access = sys::OpBoAccess {
        opcode: sys::OP_BO_ACCESS,
        bo: rig.bo.handle(),
        ..Default::default()
    };
    rig.arg.mapping().write(0, access.as_bytes())?;
    // A driver that does not know the operation calls it unknown.
    let unknown = &[EOPNOTSUPP, EINVAL];
    refused::<ioctl::Submit>(device, "BO_ACCESS", submit, unknown)?;
    for opcode in [sys::OP_SYNCOBJ_WAIT, sys::OP_SYNCOBJ_SIGNAL] {
        let op = sys::OpSyncobj {
            opcode,
            syncobj: 1,
            ..Default::default()
        };
        rig.arg.mapping().write(0, op.as_bytes())?;
        refused::<ioctl::Submit>(device, &format!("operation {opcode}"), submit, planned)?;
    }
    let op = sys::OpFence {
        opcode: sys::OP_FENCE_SIGNAL,
        fence: rig.fence.handle(),
        value: 1,
        ..Default::default()
    };
    rig.arg.mapping().write(0, op.as_bytes())?;
    let out = sys::Submit {
        flags: sys::SUBMIT_OUT_SYNCOBJ,
        out_syncobj: 1,
        ..submit
    };
    refused::<ioctl::Submit>(device, "OUT_SYNCOBJ", out, planned)
}
