// SPDX-License-Identifier: MIT OR Apache-2.0
//! An open channel: the two rings, and what waits for space in the outgoing one.
//!
//! Packets to the guest that do not fit into the ring are queued in order. While something is
//! queued, no packet of the guest is taken, so a guest that reads nothing cannot make the host
//! collect answers for it; only answers to requests already taken are added, up to [`MAX_QUEUED`].
//! The queue moves only in [`ChannelRings::poll`] and [`ChannelRings::receive`]: the guest, asked for
//! space, signals the host, and the owner polls on each signal.
//!
//! Dropping a [`ChannelRings`] closes it; the guest memory belongs to the guest.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use guest_memory::{GuestMemory, GuestRanges};
use serde::Serialize;

use crate::error::RingError;
use crate::layout::{PAGE_SIZE, TYPE_COMPLETION, TYPE_DATA_INBAND};
use crate::packet::{OwnedPacket, Packet};
use crate::reader::Reader;
use crate::ring::Ring;
use crate::signal::Signal;
use crate::writer::{Outgoing, Sent, Writer};

/// Most bytes that may wait for space in the ring.
pub const MAX_QUEUED: usize = 4 << 20;

/// Times that one poll looks again after the ring was empty. A guest that moves its index to and fro
/// could otherwise keep the host looking without ever sending a packet.
const MAX_LOOKS: u32 = 16;

/// Why [`ChannelRings::poll`] stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PollState {
    /// The ring is empty; the guest signals the next packet.
    Idle,
    /// The budget is used up; poll again later, the guest does not signal.
    More,
    /// Answers wait for space; the guest signals when there is some.
    Blocked,
}

/// Result of [`ChannelRings::poll`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Polled {
    /// Packets taken.
    pub taken: usize,
    /// Whether the guest must be interrupted.
    pub signal: Signal,
    /// What comes next.
    pub state: PollState,
}

/// Result of [`ChannelRings::receive`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Batch {
    /// Packets taken, in order.
    pub packets: Vec<OwnedPacket>,
    /// Whether the guest must be interrupted.
    pub signal: Signal,
    /// What comes next.
    pub state: PollState,
}

/// State of an open channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct RingsSnapshot {
    /// Packets taken from the guest since the channel was opened.
    pub received: u64,
    /// Packets put into the ring for the guest since then.
    pub sent: u64,
    /// Packets that had to wait for space since then.
    pub delayed: u64,
    /// Packets that wait now.
    pub queued_packets: usize,
    /// Bytes that wait now.
    pub queued_bytes: usize,
    /// Where the host reads next.
    pub read_index: u32,
    /// Where the host writes next.
    pub write_index: u32,
}

/// The host's end of an open channel.
pub struct ChannelRings {
    reader: Reader,
    writer: Writer,
    queue: VecDeque<Outgoing>,
    queued: usize,
    payload: Vec<u8>,
    /// Counters; the other fields are filled in when asked for.
    counters: RingsSnapshot,
}

impl ChannelRings {
    /// Opens the rings in `shared`: the guest's ring first, the host's from page `downstream` on.
    ///
    /// # Errors
    ///
    /// Fails if the memory is not two rings of whole pages, or if an index in them is not valid.
    pub fn new(
        memory: Arc<dyn GuestMemory>,
        shared: &GuestRanges,
        downstream: u32,
    ) -> Result<Self, RingError> {
        let bytes = shared.len();
        let bad_split = RingError::BadSplit {
            page: downstream,
            bytes,
        };
        let split = u64::from(downstream).saturating_mul(u64::from(PAGE_SIZE));
        let rest = bytes.checked_sub(split).ok_or(bad_split)?;
        let incoming = Ring::new(Arc::clone(&memory), shared.slice(0, split)?)?;
        let outgoing = Ring::new(memory, shared.slice(split, rest)?)?;
        Ok(Self {
            reader: Reader::new(incoming)?,
            writer: Writer::new(outgoing)?,
            queue: VecDeque::new(),
            queued: 0,
            payload: Vec::new(),
            counters: RingsSnapshot::default(),
        })
    }

    /// Sends what waits, then passes up to `budget` packets of the guest to `take`.
    ///
    /// # Errors
    ///
    /// Fails if the guest broke the protocol; the channel is then unusable.
    pub fn poll(
        &mut self,
        budget: usize,
        mut take: impl FnMut(Packet<'_>),
    ) -> Result<Polled, RingError> {
        let mut signal = Signal::NotNeeded;
        let mut taken = 0_usize;
        let state = if self.flush(&mut signal)? {
            self.drain(budget, &mut taken, &mut signal, &mut take)?
        } else {
            PollState::Blocked
        };
        Ok(Polled {
            taken,
            signal,
            state,
        })
    }

    /// As [`ChannelRings::poll`], with the packets returned together: up to `budget` payloads of
    /// [`crate::MAX_PAYLOAD`] bytes are held at once.
    ///
    /// # Errors
    ///
    /// As [`ChannelRings::poll`].
    pub fn receive(&mut self, budget: usize) -> Result<Batch, RingError> {
        let mut packets = Vec::new();
        let polled = self.poll(budget, |packet| {
            packets.push(OwnedPacket {
                head: packet.head,
                payload: packet.payload.to_vec(),
            });
        })?;
        Ok(Batch {
            packets,
            signal: polled.signal,
            state: polled.state,
        })
    }

    /// Sends `payload` as a packet in the ring, without asking for a completion.
    ///
    /// # Errors
    ///
    /// Fails if the packet can never fit, too much waits already, or the guest broke the protocol.
    pub fn send_inband(
        &mut self,
        transaction_id: u64,
        payload: &[u8],
    ) -> Result<Signal, RingError> {
        self.send(TYPE_DATA_INBAND, transaction_id, payload)
    }

    /// Completes the guest's packet `transaction_id` with `payload`.
    ///
    /// # Errors
    ///
    /// As [`ChannelRings::send_inband`].
    pub fn send_completion(
        &mut self,
        transaction_id: u64,
        payload: &[u8],
    ) -> Result<Signal, RingError> {
        self.send(TYPE_COMPLETION, transaction_id, payload)
    }

    /// Bytes that wait for space in the ring.
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// The state as data.
    pub fn snapshot(&self) -> RingsSnapshot {
        RingsSnapshot {
            queued_packets: self.queue.len(),
            queued_bytes: self.queued,
            read_index: self.reader.index(),
            write_index: self.writer.index(),
            ..self.counters
        }
    }

    fn drain(
        &mut self,
        budget: usize,
        taken: &mut usize,
        signal: &mut Signal,
        take: &mut impl FnMut(Packet<'_>),
    ) -> Result<PollState, RingError> {
        let mut looks = 0_u32;
        self.reader.mask()?;
        loop {
            if *taken >= budget || looks >= MAX_LOOKS {
                *signal |= self.reader.commit()?;
                return Ok(PollState::More);
            }
            if let Some(head) = self.reader.next(&mut self.payload)? {
                *taken = taken.saturating_add(1);
                self.counters.received = self.counters.received.saturating_add(1);
                take(Packet {
                    head,
                    payload: &self.payload,
                });
                continue;
            }
            *signal |= self.reader.commit()?;
            if !self.reader.unmask()? {
                return Ok(PollState::Idle);
            }
            looks = looks.saturating_add(1);
            self.reader.mask()?;
        }
    }

    fn send(
        &mut self,
        kind: u16,
        transaction_id: u64,
        payload: &[u8],
    ) -> Result<Signal, RingError> {
        let packet = self.writer.build(kind, transaction_id, payload)?;
        if self.queue.is_empty() {
            if let Some(signal) = self.try_send(&packet)? {
                return Ok(signal);
            }
            self.writer.want_space(&packet)?;
            if let Some(signal) = self.try_send(&packet)? {
                self.writer.want_nothing()?;
                return Ok(signal);
            }
        }
        let queued = self.queued.saturating_add(packet.len());
        if queued > MAX_QUEUED {
            return Err(RingError::QueueFull {
                queued: self.queued,
                len: packet.len(),
                limit: MAX_QUEUED,
            });
        }
        self.queued = queued;
        self.queue.push_back(packet);
        self.counters.delayed = self.counters.delayed.saturating_add(1);
        Ok(Signal::NotNeeded)
    }

    /// Moves the queue into the ring and returns whether it is empty.
    fn flush(&mut self, signal: &mut Signal) -> Result<bool, RingError> {
        if self.queue.is_empty() {
            return Ok(true);
        }
        while let Some(packet) = self.queue.pop_front() {
            let mut sent = self.try_send(&packet)?;
            if sent.is_none() {
                self.writer.want_space(&packet)?;
                sent = self.try_send(&packet)?;
            }
            let Some(now) = sent else {
                self.queue.push_front(packet);
                return Ok(false);
            };
            *signal |= now;
            self.queued = self.queued.saturating_sub(packet.len());
        }
        self.writer.want_nothing()?;
        Ok(true)
    }

    fn try_send(&mut self, packet: &Outgoing) -> Result<Option<Signal>, RingError> {
        Ok(match self.writer.send(packet)? {
            Sent::Done(signal) => {
                self.counters.sent = self.counters.sent.saturating_add(1);
                Some(signal)
            }
            Sent::Full => None,
        })
    }
}

impl fmt::Debug for ChannelRings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.snapshot().fmt(f)
    }
}

#[cfg(test)]
mod tests;
