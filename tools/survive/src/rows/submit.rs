// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lists of operations: one row for each kind of record, and one for a list with all that a bounded
//! queue takes.

use anyhow::Result;
use libvaccel::ioctl::{Bind, Submit};
use libvaccel::sys;
use zerocopy::{Immutable, IntoBytes};

use super::memory;
use crate::rig::{Rig, SIZE};
use crate::row::{ioctl, Row, Step};

/// Bytes of a record.
pub const STRIDE: u32 = 64;
/// Where the results go in the argument object, in bytes.
const RESULTS: u64 = 16 * 1024;

/// Writes records, and gives their SUBMIT to `queue`.
pub(super) fn list(rig: &Rig, queue: u32, records: &[&[u8]]) -> Result<sys::Submit> {
    rig.put(0, &records.concat())?;
    Ok(sys::Submit {
        queue,
        flags: sys::SUBMIT_RESULTS,
        arg_bo: rig.arg.handle(),
        nr_ops: u32::try_from(records.len())?,
        op_stride: STRIDE,
        result_offset: RESULTS,
        ..Default::default()
    })
}

fn one<'a>(rig: &'a Rig, record: &(impl IntoBytes + Immutable)) -> Result<Step<'a>> {
    ioctl::<Submit>(rig, list(rig, rig.queue(), &[record.as_bytes()])?)
}

/// A record that runs the rig's command stream.
pub fn exec(rig: &Rig) -> sys::OpExec {
    sys::OpExec {
        opcode: sys::OP_EXEC,
        gpu_va: rig.code.gpu_va(),
        size: rig.code_size,
        ..Default::default()
    }
}

fn fence(opcode: u32, fence: u32, value: u64) -> sys::OpFence {
    sys::OpFence {
        opcode,
        fence,
        value,
        ..Default::default()
    }
}

fn syncobj(opcode: u32, syncobj: u32) -> sys::OpSyncobj {
    sys::OpSyncobj {
        opcode,
        syncobj,
        ..Default::default()
    }
}

fn bind(rig: &Rig) -> Result<sys::OpBind> {
    Ok(sys::OpBind {
        opcode: sys::OP_BIND,
        flags: sys::BIND_FIXED | sys::BIND_WRITE,
        bo: rig.make_bo(rig.vm())?,
        gpu_va: rig.reservation.gpu_va(),
        size: SIZE,
        ..Default::default()
    })
}

fn access(rig: &Rig) -> Result<sys::OpBoAccess> {
    Ok(sys::OpBoAccess {
        opcode: sys::OP_BO_ACCESS,
        flags: sys::ACCESS_WRITE | sys::ACCESS_WAIT,
        bo: rig.make_bo(rig.vm())?,
        ..Default::default()
    })
}

fn resident(rig: &Rig) -> Result<sys::OpResidency> {
    Ok(sys::OpResidency {
        opcode: sys::OP_RESIDENCY,
        bo: rig.make_bo(rig.vm())?,
        op: sys::RESIDENCY_RESIDENT,
        ..Default::default()
    })
}

/// SUBMIT of a list that runs something and signals a new fence, with a done fence.
pub(super) fn done(rig: &Rig) -> Result<sys::Submit> {
    let signal = fence(sys::OP_FENCE_SIGNAL, rig.make_fence()?, 1);
    let list = list(rig, rig.queue(), &[exec(rig).as_bytes(), signal.as_bytes()])?;
    Ok(sys::Submit {
        flags: list.flags | sys::SUBMIT_DONE_FENCE,
        done_fence: rig.make_fence()?,
        done_value: 1,
        ..list
    })
}

fn everything(rig: &Rig) -> Result<Step<'_>> {
    let reached = rig.make_fence()?;
    let submit = list(
        rig,
        rig.queue(),
        &[
            fence(sys::OP_FENCE_WAIT, reached, 0).as_bytes(),
            bind(rig)?.as_bytes(),
            access(rig)?.as_bytes(),
            resident(rig)?.as_bytes(),
            exec(rig).as_bytes(),
            syncobj(sys::OP_SYNCOBJ_WAIT, rig.make_syncobj(true)?).as_bytes(),
            syncobj(sys::OP_SYNCOBJ_SIGNAL, rig.make_syncobj(false)?).as_bytes(),
            fence(sys::OP_FENCE_SIGNAL, reached, 1).as_bytes(),
        ],
    )?;
    let arg = sys::Submit {
        flags: submit.flags | sys::SUBMIT_DONE_FENCE | sys::SUBMIT_OUT_SYNCOBJ,
        done_fence: rig.make_fence()?,
        done_value: 1,
        out_syncobj: rig.make_syncobj(false)?,
        ..submit
    };
    ioctl::<Submit>(rig, arg)
}

/// The rows.
pub const ROWS: &[Row] = &[
    Row::new("submit-exec", "SUBMIT", |rig| one(rig, &exec(rig))),
    Row::new("submit-exec-private", "SUBMIT", |rig| {
        let record = sys::OpExec {
            priv_size: 64,
            priv_offset: 8192,
            ..exec(rig)
        };
        one(rig, &record)
    }),
    Row::new("submit-wait", "SUBMIT", |rig| {
        one(rig, &fence(sys::OP_FENCE_WAIT, rig.make_fence()?, 0))
    }),
    // Stays in the queue until that is gone: one of its own.
    Row::new("submit-wait-pending", "SUBMIT", |rig| {
        let arg = sys::QueueCreate {
            vm: rig.vm(),
            mode: sys::QUEUE_LONG_RUNNING,
            ..Default::default()
        };
        let queue = rig.call::<libvaccel::ioctl::QueueCreate>(arg)?.queue;
        let record = fence(sys::OP_FENCE_WAIT, rig.make_fence()?, 1);
        ioctl::<Submit>(rig, list(rig, queue, &[record.as_bytes()])?)
    }),
    Row::new("submit-signal", "SUBMIT", |rig| {
        one(rig, &fence(sys::OP_FENCE_SIGNAL, rig.make_fence()?, 1))
    }),
    Row::new("submit-syncobj-wait", "SUBMIT", |rig| {
        let signalled = rig.make_syncobj(true)?;
        one(rig, &syncobj(sys::OP_SYNCOBJ_WAIT, signalled))
    }),
    Row::new("submit-syncobj-signal", "SUBMIT", |rig| {
        let empty = rig.make_syncobj(false)?;
        one(rig, &syncobj(sys::OP_SYNCOBJ_SIGNAL, empty))
    }),
    Row::new("submit-syncobj-signal-long", "SUBMIT", |rig| {
        let record = syncobj(sys::OP_SYNCOBJ_SIGNAL, rig.make_syncobj(false)?);
        ioctl::<Submit>(rig, list(rig, rig.long.handle(), &[record.as_bytes()])?)
    }),
    Row::new("submit-bind", "SUBMIT", |rig| one(rig, &bind(rig)?)),
    Row::new("submit-unbind", "SUBMIT", |rig| {
        rig.call::<Bind>(memory::fixed(rig)?)?;
        let record = sys::OpBind {
            opcode: sys::OP_UNBIND,
            gpu_va: rig.reservation.gpu_va(),
            size: SIZE,
            ..Default::default()
        };
        one(rig, &record)
    }),
    Row::new("submit-resident", "SUBMIT", |rig| one(rig, &resident(rig)?)),
    Row::new("submit-access", "SUBMIT", |rig| one(rig, &access(rig)?)),
    Row::new("submit-done", "SUBMIT", |rig| {
        ioctl::<Submit>(rig, done(rig)?)
    }),
    Row::new("submit-everything", "SUBMIT", everything),
];
