// SPDX-License-Identifier: GPL-2.0-only

//! Memory of devices that control groups may limit.
//!
//! C header: [`include/linux/cgroup_dmem.h`](srctree/include/linux/cgroup_dmem.h)
//!
//! A region is registered once per device and kind of memory; what a process takes of it is charged
//! to the group the process is in, and stays charged to that one. Where the kernel does not have this
//! controller there are no regions and no limits.
//!
//! `drmm_cgroup_register_region()` would tie the region to the memory of the DRM device, which may
//! outlive the hardware by far, and the name would be taken meanwhile. Here a region is a value, and
//! ends when that is dropped.

use core::ptr::NonNull;

use kernel::{
    error::{
        from_err_ptr,
        to_result, //
    },
    prelude::*, //
};

use crate::{
    bindings,
    drm, //
};

/// Memory that control groups may limit; unregistered when dropped.
///
/// # Invariants
///
/// The region, if there is one, is registered, and ours to unregister.
pub struct MemoryRegion(Option<NonNull<bindings::dmem_cgroup_region>>);

impl<T: drm::Driver> drm::UnregisteredDevice<T> {
    /// Registers `size` bytes of memory that control groups will know as `drm/<device>/<name>`.
    ///
    /// The region is absent, and limits nothing, if `size` is 0 or the kernel has no such controller.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn register_memory_region(&self, name: &CStr, size: u64) -> Result<MemoryRegion> {
        // SAFETY: The device is valid and `name` a string; both are used during the call only.
        let region = from_err_ptr(unsafe {
            bindings::vaccel_dmem_cgroup_register_region(self.as_raw(), name.as_char_ptr(), size)
        })?;

        // INVARIANT: Registered just now.
        Ok(MemoryRegion(NonNull::new(region)))
    }
}

impl MemoryRegion {
    /// Charges `size` bytes to the control group of the calling process. May sleep.
    ///
    /// Returns [`None`] if the region is absent.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if that is more than the group, or one above it, may have; `ENOMEM`.
    pub fn try_charge(&self, size: u64) -> Result<Option<Charge>> {
        let Some(region) = self.0 else {
            return Ok(None);
        };

        let mut pool = core::ptr::null_mut();
        // SAFETY: By the type invariants the region is registered, and `pool` may be written. The
        // function is not asked for the limit that was hit, so it takes no reference of that.
        to_result(unsafe {
            bindings::vaccel_dmem_cgroup_try_charge(region.as_ptr(), size, &mut pool)
        })
        .map_err(|e| if e == EAGAIN { ENOSPC } else { e })?;

        // INVARIANT: Charged just now.
        Ok(NonNull::new(pool).map(|pool| Charge { pool, size }))
    }
}

impl Drop for MemoryRegion {
    fn drop(&mut self) {
        if let Some(region) = self.0 {
            // SAFETY: By the type invariants the region is ours to unregister. Charges do not need
            // it: each refers to its pool, which refers to the memory of the region.
            unsafe { bindings::vaccel_dmem_cgroup_unregister_region(region.as_ptr()) };
        }
    }
}

// SAFETY: Regions belong to no thread, and may be unregistered on any that can sleep.
unsafe impl Send for MemoryRegion {}

// SAFETY: Charging takes the locks it needs.
unsafe impl Sync for MemoryRegion {}

/// Bytes that are charged to a control group, until this is dropped.
///
/// May outlive its region, and be dropped anywhere.
///
/// # Invariants
///
/// `size` bytes were charged to `pool`, whose reference is ours.
pub struct Charge {
    pool: NonNull<bindings::dmem_cgroup_pool_state>,
    size: u64,
}

impl Charge {
    /// How much is charged, in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        // SAFETY: By the type invariants that was charged to this pool, and the reference is ours.
        unsafe { bindings::vaccel_dmem_cgroup_uncharge(self.pool.as_ptr(), self.size) };
    }
}

// SAFETY: Charges are atomic counts, and belong to no thread.
unsafe impl Send for Charge {}

// SAFETY: A shared reference gives access to a number.
unsafe impl Sync for Charge {}
