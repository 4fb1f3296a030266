// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a guest says on the channel of the balloon, with the host asking for memory meanwhile.

use std::collections::BTreeSet;

use ::balloon::{Balloon, Env, Outcome, Range};

use crate::input::{Input, Output};

const STEPS: usize = 400;
/// Pages of RAM.
const RAM: u64 = 1 << 16;

/// Checks what the balloon asks for.
#[derive(Default)]
struct Owner {
    /// Pages that the guest gave and has not got back.
    gone: BTreeSet<u64>,
}

impl Env for Owner {
    fn send(&mut self, payload: &[u8]) {
        assert!(payload.len() <= 4096);
        let size = u16::from_le_bytes([payload[2], payload[3]]);
        assert_eq!(usize::from(size), payload.len());
        let kind = balloon::number(payload).unwrap();
        if balloon::name(kind) == Some("UNBALLOON_REQUEST") {
            for word in payload[16..].chunks_exact(8) {
                let word = u64::from_le_bytes(word.try_into().unwrap());
                let (first, count) = (word & ((1 << 40) - 1), word >> 40);
                for page in first..first + count {
                    assert!(self.gone.remove(&page), "{page:#x} was not given");
                }
            }
        }
    }

    fn discard(&mut self, range: Range) -> bool {
        let inside = range.first < RAM && range.count <= RAM - range.first;
        if inside {
            for page in range.first..range.first + range.count {
                assert!(self.gone.insert(page), "{page:#x} was given before");
            }
        }
        inside
    }
}

/// Runs the bytes of a fuzzer.
///
/// # Panics
///
/// When the balloon breaks its contract.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (mut balloon, mut owner) = (Balloon::default(), Owner::default());
    for _ in 0..STEPS {
        if input.is_empty() {
            return;
        }
        let taken = match input.u8() % 4 {
            0 => {
                let asked = balloon.set_target(input.u16().into(), &mut owner);
                assert_eq!(asked.is_err(), balloon.outcome() == Outcome::NoGuest);
                Ok(())
            }
            1 => balloon.message(input.bytes(), &mut owner),
            _ => {
                let kind = u16::from(input.u8() % 14);
                let body = input.bytes();
                let size = u16::try_from(body.len() + 8).unwrap_or(u16::MAX);
                let head = [kind.to_le_bytes(), size.to_le_bytes(), [0; 2], [0; 2]].concat();
                balloon.message(&[&head, body].concat(), &mut owner)
            }
        };
        if taken.is_err() {
            // The channel ends.
            balloon.closed();
            owner.gone.clear();
        }
        let held = usize::try_from(balloon.state().held_pages).unwrap();
        assert_eq!(held, owner.gone.len());
    }
}

/// A guest that gives pages and gets them back, and one that breaks the protocol and begins anew.
pub fn seeds() -> Vec<Vec<u8>> {
    let words = |words: &[u32]| {
        words
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect::<Vec<_>>()
    };
    let say = |output: &mut Output, kind: u8, body: &[u32]| {
        output.u8(2).u8(kind).bytes(&words(body));
    };
    let connect = |output: &mut Output| {
        say(output, 1, &[0x2_0000, 1]);
        say(output, 3, &[3, 0, 0, 0, 0, 0]);
    };
    let mut good = Output::default();
    connect(&mut good);
    say(&mut good, 5, &[7, 0, 8, 0, 0, 0, 0, 0, 0, 0]);
    good.u8(0).u16(8);
    say(&mut good, 7, &[0, 3, 0x200, 4 << 8]);
    say(&mut good, 7, &[0, 4, 0x400, 2 << 8, 0x402, 2 << 8]);
    good.u8(0).u16(3);
    say(&mut good, 9, &[]);
    good.u8(0).u16(0);
    say(&mut good, 9, &[]);

    let mut bad = Output::default();
    say(&mut bad, 1, &[0x3_0000, 0]);
    connect(&mut bad);
    bad.u8(0).u16(8);
    say(&mut bad, 7, &[0, 4, 0x200, 4 << 8, 0x203, 1 << 8]);
    connect(&mut bad);
    bad.u8(0).u16(8);
    say(&mut bad, 7, &[0, 2, u32::MAX, 1 << 8]);
    bad.u8(1).bytes(&[7, 0]);
    vec![good.done(), bad.done()]
}
