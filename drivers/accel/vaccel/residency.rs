// SPDX-License-Identifier: GPL-2.0-only

//! Residency by hand: `DRM_IOCTL_VACCEL_RESIDENCY`.
//!
//! References are counted per object, so that nobody evicts what a binding or somebody else keeps
//! resident. What is offered is in nobody's use.

use kernel::prelude::*;
use kernel::sync::aref::ARef;
use kernel::sync::Arc;

use crate::allocation::{
    self,
    Allocation,
    Hold,
    Refusal, //
};
use crate::bindings::uapi;
use crate::bo::{
    self,
    ArgRef, //
};
use crate::client::Client;
use crate::driver::{
    DrmDevice,
    DrmFile, //
};
use crate::gpupv::{
    self,
    Handle,
    List,
    MakeResidentFlags,
    OfferFlags,
    OfferPriority,
    PriorityTail,
    ReclaimResult,
    Request, //
};
use crate::host_error::{
    HostError,
    HostResult, //
};
use crate::trim;
use crate::vm::Vm;

/// Bytes of a list entry.
const ENTRY: usize = size_of::<uapi::drm_vaccel_residency_entry>();

/// The objects of a list, and where it stands.
struct Objects {
    place: ArgRef,
    handles: KVVec<u32>,
    objects: KVVec<ARef<bo::Object>>,
    allocations: KVVec<Arc<Allocation>>,
}

impl Objects {
    /// Reads the list and finds its objects.
    fn new(args: &uapi::drm_vaccel_residency, file: &DrmFile, vm: &Vm) -> HostResult<Self> {
        let count = args.count as usize;
        let place = ArgRef::new(file, args.arg_bo, args.arg_offset, count * ENTRY)?;
        let list = place.read()?;
        let mut handles = KVVec::with_capacity(count, GFP_KERNEL)?;
        let mut objects = KVVec::with_capacity(count, GFP_KERNEL)?;
        let mut allocations = KVVec::with_capacity(count, GFP_KERNEL)?;
        for entry in list.chunks_exact(ENTRY) {
            let entry =
                uapi::drm_vaccel_residency_entry::read_from_bytes(entry).map_err(|_| EINVAL)?;
            let object = bo::find(file, entry.bo)?;
            handles.push(entry.bo, GFP_KERNEL)?;
            allocations.push(allocation(args.op, &object, vm)?, GFP_KERNEL)?;
            objects.push(object, GFP_KERNEL)?;
        }
        Ok(Self {
            place,
            handles,
            objects,
            allocations,
        })
    }

    /// The host's handles.
    fn of_host(&self) -> Result<KVVec<Handle>> {
        let mut handles = KVVec::with_capacity(self.allocations.len(), GFP_KERNEL)?;
        for allocation in &self.allocations {
            handles.push(allocation.handle(), GFP_KERNEL)?;
        }
        Ok(handles)
    }

    /// Writes the results, one for each object.
    fn report(&self, results: impl Iterator<Item = u32>) -> Result {
        let mut bytes = KVVec::with_capacity(self.handles.len() * ENTRY, GFP_KERNEL)?;
        for (bo, result) in self.handles.iter().zip(results) {
            bytes.extend_from_slice(&bo.to_ne_bytes(), GFP_KERNEL)?;
            bytes.extend_from_slice(&result.to_ne_bytes(), GFP_KERNEL)?;
        }
        self.place.write(&bytes)
    }
}

/// The allocation an operation is about: what undoes another one makes none.
fn allocation(op: u32, object: &bo::Object, vm: &Vm) -> HostResult<Arc<Allocation>> {
    match op {
        uapi::VACCEL_RESIDENCY_EVICT | uapi::VACCEL_RESIDENCY_RECLAIM => {
            Ok(bo::used_allocation(object, &vm.device)?)
        }
        _ => bo::allocation(object, &vm.device),
    }
}

/// `DRM_IOCTL_VACCEL_RESIDENCY`.
pub(crate) fn change(
    _dev: &DrmDevice,
    args: &mut uapi::drm_vaccel_residency,
    file: &DrmFile,
) -> HostResult {
    check(args)?;
    let client = file.inner();
    let vm = client.vm(args.vm)?;
    let objects = Objects::new(args, file, &vm)?;
    vm.device.check()?;
    args.bytes_to_trim = 0;
    match args.op {
        uapi::VACCEL_RESIDENCY_RESIDENT => {
            let outcome = resident(&client, &vm, &objects, args.flags);
            if let Err(refusal) = &outcome {
                args.bytes_to_trim = refusal.bytes_to_trim;
            }
            outcome?;
        }
        uapi::VACCEL_RESIDENCY_EVICT => args.bytes_to_trim = evict(&vm, &objects)?,
        uapi::VACCEL_RESIDENCY_OFFER => offer(&vm, &objects, args)?,
        uapi::VACCEL_RESIDENCY_RECLAIM => {
            let results = reclaim(&vm, &objects.allocations)?;
            objects.report(results.iter().map(|result| result.raw()))?;
        }
        _ => set_priority(&vm, &objects, args.priority)?,
    }
    args.paging_value = vm.paging_value();
    Ok(())
}

/// Checks everything that needs no look-up.
fn check(args: &uapi::drm_vaccel_residency) -> Result {
    let (flags, priorities) = match args.op {
        uapi::VACCEL_RESIDENCY_RESIDENT => (uapi::VACCEL_RESIDENT_CANT_TRIM, 0..=0),
        uapi::VACCEL_RESIDENCY_OFFER => (
            uapi::VACCEL_OFFER_ALLOW_DECOMMIT,
            uapi::VACCEL_OFFER_PRIORITY_LOW..=uapi::VACCEL_OFFER_PRIORITY_AUTO,
        ),
        uapi::VACCEL_RESIDENCY_PRIORITY => (0, 0..=uapi::VACCEL_PRIORITY_MAXIMUM),
        uapi::VACCEL_RESIDENCY_EVICT | uapi::VACCEL_RESIDENCY_RECLAIM => (0, 0..=0),
        _ => return Err(EINVAL),
    };
    if args.flags & !flags != 0
        || !priorities.contains(&args.priority)
        || args.pad != 0
        || args.reserved != [0; 2]
        || args.count == 0
    {
        return Err(EINVAL);
    }
    if args.count > uapi::VACCEL_RESIDENCY_MAX {
        return Err(EFBIG);
    }
    Ok(())
}

fn resident(client: &Client, vm: &Arc<Vm>, objects: &Objects, flags: u32) -> Result<(), Refusal> {
    let handles = objects.of_host()?;
    let how = if flags & uapi::VACCEL_RESIDENT_CANT_TRIM != 0 {
        MakeResidentFlags::CANT_TRIM_FURTHER
    } else {
        MakeResidentFlags::EMPTY
    };
    let mut holds = KVVec::with_capacity(handles.len(), GFP_KERNEL)?;
    trim::retry(client, vm, || {
        holds.clear();
        hold_all(&objects.allocations, &mut holds)?;
        allocation::make_list_resident(vm, &handles, how)
    })?;
    for (allocation, hold) in objects.allocations.iter().zip(holds) {
        allocation.keep_by_hand(hold);
    }
    Ok(())
}

/// Counts a holder of every allocation.
fn hold_all(allocations: &[Arc<Allocation>], holds: &mut KVVec<Hold>) -> Result<(), Refusal> {
    for allocation in allocations {
        let hold = allocation.hold().map_err(|errno| Refusal {
            bytes_to_trim: if errno == ENOSPC {
                allocation.size()
            } else {
                0
            },
            ..errno.into()
        })?;
        holds.push(hold, GFP_KERNEL)?;
    }
    Ok(())
}

fn evict(vm: &Vm, objects: &Objects) -> HostResult<u64> {
    let handles = objects.of_host()?;
    let mut holds = KVVec::with_capacity(handles.len(), GFP_KERNEL)?;
    let all: Result = objects.allocations.iter().try_for_each(|allocation| {
        let hold = allocation.take_by_hand().ok_or(EINVAL)?;
        Ok(holds.push(hold, GFP_KERNEL)?)
    });
    let told = all
        .map_err(HostError::from)
        .and_then(|()| allocation::evict_list(&vm.device, &handles));
    // All or nothing. A caller who did not wait for the answer has told the host all the same.
    if matches!(&told, Err(error) if error.errno != EINTR && error.errno != ETIMEDOUT) {
        for (allocation, hold) in objects.allocations.iter().zip(holds) {
            allocation.keep_by_hand(hold);
        }
    }
    told
}

fn offer(vm: &Vm, objects: &Objects, args: &uapi::drm_vaccel_residency) -> HostResult {
    let handles = objects.of_host()?;
    let flags = if args.flags & uapi::VACCEL_OFFER_ALLOW_DECOMMIT != 0 {
        OfferFlags::ALLOW_DECOMMIT
    } else {
        OfferFlags::EMPTY
    };
    let request = Request::new(
        gpupv::OfferAllocations {
            device: vm.device.handle(),
            priority: OfferPriority::from_raw(args.priority),
            flags,
            ..Default::default()
        },
        List::new(&handles),
    )?;
    for object in &objects.objects {
        let memory = object.memory()?;
        // Others know nothing of the offer.
        if memory.is_shared_by_host() {
            return Err(EINVAL.into());
        }
        // The host keeps what the CPU sees.
        memory.hide()?;
    }
    let mut noted = 0;
    let all = objects.allocations.iter().try_for_each(|allocation| {
        allocation.offer()?;
        noted += 1;
        Ok::<_, Error>(())
    });
    let told = all
        .map_err(HostError::from)
        .and_then(|()| vm.device.process.call(&request, |_| Ok(())));
    match told {
        // The host has been told, and a reclaim sets things right in either case.
        Err(error) if error.errno != EINTR && error.errno != ETIMEDOUT => {
            for allocation in objects.allocations.iter().take(noted) {
                allocation.reclaimed();
            }
            Err(error)
        }
        other => other,
    }
}

/// Takes offered allocations back; returns what became of each.
///
/// # Errors
///
/// `EBUSY` if one was offered in another vm, which has to take it back; those of the host; `ENOMEM`.
pub(crate) fn reclaim(
    vm: &Vm,
    allocations: &[Arc<Allocation>],
) -> HostResult<KVVec<ReclaimResult>> {
    let mut handles = KVVec::with_capacity(allocations.len(), GFP_KERNEL)?;
    for allocation in allocations {
        if allocation.is_offered_elsewhere() {
            return Err(EBUSY.into());
        }
        handles.push(allocation.handle(), GFP_KERNEL)?;
    }
    let request = Request::new(
        gpupv::ReclaimAllocations {
            device: vm.device.handle(),
            paging_queue: vm.paging_queue,
            write_results: true.into(),
            ..Default::default()
        },
        List::new(&handles),
    )?;
    let mut results = KVVec::with_capacity(handles.len(), GFP_KERNEL)?;
    let value = vm.device.process.call(&request, |answer| {
        for result in answer.tail.iter() {
            results.push(result, GFP_KERNEL)?;
        }
        Ok(answer.reply.paging_fence_value.get())
    })?;
    vm.note_paging(value);
    for (allocation, result) in allocations.iter().zip(&results) {
        // What lost its memory is of no use any more; as offered it cannot be bound either.
        if *result != ReclaimResult::NOT_COMMITTED {
            allocation.reclaimed();
        }
    }
    Ok(results)
}

fn set_priority(vm: &Vm, objects: &Objects, priority: u32) -> HostResult {
    let handles = objects.of_host()?;
    let priorities = KVVec::from_elem(priority, handles.len(), GFP_KERNEL)?;
    let request = Request::new(
        gpupv::SetAllocationPriority {
            device: vm.device.handle(),
            ..Default::default()
        },
        PriorityTail {
            allocations: List::new(&handles),
            priorities: List::new(&priorities),
        },
    )?;
    vm.device.process.call(&request, |_| Ok(()))
}
