// SPDX-License-Identifier: GPL-2.0-only

//! Turns: one at a time, in places where the one whose turn it is waits for the host.
//!
//! What a [`Turn`] protects is an order of messages, not data, and it is held across round trips;
//! hence it is no mutex: waiting for it ends with a signal. No answer of the host needs a turn.

use kernel::prelude::*;
use kernel::time::{
    msecs_to_jiffies,
    Jiffies, //
};

use crate::link::reply_timeout_ms;
use crate::sync::{
    Completion,
    Wait, //
};

/// Longer than anybody waits.
const FOREVER: Jiffies = Jiffies::MAX >> 1;

/// Whose turn it is.
#[pin_data]
pub(crate) struct Turn {
    /// Completed once while it is nobody's.
    #[pin]
    free: Completion,
}

/// The turn of somebody; it ends when this is dropped.
#[must_use = "the turn ends when this is dropped"]
pub(crate) struct Taken<'a>(&'a Turn);

impl Turn {
    /// Nobody's turn.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            free <- Completion::completed(),
        })
    }

    /// Waits for a turn.
    ///
    /// # Errors
    ///
    /// `ERESTARTSYS` on a signal.
    pub(crate) fn take(&self) -> Result<Taken<'_>> {
        match self.free.wait_interruptible_timeout(FOREVER) {
            Wait::Done => Ok(Taken(self)),
            Wait::Signal | Wait::TimedOut => Err(ERESTARTSYS),
        }
    }

    /// Takes a turn, if it is nobody's.
    pub(crate) fn try_take(&self) -> Option<Taken<'_>> {
        // Not `then_some()`: a turn that is not taken must not end.
        self.free.try_wait().then(|| Taken(self))
    }

    /// Waits for a turn where only the end of the task may interrupt.
    ///
    /// # Errors
    ///
    /// `EINTR` if killed, `ETIMEDOUT` if the one before waits for the host for longer than it may.
    pub(crate) fn take_killable(&self) -> Result<Taken<'_>> {
        match self
            .free
            .wait_killable_timeout(msecs_to_jiffies(reply_timeout_ms()))
        {
            Wait::Done => Ok(Taken(self)),
            Wait::Signal => Err(EINTR),
            Wait::TimedOut => Err(ETIMEDOUT),
        }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.free.complete();
    }
}
