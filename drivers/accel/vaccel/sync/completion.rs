// SPDX-License-Identifier: GPL-2.0-only

//! Completions with bounded and killable waits.
//!
//! C header: [`include/linux/completion.h`](srctree/include/linux/completion.h)

use kernel::{
    prelude::*,
    time::Jiffies,
    types::Opaque, //
};

use crate::bindings;

/// How a wait ended.
#[must_use = "a wait may end without the event"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The event happened.
    Done,
    /// The time is over.
    TimedOut,
    /// A signal arrived: a fatal one if the wait was killable, any if it was interruptible.
    Signal,
}

/// An event that tasks wait for.
#[pin_data]
pub struct Completion {
    #[pin]
    inner: Opaque<bindings::completion>,
}

// SAFETY: A completion may be used and freed on any thread.
unsafe impl Send for Completion {}

// SAFETY: All functions of a completion lock for themselves.
unsafe impl Sync for Completion {}

impl Completion {
    /// Creates an initialiser for an event that did not happen yet.
    pub fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            inner <- Opaque::ffi_init(|slot| {
                // SAFETY: `slot` is valid memory for a completion, which stays pinned.
                unsafe { bindings::vaccel_init_completion(slot) };
            }),
        })
    }

    /// Creates an initialiser for an event that happened once.
    pub fn completed() -> impl PinInit<Self> {
        pin_init!(Self {
            inner <- Opaque::ffi_init(|slot| {
                // SAFETY: `slot` is valid memory for a completion, which stays pinned and is
                // initialised before it is used.
                unsafe {
                    bindings::vaccel_init_completion(slot);
                    bindings::complete(slot);
                }
            }),
        })
    }

    /// Says that the event happened, to one waiter.
    ///
    /// May be called in any context.
    pub fn complete(&self) {
        // SAFETY: The completion is initialised.
        unsafe { bindings::complete(self.inner.get()) };
    }

    /// Says that the event happened, to all waiters, now and later.
    ///
    /// May be called in any context.
    pub fn complete_all(&self) {
        // SAFETY: The completion is initialised.
        unsafe { bindings::complete_all(self.inner.get()) };
    }

    /// Makes the event one that did not happen yet.
    ///
    /// Waiters that were told but did not run yet may be lost: call it only when there are none.
    pub fn reinit(&self) {
        // SAFETY: The completion is initialised; resetting the counter races with nothing but the
        // result of a wait.
        unsafe { bindings::vaccel_reinit_completion(self.inner.get()) };
    }

    /// Whether the event happened.
    pub fn is_done(&self) -> bool {
        // SAFETY: The completion is initialised.
        unsafe { bindings::completion_done(self.inner.get()) }
    }

    /// Takes one completion, if there is one. Does not sleep.
    pub fn try_wait(&self) -> bool {
        // SAFETY: The completion is initialised and pinned.
        unsafe { bindings::try_wait_for_completion(self.inner.get()) }
    }

    /// Waits for the event, however long that takes, not minding signals.
    ///
    /// Only for what cannot fail to happen soon.
    pub fn wait(&self) {
        // SAFETY: The completion is initialised.
        unsafe { bindings::wait_for_completion(self.inner.get()) };
    }

    /// Waits for the event, for `timeout` at most, not minding signals.
    pub fn wait_timeout(&self, timeout: Jiffies) -> Wait {
        // SAFETY: The completion is initialised.
        match unsafe { bindings::wait_for_completion_timeout(self.inner.get(), timeout) } {
            0 => Wait::TimedOut,
            _ => Wait::Done,
        }
    }

    /// Waits for the event, for `timeout` at most or until the task is killed.
    pub fn wait_killable_timeout(&self, timeout: Jiffies) -> Wait {
        // SAFETY: The completion is initialised.
        Self::outcome(unsafe {
            bindings::wait_for_completion_killable_timeout(self.inner.get(), timeout)
        })
    }

    /// Waits for the event, for `timeout` at most or until a signal arrives.
    pub fn wait_interruptible_timeout(&self, timeout: Jiffies) -> Wait {
        // SAFETY: The completion is initialised.
        Self::outcome(unsafe {
            bindings::wait_for_completion_interruptible_timeout(self.inner.get(), timeout)
        })
    }

    /// The C functions return what is left of the time, 0 when it is over, or an error.
    fn outcome(ret: c_long) -> Wait {
        match ret {
            0 => Wait::TimedOut,
            left if left > 0 => Wait::Done,
            _ => Wait::Signal,
        }
    }
}
