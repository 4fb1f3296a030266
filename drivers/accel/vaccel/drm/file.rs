// SPDX-License-Identifier: GPL-2.0-only

//! DRM file objects.
//!
//! C header: [`include/drm/drm_file.h`](srctree/include/drm/drm_file.h)

use core::marker::PhantomData;

use kernel::{
    prelude::*,
    types::Opaque, //
};

use crate::{
    bindings,
    drm, //
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
/// the `T` that `T::open` made.
#[repr(transparent)]
pub struct File<T: DriverFile>(Opaque<bindings::drm_file>, PhantomData<T>);

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

    /// The driver's data of this file.
    pub fn inner(&self) -> Pin<&T> {
        // SAFETY: By the type invariants `driver_priv` points to the pinned data, which lives as
        // long as the file.
        unsafe { Pin::new_unchecked(&*(*self.as_raw()).driver_priv.cast::<T>()) }
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

        match T::open(dev) {
            Ok(inner) => {
                // SAFETY: The data stays pinned: it is only dropped in place, by
                // `postclose_callback()`.
                let inner = unsafe { Pin::into_inner_unchecked(inner) };
                // SAFETY: The file is valid and nobody else uses it before this callback returns.
                unsafe { (*file).driver_priv = KBox::into_raw(inner).cast() };
                0
            }
            Err(e) => e.to_errno(),
        }
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
        let inner = unsafe { (*file).driver_priv }.cast::<T>();
        if !inner.is_null() {
            // SAFETY: The pointer came from `KBox::into_raw()` in `open_callback()`, and nobody can
            // reach it once the file is being freed.
            drop(unsafe { KBox::from_raw(inner) });
        }
    }
}

// SAFETY: A shared file gives access to the `Sync` data and to functions of the DRM core that lock.
unsafe impl<T: DriverFile> Sync for File<T> {}
