// SPDX-License-Identifier: MIT OR Apache-2.0
//! What well-behaved guests do.

use vmbus_ring::guest::Side;

use super::fake::*;
use crate::snapshot::ConnectionSnapshot;
use crate::*;

/// From the first contact to the unload: versions, offers, a GPADL of several messages, open,
/// packets both ways with their interrupts, close, teardown, unload; and nothing is left behind.
#[test]
fn whole_life() {
    let mut machine = Machine::new();
    let id = machine.offer(1);

    machine.post(&contact(0x0006_0000, 1, 2, 0));
    let response = machine.expect(15);
    assert_eq!((response.vp, response.sint), (1, 2));
    assert_eq!(response.payload()[8], 0, "6.0 is not served");
    machine.connect(Version::V5_3);

    machine.post(&message(3, &[]));
    let offer = machine.expect(1);
    let bytes = offer.payload();
    assert_eq!(bytes.len(), 196);
    assert_eq!(bytes[8..24], [0xc0; 16]);
    assert_eq!(bytes[24..40], [1; 16]);
    assert_eq!(bytes[56..60], [0x02, 0x01, 64, 0], "flags, MiB");
    assert_eq!(bytes[60..180], [0xfe; 120]);
    assert_eq!(bytes[180..184], [0; 4], "sub-channel index");
    assert_eq!(field(&offer, 184), id.relid());
    assert_eq!(bytes[188..192], [0xff, 0, 1, 0], "monitor, dedicated");
    assert_eq!(field(&offer, 192), id.event_connection());
    machine.expect(4);

    let pages: Vec<u64> = (200..280).collect();
    let end = machine.rings(200, 80);
    machine.share(id, 0xe1e10, &pages);
    assert_eq!(machine.server.gpadl(id, 0xe1e10).unwrap().len(), 80 * 4096);
    machine.post(&open_request(id.relid(), 0xe1e10, 3, 40));
    let result = machine.expect(6);
    assert_eq!(field(&result, 8), id.relid());
    assert_eq!(field(&result, 12), 0x77, "open id");
    assert_eq!(field(&result, 16), 0);
    assert_eq!(machine.events(), [Event::Opened(id, 3)]);

    for round in 0..100_u64 {
        let payload = vec![round as u8; 8 * (round as usize % 200)];
        assert_eq!(end.send(6, 1, round, &payload), Some(true));
        machine.signal_and_echo(id);
        let flag = u16::try_from(id.relid()).unwrap();
        assert_eq!(machine.events(), [Event::Signal(3, 2, flag)]);
        let (packets, _) = end.receive(8);
        assert_eq!(packets.len(), 1);
        assert_eq!((packets[0].kind, packets[0].transaction_id), (11, round));
        assert_eq!(packets[0].payload, payload);
    }

    machine.post(&message(7, &[id.relid()]));
    assert_eq!(machine.events(), [Event::Closed(id, CloseReason::Guest)]);
    machine.post(&message(11, &[id.relid(), 0xe1e10]));
    assert_eq!(machine.events(), [Event::Teardown(id, 0xe1e10)]);
    let torndown = machine.expect(12);
    assert_eq!(field(&torndown, 8), 0xe1e10);
    assert!(machine.server.gpadl(id, 0xe1e10).is_none());

    machine.post(&message(16, &[]));
    let unloaded = machine.expect(17);
    assert_eq!((unloaded.vp, unloaded.payload().len()), (1, 8));
    machine.quiet();
    let left = machine.server.snapshot();
    assert_eq!(
        left.connection,
        ConnectionSnapshot::Disconnected { reason: None }
    );
    assert!(left.gpadls.is_empty());
    assert_eq!(left.channels[0].state, "idle");
    assert_eq!(left.complaints, 0);
}

/// Each version from 4.0 to 5.3 is accepted, others are not; messages go to the processor and
/// interrupt asked for; before 5.0 the answer repeats the version, from 5.0 on it names the guest's
/// message connection.
#[test]
fn versions() {
    for (version, accepted) in [
        (0x0002_0004, false),
        (0x0003_0000, false),
        (0x0004_0000, true),
        (0x0004_0001, true),
        (0x0005_0000, true),
        (0x0005_0001, true),
        (0x0005_0002, true),
        (0x0005_0003, true),
        (0x0005_0004, false),
        (0x0006_0000, false),
        (0xffff_ffff, false),
    ] {
        let mut machine = Machine::new();
        machine.post(&contact(version, 3, 5, 0));
        let response = machine.expect(15);
        let modern = version >= 0x0005_0000;
        assert_eq!(response.payload().len(), 16);
        assert_eq!(response.payload()[8], u8::from(accepted), "{version:#x}");
        let connection = match (accepted, modern) {
            (true, true) => 4,
            (true, false) => version,
            (false, _) => 0,
        };
        assert_eq!(field(&response, 12), connection);
        assert_eq!(response.vp, 3);
        assert_eq!(response.sint, if modern { 5 } else { 2 });
    }
}

/// A server limited to 4.1 has no connection 4, which is how a guest learns to ask for less.
#[test]
fn old_host() {
    let mut machine = Machine::with(ServerConfig {
        max_version: Version::V4_1,
        ..ServerConfig::new(VPS)
    });
    let error = machine
        .server
        .post_message(4, 1, &contact(0x0005_0003, 0, 2, 0), &mut machine.fx)
        .unwrap_err();
    assert_eq!(error, PostError::UnknownConnection { connection: 4 });
    assert_eq!(error.hypercall_status(), 0x12);
    machine.connection = 1;
    machine.post(&contact(0x0005_0000, 0, 2, 0));
    assert_eq!(machine.expect(15).payload()[8], 0);
    machine.connect(Version::V4_1);
}

/// Before the guest asks, offers are kept; afterwards a new one goes out at once.
#[test]
fn hot_add() {
    let mut machine = Machine::new();
    machine.connect(Version::V5_3);
    let first = machine.offer(1);
    machine.quiet();
    machine.post(&message(3, &[]));
    assert_eq!(field(&machine.expect(1), 184), first.relid());
    machine.expect(4);
    let second = machine.offer(2);
    assert_eq!(field(&machine.expect(1), 184), second.relid());
    machine.quiet();
}

/// A rescind closes the channel and revokes its memory at once. What the guest sent before it saw the
/// rescind does no harm and what it waits for is answered; its release ends the channel, and only
/// then may the device be offered again, with another number.
#[test]
fn rescind() {
    let (mut machine, id, _end) = Machine::opened();
    machine.share(id, 0x20, &[300]);
    machine.server.rescind(id, &mut machine.fx).unwrap();
    let closed = Event::Closed(id, CloseReason::Rescinded);
    let revoked = [Event::Revoked(id, 0x10), Event::Revoked(id, 0x20)];
    assert_eq!(machine.events(), [&[closed][..], &revoked].concat());
    assert_eq!(field(&machine.expect(2), 8), id.relid());
    assert!(machine.server.gpadl(id, 0x20).is_none());
    machine.server.rescind(id, &mut machine.fx).unwrap();

    machine.post(&message(7, &[id.relid()]));
    machine.post(&message(11, &[id.relid(), 0x10]));
    assert_eq!(field(&machine.expect(12), 8), 0x10);
    machine.post(&gpadl_messages(id.relid(), 0x30, &[301])[0]);
    assert_ne!(field(&machine.expect(10), 16), 0, "no gpadl any more");
    machine.post(&open_request(id.relid(), 0x30, 0, 1));
    assert_ne!(field(&machine.expect(6), 16), 0, "not opened any more");
    assert_eq!(
        machine.server.signal_event(id.event_connection(), 0),
        Ok(None)
    );
    machine.quiet();

    let again = machine.server.offer(device(1), &mut machine.fx);
    assert!(matches!(again, Err(OfferError::Duplicate { .. })));
    machine.post(&message(13, &[id.relid()]));
    assert_eq!(machine.events(), [Event::Released(id)]);
    let new = machine.offer(1);
    assert_ne!(new, id);
    machine.expect(1);
    machine.quiet();
}

/// A channel that the guest does not know of just goes away.
#[test]
fn rescind_before_announcement() {
    let mut machine = Machine::new();
    let id = machine.offer(1);
    machine.server.rescind(id, &mut machine.fx).unwrap();
    assert_eq!(machine.events(), [Event::Released(id)]);
    assert_eq!(
        machine.server.rescind(id, &mut machine.fx),
        Err(UnknownChannel { channel: id })
    );
    machine.quiet();
}

/// A device that still uses a GPADL delays the answer; meanwhile the memory is not handed out anew,
/// and a release that comes too late does nothing.
#[test]
fn teardown_waits_for_the_device() {
    let (mut machine, id, _end) = Machine::opened();
    machine.share(id, 0x20, &[300, 301]);
    machine.fx.teardown = Teardown::Later;
    machine.post(&message(11, &[id.relid(), 0x20]));
    assert_eq!(machine.events(), [Event::Teardown(id, 0x20)]);
    assert!(machine.server.gpadl(id, 0x20).is_none());
    machine.quiet();
    machine.server.gpadl_released(id, 0x20, &mut machine.fx);
    assert_eq!(field(&machine.expect(12), 8), 0x20);

    machine.share(id, 0x21, &[300]);
    machine.post(&message(11, &[id.relid(), 0x21]));
    machine.server.rescind(id, &mut machine.fx).unwrap();
    machine.expect(2);
    let events = machine.events();
    assert!(events.contains(&Event::Revoked(id, 0x21)), "{events:?}");
    machine.server.gpadl_released(id, 0x21, &mut machine.fx);
    machine.quiet();
}

/// The guest moves its interrupt to another processor: acknowledged from 5.3 on, silent in 4.1.
#[test]
fn modify_channel() {
    let (mut machine, id, _end) = Machine::opened();
    machine.post(&message(22, &[id.relid(), 1]));
    let response = machine.expect(24);
    assert_eq!((field(&response, 8), field(&response, 12)), (id.relid(), 0));
    machine.server.signal_guest(id, &mut machine.fx);
    let flag = u16::try_from(id.relid()).unwrap();
    assert_eq!(machine.events(), [Event::Signal(1, 2, flag)]);
    machine.post(&message(22, &[id.relid(), VPS]));
    assert_ne!(field(&machine.expect(24), 12), 0, "no such processor");
    machine.server.signal_guest(id, &mut machine.fx);
    assert_eq!(machine.events(), [Event::Signal(1, 2, flag)]);

    let mut old = Machine::new();
    let id = old.offer(1);
    old.connect(Version::V4_1);
    old.post(&message(3, &[]));
    old.expect(1);
    old.expect(4);
    old.post(&message(22, &[id.relid(), 1]));
    old.quiet();
}

/// A channel can be closed and opened again, and the rings start afresh.
#[test]
fn reopen() {
    let (mut machine, id, end) = Machine::opened();
    end.send(6, 0, 1, &[1; 8]).unwrap();
    machine.post(&message(7, &[id.relid()]));
    assert_eq!(machine.events(), [Event::Closed(id, CloseReason::Guest)]);
    assert!(!machine.server.signal_guest(id, &mut machine.fx));
    let end = machine.rings(100, 8);
    machine.post(&open_request(id.relid(), 0x10, 0, 4));
    assert_eq!(field(&machine.expect(6), 16), 0);
    assert_eq!(machine.events(), [Event::Opened(id, 0)]);
    end.send(6, 1, 2, &[2; 8]).unwrap();
    machine.signal_and_echo(id);
    let (packets, _) = end.receive(8);
    assert_eq!(packets.len(), 1);
    assert_eq!(packets[0].transaction_id, 2);
}

/// A new contact of a connected guest, and a reset of the machine, end everything the old kernel had.
#[test]
fn new_kernel_takes_over() {
    let (mut machine, id, _end) = Machine::opened();
    let gone = [
        Event::Closed(id, CloseReason::Disconnected),
        Event::Revoked(id, 0x10),
    ];
    machine.connect(Version::V5_2);
    assert_eq!(machine.events(), gone);
    machine.post(&message(3, &[]));
    assert_eq!(field(&machine.expect(1), 184), id.relid());
    machine.expect(4);
    let other = machine.offer(2);
    machine.expect(1);
    machine.server.rescind(other, &mut machine.fx).unwrap();
    machine.expect(2);
    machine.server.reset(&mut machine.fx);
    assert_eq!(machine.events(), [Event::Released(other)]);
    machine.quiet();
}

/// While answers wait for a message slot no message is taken, and they leave in order.
#[test]
fn back_pressure() {
    let mut machine = Machine::new();
    for number in 1..=5 {
        machine.offer(number);
    }
    machine.connect(Version::V5_3);
    machine.fx.slots = 1;
    machine.post(&message(3, &[]));
    assert!(!machine.server.can_accept());
    let busy = machine
        .server
        .post_message(4, 1, &message(16, &[]), &mut machine.fx)
        .unwrap_err();
    assert_eq!((busy, busy.hypercall_status()), (PostError::Busy, 0x13));
    assert_eq!(machine.server.snapshot().messages_waiting, 5);
    let mut relids = vec![field(&machine.expect(1), 184)];
    for _ in 0..4 {
        machine.fx.slots = 1;
        machine.server.retry_messages(&mut machine.fx);
        relids.push(field(&machine.expect(1), 184));
    }
    assert!(relids.is_sorted());
    machine.fx.slots = usize::MAX;
    machine.server.retry_messages(&mut machine.fx);
    machine.expect(4);
    assert!(machine.server.can_accept());
}

/// Answers that wait when the machine is reset were for a guest that is gone.
#[test]
fn reset_drops_answers() {
    let (mut machine, id, _end) = Machine::opened();
    machine.fx.slots = 0;
    machine.post(&message(22, &[id.relid(), 1]));
    machine.server.reset(&mut machine.fx);
    machine.fx.slots = usize::MAX;
    machine.server.retry_messages(&mut machine.fx);
    machine.fx.events.clear();
    machine.quiet();
    assert!(machine.server.can_accept());
}

/// A full ring to the guest empties through the interrupts of both sides alone.
#[test]
fn full_ring_recovers() {
    let (mut machine, id, end) = Machine::opened();
    let rings = machine.fx.rings.get_mut(&id).unwrap();
    for number in 0..40 {
        let _ = rings.send_inband(number, &[3; 1000]).unwrap();
    }
    assert!(rings.queued() > 0);
    assert_ne!(end.peek(Side::ToGuest, vmbus_ring::guest::Word::Pending), 0);
    let mut seen = Vec::new();
    for _ in 0..100 {
        let (packets, signal) = end.receive(3);
        seen.extend(packets.into_iter().map(|packet| packet.transaction_id));
        if signal {
            machine.signal_and_echo(id);
        }
    }
    assert_eq!(seen, (0..40).collect::<Vec<_>>());
}

/// The snapshot is complete and serialises.
#[test]
fn snapshot() {
    let (mut machine, id, _end) = Machine::opened();
    machine.post(&gpadl_messages(id.relid(), 0x50, &[7; 40])[0]);
    let json = serde_json::to_value(machine.server.snapshot()).unwrap();
    assert_eq!(json["connection"]["state"], "connected");
    assert_eq!(json["connection"]["version"], "5.3");
    assert_eq!(json["channels"][0]["state"], "open");
    assert_eq!(json["channels"][0]["open"]["ring_gpadl"], 0x10);
    assert_eq!(json["channels"][0]["open"]["target_vp"], 2);
    assert_eq!(json["gpadls"][0]["bytes"], 8 * 4096);
    assert_eq!(json["gpadls"][1]["state"], "assembling");
    assert_eq!(json["messages_waiting"], 0);
}
