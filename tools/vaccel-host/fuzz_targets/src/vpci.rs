// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a guest says on the channel of a PCI function, with the host adding, removing and ejecting it
//! meanwhile, and where it reaches in the window of configuration space.

use vpci::{access, Access, Bus, Env, Function, MessageIn, Version, WindowRefused, WINDOW_LEN};

use crate::input::{Input, Output};

const STEPS: usize = 400;
/// Kinds of messages start here.
const KIND: u32 = 0x4249_0000;
/// The transaction of the guest's packet.
const TRANSACTION: u64 = 7;

/// Checks what the bus asks for.
#[derive(Default)]
struct Owner {
    completions: u32,
    window: Option<u64>,
    asked: bool,
}

impl Env for Owner {
    fn complete(&mut self, transaction_id: u64, payload: &[u8]) {
        assert_eq!(transaction_id, TRANSACTION);
        assert!(payload.len() >= 4);
        self.completions += 1;
    }

    fn send(&mut self, payload: &[u8]) {
        let kind = vpci::number(payload).unwrap();
        self.asked |= vpci::name(kind) == Some("EJECT");
    }

    fn map_window(&mut self, base: u64) -> Result<(), WindowRefused> {
        assert_eq!(self.window, None);
        if base % 0x1000 != 0 {
            let reason = "not a page".into();
            return Err(WindowRefused { base, reason });
        }
        self.window = Some(base);
        Ok(())
    }

    fn unmap_window(&mut self) {
        assert!(self.window.take().is_some());
    }

    fn ejected(&mut self) {
        assert!(self.asked);
        self.asked = false;
    }
}

/// Runs the bytes of a fuzzer.
///
/// # Panics
///
/// When the bus breaks its contract.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let newest = Version::from_wire(0x1_0001 + u32::from(input.u8() % 4)).unwrap();
    let function = Function {
        vendor: 0x1414,
        device: 0x8A,
        class: 0x12_0000,
        serial: 1,
    };
    let mut bus = Bus::new(newest, function);
    let mut owner = Owner::default();
    for _ in 0..STEPS {
        if input.is_empty() {
            return;
        }
        match input.u8() % 8 {
            0 => bus.set_present(input.u8() % 2 == 0, &mut owner),
            1 => {
                bus.eject(&mut owner);
            }
            2 => bus.closed(&mut owner),
            3 => reach(&mut input),
            4 => say(&mut bus, &mut owner, input.u8() % 2 == 0, input.bytes()),
            _ => {
                let mut message = (KIND | u32::from(input.u8() % 0x20)).to_le_bytes().to_vec();
                message.extend(input.bytes());
                say(&mut bus, &mut owner, input.u8() % 2 == 0, &message);
            }
        }
        let state = bus.state();
        assert_eq!(state.powered, owner.window.is_some());
        assert!(state.present || !(state.ejecting || state.assigned));
        assert!(state.version <= Some(newest));
    }
}

/// A packet of the guest, which gets one completion if it wants one.
fn say(bus: &mut Bus, owner: &mut Owner, completion_requested: bool, payload: &[u8]) {
    owner.completions = 0;
    let message = MessageIn {
        transaction_id: TRANSACTION,
        completion_requested,
        payload,
    };
    bus.message(message, owner);
    assert_eq!(owner.completions, u32::from(completion_requested));
}

/// An access to the window.
fn reach(input: &mut Input<'_>) {
    let (offset, len) = (input.u64(), usize::from(input.u8()));
    if let Access::Config(at) = access(offset, len) {
        assert!(offset < WINDOW_LEN && usize::from(at % 4) + len <= 4);
    }
}

/// A guest of each version that brings its bus up, is asked for the function, and finds it back.
pub fn seeds() -> Vec<Vec<u8>> {
    let words = |words: &[u32]| {
        words
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect::<Vec<_>>()
    };
    let seed = |version: u8| {
        let mut output = Output::default();
        let mut say = |kind: u8, rest: &[u8], silent: u8| {
            output.u8(5).u8(kind).bytes(rest).u8(silent);
        };
        say(0x13, &words(&[0x1_0001 + u32::from(version)]), 0);
        say(0x01, &[], 1);
        say(0x05, &words(&[0]), 0);
        say(0x07, &words(&[0, 0x4000, 1]), 0);
        let assigned = if version == 0 {
            (0x10, 144)
        } else {
            (0x16, 200)
        };
        say(assigned.0, &vec![0; assigned.1], 0);
        say(0x1B, &words(&[0]), 0);
        output.u8(3).u64(0x10C0).u8(4);
        output.u8(1);
        output.u8(5).u8(0x0F).bytes(&words(&[0, 0])).u8(1);
        output.u8(0).u8(0);
        output.u8(5).u8(0x08).bytes(&[]).u8(0);
        output.u8(2);
        [vec![version], output.done()].concat()
    };
    (0..4).map(seed).collect()
}
