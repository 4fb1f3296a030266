// SPDX-License-Identifier: MIT OR Apache-2.0
//! How many messages came and were answered. One that is answered is a round trip, for which
//! somebody in the guest usually waits; one that is not costs the guest no more than sending it.

use serde::{Deserialize, Serialize};

use crate::call::Completion;
use crate::env::Env;
use crate::Host;

/// Messages of the guest on all channels, since the host is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageCounts {
    /// How many the host took.
    pub taken: u64,
    /// How many of these it answered, whatever the answer was and became of it.
    pub answered: u64,
}

impl Host {
    /// Counts the messages so far.
    pub fn messages(&self) -> MessageCounts {
        self.messages
    }

    /// Answers a message.
    pub(crate) fn reply(&mut self, to: Completion, payload: &[u8], env: &mut dyn Env) {
        self.messages.answered = self.messages.answered.saturating_add(1);
        self.out.answer(to, payload, env);
    }
}
