// SPDX-License-Identifier: MIT OR Apache-2.0
//! What makes a ring unusable.

use guest_memory::{MemoryError, RangeError};

/// The ring breaks the protocol, or the host asked for something no ring can do.
///
/// After an error from reading, the ring has no defined contents any more and its channel must be
/// closed. [`RingError::PacketTooLarge`] and [`RingError::QueueFull`] leave the rings as they were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// The memory of a ring is not whole pages, too small or too large.
    #[error(
        "a ring of {bytes} bytes is not a control page and 1 or more data pages, {max} bytes at most"
    )]
    BadSize {
        /// Length of the memory given.
        bytes: u64,
        /// Largest ring.
        max: u32,
    },
    /// The memory of a ring does not start and end on page boundaries.
    #[error("ring memory at {gpa:#x}, length {len:#x} is not whole pages")]
    Unaligned {
        /// First guest-physical address of the range.
        gpa: u64,
        /// Length of the range.
        len: u64,
    },
    /// The second ring starts outside the memory shared for both.
    #[error("downstream ring at page {page} is outside ring memory of {bytes} bytes")]
    BadSplit {
        /// Page at which the second ring is said to start.
        page: u32,
        /// Length of the memory shared for both rings.
        bytes: u64,
    },
    /// An index is outside the data pages or not a multiple of 8.
    #[error("{which} index {value:#x} is not valid in a ring of {data_len:#x} data bytes")]
    BadIndex {
        /// "read" or "write".
        which: &'static str,
        /// The index found.
        value: u32,
        /// Length of the ring's data pages.
        data_len: u32,
    },
    /// A packet, with its footer, is longer than what was published.
    #[error(
        "packet of {len} bytes and its footer at {at:#x} exceed the {published} bytes published"
    )]
    Truncated {
        /// Index of the packet.
        at: u32,
        /// Length in its descriptor.
        len: u32,
        /// Bytes between the packet's start and the write index.
        published: u32,
    },
    /// The lengths in a descriptor contradict each other.
    #[error("packet at {at:#x}: payload offset {offset} is not within 16..={len}")]
    BadDescriptor {
        /// Index of the packet.
        at: u32,
        /// Offset of the payload in the packet.
        offset: u32,
        /// Length of the packet.
        len: u32,
    },
    /// A packet is longer than any allowed one, or can never fit in this ring.
    #[error("packet of {len} bytes exceeds the limit of {limit} bytes")]
    PacketTooLarge {
        /// Length of the packet.
        len: usize,
        /// The limit.
        limit: u32,
    },
    /// Too much waits for the guest to make space.
    #[error(
        "{queued} bytes wait for space in the ring and {len} more exceed the limit of {limit}"
    )]
    QueueFull {
        /// Bytes waiting.
        queued: usize,
        /// Bytes that were to be added.
        len: usize,
        /// The limit.
        limit: usize,
    },
    /// Ring memory is not RAM.
    #[error("ring memory")]
    Memory(#[source] RangeError),
}

impl From<RangeError> for RingError {
    fn from(error: RangeError) -> Self {
        Self::Memory(error)
    }
}

impl From<MemoryError> for RingError {
    fn from(error: MemoryError) -> Self {
        Self::Memory(RangeError::Memory(error))
    }
}
