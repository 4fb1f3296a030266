// SPDX-License-Identifier: MIT OR Apache-2.0
//! What differs between versions: how a host of each is found, and which messages it has.

use super::fake::*;
use crate::*;

/// The versions served, oldest first.
const SERVED: [Version; 6] = [
    Version::V4_0,
    Version::V4_1,
    Version::V5_0,
    Version::V5_1,
    Version::V5_2,
    Version::V5_3,
];
/// What a guest of today asks for, newest first (drivers/hv/connection.c, `vmbus_versions`).
const ASKED: [u32; 7] = [
    0x0006_0000,
    0x0005_0003,
    0x0005_0002,
    0x0005_0001,
    0x0005_0000,
    0x0004_0001,
    0x0004_0000,
];

fn host_of(max_version: Version) -> Machine {
    Machine::with(ServerConfig {
        max_version,
        ..ServerConfig::new(VPS)
    })
}

/// Asks for one version as Linux does; whether it is accepted. A connection that does not exist says no.
fn ask(machine: &mut Machine, version: u32) -> bool {
    let modern = version >= 0x0005_0000;
    let connection = if modern { 4 } else { 1 };
    // Before 5.0 the bytes of interrupt and trust level are those of an address.
    let bytes = if modern {
        contact(version, 1, 2, 0)
    } else {
        message(14, &[version, 1, 0x0123_f000, 1, 0x1000, 0, 0x2000, 0])
    };
    let posted = machine
        .server
        .post_message(connection, 1, &bytes, &mut machine.fx);
    if let Err(error) = posted {
        assert_eq!(error, PostError::UnknownConnection { connection: 4 });
        assert_eq!(error.hypercall_status(), 0x12);
        return false;
    }
    let response = machine.expect(15);
    assert_eq!(response.payload().len(), 16, "no features before 6.0");
    assert_eq!((response.vp, response.sint), (1, 2));
    let accepted = response.payload()[8] == 1;
    let last = match (accepted, modern) {
        (false, _) => 0,
        (true, false) => version,
        (true, true) => 4,
    };
    assert_eq!(response.payload()[9..12], [0; 3], "state, padding");
    assert_eq!(field(&response, 12), last);
    accepted
}

/// A guest of today that goes down its list finds each host at the host's own version, never above or
/// below; a host before 5.0 has no connection 4.
#[test]
fn each_host_is_found_at_its_version() {
    for newest in SERVED {
        let mut machine = host_of(newest);
        let connections: &[u32] = if newest >= Version::V5_0 {
            &[1, 4]
        } else {
            &[1]
        };
        assert_eq!(machine.server.message_connections(), connections);
        let found = ASKED.into_iter().find(|asked| ask(&mut machine, *asked));
        assert_eq!(found, Some(newest.0), "{newest}");
        machine.quiet();
    }
}

/// An older guest gets the version that it asks for first, whatever the host could do beyond.
#[test]
fn an_older_guest_decides() {
    for asked in SERVED {
        for newest in SERVED {
            let mut machine = host_of(newest);
            assert_eq!(ask(&mut machine, asked.0), asked <= newest);
        }
    }
}

/// A guest that names a client and features, which hosts have from 6.0 on, is answered as without.
#[test]
fn client_and_features_are_ignored() {
    for version in SERVED.into_iter().filter(|v| *v >= Version::V5_0) {
        let mut machine = host_of(version);
        let mut bytes = contact(version.0, 1, 2, 0);
        bytes[20..24].copy_from_slice(&0x3f_u32.to_le_bytes());
        bytes.extend_from_slice(&[0xc1; 16]);
        machine.post(&bytes);
        let response = machine.expect(15);
        assert_eq!(response.payload()[8..12], [1, 0, 0, 0]);
        assert_eq!(response.payload().len(), 16);
    }
}

/// A whole life in each version: the offers, the rings, a change of the interrupt's target, close and
/// unload. From 4.1 on the target changes, from 5.3 on the change is answered.
#[test]
fn whole_life_in_each() {
    for version in SERVED {
        let mut machine = host_of(version);
        let id = machine.offer(1);
        machine.connect(version);
        machine.post(&message(3, &[]));
        assert_eq!(machine.expect(1).payload().len(), 196);
        machine.expect(4);
        let end = machine.rings(100, 8);
        machine.share(id, 0x10, &(100..108).collect::<Vec<_>>());
        machine.post(&open_request(id.relid(), 0x10, 2, 4));
        assert_eq!(field(&machine.expect(6), 16), 0);
        assert_eq!(machine.events(), [Event::Opened(id, 2)]);

        machine.post(&message(22, &[id.relid(), 3]));
        if version >= Version::V5_3 {
            let response = machine.expect(24);
            assert_eq!((field(&response, 8), field(&response, 12)), (id.relid(), 0));
        }
        let target = if version >= Version::V4_1 { 3 } else { 2 };
        end.send(6, 1, 7, &[1; 8]).unwrap();
        machine.signal_and_echo(id);
        let flag = u16::try_from(id.relid()).unwrap();
        assert_eq!(machine.events(), [Event::Signal(target, 2, flag)]);

        machine.post(&message(7, &[id.relid()]));
        machine.post(&message(11, &[id.relid(), 0x10]));
        machine.expect(12);
        machine.post(&message(16, &[]));
        machine.expect(17);
        machine.events();
        machine.quiet();
    }
}
