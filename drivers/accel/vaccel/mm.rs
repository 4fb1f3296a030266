// SPDX-License-Identifier: GPL-2.0-only

//! Memory management.

use kernel::{
    page::PAGE_SIZE,
    prelude::*, //
};

use crate::bindings;

/// Bytes of memory that the system has for use.
pub fn total_ram() -> u64 {
    // SAFETY: Only reads a count.
    // CAST: `unsigned long` has at most 64 bits, and the product is the size of memory.
    unsafe { bindings::vaccel_totalram_pages() as u64 * PAGE_SIZE as u64 }
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
