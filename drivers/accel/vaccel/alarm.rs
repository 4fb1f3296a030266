// SPDX-License-Identifier: GPL-2.0-only

//! Alarms: things to do at a time, where one can sleep, that can be called off for good.
//!
//! One thread of the module rings them all. What takes long it leaves to a work queue.
//!
//! # Locks
//!
//! `Alarms::set` is held for list operations only.
//!
//! # Lifetime
//!
//! The thread ends with the module, when all files are closed and all adapters gone, and with them
//! every alarm.

use core::sync::atomic::{
    AtomicU64,
    Ordering, //
};

use kernel::prelude::*;
use kernel::rbtree::{
    RBTree,
    RBTreeNode, //
};
use kernel::sync::{
    new_mutex,
    Arc,
    Mutex, //
};
use kernel::time::{
    msecs_to_jiffies,
    ClockSource,
    Monotonic, //
};

use crate::kthread::{
    self,
    Thread, //
};
use crate::sync::Completion;

/// Longest sleep of the thread, when nothing is due.
const IDLE_MS: u32 = 60_000;

/// Something that is done at a time.
pub(crate) trait Ring: Send + Sync {
    /// Does it, on the thread of the alarms: others wait meanwhile.
    fn ring(&self);
}

/// When, in nanoseconds of the monotonic clock, and a number that tells alarms of one time apart.
type Key = (u64, u64);

/// The alarms.
#[pin_data]
pub(crate) struct Alarms {
    #[pin]
    set: Mutex<RBTree<Key, Arc<dyn Ring>>>,
    #[pin]
    changed: Completion,
    next: AtomicU64,
}

/// An alarm that is set; dropping it calls it off, unless it is ringing.
#[must_use = "the alarm is called off when this is dropped"]
pub(crate) struct Alarm {
    alarms: Arc<Alarms>,
    key: Key,
}

/// Nanoseconds of the monotonic clock.
pub(crate) fn now_ns() -> u64 {
    // CAST: the monotonic clock is never negative.
    Monotonic::ktime_get() as u64
}

impl Alarms {
    /// No alarms, and the thread that rings them.
    ///
    /// # Errors
    ///
    /// Those of [`Thread::spawn`].
    pub(crate) fn start() -> Result<(Arc<Self>, Thread)> {
        let alarms = Arc::pin_init(
            pin_init!(Self {
                set <- new_mutex!(RBTree::new(), "Alarms::set"),
                changed <- Completion::new(),
                next: AtomicU64::new(0),
            }),
            GFP_KERNEL,
        )?;
        let rung = alarms.clone();
        let thread = Thread::spawn(c"vaccel-alarms", move || rung.run())?;
        Ok((alarms, thread))
    }

    /// Sets an alarm.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn set(self: &Arc<Self>, at_ns: u64, ring: Arc<dyn Ring>) -> Result<Alarm> {
        let key = (at_ns, self.next.fetch_add(1, Ordering::Relaxed));
        let node = RBTreeNode::new(key, ring, GFP_KERNEL)?;
        self.set.lock().insert(node);
        self.changed.complete();
        Ok(Alarm {
            alarms: self.clone(),
            key,
        })
    }

    /// Takes out an alarm that is due, or says when the next one is.
    fn take_due(&self) -> Result<Arc<dyn Ring>, u64> {
        let mut set = self.set.lock();
        let first = set.keys().next().copied();
        match first {
            Some(key) if key.0 <= now_ns() => set.remove(&key).ok_or(key.0),
            Some(key) => Err(key.0),
            None => Err(u64::MAX),
        }
    }

    fn run(&self) {
        while !kthread::interrupted() {
            match self.take_due() {
                Ok(ring) => ring.ring(),
                Err(next_ns) => {
                    let left = next_ns.saturating_sub(now_ns()).div_ceil(1_000_000);
                    let left = u32::try_from(left).unwrap_or(IDLE_MS).min(IDLE_MS);
                    // Whatever ends the sleep, the loop looks again.
                    let _ = self
                        .changed
                        .wait_interruptible_timeout(msecs_to_jiffies(left));
                }
            }
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        let ring = self.alarms.set.lock().remove(&self.key);
        drop(ring);
    }
}
