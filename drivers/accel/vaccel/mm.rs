// SPDX-License-Identifier: GPL-2.0-only

//! Memory management.

use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    types::NotThreadSafe, //
};

use crate::bindings;

/// Bytes of memory that the system has for use.
pub fn total_ram() -> u64 {
    // SAFETY: Only reads a count.
    // CAST: `unsigned long` has at most 64 bits, and the product is the size of memory.
    unsafe { bindings::vaccel_totalram_pages() as u64 * PAGE_SIZE as u64 }
}

/// A section in which allocations of this thread do not wait for memory to be freed, and may take what
/// is kept in reserve.
///
/// For what has to be allocated on the way to signalling a DMA fence: memory may be waiting for that
/// fence before it is freed. Allocate little, and nothing that user space decides on the amount of,
/// because the reserves are everybody's. Not for interrupts. Sections may nest.
///
/// # Invariants
///
/// `flags` is what `memalloc_noreclaim_save()` returned on this thread.
#[must_use = "the section ends when the guard is dropped"]
pub struct NoReclaim {
    flags: u32,
    _not_send: NotThreadSafe,
}

impl NoReclaim {
    /// Begins a section.
    pub fn begin() -> Self {
        // INVARIANT: The type is not `Send`.
        Self {
            // SAFETY: No requirements.
            flags: unsafe { bindings::vaccel_memalloc_noreclaim_save() },
            _not_send: NotThreadSafe,
        }
    }
}

impl Drop for NoReclaim {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the flags are those of the section, begun on this thread.
        // If sections end in another order than they should, the last of them ends too early.
        unsafe { bindings::vaccel_memalloc_noreclaim_restore(self.flags) };
    }
}

/// Memory that the kernel can address in one piece and that others may be given access to.
///
/// # Safety
///
/// While the value exists, wherever it is moved to:
///
/// - [`KernelBuffer::as_ptr`] returns the same page-aligned address of the direct map or of the
///   vmalloc range, valid for [`KernelBuffer::size`] bytes, a positive multiple of the page size;
/// - nobody relies on the content: there are no Rust references to it.
pub unsafe trait KernelBuffer: Send {
    /// The start of the buffer.
    fn as_ptr(&self) -> *mut c_void;

    /// The size of the buffer in bytes.
    fn size(&self) -> usize;
}
