// SPDX-License-Identifier: GPL-2.0-only

//! Watches: who wants to know that a monitored fence reached a value.
//!
//! The watches of a fence are ordered by value, and the host is asked to tell when the lowest one is
//! reached: one event for however many watches. When it comes, those who sleep are woken right from
//! softirq, while what needs to sleep ([`Finish`]) is left to a worker, which then asks the host for
//! the next value. For a watch its value is reached once and for all: a fence that is rewound does not
//! undo it. That the event came is no proof: the host also sends it when the fence or the adapter goes.
//!
//! Nothing here stands for a dma_fence that exists already, so a watch may take as long as it likes,
//! and the worker, which works on a queue of its own, may allocate and wait for the host.
//!
//! # Locks
//!
//! `Fence::watches` is taken in softirq below `Events::tables`, and nests in it; the work queue's lock
//! nests in it.
//!
//! # Lifetime
//!
//! A watch keeps its fence. While it is there the host may know an event of the fence, whose entry in
//! [`Events`](crate::events::Events) keeps the fence as well; the last watch takes it out.

use kernel::prelude::*;
use kernel::rbtree::{
    RBTree,
    RBTreeNode, //
};
use kernel::sync::Arc;
use kernel::time::{
    delay::fsleep,
    Delta, //
};
use kernel::workqueue::WorkItem;

use crate::events::{
    Sink,
    Waiting, //
};
use crate::fence::{
    Fence,
    LOOK_WORK, //
};
use crate::gpupv::{
    self,
    CpuWaitTail,
    List,
    NtStatus,
    Request,
    WaitFromCpuFlags, //
};
use crate::host_error::{
    HostError,
    HostResult, //
};
use crate::pending::{
    Cancel,
    PendingList,
    Ticket, //
};
use crate::sync::Completion;

/// Pause before another look, where this one came to nothing.
const RETRY_US: i64 = 10_000;

/// How often it is looked, with that pause, whether the adapter goes.
const REMOVAL_TRIES: usize = 100;

/// Whether it is to be tried again.
fn is_passing(error: &HostError) -> bool {
    [ENOMEM, EAGAIN, ETIMEDOUT].contains(&error.errno)
}

/// The value, and a number that tells watches of the same value apart.
pub(crate) type Key = (u64, u64);

/// What becomes of a watch that nobody sleeps for.
pub(crate) trait Finish: Send + Sync {
    /// The value was reached, or will not be: `ENODEV`, `EIO` or another error of the host, `ECANCELED`
    /// if the file was closed. Called once, where one can sleep.
    fn finish(&self, outcome: Result);

    /// The value was reached. Whether the watch ends by itself then, and [`Finish::finish`] need not be
    /// called. Called as soon as that is known, maybe more than once and maybe never; in any context,
    /// with the fence's watches locked.
    fn reached(&self) -> bool {
        false
    }
}

enum Watcher {
    /// Somebody who sleeps, and looks by himself. Several fences may share it.
    Sleeper(Arc<Completion>),
    /// Something to be done, and its place among what the file waits for, unless something else keeps
    /// the file open and sees to the end of it.
    Detached(Arc<dyn Finish>, Option<Ticket>),
}

struct Entry {
    fence: Arc<Fence>,
    watcher: Watcher,
    /// Whether the value was reached.
    told: bool,
}

/// What the host was asked to tell.
struct Armed {
    value: u64,
    waiting: Waiting,
    /// Whether it told.
    fired: bool,
}

/// The watches of a fence.
pub(crate) struct Watches {
    all: RBTree<Key, Entry>,
    armed: Option<Armed>,
}

impl Watches {
    /// None.
    pub(crate) fn new() -> Self {
        Self {
            all: RBTree::new(),
            armed: None,
        }
    }

    /// Whether the host will tell at `value` or before, `reached` being reached. What it should have
    /// told by now it may have forgotten.
    fn is_armed_for(&self, value: u64, reached: u64) -> bool {
        self.armed
            .as_ref()
            .is_some_and(|armed| !armed.fired && armed.value <= value && armed.value > reached)
    }

    /// Takes an entry out, and with the last one what the host was asked for. Both are to be dropped
    /// without the lock.
    fn take(&mut self, key: &Key) -> (Option<Entry>, Option<Armed>) {
        let entry = self.all.remove(key);
        let armed = if self.all.is_empty() {
            self.armed.take()
        } else {
            None
        };
        (entry, armed)
    }
}

/// The watch of somebody who sleeps; it ends when this is dropped.
#[must_use = "the watch ends when this is dropped"]
pub(crate) struct Watch {
    fence: Arc<Fence>,
    key: Key,
}

impl Watch {
    /// Whether the value was reached while it was watched.
    pub(crate) fn is_over(&self) -> bool {
        let watches = self.fence.watches.lock();
        watches.all.get(&self.key).is_some_and(|entry| entry.told)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.fence.take_watch(&self.key));
    }
}

/// What ends a detached watch when its file is closed.
struct Detached {
    fence: Arc<Fence>,
    key: Key,
}

impl Cancel for Detached {
    fn cancel(&self) {
        if let Some(entry) = self.fence.take_watch(&self.key) {
            entry.finish(Err(ECANCELED));
        }
    }
}

impl Entry {
    fn finish(self, outcome: Result) {
        if let Watcher::Detached(watcher, ticket) = self.watcher {
            watcher.finish(outcome);
            drop(ticket);
        }
    }
}

impl Fence {
    /// Has `sleeper` completed when `value` is reached, and also when something happened that may keep
    /// it from being reached. The caller has it [armed](Fence::arm), and looks before he sleeps.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn watch(self: &Arc<Self>, value: u64, sleeper: Arc<Completion>) -> Result<Watch> {
        let key = (value, self.next_watch());
        self.enter(key, Watcher::Sleeper(sleeper))?;
        Ok(Watch {
            fence: self.clone(),
            key,
        })
    }

    /// Has `watcher` finished when `value` is reached, or cannot be any more, or the file of `pending`
    /// is closed.
    ///
    /// # Errors
    ///
    /// `EBUSY` if the file waits for too much; those of [`Fence::arm`]; `ENOMEM`. The watcher is then
    /// not finished.
    pub(crate) fn watch_detached(
        self: &Arc<Self>,
        value: u64,
        watcher: Arc<dyn Finish>,
        pending: &Arc<PendingList>,
    ) -> HostResult {
        let key = self.enter_detached(value, watcher, pending)?;
        match self.is_over(value) {
            // Reached meanwhile, or about to be told so.
            Ok(true) => self.look_later(),
            Ok(false) => {
                if let Err(error) = self.arm(value) {
                    // If it is not there any more it has just been finished.
                    return self.take_watch(&key).map_or(Ok(()), |_| Err(error));
                }
            }
            Err(error) => return self.take_watch(&key).map_or(Ok(()), |_| Err(error)),
        }
        Ok(())
    }

    /// As [`Fence::watch_detached`], but asks the host for nothing: that is left to the worker.
    ///
    /// # Errors
    ///
    /// `EBUSY` if the file waits for too much, `ENOMEM`. The watcher is then not finished.
    pub(crate) fn watch_detached_later(
        self: &Arc<Self>,
        value: u64,
        watcher: Arc<dyn Finish>,
        pending: &Arc<PendingList>,
    ) -> Result {
        self.enter_detached(value, watcher, pending)?;
        self.look_later();
        Ok(())
    }

    /// Enters a detached watch that ends with the file of `pending`.
    fn enter_detached(
        self: &Arc<Self>,
        value: u64,
        watcher: Arc<dyn Finish>,
        pending: &Arc<PendingList>,
    ) -> Result<Key> {
        let key = (value, self.next_watch());
        let detached = Arc::new(
            Detached {
                fence: self.clone(),
                key,
            },
            GFP_KERNEL,
        )?;
        let ticket = pending.insert(detached)?;
        self.enter(key, Watcher::Detached(watcher, Some(ticket)))?;
        Ok(key)
    }

    /// Has `watcher` finished as [`Fence::watch_detached`] does, whatever becomes of the file, and asks
    /// the host for nothing: that is left to the worker. The caller ends the watch with
    /// [`Fence::end_watch`] when he does not need it any more.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn watch_later(
        self: &Arc<Self>,
        value: u64,
        watcher: Arc<dyn Finish>,
    ) -> Result<Key> {
        let key = (value, self.next_watch());
        self.enter(key, Watcher::Detached(watcher, None))?;
        let armed = self.watches.lock().is_armed_for(value, self.reached());
        let is_going = self.device.process.adapter.is_stopping() || self.device.failure().is_some();
        if !armed || is_going || self.has_reached(value) {
            self.look_later();
        }
        Ok(key)
    }

    /// Ends a watch, if it is there still.
    pub(crate) fn end_watch(&self, key: &Key) {
        drop(self.take_watch(key));
    }

    fn enter(self: &Arc<Self>, key: Key, watcher: Watcher) -> Result {
        let entry = Entry {
            fence: self.clone(),
            watcher,
            told: false,
        };
        let node = RBTreeNode::new(key, entry, GFP_KERNEL)?;
        // Numbers are not reused, so nothing is replaced.
        self.watches.lock().all.insert(node);
        Ok(())
    }

    fn take_watch(&self, key: &Key) -> Option<Entry> {
        let (entry, armed) = self.watches.lock().take(key);
        drop(armed);
        entry
    }

    /// Sees to it that the host tells when `value` is reached. There is a watch for it.
    ///
    /// Whatever the host tells from here on is seen by the watches; the caller looks once more for
    /// what happened before.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; those of [`Process::call`](crate::process::Process::call).
    pub(crate) fn arm(self: &Arc<Self>, value: u64) -> HostResult {
        if self.watches.lock().is_armed_for(value, self.reached()) {
            return Ok(());
        }
        let waiting = self
            .device
            .process
            .adapter
            .events
            .wait(self.device.cookie(), self.clone())?;
        let id = waiting.id();
        let mut armed = Some(Armed {
            value,
            waiting,
            fired: false,
        });
        {
            let mut watches = self.watches.lock();
            // Somebody may have been faster; or all watches may have gone, and with them the need.
            if !watches.all.is_empty() && !watches.is_armed_for(value, self.reached()) {
                core::mem::swap(&mut watches.armed, &mut armed);
            } else {
                drop(watches);
                return Ok(());
            }
        }
        // What was armed before, for a higher value.
        drop(armed);
        let asked = self.ask_for_event(value, id);
        if asked.is_err() {
            self.disarm(id);
        }
        asked
    }

    fn ask_for_event(&self, value: u64, id: u64) -> HostResult {
        let (objects, values) = ([self.handle()], [value]);
        let request = Request::new(
            gpupv::WaitForSyncObjectFromCpu::new(self.device.handle(), WaitFromCpuFlags::EMPTY, id),
            CpuWaitTail {
                objects: List::new(&objects),
                fence_values: List::new(&values),
            },
        )?;
        self.device.process.call(&request, |_| Ok(()))
    }

    /// Takes back what was armed in vain. Others may have relied on it: they look, and arm by
    /// themselves.
    fn disarm(&self, id: u64) {
        let armed = {
            let mut watches = self.watches.lock();
            let ours = |armed: &Armed| armed.waiting.id() == id;
            if watches.armed.as_ref().is_some_and(ours) {
                watches.armed.take()
            } else {
                None
            }
        };
        drop(armed);
        self.tell(None, true);
    }

    /// Tells the watches: those whose value is reached, or all. In any context.
    fn tell(&self, id: Option<u64>, everyone: bool) {
        let present = self.value();
        // A fence that jumped to the highest value may belong to a device that failed.
        let everyone = everyone || self.is_lost(present);
        let mut watches = self.watches.lock();
        if let Some(armed) = &mut watches.armed {
            armed.fired |= Some(armed.waiting.id()) == id;
        }
        let reached = self.reached();
        let armed = watches.is_armed_for(u64::MAX, reached);
        let mut worker = None;
        for ((value, _), entry) in watches.all.iter_mut() {
            let over = *value <= reached;
            match &entry.watcher {
                Watcher::Sleeper(sleeper) if (over && !entry.told) || everyone => {
                    sleeper.complete();
                }
                // Who sleeps has to be seen to as well when the next value is to be armed.
                Watcher::Sleeper(_) if over || armed => {}
                Watcher::Sleeper(_) => worker = Some(&entry.fence),
                Watcher::Detached(watcher, _) if over && watcher.reached() => {}
                Watcher::Detached(..) => worker = Some(&entry.fence),
            }
            entry.told |= over;
            if !over && !everyone {
                break;
            }
        }
        // With the lock held: the entry keeps the fence, should the work be queued already.
        if let Some(fence) = worker {
            fence.look_later();
        }
    }

    /// Tells the watches whose value is reached, `value` being known to be: the fence is about to be
    /// rewound.
    pub(crate) fn latch(&self, value: u64) {
        self.note_reached(value);
        self.tell(None, false);
    }

    /// Has the worker look.
    fn look_later(self: &Arc<Self>) {
        let watchers = &self.device.process.adapter.background.watchers;
        let _ = watchers.enqueue::<_, { LOOK_WORK }>(self.clone());
    }

    /// The lowest detached watch, and whether its value was reached.
    fn lowest_detached(&self) -> Option<(Key, bool)> {
        let watches = self.watches.lock();
        let mut all = watches.all.iter();
        all.find(|(_, entry)| matches!(entry.watcher, Watcher::Detached(..)))
            .map(|(key, entry)| (*key, entry.told))
    }

    /// The lowest value that is watched for and not reached.
    fn lowest_value(&self) -> Option<u64> {
        let reached = self.reached();
        let watches = self.watches.lock();
        let mut all = watches.all.iter();
        all.find(|((value, _), entry)| *value > reached && !entry.told)
            .map(|((value, _), _)| *value)
    }

    /// Finishes what is over, and arms the next value.
    fn look(self: &Arc<Self>) {
        while let Some((key, told)) = self.lowest_detached() {
            let outcome = match self.is_over(key.0) {
                _ if told => Ok(()),
                Ok(true) => Ok(()),
                Ok(false) => break,
                // It is not known.
                Err(error) if is_passing(&error) => return self.look_again(),
                Err(error) => Err(self.reason(&error)),
            };
            if let Some(entry) = self.take_watch(&key) {
                entry.finish(outcome);
            }
        }
        let Some(value) = self.lowest_value() else {
            return;
        };
        match self.arm(value) {
            // What was reached while it was armed, the host may not tell.
            Ok(()) if self.has_reached(value) => self.tell(None, false),
            Ok(()) => {}
            Err(error) if is_passing(&error) => self.look_again(),
            Err(error) => self.finish_all(self.reason(&error)),
        }
    }

    /// Why a value will not be reached, as the waiters are told. A host that has taken the adapter away
    /// says so of the device before the guest learns it of the adapter.
    fn reason(&self, error: &HostError) -> Error {
        if error.status != NtStatus::DEVICE_REMOVED {
            return error.errno;
        }
        for _ in 0..REMOVAL_TRIES {
            if self.device.process.adapter.is_stopping() {
                return ENODEV;
            }
            fsleep(Delta::from_micros(RETRY_US));
        }
        error.errno
    }

    /// Has the worker look again, after a while: nobody else may have a reason to.
    fn look_again(self: &Arc<Self>) {
        fsleep(Delta::from_micros(RETRY_US));
        self.look_later();
    }

    fn finish_all(&self, error: Error) {
        while let Some((key, _)) = self.lowest_detached() {
            if let Some(entry) = self.take_watch(&key) {
                entry.finish(Err(error));
            }
        }
    }
}

impl Sink for Fence {
    fn fired(&self, id: u64) {
        self.tell(Some(id), false);
    }

    fn disturbed(&self) {
        self.tell(None, true);
    }
}

impl WorkItem<{ LOOK_WORK }> for Fence {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.look();
    }
}
