// SPDX-License-Identifier: GPL-2.0-only

//! Binding objects to GPU addresses: `DRM_IOCTL_VACCEL_BIND`, `DRM_IOCTL_VACCEL_UNBIND`.

use kernel::prelude::*;
use kernel::sync::Arc;

use crate::backed::Backed;
use crate::bindings::uapi;
use crate::bo;
use crate::client::Client;
use crate::driver::{
    DrmDevice,
    DrmFile, //
};
use crate::gpupv::{
    self,
    Handle,
    Protection,
    Request, //
};
use crate::host_error::{
    HostError,
    HostResult, //
};
use crate::logic::range;
use crate::reaper::Owned;
use crate::release::What;
use crate::reservation::{
    self,
    Reservation, //
};
use crate::space::{
    Binding,
    Bound,
    Place, //
};
use crate::trim;
use crate::vm::{
    self,
    Vm, //
};

/// What is to be behind addresses.
pub(crate) struct Target {
    /// Nothing for a null binding.
    pub(crate) backed: Option<Arc<Backed>>,
    /// First byte in the object.
    pub(crate) offset: u64,
    pub(crate) protection: Protection,
}

impl Target {
    /// Part of an object, or nothing, for `size` bytes of addresses of `vm`.
    ///
    /// # Errors
    ///
    /// `EINVAL` for unknown flags or a range that is not in the object, `ENOENT`, `EACCES` for
    /// writing to a read-only object, `EBUSY` for one that is offered; those of
    /// [`bo::allocation`].
    pub(crate) fn new(
        file: &DrmFile,
        vm: &Vm,
        flags: u32,
        bo: u32,
        offset: u64,
        size: u64,
    ) -> HostResult<Self> {
        let protection = protection(flags)?;
        if flags & uapi::VACCEL_BIND_NULL != 0 {
            if bo != 0 || offset != 0 {
                return Err(EINVAL.into());
            }
            return Ok(Self {
                backed: None,
                offset,
                protection,
            });
        }
        let object = bo::find(file, bo)?;
        let memory = object.memory()?;
        if flags & uapi::VACCEL_BIND_WRITE != 0 && memory.is_read_only() {
            return Err(EACCES.into());
        }
        // CAST: object sizes fit.
        range::pages_inside(offset, size, object.size() as u64).map_err(bo::range_error)?;
        let allocation = bo::allocation(&object, &vm.device)?;
        if allocation.is_offered() {
            return Err(EBUSY.into());
        }
        Ok(Self {
            backed: Some(Backed::new(vm, object, allocation)?),
            offset,
            protection,
        })
    }

    /// Makes the object resident if `vm` does that.
    ///
    /// # Errors
    ///
    /// A refusal, after idle vms of the file have been evicted.
    pub(crate) fn make_resident(
        &self,
        client: &Client,
        vm: &Arc<Vm>,
    ) -> Result<(), crate::allocation::Refusal> {
        match &self.backed {
            Some(backed) if !vm.manual_residency => {
                trim::retry(client, vm, || backed.make_resident(vm))
            }
            _ => Ok(()),
        }
    }

    /// The host's handle of the allocation, if there is one.
    pub(crate) fn allocation(&self) -> Handle {
        self.backed
            .as_ref()
            .map_or(Handle::NONE, |backed| backed.allocation.handle())
    }
}

fn protection(flags: u32) -> Result<Protection> {
    let known = uapi::VACCEL_BIND_WRITE
        | uapi::VACCEL_BIND_EXECUTE
        | uapi::VACCEL_BIND_NULL
        | uapi::VACCEL_BIND_FIXED;
    if flags & !known != 0 {
        return Err(EINVAL);
    }
    let mut protection = Protection::EMPTY;
    for (flag, bit) in [
        (uapi::VACCEL_BIND_WRITE, Protection::WRITE),
        (uapi::VACCEL_BIND_EXECUTE, Protection::EXECUTE),
        (uapi::VACCEL_BIND_NULL, Protection::ZERO),
    ] {
        if flags & flag != 0 {
            protection = protection | bit;
        }
    }
    Ok(protection)
}

/// `DRM_IOCTL_VACCEL_BIND`.
pub(crate) fn bind(
    _dev: &DrmDevice,
    args: &mut uapi::drm_vaccel_bind,
    file: &DrmFile,
) -> HostResult {
    args.bytes_to_trim = 0;
    if args.reserved != 0 {
        return Err(EINVAL.into());
    }
    let fixed = args.flags & uapi::VACCEL_BIND_FIXED != 0;
    if fixed != (args.gpu_va != 0) {
        return Err(EINVAL.into());
    }
    vm::check_pages(args.gpu_va, args.size).map_err(bo::range_error)?;
    let client = file.inner();
    let vm = client.vm(args.vm)?;
    let target = Target::new(file, &vm, args.flags, args.bo, args.bo_offset, args.size)?;
    vm.device.check()?;
    args.gpu_va = if fixed {
        let place = vm.space.place(vm.id, args.gpu_va, args.size)?;
        make_resident(&target, &client, &vm, args)?;
        match place {
            Place::Reserved(reservation) => bind_inside(&vm, &reservation, args, target)?,
            Place::Free(place) => {
                let (range, _) = reservation::reserve_range(&vm, args.gpu_va, args.size, false)?;
                if let Err(error) = map(&vm, args.gpu_va, args.size, &target) {
                    // Before the place is free, so that the caller can try again at once.
                    let _ = range.give_back();
                    return Err(error);
                }
                place.bind(Binding::new(range, target.backed))?;
            }
        }
        args.gpu_va
    } else {
        make_resident(&target, &client, &vm, args)?;
        bind_chosen(&vm, args.size, target)?
    };
    args.paging_value = vm.paging_value();
    Ok(())
}

/// Makes the object resident if the vm does that, and says what is in the way.
fn make_resident(
    target: &Target,
    client: &Client,
    vm: &Arc<Vm>,
    args: &mut uapi::drm_vaccel_bind,
) -> HostResult {
    let outcome = target.make_resident(client, vm);
    if let Err(refusal) = &outcome {
        args.bytes_to_trim = refusal.bytes_to_trim;
    }
    Ok(outcome?)
}

/// Binds where the host likes; returns the address.
fn bind_chosen(vm: &Vm, size: u64, target: Target) -> HostResult<u64> {
    let adapter = vm.device.process.adapter.handle;
    let what = What::GpuVa {
        adapter,
        base: 0,
        size,
    };
    let request = Request::from(map_request(vm, 0, size, &target));
    let (range, (gpu_va, value)): (Owned, _) =
        vm.device.process.create(&request, what, |answer| {
            Ok((
                answer.reply.virtual_address,
                answer.reply.paging_fence_value,
            ))
        })?;
    vm::check_range(gpu_va, size)?;
    vm.note_paging(value);
    let binding = Binding::new(range, target.backed);
    vm.space.bind_chosen(vm.id, gpu_va, size, binding)?;
    Ok(gpu_va)
}

/// Binds in a reservation, over whatever is there.
fn bind_inside(
    vm: &Vm,
    reservation: &Reservation,
    args: &uapi::drm_vaccel_bind,
    target: Target,
) -> HostResult {
    let change = reservation.change(args.gpu_va, args.size)?;
    map(vm, args.gpu_va, args.size, &target)?;
    reservation::end_replaced(change.commit(Some(target.backed)))
}

fn map_request(vm: &Vm, base: u64, size: u64, target: &Target) -> gpupv::MapGpuVirtualAddress {
    let chosen = base == 0;
    gpupv::MapGpuVirtualAddress {
        paging_queue: vm.paging_queue,
        base_address: base,
        minimum_address: if chosen { vm::VA_MIN } else { 0 },
        maximum_address: if chosen { vm::VA_MAX } else { 0 },
        allocation: target.allocation(),
        offset_in_pages: target.offset / gpupv::PAGE_SIZE,
        size_in_pages: size / gpupv::PAGE_SIZE,
        protection: target.protection,
        ..Default::default()
    }
}

/// Has the host map reserved addresses.
fn map(vm: &Vm, base: u64, size: u64, target: &Target) -> HostResult {
    let request = Request::from(map_request(vm, base, size, target));
    let value = vm.device.process.call(&request, |answer| {
        if answer.reply.virtual_address != base {
            return Err(HostError::PROTOCOL);
        }
        Ok(answer.reply.paging_fence_value)
    })?;
    vm.note_paging(value);
    Ok(())
}

/// `DRM_IOCTL_VACCEL_UNBIND`.
pub(crate) fn unbind(
    _dev: &DrmDevice,
    args: &mut uapi::drm_vaccel_bind,
    file: &DrmFile,
) -> HostResult {
    if args.bo != 0 || args.flags != 0 || args.bo_offset != 0 || args.reserved != 0 {
        return Err(EINVAL.into());
    }
    vm::check_pages(args.gpu_va, args.size).map_err(bo::range_error)?;
    let vm = file.inner().vm(args.vm)?;
    match vm.space.bound(vm.id, args.gpu_va, args.size)? {
        Bound::Whole(binding, change) => Bound::end_whole(binding, change)?,
        Bound::Reserved(reservation) => {
            let change = reservation.change(args.gpu_va, args.size)?;
            let empty = Target {
                backed: None,
                offset: 0,
                protection: reservation.empty,
            };
            map(&vm, args.gpu_va, args.size, &empty)?;
            reservation::end_replaced(change.commit(None))?;
        }
    }
    args.paging_value = vm.paging_value();
    Ok(())
}
