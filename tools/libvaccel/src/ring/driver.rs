// SPDX-License-Identifier: MIT OR Apache-2.0
//! The thread of a ring: it gives operations to the kernel and ends them.
//!
//! The kernel cancels what a thread has asked for by io_uring when that thread exits, so operations
//! are given to it by a thread that stays: the ring's own. Others leave them in the inbox and wake it
//! if it sleeps. It ends when the last future of the ring and the ring are gone and nothing is
//! pending.

use std::collections::hash_map::{HashMap, RandomState};
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;

use super::command::{Command, Outcome};
use super::slot::Ending;
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::event_fd::EventFd;
use crate::ioctl::{eventfd, Errno};

/// An operation for the kernel.
pub(super) struct Job {
    pub(super) id: u64,
    pub(super) command: Command,
    pub(super) slot: Arc<dyn Ending>,
}

/// A way to ask the kernel.
pub(super) trait Engine {
    /// Takes an operation, of a number that is like no other.
    fn start(&mut self, id: u64, command: Command);

    /// Ends an operation soon, if it has not ended.
    fn cancel(&mut self, id: u64);

    /// Gives what was taken to the kernel, waits until something has ended or `bell` is signalled,
    /// and leaves what has ended in `ended`.
    fn wait(&mut self, bell: &EventFd, ended: &mut Vec<(u64, Outcome)>) -> io::Result<()>;
}

#[derive(Default)]
struct Inbox {
    /// Not to be sent yet.
    collected: Vec<Job>,
    sent: Vec<Job>,
    cancelled: Vec<u64>,
    /// The thread sleeps, or is about to, until the bell.
    asleep: bool,
    closing: bool,
}

impl Inbox {
    fn is_empty(&self) -> bool {
        self.sent.is_empty() && self.cancelled.is_empty()
    }
}

/// What the thread shares with the others.
struct Shared {
    inbox: Mutex<Inbox>,
    bell: EventFd,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the inbox, and wakes the thread if it sleeps over work.
    fn change(&self, change: impl FnOnce(&mut Inbox)) {
        let mut inbox = self.lock();
        change(&mut inbox);
        let wake = inbox.asleep && (inbox.closing || !inbox.is_empty());
        if wake {
            inbox.asleep = false;
        }
        drop(inbox);
        if wake {
            // Only a counter at its end refuses, and that wakes too.
            let _ = eventfd::signal(self.bell.as_fd());
        }
    }
}

/// The other threads' end.
pub(super) struct Driver {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// A number for an operation. The kernel cancels by it whatever has it in the open file, which other
/// rings and other processes may use too: so it is like no other in this process, and hardly in
/// another.
pub(super) fn next_id() -> u64 {
    const COUNTED: u32 = 40;
    static BASE: OnceLock<u64> = OnceLock::new();
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let base = *BASE.get_or_init(|| RandomState::new().build_hasher().finish() << COUNTED);
    let counted = NEXT.fetch_add(1, Ordering::Relaxed) & ((1 << COUNTED) - 1);
    // The engine's own entries have small numbers.
    base | 1 << 63 | counted
}

impl Driver {
    /// Starts the thread; `engine` is called there.
    pub(super) fn start<E: Engine>(
        engine: impl FnOnce() -> Result<E> + Send + 'static,
    ) -> Result<Self> {
        let shared = Arc::new(Shared {
            inbox: Mutex::default(),
            bell: EventFd::new()?,
        });
        let (sender, receiver) = std::sync::mpsc::channel();
        let inside = shared.clone();
        let body = move || match engine() {
            Ok(engine) => {
                let _ = sender.send(Ok(()));
                Loop::new(&inside, engine).run();
            }
            Err(error) => {
                let _ = sender.send(Err(error));
            }
        };
        let thread = std::thread::Builder::new()
            .name("vaccel-ring".to_owned())
            .spawn(body)
            .map_err(|error| Error::from_io("start a thread", &error, ""))?;
        receiver
            .recv()
            .unwrap_or_else(|_| Err(Error::from_errno("ring", Errno(libc::EIO), 0)))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Collects an operation.
    pub(super) fn collect(&self, job: Job) {
        self.shared.lock().collected.push(job);
    }

    /// Sends what was collected.
    pub(super) fn flush(&self) {
        self.shared.change(|inbox| {
            let mut collected = std::mem::take(&mut inbox.collected);
            inbox.sent.append(&mut collected);
        });
    }

    /// Has an operation end soon, or not begin.
    pub(super) fn cancel(&self, id: u64) {
        let mut unsent = None;
        self.shared.change(
            |inbox| match inbox.collected.iter().rposition(|job| job.id == id) {
                Some(place) => unsent = Some(inbox.collected.remove(place)),
                None => inbox.cancelled.push(id),
            },
        );
        // What it names goes without the lock.
        drop(unsent);
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.shared.change(|inbox| inbox.closing = true);
        let Some(thread) = self.thread.take() else {
            return;
        };
        // A waker that the thread calls may hold the last future.
        if thread.thread().id() != std::thread::current().id() {
            let _ = thread.join();
        }
    }
}

/// An operation that the engine has.
struct Running {
    slot: Arc<dyn Ending>,
    cancellable: bool,
}

/// What the thread does.
struct Loop<'a, E> {
    shared: &'a Shared,
    engine: E,
    pending: HashMap<u64, Running>,
    ended: Vec<(u64, Outcome)>,
    /// Why the kernel takes no more.
    broken: Option<Errno>,
}

impl<'a, E: Engine> Loop<'a, E> {
    fn new(shared: &'a Shared, engine: E) -> Self {
        Self {
            shared,
            engine,
            pending: HashMap::new(),
            ended: Vec::new(),
            broken: None,
        }
    }

    fn run(mut self) {
        loop {
            let Inbox {
                sent,
                cancelled,
                closing,
                ..
            } = self.next();
            for job in sent {
                self.begin(job);
            }
            for id in cancelled {
                self.cancel(id);
            }
            // Nobody is left to ring.
            if closing && self.pending.is_empty() {
                return;
            }
            self.wait();
        }
    }

    /// What there is to do. The bell says when there is more.
    fn next(&self) -> Inbox {
        let mut inbox = self.shared.lock();
        // Whatever comes from here on rings.
        inbox.asleep = true;
        Inbox {
            sent: std::mem::take(&mut inbox.sent),
            cancelled: std::mem::take(&mut inbox.cancelled),
            closing: inbox.closing,
            ..Inbox::default()
        }
    }

    fn begin(&mut self, job: Job) {
        if job.slot.is_abandoned() {
            return;
        }
        if let Some(errno) = self.broken {
            job.slot.end(Outcome::failed(errno, 0));
            return;
        }
        let running = Running {
            slot: job.slot,
            cancellable: job.command.is_cancellable(),
        };
        self.pending.insert(job.id, running);
        self.engine.start(job.id, job.command);
    }

    fn cancel(&mut self, id: u64) {
        if self.pending.get(&id).is_some_and(|job| job.cancellable) {
            self.engine.cancel(id);
        }
    }

    fn wait(&mut self) {
        if self.broken.is_some() {
            // Only to refuse what comes.
            let _ = self.shared.bell.wait(Deadline::NEVER);
            return;
        }
        let waited = self.engine.wait(&self.shared.bell, &mut self.ended);
        self.end();
        if let Err(error) = waited {
            self.give_up(&error);
        }
    }

    fn end(&mut self) {
        for (id, outcome) in self.ended.drain(..) {
            if let Some(job) = self.pending.remove(&id) {
                job.slot.end(outcome);
            }
        }
    }

    /// Ends everything: the kernel no longer takes or gives anything.
    fn give_up(&mut self, error: &io::Error) {
        let errno = Errno(error.raw_os_error().unwrap_or(libc::EIO));
        self.broken = Some(errno);
        for (_, job) in self.pending.drain() {
            job.slot.end(Outcome::failed(errno, 0));
        }
    }
}

#[cfg(test)]
mod tests;
