// SPDX-License-Identifier: GPL-2.0-only

//! GEM objects over page frames of an I/O mapping, mapped read-only into user space.
//!
//! C header: [`include/drm/drm_gem.h`](srctree/include/drm/drm_gem.h)
//!
//! The frames are inserted at fault time, in a section under [`drm::Device::enter`]: unplugging the
//! device removes them, and later accesses raise `SIGBUS`. The kernel's own mapping, which the
//! object holds on to, decides how user space caches them. Such objects cannot be exported, for a
//! dma-buf's mappings would outlive the device.
//!
//! [`drm::Device::enter`]: crate::drm::Device::enter

use kernel::{
    mm::virt::{
        flags,
        VmaRef, //
    },
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*,
    sync::Arc, //
};

use super::{
    Backing,
    DriverObject,
    Object, //
};
use crate::{
    bindings,
    io::MemRemap, //
};

/// Page frames of an I/O mapping.
///
/// # Invariants
///
/// The frames lie within the mapping, and there is at least one.
pub struct IoPages {
    mapping: Arc<MemRemap>,
    first_frame: u64,
    frames: usize,
}

impl IoPages {
    /// The frames of `size` bytes at `offset` of `mapping`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if these are not whole pages within the mapping.
    pub fn new(mapping: Arc<MemRemap>, offset: usize, size: usize) -> Result<Self> {
        let end = offset.checked_add(size).ok_or(EINVAL)?;
        if size == 0 || end > mapping.size() {
            return Err(EINVAL);
        }
        // CAST: `usize` has at most 64 bits.
        let start = mapping.phys().checked_add(offset as u64).ok_or(EINVAL)?;
        if start % PAGE_SIZE as u64 != 0 || size % PAGE_SIZE != 0 {
            return Err(EINVAL);
        }

        // INVARIANT: Checked above.
        Ok(Self {
            mapping,
            first_frame: start >> PAGE_SHIFT,
            frames: size / PAGE_SIZE,
        })
    }

    /// The size in bytes.
    pub fn size(&self) -> usize {
        self.frames * PAGE_SIZE
    }

    /// The mapping the frames belong to.
    pub fn mapping(&self) -> &MemRemap {
        &self.mapping
    }

    /// The frame number of page `index`.
    fn frame(&self, index: u64) -> Option<u64> {
        // CAST: `usize` has at most 64 bits.
        (index < self.frames as u64).then(|| self.first_frame + index)
    }
}

impl<T: DriverObject> Object<T> {
    /// The functions of objects over I/O pages.
    pub(super) const IO_FUNCS: bindings::drm_gem_object_funcs = {
        let mut funcs: bindings::drm_gem_object_funcs = pin_init::zeroed();

        funcs.free = Some(Self::free_callback);
        funcs.open = Some(Self::open_callback);
        funcs.close = Some(Self::close_callback);
        funcs.export = Some(Self::no_export_callback);
        funcs.mmap = Some(Self::io_mmap_callback);
        funcs.vm_ops = &Self::IO_VM_OPS;

        funcs
    };

    /// What happens to user mappings of I/O pages.
    const IO_VM_OPS: bindings::vm_operations_struct = {
        let mut ops: bindings::vm_operations_struct = pin_init::zeroed();

        ops.open = Some(bindings::drm_gem_vm_open);
        ops.close = Some(bindings::drm_gem_vm_close);
        ops.fault = Some(Self::io_fault_callback);

        ops
    };

    /// The `mmap` callback of `struct drm_gem_object_funcs`.
    ///
    /// # Safety
    ///
    /// Only for the DRM core, with a mapping that is being set up.
    unsafe extern "C" fn io_mmap_callback(
        _obj: *mut bindings::drm_gem_object,
        vma: *mut bindings::vm_area_struct,
    ) -> c_int {
        // SAFETY: The mapping is valid and locked while it is being set up.
        let flags = unsafe { VmaRef::from_raw(vma) }.flags();
        if flags & (flags::WRITE | flags::EXEC) != 0 {
            return EPERM.to_errno();
        }

        // SAFETY: The mapping is being set up, so its flags may be changed. With `VM_MAYWRITE`
        // gone it can neither become writable nor be a copy-on-write mapping, which page frames
        // must not be inserted into.
        unsafe { bindings::vaccel_vma_map_io_read_only(vma) };
        0
    }

    /// The `fault` callback of `struct vm_operations_struct`.
    ///
    /// # Safety
    ///
    /// Only for the memory manager, with a fault in a mapping of an object of `T`.
    unsafe extern "C" fn io_fault_callback(vmf: *mut bindings::vm_fault) -> bindings::vm_fault_t {
        // SAFETY: The description of the fault is valid during the callback.
        let (vma, page, address) = unsafe {
            let fault = &(*vmf).__bindgen_anon_1;
            (fault.vma, fault.pgoff, fault.address)
        };
        // SAFETY: The DRM core stored the object in the mapping, which holds a reference to it.
        let this = unsafe { Self::from_raw((*vma).vm_private_data.cast()) };

        let Some(_guard) = this.dev.enter() else {
            return bindings::vm_fault_reason_VM_FAULT_SIGBUS;
        };
        let Backing::Io(ref pages) = this.backing else {
            return bindings::vm_fault_reason_VM_FAULT_SIGBUS;
        };

        // SAFETY: The object is initialised, and its place in the offset space does not change.
        let start = unsafe { (*this.as_raw()).vma_node.vm_node.start };
        // CAST: `unsigned long` has at most 64 bits.
        let frame = (page as u64)
            .checked_sub(start)
            .and_then(|i| pages.frame(i));
        let Some(frame) = frame else {
            return bindings::vm_fault_reason_VM_FAULT_SIGBUS;
        };

        // SAFETY:
        // - `address` lies in the mapping, which `io_mmap_callback()` made one of page frames.
        // - The mapping is locked during a fault, and its flags and protection are constant then.
        // - The frame is one of the object's.
        unsafe { bindings::vmf_insert_pfn_prot(vma, address, frame as usize, (*vma).vm_page_prot) }
    }
}
