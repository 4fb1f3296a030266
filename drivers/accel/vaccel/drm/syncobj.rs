// SPDX-License-Identifier: GPL-2.0-only

//! DRM synchronisation objects.
//!
//! C headers: [`include/drm/drm_syncobj.h`](srctree/include/drm/drm_syncobj.h),
//! [`include/linux/dma-fence-chain.h`](srctree/include/linux/dma-fence-chain.h)
//!
//! A binary syncobj holds a fence. A timeline one holds the last node of a chain of them, each with the
//! number of its point; a point is reached when its fence and those before it are signalled. It is up to
//! who uses a syncobj which of the two it is.

use core::{
    mem::ManuallyDrop,
    ptr::NonNull, //
};

use kernel::{
    error::to_result,
    prelude::*, //
};

use crate::{
    bindings,
    dma_fence::DmaFence,
    drm, //
};

/// A reference to a `struct drm_syncobj`, to be dropped where interrupts are on.
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

    /// A number that no other syncobj has while this one exists.
    pub fn key(&self) -> usize {
        self.0.as_ptr().addr()
    }

    /// The fence that the syncobj holds. May be called in any context.
    pub fn fence(&self) -> Option<DmaFence> {
        // SAFETY: The syncobj is valid; the function returns null or a reference.
        unsafe { DmaFence::from_raw(bindings::vaccel_drm_syncobj_fence_get(self.0.as_ptr())) }
    }

    /// A fence that signals when `point` of a timeline is reached, if the syncobj has one; with 0 the
    /// fence that it holds. May be called in any context.
    pub fn point(&self, point: u64) -> Option<DmaFence> {
        let mut fence = ManuallyDrop::new(self.fence()?).as_raw();
        // SAFETY: The fence is valid, and its reference, which the function takes over unless it fails,
        // is ours.
        let ret = unsafe { bindings::dma_fence_chain_find_seqno(&mut fence, point) };
        // SAFETY: What the function leaves is null or a fence whose reference is ours.
        let found = unsafe { DmaFence::from_raw(fence) };

        to_result(ret).ok()?;
        // A point that was reached may have left the chain.
        Some(found.unwrap_or_else(DmaFence::signalled))
    }

    /// The number of the last point of a timeline, 0 if the syncobj has none. May be called in any
    /// context.
    pub fn last_point(&self) -> u64 {
        self.fence().map_or(0, |fence| {
            // SAFETY: The fence is valid.
            unsafe { bindings::vaccel_dma_fence_chain_seqno(fence.as_raw()) }
        })
    }

    /// Makes the syncobj hold `fence` and nothing else. To be called where interrupts are on.
    pub fn replace(&self, fence: &DmaFence) {
        // SAFETY: Both objects are valid; the syncobj takes its own reference of the fence.
        unsafe { bindings::drm_syncobj_replace_fence(self.0.as_ptr(), fence.as_raw()) };
    }

    /// Adds `fence`, which must not be a chain itself, as `point` of a timeline. To be called in the
    /// context of a process.
    ///
    /// A point that is not above the last one counts as that one: it is reached later for all who ask
    /// for it from now on.
    pub fn add_point(&self, node: ChainNode, fence: &DmaFence, point: u64) {
        let node = ManuallyDrop::new(node);

        // SAFETY:
        // - The syncobj and the fence are valid; the syncobj takes its own reference of the fence.
        // - The node is fresh memory, which becomes the syncobj's: it is not dropped here.
        unsafe {
            bindings::drm_syncobj_add_point(
                self.0.as_ptr(),
                node.0.as_ptr(),
                fence.as_raw(),
                point,
            );
        }
    }
}

impl Clone for SyncObj {
    fn clone(&self) -> Self {
        // SAFETY: The syncobj is valid by the type invariants.
        unsafe { bindings::vaccel_drm_syncobj_get(self.0.as_ptr()) };

        // INVARIANT: That reference is the new value's.
        Self(self.0)
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

/// Memory for a point of a timeline, so that adding it cannot fail.
///
/// # Invariants
///
/// The pointer is what `dma_fence_chain_alloc()` returned, and the memory is ours.
pub struct ChainNode(NonNull<bindings::dma_fence_chain>);

impl ChainNode {
    /// Allocates it. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new() -> Result<Self> {
        // SAFETY: No requirements.
        let node = unsafe { bindings::vaccel_dma_fence_chain_alloc() };

        // INVARIANT: Allocated just now.
        Ok(Self(NonNull::new(node).ok_or(ENOMEM)?))
    }
}

impl Drop for ChainNode {
    fn drop(&mut self) {
        // SAFETY: By the type invariants it is ours to free; it was not used.
        unsafe { bindings::vaccel_dma_fence_chain_free(self.0.as_ptr()) };
    }
}

// SAFETY: The memory belongs to no thread.
unsafe impl Send for ChainNode {}

// SAFETY: A shared reference gives access to nothing.
unsafe impl Sync for ChainNode {}

/// A fence that signals when `point` of a syncobj of `file` is reached, or the one it holds with 0.
/// Sleeps up to five seconds until there is one.
///
/// It is user space that is waited for, so no locks may be held, and no section under
/// [`drm::Device::enter`].
///
/// # Errors
///
/// `ENOENT` if there is no syncobj with this handle, `ETIME` if there was no fence in time,
/// `ERESTARTSYS` if a signal arrived.
pub fn wait_for_point<T: drm::DriverFile>(
    file: &drm::File<T>,
    handle: u32,
    point: u64,
) -> Result<DmaFence> {
    let mut fence = core::ptr::null_mut();

    // SAFETY: `file` is a valid open file, and `fence` may be written.
    let found = to_result(unsafe {
        bindings::drm_syncobj_find_fence(
            file.as_raw(),
            handle,
            point,
            u64::from(bindings::DRM_SYNCOBJ_WAIT_FLAGS_WAIT_FOR_SUBMIT),
            &mut fence,
        )
    });
    // A fence that comes just when the wait ends is left also when the function fails.
    // SAFETY: With that flag the function leaves null or a fence whose reference is ours.
    match unsafe { DmaFence::from_raw(fence) } {
        Some(fence) => Ok(fence),
        None => Err(found.err().unwrap_or(EINVAL)),
    }
}
