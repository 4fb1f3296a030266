// SPDX-License-Identifier: MIT OR Apache-2.0
//! Allocations in guest memory, and resources (protocol 4.7).
//!
//! The engine works in guest memory, so the only allocations are standard ones on an existing
//! heap: the guest says how large it is, then which pages it has, as a GPADL or as page lists.
//! Pages count against the limit of the VM from creation to the acknowledged destruction, which
//! waits for a running job that could still touch them.

use std::collections::BTreeSet;
use std::sync::Arc;

use gpupv::{
    AllocationFlags, CreateAllocation, CreateAllocationFlags, CreateAllocationReply,
    CreatedAllocation, CreatedAllocations, DestroyAllocation, DestroyAllocationFlags,
    DriverStandardAllocationType, GetStandardAllocationDriverData, Handle, List, NtStatus, Request,
    SetExistingSysmemPages, SetExistingSysmemStore, StandardAllocation, StandardAllocationData,
    StandardAllocationDriverData, StandardAllocationType,
};

use crate::backing::Backing;
use crate::call::{Call, Hold, Verdict};
use crate::config::MAX_PINNED_PAGES;
use crate::env::Env;
use crate::host::{whole_pages, Host};
use crate::object::{Allocation, Kind, Resource};
use crate::va::PAGE;

/// Bytes of the private data of a standard allocation.
const DATA_BYTES: usize = 16;
/// Bytes of the private data of its resource.
const RESOURCE_BYTES: usize = 8;
/// What that data starts with.
const DATA_MAGIC: [u8; 8] = *b"vaccelSA";

/// Flags an allocation may be created with.
const SUPPORTED: CreateAllocationFlags = CreateAllocationFlags::CREATE_RESOURCE
    .union(CreateAllocationFlags::NON_SECURE)
    .union(CreateAllocationFlags::EXISTING_SYSMEM)
    .union(CreateAllocationFlags::READ_ONLY)
    .union(CreateAllocationFlags::CREATE_WRITE_COMBINED)
    .union(CreateAllocationFlags::CREATE_CACHED)
    .union(CreateAllocationFlags::STANDARD_ALLOCATION);
/// Flags it must be created with.
const NEEDED: CreateAllocationFlags =
    CreateAllocationFlags::EXISTING_SYSMEM.union(CreateAllocationFlags::STANDARD_ALLOCATION);

impl Host {
    pub(crate) fn create_allocation(
        &mut self,
        call: &Call,
        request: &Request<'_, CreateAllocation>,
        _env: &mut dyn Env,
    ) -> Verdict {
        let (body, tail) = (*request.body(), request.tail());
        let flags = body.flags;
        if flags.unknown() != 0 {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        if flags.bits() & !SUPPORTED.bits() != 0 || !flags.contains(NEEDED) {
            return Err(NtStatus::NOT_SUPPORTED);
        }
        if tail.infos.len() != 1 || !tail.allocation_data.is_empty() {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let (heap, _): (StandardAllocation, _) =
            gpupv::read(tail.resource_data).map_err(|_| NtStatus::INVALID_PARAMETER)?;
        if heap.kind != StandardAllocationType::EXISTING_HEAP {
            return Err(NtStatus::NOT_SUPPORTED);
        }
        let pages = whole_pages(heap.size).ok_or(NtStatus::INVALID_PARAMETER)?;
        let pinned = self.pinned_pages.checked_add(pages);
        let pinned = pinned.filter(|pinned| *pinned <= MAX_PINNED_PAGES);
        let pinned = pinned.ok_or(NtStatus::NO_MEMORY)?;
        let process = self.process_mut(call.process)?;
        process.working_device(call.vgpu, body.device)?;
        if process.objects.room() < 2 {
            return Err(NtStatus::NO_MEMORY);
        }
        let resource = match (
            body.resource.some(),
            flags.contains(CreateAllocationFlags::CREATE_RESOURCE),
        ) {
            (Some(_), true) => return Err(NtStatus::INVALID_PARAMETER),
            (Some(resource), false) => {
                process.resource(call.vgpu, resource)?;
                if process.device_of(call.vgpu, resource)? != body.device {
                    return Err(NtStatus::INVALID_HANDLE);
                }
                resource
            }
            (None, true) => {
                let resource = Kind::Resource(Resource::default());
                process.add(call.vgpu, body.device, resource)?
            }
            (None, false) => Handle::NONE,
        };
        let place = process.resource(call.vgpu, resource).map_or(0, |r| r.next);
        let writable = !flags.contains(CreateAllocationFlags::READ_ONLY);
        let allocation = Kind::Allocation(Allocation {
            backing: Arc::new(Backing::new(pages, writable)),
            resident: 0,
            resource,
            place,
            gpadl: None,
        });
        let allocation = process.add(call.vgpu, body.device, allocation)?;
        if let Some(resource) = resource.some() {
            let resource = process.resource_mut(call.vgpu, resource)?;
            resource.push(allocation);
        }
        self.pinned_pages = pinned;
        let entry = CreatedAllocation {
            allocation,
            flags: AllocationFlags::EXISTING_SYSMEM | AllocationFlags::CACHED,
            size: heap.size,
            ..CreatedAllocation::default()
        };
        let reply = CreateAllocationReply {
            flags,
            resource,
            ..CreateAllocationReply::default()
        };
        let created = CreatedAllocations {
            entries: List::new(std::slice::from_ref(&entry)),
            data: &[],
        };
        call.answer(request, &reply, created)
    }

    /// Listed allocations, or a whole resource. A list beside a resource are members of it.
    pub(crate) fn destroy_allocation(
        &mut self,
        call: &Call,
        request: &Request<'_, DestroyAllocation>,
        _env: &mut dyn Env,
    ) -> Verdict {
        let (body, list) = (*request.body(), request.tail());
        let process = self.process(call.process)?;
        process.device(call.vgpu, body.device)?;
        if body.flags.unknown() != 0 || (body.resource.is_none() && list.is_empty()) {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let mut seen = BTreeSet::new();
        for handle in list.iter() {
            let allocation = process.allocation_of(call.vgpu, body.device, handle)?;
            let member = body.resource.is_none() || allocation.resource == body.resource;
            if !member || !seen.insert(handle.raw()) {
                return Err(NtStatus::INVALID_PARAMETER);
            }
        }
        let mut doomed: Vec<Handle> = list.iter().collect();
        if let Some(handle) = body.resource.some() {
            let resource = process.resource(call.vgpu, handle)?;
            if process.device_of(call.vgpu, handle)? != body.device {
                return Err(NtStatus::INVALID_HANDLE);
            }
            if doomed.is_empty() {
                doomed = resource.allocations.values().copied().collect();
                doomed.push(handle);
            }
        }
        let in_use = !body
            .flags
            .contains(DestroyAllocationFlags::ASSUME_NOT_IN_USE);
        let mut hold = Hold::default();
        for handle in doomed {
            if let Some((backing, job)) = self.detach_allocation(call.process, handle) {
                match job.filter(|_| in_use) {
                    Some(job) => {
                        hold.jobs.push(job);
                        hold.backings.push(backing);
                    }
                    None => self.unpin(&backing),
                }
            } else {
                self.remove_object(call.process, handle);
            }
        }
        Ok(call.done(request)?.held(hold))
    }

    /// The data carries nothing; a guest that insists on having some gets it.
    pub(crate) fn standard_allocation_data(
        &mut self,
        call: &Call,
        request: &Request<'_, GetStandardAllocationDriverData>,
        _env: &mut dyn Env,
    ) -> Verdict {
        let body = request.body();
        if body.alloc_type != DriverStandardAllocationType::GDI_SURFACE {
            return Err(NtStatus::NOT_SUPPORTED);
        }
        let size = |bytes: usize| u32::try_from(bytes).unwrap_or(0);
        let sizes = (size(DATA_BYTES), size(RESOURCE_BYTES));
        let mut data = [0; DATA_BYTES];
        for (to, from) in data.iter_mut().zip(DATA_MAGIC) {
            *to = from;
        }
        let tail = match (body.priv_driver_data_size, body.priv_driver_resource_size) {
            (0, 0) => StandardAllocationData::default(),
            asked if asked == sizes => StandardAllocationData {
                allocation: &data,
                resource: &DATA_MAGIC,
            },
            _ => return Err(NtStatus::BUFFER_TOO_SMALL),
        };
        let reply = StandardAllocationDriverData {
            status: NtStatus::SUCCESS,
            priv_driver_data_size: sizes.0,
            priv_driver_resource_size: sizes.1,
            surface: body.surface,
        };
        call.answer(request, &reply, tail)
    }

    pub(crate) fn set_existing_sysmem_store(
        &mut self,
        call: &Call,
        request: &Request<'_, SetExistingSysmemStore>,
        env: &mut dyn Env,
    ) -> Verdict {
        let body = request.body();
        let process = self.process_mut(call.process)?;
        let allocation = process.allocation_of(call.vgpu, body.device, body.allocation)?;
        let pages = allocation.backing.pages();
        let ranges = env.gpadl(body.gpadl).ok_or(NtStatus::INVALID_HANDLE)?;
        let mut frames = Vec::new();
        for range in ranges {
            let first = range
                .gpa
                .checked_div(PAGE)
                .filter(|_| range.gpa % PAGE == 0);
            let first = first.ok_or(NtStatus::INVALID_PARAMETER)?;
            let count = whole_pages(range.len).ok_or(NtStatus::INVALID_PARAMETER)?;
            let have = u64::try_from(frames.len()).unwrap_or(u64::MAX);
            let take = count.min(pages.saturating_sub(have));
            let end = first.checked_add(take).ok_or(NtStatus::INVALID_PARAMETER)?;
            frames.extend(first..end);
        }
        if u64::try_from(frames.len()) != Ok(pages) {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        allocation
            .backing
            .fill(0, frames.into_iter())
            .map_err(|_| NtStatus::INVALID_PARAMETER)?;
        let allocation = process.allocation_mut(call.vgpu, body.allocation)?;
        allocation.gpadl = Some(body.gpadl);
        let key = (body.gpadl, call.process.raw(), body.allocation.raw());
        self.by_gpadl.insert(key);
        call.done(request)
    }

    pub(crate) fn set_existing_sysmem_pages(
        &mut self,
        call: &Call,
        request: &Request<'_, SetExistingSysmemPages>,
        _env: &mut dyn Env,
    ) -> Verdict {
        if !self.config.map_guest_memory {
            return Err(NtStatus::NOT_SUPPORTED);
        }
        let (body, frames) = (request.body(), request.tail());
        let process = self.process(call.process)?;
        let allocation = process.allocation_of(call.vgpu, body.device, body.allocation)?;
        if frames.is_empty() || frames.len() > gpupv::MAX_PAGES_PER_MESSAGE {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let first = u64::from(body.alloc_offset_in_pages);
        allocation
            .backing
            .fill(first, frames.iter())
            .map_err(|_| NtStatus::INVALID_PARAMETER)?;
        call.done(request)
    }
}
