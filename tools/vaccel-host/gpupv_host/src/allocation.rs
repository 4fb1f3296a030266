// SPDX-License-Identifier: MIT OR Apache-2.0
//! Creating and destroying allocations and resources (protocol 4.7).
//!
//! An allocation is guest memory (a standard one on an existing heap: the guest says how large it
//! is, then which pages it has), or content in host memory, which its private data describes, or its
//! size if it is a standard one across adapters. Guest pages count against the limit of the VM,
//! content against that of its GPU, from creation to the acknowledged destruction, which waits for a
//! running job that could still touch them.

use std::collections::BTreeSet;
use std::sync::Arc;

use gpupv::{
    AllocationFlags, AllocationInfo, AllocationInfoFlags, CreateAllocation, CreateAllocationFlags,
    CreateAllocationReply, CreateAllocationTail, CreatedAllocation, CreatedAllocations,
    DestroyAllocation, DestroyAllocationFlags, Handle, List, NtStatus, Request, StandardAllocation,
    StandardAllocationType, MAX_CREATE_ALLOCATIONS, PAGE_SIZE,
};
use vaccel_isa::{AllocationData, Segment};

use crate::backing::Backing;
use crate::call::{Call, Hold, Verdict};
use crate::config::MAX_PINNED_PAGES;
use crate::env::Env;
use crate::gpu_memory::Content;
use crate::host::{whole_pages, Host};
use crate::object::{Allocation, Kind, Resource};
use crate::property::priority;

/// Flags an allocation in guest memory needs.
const ON_HEAP: CreateAllocationFlags =
    CreateAllocationFlags::EXISTING_SYSMEM.union(CreateAllocationFlags::STANDARD_ALLOCATION);
/// Flags any allocation may be created with.
const COMMON: CreateAllocationFlags = CreateAllocationFlags::CREATE_RESOURCE
    .union(CreateAllocationFlags::CREATE_SHARED)
    .union(CreateAllocationFlags::NT_SECURITY_SHARING)
    .union(CreateAllocationFlags::CROSS_ADAPTER)
    .union(CreateAllocationFlags::NON_SECURE)
    .union(CreateAllocationFlags::READ_ONLY)
    .union(CreateAllocationFlags::CREATE_WRITE_COMBINED)
    .union(CreateAllocationFlags::CREATE_CACHED);
/// Flags an allocation in host memory may be created with. It starts as zeros in any case.
const IN_HOST_MEMORY: CreateAllocationFlags = COMMON
    .union(CreateAllocationFlags::STANDARD_ALLOCATION)
    .union(CreateAllocationFlags::ZEROED);

/// What an allocation is made from.
pub struct New {
    /// Its memory.
    pub backing: Backing,
    /// Where it is while it is resident.
    pub segment: Segment,
}

/// The handles of what was made.
pub struct Made {
    /// The resource, or none.
    pub resource: Handle,
    /// The allocations, in their order.
    pub allocations: Vec<Handle>,
}

impl Host {
    pub(crate) fn create_allocation(
        &mut self,
        call: &Call,
        request: &Request<'_, CreateAllocation>,
        env: &mut dyn Env,
    ) -> Verdict {
        let flags = request.body().flags;
        // Sharing is of resources, and by handles that the guest's kernel guards.
        let shared = flags.contains(CreateAllocationFlags::CREATE_SHARED);
        let odd = shared != flags.contains(CreateAllocationFlags::NT_SECURITY_SHARING)
            || (shared && !flags.contains(CreateAllocationFlags::CREATE_RESOURCE));
        if flags.unknown() != 0 || odd {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        if flags.contains(CreateAllocationFlags::EXISTING_SYSMEM) {
            self.create_on_heap(call, request)
        } else {
            self.create_in_host_memory(call, request, env)
        }
    }

    fn create_on_heap(&mut self, call: &Call, request: &Request<'_, CreateAllocation>) -> Verdict {
        let (body, tail) = (request.body(), request.tail());
        let supported = COMMON.union(ON_HEAP);
        if body.flags.bits() & !supported.bits() != 0 || !body.flags.contains(ON_HEAP) {
            return Err(NtStatus::NOT_SUPPORTED);
        }
        let (kind, pages) = standard(&tail)?;
        if kind != StandardAllocationType::EXISTING_HEAP {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let pinned = self.pinned_pages.checked_add(pages);
        let pinned = pinned.filter(|pinned| *pinned <= MAX_PINNED_PAGES);
        let pinned = pinned.ok_or(NtStatus::NO_MEMORY)?;
        self.check_place(call, body, 1)?;
        let new = New {
            backing: Backing::new(
                pages,
                !body.flags.contains(CreateAllocationFlags::READ_ONLY),
            ),
            segment: Segment::NonLocal,
        };
        let made = self.add_allocations(call, body, vec![new])?;
        self.pinned_pages = pinned;
        let flags = AllocationFlags::EXISTING_SYSMEM | AllocationFlags::CACHED;
        answer(
            call,
            request,
            &made,
            &[pages.saturating_mul(PAGE_SIZE)],
            flags,
        )
    }

    /// Content lies in host memory. All or nothing.
    fn create_in_host_memory(
        &mut self,
        call: &Call,
        request: &Request<'_, CreateAllocation>,
        env: &mut dyn Env,
    ) -> Verdict {
        let (body, tail) = (request.body(), request.tail());
        let has = |flag: CreateAllocationFlags| body.flags.contains(flag);
        if body.flags.bits() & !IN_HOST_MEMORY.bits() != 0 {
            return Err(NtStatus::NOT_SUPPORTED);
        }
        let write_combined = has(CreateAllocationFlags::CREATE_WRITE_COMBINED);
        if write_combined && has(CreateAllocationFlags::CREATE_CACHED) {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let asked = if has(CreateAllocationFlags::STANDARD_ALLOCATION) {
            match standard(&tail)? {
                (StandardAllocationType::CROSS_ADAPTER, pages) => vec![(pages, Segment::NonLocal)],
                _ => return Err(NtStatus::INVALID_PARAMETER),
            }
        } else {
            described(&tail)?
        };
        self.check_place(call, body, asked.len())?;
        let sizes: Vec<u64> = asked.iter().map(|(pages, _)| *pages).collect();
        let contents = self.create_contents(call, &sizes, env)?;
        let sizes: Vec<u64> = contents.iter().map(|content| content.bytes()).collect();
        let writable = !has(CreateAllocationFlags::READ_ONLY);
        let new = contents.into_iter().zip(asked);
        let new = new.map(|(content, (_, segment))| New {
            backing: Backing::host(content, writable),
            segment,
        });
        let made = self.add_allocations(call, body, new.collect())?;
        let flags = if write_combined {
            AllocationFlags::EMPTY
        } else {
            AllocationFlags::CACHED
        };
        answer(call, request, &made, &sizes, flags)
    }

    /// Makes contents of so many pages each, all or none.
    fn create_contents(
        &mut self,
        call: &Call,
        sizes: &[u64],
        env: &mut dyn Env,
    ) -> Result<Vec<Arc<Content>>, NtStatus> {
        let bytes = |pages: &u64| pages.saturating_mul(PAGE_SIZE);
        let all = sizes.iter().map(bytes).fold(0, u64::saturating_add);
        self.relieve_commit(call.vgpu, all);
        let vgpu = self.vgpus.get_mut(call.vgpu.index());
        let memory = &mut vgpu.ok_or(NtStatus::DEVICE_REMOVED)?.memory;
        if memory.is_detached() {
            memory.attach(env.host_memory(call.vgpu).ok_or(NtStatus::NO_MEMORY)?);
        }
        let mut contents = Vec::new();
        for pages in sizes {
            match memory.create(*pages) {
                Some(content) => contents.push(content),
                None => {
                    contents.iter().for_each(|content| memory.destroy(content));
                    return Err(NtStatus::NO_MEMORY);
                }
            }
        }
        Ok(contents.into_iter().map(Arc::new).collect())
    }

    /// Checks that so many allocations can be made where a command wants them.
    pub(crate) fn check_place(
        &self,
        call: &Call,
        body: &CreateAllocation,
        count: usize,
    ) -> Result<(), NtStatus> {
        let process = self.process(call.process)?;
        process.working_device(call.vgpu, body.device)?;
        let needed = count.saturating_add(1);
        if process.objects.room() < needed || !self.has_room(needed, 0) {
            return Err(NtStatus::NO_MEMORY);
        }
        let Some(resource) = body.resource.some() else {
            return Ok(());
        };
        if body.flags.contains(CreateAllocationFlags::CREATE_RESOURCE) {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        process.resource(call.vgpu, resource)?;
        if process.device_of(call.vgpu, resource)? != body.device {
            return Err(NtStatus::INVALID_HANDLE);
        }
        Ok(())
    }

    /// Adds allocations to a process, in a resource if there is to be one. Cannot fail after
    /// [`Host::check_place`].
    pub(crate) fn add_allocations(
        &mut self,
        call: &Call,
        body: &CreateAllocation,
        new: Vec<New>,
    ) -> Result<Made, NtStatus> {
        let process = self.process_mut(call.process)?;
        let resource = if body.flags.contains(CreateAllocationFlags::CREATE_RESOURCE) {
            let resource = Kind::Resource(Resource {
                shared: body.flags.contains(CreateAllocationFlags::CREATE_SHARED),
                ..Resource::default()
            });
            process.add(call.vgpu, body.device, resource)?
        } else {
            body.resource
        };
        let mut allocations = Vec::new();
        for New { backing, segment } in new {
            let place = process.resource(call.vgpu, resource).map_or(0, |r| r.next);
            let allocation = Kind::Allocation(Allocation {
                backing: Arc::new(backing),
                segment,
                resident: 0,
                resource,
                place,
                lock: None,
                priority: priority::NORMAL,
                offer: None,
                gpadl: None,
            });
            let allocation = process.add(call.vgpu, body.device, allocation)?;
            if let Ok(resource) = process.resource_mut(call.vgpu, resource) {
                resource.push(allocation);
            }
            allocations.push(allocation);
        }
        Ok(Made {
            resource,
            allocations,
        })
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
                    None => self.release(&backing),
                }
            } else {
                self.remove_object(call.process, handle);
            }
        }
        Ok(call.done(request)?.held(hold))
    }
}

/// Kind and pages of the one standard allocation.
fn standard(tail: &CreateAllocationTail<'_>) -> Result<(StandardAllocationType, u64), NtStatus> {
    let (heap, _): (StandardAllocation, _) =
        gpupv::read(tail.resource_data).map_err(|_| NtStatus::INVALID_PARAMETER)?;
    let pages = whole_pages(heap.size).filter(|_| tail.infos.len() == 1);
    let pages = pages.filter(|_| tail.allocation_data.is_empty());
    Ok((heap.kind, pages.ok_or(NtStatus::INVALID_PARAMETER)?))
}

/// Pages and segments of allocations that are described by private data. A priority of their own
/// does not come with the message; it is for later.
fn described(tail: &CreateAllocationTail<'_>) -> Result<Vec<(u64, Segment)>, NtStatus> {
    let most = usize::try_from(MAX_CREATE_ALLOCATIONS).unwrap_or(usize::MAX);
    if tail.infos.is_empty() || tail.infos.len() > most {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    let known = AllocationInfoFlags::OVERRIDE_PRIORITY.bits();
    let describe = |(info, data): (AllocationInfo, &[u8])| {
        let data = AllocationData::from_bytes(data);
        let data = data.filter(|_| info.flags.bits() & !known == 0);
        let data = data.ok_or(NtStatus::INVALID_PARAMETER)?;
        let bytes = data.size.checked_next_multiple_of(PAGE_SIZE);
        let pages = bytes.and_then(whole_pages).ok_or(NtStatus::NO_MEMORY)?;
        Ok((pages, data.segment))
    };
    tail.allocations().map(describe).collect()
}

/// The answer to a creation; private data comes back as it was given.
fn answer(
    call: &Call,
    request: &Request<'_, CreateAllocation>,
    made: &Made,
    sizes: &[u64],
    flags: AllocationFlags,
) -> Verdict {
    let tail = request.tail();
    let entries: Vec<CreatedAllocation> = made
        .allocations
        .iter()
        .zip(sizes)
        .zip(tail.infos.iter())
        .map(|((allocation, size), info)| CreatedAllocation {
            allocation: *allocation,
            priv_drv_data_size: info.priv_drv_data_size,
            flags,
            size: *size,
            ..CreatedAllocation::default()
        })
        .collect();
    let reply = CreateAllocationReply {
        flags: request.body().flags,
        resource: made.resource,
        ..CreateAllocationReply::default()
    };
    let created = CreatedAllocations {
        entries: List::new(&entries),
        data: tail.allocation_data,
    };
    call.answer(request, &reply, created)
}
