// SPDX-License-Identifier: GPL-2.0-only

//! GEM objects backed by shmem.
//!
//! C header: [`include/drm/drm_gem_shmem_helper.h`](srctree/include/drm/drm_gem_shmem_helper.h)

use core::ptr::NonNull;

use kernel::{
    error::to_result,
    prelude::*, //
};

pub use super::pages::Pages;
use super::{
    pages::Storage,
    DriverObject,
    Object, //
};
use crate::{
    bindings,
    mm::KernelBuffer, //
};

impl<T: DriverObject> Object<T> {
    /// The functions of objects backed by shmem.
    pub(super) const SHMEM_FUNCS: bindings::drm_gem_object_funcs = {
        let mut funcs: bindings::drm_gem_object_funcs = pin_init::zeroed();

        funcs.free = Some(Self::free_callback);
        funcs.open = Some(Self::open_callback);
        funcs.close = Some(Self::close_callback);
        funcs.export = Some(Self::export_callback);
        funcs.print_info = Some(bindings::vaccel_drm_gem_shmem_object_print_info);
        funcs.pin = Some(bindings::vaccel_drm_gem_shmem_object_pin);
        funcs.unpin = Some(bindings::vaccel_drm_gem_shmem_object_unpin);
        funcs.get_sg_table = Some(bindings::vaccel_drm_gem_shmem_object_get_sg_table);
        funcs.vmap = Some(bindings::vaccel_drm_gem_shmem_object_vmap);
        funcs.vunmap = Some(bindings::vaccel_drm_gem_shmem_object_vunmap);
        funcs.mmap = Some(bindings::vaccel_drm_gem_shmem_object_mmap);
        funcs.vm_ops = &raw const bindings::drm_gem_shmem_vm_ops;

        funcs
    };

    /// Maps the object into the kernel, pinning its pages.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the object is not backed by shmem, or `ENOMEM`.
    pub fn vmap(&self) -> Result<VMap<T>> {
        if !self.is_shmem() {
            return Err(EINVAL);
        }

        let mut map = bindings::iosys_map::default();
        // SAFETY: The object is an initialised shmem object by the type invariants; it is of the
        // driver's own making, so the mapping is memory rather than I/O memory.
        to_result(unsafe { bindings::drm_gem_vmap(self.as_raw(), &mut map) })?;

        // SAFETY: A mapping of memory is a `vaddr`.
        let addr = unsafe { map.__bindgen_anon_1.vaddr };
        // INVARIANT: The mapping was made for this guard just now.
        Ok(VMap {
            addr: NonNull::new(addr.cast()).ok_or(ENOMEM)?,
            storage: Storage::new(self),
        })
    }
}

/// A mapping of a shmem object into the kernel.
///
/// User space and the device may write the memory at any time, so it is only ever copied from and
/// to, and what was copied is what has to be checked.
///
/// # Invariants
///
/// `addr` is the start of a kernel mapping of the whole object, made on behalf of this guard.
pub struct VMap<T: DriverObject> {
    addr: NonNull<u8>,
    storage: Storage<T>,
}

impl<T: DriverObject> VMap<T> {
    /// The size in bytes.
    #[expect(clippy::len_without_is_empty, reason = "no object is empty")]
    pub fn len(&self) -> usize {
        self.storage.size()
    }

    /// The address of `len` bytes at `offset`.
    fn range(&self, offset: usize, len: usize) -> Result<*mut u8> {
        let end = offset.checked_add(len).ok_or(EINVAL)?;
        if end > self.len() {
            return Err(EINVAL);
        }

        Ok(self.addr.as_ptr().wrapping_add(offset))
    }

    /// Copies out of the object.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the range is not within the object.
    pub fn read(&self, offset: usize, buf: &mut [u8]) -> Result {
        let src = self.range(offset, buf.len())?;

        // SAFETY:
        // - `src` is valid for `buf.len()` bytes, as was just checked.
        // - The buffer is exclusive, so the two do not overlap. The copy is made by a C function,
        //   which like any access to user memory does not mind concurrent writers.
        unsafe { bindings::vaccel_memcpy(buf.as_mut_ptr().cast(), src.cast(), buf.len()) };
        Ok(())
    }

    /// Copies into the object.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the range is not within the object.
    pub fn write(&self, offset: usize, buf: &[u8]) -> Result {
        let dst = self.range(offset, buf.len())?;

        // SAFETY:
        // - `dst` is valid for `buf.len()` bytes, as was just checked.
        // - Nobody has a Rust reference to that memory, so the two do not overlap. The copy is made
        //   by a C function, which does not mind concurrent accesses.
        unsafe { bindings::vaccel_memcpy(dst.cast(), buf.as_ptr().cast(), buf.len()) };
        Ok(())
    }
}

impl<T: DriverObject> Drop for VMap<T> {
    fn drop(&mut self) {
        let mut map = bindings::iosys_map::default();
        map.__bindgen_anon_1.vaddr = self.addr.as_ptr().cast();

        // SAFETY: By the type invariants the mapping was made on our behalf.
        unsafe { bindings::drm_gem_vunmap(self.storage.as_raw(), &mut map) };
    }
}

// SAFETY: By the type invariants the mapping covers `len()` bytes, a multiple of the page size, of a
// `vmap()`, until the guard is dropped; nobody has Rust references to it.
unsafe impl<T: DriverObject> KernelBuffer for VMap<T> {
    fn as_ptr(&self) -> *mut c_void {
        self.addr.as_ptr().cast()
    }

    fn size(&self) -> usize {
        self.len()
    }
}

// SAFETY: The mapping is valid in every context, and may be removed by any thread that can sleep.
unsafe impl<T: DriverObject> Send for VMap<T> {}

// SAFETY: The methods only copy, which may happen concurrently.
unsafe impl<T: DriverObject> Sync for VMap<T> {}
