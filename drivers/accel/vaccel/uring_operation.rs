// SPDX-License-Identifier: GPL-2.0-only

//! Operations that came by io_uring and are pending: until fences reach values, or until somebody says
//! how they ended.
//!
//! # Locks
//!
//! 1. `Operation::parts`, 2. `Operations::all`.
//!
//! Both are held for list operations only. A watch tells an operation with the fence's watches locked, in
//! any context: no lock is taken there.
//!
//! # Lifetime
//!
//! What waits refers to the operation, and the operation to what waits; the table of its file refers to
//! it too. All of that is undone when the completion is posted, and that is sure to come: io_uring ends
//! what is pending before the task or the ring goes, and until then the command keeps the file open.

use core::sync::atomic::{
    AtomicBool,
    AtomicU64,
    AtomicUsize,
    Ordering, //
};

use kernel::prelude::*;
use kernel::rbtree::{
    RBTree,
    RBTreeNodeReservation, //
};
use kernel::sync::{
    new_mutex,
    Arc,
    Mutex, //
};

use crate::alarm::{
    Alarm,
    Ring, //
};
use crate::bindings::uapi;
use crate::client::Client;
use crate::fence::Fence;
use crate::fence_wait::{
    Wanted,
    WantedList, //
};
use crate::gpupv::NtStatus;
use crate::uring::{
    Answer,
    Command,
    Issue,
    Pending, //
};
use crate::watch::{
    Finish,
    Key, //
};

/// Most places of the pending operations of a file.
const OPERATIONS_MAX: usize = 1 << 14;

/// The user's number, and one that tells operations of the same number apart.
type Name = (u64, u64);

struct Table {
    all: RBTree<Name, Arc<Operation>>,
    count: usize,
    next: u64,
}

/// The pending operations of a file.
#[pin_data]
pub(crate) struct Operations {
    #[pin]
    all: Mutex<Table>,
}

impl Operations {
    /// None.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            all <- new_mutex!(
                Table {
                    all: RBTree::new(),
                    count: 0,
                    next: 0,
                },
                "Operations::all"
            ),
        })
    }

    /// Takes places: one for each fence that is waited for, and one at least.
    ///
    /// # Errors
    ///
    /// `EBUSY` if there are not as many.
    pub(crate) fn reserve(self: &Arc<Self>, waits: &Waits) -> Result<Place> {
        let count = waits.list.all.len().max(1);
        let mut table = self.all.lock();
        if count > OPERATIONS_MAX - table.count {
            return Err(EBUSY);
        }
        table.count += count;
        Ok(Place {
            table: self.clone(),
            count,
        })
    }

    /// Takes an operation out.
    fn remove(&self, name: &Name) {
        let operation = self.all.lock().all.remove(name);
        drop(operation);
    }

    /// Cancels those that have the number `user_data`; returns how many.
    ///
    /// # Errors
    ///
    /// `ENOENT` if there are none, `EALREADY` if none can be cancelled.
    fn cancel(&self, user_data: u64) -> Result<u64> {
        let mut table = self.all.lock();
        let first = table.all.cursor_lower_bound_mut(&(user_data, 0));
        let mut cursor = first.ok_or(ENOENT)?;
        let (mut found, mut cancelled) = (false, 0);
        loop {
            let (name, operation) = cursor.current();
            if name.0 != user_data {
                break;
            }
            found = true;
            cancelled += u64::from(operation.command.cancel());
            match cursor.move_next() {
                Some(next) => cursor = next,
                None => break,
            }
        }
        match (found, cancelled) {
            (false, _) => Err(ENOENT),
            (true, 0) => Err(EALREADY),
            (true, cancelled) => Ok(cancelled),
        }
    }
}

/// Places among the pending operations of a file, given back when this is dropped.
pub(crate) struct Place {
    table: Arc<Operations>,
    count: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.table.all.lock().count -= self.count;
    }
}

/// What the extra of a completion says when the values are reached.
#[derive(Clone, Copy)]
pub(crate) enum Extra {
    /// The value of the fence.
    Observed,
    /// Which of the fences it was.
    Index,
    /// What was [noted](Operation::note).
    Noted,
}

/// What is waited for.
pub(crate) struct Waits {
    /// Fences and values; none if somebody says how it ended.
    pub(crate) list: WantedList,
    /// Nanoseconds of the monotonic clock, or [`FOREVER`].
    pub(crate) deadline_ns: u64,
    pub(crate) extra: Extra,
}

/// No deadline.
const FOREVER: u64 = uapi::VACCEL_TIME_FOREVER;

impl Waits {
    /// Until somebody says how it ended.
    pub(crate) fn for_nothing() -> Self {
        Self {
            list: WantedList {
                all: KVec::new(),
                any: false,
            },
            deadline_ns: FOREVER,
            extra: Extra::Noted,
        }
    }

    /// For one value, for as long as it takes.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn for_value(fence: Arc<Fence>, value: u64) -> Result<Self> {
        Ok(Self {
            list: WantedList::of_one(fence, value)?,
            deadline_ns: FOREVER,
            extra: Extra::Noted,
        })
    }

    /// Which one was reached, if it is over; says nothing of what failed.
    fn over(&self) -> Option<usize> {
        let all = &self.list.all;
        let reached = |wanted: &Wanted| wanted.fence.is_seen_at(wanted.value);
        if self.list.any {
            all.iter().position(reached)
        } else {
            all.iter().all(reached).then_some(0)
        }
    }

    /// Whether what is not reached by now cannot be.
    fn is_hopeless(&self) -> bool {
        let all = &self.list.all;
        all.iter()
            .any(|wanted| wanted.fence.device.failure().is_some())
    }

    /// What user space is told when the values are reached, the one at `at` last.
    fn result(&self, at: usize, noted: u64) -> (i32, u64) {
        let has_error = |wanted: &Wanted| wanted.fence.recorded() != 0;
        let told = self.list.all.get(at);
        let recorded = if self.list.any {
            told.is_some_and(has_error)
        } else {
            self.list.all.iter().any(has_error)
        };
        let extra = match self.extra {
            Extra::Observed => told.map_or(0, |wanted| wanted.fence.value()),
            // CAST: a small number.
            Extra::Index if self.list.any => at as u64,
            Extra::Index => 0,
            Extra::Noted => noted,
        };
        // CAST: a small number.
        let recorded = if recorded {
            uapi::VACCEL_URING_RECORDED as i32
        } else {
            0
        };
        (recorded, extra)
    }
}

/// What has to be undone when it ends.
#[derive(Default)]
struct Parts {
    /// Ended: nothing is added any more.
    over: bool,
    watches: KVec<(Arc<Fence>, Key)>,
    alarm: Option<Alarm>,
}

/// A pending operation.
#[pin_data]
pub(crate) struct Operation {
    command: Command,
    name: Name,
    place: Place,
    waits: Waits,
    noted: AtomicU64,
    /// Fences that have yet to reach their values; or, if one is enough, to fail.
    left: AtomicUsize,
    #[pin]
    parts: Mutex<Parts>,
}

impl Operation {
    /// Makes an operation pending that somebody will end. The place is for its waits.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn pend(
        issue: Issue<'_>,
        place: Place,
        waits: Waits,
    ) -> Result<(Arc<Self>, Answer)> {
        let node = RBTreeNodeReservation::new(GFP_KERNEL)?;
        let number = {
            let mut table = place.table.all.lock();
            table.next += 1;
            table.next
        };
        let name = (issue.user_data(), number);
        let (operation, answer) = issue.pend(|command| Self::new(command, name, place, waits))?;
        // Only now, since whoever finds it there may end it.
        operation.enter(node);
        Ok((operation, answer))
    }

    fn new(command: Command, name: Name, place: Place, waits: Waits) -> Result<Arc<Self>> {
        let left = waits.list.all.len();
        Arc::pin_init(
            pin_init!(Self {
                command,
                name,
                place,
                waits,
                noted: AtomicU64::new(0),
                left: AtomicUsize::new(left),
                parts <- new_mutex!(Parts::default(), "Operation::parts"),
            }),
            GFP_KERNEL,
        )
    }

    /// Enters it in the table, unless io_uring has ended it already.
    fn enter(self: &Arc<Self>, node: RBTreeNodeReservation<Name, Arc<Self>>) {
        let parts = self.parts.lock();
        if !parts.over {
            let node = node.into_node(self.name, self.clone());
            // Names are not reused, so nothing is replaced.
            self.place.table.all.lock().all.insert(node);
        }
    }

    /// The command.
    pub(crate) fn command(&self) -> &Command {
        &self.command
    }

    /// Waits, unless it is over already. `noted` is for [`Extra::Noted`], the place for the waits.
    pub(crate) fn wait(issue: Issue<'_>, place: Place, waits: Waits, noted: u64) -> Answer {
        if let Some(at) = waits.over() {
            let (result, extra) = waits.result(at, noted);
            return issue.complete(result, extra);
        }
        if waits.deadline_ns == 0 {
            return Answer::failed(if waits.is_hopeless() { EIO } else { ETIME });
        }
        match Self::pend(issue, place, waits) {
            Ok((operation, answer)) => {
                operation.note(noted);
                operation.watch();
                answer
            }
            Err(error) => Answer::failed(error),
        }
    }

    /// Notes what user space is told at the end.
    pub(crate) fn note(&self, noted: u64) {
        self.noted.store(noted, Ordering::Relaxed);
    }

    /// Ends it as the host or the driver refused it.
    pub(crate) fn refuse(&self, errno: Error, status: NtStatus) {
        self.command
            .complete(errno.to_errno(), status.bits().into());
    }

    /// Has it end when its fences reach their values, or its deadline comes; at once if there are none.
    pub(crate) fn watch(self: &Arc<Self>) {
        if self.waits.list.all.is_empty() {
            self.command.complete(0, self.noted.load(Ordering::Relaxed));
            return;
        }
        // What was started is over; the wait may be cancelled.
        self.command.rest();
        if let Some(at) = self.waits.over() {
            self.reached_at(at);
        } else if let Err(error) = self.try_watch() {
            self.command.complete(error.to_errno(), 0);
        }
    }

    fn try_watch(self: &Arc<Self>) -> Result {
        if self.waits.deadline_ns < FOREVER {
            let wanted = self.waits.list.all.first().ok_or(EINVAL)?;
            let alarms = &wanted.fence.device.process.adapter.background.alarms;
            let alarm = alarms.set(self.waits.deadline_ns, self.clone())?;
            self.keep(|parts| {
                parts.alarm = Some(alarm);
                Ok(())
            })?;
        }
        for (at, wanted) in self.waits.list.all.iter().enumerate() {
            self.watch_one(&wanted.fence, wanted.value, at)?;
        }
        Ok(())
    }

    fn watch_one(self: &Arc<Self>, fence: &Arc<Fence>, value: u64, at: usize) -> Result {
        self.keep(|parts| Ok(parts.watches.reserve(1, GFP_KERNEL)?))?;
        let part = Arc::new(
            Part {
                operation: self.clone(),
                at,
                told: AtomicBool::new(false),
            },
            GFP_KERNEL,
        )?;
        let key = fence.watch_later(value, part)?;
        let kept = self.keep(|parts| Ok(parts.watches.push((fence.clone(), key), GFP_KERNEL)?));
        kept.inspect_err(|_| fence.end_watch(&key))
    }

    /// Keeps something to be undone.
    ///
    /// # Errors
    ///
    /// `ECANCELED` if it has ended; those of `keep`.
    fn keep(&self, keep: impl FnOnce(&mut Parts) -> Result) -> Result {
        let mut parts = self.parts.lock();
        if parts.over {
            return Err(ECANCELED);
        }
        keep(&mut parts)
    }

    /// The fence at `at` reached its value. Whether that was the end. In any context.
    fn reached(&self, at: usize) -> bool {
        let is_last = self.waits.list.any || self.left.fetch_sub(1, Ordering::AcqRel) == 1;
        is_last && self.reached_at(at)
    }

    fn reached_at(&self, at: usize) -> bool {
        // CAST: a small number. What is told of the fence `outcome` looks up.
        self.command.complete(0, at as u64)
    }

    /// A fence will not reach its value.
    fn failed(&self, error: Error) {
        if !self.waits.list.any || self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.command.complete(error.to_errno(), 0);
        }
    }
}

impl Pending for Operation {
    fn command(&self) -> &Command {
        &self.command
    }

    fn outcome(&self, result: i32, extra: u64) -> (i32, u64) {
        if result != 0 || self.waits.list.all.is_empty() {
            return (result, extra);
        }
        let noted = self.noted.load(Ordering::Relaxed);
        // CAST: it was made of one.
        self.waits.result(extra as usize, noted)
    }

    fn ended(this: Arc<Self>) {
        let parts = {
            let mut parts = this.parts.lock();
            core::mem::replace(
                &mut *parts,
                Parts {
                    over: true,
                    ..Parts::default()
                },
            )
        };
        for (fence, key) in &parts.watches {
            fence.end_watch(key);
        }
        drop(parts);
        this.place.table.remove(&this.name);
    }
}

/// The deadline.
impl Ring for Operation {
    fn ring(&self) {
        self.command.complete(ETIME.to_errno(), 0);
    }
}

/// One of the fences of an operation.
struct Part {
    operation: Arc<Operation>,
    at: usize,
    /// Whether the operation knows.
    told: AtomicBool,
}

impl Finish for Part {
    fn finish(&self, outcome: Result) {
        match outcome {
            Ok(()) => {
                self.reached();
            }
            Err(error) if !self.told.swap(true, Ordering::AcqRel) => self.operation.failed(error),
            Err(_) => {}
        }
    }

    fn reached(&self) -> bool {
        !self.told.swap(true, Ordering::AcqRel) && self.operation.reached(self.at)
    }
}

/// `VACCEL_URING_CMD_CANCEL`.
pub(crate) fn cancel(issue: Issue<'_>, client: &Client) -> Answer {
    let args = match issue.read::<uapi::drm_vaccel_cancel>() {
        Ok(args) if args.reserved == 0 => args,
        Ok(_) => return Answer::failed(EINVAL),
        Err(error) => return Answer::failed(error),
    };
    match client.operations.cancel(args.user_value) {
        Ok(count) => issue.complete(0, count),
        Err(error) => Answer::failed(error),
    }
}
