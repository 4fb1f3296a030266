// SPDX-License-Identifier: MIT OR Apache-2.0
//! A virtual GPU in PCI configuration space: a header without BARs, and the GPU-PV window.

use std::sync::atomic::{AtomicBool, Ordering};

use gpupv_host::PciWindow;
use vmm::pci::Header;
use vmm::PciFunction;

/// 3D controller: a render device, as Windows hosts show it.
const CLASS_RENDER: u32 = 0x03_0200;
/// Processing accelerator.
const CLASS_COMPUTE: u32 = 0x12_0000;

/// The PCI function of one virtual GPU.
pub struct GpuFunction {
    header: Header,
    class: u32,
    window: PciWindow,
    present: AtomicBool,
}

impl GpuFunction {
    /// Makes the function of a window.
    pub fn new(window: PciWindow) -> Self {
        let class = match window.device() {
            gpupv::PCI_DEVICE_RENDER => CLASS_RENDER,
            _ => CLASS_COMPUTE,
        };
        Self {
            header: Header::new(window.vendor(), window.device(), class),
            class,
            window,
            present: AtomicBool::new(true),
        }
    }

    /// What a bus over VMBus says of the function; no other one of the VM has its serial number.
    pub fn description(&self, serial: u32) -> vpci::Function {
        vpci::Function {
            vendor: self.window.vendor(),
            device: self.window.device(),
            class: self.class,
            serial,
        }
    }

    /// Puts the function into its slot or takes it out, as by a hand that does not ask first.
    pub fn set_present(&self, present: bool) {
        self.present.store(present, Ordering::Relaxed);
    }

    fn is_present(&self) -> bool {
        self.present.load(Ordering::Relaxed)
    }
}

impl PciFunction for GpuFunction {
    fn config_read(&self, offset: u16, data: &mut [u8]) {
        if !self.is_present() {
            return data.fill(0xff);
        }
        if !PciWindow::range().contains(&usize::from(offset)) {
            self.header.read(offset, data);
            return;
        }
        let value = self.window.read(usize::from(offset), data.len());
        for (to, from) in data.iter_mut().zip(value.to_le_bytes()) {
            *to = from;
        }
    }

    fn config_write(&self, offset: u16, data: &[u8]) {
        // The window takes dwords only; the header is read-only.
        if let (true, Ok(word)) = (self.is_present(), <[u8; 4]>::try_from(data)) {
            self.window
                .write(usize::from(offset), u32::from_le_bytes(word));
        }
    }
}

#[cfg(test)]
mod tests {
    use gpupv_host::{Host, HostConfig, VgpuConfig};

    use super::*;

    /// The function shows its identity and class, and behind them the window of its GPU.
    #[test]
    fn header_and_window() {
        let mut host = Host::new(HostConfig::default());
        let vgpu = host.add_vgpu(VgpuConfig::numbered(0)).unwrap();
        let function = GpuFunction::new(host.pci_window(vgpu).unwrap());
        let read = |offset| {
            let mut word = [0; 4];
            function.config_read(offset, &mut word);
            u32::from_le_bytes(word)
        };
        assert_eq!(read(0) & 0xFFFF, 0x1414);
        assert_eq!(read(8) >> 8, CLASS_COMPUTE);
        assert_eq!(read(0x10), 0);
        assert_eq!(read(0xD0), 40);
        // An empty slot reads as ones, and what is written to it is lost.
        function.set_present(false);
        assert_eq!((read(0), read(0xD0)), (u32::MAX, u32::MAX));
        function.config_write(0xD0, &27_u32.to_le_bytes());
        function.set_present(true);
        assert_eq!(read(0xD0), 40);
        assert_eq!(host.version(), gpupv::Version::LEGACY, "nothing chosen");
    }
}
