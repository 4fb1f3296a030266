// SPDX-License-Identifier: GPL-2.0-only

//! The reaper of one host process: works off its [`Release`] nodes, in order, in the background.
//!
//! Queueing a node needs no memory and no sleeping, so objects can be dropped anywhere: in an
//! ioctl, at the end of a killed task, in the channel callback that brings a late answer. The
//! reaper then talks to the host at its own pace; closing a file never waits for the host.
//!
//! Queues of the host, whose work may use what is given back, have a lane of their own past all else: to
//! give one back stops its work. So an endless job holds up only what it uses, and only until its queue
//! is given up. Devices and processes go when that lane is empty: what is on them is then gone.
//!
//! A node leaves the reaper when the host has acknowledged, or when the channel is closed, and with it
//! every way for the host to touch shared memory. Nobody waits for a reaper without a limit, so it
//! may wait for the host as long as it takes: for a job, if that uses what is given back. What owns no
//! memory need not wait behind it: [`Owned::give_back`] goes past the reaper.
//!
//! # Locks
//!
//! `Reaper::nodes` and `Reaper::queues` are taken in softirq and nest in nothing.

use core::sync::atomic::{
    AtomicU32,
    AtomicUsize,
    Ordering, //
};

use kernel::prelude::*;
use kernel::sync::{
    new_spinlock_irq,
    Arc,
    SpinLockIrq, //
};
use kernel::time::{
    delay::fsleep,
    msecs_to_jiffies,
    Delta, //
};
use kernel::workqueue::{
    impl_has_work,
    new_work,
    Work,
    WorkItem, //
};

use crate::gpupv::Handle;
use crate::guest_memory::Backing;
use crate::host_error::{
    HostError,
    HostResult, //
};
use crate::link::reply_timeout_ms;
use crate::release::{
    Counted,
    Creates,
    Done,
    Release,
    What, //
};
use crate::sync;
use crate::transport::{
    Transport,
    Wait, //
};
use crate::workqueue::OwnedQueue;

/// Pause before a message is tried again for which there was no memory.
const RETRY_US: i64 = 10_000;

/// How often somebody who waits tries again, with that pause, to send what there is no memory for.
const NO_MEMORY_TRIES: usize = 100;

/// Pause between two looks whether the queues of a device are gone: their lane works meanwhile.
const QUEUES_US: i64 = 100;

/// Nodes waiting, newest first.
struct Queue {
    newest: Option<KBox<Release>>,
}

impl Queue {
    fn push(&mut self, mut node: KBox<Release>) {
        node.next = self.newest.take();
        self.newest = Some(node);
    }

    /// Takes all nodes, newest first.
    fn take(&mut self) -> Option<KBox<Release>> {
        self.newest.take()
    }
}

/// Turns a list of nodes round.
fn reverse(mut list: Option<KBox<Release>>) -> Option<KBox<Release>> {
    let mut reversed = None;
    while let Some(mut node) = list {
        list = node.next.take();
        node.next = reversed;
        reversed = Some(node);
    }
    reversed
}

/// Whether an attempt to give something back ended before the host could be told, or with the channel.
/// Everything else must not be tried again: what the host has back may be somebody else's by now.
fn is_untold(error: &HostError) -> bool {
    [ENOMEM, EAGAIN, ENODEV].contains(&error.errno)
}

/// Gives back the objects of one host process.
#[pin_data]
pub(crate) struct Reaper {
    transport: Arc<Transport>,
    workers: Arc<OwnedQueue>,
    /// The host process the objects belong to, 0 until it exists.
    process: AtomicU32,
    #[pin]
    nodes: SpinLockIrq<Queue>,
    #[pin]
    work: Work<Self, { NODES }>,
    /// Queues of the host.
    #[pin]
    queues: SpinLockIrq<Queue>,
    #[pin]
    queue_work: Work<Self, { QUEUES }>,
    /// Nodes of `queues` that the host has not acknowledged.
    queues_left: AtomicUsize,
}

/// The lanes of a reaper.
const NODES: u64 = 0;
const QUEUES: u64 = 1;

impl_has_work! {
    impl HasWork<Self, { NODES }> for Reaper { self.work }
    impl HasWork<Self, { QUEUES }> for Reaper { self.queue_work }
}

impl Reaper {
    /// A reaper for the objects of a process that is about to be made.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(transport: Arc<Transport>, workers: Arc<OwnedQueue>) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                transport,
                workers,
                process: AtomicU32::new(0),
                nodes <- new_spinlock_irq!(Queue { newest: None }, "Reaper::nodes"),
                work <- new_work!("vaccel::Reaper::work"),
                queues <- new_spinlock_irq!(Queue { newest: None }, "Reaper::queues"),
                queue_work <- new_work!("vaccel::Reaper::queue_work"),
                queues_left: AtomicUsize::new(0),
            }),
            GFP_KERNEL,
        )
    }

    /// Says which host process it is.
    pub(crate) fn set_process(&self, process: Handle) {
        self.process.store(process.raw(), Ordering::Release);
    }

    /// The host process, or none yet.
    pub(crate) fn process(&self) -> Handle {
        Handle::from_raw(self.process.load(Ordering::Acquire))
    }

    /// Queues a node.
    pub(crate) fn push(self: &Arc<Self>, node: KBox<Release>) {
        self.transport.releases.fetch_add(1, Ordering::Relaxed);
        // If the work is queued already it will see the node.
        if matches!(node.what, What::Context(_)) {
            self.queues_left.fetch_add(1, Ordering::Relaxed);
            self.queues.lock().push(node);
            let _ = self.workers.enqueue::<_, { QUEUES }>(self.clone());
        } else {
            self.nodes.lock().push(node);
            let _ = self.workers.enqueue::<_, { NODES }>(self.clone());
        }
    }

    /// Works off a lane.
    fn work_off(&self, lane: &SpinLockIrq<Queue>, each: impl Fn(KBox<Release>)) {
        loop {
            let newest = lane.lock().take();
            // Without the lock: there may be very many.
            let mut next = reverse(newest);
            if next.is_none() {
                return;
            }
            while let Some(mut node) = next {
                next = node.next.take();
                each(node);
            }
        }
    }

    /// Waits until the queues that were on it are gone: their handles may be somebody else's when
    /// their device is.
    fn wait_for_queues(&self) {
        while self.queues_left.load(Ordering::Acquire) != 0 {
            fsleep(Delta::from_micros(QUEUES_US));
        }
    }

    fn give_back(&self, node: KBox<Release>) {
        loop {
            match node
                .what
                .send(&self.transport, self.process(), Wait::ToTheEnd)
            {
                Err(error) if error.errno == ENOMEM || error.errno == EAGAIN => {
                    fsleep(Delta::from_micros(RETRY_US));
                }
                Err(error) if error.errno == ENODEV => {
                    self.transport.wait_closed();
                    break;
                }
                // Acknowledged, however badly.
                Ok(()) | Err(_) => break,
            }
        }
        // Its memory goes first, so that whoever waits finds it gone.
        let done = node.done.clone();
        drop(node);
        if let Some(done) = done {
            done.complete_all();
        }
        self.transport.releases.fetch_sub(1, Ordering::Release);
    }
}

impl WorkItem<{ NODES }> for Reaper {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.work_off(&this.nodes, |node| {
            if matches!(node.what, What::Device(_) | What::Process(_)) {
                this.wait_for_queues();
            }
            this.give_back(node);
        });
    }
}

impl WorkItem<{ QUEUES }> for Reaper {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.work_off(&this.queues, |node| {
            this.give_back(node);
            this.queues_left.fetch_sub(1, Ordering::Release);
        });
    }
}

/// What a call without a caller does with a late answer.
pub(crate) struct Cleanup {
    reaper: Arc<Reaper>,
    node: KBox<Release>,
    made: fn(&mut What, &[u8]) -> bool,
}

impl Cleanup {
    /// Prepares to give back what `C` makes.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new<C: Creates>(reaper: &Arc<Reaper>, what: What) -> Result<Self> {
        Ok(Self {
            reaper: reaper.clone(),
            node: Release::new(what)?,
            made: C::made,
        })
    }

    /// Hands what the late answer brought, if anything, to the reaper. May run in softirq.
    pub(crate) fn answered(mut self, payload: &[u8]) {
        if (self.made)(&mut self.node.what, payload) {
            self.reaper.push(self.node);
        }
    }

    /// Takes charge of what the answer brought.
    pub(crate) fn into_owned(mut self, payload: &[u8]) -> Option<Owned> {
        (self.made)(&mut self.node.what, payload).then(|| Owned {
            reaper: self.reaper,
            node: Some(self.node),
        })
    }
}

/// A host object that is given back when this is dropped.
pub(crate) struct Owned {
    reaper: Arc<Reaper>,
    node: Option<KBox<Release>>,
}

impl Owned {
    /// What will be given back.
    fn what(&self) -> Option<&What> {
        self.node.as_ref().map(|node| &node.what)
    }

    /// The host's handle of the object.
    pub(crate) fn handle(&self) -> Handle {
        self.what().map_or(Handle::NONE, What::handle)
    }

    /// Gives the object back here and now and waits for the host, past the reaper's queue, in which
    /// an endless job may be in the way. Only for objects without memory and without children.
    ///
    /// What the object needs has to be kept until this returns. Its own release is then sent later
    /// than this one, also if nobody waited for the answer.
    ///
    /// # Errors
    ///
    /// `EINTR` if killed meanwhile, `ETIMEDOUT`: the host has been told, but has not answered.
    /// `ENOMEM`, `EAGAIN` if the ring stayed full, `ENODEV`: it is given back by the reaper. `EIO` if
    /// the answer is none.
    pub(crate) fn give_back(mut self) -> HostResult {
        let Some(node) = self.node.take() else {
            return Ok(());
        };
        let process = self.reaper.process();
        let mut tries = NO_MEMORY_TRIES;
        let told = loop {
            let told = node
                .what
                .send(&self.reaper.transport, process, Wait::Killable);
            // The guest's own want of memory: that of a host that refuses is ENOSPC, and not asked again.
            let no_memory = told.as_ref().is_err_and(|error| error.errno == ENOMEM);
            if !no_memory || tries == 0 {
                break told;
            }
            // The caller cannot undo what it has done already; memory comes back, as a rule.
            tries -= 1;
            fsleep(Delta::from_micros(RETRY_US));
        };
        if told.as_ref().is_err_and(is_untold) {
            self.reaper.push(node);
        }
        told
    }

    /// Gives the object back through the reaper and waits for it: memory that it has stays until the
    /// host has answered.
    ///
    /// # Errors
    ///
    /// `EINTR` if killed meanwhile, `ETIMEDOUT`, `ENOMEM`; the object is given back all the same.
    pub(crate) fn settle(&mut self) -> HostResult {
        let done = Arc::pin_init(Done::new(), GFP_KERNEL)?;
        let Some(mut node) = self.node.take() else {
            return Ok(());
        };
        node.done = Some(done.clone());
        self.reaper.push(node);
        match done.wait_killable_timeout(msecs_to_jiffies(reply_timeout_ms())) {
            sync::Wait::Done => Ok(()),
            sync::Wait::Signal => Err(EINTR.into()),
            sync::Wait::TimedOut => Err(ETIMEDOUT.into()),
        }
    }

    /// Forgets the object: the host has been told already.
    pub(crate) fn forget(mut self) {
        drop(self.node.take());
    }

    /// Ties guest memory to the object: it is freed when the host has let go of both.
    pub(crate) fn attach(&mut self, memory: Backing) {
        if let Some(node) = &mut self.node {
            node.memory = Some(memory);
        }
    }

    /// Ties a place in a count to the object: it ends when the host has let go of the object.
    pub(crate) fn count(&mut self, counted: Counted) {
        if let Some(node) = &mut self.node {
            node.counted = Some(counted);
        }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if let Some(node) = self.node.take() {
            self.reaper.push(node);
        }
    }
}
