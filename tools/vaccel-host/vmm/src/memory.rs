// SPDX-License-Identifier: MIT OR Apache-2.0
//! Guest RAM and host memory shown to the guest.
//!
//! [`Ram`] owns the mappings behind the guest's RAM and is the machine's [`GuestMemory`]: bytes
//! are copied in and out, no reference into guest memory leaves this module. [`IoRegion`] is host
//! memory that the machine maps at an address the guest chose; its owner accesses it by offset, and
//! can put parts of a [`SparseMemory`] in it for the guest to see.
//! Both are freed when the last user drops them, which [`crate::kvm::KvmVm`] delays until the
//! memory slot is gone.

#![expect(
    unsafe_code,
    reason = "a part of a mapping is only replaced through its raw address"
)]

mod discard;

use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::Arc;

use guest_memory::{GuestMemory, MemoryError};
use vm_memory::{
    Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, MmapRegion,
    VolatileMemory,
};

use crate::layout;
use crate::sparse::SparseMemory;

pub use discard::DiscardError;

/// Bytes of a page.
const PAGE: u64 = 4096;

/// Guest memory as the device models share it.
pub type SharedMemory = Arc<dyn GuestMemory>;

/// Host memory for the guest could not be had.
#[derive(Debug, thiserror::Error)]
pub enum RamError {
    /// The amount asked for is outside what the machine supports.
    #[error("guest memory of {bytes} bytes: need a multiple of 4096 and at least {min}", min = layout::MIN_RAM)]
    Size {
        /// The amount asked for.
        bytes: u64,
    },
    /// The mapping failed.
    #[error("cannot map {bytes} bytes for the guest: {reason}")]
    Map {
        /// The amount asked for.
        bytes: u64,
        /// What the mapping call said.
        reason: String,
    },
}

/// One mapped range of guest RAM, as a memory slot needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RamRange {
    /// Guest-physical start.
    pub gpa: u64,
    /// Length in bytes.
    pub len: u64,
    /// Host address of the mapping.
    pub host: u64,
}

/// The RAM of a guest: one range below the 32-bit hole and, if large, one above it.
#[derive(Debug)]
pub struct Ram {
    map: GuestMemoryMmap,
    bytes: u64,
}

impl Ram {
    /// Maps `bytes` of zeroed RAM.
    ///
    /// # Errors
    ///
    /// Fails if the size is not supported or the host has no memory for it.
    pub fn new(bytes: u64) -> Result<Self, RamError> {
        if bytes < layout::MIN_RAM || bytes % 4096 != 0 {
            return Err(RamError::Size { bytes });
        }
        let (low, high) = layout::split_ram(bytes);
        let mut ranges = Vec::new();
        for (gpa, len) in [(0, low), (layout::HIGH_RAM, high)] {
            let len = usize::try_from(len).map_err(|_| RamError::Size { bytes })?;
            if len > 0 {
                ranges.push((GuestAddress(gpa), len));
            }
        }
        let map = GuestMemoryMmap::from_ranges(&ranges).map_err(|error| RamError::Map {
            bytes,
            reason: error.to_string(),
        })?;
        Ok(Self { map, bytes })
    }

    /// Amount of RAM in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The mapped ranges, in ascending order.
    pub fn ranges(&self) -> Vec<RamRange> {
        self.map
            .iter()
            .map(|region| RamRange {
                gpa: region.start_addr().0,
                len: region.len(),
                host: region.as_ptr() as u64,
            })
            .collect()
    }

    /// Runs `access` on the aligned word at `gpa`.
    fn with_word<R>(
        &self,
        gpa: u64,
        access: impl FnOnce(&AtomicU32) -> R,
    ) -> Result<R, MemoryError> {
        let error = MemoryError { gpa, len: 4 };
        let slice = self
            .map
            .get_slice(GuestAddress(gpa), 4)
            .map_err(|_| error)?;
        let word: &AtomicU32 = slice.get_atomic_ref(0).map_err(|_| error)?;
        Ok(access(word))
    }
}

impl GuestMemory for Ram {
    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
        let len = buf.len();
        self.map
            .read_slice(buf, GuestAddress(gpa))
            .map_err(|_| MemoryError { gpa, len })
    }

    fn write(&self, gpa: u64, data: &[u8]) -> Result<(), MemoryError> {
        let len = data.len();
        self.map
            .write_slice(data, GuestAddress(gpa))
            .map_err(|_| MemoryError { gpa, len })
    }

    fn load_u32(&self, gpa: u64) -> Result<u32, MemoryError> {
        self.with_word(gpa, |word| u32::from_le(word.load(Ordering::SeqCst)))
    }

    fn store_u32(&self, gpa: u64, value: u32) -> Result<(), MemoryError> {
        self.with_word(gpa, |word| word.store(value.to_le(), Ordering::SeqCst))
    }

    fn is_ram(&self, gpa: u64, len: u64) -> bool {
        usize::try_from(len).is_ok_and(|len| self.map.check_range(GuestAddress(gpa), len))
    }

    fn set_bit_u32(&self, gpa: u64, bit: u32) -> Result<bool, MemoryError> {
        let mask = 1_u32.wrapping_shl(bit).to_le();
        self.with_word(gpa, |word| {
            word.fetch_or(mask, Ordering::SeqCst) & mask == 0
        })
    }
}

/// An access that is not wholly inside an [`IoRegion`], or not aligned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("offset {offset:#x} is not a u64 inside the I/O region of {len:#x} bytes")]
pub struct IoRegionError {
    /// Offset of the access.
    pub offset: u64,
    /// Length of the region.
    pub len: u64,
}

/// A part of an [`IoRegion`] could not be replaced.
#[derive(Debug, thiserror::Error)]
pub enum ShowError {
    /// It is not whole pages inside the region, or what it is to show not whole pages inside that.
    #[error("{len:#x} bytes at {offset:#x}: not whole pages inside the I/O region and the memory")]
    Range {
        /// Where in the region.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// The kernel refused; the part has zeroed memory of the region's own.
    #[error("cannot map {len:#x} bytes at {offset:#x} of the I/O region")]
    Map {
        /// Where in the region.
        offset: u64,
        /// Bytes.
        len: u64,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// Host memory that the guest sees at an address of its choice.
#[derive(Debug)]
pub struct IoRegion {
    gpa: u64,
    map: MmapRegion,
}

impl IoRegion {
    /// Maps `len` bytes of zeroed host memory to be shown at `gpa`. Pages cost memory when touched.
    ///
    /// # Errors
    ///
    /// Fails if the host has no address space for it.
    pub fn new(gpa: u64, len: u64) -> Result<Self, RamError> {
        let size = usize::try_from(len).map_err(|_| RamError::Size { bytes: len })?;
        let map = MmapRegion::new(size).map_err(|error| RamError::Map {
            bytes: len,
            reason: error.to_string(),
        })?;
        Ok(Self { gpa, map })
    }

    /// Guest-physical start.
    pub fn gpa(&self) -> u64 {
        self.gpa
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.map.size() as u64
    }

    /// Whether the region has no bytes.
    pub fn is_empty(&self) -> bool {
        self.map.size() == 0
    }

    /// The region as a memory slot needs it.
    pub fn range(&self) -> RamRange {
        RamRange {
            gpa: self.gpa,
            len: self.len(),
            host: self.map.as_ptr() as u64,
        }
    }

    /// Loads the little-endian `u64` at `offset`, sequentially consistent.
    ///
    /// # Errors
    ///
    /// Fails if the word is not aligned or not inside the region.
    pub fn load_u64(&self, offset: u64) -> Result<u64, IoRegionError> {
        self.with_word(offset, |word| u64::from_le(word.load(Ordering::SeqCst)))
    }

    /// Stores the little-endian `u64` at `offset`, sequentially consistent.
    ///
    /// # Errors
    ///
    /// Fails if the word is not aligned or not inside the region.
    pub fn store_u64(&self, offset: u64, value: u64) -> Result<(), IoRegionError> {
        self.with_word(offset, |word| word.store(value.to_le(), Ordering::SeqCst))
    }

    /// Copies bytes of the region into `buf`.
    ///
    /// # Errors
    ///
    /// Fails if any byte is outside the region.
    pub fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), IoRegionError> {
        let error = self.error(offset);
        let start = usize::try_from(offset).map_err(|_| error)?;
        let slice = self.map.get_slice(start, buf.len()).map_err(|_| error)?;
        slice.copy_to(buf);
        Ok(())
    }

    /// Copies `data` into the region.
    ///
    /// # Errors
    ///
    /// Fails if any byte is outside the region.
    pub fn write(&self, offset: u64, data: &[u8]) -> Result<(), IoRegionError> {
        let error = self.error(offset);
        let start = usize::try_from(offset).map_err(|_| error)?;
        let slice = self.map.get_slice(start, data.len()).map_err(|_| error)?;
        slice.copy_from(data);
        Ok(())
    }

    /// Puts `len` bytes of `memory`, from `from` on, at `offset`: the guest sees them, and changes
    /// on either side are seen on the other at once.
    ///
    /// # Errors
    ///
    /// Fails if anything is not whole pages inside, or the kernel refuses.
    pub fn show(
        &self,
        offset: u64,
        memory: &SparseMemory,
        from: u64,
        len: u64,
    ) -> Result<(), ShowError> {
        if !memory.contains(from, len) || from % PAGE != 0 {
            return Err(ShowError::Range { offset, len });
        }
        let shown = self.replace(offset, len, Some((memory, from)));
        if matches!(shown, Err(ShowError::Map { .. })) {
            // The kernel may have taken away what was there before it failed.
            self.replace(offset, len, None)?;
        }
        shown
    }

    /// Puts zeroed memory of the region's own at `offset`: the guest sees nothing else there any
    /// more.
    ///
    /// # Errors
    ///
    /// Fails if that is not whole pages inside, or the kernel refuses; the machine cannot go on
    /// then, because the guest may still see what it should not.
    pub fn hide(&self, offset: u64, len: u64) -> Result<(), ShowError> {
        self.replace(offset, len, None)
    }

    /// Replaces a part of the mapping; the memory slot follows.
    fn replace(
        &self,
        offset: u64,
        len: u64,
        shown: Option<(&SparseMemory, u64)>,
    ) -> Result<(), ShowError> {
        let range = ShowError::Range { offset, len };
        let inside = offset.checked_add(len).is_some_and(|end| end <= self.len());
        if !inside || len == 0 || offset % PAGE != 0 || len % PAGE != 0 {
            return Err(range);
        }
        let (Ok(start), Ok(size)) = (usize::try_from(offset), usize::try_from(len)) else {
            return Err(range);
        };
        let (flags, fd, from) = match shown {
            Some((memory, from)) => (libc::MAP_SHARED, memory.file().as_raw_fd(), from),
            None => (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0),
        };
        let Ok(from) = libc::off_t::try_from(from) else {
            return Err(range);
        };
        // SAFETY: the address stays inside the mapping, whose length was compared above.
        let address = unsafe { self.map.as_ptr().add(start) };
        // SAFETY: the range is whole pages of a mapping that this object owns, so nothing else is
        // replaced. Rust code reaches it only by volatile copies and atomics through raw pointers,
        // so no reference into it exists. A file has at least the size that was checked, for ever,
        // so that no access goes past its end. The mapping's owner unmaps all of its range however
        // it is made up.
        let mapped = unsafe {
            libc::mmap(
                address.cast(),
                size,
                libc::PROT_READ | libc::PROT_WRITE,
                flags | libc::MAP_FIXED | libc::MAP_NORESERVE,
                fd,
                from,
            )
        };
        if mapped == libc::MAP_FAILED {
            let source = io::Error::last_os_error();
            return Err(ShowError::Map {
                offset,
                len,
                source,
            });
        }
        Ok(())
    }

    fn error(&self, offset: u64) -> IoRegionError {
        IoRegionError {
            offset,
            len: self.len(),
        }
    }

    fn with_word<R>(
        &self,
        offset: u64,
        access: impl FnOnce(&AtomicU64) -> R,
    ) -> Result<R, IoRegionError> {
        let error = self.error(offset);
        let start = usize::try_from(offset).map_err(|_| error)?;
        let slice = self.map.get_slice(start, 8).map_err(|_| error)?;
        let word: &AtomicU64 = slice.get_atomic_ref(0).map_err(|_| error)?;
        Ok(access(word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RAM answers inside its ranges only, and words agree with bytes.
    #[test]
    fn ram_bounds_and_words() {
        let ram = Ram::new(layout::MIN_RAM).unwrap();
        ram.write(0x1000, &[1, 2, 3, 4]).unwrap();
        assert_eq!(ram.load_u32(0x1000), Ok(0x0403_0201));
        assert_eq!(ram.set_bit_u32(0x1000, 31), Ok(true));
        assert_eq!(ram.set_bit_u32(0x1000, 31), Ok(false));
        assert!(ram.load_u32(0x1002).is_err());
        assert!(ram.write(layout::MIN_RAM - 1, &[0, 0]).is_err());
        assert!(ram.read(u64::MAX, &mut [0; 2]).is_err());
    }

    /// Odd and tiny sizes are refused before anything is mapped.
    #[test]
    fn ram_size_is_checked() {
        assert!(matches!(
            Ram::new(4096),
            Err(RamError::Size { bytes: 4096 })
        ));
        assert!(Ram::new(layout::MIN_RAM + 1).is_err());
    }

    /// An I/O region keeps its words apart and refuses accesses over its end.
    #[test]
    fn io_region_bounds() {
        let region = IoRegion::new(0x1_0000_0000, 8192).unwrap();
        region.store_u64(8184, 7).unwrap();
        assert_eq!(region.load_u64(8184), Ok(7));
        let mut word = [0; 8];
        region.read(8184, &mut word).unwrap();
        assert_eq!(u64::from_le_bytes(word), 7);
        assert!(region.load_u64(8188).is_err());
        assert!(region.store_u64(u64::MAX, 0).is_err());
        assert!(region.write(8190, &[0; 4]).is_err());
    }

    /// What is shown is the memory itself, both ways; hidden, the place is zero and the memory keeps
    /// what it has; what is beside it is not touched.
    #[test]
    fn show_and_hide() {
        let region = IoRegion::new(0x1_0000_0000, 4 << 20).unwrap();
        let memory = SparseMemory::new(64 << 30).unwrap();
        let (at, from) = (2 << 20, 40 << 30);
        region.store_u64(at - 8, 1).unwrap();
        region.store_u64(at, 2).unwrap();
        memory.write(from + 4096, &[3; 8]).unwrap();
        region.show(at, &memory, from, 8192).unwrap();
        let mut bytes = [9; 8];
        region.read(at, &mut bytes).unwrap();
        assert_eq!(bytes, [0; 8], "not what was there before");
        region.read(at + 4096, &mut bytes).unwrap();
        assert_eq!(bytes, [3; 8]);
        region.write(at + 4, &[4; 8]).unwrap();
        memory.read(from + 4, &mut bytes).unwrap();
        assert_eq!(bytes, [4; 8]);
        memory.write(from + 8, &[5; 8]).unwrap();
        region.read(at + 8, &mut bytes).unwrap();
        assert_eq!(bytes, [5; 8]);
        region.hide(at, 8192).unwrap();
        assert_eq!(region.load_u64(at), Ok(0));
        region.store_u64(at, 6).unwrap();
        memory.read(from + 8, &mut bytes).unwrap();
        assert_eq!(bytes, [5; 8], "out of reach");
        assert_eq!(region.load_u64(at - 8), Ok(1));
        region.show(at, &memory, from, 4096).unwrap();
        assert_eq!(region.load_u64(at + 8), Ok(0x0505_0505_0505_0505));
    }

    /// Memory that is discarded while it is shown reads as zeros through the region.
    #[test]
    fn discarded_while_shown() {
        let region = IoRegion::new(0x1_0000_0000, 1 << 20).unwrap();
        let memory = SparseMemory::new(1 << 20).unwrap();
        region.show(0, &memory, 4096, 4096).unwrap();
        region.store_u64(16, 7).unwrap();
        memory.discard(4096, 4096).unwrap();
        assert_eq!(region.load_u64(16), Ok(0));
    }

    /// Parts that are not whole pages, or not inside the region or the memory, are refused before
    /// anything changes.
    #[test]
    fn refused_parts() {
        let region = IoRegion::new(0x1_0000_0000, 8192).unwrap();
        let memory = SparseMemory::new(8192).unwrap();
        region.store_u64(0, 1).unwrap();
        for (offset, from, len) in [
            (0, 0, 0),
            (8, 0, 4096),
            (0, 8, 4096),
            (0, 0, 4095),
            (4096, 0, 8192),
            (0, 4096, 8192),
            (u64::MAX - 4095, 0, 4096),
            (0, u64::MAX - 4095, 4096),
        ] {
            let shown = region.show(offset, &memory, from, len);
            assert!(matches!(shown, Err(ShowError::Range { .. })), "{offset:#x}");
        }
        assert!(region.hide(8192, 4096).is_err());
        assert_eq!(region.load_u64(0), Ok(1));
    }
}
