// SPDX-License-Identifier: GPL-2.0-only

//! dma_fences of bounded queues: each stands for the end of work that has been queued.
//!
//! A place in the queue is marked by two messages behind the work: one raises the queue's progress,
//! a monitored fence of the driver's own that user space cannot reach; one has the host send an
//! event. Both are in the host's hands before the dma_fence is published, so nothing has to be sent,
//! allocated or waited for any more until it signals: the event comes by the channel's callback, which
//! signals right there.
//!
//! Everything that the queue was made to wait for before is sure to come, and the
//! [watchdog](crate::watchdog) sees to it that the dma_fence signals in bounded time if the work does
//! not end. Whatever happens, it signals: with an error if the queue or its vm is gone before, or the
//! adapter.
//!
//! No memory is given back on the word of a dma_fence: that takes the host's acknowledgement. So what
//! a forged progress could do is to let others go on too early, no more.
//!
//! # Locks
//!
//! `OutFences::pending` is taken in softirq below `Events::tables`; what a dma_fence calls when it is
//! signalled nests in it. `OutQueues::all` is held for list operations only.
//!
//! # Lifetime
//!
//! Pending fences keep the [`OutFences`], which keeps the progress fence and with it the host's
//! process. When its queue is destroyed they are signalled with an error and let go; so they are when the
//! adapter goes.

use core::sync::atomic::{
    AtomicBool,
    Ordering, //
};

use kernel::prelude::*;
use kernel::rbtree::{
    RBTree,
    RBTreeNode,
    RBTreeNodeReservation, //
};
use kernel::sync::{
    aref::ARef,
    new_mutex,
    new_spinlock_irq,
    Arc,
    Mutex,
    SpinLockIrq, //
};
use kernel::workqueue::{
    impl_has_work,
    new_work,
    Work, //
};

use crate::alarm::{
    now_ns,
    Alarm,
    Ring, //
};
use crate::device::Device;
use crate::dma_fence::{
    Context,
    DmaFence,
    PendingFence,
    Signalling, //
};
use crate::driver::DrmDevice;
use crate::events::{
    Sink,
    Waiting, //
};
use crate::fence::Fence;
use crate::gpupv::{
    self,
    Handle,
    List,
    Request,
    SignalTail, //
};
use crate::host_error::HostResult;
use crate::inputs::{
    Inputs,
    Wait, //
};
use crate::release::Done;
use crate::task::TASK_NAME;
use crate::watchdog::Failure;

/// Most fences of a queue that have not signalled.
const OUT_MAX: usize = 4096;

/// A dma_fence that is to signal when the progress reaches a value.
struct Out {
    /// Gone once it was signalled. The rest stays until somebody who can sleep drops it.
    fence: Option<PendingFence>,
    waiting: Waiting,
    /// What the queue was made to wait for ahead of it, and behind the one before.
    inputs: KVec<Wait>,
}

/// The fences of a queue that have not signalled.
pub(crate) struct Pending {
    /// By value.
    all: RBTree<u64, Out>,
    count: usize,
    /// The highest value so far.
    last: u64,
    /// Why there will be no more.
    closed: Option<Error>,
    /// Keeps the rest while something is pending.
    me: Option<Arc<OutFences>>,
    /// How long the first one has been the first, not counting when nobody looked.
    pub(crate) age_ns: u64,
    pub(crate) looked_ns: u64,
    pub(crate) alarm: Option<Alarm>,
}

/// The dma_fences of a queue.
#[pin_data]
pub(crate) struct OutFences {
    context: Context,
    /// The host's queue.
    queue: Handle,
    /// The queue's progress.
    pub(crate) progress: Arc<Fence>,
    /// Completed when the host has acknowledged that the queue is gone.
    pub(crate) gone: Arc<Done>,
    pub(crate) device: Arc<Device>,
    /// Given up with the queue, so that nothing in the background keeps it.
    #[pin]
    drm: Mutex<Option<ARef<DrmDevice>>>,
    /// How long the first fence may be the first.
    pub(crate) timeout_ms: u32,
    /// The thread group that made the queue, and the name of its task.
    pub(crate) maker: i32,
    pub(crate) maker_name: [u8; TASK_NAME],
    /// Whether the device or the adapter may have failed.
    pub(crate) disturbed: AtomicBool,
    pub(crate) inputs: Arc<Inputs>,
    #[pin]
    pub(crate) pending: SpinLockIrq<Pending>,
    /// How the device failed, until that is reported.
    #[pin]
    pub(crate) failure: Mutex<Option<Failure>>,
    #[pin]
    look: Work<Self, { LOOK_WORK }>,
    #[pin]
    report: Work<Self, { REPORT_WORK }>,
}

/// The work that looks after the fences.
pub(crate) const LOOK_WORK: u64 = 0;

/// The work that reports a failure.
pub(crate) const REPORT_WORK: u64 = 1;

impl_has_work! {
    impl HasWork<Self, { LOOK_WORK }> for OutFences { self.look }
    impl HasWork<Self, { REPORT_WORK }> for OutFences { self.report }
}

/// What a new [`OutFences`] belongs to.
pub(crate) struct Of {
    pub(crate) queue: Handle,
    pub(crate) progress: Arc<Fence>,
    pub(crate) gone: Arc<Done>,
    pub(crate) inputs: Arc<Inputs>,
    pub(crate) device: Arc<Device>,
    pub(crate) drm: ARef<DrmDevice>,
    pub(crate) timeout_ms: u32,
    pub(crate) maker: i32,
    pub(crate) maker_name: [u8; TASK_NAME],
}

impl OutFences {
    /// The fences of a queue.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(of: Of) -> Result<Arc<Self>> {
        let out = Arc::pin_init(
            pin_init!(Self {
                context: Context::new(),
                queue: of.queue,
                progress: of.progress,
                gone: of.gone,
                inputs: of.inputs,
                device: of.device,
                drm <- new_mutex!(Some(of.drm), "OutFences::drm"),
                timeout_ms: of.timeout_ms,
                maker: of.maker,
                maker_name: of.maker_name,
                disturbed: AtomicBool::new(false),
                pending <- new_spinlock_irq!(
                    Pending {
                        all: RBTree::new(),
                        count: 0,
                        last: 0,
                        closed: None,
                        me: None,
                        age_ns: 0,
                        looked_ns: 0,
                        alarm: None,
                    },
                    "OutFences::pending"
                ),
                failure <- new_mutex!(None, "OutFences::failure"),
                look <- new_work!("vaccel::OutFences::look"),
                report <- new_work!("vaccel::OutFences::report"),
            }),
            GFP_KERNEL,
        )?;
        out.device.process.adapter.out_queues.insert(out.clone())?;
        Ok(out)
    }

    /// Makes a fence for `value` of the progress and has the queue signal it there. Nobody sees it
    /// yet. The caller has the queue's turn, and took the value from it.
    ///
    /// # Errors
    ///
    /// `EBUSY` if too many are pending, `ENODEV` or `EIO` if adapter or device are gone, `ENOMEM`;
    /// those of [`Process::queue`](crate::process::Process::queue). The fence is then gone.
    pub(crate) fn mark(self: &Arc<Self>, value: u64) -> HostResult<DmaFence> {
        self.tidy();
        let pending = PendingFence::new(&self.context, value)?;
        let fence = pending.fence();
        let events = &self.device.process.adapter.events;
        let waiting = events.wait(self.device.cookie(), self.clone())?;
        let event = waiting.id();
        let out = Out {
            fence: Some(pending),
            waiting,
            inputs: self.inputs.take_waits(),
        };
        let node = RBTreeNodeReservation::new(GFP_KERNEL)?;
        let adapter = &self.device.process.adapter;
        let first = self.insert(value, out, node)?;
        if first {
            self.set_alarm();
        }
        let told = self
            .progress
            .signal_in(self.queue, value)
            .and_then(|()| self.send_event(event));
        // Who failed them all may have done so before this one was there.
        if adapter.is_stopping() || self.device.failure().is_some() {
            self.disturbed();
        }
        match told {
            Ok(()) => Ok(fence),
            Err(error) => {
                self.withdraw(value);
                Err(error)
            }
        }
    }

    fn insert(
        self: &Arc<Self>,
        value: u64,
        out: Out,
        node: RBTreeNodeReservation<u64, Out>,
    ) -> Result<bool> {
        let mut pending = self.pending.lock();
        if let Some(error) = pending
            .closed
            .or((pending.count >= OUT_MAX).then_some(EBUSY))
        {
            drop(pending);
            self.forget(out);
            return Err(error);
        }
        pending.first_comes();
        pending.count += 1;
        pending.last = value;
        pending.me = Some(self.clone());
        // Values are not reused, so nothing is replaced.
        pending.all.insert(node.into_node(value, out));
        Ok(pending.alarm.is_none())
    }

    fn send_event(&self, event: u64) -> HostResult {
        let contexts = [self.queue];
        let request = Request::new(
            gpupv::SignalSyncObject::event(event),
            SignalTail {
                objects: List::EMPTY,
                contexts: List::new(&contexts),
                fence_values: List::EMPTY,
            },
        )?;
        self.device.process.queue(&request)
    }

    /// Takes a fence back that nobody has seen.
    pub(crate) fn withdraw(&self, value: u64) {
        let out = {
            let mut pending = self.pending.lock();
            let out = pending.all.remove(&value);
            pending.count -= usize::from(out.as_ref().is_some_and(Out::is_pending));
            out
        };
        if let Some(out) = out {
            self.forget(out);
        }
    }

    /// Drops what nobody has seen. The queue waits all the same.
    fn forget(&self, out: Out) {
        for wait in out.inputs {
            // Without memory the clock of the next one starts early.
            let _ = self.inputs.note(wait);
        }
    }

    /// Drops what is left of fences that were signalled.
    pub(crate) fn tidy(&self) {
        loop {
            let mut pending = self.pending.lock();
            let first = pending.all.iter().next();
            let over = first.filter(|(_, out)| !out.is_pending());
            let Some(value) = over.map(|(value, _)| *value) else {
                break;
            };
            let out = pending.all.remove(&value);
            drop(pending);
            drop(out);
        }
        let (me, alarm) = {
            let mut pending = self.pending.lock();
            if !pending.all.is_empty() {
                return;
            }
            (pending.me.take(), pending.alarm.take())
        };
        drop((me, alarm));
    }

    /// Signals what the progress has reached. Whether there was something. In any context.
    pub(crate) fn signal_reached(&self) -> bool {
        // When the device failed the value says nothing.
        let _ = self.progress.value();
        let reached = self.progress.reached();
        let _signalling = Signalling::begin();
        self.pending.lock().signal_until(reached)
    }

    /// Signals all with an error: the first with `first`, the others with `others`. In any context.
    pub(crate) fn fail(&self, first: Error, others: Error) {
        let _signalling = Signalling::begin();
        let mut error = first;
        for out in self.pending.lock().take_all() {
            out.signal(Err(error));
            error = others;
        }
    }

    /// Whether what the first fence stands for waits for others, who have to come to an end.
    pub(crate) fn waits(&self) -> bool {
        let Some((value, mut inputs)) = self.pending.lock().take_inputs() else {
            return false;
        };
        // Without the lock: to ask a fence may signal it.
        inputs.retain(Wait::is_pending);
        let waits = !inputs.is_empty();
        if let Some(out) = self.pending.lock().all.get_mut(&value) {
            core::mem::swap(&mut out.inputs, &mut inputs);
        }
        waits
    }

    /// Whether something is pending.
    pub(crate) fn is_busy(&self) -> bool {
        self.pending.lock().count != 0
    }

    /// Values of the first and the last fence that are pending, and how many are.
    pub(crate) fn summary(&self) -> (u64, u64, usize) {
        let pending = self.pending.lock();
        let mut values = pending
            .all
            .iter()
            .filter(|(_, out)| out.is_pending())
            .map(|(value, _)| *value);
        let first = values.next().unwrap_or(0);
        (first, values.last().unwrap_or(first), pending.count)
    }

    /// Has the worker look. In any context.
    fn look_later(&self) {
        let workers = &self.device.process.adapter.background.workers;
        // With the lock held: that keeps this, should the work be queued already.
        if let Some(me) = &self.pending.lock().me {
            let _ = workers.enqueue::<_, { LOOK_WORK }>(me.clone());
        }
    }

    /// The queue is being destroyed: what it has not done it will not do. Its fences signal when the host
    /// has stopped what runs, for which the worker waits: nobody shall take the memory that the work uses
    /// for his own before.
    pub(crate) fn close(self: &Arc<Self>) {
        self.device.process.adapter.out_queues.remove(self);
        let drm = self.drm.lock().take();
        drop(drm);
        let busy = {
            let mut pending = self.pending.lock();
            pending.closed = Some(ECANCELED);
            pending.count != 0
        };
        if busy {
            let workers = &self.device.process.adapter.background.workers;
            let _ = workers.enqueue::<_, { LOOK_WORK }>(self.clone());
        } else {
            self.tidy();
        }
    }

    /// The last value that was promised, if its queue is gone.
    pub(crate) fn closed_at(&self) -> Option<u64> {
        let pending = self.pending.lock();
        pending.closed.map(|_| pending.last)
    }

    /// The DRM device, while the queue is there.
    pub(crate) fn drm(&self) -> Option<ARef<DrmDevice>> {
        self.drm.lock().clone()
    }

    /// The context of its dma_fences.
    pub(crate) fn context(&self) -> u64 {
        self.context.id()
    }

    /// The host's queue.
    pub(crate) fn queue(&self) -> Handle {
        self.queue
    }
}

impl Out {
    fn is_pending(&self) -> bool {
        self.fence.is_some()
    }
}

impl Pending {
    /// Whether nothing is left, also of those that were signalled.
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// A fence comes: if it is the first, its clock starts.
    fn first_comes(&mut self) {
        if self.count == 0 {
            self.age_ns = 0;
            self.looked_ns = now_ns();
        }
    }

    /// Signals the fences up to `reached`; whether there were any.
    fn signal_until(&mut self, reached: u64) -> bool {
        let mut any = false;
        for (value, out) in self.all.iter_mut() {
            if *value > reached {
                break;
            }
            if let Some(fence) = out.fence.take() {
                fence.signal(Ok(()));
                self.count -= 1;
                any = true;
            }
        }
        if any {
            // The next one is the first from now on.
            self.age_ns = 0;
            self.looked_ns = now_ns();
        }
        any
    }

    /// Takes all fences out.
    fn take_all(&mut self) -> impl Iterator<Item = PendingFence> + '_ {
        self.count = 0;
        self.all.values_mut().filter_map(|out| out.fence.take())
    }

    /// Takes what the first fence waits for.
    fn take_inputs(&mut self) -> Option<(u64, KVec<Wait>)> {
        let mut all = self.all.iter_mut();
        let (value, out) = all.find(|(_, out)| out.is_pending())?;
        Some((*value, core::mem::take(&mut out.inputs)))
    }

    /// The value of the fence with this event.
    fn value_of(&self, event: u64) -> Option<u64> {
        let mut all = self.all.iter();
        all.find(|(_, out)| out.waiting.id() == event)
            .map(|(value, _)| *value)
    }
}

impl Sink for OutFences {
    fn fired(&self, id: u64) {
        let _signalling = Signalling::begin();
        let mut pending = self.pending.lock();
        // The event is behind the signal in the queue, so it says the same, also when the device has
        // failed meanwhile and the value says nothing any more.
        let reached = pending.value_of(id).unwrap_or(0);
        pending.signal_until(reached);
    }

    fn disturbed(&self) {
        self.disturbed.store(true, Ordering::Release);
        self.look_later();
    }
}

impl Ring for OutFences {
    fn ring(&self) {
        self.look_later();
    }
}

/// The queues of an adapter with dma_fences, by their contexts.
#[pin_data]
pub(crate) struct OutQueues {
    #[pin]
    all: Mutex<RBTree<u64, Arc<OutFences>>>,
}

impl OutQueues {
    /// None.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            all <- new_mutex!(RBTree::new(), "OutQueues::all"),
        })
    }

    fn insert(&self, out: Arc<OutFences>) -> Result {
        let node = RBTreeNode::new(out.context.id(), out, GFP_KERNEL)?;
        self.all.lock().insert(node);
        Ok(())
    }

    fn remove(&self, out: &OutFences) {
        let out = self.all.lock().remove(&out.context.id());
        drop(out);
    }

    /// The queue that made a dma_fence, if it is one of the adapter that is still there.
    pub(crate) fn of(&self, fence: &DmaFence) -> Option<Arc<OutFences>> {
        self.all.lock().get(&fence.context()).cloned()
    }

    /// The one after `context`.
    fn after(&self, context: u64) -> Option<Arc<OutFences>> {
        let all = self.all.lock();
        let mut queues = all.iter();
        queues
            .find(|(key, _)| **key > context)
            .map(|(_, out)| out.clone())
    }

    /// All queues of a device, one after the other.
    pub(crate) fn for_each_of(&self, device: &Arc<Device>, mut f: impl FnMut(&Arc<OutFences>)) {
        let mut context = 0;
        while let Some(out) = self.after(context) {
            context = out.context.id();
            if Arc::ptr_eq(&out.device, device) {
                f(&out);
            }
        }
    }
}
