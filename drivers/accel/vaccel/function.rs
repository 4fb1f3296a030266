// SPDX-License-Identifier: GPL-2.0-only

//! The PCI function of a virtual GPU: the window in its configuration space (protocol 1.1).

use kernel::device::Bound;
use kernel::pci::Device;
use kernel::prelude::*;

use crate::adapter::Function;
use crate::gpupv::{
    self,
    GuestCaps,
    Guid,
    HostCaps,
    Luid,
    Version, //
};
use crate::pci::{
    config_read_dword,
    config_write_dword, //
};

/// Reads the function, negotiating the interface version unless an earlier function did.
///
/// # Errors
///
/// `EIO` and the like if an access fails that the protocol needs.
pub(crate) fn read(device: &Device<Bound>, known: Option<Version>) -> Result<Function> {
    let version = match known {
        Some(version) => version,
        None => negotiate(device)?,
    };
    let channel = channel_guid(device)?;
    let (vgpu_luid, host_caps) = if version.has_ext_header() {
        let low = dword(device, gpupv::PCI_VGPU_LUID)?;
        let high = dword(device, gpupv::PCI_VGPU_LUID + 4)?;
        let caps = dword(device, gpupv::PCI_HOST_CAPS)?;
        (Luid::new(low, high), HostCaps::from_bits(caps))
    } else {
        (Luid::ZERO, HostCaps::EMPTY)
    };
    Ok(Function {
        luid: channel.luid(),
        version,
        vgpu_luid,
        host_caps,
        compute_only: device.device_id() == gpupv::PCI_DEVICE_COMPUTE,
    })
}

fn negotiate(device: &Device<Bound>) -> Result<Version> {
    write(device, gpupv::PCI_GUEST_CAPS, GuestCaps::WSL2.bits())?;
    // A host that does not know the register is a legacy host, not a failure.
    let offered = dword(device, gpupv::PCI_VERSION).unwrap_or(0);
    let version = Version::negotiate(if offered == u32::MAX { 0 } else { offered });
    if version.has_ext_header() {
        write(device, gpupv::PCI_VERSION, version.raw())?;
    }
    Ok(version)
}

fn channel_guid(device: &Device<Bound>) -> Result<Guid> {
    let mut bytes = [0; 16];
    for (at, word) in bytes.chunks_exact_mut(4).enumerate() {
        word.copy_from_slice(&dword(device, gpupv::PCI_CHANNEL_GUID + 4 * at)?.to_le_bytes());
    }
    Ok(Guid::from_bytes(bytes))
}

fn dword(device: &Device<Bound>, offset: usize) -> Result<u32> {
    config_read_dword(device, u16::try_from(offset)?)
}

fn write(device: &Device<Bound>, offset: usize, value: u32) -> Result {
    config_write_dword(device, u16::try_from(offset)?, value)
}
