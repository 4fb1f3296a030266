// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rings whose memory the guest writes at any time, between the host's accesses as well.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use guest_memory::{FlatMemory, GuestMemory, GuestRange, GuestRanges, MemoryError};
use vmbus_ring::channel::MAX_QUEUED;
use vmbus_ring::{ChannelRings, RingError, MAX_PAYLOAD};

use crate::input::{Input, Output};

/// Pages of each ring, the control page included.
const RING_PAGES: u32 = 2;
const PAGE: u64 = 4096;
/// Bytes of both rings.
const BYTES: u64 = 2 * 2 * PAGE;
const STEPS: usize = 400;

/// A store of the guest that happens before one of the host's accesses.
struct Later {
    /// Accesses before it.
    after: u8,
    gpa: u64,
    value: u32,
}

/// Memory in which the guest stores while the host looks.
struct Moving {
    memory: FlatMemory,
    later: Mutex<VecDeque<Later>>,
}

impl Moving {
    fn tick(&self) {
        let mut later = self.later.lock().unwrap();
        let Some(next) = later.front_mut() else {
            return;
        };
        match next.after.checked_sub(1) {
            Some(left) => next.after = left,
            None => {
                let (gpa, value) = (next.gpa, next.value);
                later.pop_front();
                self.memory.store_u32(gpa, value).unwrap();
            }
        }
    }
}

impl GuestMemory for Moving {
    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
        self.tick();
        self.memory.read(gpa, buf)
    }

    fn write(&self, gpa: u64, data: &[u8]) -> Result<(), MemoryError> {
        self.tick();
        self.memory.write(gpa, data)
    }

    fn load_u32(&self, gpa: u64) -> Result<u32, MemoryError> {
        self.tick();
        self.memory.load_u32(gpa)
    }

    fn store_u32(&self, gpa: u64, value: u32) -> Result<(), MemoryError> {
        self.tick();
        self.memory.store_u32(gpa, value)
    }

    fn set_bit_u32(&self, gpa: u64, bit: u32) -> Result<bool, MemoryError> {
        self.tick();
        self.memory.set_bit_u32(gpa, bit)
    }
}

/// Runs the bytes of a fuzzer.
///
/// # Panics
///
/// When the rings break their contract.
pub fn run(data: &[u8]) {
    let memory = Arc::new(Moving {
        memory: FlatMemory::new(0, usize::try_from(BYTES).unwrap()),
        later: Mutex::default(),
    });
    let shared = GuestRanges::from_ranges([GuestRange { gpa: 0, len: BYTES }]).unwrap();
    let mut rings = ChannelRings::new(memory.clone(), &shared, RING_PAGES).unwrap();
    let mut input = Input::new(data);
    for _ in 0..STEPS {
        if input.is_empty() || step(&memory, &mut rings, &mut input).is_err() {
            // After an error the channel is closed.
            return;
        }
        let now = rings.snapshot();
        assert!(now.read_index < 4096 && now.read_index % 8 == 0);
        assert!(now.write_index < 4096 && now.write_index % 8 == 0);
        assert!(now.queued_bytes <= MAX_QUEUED);
        assert_eq!(now.queued_packets == 0, now.queued_bytes == 0);
    }
}

fn step(memory: &Moving, rings: &mut ChannelRings, input: &mut Input<'_>) -> Result<(), RingError> {
    match input.u8() % 6 {
        0 => {
            let gpa = u64::from(input.u16()) % BYTES;
            // Beyond the end is no memory.
            let _ = memory.memory.write(gpa, input.bytes());
        }
        1 => {
            // A word of a control page.
            let ring = u64::from(input.u8() % 2) * u64::from(RING_PAGES) * PAGE;
            let word = [0, 4, 8, 12, 64][usize::from(input.u8() % 5)];
            memory.memory.store_u32(ring + word, input.u32()).unwrap();
        }
        2 => {
            let later = Later {
                after: input.u8() % 32,
                gpa: u64::from(input.u16()) % BYTES & !3,
                value: input.u32(),
            };
            memory.later.lock().unwrap().push_back(later);
        }
        3 => {
            let budget = usize::from(input.u8());
            let mut taken = 0;
            let polled = rings.poll(budget, |packet| {
                assert!(packet.payload.len() <= MAX_PAYLOAD as usize);
                taken += 1;
            })?;
            assert!(polled.taken <= budget);
            assert_eq!(polled.taken, taken);
        }
        4 => {
            let len = usize::from(input.u16() % 5000);
            match rings.send_completion(1, &vec![0xA5; len]) {
                // These leave the rings as they were.
                Err(RingError::PacketTooLarge { .. } | RingError::QueueFull { .. }) | Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
        _ => {
            let _ = rings
                .send_inband(2, input.bytes())
                .map(|signal| signal.is_needed());
        }
    }
    Ok(())
}

/// A packet of `payload` in the ring to the host, at its start, and the write index behind it.
fn packet(out: &mut Output, payload: &[u8]) {
    let len = u16::try_from((16 + payload.len()).div_ceil(8)).unwrap();
    let head = [6, 2, len, 1].map(u16::to_le_bytes).concat();
    let mut bytes = [head.as_slice(), &7_u64.to_le_bytes(), payload].concat();
    bytes.resize(usize::from(len) * 8 + 8, 0);
    out.u8(0).u16(4096).bytes(&bytes);
    let end = u32::try_from(bytes.len()).unwrap();
    out.u8(1).u8(0).u8(0).u32(end);
}

/// A request and its answer; a full ring that empties; an index that moves while it is read.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut echo = Output::default();
    packet(&mut echo, &[1; 40]);
    echo.u8(3).u8(8).u8(4).u16(40).u8(1).u8(1).u8(1).u32(64);
    echo.u8(3).u8(8);

    let mut full = Output::default();
    for _ in 0..6 {
        full.u8(4).u16(1000);
    }
    full.u8(1).u8(1).u8(1).u32(1024).u8(3).u8(1);
    full.u8(1).u8(1).u8(1).u32(3072).u8(3).u8(1);

    let mut moving = Output::default();
    packet(&mut moving, &[2; 8]);
    moving.u8(2).u8(3).u16(0).u32(4088);
    moving.u8(2).u8(0).u16(4100).u32(0xffff_ffff);
    moving.u8(3).u8(8);
    vec![echo.done(), full.done(), moving.done()]
}
