// SPDX-License-Identifier: GPL-2.0-only

//! DRM synchronisation objects.
//!
//! C header: [`include/drm/drm_syncobj.h`](srctree/include/drm/drm_syncobj.h)

use core::ptr::NonNull;

use kernel::prelude::*;

use crate::{
    bindings,
    drm, //
};

/// A reference to a `struct drm_syncobj`.
///
/// # Invariants
///
/// The pointer is valid and the reference is ours.
pub struct SyncObj(NonNull<bindings::drm_syncobj>);

impl SyncObj {
    /// Looks up a syncobj of `file`.
    ///
    /// # Errors
    ///
    /// `ENOENT` if there is none with this handle.
    pub fn find<T: drm::DriverFile>(file: &drm::File<T>, handle: u32) -> Result<Self> {
        // SAFETY: `file` is a valid open file.
        let obj = unsafe { bindings::drm_syncobj_find(file.as_raw(), handle) };

        // INVARIANT: The lookup took a reference for us.
        Ok(Self(NonNull::new(obj).ok_or(ENOENT)?))
    }

    /// Makes a binary syncobj signalled.
    pub fn signal(&self) {
        let fence = SignalledFence::new();

        // SAFETY: Both objects are valid; the syncobj takes its own reference of the fence.
        unsafe { bindings::drm_syncobj_replace_fence(self.0.as_ptr(), fence.0) };
    }

    /// Makes `point` of a timeline syncobj signalled.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn signal_point(&self, point: u64) -> Result {
        // SAFETY: No requirements.
        let chain = unsafe { bindings::vaccel_dma_fence_chain_alloc() };
        let chain = NonNull::new(chain).ok_or(ENOMEM)?;
        let fence = SignalledFence::new();

        // SAFETY:
        // - The syncobj and the fence are valid; the syncobj takes its own reference of the fence.
        // - The chain node is fresh memory, which the syncobj takes over.
        unsafe {
            bindings::drm_syncobj_add_point(self.0.as_ptr(), chain.as_ptr(), fence.0, point);
        }
        Ok(())
    }
}

impl Drop for SyncObj {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the reference is ours to give up.
        unsafe { bindings::vaccel_drm_syncobj_put(self.0.as_ptr()) };
    }
}

// SAFETY: Syncobjs are reference counted and lock for themselves; a reference belongs to no thread.
unsafe impl Send for SyncObj {}

// SAFETY: As above.
unsafe impl Sync for SyncObj {}

/// A reference to the core's fence that is always signalled.
///
/// # Invariants
///
/// The pointer is valid and the reference is ours.
struct SignalledFence(*mut bindings::dma_fence);

impl SignalledFence {
    fn new() -> Self {
        // SAFETY: No requirements.
        // INVARIANT: The function returns a reference and does not fail.
        Self(unsafe { bindings::dma_fence_get_stub() })
    }
}

impl Drop for SignalledFence {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the reference is ours to give up.
        unsafe { bindings::vaccel_dma_fence_put(self.0) };
    }
}
