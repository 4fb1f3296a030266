// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operations that have yet to end, as futures.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::driver::Driver;
use super::slot::Slot;
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};

/// An operation of a [`Ring`](super::Ring) that has yet to end.
///
/// It is a future of any executor; [`Pending::wait`] is for threads without one. It does not begin
/// before [`Ring::flush`](super::Ring::flush), its first poll or its first wait, which send all that
/// the ring has collected.
///
/// To drop it cancels the operation: what has not been sent is never done; a wait ends; a submission
/// that is queued by then runs all the same; what was bound meanwhile is unbound. What the operation
/// names is kept until it has ended.
#[must_use = "an operation that is dropped is cancelled"]
pub struct Pending<T> {
    state: State<T>,
}

enum State<T> {
    /// Refused before the kernel was asked.
    Refused(Error),
    Sent {
        id: u64,
        slot: Arc<Slot<T>>,
        driver: Arc<Driver>,
    },
    Taken,
}

impl<T> std::fmt::Debug for Pending<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = match &self.state {
            State::Refused(_) => "refused",
            State::Sent { slot, .. } if !slot.is_ended() => "pending",
            State::Sent { .. } => "ended",
            State::Taken => "taken",
        };
        f.debug_tuple("Pending").field(&state).finish()
    }
}

// The slot is not part of the future: nothing in here is pinned.
impl<T> Unpin for Pending<T> {}

impl<T> Pending<T> {
    pub(super) const fn refused(error: Error) -> Self {
        Self {
            state: State::Refused(error),
        }
    }

    pub(super) const fn sent(id: u64, slot: Arc<Slot<T>>, driver: Arc<Driver>) -> Self {
        Self {
            state: State::Sent { id, slot, driver },
        }
    }

    /// Waits until it has ended. At the deadline it is cancelled.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TimedOut`] at the deadline, and those of the operation.
    pub fn wait(mut self, deadline: Deadline) -> Result<T> {
        self.wait_for(deadline).unwrap_or_else(|| {
            Err(Error::local(
                ErrorKind::TimedOut,
                "wait for an operation",
                "the deadline passed",
            ))
        })
    }

    /// Waits until it has ended; `None` at the deadline, and it goes on. What it has given once is not
    /// there a second time: `None` too.
    pub fn wait_for(&mut self, deadline: Deadline) -> Option<Result<T>> {
        let ended = match &self.state {
            State::Sent { slot, driver, .. } => {
                if !slot.is_ended() {
                    driver.flush();
                }
                let (finish, outcome) = slot.wait(deadline)?;
                finish(outcome)
            }
            State::Refused(error) => Err(error.clone()),
            State::Taken => return None,
        };
        self.state = State::Taken;
        Some(ended)
    }

    /// Whether it has ended.
    pub fn is_ended(&self) -> bool {
        match &self.state {
            State::Sent { slot, .. } => slot.is_ended(),
            State::Refused(_) | State::Taken => true,
        }
    }
}

impl<T> Future for Pending<T> {
    type Output = Result<T>;

    /// # Panics
    ///
    /// When polled again after it has given its result.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let ended = match &self.state {
            State::Sent { slot, driver, .. } => match slot.poll(context.waker()) {
                Poll::Ready((finish, outcome)) => finish(outcome),
                Poll::Pending => {
                    driver.flush();
                    return Poll::Pending;
                }
            },
            State::Refused(error) => Err(error.clone()),
            State::Taken => panic!("polled after its result was taken"),
        };
        self.state = State::Taken;
        Poll::Ready(ended)
    }
}

impl<T> Drop for Pending<T> {
    fn drop(&mut self) {
        if let State::Sent { id, slot, driver } = &self.state {
            if slot.abandon() {
                driver.cancel(*id);
            }
        }
    }
}
