// SPDX-License-Identifier: GPL-2.0-only

//! Monitored fences to syncobjs and sync_files: a dma_fence appears when the value is reached.
//!
//! A monitored fence cannot be a dma_fence: user space decides whether and when its value is reached,
//! while a dma_fence has to signal in bounded time. So none is made for a value that is not reached.
//! The syncobj stays without a fence at the point until then, for which it has waiters of its own
//! (WAIT_FOR_SUBMIT, WAIT_AVAILABLE, SYNCOBJ_EVENTFD), and gets one that has signalled already.
//! Nothing that waits for dma_fences in the kernel can ever wait for the value.
//!
//! Points of a timeline appear in the order of their numbers, since a syncobj takes a point as
//! reached when a higher one is there: one that is early waits for those before.
//!
//! # Locks
//!
//! `Exports::timelines` is held while fences are put into syncobjs, which take a spinlock. It is never
//! held across a message to the host.

use core::num::NonZeroU64;

use kernel::fs::file::{
    flags,
    FileDescriptorReservation, //
};
use kernel::prelude::*;
use kernel::rbtree::{
    RBTree,
    RBTreeNode,
    RBTreeNodeReservation, //
};
use kernel::sync::{
    new_mutex,
    Arc,
    Mutex, //
};

use crate::adapter::Adapter;
use crate::bindings::uapi;
use crate::client::Client;
use crate::dma_fence::{
    Context,
    DmaFence,
    PendingFence, //
};
use crate::driver::{
    DrmDevice,
    DrmFile, //
};
use crate::drm::syncobj::{
    ChainNode,
    SyncObj, //
};
use crate::fence::Fence;
use crate::host_error::{
    HostError,
    HostResult, //
};
use crate::sync_file;
use crate::watch::Finish;

/// Points of one syncobj that are to come.
struct Timeline {
    /// By point; with a fence once it may appear.
    points: RBTree<u64, Option<Arrival>>,
}

/// A point that may appear.
struct Arrival {
    node: ChainNode,
    fence: DmaFence,
    told: Told,
}

/// Who is told that a fence has appeared, and what of it.
struct Told {
    then: Option<Arc<dyn Finish>>,
    outcome: Result,
}

impl Told {
    /// Tells it: the fence has appeared.
    fn tell(self) {
        if let Some(then) = self.then {
            then.finish(self.outcome);
        }
    }
}

/// What is to appear in syncobjs.
#[pin_data]
pub(crate) struct Exports {
    #[pin]
    timelines: Mutex<RBTree<usize, Timeline>>,
}

impl Exports {
    /// Nothing.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            timelines <- new_mutex!(RBTree::new(), "Exports::timelines"),
        })
    }

    /// Announces a point.
    ///
    /// # Errors
    ///
    /// `EINVAL` unless it is higher than every point that the syncobj has or waits for, `ENOMEM`.
    fn announce(&self, syncobj: &SyncObj, point: u64) -> Result {
        let timeline = RBTreeNode::new(
            syncobj.key(),
            Timeline {
                points: RBTree::new(),
            },
            GFP_KERNEL,
        )?;
        let node: RBTreeNodeReservation<u64, _> = RBTreeNodeReservation::new(GFP_KERNEL)?;
        let mut timelines = self.timelines.lock();
        if point <= syncobj.last_point() {
            return Err(EINVAL);
        }
        if timelines.get(&syncobj.key()).is_none() {
            timelines.insert(timeline);
        }
        let timeline = timelines.get_mut(&syncobj.key()).ok_or(ENOENT)?;
        let last = timeline
            .points
            .cursor_back()
            .map(|cursor| *cursor.current().0);
        if last.is_some_and(|last| point <= last) {
            return Err(EINVAL);
        }
        timeline.points.insert(node.into_node(point, None));
        Ok(())
    }

    /// The last point of a syncobj that is to come.
    pub(crate) fn last(&self, syncobj: &SyncObj) -> Option<u64> {
        let timelines = self.timelines.lock();
        let cursor = timelines.get(&syncobj.key())?.points.cursor_back()?;
        Some(*cursor.current().0)
    }

    /// Lets a point appear as soon as those before it have; without a fence takes it back.
    fn arrive(&self, syncobj: &SyncObj, point: u64, arrival: Option<Arrival>) {
        let mut timelines = self.timelines.lock();
        let Some(timeline) = timelines.get_mut(&syncobj.key()) else {
            return;
        };
        match arrival {
            Some(arrival) => {
                if let Some(place) = timeline.points.get_mut(&point) {
                    *place = Some(arrival);
                }
            }
            None => drop(timeline.points.remove(&point)),
        }
        while let Some((point, arrival)) = timeline.take_first() {
            syncobj.add_point(arrival.node, &arrival.fence, point);
            arrival.told.tell();
        }
        if timeline.points.is_empty() {
            timelines.remove(&syncobj.key());
        }
    }
}

impl Timeline {
    /// Takes the first point, if it may appear.
    fn take_first(&mut self) -> Option<(u64, Arrival)> {
        let first = self.points.cursor_front()?;
        let (point, Some(_)) = first.current() else {
            return None;
        };
        let point = *point;
        Some((point, self.points.remove(&point)??))
    }
}

/// A value of a monitored fence that will appear in a syncobj.
#[pin_data]
struct Export {
    adapter: Arc<Adapter>,
    syncobj: SyncObj,
    /// None for a binary one.
    point: Option<NonZeroU64>,
    /// Taken when it appears.
    #[pin]
    ready: Mutex<Option<Ready>>,
}

/// What appears. It is made before it is promised, so that it appears whatever happens.
struct Ready {
    fence: PendingFence,
    node: ChainNode,
    then: Option<Arc<dyn Finish>>,
}

impl Export {
    /// Lets it appear.
    fn appear(&self, outcome: Result) {
        let Some(Ready { fence, node, then }) = self.ready.lock().take() else {
            return;
        };
        let told = Told { then, outcome };
        let published = fence.fence();
        // Before anybody can see it.
        fence.signal(outcome);
        match self.point {
            None => {
                self.syncobj.replace(&published);
                told.tell();
            }
            Some(point) => {
                let arrival = Arrival {
                    node,
                    fence: published,
                    told,
                };
                let exports = &self.adapter.exports;
                exports.arrive(&self.syncobj, point.get(), Some(arrival));
            }
        }
    }
}

impl Finish for Export {
    fn finish(&self, outcome: Result) {
        self.appear(outcome);
    }
}

/// Has a signalled dma_fence appear in a syncobj when `fence` reached `value`, or cannot reach it any
/// more; at `point`, or as the only one. Then `then` is finished; if there is one the host is not waited
/// for, and what cannot be reached any more is told by the fence alone.
///
/// # Errors
///
/// `EINVAL` unless the point is higher than every one that the syncobj has or waits for; those of
/// [`Fence::watch_detached`].
pub(crate) fn appear_at(
    fence: &Arc<Fence>,
    value: u64,
    syncobj: SyncObj,
    point: Option<NonZeroU64>,
    client: &Client,
    then: Option<Arc<dyn Finish>>,
) -> HostResult {
    let adapter = fence.device.process.adapter.clone();
    let is_told = then.is_some();
    let ready = Ready {
        fence: PendingFence::new(&Context::new(), 1)?,
        node: ChainNode::new()?,
        then,
    };
    let (exporter, place) = (adapter.clone(), syncobj.clone());
    let export = Arc::pin_init(
        pin_init!(Export {
            adapter: exporter,
            syncobj: place,
            point,
            ready <- new_mutex!(Some(ready), "Export::ready"),
        }),
        GFP_KERNEL,
    )?;
    if let Some(point) = point {
        adapter.exports.announce(&syncobj, point.get())?;
    }
    // Whoever has to be told does not wait for the host.
    let over = if is_told {
        Ok(fence.is_seen_at(value))
    } else {
        fence.is_over(value)
    };
    let watched = match over {
        Ok(true) => {
            export.appear(Ok(()));
            return Ok(());
        }
        Ok(false) if is_told => fence
            .watch_detached_later(value, export, &client.pending)
            .map_err(HostError::from),
        Ok(false) => fence.watch_detached(value, export, &client.pending),
        Err(error) => Err(error),
    };
    if let (Err(_), Some(point)) = (&watched, point) {
        adapter.exports.arrive(&syncobj, point.get(), None);
    }
    watched
}

/// A timeline point of a descriptor whose flags say whether it is one.
///
/// # Errors
///
/// `EINVAL` for a point without the flag, or the flag without a point.
pub(crate) fn point(timeline: bool, point: u64) -> Result<Option<NonZeroU64>> {
    let point = NonZeroU64::new(point);
    if timeline == point.is_some() {
        Ok(point)
    } else {
        Err(EINVAL)
    }
}

/// `DRM_IOCTL_VACCEL_SYNC_EXPORT`.
pub(crate) fn export(
    _dev: &DrmDevice,
    args: &mut uapi::drm_vaccel_sync,
    file: &DrmFile,
) -> HostResult {
    if args.flags & uapi::VACCEL_SYNC_FILE == 0 {
        return export_then(args, file, None);
    }
    let rest = (
        args.flags,
        args.syncobj,
        args.point,
        args.deadline_ns,
        args.reserved,
    );
    if rest != (uapi::VACCEL_SYNC_FILE, 0, 0, 0, [0; 2]) {
        return Err(EINVAL.into());
    }
    let fence = file.inner().fence(args.fence)?.fence;
    args.fd = file_of(&fence, args.value)?;
    Ok(())
}

/// Exports to a syncobj; `then` is finished when the fence has appeared there.
///
/// # Errors
///
/// Those of the operation; `then` is not finished then.
pub(crate) fn export_then(
    args: &uapi::drm_vaccel_sync,
    file: &DrmFile,
    then: Option<Arc<dyn Finish>>,
) -> HostResult {
    let rest = (
        args.flags & !uapi::VACCEL_SYNC_TIMELINE,
        args.fd,
        args.deadline_ns,
        args.reserved,
    );
    if rest != (0, 0, 0, [0; 2]) {
        return Err(EINVAL.into());
    }
    let client = file.inner();
    let fence = client.fence(args.fence)?.fence;
    let point = point(args.flags & uapi::VACCEL_SYNC_TIMELINE != 0, args.point)?;
    let syncobj = SyncObj::find(file, args.syncobj)?;
    appear_at(&fence, args.value, syncobj, point, &client, then)
}

/// A sync_file that says that `value` is reached.
fn file_of(fence: &Arc<Fence>, value: u64) -> HostResult<i32> {
    if !fence.is_over(value)? {
        return Err(EBUSY.into());
    }
    let reserved = FileDescriptorReservation::get_unused_fd_flags(flags::O_CLOEXEC)?;
    let file = sync_file::create(&DmaFence::signalled())?;
    let fd = reserved.reserved_fd();
    reserved.fd_install(file);
    // CAST: A file descriptor is a small number.
    Ok(fd as i32)
}
