// SPDX-License-Identifier: GPL-2.0-only

//! DRM device.
//!
//! C header: [`include/drm/drm_device.h`](srctree/include/drm/drm_device.h)
//!
//! A [`Device`] is one C allocation that holds the `struct drm_device` and the driver's data. It
//! is reference counted; the data is dropped by the `release` callback, when nothing (no open file,
//! no GEM object, no [`ARef`]) refers to the device any more. That may be long after the parent
//! device was unbound: whatever needs the parent belongs behind [`Device::enter`].

use core::{
    alloc::Layout,
    mem,
    ops::Deref,
    ptr::NonNull, //
};

use kernel::{
    alloc::allocator::Kmalloc,
    device,
    device::AsBusDevice,
    error::{
        from_err_ptr,
        to_result, //
    },
    prelude::*,
    str::{
        BStr,
        CString, //
    },
    sync::aref::{
        ARef,
        AlwaysRefCounted, //
    },
    types::{
        NotThreadSafe,
        Opaque, //
    },
};

use crate::{
    bindings,
    drm,
    drm::driver::VTable, //
};

/// How user space may bring a wedged device back, see [`Device::wedged`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum WedgeRecovery {
    /// Nothing is needed; the event is for telemetry.
    None,
    /// Unbind and bind the driver.
    Rebind,
    /// Unbind, reset the bus device, bind.
    BusReset,
}

/// The name of a task, which ends at the first zero.
fn task_name(name: &[u8]) -> &BStr {
    let end = name.iter().position(|&c| c == 0).unwrap_or(name.len());

    BStr::from_bytes(name.split_at(end).0)
}

/// A [`Device`] that was not registered yet.
///
/// # Invariants
///
/// The device was never passed to `drm_dev_register()`.
pub struct UnregisteredDevice<T: drm::Driver>(ARef<Device<T>>, NotThreadSafe);

impl<T: drm::Driver> UnregisteredDevice<T> {
    /// Allocates a device below `parent` and initialises the driver's data in it. Its objects take
    /// large pages where the kernel has them.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, what the DRM core says (`EINVAL` for a driver description it refuses, `ENODEV`
    /// where accel is off) or the error of `data`.
    pub fn new(
        parent: &T::ParentDevice<device::Bound>,
        data: impl PinInit<T::Data, Error>,
    ) -> Result<Self> {
        let layout = Kmalloc::aligned_layout(Layout::new::<Device<T>>());
        let parent: &device::Device<device::Bound> = parent.as_ref();

        // While the data is uninitialised the device must not have a `release` callback, which
        // would drop it.
        let alloc_vtable = bindings::drm_driver {
            release: None,
            ..VTable::<T>::DRIVER
        };

        // SAFETY:
        // - `parent` is a valid device: `device::Device` is a transparent wrapper of `struct device`.
        // - `alloc_vtable` lives until the `driver` field is overwritten below, or until the failed
        //   device is gone.
        // - `layout.size()` bytes hold a `struct drm_device` at the given offset.
        let raw = from_err_ptr(unsafe {
            bindings::__drm_dev_alloc(
                core::ptr::from_ref(parent).cast_mut().cast(),
                &alloc_vtable,
                layout.size(),
                mem::offset_of!(Device<T>, dev),
            )
        })?
        .cast::<Device<T>>();
        let raw = NonNull::new(raw).ok_or(ENOMEM)?;

        // SAFETY: `raw` points to an allocation with the layout of `Device<T>`.
        let drm_dev = unsafe { Opaque::cast_into(&raw const (*raw.as_ptr()).dev) };
        // SAFETY: As above.
        let data_ptr = unsafe { &raw mut (*raw.as_ptr()).data };

        // SAFETY:
        // - `data_ptr` is valid for writes and aligned, and nobody else can see it yet.
        // - It is not read if the initialiser fails, and it does not move until it is dropped.
        if let Err(e) = unsafe { pin_init::raw_try_init(data_ptr, data) } {
            // SAFETY: We own the only reference; without `release` the data is not dropped.
            unsafe { bindings::drm_dev_put(drm_dev) };
            return Err(e);
        }

        // SAFETY: Nobody else can see the device yet.
        unsafe { (*drm_dev).driver = const { &VTable::<T>::DRIVER } };

        // SAFETY: The device is initialised and its only reference is ours to give away.
        // INVARIANT: It was not registered.
        let this = Self(unsafe { ARef::from_raw(raw) }, NotThreadSafe);
        this.use_huge_pages(parent);
        Ok(this)
    }

    /// Has objects backed by shmem take large pages where a whole one fits. Small ones are taken as
    /// before where the kernel has no large ones or they cannot be had.
    fn use_huge_pages(&self, parent: &device::Device) {
        // SAFETY: The device is valid, and nobody else knows of it, so nobody makes objects now.
        let made = to_result(unsafe { bindings::vaccel_drm_gem_huge_mnt_create(self.as_raw()) });
        if let Err(error) = made {
            dev_dbg!(parent, "no large pages for objects: {:?}\n", error);
        }
    }

    /// Gives up the type state; only a registration may ask for it.
    pub(super) fn into_inner(self) -> ARef<Device<T>> {
        self.0
    }
}

impl<T: drm::Driver> Deref for UnregisteredDevice<T> {
    type Target = Device<T>;

    fn deref(&self) -> &Device<T> {
        &self.0
    }
}

/// A DRM device of the driver `T`; dereferences to the driver's data.
///
/// # Invariants
///
/// - `dev` is a valid `struct drm_device` allocated together with `data`, with the vtable of `T`.
/// - Its parent is the `struct device` in a `T::ParentDevice`.
#[repr(C)]
pub struct Device<T: drm::Driver> {
    dev: Opaque<bindings::drm_device>,
    data: T::Data,
}

impl<T: drm::Driver> Device<T> {
    pub(super) fn as_raw(&self) -> *mut bindings::drm_device {
        self.dev.get()
    }

    /// The parent as a plain device, for messages.
    pub(super) fn as_dev(&self) -> &device::Device {
        // SAFETY: The DRM device holds a reference to its parent.
        unsafe { device::Device::from_raw((*self.as_raw()).dev) }
    }

    /// Makes a reference of what the DRM core gives to callbacks.
    ///
    /// # Safety
    ///
    /// `ptr` must point to the `dev` field of a valid [`Device<T>`] that stays referenced for `'a`.
    pub(super) unsafe fn from_raw<'a>(ptr: *mut bindings::drm_device) -> &'a Self {
        // SAFETY: By the safety requirements `ptr` is embedded in a valid `Device<T>`.
        unsafe { &*kernel::container_of!(Opaque::cast_from(ptr), Self, dev) }
    }

    /// The `release` callback of `struct drm_driver`.
    ///
    /// # Safety
    ///
    /// Only for the DRM core: `ptr` is the device of a [`Device<T>`] whose last reference is gone.
    pub(super) unsafe extern "C" fn release_callback(ptr: *mut bindings::drm_device) {
        // SAFETY: The vtable with this callback belongs to devices embedded in `Self`.
        let this = unsafe { kernel::container_of!(Opaque::cast_from(ptr), Self, dev) }.cast_mut();

        // SAFETY:
        // - The vtable with this callback is set after `data` was initialised.
        // - The last reference is gone, so nobody else accesses `data`, now or later.
        unsafe { core::ptr::drop_in_place(&raw mut (*this).data) };
    }

    /// Enters a section that [`Registration`](drm::Registration)'s drop waits for.
    ///
    /// Returns [`None`] once the device is unplugged. Do not wait in such a section for something
    /// that happens only after the unplug.
    pub fn enter(&self) -> Option<RegistrationGuard<'_, T>> {
        let mut idx = 0;

        // SAFETY: `self.as_raw()` is a valid device by the type invariants.
        if unsafe { bindings::drm_dev_enter(self.as_raw(), &mut idx) } {
            // INVARIANT: `drm_dev_enter()` succeeded with `idx`.
            Some(RegistrationGuard {
                dev: self,
                idx,
                _not_send: NotThreadSafe,
            })
        } else {
            None
        }
    }

    /// Tells user space that the device is unusable and how it may be recovered. May sleep.
    ///
    /// The event is the one `drm_dev_wedged_event()` sends. That function itself takes every device
    /// to have a primary minor, which accel devices lack.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the device is unplugged, or what sending the event returns.
    pub fn wedged(&self, recovery: WedgeRecovery) -> Result {
        self.send_wedged(recovery, None)
    }

    /// Tells user space that the device failed and serves again, and which task it was busy for: the
    /// number and the name of that. May sleep.
    ///
    /// The event is for telemetry; whether it could be sent is not told.
    pub fn report_wedged(&self, task: Option<(i32, &[u8])>) {
        let _ = self.send_wedged(WedgeRecovery::None, task);
    }

    /// Sends the event of a wedged device. The task is left out if there is no memory for it.
    fn send_wedged(&self, recovery: WedgeRecovery, task: Option<(i32, &[u8])>) -> Result {
        let recovery = match recovery {
            WedgeRecovery::None => c"WEDGED=none",
            WedgeRecovery::Rebind => c"WEDGED=rebind",
            WedgeRecovery::BusReset => c"WEDGED=bus-reset",
        };
        let task = task.and_then(|(pid, name)| {
            let pid = CString::try_from_fmt(fmt!("PID={pid}")).ok()?;
            let name = CString::try_from_fmt(fmt!("TASK={}", task_name(name))).ok()?;
            Some((pid, name))
        });
        let (pid, name) = match &task {
            Some((pid, name)) => (pid.as_char_ptr(), name.as_char_ptr()),
            None => (core::ptr::null(), core::ptr::null()),
        };
        let mut env = [
            recovery.as_char_ptr().cast_mut(),
            pid.cast_mut(),
            name.cast_mut(),
            core::ptr::null_mut(),
        ];

        let _guard = self.enter().ok_or(ENODEV)?;
        // SAFETY:
        // - The accel minor and its device are made with the DRM device and freed with it.
        // - `env` is a null-terminated array of strings, which the function copies.
        to_result(unsafe {
            let kdev = (*(*self.as_raw()).accel).kdev;

            bindings::kobject_uevent_env(
                &raw mut (*kdev).kobj,
                bindings::kobject_action_KOBJ_CHANGE,
                env.as_mut_ptr(),
            )
        })
    }
}

impl<T: drm::Driver> Deref for Device<T> {
    type Target = T::Data;

    fn deref(&self) -> &T::Data {
        &self.data
    }
}

impl<T: drm::Driver> AsRef<T::ParentDevice<device::Normal>> for Device<T> {
    fn as_ref(&self) -> &T::ParentDevice<device::Normal> {
        // SAFETY: By the type invariants the parent is embedded in a `T::ParentDevice`.
        unsafe { T::ParentDevice::from_device(self.as_dev()) }
    }
}

// SAFETY: DRM devices are reference counted; the count is the one these functions change, and the
// release callback runs only after it reached zero.
unsafe impl<T: drm::Driver> AlwaysRefCounted for Device<T> {
    fn inc_ref(&self) {
        // SAFETY: A shared reference shows that the count is not zero.
        unsafe { bindings::drm_dev_get(self.as_raw()) };
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: By the safety requirements `obj` is valid and the caller gives up a reference.
        unsafe { bindings::drm_dev_put(obj.as_ref().as_raw()) };
    }
}

// SAFETY: The data is `Send` by the bound on `T::Data`, and the last reference to a DRM device may
// be dropped on any thread that can sleep.
unsafe impl<T: drm::Driver> Send for Device<T> {}

// SAFETY: The data is `Sync` by the bound on `T::Data`, and the methods of `Device` rely on the
// locking of the DRM core.
unsafe impl<T: drm::Driver> Sync for Device<T> {}

/// Proof that a device is not unplugged; unplugging it waits for the end of the guard.
///
/// # Invariants
///
/// `idx` is what a successful `drm_dev_enter()` returned.
#[must_use = "the section ends when the guard is dropped"]
pub struct RegistrationGuard<'a, T: drm::Driver> {
    dev: &'a Device<T>,
    idx: i32,
    _not_send: NotThreadSafe,
}

impl<T: drm::Driver> Deref for RegistrationGuard<'_, T> {
    type Target = Device<T>;

    fn deref(&self) -> &Device<T> {
        self.dev
    }
}

impl<T: drm::Driver> Drop for RegistrationGuard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants `idx` belongs to the section that ends here, and the guard
        // did not change threads.
        unsafe { bindings::drm_dev_exit(self.idx) };
    }
}
