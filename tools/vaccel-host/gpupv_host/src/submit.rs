// SPDX-License-Identifier: MIT OR Apache-2.0
//! Work for contexts: command buffers, and the queue everything goes through (protocol 4.5).

use engine::Commands;
use gpupv::{CreateContextFlags, Handle, NtStatus, Request, SubmitCommand, SubmitFlags};
use vaccel_isa::MAX_STREAM_BYTES;

use crate::call::{Call, Verdict};
use crate::config::{MAX_QUEUED_WORK, MAX_VM_QUEUED_WORK};
use crate::env::{Env, VgpuId};
use crate::host::{Host, Owner};
use crate::work::Work;

/// Contexts with one of these take no commands themselves.
const NO_COMMANDS: CreateContextFlags =
    CreateContextFlags::SYNCHRONIZATION_ONLY.union(CreateContextFlags::HW_QUEUE_SUPPORTED);

impl Host {
    /// No presentation, private data ignored. Several contexts each run the commands; the first one
    /// stands for the device that all of them are on.
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
        if body.flags.unknown() != 0 || body.num_history_buffers != 0 || body.primaries().is_err() {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let process = self.process(call.process)?;
        let mut device = None;
        for context in contexts {
            let target = process.context(call.vgpu, *context)?;
            if target.flags.bits() & NO_COMMANDS.bits() != 0 {
                return Err(NtStatus::INVALID_PARAMETER);
            }
            let on = process.device_of(call.vgpu, *context)?;
            if *device.get_or_insert(on) != on {
                return Err(NtStatus::INVALID_PARAMETER);
            }
        }
        let run = if body.flags.contains(SubmitFlags::NULL_RENDERING) {
            None
        } else {
            Some(commands(body.command_buffer, body.command_length)?)
        };
        for context in contexts {
            self.check_room(call, *context, contexts.len())?;
        }
        for context in contexts {
            let work = run.map_or(Work::Wait(Vec::new()), Work::Run);
            self.enqueue(call, *context, work)?;
        }
        Ok(())
    }

    /// Work queued to all contexts and hardware queues.
    fn queued_work(&self) -> usize {
        let queued = |(vgpu, owner): &(VgpuId, Owner)| {
            let process = self.processes.get(owner.process)?;
            Some(process.work(*vgpu, owner.queue).ok()?.queue.len())
        };
        let all = self.active.values().filter_map(queued);
        all.fold(0, usize::saturating_add)
    }

    /// Checks that a context or hardware queue of a working device takes so much more work.
    pub(crate) fn check_room(
        &self,
        call: &Call,
        handle: Handle,
        more: usize,
    ) -> Result<(), NtStatus> {
        let process = self.process(call.process)?;
        let queued = process.work(call.vgpu, handle)?.queue.len();
        process.working_device(call.vgpu, process.device_of(call.vgpu, handle)?)?;
        let all = self.queued_work().saturating_add(more);
        if queued.saturating_add(more) > MAX_QUEUED_WORK || all > MAX_VM_QUEUED_WORK {
            return Err(NtStatus::NO_MEMORY);
        }
        Ok(())
    }

    /// Queues work to a context or hardware queue.
    pub(crate) fn enqueue(
        &mut self,
        call: &Call,
        queue: Handle,
        work: Work,
    ) -> Result<(), NtStatus> {
        self.check_room(call, queue, 1)?;
        let process = self.process_mut(call.process)?;
        let owner = Owner {
            process: call.process,
            device: process.device_of(call.vgpu, queue)?,
            queue,
        };
        process.work_mut(call.vgpu, queue)?.queue.push_back(work);
        let key = (call.process.raw(), queue.raw());
        self.active.insert(key, (call.vgpu, owner));
        Ok(())
    }
}

/// A command buffer of a size that can be.
pub(crate) fn commands(va: u64, bytes: u32) -> Result<Commands, NtStatus> {
    let fits = usize::try_from(bytes).is_ok_and(|bytes| bytes != 0 && bytes <= MAX_STREAM_BYTES);
    if !fits {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    Ok(Commands { va, bytes })
}
