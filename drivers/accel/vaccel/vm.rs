// SPDX-License-Identifier: GPL-2.0-only

//! GPU address spaces: a host device with a paging queue, and what is bound in it.
//!
//! # Locks
//!
//! `Vm::ranges` is held for list operations only; the host is asked before and after.
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
use crate::logic::range::overlap;
use crate::reaper::Owned;
use crate::release::What;

/// What a range of GPU addresses is bound to. Dropping it frees the range, then the residency, then
/// the object.
pub(crate) struct Binding {
    range: Owned,
    residency: Option<Owned>,
    _object: Option<ARef<bo::Object>>,
}

impl Binding {
    /// A binding, made of its parts.
    pub(crate) fn new(
        range: Owned,
        residency: Option<Owned>,
        object: Option<ARef<bo::Object>>,
    ) -> Self {
        Self {
            range,
            residency,
            _object: object,
        }
    }

    /// Ends the binding and waits for the host.
    ///
    /// # Errors
    ///
    /// Those of [`Owned::give_back`].
    fn end(self) -> HostResult {
        self.range.give_back()?;
        self.residency.map_or(Ok(()), Owned::give_back)
    }
}

/// A range of GPU addresses that is not free.
struct Range {
    size: u64,
    /// None while it is being bound or unbound.
    binding: Option<Binding>,
}

/// A GPU address space.
#[pin_data]
pub(crate) struct Vm {
    #[pin]
    ranges: Mutex<RBTree<u64, Range>>,
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
                ranges <- new_mutex!(RBTree::new()),
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

    /// Takes a range of addresses that is about to be bound.
    ///
    /// # Errors
    ///
    /// `EEXIST` if part of it is not free, `ENOMEM`.
    pub(crate) fn reserve(&self, gpu_va: u64, size: u64) -> Result {
        let range = Range {
            size,
            binding: None,
        };
        let node = RBTreeNode::new(gpu_va, range, GFP_KERNEL)?;
        let mut ranges = self.ranges.lock();
        let taken = ranges
            .iter()
            .any(|(start, range)| overlap((*start, range.size), (gpu_va, size)));
        if taken {
            drop(ranges);
            drop(node);
            return Err(EEXIST);
        }
        ranges.insert(node);
        Ok(())
    }

    /// Fills a reserved range.
    pub(crate) fn bind(&self, gpu_va: u64, binding: Binding) {
        if let Some(range) = self.ranges.lock().get_mut(&gpu_va) {
            range.binding = Some(binding);
        }
    }

    /// Enters a binding at an address that the host chose.
    ///
    /// A range that is just being unbound may be in the way: the host has freed it already, or it
    /// would not have chosen it.
    ///
    /// # Errors
    ///
    /// `EIO` if the host gave away what is bound, `ENOMEM`.
    pub(crate) fn bind_chosen(&self, gpu_va: u64, size: u64, binding: Binding) -> Result {
        let range = Range {
            size,
            binding: Some(binding),
        };
        let node = RBTreeNode::new(gpu_va, range, GFP_KERNEL)?;
        let mut ranges = self.ranges.lock();
        let bound = ranges.iter().any(|(start, range)| {
            range.binding.is_some() && overlap((*start, range.size), (gpu_va, size))
        });
        if bound {
            drop(ranges);
            drop(node);
            return Err(EIO);
        }
        ranges.insert(node);
        Ok(())
    }

    /// Frees a range unless it is bound.
    pub(crate) fn release(&self, gpu_va: u64) {
        let mut ranges = self.ranges.lock();
        if ranges
            .get(&gpu_va)
            .is_some_and(|range| range.binding.is_none())
        {
            ranges.remove(&gpu_va);
        }
    }

    /// Unbinds exactly `size` bytes at `gpu_va`. They can be bound again when the host has answered.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is no such binding; those of the host.
    pub(crate) fn unbind(&self, gpu_va: u64, size: u64) -> HostResult {
        let binding = match self.ranges.lock().get_mut(&gpu_va) {
            Some(range) if range.size == size => range.binding.take(),
            _ => None,
        };
        let ended = binding.ok_or(EINVAL)?.end();
        self.release(gpu_va);
        ended
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
    let vm_fence = vm.paging_fence.clone();
    let entry = fence::publish(dev, file, vm_fence.clone(), true, true)?;
    let page = entry.page;
    let fence = fence::insert(&client, file, entry)?;
    args.vm = client.insert(Object::Vm(vm)).inspect_err(|_| {
        let _ = client.remove(fence, |_| Ok(()));
        fence::unpublish(file, page, &vm_fence);
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
            fence::unpublish(file, entry.page, &entry.fence);
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
