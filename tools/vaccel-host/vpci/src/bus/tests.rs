// SPDX-License-Identifier: MIT OR Apache-2.0
//! Conversations with a bus.

use proptest::prelude::*;

use super::*;
use crate::protocol::kind;

const FUNCTION: Function = Function {
    vendor: 0x1414,
    device: 0x8A,
    class: 0x12_0000,
    serial: 1,
};
/// Where the window can be.
const WINDOW: u64 = 0x1_0000_0000;

/// What a bus asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Did {
    Complete(u64, Vec<u8>),
    Send(Vec<u8>),
    Map(u64),
    Unmap,
    Ejected,
}

#[derive(Default)]
struct Owner {
    did: Vec<Did>,
    mapped: bool,
}

impl Env for Owner {
    fn complete(&mut self, transaction_id: u64, payload: &[u8]) {
        self.did
            .push(Did::Complete(transaction_id, payload.to_vec()));
    }

    fn send(&mut self, payload: &[u8]) {
        self.did.push(Did::Send(payload.to_vec()));
    }

    fn map_window(&mut self, base: u64) -> Result<(), WindowRefused> {
        assert!(!self.mapped, "two windows");
        if base != WINDOW {
            let reason = "not there".into();
            return Err(WindowRefused { base, reason });
        }
        self.mapped = true;
        self.did.push(Did::Map(base));
        Ok(())
    }

    fn unmap_window(&mut self) {
        assert!(self.mapped, "no window");
        self.mapped = false;
        self.did.push(Did::Unmap);
    }

    fn ejected(&mut self) {
        self.did.push(Did::Ejected);
    }
}

struct Guest {
    bus: Bus,
    owner: Owner,
}

impl Guest {
    fn new(newest: Version) -> Self {
        Self {
            bus: Bus::new(newest, FUNCTION),
            owner: Owner::default(),
        }
    }

    /// A guest whose bus has power.
    fn powered(version: Version) -> Self {
        let mut guest = Self::new(version);
        let version = words(&[kind::QUERY_PROTOCOL_VERSION, version_number(version)]);
        assert_eq!(guest.ask(&version), 0);
        guest.tell(&words(&[kind::QUERY_BUS_RELATIONS]));
        assert_eq!(guest.ask(&d0_entry(WINDOW)), 0);
        guest.owner.did.clear();
        guest
    }

    /// Sends a message and returns the answer.
    fn answer(&mut self, payload: &[u8]) -> Vec<u8> {
        let message = MessageIn {
            transaction_id: 5,
            completion_requested: true,
            payload,
        };
        let before = self.owner.did.len();
        self.bus.message(message, &mut self.owner);
        let mut answers = self
            .owner
            .did
            .split_off(before)
            .into_iter()
            .filter_map(|did| {
                let Did::Complete(5, answer) = did else {
                    self.owner.did.push(did);
                    return None;
                };
                Some(answer)
            });
        let answer = answers.next().expect("an answer");
        assert_eq!(answers.next(), None, "one answer");
        answer
    }

    /// Sends a message and returns the status of the answer.
    fn ask(&mut self, payload: &[u8]) -> u32 {
        let answer = self.answer(payload);
        u32::from_le_bytes(answer[..4].try_into().unwrap())
    }

    /// Sends a message that wants no answer, and gets none.
    fn tell(&mut self, payload: &[u8]) {
        let message = MessageIn {
            transaction_id: 0,
            completion_requested: false,
            payload,
        };
        self.bus.message(message, &mut self.owner);
        let answered = |did: &Did| matches!(did, Did::Complete(..));
        assert!(!self.owner.did.iter().any(answered));
    }

    fn did(&mut self) -> Vec<Did> {
        std::mem::take(&mut self.owner.did)
    }
}

fn version_number(version: Version) -> u32 {
    let text = version.to_string();
    0x1_0000 | text[2..].parse::<u32>().unwrap()
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn d0_entry(base: u64) -> Vec<u8> {
    let [low, high] = [base as u32, (base >> 32) as u32];
    words(&[kind::BUS_D0_ENTRY, 0, low, high])
}

fn assigned(kind: u32, len: usize, slot: u32, interrupts: u32) -> Vec<u8> {
    let mut message = words(&[kind, slot]);
    message.resize(128, 0);
    message.extend(interrupts.to_le_bytes());
    message.resize(len, 0);
    message
}

/// A guest brings its bus up, in each version and with the messages of that version, and down again.
#[test]
fn bring_up() {
    for (version, relations, assign, len) in [
        (
            Version::V1_1,
            kind::BUS_RELATIONS,
            kind::RESOURCES_ASSIGNED,
            152,
        ),
        (
            Version::V1_2,
            kind::BUS_RELATIONS,
            kind::RESOURCES_ASSIGNED2,
            208,
        ),
        (
            Version::V1_4,
            kind::BUS_RELATIONS2,
            kind::RESOURCES_ASSIGNED2,
            208,
        ),
    ] {
        let mut guest = Guest::new(version);
        let newest = words(&[kind::QUERY_PROTOCOL_VERSION, 0x1_0004]);
        let mismatch = guest.ask(&newest) == status::REVISION_MISMATCH;
        assert_eq!(mismatch, version != Version::V1_4);
        let own = words(&[kind::QUERY_PROTOCOL_VERSION, version_number(version)]);
        assert_eq!(guest.ask(&own), 0);
        guest.tell(&words(&[kind::QUERY_BUS_RELATIONS]));
        let [Did::Send(told)] = &guest.did()[..] else {
            panic!("no relations");
        };
        assert_eq!(told[..8], words(&[relations, 1]));
        let answer = guest.answer(&words(&[kind::QUERY_RESOURCE_REQUIREMENTS, 0]));
        assert_eq!(answer, [0; REQUIREMENTS_LEN]);
        assert_eq!(guest.ask(&d0_entry(WINDOW)), 0);
        assert_eq!(guest.ask(&assigned(assign, len, 0, 0)), 0);
        assert!(guest.bus.state().assigned);
        guest.tell(&words(&[kind::RESOURCES_RELEASED, 0]));
        assert!(!guest.bus.state().assigned);
        assert_eq!(guest.ask(&words(&[kind::BUS_D0_EXIT])), 0);
        assert_eq!(guest.did(), [Did::Map(WINDOW), Did::Unmap]);
    }
}

/// What comes at the wrong time, for a function that is not there, or asks for what the function does not
/// have is refused by the status that says so, in the length of the answer.
#[test]
fn refusals() {
    let mut guest = Guest::new(Version::V1_4);
    assert_eq!(guest.ask(&d0_entry(WINDOW)), status::INVALID_DEVICE_STATE);
    guest.tell(&words(&[kind::QUERY_BUS_RELATIONS]));
    assert_eq!(guest.did(), [], "no version yet");

    let mut guest = Guest::new(Version::V1_4);
    let version = words(&[kind::QUERY_PROTOCOL_VERSION, 0x1_0004]);
    assert_eq!(guest.ask(&version), 0);
    let assign = assigned(kind::RESOURCES_ASSIGNED2, 208, 0, 0);
    assert_eq!(guest.ask(&assign), status::INVALID_DEVICE_STATE);
    assert_eq!(
        guest.ask(&words(&[kind::BUS_D0_EXIT])),
        status::INVALID_DEVICE_STATE
    );
    assert_eq!(guest.ask(&d0_entry(WINDOW + 1)), status::INVALID_PARAMETER);
    assert!(!guest.bus.state().powered);

    let mut guest = Guest::powered(Version::V1_4);
    assert_eq!(guest.ask(&d0_entry(WINDOW)), status::INVALID_DEVICE_STATE);
    assert_eq!(guest.ask(&version), status::INVALID_DEVICE_STATE);
    let assign = assigned(kind::RESOURCES_ASSIGNED2, 208, 0, 1);
    assert_eq!(guest.ask(&assign), status::INVALID_PARAMETER);
    let assign = assigned(kind::RESOURCES_ASSIGNED2, 208, 1, 0);
    assert_eq!(guest.ask(&assign), status::NO_SUCH_DEVICE);
    for create in [
        kind::CREATE_INTERRUPT,
        kind::CREATE_INTERRUPT2,
        kind::CREATE_INTERRUPT3,
    ] {
        let answer = guest.answer(&words(&[create, 0]));
        assert_eq!(answer[..4], status::NOT_SUPPORTED.to_le_bytes());
        assert_eq!(answer.len(), INTERRUPT_LEN);
    }
    assert_eq!(
        guest.ask(&words(&[kind::DELETE_INTERRUPT, 0])),
        status::NOT_SUPPORTED
    );
    let answer = guest.answer(&words(&[kind::QUERY_RESOURCE_REQUIREMENTS, 8]));
    assert_eq!(answer[..4], status::NO_SUCH_DEVICE.to_le_bytes());
    assert_eq!(guest.ask(&words(&[0x4249_0009, 0])), status::NOT_SUPPORTED);
    assert_eq!(
        guest.ask(&words(&[kind::BUS_D0_ENTRY])),
        status::INVALID_PARAMETER
    );
    assert_eq!(guest.ask(&[1]), status::INVALID_PARAMETER);
    assert_eq!(guest.did(), []);
}

/// A guest that was asked lets go of the function once; one that was not asked has nothing to let go of.
#[test]
fn ejection() {
    let complete = words(&[kind::EJECTION_COMPLETE, 0, 0]);
    let mut guest = Guest::powered(Version::V1_4);
    guest.tell(&complete);
    assert_eq!(guest.did(), []);
    assert!(guest.bus.eject(&mut guest.owner));
    assert!(guest.bus.eject(&mut guest.owner), "asked once");
    assert_eq!(guest.did(), [Did::Send(words(&[kind::EJECT, 0]))]);
    guest.tell(&words(&[kind::EJECTION_COMPLETE, 1, 0]));
    assert_eq!(guest.did(), [], "another slot");
    guest.tell(&complete);
    guest.tell(&complete);
    assert_eq!(guest.did(), [Did::Ejected]);
    assert!(!guest.bus.eject(&mut guest.owner), "nothing there");

    let mut guest = Guest::new(Version::V1_4);
    assert!(!guest.bus.eject(&mut guest.owner), "nobody there");
}

/// A guest that watches is told of what goes and comes, once each.
#[test]
fn comes_and_goes() {
    let mut guest = Guest::powered(Version::V1_4);
    for _ in 0..2 {
        guest.bus.set_present(false, &mut guest.owner);
    }
    assert_eq!(guest.did(), [Did::Send(words(&[kind::BUS_RELATIONS2, 0]))]);
    let requirements = words(&[kind::QUERY_RESOURCE_REQUIREMENTS, 0]);
    assert_eq!(guest.ask(&requirements), status::NO_SUCH_DEVICE);
    guest.bus.set_present(true, &mut guest.owner);
    let [Did::Send(told)] = &guest.did()[..] else {
        panic!("no relations");
    };
    assert_eq!(told[..8], words(&[kind::BUS_RELATIONS2, 1]));
    assert_eq!(guest.ask(&requirements), 0);

    let mut guest = Guest::new(Version::V1_4);
    guest.bus.set_present(false, &mut guest.owner);
    assert_eq!(guest.did(), [], "nobody watches");
}

/// A closed channel takes the window away and leaves nothing of the guest, and ends an ejection.
#[test]
fn closing() {
    let mut guest = Guest::powered(Version::V1_4);
    guest.bus.closed(&mut guest.owner);
    assert_eq!(guest.did(), [Did::Unmap]);
    let state = State {
        present: true,
        ..State::default()
    };
    assert_eq!(guest.bus.state(), state);
    guest.bus.closed(&mut guest.owner);
    assert_eq!(guest.did(), []);

    let mut guest = Guest::powered(Version::V1_4);
    guest.bus.eject(&mut guest.owner);
    guest.did();
    guest.bus.closed(&mut guest.owner);
    assert_eq!(guest.did(), [Did::Unmap, Did::Ejected]);
    assert_eq!(guest.bus.state(), State::default());
}

proptest! {
    /// Whatever a guest says, each packet that wants an answer gets one, and the window is mapped exactly
    /// while the bus has power.
    #[test]
    fn any_guest(messages in prop::collection::vec((0_u32..0x20, prop::collection::vec(0_u32..3, 0..60)), 0..40)) {
        let mut guest = Guest::powered(Version::V1_4);
        for (number, rest) in messages {
            let message = [words(&[0x4249_0000 + number]), words(&rest)].concat();
            guest.ask(&message);
            prop_assert_eq!(guest.owner.mapped, guest.bus.state().powered);
        }
    }
}
