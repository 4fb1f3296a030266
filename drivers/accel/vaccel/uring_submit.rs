// SPDX-License-Identifier: GPL-2.0-only

//! Submissions by io_uring: in the order of their entries, without anybody waiting, many at once.
//!
//! Where the host takes asynchronous messages, and only what those are for is asked for, queueing needs
//! no waiting. It is done at once then: the submission gets its number and completes, and its messages
//! are held until the task has issued its entries. They go to the host together, with one notification.
//!
//! Everything else lines up in its queue, and so does what comes behind it, and what completes when its
//! work is done. The task queues what it can of that when it has issued its entries. The rest is left to
//! a worker, which waits for the host as an ioctl does.
//!
//! The worker belongs to nobody, so nobody would pay for memory that it makes resident: a list that
//! needs that is refused. Entries with IOSQE_ASYNC are issued by a thread of the task itself, and do
//! what the ioctl does.
//!
//! # Locks
//!
//! Whoever takes submissions out, or holds messages back, has the queue's turn; `Queue::fifo` is held
//! for list operations only.
//!
//! A submission that was queued promises what it signals, so that dma_fences may depend on messages that
//! are held. Hence nobody waits for memory while it has the turn and such messages are not sent, unless it
//! queues a line; and if a task sleeps in the middle of its batch a worker with a rescuer sends them.
//!
//! # Lifetime
//!
//! A submission in line keeps its file open by itself, not by way of its command: when io_uring ends
//! that early nobody waits for the worker. Messages of submissions that have completed keep it open
//! likewise, as they name what goes with it. What is held stays inside of the gate of the vm. Whoever has
//! the turn next sends it first or with its own, so it is held no longer than until then or until the end
//! of the batch.

use core::mem;

use kernel::alloc::AllocError;
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
use crate::link::{
    reply_timeout_ms,
    RING_TIMEOUT_US, //
};
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

/// Bytes of messages for which a queue keeps memory, at most.
const KEPT_MAX: usize = 2 * HELD_MAX;

/// How often it is tried to send messages while the host reads none, before the vm is given up: for as
/// long as the host has for an answer.
fn tries_max() -> u32 {
    // CAST: it is a few seconds.
    reply_timeout_ms().div_ceil((RING_TIMEOUT_US / 1000) as u32)
}

/// Fences that messages of a batch may name before more memory is taken.
const FENCES: usize = 128;

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

/// Messages that have yet to be sent.
struct Rest {
    held: Option<KBox<Held>>,
    stay: Stay,
    why: Why,
    /// How often the host had read nothing when somebody waited for room.
    tries: u32,
}

/// Whose the messages of an outbox are.
#[derive(Default)]
pub(crate) struct Senders {
    /// Those that complete when their messages are sent.
    queued: Option<KVec<Queued>>,
    /// How many of the messages are of submissions that have completed.
    promised: usize,
    /// Where those came from.
    file: Option<OpenFile<Client>>,
}

/// Why messages were not sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    /// The batch goes on.
    Batch,
    /// The ring had no room.
    NoRoom,
}

/// The line.
pub(crate) struct Fifo {
    /// What was queued and is not sent yet, ahead of all others.
    rest: Option<Rest>,
    /// One that was looked at already, ahead of all but those.
    first: Option<(Entry, Job)>,
    all: RBTree<u64, Entry>,
    count: usize,
    next: u64,
    /// Memory for the next outbox.
    spare: Option<KBox<Held>>,
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
            spare: None,
        }
    }

    /// Whether what was queued so far was sent, or can be with what comes.
    fn has_room(&self) -> bool {
        !matches!(&self.rest, Some(rest) if rest.why == Why::NoRoom)
    }

    /// Whether nobody is in line.
    fn is_empty(&self) -> bool {
        self.first.is_none() && self.count == 0
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
        let Some(mut run) = Run::try_begin(self, |_| true) else {
            return self.drain_later();
        };
        let is_done = run.all();
        run.flush();
        let is_left = run.end(Why::NoRoom);
        if is_left || !is_done {
            self.drain_later();
        }
    }

    /// Queues what is in line, and sends what is held, at the end of the batch; now if there is none.
    fn drain_at_end(self: &Arc<Self>) {
        let is_it = |plugged: &Plugged| Arc::ptr_eq(&plugged.queue, self);
        if !plug::at_end(is_it, || Plugged::new(self)) {
            self.drain_now();
        }
    }

    /// Queues what is in line.
    fn drain(self: &Arc<Self>) {
        // Nobody interrupts a worker, but there may be no room.
        let (Ok(turn), Ok(inside)) = (self.begin(), self.vm.gate.enter()) else {
            return self.drain_later();
        };
        let mut run = Run::new(turn, inside);
        let is_done = run.all();
        run.flush();
        let is_left = run.end(Why::NoRoom);
        if self.vm.device.tell_abandoned() || is_left || !is_done {
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
        let Some(mut spare) = outbox.into_rest() else {
            return;
        };
        spare.clear();
        // More than one turn usually needs is given back.
        if spare.capacity() <= KEPT_MAX {
            let replaced = self.queue().fifo.lock().spare.replace(spare);
            drop(replaced);
        }
    }

    /// Sends what was held back before, waiting a bounded time for room.
    ///
    /// # Errors
    ///
    /// `EAGAIN` if the ring stayed full: what was held back is ahead of everything else still.
    pub(crate) fn send_rest(&self) -> Result {
        let queue = self.queue();
        let rest = queue.fifo.lock().rest.take();
        let Some(rest) = rest else {
            return Ok(());
        };
        let inside = queue.vm.gate.resume(rest.stay);
        let mut outbox = Outbox::new(&queue.vm.device.process, rest.held);
        let before = outbox.sent();
        let flushed = outbox.flush();
        let tries = match outbox.sent() == before {
            true => rest.tries + 1,
            false => 0,
        };
        if flushed.is_err_and(|error| error.errno == EAGAIN) && tries < tries_max() {
            // Some of it was, maybe.
            tell_sent(&mut outbox);
            queue.fifo.lock().rest = Some(Rest {
                held: outbox.into_rest(),
                stay: inside.stay(),
                why: Why::NoRoom,
                tries,
            });
            return Err(EAGAIN);
        }
        settle(queue, &mut outbox, flushed);
        Ok(())
    }
}

/// Ends what was queued, `flushed` being what became of its messages.
fn settle(queue: &Queue, outbox: &mut Outbox<'_>, flushed: HostResult) {
    let sent = outbox.sent();
    if let Some(senders) = outbox.senders() {
        mem::take(senders).settle(queue, sent, flushed);
    }
}

/// Ends those of which all messages were sent.
fn tell_sent(outbox: &mut Outbox<'_>) {
    let sent = outbox.sent();
    if let Some(Senders {
        queued: Some(all), ..
    }) = outbox.senders()
    {
        all.retain(|queued| {
            let waits = queued.end > sent;
            if !waits {
                queued.sent();
            }
            waits
        });
    }
}

impl Senders {
    /// Takes room for one more that completes when its messages are sent.
    fn reserve(&mut self) -> Result<(), AllocError> {
        let queued = self.queued.get_or_insert_default();
        queued.reserve(1, GFP_KERNEL)
    }

    /// Ends what was queued. `sent` messages were, and `flushed` became of the others. If some are lost,
    /// what they promised is: the vm is given up, unless the host is gone, and the vm with it.
    fn settle(self, queue: &Queue, sent: usize, flushed: HostResult) {
        let mut ends = self.queued.iter().flatten().map(|queued| queued.end);
        let is_lost = self.promised > sent || ends.any(|end| end > sent);
        if flushed.is_err_and(|error| error.errno != ENODEV) && is_lost {
            queue.vm.device.abandon();
        }
        for queued in self.queued.into_iter().flatten() {
            match flushed {
                Err(error) if queued.end > sent => refuse(&queued.operation, &error),
                _ => queued.sent(),
            }
        }
    }
}

fn refuse(operation: &Operation, error: &HostError) {
    operation.refuse(ioctl::errno(error), error.status);
}

impl Queued {
    /// The host has it.
    fn sent(&self) {
        self.operation.note(self.seq);
        // If io_uring has ended it, this does nothing.
        self.operation.watch();
    }
}

/// The queueing of one or several submissions.
struct Run<'a> {
    outbox: Outbox<'a>,
    may_sleep: bool,
    inside: Inside<'a>,
    turn: Submitting<'a>,
}

impl<'a> Run<'a> {
    /// One that may sleep.
    fn new(turn: Submitting<'a>, inside: Inside<'a>) -> Self {
        Self {
            outbox: turn.outbox(),
            may_sleep: true,
            inside,
            turn,
        }
    }

    /// One that may not sleep, if nobody else has the turn and `allowed` says so. It goes on with what
    /// the batch so far has left.
    fn try_begin(queue: &'a Queue, allowed: impl FnOnce(&Fifo) -> bool) -> Option<Self> {
        let turn = queue.try_begin()?;
        let (rest, spare) = {
            let mut fifo = queue.fifo.lock();
            if !fifo.has_room() || !allowed(&fifo) {
                return None;
            }
            let spare = match &fifo.rest {
                Some(_) => None,
                None => fifo.spare.take(),
            };
            (fifo.rest.take(), spare)
        };
        let (held, inside) = match rest {
            Some(rest) => (rest.held, queue.vm.gate.resume(rest.stay)),
            None => (spare, queue.vm.gate.try_enter()?),
        };
        let outbox = Outbox::new(&queue.vm.device.process, held);
        if outbox.is_poor() {
            // It would send each message by itself, waiting for room.
            return None;
        }
        Some(Self {
            outbox,
            may_sleep: false,
            inside,
            turn,
        })
    }

    /// Makes room for the messages of a submission, and for more in a batch. What is held is sent before
    /// memory is waited for.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `EAGAIN` if the ring has no room.
    fn make_room(&mut self, job: &Job, is_batch: bool) -> Result {
        let mut size = job.size();
        if self.outbox.has_memory(size) {
            return Ok(());
        }
        if !self.outbox.is_empty() && !self.flush().is_over() {
            return Err(EAGAIN);
        }
        if is_batch {
            // So that this is done once for most of them.
            size.bytes = size.bytes.max(HELD_MAX);
            size.fences = size.fences.max(FENCES);
        }
        self.outbox.reserve(size)
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
        let ready = match self.outbox.senders() {
            Some(senders) => senders.reserve().map_err(Error::from),
            None => Ok(()),
        };
        // What was looked at before the gate was entered may need memory by now.
        let needs_memory = self.turn.queue().vm.needs_revival();
        if let Err(error) = ready.and(if needs_memory { Err(EAGAIN) } else { Ok(()) }) {
            entry.operation.refuse(error, NtStatus::SUCCESS);
            return None;
        }
        let (entry, job) = match next {
            Next::Checked(entry, job) => (entry, job),
            Next::Fresh(entry) => {
                let queue = self.turn.queue();
                match Job::new(&entry.args, &entry.file, queue, false) {
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
        let outcome = match entry.file.device().enter() {
            Some(dev) => self.queue(&dev, &entry.file, job),
            None => Err(ENODEV.into()),
        };
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

    fn queue(&mut self, dev: &DrmDevice, file: &DrmFile, job: Job) -> HostResult<u64> {
        let may_ask = self.may_sleep;
        job.run(&mut self.turn, dev, file, &mut self.outbox, may_ask)
    }

    /// Keeps the messages so far although who they are of completes. They were added by `file`.
    fn promise(&mut self, file: &DrmFile) {
        let added = self.outbox.added();
        if let Some(senders) = self.outbox.senders() {
            senders.promised = added;
            if senders.file.is_none() {
                senders.file = Some(file.keep());
            }
        }
    }

    /// Keeps it until its messages are sent. Room was taken.
    fn keep(&mut self, queued: Queued) {
        if queued.end == self.outbox.sent() {
            queued.sent();
        } else if let Some(Senders {
            queued: Some(all), ..
        }) = self.outbox.senders()
        {
            // There is room.
            let _ = all.push(queued, GFP_KERNEL);
        }
    }

    /// Sends what is held.
    fn flush(&mut self) -> Flushed {
        let flushed = if self.may_sleep {
            self.outbox.flush()
        } else {
            self.outbox.flush_now()
        };
        if flushed.is_err_and(|error| error.errno == EAGAIN) {
            tell_sent(&mut self.outbox);
            return Flushed::NotAll;
        }
        settle(self.turn.queue(), &mut self.outbox, flushed);
        self.outbox.clear();
        Flushed::Over(flushed)
    }

    /// Ends the turn. What was not sent is left to the next one; whether there is something.
    fn end(self, why: Why) -> bool {
        if self.outbox.is_empty() {
            self.turn.keep(self.outbox);
            return false;
        }
        let rest = Rest {
            held: self.outbox.into_rest(),
            stay: self.inside.stay(),
            why,
            tries: 0,
        };
        self.turn.queue().fifo.lock().rest = Some(rest);
        true
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
            // Messages are held, and nobody knows of it yet.
            GFP_NOWAIT,
        )
    }
}

impl Unplug for Plugged {
    fn unplug(this: Arc<Self>, in_schedule: bool) {
        if in_schedule {
            // The module keeps the workers, so that this is not the last reference to them.
            let background = &this.queue.vm.device.process.adapter.background;
            let workers = background.workers.clone();
            // It is queued nowhere.
            let _ = workers.enqueue(this);
        } else {
            this.queue.drain_now();
        }
    }
}

impl WorkItem for Plugged {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        // Sends what is held, without waiting for memory or for a turn: whoever has it now got it after
        // that was left, and sends it.
        if let Some(turn) = this.queue.try_begin() {
            // If there is no room it is left to the worker.
            let _ = turn.send_rest();
        }
        this.queue.drain_later();
    }
}

impl WorkItem for Queue {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.drain();
    }
}

/// What a submission waits for, beyond being queued, and a place for that.
fn done(args: &uapi::drm_vaccel_submit, client: &Client) -> Result<Option<(Place, Waits)>> {
    if args.flags & uapi::VACCEL_SUBMIT_CQE_ON_DONE == 0 {
        return Ok(None);
    }
    let fence = client.fence(args.done_fence)?.fence;
    let waits = Waits::for_value(fence, args.done_value)?;
    Ok(Some((client.operations.reserve(&waits)?, waits)))
}

/// Completes a command whose submission is queued, or has it complete when its work is done.
fn queued(issue: Issue<'_>, done: Option<(Place, Waits)>, seq: u64) -> Answer {
    match done {
        Some((place, waits)) => Operation::wait(issue, place, waits, seq),
        None => issue.complete(0, seq),
    }
}

/// `VACCEL_URING_CMD_SUBMIT`.
///
/// # Errors
///
/// Those of the operation; nothing was done then.
pub(crate) fn issue(dev: &DrmDevice, file: &DrmFile, issue: Issue<'_>) -> Result<Answer> {
    let mut args = uapi::drm_vaccel_submit::default();
    issue.read_to(&mut args)?;
    submit::check(&args)?;
    let client = file.inner();
    let queue = client.queue(args.queue)?;
    // Ahead of everything: what was queued must not be told to have failed.
    let done = done(&args, &client)?;
    if issue.may_sleep() {
        return Ok(match submit::submit_and_wait(dev, &args, file) {
            Ok(seq) => queued(issue, done, seq),
            Err(error) => refused(issue, &error),
        });
    }
    let asynchronous = queue.vm.device.process.adapter.transport.asynchronous;
    // A batch that is not sent yet has nobody wait for it.
    if asynchronous && (done.is_none() || !plug::is_open()) {
        match at_once(&queue, &args, dev, file) {
            AtOnce::Queued(seq) => return Ok(queued(issue, done, seq)),
            AtOnce::Refused(error) => return Ok(refused(issue, &error)),
            AtOnce::Not => {}
        }
    }
    if asynchronous && queue.fifo.lock().count >= FIFO_MAX / 2 {
        queue.drain_now();
    }
    let (place, waits) = match done {
        Some(done) => done,
        None => {
            let waits = Waits::for_nothing();
            (client.operations.reserve(&waits)?, waits)
        }
    };
    let (operation, answer) = Operation::pend(issue, place, waits)?;
    let entry = Entry {
        args,
        file: file.keep(),
        operation: operation.clone(),
    };
    match queue.line_up(entry) {
        Err(error) => operation.refuse(error, NtStatus::SUCCESS),
        Ok(()) if !asynchronous => queue.drain_later(),
        Ok(()) => queue.drain_at_end(),
    }
    Ok(answer)
}

/// What became of a submission that was to be queued at once.
enum AtOnce {
    /// It is, and has this number.
    Queued(u64),
    /// It failed.
    Refused(HostError),
    /// That would mean to wait, or to overtake another; or something is wrong with it.
    Not,
}

/// Queues a submission, if nobody is in line and that needs no waiting. Its messages are held until the
/// end of the batch, if it is part of one.
fn at_once(
    queue: &Arc<Queue>,
    args: &uapi::drm_vaccel_submit,
    dev: &DrmDevice,
    file: &DrmFile,
) -> AtOnce {
    if !queue.fifo.lock().is_empty() {
        return AtOnce::Not;
    }
    // Ahead of the turn: this may wait for memory. What is wrong with it is found again, since what it
    // waits for may be in line still.
    let Ok(job) = Job::new(args, file, queue, false) else {
        return AtOnce::Not;
    };
    let Some(mut run) = Run::try_begin(queue, Fifo::is_empty) else {
        return AtOnce::Not;
    };
    let is_batch = plug::is_open();
    let is_ready =
        run.is_quick(&job) && !queue.vm.needs_revival() && run.make_room(&job, is_batch).is_ok();
    if !is_ready {
        // What was held may be somebody else's, who relies on whoever has the turn.
        run.flush();
        if run.end(Why::NoRoom) {
            queue.drain_later();
        }
        return AtOnce::Not;
    }
    let mut outcome = run.queue(dev, file, job);
    let why = if is_batch && !run.outbox.is_full() {
        Why::Batch
    } else {
        if let Flushed::Over(flushed) = run.flush() {
            outcome = outcome.and_then(|seq| flushed.map(|()| seq));
        }
        Why::NoRoom
    };
    if !run.outbox.is_empty() {
        // Also those of a submission that failed halfway.
        run.promise(file);
    }
    match (run.end(why), why) {
        (false, _) => {}
        (true, Why::Batch) => queue.drain_at_end(),
        (true, Why::NoRoom) => queue.drain_later(),
    }
    match outcome {
        Ok(seq) => AtOnce::Queued(seq),
        Err(error) => AtOnce::Refused(error),
    }
}

/// Ends a command as the host or the driver refused it.
pub(crate) fn refused(issue: Issue<'_>, error: &HostError) -> Answer {
    let errno = match ioctl::errno(error) {
        ERESTARTSYS => EINTR,
        errno => errno,
    };
    issue.complete(errno.to_errno(), error.status.bits().into())
}
