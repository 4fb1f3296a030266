// SPDX-License-Identifier: MIT OR Apache-2.0
//! Both ends of a channel talk through real ring bytes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{mpsc, Arc, Mutex};
use std::thread;
use std::time::Duration;

use guest_memory::{FlatMemory, GuestMemory, GuestRange, GuestRanges, MemoryError};
use proptest::prelude::*;

use super::*;
use crate::guest::{GuestEnd, Side, Word};
use crate::packet::PacketKind;

const BASE: u64 = 0x10_0000;
const PAGE: u64 = 4096;
const DATA: u16 = 6;
const COMPLETION: u16 = 11;

/// Two rings of `pages` data pages each, in pages that are not in order.
fn pair(pages: u32) -> (GuestEnd, ChannelRings) {
    let ring = pages + 1;
    let total = u64::from(ring) * 2;
    let memory: Arc<dyn GuestMemory> = Arc::new(FlatMemory::new(
        BASE,
        usize::try_from(total * PAGE).unwrap(),
    ));
    let shared = GuestRanges::from_ranges((0..total).rev().map(|page| GuestRange {
        gpa: BASE + page * PAGE,
        len: PAGE,
    }))
    .unwrap();
    let guest = GuestEnd::new(Arc::clone(&memory), &shared, ring);
    let host = ChannelRings::new(memory, &shared, ring).unwrap();
    (guest, host)
}

fn payload(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes: Vec<u8> = (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect();
    bytes.resize(len.next_multiple_of(8), 0);
    bytes
}

/// Packets of many sizes arrive unchanged and in order in both directions, with the rings wrapping
/// often, and a completion carries the transaction of its request.
#[test]
fn exchange_wraps() {
    let (guest, mut host) = pair(1);
    for round in 0..400_u64 {
        let sent = payload(usize::try_from(round * 37 % 1500).unwrap(), round);
        guest.send(DATA, 1, round, &sent).unwrap();
        let batch = host.receive(8).unwrap();
        assert_eq!(batch.packets.len(), 1);
        assert_eq!(batch.state, PollState::Idle);
        let packet = &batch.packets[0];
        assert_eq!(packet.head.kind, PacketKind::Data);
        assert!(packet.head.completion_requested);
        assert_eq!(packet.head.transaction_id, round);
        assert_eq!(packet.payload, sent);

        let answer = payload(usize::try_from(round * 53 % 1500).unwrap(), !round);
        let signal = host.send_completion(round, &answer).unwrap();
        assert!(signal.is_needed(), "the ring was empty");
        let (packets, _) = guest.receive(8);
        assert_eq!(packets.len(), 1);
        assert_eq!(packets[0].kind, COMPLETION);
        assert_eq!(packets[0].transaction_id, round);
        assert_eq!(packets[0].payload, answer);
    }
}

/// A payload that is no multiple of 8 is padded with zeros, and nothing asks for a completion.
#[test]
fn short_payload_is_padded() {
    let (guest, mut host) = pair(1);
    let _ = host.send_inband(0, &[1, 2, 3]).unwrap();
    let (packets, _) = guest.receive(1);
    assert_eq!(packets[0].payload, [1, 2, 3, 0, 0, 0, 0, 0]);
    assert_eq!((packets[0].kind, packets[0].flags), (DATA, 0));
}

/// The guest is interrupted for the first packet in an empty ring only, and not while it masks
/// interrupts.
#[test]
fn guest_is_interrupted_once() {
    let (guest, mut host) = pair(1);
    assert!(host.send_inband(0, &[0; 8]).unwrap().is_needed());
    assert!(!host.send_inband(0, &[0; 8]).unwrap().is_needed());
    guest.receive(2);
    guest.poke(Side::ToGuest, Word::Mask, 1);
    assert!(!host.send_inband(0, &[0; 8]).unwrap().is_needed());
}

/// While the host has not finished reading the guest is told to be quiet, and afterwards it is not.
#[test]
fn host_masks_while_reading() {
    let (guest, mut host) = pair(1);
    for id in 0..3 {
        guest.send(DATA, 0, id, &[]).unwrap();
    }
    let polled = host.poll(2, |_| {}).unwrap();
    assert_eq!((polled.taken, polled.state), (2, PollState::More));
    assert_eq!(guest.peek(Side::ToHost, Word::Mask), 1);
    let polled = host.poll(2, |_| {}).unwrap();
    assert_eq!((polled.taken, polled.state), (1, PollState::Idle));
    assert_eq!(guest.peek(Side::ToHost, Word::Mask), 0);
    assert_eq!(guest.send(DATA, 0, 3, &[]), Some(true));
}

/// A guest that waits for space is interrupted when a batch makes enough, not before and not again.
#[test]
fn guest_waiting_for_space_is_told() {
    let (guest, mut host) = pair(1);
    let mut count = 0;
    while guest.send(DATA, 0, count, &[0; 488]).is_some() {
        count += 1;
    }
    guest.poke(Side::ToHost, Word::Pending, 1600);
    let first = host.poll(1, |_| {}).unwrap();
    assert!(!first.signal.is_needed(), "512 bytes are not enough");
    let second = host.poll(4, |_| {}).unwrap();
    assert!(second.signal.is_needed());
    let third = host.poll(1, |_| {}).unwrap();
    assert!(!third.signal.is_needed(), "there was space before");
    guest.poke(Side::ToHost, Word::Features, 0);
    guest.poke(Side::ToHost, Word::Pending, 3900);
    let rest = host.poll(64, |_| {}).unwrap();
    assert!(
        !rest.signal.is_needed(),
        "a guest without the feature polls"
    );
}

/// Packets that do not fit wait in order; the host asks for space, takes no new request meanwhile,
/// and goes on when the guest has made space and signalled.
#[test]
fn full_ring_queues_and_blocks() {
    let (guest, mut host) = pair(1);
    for id in 0..10 {
        let _ = host.send_completion(id, &payload(992, id)).unwrap();
    }
    assert!(host.queued() > 0);
    assert_eq!(guest.peek(Side::ToGuest, Word::Pending), 1016);
    guest.send(DATA, 1, 77, &[]).unwrap();
    let polled = host.poll(8, |_| {}).unwrap();
    assert_eq!((polled.taken, polled.state), (0, PollState::Blocked));

    let mut seen = Vec::new();
    let mut requests = 0;
    for _ in 0..20 {
        let (packets, signal) = guest.receive(1);
        seen.extend(packets.iter().map(|packet| packet.transaction_id));
        if signal {
            requests += host.poll(8, |_| {}).unwrap().taken;
        }
    }
    assert_eq!(seen, (0..10).collect::<Vec<_>>());
    assert_eq!(
        requests, 1,
        "the request was taken once the queue was empty"
    );
    assert_eq!(host.queued(), 0);
    assert_eq!(guest.peek(Side::ToGuest, Word::Pending), 0);
    assert_eq!(host.snapshot().sent, 10);
}

/// A small packet does not overtake a large one that waits, though it would fit.
#[test]
fn order_is_kept() {
    let (guest, mut host) = pair(1);
    for id in 0..3 {
        let _ = host.send_inband(id, &[0; 1000]).unwrap();
    }
    let _ = host.send_inband(3, &[0; 2000]).unwrap();
    let _ = host.send_inband(4, &[0; 8]).unwrap();
    assert_eq!(host.snapshot().queued_packets, 2);
    let mut seen = Vec::new();
    while seen.len() < 5 {
        let (packets, _) = guest.receive(1);
        assert!(!packets.is_empty());
        seen.extend(packets.iter().map(|packet| packet.transaction_id));
        let _ = host.poll(1, |_| {}).unwrap();
    }
    assert_eq!(seen, [0, 1, 2, 3, 4]);
}

type Hook = Mutex<Option<Box<dyn FnOnce() + Send>>>;

/// Memory that does something once, just before a certain word is stored.
struct Before {
    memory: Arc<dyn GuestMemory>,
    gpa: u64,
    hook: Arc<Hook>,
}

impl GuestMemory for Before {
    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
        self.memory.read(gpa, buf)
    }

    fn write(&self, gpa: u64, data: &[u8]) -> Result<(), MemoryError> {
        self.memory.write(gpa, data)
    }

    fn load_u32(&self, gpa: u64) -> Result<u32, MemoryError> {
        self.memory.load_u32(gpa)
    }

    fn store_u32(&self, gpa: u64, value: u32) -> Result<(), MemoryError> {
        let hook = self.hook.lock().unwrap().take_if(|_| gpa == self.gpa);
        if let Some(hook) = hook {
            hook();
        }
        self.memory.store_u32(gpa, value)
    }

    fn set_bit_u32(&self, gpa: u64, bit: u32) -> Result<bool, MemoryError> {
        self.memory.set_bit_u32(gpa, bit)
    }
}

/// A guest that makes space after the host found none and before the host asks for it does not
/// signal; the host must find the space by itself, both when it sends and when it goes through its
/// queue.
#[test]
fn space_made_in_between_is_found() {
    let shared = GuestRanges::from_ranges([GuestRange {
        gpa: 0,
        len: 4 * PAGE,
    }])
    .unwrap();
    let memory: Arc<dyn GuestMemory> = Arc::new(FlatMemory::new(0, 0x4000));
    let guest = Arc::new(GuestEnd::new(Arc::clone(&memory), &shared, 2));
    let hook = Arc::new(Hook::default());
    let before = Before {
        memory,
        gpa: 2 * PAGE + 12,
        hook: Arc::clone(&hook),
    };
    let mut host = ChannelRings::new(Arc::new(before), &shared, 2).unwrap();
    let arm = || {
        let guest = Arc::clone(&guest);
        *hook.lock().unwrap() = Some(Box::new(move || {
            let (_, signal) = guest.receive(usize::MAX);
            assert!(!signal, "the guest has no reason to signal");
        }));
    };

    arm();
    for id in 0..4 {
        let _ = host.send_inband(id, &[0; 1000]).unwrap();
    }
    assert!(hook.lock().unwrap().is_none(), "the ring was full");
    assert_eq!(host.queued(), 0);
    guest.receive(usize::MAX);

    for payload in [1000, 1000, 1000, 1000, 2476] {
        let _ = host.send_inband(9, &vec![0; payload]).unwrap();
    }
    assert_eq!(host.snapshot().queued_packets, 2);
    assert!(guest.receive(2).1, "the first of the queue fits now");
    arm();
    let polled = host.poll(1, |_| {}).unwrap();
    assert!(hook.lock().unwrap().is_none(), "the second did not");
    assert_eq!(polled.state, PollState::Idle);
    assert_eq!(host.queued(), 0);
}

/// What waits for a guest that never reads is bounded, and a packet that can never fit is refused at
/// once.
#[test]
fn queue_is_bounded() {
    let (_guest, mut host) = pair(1);
    let refused = (0..2_000_000 / 8).find_map(|id| host.send_completion(id, &[0; 4000]).err());
    assert!(matches!(refused, Some(RingError::QueueFull { .. })));
    assert!(host.queued() <= MAX_QUEUED);
    assert!(matches!(
        host.send_inband(0, &[0; 4096]),
        Err(RingError::PacketTooLarge { .. })
    ));
}

/// The largest payload that a guest may send and the largest packet it takes both pass; one more byte
/// does not.
#[test]
fn size_limits() {
    let (guest, mut host) = pair(63);
    guest.send(DATA, 1, 1, &vec![7; 131_072]).unwrap();
    let batch = host.receive(1).unwrap();
    assert_eq!(batch.packets[0].payload, vec![7; 131_072]);
    let _ = host.send_completion(1, &vec![9; 131_056]).unwrap();
    let (packets, _) = guest.receive(1);
    assert_eq!(packets[0].payload, vec![9; 131_056]);
    assert!(matches!(
        host.send_completion(1, &vec![9; 131_057]),
        Err(RingError::PacketTooLarge { .. })
    ));
    guest.send(DATA, 1, 1, &vec![7; 131_080]).unwrap();
    assert!(matches!(
        host.receive(1),
        Err(RingError::PacketTooLarge { len: 131_080, .. })
    ));
}

/// Indexes that are out of range or not a multiple of 8 are refused wherever the host meets them.
#[test]
fn bad_indexes_are_refused() {
    for value in [4096, 4, 12345, u32::MAX] {
        let (guest, mut host) = pair(1);
        guest.poke(Side::ToHost, Word::Write, value);
        assert!(matches!(
            host.poll(1, |_| {}),
            Err(RingError::BadIndex { which: "write", value: found, .. }) if found == value
        ));
        guest.poke(Side::ToGuest, Word::Read, value);
        assert!(matches!(
            host.send_inband(0, &[]),
            Err(RingError::BadIndex { which: "read", value: found, .. }) if found == value
        ));
    }
}

/// The index that the host owns is not read back, so the guest cannot move it.
#[test]
fn own_indexes_are_private() {
    let (guest, mut host) = pair(1);
    guest.send(DATA, 0, 1, &[1; 8]).unwrap();
    guest.poke(Side::ToHost, Word::Read, 32);
    assert_eq!(host.receive(4).unwrap().packets.len(), 1);
    assert_eq!(guest.peek(Side::ToHost, Word::Read), 32);
    let _ = host.send_inband(5, &[]).unwrap();
    guest.poke(Side::ToGuest, Word::Write, 0);
    let _ = host.send_inband(6, &[]).unwrap();
    let (packets, _) = guest.receive(4);
    let ids: Vec<_> = packets.iter().map(|p| p.transaction_id).collect();
    assert_eq!(ids, [5, 6]);
}

fn raw(kind: u16, offset8: u16, len8: u16, extra: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [kind, offset8, len8, 0] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.resize(16 + extra, 0);
    bytes
}

/// A packet whose footer was never published is refused, as are lengths that contradict each other.
#[test]
fn broken_packets_are_refused() {
    let cases: [(Vec<u8>, &str); 6] = [
        (raw(DATA, 2, 2, 0), "no footer"),
        (raw(DATA, 2, 3, 8), "footer only in part"),
        (raw(DATA, 2, 200, 8), "longer than published"),
        (raw(DATA, 1, 2, 8), "payload inside the descriptor"),
        (raw(DATA, 3, 2, 8), "payload behind the packet"),
        (raw(DATA, 2, 0, 8), "no length"),
    ];
    for (bytes, what) in cases {
        let (guest, mut host) = pair(1);
        guest.publish(&bytes);
        let error = host.poll(1, |_| {}).expect_err(what);
        assert!(
            matches!(
                error,
                RingError::Truncated { .. } | RingError::BadDescriptor { .. }
            ),
            "{what}: {error}"
        );
    }
}

/// Packets that point at memory are consumed and reported, and the packet after them is found.
#[test]
fn other_types_are_skipped() {
    let (guest, mut host) = pair(1);
    for kind in [7, 8, 9, 0, 99] {
        guest.publish(&raw(kind, 2, 5, 24 + 8));
        guest.send(DATA, 0, 3, &[5; 8]).unwrap();
        let batch = host.receive(4).unwrap();
        assert_eq!(batch.packets[0].head.kind, PacketKind::Unsupported(kind));
        assert!(batch.packets[0].payload.is_empty());
        assert_eq!(batch.packets[1].payload, [5; 8]);
    }
}

/// Memory in which one word changes between two values with every load.
struct Flicker {
    memory: Arc<dyn GuestMemory>,
    gpa: u64,
    value: AtomicU32,
}

impl GuestMemory for Flicker {
    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
        self.memory.read(gpa, buf)
    }

    fn write(&self, gpa: u64, data: &[u8]) -> Result<(), MemoryError> {
        self.memory.write(gpa, data)
    }

    fn load_u32(&self, gpa: u64) -> Result<u32, MemoryError> {
        if gpa == self.gpa {
            return Ok(self.value.fetch_xor(24, Ordering::SeqCst));
        }
        self.memory.load_u32(gpa)
    }

    fn store_u32(&self, gpa: u64, value: u32) -> Result<(), MemoryError> {
        self.memory.store_u32(gpa, value)
    }

    fn set_bit_u32(&self, gpa: u64, bit: u32) -> Result<bool, MemoryError> {
        self.memory.set_bit_u32(gpa, bit)
    }
}

/// A guest that moves its write index to and fro, so that there is something to read only when the
/// host does not look, cannot keep the host in one poll.
#[test]
fn flickering_index_ends_the_poll() {
    let shared = GuestRanges::from_ranges([GuestRange {
        gpa: 0,
        len: 4 * PAGE,
    }])
    .unwrap();
    let memory: Arc<dyn GuestMemory> = Arc::new(FlatMemory::new(0, 0x4000));
    GuestEnd::new(Arc::clone(&memory), &shared, 2);
    let memory = Flicker {
        memory,
        gpa: 0,
        value: AtomicU32::new(24),
    };
    let mut host = ChannelRings::new(Arc::new(memory), &shared, 2).unwrap();
    let polled = host.poll(8, |_| {}).unwrap();
    assert_eq!((polled.taken, polled.state), (0, PollState::More));
}

/// Memory that is not two rings of whole pages is refused.
#[test]
fn bad_geometry_is_refused() {
    let memory: Arc<dyn GuestMemory> = Arc::new(FlatMemory::new(0, 0x8000));
    let open = |gpa, len, downstream| {
        let shared = GuestRanges::from_ranges([GuestRange { gpa, len }]).unwrap();
        ChannelRings::new(Arc::clone(&memory), &shared, downstream)
            .err()
            .map(|error| error.to_string())
    };
    assert_eq!(open(0, 0x4000, 2), None);
    for (gpa, len, downstream) in [
        (0, 0x4000, 0),
        (0, 0x4000, 1),
        (0, 0x4000, 3),
        (0, 0x4000, 4),
        (0, 0x4000, u32::MAX),
        (8, 0x4000, 2),
        (0, 0x4008, 2),
        (0x10_0000, 0x4000, 2),
        (0, 1 << 40, 2),
    ] {
        assert!(
            open(gpa, len, downstream).is_some(),
            "{gpa:#x} {len:#x} {downstream}"
        );
    }
}

/// Both ends run at the same time on rings that are nearly always full, and sleep unless the other end
/// signals: no signal is missing, whatever the timing.
#[test]
fn no_signal_is_lost() {
    const REQUESTS: u64 = 3000;
    const PATIENCE: Duration = Duration::from_secs(10);
    let size = |id: u64| usize::try_from(id * 31 % 1200).unwrap();
    let (guest, mut host) = pair(1);
    let (to_host, host_bell) = mpsc::channel();
    let (to_guest, guest_bell) = mpsc::channel();

    let device = thread::spawn(move || {
        while host_bell.recv().is_ok() {
            loop {
                let batch = host.receive(4).unwrap();
                let mut signal = batch.signal;
                for packet in batch.packets {
                    let id = packet.head.transaction_id;
                    signal |= host.send_completion(id, &packet.payload).unwrap();
                }
                if signal.is_needed() {
                    to_guest.send(()).unwrap();
                }
                if batch.state != PollState::More {
                    break;
                }
            }
        }
    });

    let (mut sent, mut answered) = (0, 0);
    while answered < REQUESTS {
        let mut progress = false;
        while sent < REQUESTS {
            let data = payload(size(sent), sent);
            let Some(signal) = guest.send(DATA, 1, sent, &data) else {
                let wanted = u32::try_from(data.len() + 24).unwrap();
                guest.poke(Side::ToHost, Word::Pending, wanted);
                if guest.free() <= data.len() + 24 {
                    break;
                }
                continue;
            };
            guest.poke(Side::ToHost, Word::Pending, 0);
            sent += 1;
            progress = true;
            if signal {
                to_host.send(()).unwrap();
            }
        }
        let (packets, signal) = guest.receive(usize::MAX);
        if signal {
            to_host.send(()).unwrap();
        }
        for packet in packets {
            assert_eq!(packet.transaction_id, answered);
            assert_eq!(packet.payload, payload(size(answered), answered));
            answered += 1;
            progress = true;
        }
        if !progress {
            guest_bell
                .recv_timeout(PATIENCE)
                .expect("a signal is missing");
        }
    }
    drop(to_host);
    device.join().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the guest publishes, the host ends with packets or an error, never a panic.
    #[test]
    fn arbitrary_ring_bytes(
        chunks in proptest::collection::vec((any::<[u8; 8]>(), 1_usize..6), 1..40),
        write in proptest::option::of(any::<u32>()),
    ) {
        let (guest, mut host) = pair(1);
        for (word, times) in chunks {
            guest.publish(&word.repeat(times));
            let _ = host.receive(16);
        }
        if let Some(write) = write {
            guest.poke(Side::ToHost, Word::Write, write);
        }
        let _ = host.receive(16);
        let _ = host.send_inband(0, &[0; 100]);
    }

    /// Any mix of sizes and batch limits keeps order and contents in both directions, and the
    /// interrupts alone are enough to keep both ends going.
    #[test]
    fn arbitrary_traffic(
        sizes in proptest::collection::vec((0_usize..1800, 0_usize..1800), 1..80),
        budget in 1_usize..5,
    ) {
        let (guest, mut host) = pair(1);
        let mut wake_host = false;
        let mut wake_guest = false;
        let mut next = 0;
        let mut answered = Vec::new();
        let mut idle_turns = 0;
        while answered.len() < sizes.len() && idle_turns < 4 {
            idle_turns += 1;
            if let Some((request, _)) = sizes.get(next) {
                let id = u64::try_from(next).unwrap();
                if let Some(signal) = guest.send(DATA, 1, id, &payload(*request, id)) {
                    wake_host |= signal;
                    next += 1;
                    idle_turns = 0;
                } else {
                    guest.poke(Side::ToHost, Word::Pending, u32::try_from(request + 32).unwrap());
                }
            }
            if std::mem::take(&mut wake_host) {
                let batch = host.receive(budget).unwrap();
                wake_guest |= batch.signal.is_needed();
                wake_host |= batch.state == PollState::More;
                for packet in batch.packets {
                    let id = packet.head.transaction_id;
                    let (request, answer) = sizes[usize::try_from(id).unwrap()];
                    prop_assert_eq!(packet.payload, payload(request, id));
                    let signal = host.send_completion(id, &payload(answer, !id)).unwrap();
                    wake_guest |= signal.is_needed();
                }
                idle_turns = 0;
            }
            if std::mem::take(&mut wake_guest) {
                let (packets, signal) = guest.receive(usize::MAX);
                wake_host |= signal;
                for packet in packets {
                    let id = packet.transaction_id;
                    let (_, answer) = sizes[usize::try_from(id).unwrap()];
                    prop_assert_eq!(packet.payload, payload(answer, !id));
                    answered.push(id);
                }
                idle_turns = 0;
            }
        }
        prop_assert_eq!(answered.len(), sizes.len());
        prop_assert!(answered.is_sorted());
    }

    /// The guest is interrupted exactly for a packet that finds the ring empty and interrupts not masked,
    /// wherever the ring wraps and whatever waits; what the host says to want is what the first packet
    /// in its queue needs, and nothing without a queue.
    #[test]
    fn interrupts_and_wanted_space(
        steps in proptest::collection::vec((0_u8..4, 0_usize..1500), 1..120),
    ) {
        let (guest, mut host) = pair(1);
        let mut waiting: VecDeque<u32> = VecDeque::new();
        let used = |guest: &GuestEnd| {
            let read = guest.peek(Side::ToGuest, Word::Read);
            let write = guest.peek(Side::ToGuest, Word::Write);
            (write + 4096 - read) % 4096
        };
        for (step, size) in steps {
            match step {
                0 | 1 => {
                    let whole = u32::try_from(size.next_multiple_of(8) + 24).unwrap();
                    let was_empty = used(&guest) == 0;
                    let masked = guest.peek(Side::ToGuest, Word::Mask) != 0;
                    let fits = waiting.is_empty() && used(&guest) + whole < 4096;
                    let signal = host.send_inband(0, &vec![0; size]).unwrap();
                    prop_assert_eq!(signal.is_needed(), fits && was_empty && !masked);
                    if !fits {
                        waiting.push_back(whole);
                    }
                }
                2 => {
                    guest.receive(size % 4);
                    let mut free = 4096 - used(&guest);
                    let mut expected = false;
                    while let Some(whole) = waiting.front().copied().filter(|whole| *whole < free) {
                        expected |= free == 4096;
                        free -= whole;
                        waiting.pop_front();
                    }
                    let polled = host.poll(1, |_| {}).unwrap();
                    prop_assert_eq!(polled.signal.is_needed(), expected);
                    prop_assert_eq!(polled.state == PollState::Blocked, !waiting.is_empty());
                }
                _ => guest.poke(Side::ToGuest, Word::Mask, u32::from(size % 2 == 0)),
            }
            let wanted = waiting.front().copied().unwrap_or(0);
            prop_assert_eq!(guest.peek(Side::ToGuest, Word::Pending), wanted);
        }
    }
}
