// SPDX-License-Identifier: MIT OR Apache-2.0
//! Addresses behind which there is a device in place of memory.
//!
//! The guest chooses where in the VMBus MMIO window such a device is, while it runs. An access to it leaves
//! the guest and is carried out on the thread of the processor that made it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};

/// Granularity of addresses and lengths.
const PAGE: u64 = 4096;

/// A device at some addresses.
pub trait MmioDevice: Send + Sync {
    /// Reads `data.len()` bytes, at most 8, at `offset` from the device's first address.
    fn read(&self, offset: u64, data: &mut [u8]);

    /// Writes `data`, at most 8 bytes, at `offset`.
    fn write(&self, offset: u64, data: &[u8]);
}

/// A device cannot be at these addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MmioError {
    /// They are not whole pages inside the window.
    #[error("{base:#x}, {len:#x} bytes: not whole pages between {start:#x} and {end:#x}")]
    Outside {
        /// First address.
        base: u64,
        /// Length in bytes.
        len: u64,
        /// First address of the window.
        start: u64,
        /// First address behind it.
        end: u64,
    },
    /// Another device is there.
    #[error("{base:#x}, {len:#x} bytes: there is a device at {other:#x}")]
    Taken {
        /// First address.
        base: u64,
        /// Length in bytes.
        len: u64,
        /// First address of the other device.
        other: u64,
    },
}

struct Place {
    len: u64,
    device: Arc<dyn MmioDevice>,
}

/// The devices in the VMBus MMIO window.
pub struct MmioBus {
    window: Range<u64>,
    places: RwLock<BTreeMap<u64, Place>>,
}

impl MmioBus {
    /// A window without devices.
    pub fn new(window: Range<u64>) -> Self {
        Self {
            window,
            places: RwLock::default(),
        }
    }

    /// Puts a device at `base`.
    ///
    /// # Errors
    ///
    /// Fails if the addresses are not in the window, no whole pages, or taken.
    pub fn map(&self, base: u64, len: u64, device: Arc<dyn MmioDevice>) -> Result<(), MmioError> {
        let outside = MmioError::Outside {
            base,
            len,
            start: self.window.start,
            end: self.window.end,
        };
        let end = base.checked_add(len).ok_or(outside)?;
        let whole = base % PAGE == 0 && len % PAGE == 0 && len != 0;
        if !whole || base < self.window.start || end > self.window.end {
            return Err(outside);
        }
        let mut places = self.places.write().unwrap_or_else(PoisonError::into_inner);
        if let Some((other, place)) = places.range(..end).next_back() {
            if other.saturating_add(place.len) > base {
                let other = *other;
                return Err(MmioError::Taken { base, len, other });
            }
        }
        places.insert(base, Place { len, device });
        Ok(())
    }

    /// Takes the device at `base` away. An access on its way to it is still carried out.
    pub fn unmap(&self, base: u64) {
        let mut places = self.places.write().unwrap_or_else(PoisonError::into_inner);
        places.remove(&base);
    }

    /// Answers a read; where no device is it is all ones.
    pub fn read(&self, address: u64, data: &mut [u8]) {
        data.fill(0xFF);
        if let Some((device, offset)) = self.target(address) {
            device.read(offset, data);
        }
    }

    /// Carries out a write; where no device is it is lost.
    pub fn write(&self, address: u64, data: &[u8]) {
        if let Some((device, offset)) = self.target(address) {
            device.write(offset, data);
        }
    }

    fn target(&self, address: u64) -> Option<(Arc<dyn MmioDevice>, u64)> {
        let places = self.places.read().unwrap_or_else(PoisonError::into_inner);
        let (base, place) = places.range(..=address).next_back()?;
        let offset = address.checked_sub(*base)?;
        (offset < place.len).then(|| (Arc::clone(&place.device), offset))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    const WINDOW: Range<u64> = 0x1_0000_0000..0x1_0010_0000;

    /// Answers reads with the offset, and notes writes.
    #[derive(Default)]
    struct Recorder(Mutex<Vec<(u64, Vec<u8>)>>);

    impl MmioDevice for Recorder {
        fn read(&self, offset: u64, data: &mut [u8]) {
            data.fill(offset as u8);
        }

        fn write(&self, offset: u64, data: &[u8]) {
            self.0.lock().unwrap().push((offset, data.to_vec()));
        }
    }

    fn read(bus: &MmioBus, address: u64) -> u8 {
        let mut byte = [0];
        bus.read(address, &mut byte);
        byte[0]
    }

    /// An access reaches the device at its address with the offset in it, and nothing beside it.
    #[test]
    fn routing() {
        let bus = MmioBus::new(WINDOW);
        let devices = [(); 2].map(|()| Arc::new(Recorder::default()));
        let base = WINDOW.start + 0x4000;
        bus.map(base, 0x2000, devices[0].clone()).unwrap();
        bus.map(base + 0x2000, 0x2000, devices[1].clone()).unwrap();
        assert_eq!(read(&bus, base + 0x42), 0x42);
        bus.write(base + 0x1FFC, &[1, 2, 3, 4]);
        bus.write(base + 0x2000, &[5]);
        bus.write(base - 1, &[6]);
        bus.write(base + 0x4000, &[7]);
        assert_eq!(*devices[0].0.lock().unwrap(), [(0x1FFC, vec![1, 2, 3, 4])]);
        assert_eq!(*devices[1].0.lock().unwrap(), [(0, vec![5])]);
        assert_eq!(
            (read(&bus, base - 1), read(&bus, base + 0x4000)),
            (255, 255)
        );
        bus.unmap(base);
        assert_eq!((read(&bus, base), read(&bus, base + 0x2001)), (255, 1));
    }

    /// Places outside of the window, taken ones and parts of pages are refused, whatever their numbers.
    #[test]
    fn refusals() {
        let bus = MmioBus::new(WINDOW);
        let map = |base, len| bus.map(base, len, Arc::new(Recorder::default()));
        for (base, len) in [
            (WINDOW.start - 0x1000, 0x2000),
            (WINDOW.end - 0x1000, 0x2000),
            (WINDOW.start + 0x800, 0x1000),
            (WINDOW.start, 0x1800),
            (WINDOW.start, 0),
            (u64::MAX & !0xFFF, 0x2000),
        ] {
            let refused = map(base, len);
            assert!(
                matches!(refused, Err(MmioError::Outside { .. })),
                "{base:#x}"
            );
        }
        map(WINDOW.start + 0x4000, 0x2000).unwrap();
        for base in [0x3000, 0x4000, 0x5000] {
            let refused = map(WINDOW.start + base, 0x2000);
            assert!(matches!(refused, Err(MmioError::Taken { .. })), "{base:#x}");
        }
        map(WINDOW.start + 0x6000, 0x2000).unwrap();
        map(WINDOW.start + 0x2000, 0x2000).unwrap();
    }
}
