// SPDX-License-Identifier: GPL-2.0-only

//! How far a queue got: a fence of the driver's own that the queue signals when it is asked to.
//!
//! Nothing is signalled on the way of ordinary submissions. A change of bindings in a queue signals
//! it behind the change; whoever wants to know whether a queue is idle has it signalled once and looks.

use core::sync::atomic::{
    AtomicU64,
    Ordering, //
};

use kernel::prelude::*;
use kernel::sync::{
    new_mutex,
    Arc,
    Mutex,
    SetOnce, //
};
use kernel::time::{
    delay::fsleep,
    msecs_to_jiffies,
    Delta,
    Instant,
    Monotonic, //
};

use crate::device::Device;
use crate::fence::Fence;
use crate::gpupv::Handle;
use crate::host_error::HostResult;
use crate::queue::ReplacedList;
use crate::reaper::Owned;
use crate::release::Done;
use crate::sync::{
    Completion,
    Wait, //
};

/// How long all idle queues that somebody asks may take to say so.
const IDLE_NS: i64 = 50_000_000;
/// A host that is quick answers within this.
const FIRST_LOOK_US: i64 = 100;
const STEP_MS: u32 = 1;

/// The progress of one queue, and the host's queue itself: it exists for as long as it may be asked.
#[pin_data]
pub(crate) struct Progress {
    context: Owned,
    /// Completed when the host has acknowledged that the queue is gone.
    gone: Arc<Done>,
    // Behind the queue, which signals it until it is gone.
    fence: SetOnce<Arc<Fence>>,
    /// The last value given to a step. A step that failed leaves a gap.
    asked: AtomicU64,
    /// The last value that [`Progress::is_idle`] had queued.
    probed: AtomicU64,
    // Behind the queue, which then does not use it any more.
    #[pin]
    pub(crate) replaced: Mutex<ReplacedList>,
}

impl Progress {
    /// The progress of the queue `context`, of which `gone` will say that it is no more.
    pub(crate) fn new(context: Owned, gone: Arc<Done>) -> impl PinInit<Self> {
        pin_init!(Self {
            context,
            gone,
            fence: SetOnce::new(),
            asked: AtomicU64::new(0),
            probed: AtomicU64::new(0),
            replaced <- new_mutex!(ReplacedList::new(), "Progress::replaced"),
        })
    }

    /// Completed when the host has acknowledged that the queue is gone.
    pub(crate) fn gone(&self) -> Arc<Done> {
        self.gone.clone()
    }

    /// The host's handle of the queue.
    pub(crate) fn context(&self) -> Handle {
        self.context.handle()
    }

    /// The fence, made when it is first needed.
    ///
    /// # Errors
    ///
    /// Those of [`Fence::new`].
    pub(crate) fn fence(&self, device: &Arc<Device>) -> HostResult<&Arc<Fence>> {
        if self.fence.as_ref().is_none() {
            // Somebody else may be faster: then this one goes again.
            self.fence.populate(Fence::internal(device.clone())?);
        }
        Ok(self.fence.as_ref().ok_or(EIO)?)
    }

    /// The value for the next step. The caller has the queue's turn, or has closed the vm's gate, so
    /// that nobody with a turn sends. A value is never given twice: a step whose answer did not come
    /// may still happen.
    pub(crate) fn next(&self) -> u64 {
        self.asked.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The step that ends at `value`.
    ///
    /// # Errors
    ///
    /// Those of [`Progress::fence`].
    pub(crate) fn step(&self, device: &Arc<Device>, value: u64) -> HostResult<Step> {
        Ok(Step {
            fence: self.fence(device)?.clone(),
            value,
            gone: self.gone.clone(),
        })
    }

    /// Whether the queue got to `value`.
    pub(crate) fn has_reached(&self, value: u64) -> bool {
        self.fence
            .as_ref()
            .is_some_and(|fence| fence.has_reached(value))
    }

    /// Whether the queue has nothing to do. The caller has closed the vm's gate, so nobody submits
    /// meanwhile, and nobody else asks. Sleeps for a moment.
    ///
    /// A queue that has not even done what it was asked the last time is not asked again, so however
    /// long it is blocked, no more than one signal of these waits in it.
    ///
    /// # Errors
    ///
    /// Those of the host; `EINTR` if killed.
    pub(crate) fn is_idle(&self, device: &Arc<Device>, patience: &Patience) -> HostResult<bool> {
        let fence = self.fence(device)?;
        let before = self.probed.load(Ordering::Relaxed);
        if !patience.wait(|| fence.has_reached(before))? {
            return Ok(false);
        }
        let value = self.next();
        fence.signal_in(self.context(), value)?;
        self.probed.store(value, Ordering::Relaxed);
        Ok(patience.wait(|| fence.has_reached(value))?)
    }
}

/// A step of a queue, which does not keep the queue.
pub(crate) struct Step {
    fence: Arc<Fence>,
    value: u64,
    gone: Arc<Done>,
}

impl Step {
    /// Whether the queue has done it, or never will.
    pub(crate) fn is_over(&self) -> bool {
        self.fence.has_reached(self.value) || self.gone.is_done()
    }
}

/// How long somebody waits for queues to say that they are idle, all of them together.
pub(crate) struct Patience {
    start: Instant<Monotonic>,
    /// When the present part ends, in nanoseconds from the start.
    end: i64,
    /// Never completed: a sleep that only the end of the task cuts short.
    never: Arc<Completion>,
}

impl Patience {
    /// Patience from now on.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            start: Instant::now(),
            end: IDLE_NS,
            never: Arc::pin_init(Completion::new(), GFP_KERNEL)?,
        })
    }

    /// Limits what follows to one of `parts` parts of the time that is left; false if none is.
    pub(crate) fn share(&mut self, parts: usize) -> bool {
        let used = self.start.elapsed().as_nanos();
        let left = IDLE_NS.saturating_sub(used);
        // A count of objects; more than fit would get nothing anyway.
        let parts = i64::try_from(parts).unwrap_or(i64::MAX).max(1);
        self.end = used.saturating_add(left / parts);
        left > 0
    }

    /// Waits until `done` and says whether it is.
    ///
    /// # Errors
    ///
    /// `EINTR` if killed.
    fn wait(&self, done: impl Fn() -> bool) -> Result<bool> {
        if done() {
            return Ok(true);
        }
        fsleep(Delta::from_micros(FIRST_LOOK_US));
        while !done() {
            if self.start.elapsed().as_nanos() >= self.end {
                return Ok(false);
            }
            if self.never.wait_killable_timeout(msecs_to_jiffies(STEP_MS)) == Wait::Signal {
                return Err(EINTR);
            }
        }
        Ok(true)
    }
}
