// SPDX-License-Identifier: GPL-2.0-only

//! Memory management.

use kernel::prelude::*;

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
