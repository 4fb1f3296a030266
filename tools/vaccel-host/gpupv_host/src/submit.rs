// SPDX-License-Identifier: MIT OR Apache-2.0
//! Work for contexts: command buffers, and the queue everything goes through (protocol 4.5).

use engine::Commands;
use gpupv::{CreateContextFlags, Handle, NtStatus, Request, SubmitCommand, SubmitFlags};
use vaccel_isa::MAX_STREAM_BYTES;

use crate::call::{Call, Verdict};
use crate::config::{MAX_QUEUED_WORK, MAX_VM_QUEUED_WORK};
use crate::env::{Env, VgpuId};
use crate::host::{Host, Owner};
use crate::object::Work;

impl Host {
    /// One context; no presentation, private data ignored.
    pub(crate) fn submit_command(
        &mut self,
        call: &Call,
        request: &Request<'_, SubmitCommand>,
        env: &mut dyn Env,
    ) -> Verdict {
        let contexts = request.body().contexts();
        let contexts = contexts.map_err(|_| NtStatus::INVALID_PARAMETER)?;
        let context = contexts.first().copied();
        let context = context.ok_or(NtStatus::INVALID_PARAMETER)?;
        let result = self.submit(call, request.body(), contexts);
        self.report(call, context, result, env)?;
        call.done(request)
    }

    fn submit(
        &mut self,
        call: &Call,
        body: &SubmitCommand,
        contexts: &[Handle],
    ) -> Result<(), NtStatus> {
        let [context] = contexts else {
            return Err(NtStatus::NOT_SUPPORTED);
        };
        if body.flags.unknown() != 0 || body.num_history_buffers != 0 {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let target = self.process(call.process)?.context(call.vgpu, *context)?;
        if target
            .flags
            .contains(CreateContextFlags::SYNCHRONIZATION_ONLY)
        {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let work = if body.flags.contains(SubmitFlags::NULL_RENDERING) {
            Work::Wait(Vec::new())
        } else {
            let fits = usize::try_from(body.command_length)
                .is_ok_and(|bytes| bytes != 0 && bytes <= MAX_STREAM_BYTES);
            if !fits {
                return Err(NtStatus::INVALID_PARAMETER);
            }
            Work::Run(Commands {
                va: body.command_buffer,
                bytes: body.command_length,
            })
        };
        self.enqueue(call, *context, work)
    }

    /// Work queued to all contexts.
    fn queued_work(&self) -> usize {
        let queued = |(vgpu, owner): &(VgpuId, Owner)| {
            let process = self.processes.get(owner.process)?;
            Some(process.context(*vgpu, owner.context).ok()?.queue.len())
        };
        let all = self.active.values().filter_map(queued);
        all.fold(0, usize::saturating_add)
    }

    /// Checks that a context of a working device takes more work.
    pub(crate) fn check_room(&self, call: &Call, handle: Handle) -> Result<(), NtStatus> {
        let process = self.process(call.process)?;
        let context = process.context(call.vgpu, handle)?;
        process.working_device(call.vgpu, process.device_of(call.vgpu, handle)?)?;
        if context.queue.len() >= MAX_QUEUED_WORK || self.queued_work() >= MAX_VM_QUEUED_WORK {
            return Err(NtStatus::NO_MEMORY);
        }
        Ok(())
    }

    /// Queues work to a context.
    pub(crate) fn enqueue(
        &mut self,
        call: &Call,
        context: Handle,
        work: Work,
    ) -> Result<(), NtStatus> {
        self.check_room(call, context)?;
        let process = self.process_mut(call.process)?;
        let owner = Owner {
            process: call.process,
            device: process.device_of(call.vgpu, context)?,
            context,
        };
        let target = process.context_mut(call.vgpu, context)?;
        target.queue.push_back(work);
        let key = (call.process.raw(), context.raw());
        self.active.insert(key, (call.vgpu, owner));
        Ok(())
    }
}
