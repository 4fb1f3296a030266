// SPDX-License-Identifier: MIT OR Apache-2.0
//! The window in PCI configuration space by which a guest meets a virtual GPU (protocol 1.1).
//!
//! A window is separate from the host and can be used from any thread: configuration accesses are
//! answered where they happen. What the guest writes (version, capabilities) holds for the VM.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;

use gpupv::{
    Guid, HostCaps, Luid, Version, PCI_CHANNEL_GUID, PCI_DEVICE_COMPUTE, PCI_DEVICE_RENDER,
    PCI_GUEST_CAPS, PCI_HOST_CAPS, PCI_VENDOR, PCI_VERSION, PCI_VGPU_LUID, PCI_WINDOW_END,
};

use crate::config::{HostConfig, VgpuConfig};

/// What was negotiated, for the whole VM.
#[derive(Debug)]
pub(crate) struct Negotiation {
    offered: u32,
    /// What the guest wrote; 0 before it did.
    chosen: AtomicU32,
    guest_caps: AtomicU32,
}

impl Negotiation {
    pub(crate) fn new(config: &HostConfig) -> Self {
        Self {
            offered: config.version,
            chosen: AtomicU32::new(0),
            guest_caps: AtomicU32::new(0),
        }
    }

    /// The version messages have: what the guest chose; for one that did not choose, what it must
    /// take the offer for, but nothing with an extended header, which has to be chosen.
    pub(crate) fn version(&self) -> Version {
        let offered = Version::negotiate(self.offered);
        match self.chosen.load(Ordering::Acquire) {
            0 if offered.has_ext_header() => Version::LEGACY,
            0 => offered,
            chosen => Version::negotiate(chosen).min(offered),
        }
    }

    /// A new guest, or a driver loaded again, starts from the beginning.
    pub(crate) fn reset(&self) {
        self.chosen.store(0, Ordering::Release);
        self.guest_caps.store(0, Ordering::Release);
    }
}

/// The configuration window of one virtual GPU.
#[derive(Debug, Clone)]
pub struct PciWindow {
    negotiation: Arc<Negotiation>,
    guid: Guid,
    luid: Luid,
    caps: HostCaps,
    compute_only: bool,
}

impl PciWindow {
    pub(crate) fn new(negotiation: Arc<Negotiation>, host: &HostConfig, vgpu: &VgpuConfig) -> Self {
        Self {
            negotiation,
            guid: vgpu.channel_instance,
            luid: vgpu.vgpu_luid,
            caps: if host.map_guest_memory {
                HostCaps::MAP_GUEST_MEMORY
            } else {
                HostCaps::EMPTY
            },
            compute_only: vgpu.compute_only,
        }
    }

    /// PCI vendor id.
    pub fn vendor(&self) -> u16 {
        PCI_VENDOR
    }

    /// PCI device id.
    pub fn device(&self) -> u16 {
        if self.compute_only {
            PCI_DEVICE_COMPUTE
        } else {
            PCI_DEVICE_RENDER
        }
    }

    /// Offsets in configuration space that belong to the window.
    pub fn range() -> std::ops::Range<usize> {
        PCI_CHANNEL_GUID..PCI_WINDOW_END
    }

    fn byte(&self, offset: usize) -> u8 {
        let pick = |bytes: &[u8], start: usize| {
            let at = offset.saturating_sub(start);
            bytes.get(at).copied().unwrap_or(0)
        };
        let current = Version::negotiate(self.negotiation.offered).has_ext_header();
        match offset {
            PCI_CHANNEL_GUID..PCI_VERSION => pick(&self.guid.to_bytes(), PCI_CHANNEL_GUID),
            PCI_VERSION..PCI_VGPU_LUID => {
                pick(&self.negotiation.offered.to_le_bytes(), PCI_VERSION)
            }
            PCI_VGPU_LUID..PCI_HOST_CAPS if current => {
                pick(&self.luid.as_u64().to_le_bytes(), PCI_VGPU_LUID)
            }
            PCI_HOST_CAPS..PCI_WINDOW_END if current => {
                pick(&self.caps.bits().to_le_bytes(), PCI_HOST_CAPS)
            }
            _ => 0,
        }
    }

    /// Reads `len` (1, 2 or 4) bytes at an offset in configuration space; bytes outside the window
    /// are 0.
    pub fn read(&self, offset: usize, len: usize) -> u32 {
        let mut bytes = [0; 4];
        for (at, byte) in bytes.iter_mut().take(len).enumerate() {
            *byte = self.byte(offset.saturating_add(at));
        }
        u32::from_le_bytes(bytes)
    }

    /// Writes a dword. Anything but the version and the guest's capabilities is ignored.
    pub fn write(&self, offset: usize, value: u32) {
        match offset {
            PCI_VERSION => self.negotiation.chosen.store(value, Ordering::Release),
            PCI_GUEST_CAPS => self.negotiation.guest_caps.store(value, Ordering::Release),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(version: u32) -> PciWindow {
        let host = HostConfig {
            version,
            ..HostConfig::default()
        };
        let negotiation = Arc::new(Negotiation::new(&host));
        PciWindow::new(negotiation, &host, &VgpuConfig::numbered(3))
    }

    /// A current host shows everything; writing capabilities does not change what the LUID reads.
    #[test]
    fn current_host() {
        let window = window(40);
        let config = VgpuConfig::numbered(3);
        let guid: Vec<u8> = (192..208)
            .step_by(4)
            .flat_map(|offset| window.read(offset, 4).to_le_bytes())
            .collect();
        assert_eq!(guid, config.channel_instance.to_bytes());
        assert_eq!(window.read(208, 4), 40);
        window.write(212, 1);
        assert_eq!(window.read(212, 4), config.vgpu_luid.low);
        assert_eq!(window.read(216, 4), config.vgpu_luid.high);
        assert_eq!(window.read(220, 4), 1);
        assert_eq!(window.read(210, 2), 0);
        assert_eq!(window.read(188, 4), 0);
        assert_eq!(window.negotiation.version(), Version::LEGACY);
        window.write(208, 40);
        assert_eq!(window.negotiation.version(), Version::CURRENT);
    }

    /// A legacy host has neither LUID nor capabilities, and keeps its version.
    #[test]
    fn legacy_host() {
        let window = window(27);
        assert_eq!(window.read(208, 4), 27);
        assert_eq!((window.read(212, 4), window.read(220, 4)), (0, 0));
        window.write(208, 40);
        assert_eq!(window.negotiation.version(), Version::LEGACY);
    }
}
