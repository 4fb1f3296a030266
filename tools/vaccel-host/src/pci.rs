// SPDX-License-Identifier: MIT OR Apache-2.0
//! The PCI buses over VMBus: one for the function of each virtual GPU.

use std::mem;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;

use gpupv_host::VgpuId;
use serde::Serialize;
use vmbus_server::Guid;
use vmm::{MmioBus, MmioDevice, PciFunction};
use vpci::{Access, Bus, Env, State, Version, WindowRefused, WINDOW_LEN};

use crate::gpu_function::GpuFunction;

/// Where the function of a virtual GPU is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// On its bus.
    Present,
    /// On its bus until the guest has let go of it, or this time has come.
    Ejecting(#[serde(skip)] u64),
    /// Not on its bus, whose channel is there.
    Missing,
    /// Gone with the channel.
    Gone,
}

/// A packet to the guest.
#[derive(Debug, PartialEq, Eq)]
pub struct Packet {
    /// The guest's packet that it completes, if it does.
    pub completes: Option<u64>,
    /// Its payload.
    pub payload: Vec<u8>,
}

/// What a bus reaches of the machine. Packets wait in it until the call of the bus is over.
pub struct Port {
    mmio: Arc<MmioBus>,
    window: Arc<ConfigWindow>,
    /// Where the window is.
    base: Option<u64>,
    packets: Vec<Packet>,
    ejected: bool,
}

impl Env for Port {
    fn complete(&mut self, transaction_id: u64, payload: &[u8]) {
        self.packets.push(Packet {
            completes: Some(transaction_id),
            payload: payload.to_vec(),
        });
    }

    fn send(&mut self, payload: &[u8]) {
        self.packets.push(Packet {
            completes: None,
            payload: payload.to_vec(),
        });
    }

    fn map_window(&mut self, base: u64) -> Result<(), WindowRefused> {
        let window = Arc::clone(&self.window) as Arc<dyn MmioDevice>;
        let mapped = self.mmio.map(base, WINDOW_LEN, window);
        mapped.map_err(|error| WindowRefused {
            base,
            reason: error.to_string(),
        })?;
        self.base = Some(base);
        Ok(())
    }

    fn unmap_window(&mut self) {
        if let Some(base) = self.base.take() {
            self.mmio.unmap(base);
        }
    }

    fn ejected(&mut self) {
        self.ejected = true;
    }
}

/// Configuration space as the guest sees it in the window.
pub struct ConfigWindow {
    function: Arc<GpuFunction>,
    /// The slot that the guest selected.
    slot: AtomicU32,
}

impl ConfigWindow {
    fn new(function: Arc<GpuFunction>) -> Self {
        Self {
            function,
            slot: AtomicU32::new(0),
        }
    }

    /// The offset in configuration space that an access reaches: there is a function in slot 0 only.
    fn target(&self, offset: u64, len: usize) -> Option<u16> {
        match vpci::access(offset, len) {
            Access::Config(at) if self.slot.load(Ordering::Relaxed) == 0 => Some(at),
            _ => None,
        }
    }
}

impl MmioDevice for ConfigWindow {
    fn read(&self, offset: u64, data: &mut [u8]) {
        if let Some(at) = self.target(offset, data.len()) {
            self.function.config_read(at, data);
        } else if vpci::access(offset, data.len()) == Access::Slot {
            let slot = self.slot.load(Ordering::Relaxed).to_le_bytes();
            data.copy_from_slice(&slot);
        } else {
            data.fill(0xFF);
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if let Some(at) = self.target(offset, data.len()) {
            self.function.config_write(at, data);
        } else if let (Access::Slot, Ok(slot)) = (vpci::access(offset, data.len()), data.try_into())
        {
            self.slot.store(u32::from_le_bytes(slot), Ordering::Relaxed);
        }
    }
}

/// The bus of one virtual GPU.
struct GpuBus {
    bus: Bus,
    port: Port,
    place: Place,
}

/// What a bus is like, for the control channel.
#[derive(Debug, Serialize)]
pub struct BusReport {
    place: Place,
    #[serde(flatten)]
    state: State,
}

/// All buses, in the order of their GPUs; none if the functions are on bus 0.
pub struct Buses {
    newest: Version,
    mmio: Arc<MmioBus>,
    buses: Vec<GpuBus>,
}

impl Buses {
    /// No bus yet; those to come have protocol versions up to `newest` and their windows in `mmio`.
    pub fn new(newest: Version, mmio: Arc<MmioBus>) -> Self {
        Self {
            newest,
            mmio,
            buses: Vec::new(),
        }
    }

    /// Adds the bus of the next GPU's function.
    pub fn add(&mut self, function: Arc<GpuFunction>) {
        let serial = u32::try_from(self.buses.len()).map_or(u32::MAX, |number| number + 1);
        let bus = Bus::new(self.newest, function.description(serial));
        let port = Port {
            mmio: Arc::clone(&self.mmio),
            window: Arc::new(ConfigWindow::new(function)),
            base: None,
            packets: Vec::new(),
            ejected: false,
        };
        self.buses.push(GpuBus {
            bus,
            port,
            place: Place::Present,
        });
    }

    /// Whether a GPU has a bus of its own.
    pub fn has(&self, vgpu: VgpuId) -> bool {
        self.buses.len() > vgpu.index()
    }

    /// Where the function of a GPU is, if it has a bus of its own.
    pub fn place(&self, vgpu: VgpuId) -> Option<Place> {
        self.buses.get(vgpu.index()).map(|gpu| gpu.place)
    }

    /// Notes where the function of a GPU is now, and has it answer accesses or not.
    pub fn set_place(&mut self, vgpu: VgpuId, place: Place) {
        if let Some(gpu) = self.buses.get_mut(vgpu.index()) {
            gpu.place = place;
            let present = matches!(place, Place::Present | Place::Ejecting(_));
            gpu.port.window.function.set_present(present);
        }
    }

    /// Calls the bus of a GPU and returns what it said with the packets that it wants to send.
    pub fn call<R>(
        &mut self,
        vgpu: VgpuId,
        call: impl FnOnce(&mut Bus, &mut Port) -> R,
    ) -> Option<(R, Vec<Packet>)> {
        let gpu = self.buses.get_mut(vgpu.index())?;
        let result = call(&mut gpu.bus, &mut gpu.port);
        Some((result, mem::take(&mut gpu.port.packets)))
    }

    /// When the next guest has had the time that it gets to let go of a function.
    pub fn deadline(&self) -> Option<u64> {
        let ends = self.buses.iter().filter_map(|gpu| match gpu.place {
            Place::Ejecting(end) => Some(end),
            _ => None,
        });
        ends.min()
    }

    /// Whether the guest has let go of the function that it was asked for, or had its time. Said once.
    pub fn take_ejected(&mut self, vgpu: VgpuId, now: u64) -> bool {
        self.buses.get_mut(vgpu.index()).is_some_and(|gpu| {
            let over = matches!(gpu.place, Place::Ejecting(end) if end <= now);
            mem::take(&mut gpu.port.ejected) || over
        })
    }

    /// What each bus is like.
    pub fn report(&self) -> Vec<BusReport> {
        let report = |gpu: &GpuBus| BusReport {
            place: gpu.place,
            state: gpu.bus.state(),
        };
        self.buses.iter().map(report).collect()
    }
}

/// The instance of the channel for a virtual GPU's function. Linux numbers the bus by its second field.
pub fn instance(vgpu: VgpuId) -> Guid {
    let number = u16::try_from(vgpu.index()).unwrap_or(u16::MAX);
    let domain = 0x1000_u16.saturating_add(number);
    Guid::from_fields(0x5643_4900, domain, 0x4000, [0x80, 0, 0, 0, 0, 0, 0, 0])
}

#[cfg(test)]
mod tests {
    use gpupv_host::{Host, HostConfig, VgpuConfig};

    use super::*;

    const BASE: u64 = 0x1_0000_0000;

    fn buses() -> (VgpuId, Arc<MmioBus>, Buses) {
        let mut host = Host::new(HostConfig::default());
        let vgpu = host.add_vgpu(VgpuConfig::numbered(0)).unwrap();
        let function = Arc::new(GpuFunction::new(host.pci_window(vgpu).unwrap()));
        let mmio = Arc::new(MmioBus::new(BASE..BASE + (1 << 20)));
        let mut buses = Buses::new(Version::V1_4, Arc::clone(&mmio));
        buses.add(function);
        (vgpu, mmio, buses)
    }

    fn read(mmio: &MmioBus, offset: u64) -> u32 {
        let mut word = [0; 4];
        mmio.read(BASE + offset, &mut word);
        u32::from_le_bytes(word)
    }

    /// A guest reads the identity of the function and the GPU's window where it put the bus, in the slot of
    /// the function, while the function is there and the bus has power.
    #[test]
    fn configuration_space() {
        let (vgpu, mmio, mut buses) = buses();
        assert_eq!(read(&mmio, 0x1000), u32::MAX);
        let mapped = buses.call(vgpu, |_, port| port.map_window(BASE));
        assert!(mapped.unwrap().0.is_ok());
        assert_eq!(read(&mmio, 0x1000) & 0xFFFF, 0x1414);
        assert_eq!(read(&mmio, 0x10D0), 40);
        mmio.write(BASE, &8_u32.to_le_bytes());
        assert_eq!((read(&mmio, 0), read(&mmio, 0x10D0)), (8, u32::MAX));
        mmio.write(BASE, &0_u32.to_le_bytes());
        buses.set_place(vgpu, Place::Missing);
        assert_eq!(read(&mmio, 0x10D0), u32::MAX);
        buses.set_place(vgpu, Place::Present);
        assert_eq!(read(&mmio, 0x10D0), 40);
        let outside = buses.call(vgpu, |_, port| port.map_window(0));
        assert!(outside.unwrap().0.is_err());
        buses.call(vgpu, |_, port| port.unmap_window());
        assert_eq!(read(&mmio, 0x1000), u32::MAX);
    }

    /// An ejection ends once: when the guest has let go, or its time is over.
    #[test]
    fn ejections() {
        let (vgpu, _, mut buses) = buses();
        assert_eq!(buses.deadline(), None);
        buses.set_place(vgpu, Place::Ejecting(5));
        assert_eq!(buses.deadline(), Some(5));
        assert!(!buses.take_ejected(vgpu, 4));
        assert!(buses.take_ejected(vgpu, 5));
        buses.set_place(vgpu, Place::Ejecting(9));
        buses.call(vgpu, |_, port| port.ejected());
        assert!(buses.take_ejected(vgpu, 6));
        buses.set_place(vgpu, Place::Gone);
        assert!(!buses.take_ejected(vgpu, 9));
    }
}
