// SPDX-License-Identifier: GPL-2.0-only

//! The pages of GEM objects, kept in place for somebody who reads or writes them on his own.

use core::{
    iter::FusedIterator,
    ptr::NonNull,
    slice, //
};

use kernel::{
    error::to_result,
    page::PAGE_SIZE,
    prelude::*,
    types::Opaque, //
};

use super::{
    import,
    Backing,
    DriverObject,
    Object, //
};
use crate::bindings;

/// A share in the storage of an object.
///
/// # Invariants
///
/// The pointer is to an object that stays allocated while this share exists; its C part stays
/// initialised and its backing what it is, its driver data does not.
pub(super) struct Storage<T: DriverObject>(NonNull<Object<T>>);

impl<T: DriverObject> Storage<T> {
    pub(super) fn new(obj: &Object<T>) -> Self {
        obj.storage.inc();

        // INVARIANT: The share was taken above.
        Self(obj.into())
    }

    fn as_raw_shmem(&self) -> *mut bindings::drm_gem_shmem_object {
        // SAFETY: Only the address of a field is computed, of an object that is allocated by the
        // type invariants.
        unsafe { Opaque::cast_into(&raw const (*self.0.as_ptr()).obj) }
    }

    pub(super) fn as_raw(&self) -> *mut bindings::drm_gem_object {
        // SAFETY: As above.
        unsafe { &raw mut (*self.as_raw_shmem()).base }
    }

    pub(super) fn size(&self) -> usize {
        // SAFETY: The C object is initialised by the type invariants; its size does not change.
        unsafe { (*self.as_raw()).size }
    }

    fn backing(&self) -> &Backing {
        // SAFETY: By the type invariants the field is valid, and shared by all who hold a share.
        unsafe { &(*self.0.as_ptr()).backing }
    }
}

impl<T: DriverObject> Drop for Storage<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the share is ours, and it ends here.
        unsafe { Object::put_storage(self.0.as_ptr()) };
    }
}

// SAFETY: The share is an atomic count, and the object may be freed on any thread that can sleep.
unsafe impl<T: DriverObject> Send for Storage<T> {}

// SAFETY: A shared `Storage` only gives access to what the guards do.
unsafe impl<T: DriverObject> Sync for Storage<T> {}

impl<T: DriverObject> Object<T> {
    /// Keeps the pages of the object in place.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the object is neither backed by shmem nor an import, `ENOMEM`, or `EINTR` if a
    /// signal arrived.
    pub fn pin(&self) -> Result<Pages<T>> {
        match &self.backing {
            Backing::Shmem => {
                // SAFETY: The object is an initialised shmem object by the type invariants.
                to_result(unsafe { bindings::drm_gem_shmem_pin(self.as_raw_shmem()) })?;

                // SAFETY:
                // - The object is initialised by the type invariants, and keeps its reservation.
                //   Without a context the lock is always taken.
                // - The object is backed by shmem.
                unsafe {
                    let resv = (*self.as_raw()).resv;

                    let _ = bindings::dma_resv_lock(resv, core::ptr::null_mut());
                    self.mark_dirty_on_put();
                    bindings::dma_resv_unlock(resv);
                }
            }
            // The exporter keeps them in place until the storage is freed.
            Backing::Import(_) => (),
            Backing::Io(_) | Backing::Window(_) => return Err(EINVAL),
        }

        // INVARIANT: The pages were pinned for this guard just now, or are for the storage.
        Ok(Pages(Storage::new(self)))
    }
}

/// Keeps the pages of an object in place.
///
/// # Invariants
///
/// The object is backed by shmem, whose pages are pinned on behalf of this guard, or an import.
pub struct Pages<T: DriverObject>(Storage<T>);

impl<T: DriverObject> Pages<T> {
    /// The number of pages.
    #[expect(clippy::len_without_is_empty, reason = "no object is empty")]
    pub fn len(&self) -> usize {
        self.0.size() / PAGE_SIZE
    }

    /// The page frame numbers, in the order of the object.
    pub fn pfns(&self) -> Pfns<'_> {
        if let Backing::Import(pages) = self.0.backing() {
            return Pfns(Source::Import(pages.pfns(self.len())));
        }

        // SAFETY: By the type invariants this is a shmem object. While its pages are pinned the
        // helper keeps an array of `size / PAGE_SIZE` of them, and does not change it.
        let pages: &[*mut bindings::page] =
            unsafe { slice::from_raw_parts((*self.0.as_raw_shmem()).pages, self.len()) };
        Pfns(Source::Shmem(pages.iter()))
    }
}

impl<T: DriverObject> Drop for Pages<T> {
    fn drop(&mut self) {
        if matches!(self.0.backing(), Backing::Shmem) {
            // SAFETY: By the type invariants the pages are pinned on our behalf.
            unsafe { bindings::drm_gem_shmem_unpin(self.0.as_raw_shmem()) };
        }
    }
}

/// Page frame numbers of an object, see [`Pages::pfns`].
pub struct Pfns<'a>(Source<'a>);

/// Where the numbers come from.
enum Source<'a> {
    /// From the array of a shmem object, of pages that are pinned.
    Shmem(slice::Iter<'a, *mut bindings::page>),
    /// From the segments of an import.
    Import(import::Pfns<'a>),
}

impl Iterator for Pfns<'_> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        match &mut self.0 {
            Source::Shmem(pages) => pages.next().map(|&page| {
                // SAFETY: The page is valid while it is pinned.
                // CAST: `unsigned long` has at most 64 bits.
                unsafe { bindings::vaccel_page_to_pfn(page) as u64 }
            }),
            Source::Import(pfns) => pfns.next(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let len = match &self.0 {
            Source::Shmem(pages) => pages.len(),
            Source::Import(pfns) => pfns.len(),
        };

        (len, Some(len))
    }
}

impl ExactSizeIterator for Pfns<'_> {}

impl FusedIterator for Pfns<'_> {}
