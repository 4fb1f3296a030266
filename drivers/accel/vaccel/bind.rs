// SPDX-License-Identifier: GPL-2.0-only

//! Binding objects to GPU addresses, and residency.

use kernel::prelude::*;
use kernel::sync::aref::ARef;

use crate::bindings::uapi;
use crate::bo;
use crate::driver::{
    DrmDevice,
    DrmFile, //
};
use crate::gpupv::{
    self,
    Handle,
    List,
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
use crate::vm::{
    Binding,
    Vm, //
};

/// GPU addresses the host may choose from when the caller does not.
const VA_MIN: u64 = 1 << 16;
const VA_MAX: u64 = (1 << 47) - 1;

/// `DRM_IOCTL_VACCEL_BIND`.
pub(crate) fn bind(
    _dev: &DrmDevice,
    args: &mut uapi::drm_vaccel_bind,
    file: &DrmFile,
) -> HostResult {
    let known = uapi::VACCEL_BIND_WRITE
        | uapi::VACCEL_BIND_EXECUTE
        | uapi::VACCEL_BIND_NULL
        | uapi::VACCEL_BIND_FIXED;
    if args.flags & !known != 0 || args.reserved != [0; 2] {
        return Err(EINVAL.into());
    }
    let fixed = args.flags & uapi::VACCEL_BIND_FIXED != 0;
    if fixed != (args.gpu_va != 0) {
        return Err(EINVAL.into());
    }
    range::pages_inside(args.gpu_va, args.size, VA_MAX + 1).map_err(bo::range_error)?;
    let vm = file.inner().vm(args.vm)?;
    let object = bound_object(&vm, args, file)?;
    vm.device.check()?;
    if fixed {
        vm.reserve(args.gpu_va, args.size)?;
    }
    let made = make(&vm, args, object).inspect_err(|_| {
        if fixed {
            vm.release(args.gpu_va);
        }
    });
    let (gpu_va, binding) = made?;
    if fixed {
        vm.bind(gpu_va, binding);
    } else {
        vm.bind_chosen(gpu_va, args.size, binding)?;
    }
    args.gpu_va = gpu_va;
    args.paging_value = vm.paging_value();
    Ok(())
}

/// Has the host make the binding; returns its address.
fn make(
    vm: &Vm,
    args: &uapi::drm_vaccel_bind,
    object: Option<ARef<bo::Object>>,
) -> HostResult<(u64, Binding)> {
    let residency = match &object {
        Some(object) if !vm.manual_residency => {
            Some(make_resident(vm, object.guest()?.allocation()?)?)
        }
        _ => None,
    };
    let (range, (gpu_va, value)) = map(vm, object.as_deref(), args)?;
    vm.note_paging(value);
    Ok((gpu_va, Binding::new(range, residency, object)))
}

/// The object to bind, checked against the range; none for a null binding.
fn bound_object(
    vm: &Vm,
    args: &uapi::drm_vaccel_bind,
    file: &DrmFile,
) -> Result<Option<ARef<bo::Object>>> {
    if args.flags & uapi::VACCEL_BIND_NULL != 0 {
        let plain = args.bo == 0 && args.bo_offset == 0;
        return if plain { Ok(None) } else { Err(EINVAL) };
    }
    let object = bo::find(file, args.bo)?;
    let guest = object.guest()?;
    // An allocation belongs to the device that made it.
    if !kernel::sync::Arc::ptr_eq(&guest.device, &vm.device) {
        return Err(EINVAL);
    }
    let writes = args.flags & uapi::VACCEL_BIND_WRITE != 0;
    if writes && guest.flags & uapi::VACCEL_BO_READ_ONLY != 0 {
        return Err(EACCES);
    }
    // CAST: object sizes fit.
    range::pages_inside(args.bo_offset, args.size, object.size() as u64)
        .map_err(bo::range_error)?;
    Ok(Some(object))
}

/// Has the host map the range; returns its address and the paging fence value.
fn map(
    vm: &Vm,
    object: Option<&bo::Object>,
    args: &uapi::drm_vaccel_bind,
) -> HostResult<(Owned, (u64, u64))> {
    let process = &vm.device.process;
    let mut protection = Protection::EMPTY;
    for (flag, bit) in [
        (uapi::VACCEL_BIND_WRITE, Protection::WRITE),
        (uapi::VACCEL_BIND_EXECUTE, Protection::EXECUTE),
        (uapi::VACCEL_BIND_NULL, Protection::ZERO),
    ] {
        if args.flags & flag != 0 {
            protection = protection | bit;
        }
    }
    let fixed = args.flags & uapi::VACCEL_BIND_FIXED != 0;
    let allocation = match object {
        Some(object) => object.guest()?.allocation()?,
        None => Handle::NONE,
    };
    let request = Request::from(gpupv::MapGpuVirtualAddress {
        paging_queue: vm.paging_queue,
        base_address: args.gpu_va,
        minimum_address: if fixed { 0 } else { VA_MIN },
        maximum_address: if fixed { 0 } else { VA_MAX },
        allocation,
        offset_in_pages: args.bo_offset / gpupv::PAGE_SIZE,
        size_in_pages: args.size / gpupv::PAGE_SIZE,
        protection,
        ..Default::default()
    });
    let what = What::GpuVa {
        adapter: process.adapter.handle,
        base: args.gpu_va,
        size: args.size,
    };
    let wanted = args.gpu_va;
    process.create(&request, what, |answer| {
        let reply = &answer.reply;
        if fixed && reply.virtual_address != wanted {
            return Err(HostError::PROTOCOL);
        }
        Ok((reply.virtual_address, reply.paging_fence_value))
    })
}

/// Takes a residency reference of an allocation and notes its paging fence value.
fn make_resident(vm: &Vm, allocation: Handle) -> HostResult<Owned> {
    let allocations = [allocation];
    let request = Request::new(
        gpupv::MakeResident {
            paging_queue: vm.paging_queue,
            ..Default::default()
        },
        List::new(&allocations),
    )?;
    let what = What::Residency {
        device: vm.device.handle(),
        allocation,
    };
    let (owned, value) = vm
        .device
        .process
        .create(&request, what, |answer| Ok(answer.reply.paging_fence_value))?;
    vm.note_paging(value);
    Ok(owned)
}

/// `DRM_IOCTL_VACCEL_UNBIND`.
pub(crate) fn unbind(
    _dev: &DrmDevice,
    args: &mut uapi::drm_vaccel_bind,
    file: &DrmFile,
) -> HostResult {
    if args.bo != 0 || args.flags != 0 || args.bo_offset != 0 || args.reserved != [0; 2] {
        return Err(EINVAL.into());
    }
    range::pages_inside(args.gpu_va, args.size, VA_MAX + 1).map_err(bo::range_error)?;
    let vm = file.inner().vm(args.vm)?;
    vm.unbind(args.gpu_va, args.size)?;
    args.paging_value = vm.paging_value();
    Ok(())
}
