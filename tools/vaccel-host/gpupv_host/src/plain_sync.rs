// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sync objects without storage: mutexes, semaphores, fences and CPU notifications (protocol 4.9).
//!
//! Only contexts and hardware queues wait for them and signal them, with the legacy forms of
//! commands 25 and 26. They belong to the adapter, not to a device, and go with the process.
//! Queued work that names one keeps it alive.
//!
//! The documents name these kinds and their arguments; what waiting and signalling do is inferred
//! from the names: a wait takes a mutex, or one of a semaphore's count; a signal gives it back. A
//! fence only grows. A CPU notification sends its guest event with each signal, and nobody waits
//! for it.

use std::sync::atomic::{AtomicU64, Ordering};

use gpupv::{NtStatus, SyncObjectFlags, SyncObjectInfo};

use crate::choices::MutexStart;
use crate::env::Env;
use crate::outlet::Outlet;

/// A sync object without storage. Only the thread that owns the host changes it.
#[derive(Debug)]
pub struct PlainSync {
    kind: PlainKind,
    /// Value of a fence, count of a mutex or semaphore.
    state: AtomicU64,
}

/// What it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PlainKind {
    /// Waited for by value.
    Fence,
    /// A semaphore, or a mutex, which is one with a highest count of 1.
    Counted { most: u64 },
    /// Sends this guest event.
    Notification { event: u64 },
}

impl PlainSync {
    /// What a guest asks for; none if that is a kind with storage or no kind at all.
    ///
    /// # Errors
    ///
    /// `INVALID_PARAMETER` for contradicting arguments, `NOT_SUPPORTED` for flags that only fences
    /// with storage can have here, sharing among them.
    pub fn from_wire(info: &SyncObjectInfo, mutex: MutexStart) -> Result<Option<Self>, NtStatus> {
        let (kind, state) = if let Some(value) = info.as_fence() {
            (PlainKind::Fence, value)
        } else if let Some(state) = info.as_mutex() {
            let set = state != 0;
            let free = set == (mutex == MutexStart::FreeIfSet);
            (PlainKind::Counted { most: 1 }, u64::from(free))
        } else if let Some(counts) = info.as_semaphore() {
            if counts.max_count == 0 || counts.initial_count > counts.max_count {
                return Err(NtStatus::INVALID_PARAMETER);
            }
            let most = counts.max_count.into();
            (PlainKind::Counted { most }, counts.initial_count.into())
        } else if let Some(event) = info.as_cpu_notification() {
            if event == 0 {
                return Err(NtStatus::INVALID_PARAMETER);
            }
            (PlainKind::Notification { event }, 0)
        } else {
            return Ok(None);
        };
        if info.flags.unknown() != 0 {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        if info.flags != SyncObjectFlags::EMPTY {
            return Err(NtStatus::NOT_SUPPORTED);
        }
        Ok(Some(Self {
            kind,
            state: AtomicU64::new(state),
        }))
    }

    /// Whether it can be waited for.
    pub fn waits(&self) -> bool {
        !matches!(self.kind, PlainKind::Notification { .. })
    }

    /// Ends a wait if it can end now. Whether it did.
    pub fn acquire(&self, value: u64) -> bool {
        let state = self.state.load(Ordering::Relaxed);
        match self.kind {
            PlainKind::Fence => state >= value,
            PlainKind::Counted { .. } => match state.checked_sub(1) {
                Some(left) => {
                    self.state.store(left, Ordering::Relaxed);
                    true
                }
                None => false,
            },
            PlainKind::Notification { .. } => false,
        }
    }

    /// Signals it. A count above the highest is lost, as is a lower value of a fence.
    pub fn signal(&self, value: u64, out: &mut Outlet, env: &mut dyn Env) {
        let state = self.state.load(Ordering::Relaxed);
        match self.kind {
            PlainKind::Fence => self.state.store(state.max(value), Ordering::Relaxed),
            PlainKind::Counted { most } => {
                let more = state.saturating_add(1).min(most);
                self.state.store(more, Ordering::Relaxed);
            }
            PlainKind::Notification { event } => out.signal(event, env),
        }
    }
}
