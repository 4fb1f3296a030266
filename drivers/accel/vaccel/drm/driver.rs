// SPDX-License-Identifier: GPL-2.0-only

//! DRM driver core.
//!
//! C header: [`include/drm/drm_drv.h`](srctree/include/drm/drm_drv.h)

use core::marker::PhantomData;

use kernel::{
    device,
    error::to_result,
    module::{
        this_module,
        ModuleMetadata, //
    },
    prelude::*,
    str::as_char_ptr_in_const_context,
    sync::aref::ARef, //
};

use crate::{
    bindings,
    drm::{
        self,
        gem,
        ioctl::Ioctl, //
    },
    uring, //
};

/// What `DRM_IOCTL_VERSION` reports.
pub struct DriverInfo {
    /// Major version of the user-space interface.
    pub major: i32,
    /// Minor version of the user-space interface.
    pub minor: i32,
    /// Patch level.
    pub patchlevel: i32,
    /// Driver name.
    pub name: &'static CStr,
    /// Driver description.
    pub desc: &'static CStr,
}

/// A DRM driver of compute accelerators.
///
/// Its devices appear as `/dev/accel/accelN`, with GEM, PRIME and (timeline) syncobj support by the
/// DRM core.
pub trait Driver: Sized + 'static {
    /// Data of a device, stored in it and dropped with its last reference.
    type Data: Send + Sync;

    /// Data of an open file.
    type File: drm::DriverFile<Driver = Self>;

    /// Data of a GEM object. Every GEM object of a device is a [`gem::Object`] of this type.
    type Object: gem::DriverObject<Driver = Self>;

    /// The bus device the DRM device hangs below.
    type ParentDevice<Ctx: device::DeviceContext>: device::AsBusDevice<Ctx>;

    /// The module this driver lives in; open files keep it loaded.
    type OwnerModule: ModuleMetadata;

    /// Name and version.
    const INFO: DriverInfo;

    /// The driver's ioctls, see [`declare_ioctls!`](crate::drm::ioctl::declare_ioctls).
    const IOCTLS: &'static [Ioctl<Self>];

    /// Takes a command that came by io_uring. Runs in a section under [`drm::Device::enter`].
    ///
    /// Nothing else was checked; the core's ioctl path is not involved.
    fn uring_cmd(
        dev: &drm::Device<Self>,
        file: &drm::File<Self::File>,
        issue: uring::Issue<'_>,
    ) -> uring::Answer {
        let _ = (dev, file, issue);
        uring::Answer::failed(EOPNOTSUPP)
    }

    /// Adds the driver's lines to the fdinfo of an open file.
    ///
    /// The core prints `drm-driver`, `drm-client-id` and the like itself.
    fn show_fdinfo(
        dev: &drm::Device<Self>,
        file: &drm::File<Self::File>,
        p: &mut drm::Printer<'_>,
    ) {
        let _ = (dev, file, p);
    }
}

/// The C tables of the driver `T`.
pub(super) struct VTable<T>(PhantomData<T>);

impl<T: Driver> VTable<T> {
    /// `struct drm_driver` of `T`.
    ///
    /// The core leaves the making of GEM objects to these functions, so that every GEM object of a
    /// device is one of ours.
    pub(super) const DRIVER: bindings::drm_driver = {
        let mut drv: bindings::drm_driver = pin_init::zeroed();

        drv.open = Some(drm::File::<T::File>::open_callback);
        drv.postclose = Some(drm::File::<T::File>::postclose_callback);
        drv.release = Some(drm::Device::<T>::release_callback);
        drv.gem_prime_import_sg_table = Some(gem::Object::<T::Object>::import_callback);
        drv.show_fdinfo = Some(Self::show_fdinfo_callback);
        drv.major = T::INFO.major;
        drv.minor = T::INFO.minor;
        drv.patchlevel = T::INFO.patchlevel;
        drv.name = as_char_ptr_in_const_context(T::INFO.name).cast_mut();
        drv.desc = as_char_ptr_in_const_context(T::INFO.desc).cast_mut();
        drv.driver_features = bindings::drm_driver_feature_DRIVER_GEM
            | bindings::drm_driver_feature_DRIVER_COMPUTE_ACCEL
            | bindings::drm_driver_feature_DRIVER_SYNCOBJ
            | bindings::drm_driver_feature_DRIVER_SYNCOBJ_TIMELINE;
        // `Ioctl` is a transparent wrapper of `struct drm_ioctl_desc`.
        drv.ioctls = T::IOCTLS.as_ptr().cast();
        // CAST: An ioctl number has eight bits.
        drv.num_ioctls = T::IOCTLS.len() as i32;
        drv.fops = &Self::FOPS;

        drv
    };

    /// `struct file_operations` of `T`.
    const FOPS: bindings::file_operations = {
        let mut fops: bindings::file_operations = pin_init::zeroed();

        fops.owner = this_module::<T::OwnerModule>().as_ptr();
        fops.open = Some(bindings::accel_open);
        fops.release = Some(drm::File::<T::File>::release_callback);
        fops.unlocked_ioctl = Some(bindings::drm_ioctl);
        #[cfg(CONFIG_COMPAT)]
        {
            fops.compat_ioctl = Some(bindings::drm_compat_ioctl);
        }
        fops.poll = Some(bindings::drm_poll);
        fops.read = Some(bindings::drm_read);
        fops.llseek = Some(bindings::noop_llseek);
        fops.mmap = Some(bindings::drm_gem_mmap);
        fops.get_unmapped_area = Some(bindings::drm_gem_get_unmapped_area);
        fops.show_fdinfo = Some(bindings::drm_show_fdinfo);
        fops.uring_cmd = Some(Self::uring_cmd_callback);
        fops.fop_flags = bindings::FOP_UNSIGNED_OFFSET;

        fops
    };

    /// The `uring_cmd` callback of `struct file_operations`.
    ///
    /// # Safety
    ///
    /// Only for io_uring, with a command of an open file of a device of `T`, and its flags.
    unsafe extern "C" fn uring_cmd_callback(
        cmd: *mut bindings::io_uring_cmd,
        flags: c_uint,
    ) -> c_int {
        let issue = |issue: uring::Issue<'_>| {
            // SAFETY: By the safety requirements the file was opened through `T`, and the DRM core
            // keeps its `struct drm_file` there. The command keeps it open.
            let file = unsafe {
                let private = (*issue.file().as_ptr()).private_data;
                drm::File::<T::File>::from_raw(private.cast())
            };
            let dev = file.device();
            match dev.enter() {
                Some(guard) => T::uring_cmd(&guard, file, issue),
                None => uring::Answer::failed(ENODEV),
            }
        };
        // SAFETY: By the safety requirements; all commands of such files come here.
        unsafe { uring::callback(cmd, flags, issue) }
    }

    /// The `show_fdinfo` callback of `struct drm_driver`.
    ///
    /// # Safety
    ///
    /// Only for the DRM core, with a valid printer and an open file of a device of `T`.
    unsafe extern "C" fn show_fdinfo_callback(
        p: *mut bindings::drm_printer,
        file: *mut bindings::drm_file,
    ) {
        // SAFETY: An open file refers to its minor, which refers to a registered device of `T`.
        let dev = unsafe { drm::Device::<T>::from_raw((*(*file).minor).dev) };
        // SAFETY: The file was opened through `T` and stays open during the callback.
        let file = unsafe { drm::File::<T::File>::from_raw(file) };
        // SAFETY: The printer is valid during the callback.
        let mut p = unsafe { drm::Printer::from_raw(p) };

        T::show_fdinfo(dev, file, &mut p);
    }
}

/// The registration of a [`drm::Device`].
///
/// Dropping it unplugs the device: new system calls fail with `ENODEV`, sections under
/// [`drm::Device::enter`] are waited for, and every user mapping is removed. Wake whoever sleeps in
/// such a section first.
pub struct Registration<T: Driver>(ARef<drm::Device<T>>);

impl<T: Driver> Registration<T> {
    /// Makes `drm` visible to user space.
    ///
    /// # Errors
    ///
    /// What `drm_dev_register()` returns; the device is then gone.
    pub fn new(drm: drm::UnregisteredDevice<T>) -> Result<Self> {
        let drm = drm.into_inner();

        // SAFETY:
        // - `drm` is an initialised device.
        // - It was not registered before, by the invariants of `UnregisteredDevice`.
        to_result(unsafe { bindings::drm_dev_register(drm.as_raw(), 0) })?;

        Ok(Self(drm))
    }

    /// The registered device.
    pub fn device(&self) -> &drm::Device<T> {
        &self.0
    }
}

impl<T: Driver> Drop for Registration<T> {
    fn drop(&mut self) {
        // SAFETY: The device was registered by `new()`, and nobody else unregisters it.
        unsafe { bindings::drm_dev_unplug(self.0.as_raw()) };
    }
}
