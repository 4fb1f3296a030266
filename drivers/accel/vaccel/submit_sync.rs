// SPDX-License-Identifier: GPL-2.0-only

//! What a submission has to do with dma_fences: waits for them, and those that stand for its work.
//!
//! A dma_fence of a bounded queue is published when the whole submission has been accepted. Until
//! then nobody has seen it, and it can be taken back.

use core::num::NonZeroU64;

use kernel::prelude::*;
use kernel::sync::aref::ARef;
use kernel::sync::Arc;

use crate::bindings::uapi;
use crate::bo::Bo;
use crate::client::Client;
use crate::dma_fence::DmaFence;
use crate::driver::{
    DrmDevice,
    DrmFile, //
};
use crate::drm::{
    gem,
    syncobj::ChainNode,
    SyncObj, //
};
use crate::host_error::HostResult;
use crate::out_fence::OutFences;
use crate::queue::{
    Mode,
    Queue, //
};
use crate::sync_export;
use crate::sync_import;

/// What a queue waits for.
pub(crate) enum Input {
    /// A dma_fence.
    Fence(DmaFence),
    /// What a syncobj does not have yet: its handle and the point.
    Missing(u32, Option<NonZeroU64>),
    /// What an object's reservation holds against a reader or a writer.
    Reservation(ARef<gem::Object<Bo>>, bool),
}

impl Input {
    /// What an `OP_SYNCOBJ_WAIT` waits for.
    ///
    /// # Errors
    ///
    /// `ENOENT` if there is no such syncobj; `EINVAL` if it has no fence there, unless that is
    /// waited for; `EDEADLK` if it is, on a bounded queue: that would wait for user space.
    pub(crate) fn of_syncobj(
        file: &DrmFile,
        queue: &Queue,
        (handle, point): (u32, Option<NonZeroU64>),
        wait_for_submit: bool,
    ) -> Result<Self> {
        match sync_import::fence_at(file, handle, point)? {
            Some(fence) => Ok(Self::Fence(fence)),
            None if !wait_for_submit => Err(EINVAL),
            None if queue.mode == Mode::Bounded => Err(EDEADLK),
            None => Ok(Self::Missing(handle, point)),
        }
    }

    /// Has the queue wait. The caller has its turn.
    ///
    /// # Errors
    ///
    /// Those of [`Queue::wait_for_fence`].
    pub(crate) fn queue(self, queue: &Queue, client: &Client, file: &DrmFile) -> HostResult {
        match self {
            Self::Fence(fence) => queue.wait_for_fence(&fence, client),
            Self::Missing(handle, point) => queue.wait_for_point((handle, point), file),
            Self::Reservation(object, write) => match object.reservation_fences(write)? {
                Some(fence) => queue.wait_for_fence(&fence, client),
                None => Ok(()),
            },
        }
    }
}

/// A place in a syncobj that gets a fence.
pub(crate) struct Target {
    syncobj: SyncObj,
    /// None for a binary one.
    point: Option<(NonZeroU64, ChainNode)>,
}

impl Target {
    /// A place in the syncobj behind `handle`.
    ///
    /// # Errors
    ///
    /// `ENOENT` if there is no such syncobj, `EINVAL` if the point is not higher than what the syncobj
    /// has, `EBUSY` if it waits for points of an export, `ENOMEM`.
    pub(crate) fn new(
        file: &DrmFile,
        queue: &Queue,
        handle: u32,
        point: Option<NonZeroU64>,
    ) -> Result<Self> {
        let syncobj = SyncObj::find(file, handle)?;
        let point = match point {
            None => None,
            Some(point) if point.get() <= syncobj.last_point() => return Err(EINVAL),
            Some(point) => Some((point, ChainNode::new()?)),
        };
        let exports = &queue.vm.device.process.adapter.exports;
        match (queue.mode, exports.last(&syncobj)) {
            (_, None) => {}
            (Mode::Bounded, Some(_)) => return Err(EBUSY),
            // Points of long-running queues are exports themselves.
            (Mode::LongRunning, Some(last)) => {
                if point.as_ref().is_some_and(|(point, _)| point.get() <= last) {
                    return Err(EINVAL);
                }
            }
        }
        Ok(Self { syncobj, point })
    }

    /// Whether it may come behind `other`.
    pub(crate) fn follows(&self, other: &Self) -> bool {
        match (&self.point, &other.point) {
            (Some((point, _)), Some((before, _))) if self.syncobj.key() == other.syncobj.key() => {
                point > before
            }
            _ => true,
        }
    }

    fn publish(self, fence: &DmaFence) {
        match self.point {
            None => self.syncobj.replace(fence),
            Some((point, node)) => self.syncobj.add_point(node, fence, point.get()),
        }
    }

    /// Has a fence appear there when the queue got as far as it is now. For a long-running queue, whose
    /// turn the caller has.
    ///
    /// # Errors
    ///
    /// Those of [`sync_export::appear_at`].
    pub(crate) fn appear(self, queue: &Queue, client: &Client) -> HostResult {
        let progress = queue.progress.fence(&queue.vm.device)?;
        let value = queue.progress.next();
        progress.signal_in(queue.handle(), value)?;
        let point = self.point.map(|(point, _)| point);
        sync_export::appear_at(progress, value, self.syncobj, point, client, None)
    }
}

/// What is published of a submission.
enum Publication {
    Syncobj(Target, DmaFence),
    Reservation(ARef<gem::Object<Bo>>, bool),
}

/// The dma_fences of a submission to a bounded queue. Dropping it takes them back.
pub(crate) struct Outputs<'a> {
    queue: &'a Queue,
    drm: &'a DrmDevice,
    marks: KVec<(Arc<OutFences>, u64)>,
    publications: KVec<Publication>,
}

impl<'a> Outputs<'a> {
    /// None yet. The caller has the queue's turn.
    pub(crate) fn new(queue: &'a Queue, drm: &'a DrmDevice) -> Self {
        Self {
            queue,
            drm,
            marks: KVec::new(),
            publications: KVec::new(),
        }
    }

    /// Marks the place where the queue is now.
    fn mark(&mut self) -> HostResult<DmaFence> {
        self.marks.reserve(1, GFP_KERNEL)?;
        let out = self.queue.out_fences(self.drm)?;
        let value = self.queue.progress.next();
        let fence = out.mark(value)?;
        self.marks.push((out, value), GFP_KERNEL)?;
        Ok(fence)
    }

    /// Has a syncobj get a fence for the place where the queue is now.
    ///
    /// # Errors
    ///
    /// Those of [`OutFences::mark`].
    pub(crate) fn add_syncobj(&mut self, target: Target) -> HostResult {
        let fence = self.mark()?;
        let publication = Publication::Syncobj(target, fence);
        Ok(self.publications.push(publication, GFP_KERNEL)?)
    }

    /// Has the reservation of an object get the fence of the whole submission.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn add_access(&mut self, object: ARef<gem::Object<Bo>>, write: bool) -> Result {
        let publication = Publication::Reservation(object, write);
        Ok(self.publications.push(publication, GFP_KERNEL)?)
    }

    /// Whether anything is to be published.
    pub(crate) fn has_any(&self) -> bool {
        !self.publications.is_empty()
    }

    /// Marks the end of the submission, if anybody gets its fence.
    ///
    /// # Errors
    ///
    /// As [`Outputs::add_syncobj`].
    pub(crate) fn finish(&mut self, last: Option<Target>) -> HostResult<Option<DmaFence>> {
        let has_access =
            |publication: &Publication| matches!(publication, Publication::Reservation(..));
        if last.is_none() && !self.publications.iter().any(has_access) {
            return Ok(None);
        }
        let fence = self.mark()?;
        if let Some(target) = last {
            let publication = Publication::Syncobj(target, fence.clone());
            self.publications.push(publication, GFP_KERNEL)?;
        }
        Ok(Some(fence))
    }

    /// Publishes all: the submission was accepted, and ends with `end`.
    pub(crate) fn publish(mut self, end: Option<&DmaFence>) {
        // The host has them: they signal.
        self.marks.clear();
        for publication in core::mem::take(&mut self.publications) {
            match publication {
                Publication::Syncobj(target, fence) => target.publish(&fence),
                Publication::Reservation(object, write) => {
                    if let Some(end) = end {
                        object.add_reservation_fence(end, write);
                    }
                }
            }
        }
    }
}

impl Drop for Outputs<'_> {
    fn drop(&mut self) {
        for (out, value) in &self.marks {
            out.withdraw(*value);
        }
    }
}

/// Where the fence of a whole submission goes.
///
/// # Errors
///
/// `EINVAL` on a long-running queue; those of [`Target::new`].
pub(crate) fn out_syncobj(
    args: &uapi::drm_vaccel_submit,
    file: &DrmFile,
    queue: &Queue,
) -> Result<Option<Target>> {
    if args.flags & uapi::VACCEL_SUBMIT_OUT_SYNCOBJ == 0 {
        return Ok(None);
    }
    if queue.mode != Mode::Bounded {
        return Err(EINVAL);
    }
    let point = NonZeroU64::new(args.out_point);
    Ok(Some(Target::new(file, queue, args.out_syncobj, point)?))
}
