// SPDX-License-Identifier: MIT OR Apache-2.0
//! PCI configuration space by ports CF8 and CFC, bus 0.
//!
//! Device 0 is a host bridge; devices 1 to 31 are the caller's functions, one a device. Accesses
//! to anything else read as ones and are otherwise ignored, as on an empty slot. The address
//! register is the only state beside the list of functions, which can grow while the guest runs: a guest
//! finds what is new when it scans the bus again. The functions keep their own state.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// First port of the address register.
pub const ADDRESS_PORT: u16 = 0xCF8;
/// First port of the data window.
pub const DATA_PORT: u16 = 0xCFC;
/// Length of the ports of both.
pub const PORTS: u16 = 8;
/// Bit of the address register that makes the data window live.
const ENABLE: u32 = 1 << 31;
/// Most functions a bus takes beside the host bridge.
pub const MAX_FUNCTIONS: usize = 31;

/// The configuration space of one single-function device.
///
/// Called on the thread of the processor that made the access, which waits for the answer.
pub trait PciFunction: Send + Sync {
    /// Reads `data.len()` (1, 2 or 4) bytes at `offset`, which with the length stays in one dword.
    fn config_read(&self, offset: u16, data: &mut [u8]);

    /// Writes `data` at `offset`, which with the length stays in one dword.
    fn config_write(&self, offset: u16, data: &[u8]);
}

/// A configuration header of type 0 that the guest may only read, without BARs and interrupts.
#[derive(Debug, Clone)]
pub struct Header {
    bytes: [u8; 64],
}

impl Header {
    /// Makes a header; `class` is base class, subclass and interface as one 24-bit number.
    pub fn new(vendor: u16, device: u16, class: u32) -> Self {
        let mut bytes = [0; 64];
        let words = [
            u32::from(vendor) | u32::from(device) << 16,
            0,
            class << 8,
            0,
        ];
        for (to, from) in bytes.chunks_exact_mut(4).zip(words.map(u32::to_le_bytes)) {
            to.copy_from_slice(&from);
        }
        Self { bytes }
    }

    /// Sets the subsystem vendor and device.
    #[must_use]
    pub fn with_subsystem(mut self, vendor: u16, device: u16) -> Self {
        let word = u32::from(vendor) | u32::from(device) << 16;
        if let Some(to) = self.bytes.get_mut(0x2C..0x30) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        self
    }

    /// Reads from the header; zeros behind it.
    pub fn read(&self, offset: u16, data: &mut [u8]) {
        for (byte, at) in data.iter_mut().zip(usize::from(offset)..) {
            *byte = self.bytes.get(at).copied().unwrap_or(0);
        }
    }
}

/// A host bridge is only its header.
impl PciFunction for Header {
    fn config_read(&self, offset: u16, data: &mut [u8]) {
        self.read(offset, data);
    }

    fn config_write(&self, _offset: u16, _data: &[u8]) {}
}

/// A bus has a function in every slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("all {MAX_FUNCTIONS} slots of the PCI bus are taken")]
pub struct BusFull;

/// Bus 0 and the address register.
pub struct PciBus {
    address: Mutex<u32>,
    devices: RwLock<Vec<Arc<dyn PciFunction>>>,
}

impl PciBus {
    /// Makes a bus of a host bridge and `functions`, of which more than [`MAX_FUNCTIONS`] are out
    /// of reach.
    pub fn new(functions: Vec<Arc<dyn PciFunction>>) -> Self {
        let bridge: Arc<dyn PciFunction> = Arc::new(Header::new(0x1414, 0x7192, 0x06_0000));
        Self {
            address: Mutex::new(0),
            devices: RwLock::new(std::iter::once(bridge).chain(functions).collect()),
        }
    }

    /// Puts a function into the next slot.
    ///
    /// # Errors
    ///
    /// [`BusFull`] without a free slot.
    pub fn add(&self, function: Arc<dyn PciFunction>) -> Result<(), BusFull> {
        let mut devices = self.devices.write().unwrap_or_else(PoisonError::into_inner);
        // The host bridge is no function of the caller's.
        if devices.len() > MAX_FUNCTIONS {
            return Err(BusFull);
        }
        devices.push(function);
        Ok(())
    }

    /// Answers an `in` from `port`, one of the eight ports.
    pub fn port_read(&self, port: u16, data: &mut [u8]) {
        data.fill(0xFF);
        let address = *self.address.lock().unwrap_or_else(PoisonError::into_inner);
        if port < DATA_PORT {
            let bytes = address.to_le_bytes();
            let from = usize::from(port.wrapping_sub(ADDRESS_PORT));
            if let Some(bytes) = bytes.get(from..from.saturating_add(data.len())) {
                data.copy_from_slice(bytes);
            }
        } else if let Some((device, offset)) = self.target(address, port, data.len()) {
            device.config_read(offset, data);
        }
    }

    /// Performs an `out` to `port`, one of the eight ports.
    pub fn port_write(&self, port: u16, data: &[u8]) {
        let mut address = self.address.lock().unwrap_or_else(PoisonError::into_inner);
        if port < DATA_PORT {
            // Only whole words change the address; bytes here belong to other chipset registers.
            if let (ADDRESS_PORT, Ok(word)) = (port, <[u8; 4]>::try_from(data)) {
                *address = u32::from_le_bytes(word);
            }
            return;
        }
        let address = *address;
        if let Some((device, offset)) = self.target(address, port, data.len()) {
            device.config_write(offset, data);
        }
    }

    /// The device and configuration offset of a data access, if there is such a device.
    fn target(&self, address: u32, port: u16, len: usize) -> Option<(Arc<dyn PciFunction>, u16)> {
        let byte = port.wrapping_sub(DATA_PORT) & 3;
        let in_dword = usize::from(byte).saturating_add(len) <= 4;
        // Bus and function numbers must be zero.
        if address & ENABLE == 0 || address & 0x00FF_0700 != 0 || !in_dword {
            return None;
        }
        let devices = self.devices.read().unwrap_or_else(PoisonError::into_inner);
        let device = devices.get((address >> 11 & 0x1F) as usize)?;
        Some((Arc::clone(device), (address & 0xFC) as u16 | byte))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records the writes it gets and answers reads with their offset.
    #[derive(Default)]
    struct Recorder(Mutex<Vec<(u16, Vec<u8>)>>);

    impl PciFunction for Recorder {
        fn config_read(&self, offset: u16, data: &mut [u8]) {
            data.fill(offset as u8);
        }

        fn config_write(&self, offset: u16, data: &[u8]) {
            self.0.lock().unwrap().push((offset, data.to_vec()));
        }
    }

    fn select(bus: &PciBus, device: u32, register: u32) {
        bus.port_write(
            ADDRESS_PORT,
            &(ENABLE | device << 11 | register).to_le_bytes(),
        );
    }

    /// The first dword of the host bridge is its vendor and device.
    #[test]
    fn host_bridge() {
        let bus = PciBus::new(vec![]);
        select(&bus, 0, 0);
        let mut id = [0; 4];
        bus.port_read(DATA_PORT, &mut id);
        assert_eq!(u32::from_le_bytes(id), 0x7192_1414);
        let mut class = [0; 2];
        select(&bus, 0, 8);
        bus.port_read(DATA_PORT + 2, &mut class);
        assert_eq!(class, [0x00, 0x06]);
    }

    /// Accesses reach the selected device with the exact offset and bytes, whatever their width.
    #[test]
    fn routing() {
        let recorder = Arc::new(Recorder::default());
        let bus = PciBus::new(vec![recorder.clone()]);
        select(&bus, 1, 0xD4);
        let mut byte = [0];
        bus.port_read(DATA_PORT + 3, &mut byte);
        assert_eq!(byte, [0xD7]);
        bus.port_write(DATA_PORT, &[1, 0, 0, 0]);
        assert_eq!(*recorder.0.lock().unwrap(), [(0xD4, vec![1, 0, 0, 0])]);
    }

    /// A function that is added is in the next slot; a bus without a slot left says so.
    #[test]
    fn hot_add() {
        let bus = PciBus::new(vec![]);
        let read = |device| {
            select(&bus, device, 0x44);
            let mut byte = [0];
            bus.port_read(DATA_PORT, &mut byte);
            byte[0]
        };
        for device in 1..=31 {
            assert_eq!(read(device), 0xFF, "empty slot {device}");
            bus.add(Arc::new(Recorder::default())).unwrap();
            assert_eq!(read(device), 0x44);
        }
        assert_eq!(bus.add(Arc::new(Recorder::default())), Err(BusFull));
    }

    /// Empty slots, other buses and functions, disabled and crossing accesses read as ones.
    #[test]
    fn nothing_there() {
        let bus = PciBus::new(vec![Arc::new(Recorder::default())]);
        let read = |address: u32, port: u16, len: usize| {
            bus.port_write(ADDRESS_PORT, &address.to_le_bytes());
            let mut data = vec![0; len];
            bus.port_read(port, &mut data);
            data
        };
        assert_eq!(read(ENABLE | 2 << 11, DATA_PORT, 4), [0xFF; 4]);
        assert_eq!(read(ENABLE | 1 << 16 | 1 << 11, DATA_PORT, 4), [0xFF; 4]);
        assert_eq!(read(ENABLE | 1 << 11 | 1 << 8, DATA_PORT, 4), [0xFF; 4]);
        assert_eq!(read(1 << 11, DATA_PORT, 4), [0xFF; 4]);
        assert_eq!(read(ENABLE | 1 << 11, DATA_PORT + 3, 2), [0xFF; 2]);
    }

    /// The address register reads back what was written as a word.
    #[test]
    fn address_register() {
        let bus = PciBus::new(vec![]);
        select(&bus, 3, 0x10);
        bus.port_write(ADDRESS_PORT, &[1]);
        let mut address = [0; 4];
        bus.port_read(ADDRESS_PORT, &mut address);
        assert_eq!(u32::from_le_bytes(address), ENABLE | 3 << 11 | 0x10);
    }
}
