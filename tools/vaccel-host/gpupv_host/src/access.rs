// SPDX-License-Identifier: MIT OR Apache-2.0
//! Commands that are trivial because the engine is coherent with all memory:
//! cache maintenance, flushing the memory manager, asking where an allocation is.

use gpupv::{
    FlushHeapTransitions, InvalidateCache, List, NtStatus, QueryAllocationResidency,
    QueryAllocationResidencyReply, Request, ResidencyStatus, MAX_RESIDENCY_ALLOCATIONS,
};
use vaccel_isa::Segment;

use crate::call::{Call, Verdict};
use crate::env::Env;
use crate::host::Host;
use crate::object::Allocation;

/// Where an allocation is.
fn residency(allocation: &Allocation) -> ResidencyStatus {
    match (allocation.is_accessible(), allocation.segment) {
        (false, _) => ResidencyStatus::NOT_RESIDENT,
        (_, Segment::Local) => ResidencyStatus::RESIDENT_IN_GPU_MEMORY,
        (_, Segment::NonLocal) => ResidencyStatus::RESIDENT_IN_SHARED_MEMORY,
    }
}

impl Host {
    pub(crate) fn invalidate_cache(
        &mut self,
        call: &Call,
        request: &Request<'_, InvalidateCache>,
        _env: &mut dyn Env,
    ) -> Verdict {
        let body = request.body();
        let process = self.process(call.process)?;
        let allocation = process.allocation_of(call.vgpu, body.device, body.allocation)?;
        let end = body.offset.checked_add(body.length);
        if end.is_none_or(|end| end > allocation.bytes()) {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        call.done(request)
    }

    pub(crate) fn flush_heap_transitions(
        &mut self,
        call: &Call,
        request: &Request<'_, FlushHeapTransitions>,
        _env: &mut dyn Env,
    ) -> Verdict {
        call.done(request)
    }

    /// A resource is where the least near of its allocations is.
    pub(crate) fn query_residency(
        &mut self,
        call: &Call,
        request: &Request<'_, QueryAllocationResidency>,
        _env: &mut dyn Env,
    ) -> Verdict {
        let (body, list) = (request.body(), request.tail());
        let process = self.process(call.process)?;
        let of_device = |handle| process.allocation_of(call.vgpu, body.device, handle);
        let most = usize::try_from(MAX_RESIDENCY_ALLOCATIONS).unwrap_or(usize::MAX);
        let answers = match body.resource.some() {
            Some(resource) if list.is_empty() => {
                let members = &process.resource(call.vgpu, resource)?.allocations;
                let mut answer = ResidencyStatus::RESIDENT_IN_GPU_MEMORY;
                for member in members.values() {
                    let status = residency(of_device(*member)?);
                    if status.raw() > answer.raw() {
                        answer = status;
                    }
                }
                vec![answer]
            }
            None if !list.is_empty() && list.len() <= most => list
                .iter()
                .map(|handle| of_device(handle).map(residency))
                .collect::<Result<_, _>>()?,
            _ => return Err(NtStatus::INVALID_PARAMETER),
        };
        let reply = QueryAllocationResidencyReply {
            status: NtStatus::SUCCESS,
        };
        call.answer(request, &reply, List::new(&answers))
    }
}
