// SPDX-License-Identifier: GPL-2.0-only

//! Monitored fences: 64-bit values in pages of the I/O space.
//!
//! The host writes the value; the driver reads it through its own mapping, so asking for a value
//! that is already reached never needs the host. Waiting for one that is not reached registers a
//! guest event with the host and sleeps.
//!
//! The page of a fence belongs to nobody else (protocol 4.9), so it can be mapped into user space,
//! read-only. The mapping keeps the fence alive.

use core::sync::atomic::{
    AtomicU64,
    Ordering, //
};

use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::time::{
    msecs_to_jiffies,
    ClockSource,
    Monotonic, //
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
use crate::events::Waiting;
use crate::gpupv::{
    self,
    CpuWaitTail,
    Handle,
    List,
    MonitoredFence,
    Request,
    SignalFlags,
    SignalTail,
    SyncObjectFlags,
    SyncObjectInfo,
    WaitFromCpuFlags, //
};
use crate::host_error::HostResult;
use crate::io::MemRemap;
use crate::reaper::Owned;
use crate::release::What;
use crate::sync;

/// Longest sleep of a waiter before it looks by itself, in case the host forgot it.
const WAIT_SLICE_MS: u32 = 10_000;

/// What the host sets a fence to when its device fails, so that nobody waits for it on the GPU. A
/// fence may also be set to it on purpose, so only the state of the device tells which it was.
const LOST: u64 = u64::MAX;

/// A monitored fence.
pub(crate) struct Fence {
    page: Arc<MemRemap>,
    /// The highest value seen: once reached, always reached.
    reached: AtomicU64,
    /// The highest value that work on bounded queues was queued to signal.
    promised: AtomicU64,
    gpu_va: u64,
    /// The sync object.
    handle: Handle,
    /// What goes with the fence: the sync object itself, or the paging queue it belongs to.
    _owned: Owned,
    pub(crate) device: Arc<Device>,
}

impl Fence {
    /// Makes a fence.
    ///
    /// # Errors
    ///
    /// Those of [`Views::with_room`](crate::view::Views::with_room); `EIO` if the host places the
    /// value outside the I/O space.
    pub(crate) fn new(device: Arc<Device>, initial_value: u64) -> HostResult<Arc<Self>> {
        let info = SyncObjectInfo::monitored_fence(
            SyncObjectFlags::EMPTY,
            &MonitoredFence {
                initial_value,
                ..Default::default()
            },
        );
        let request = Request::from(gpupv::CreateSyncObject::new(device.handle(), info));
        let process = &device.process;
        let (owned, (address, gpu_va)) = process.adapter.views.with_room(|| {
            let what = What::SyncObject(Handle::NONE);
            process.create(&request, what, |answer| {
                Ok((
                    answer.reply.fence_storage_address,
                    answer.reply.fence_gpu_va,
                ))
            })
        })?;
        let handle = owned.handle();
        Self::at(device, address, gpu_va, handle, owned)
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
        Self::at(device, address, 0, handle, owned)
    }

    fn at(
        device: Arc<Device>,
        address: u64,
        gpu_va: u64,
        handle: Handle,
        owned: Owned,
    ) -> HostResult<Arc<Self>> {
        let page = device.process.adapter.io.fence_page(address)?;
        Ok(Arc::new(
            Self {
                page,
                reached: AtomicU64::new(0),
                promised: AtomicU64::new(0),
                gpu_va,
                handle,
                _owned: owned,
                device,
            },
            GFP_KERNEL,
        )?)
    }

    /// The host's handle.
    pub(crate) fn handle(&self) -> Handle {
        self.handle
    }

    /// The present value.
    pub(crate) fn value(&self) -> u64 {
        // The mapping is a page and the value its first word.
        let value = self.page.read_u64(0).unwrap_or(0);
        if value != LOST {
            self.reached.fetch_max(value, Ordering::Relaxed);
        }
        value
    }

    /// Whether `value` has ever been seen reached; also if the device failed.
    pub(crate) fn has_reached(&self, value: u64) -> bool {
        self.reached.load(Ordering::Relaxed) >= value || self.value() >= value
    }

    /// Notes that bounded work will signal `value`.
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
    fn signal(&self, value: u64, rewind: bool) -> HostResult {
        if !rewind && value < self.value() {
            return Err(EINVAL.into());
        }
        if rewind {
            // What was promised so far may be undone by this.
            self.promised.store(0, Ordering::Relaxed);
        }
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
        let (objects, contexts, values) = ([self.handle], [context], [value]);
        let request = Request::new(
            gpupv::SignalSyncObject {
                flags: SignalFlags::EMPTY,
                ..Default::default()
            },
            SignalTail {
                objects: List::new(&objects),
                contexts: List::new(&contexts),
                fence_values: List::new(&values),
            },
        )?;
        self.device.process.queue(&request)
    }

    /// Waits until `value` is reached.
    ///
    /// # Errors
    ///
    /// `ETIME` after `deadline_ns`, `ERESTARTSYS` on a signal (the deadline is absolute), `EIO` if
    /// the device is in error, `ENODEV` if the adapter goes.
    fn wait(&self, value: u64, deadline_ns: u64) -> HostResult {
        let mut waiting = None;
        while !self.is_over(value)? {
            if remaining_ms(deadline_ns) == 0 {
                return Err(ETIME.into());
            }
            waiting = match waiting {
                None => Some(self.register(value)?),
                Some(waiting) => sleep(waiting, deadline_ns)?,
            };
        }
        Ok(())
    }

    /// Whether `value` is reached.
    ///
    /// # Errors
    ///
    /// `ENODEV` or `EIO` if it will not be.
    fn is_over(&self, value: u64) -> HostResult<bool> {
        if self.device.process.adapter.is_stopping() {
            return Err(ENODEV.into());
        }
        // Reached before the device failed is reached.
        if self.reached.load(Ordering::Relaxed) >= value {
            return Ok(true);
        }
        let present = self.value();
        if present < value {
            self.device.check()?;
            return Ok(false);
        }
        if present == LOST {
            self.device.ask_and_check()?;
        }
        Ok(true)
    }

    /// Has the host tell when `value` is reached.
    ///
    /// Whatever is announced from here on wakes the waiter; the caller looks once more for what was
    /// announced before.
    fn register(&self, value: u64) -> HostResult<Waiting> {
        let waiting = self
            .device
            .process
            .adapter
            .events
            .wait(self.device.cookie())?;
        let (objects, values) = ([self.handle], [value]);
        let request = Request::new(
            gpupv::WaitForSyncObjectFromCpu::new(
                self.device.handle(),
                WaitFromCpuFlags::EMPTY,
                waiting.id(),
            ),
            CpuWaitTail {
                objects: List::new(&objects),
                fence_values: List::new(&values),
            },
        )?;
        self.device.process.call(&request, |_| Ok(()))?;
        Ok(waiting)
    }
}

/// Sleeps until something happens; gives the registration back if it is still good.
fn sleep(waiting: Waiting, deadline_ns: u64) -> Result<Option<Waiting>> {
    let slice = msecs_to_jiffies(remaining_ms(deadline_ns).min(WAIT_SLICE_MS));
    match waiting.done().wait_interruptible_timeout(slice) {
        sync::Wait::Done => Ok(None),
        sync::Wait::TimedOut => Ok(Some(waiting)),
        sync::Wait::Signal => Err(ERESTARTSYS),
    }
}

/// Milliseconds from now to `deadline_ns`, rounded up.
fn remaining_ms(deadline_ns: u64) -> u32 {
    let now = Monotonic::ktime_get();
    // CAST: the monotonic clock is never negative.
    let left = deadline_ns.saturating_sub(now as u64).div_ceil(1_000_000);
    u32::try_from(left).unwrap_or(u32::MAX)
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
    if args.flags & uapi::VACCEL_FENCE_SHAREABLE != 0 {
        return Err(EOPNOTSUPP.into());
    }
    let client = file.inner();
    let vm = client.vm(args.vm)?;
    let fence = Fence::new(vm.device.clone(), args.initial_value)?;
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
    args.error = 0;
    args.value = entry.fence.value();
    args.gpu_va = entry.fence.gpu_va;
    args.mmap_offset = entry.mmap_offset;
    Ok(())
}

/// `DRM_IOCTL_VACCEL_FENCE_WAIT`.
pub(crate) fn wait(
    _dev: &DrmDevice,
    args: &mut uapi::drm_vaccel_fence_wait,
    file: &DrmFile,
) -> HostResult {
    if args.flags != 0 || args.pad != 0 || args.reserved != [0; 2] {
        return Err(EINVAL.into());
    }
    let entry = file.inner().fence(args.fence)?;
    let result = entry.fence.wait(args.value, args.deadline_ns);
    args.observed_value = entry.fence.value();
    result
}
