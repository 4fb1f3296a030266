// SPDX-License-Identifier: GPL-2.0-only

//! Submissions of command buffers alone: what most of them are.
//!
//! There are so many of these that what each costs is noticed. They are checked and queued without
//! taking memory; nobody but the host gets to know of them. Everything else is a
//! [list of operations](crate::submit).

use kernel::sync::Arc;

use crate::bindings::uapi;
use crate::bo;
use crate::client::Client;
use crate::driver::DrmFile;
use crate::fence::Fence;
use crate::host_error::HostResult;
use crate::logic::ops::{
    Op,
    OpList,
    RECORD, //
};
use crate::outbox::{
    Outbox,
    Size, //
};
use crate::queue::Queue;
use crate::submit;

/// Most command buffers of such a submission.
const EXECS_MAX: usize = 2;

/// One or a few command buffers, and a fence that is set behind them.
pub(crate) struct Plain {
    /// Addresses and sizes.
    execs: [(u64, u32); EXECS_MAX],
    count: usize,
    done: Option<(Arc<Fence>, u64)>,
}

impl Plain {
    /// Copies the list and checks all of it. None if it is of another kind, or something is wrong with
    /// it: then it is one for [`submit::Job`], which says what.
    pub(crate) fn new(
        args: &uapi::drm_vaccel_submit,
        file: &DrmFile,
        client: &Client,
        queue: &Queue,
    ) -> Option<Self> {
        // CAST: 32 bits fit.
        let (count, stride) = (args.nr_ops as usize, args.op_stride as usize);
        let more = uapi::VACCEL_SUBMIT_RESULTS | uapi::VACCEL_SUBMIT_OUT_SYNCOBJ;
        if count > EXECS_MAX || stride != RECORD || args.flags & more != 0 {
            return None;
        }
        let mut records = [0; EXECS_MAX * RECORD];
        let records = records.get_mut(..count * RECORD)?;
        bo::read_arg(file, args.arg_bo, args.arg_offset, records).ok()?;

        let mut execs = [(0, 0); EXECS_MAX];
        let list = OpList::new(records, RECORD, count).ok()?;
        for (exec, op) in execs.iter_mut().zip(list.iter()) {
            match op {
                Ok(Op::Exec {
                    gpu_va,
                    size,
                    priv_size: 0,
                    ..
                }) => *exec = (gpu_va, size),
                _ => return None,
            }
        }
        let done = if args.flags & uapi::VACCEL_SUBMIT_DONE_FENCE != 0 {
            let fence = submit::fence_of(client, queue, args.done_fence, true).ok()?;
            Some((fence, args.done_value))
        } else {
            None
        };
        Some(Self { execs, count, done })
    }

    /// What its messages take.
    pub(crate) fn size(&self) -> Size {
        let mut size = Size::default();
        for _ in 0..self.count {
            size.add(0, 0);
        }
        if self.done.is_some() {
            size.add(0, 1);
        }
        size
    }

    /// Queues it. Messages may be left in the outbox.
    ///
    /// # Errors
    ///
    /// Those of [`Outbox::queue`].
    pub(crate) fn run(&self, queue: &Queue, outbox: &mut Outbox<'_>) -> HostResult {
        for (gpu_va, size) in self.execs.iter().take(self.count) {
            submit::exec(queue, *gpu_va, *size, &[], outbox)?;
        }
        match &self.done {
            Some((fence, value)) => submit::signal(queue, fence, *value, outbox),
            None => Ok(()),
        }
    }
}
