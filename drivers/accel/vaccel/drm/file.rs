// SPDX-License-Identifier: GPL-2.0-only

//! DRM file objects.
//!
//! C header: [`include/drm/drm_file.h`](srctree/include/drm/drm_file.h)

use core::{
    marker::PhantomData,
    ops::Deref, //
};

use kernel::{
    fs,
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    },
    types::Opaque, //
};

use crate::{
    bindings,
    drm,
    drm::point_wait::PointWaits, //
};

/// Data of an open file, made by the driver.
pub trait DriverFile: Send + Sync + Sized {
    /// The driver this data belongs to.
    type Driver: drm::Driver<File = Self>;

    /// Called when the device node is opened.
    ///
    /// The data is dropped when the file is closed for good, after its GEM handles and syncobjs are
    /// released. Both may sleep; the drop must not depend on the device being registered.
    fn open(dev: &drm::Device<Self::Driver>) -> Result<Pin<KBox<Self>>>;
}

/// An open file; dereference its data with [`File::inner`].
///
/// # Invariants
///
/// The inner value is a valid `struct drm_file` opened through `T`, with `driver_priv` pointing to
/// an [`Opened`] that holds what `T::open` made.
#[repr(transparent)]
pub struct File<T: DriverFile>(Opaque<bindings::drm_file>, PhantomData<T>);

/// A reference to an open file.
///
/// # Invariants
///
/// The file was opened through `T`.
pub struct OpenFile<T>(ARef<fs::File>, PhantomData<fn(T)>);

impl<T: DriverFile> Deref for OpenFile<T> {
    type Target = File<T>;

    fn deref(&self) -> &File<T> {
        // SAFETY: By the type invariants the DRM core keeps its `struct drm_file` there, and it stays open
        // as long as there is a reference.
        unsafe { File::from_raw((*self.0.as_ptr()).private_data.cast()) }
    }
}

/// What belongs to an open file.
struct Opened<T> {
    points: Arc<PointWaits>,
    data: Pin<KBox<T>>,
}

impl<T: DriverFile> File<T> {
    /// Makes a reference of what the DRM core gives to callbacks.
    ///
    /// # Safety
    ///
    /// `ptr` must be a file opened through `T` that stays open for `'a`.
    pub(super) unsafe fn from_raw<'a>(ptr: *mut bindings::drm_file) -> &'a Self {
        // SAFETY: `File` is a transparent wrapper, and the pointer is valid for `'a` by the safety
        // requirements.
        // INVARIANT: As required from the caller.
        unsafe { &*ptr.cast() }
    }

    pub(super) fn as_raw(&self) -> *mut bindings::drm_file {
        self.0.get()
    }

    fn opened(&self) -> &Opened<T> {
        // SAFETY: By the type invariants `driver_priv` points to it, and it lives as long as the file.
        unsafe { &*(*self.as_raw()).driver_priv.cast() }
    }

    /// The driver's data of this file.
    pub fn inner(&self) -> Pin<&T> {
        self.opened().data.as_ref()
    }

    /// The device.
    pub fn device(&self) -> &drm::Device<T::Driver> {
        // SAFETY: An open file refers to its minor, which refers to a device of its driver.
        unsafe { drm::Device::from_raw((*(*self.as_raw()).minor).dev) }
    }

    /// Keeps it open.
    pub fn keep(&self) -> OpenFile<T> {
        // SAFETY: As long as it is open, it belongs to a `struct file` that has references. Files of
        // devices have no position.
        let file = unsafe { fs::File::from_raw_file((*self.as_raw()).filp) };
        OpenFile(file.into(), PhantomData)
    }

    pub(super) fn point_waits(&self) -> &Arc<PointWaits> {
        &self.opened().points
    }

    fn open(dev: &drm::Device<T::Driver>) -> Result<KBox<Opened<T>>> {
        let opened = Opened {
            points: PointWaits::new()?,
            data: T::open(dev)?,
        };
        Ok(KBox::new(opened, GFP_KERNEL)?)
    }

    /// The `open` callback of `struct drm_driver`.
    ///
    /// # Safety
    ///
    /// Only for the DRM core, with a device of `T::Driver` and a new file of it.
    pub(super) unsafe extern "C" fn open_callback(
        dev: *mut bindings::drm_device,
        file: *mut bindings::drm_file,
    ) -> c_int {
        // SAFETY: The minor that is being opened holds a reference to the device.
        let dev = unsafe { drm::Device::from_raw(dev) };

        match Self::open(dev) {
            Ok(opened) => {
                // SAFETY: The file is valid and nobody else uses it before this callback returns.
                unsafe { (*file).driver_priv = KBox::into_raw(opened).cast() };
                0
            }
            Err(e) => e.to_errno(),
        }
    }

    /// The `release` callback of `struct file_operations`.
    ///
    /// The core drops the syncobjs of the file before it calls `postclose`, without the lock under which
    /// they are looked up, so the threads that use them have to end before.
    ///
    /// # Safety
    ///
    /// Only for the core, with a file opened through `T` whose last reference is gone.
    pub(super) unsafe extern "C" fn release_callback(
        inode: *mut bindings::inode,
        filp: *mut bindings::file,
    ) -> c_int {
        // SAFETY: The DRM core keeps its file here from `open` to `release`.
        let file = unsafe { (*filp).private_data }.cast::<bindings::drm_file>();

        // SAFETY: The file was opened, and is freed only below.
        unsafe { Self::from_raw(file) }.point_waits().close();
        // SAFETY: The arguments are the core's own.
        unsafe { bindings::drm_release(inode, filp) }
    }

    /// The `postclose` callback of `struct drm_driver`.
    ///
    /// # Safety
    ///
    /// Only for the DRM core, with a file that is being freed.
    pub(super) unsafe extern "C" fn postclose_callback(
        _dev: *mut bindings::drm_device,
        file: *mut bindings::drm_file,
    ) {
        // SAFETY: The core calls `postclose` only for files it calls `open` for; the pointer is null
        // if that failed.
        let opened = unsafe { (*file).driver_priv }.cast::<Opened<T>>();
        if opened.is_null() {
            return;
        }
        // SAFETY: The pointer came from `KBox::into_raw()` in `open_callback()`, and nobody can reach
        // it once the file is being freed: neither an ioctl, nor a thread of `points`, which
        // `release_callback()` has ended.
        drop(unsafe { KBox::from_raw(opened) });
    }
}

// SAFETY: A shared file gives access to the `Sync` data and to functions of the DRM core that lock.
unsafe impl<T: DriverFile> Sync for File<T> {}
