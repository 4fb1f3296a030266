// SPDX-License-Identifier: MIT OR Apache-2.0
//! Many waits by one thread and one descriptor, by ioctls.
//!
//! Each fence that is waited for has its smallest value signal one eventfd (FENCE_EVENTFD), the same
//! for all. When that is heard, one FENCE_WAIT that does not wait tells of each such fence how far it
//! is, and of whatever is waited for at it. So a wait costs no thread and no descriptor, and to look
//! costs a call for each fence, not for each wait. An eventfd that was asked for cannot be taken back:
//! a wait that ends early may make the thread look once more.
//!
//! A value that is reached and taken back (rewound) before the thread has looked is not seen.

use std::collections::{BTreeSet, HashMap};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use super::command::Outcome;
use crate::deadline::Deadline;
use crate::error::Result;
use crate::event_fd::EventFd;
use crate::fence;
use crate::handle::Node;
use crate::ioctl::{self, syncobj, Errno, FenceEventfd, FenceWait, FenceWaitMany};
use crate::sys::{self, clock};

/// What is waited for.
#[derive(Clone, Debug)]
pub(super) enum What {
    Fence {
        fence: u32,
        value: u64,
    },
    Many {
        arg: sys::FenceWaitMany,
        list: Vec<sys::WaitEntry>,
    },
    /// That a fence has a value, and then that the syncobj has a dma_fence for it.
    Export {
        fence: u32,
        value: u64,
        syncobj: u32,
        point: u64,
    },
    Point {
        syncobj: u32,
        point: u64,
    },
}

impl What {
    pub(super) const fn fence(fence: u32, value: u64) -> Self {
        Self::Fence { fence, value }
    }

    /// The fence and value that are waited for, if it is one.
    const fn place(&self) -> Option<(u32, u64)> {
        match self {
            Self::Fence { fence, value } | Self::Export { fence, value, .. } => {
                Some((*fence, *value))
            }
            Self::Many { .. } | Self::Point { .. } => None,
        }
    }
}

/// What a wait that succeeds says.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answer {
    /// What it has seen: a value, or the place in a list.
    Seen,
    Fixed(u64),
}

/// A wait.
#[derive(Clone, Debug)]
pub(super) struct Wait {
    what: What,
    answer: Answer,
    deadline_ns: u64,
}

impl Wait {
    pub(super) const fn without_deadline(what: What, answer: Answer) -> Self {
        Self {
            what,
            answer,
            deadline_ns: Deadline::NEVER.as_ns(),
        }
    }

    pub(super) const fn on_fence(arg: &sys::FenceWait) -> Self {
        Self {
            what: What::fence(arg.fence, arg.value),
            answer: Answer::Seen,
            deadline_ns: arg.deadline_ns,
        }
    }

    pub(super) const fn on_many(arg: sys::FenceWaitMany, list: Vec<sys::WaitEntry>) -> Self {
        Self {
            what: What::Many { arg, list },
            answer: Answer::Seen,
            deadline_ns: arg.deadline_ns,
        }
    }
}

/// What a look has found: nothing yet, or what is seen and the error recorded, or a failure.
enum Look {
    NotYet,
    Seen { value: u64, recorded: i32 },
    Failed(Outcome),
}

impl Look {
    fn outcome(&self, answer: Answer) -> Option<Outcome> {
        match (self, answer) {
            (Self::NotYet, _) => None,
            (Self::Failed(outcome), _) => Some(*outcome),
            (Self::Seen { value, recorded }, answer) => Some(Outcome {
                // The constant is 1.
                result: match fence::recorded(*recorded) {
                    Some(_) => sys::URING_RECORDED as i32,
                    None => 0,
                },
                extra: match answer {
                    Answer::Seen => *value,
                    Answer::Fixed(extra) => extra,
                },
            }),
        }
    }

    const fn failed(errno: Errno, host_status: u32) -> Self {
        match errno {
            Errno(libc::ETIME | libc::EINTR) => Self::NotYet,
            errno => Self::Failed(Outcome::failed(errno, host_status as u64)),
        }
    }
}

/// The waits for values of one fence.
#[derive(Default)]
struct Watched {
    /// By value and number.
    waits: BTreeSet<(u64, u64)>,
    /// The smallest value that is to signal the eventfd.
    armed: Option<u64>,
}

pub(super) struct Waits {
    node: Arc<Node>,
    event: EventFd,
    waits: HashMap<u64, Wait>,
    fences: HashMap<u32, Watched>,
    /// Those for anything else than one fence.
    others: BTreeSet<u64>,
    /// By deadline and number.
    deadlines: BTreeSet<(u64, u64)>,
}

impl Waits {
    pub(super) fn new(node: &Arc<Node>) -> Result<Self> {
        Ok(Self {
            node: node.clone(),
            event: EventFd::new()?,
            waits: HashMap::new(),
            fences: HashMap::new(),
            others: BTreeSet::new(),
            deadlines: BTreeSet::new(),
        })
    }

    /// Readable when there is something to look at.
    pub(super) const fn event(&self) -> &EventFd {
        &self.event
    }

    /// When there is something to expire; now if there is something to say already.
    pub(super) fn deadline(&self, now: bool) -> Deadline {
        match self.deadlines.first() {
            _ if now => Deadline::NOW,
            Some((deadline_ns, _)) => Deadline::at_ns(*deadline_ns),
            None => Deadline::NEVER,
        }
    }

    /// Begins a wait, unless it has ended already.
    pub(super) fn add(&mut self, id: u64, wait: Wait) -> Option<Outcome> {
        if let Some(outcome) = self.see(&wait.what).outcome(wait.answer) {
            return self.go_on(id, wait, outcome);
        }
        if Deadline::at_ns(wait.deadline_ns) == Deadline::NOW {
            return Some(Outcome::failed(Errno(libc::ETIME), 0));
        }
        if let Err(outcome) = self.arm(&wait.what) {
            return Some(outcome);
        }
        match wait.what.place() {
            Some((fence, value)) => {
                let watched = self.fences.entry(fence).or_default();
                watched.waits.insert((value, id));
            }
            None => {
                self.others.insert(id);
            }
        }
        if wait.deadline_ns < sys::TIME_FOREVER {
            self.deadlines.insert((wait.deadline_ns, id));
        }
        self.waits.insert(id, wait);
        None
    }

    /// Forgets a wait; true if there was one.
    pub(super) fn remove(&mut self, id: u64) -> bool {
        self.take(id).is_some()
    }

    fn take(&mut self, id: u64) -> Option<Wait> {
        let wait = self.waits.remove(&id)?;
        self.deadlines.remove(&(wait.deadline_ns, id));
        match wait.what.place() {
            Some((fence, value)) => {
                if let Some(watched) = self.fences.get_mut(&fence) {
                    watched.waits.remove(&(value, id));
                    // What was armed for it may have been the handle's former fence.
                    if watched.waits.is_empty() {
                        self.fences.remove(&fence);
                    }
                }
            }
            None => {
                self.others.remove(&id);
            }
        }
        Some(wait)
    }

    /// Ends what has been reached.
    pub(super) fn look(&mut self, ended: &mut Vec<(u64, Outcome)>) {
        // What is signalled from here on is heard again.
        let _ = self.event.take();
        let fences: Vec<u32> = self.fences.keys().copied().collect();
        for fence in fences {
            self.look_at_fence(fence, ended);
        }
        let others: Vec<u64> = self.others.iter().copied().collect();
        for id in others {
            let seen = self.waits.get(&id).map(|wait| self.see(&wait.what));
            if let Some(look) = seen {
                self.finish(id, &look, ended);
            }
        }
    }

    fn look_at_fence(&mut self, fence: u32, ended: &mut Vec<(u64, Outcome)>) {
        let first = |waits: &Self| waits.fences.get(&fence)?.waits.first().copied();
        let Some((value, _)) = first(self) else {
            return;
        };
        let look = self.see_fence(fence, value);
        let reached = match &look {
            Look::NotYet => return,
            Look::Seen { value: seen, .. } => value.max(*seen),
            Look::Failed(_) => u64::MAX,
        };
        if let Some(watched) = self.fences.get_mut(&fence) {
            watched.armed = None;
        }
        while let Some((_, id)) = first(self).filter(|(value, _)| *value <= reached) {
            self.finish(id, &look, ended);
        }
        if let Some((value, _)) = first(self) {
            if let Err(outcome) = self.arm_fence(fence, value) {
                self.fail_fence(fence, outcome, ended);
            }
        }
    }

    fn fail_fence(&mut self, fence: u32, outcome: Outcome, ended: &mut Vec<(u64, Outcome)>) {
        let Some(watched) = self.fences.get(&fence) else {
            return;
        };
        let ids: Vec<u64> = watched.waits.iter().map(|(_, id)| *id).collect();
        for id in ids {
            self.finish(id, &Look::Failed(outcome), ended);
        }
    }

    /// Ends what has its deadline behind it.
    pub(super) fn expire(&mut self, ended: &mut Vec<(u64, Outcome)>) {
        let now = clock::monotonic_ns();
        while let Some((_, id)) = self.deadlines.first().filter(|first| first.0 <= now) {
            let id = *id;
            let seen = self.waits.get(&id).map(|wait| self.see(&wait.what));
            match seen {
                Some(Look::NotYet) | None => {
                    self.take(id);
                    ended.push((id, Outcome::failed(Errno(libc::ETIME), 0)));
                }
                Some(look) => self.finish(id, &look, ended),
            }
        }
    }

    /// Ends a wait by what was seen, if that ends it.
    fn finish(&mut self, id: u64, look: &Look, ended: &mut Vec<(u64, Outcome)>) {
        let answer = self.waits.get(&id).map(|wait| wait.answer);
        let Some(outcome) = answer.and_then(|answer| look.outcome(answer)) else {
            return;
        };
        if let Some(wait) = self.take(id) {
            let outcome = self.go_on(id, wait, outcome);
            ended.extend(outcome.map(|outcome| (id, outcome)));
        }
    }

    /// Begins what comes after a wait that has ended; the outcome if nothing does.
    fn go_on(&mut self, id: u64, wait: Wait, outcome: Outcome) -> Option<Outcome> {
        match wait.what {
            What::Export { syncobj, point, .. } if outcome.result >= 0 => {
                let point = What::Point { syncobj, point };
                self.add(id, Wait::without_deadline(point, wait.answer))
            }
            _ => Some(outcome),
        }
    }

    fn see(&self, what: &What) -> Look {
        match what {
            What::Fence { fence, value } | What::Export { fence, value, .. } => {
                self.see_fence(*fence, *value)
            }
            What::Many { arg, .. } => self.see_many(*arg),
            What::Point { syncobj, point } => self.see_point(*syncobj, *point),
        }
    }

    fn see_fence(&self, fence: u32, value: u64) -> Look {
        let mut arg = sys::FenceWait {
            fence,
            value,
            deadline_ns: Deadline::NOW.as_ns(),
            ..Default::default()
        };
        match ioctl::call::<FenceWait>(self.node.fd(), &mut arg) {
            Ok(()) => Look::Seen {
                value: arg.observed_value,
                recorded: arg.error,
            },
            Err(errno) => Look::failed(errno, arg.host_status),
        }
    }

    fn see_many(&self, mut arg: sys::FenceWaitMany) -> Look {
        arg.deadline_ns = Deadline::NOW.as_ns();
        match ioctl::call::<FenceWaitMany>(self.node.fd(), &mut arg) {
            Ok(()) => Look::Seen {
                value: arg.index.into(),
                recorded: arg.error,
            },
            Err(errno) => Look::failed(errno, arg.host_status),
        }
    }

    fn see_point(&self, handle: u32, point: u64) -> Look {
        let flags = syncobj::WAIT_AVAILABLE | syncobj::WAIT_FOR_SUBMIT;
        match syncobj::timeline_wait(self.node.fd(), &[(handle, point)], 0, flags) {
            Ok(_) => Look::Seen {
                value: point,
                recorded: 0,
            },
            Err(errno) => Look::failed(errno, 0),
        }
    }

    /// Has the eventfd signalled when there is something to see.
    fn arm(&mut self, what: &What) -> std::result::Result<(), Outcome> {
        match what {
            What::Fence { fence, value } | What::Export { fence, value, .. } => {
                self.arm_fence(*fence, *value)
            }
            What::Many { arg, list } => self.arm_many(arg.flags, list),
            What::Point { syncobj, point } => {
                let (fd, event) = (self.node.fd(), self.event.as_fd());
                syncobj::eventfd(fd, *syncobj, *point, event, syncobj::WAIT_AVAILABLE)
                    .map_err(|errno| Outcome::failed(errno, 0))
            }
        }
    }

    fn arm_fence(&mut self, fence: u32, value: u64) -> std::result::Result<(), Outcome> {
        let armed = self.fences.get(&fence).and_then(|watched| watched.armed);
        if armed.is_some_and(|armed| armed <= value) {
            return Ok(());
        }
        self.ask(fence, value)?;
        self.fences.entry(fence).or_default().armed = Some(value);
        Ok(())
    }

    /// Any that fails while others may be reached is no failure of a wait for any.
    fn arm_many(&self, flags: u32, list: &[sys::WaitEntry]) -> std::result::Result<(), Outcome> {
        let any = flags & sys::WAIT_ANY != 0;
        let mut failure = Err(Outcome::failed(Errno(libc::EIO), 0));
        for entry in list {
            match self.ask(entry.fence, entry.value) {
                Ok(()) => failure = Ok(()),
                Err(outcome) if !any => return Err(outcome),
                Err(outcome) if failure.is_err() => failure = Err(outcome),
                Err(_) => {}
            }
        }
        failure
    }

    fn ask(&self, fence: u32, value: u64) -> std::result::Result<(), Outcome> {
        let mut arg = sys::FenceEventfd {
            fence,
            fd: self.event.as_fd().as_raw_fd(),
            value,
            ..Default::default()
        };
        let called = self.node.call::<FenceEventfd>(&mut arg);
        called.map_err(|error| {
            let errno = error.errno().unwrap_or(Errno(libc::EIO));
            Outcome::failed(errno, arg.host_status.into())
        })
    }
}
