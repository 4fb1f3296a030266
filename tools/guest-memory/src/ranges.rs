// SPDX-License-Identifier: MIT OR Apache-2.0
//! A buffer of the guest that lies scattered in guest-physical memory.
//!
//! The guest shares a buffer as a list of pages (a VMBus GPADL, a page list in a message). The list
//! becomes a [`GuestRanges`] once, with its arithmetic checked; afterwards the buffer is addressed by
//! the offset in it, and no address from the guest is used again. Whether the addresses are RAM is
//! checked by [`GuestMemory`] at each access.

use crate::{GuestMemory, MemoryError};

/// A run of guest-physical memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuestRange {
    /// First guest-physical address.
    pub gpa: u64,
    /// Length in bytes, not zero.
    pub len: u64,
}

/// Why a list of ranges was refused, or an access to it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// The range is empty, passes the end of the address space or makes the buffer too long.
    #[error("guest range {gpa:#x}, length {len:#x} is empty or overflows")]
    BadRange {
        /// First guest-physical address of the range.
        gpa: u64,
        /// Length of the range in bytes.
        len: u64,
    },
    /// The access is not wholly inside the buffer.
    #[error("offset {offset:#x}, length {len:#x} is outside a guest buffer of {total:#x} bytes")]
    Outside {
        /// Offset of the access in the buffer.
        offset: u64,
        /// Length of the access in bytes.
        len: u64,
        /// Length of the buffer in bytes.
        total: u64,
    },
    /// The buffer names addresses that are not RAM.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    offset: u64,
    range: GuestRange,
}

/// A guest buffer: ranges in order, neighbours merged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GuestRanges {
    spans: Vec<Span>,
    len: u64,
}

impl GuestRanges {
    /// Makes an empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a buffer of `ranges` in order.
    ///
    /// # Errors
    ///
    /// As [`GuestRanges::push`].
    pub fn from_ranges(ranges: impl IntoIterator<Item = GuestRange>) -> Result<Self, RangeError> {
        let mut all = Self::new();
        for range in ranges {
            all.push(range)?;
        }
        Ok(all)
    }

    /// Appends `range`, merging it with the last one where the two are neighbours.
    ///
    /// # Errors
    ///
    /// Fails if the range is empty, or if its end or the length of the buffer does not fit in 64 bits.
    pub fn push(&mut self, range: GuestRange) -> Result<(), RangeError> {
        let error = RangeError::BadRange {
            gpa: range.gpa,
            len: range.len,
        };
        if range.len == 0 || range.gpa.checked_add(range.len).is_none() {
            return Err(error);
        }
        let len = self.len.checked_add(range.len).ok_or(error)?;
        match self.spans.last_mut() {
            Some(last) if last.range.gpa.checked_add(last.range.len) == Some(range.gpa) => {
                last.range.len = last.range.len.saturating_add(range.len);
            }
            _ => self.spans.push(Span {
                offset: self.len,
                range,
            }),
        }
        self.len = len;
        Ok(())
    }

    /// Length of the buffer in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the buffer has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The ranges in order.
    pub fn iter(&self) -> impl Iterator<Item = GuestRange> + '_ {
        self.spans.iter().map(|span| span.range)
    }

    /// The part `offset..offset + len` of the buffer.
    ///
    /// # Errors
    ///
    /// Fails if the part is not wholly inside the buffer.
    pub fn slice(&self, offset: u64, len: u64) -> Result<Self, RangeError> {
        let mut part = Self::new();
        self.pieces(offset, len, |range| part.push(range))?;
        Ok(part)
    }

    /// The guest-physical address of `offset..offset + len`, if that part lies in one range.
    pub fn contiguous(&self, offset: u64, len: u64) -> Option<u64> {
        let mut found = None;
        let mut count = 0_usize;
        self.pieces(offset, len, |range| {
            found = Some(range.gpa);
            count = count.saturating_add(1);
            Ok(())
        })
        .ok()?;
        found.filter(|_| count == 1)
    }

    /// Copies `buf.len()` bytes at `offset` of the buffer into `buf`.
    ///
    /// # Errors
    ///
    /// Fails, with `buf` in an unspecified state, if a byte is outside the buffer or not RAM.
    pub fn read(
        &self,
        memory: &dyn GuestMemory,
        offset: u64,
        buf: &mut [u8],
    ) -> Result<(), RangeError> {
        let mut rest = buf;
        self.pieces(offset, rest.len() as u64, |range| {
            let (now, later) = split(std::mem::take(&mut rest), range)?;
            rest = later;
            Ok(memory.read(range.gpa, now)?)
        })
    }

    /// Copies `data` to `offset` of the buffer.
    ///
    /// # Errors
    ///
    /// Fails if a byte is outside the buffer or not RAM; earlier bytes may have been written.
    pub fn write(
        &self,
        memory: &dyn GuestMemory,
        offset: u64,
        data: &[u8],
    ) -> Result<(), RangeError> {
        let mut rest = data;
        self.pieces(offset, data.len() as u64, |range| {
            let len = usize::try_from(range.len).unwrap_or(usize::MAX);
            let (now, later) = rest.split_at_checked(len).ok_or(RangeError::BadRange {
                gpa: range.gpa,
                len: range.len,
            })?;
            rest = later;
            Ok(memory.write(range.gpa, now)?)
        })
    }

    /// Calls `visit` with each run of memory behind `offset..offset + len`.
    fn pieces(
        &self,
        offset: u64,
        len: u64,
        mut visit: impl FnMut(GuestRange) -> Result<(), RangeError>,
    ) -> Result<(), RangeError> {
        let outside = RangeError::Outside {
            offset,
            len,
            total: self.len,
        };
        let end = offset.checked_add(len).ok_or(outside)?;
        if end > self.len {
            return Err(outside);
        }
        let first = self
            .spans
            .partition_point(|span| span.offset <= offset)
            .saturating_sub(1);
        let mut at = offset;
        for span in self.spans.iter().skip(first) {
            if at >= end {
                break;
            }
            let inside = at.saturating_sub(span.offset);
            let left = span.range.len.saturating_sub(inside);
            let take = left.min(end.saturating_sub(at));
            visit(GuestRange {
                gpa: span.range.gpa.saturating_add(inside),
                len: take,
            })?;
            at = at.saturating_add(take);
        }
        Ok(())
    }
}

fn split(buf: &mut [u8], range: GuestRange) -> Result<(&mut [u8], &mut [u8]), RangeError> {
    let len = usize::try_from(range.len).unwrap_or(usize::MAX);
    buf.split_at_mut_checked(len).ok_or(RangeError::BadRange {
        gpa: range.gpa,
        len: range.len,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FlatMemory;

    fn scattered() -> GuestRanges {
        GuestRanges::from_ranges([
            GuestRange { gpa: 16, len: 4 },
            GuestRange { gpa: 4, len: 4 },
            GuestRange { gpa: 8, len: 2 },
        ])
        .unwrap()
    }

    /// Neighbours are one range, so a physically contiguous buffer costs one access.
    #[test]
    fn neighbours_merge() {
        let ranges: Vec<_> = scattered().iter().collect();
        assert_eq!(
            ranges,
            [
                GuestRange { gpa: 16, len: 4 },
                GuestRange { gpa: 4, len: 6 }
            ]
        );
    }

    /// Bytes written across a range border land at the right addresses and read back.
    #[test]
    fn access_crosses_ranges() {
        let memory = FlatMemory::new(0, 32);
        let ranges = scattered();
        ranges.write(&memory, 2, &[1, 2, 3, 4]).unwrap();
        let mut back = [0; 4];
        ranges.read(&memory, 2, &mut back).unwrap();
        assert_eq!(back, [1, 2, 3, 4]);
        let mut raw = [0; 2];
        memory.read(18, &mut raw).unwrap();
        assert_eq!(raw, [1, 2]);
        memory.read(4, &mut raw).unwrap();
        assert_eq!(raw, [3, 4]);
    }

    /// Nothing outside the buffer is reachable, and a bad range never enters it.
    #[test]
    fn limits_hold() {
        let memory = FlatMemory::new(0, 32);
        let mut ranges = scattered();
        assert!(ranges.read(&memory, 9, &mut [0; 2]).is_err());
        assert!(ranges.read(&memory, u64::MAX, &mut [0; 2]).is_err());
        assert!(ranges.push(GuestRange { gpa: 0, len: 0 }).is_err());
        assert!(ranges
            .push(GuestRange {
                gpa: u64::MAX,
                len: 1
            })
            .is_err());
        assert_eq!(ranges.len(), 10);
    }

    /// A slice addresses the same bytes as its parent, and contiguity is told correctly.
    #[test]
    fn slices_agree() {
        let ranges = scattered();
        let part = ranges.slice(3, 3).unwrap();
        let list: Vec<_> = part.iter().collect();
        assert_eq!(
            list,
            [
                GuestRange { gpa: 19, len: 1 },
                GuestRange { gpa: 4, len: 2 }
            ]
        );
        assert_eq!(ranges.contiguous(4, 6), Some(4));
        assert_eq!(ranges.contiguous(3, 2), None);
        assert!(ranges.slice(8, 3).is_err());
    }
}
