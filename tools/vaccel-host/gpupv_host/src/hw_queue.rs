// SPDX-License-Identifier: MIT OR Apache-2.0
//! Hardware queues (protocol 4.5, commands 50 to 52).
//!
//! A hardware queue belongs to a context that was created for it, and goes with that context or its
//! device. It takes command buffers, waits, signals and events as a context does, in an order of its
//! own. Each command buffer names the value that the queue's progress fence gets when it has run;
//! between them stands nothing else that the guest queued. The fence is made with the queue, starts
//! at 0, and only the host signals it; it goes with the queue, and jumps with the other fences of a
//! device that fails.
//!
//! Destroying a queue drops what has not begun and is answered when its running job has ended.
//!
//! Inferred: a context for hardware queues refuses command buffers of its own but takes waits,
//! signals, events and changes of addresses; the progress fence never goes down.

use std::sync::Arc;

use gpupv::{
    CreateContextFlags, CreateHwQueue, CreateHwQueueReply, DestroyHwQueue, NtStatus, Request,
    SubmitCommandToHwQueue, SyncObjectFlags, MAX_WRITTEN_PRIMARIES,
};

use crate::call::{Call, Hold, Verdict};
use crate::choices::ProgressValues;
use crate::env::Env;
use crate::fence::FenceValue;
use crate::host::Host;
use crate::object::{HwQueue, Kind, Origin, SyncObject};
use crate::submit::commands;
use crate::work::{Work, WorkQueue};

impl Host {
    /// Private data is not needed and comes back unchanged.
    pub(crate) fn create_hw_queue(
        &mut self,
        call: &Call,
        request: &Request<'_, CreateHwQueue>,
        _env: &mut dyn Env,
    ) -> Verdict {
        let mut body = *request.body();
        let process = self.process(call.process)?;
        let context = process.context(call.vgpu, body.context)?;
        let for_queues = CreateContextFlags::HW_QUEUE_SUPPORTED;
        if body.flags.unknown() != 0 || !context.flags.contains(for_queues) {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let device = process.device_of(call.vgpu, body.context)?;
        process.working_device(call.vgpu, device)?;
        if process.objects.room() < 2 {
            return Err(NtStatus::NO_MEMORY);
        }
        let fence = self.new_fence(0)?;
        let process = self.process_mut(call.process)?;
        let none = SyncObjectFlags::EMPTY;
        let sync = SyncObject::new(Arc::clone(&fence), none, Origin::Queue);
        let fence_handle = process.add(call.vgpu, device, Kind::Sync(sync))?;
        body.progress_fence_address = fence.guest_physical().into();
        body.progress_fence_gpuva = fence.gpu_va().into();
        body.progress_fence = fence_handle;
        let queue = Kind::HwQueue(HwQueue {
            context: body.context,
            flags: body.flags,
            fence,
            fence_handle,
            last: 0,
            work: WorkQueue::default(),
        });
        body.hwqueue = process.add(call.vgpu, device, queue)?;
        body.status = NtStatus::SUCCESS;
        let header = call.header::<CreateHwQueue>();
        let reply = CreateHwQueueReply { header, body };
        call.answer(request, &reply, request.tail())
    }

    pub(crate) fn destroy_hw_queue(
        &mut self,
        call: &Call,
        request: &Request<'_, DestroyHwQueue>,
        _env: &mut dyn Env,
    ) -> Verdict {
        let queue = request.body().hwqueue;
        self.process(call.process)?.hw_queue(call.vgpu, queue)?;
        let jobs = self.remove_object(call.process, queue);
        let hold = Hold {
            jobs: jobs.into_iter().collect(),
            backings: Vec::new(),
        };
        Ok(call.done(request)?.held(hold))
    }

    /// No presentation, private data ignored.
    pub(crate) fn submit_to_hw_queue(
        &mut self,
        call: &Call,
        request: &Request<'_, SubmitCommandToHwQueue>,
        env: &mut dyn Env,
    ) -> Verdict {
        let body = request.body();
        let result = self.submit_to_queue(call, body);
        self.report(call, body.hwqueue, result, env)?;
        call.done(request)
    }

    fn submit_to_queue(
        &mut self,
        call: &Call,
        body: &SubmitCommandToHwQueue,
    ) -> Result<(), NtStatus> {
        let process = self.process(call.process)?;
        let queue = process.hw_queue(call.vgpu, body.hwqueue)?;
        let context = process.context(call.vgpu, queue.context)?;
        let primaries = usize::try_from(body.num_primaries).unwrap_or(usize::MAX);
        let only = CreateContextFlags::SYNCHRONIZATION_ONLY;
        if context.flags.contains(only) || primaries > MAX_WRITTEN_PRIMARIES {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let value = body.hwqueue_progress_fence_id;
        let rises = self.config.choices.progress_values == ProgressValues::Rising;
        if rises && value <= queue.last {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let run = commands(body.command_buffer, body.command_length)?;
        let fence = Arc::clone(&queue.fence);
        let done = Work::Signal {
            fences: vec![FenceValue { fence, value }],
            rewind: false,
        };
        self.check_room(call, body.hwqueue, 2)?;
        self.enqueue(call, body.hwqueue, Work::Run(run))?;
        self.enqueue(call, body.hwqueue, done)?;
        let process = self.process_mut(call.process)?;
        process.hw_queue_mut(call.vgpu, body.hwqueue)?.last = value;
        Ok(())
    }
}
