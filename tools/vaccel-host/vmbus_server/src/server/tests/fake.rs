// SPDX-License-Identifier: MIT OR Apache-2.0
//! A guest and an owner in memory. Messages are built and read here byte by byte, apart from the
//! product's layouts, after include/linux/hyperv.h.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use guest_memory::{FlatMemory, GuestMemory, GuestRange, GuestRanges};
use vmbus_ring::guest::GuestEnd;
use vmbus_ring::ChannelRings;

use crate::*;

pub(super) const PAGES: u64 = 512;
pub(super) const VPS: u32 = 4;

/// What the server asked for, apart from messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    Opened(ChannelId, u32),
    Closed(ChannelId, CloseReason),
    Teardown(ChannelId, u32),
    Revoked(ChannelId, u32),
    Released(ChannelId),
    Signal(u32, u8, u16),
}

/// An owner that records.
pub(super) struct Recorder {
    pub(super) messages: VecDeque<SynicMessage>,
    /// Message slots left.
    pub(super) slots: usize,
    pub(super) events: Vec<Event>,
    pub(super) rings: BTreeMap<ChannelId, ChannelRings>,
    pub(super) refuse: bool,
    pub(super) teardown: Teardown,
}

impl Effects for Recorder {
    fn post_message(&mut self, message: &SynicMessage) -> Delivery {
        if self.slots == 0 {
            return Delivery::Busy;
        }
        self.slots -= 1;
        assert_eq!(message.message_type(), 1);
        assert!(message.payload().len() <= MAX_MESSAGE);
        self.messages.push_back(message.clone());
        Delivery::Taken
    }

    fn signal_event(&mut self, vp: u32, sint: u8, flag: u16) {
        self.events.push(Event::Signal(vp, sint, flag));
    }

    fn channel_opened(&mut self, channel: ChannelId, opened: Opened) -> Result<(), OpenRefused> {
        if self.refuse {
            return Err(OpenRefused {
                reason: "test".to_owned(),
            });
        }
        self.events.push(Event::Opened(channel, opened.target_vp));
        let old = self.rings.insert(channel, opened.rings);
        assert!(old.is_none(), "{channel} opened twice");
        Ok(())
    }

    fn channel_closed(&mut self, channel: ChannelId, reason: CloseReason) {
        assert!(self.rings.remove(&channel).is_some(), "{channel} not open");
        self.events.push(Event::Closed(channel, reason));
    }

    fn gpadl_teardown(&mut self, channel: ChannelId, handle: u32) -> Teardown {
        self.events.push(Event::Teardown(channel, handle));
        self.teardown
    }

    fn gpadl_revoked(&mut self, channel: ChannelId, handle: u32) {
        self.events.push(Event::Revoked(channel, handle));
    }

    fn channel_released(&mut self, channel: ChannelId) {
        self.events.push(Event::Released(channel));
    }
}

/// A virtual machine: guest memory, the server and its owner.
pub(super) struct Machine {
    pub(super) memory: Arc<dyn GuestMemory>,
    pub(super) server: Server,
    pub(super) fx: Recorder,
    /// Connection for the guest's messages.
    pub(super) connection: u32,
}

pub(super) fn device(number: u8) -> Offer {
    let mut offer = Offer::new(Guid([0xc0; 16]), Guid([number; 16]));
    offer.flags = 0x0102;
    offer.mmio_megabytes = 64;
    offer.user_data = [number ^ 0xff; 120];
    offer
}

/// A message: header, then 32-bit fields.
pub(super) fn message(kind: u32, fields: &[u32]) -> Vec<u8> {
    let mut bytes = kind.to_le_bytes().to_vec();
    bytes.extend_from_slice(&[0; 4]);
    for field in fields {
        bytes.extend_from_slice(&field.to_le_bytes());
    }
    bytes
}

pub(super) fn contact(version: u32, vp: u32, sint: u8, vtl: u8) -> Vec<u8> {
    let sints = u32::from_le_bytes([sint, vtl, 0, 0]);
    message(14, &[version, vp, sints, 0, 0x1000, 0, 0x2000, 0])
}

pub(super) fn open_request(relid: u32, gpadl: u32, vp: u32, downstream: u32) -> Vec<u8> {
    let mut bytes = message(5, &[relid, 0x77, gpadl, vp, downstream]);
    bytes.extend_from_slice(&[0x5a; 120]);
    bytes
}

/// The 32-bit field at `offset` of a message.
pub(super) fn field(message: &SynicMessage, offset: usize) -> u32 {
    u32::from_le_bytes(message.payload()[offset..offset + 4].try_into().unwrap())
}

/// Header and body messages for one range of whole pages.
pub(super) fn gpadl_messages(relid: u32, handle: u32, pages: &[u64]) -> Vec<Vec<u8>> {
    let list_len = 8 + 8 * pages.len();
    let mut first = message(8, &[relid, handle]);
    first.extend_from_slice(&(list_len as u16).to_le_bytes());
    first.extend_from_slice(&1_u16.to_le_bytes());
    first.extend_from_slice(&(4096 * pages.len() as u32).to_le_bytes());
    first.extend_from_slice(&0_u32.to_le_bytes());
    let (now, later) = pages.split_at(pages.len().min(26));
    first.extend(now.iter().flat_map(|page| page.to_le_bytes()));
    let mut all = vec![first];
    for part in later.chunks(28) {
        let mut body = message(9, &[0, handle]);
        body.extend(part.iter().flat_map(|page| page.to_le_bytes()));
        all.push(body);
    }
    all
}

impl Machine {
    pub(super) fn new() -> Self {
        Self::with(ServerConfig::new(VPS))
    }

    pub(super) fn with(config: ServerConfig) -> Self {
        let memory: Arc<dyn GuestMemory> =
            Arc::new(FlatMemory::new(0, usize::try_from(PAGES * 4096).unwrap()));
        Self {
            server: Server::new(config, Arc::clone(&memory)),
            memory,
            fx: Recorder {
                messages: VecDeque::new(),
                slots: usize::MAX,
                events: Vec::new(),
                rings: BTreeMap::new(),
                refuse: false,
                teardown: Teardown::Done,
            },
            connection: 4,
        }
    }

    /// A machine whose guest is connected with 5.3 and knows device 1.
    pub(super) fn offered() -> (Self, ChannelId) {
        let mut machine = Self::new();
        let id = machine.offer(1);
        machine.connect(Version::V5_3);
        machine.post(&message(3, &[]));
        machine.expect(1);
        machine.expect(4);
        machine.quiet();
        (machine, id)
    }

    /// [`Machine::offered`], and the guest has opened the channel over pages 100 to 107, whose
    /// GPADL is 0x10.
    pub(super) fn opened() -> (Self, ChannelId, GuestEnd) {
        let (mut machine, id) = Self::offered();
        let end = machine.rings(100, 8);
        machine.share(id, 0x10, &(100..108).collect::<Vec<_>>());
        machine.post(&open_request(id.relid(), 0x10, 2, 4));
        let result = machine.expect(6);
        assert_eq!(field(&result, 16), 0, "opened");
        assert_eq!(machine.events(), [Event::Opened(id, 2)]);
        (machine, id, end)
    }

    pub(super) fn offer(&mut self, number: u8) -> ChannelId {
        self.server.offer(device(number), &mut self.fx).unwrap()
    }

    /// Posts a message that the server must take.
    pub(super) fn post(&mut self, bytes: &[u8]) {
        self.server
            .post_message(self.connection, 1, bytes, &mut self.fx)
            .unwrap();
    }

    /// The next message to the guest, which must be of `kind`.
    pub(super) fn expect(&mut self, kind: u32) -> SynicMessage {
        let message = self.fx.messages.pop_front().expect("a message");
        assert_eq!(field(&message, 0), kind, "{message:?}");
        assert_eq!(field(&message, 4), 0, "padding");
        message
    }

    /// The events since the last call.
    pub(super) fn events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.fx.events)
    }

    /// Nothing else was sent and nothing else happened.
    pub(super) fn quiet(&mut self) {
        assert!(self.fx.messages.is_empty(), "{:?}", self.fx.messages);
        assert_eq!(self.fx.events, []);
    }

    pub(super) fn connect(&mut self, version: Version) {
        self.connection = if version >= Version::V5_0 { 4 } else { 1 };
        self.post(&contact(version.0, 1, 2, 0));
        let response = self.expect(15);
        assert_eq!(response.payload()[8], 1, "version supported");
    }

    /// Makes GPADL `handle` of `pages`.
    pub(super) fn share(&mut self, id: ChannelId, handle: u32, pages: &[u64]) {
        for bytes in gpadl_messages(id.relid(), handle, pages) {
            self.post(&bytes);
        }
        let created = self.expect(10);
        assert_eq!(field(&created, 8), id.relid());
        assert_eq!(field(&created, 12), handle);
        assert_eq!(field(&created, 16), 0, "created");
    }

    /// Initialises rings in `pages` pages from `first` on, one half for each direction.
    pub(super) fn rings(&self, first: u64, pages: u64) -> GuestEnd {
        let shared = GuestRanges::from_ranges([GuestRange {
            gpa: first * 4096,
            len: pages * 4096,
        }])
        .unwrap();
        GuestEnd::new(Arc::clone(&self.memory), &shared, (pages / 2) as u32)
    }

    /// The guest signals `id`: the owner polls and answers each request with its own payload.
    pub(super) fn signal_and_echo(&mut self, id: ChannelId) {
        let found = self.server.signal_event(id.event_connection(), 0);
        assert_eq!(found, Ok(Some(id)));
        let rings = self.fx.rings.get_mut(&id).unwrap();
        let batch = rings.receive(64).unwrap();
        let mut signal = batch.signal;
        for packet in batch.packets {
            signal |= rings
                .send_completion(packet.head.transaction_id, &packet.payload)
                .unwrap();
        }
        if signal.is_needed() {
            assert!(self.server.signal_guest(id, &mut self.fx));
        }
    }
}
