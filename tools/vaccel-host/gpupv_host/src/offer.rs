// SPDX-License-Identifier: MIT OR Apache-2.0
//! Offers: memory that its owner can do without (protocol 4.6).
//!
//! An offered allocation keeps its residency counts and is not accessed until it is reclaimed. In
//! between its content may be dropped: at once if the owner says so, when memory is short for an
//! allocation or for residency, or on request. Of lower priority first, of the oldest offer first;
//! AUTO goes by the priority of the allocation when it is offered. What was dropped is zero when it
//! is reclaimed, and does not count as resident until then; if its owner allowed it, it does not
//! count as committed either, so reclaiming can fail.
//!
//! Guest memory is never dropped, nor is what the guest's CPU sees or another allocation shares.

use std::collections::{BTreeMap, BTreeSet};

use gpupv::{
    Handle, List, NtStatus, OfferAllocations, OfferFlags, OfferPriority, ReclaimAllocations,
    ReclaimAllocationsReply, ReclaimResult, Request, MAX_RESIDENCY_ALLOCATIONS,
};
use vaccel_isa::Segment;

use crate::call::{Call, Verdict};
use crate::env::{Env, VgpuId};
use crate::host::Host;
use crate::object::Allocation;
use crate::process::Process;
use crate::property::priority;
use crate::segment::PerSegment;

/// Where an offer stands among others: how dear it is, then how old.
pub type Key = (u8, u64);

/// An offer of an allocation.
#[derive(Debug, Clone, Copy)]
pub struct Offer {
    key: Key,
    /// Dropping gives up what is committed, too.
    decommit: bool,
    /// What was dropped, if it was.
    dropped: Option<ReclaimResult>,
}

/// The contents of a GPU that can be dropped, those to drop first before others: process and
/// allocation.
#[derive(Debug, Default)]
pub struct Offers {
    queue: BTreeMap<Key, (Handle, Handle)>,
    next: u64,
}

#[cfg(test)]
impl Offer {
    /// Whether what was dropped is not committed either.
    pub fn is_decommitted(&self) -> bool {
        self.dropped == Some(ReclaimResult::NOT_COMMITTED)
    }
}

impl Allocation {
    /// Whether its content was dropped.
    pub fn is_dropped(&self) -> bool {
        self.offer.is_some_and(|offer| offer.dropped.is_some())
    }

    /// Bytes that count as resident.
    pub fn charged(&self) -> u64 {
        if self.resident == 0 || self.is_dropped() {
            0
        } else {
            self.bytes()
        }
    }

    /// Whether the engine may have access.
    pub fn is_accessible(&self) -> bool {
        self.resident != 0 && self.offer.is_none()
    }

    /// Lets the engine have access, or not.
    pub fn refresh(&self) {
        self.backing.set_resident(self.is_accessible());
    }

    fn droppable(&self) -> bool {
        let waits = self.offer.is_some_and(|offer| offer.dropped.is_none());
        waits && self.lock.is_none() && self.backing.is_sole_user()
    }
}

impl Offers {
    /// Whether there are none.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The bits of process and allocation of each.
    #[cfg(test)]
    pub fn waiting(&self) -> BTreeSet<(u32, u32)> {
        let waiting = self.queue.values();
        waiting
            .map(|(process, handle)| (process.raw(), handle.raw()))
            .collect()
    }

    /// An offer is gone.
    pub fn remove(&mut self, offer: &Offer) {
        self.queue.remove(&offer.key);
    }
}

impl Host {
    pub(crate) fn offer_allocations(
        &mut self,
        call: &Call,
        request: &Request<'_, OfferAllocations>,
        _env: &mut dyn Env,
    ) -> Verdict {
        let (body, list) = (request.body(), request.tail());
        if body.flags.unknown() != 0 || body.priority.name().is_none() {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let process = self.process(call.process)?;
        process.device(call.vgpu, body.device)?;
        let groups = groups(process, call, body.device, body.resources.get(), list)?;
        let mut offered = BTreeSet::new();
        for handle in groups.iter().flatten() {
            let allocation = process.allocation(call.vgpu, *handle)?;
            if allocation.offer.is_some() || !offered.insert(handle.raw()) {
                return Err(NtStatus::INVALID_PARAMETER);
            }
        }
        let at_once = body.flags.contains(OfferFlags::OFFER_IMMEDIATELY);
        for handle in groups.iter().flatten() {
            self.offer(call, body, *handle)?;
            if at_once {
                self.drop_content(call.vgpu, call.process, *handle);
            }
        }
        call.done(request)
    }

    fn offer(
        &mut self,
        call: &Call,
        body: &OfferAllocations,
        handle: Handle,
    ) -> Result<(), NtStatus> {
        let process = self.processes.get_mut(call.process);
        let process = process.ok_or(NtStatus::INVALID_HANDLE)?;
        let vgpu = self.vgpus.get_mut(call.vgpu.index());
        let offers = &mut vgpu.ok_or(NtStatus::DEVICE_REMOVED)?.offers;
        let allocation = process.allocation_mut(call.vgpu, handle)?;
        let dear = match body.priority {
            OfferPriority::LOW => 1,
            OfferPriority::NORMAL => 2,
            OfferPriority::HIGH => 3,
            _ if allocation.priority < priority::NORMAL => 1,
            _ if allocation.priority < priority::HIGH => 2,
            _ => 3,
        };
        let key = (dear, offers.next);
        offers.next = offers.next.saturating_add(1);
        allocation.offer = Some(Offer {
            key,
            decommit: body.flags.contains(OfferFlags::ALLOW_DECOMMIT),
            dropped: None,
        });
        allocation.refresh();
        offers.queue.insert(key, (call.process, handle));
        Ok(())
    }

    /// Drops the content of an offered allocation. Returns how many bytes that were, 0 if it cannot
    /// be dropped.
    fn drop_content(&mut self, id: VgpuId, process: Handle, handle: Handle) -> u64 {
        let vgpu = self.vgpus.get_mut(id.index());
        let owner = self.processes.get_mut(process);
        let (Some(vgpu), Some(owner)) = (vgpu, owner) else {
            return 0;
        };
        let mut used = owner.used(id);
        let Ok(allocation) = owner.allocation_mut(id, handle) else {
            return 0;
        };
        if !allocation.droppable() {
            return 0;
        }
        let (Some(content), Some(mut offer)) = (allocation.backing.content(), allocation.offer)
        else {
            return 0;
        };
        if let Err(error) = content.discard() {
            tracing::error!(%error, "an offered content stays");
            return 0;
        }
        let bytes = content.bytes();
        let in_segment = used.of_mut(allocation.segment);
        *in_segment = in_segment.saturating_sub(allocation.charged());
        vgpu.offers.remove(&offer);
        offer.dropped = Some(if offer.decommit {
            vgpu.memory.decommit(&content);
            ReclaimResult::NOT_COMMITTED
        } else {
            ReclaimResult::DISCARDED
        });
        allocation.offer = Some(offer);
        owner.set_used(id, used);
        bytes
    }

    /// Drops contents that `useful` picks until they are `bytes`, in the order of their offers. If
    /// they do not come to that, none when `all` are needed. Returns how many bytes were dropped.
    fn relieve(
        &mut self,
        id: VgpuId,
        bytes: u64,
        all: bool,
        useful: impl Fn(&Allocation) -> bool,
    ) -> u64 {
        let Some(vgpu) = self.vgpus.get(id.index()) else {
            return 0;
        };
        let mut chosen = Vec::new();
        let mut sum = 0_u64;
        for (process, handle) in vgpu.offers.queue.values() {
            if sum >= bytes {
                break;
            }
            let owner = self.processes.get(*process);
            let allocation = owner.and_then(|owner| owner.allocation(id, *handle).ok());
            if let Some(allocation) = allocation.filter(|a| a.droppable() && useful(a)) {
                sum = sum.saturating_add(allocation.bytes());
                chosen.push((*process, *handle));
            }
        }
        if all && sum < bytes {
            return 0;
        }
        let mut dropped = 0_u64;
        for (process, handle) in chosen {
            dropped = dropped.saturating_add(self.drop_content(id, process, handle));
        }
        dropped
    }

    /// Drops contents whose loss makes room for `bytes` more to be committed.
    pub(crate) fn relieve_commit(&mut self, id: VgpuId, bytes: u64) {
        let missing = self.vgpus.get(id.index()).map(|v| v.memory.missing(bytes));
        let missing = missing.unwrap_or(0);
        if missing != 0 {
            let decommits = |a: &Allocation| a.offer.is_some_and(|offer| offer.decommit);
            self.relieve(id, missing, true, decommits);
        }
    }

    /// Drops contents whose loss makes room for so much more to be resident.
    pub(crate) fn relieve_memory(&mut self, id: VgpuId, new: PerSegment<u64>) {
        let Some(memory) = self.vgpus.get(id.index()).map(|v| v.config.memory) else {
            return;
        };
        let wanted = self.resident_on(id).zip(new, u64::saturating_add);
        let short = wanted.zip(memory, u64::saturating_sub);
        for segment in [Segment::Local, Segment::NonLocal] {
            if *new.of(segment) != 0 && *short.of(segment) != 0 {
                let counts = |a: &Allocation| a.segment == segment && a.charged() != 0;
                self.relieve(id, *short.of(segment), true, counts);
            }
        }
    }

    /// Drops offered contents of a GPU until they are `bytes`, as if memory were short. Returns how
    /// many bytes were dropped; `None` if there is no such GPU.
    pub fn pressure(&mut self, vgpu: VgpuId, bytes: u64) -> Option<u64> {
        self.vgpus.get(vgpu.index())?;
        Some(self.relieve(vgpu, bytes, false, |_| true))
    }

    /// All or nothing. What was not offered is as it was.
    pub(crate) fn reclaim_allocations(
        &mut self,
        call: &Call,
        request: &Request<'_, ReclaimAllocations>,
        _env: &mut dyn Env,
    ) -> Verdict {
        let (body, list) = (request.body(), request.tail());
        let process = self.process(call.process)?;
        process.paging_queue(call.vgpu, body.paging_queue)?;
        let device = process.device_of(call.vgpu, body.paging_queue)?;
        if device != body.device {
            return Err(NtStatus::INVALID_HANDLE);
        }
        process.working_device(call.vgpu, device)?;
        let groups = groups(process, call, device, body.resources.get(), list)?;
        let mut results = Vec::new();
        let mut offered = BTreeMap::new();
        for group in &groups {
            let mut result = ReclaimResult::OK;
            for handle in group {
                let offer = process.allocation(call.vgpu, *handle)?.offer;
                let dropped = offer.and_then(|offer| offer.dropped);
                if let Some(dropped) = dropped.filter(|dropped| dropped.raw() > result.raw()) {
                    result = dropped;
                }
                if let Some(offer) = offer {
                    offered.insert(handle.raw(), offer);
                }
            }
            results.push(result);
        }
        self.take_back(call, &offered)?;
        let (paging_fence_value, status) = self.page(call, body.paging_queue)?;
        let reply = ReclaimAllocationsReply {
            paging_fence_value: paging_fence_value.into(),
            status,
        };
        if !body.write_results.get() {
            results.clear();
        }
        call.answer(request, &reply, List::new(&results))
    }

    /// Ends offers, or none of them.
    fn take_back(&mut self, call: &Call, offered: &BTreeMap<u32, Offer>) -> Result<(), NtStatus> {
        let process = self.process(call.process)?;
        let mut commit = 0_u64;
        let mut resident = PerSegment::<u64>::default();
        for (handle, offer) in offered {
            let allocation = process.allocation(call.vgpu, Handle::from_raw(*handle))?;
            if offer.dropped == Some(ReclaimResult::NOT_COMMITTED) {
                commit = commit.saturating_add(allocation.bytes());
            }
            if offer.dropped.is_some() && allocation.resident != 0 {
                let sum = resident.of_mut(allocation.segment);
                *sum = sum.saturating_add(allocation.bytes());
            }
        }
        // While room is made, nothing of what is taken back may be dropped.
        self.set_waiting(call, offered, false);
        self.relieve_commit(call.vgpu, commit);
        self.relieve_memory(call.vgpu, resident);
        let vgpu = self.vgpu(call.vgpu)?;
        let wanted = self
            .resident_on(call.vgpu)
            .zip(resident, u64::saturating_add);
        let over = wanted.zip(vgpu.config.memory, u64::saturating_sub);
        let over = over.zip(resident, |over, new| if new == 0 { 0 } else { over });
        if vgpu.memory.missing(commit) != 0 || !over.is_zero() {
            self.set_waiting(call, offered, true);
            return Err(NtStatus::NO_MEMORY);
        }
        let process = self.processes.get_mut(call.process);
        let process = process.ok_or(NtStatus::INVALID_HANDLE)?;
        let vgpu = self.vgpus.get_mut(call.vgpu.index());
        let vgpu = vgpu.ok_or(NtStatus::DEVICE_REMOVED)?;
        let used = process.used(call.vgpu).zip(resident, u64::saturating_add);
        process.set_used(call.vgpu, used);
        for handle in offered.keys() {
            let allocation = process.allocation_mut(call.vgpu, Handle::from_raw(*handle))?;
            allocation.offer = None;
            allocation.refresh();
            if let Some(content) = allocation.backing.content() {
                vgpu.memory.commit(&content);
            }
        }
        Ok(())
    }

    /// Lets offers that were not dropped wait to be, or not.
    fn set_waiting(&mut self, call: &Call, offered: &BTreeMap<u32, Offer>, wait: bool) {
        let Some(vgpu) = self.vgpus.get_mut(call.vgpu.index()) else {
            return;
        };
        for (handle, offer) in offered {
            if offer.dropped.is_some() {
                continue;
            }
            if wait {
                let place = (call.process, Handle::from_raw(*handle));
                vgpu.offers.queue.insert(offer.key, place);
            } else {
                vgpu.offers.remove(offer);
            }
        }
    }
}

/// The allocations that each handle of a list means: itself, or those of a resource.
fn groups(
    process: &Process,
    call: &Call,
    device: Handle,
    resources: bool,
    list: List<'_, Handle>,
) -> Result<Vec<Vec<Handle>>, NtStatus> {
    let most = usize::try_from(MAX_RESIDENCY_ALLOCATIONS).unwrap_or(usize::MAX);
    if list.is_empty() || list.len() > most {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    let group = |handle| {
        if process.device_of(call.vgpu, handle)? != device {
            return Err(NtStatus::INVALID_HANDLE);
        }
        if resources {
            let members = &process.resource(call.vgpu, handle)?.allocations;
            return Ok(members.values().copied().collect());
        }
        process.allocation(call.vgpu, handle)?;
        Ok(vec![handle])
    };
    let mut seen = BTreeSet::new();
    if !list.iter().all(|handle| seen.insert(handle.raw())) {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    list.iter().map(group).collect()
}
