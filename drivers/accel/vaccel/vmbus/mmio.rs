// SPDX-License-Identifier: GPL-2.0-only

//! Ranges of guest-physical addresses for I/O, out of the windows of the bus.
//!
//! C header: [`include/linux/hyperv.h`](srctree/include/linux/hyperv.h)

use kernel::{
    device::Bound,
    error::to_result,
    prelude::*, //
};

use super::Device;
use crate::{
    bindings,
    io::{
        CacheMode,
        MemRemap, //
    },
};

/// A range of guest-physical addresses that nobody else uses; given back when dropped.
///
/// # Invariants
///
/// The range was allocated by `vmbus_allocate_mmio()` and is ours to free.
pub struct MmioRange {
    start: u64,
    size: u64,
}

impl MmioRange {
    /// Allocates `size` bytes aligned to `align`, a power of two, on behalf of `dev`.
    ///
    /// # Errors
    ///
    /// `ENXIO` if no window has that much space left, `EINVAL` for a bad size or alignment.
    pub fn allocate(dev: &Device<Bound>, size: u64, align: u64) -> Result<Self> {
        if size == 0 || !align.is_power_of_two() {
            return Err(EINVAL);
        }

        let mut resource = core::ptr::null_mut();
        // SAFETY: The device is valid, and `resource` may be written.
        to_result(unsafe {
            bindings::vmbus_allocate_mmio(
                &mut resource,
                dev.as_raw(),
                0,
                u64::MAX,
                size,
                align,
                false,
            )
        })?;

        // SAFETY: The function succeeded, so it stored a valid resource, which stays until the range
        // is freed.
        let start = unsafe { (*resource).start };
        // INVARIANT: Allocated just now.
        Ok(Self { start, size })
    }

    /// The first address.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// The number of bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Maps `size` bytes at `offset`, cached as `mode` says. Make an end of the mapping, and of what
    /// user space got of it, before the range is dropped.
    ///
    /// # Errors
    ///
    /// `EINVAL` if these are not within the range, `ENOMEM` if they cannot be mapped.
    pub fn remap(&self, offset: u64, size: usize, mode: CacheMode) -> Result<MemRemap> {
        // CAST: `usize` has at most 64 bits.
        let end = offset.checked_add(size as u64).ok_or(EINVAL)?;
        if end > self.size {
            return Err(EINVAL);
        }

        // SAFETY: By the type invariants the range is I/O space of ours.
        unsafe { MemRemap::new(self.start + offset, size, mode) }
    }
}

impl Drop for MmioRange {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the range is ours to free.
        unsafe { bindings::vmbus_free_mmio(self.start, self.size) };
    }
}
