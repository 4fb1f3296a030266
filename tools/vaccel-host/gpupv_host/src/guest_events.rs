// SPDX-License-Identifier: MIT OR Apache-2.0
//! Guest events on their way out (protocol 5), some of which are lost on request.

use gpupv::{Event, SignalGuestEvent};

use crate::device::send;
use crate::env::Env;
use crate::host::Host;

/// Sends guest events.
#[derive(Debug)]
pub struct GuestEvents {
    /// How many are yet to be lost.
    lose: u64,
    /// Sent to be handled outside of interrupt context.
    passive: bool,
}

impl GuestEvents {
    /// Events of the one kind or the other.
    pub fn new(passive: bool) -> Self {
        Self { lose: 0, passive }
    }

    /// Sends an event, or loses it.
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
        send(&event, env);
    }
}

impl Host {
    /// Loses the next `count` guest events, whatever was to be lost before. Whoever waits for one
    /// is not told by another.
    pub fn drop_events(&mut self, count: u64) {
        self.events.lose = count;
    }
}
