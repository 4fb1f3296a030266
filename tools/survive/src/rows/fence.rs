// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operations on monitored fences.

use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use anyhow::Result;
use libvaccel::ioctl::{
    call, descriptor, Errno, FenceCreate, FenceDestroy, FenceEventfd, FenceFromFd, FenceQuery,
    FenceSignal, FenceWait, FenceWaitMany,
};
use libvaccel::{sys, Deadline};
use zerocopy::IntoBytes;

use crate::rig::Rig;
use crate::row::{ioctl, Row, Step};

/// How long a wait waits for what does not come.
const PENDING: Duration = Duration::from_millis(40);

fn create(rig: &Rig, flags: u32) -> Result<Step<'_>> {
    let arg = sys::FenceCreate {
        vm: rig.vm(),
        flags,
        ..Default::default()
    };
    ioctl::<FenceCreate>(rig, arg)
}

/// A wait for `value` of a new fence at 0.
pub(super) fn wait(rig: &Rig, value: u64) -> Result<sys::FenceWait> {
    Ok(sys::FenceWait {
        fence: rig.make_fence()?,
        value,
        deadline_ns: Deadline::after(PENDING).as_ns(),
        ..Default::default()
    })
}

/// A wait for `value` of two new fences at 0.
pub(super) fn wait_many(rig: &Rig, value: u64, flags: u32) -> Result<sys::FenceWaitMany> {
    let entry = || -> Result<_> {
        Ok(sys::WaitEntry {
            fence: rig.make_fence()?,
            pad: 0,
            value,
        })
    };
    rig.put(0, [entry()?, entry()?].as_bytes())?;
    Ok(sys::FenceWaitMany {
        arg_bo: rig.arg.handle(),
        count: 2,
        deadline_ns: Deadline::after(PENDING).as_ns(),
        flags,
        ..Default::default()
    })
}

/// The same wait, with a deadline that is to come when it begins.
fn wait_pending(rig: &Rig) -> Result<Step<'_>> {
    let arg = wait(rig, 1)?;
    Ok(Box::new(move || {
        let mut arg = sys::FenceWait {
            deadline_ns: Deadline::after(PENDING).as_ns(),
            ..arg
        };
        at_deadline(call::<FenceWait>(rig.fd(), &mut arg))
    }))
}

/// As [`wait_pending`], for any of two.
fn wait_many_pending(rig: &Rig) -> Result<Step<'_>> {
    let arg = wait_many(rig, 1, sys::WAIT_ANY)?;
    Ok(Box::new(move || {
        let mut arg = sys::FenceWaitMany {
            deadline_ns: Deadline::after(PENDING).as_ns(),
            ..arg
        };
        at_deadline(call::<FenceWaitMany>(rig.fd(), &mut arg))
    }))
}

/// The outcome of a wait that nothing but its deadline ends.
fn at_deadline(outcome: Result<(), Errno>) -> Result<(), Errno> {
    match outcome {
        Err(Errno(libc::ETIME)) => Ok(()),
        other => other,
    }
}

fn eventfd(rig: &Rig, value: u64) -> Result<Step<'_>> {
    let arg = sys::FenceEventfd {
        fence: rig.make_fence()?,
        fd: rig.event.as_fd().as_raw_fd(),
        value,
        ..Default::default()
    };
    ioctl::<FenceEventfd>(rig, arg)
}

/// The rows.
pub const ROWS: &[Row] = &[
    Row::new("fence-create", "FENCE_CREATE", |rig| create(rig, 0)),
    Row::new("fence-create-shareable", "FENCE_CREATE", |rig| {
        create(rig, sys::FENCE_SHAREABLE | sys::FENCE_NO_MMAP)
    }),
    Row::new("fence-destroy", "FENCE_DESTROY", |rig| {
        let arg = sys::Destroy {
            handle: rig.make_fence()?,
            pad: 0,
        };
        ioctl::<FenceDestroy>(rig, arg)
    }),
    Row::new("fence-signal", "FENCE_SIGNAL", |rig| {
        let arg = sys::FenceSignal {
            fence: rig.make_fence()?,
            value: 7,
            ..Default::default()
        };
        ioctl::<FenceSignal>(rig, arg)
    }),
    Row::new("fence-rewind", "FENCE_SIGNAL", |rig| {
        let arg = sys::FenceSignal {
            fence: rig.make_fence()?,
            value: 7,
            ..Default::default()
        };
        rig.call::<FenceSignal>(arg)?;
        let arg = sys::FenceSignal {
            flags: sys::SIGNAL_REWIND,
            value: 3,
            ..arg
        };
        ioctl::<FenceSignal>(rig, arg)
    }),
    Row::new("fence-query", "FENCE_QUERY", |rig| {
        let arg = sys::FenceQuery {
            fence: rig.fence.handle(),
            ..Default::default()
        };
        ioctl::<FenceQuery>(rig, arg)
    }),
    Row::new("fence-wait", "FENCE_WAIT", |rig| {
        ioctl::<FenceWait>(rig, wait(rig, 0)?)
    }),
    Row::new("fence-wait-pending", "FENCE_WAIT", wait_pending),
    Row::new("fence-wait-many", "FENCE_WAIT_MANY", |rig| {
        ioctl::<FenceWaitMany>(rig, wait_many(rig, 0, 0)?)
    }),
    Row::new(
        "fence-wait-many-pending",
        "FENCE_WAIT_MANY",
        wait_many_pending,
    ),
    Row::new("fence-eventfd", "FENCE_EVENTFD", |rig| eventfd(rig, 0)),
    Row::new("fence-eventfd-pending", "FENCE_EVENTFD", |rig| {
        eventfd(rig, 1)
    }),
    Row::new("fence-to-fd", "FENCE_TO_FD", |rig| {
        let fence = rig.make_fence()?;
        Ok(Box::new(move || {
            let mut arg = sys::FenceFd {
                fence,
                ..Default::default()
            };
            descriptor::fence_to_fd(rig.fd(), &mut arg).map(drop)
        }))
    }),
    Row::new("fence-from-fd", "FENCE_FROM_FD", |rig| {
        let arg = sys::FenceFd {
            fd: rig.fence_fd.as_raw_fd(),
            vm: rig.manual.handle(),
            ..Default::default()
        };
        ioctl::<FenceFromFd>(rig, arg)
    }),
];
