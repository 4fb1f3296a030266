// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operations by io_uring.
//!
//! The ring belongs to the thread that makes it: completions are made when that thread waits, so
//! nobody is interrupted for them.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use super::command::{Command, Outcome};
use super::driver::{next_id, Engine};
use super::lanes::{Entry, Lanes};
use super::raw::{Completion, EntryFlags, Ring, RingOperation, Setup, Target};
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::event_fd::EventFd;
use crate::handle::Node;
use crate::ioctl::{
    Bind, Cancel, Errno, FenceWait, FenceWaitMany, Residency, Submit, SyncExport, SyncImport,
    Unbind,
};
use crate::sys;

/// Numbers of the engine's own entries, which operations do not have.
const BELL: u64 = 0;
const PROBE: u64 = 1;

/// When a cancellation is tried again that has not found its operation, or found it being queued: a
/// thread of the kernel is about to make it pending.
const AGAIN: Duration = Duration::from_millis(1);

/// How far a submission is.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// Given to the kernel, which may want it again.
    Given(Entry),
    /// Queued with this number; its fence is waited for.
    Queued(u64),
}

pub(super) struct Uring {
    ring: Ring,
    /// Registered with the ring, which keeps the file but not what the library knows of it.
    _node: Arc<Node>,
    lanes: Lanes,
    submits: HashMap<u64, Stage>,
    /// What each cancellation that the kernel has is for.
    cancels: HashMap<u64, u64>,
    /// Operations that are to be cancelled and have not ended.
    doomed: HashSet<u64>,
    /// Those of them that the kernel has to be asked for again.
    again: Vec<u64>,
    /// Completions that were taken to make room.
    late: Vec<Completion>,
    ended: Vec<(u64, Outcome)>,
    /// The ring waits for the bell.
    listens: bool,
}

/// The kind of ring that suits one thread, on any kernel.
fn make(entries: u32) -> io::Result<Ring> {
    let plain = Setup {
        entries,
        ..Default::default()
    };
    let deferred = Setup {
        defer_taskrun: true,
        ..plain
    };
    match Ring::new(&deferred) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ring::new(&plain),
        made => made,
    }
}

impl Uring {
    /// Makes a ring for the calling thread, and sees whether the driver can be asked by it: where
    /// io_uring is filtered, or a security module is against it, that is known only then.
    pub(super) fn new(node: &Arc<Node>, entries: u32) -> Result<Self> {
        let failed = |error: io::Error| Error::from_io("io_uring", &error, "");
        let mut ring = make(entries).map_err(failed)?;
        ring.register_file(node.fd()).map_err(failed)?;
        match probe(&mut ring).map_err(failed)? {
            // There is no such command to cancel.
            result if result == -libc::ENOENT => {}
            result => {
                let errno = Errno(result.saturating_neg());
                return Err(Error::from_errno("CANCEL", errno, 0));
            }
        }
        Ok(Self {
            ring,
            _node: node.clone(),
            lanes: Lanes::default(),
            submits: HashMap::new(),
            cancels: HashMap::new(),
            doomed: HashSet::new(),
            again: Vec::new(),
            late: Vec::new(),
            ended: Vec::new(),
            listens: false,
        })
    }

    fn push<O: RingOperation>(&mut self, arg: &O::Arg, id: u64, flags: EntryFlags) {
        let mut pushed = self.make_room();
        if pushed.is_ok() {
            pushed = self.ring.push::<O>(Target::Fixed(0), arg, id, flags);
        }
        if let Err(error) = pushed {
            let errno = Errno(error.raw_os_error().unwrap_or(libc::EIO));
            self.ended.push((id, Outcome::failed(errno, 0)));
        }
    }

    fn give<O: RingOperation>(&mut self, arg: &O::Arg, id: u64) {
        self.push::<O>(arg, id, EntryFlags::empty());
    }

    /// Has the kernel take what is in the submission queue, if that is full. What it wants room for is
    /// looked at later: to submit more from here would change the order.
    fn make_room(&mut self) -> io::Result<()> {
        while self.ring.room() == 0 {
            match self.ring.submit() {
                Err(error) if is_passing(&error) => self.late.extend(self.ring.completions()),
                submitted => drop(submitted?),
            }
        }
        Ok(())
    }

    fn submit(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            let mut arg = entry.arg;
            let mut flags = EntryFlags::empty();
            if entry.slow {
                // Whether it is queued has to be known before its fence is reached.
                arg.flags &= !sys::SUBMIT_CQE_ON_DONE;
                flags = EntryFlags::ASYNC;
            }
            self.submits.insert(entry.id, Stage::Given(entry));
            self.push::<Submit>(&arg, entry.id, flags);
        }
    }

    fn take_completions(&mut self, bell: &EventFd) {
        let mut completions = std::mem::take(&mut self.late);
        completions.extend(self.ring.completions());
        for completion in completions {
            match completion.user_data {
                BELL => {
                    self.listens = false;
                    // What rings later is heard when it is listened for again.
                    let _ = bell.take();
                }
                id => match self.cancels.remove(&id) {
                    Some(target) => self.cancelled(target, completion.result),
                    None => self.complete(&completion),
                },
            }
        }
    }

    fn complete(&mut self, completion: &Completion) {
        let id = completion.user_data;
        let mut outcome = Outcome {
            result: completion.result,
            extra: completion.extra,
        };
        match self.submits.remove(&id) {
            None => {}
            Some(Stage::Given(entry)) if entry.slow => {
                let ready = self.lanes.queued(entry.arg.queue);
                let waits = entry.arg.flags & sys::SUBMIT_CQE_ON_DONE != 0;
                if waits && outcome.result >= 0 {
                    self.await_done(&entry, outcome.extra);
                    self.submit(ready);
                    return;
                }
                self.submit(ready);
            }
            Some(Stage::Given(entry)) => {
                if outcome.result == -libc::EAGAIN {
                    let ready = self.lanes.add(Entry {
                        slow: true,
                        ..entry
                    });
                    self.submit(ready);
                    return;
                }
            }
            Some(Stage::Queued(seq)) => {
                if outcome.result >= 0 {
                    outcome.extra = seq;
                }
            }
        }
        self.ended(id, outcome);
    }

    /// Gives the kernel a cancellation.
    fn give_cancel(&mut self, target: u64) {
        let arg = sys::Cancel {
            user_value: target,
            reserved: 0,
        };
        let id = next_id();
        self.cancels.insert(id, target);
        self.give::<Cancel>(&arg, id);
    }

    /// What became of a cancellation.
    fn cancelled(&mut self, target: u64, result: i32) {
        if result < 0 && self.doomed.contains(&target) {
            self.again.push(target);
        }
    }

    /// Asks once more for what could not be cancelled.
    fn cancel_again(&mut self) {
        for target in std::mem::take(&mut self.again) {
            if self.doomed.contains(&target) {
                self.give_cancel(target);
            }
        }
    }

    /// Says that an operation has ended.
    fn ended(&mut self, id: u64, outcome: Outcome) {
        self.doomed.remove(&id);
        self.ended.push((id, outcome));
    }

    fn await_done(&mut self, entry: &Entry, seq: u64) {
        let arg = sys::FenceWait {
            fence: entry.arg.done_fence,
            value: entry.arg.done_value,
            deadline_ns: Deadline::NEVER.as_ns(),
            ..Default::default()
        };
        self.submits.insert(entry.id, Stage::Queued(seq));
        self.give::<FenceWait>(&arg, entry.id);
    }

    fn listen(&mut self, bell: &EventFd) -> io::Result<()> {
        if !self.listens {
            self.make_room()?;
            self.ring.push_readable(bell.as_fd(), BELL)?;
            self.listens = true;
        }
        Ok(())
    }
}

/// What an entry for this file comes to.
fn probe(ring: &mut Ring) -> io::Result<i32> {
    let arg = sys::Cancel {
        user_value: next_id(),
        reserved: 0,
    };
    ring.push::<Cancel>(Target::Fixed(0), &arg, PROBE, EntryFlags::empty())?;
    loop {
        match ring.submit_and_wait(1, Deadline::NEVER) {
            Err(error) if !is_passing(&error) => return Err(error),
            _ => {}
        }
        if let Some(completion) = ring.completions().first() {
            return Ok(completion.result);
        }
    }
}

/// Whether it goes away by itself, or when completions are taken.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINTR | libc::EBUSY | libc::EAGAIN | libc::ETIME)
    )
}

impl Engine for Uring {
    fn start(&mut self, id: u64, command: Command) {
        match command {
            Command::Submit { arg, slow } => {
                let ready = self.lanes.add(Entry { id, arg, slow });
                self.submit(ready);
            }
            Command::FenceWait(arg) => self.give::<FenceWait>(&arg, id),
            Command::FenceWaitMany { arg, .. } => self.give::<FenceWaitMany>(&arg, id),
            Command::Residency { arg, .. } => self.give::<Residency>(&arg, id),
            Command::Bind { arg, .. } => self.give::<Bind>(&arg, id),
            Command::Unbind { arg, .. } => self.give::<Unbind>(&arg, id),
            Command::SyncExport(arg) => self.give::<SyncExport>(&arg, id),
            Command::SyncImport(arg) => self.give::<SyncImport>(&arg, id),
        }
    }

    fn cancel(&mut self, id: u64) {
        if self.lanes.remove(id) {
            self.ended.push((id, Outcome::CANCELLED));
            return;
        }
        self.doomed.insert(id);
        self.give_cancel(id);
    }

    fn wait(&mut self, bell: &EventFd, ended: &mut Vec<(u64, Outcome)>) -> io::Result<()> {
        self.listen(bell)?;
        let count = usize::from(self.ended.is_empty() && self.late.is_empty());
        let deadline = match self.again.is_empty() {
            true => Deadline::NEVER,
            false => Deadline::after(AGAIN),
        };
        match self.ring.submit_and_wait(count, deadline) {
            Err(error) if !is_passing(&error) => return Err(error),
            _ => {}
        }
        self.cancel_again();
        self.take_completions(bell);
        ended.append(&mut self.ended);
        Ok(())
    }
}
