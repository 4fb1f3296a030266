// SPDX-License-Identifier: MIT OR Apache-2.0
//! One ring in guest memory: control words, data with wrap-around, index checks.

use std::sync::Arc;

use guest_memory::{GuestMemory, GuestRanges};

use crate::error::RingError;
use crate::layout::{MAX_RING, PAGE_SIZE};

const PAGE: u64 = PAGE_SIZE as u64;

/// Which of the two indexes of a ring is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Index {
    Read,
    Write,
}

/// The memory of one ring.
pub(crate) struct Ring {
    memory: Arc<dyn GuestMemory>,
    ranges: GuestRanges,
    /// Address of the control page.
    control: u64,
    data_len: u32,
}

impl Ring {
    /// Takes `ranges` as a control page and the data pages after it.
    pub(crate) fn new(
        memory: Arc<dyn GuestMemory>,
        ranges: GuestRanges,
    ) -> Result<Self, RingError> {
        let bad_size = RingError::BadSize {
            bytes: ranges.len(),
            max: MAX_RING,
        };
        for range in ranges.iter() {
            if range.gpa % PAGE != 0 || range.len % PAGE != 0 {
                return Err(RingError::Unaligned {
                    gpa: range.gpa,
                    len: range.len,
                });
            }
        }
        if ranges.len() > u64::from(MAX_RING) {
            return Err(bad_size);
        }
        let data_len = u32::try_from(ranges.len())
            .ok()
            .and_then(|len| len.checked_sub(PAGE_SIZE))
            .filter(|len| *len != 0)
            .ok_or(bad_size)?;
        let control = ranges.contiguous(0, PAGE).ok_or(bad_size)?;
        Ok(Self {
            memory,
            ranges,
            control,
            data_len,
        })
    }

    /// Length of the data pages.
    pub(crate) fn data_len(&self) -> u32 {
        self.data_len
    }

    /// Loads the control word at `offset`, sequentially consistent.
    pub(crate) fn load(&self, offset: u64) -> Result<u32, RingError> {
        Ok(self.memory.load_u32(self.control.saturating_add(offset))?)
    }

    /// Stores the control word at `offset`, sequentially consistent.
    pub(crate) fn store(&self, offset: u64, value: u32) -> Result<(), RingError> {
        Ok(self
            .memory
            .store_u32(self.control.saturating_add(offset), value)?)
    }

    /// Checks an index found in the control page.
    pub(crate) fn check(&self, which: Index, value: u32) -> Result<u32, RingError> {
        if value < self.data_len && value % 8 == 0 {
            return Ok(value);
        }
        Err(RingError::BadIndex {
            which: match which {
                Index::Read => "read",
                Index::Write => "write",
            },
            value,
            data_len: self.data_len,
        })
    }

    /// `index + by`, wrapped. `index` is a checked index, `by` at most the length of the ring.
    pub(crate) fn advance(&self, index: u32, by: u32) -> u32 {
        let sum = u64::from(index).saturating_add(u64::from(by));
        let len = u64::from(self.data_len);
        let wrapped = if sum >= len {
            sum.saturating_sub(len)
        } else {
            sum
        };
        u32::try_from(wrapped).unwrap_or(0)
    }

    /// Bytes from `from` forward to `to`; 0 if they are equal.
    pub(crate) fn distance(&self, from: u32, to: u32) -> u32 {
        if to >= from {
            to.saturating_sub(from)
        } else {
            self.data_len.saturating_sub(from).saturating_add(to)
        }
    }

    /// Copies the data at `index` and after it into `buf`.
    pub(crate) fn read(&self, index: u32, buf: &mut [u8]) -> Result<(), RingError> {
        let (first, second) = self.parts(index, buf.len());
        if let Some(now) = buf.get_mut(..first.len) {
            self.ranges.read(&*self.memory, first.offset, now)?;
        }
        match buf.get_mut(first.len..) {
            Some(rest) if !rest.is_empty() => {
                Ok(self.ranges.read(&*self.memory, second.offset, rest)?)
            }
            _ => Ok(()),
        }
    }

    /// Copies `data` to `index` and after it.
    pub(crate) fn write(&self, index: u32, data: &[u8]) -> Result<(), RingError> {
        let (first, second) = self.parts(index, data.len());
        if let Some(now) = data.get(..first.len) {
            self.ranges.write(&*self.memory, first.offset, now)?;
        }
        match data.get(first.len..) {
            Some(rest) if !rest.is_empty() => {
                Ok(self.ranges.write(&*self.memory, second.offset, rest)?)
            }
            _ => Ok(()),
        }
    }

    /// Where `len` bytes at `index` lie in the ring's memory: before and after the wrap.
    fn parts(&self, index: u32, len: usize) -> (Part, Part) {
        let until_end = self.data_len.saturating_sub(index);
        let first = usize::try_from(until_end).unwrap_or(usize::MAX).min(len);
        (
            Part {
                offset: PAGE.saturating_add(u64::from(index)),
                len: first,
            },
            Part {
                offset: PAGE,
                len: len.saturating_sub(first),
            },
        )
    }
}

struct Part {
    offset: u64,
    len: usize,
}
