// SPDX-License-Identifier: MIT OR Apache-2.0
//! The states of the balloon, and what happens with each message.

use serde::Serialize;

use crate::pages::{Pages, Range};
use crate::protocol::{
    accept, ask, give_back, kind, ParseError, Pressure, Request, CAN_BALLOON, MAX_COUNT,
    MAX_RANGES, VERSIONS,
};

/// What the balloon asks of its owner. An effect must not call the balloon.
pub trait Env {
    /// Sends a packet to the guest.
    fn send(&mut self, payload: &[u8]);

    /// Takes away the memory behind pages that the guest gave: what was in it is gone, and it costs nothing
    /// until it is touched again. Returns whether all of it is RAM; if not then nothing has happened.
    fn discard(&mut self, range: Range) -> bool;
}

/// How the guest broke the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The message is none.
    #[error("{0}")]
    Parse(#[from] NotUnderstood),
    /// It came before the version and capabilities were settled, or without having been asked for.
    #[error("message {kind} at the wrong time")]
    Time {
        /// Its kind.
        kind: u16,
    },
    /// These pages cannot be given.
    #[error("{count} pages from {first:#x}: {reason}")]
    Pages {
        /// Number of the first one.
        first: u64,
        /// How many.
        count: u64,
        /// Why not.
        reason: &'static str,
    },
}

/// A message that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct NotUnderstood(ParseError);

/// There is no guest that would give or take memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the guest has no driver for dynamic memory (hv_balloon)")]
pub struct NoGuest;

/// How far the balloon is from what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The guest is at it.
    Busy,
    /// It is as large as it was to be.
    Done,
    /// The guest gave no more.
    Short,
    /// The guest's driver has gone.
    NoGuest,
}

/// What the balloon is like now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct State {
    /// The guest's driver is ready.
    pub connected: bool,
    /// Pages that the guest was asked to give in all.
    pub target_pages: u64,
    /// Pages that it gave and has not got back.
    pub held_pages: u64,
    /// What it said last of its memory.
    pub pressure: Option<Pressure>,
}

/// What the guest is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Nothing,
    /// Giving, so many pages at most.
    Giving(u64),
    /// Taking pages back.
    Taking,
}

/// The balloon of a guest. See the [crate] for an overview.
#[derive(Debug, Clone)]
pub struct Balloon {
    version: Option<u32>,
    connected: bool,
    target: u64,
    held: Pages,
    work: Work,
    pressure: Option<Pressure>,
    transaction: u32,
}

impl Default for Balloon {
    fn default() -> Self {
        Self {
            version: None,
            connected: false,
            target: 0,
            held: Pages::default(),
            work: Work::Nothing,
            pressure: None,
            transaction: 0,
        }
    }
}

impl Balloon {
    /// What the balloon is like now.
    pub fn state(&self) -> State {
        State {
            connected: self.connected,
            target_pages: self.target,
            held_pages: self.held.count(),
            pressure: self.pressure,
        }
    }

    /// How far the balloon is from what was asked for.
    pub fn outcome(&self) -> Outcome {
        match (self.connected, self.work) {
            (false, _) => Outcome::NoGuest,
            (true, Work::Giving(_) | Work::Taking) => Outcome::Busy,
            (true, Work::Nothing) if self.held.count() == self.target => Outcome::Done,
            (true, Work::Nothing) => Outcome::Short,
        }
    }

    /// The channel was closed. What the guest gave is its own again, or lost to it: the host knows no more.
    pub fn closed(&mut self) {
        *self = Self {
            transaction: self.transaction,
            ..Self::default()
        };
    }

    /// Asks the guest to give so many pages in all, or gives it back what it gave beyond that.
    ///
    /// # Errors
    ///
    /// Fails if there is no guest to ask.
    pub fn set_target(&mut self, pages: u64, env: &mut dyn Env) -> Result<(), NoGuest> {
        if !self.connected {
            return Err(NoGuest);
        }
        self.target = pages;
        if self.work == Work::Nothing {
            self.ask(env);
            self.give_back(env);
        }
        Ok(())
    }

    /// Takes a message of the guest.
    ///
    /// # Errors
    ///
    /// Fails if the guest broke the protocol; its channel has to end.
    pub fn message(&mut self, payload: &[u8], env: &mut dyn Env) -> Result<(), Violation> {
        match Request::parse(payload).map_err(NotUnderstood)? {
            Request::Version(version) => self.negotiate(version, env),
            Request::Capabilities(caps) => self.connect(caps, env),
            Request::Status(pressure) if self.connected => {
                self.pressure = Some(pressure);
                Ok(())
            }
            Request::Status(_) => Err(Violation::Time {
                kind: kind::STATUS_REPORT,
            }),
            Request::Given { ranges, more } => self.given(&ranges, more, env),
            Request::TakenBack if self.work == Work::Taking => {
                self.work = Work::Nothing;
                self.ask(env);
                self.give_back(env);
                Ok(())
            }
            Request::TakenBack => Err(Violation::Time {
                kind: kind::UNBALLOON_RESPONSE,
            }),
        }
    }

    fn negotiate(&mut self, version: u32, env: &mut dyn Env) -> Result<(), Violation> {
        if self.version.is_some() {
            let kind = kind::VERSION_REQUEST;
            return Err(Violation::Time { kind });
        }
        let accepted = VERSIONS.contains(&version);
        self.version = accepted.then_some(version);
        let transaction = self.next_transaction();
        env.send(&accept(kind::VERSION_RESPONSE, transaction, accepted));
        Ok(())
    }

    /// A guest that cannot give memory is of no use.
    fn connect(&mut self, caps: u64, env: &mut dyn Env) -> Result<(), Violation> {
        if self.version.is_none() || self.connected {
            let kind = kind::CAPABILITIES_REPORT;
            return Err(Violation::Time { kind });
        }
        self.connected = caps & CAN_BALLOON != 0;
        let transaction = self.next_transaction();
        let answer = accept(kind::CAPABILITIES_RESPONSE, transaction, self.connected);
        env.send(&answer);
        Ok(())
    }

    fn given(&mut self, ranges: &[Range], more: bool, env: &mut dyn Env) -> Result<(), Violation> {
        let Work::Giving(mut wanted) = self.work else {
            let kind = kind::BALLOON_RESPONSE;
            return Err(Violation::Time { kind });
        };
        for range in ranges {
            let Range { first, count } = *range;
            let wrong = |reason| Violation::Pages {
                first,
                count,
                reason,
            };
            wanted = wanted
                .checked_sub(count)
                .ok_or_else(|| wrong("more than was asked for"))?;
            self.work = Work::Giving(wanted);
            if count == 0 || !self.held.insert(*range) {
                return Err(wrong("none, or given before"));
            }
            if !env.discard(*range) {
                return Err(wrong("not RAM"));
            }
        }
        if !more {
            self.work = Work::Nothing;
            // Who gave all of it may be asked for more; who did not has no more.
            if wanted == 0 {
                self.ask(env);
            }
            self.give_back(env);
        }
        Ok(())
    }

    /// Asks for what is missing.
    fn ask(&mut self, env: &mut dyn Env) {
        let missing = self.target.saturating_sub(self.held.count());
        let pages = u32::try_from(missing).unwrap_or(u32::MAX);
        if pages > 0 {
            self.work = Work::Giving(pages.into());
            let transaction = self.next_transaction();
            env.send(&ask(transaction, pages));
        }
    }

    /// Gives back as much as a message holds of what is too much; the answer has the rest follow.
    fn give_back(&mut self, env: &mut dyn Env) {
        let surplus = self.held.count().saturating_sub(self.target);
        if surplus > 0 && self.work == Work::Nothing {
            let ranges = self.held.take(surplus, MAX_RANGES, MAX_COUNT);
            self.work = Work::Taking;
            let transaction = self.next_transaction();
            env.send(&give_back(transaction, &ranges));
        }
    }

    fn next_transaction(&mut self) -> u32 {
        self.transaction = self.transaction.wrapping_add(1);
        self.transaction
    }
}

#[cfg(test)]
mod tests;
