// SPDX-License-Identifier: MIT OR Apache-2.0
//! VMBus messages, signals and rings of a guest, with the host offering, rescinding and resetting in
//! between. The server's own checks of its state run after each step.

use std::collections::BTreeMap;
use std::sync::Arc;

use guest_memory::{FlatMemory, GuestMemory};
use vmbus_ring::ChannelRings;
use vmbus_server::{
    ChannelId, CloseReason, Delivery, Effects, Guid, Offer, OpenRefused, Opened, Server,
    ServerConfig, SynicMessage, Teardown, MAX_MESSAGE,
};

use crate::input::{Input, Output};

/// Guest memory, from address 0.
const MEMORY: usize = 64 * 4096;
const VPS: u32 = 2;
/// Steps of one run, so that a run ends soon.
const STEPS: usize = 400;

/// An owner that opens what it may and keeps to the contract of [`Effects`].
struct Owner {
    /// Message slots left.
    slots: u32,
    later: bool,
    rings: BTreeMap<ChannelId, ChannelRings>,
    released: Vec<ChannelId>,
}

impl Effects for Owner {
    fn post_message(&mut self, message: &SynicMessage) -> Delivery {
        assert!(message.payload().len() <= MAX_MESSAGE);
        assert!(message.vp < VPS);
        match self.slots.checked_sub(1) {
            Some(left) => {
                self.slots = left;
                Delivery::Taken
            }
            None => Delivery::Busy,
        }
    }

    fn signal_event(&mut self, vp: u32, _sint: u8, flag: u16) {
        assert!(vp < VPS && (1..2048).contains(&flag));
    }

    fn channel_opened(&mut self, channel: ChannelId, opened: Opened) -> Result<(), OpenRefused> {
        let before = self.rings.insert(channel, opened.rings);
        assert!(before.is_none(), "{channel} opened twice");
        Ok(())
    }

    fn channel_closed(&mut self, channel: ChannelId, _reason: CloseReason) {
        assert!(self.rings.remove(&channel).is_some(), "{channel} not open");
    }

    fn gpadl_teardown(&mut self, _channel: ChannelId, _handle: u32) -> Teardown {
        if self.later {
            Teardown::Later
        } else {
            Teardown::Done
        }
    }

    fn gpadl_revoked(&mut self, _channel: ChannelId, _handle: u32) {}

    fn channel_released(&mut self, channel: ChannelId) {
        assert!(!self.rings.contains_key(&channel), "{channel} still open");
        self.released.push(channel);
    }
}

struct Machine {
    memory: Arc<dyn GuestMemory>,
    server: Server,
    owner: Owner,
    offered: Vec<ChannelId>,
    devices: u8,
}

/// Runs the bytes of a fuzzer.
///
/// # Panics
///
/// When the server breaks its contract.
pub fn run(data: &[u8]) {
    let memory: Arc<dyn GuestMemory> = Arc::new(FlatMemory::new(0, MEMORY));
    let mut machine = Machine {
        server: Server::new(ServerConfig::new(VPS), Arc::clone(&memory)),
        memory,
        owner: Owner {
            slots: u32::MAX,
            later: false,
            rings: BTreeMap::new(),
            released: Vec::new(),
        },
        offered: Vec::new(),
        devices: 0,
    };
    machine.offer();
    let mut input = Input::new(data);
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        machine.step(&mut input);
    }
    machine.server.reset(&mut machine.owner);
    assert!(machine.owner.rings.is_empty(), "open after the reset");
    let left = serde_json::to_value(machine.server.snapshot()).unwrap();
    assert_eq!(left["gpadls"], serde_json::json!([]), "after the reset");
}

impl Machine {
    fn offer(&mut self) {
        self.devices = self.devices.wrapping_add(1);
        let offer = Offer::new(Guid([0xc0; 16]), Guid([self.devices; 16]));
        if let Ok(id) = self.server.offer(offer, &mut self.owner) {
            self.offered.push(id);
        }
    }

    fn channel(&self, index: u8) -> ChannelId {
        let len = self.offered.len();
        self.offered[usize::from(index) % len]
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.u8() % 11 {
            0 => {
                let connection = input.u32();
                let kind = input.u32();
                // Errors are for the guest.
                let _ = self
                    .server
                    .post_message(connection, kind, input.bytes(), &mut self.owner);
            }
            1 | 2 => {
                let bytes = input.bytes();
                let _ = self.server.post_message(4, 1, bytes, &mut self.owner);
            }
            3 => {
                let _ = self.server.signal_event(input.u32(), input.u16());
            }
            4 | 5 => self.signal(input.u8()),
            6 => {
                let gpa = u64::from(input.u32());
                // Outside of memory is fine.
                let _ = self.memory.write(gpa, input.bytes());
            }
            7 => self.offer(),
            8 => {
                let channel = self.channel(input.u8());
                let _ = self.server.rescind(channel, &mut self.owner);
            }
            9 => {
                self.owner.slots = u32::from(input.u8());
                self.server.retry_messages(&mut self.owner);
            }
            _ => {
                self.owner.later = !self.owner.later;
                let channel = self.channel(input.u8());
                let handle = input.u32();
                self.server.gpadl_released(channel, handle, &mut self.owner);
            }
        }
    }

    /// The guest signals a channel: the owner echoes what comes.
    fn signal(&mut self, index: u8) {
        let id = self.channel(index);
        let Ok(Some(open)) = self.server.signal_event(id.event_connection(), 0) else {
            return;
        };
        let rings = self.owner.rings.get_mut(&open).unwrap();
        let echoed = rings.receive(8).and_then(|batch| {
            for packet in batch.packets {
                let signal = rings.send_completion(packet.head.transaction_id, &packet.payload)?;
                let _ = signal.is_needed();
            }
            Ok(())
        });
        match echoed {
            Ok(()) => {
                self.server.signal_guest(open, &mut self.owner);
            }
            Err(error) => self
                .server
                .fail_channel(open, &error.to_string(), &mut self.owner),
        }
    }
}

/// A message of 32-bit fields behind its header.
fn message(kind: u32, fields: &[u32]) -> Vec<u8> {
    let words = [kind, 0].into_iter().chain(fields.iter().copied());
    words.flat_map(u32::to_le_bytes).collect()
}

/// A whole life, and one with an old version, a full message slot and a rescind.
pub fn seeds() -> Vec<Vec<u8>> {
    let contact = message(14, &[0x0005_0003, 1, 2, 0, 0x1000, 0, 0x2000, 0]);
    let old = message(14, &[0x0004_0000, 0, 0x5000, 0, 0x1000, 0, 0x2000, 0]);
    // A range of 8 pages from page 8 on: length, offset, page numbers of 64 bits.
    let mut pages = vec![1, 0x10, 0x0001_0048, 8 * 4096, 0];
    pages.extend((8..16).flat_map(|page| [page, 0]));
    let gpadl = message(8, &pages);
    let mut open = message(5, &[1, 7, 0x10, 1, 4]);
    open.resize(148, 0);
    // A packet of 8 bytes of payload and its footer, then the write index.
    let packet = [6_u16, 2, 3, 1].map(u16::to_le_bytes).concat();
    let packet = [packet.as_slice(), &5_u64.to_le_bytes(), &[9; 8], &[0; 8]].concat();

    let mut life = Output::default();
    for bytes in [&contact, &message(3, &[]), &gpadl, &open] {
        life.u8(1).bytes(bytes);
    }
    life.u8(6).u32(9 * 4096).bytes(&packet);
    life.u8(6).u32(8 * 4096).bytes(&32_u32.to_le_bytes());
    life.u8(4).u8(0);
    for bytes in [
        &message(22, &[1, 0]),
        &message(7, &[1]),
        &message(11, &[1, 0x10]),
        &message(13, &[1]),
        &message(16, &[]),
    ] {
        life.u8(1).bytes(bytes);
    }

    let mut other = Output::default();
    other.u8(0).u32(1).u32(1).bytes(&old);
    other.u8(7);
    other.u8(0).u32(1).u32(1).bytes(&message(3, &[]));
    other.u8(9).u8(0);
    other.u8(1).bytes(&gpadl);
    other.u8(9).u8(2);
    other.u8(10).u8(0).u32(0x10);
    other.u8(1).bytes(&message(11, &[1, 0x10]));
    other.u8(8).u8(0);
    other.u8(1).bytes(&message(13, &[1]));
    other.u8(3).u32(0x2001).u16(0);
    vec![life.done(), other.done()]
}
