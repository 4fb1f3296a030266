// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guest's end of a channel, for tests.
//!
//! Written apart from the host's reader and writer, after what a Linux guest does
//! (drivers/hv/ring_buffer.c), so that a mistake of one end is not repeated by the other. It can also
//! misbehave: [`GuestEnd::poke`] and [`GuestEnd::publish`] put anything into the rings.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that breaks its own rings must stop"
)]

use std::sync::Arc;

use guest_memory::{GuestMemory, GuestRanges};

const PAGE: usize = 4096;

/// One of the two rings of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The guest writes, the host reads.
    ToHost,
    /// The host writes, the guest reads.
    ToGuest,
}

/// A word of a control page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// Write index.
    Write = 0,
    /// Read index.
    Read = 4,
    /// Interrupt mask.
    Mask = 8,
    /// Pending send size.
    Pending = 12,
    /// Feature bits.
    Features = 64,
}

/// A packet the guest took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Packet type.
    pub kind: u16,
    /// Packet flags.
    pub flags: u16,
    /// Transaction.
    pub transaction_id: u64,
    /// Payload with its padding.
    pub payload: Vec<u8>,
}

/// The guest's end of a channel.
pub struct GuestEnd {
    memory: Arc<dyn GuestMemory>,
    to_host: GuestRanges,
    to_guest: GuestRanges,
}

impl GuestEnd {
    /// Initialises the rings in `shared` as a guest does before it opens a channel.
    pub fn new(memory: Arc<dyn GuestMemory>, shared: &GuestRanges, downstream: u32) -> Self {
        let split = u64::from(downstream) * PAGE as u64;
        let end = Self {
            memory,
            to_host: shared.slice(0, split).unwrap(),
            to_guest: shared.slice(split, shared.len() - split).unwrap(),
        };
        for side in [Side::ToHost, Side::ToGuest] {
            end.ring(side).write(&*end.memory, 0, &[0; PAGE]).unwrap();
            end.poke(side, Word::Features, 1);
        }
        end
    }

    /// Reads a control word.
    pub fn peek(&self, side: Side, word: Word) -> u32 {
        let at = self.ring(side).contiguous(word as u64, 4).unwrap();
        self.memory.load_u32(at).unwrap()
    }

    /// Writes a control word.
    pub fn poke(&self, side: Side, word: Word, value: u32) {
        let at = self.ring(side).contiguous(word as u64, 4).unwrap();
        self.memory.store_u32(at, value).unwrap();
    }

    /// Free bytes in the ring to the host.
    pub fn free(&self) -> usize {
        let len = self.data_len(Side::ToHost);
        let write = self.peek(Side::ToHost, Word::Write) as usize;
        let read = self.peek(Side::ToHost, Word::Read) as usize;
        if write >= read {
            len - (write - read)
        } else {
            read - write
        }
    }

    /// Sends a packet; `None` if it does not fit, else whether the host must be signalled.
    pub fn send(&self, kind: u16, flags: u16, transaction_id: u64, payload: &[u8]) -> Option<bool> {
        let len = (16 + payload.len()).div_ceil(8) * 8;
        let mut bytes = Vec::with_capacity(len);
        for word in [kind, 2, (len / 8) as u16, flags] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(&transaction_id.to_le_bytes());
        bytes.extend_from_slice(payload);
        bytes.resize(len, 0);
        let start = self.peek(Side::ToHost, Word::Write);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&start.to_le_bytes());
        if self.free() <= bytes.len() {
            return None;
        }
        self.publish(&bytes);
        Some(
            self.peek(Side::ToHost, Word::Mask) == 0
                && self.peek(Side::ToHost, Word::Read) == start,
        )
    }

    /// Writes `bytes` to the ring to the host as they are and moves the write index past them.
    pub fn publish(&self, bytes: &[u8]) {
        let len = self.data_len(Side::ToHost);
        let at = self.peek(Side::ToHost, Word::Write) as usize;
        let (first, second) = bytes.split_at(bytes.len().min(len - at));
        for (offset, part) in [(PAGE + at, first), (PAGE, second)] {
            self.to_host
                .write(&*self.memory, offset as u64, part)
                .unwrap();
        }
        let at = (at + bytes.len()) % len;
        self.poke(Side::ToHost, Word::Write, at as u32);
    }

    /// Takes up to `limit` packets; also returns whether the host must be signalled. With fewer than
    /// `limit` packets the ring was empty when interrupts were unmasked.
    pub fn receive(&self, limit: usize) -> (Vec<Received>, bool) {
        let mut packets = Vec::new();
        let mut signal = false;
        loop {
            self.poke(Side::ToGuest, Word::Mask, 1);
            let start = self.peek(Side::ToGuest, Word::Read) as usize;
            let mut at = start;
            while packets.len() < limit && at != self.peek(Side::ToGuest, Word::Write) as usize {
                at = self.take(at, &mut packets);
            }
            self.poke(Side::ToGuest, Word::Read, at as u32);
            signal |= self.freed(start, at);
            self.poke(Side::ToGuest, Word::Mask, 0);
            if packets.len() >= limit || at == self.peek(Side::ToGuest, Word::Write) as usize {
                return (packets, signal);
            }
        }
    }

    /// Takes the packet at `at` and returns where the next one starts.
    fn take(&self, at: usize, packets: &mut Vec<Received>) -> usize {
        let len = self.data_len(Side::ToGuest);
        let head = self.bytes(at, 16);
        let field = |offset: usize| u16::from_le_bytes([head[offset], head[offset + 1]]);
        let offset = usize::from(field(2)) * 8;
        let total = usize::from(field(4)) * 8;
        let footer = self.bytes((at + total) % len, 8);
        assert_eq!(footer[..4], [0; 4], "reserved half of the footer");
        assert_eq!(
            footer[4..],
            (at as u32).to_le_bytes(),
            "start in the footer"
        );
        packets.push(Received {
            kind: field(0),
            flags: field(6),
            transaction_id: u64::from_le_bytes(head[8..16].try_into().unwrap()),
            payload: self.bytes((at + offset) % len, total - offset),
        });
        (at + total + 8) % len
    }

    /// Whether the host waits for the space freed from `start` to `at`.
    fn freed(&self, start: usize, at: usize) -> bool {
        if self.peek(Side::ToGuest, Word::Features) & 1 == 0 {
            return false;
        }
        let wanted = self.peek(Side::ToGuest, Word::Pending) as usize;
        let len = self.data_len(Side::ToGuest);
        let write = self.peek(Side::ToGuest, Word::Write) as usize;
        let used = (write + len - at) % len;
        let freed = (at + len - start) % len;
        let free = len - used;
        wanted != 0 && free - freed <= wanted && free > wanted
    }

    fn bytes(&self, at: usize, count: usize) -> Vec<u8> {
        let len = self.data_len(Side::ToGuest);
        let mut bytes = vec![0; count];
        let (first, second) = bytes.split_at_mut(count.min(len - at));
        for (offset, part) in [(PAGE + at, first), (PAGE, second)] {
            self.to_guest
                .read(&*self.memory, offset as u64, part)
                .unwrap();
        }
        bytes
    }

    fn ring(&self, side: Side) -> &GuestRanges {
        match side {
            Side::ToHost => &self.to_host,
            Side::ToGuest => &self.to_guest,
        }
    }

    fn data_len(&self, side: Side) -> usize {
        self.ring(side).len() as usize - PAGE
    }
}
