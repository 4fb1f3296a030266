// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operations on vms, queues and buffer objects.

use libvaccel::ioctl::{
    BoCreate, BoInfo, BoSync, QueueCreate, QueueDestroy, QueueQuery, VmCreate, VmDestroy, VmQuery,
};
use libvaccel::sys;
use vaccel_isa::ALLOCATION_DATA_BYTES;

use crate::rig::{Rig, PRIVATE, SIZE};
use crate::row::{ioctl, Row, Step};

fn make_host_bo(rig: &Rig, flags: u32) -> sys::BoCreate {
    sys::BoCreate {
        size: SIZE,
        kind: sys::BO_KIND_HOST,
        flags,
        vm: rig.vm(),
        arg_bo: rig.arg.handle(),
        priv_size: ALLOCATION_DATA_BYTES as u32,
        arg_offset: PRIVATE,
        ..Default::default()
    }
}

fn queue_create(rig: &Rig, mode: u32) -> anyhow::Result<Step<'_>> {
    let arg = sys::QueueCreate {
        vm: rig.vm(),
        mode,
        ..Default::default()
    };
    ioctl::<QueueCreate>(rig, arg)
}

fn destroy(handle: u32) -> sys::Destroy {
    sys::Destroy { handle, pad: 0 }
}

/// The rows.
pub const ROWS: &[Row] = &[
    Row::new("vm-create", "VM_CREATE", |rig| {
        ioctl::<VmCreate>(rig, sys::VmCreate::default())
    }),
    Row::new("vm-create-manual", "VM_CREATE", |rig| {
        let arg = sys::VmCreate {
            flags: sys::VM_MANUAL_RESIDENCY,
            ..Default::default()
        };
        ioctl::<VmCreate>(rig, arg)
    }),
    Row::new("vm-destroy", "VM_DESTROY", |rig| {
        ioctl::<VmDestroy>(rig, destroy(rig.make_vm()?))
    }),
    Row::new("vm-query", "VM_QUERY", |rig| {
        let arg = sys::VmQuery {
            vm: rig.vm(),
            ..Default::default()
        };
        ioctl::<VmQuery>(rig, arg)
    }),
    Row::new("queue-create", "QUEUE_CREATE", |rig| {
        queue_create(rig, sys::QUEUE_BOUNDED)
    }),
    Row::new("queue-create-long", "QUEUE_CREATE", |rig| {
        queue_create(rig, sys::QUEUE_LONG_RUNNING)
    }),
    Row::new("queue-destroy", "QUEUE_DESTROY", |rig| {
        ioctl::<QueueDestroy>(rig, destroy(rig.make_queue()?))
    }),
    Row::new("queue-query", "QUEUE_QUERY", |rig| {
        let arg = sys::QueueQuery {
            queue: rig.queue(),
            ..Default::default()
        };
        ioctl::<QueueQuery>(rig, arg)
    }),
    Row::new("bo-create", "BO_CREATE", |rig| {
        let arg = sys::BoCreate {
            size: SIZE,
            vm: rig.vm(),
            ..Default::default()
        };
        ioctl::<BoCreate>(rig, arg)
    }),
    Row::new("bo-create-host", "BO_CREATE", |rig| {
        ioctl::<BoCreate>(rig, make_host_bo(rig, 0))
    }),
    Row::new("bo-create-host-shareable", "BO_CREATE", |rig| {
        ioctl::<BoCreate>(rig, make_host_bo(rig, sys::BO_SHAREABLE))
    }),
    Row::new("bo-create-arg", "BO_CREATE", |rig| {
        let arg = sys::BoCreate {
            size: SIZE,
            kind: sys::BO_KIND_ARG,
            ..Default::default()
        };
        ioctl::<BoCreate>(rig, arg)
    }),
    Row::new("bo-info", "BO_INFO", |rig| {
        let arg = sys::BoInfo {
            bo: rig.bo.handle(),
            ..Default::default()
        };
        ioctl::<BoInfo>(rig, arg)
    }),
    Row::new("bo-sync", "BO_SYNC", |rig| {
        let arg = sys::BoSync {
            bo: rig.call::<BoCreate>(make_host_bo(rig, 0))?.bo,
            flags: sys::SYNC_FOR_CPU | sys::SYNC_FOR_DEVICE,
            size: SIZE,
            ..Default::default()
        };
        ioctl::<BoSync>(rig, arg)
    }),
];
