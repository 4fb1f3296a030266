// SPDX-License-Identifier: GPL-2.0-only

//! GEM objects backed by shmem.
//!
//! C headers: [`include/drm/drm_gem_shmem_helper.h`](srctree/include/drm/drm_gem_shmem_helper.h),
//! [`include/linux/mm.h`](srctree/include/linux/mm.h)
//!
//! The helper's handlers of user mappings are not used for faults: they take the page within the
//! mapping for the page of the object. These are the same only while the mapping begins where the
//! object does, which one made through a dma-buf need not, nor what is left of one when a part of it
//! was unmapped, moved or protected.

use core::ptr::NonNull;

use kernel::{
    error::to_result,
    page::PAGE_SIZE,
    prelude::*, //
};
#[cfg(CONFIG_ARCH_SUPPORTS_PMD_PFNMAP)]
use kernel::{
    mm::virt::VmaRef,
    page::PAGE_SHIFT, //
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
        funcs.pin = Some(Self::shmem_pin_callback);
        funcs.unpin = Some(bindings::vaccel_drm_gem_shmem_object_unpin);
        funcs.get_sg_table = Some(bindings::vaccel_drm_gem_shmem_object_get_sg_table);
        funcs.vmap = Some(bindings::vaccel_drm_gem_shmem_object_vmap);
        funcs.vunmap = Some(bindings::vaccel_drm_gem_shmem_object_vunmap);
        funcs.mmap = Some(bindings::vaccel_drm_gem_shmem_object_mmap);
        funcs.vm_ops = &Self::SHMEM_VM_OPS;

        funcs
    };

    /// What happens to user mappings of such objects.
    const SHMEM_VM_OPS: bindings::vm_operations_struct = {
        let mut ops: bindings::vm_operations_struct = pin_init::zeroed();

        ops.open = Some(Self::shmem_vm_open_callback);
        ops.close = Some(Self::shmem_vm_close_callback);
        ops.fault = Some(Self::shmem_fault_callback);
        #[cfg(CONFIG_ARCH_SUPPORTS_PMD_PFNMAP)]
        {
            ops.huge_fault = Some(Self::shmem_huge_fault_callback);
        }
        ops.pfn_mkwrite = Some(Self::shmem_pfn_mkwrite_callback);

        ops
    };

    /// The `pin` callback of `struct drm_gem_object_funcs`, for each attachment to a dma-buf: the
    /// helper's, and another device may write to the pages, see [`Object::mark_dirty_on_put`].
    ///
    /// # Safety
    ///
    /// Only for the DRM core, with a shmem object of the driver of `T` that stays referenced and
    /// whose reservation is locked.
    unsafe extern "C" fn shmem_pin_callback(obj: *mut bindings::drm_gem_object) -> c_int {
        // SAFETY: By the safety requirements.
        let this = unsafe { Self::from_raw(obj) };

        // SAFETY: The object is an initialised shmem object; its reservation is locked.
        let ret = unsafe { bindings::drm_gem_shmem_pin_locked(this.as_raw_shmem()) };
        if ret == 0 {
            // SAFETY: As above.
            unsafe { this.mark_dirty_on_put() };
        }
        ret
    }

    /// Has the pages marked as written when nobody has a share in them any more.
    ///
    /// A device that they are kept in place for writes to them and tells nobody. The content of pages
    /// that are not marked is dropped when memory is short. The helper forgets this with the last
    /// share, so it has to be said for each.
    ///
    /// # Safety
    ///
    /// The object must be backed by shmem, and its reservation locked.
    pub(super) unsafe fn mark_dirty_on_put(&self) {
        // SAFETY: The object is an initialised shmem object by the safety requirements, which also
        // exclude other accesses to the field.
        unsafe {
            bindings::drm_gem_shmem_object::set_pages_mark_dirty_on_put_raw(
                self.as_raw_shmem(),
                true,
            )
        };
    }

    /// The `open` callback of `struct vm_operations_struct`: the helper's, which takes another share
    /// in the pages and a reference to the object.
    ///
    /// # Safety
    ///
    /// Only for the memory manager, with a copy or a part of a mapping of a shmem object.
    unsafe extern "C" fn shmem_vm_open_callback(vma: *mut bindings::vm_area_struct) {
        // SAFETY: The helper's table is a constant.
        if let Some(open) = unsafe { bindings::drm_gem_shmem_vm_ops.open } {
            // SAFETY: By the safety requirements, which are the helper's too.
            unsafe { open(vma) };
        }
    }

    /// The `close` callback of `struct vm_operations_struct`: the helper's, which gives up what
    /// `mmap` or `open` took.
    ///
    /// # Safety
    ///
    /// Only for the memory manager, with a mapping of a shmem object that goes away.
    unsafe extern "C" fn shmem_vm_close_callback(vma: *mut bindings::vm_area_struct) {
        // SAFETY: The helper's table is a constant.
        if let Some(close) = unsafe { bindings::drm_gem_shmem_vm_ops.close } {
            // SAFETY: By the safety requirements, which are the helper's too.
            unsafe { close(vma) };
        }
    }

    /// The page of the object that a fault is about.
    ///
    /// It is part of the object while the mapping exists, so at least during the fault. No lock is
    /// needed to find it: the array of pages changes only while nobody has a share in it, for
    /// nothing here purges objects.
    ///
    /// # Safety
    ///
    /// `vmf` must describe a fault that is being handled, in a mapping of a shmem object of `T`.
    unsafe fn shmem_fault_page(vmf: *const bindings::vm_fault) -> Option<NonNull<bindings::page>> {
        // SAFETY: The description of the fault is valid by the safety requirements.
        let (vma, offset) = unsafe {
            let fault = &(*vmf).__bindgen_anon_1;
            (fault.vma, fault.pgoff)
        };
        // SAFETY: The DRM core stored the object in the mapping, which holds a reference to it.
        let this = unsafe { Self::from_raw((*vma).vm_private_data.cast()) };

        // SAFETY: The object is initialised, and its place in the offset space does not change.
        let start = unsafe { (*this.as_raw()).vma_node.vm_node.start };
        // CAST: `unsigned long` has at most 64 bits, and as many as `usize`.
        let index = (offset as u64).checked_sub(start)? as usize;
        if index >= this.size() / PAGE_SIZE {
            return None;
        }

        // SAFETY:
        // - By the safety requirements this is an initialised shmem object.
        // - The mapping has a share in its pages from `mmap` or `open` to `close`, so the array is
        //   there, of `size / PAGE_SIZE` pages, and stays.
        NonNull::new(unsafe { *(*this.as_raw_shmem()).pages.add(index) })
    }

    /// The `fault` callback of `struct vm_operations_struct`.
    ///
    /// # Safety
    ///
    /// Only for the memory manager, with a fault in a mapping of a shmem object of `T`.
    unsafe extern "C" fn shmem_fault_callback(
        vmf: *mut bindings::vm_fault,
    ) -> bindings::vm_fault_t {
        // SAFETY: By the safety requirements.
        let Some(page) = (unsafe { Self::shmem_fault_page(vmf) }) else {
            return bindings::vm_fault_reason_VM_FAULT_SIGBUS;
        };

        // SAFETY:
        // - The description of the fault is valid; its address lies in the mapping, which the
        //   helper's `mmap` made one of page frames and not of copies.
        // - The mapping is locked during a fault.
        // - The page is the object's while the mapping exists.
        let ret = unsafe {
            let fault = &(*vmf).__bindgen_anon_1;
            let frame = bindings::vaccel_page_to_pfn(page.as_ptr());

            bindings::vmf_insert_pfn(fault.vma, fault.address, frame)
        };
        if ret == bindings::vm_fault_reason_VM_FAULT_NOPAGE {
            // SAFETY: The page is valid, as above.
            unsafe { bindings::vaccel_page_mark_accessed(page.as_ptr()) };
        }
        ret
    }

    /// The `huge_fault` callback of `struct vm_operations_struct`: maps all of a large page, if the
    /// mapping has room for it and lies as the memory does.
    ///
    /// # Safety
    ///
    /// As for `shmem_fault_callback()`.
    #[cfg(CONFIG_ARCH_SUPPORTS_PMD_PFNMAP)]
    unsafe extern "C" fn shmem_huge_fault_callback(
        vmf: *mut bindings::vm_fault,
        order: c_uint,
    ) -> bindings::vm_fault_t {
        const LARGE: usize = PAGE_SIZE << bindings::VACCEL_PMD_ORDER;
        const FALLBACK: bindings::vm_fault_t = bindings::vm_fault_reason_VM_FAULT_FALLBACK;

        if order != bindings::VACCEL_PMD_ORDER {
            return FALLBACK;
        }
        // SAFETY: By the safety requirements.
        let Some(page) = (unsafe { Self::shmem_fault_page(vmf) }) else {
            return FALLBACK;
        };

        // SAFETY: The description of the fault and the page are valid.
        let (vma, address, frame, is_large) = unsafe {
            let fault = &(*vmf).__bindgen_anon_1;
            (
                fault.vma,
                fault.address,
                bindings::vaccel_page_to_pfn(page.as_ptr()),
                bindings::vaccel_page_is_pmd_mappable(page.as_ptr()),
            )
        };
        // SAFETY: The mapping is valid and locked during a fault.
        let vma = unsafe { VmaRef::from_raw(vma) };

        let start = address & !(LARGE - 1);
        let fits = vma.start() <= start && vma.end() - start >= LARGE;
        // Both begin at multiples of their size, so then all of the page is where it belongs.
        let is_aligned = (address ^ (frame << PAGE_SHIFT)) & (LARGE - 1) == 0;
        if !is_large || !fits || !is_aligned {
            return FALLBACK;
        }

        // SAFETY: The description of the fault is valid.
        let is_write = unsafe { (*vmf).flags } & bindings::fault_flag_FAULT_FLAG_WRITE != 0;
        // SAFETY:
        // - The description of the fault is valid. The whole range lies in the mapping, which the
        //   helper's `mmap` made one of page frames and not of copies.
        // - The mapping is locked during a fault.
        // - The page is a part of `LARGE` contiguous bytes, which begin at a multiple of that in
        //   memory as in the file of the object. The mapping is no larger than the object, so all
        //   these bytes are the object's while the mapping exists.
        let ret = unsafe {
            bindings::vmf_insert_pfn_pmd(vmf, frame & !((LARGE >> PAGE_SHIFT) - 1), is_write)
        };
        if ret == bindings::vm_fault_reason_VM_FAULT_NOPAGE {
            // SAFETY: The page is valid, as above. The memory manager announces no other write.
            unsafe {
                bindings::vaccel_page_mark_accessed(page.as_ptr());
                if is_write {
                    bindings::vaccel_page_mark_dirty(page.as_ptr());
                }
            }
        }
        ret
    }

    /// The `pfn_mkwrite` callback of `struct vm_operations_struct`: a page that user space may only
    /// read so far is about to be written. Without the mark reclaim drops its content when nobody
    /// has a share in the pages.
    ///
    /// # Safety
    ///
    /// As for `shmem_fault_callback()`.
    unsafe extern "C" fn shmem_pfn_mkwrite_callback(
        vmf: *mut bindings::vm_fault,
    ) -> bindings::vm_fault_t {
        // SAFETY: By the safety requirements.
        let Some(page) = (unsafe { Self::shmem_fault_page(vmf) }) else {
            return bindings::vm_fault_reason_VM_FAULT_SIGBUS;
        };

        // SAFETY: The page is valid during the fault.
        unsafe { bindings::vaccel_page_mark_dirty(page.as_ptr()) };
        0
    }

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
