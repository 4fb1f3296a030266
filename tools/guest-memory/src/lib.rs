// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the device models may do with the memory of a guest.
//!
//! The device models (VMBus rings, GPU-PV host, engines) see guest memory only through
//! [`GuestMemory`]: bytes are copied in or out, never borrowed, because the guest may write to them
//! at any time. The VMM implements the trait over its memory map; tests use [`FlatMemory`].

mod ranges;

use std::sync::Mutex;

pub use ranges::{GuestRange, GuestRanges, RangeError};

/// An access that is not wholly inside guest RAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("guest address {gpa:#x}, length {len:#x} is not guest memory")]
pub struct MemoryError {
    /// First guest-physical address of the access.
    pub gpa: u64,
    /// Length of the access in bytes.
    pub len: usize,
}

/// Guest-physical memory. Addresses are guest-physical and in bytes.
pub trait GuestMemory: Send + Sync {
    /// Copies guest memory into `buf`.
    ///
    /// # Errors
    ///
    /// Fails, with `buf` in an unspecified state, if any byte is not guest RAM.
    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), MemoryError>;

    /// Copies `data` into guest memory.
    ///
    /// # Errors
    ///
    /// Fails if any byte is not guest RAM; earlier bytes may have been written.
    fn write(&self, gpa: u64, data: &[u8]) -> Result<(), MemoryError>;

    /// Loads a naturally aligned little-endian `u32`, sequentially consistent.
    ///
    /// # Errors
    ///
    /// Fails if the word is not aligned or not guest RAM.
    fn load_u32(&self, gpa: u64) -> Result<u32, MemoryError>;

    /// Stores a naturally aligned little-endian `u32`, sequentially consistent.
    ///
    /// # Errors
    ///
    /// Fails if the word is not aligned or not guest RAM.
    fn store_u32(&self, gpa: u64, value: u32) -> Result<(), MemoryError>;

    /// Sets bit `bit` (0..=31) of a naturally aligned `u32` and returns whether it was clear before.
    ///
    /// # Errors
    ///
    /// Fails if the word is not aligned or not guest RAM.
    fn set_bit_u32(&self, gpa: u64, bit: u32) -> Result<bool, MemoryError>;

    /// Whether `gpa..gpa + len` is wholly guest RAM. The answer holds only as long as the memory map
    /// does not change; accesses check again.
    ///
    /// The default reads one byte of each 4 KiB page; an implementation that knows its map can do
    /// better.
    fn is_ram(&self, gpa: u64, len: u64) -> bool {
        const PAGE_SHIFT: u32 = 12;
        let Some(last) = len.checked_sub(1).and_then(|rest| gpa.checked_add(rest)) else {
            return len == 0;
        };
        (gpa >> PAGE_SHIFT..=last >> PAGE_SHIFT).all(|page| {
            let probe = (page << PAGE_SHIFT).max(gpa);
            self.read(probe, &mut [0]).is_ok()
        }) && self.read(last, &mut [0]).is_ok()
    }
}

/// Guest memory in a vector, for tests: addresses `base..base + len`.
pub struct FlatMemory {
    base: u64,
    bytes: Mutex<Vec<u8>>,
}

impl FlatMemory {
    /// Makes zeroed memory of `len` bytes at guest-physical address `base`.
    pub fn new(base: u64, len: usize) -> Self {
        Self {
            base,
            bytes: Mutex::new(vec![0; len]),
        }
    }

    fn with<R>(
        &self,
        gpa: u64,
        len: usize,
        access: impl FnOnce(&mut [u8]) -> R,
    ) -> Result<R, MemoryError> {
        let error = MemoryError { gpa, len };
        let start = gpa.checked_sub(self.base).ok_or(error)?;
        let start = usize::try_from(start).map_err(|_| error)?;
        let end = start.checked_add(len).ok_or(error)?;
        let mut bytes = self
            .bytes
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        bytes.get_mut(start..end).map(access).ok_or(error)
    }

    fn with_word<R>(
        &self,
        gpa: u64,
        access: impl FnOnce(&mut [u8; 4]) -> R,
    ) -> Result<R, MemoryError> {
        let error = MemoryError { gpa, len: 4 };
        if gpa % 4 != 0 {
            return Err(error);
        }
        self.with(gpa, 4, |bytes| bytes.first_chunk_mut().map(access))?
            .ok_or(error)
    }
}

impl GuestMemory for FlatMemory {
    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
        self.with(gpa, buf.len(), |bytes| buf.copy_from_slice(bytes))
    }

    fn write(&self, gpa: u64, data: &[u8]) -> Result<(), MemoryError> {
        self.with(gpa, data.len(), |bytes| bytes.copy_from_slice(data))
    }

    fn load_u32(&self, gpa: u64) -> Result<u32, MemoryError> {
        self.with_word(gpa, |word| u32::from_le_bytes(*word))
    }

    fn store_u32(&self, gpa: u64, value: u32) -> Result<(), MemoryError> {
        self.with_word(gpa, |word| *word = value.to_le_bytes())
    }

    fn set_bit_u32(&self, gpa: u64, bit: u32) -> Result<bool, MemoryError> {
        self.with_word(gpa, |word| {
            let old = u32::from_le_bytes(*word);
            let mask = 1_u32.wrapping_shl(bit);
            *word = (old | mask).to_le_bytes();
            old & mask == 0
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Accesses that cross either end of memory fail and say where.
    #[test]
    fn out_of_range_is_an_error() {
        let memory = FlatMemory::new(0x1000, 16);
        assert_eq!(
            memory.read(0xfff, &mut [0; 1]),
            Err(MemoryError { gpa: 0xfff, len: 1 })
        );
        assert!(memory.write(0x100f, &[1, 2]).is_err());
        assert!(memory.read(u64::MAX, &mut [0; 2]).is_err());
        assert!(memory.load_u32(0x1002).is_err());
    }

    /// The default answer to "is this RAM" sees both ends and a wrapped range.
    #[test]
    fn ram_is_told_from_nothing() {
        let memory = FlatMemory::new(0x1000, 0x2000);
        assert!(memory.is_ram(0x1000, 0x2000));
        assert!(memory.is_ram(0x1fff, 2));
        assert!(!memory.is_ram(0xfff, 2));
        assert!(!memory.is_ram(0x1000, 0x2001));
        assert!(!memory.is_ram(u64::MAX, 2));
    }

    /// A word written as bytes reads back as the same little-endian word, and a bit is set once.
    #[test]
    fn words_and_bytes_agree() {
        let memory = FlatMemory::new(0, 8);
        memory.write(4, &[1, 2, 3, 4]).unwrap();
        assert_eq!(memory.load_u32(4), Ok(0x0403_0201));
        assert_eq!(memory.set_bit_u32(4, 31), Ok(true));
        assert_eq!(memory.set_bit_u32(4, 31), Ok(false));
        memory.store_u32(0, 7).unwrap();
        assert_eq!(memory.load_u32(0), Ok(7));
    }
}
