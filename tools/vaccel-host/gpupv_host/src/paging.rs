// SPDX-License-Identifier: MIT OR Apache-2.0
//! Paging queues and residency (protocol 4.6).
//!
//! Residency is counted: an allocation stays resident until it was evicted as often as it was made
//! resident. Each segment group has a budget and a memory of its own; guest memory counts in the
//! host's. A process that would exceed a budget is told how many bytes to trim; one that says it
//! cannot trim further may use the GPU's whole memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use gpupv::{
    CreatePagingQueue, CreatePagingQueueReply, DestroyPagingQueue, Evict, EvictReply,
    ExecutionState, Handle, List, MakeResident, MakeResidentFlags, MakeResidentReply, NtStatus,
    PageFaultState, PagingQueuePriority, Request, SyncObjectFlags, MAX_RESIDENCY_ALLOCATIONS,
};

use crate::call::{Call, Verdict};
use crate::config::PagingMode;
use crate::env::{Env, VgpuId};
use crate::fence::FenceValue;
use crate::host::Host;
use crate::object::{Kind, Origin, PagingQueue, SyncObject};
use crate::process::Process;
use crate::segment::PerSegment;

impl Host {
    pub(crate) fn create_paging_queue(
        &mut self,
        call: &Call,
        request: &Request<'_, CreatePagingQueue>,
        _env: &mut dyn Env,
    ) -> Verdict {
        let body = request.body();
        let known = [
            PagingQueuePriority::BELOW_NORMAL,
            PagingQueuePriority::NORMAL,
            PagingQueuePriority::ABOVE_NORMAL,
        ];
        if !known.contains(&body.priority) || body.physical_adapter_index != 0 {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let process = self.process(call.process)?;
        process.working_device(call.vgpu, body.device)?;
        if process.objects.room() < 2 {
            return Err(NtStatus::NO_MEMORY);
        }
        let fence = self.new_fence(0)?;
        let process = self.process_mut(call.process)?;
        let none = SyncObjectFlags::EMPTY;
        let sync = SyncObject::new(Arc::clone(&fence), none, Origin::Queue);
        let sync_object = process.add(call.vgpu, body.device, Kind::Sync(sync))?;
        let queue = Kind::PagingQueue(PagingQueue {
            fence: Arc::clone(&fence),
            fence_handle: sync_object,
            last: 0,
        });
        let reply = CreatePagingQueueReply {
            paging_queue: process.add(call.vgpu, body.device, queue)?,
            sync_object,
            fence_storage_physical_address: fence.guest_physical(),
            fence_storage_offset: 0,
        };
        call.answer(request, &reply, ())
    }

    pub(crate) fn destroy_paging_queue(
        &mut self,
        call: &Call,
        request: &Request<'_, DestroyPagingQueue>,
        _env: &mut dyn Env,
    ) -> Verdict {
        let handle = request.body().paging_queue;
        self.process(call.process)?
            .paging_queue(call.vgpu, handle)?;
        self.remove_object(call.process, handle);
        call.acknowledge(request, &self.config.choices)
    }

    /// The fence value and status of a paging operation that succeeds. With
    /// [`PagingMode::Pending`] the fence is signalled after the reply.
    pub(crate) fn page(&mut self, call: &Call, queue: Handle) -> Result<(u64, NtStatus), NtStatus> {
        let pending = self.config.paging == PagingMode::Pending;
        let queue = self
            .process_mut(call.process)?
            .paging_queue_mut(call.vgpu, queue)?;
        if !pending {
            return Ok((queue.last, NtStatus::SUCCESS));
        }
        queue.last = queue.last.checked_add(1).ok_or(NtStatus::NO_MEMORY)?;
        let (fence, value) = (Arc::clone(&queue.fence), queue.last);
        self.after.push(FenceValue { fence, value });
        Ok((value, NtStatus::PENDING))
    }

    pub(crate) fn make_resident(
        &mut self,
        call: &Call,
        request: &Request<'_, MakeResident>,
        env: &mut dyn Env,
    ) -> Verdict {
        let body = *request.body();
        if body.flags.unknown() != 0 {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let process = self.process(call.process)?;
        process.paging_queue(call.vgpu, body.paging_queue)?;
        let device = process.device_of(call.vgpu, body.paging_queue)?;
        process.working_device(call.vgpu, device)?;
        let change = Change::gather(process, call.vgpu, device, request.tail())?;
        if !change.complete(process, call.vgpu)? {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let new = change.bytes(process, call.vgpu, |now, _| now == 0)?;
        let insists = MakeResidentFlags::CANT_TRIM_FURTHER.union(MakeResidentFlags::MUST_SUCCEED);
        let insists = body.flags.bits() & insists.bits() != 0;
        let used = process.used(call.vgpu).zip(new, u64::saturating_add);
        if insists || missing(used, self.vgpu(call.vgpu)?.budget(), new) == 0 {
            self.relieve_memory(call.vgpu, new);
        }
        let process = self.process(call.process)?;
        let used = process.used(call.vgpu).zip(new, u64::saturating_add);
        let vgpu = self.vgpu(call.vgpu)?;
        let all = self.resident_on(call.vgpu).zip(new, u64::saturating_add);
        let trim = missing(used, vgpu.budget(), new);
        let short = missing(all, vgpu.config.memory, new);
        if short != 0 || (trim != 0 && !insists) {
            if body.flags.contains(MakeResidentFlags::MUST_SUCCEED) {
                let state = ExecutionState::ERROR_OUT_OF_MEMORY;
                let fault = PageFaultState::default();
                self.fail_device(call.process, device, state, fault, env);
            }
            let reply = MakeResidentReply {
                num_bytes_to_trim: trim.max(short),
                status: NtStatus::NO_MEMORY,
                ..MakeResidentReply::default()
            };
            return call.answer(request, &reply, ());
        }
        let process = self.process_mut(call.process)?;
        for (handle, times) in &change.times {
            let allocation = process.allocation_mut(call.vgpu, *handle)?;
            let resident = allocation.resident.checked_add(*times);
            allocation.resident = resident.ok_or(NtStatus::INVALID_PARAMETER)?;
            allocation.refresh();
        }
        process.set_used(call.vgpu, used);
        let (paging_fence_value, status) = self.page(call, body.paging_queue)?;
        let reply = MakeResidentReply {
            paging_fence_value,
            num_bytes_to_trim: 0,
            status,
            _pad: 0,
        };
        call.answer(request, &reply, ())
    }

    /// All or nothing: an allocation that was not made resident that often makes it fail.
    pub(crate) fn evict(
        &mut self,
        call: &Call,
        request: &Request<'_, Evict>,
        _env: &mut dyn Env,
    ) -> Verdict {
        let body = request.body();
        if body.flags.unknown() != 0 {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let process = self.process(call.process)?;
        process.device(call.vgpu, body.device)?;
        let change = Change::gather(process, call.vgpu, body.device, request.tail())?;
        for (handle, times) in &change.times {
            if process.allocation(call.vgpu, *handle)?.resident < *times {
                return Err(NtStatus::INVALID_PARAMETER);
            }
        }
        let gone = change.bytes(process, call.vgpu, |now, times| now == times)?;
        let used = process.used(call.vgpu).zip(gone, u64::saturating_sub);
        let process = self.process_mut(call.process)?;
        for (handle, times) in &change.times {
            let allocation = process.allocation_mut(call.vgpu, *handle)?;
            allocation.resident = allocation.resident.saturating_sub(*times);
            allocation.refresh();
        }
        process.set_used(call.vgpu, used);
        let budget = self.vgpu(call.vgpu)?.budget();
        let reply = EvictReply {
            num_bytes_to_trim: used.zip(budget, u64::saturating_sub).max(),
        };
        call.answer(request, &reply, ())
    }
}

/// What a use is over a limit, in the group where that is more; a group that gets nothing more is
/// not looked at.
fn missing(use_: PerSegment<u64>, limit: PerSegment<u64>, new: PerSegment<u64>) -> u64 {
    let over = use_.zip(limit, u64::saturating_sub);
    over.zip(new, |over, new| if new == 0 { 0 } else { over })
        .max()
}

/// How often each allocation of a list is to be made resident or evicted.
struct Change {
    times: Vec<(Handle, u32)>,
}

impl Change {
    /// Reads a list of allocations of a device.
    fn gather(
        process: &Process,
        vgpu: VgpuId,
        device: Handle,
        list: List<'_, Handle>,
    ) -> Result<Self, NtStatus> {
        let most = usize::try_from(MAX_RESIDENCY_ALLOCATIONS).unwrap_or(usize::MAX);
        if list.is_empty() || list.len() > most {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let mut times: BTreeMap<u32, u32> = BTreeMap::new();
        for handle in list.iter() {
            process.allocation_of(vgpu, device, handle)?;
            let count = times.entry(handle.raw()).or_default();
            *count = count.saturating_add(1);
        }
        let times = times
            .into_iter()
            .map(|(handle, times)| (Handle::from_raw(handle), times))
            .collect();
        Ok(Self { times })
    }

    /// Whether all allocations have all their pages.
    fn complete(&self, process: &Process, vgpu: VgpuId) -> Result<bool, NtStatus> {
        for (handle, _) in &self.times {
            if !process.allocation(vgpu, *handle)?.backing.complete() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Bytes of the allocations that `counts` picks by their residency now and the change.
    fn bytes(
        &self,
        process: &Process,
        vgpu: VgpuId,
        counts: impl Fn(u32, u32) -> bool,
    ) -> Result<PerSegment<u64>, NtStatus> {
        let mut bytes = PerSegment::default();
        for (handle, times) in &self.times {
            let allocation = process.allocation(vgpu, *handle)?;
            if counts(allocation.resident, *times) && !allocation.is_dropped() {
                let sum: &mut u64 = bytes.of_mut(allocation.segment);
                *sum = sum.saturating_add(allocation.bytes());
            }
        }
        Ok(bytes)
    }
}
