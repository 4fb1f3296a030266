// SPDX-License-Identifier: GPL-2.0-only

//! How a guest finds its virtual GPUs: PCI configuration window and VMBus channels (protocol 1).
//!
//! A virtual GPU is a PCI function without BARs or interrupts, used only through a window in its
//! configuration space, plus a VMBus channel of its own. One more channel serves the whole VM.

use core::fmt;

use super::flags::HostCaps;
use super::ids::Guid;

/// PCI vendor of a virtual GPU.
pub const PCI_VENDOR: u16 = 0x1414;
/// PCI device: virtual render device.
pub const PCI_DEVICE_RENDER: u16 = 0x008e;
/// PCI device: compute accelerator.
pub const PCI_DEVICE_COMPUTE: u16 = 0x008a;

/// Configuration window, read, 16 bytes: instance GUID of the vGPU's VMBus channel.
pub const PCI_CHANNEL_GUID: usize = 192;
/// Configuration window, 4 bytes: the version the host offers (read), the one in use (write).
pub const PCI_VERSION: usize = 208;
/// Configuration window, write, 4 bytes: guest capabilities.
pub const PCI_GUEST_CAPS: usize = 212;
/// Configuration window, read, 8 bytes, from version 40: LUID of the vGPU on the host.
pub const PCI_VGPU_LUID: usize = 212;
/// Configuration window, read, 4 bytes, from version 40: host capabilities.
pub const PCI_HOST_CAPS: usize = 220;
/// The first byte after the configuration window.
pub const PCI_WINDOW_END: usize = 224;

/// Class of the VMBus channel of the VM.
pub const GLOBAL_CHANNEL: Guid = Guid::from_text(0xdde9cbc0_5060_4436_9448_ea1254a5d177);
/// Class of the VMBus channel of a virtual GPU.
pub const VGPU_CHANNEL: Guid = Guid::from_text(0x6e382d18_3336_4f4b_acc4_2b7703d4df4a);

/// Version of the interface a guest and its host agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(u32);

impl Version {
    /// The newest version, the only one with an extended header.
    pub const CURRENT: Self = Self(40);
    /// What a host that offers none speaks.
    pub const LEGACY: Self = Self(27);
    /// The oldest version a guest says it can work with.
    pub const LAST_COMPATIBLE: Self = Self(16);

    /// The version to use with a host whose configuration window offers `offered`.
    ///
    /// Nothing offered means a legacy host; more than this code knows is clamped.
    pub const fn negotiate(offered: u32) -> Self {
        match offered {
            0 => Self::LEGACY,
            1..=39 => Self(offered),
            _ => Self::CURRENT,
        }
    }

    /// The version as a number.
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// Whether guest-to-host messages start with an extended header.
    ///
    /// The same versions have a LUID and host capabilities in the configuration window, the vGPU
    /// LUID in the adapter information, and a status in front of adapter queries.
    pub const fn has_ext_header(self) -> bool {
        self.0 >= Self::CURRENT.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl HostCaps {
    /// Whether backing store may be given as page numbers (SETEXISTINGSYSMEMPAGES).
    pub const fn maps_guest_memory(self) -> bool {
        self.contains(Self::MAP_GUEST_MEMORY)
    }
}
