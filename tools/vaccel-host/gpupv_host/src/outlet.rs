// SPDX-License-Identifier: MIT OR Apache-2.0
//! What leaves the host: answers, and events (protocol 5), some of which are lost on request.

use gpupv::{Event, SignalGuestEvent};

use crate::call::Completion;
use crate::env::Env;
use crate::fault::Faults;
use crate::host::Host;

/// Sends answers and events.
#[derive(Debug)]
pub struct Outlet {
    /// How many guest events are yet to be lost.
    lose: u64,
    /// Guest events are sent to be handled outside of interrupt context.
    passive: bool,
    /// What is done to what leaves.
    pub faults: Faults,
}

impl Outlet {
    /// With guest events of the one kind or the other.
    pub fn new(passive: bool) -> Self {
        Self {
            lose: 0,
            passive,
            faults: Faults::default(),
        }
    }

    /// Answers a message.
    pub fn answer(&mut self, to: Completion, payload: &[u8], env: &mut dyn Env) {
        if self.faults.is_idle() {
            env.complete(to.channel, to.transaction_id, payload);
        } else {
            self.faults.answer(to, payload, env);
        }
    }

    /// Sends a guest event, or loses it.
    pub fn signal(&mut self, event: u64, env: &mut dyn Env) {
        if self.lose != 0 {
            self.lose = self.lose.saturating_sub(1);
            tracing::debug!(event, "event lost");
            return;
        }
        let signal = SignalGuestEvent::new(event);
        let event = if self.passive {
            Event::SignalPassive(signal)
        } else {
            Event::Signal(signal)
        };
        self.send(&event, env);
    }

    /// Sends an event.
    pub fn send(&mut self, event: &Event, env: &mut dyn Env) {
        let mut bytes = [0; Event::LEN];
        if event.encode(&mut bytes).is_err() {
            return;
        }
        if self.faults.is_idle() {
            env.send(&bytes);
        } else {
            self.faults.event(event.number(), &bytes, env);
        }
    }
}

impl Host {
    /// Loses the next `count` guest events, whatever was to be lost before. Whoever waits for one
    /// is not told by another.
    pub fn drop_events(&mut self, count: u64) {
        self.out.lose = count;
    }
}
