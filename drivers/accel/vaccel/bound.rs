// SPDX-License-Identifier: GPL-2.0-only

//! Bound devices found again.
//!
//! The bus abstractions hand out `Device<Bound>` only inside the callbacks of a driver. A virtual
//! GPU starts in a callback of *one* of its three devices and needs the other two, so the proof that
//! those are bound is kept by [`discovery`](crate::discovery) instead of by a lifetime. This is the
//! only place where that proof is turned back into a type.

use core::ptr;

use kernel::device::Bound;

/// The device, known to be bound.
///
/// # Safety
///
/// `device` must be bound to this driver for as long as the reference is used.
pub(crate) unsafe fn vmbus(device: &crate::vmbus::Device) -> &crate::vmbus::Device<Bound> {
    // SAFETY:
    // - `Device` has the same layout for every context, it is transparent.
    // - The caller guarantees what the context `Bound` stands for.
    unsafe { &*ptr::from_ref(device).cast() }
}

/// The device, known to be bound.
///
/// # Safety
///
/// `device` must be bound to this driver for as long as the reference is used.
pub(crate) unsafe fn pci(device: &kernel::pci::Device) -> &kernel::pci::Device<Bound> {
    // SAFETY: As in `vmbus`.
    unsafe { &*ptr::from_ref(device).cast() }
}
