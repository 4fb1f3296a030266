// SPDX-License-Identifier: GPL-2.0-only

//! Who uses the memory of a GEM object, for those who share it and synchronise implicitly.
//!
//! C header: [`include/linux/dma-resv.h`](srctree/include/linux/dma-resv.h)
//!
//! The reservation of an object holds fences of its users. That of an imported object is the exporter's,
//! so that all who share a dma-buf see the same.

use kernel::{
    error::to_result,
    prelude::*,
    time::Jiffies, //
};

use super::{
    DriverObject,
    Object, //
};
use crate::{
    bindings,
    dma_fence::DmaFence, //
};

impl<T: DriverObject> Object<T> {
    /// The reservation, which is valid as long as the object.
    fn reservation(&self) -> *mut bindings::dma_resv {
        // SAFETY: The GEM object is initialised by the type invariants; the field is not changed once
        // the object can be found.
        unsafe { (*self.as_raw()).resv }
    }

    /// A fence that signals when nobody uses the object any more in a way that a write, or a read, has
    /// to wait for. [`None`] if that is so already. May sleep.
    ///
    /// It may be an array, and must not be added to a reservation then.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn reservation_fences(&self, write: bool) -> Result<Option<DmaFence>> {
        let mut fence = core::ptr::null_mut();

        // SAFETY: The reservation is valid, and is not to be locked for this; `fence` may be written.
        to_result(unsafe {
            bindings::dma_resv_get_singleton(
                self.reservation(),
                bindings::vaccel_dma_resv_usage_rw(write),
                &mut fence,
            )
        })?;
        // SAFETY: The function left null or a fence whose reference is ours.
        Ok(unsafe { DmaFence::from_raw(fence) })
    }

    /// Adds the fence of somebody who writes to the object, or reads it. Sleeps.
    ///
    /// Without memory to note it, the fence is waited for instead. It must not be an array.
    ///
    /// The lock of the reservation is taken, so this is not for the way to signalling a fence, and not
    /// for the callbacks of [`DriverObject`] that have it already.
    pub fn add_reservation_fence(&self, fence: &DmaFence, write: bool) {
        let resv = self.reservation();
        let usage = if write {
            bindings::dma_resv_usage_DMA_RESV_USAGE_WRITE
        } else {
            bindings::dma_resv_usage_DMA_RESV_USAGE_READ
        };

        // SAFETY: The reservation is valid. The lock is taken by itself, without a context.
        unsafe { bindings::vaccel_dma_resv_lock(resv) };
        // SAFETY: The reservation is locked, and that a slot was reserved is seen before it is used. The
        // fence is valid; the reservation takes its own reference.
        unsafe {
            if bindings::dma_resv_reserve_fences(resv, 1) == 0 {
                bindings::dma_resv_add_fence(resv, fence.as_raw(), usage);
            } else {
                // Fences signal in bounded time.
                let _ = fence.wait_timeout(Jiffies::MAX);
            }
            bindings::dma_resv_unlock(resv);
        }
    }
}
