// SPDX-License-Identifier: GPL-2.0-only

//! Submissions by io_uring: in the order of their entries, without anybody waiting, many at once.
//!
//! They line up in their queue. When the task has issued its entries it queues what is there itself, if
//! that needs no waiting: the host takes asynchronous messages, and only what those are for is asked
//! for. All messages go to the host together, with one notification. What cannot be done that way is
//! left to a worker, which waits for the host as an ioctl does.
//!
//! The worker belongs to nobody, so nobody would pay for memory that it makes resident: a list that
//! needs that is refused. Entries with IOSQE_ASYNC are issued by a thread of the task itself, and do
//! what the ioctl does.
//!
//! # Locks
//!
//! Whoever takes submissions out has the queue's turn; `Queue::fifo` is held for list operations only.
//!
//! # Lifetime
//!
//! A submission in line keeps its file open by itself, not by way of its command: when io_uring ends
//! that early nobody waits for the worker.

use core::mem;

use kernel::prelude::*;
use kernel::rbtree::{
    RBTree,
    RBTreeNode, //
};
use kernel::sync::Arc;
use kernel::workqueue::{
    impl_has_work,
    new_work,
    Work,
    WorkItem, //
};

use crate::bindings::uapi;
use crate::client::Client;
use crate::driver::{
    DrmDevice,
    DrmFile, //
};
use crate::drm::OpenFile;
use crate::gate::{
    Inside,
    Stay, //
};
use crate::gpupv::NtStatus;
use crate::host_error::{
    HostError,
    HostResult, //
};
use crate::ioctl;
use crate::outbox::{
    Held,
    Outbox,
    HELD_MAX, //
};
use crate::plug::{
    self,
    Unplug, //
};
use crate::queue::{
    Queue,
    Submitting, //
};
use crate::submit::{
    self,
    Job, //
};
use crate::uring::{
    Answer,
    Issue, //
};
use crate::uring_operation::{
    Operation,
    Place,
    Waits, //
};

/// Most submissions of a queue that are in line.
const FIFO_MAX: usize = 1024;

/// A submission in line.
struct Entry {
    args: uapi::drm_vaccel_submit,
    file: OpenFile<Client>,
    operation: Arc<Operation>,
}

/// A submission whose messages are in an outbox.
struct Queued {
    operation: Arc<Operation>,
    seq: u64,
    /// How many messages the outbox had been given then.
    end: usize,
}

/// Messages for which the ring had no room, and whose they are.
struct Rest {
    held: Held,
    queued: KVec<Queued>,
    stay: Stay,
}

/// The line.
pub(crate) struct Fifo {
    /// Those that cannot be queued yet, ahead of all others.
    rest: Option<Rest>,
    /// One that was looked at already, ahead of all but those.
    first: Option<(Entry, Job)>,
    all: RBTree<u64, Entry>,
    count: usize,
    next: u64,
    /// Memory for the next outbox.
    spare: Held,
}

/// What is next in line.
enum Next {
    Fresh(Entry),
    Checked(Entry, Job),
}

impl Fifo {
    /// Nobody.
    pub(crate) fn new() -> Self {
        Self {
            rest: None,
            first: None,
            all: RBTree::new(),
            count: 0,
            next: 0,
            spare: Held::default(),
        }
    }

    /// Whether all that was queued so far was sent.
    pub(crate) fn has_no_rest(&self) -> bool {
        self.rest.is_none()
    }

    /// Whether nobody is in line.
    fn is_empty(&self) -> bool {
        self.rest.is_none() && self.first.is_none() && self.count == 0
    }

    fn take_next(&mut self) -> Option<Next> {
        if let Some((entry, job)) = self.first.take() {
            return Some(Next::Checked(entry, job));
        }
        let number = *self.all.cursor_front()?.current().0;
        self.count -= 1;
        self.all.remove(&number).map(Next::Fresh)
    }
}

impl Queue {
    /// Lines up a submission.
    ///
    /// # Errors
    ///
    /// `ENOBUFS` if too many are in line, `ENOMEM`.
    fn line_up(&self, entry: Entry) -> Result {
        let number = {
            let mut fifo = self.fifo.lock();
            if fifo.count >= FIFO_MAX {
                return Err(ENOBUFS);
            }
            fifo.count += 1;
            fifo.next += 1;
            fifo.next
        };
        let node = RBTreeNode::new(number, entry, GFP_KERNEL);
        let mut fifo = self.fifo.lock();
        match node {
            Ok(node) => {
                fifo.all.insert(node);
                Ok(())
            }
            Err(error) => {
                fifo.count -= 1;
                Err(error)
            }
        }
    }

    /// Has the worker queue what is in line.
    fn drain_later(self: &Arc<Self>) {
        let workers = &self.vm.device.process.adapter.background.watchers;
        let _ = workers.enqueue(self.clone());
    }

    /// Queues what is in line, as far as that goes without sleeping for long; the rest later.
    fn drain_now(self: &Arc<Self>) {
        let (Some(turn), Some(inside)) = (self.try_begin(), self.vm.gate.try_enter()) else {
            return self.drain_later();
        };
        let mut run = Run::new(turn, inside, false);
        let is_done = run.all();
        let is_sent = run.flush().is_over();
        if is_sent {
            run.finish();
        } else {
            run.leave();
        }
        if !is_sent || !is_done {
            self.drain_later();
        }
    }

    /// Begins to queue a submission that is not part of a batch, if nobody is in line and that needs no
    /// waiting.
    fn begin_alone(
        &self,
        args: &uapi::drm_vaccel_submit,
        file: &DrmFile,
    ) -> Option<(Run<'_>, Job)> {
        let turn = self.try_begin()?;
        if !self.fifo.lock().is_empty() {
            return None;
        }
        let inside = self.vm.gate.try_enter()?;
        let mut run = Run::new(turn, inside, false);
        run.queued.reserve(1, GFP_KERNEL).ok()?;
        // What is wrong with it is found again.
        let job = Job::new(args, file, self, false).ok()?;
        run.is_quick(&job).then_some((run, job))
    }

    /// Queues what is in line.
    fn drain(self: &Arc<Self>) {
        // Nobody interrupts a worker.
        let (Ok(turn), Ok(inside)) = (self.begin(), self.vm.gate.enter()) else {
            return;
        };
        let mut run = Run::new(turn, inside, true);
        let is_done = run.all();
        // It waits for room, so nothing is left.
        run.flush();
        run.finish();
        if !is_done {
            self.drain_later();
        }
    }
}

impl<'a> Submitting<'a> {
    /// An outbox for this turn.
    pub(crate) fn outbox(&self) -> Outbox<'a> {
        let queue = self.queue();
        let spare = mem::take(&mut queue.fifo.lock().spare);
        Outbox::new(&queue.vm.device.process, spare)
    }

    /// Keeps the memory of an outbox that is not needed any more for the next one.
    pub(crate) fn keep(&self, outbox: Outbox<'_>) {
        let mut spare = outbox.into_rest();
        spare.clear();
        // More than one turn usually needs is given back.
        if spare.capacity() <= 2 * HELD_MAX {
            let replaced = mem::replace(&mut self.queue().fifo.lock().spare, spare);
            drop(replaced);
        }
    }

    /// Sends what could not be sent before.
    pub(crate) fn send_rest(&self) {
        let queue = self.queue();
        let rest = queue.fifo.lock().rest.take();
        let Some(Rest { held, queued, stay }) = rest else {
            return;
        };
        let _inside = queue.vm.gate.resume(stay);
        let mut outbox = Outbox::new(&queue.vm.device.process, held);
        let flushed = outbox.flush();
        complete(queued, &outbox, flushed);
    }
}

/// Completes what was queued, `flushed` being what became of its messages.
fn complete(queued: KVec<Queued>, outbox: &Outbox<'_>, flushed: HostResult) {
    for queued in queued {
        match flushed {
            Err(error) if queued.end > outbox.sent() => refuse(&queued.operation, &error),
            _ => queued.sent(),
        }
    }
}

fn refuse(operation: &Operation, error: &HostError) {
    operation.refuse(ioctl::errno(error), error.status);
}

impl Queued {
    /// The host has it.
    fn sent(self) {
        self.operation.note(self.seq);
        // If io_uring has ended it, this does nothing.
        self.operation.watch();
    }
}

/// The queueing of what is in line.
struct Run<'a> {
    queued: KVec<Queued>,
    outbox: Outbox<'a>,
    may_sleep: bool,
    inside: Inside<'a>,
    turn: Submitting<'a>,
}

impl<'a> Run<'a> {
    fn new(turn: Submitting<'a>, inside: Inside<'a>, may_sleep: bool) -> Self {
        Self {
            queued: KVec::new(),
            outbox: turn.outbox(),
            may_sleep,
            inside,
            turn,
        }
    }

    /// Queues one after the other, as many as there may be at a time. Whether it got to the end.
    fn all(&mut self) -> bool {
        for _ in 0..FIFO_MAX {
            let next = self.turn.queue().fifo.lock().take_next();
            let Some(next) = next else {
                return true;
            };
            if let Some(first) = self.one(next) {
                self.turn.queue().fifo.lock().first = Some(first);
                return false;
            }
            if self.outbox.is_full() && !self.flush().is_over() {
                return false;
            }
        }
        false
    }

    /// Queues one, unless that would mean to sleep.
    fn one(&mut self, next: Next) -> Option<(Entry, Job)> {
        let (Next::Fresh(entry) | Next::Checked(entry, _)) = &next;
        if !entry.operation.command().start() {
            // It was cancelled.
            return None;
        }
        let ready = self.queued.reserve(1, GFP_KERNEL).map_err(Error::from);
        // What was looked at before the gate was entered may need memory by now.
        let needs_memory = self.turn.queue().vm.needs_revival();
        if let Err(error) = ready.and(if needs_memory { Err(EAGAIN) } else { Ok(()) }) {
            entry.operation.refuse(error, NtStatus::SUCCESS);
            return None;
        }
        let (entry, job) = match next {
            Next::Checked(entry, job) => (entry, job),
            Next::Fresh(entry) => {
                match Job::new(&entry.args, &entry.file, self.turn.queue(), false) {
                    Ok(job) => (entry, job),
                    Err(error) => {
                        entry.operation.refuse(error.errno, error.status);
                        return None;
                    }
                }
            }
        };
        if !self.may_sleep && !self.is_quick(&job) {
            entry.operation.command().rest();
            return Some((entry, job));
        }
        let outcome = self.queue(&entry.file, job);
        let seq = match outcome {
            Ok(seq) => seq,
            Err(error) => {
                refuse(&entry.operation, &error);
                return None;
            }
        };
        self.keep(Queued {
            operation: entry.operation,
            seq,
            end: self.outbox.added(),
        });
        None
    }

    /// Whether queueing it cannot mean to wait for the host.
    fn is_quick(&self, job: &Job) -> bool {
        let device = &self.turn.queue().vm.device;
        device.process.adapter.transport.asynchronous && job.is_simple() && device.is_state_known()
    }

    fn queue(&mut self, file: &DrmFile, job: Job) -> HostResult<u64> {
        let dev = file.device().enter().ok_or(ENODEV)?;
        let may_ask = self.may_sleep;
        job.run(&mut self.turn, &dev, file, &mut self.outbox, may_ask)
    }

    /// Keeps it until its messages are sent. Room was taken.
    fn keep(&mut self, queued: Queued) {
        if queued.end == self.outbox.sent() {
            queued.sent();
        } else {
            // There is room.
            let _ = self.queued.push(queued, GFP_KERNEL);
        }
    }

    /// Sends what is held.
    fn flush(&mut self) -> Flushed {
        let flushed = if self.may_sleep {
            self.outbox.flush()
        } else {
            self.outbox.flush_now()
        };
        if !self.may_sleep && flushed.is_err_and(|error| error.errno == EAGAIN) {
            return Flushed::NotAll;
        }
        complete(mem::take(&mut self.queued), &self.outbox, flushed);
        self.outbox.clear();
        Flushed::Over(flushed)
    }

    /// Ends the turn. Nothing is left.
    fn finish(self) {
        self.turn.keep(self.outbox);
    }

    /// Leaves what could not be sent to the next one.
    fn leave(mut self) {
        let outbox = mem::replace(
            &mut self.outbox,
            Outbox::open(&self.turn.queue().vm.device.process),
        );
        self.turn.queue().fifo.lock().rest = Some(Rest {
            held: outbox.into_rest(),
            queued: mem::take(&mut self.queued),
            stay: self.inside.stay(),
        });
    }
}

/// What became of messages.
enum Flushed {
    /// They were sent, or never will be.
    Over(HostResult),
    /// There was no room for all.
    NotAll,
}

impl Flushed {
    fn is_over(&self) -> bool {
        matches!(self, Self::Over(_))
    }
}

/// The submissions of a task to one queue, while more are issued.
///
/// It is of its own, so that what a task leaves to a worker when it is about to sleep is the reference
/// that it has: to drop the last one of a queue would be to sleep.
#[pin_data]
struct Plugged {
    queue: Arc<Queue>,
    #[pin]
    work: Work<Self>,
}

impl_has_work! {
    impl HasWork<Self> for Plugged { self.work }
}

impl Plugged {
    fn new(queue: &Arc<Queue>) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                queue: queue.clone(),
                work <- new_work!("vaccel::Plugged::work"),
            }),
            GFP_KERNEL,
        )
    }
}

impl Unplug for Plugged {
    fn unplug(this: Arc<Self>, in_schedule: bool) {
        if in_schedule {
            // The module keeps the workers, so that this is not the last reference to them.
            let background = &this.queue.vm.device.process.adapter.background;
            let watchers = background.watchers.clone();
            // It is queued nowhere.
            let _ = watchers.enqueue(this);
        } else {
            this.queue.drain_now();
        }
    }
}

impl WorkItem for Plugged {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.queue.drain();
    }
}

impl WorkItem for Queue {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.drain();
    }
}

/// What a submission waits for, beyond being queued.
fn waits(args: &uapi::drm_vaccel_submit, file: &DrmFile) -> Result<Waits> {
    if args.flags & uapi::VACCEL_SUBMIT_CQE_ON_DONE == 0 {
        return Ok(Waits::for_nothing());
    }
    let fence = file.inner().fence(args.done_fence)?.fence;
    Waits::for_value(fence, args.done_value)
}

/// `VACCEL_URING_CMD_SUBMIT`.
///
/// # Errors
///
/// Those of the operation; nothing was done then.
pub(crate) fn issue(dev: &DrmDevice, file: &DrmFile, issue: Issue<'_>) -> Result<Answer> {
    let args = issue.read::<uapi::drm_vaccel_submit>()?;
    submit::check(&args)?;
    let client = file.inner();
    let queue = client.queue(args.queue)?;
    let waits = waits(&args, file)?;
    // Ahead of everything: what was queued must not be told to have failed.
    let place = client.operations.reserve(&waits)?;
    if issue.may_sleep() {
        return Ok(match submit::submit_and_wait(dev, &args, file) {
            Ok(seq) => Operation::wait(issue, place, waits, seq),
            Err(error) => refused(issue, &error),
        });
    }
    let asynchronous = queue.vm.device.process.adapter.transport.asynchronous;
    if asynchronous && !plug::is_open() {
        if let Some((run, job)) = queue.begin_alone(&args, file) {
            return alone(&queue, run, job, file, issue, place, waits);
        }
    }
    if asynchronous && queue.fifo.lock().count >= FIFO_MAX / 2 {
        queue.drain_now();
    }
    let (operation, answer) = Operation::pend(issue, place, waits)?;
    let entry = Entry {
        args,
        file: file.keep(),
        operation: operation.clone(),
    };
    let is_it = |plugged: &Plugged| Arc::ptr_eq(&plugged.queue, &queue);
    match queue.line_up(entry) {
        Err(error) => operation.refuse(error, NtStatus::SUCCESS),
        Ok(()) if !asynchronous => queue.drain_later(),
        Ok(()) if plug::at_end(is_it, || Plugged::new(&queue)) => {}
        Ok(()) => queue.drain_now(),
    }
    Ok(answer)
}

/// Queues a submission that is not part of a batch.
fn alone(
    queue: &Arc<Queue>,
    mut run: Run<'_>,
    job: Job,
    file: &DrmFile,
    issue: Issue<'_>,
    place: Place,
    waits: Waits,
) -> Result<Answer> {
    let outcome = run.queue(file, job);
    let seq = match (run.flush(), outcome) {
        (Flushed::Over(Ok(())), Ok(seq)) => {
            run.finish();
            return Ok(Operation::wait(issue, place, waits, seq));
        }
        (Flushed::Over(Err(error)), Ok(_)) | (Flushed::Over(_), Err(error)) => {
            return Ok(refused(issue, &error));
        }
        (Flushed::NotAll, Ok(seq)) => Ok(seq),
        (Flushed::NotAll, Err(error)) => Err(error),
    };
    // The host has no room: the worker sends it.
    let answer = match seq {
        Ok(seq) => {
            let pended = Operation::pend(issue, place, waits);
            pended.map(|(operation, answer)| {
                operation.command().start();
                let end = run.outbox.added();
                run.keep(Queued {
                    operation,
                    seq,
                    end,
                });
                answer
            })
        }
        Err(error) => Ok(refused(issue, &error)),
    };
    run.leave();
    queue.drain_later();
    answer
}

/// Ends a command as the host or the driver refused it.
pub(crate) fn refused(issue: Issue<'_>, error: &HostError) -> Answer {
    let errno = match ioctl::errno(error) {
        ERESTARTSYS => EINTR,
        errno => errno,
    };
    issue.complete(errno.to_errno(), error.status.bits().into())
}
