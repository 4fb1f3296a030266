// SPDX-License-Identifier: GPL-2.0-only

//! Waiting for monitored fences: asleep, for one or several, or by an eventfd.

use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::time::{
    msecs_to_jiffies,
    ClockSource,
    Monotonic, //
};

use crate::bindings::uapi;
use crate::bo::ArgRef;
use crate::client::Client;
use crate::driver::{
    DrmDevice,
    DrmFile, //
};
use crate::eventfd::EventFd;
use crate::fence::Fence;
use crate::host_error::{
    HostError,
    HostResult, //
};
use crate::sync::{
    Completion,
    Wait, //
};
use crate::watch::{
    Finish,
    Watch, //
};

/// Longest sleep of a waiter before it looks by itself, in case the host forgot it.
const WAIT_SLICE_MS: u32 = 10_000;

/// A fence and the value that is waited for.
pub(crate) struct Wanted {
    pub(crate) fence: Arc<Fence>,
    pub(crate) value: u64,
}

/// Several of them.
pub(crate) struct WantedList {
    pub(crate) all: KVec<Wanted>,
    /// Whether one is enough.
    pub(crate) any: bool,
}

impl WantedList {
    /// Which one was reached, the last if all had to be; none if it has to be waited for.
    ///
    /// # Errors
    ///
    /// `ENODEV` or `EIO` if it cannot be reached any more.
    fn over(&self, watches: &[Watch]) -> HostResult<Option<usize>> {
        let mut reached = None;
        let mut missing = false;
        let mut failed = None;
        for (at, wanted) in self.all.iter().enumerate() {
            let told = watches.get(at).is_some_and(Watch::is_over);
            let over = if told {
                Ok(true)
            } else {
                wanted.fence.is_over(wanted.value)
            };
            match over {
                Ok(true) if self.any => return Ok(Some(at)),
                Ok(true) => reached = Some(at),
                Ok(false) => missing = true,
                Err(error) if !self.any => return Err(error),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        match failed {
            Some(error) if !missing => Err(error),
            _ if missing => Ok(None),
            _ => Ok(reached),
        }
    }

    /// Has the host tell of those that are not reached.
    fn arm(&self) -> HostResult {
        for wanted in &self.all {
            let (fence, value) = (&wanted.fence, wanted.value);
            // Whether it failed is for `over` to say.
            if fence.reached() < value {
                fence
                    .arm(value)
                    .or_else(|error| self.unless_failed(error))?;
            }
        }
        Ok(())
    }

    /// Of several of which one is enough, some may have failed.
    fn unless_failed(&self, error: HostError) -> HostResult {
        if self.any && [EIO, EREMOTEIO].contains(&error.errno) {
            Ok(())
        } else {
            Err(error)
        }
    }

    /// Waits.
    ///
    /// # Errors
    ///
    /// `ETIME` after `deadline_ns`, `ERESTARTSYS` on a signal (the deadline is absolute), `EIO` if
    /// a device is in error, `ENODEV` if the adapter goes.
    fn wait(&self, deadline_ns: u64) -> HostResult<usize> {
        if let Some(at) = self.over(&[])? {
            return Ok(at);
        }
        if remaining_ms(deadline_ns) == 0 {
            return Err(ETIME.into());
        }
        let sleeper = Arc::pin_init(Completion::new(), GFP_KERNEL)?;
        let watches = self.watch(&sleeper)?;
        loop {
            self.arm()?;
            if let Some(at) = self.over(&watches)? {
                return Ok(at);
            }
            match remaining_ms(deadline_ns) {
                0 => return Err(ETIME.into()),
                left => sleep(&sleeper, left)?,
            }
        }
    }

    fn watch(&self, sleeper: &Arc<Completion>) -> Result<KVec<Watch>> {
        let mut watches = KVec::with_capacity(self.all.len(), GFP_KERNEL)?;
        for wanted in &self.all {
            let watch = wanted.fence.watch(wanted.value, sleeper.clone())?;
            watches.push(watch, GFP_KERNEL)?;
        }
        Ok(watches)
    }
}

fn sleep(sleeper: &Completion, left_ms: u32) -> Result {
    let slice = msecs_to_jiffies(left_ms.min(WAIT_SLICE_MS));
    match sleeper.wait_interruptible_timeout(slice) {
        Wait::Done | Wait::TimedOut => Ok(()),
        Wait::Signal => Err(ERESTARTSYS),
    }
}

/// Milliseconds from now to `deadline_ns`, rounded up.
pub(crate) fn remaining_ms(deadline_ns: u64) -> u32 {
    let now = Monotonic::ktime_get();
    // CAST: the monotonic clock is never negative.
    let left = deadline_ns.saturating_sub(now as u64).div_ceil(1_000_000);
    u32::try_from(left).unwrap_or(u32::MAX)
}

impl WantedList {
    /// One value.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn of_one(fence: Arc<Fence>, value: u64) -> Result<Self> {
        let mut all = KVec::new();
        all.push(Wanted { fence, value }, GFP_KERNEL)?;
        Ok(Self { all, any: false })
    }

    /// What a `FENCE_WAIT` is about.
    ///
    /// # Errors
    ///
    /// Those of the operation.
    pub(crate) fn of_wait(args: &uapi::drm_vaccel_fence_wait, client: &Client) -> Result<Self> {
        if args.flags != 0 || args.reserved != [0; 2] {
            return Err(EINVAL);
        }
        Self::of_one(client.fence(args.fence)?.fence, args.value)
    }

    /// What a `FENCE_WAIT_MANY` is about.
    ///
    /// # Errors
    ///
    /// Those of the operation.
    pub(crate) fn of_wait_many(
        args: &uapi::drm_vaccel_fence_wait_many,
        file: &DrmFile,
    ) -> Result<Self> {
        if args.flags & !uapi::VACCEL_WAIT_ANY != 0 || args.reserved != [0; 2] || args.count == 0 {
            return Err(EINVAL);
        }
        if args.count > uapi::VACCEL_WAIT_MANY_MAX {
            return Err(EFBIG);
        }
        let any = args.flags & uapi::VACCEL_WAIT_ANY != 0;
        let all = read_list(args, file, &file.inner())?;
        Ok(Self { all, any })
    }
}

/// `DRM_IOCTL_VACCEL_FENCE_WAIT`.
pub(crate) fn wait(
    _dev: &DrmDevice,
    args: &mut uapi::drm_vaccel_fence_wait,
    file: &DrmFile,
) -> HostResult {
    let list = WantedList::of_wait(args, &file.inner())?;
    let result = list.wait(args.deadline_ns);
    if let Some(wanted) = list.all.first() {
        args.observed_value = wanted.fence.value();
        args.error = wanted.fence.recorded();
    }
    result.map(|_| ())
}

/// `DRM_IOCTL_VACCEL_FENCE_WAIT_MANY`.
pub(crate) fn wait_many(
    _dev: &DrmDevice,
    args: &mut uapi::drm_vaccel_fence_wait_many,
    file: &DrmFile,
) -> HostResult {
    let list = WantedList::of_wait_many(args, file)?;
    let any = list.any;
    let at = list.wait(args.deadline_ns)?;
    args.error = list.all.iter().fold(0, |first, wanted| match first {
        0 => wanted.fence.recorded(),
        first => first,
    });
    // CAST: at most VACCEL_WAIT_MANY_MAX.
    args.index = if any { at as u32 } else { 0 };
    args.observed_value = match list.all.get(at) {
        Some(wanted) if any => {
            args.error = wanted.fence.recorded();
            wanted.fence.value()
        }
        _ => 0,
    };
    Ok(())
}

/// Copies the list of fences and looks them up.
fn read_list(
    args: &uapi::drm_vaccel_fence_wait_many,
    file: &DrmFile,
    client: &Client,
) -> Result<KVec<Wanted>> {
    const ENTRY: usize = size_of::<uapi::drm_vaccel_wait_entry>();
    // CAST: the count was checked against a small limit.
    let count = args.count as usize;
    let bytes = ArgRef::new(file, args.arg_bo, args.arg_offset, ENTRY * count)?.read()?;
    let mut all = KVec::with_capacity(count, GFP_KERNEL)?;
    for bytes in bytes.chunks_exact(ENTRY) {
        let entry = uapi::drm_vaccel_wait_entry::read_from_bytes(bytes).map_err(|_| EINVAL)?;
        if entry.pad != 0 {
            return Err(EINVAL);
        }
        let wanted = Wanted {
            fence: client.fence(entry.fence)?.fence,
            value: entry.value,
        };
        all.push(wanted, GFP_KERNEL)?;
    }
    Ok(all)
}

/// An eventfd that waits for a fence.
struct Notice(EventFd);

impl Finish for Notice {
    fn finish(&self, _outcome: Result) {
        // Also when the value will not be reached: who waits shall look.
        self.0.signal();
    }
}

/// `DRM_IOCTL_VACCEL_FENCE_EVENTFD`.
pub(crate) fn eventfd(
    _dev: &DrmDevice,
    args: &mut uapi::drm_vaccel_fence_eventfd,
    file: &DrmFile,
) -> HostResult {
    if args.flags != 0 || args.reserved != 0 {
        return Err(EINVAL.into());
    }
    let client = file.inner();
    let fence = client.fence(args.fence)?.fence;
    let eventfd = EventFd::from_fd(args.fd)?;
    if fence.is_over(args.value)? {
        eventfd.signal();
        return Ok(());
    }
    let notice = Arc::new(Notice(eventfd), GFP_KERNEL)?;
    fence.watch_detached(args.value, notice, &client.pending)
}
