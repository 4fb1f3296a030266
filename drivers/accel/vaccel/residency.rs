// SPDX-License-Identifier: GPL-2.0-only

//! Residency by hand: `DRM_IOCTL_VACCEL_RESIDENCY`.
//!
//! References are counted per object, so that nobody evicts what a binding or somebody else keeps
//! resident.

use core::sync::atomic::{
    AtomicU32,
    Ordering, //
};

use kernel::prelude::*;
use kernel::sync::aref::ARef;
use kernel::sync::Arc;

use crate::bindings::uapi;
use crate::bo::{
    self,
    ArgRef, //
};
use crate::driver::{
    DrmDevice,
    DrmFile, //
};
use crate::gpupv::{
    self,
    Handle,
    List,
    Request, //
};
use crate::host_error::{
    HostError,
    HostResult, //
};
use crate::vm::Vm;

/// References that user space took by hand.
pub(crate) struct Count(AtomicU32);

impl Count {
    /// None.
    pub(crate) const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    fn take(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Gives one back; false if there is none.
    fn give(&self) -> bool {
        let one_less = |count: u32| count.checked_sub(1);
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
            .is_ok()
    }
}

/// `DRM_IOCTL_VACCEL_RESIDENCY`.
pub(crate) fn change(
    _dev: &DrmDevice,
    args: &mut uapi::drm_vaccel_residency,
    file: &DrmFile,
) -> HostResult {
    if args.flags != 0 || args.pad != 0 || args.reserved != [0; 2] || args.count == 0 {
        return Err(EINVAL.into());
    }
    match args.op {
        uapi::VACCEL_RESIDENCY_RESIDENT | uapi::VACCEL_RESIDENCY_EVICT => {}
        uapi::VACCEL_RESIDENCY_OFFER
        | uapi::VACCEL_RESIDENCY_RECLAIM
        | uapi::VACCEL_RESIDENCY_PRIORITY => return Err(EOPNOTSUPP.into()),
        _ => return Err(EINVAL.into()),
    }
    if args.priority != 0 {
        return Err(EINVAL.into());
    }
    if args.count > uapi::VACCEL_RESIDENCY_MAX {
        return Err(EFBIG.into());
    }
    let vm = file.inner().vm(args.vm)?;
    let objects = objects(args, file, &vm)?;
    vm.device.check()?;
    args.bytes_to_trim = 0;
    if args.op == uapi::VACCEL_RESIDENCY_RESIDENT {
        resident(args, &vm, &objects)?;
    } else {
        evict(args, &vm, &objects)?;
    }
    args.paging_value = vm.paging_value();
    Ok(())
}

/// Reads the list and finds its objects.
fn objects(
    args: &uapi::drm_vaccel_residency,
    file: &DrmFile,
    vm: &Vm,
) -> Result<KVVec<ARef<bo::Object>>> {
    const ENTRY: usize = size_of::<uapi::drm_vaccel_residency_entry>();
    let count = args.count as usize;
    let list = ArgRef::new(file, args.arg_bo, args.arg_offset, count * ENTRY)?.read()?;
    let mut objects = KVVec::with_capacity(count, GFP_KERNEL)?;
    for entry in list.chunks_exact(ENTRY) {
        let entry = uapi::drm_vaccel_residency_entry::read_from_bytes(entry).map_err(|_| EINVAL)?;
        let object = bo::find(file, entry.bo)?;
        if !Arc::ptr_eq(&object.guest()?.device, &vm.device) {
            return Err(EINVAL);
        }
        objects.push(object, GFP_KERNEL)?;
    }
    Ok(objects)
}

fn handles(objects: &[ARef<bo::Object>]) -> Result<KVVec<Handle>> {
    let mut handles = KVVec::with_capacity(objects.len(), GFP_KERNEL)?;
    for object in objects {
        handles.push(object.guest()?.allocation()?, GFP_KERNEL)?;
    }
    Ok(handles)
}

fn resident(
    args: &mut uapi::drm_vaccel_residency,
    vm: &Vm,
    objects: &[ARef<bo::Object>],
) -> HostResult {
    let handles = handles(objects)?;
    let request = Request::new(
        gpupv::MakeResident {
            paging_queue: vm.paging_queue,
            ..Default::default()
        },
        List::new(&handles),
    )?;
    let reply = vm.device.process.ask(&request, |answer| Ok(answer.reply))?;
    if reply.status.is_error() {
        args.bytes_to_trim = reply.num_bytes_to_trim;
        return Err(HostError::refused(reply.status));
    }
    for object in objects {
        object.guest()?.residents.take();
    }
    vm.note_paging(reply.paging_fence_value);
    Ok(())
}

fn evict(
    args: &mut uapi::drm_vaccel_residency,
    vm: &Vm,
    objects: &[ARef<bo::Object>],
) -> HostResult {
    let handles = handles(objects)?;
    for (at, object) in objects.iter().enumerate() {
        if !object.guest()?.residents.give() {
            take_again(objects.get(..at).unwrap_or_default())?;
            return Err(EINVAL.into());
        }
    }
    let request = Request::new(
        gpupv::Evict {
            device: vm.device.handle(),
            ..Default::default()
        },
        List::new(&handles),
    )?;
    let answer = vm.device.process.call(&request, |answer| Ok(answer.reply));
    match answer {
        Ok(reply) => {
            args.bytes_to_trim = reply.num_bytes_to_trim;
            Ok(())
        }
        Err(error) => {
            take_again(objects)?;
            Err(error)
        }
    }
}

/// All or nothing: gives the objects back the references that were taken from them.
fn take_again(objects: &[ARef<bo::Object>]) -> Result {
    for object in objects {
        object.guest()?.residents.take();
    }
    Ok(())
}
