// SPDX-License-Identifier: GPL-2.0-only

//! A gate that many go through and one can close while nobody is inside.

use kernel::prelude::*;
use kernel::sync::{
    new_condvar,
    new_mutex,
    CondVar,
    Mutex, //
};

struct State {
    inside: usize,
    closed: bool,
}

/// The gate.
#[pin_data]
pub(crate) struct Gate {
    #[pin]
    state: Mutex<State>,
    #[pin]
    opened: CondVar,
}

/// Somebody inside.
#[must_use = "one is outside again when this is dropped"]
pub(crate) struct Inside<'a>(&'a Gate);

/// Somebody who stays inside for longer than anybody looks.
#[must_use = "one is inside until this is given back"]
pub(crate) struct Stay(());

/// Nobody is inside, and nobody comes in.
#[must_use = "the gate opens when this is dropped"]
pub(crate) struct Closed<'a>(&'a Gate);

impl Gate {
    /// An open gate.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            state <- new_mutex!(
                State {
                    inside: 0,
                    closed: false,
                },
                "Gate::state"
            ),
            opened <- new_condvar!("Gate::opened"),
        })
    }

    /// Goes in, when the gate is open.
    ///
    /// # Errors
    ///
    /// `ERESTARTSYS` on a signal.
    pub(crate) fn enter(&self) -> Result<Inside<'_>> {
        let mut state = self.state.lock();
        while state.closed {
            if self.opened.wait_interruptible(&mut state) {
                return Err(ERESTARTSYS);
            }
        }
        state.inside += 1;
        Ok(Inside(self))
    }

    /// Goes in, if the gate is open.
    pub(crate) fn try_enter(&self) -> Option<Inside<'_>> {
        let mut state = self.state.lock();
        if state.closed {
            return None;
        }
        state.inside += 1;
        Some(Inside(self))
    }

    /// Goes on with a stay inside of this gate.
    pub(crate) fn resume(&self, _stay: Stay) -> Inside<'_> {
        Inside(self)
    }

    /// Closes the gate, if nobody is inside and nobody closed it before.
    pub(crate) fn try_close(&self) -> Option<Closed<'_>> {
        let mut state = self.state.lock();
        if state.closed || state.inside != 0 {
            return None;
        }
        state.closed = true;
        Some(Closed(self))
    }
}

impl Inside<'_> {
    /// Stays inside.
    pub(crate) fn stay(self) -> Stay {
        core::mem::forget(self);
        Stay(())
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.state.lock().inside -= 1;
    }
}

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        self.0.state.lock().closed = false;
        self.0.opened.notify_all();
    }
}
