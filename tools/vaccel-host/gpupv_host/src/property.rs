// SPDX-License-Identifier: MIT OR Apache-2.0
//! Properties of allocations: by which priority they are kept, and where they may be.

use gpupv::{
    GetAllocationPriority, GetAllocationPriorityReply, Handle, List, NtStatus, Request,
    SetAllocationPriority, UpdateAllocationProperty, UpdateAllocationPropertyReply,
};

use crate::call::{Call, Verdict};
use crate::env::Env;
use crate::host::Host;
use crate::process::Process;

/// Priorities as guests know them.
pub mod priority {
    /// Of a new allocation.
    pub const NORMAL: u32 = 0x7800_0000;
    /// Higher than most.
    pub const HIGH: u32 = 0xa000_0000;
}

/// Segments there are: the GPU's own memory is the first, the host's the second.
const SEGMENTS: u32 = 2;

impl Host {
    /// Takes effect with the next offer.
    pub(crate) fn set_allocation_priority(
        &mut self,
        call: &Call,
        request: &Request<'_, SetAllocationPriority>,
        _env: &mut dyn Env,
    ) -> Verdict {
        let (body, tail) = (request.body(), request.tail());
        let process = self.process_mut(call.process)?;
        let subjects = subjects(
            process,
            call,
            (body.device, body.resource),
            tail.allocations,
        )?;
        let mut priorities = tail.priorities.iter();
        let first = priorities.next().ok_or(NtStatus::INVALID_PARAMETER)?;
        let mut value = first;
        for handle in subjects {
            process.allocation_mut(call.vgpu, handle)?.priority = value;
            // Those of a resource all get the one there is.
            value = priorities.next().unwrap_or(first);
        }
        call.done(request)
    }

    /// Of a resource, that of its first allocation.
    pub(crate) fn allocation_priority(
        &mut self,
        call: &Call,
        request: &Request<'_, GetAllocationPriority>,
        _env: &mut dyn Env,
    ) -> Verdict {
        let (body, list) = (request.body(), request.tail());
        let process = self.process(call.process)?;
        let subjects = subjects(process, call, (body.device, body.resource), list)?;
        let mut priorities = Vec::new();
        for handle in subjects.into_iter().take(list.len().max(1)) {
            priorities.push(process.allocation(call.vgpu, handle)?.priority);
        }
        let reply = GetAllocationPriorityReply {
            status: NtStatus::SUCCESS,
        };
        call.answer(request, &reply, List::new(&priorities))
    }

    /// Done as soon as it is checked: an allocation stays in the segment it was made for.
    pub(crate) fn update_allocation_property(
        &mut self,
        call: &Call,
        request: &Request<'_, UpdateAllocationProperty>,
        _env: &mut dyn Env,
    ) -> Verdict {
        use gpupv::PropertyMask;

        let body = request.body();
        let process = self.process(call.process)?;
        process.paging_queue(call.vgpu, body.paging_queue)?;
        let device = process.device_of(call.vgpu, body.paging_queue)?;
        process.allocation_of(call.vgpu, device, body.allocation)?;
        let has = |property: PropertyMask| body.property_mask.contains(property);
        let unknown = body.property_mask.unknown() != 0
            || (has(PropertyMask::ACCESSED_PHYSICALLY) && body.flags.unknown() != 0);
        let set = body.supported_segment_set;
        let bad_set =
            has(PropertyMask::SUPPORTED_SEGMENT_SET) && !(1..1 << SEGMENTS).contains(&set);
        let mut choices = (0..).map_while(|rank| body.preferred_segment.choice(rank));
        let bad_choice = has(PropertyMask::PREFERRED_SEGMENT)
            && (body.preferred_segment.bits() >> 30 != 0
                || choices.any(|(segment, _)| segment > SEGMENTS));
        if unknown || bad_set || bad_choice {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let (paging_fence_value, status) = self.page(call, body.paging_queue)?;
        let reply = UpdateAllocationPropertyReply {
            paging_fence_value,
            status,
            _pad: 0,
        };
        call.answer(request, &reply, ())
    }
}

/// The listed allocations of a device, or those of a resource.
fn subjects(
    process: &Process,
    call: &Call,
    (device, resource): (Handle, Handle),
    list: List<'_, Handle>,
) -> Result<Vec<Handle>, NtStatus> {
    process.device(call.vgpu, device)?;
    match resource.some() {
        Some(resource) if list.is_empty() => {
            if process.device_of(call.vgpu, resource)? != device {
                return Err(NtStatus::INVALID_HANDLE);
            }
            let members = &process.resource(call.vgpu, resource)?.allocations;
            Ok(members.values().copied().collect())
        }
        None if !list.is_empty() => {
            for handle in list.iter() {
                process.allocation_of(call.vgpu, device, handle)?;
            }
            Ok(list.iter().collect())
        }
        _ => Err(NtStatus::INVALID_PARAMETER),
    }
}
