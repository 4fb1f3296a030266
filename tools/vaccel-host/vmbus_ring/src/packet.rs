// SPDX-License-Identifier: MIT OR Apache-2.0
//! Packets after checking.
//!
//! Only payload in the ring and completions are understood. The types that point at memory (transfer
//! pages, GPADL, GPA-direct) and those no current guest sends are consumed and reported as
//! [`PacketKind::Unsupported`], without their contents, so that the owner can refuse or ignore them.

use crate::error::RingError;
use crate::layout::{
    Descriptor, DESCRIPTOR_LEN, FLAG_COMPLETION_REQUESTED, MAX_PAYLOAD, TYPE_COMPLETION,
    TYPE_DATA_INBAND,
};

/// What a packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketKind {
    /// Payload in the ring (type 6).
    Data,
    /// Answer to a packet of the host (type 11).
    Completion,
    /// A type the host does not take; the payload is empty.
    Unsupported(u16),
}

/// What is known of a packet without its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketHead {
    /// What the packet carries.
    pub kind: PacketKind,
    /// Whether the guest waits for a completion with the same transaction.
    pub completion_requested: bool,
    /// Chosen by the sender.
    pub transaction_id: u64,
}

/// A packet lent to the callback of [`crate::ChannelRings::poll`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// What is known of the packet.
    pub head: PacketHead,
    /// A private copy of the payload; its length is a multiple of 8.
    pub payload: &'a [u8],
}

/// A packet taken by [`crate::ChannelRings::receive`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedPacket {
    /// What is known of the packet.
    pub head: PacketHead,
    /// A private copy of the payload; its length is a multiple of 8.
    pub payload: Vec<u8>,
}

/// Extent of a checked packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) head: PacketHead,
    /// Offset of the payload to copy out.
    pub(crate) payload_offset: u32,
    /// Length of the payload to copy out.
    pub(crate) payload_len: u32,
    /// Length of the packet without footer.
    pub(crate) len: u32,
}

impl Extent {
    /// Checks the lengths in `descriptor` of a packet at index `at`, which may be as long as
    /// `limit` without footer.
    pub(crate) fn check(
        descriptor: &Descriptor,
        at: u32,
        published: u32,
        limit: u32,
    ) -> Result<Self, RingError> {
        let len = u32::from(descriptor.len8.get()).saturating_mul(8);
        let offset = u32::from(descriptor.offset8.get()).saturating_mul(8);
        if len > limit {
            return Err(RingError::Truncated { at, len, published });
        }
        if offset < DESCRIPTOR_LEN || offset > len {
            return Err(RingError::BadDescriptor { at, offset, len });
        }
        let kind = match descriptor.kind.get() {
            TYPE_DATA_INBAND => PacketKind::Data,
            TYPE_COMPLETION => PacketKind::Completion,
            other => PacketKind::Unsupported(other),
        };
        let payload_len = match kind {
            PacketKind::Unsupported(_) => 0,
            PacketKind::Data | PacketKind::Completion => len.saturating_sub(offset),
        };
        if payload_len > MAX_PAYLOAD {
            return Err(RingError::PacketTooLarge {
                len: usize::try_from(payload_len).unwrap_or(usize::MAX),
                limit: MAX_PAYLOAD,
            });
        }
        Ok(Self {
            head: PacketHead {
                kind,
                completion_requested: descriptor.flags.get() & FLAG_COMPLETION_REQUESTED != 0,
                transaction_id: descriptor.transaction_id.get(),
            },
            payload_offset: offset,
            payload_len,
            len,
        })
    }
}
