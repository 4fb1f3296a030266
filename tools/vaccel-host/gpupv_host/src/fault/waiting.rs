// SPDX-License-Identifier: MIT OR Apache-2.0
//! What waits because a rule says so: until a time, or until operations are carried out.

use super::outgoing::Packet;
use super::{OperationId, Plan};
use crate::env::{Channel, MessageIn};
use crate::mute::MILLISECOND;

/// A message of the guest that waits.
#[derive(Debug)]
pub(super) struct Kept {
    /// The channel it came on.
    pub channel: Channel,
    transaction_id: u64,
    completion_requested: bool,
    payload: Vec<u8>,
    /// What the rules say about it; they have not been asked if none.
    pub plan: Option<Plan>,
}

impl Kept {
    pub fn new(channel: Channel, message: MessageIn<'_>, plan: Option<Plan>) -> Self {
        Self {
            channel,
            transaction_id: message.transaction_id,
            completion_requested: message.completion_requested,
            payload: message.payload.to_vec(),
            plan,
        }
    }

    pub fn message(&self) -> MessageIn<'_> {
        MessageIn {
            transaction_id: self.transaction_id,
            completion_requested: self.completion_requested,
            payload: &self.payload,
        }
    }
}

/// What waits for a time.
#[derive(Debug)]
pub(super) enum Due {
    /// On its way out.
    Packet(Packet),
    /// To be carried out.
    Message(Kept),
    /// To be done.
    Operation(OperationId),
}

impl Due {
    fn channel(&self) -> Option<Channel> {
        match self {
            Self::Packet(packet) => Some(packet.channel()),
            Self::Message(kept) => Some(kept.channel),
            Self::Operation(_) => None,
        }
    }
}

/// What waits for times; what is due at the same time happens in the order it was added.
#[derive(Debug, Default)]
pub(super) struct Waiting(Vec<(u64, Due)>);

impl Waiting {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn add(&mut self, now: u64, milliseconds: u64, due: Due) {
        let at = now.saturating_add(milliseconds.saturating_mul(MILLISECOND));
        let place = self.0.partition_point(|(other, _)| *other <= at);
        self.0.insert(place, (at, due));
    }

    pub fn deadline(&self) -> Option<u64> {
        self.0.first().map(|(at, _)| *at)
    }

    /// Takes the first one if it is due.
    pub fn take(&mut self, now: u64) -> Option<Due> {
        let due = self.deadline().is_some_and(|at| at <= now);
        due.then(|| self.0.remove(0).1)
    }

    pub fn forget(&mut self, closed: Channel) {
        self.0.retain(|(_, due)| due.channel() != Some(closed));
    }
}
