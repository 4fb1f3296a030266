// SPDX-License-Identifier: MIT OR Apache-2.0
//! The balloon by which the host takes memory from its guest and gives it back.

use balloon::{Balloon, Env, Outcome, Range, State, PAGES_PER_MIB};
use serde_json::Value;
use vmbus_server::Guid;
use vmm::RegionMapper;

use crate::control;
use crate::world::World;

/// Bytes of a page.
const PAGE: u64 = 4096;
/// The instance of the channel; there is one balloon.
pub const INSTANCE: Guid = Guid::from_fields(0x5642_4C4E, 1, 0x4000, [0x80, 0, 0, 0, 0, 0, 0, 0]);

/// What the balloon reaches of the machine. Packets wait in it until the call of the balloon is over.
struct Port<'a> {
    machine: &'a RegionMapper,
    packets: Vec<Vec<u8>>,
}

impl Env for Port<'_> {
    fn send(&mut self, payload: &[u8]) {
        self.packets.push(payload.to_vec());
    }

    fn discard(&mut self, range: Range) -> bool {
        let bytes = range
            .first
            .checked_mul(PAGE)
            .zip(range.count.checked_mul(PAGE));
        bytes.is_some_and(|(gpa, len)| match self.machine.discard(gpa, len) {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(%error, "a balloon's pages");
                false
            }
        })
    }
}

impl World {
    /// Calls the balloon, if there is one, and returns what it said with the packets that it wants to send.
    pub fn call_balloon<R>(
        &mut self,
        call: impl FnOnce(&mut Balloon, &mut dyn Env) -> R,
    ) -> Option<(R, Vec<Vec<u8>>)> {
        let mut port = Port {
            machine: &self.mapper,
            packets: Vec::new(),
        };
        let result = call(self.balloon.as_mut()?, &mut port);
        Some((result, port.packets))
    }

    /// Asks the guest to give so many MiB in all.
    pub fn inflate(&mut self, mib: u32) -> Value {
        let pages = u64::from(mib).saturating_mul(PAGES_PER_MIB);
        match self.with_balloon(|balloon, env| balloon.set_target(pages, env)) {
            None => control::refused("there is no balloon (--balloon)"),
            Some(Err(error)) => control::refused(&error.to_string()),
            Some(Ok(())) => control::ok(),
        }
    }

    /// What the balloon is like; refused unless the guest has given exactly `mib`, if that is asked.
    pub fn balloon_state(&self, mib: Option<u32>) -> Value {
        let Some(balloon) = &self.balloon else {
            return control::refused("there is no balloon (--balloon)");
        };
        let state = balloon.state();
        match mib {
            Some(mib) if state.held_pages != u64::from(mib).saturating_mul(PAGES_PER_MIB) => {
                control::refused(&missing(mib, state, balloon.outcome()))
            }
            _ => serde_json::json!({ "ok": true, "balloon": state }),
        }
    }
}

/// Says how far the balloon is from `mib`.
fn missing(mib: u32, state: State, outcome: Outcome) -> String {
    let held = state.held_pages / PAGES_PER_MIB;
    let why = match outcome {
        Outcome::Busy => "and is at it",
        Outcome::Done => "which is what it was asked for",
        Outcome::Short => "and gives no more; ask for less",
        Outcome::NoGuest => "and has no driver for dynamic memory (hv_balloon)",
    };
    format!("the guest has given {held} of {mib} MiB, {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A refusal names both amounts and says what to do.
    #[test]
    fn refusals() {
        let state = State {
            held_pages: 3 * PAGES_PER_MIB,
            ..State::default()
        };
        let text = missing(7, state, Outcome::Short);
        assert_eq!(
            text,
            "the guest has given 3 of 7 MiB, and gives no more; ask for less"
        );
    }
}
