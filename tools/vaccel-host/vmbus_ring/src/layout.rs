// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where things are in a ring: include/linux/hyperv.h, `struct hv_ring_buffer` and
//! `struct vmpacket_descriptor`.
//!
//! All words are little-endian. Indexes are byte offsets from the first data page. A packet is a
//! descriptor, an optional extension, the payload (padded to 8 bytes) and a footer that repeats where
//! the packet started; a packet may wrap from the last data byte to the first at any multiple of 8.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Size of a VMBus page.
pub const PAGE_SIZE: u32 = 4096;

/// Largest ring, control page included.
pub const MAX_RING: u32 = 32 << 20;

/// Largest payload the host takes from the guest.
pub const MAX_PAYLOAD: u32 = 131_072;

/// Largest packet, descriptor included and footer not, that the host sends: what a guest that
/// raised its limit to this value takes.
pub const MAX_PACKET_OUT: u32 = 131_072;

/// Control word: where the producer will write next.
pub(crate) const WRITE_INDEX: u64 = 0;
/// Control word: where the consumer will read next.
pub(crate) const READ_INDEX: u64 = 4;
/// Control word: not 0 while the consumer needs no interrupt for new data.
pub(crate) const INTERRUPT_MASK: u64 = 8;
/// Control word: not 0 while the producer waits for so many free bytes.
pub(crate) const PENDING_SEND_SIZE: u64 = 12;
/// Control word: feature bits.
pub(crate) const FEATURE_BITS: u64 = 64;

/// Feature bit: this side uses [`PENDING_SEND_SIZE`].
pub(crate) const FEATURE_PENDING_SEND_SIZE: u32 = 1;

/// Length of [`Descriptor`].
pub(crate) const DESCRIPTOR_LEN: u32 = 16;
/// Length of [`Footer`].
pub(crate) const FOOTER_LEN: u32 = 8;

/// Packet type: payload in the ring.
pub(crate) const TYPE_DATA_INBAND: u16 = 6;
/// Packet type: answer to a packet that asked for one.
pub(crate) const TYPE_COMPLETION: u16 = 11;
/// Packet flag: the sender wants a completion.
pub(crate) const FLAG_COMPLETION_REQUESTED: u16 = 1;

/// First bytes of a packet.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Descriptor {
    /// Packet type.
    pub(crate) kind: U16,
    /// Offset of the payload in units of 8 bytes.
    pub(crate) offset8: U16,
    /// Length of the packet without footer in units of 8 bytes.
    pub(crate) len8: U16,
    /// Flags.
    pub(crate) flags: U16,
    /// Chosen by the sender, repeated in the completion.
    pub(crate) transaction_id: U64,
}

/// Last bytes of a packet.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Footer {
    /// Zero.
    pub(crate) reserved: U32,
    /// Write index before this packet.
    pub(crate) start: U32,
}

const _: () = assert!(size_of::<Descriptor>() == DESCRIPTOR_LEN as usize);
const _: () = assert!(size_of::<Footer>() == FOOTER_LEN as usize);
