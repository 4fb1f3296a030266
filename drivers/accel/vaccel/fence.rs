// SPDX-License-Identifier: GPL-2.0-only

//! Monitored fences: 64-bit values in pages of the I/O space.
//!
//! The host writes the value; the driver reads it through its own mapping, so asking for a value
//! that is already reached never needs the host. Who waits for one that is not reached has a
//! [watch](crate::watch).
//!
//! The page of a fence belongs to nobody else (protocol 4.9), so it can be mapped into user space,
//! read-only. The mapping keeps the fence alive.

use core::sync::atomic::{
    AtomicI32,
    AtomicU64,
    Ordering, //
};

use kernel::prelude::*;
use kernel::sync::{
    new_mutex,
    new_spinlock_irq,
    Arc,
    Mutex,
    SetOnce,
    SpinLockIrq, //
};
use kernel::workqueue::{
    impl_has_work,
    new_work,
    Work, //
};

use crate::bindings::uapi;
use crate::bo::Bo;
use crate::client::{
    Client,
    FenceEntry,
    Object, //
};
use crate::device::Device;
use crate::driver::{
    DrmDevice,
    DrmFile, //
};
use crate::drm::gem;
use crate::fence_share::Shared;
use crate::gpupv::{
    self,
    Draft,
    GpuWaitTail,
    Handle,
    List,
    MonitoredFence,
    Request,
    SignalFlags,
    SignalTail,
    SyncObjectFlags,
    SyncObjectInfo, //
};
use crate::host_error::{
    HostError,
    HostResult, //
};
use crate::io::MemRemap;
use crate::link::reply_timeout_ms;
use crate::outbox::Outbox;
use crate::reaper::Owned;
use crate::release::What;
use crate::sync_import::ImportList;
use crate::turn::Turn;
use crate::watch::Watches;

/// The work that looks after the watches of a fence.
pub(crate) const LOOK_WORK: u64 = 0;

/// The work that has imports take effect.
pub(crate) const IMPORT_WORK: u64 = 1;

/// What the host sets a fence to when its device fails, so that nobody waits for it on the GPU. A
/// fence may also be set to it on purpose, so only the state of the device tells which it was.
const LOST: u64 = u64::MAX;

/// A monitored fence.
#[pin_data]
pub(crate) struct Fence {
    page: Arc<MemRemap>,
    /// The highest value seen since the fence was rewound. Changed with `watches` locked.
    reached: AtomicU64,
    /// Who signals from the CPU: one after the other, so that no lower value follows a higher one.
    #[pin]
    signaller: Turn,
    /// The highest value signalled from the CPU since it was rewound.
    signalled: AtomicU64,
    /// The highest value that is sure to be signalled in bounded time.
    promised: AtomicU64,
    /// The first error that was recorded, a negative errno, or 0.
    error: AtomicI32,
    #[pin]
    pub(crate) watches: SpinLockIrq<Watches>,
    next_watch: AtomicU64,
    #[pin]
    look: Work<Self, { LOOK_WORK }>,
    #[pin]
    pub(crate) imports: Mutex<ImportList>,
    #[pin]
    import: Work<Self, { IMPORT_WORK }>,
    gpu_va: u64,
    /// The sync object.
    handle: Handle,
    /// The number by which others open it, if it was made to be shared.
    pub(crate) global: Handle,
    /// What it is outside of its vm, once it was.
    pub(crate) shared: SetOnce<Arc<Shared>>,
    /// What goes with the fence: the sync object itself, or the paging queue it belongs to.
    _owned: Owned,
    pub(crate) device: Arc<Device>,
}

impl_has_work! {
    impl HasWork<Self, { LOOK_WORK }> for Fence { self.look }
    impl HasWork<Self, { IMPORT_WORK }> for Fence { self.import }
}

impl Fence {
    /// What the host has to know of a fence that is to be shared.
    pub(crate) const SHAREABLE: SyncObjectFlags =
        SyncObjectFlags::SHARED.union(SyncObjectFlags::NT_SECURITY_SHARING);

    /// Makes a fence.
    ///
    /// # Errors
    ///
    /// Those of [`Views::with_room`](crate::view::Views::with_room); `EIO` if the host places the
    /// value outside the I/O space, or says of a fence to be shared not how it is opened.
    pub(crate) fn new(
        device: Arc<Device>,
        initial_value: u64,
        flags: SyncObjectFlags,
    ) -> HostResult<Arc<Self>> {
        let info = SyncObjectInfo::monitored_fence(
            flags,
            &MonitoredFence {
                initial_value,
                ..Default::default()
            },
        );
        let request = Request::from(gpupv::CreateSyncObject::new(device.handle(), info));
        let process = &device.process;
        let (owned, (address, gpu_va, global)) = process.adapter.views.with_room(|| {
            let what = What::SyncObject(Handle::NONE);
            process.create(&request, what, |answer| {
                Ok((
                    answer.reply.fence_storage_address,
                    answer.reply.fence_gpu_va,
                    answer.reply.global_sync_object,
                ))
            })
        })?;
        let handle = owned.handle();
        if !flags.contains(SyncObjectFlags::SHARED) {
            return Self::at(device, address, gpu_va, handle, Handle::NONE, owned);
        }
        if global.is_none() {
            return Err(HostError::PROTOCOL);
        }
        Self::at(device, address, gpu_va, handle, global, owned)
    }

    /// Opens a fence in another device of the same virtual GPU.
    ///
    /// # Errors
    ///
    /// As [`Fence::new`].
    pub(crate) fn open(
        device: Arc<Device>,
        shared: Arc<Shared>,
        wait_only: bool,
    ) -> HostResult<Arc<Self>> {
        let flags = if wait_only {
            Self::SHAREABLE | SyncObjectFlags::NO_SIGNAL
        } else {
            Self::SHAREABLE
        };
        let fence = Self::open_by(device, shared.global(), flags)?;
        fence.shared.populate(shared);
        Ok(fence)
    }

    /// Opens the fence that all of the VM knows as `global`.
    fn open_by(
        device: Arc<Device>,
        global: Handle,
        flags: SyncObjectFlags,
    ) -> HostResult<Arc<Self>> {
        let request = Request::from(gpupv::OpenSyncObject {
            device: device.handle(),
            global_sync_object: global,
            engine_affinity: 0,
            flags,
        });
        let process = &device.process;
        let (owned, (address, gpu_va)) = process.adapter.views.with_room(|| {
            let what = What::SyncObject(Handle::NONE);
            process.create(&request, what, |answer| {
                Ok((
                    answer.reply.guest_cpu_physical_address,
                    answer.reply.gpu_virtual_address,
                ))
            })
        })?;
        let handle = owned.handle();
        Self::at(device, address, gpu_va, handle, global, owned)
    }

    /// A fence that user space cannot reach, but queues of other vms can wait for.
    ///
    /// # Errors
    ///
    /// Those of [`Fence::new`].
    pub(crate) fn internal(device: Arc<Device>) -> HostResult<Arc<Self>> {
        Self::new(device, 0, Self::SHAREABLE | SyncObjectFlags::NO_GPU_ACCESS)
    }

    /// The [internal](Fence::internal) fence as another device of the adapter knows it: its queues can
    /// wait for it.
    ///
    /// # Errors
    ///
    /// As [`Fence::new`].
    pub(crate) fn open_in(&self, device: &Arc<Device>) -> HostResult<Arc<Self>> {
        let flags = Self::SHAREABLE | SyncObjectFlags::NO_SIGNAL | SyncObjectFlags::NO_GPU_ACCESS;
        Self::open_by(device.clone(), self.global, flags)
    }

    /// The fence of a paging queue that was just made.
    ///
    /// # Errors
    ///
    /// `EIO` if the host places the value outside the I/O space; `ENOMEM`.
    pub(crate) fn of_paging_queue(
        device: Arc<Device>,
        address: u64,
        handle: Handle,
        owned: Owned,
    ) -> HostResult<Arc<Self>> {
        Self::at(device, address, 0, handle, Handle::NONE, owned)
    }

    fn at(
        device: Arc<Device>,
        address: u64,
        gpu_va: u64,
        handle: Handle,
        global: Handle,
        owned: Owned,
    ) -> HostResult<Arc<Self>> {
        let page = device.process.adapter.io.fence_page(address)?;
        Ok(Arc::pin_init(
            pin_init!(Self {
                page,
                reached: AtomicU64::new(0),
                signaller <- Turn::new(),
                signalled: AtomicU64::new(0),
                promised: AtomicU64::new(0),
                error: AtomicI32::new(0),
                watches <- new_spinlock_irq!(Watches::new(), "Fence::watches"),
                next_watch: AtomicU64::new(0),
                look <- new_work!("vaccel::Fence::look"),
                imports <- new_mutex!(ImportList::new(), "Fence::imports"),
                import <- new_work!("vaccel::Fence::import"),
                gpu_va,
                handle,
                global,
                shared: SetOnce::new(),
                _owned: owned,
                device,
            }),
            GFP_KERNEL,
        )?)
    }

    /// The host's handle.
    pub(crate) fn handle(&self) -> Handle {
        self.handle
    }

    /// The GPU address of the value, or 0.
    pub(crate) fn gpu_va(&self) -> u64 {
        self.gpu_va
    }

    /// The present value.
    pub(crate) fn value(&self) -> u64 {
        // Read with the lock: a value from before a rewind is not noted after it.
        let _watches = self.watches.lock();
        // The mapping is a page and the value its first word.
        let value = self.page.read_u64(0).unwrap_or(0);
        if value != LOST {
            self.reached.fetch_max(value, Ordering::Relaxed);
        }
        value
    }

    /// The highest value seen since it was rewound.
    pub(crate) fn reached(&self) -> u64 {
        self.reached.load(Ordering::Relaxed)
    }

    /// Notes that `value` was reached.
    pub(crate) fn note_reached(&self, value: u64) {
        let _watches = self.watches.lock();
        self.reached.fetch_max(value, Ordering::Relaxed);
    }

    /// Whether the value may say that the device failed rather than how far it got.
    pub(crate) fn is_lost(&self, value: u64) -> bool {
        value == LOST && self.reached() != LOST
    }

    /// Whether `value` has been seen reached since the fence was rewound; also if the device failed.
    pub(crate) fn has_reached(&self, value: u64) -> bool {
        self.reached() >= value || self.value() >= value
    }

    /// Whether `value` is seen to be reached, without asking anybody whether the device failed.
    pub(crate) fn is_seen_at(&self, value: u64) -> bool {
        self.reached() >= value || {
            let present = self.value();
            present >= value && !self.is_lost(present)
        }
    }

    /// The number of a new watch.
    pub(crate) fn next_watch(&self) -> u64 {
        self.next_watch.fetch_add(1, Ordering::Relaxed)
    }

    /// Records an error, unless there is one.
    pub(crate) fn record(&self, error: Error) {
        let _ =
            self.error
                .compare_exchange(0, error.to_errno(), Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The error that was recorded, a negative errno, or 0.
    pub(crate) fn recorded(&self) -> i32 {
        self.error.load(Ordering::Relaxed)
    }

    /// Notes that `value` will be signalled in bounded time.
    pub(crate) fn promise(&self, value: u64) {
        self.promised.fetch_max(value, Ordering::Relaxed);
    }

    /// Whether `value` is reached or sure to come. What was reached before a rewind does not count:
    /// the GPU looks at the present value.
    pub(crate) fn is_bounded(&self, value: u64) -> bool {
        self.promised.load(Ordering::Relaxed) >= value || self.value() >= value
    }

    /// Sets the value from the CPU.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a lower value without `rewind`; those of the host.
    pub(crate) fn signal(&self, value: u64, rewind: bool) -> HostResult {
        let _turn = self.signaller.take_killable()?;
        let asynchronous = self.device.process.adapter.transport.asynchronous;
        // What was told without an answer the page may not show yet, and a host that refuses it then
        // fails the device.
        let told = match asynchronous {
            true => self.signalled.load(Ordering::Relaxed),
            false => 0,
        };
        let present = self.value().max(told);
        if !rewind && value < present {
            // Unless it was set by a device that failed, or an adapter that goes, as the host may know
            // before the driver does.
            self.device.check()?;
            if present == LOST {
                self.check_lost()?;
            }
            return Err(EINVAL.into());
        }
        if rewind {
            return self.rewind(value);
        }
        self.send_signal(value, false)?;
        self.signalled.store(value, Ordering::Relaxed);
        Ok(())
    }

    /// Sets a lower value. Who waits already has what was reached, who comes later has not.
    fn rewind(&self, value: u64) -> HostResult {
        // What was promised so far may be undone by this.
        self.promised.store(0, Ordering::Relaxed);
        self.latch(self.signalled.load(Ordering::Relaxed));
        self.send_signal(value, true)?;
        if self.device.process.adapter.transport.asynchronous {
            // It is behind the message on the same channel, so its answer says that the value is set.
            self.device.ask_within(reply_timeout_ms())?;
        }
        let _watches = self.watches.lock();
        self.reached.store(value, Ordering::Relaxed);
        self.signalled.store(value, Ordering::Relaxed);
        Ok(())
    }

    fn send_signal(&self, value: u64, rewind: bool) -> HostResult {
        let flags = if rewind {
            SignalFlags::ALLOW_FENCE_REWIND
        } else {
            SignalFlags::EMPTY
        };
        let (objects, values) = ([self.handle], [value]);
        let request = Request::new(
            gpupv::SignalSyncObject::from_cpu(self.device.handle(), flags),
            SignalTail {
                objects: List::new(&objects),
                contexts: List::EMPTY,
                fence_values: List::new(&values),
            },
        )?;
        self.device.process.queue(&request)
    }

    /// Has a queue of the fence's device set the value when it gets there.
    ///
    /// # Errors
    ///
    /// Those of [`Process::queue`](crate::process::Process::queue).
    pub(crate) fn signal_in(&self, context: Handle, value: u64) -> HostResult {
        self.signal_by(&mut Outbox::open(&self.device.process), context, value)
    }

    /// As [`Fence::signal_in`], with other messages.
    ///
    /// # Errors
    ///
    /// Those of [`Outbox::queue`].
    pub(crate) fn signal_by(
        &self,
        outbox: &mut Outbox<'_>,
        context: Handle,
        value: u64,
    ) -> HostResult {
        let (objects, contexts, values) = ([self.handle], [context], [value]);
        let tail = SignalTail {
            objects: List::new(&objects),
            contexts: List::new(&contexts),
            fence_values: List::new(&values),
        };
        // There are no flags for this.
        outbox.queue(Draft::new(tail, |_: &mut gpupv::SignalSyncObject| {}))
    }

    /// Has a queue of the fence's device wait until the value is reached.
    ///
    /// # Errors
    ///
    /// Those of [`Process::queue`](crate::process::Process::queue).
    pub(crate) fn wait_in(&self, context: Handle, value: u64) -> HostResult {
        self.wait_by(&mut Outbox::open(&self.device.process), context, value)
    }

    /// As [`Fence::wait_in`], with other messages.
    ///
    /// # Errors
    ///
    /// Those of [`Outbox::queue`].
    pub(crate) fn wait_by(
        &self,
        outbox: &mut Outbox<'_>,
        context: Handle,
        value: u64,
    ) -> HostResult {
        let (values, objects) = ([value], [self.handle]);
        let tail = GpuWaitTail {
            fence_values: List::new(&values),
            objects: List::new(&objects),
        };
        let wait = |wait: &mut gpupv::WaitForSyncObjectFromGpu| wait.context = context;
        outbox.queue(Draft::new(tail, wait))
    }

    /// Whether `value` is reached.
    ///
    /// # Errors
    ///
    /// `ENODEV` or `EIO` if it will not be.
    pub(crate) fn is_over(&self, value: u64) -> HostResult<bool> {
        if self.device.process.adapter.is_stopping() {
            return Err(ENODEV.into());
        }
        // Reached before the device failed is reached.
        if self.reached() >= value {
            return Ok(true);
        }
        let present = self.value();
        if present < value {
            self.device.check()?;
            return Ok(false);
        }
        if present == LOST {
            self.check_lost()?;
            // It was set on purpose.
            self.note_reached(LOST);
        }
        Ok(true)
    }

    /// Whether the value [`LOST`] is one that somebody signalled.
    ///
    /// # Errors
    ///
    /// `EIO` if a device failed that sets it: the fence's own, or that of who made it.
    fn check_lost(&self) -> HostResult {
        self.device.ask_and_check()?;
        match self.shared.as_ref() {
            Some(shared) if !shared.is_from(self.device.cookie()) => Ok(shared.check_origin()?),
            _ => Ok(()),
        }
    }
}

/// `DRM_IOCTL_VACCEL_FENCE_CREATE`.
pub(crate) fn create(
    dev: &DrmDevice,
    args: &mut uapi::drm_vaccel_fence_create,
    file: &DrmFile,
) -> HostResult {
    let known = uapi::VACCEL_FENCE_SHAREABLE | uapi::VACCEL_FENCE_NO_MMAP;
    if args.flags & !known != 0 || args.reserved != [0; 2] {
        return Err(EINVAL.into());
    }
    let flags = if args.flags & uapi::VACCEL_FENCE_SHAREABLE != 0 {
        Fence::SHAREABLE
    } else {
        SyncObjectFlags::EMPTY
    };
    let client = file.inner();
    let vm = client.vm(args.vm)?;
    let fence = Fence::new(vm.device.clone(), args.initial_value, flags)?;
    let mappable = args.flags & uapi::VACCEL_FENCE_NO_MMAP == 0;
    let entry = publish(dev, file, fence, mappable, false)?;
    args.gpu_va = entry.fence.gpu_va;
    args.mmap_offset = entry.mmap_offset;
    args.fence = insert(&client, file, entry)?;
    Ok(())
}

/// Makes what a file needs to map the value of a fence.
///
/// # Errors
///
/// `ENOMEM` and the like.
pub(crate) fn publish(
    dev: &DrmDevice,
    file: &DrmFile,
    fence: Arc<Fence>,
    mappable: bool,
    of_vm: bool,
) -> Result<FenceEntry> {
    let (page, mmap_offset) = if mappable {
        // CAST: a page.
        let size = gpupv::PAGE_SIZE as usize;
        let pages = gem::io::IoPages::new(fence.page.clone(), 0, size)?;
        let object = gem::Object::new_io(dev, pages, Bo::fence_page(fence.clone()))?;
        let handle = object.create_handle(file)?;
        (handle, object.mmap_offset())
    } else {
        (0, 0)
    };
    Ok(FenceEntry {
        fence,
        page,
        mmap_offset,
        of_vm,
        wait_only: false,
    })
}

/// Gives a published fence its handle.
///
/// # Errors
///
/// Those of [`Client::insert`]; the page is then taken back.
pub(crate) fn insert(client: &Client, file: &DrmFile, entry: FenceEntry) -> Result<u32> {
    let (page, fence) = (entry.page, entry.fence.clone());
    client
        .insert(Object::Fence(entry))
        .inspect_err(|_| unpublish(file, page, &fence))
}

/// Takes back what lets a file map a fence. Mappings that exist stay.
pub(crate) fn unpublish(file: &DrmFile, page: u32, fence: &Arc<Fence>) {
    // User space may have closed the handle by itself, and it may name something else by now.
    let ours = page != 0
        && gem::Object::<Bo>::lookup(file, page).is_ok_and(|object| object.is_page_of(fence));
    if ours {
        let _ = gem::Object::<Bo>::delete_handle(file, page);
    }
}

/// `DRM_IOCTL_VACCEL_FENCE_DESTROY`.
pub(crate) fn destroy(
    _dev: &DrmDevice,
    args: &mut uapi::drm_vaccel_destroy,
    file: &DrmFile,
) -> HostResult {
    if args.pad != 0 {
        return Err(EINVAL.into());
    }
    let object = file.inner().remove(args.handle, |object| match object {
        Object::Fence(entry) if entry.of_vm => Err(EINVAL),
        Object::Fence(_) => Ok(()),
        _ => Err(ENOENT),
    })?;
    if let Object::Fence(entry) = object {
        unpublish(file, entry.page, &entry.fence);
    }
    Ok(())
}

/// `DRM_IOCTL_VACCEL_FENCE_SIGNAL`.
pub(crate) fn signal(
    _dev: &DrmDevice,
    args: &mut uapi::drm_vaccel_fence_signal,
    file: &DrmFile,
) -> HostResult {
    if args.flags & !uapi::VACCEL_SIGNAL_REWIND != 0 || args.pad != 0 {
        return Err(EINVAL.into());
    }
    let entry = file.inner().fence(args.fence)?;
    if entry.of_vm {
        return Err(EINVAL.into());
    }
    if entry.wait_only {
        return Err(EACCES.into());
    }
    let rewind = args.flags & uapi::VACCEL_SIGNAL_REWIND != 0;
    entry.fence.signal(args.value, rewind)
}

/// `DRM_IOCTL_VACCEL_FENCE_QUERY`.
pub(crate) fn query(
    _dev: &DrmDevice,
    args: &mut uapi::drm_vaccel_fence_query,
    file: &DrmFile,
) -> HostResult {
    if args.reserved != [0; 2] {
        return Err(EINVAL.into());
    }
    let entry = file.inner().fence(args.fence)?;
    args.error = entry.fence.recorded();
    args.value = entry.fence.value();
    args.gpu_va = entry.fence.gpu_va;
    args.mmap_offset = entry.mmap_offset;
    Ok(())
}
