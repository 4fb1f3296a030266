// SPDX-License-Identifier: MIT OR Apache-2.0
//! What no well-behaved guest does.

use proptest::prelude::*;

use super::fake::*;
use crate::snapshot::ConnectionSnapshot;
use crate::*;

/// Why the guest was disconnected.
fn disconnected(machine: &Machine) -> Option<String> {
    match machine.server.snapshot().connection {
        ConnectionSnapshot::Disconnected { reason } => Some(reason.unwrap_or_default()),
        ConnectionSnapshot::Connected { .. } => None,
    }
}

/// Every message of a guest, cut at every length, ends the connection with a reason or is taken; the
/// channel is closed and its memory revoked in the same step, and the guest can connect again.
#[test]
fn truncated_messages() {
    let (_, id) = Machine::offered();
    let relid = id.relid();
    let messages = [
        (contact(0x0005_0003, 0, 2, 0), 40),
        (open_request(relid, 0x10, 0, 4), 148),
        (message(7, &[relid]), 12),
        (gpadl_messages(relid, 0x20, &[1])[0].clone(), 20),
        (message(9, &[0, 0x20]), 16),
        (message(11, &[relid, 0x20]), 16),
        (message(13, &[relid]), 12),
        (message(22, &[relid, 0]), 16),
    ];
    for (bytes, needed) in messages {
        for len in 0..needed {
            let (mut machine, id, _end) = Machine::opened();
            machine.post(&bytes[..len]);
            let reason = disconnected(&machine).expect("disconnected");
            assert!(reason.contains("bytes"), "{reason}");
            assert_eq!(
                machine.events(),
                [
                    Event::Closed(id, CloseReason::Disconnected),
                    Event::Revoked(id, 0x10)
                ]
            );
            machine.quiet();
            machine.connect(Version::V5_3);
        }
    }
}

/// Messages that only hosts send, and unknown ones, are ignored.
#[test]
fn foreign_messages() {
    let (mut machine, _, _end) = Machine::opened();
    for kind in [
        0,
        1,
        2,
        4,
        6,
        10,
        12,
        15,
        17,
        18,
        19,
        20,
        21,
        23,
        24,
        25,
        1000,
        u32::MAX,
    ] {
        machine.post(&message(kind, &[0; 40]));
    }
    machine.quiet();
    assert_eq!(disconnected(&machine), None);
}

/// Naming a channel that was not offered ends the connection.
#[test]
fn unknown_channels() {
    for kind in [5, 7, 8, 11, 13, 22] {
        for relid in [0, 2, 2047, 2048, u32::MAX] {
            let (mut machine, _) = Machine::offered();
            machine.post(&message(kind, &[relid; 40]));
            let reason = disconnected(&machine).expect("disconnected");
            assert!(reason.contains(&relid.to_string()), "{reason}");
            machine.quiet();
        }
    }
    let mut machine = Machine::new();
    let id = machine.offer(1);
    machine.connect(Version::V5_3);
    machine.post(&open_request(id.relid(), 1, 0, 1));
    assert!(disconnected(&machine).is_some(), "not announced yet");
}

/// Without a connection only a contact has an effect, and a contact that cannot be answered has none.
#[test]
fn strangers() {
    let mut machine = Machine::new();
    machine.offer(1);
    for kind in 0..30 {
        if kind != 14 {
            machine.post(&message(kind, &[1; 40]));
        }
    }
    machine.post(&contact(0x0005_0003, VPS, 2, 0));
    machine.quiet();
    for (sint, vtl) in [(0, 0), (16, 0), (255, 0), (2, 1)] {
        machine.post(&contact(0x0005_0003, 0, sint, vtl));
        assert_eq!(machine.expect(15).payload()[8], 0);
    }
    assert!(disconnected(&machine).is_some());
}

/// The hypercall itself can be wrong.
#[test]
fn bad_hypercalls() {
    let mut machine = Machine::new();
    let mut status = |connection, kind, len| {
        machine
            .server
            .post_message(connection, kind, &vec![0; len], &mut machine.fx)
            .map_err(PostError::hypercall_status)
    };
    assert_eq!(status(2, 1, 8), Err(0x12));
    assert_eq!(status(4, 0, 8), Err(0x05));
    assert_eq!(status(4, 1, 241), Err(0x05));
    assert_eq!(status(4, 1, 240), Ok(()));
    for (connection, flag) in [(0, 0), (2, 0), (0x2000, 0), (0x2001, 0), (u32::MAX, 9)] {
        assert!(machine.server.signal_event(connection, flag).is_err());
    }
    let id = machine.offer(1);
    assert_eq!(
        machine.server.signal_event(id.event_connection(), 0),
        Ok(None)
    );
    assert!(machine
        .server
        .signal_event(id.event_connection(), 1)
        .is_err());
}

/// Everything that can be wrong in an open request makes it fail, and the channel stays usable.
#[test]
fn bad_open_requests() {
    let (mut machine, id) = Machine::offered();
    let relid = id.relid();
    machine.share(id, 0x10, &(100..108).collect::<Vec<_>>());
    machine.share(id, 0x11, &[110]);
    let other = machine.offer(2);
    machine.expect(1);
    machine.share(other, 0x12, &(120..128).collect::<Vec<_>>());
    for (gpadl, vp, downstream) in [
        (0x99, 0, 4),
        (0x10, VPS, 4),
        (0x10, 0, 0),
        (0x10, 0, 1),
        (0x10, 0, 7),
        (0x10, 0, 8),
        (0x10, 0, u32::MAX),
        (0x11, 0, 1),
        (0x12, 0, 4),
    ] {
        machine.post(&open_request(relid, gpadl, vp, downstream));
        assert_ne!(
            field(&machine.expect(6), 16),
            0,
            "{gpadl:#x} {vp} {downstream}"
        );
        machine.quiet();
    }
    let end = machine.rings(100, 8);
    end.poke(
        vmbus_ring::guest::Side::ToHost,
        vmbus_ring::guest::Word::Write,
        3,
    );
    machine.post(&open_request(relid, 0x10, 0, 4));
    assert_ne!(field(&machine.expect(6), 16), 0, "bad index");
    machine.rings(100, 8);
    machine.fx.refuse = true;
    machine.post(&open_request(relid, 0x10, 0, 4));
    assert_ne!(field(&machine.expect(6), 16), 0, "refused by the device");
    machine.fx.refuse = false;
    machine.post(&open_request(relid, 0x10, 0, 4));
    assert_eq!(field(&machine.expect(6), 16), 0);
}

/// Breaking the rules of an open channel gets that channel rescinded and leaves the others alone.
#[test]
fn channel_violations() {
    let cases: [fn(u32, u32) -> Vec<u8>; 4] = [
        |relid, _| open_request(relid, 0x10, 0, 4),
        |relid, _| message(11, &[relid, 0x10]),
        |relid, _| message(13, &[relid]),
        |relid, _| message(11, &[relid, 0x40]),
    ];
    for case in cases {
        let (mut machine, id, _end) = Machine::opened();
        let other = machine.offer(2);
        machine.expect(1);
        machine.share(other, 0x40, &[300]);
        machine.post(&case(id.relid(), other.relid()));
        assert_eq!(field(&machine.expect(2), 8), id.relid());
        assert_eq!(
            machine.events(),
            [
                Event::Closed(id, CloseReason::Rescinded),
                Event::Revoked(id, 0x10)
            ]
        );
        machine.quiet();
        assert!(machine.server.gpadl(other, 0x40).is_some());
        assert_eq!(machine.server.snapshot().complaints, 1);
    }
}

/// A corrupt ring is reported by its owner and ends the channel in the same way.
#[test]
fn corrupt_ring() {
    let (mut machine, id, end) = Machine::opened();
    end.publish(&[0xff; 24]);
    let rings = machine.fx.rings.get_mut(&id).unwrap();
    let error = rings.receive(8).unwrap_err();
    machine
        .server
        .fail_channel(id, &error.to_string(), &mut machine.fx);
    assert_eq!(field(&machine.expect(2), 8), id.relid());
    assert!(!machine.server.signal_guest(id, &mut machine.fx));
}

/// Channels, GPADLs and page lists are limited, refused headers leave their bodies without effect,
/// and what is given back can be used again.
#[test]
fn limits() {
    let mut config = ServerConfig::new(VPS);
    config.limits = Limits {
        channels: 2,
        gpadls: 3,
        gpadl_words: 60,
    };
    let mut machine = Machine::with(config);
    let id = machine.offer(1);
    machine.offer(2);
    assert!(matches!(
        machine.server.offer(device(3), &mut machine.fx),
        Err(OfferError::TooMany { count: 2 })
    ));
    machine.connect(Version::V5_3);
    machine.post(&message(3, &[]));
    machine.expect(1);
    machine.expect(1);
    machine.expect(4);
    let pages: Vec<u64> = (0..50).collect();
    machine.share(id, 1, &pages);
    for bytes in gpadl_messages(id.relid(), 2, &pages) {
        machine.post(&bytes);
    }
    assert_ne!(field(&machine.expect(10), 16), 0, "too many words");
    machine.share(id, 3, &[1]);
    machine.share(id, 4, &[1]);
    machine.post(&gpadl_messages(id.relid(), 5, &[1])[0]);
    assert_ne!(field(&machine.expect(10), 16), 0, "too many gpadls");
    machine.post(&gpadl_messages(id.relid(), 4, &[2])[0]);
    assert_ne!(field(&machine.expect(10), 16), 0, "handle in use");
    machine.post(&message(11, &[id.relid(), 1]));
    machine.expect(12);
    machine.share(id, 5, &pages);
    machine.fx.events.clear();
    machine.quiet();
}

/// Odd requests about GPADLs are answered so that nobody waits, or ignored where an answer follows.
#[test]
fn odd_teardowns() {
    let (mut machine, id) = Machine::offered();
    machine.post(&message(11, &[id.relid(), 0x99]));
    machine.expect(12);
    machine.post(&gpadl_messages(id.relid(), 0x20, &[1; 60])[0]);
    machine.post(&message(11, &[id.relid(), 0x20]));
    machine.expect(12);
    machine.post(&gpadl_messages(id.relid(), 0x20, &[1; 60])[1]);
    machine.quiet();
    machine.share(id, 0x21, &[1]);
    machine.fx.teardown = Teardown::Later;
    machine.post(&message(11, &[id.relid(), 0x21]));
    machine.post(&message(11, &[id.relid(), 0x21]));
    assert_eq!(machine.events(), [Event::Teardown(id, 0x21)]);
    machine.quiet();
}

/// A guest may forget an offer that it never opened; its GPADLs go with it.
#[test]
fn declined_offer() {
    let (mut machine, id) = Machine::offered();
    machine.share(id, 0x20, &[1]);
    machine.post(&message(13, &[id.relid()]));
    assert_eq!(machine.events(), [Event::Revoked(id, 0x20)]);
    machine.post(&message(3, &[]));
    machine.quiet();
    machine.server.rescind(id, &mut machine.fx).unwrap();
    assert_eq!(machine.events(), [Event::Released(id)]);
}

fn any_message() -> impl Strategy<Value = Vec<u8>> {
    let relid = prop_oneof![8 => 0_u32..4, 1 => any::<u32>()];
    let handle = 0_u32..5;
    let small = prop_oneof![4 => 0_u32..9, 1 => any::<u32>()];
    let pages = proptest::collection::vec(prop_oneof![9 => 0..PAGES, 1 => any::<u64>()], 1..60);
    prop_oneof![
        2 => Just(contact(0x0005_0003, 0, 2, 0)),
        2 => Just(message(3, &[])),
        1 => Just(message(16, &[])),
        3 => (relid.clone(), small.clone(), small.clone(), handle.clone())
            .prop_map(|(relid, vp, page, handle)| open_request(relid, handle, vp, page)),
        2 => relid.clone().prop_map(|relid| message(7, &[relid])),
        2 => relid.clone().prop_map(|relid| message(13, &[relid])),
        2 => (relid.clone(), small).prop_map(|(relid, vp)| message(22, &[relid, vp])),
        3 => (relid.clone(), handle.clone())
            .prop_map(|(relid, handle)| message(11, &[relid, handle])),
        8 => (relid, handle, pages, any::<bool>()).prop_map(|(relid, handle, pages, body)| {
            let all = gpadl_messages(relid, handle, &pages);
            all[usize::from(body) % all.len()].clone()
        }),
        1 => proptest::collection::vec(any::<u8>(), 0..=240),
        1 => (0_u32..26, proptest::collection::vec(any::<u32>(), 0..50))
            .prop_map(|(kind, fields)| message(kind, &fields)),
    ]
}

/// What the host does between the guest's messages.
#[derive(Debug, Clone)]
enum HostStep {
    Nothing,
    Slots(usize),
    Offer(u8),
    Rescind(u8),
    Later(bool),
    Released(u8, u32),
    Reset,
}

fn any_host_step() -> impl Strategy<Value = HostStep> {
    prop_oneof![
        20 => Just(HostStep::Nothing),
        4 => (0_usize..3).prop_map(HostStep::Slots),
        2 => (1_u8..5).prop_map(HostStep::Offer),
        2 => (1_u8..5).prop_map(HostStep::Rescind),
        1 => any::<bool>().prop_map(HostStep::Later),
        1 => (1_u8..5, 0_u32..5).prop_map(|(id, handle)| HostStep::Released(id, handle)),
        1 => Just(HostStep::Reset),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever guest and host do in whatever order, the server neither panics nor contradicts
    /// itself (its invariants are checked at every step), its owner sees opens and closes in pairs,
    /// and a guest that connects anew is served.
    #[test]
    fn arbitrary_conversations(
        steps in proptest::collection::vec((any_message(), any_host_step()), 1..60),
    ) {
        let mut machine = Machine::new();
        machine.offer(1);
        machine.offer(2);
        machine.connect(Version::V5_3);
        machine.post(&message(3, &[]));
        for (bytes, step) in steps {
            let _ = machine.server.post_message(4, 1, &bytes, &mut machine.fx);
            match step {
                HostStep::Nothing => {}
                HostStep::Slots(slots) => {
                    machine.fx.slots = slots;
                    machine.server.retry_messages(&mut machine.fx);
                }
                HostStep::Offer(number) => {
                    let _ = machine.server.offer(device(number), &mut machine.fx);
                }
                HostStep::Rescind(number) => {
                    let _ = machine.server.rescind(ChannelId(number.into()), &mut machine.fx);
                }
                HostStep::Later(true) => machine.fx.teardown = Teardown::Later,
                HostStep::Later(false) => machine.fx.teardown = Teardown::Done,
                HostStep::Released(number, handle) => {
                    let id = ChannelId(number.into());
                    machine.server.gpadl_released(id, handle, &mut machine.fx);
                }
                HostStep::Reset => machine.server.reset(&mut machine.fx),
            }
            let ids: Vec<_> = machine.fx.rings.keys().copied().collect();
            for id in ids {
                prop_assert!(machine.server.signal_guest(id, &mut machine.fx));
                let _ = machine.fx.rings.get_mut(&id).map(|rings| rings.receive(4));
            }
        }
        machine.fx.slots = usize::MAX;
        machine.server.retry_messages(&mut machine.fx);
        machine.fx.messages.clear();
        machine.connect(Version::V5_3);
        prop_assert!(machine.server.snapshot().gpadls.is_empty());
        prop_assert!(machine.fx.rings.is_empty());
    }
}
