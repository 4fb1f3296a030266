// SPDX-License-Identifier: MIT OR Apache-2.0
//! GPADLs: buffers that the guest shares as lists of pages.
//!
//! A GPADL arrives as a header message and as many body messages as its page list needs. The list is
//! a sequence of ranges: byte count, byte offset in the first page, and the page numbers that these two
//! imply. It is checked when it is complete and becomes a [`GuestRanges`]; until then only its bytes
//! are kept, never more than the header announced, and what headers announce in total is limited.
//!
//! Handles are chosen by the guest and unique in a connection.

use std::collections::BTreeMap;

use guest_memory::{GuestMemory, GuestRange, GuestRanges, RangeError};
use zerocopy::little_endian::U32;
use zerocopy::FromBytes;
use zerocopy_derive::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::channel::ChannelId;

const PAGE_SHIFT: u32 = 12;
const PAGE_SIZE: u64 = 1 << PAGE_SHIFT;
const WORD: usize = 8;

/// Why a GPADL was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GpadlError {
    #[error("handle 0 is reserved")]
    ZeroHandle,
    #[error("handle {handle:#x} is in use")]
    InUse { handle: u32 },
    #[error("{count} gpadls exist, which is the limit")]
    TooMany { count: usize },
    #[error("{words} words of page lists exist and {more} more exceed the limit of {limit}")]
    TooLarge { words: u64, more: u64, limit: u64 },
    #[error("{count} ranges in {bytes} bytes of page lists")]
    BadLength { count: u16, bytes: u16 },
    #[error("range of {count} bytes at byte {offset} of a page")]
    BadRange { count: u32, offset: u32 },
    #[error("page list ends inside range {index}")]
    TooShort { index: u16 },
    #[error("{bytes} bytes after the last range")]
    TooLong { bytes: usize },
    #[error("page number {pfn:#x} is not an address")]
    BadPage { pfn: u64 },
    #[error("{len:#x} bytes at {gpa:#x} are not guest memory")]
    NotMemory { gpa: u64, len: u64 },
    #[error(transparent)]
    Range(#[from] RangeError),
}

/// How far a GPADL is.
#[derive(Debug)]
pub(crate) enum GpadlState {
    /// Body messages are still to come.
    Assembling {
        /// Ranges announced.
        count: u16,
        /// The list so far.
        list: Vec<u8>,
        /// Its final length in bytes.
        expected: usize,
    },
    /// Complete, checked and usable.
    Ready(GuestRanges),
    /// The guest wants it back and a device still uses it.
    TearingDown(GuestRanges),
}

/// A GPADL.
#[derive(Debug)]
pub(crate) struct Gpadl {
    pub(crate) channel: ChannelId,
    pub(crate) state: GpadlState,
    /// Words of its list, as counted against the limit.
    words: u64,
}

/// What became of a part of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// More parts are to come.
    Incomplete,
    /// The GPADL of this channel is complete.
    Ready(ChannelId),
}

/// The GPADLs of a connection.
#[derive(Debug)]
pub(crate) struct GpadlTable {
    all: BTreeMap<u32, Gpadl>,
    words: u64,
    max_count: usize,
    max_words: u64,
}

impl GpadlTable {
    pub(crate) fn new(max_count: usize, max_words: u64) -> Self {
        Self {
            all: BTreeMap::new(),
            words: 0,
            max_count,
            max_words,
        }
    }

    /// Starts GPADL `handle` on `channel` with the announced extent.
    pub(crate) fn start(
        &mut self,
        channel: ChannelId,
        handle: u32,
        count: u16,
        bytes: u16,
    ) -> Result<(), GpadlError> {
        if handle == 0 {
            return Err(GpadlError::ZeroHandle);
        }
        if self.all.contains_key(&handle) {
            return Err(GpadlError::InUse { handle });
        }
        if self.all.len() >= self.max_count {
            return Err(GpadlError::TooMany {
                count: self.all.len(),
            });
        }
        let expected = usize::from(bytes);
        let smallest = usize::from(count).saturating_mul(WORD.saturating_mul(2));
        if count == 0 || expected % WORD != 0 || expected < smallest {
            return Err(GpadlError::BadLength { count, bytes });
        }
        let more = u64::from(bytes) / 8;
        let words = self.words.saturating_add(more);
        if words > self.max_words {
            return Err(GpadlError::TooLarge {
                words: self.words,
                more,
                limit: self.max_words,
            });
        }
        self.words = words;
        self.all.insert(
            handle,
            Gpadl {
                channel,
                state: GpadlState::Assembling {
                    count,
                    list: Vec::with_capacity(expected),
                    expected,
                },
                words: more,
            },
        );
        Ok(())
    }

    /// Adds `part` to the list of `handle`; `None` if no list waits for it. On an error the GPADL is
    /// gone, and its channel is returned with the reason.
    pub(crate) fn extend(
        &mut self,
        handle: u32,
        part: &[u8],
        memory: &dyn GuestMemory,
    ) -> Option<Result<Progress, (ChannelId, GpadlError)>> {
        let gpadl = self.all.get_mut(&handle)?;
        let GpadlState::Assembling {
            count,
            list,
            expected,
        } = &mut gpadl.state
        else {
            return None;
        };
        let missing = expected.saturating_sub(list.len());
        let whole = part.len().saturating_sub(part.len() % WORD);
        let now = part.get(..missing.min(whole)).unwrap_or(&[]);
        list.extend_from_slice(now);
        if list.len() < *expected {
            return Some(Ok(Progress::Incomplete));
        }
        let channel = gpadl.channel;
        match check(*count, list, memory) {
            Ok(ranges) => {
                gpadl.state = GpadlState::Ready(ranges);
                Some(Ok(Progress::Ready(channel)))
            }
            Err(error) => {
                self.remove(handle);
                Some(Err((channel, error)))
            }
        }
    }

    pub(crate) fn get(&self, handle: u32) -> Option<&Gpadl> {
        self.all.get(&handle)
    }

    /// The usable GPADL `handle` of `channel`.
    pub(crate) fn ready(&self, channel: ChannelId, handle: u32) -> Option<&GuestRanges> {
        match self.all.get(&handle) {
            Some(Gpadl {
                channel: owner,
                state: GpadlState::Ready(ranges),
                ..
            }) if *owner == channel => Some(ranges),
            _ => None,
        }
    }

    /// Moves a usable GPADL to [`GpadlState::TearingDown`].
    pub(crate) fn tear_down(&mut self, handle: u32) {
        if let Some(gpadl) = self.all.get_mut(&handle) {
            if let GpadlState::Ready(ranges) = &mut gpadl.state {
                gpadl.state = GpadlState::TearingDown(std::mem::take(ranges));
            }
        }
    }

    pub(crate) fn remove(&mut self, handle: u32) -> Option<Gpadl> {
        let gpadl = self.all.remove(&handle)?;
        self.words = self.words.saturating_sub(gpadl.words);
        Some(gpadl)
    }

    /// Handles of the GPADLs of `channel`.
    pub(crate) fn of_channel(&self, channel: ChannelId) -> Vec<u32> {
        self.iter()
            .filter(|(_, gpadl)| gpadl.channel == channel)
            .map(|(handle, _)| handle)
            .collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Gpadl)> {
        self.all.iter().map(|(handle, gpadl)| (*handle, gpadl))
    }

    /// Whether the count of words is right.
    pub(crate) fn is_consistent(&self) -> bool {
        let words = self.all.values().map(|gpadl| gpadl.words);
        words.fold(0, u64::saturating_add) == self.words
            && self.words <= self.max_words
            && self.all.len() <= self.max_count
    }
}

#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RangeHead {
    count: U32,
    offset: U32,
}

/// Turns a complete list of `count` ranges into checked memory.
fn check(count: u16, list: &[u8], memory: &dyn GuestMemory) -> Result<GuestRanges, GpadlError> {
    let mut all = GuestRanges::new();
    let mut rest = list;
    for index in 0..count {
        let short = GpadlError::TooShort { index };
        let (head, after) = RangeHead::read_from_prefix(rest).map_err(|_| short)?;
        let (count, offset) = (head.count.get(), head.offset.get());
        if count == 0 || u64::from(offset) >= PAGE_SIZE {
            return Err(GpadlError::BadRange { count, offset });
        }
        let end = u64::from(count).saturating_add(u64::from(offset));
        let pages = usize::try_from(end.div_ceil(PAGE_SIZE)).map_err(|_| short)?;
        let bytes = pages.checked_mul(WORD).ok_or(short)?;
        let (words, after) = after.split_at_checked(bytes).ok_or(short)?;
        add_pages(&mut all, words, u64::from(offset), u64::from(count))?;
        rest = after;
    }
    if !rest.is_empty() {
        return Err(GpadlError::TooLong { bytes: rest.len() });
    }
    for range in all.iter() {
        if !memory.is_ram(range.gpa, range.len) {
            return Err(GpadlError::NotMemory {
                gpa: range.gpa,
                len: range.len,
            });
        }
    }
    Ok(all)
}

/// Appends the pages in `words`, of which the first is used from `offset` on and all together for
/// `left` bytes.
fn add_pages(
    all: &mut GuestRanges,
    words: &[u8],
    offset: u64,
    mut left: u64,
) -> Result<(), GpadlError> {
    let mut skip = offset;
    for word in words.chunks_exact(WORD) {
        let pfn = word
            .first_chunk()
            .map_or(u64::MAX, |bytes| u64::from_le_bytes(*bytes));
        let gpa = pfn
            .checked_mul(PAGE_SIZE)
            .ok_or(GpadlError::BadPage { pfn })?;
        let len = PAGE_SIZE.saturating_sub(skip).min(left);
        all.push(GuestRange {
            gpa: gpa.saturating_add(skip),
            len,
        })?;
        left = left.saturating_sub(len);
        skip = 0;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
