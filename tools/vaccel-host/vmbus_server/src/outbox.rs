// SPDX-License-Identifier: MIT OR Apache-2.0
//! Messages that wait for a SynIC slot.
//!
//! A processor has one message slot per interrupt, so answers queue here. The queue needs no limit
//! of its own: while it is not empty no guest message is taken, one guest message causes at most one
//! answer per channel and one more, and the host's own messages are at most an offer and a rescind per
//! channel and one answer per GPADL. [`Outbox::bound`] is that sum, and the server's invariant.

use std::collections::VecDeque;

use crate::effects::{Delivery, Effects, SynicMessage};

/// Messages on their way out, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    waiting: VecDeque<SynicMessage>,
    sent: u64,
}

impl Outbox {
    /// Most messages that can wait with so many channels and GPADLs.
    pub(crate) fn bound(channels: usize, gpadls: usize) -> usize {
        channels
            .saturating_mul(3)
            .saturating_add(gpadls)
            .saturating_add(2)
    }

    /// Sends `message` after those that wait.
    pub(crate) fn push(&mut self, message: SynicMessage, fx: &mut dyn Effects) {
        self.waiting.push_back(message);
        self.flush(fx);
    }

    /// Sends what waits, as far as there are slots.
    pub(crate) fn flush(&mut self, fx: &mut dyn Effects) {
        while let Some(message) = self.waiting.front() {
            match fx.post_message(message) {
                Delivery::Busy => return,
                Delivery::Taken => {
                    self.waiting.pop_front();
                    self.sent = self.sent.saturating_add(1);
                }
            }
        }
    }

    /// Forgets what waits: the guest for which it was meant is gone.
    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Messages that wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Messages sent.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }
}
