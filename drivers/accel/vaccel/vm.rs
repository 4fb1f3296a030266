// SPDX-License-Identifier: GPL-2.0-only

//! GPU address spaces: a host device with a paging queue, and what is bound in it.
//!
//! # Locks
//!
//! `Vm::queues` is held for list operations only. Submissions are inside of `Vm::gate`; who evicts an
//! idle vm closes it, with what the host has to answer meanwhile, which needs no submission.
//!
//! # Lifetime
//!
//! A binding keeps its object alive, the object its host device, and neither the vm: so what is
//! still bound goes with the vm. Queues hold the vm, so they are gone by then.

use core::sync::atomic::{
    AtomicBool,
    AtomicU64,
    AtomicUsize,
    Ordering, //
};

use kernel::prelude::*;
use kernel::sync::{
    new_mutex,
    Arc,
    Mutex, //
};

use crate::allocation::{
    self,
    Refusal, //
};
use crate::backed::Backed;
use crate::bindings::uapi;
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
use crate::gate::Gate;
use crate::gpupv::{
    self,
    Handle,
    PagingQueuePriority,
    Request, //
};
use crate::host_error::HostResult;
use crate::logic::range;
use crate::progress::{
    Patience,
    Progress, //
};
use crate::release::{
    Counted,
    What, //
};
use crate::space::Space;
use crate::turn::Turn;

/// GPU addresses the host may choose from when the caller does not.
pub(crate) const VA_MIN: u64 = 1 << 16;
/// Last of them.
pub(crate) const VA_MAX: u64 = (1 << 47) - 1;

/// Checks that a range from user space is whole pages of the address space.
///
/// # Errors
///
/// A [`RangeError`](range::RangeError).
pub(crate) fn check_pages(start: u64, size: u64) -> Result<u64, range::RangeError> {
    range::pages_inside(start, size, VA_MAX + 1)
}

/// Checks an address that the host gave for `size` bytes.
///
/// # Errors
///
/// `EIO` if it cannot be.
pub(crate) fn check_range(start: u64, size: u64) -> Result {
    check_pages(start, size).map(|_| ()).map_err(|_| EIO)
}

/// A GPU address space, or rather what one vm has of its file's.
#[pin_data(PinnedDrop)]
pub(crate) struct Vm {
    /// What submissions go through; closed while the vm is evicted.
    #[pin]
    pub(crate) gate: Gate,
    /// Who makes an evicted vm resident again.
    #[pin]
    revival: Turn,
    /// Whether bindings have lost their residency.
    evicted: AtomicBool,
    #[pin]
    queues: Mutex<KVec<Arc<Progress>>>,
    /// The queues there are for the host: also those that it has not yet acknowledged to be gone,
    /// whose work may still run.
    contexts: Arc<AtomicUsize>,
    /// Fence of the paging queue; holds the queue.
    pub(crate) paging_fence: Arc<Fence>,
    /// The host's handle of the paging queue.
    pub(crate) paging_queue: Handle,
    /// What later submissions have to wait for.
    paging_value: AtomicU64,
    /// What every later submission has to wait for, because the driver evicted it by itself.
    revived_value: AtomicU64,
    /// Whether user space keeps its objects resident by itself.
    pub(crate) manual_residency: bool,
    /// Tells the vms of a file apart in [`Vm::space`].
    pub(crate) id: u64,
    /// The addresses of the file.
    pub(crate) space: Arc<Space>,
    pub(crate) device: Arc<Device>,
}

#[pinned_drop]
impl PinnedDrop for Vm {
    fn drop(self: Pin<&mut Self>) {
        self.space.forget(self.id);
        self.device.retire();
    }
}

impl Vm {
    fn new(
        device: Arc<Device>,
        space: Arc<Space>,
        manual_residency: bool,
    ) -> HostResult<Arc<Self>> {
        let request = Request::from(gpupv::CreatePagingQueue::new(
            device.handle(),
            PagingQueuePriority::NORMAL,
        ));
        let process = &device.process;
        // Its fence takes a page of the I/O space.
        let (owned, (fence, address)) = process.adapter.views.with_room(|| {
            let what = What::PagingQueue(Handle::NONE);
            process.create(&request, what, |answer| {
                Ok((
                    answer.reply.sync_object,
                    answer.reply.fence_storage_physical_address,
                ))
            })
        })?;
        let paging_queue = owned.handle();
        let paging_fence = Fence::of_paging_queue(device.clone(), address, fence, owned)?;
        let id = device.cookie();
        let contexts = Arc::new(AtomicUsize::new(0), GFP_KERNEL)?;
        Ok(Arc::pin_init(
            pin_init!(Self {
                gate <- Gate::new(),
                revival <- Turn::new(),
                evicted: AtomicBool::new(false),
                queues <- new_mutex!(KVec::new(), "Vm::queues"),
                contexts,
                paging_fence,
                paging_queue,
                paging_value: AtomicU64::new(0),
                revived_value: AtomicU64::new(0),
                manual_residency,
                id,
                space,
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

    /// The value of the paging fence at which what [`Vm::revive`] asked for holds.
    pub(crate) fn revived_value(&self) -> u64 {
        self.revived_value.load(Ordering::Acquire)
    }

    /// Counts a context that the host made for the vm, for as long as the host has it.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn count_context(&self) -> Result<Counted> {
        Counted::new(&self.contexts)
    }

    /// Enters a queue.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn add_queue(&self, progress: Arc<Progress>) -> Result {
        Ok(self.queues.lock().push(progress, GFP_KERNEL)?)
    }

    /// Takes a queue out.
    pub(crate) fn remove_queue(&self, progress: &Arc<Progress>) {
        self.queues
            .lock()
            .retain(|known| !Arc::ptr_eq(known, progress));
    }

    /// All queues, kept from being destroyed.
    fn queues(&self) -> Result<KVec<Arc<Progress>>> {
        let mut all = KVec::new();
        for progress in self.queues.lock().iter() {
            all.push(progress.clone(), GFP_KERNEL)?;
        }
        Ok(all)
    }

    /// Evicts what the vm has bound, if it keeps its bindings resident and none of its queues has
    /// anything to do. They become resident again by [`Vm::revive`]. Says whether something was
    /// evicted.
    ///
    /// # Errors
    ///
    /// Those of the host; `EINTR` if killed, `ENOMEM`.
    pub(crate) fn evict_if_idle(&self, patience: &Patience) -> HostResult<bool> {
        if self.manual_residency {
            return Ok(false);
        }
        let Some(_closed) = self.gate.try_close() else {
            return Ok(false);
        };
        if !self.has_idle_queues(patience)? {
            return Ok(false);
        }
        let all = self.space.all_backed(self.id)?;
        let mut taken = KVVec::with_capacity(all.len(), GFP_KERNEL)?;
        self.evicted.store(true, Ordering::Release);
        for residency in all.iter().filter_map(|backed| backed.take_residency()) {
            // Room for it was taken.
            let _ = taken.push(residency, GFP_KERNEL);
        }
        let any = !taken.is_empty();
        allocation::evict_all(&self.device, taken)?;
        Ok(any)
    }

    /// Whether no queue has anything to do, also none of those that are being destroyed. The caller
    /// has closed the gate.
    fn has_idle_queues(&self, patience: &Patience) -> HostResult<bool> {
        let queues = self.queues()?;
        // Those in `queues` are counted as long as it exists; any more are being made or destroyed.
        if self.contexts.load(Ordering::Acquire) != queues.len() {
            return Ok(false);
        }
        for queue in &queues {
            if !queue.is_idle(&self.device, patience)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether the driver evicted something that has to be made resident before the vm works on.
    pub(crate) fn needs_revival(&self) -> bool {
        self.evicted.load(Ordering::Acquire)
    }

    /// Makes what was evicted resident again, for a submission that is about to be made.
    ///
    /// # Errors
    ///
    /// A [`Refusal`]; what was made resident stays so.
    pub(crate) fn revive(
        &self,
        mut make_resident: impl FnMut(&Backed) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        if !self.evicted.load(Ordering::Acquire) {
            return Ok(());
        }
        let _turn = self.revival.take()?;
        if !self.evicted.load(Ordering::Acquire) {
            return Ok(());
        }
        for backed in &self.space.all_backed(self.id)? {
            make_resident(backed)?;
        }
        self.revived_value
            .fetch_max(self.paging_value(), Ordering::Release);
        self.evicted.store(false, Ordering::Release);
        Ok(())
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
    let device = Device::new(client.process.clone())?;
    let vm = Vm::new(device, client.space.clone(), manual)?;
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
