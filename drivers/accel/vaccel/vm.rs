// SPDX-License-Identifier: GPL-2.0-only

//! GPU address spaces: a host device with a paging queue, and what is bound in it.
//!
//! # Locks
//!
//! `Vm::bindings` is held for list operations only; the host is asked before and after.
//!
//! # Lifetime
//!
//! A binding keeps its object alive, the object its host device, and neither the vm: so what is
//! still bound goes with the vm. Queues hold the vm, so they are gone by then.

use core::sync::atomic::{
    AtomicU64,
    Ordering, //
};

use kernel::prelude::*;
use kernel::rbtree::{
    RBTree,
    RBTreeNode, //
};
use kernel::sync::aref::ARef;
use kernel::sync::{
    new_mutex,
    Arc,
    Mutex, //
};

use crate::bindings::uapi;
use crate::bo;
use crate::client::Object;
use crate::device::Device;
use crate::driver::{
    DrmDevice,
    DrmFile, //
};
use crate::fence::{
    self,
    Fence, //
};
use crate::gpupv::{
    self,
    Handle,
    PagingQueuePriority,
    Request, //
};
use crate::host_error::HostResult;
use crate::reaper::Owned;
use crate::release::What;

/// A range of GPU addresses in use. Dropping it frees the range, then the residency, then the
/// object.
pub(crate) struct Binding {
    size: u64,
    range: Owned,
    residency: Option<Owned>,
    _object: Option<ARef<bo::Object>>,
}

impl Binding {
    /// A binding of `size` bytes, and what it is made of.
    pub(crate) fn new(
        size: u64,
        range: Owned,
        residency: Option<Owned>,
        object: Option<ARef<bo::Object>>,
    ) -> Self {
        Self {
            size,
            range,
            residency,
            _object: object,
        }
    }

    /// Ends the binding and waits for the host, so that the range can be bound again.
    ///
    /// # Errors
    ///
    /// Those of [`Owned::give_back`].
    pub(crate) fn end(self) -> HostResult {
        self.range.give_back()?;
        self.residency.map_or(Ok(()), Owned::give_back)
    }
}

/// A GPU address space.
#[pin_data]
pub(crate) struct Vm {
    #[pin]
    bindings: Mutex<RBTree<u64, Binding>>,
    /// Fence of the paging queue; holds the queue.
    pub(crate) paging_fence: Arc<Fence>,
    /// The host's handle of the paging queue.
    pub(crate) paging_queue: Handle,
    /// What later submissions have to wait for.
    paging_value: AtomicU64,
    /// Whether user space keeps its objects resident by itself.
    pub(crate) manual_residency: bool,
    pub(crate) device: Arc<Device>,
}

impl Vm {
    fn new(device: Arc<Device>, manual_residency: bool) -> HostResult<Arc<Self>> {
        let request = Request::from(gpupv::CreatePagingQueue::new(
            device.handle(),
            PagingQueuePriority::NORMAL,
        ));
        let what = What::PagingQueue(Handle::NONE);
        let (owned, (fence, address)) = device.process.create(&request, what, |answer| {
            Ok((
                answer.reply.sync_object,
                answer.reply.fence_storage_physical_address,
            ))
        })?;
        let paging_queue = owned.handle();
        let paging_fence = Fence::of_paging_queue(device.clone(), address, fence, owned)?;
        Ok(Arc::pin_init(
            pin_init!(Self {
                bindings <- new_mutex!(RBTree::new()),
                paging_fence,
                paging_queue,
                paging_value: AtomicU64::new(0),
                manual_residency,
                device,
            }),
            GFP_KERNEL,
        )?)
    }

    /// Notes that later submissions have to wait for `value` of the paging fence.
    pub(crate) fn note_paging(&self, value: u64) {
        self.paging_value.fetch_max(value, Ordering::Release);
    }

    /// The value of the paging fence at which everything asked for so far holds.
    pub(crate) fn paging_value(&self) -> u64 {
        self.paging_value.load(Ordering::Acquire)
    }

    /// Enters a binding at `gpu_va`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`. `EIO` if there is one at this address: the host gave it twice.
    pub(crate) fn bind(&self, gpu_va: u64, binding: Binding) -> Result {
        let node = RBTreeNode::new(gpu_va, binding, GFP_KERNEL)?;
        let mut bindings = self.bindings.lock();
        if bindings.get(&gpu_va).is_some() {
            drop(bindings);
            drop(node);
            return Err(EIO);
        }
        bindings.insert(node);
        Ok(())
    }

    /// Takes out the binding of exactly `size` bytes at `gpu_va`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is none.
    pub(crate) fn unbind(&self, gpu_va: u64, size: u64) -> Result<Binding> {
        let mut bindings = self.bindings.lock();
        match bindings.get(&gpu_va) {
            Some(binding) if binding.size == size => bindings.remove(&gpu_va).ok_or(EINVAL),
            _ => Err(EINVAL),
        }
    }

    /// Whether a binding shares an address with `gpu_va..gpu_va + size`.
    pub(crate) fn is_bound(&self, gpu_va: u64, size: u64) -> bool {
        self.bindings.lock().iter().any(|(start, binding)| {
            crate::logic::range::overlap((*start, binding.size), (gpu_va, size))
        })
    }
}

/// `DRM_IOCTL_VACCEL_VM_CREATE`.
pub(crate) fn create(
    dev: &DrmDevice,
    args: &mut uapi::drm_vaccel_vm_create,
    file: &DrmFile,
) -> HostResult {
    if args.flags & !uapi::VACCEL_VM_MANUAL_RESIDENCY != 0 || args.reserved != [0; 4] {
        return Err(EINVAL.into());
    }
    let client = file.inner();
    let manual = args.flags & uapi::VACCEL_VM_MANUAL_RESIDENCY != 0;
    let vm = Vm::new(Device::new(client.process.clone())?, manual)?;
    let paging_fence = vm.paging_fence.clone();
    let entry = fence::publish(dev, file, paging_fence, true, true)?;
    let page = entry.page;
    let fence = fence::insert(&client, file, entry)?;
    args.vm = client.insert(Object::Vm(vm)).inspect_err(|_| {
        let _ = client.remove(fence, |_| Ok(()));
        fence::unpublish(file, page);
    })?;
    args.paging_fence = fence;
    Ok(())
}

/// `DRM_IOCTL_VACCEL_VM_DESTROY`.
pub(crate) fn destroy(
    _dev: &DrmDevice,
    args: &mut uapi::drm_vaccel_destroy,
    file: &DrmFile,
) -> HostResult {
    if args.pad != 0 {
        return Err(EINVAL.into());
    }
    let client = file.inner();
    let object = client.remove(args.handle, |object| match object {
        Object::Vm(_) => Ok(()),
        _ => Err(ENOENT),
    })?;
    if let Object::Vm(vm) = object {
        let fence = client.paging_fence_of(&vm);
        if let Some(Object::Fence(entry)) =
            fence.and_then(|fence| client.remove(fence, |_| Ok(())).ok())
        {
            fence::unpublish(file, entry.page);
        }
    }
    Ok(())
}

/// `DRM_IOCTL_VACCEL_VM_QUERY`.
pub(crate) fn query(
    _dev: &DrmDevice,
    args: &mut uapi::drm_vaccel_vm_query,
    file: &DrmFile,
) -> HostResult {
    if args.reserved != [0; 2] {
        return Err(EINVAL.into());
    }
    let vm = file.inner().vm(args.vm)?;
    args.state = vm.device.state()?;
    args.fault_gpu_va = 0;
    args.fault_flags = 0;
    args.paging_value = vm.paging_value();
    if args.state == uapi::VACCEL_STATE_PAGE_FAULT {
        let fault = vm.device.page_fault()?;
        args.fault_gpu_va = fault.address;
        args.fault_flags = fault.flags.bits();
    }
    Ok(())
}
