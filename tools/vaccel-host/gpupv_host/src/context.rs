// SPDX-License-Identifier: MIT OR Apache-2.0
//! Commands on execution contexts (protocol 4.5).
//!
//! A context for synchronisation only takes waits, signals, events and changes of addresses, and
//! refuses submissions: it has no command buffers. One for hardware queues takes command buffers by
//! its queues only ([`crate::hw_queue`]), and takes them along when it is destroyed.

use gpupv::{
    CreateContextFlags, CreateContextVirtual, CreateContextVirtualReply, DestroyContext,
    GetContextSchedulingPriority, GetContextSchedulingPriorityReply, NtStatus, Request,
    SetContextSchedulingPriority,
};

use crate::call::{Call, Hold, Verdict};
use crate::env::Env;
use crate::host::Host;
use crate::object::{Context, Kind};

/// Scheduling priorities, lowest to highest; 0 is normal.
const PRIORITIES: std::ops::RangeInclusive<i32> = -7..=7;

impl Host {
    /// There is one node with one engine. Private data is not needed and comes back unchanged.
    pub(crate) fn create_context(
        &mut self,
        call: &Call,
        request: &Request<'_, CreateContextVirtual>,
        _env: &mut dyn Env,
    ) -> Verdict {
        let mut body = *request.body();
        if body.flags.unknown() != 0 || body.node_ordinal != 0 || body.engine_affinity > 1 {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let queues = body.flags.contains(CreateContextFlags::HW_QUEUE_SUPPORTED);
        if queues && !self.config.choices.hw_scheduling {
            return Err(NtStatus::NOT_SUPPORTED);
        }
        let process = self.process_mut(call.process)?;
        process.working_device(call.vgpu, body.device)?;
        let context = Context {
            flags: body.flags,
            ..Context::default()
        };
        body.context = process.add(call.vgpu, body.device, Kind::Context(context))?;
        let reply = CreateContextVirtualReply {
            header: call.header::<CreateContextVirtual>(),
            body,
        };
        call.answer(request, &reply, request.tail())
    }

    /// Work that has not begun is dropped; the answer waits for a job that runs.
    pub(crate) fn destroy_context(
        &mut self,
        call: &Call,
        request: &Request<'_, DestroyContext>,
        _env: &mut dyn Env,
    ) -> Verdict {
        let context = request.body().context;
        self.process(call.process)?.context(call.vgpu, context)?;
        let jobs = self.remove_object(call.process, context);
        let hold = Hold {
            jobs: jobs.into_iter().collect(),
            backings: Vec::new(),
        };
        Ok(call.done(request)?.held(hold))
    }

    pub(crate) fn set_context_priority(
        &mut self,
        call: &Call,
        request: &Request<'_, SetContextSchedulingPriority>,
        _env: &mut dyn Env,
    ) -> Verdict {
        let body = request.body();
        if !PRIORITIES.contains(&body.priority) {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let process = self.process_mut(call.process)?;
        let context = process.context_mut(call.vgpu, body.context)?;
        if body.in_process.get() {
            context.in_process_priority = body.priority;
        } else {
            context.priority = body.priority;
        }
        call.done(request)
    }

    pub(crate) fn get_context_priority(
        &mut self,
        call: &Call,
        request: &Request<'_, GetContextSchedulingPriority>,
        _env: &mut dyn Env,
    ) -> Verdict {
        let body = request.body();
        let process = self.process(call.process)?;
        let context = process.context(call.vgpu, body.context)?;
        let reply = GetContextSchedulingPriorityReply {
            status: NtStatus::SUCCESS,
            priority: if body.in_process.get() {
                context.in_process_priority
            } else {
                context.priority
            },
        };
        call.answer(request, &reply, ())
    }
}
