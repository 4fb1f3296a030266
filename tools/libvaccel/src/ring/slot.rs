// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where an operation's outcome is waited for: between the ring's thread, which ends the operation,
//! and whoever holds its future.
//!
//! A slot goes from waiting to ended to taken, or, when the future is dropped first, to abandoned. It
//! keeps what the operation names until the operation has ended, in either case.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use super::command::Outcome;
use crate::deadline::Deadline;
use crate::error::Result;
use crate::sys::clock;

/// Makes a result of an outcome. It owns what the operation names.
pub(super) type Finish<T> = Box<dyn FnOnce(Outcome) -> Result<T> + Send>;

enum State<T> {
    Waiting {
        finish: Finish<T>,
        waker: Option<Waker>,
    },
    Ended {
        finish: Finish<T>,
        outcome: Outcome,
    },
    Abandoned {
        finish: Finish<T>,
    },
    Taken,
}

/// The side of the ring's thread.
pub(super) trait Ending: Send + Sync {
    /// The operation has ended.
    fn end(&self, outcome: Outcome);

    /// Nobody waits for it.
    fn is_abandoned(&self) -> bool;
}

pub(super) struct Slot<T> {
    state: Mutex<State<T>>,
    ended: Condvar,
}

impl<T> Slot<T> {
    pub(super) fn new(finish: Finish<T>) -> Self {
        Self {
            state: Mutex::new(State::Waiting {
                finish,
                waker: None,
            }),
            ended: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the outcome, or leaves a waker for it. What was taken is not there again.
    pub(super) fn poll(&self, new: &Waker) -> Poll<(Finish<T>, Outcome)> {
        let mut state = self.lock();
        if let State::Waiting { waker, .. } = &mut *state {
            if !waker.as_ref().is_some_and(|old| old.will_wake(new)) {
                *waker = Some(new.clone());
            }
        }
        Self::take(&mut state).map_or(Poll::Pending, Poll::Ready)
    }

    /// Waits for the outcome and takes it; `None` at the deadline.
    pub(super) fn wait(&self, deadline: Deadline) -> Option<(Finish<T>, Outcome)> {
        let mut state = self.lock();
        loop {
            if let Some(ended) = Self::take(&mut state) {
                return Some(ended);
            }
            let left = deadline.as_ns().saturating_sub(clock::monotonic_ns());
            if left == 0 {
                return None;
            }
            let waited = self.ended.wait_timeout(state, Duration::from_nanos(left));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub(super) fn is_ended(&self) -> bool {
        matches!(*self.lock(), State::Ended { .. })
    }

    /// Says that nobody waits any more; true if the operation has not ended.
    pub(super) fn abandon(&self) -> bool {
        let mut state = self.lock();
        match std::mem::replace(&mut *state, State::Taken) {
            State::Waiting { finish, .. } => {
                *state = State::Abandoned { finish };
                true
            }
            old => {
                // What it holds goes without the lock.
                drop(state);
                if let State::Ended { finish, outcome } = old {
                    drop(finish(outcome));
                }
                false
            }
        }
    }

    fn take(state: &mut State<T>) -> Option<(Finish<T>, Outcome)> {
        match std::mem::replace(state, State::Taken) {
            State::Ended { finish, outcome } => Some((finish, outcome)),
            other => {
                *state = other;
                None
            }
        }
    }
}

impl<T> Ending for Slot<T> {
    fn end(&self, outcome: Outcome) {
        let mut state = self.lock();
        match std::mem::replace(&mut *state, State::Taken) {
            State::Waiting { finish, waker } => {
                *state = State::Ended { finish, outcome };
                drop(state);
                self.ended.notify_all();
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
            State::Abandoned { finish } => {
                drop(state);
                // What was made for nobody is undone by its drop.
                drop(finish(outcome));
            }
            ended => *state = ended,
        }
    }

    fn is_abandoned(&self) -> bool {
        matches!(*self.lock(), State::Abandoned { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::Arc;
    use std::task::Wake;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn slot(kept: &Arc<()>) -> Slot<u64> {
        let kept = kept.clone();
        Slot::new(Box::new(move |outcome| {
            drop(kept);
            Ok(outcome.extra)
        }))
    }

    /// Proves that the end of an operation wakes its waker once and gives its outcome once.
    #[test]
    fn polled() {
        let (kept, count) = (Arc::new(()), Arc::new(Count::default()));
        let waker = Waker::from(count.clone());
        let slot = slot(&kept);
        assert!(slot.poll(&waker).is_pending());
        assert!(slot.poll(&waker).is_pending());
        slot.end(Outcome::ok(5));
        slot.end(Outcome::ok(6));
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(slot.is_ended());
        let Poll::Ready((finish, outcome)) = slot.poll(&waker) else {
            panic!("it has ended");
        };
        assert_eq!(finish(outcome).unwrap(), 5);
        assert!(slot.poll(&waker).is_pending());
        assert_eq!(Arc::strong_count(&kept), 1);
    }

    /// Proves that a wait ends with the operation or at its deadline.
    #[test]
    fn waited() {
        let kept = Arc::new(());
        let slot = slot(&kept);
        assert!(slot.wait(Deadline::NOW).is_none());
        let soon = Deadline::after(Duration::from_millis(2));
        assert!(slot.wait(soon).is_none());
        std::thread::scope(|scope| {
            scope.spawn(|| slot.end(Outcome::ok(1)));
            assert!(slot.wait(Deadline::NEVER).is_some());
        });
    }

    /// Proves that what an operation names is kept until it has ended, also if nobody waits for it.
    #[test]
    fn abandoned() {
        let kept = Arc::new(());
        let early = slot(&kept);
        assert!(early.abandon());
        assert!(early.is_abandoned());
        assert_eq!(Arc::strong_count(&kept), 2);
        early.end(Outcome::ok(0));
        assert_eq!(Arc::strong_count(&kept), 1);
        let late = slot(&kept);
        late.end(Outcome::ok(0));
        assert!(!late.abandon());
        assert_eq!(Arc::strong_count(&kept), 1);
    }
}
