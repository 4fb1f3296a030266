// SPDX-License-Identifier: GPL-2.0-only

//! PCI configuration space with error reporting, and DMA masks.
//!
//! C header: [`include/linux/pci.h`](srctree/include/linux/pci.h)
//!
//! The kernel crate's `ConfigSpace` ignores the result of an access; for a device whose registers
//! are answered by somebody who may refuse, the result matters.

use kernel::{
    device::{
        Bound,
        Core, //
    },
    dma::{
        Device as _,
        DmaMask, //
    },
    pci,
    prelude::*, //
};

use crate::bindings;

/// The C device behind `dev`.
fn as_raw(dev: &pci::Device<Bound>) -> *mut bindings::pci_dev {
    // `pci::Device` is a transparent wrapper of `struct pci_dev`.
    core::ptr::from_ref(dev).cast_mut().cast()
}

/// Turns the result of a configuration access into a [`Result`].
///
/// The functions return positive `PCIBIOS_*` values as well as negative error codes.
fn to_result(ret: c_int) -> Result {
    match ret {
        0 => Ok(()),
        // `ENODEV` for a device that is gone, `EINVAL` for a bad offset, and so on.
        err if err < 0 => kernel::error::to_result(err),
        _ => Err(EIO),
    }
}

/// Reads the 32-bit register at `offset` of the configuration space.
///
/// # Errors
///
/// `EIO` or an error code of the bus if the access failed.
pub fn config_read_dword(dev: &pci::Device<Bound>, offset: u16) -> Result<u32> {
    let mut value = 0;

    // SAFETY: The device is valid and bound; the C function checks the offset.
    to_result(unsafe { bindings::pci_read_config_dword(as_raw(dev), offset.into(), &mut value) })?;
    Ok(value)
}

/// Writes the 32-bit register at `offset` of the configuration space.
///
/// # Errors
///
/// `EIO` or an error code of the bus if the access failed.
pub fn config_write_dword(dev: &pci::Device<Bound>, offset: u16, value: u32) -> Result {
    // SAFETY: The device is valid and bound; the C function checks the offset.
    to_result(unsafe { bindings::pci_write_config_dword(as_raw(dev), offset.into(), value) })
}

/// Lets the device reach all memory, in pieces of any size.
///
/// By default PCI devices reach 32 bits of addresses, and memory beyond that is copied; and they take
/// 64 KiB at a time, which large pages are not.
///
/// # Errors
///
/// `EIO` if the platform does not have that.
pub fn allow_64_bit_dma(dev: &pci::Device<Core<'_>>) -> Result {
    // SAFETY: The device is being probed, so nobody maps memory for it yet.
    unsafe { dev.dma_set_max_seg_size(u32::MAX) };
    // SAFETY: As above.
    unsafe { dev.dma_set_mask_and_coherent(DmaMask::new::<64>()) }
}
