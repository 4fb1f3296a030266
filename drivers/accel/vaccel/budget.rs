// SPDX-License-Identifier: GPL-2.0-only

//! The memory budget of a file: asked, reserved, and watched.
//!
//! The host sets the budget of a process and may change it at any time, but the protocol has no
//! notice of that. So while a file asks for budget events, and only then, a worker of its adapter
//! looks twice a second. An event says that a budget changed or that usage crossed it; then none is
//! sent until the file asks for the budget again, so nobody is flooded and nothing piles up. The last
//! one says that the adapter is gone.
//!
//! # Locks
//!
//! `Watch::watched` and `Watcher::state` are held for look-ups and changes only; the host is asked
//! in between.
//!
//! # Lifetime
//!
//! A watcher goes with its file: it is taken out of the list, and what the worker still holds of it
//! has nothing to ask any more. The worker ends when the list is empty or the adapter stops.

use kernel::prelude::*;
use kernel::sync::{
    new_mutex,
    Arc,
    Mutex, //
};
use kernel::time::msecs_to_jiffies;
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
use crate::drm::event::PendingEvent;
use crate::gpupv::{
    self,
    MemorySegmentGroup,
    Request,
    VideoMemoryInfo, //
};
use crate::host_error::HostResult;
use crate::process::Process;
use crate::sync::{
    Completion,
    Wait, //
};
use crate::workqueue::OwnedQueue;

/// How often the worker looks.
const PERIOD_MS: u32 = 500;

/// The segment groups by their numbers in the interface.
const GROUPS: [(u32, MemorySegmentGroup); 2] = [
    (uapi::VACCEL_SEGMENT_LOCAL, MemorySegmentGroup::LOCAL),
    (
        uapi::VACCEL_SEGMENT_NON_LOCAL,
        MemorySegmentGroup::NON_LOCAL,
    ),
];

/// The bit of [`VACCEL_EVENT_BUDGET`](uapi::VACCEL_EVENT_BUDGET) in a mask.
const BUDGET_BIT: u32 = 1 << 0;
/// The bit of [`VACCEL_EVENT_VM_STATE`](uapi::VACCEL_EVENT_VM_STATE) in a mask.
const VM_STATE_BIT: u32 = 1 << 1;

fn ask(process: &Process, group: MemorySegmentGroup) -> HostResult<VideoMemoryInfo> {
    let request = Request::from(gpupv::QueryVideoMemoryInfo {
        adapter: process.adapter.handle,
        memory_segment_group: group,
        ..Default::default()
    });
    process.call(&request, |answer| Ok(answer.reply))
}

/// What a watcher compares.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen {
    budget: u64,
    over: bool,
}

impl Seen {
    fn new(info: &VideoMemoryInfo) -> Self {
        Self {
            budget: info.budget,
            over: info.current_usage > info.budget,
        }
    }
}

struct State {
    /// Gone with the file.
    process: Option<Arc<Process>>,
    seen: [Option<Seen>; GROUPS.len()],
    /// To be sent; none from then until the budget is asked for.
    event: Option<PendingEvent<Client, uapi::drm_vaccel_event>>,
}

/// A file that wants to know of its budget.
#[pin_data]
struct Watcher {
    #[pin]
    state: Mutex<State>,
}

impl Watcher {
    /// Looks once.
    fn look(&self) {
        let process = {
            let state = self.state.lock();
            if state.event.is_none() {
                return;
            }
            state.process.clone()
        };
        let Some(process) = process else {
            return;
        };
        for (at, (segment, group)) in GROUPS.into_iter().enumerate() {
            if let Ok(info) = ask(&process, group) {
                self.compare(at, segment, &info);
            }
        }
    }

    /// Sends an event if something changed since it was seen last. Without one to send, what changed
    /// is seen later.
    fn compare(&self, at: usize, segment: u32, info: &VideoMemoryInfo) {
        let now = Seen::new(info);
        let event = {
            let mut state = self.state.lock();
            if state.seen.get(at).is_none_or(|seen| *seen == Some(now)) {
                return;
            }
            let Some(event) = state.event.take() else {
                return;
            };
            if let Some(seen) = state.seen.get_mut(at) {
                *seen = Some(now);
            }
            event
        };
        event.send(|event| {
            event.segment = segment;
            event.value = info.current_usage.saturating_sub(info.budget);
        });
    }

    /// Wakes whoever waits for an event: there will be none.
    fn wake(&self) {
        let event = {
            let mut state = self.state.lock();
            state.process = None;
            state.event.take()
        };
        if let Some(event) = event {
            event.send(|event| event.segment = uapi::VACCEL_SEGMENT_LOCAL);
        }
    }
}

/// The watchers of one adapter, and their worker.
#[pin_data]
pub(crate) struct Watch {
    #[pin]
    watched: Mutex<Watched>,
    /// Completed when the worker is to look at the list.
    #[pin]
    changed: Completion,
    #[pin]
    work: Work<Self>,
}

struct Watched {
    list: KVec<Arc<Watcher>>,
    /// The worker is running or about to.
    working: bool,
    stopped: bool,
}

impl_has_work! {
    impl HasWork<Self> for Watch { self.work }
}

impl Watch {
    /// Nobody is watched.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            watched <- new_mutex!(
                Watched {
                    list: KVec::new(),
                    working: false,
                    stopped: false,
                },
                "Watch::watched"
            ),
            changed <- Completion::new(),
            work <- new_work!("vaccel::Watch::work"),
        })
    }

    fn add(self: &Arc<Self>, watcher: Arc<Watcher>, workers: &OwnedQueue) -> Result {
        let mut watched = self.watched.lock();
        if watched.stopped {
            return Err(ENODEV);
        }
        watched.list.push(watcher, GFP_KERNEL)?;
        let start = !core::mem::replace(&mut watched.working, true);
        drop(watched);
        if start {
            let _ = workers.enqueue(self.clone());
        }
        Ok(())
    }

    fn remove(&self, watcher: &Arc<Watcher>) {
        self.watched
            .lock()
            .list
            .retain(|known| !Arc::ptr_eq(known, watcher));
        self.changed.complete();
    }

    /// The adapter is about to go: whoever waits for an event gets one, and finds that out.
    pub(crate) fn stop(&self) {
        let list = {
            let mut watched = self.watched.lock();
            watched.stopped = true;
            core::mem::take(&mut watched.list)
        };
        self.changed.complete();
        for watcher in &list {
            watcher.wake();
        }
    }

    /// The watchers; none says that the worker is to end.
    fn list(&self) -> Option<KVec<Arc<Watcher>>> {
        let mut watched = self.watched.lock();
        let mut list = KVec::new();
        for watcher in &watched.list {
            // What does not fit in memory now is looked at later.
            let _ = list.push(watcher.clone(), GFP_KERNEL);
        }
        if watched.list.is_empty() {
            watched.working = false;
            return None;
        }
        Some(list)
    }
}

impl WorkItem for Watch {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        while let Some(list) = this.list() {
            for watcher in &list {
                watcher.look();
            }
            drop(list);
            // Whether the time is over or the list changed: it looks.
            let (Wait::Done | Wait::TimedOut | Wait::Signal) =
                this.changed.wait_timeout(msecs_to_jiffies(PERIOD_MS));
        }
    }
}

/// The subscription of a file, if it has one.
#[pin_data(PinnedDrop)]
pub(crate) struct Subscription {
    #[pin]
    watcher: Mutex<Option<Arc<Watcher>>>,
    watch: Arc<Watch>,
}

#[pinned_drop]
impl PinnedDrop for Subscription {
    fn drop(self: Pin<&mut Self>) {
        self.end();
    }
}

impl Subscription {
    /// No subscription; it would be with `watch`.
    pub(crate) fn new(watch: Arc<Watch>) -> impl PinInit<Self> {
        pin_init!(Self {
            watcher <- new_mutex!(None, "Subscription::watcher"),
            watch,
        })
    }

    fn end(&self) {
        let watcher = self.watcher.lock().take();
        if let Some(watcher) = watcher {
            self.watch.remove(&watcher);
            let (process, event) = {
                let mut state = watcher.state.lock();
                (state.process.take(), state.event.take())
            };
            drop((process, event));
        }
    }

    /// Makes the next event possible, and what is known now the base of comparison.
    ///
    /// If there is no room for it, because too many were not read, there is none until the budget is
    /// asked for again.
    fn arm(&self, dev: &DrmDevice, file: &DrmFile, at: usize, info: &VideoMemoryInfo) {
        let Some(watcher) = self.watcher.lock().clone() else {
            return;
        };
        {
            let mut state = watcher.state.lock();
            if let Some(seen) = state.seen.get_mut(at) {
                *seen = Some(Seen::new(info));
            }
            if state.event.is_some() {
                return;
            }
        }
        let Ok(event) = file.reserve_event(dev, new_event()) else {
            return;
        };
        let spare = {
            let mut state = watcher.state.lock();
            // Nobody sends it any more if the file or the adapter is going.
            match (&state.process, &state.event) {
                (Some(_), None) => state.event.replace(event),
                _ => Some(event),
            }
        };
        drop(spare);
    }
}

fn new_event() -> uapi::drm_vaccel_event {
    uapi::drm_vaccel_event {
        base: uapi::drm_event {
            type_: uapi::VACCEL_EVENT_BUDGET,
            length: 0,
        },
        ..Default::default()
    }
}

/// `DRM_IOCTL_VACCEL_EVENTS`.
pub(crate) fn subscribe(
    dev: &DrmDevice,
    args: &mut uapi::drm_vaccel_events,
    file: &DrmFile,
) -> HostResult {
    if args.mask & !(BUDGET_BIT | VM_STATE_BIT) != 0 || args.pad != 0 {
        return Err(EINVAL.into());
    }
    if args.mask & VM_STATE_BIT != 0 {
        return Err(EOPNOTSUPP.into());
    }
    let client = file.inner();
    let subscription = &client.subscription;
    if args.mask & BUDGET_BIT == 0 {
        subscription.end();
        return Ok(());
    }
    let process = client.process.clone();
    let mut seen = [None; GROUPS.len()];
    for (seen, (_, group)) in seen.iter_mut().zip(GROUPS) {
        *seen = Some(Seen::new(&ask(&process, group)?));
    }
    let event = file.reserve_event(dev, new_event())?;
    let watcher = Arc::pin_init(
        pin_init!(Watcher {
            state <- new_mutex!(
                State {
                    process: Some(process),
                    seen,
                    event: Some(event),
                },
                "Watcher::state"
            ),
        }),
        GFP_KERNEL,
    )?;
    let mut current = subscription.watcher.lock();
    if current.is_some() {
        // Asked for already.
        drop(current);
        drop(watcher);
        return Ok(());
    }
    subscription
        .watch
        .add(watcher.clone(), &client.process.adapter.background.reapers)?;
    *current = Some(watcher);
    Ok(())
}

/// `DRM_IOCTL_VACCEL_BUDGET`.
pub(crate) fn query(
    dev: &DrmDevice,
    args: &mut uapi::drm_vaccel_budget,
    file: &DrmFile,
) -> HostResult {
    if args.flags & !uapi::VACCEL_BUDGET_SET_RESERVATION != 0
        || args.pad != 0
        || args.reserved != [0; 2]
    {
        return Err(EINVAL.into());
    }
    let (at, group) = match args.segment {
        uapi::VACCEL_SEGMENT_LOCAL => (0, MemorySegmentGroup::LOCAL),
        uapi::VACCEL_SEGMENT_NON_LOCAL => (1, MemorySegmentGroup::NON_LOCAL),
        _ => return Err(EINVAL.into()),
    };
    let client = file.inner();
    if args.flags & uapi::VACCEL_BUDGET_SET_RESERVATION != 0 {
        let request = Request::from(gpupv::ChangeVideoMemoryReservation {
            memory_segment_group: group,
            reservation: args.reservation_size,
            ..Default::default()
        });
        client.process.call(&request, |_| Ok(()))?;
    }
    let info = ask(&client.process, group)?;
    args.budget_size = info.budget;
    args.usage_size = info.current_usage;
    args.reservation_size = info.current_reservation;
    args.available_size = info.available_for_reservation;
    client.subscription.arm(dev, file, at, &info);
    Ok(())
}
