// SPDX-License-Identifier: MIT OR Apache-2.0
//! The consumer of the ring in which the guest writes.
//!
//! A batch is: [`Reader::mask`] (the guest needs no interrupts now), [`Reader::next`] until it is
//! empty or the caller has enough, [`Reader::commit`] (the guest may reuse the space, and may have to
//! be told), and, when nothing is left, [`Reader::unmask`], which looks once more because the guest
//! may have written between the last look and the unmasking.

use zerocopy::{FromZeros, IntoBytes};

use crate::error::RingError;
use crate::layout::{
    Descriptor, DESCRIPTOR_LEN, FEATURE_BITS, FEATURE_PENDING_SEND_SIZE, FOOTER_LEN,
    INTERRUPT_MASK, PENDING_SEND_SIZE, READ_INDEX, WRITE_INDEX,
};
use crate::packet::{Extent, PacketHead};
use crate::ring::{Index, Ring};
use crate::signal::Signal;

/// Reads packets of the guest.
pub(crate) struct Reader {
    ring: Ring,
    /// Where the next packet starts. Ours: never read back from memory.
    next: u32,
    /// What the guest was told with the last commit.
    committed: u32,
}

impl Reader {
    /// Starts at the read index found in the control page.
    pub(crate) fn new(ring: Ring) -> Result<Self, RingError> {
        let next = ring.check(Index::Read, ring.load(READ_INDEX)?)?;
        ring.check(Index::Write, ring.load(WRITE_INDEX)?)?;
        Ok(Self {
            ring,
            next,
            committed: next,
        })
    }

    /// Where the next packet starts.
    pub(crate) fn index(&self) -> u32 {
        self.next
    }

    /// Tells the guest that new packets need no interrupt.
    pub(crate) fn mask(&self) -> Result<(), RingError> {
        self.ring.store(INTERRUPT_MASK, 1)
    }

    /// Tells the guest that the next packet needs an interrupt, and returns whether one is there
    /// already.
    pub(crate) fn unmask(&self) -> Result<bool, RingError> {
        self.ring.store(INTERRUPT_MASK, 0)?;
        Ok(self.published()? != 0)
    }

    /// Takes the next packet, its payload into `payload`; `None` if the ring is empty.
    pub(crate) fn next(&mut self, payload: &mut Vec<u8>) -> Result<Option<PacketHead>, RingError> {
        let published = self.published()?;
        if published == 0 {
            return Ok(None);
        }
        let at = self.next;
        let smallest = DESCRIPTOR_LEN.saturating_add(FOOTER_LEN);
        if published < smallest {
            return Err(RingError::Truncated {
                at,
                len: DESCRIPTOR_LEN,
                published,
            });
        }
        let mut descriptor = Descriptor::new_zeroed();
        self.ring.read(at, descriptor.as_mut_bytes())?;
        let limit = published.saturating_sub(FOOTER_LEN);
        let extent = Extent::check(&descriptor, at, published, limit)?;
        payload.clear();
        payload.resize(usize::try_from(extent.payload_len).unwrap_or(0), 0);
        let from = self.ring.advance(at, extent.payload_offset);
        self.ring.read(from, payload)?;
        let whole = extent.len.saturating_add(FOOTER_LEN);
        self.next = self.ring.advance(at, whole);
        Ok(Some(extent.head))
    }

    /// Gives the space of the packets taken back to the guest.
    ///
    /// The guest must be told if it waits for space, there was too little before this batch and there
    /// is enough now. Ties are told: an interrupt too many is harmless here, one too few is not.
    pub(crate) fn commit(&mut self) -> Result<Signal, RingError> {
        let freed = self.ring.distance(self.committed, self.next);
        if freed == 0 {
            return Ok(Signal::NotNeeded);
        }
        self.ring.store(READ_INDEX, self.next)?;
        self.committed = self.next;
        if self.ring.load(FEATURE_BITS)? & FEATURE_PENDING_SEND_SIZE == 0 {
            return Ok(Signal::NotNeeded);
        }
        let wanted = self.ring.load(PENDING_SEND_SIZE)?;
        if wanted == 0 {
            return Ok(Signal::NotNeeded);
        }
        let free = self.ring.data_len().saturating_sub(self.published()?);
        let free_before = free.saturating_sub(freed);
        Ok(Signal::from(free_before <= wanted && free >= wanted))
    }

    /// Bytes published by the guest and not taken yet.
    fn published(&self) -> Result<u32, RingError> {
        let write = self.ring.load(WRITE_INDEX)?;
        let write = self.ring.check(Index::Write, write)?;
        Ok(self.ring.distance(self.next, write))
    }
}
