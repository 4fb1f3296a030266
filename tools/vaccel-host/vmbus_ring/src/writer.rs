// SPDX-License-Identifier: MIT OR Apache-2.0
//! The producer of the ring in which the host writes.
//!
//! The ring is never filled to the last byte, because equal indexes mean empty. After publishing a
//! packet the guest is interrupted only if it has not masked interrupts and had nothing left to read.
//! When a packet does not fit, [`Writer::want_space`] asks the guest for an interrupt once there is
//! space, which the guest grants to a producer that set the feature bit.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::IntoBytes;

use crate::error::RingError;
use crate::layout::{
    Descriptor, Footer, DESCRIPTOR_LEN, FEATURE_BITS, FEATURE_PENDING_SEND_SIZE, FOOTER_LEN,
    INTERRUPT_MASK, MAX_PACKET_OUT, PENDING_SEND_SIZE, READ_INDEX, WRITE_INDEX,
};
use crate::ring::{Index, Ring};
use crate::signal::Signal;

/// Outcome of [`Writer::send`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// The packet is in the ring.
    Done(Signal),
    /// There is no space for it.
    Full,
}

/// A packet to the guest, checked to fit into the empty ring.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    /// Descriptor, payload and padding.
    bytes: Vec<u8>,
    /// Bytes with footer.
    whole: u32,
}

impl Outgoing {
    /// Bytes that the packet keeps in memory.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// Writes packets for the guest.
pub(crate) struct Writer {
    ring: Ring,
    /// Where the next packet starts. Ours: never read back from memory.
    next: u32,
}

impl Writer {
    /// Starts at the write index found in the control page and announces that the host asks for
    /// space.
    pub(crate) fn new(ring: Ring) -> Result<Self, RingError> {
        let next = ring.check(Index::Write, ring.load(WRITE_INDEX)?)?;
        ring.check(Index::Read, ring.load(READ_INDEX)?)?;
        let features = ring.load(FEATURE_BITS)?;
        ring.store(FEATURE_BITS, features | FEATURE_PENDING_SEND_SIZE)?;
        ring.store(PENDING_SEND_SIZE, 0)?;
        Ok(Self { ring, next })
    }

    /// Where the next packet starts.
    pub(crate) fn index(&self) -> u32 {
        self.next
    }

    /// Builds a packet without flags.
    pub(crate) fn build(
        &self,
        kind: u16,
        transaction_id: u64,
        payload: &[u8],
    ) -> Result<Outgoing, RingError> {
        let limit = MAX_PACKET_OUT.min(
            self.ring
                .data_len()
                .saturating_sub(FOOTER_LEN)
                .saturating_sub(8),
        );
        let len = payload.len().saturating_add(size_of::<Descriptor>());
        let error = RingError::PacketTooLarge { len, limit };
        let padded = len.checked_next_multiple_of(8).ok_or(error)?;
        let packet_len = u32::try_from(padded)
            .ok()
            .filter(|len| *len <= limit)
            .ok_or(error)?;
        let len8 = u16::try_from(packet_len / 8).map_err(|_| error)?;
        let descriptor = Descriptor {
            kind: U16::new(kind),
            offset8: U16::new(2),
            len8: U16::new(len8),
            flags: U16::new(0),
            transaction_id: U64::new(transaction_id),
        };
        let mut bytes = Vec::with_capacity(padded);
        bytes.extend_from_slice(descriptor.as_bytes());
        bytes.extend_from_slice(payload);
        bytes.resize(padded, 0);
        debug_assert!(packet_len >= DESCRIPTOR_LEN);
        Ok(Outgoing {
            bytes,
            whole: packet_len.saturating_add(FOOTER_LEN),
        })
    }

    /// Puts `packet` into the ring if there is space.
    pub(crate) fn send(&mut self, packet: &Outgoing) -> Result<Sent, RingError> {
        if self.free()? <= packet.whole {
            return Ok(Sent::Full);
        }
        let start = self.next;
        let footer = Footer {
            reserved: U32::new(0),
            start: U32::new(start),
        };
        let end = self
            .ring
            .advance(start, packet.whole.saturating_sub(FOOTER_LEN));
        self.ring.write(start, &packet.bytes)?;
        self.ring.write(end, footer.as_bytes())?;
        self.next = self.ring.advance(end, FOOTER_LEN);
        self.ring.store(WRITE_INDEX, self.next)?;
        if self.ring.load(INTERRUPT_MASK)? != 0 {
            return Ok(Sent::Done(Signal::NotNeeded));
        }
        let read = self.ring.load(READ_INDEX)?;
        Ok(Sent::Done(Signal::from(read == start)))
    }

    /// Asks the guest for an interrupt when `packet` will fit. The caller tries once more
    /// afterwards, because the guest may have made space in the meantime.
    pub(crate) fn want_space(&self, packet: &Outgoing) -> Result<(), RingError> {
        self.ring.store(PENDING_SEND_SIZE, packet.whole)
    }

    /// Withdraws [`Writer::want_space`].
    pub(crate) fn want_nothing(&self) -> Result<(), RingError> {
        self.ring.store(PENDING_SEND_SIZE, 0)
    }

    fn free(&self) -> Result<u32, RingError> {
        let read = self.ring.check(Index::Read, self.ring.load(READ_INDEX)?)?;
        let used = self.ring.distance(read, self.next);
        Ok(self.ring.data_len().saturating_sub(used))
    }
}
