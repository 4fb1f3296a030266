// SPDX-License-Identifier: MIT OR Apache-2.0
//! The two ways to the driver.

use std::fs::File;
use std::os::fd::AsFd;

use libvaccel::ioctl::{self, FenceWait};
use libvaccel::ring::raw::{Completion, EntryFlags, Ring, RingOperation, Setup, Target};
use libvaccel::{sys, Deadline, Fence};

use super::super::{Unfinished, WAIT_SECS};

/// Entries of a ring: the largest batch.
const ENTRIES: u32 = 256;

/// How operations reach the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// A call for each.
    Ioctl,
    /// Entries of an io_uring, and a call for all of them.
    Ring,
}

impl Way {
    /// How it is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ioctl => "ioctl",
            Self::Ring => "ring",
        }
    }

    /// The door of this way to `file`.
    pub fn open(self, file: &File) -> Result<Door<'_>, Unfinished> {
        Ok(match self {
            Self::Ioctl => Door::Ioctl(file),
            Self::Ring => Door::Ring(Box::new(ring(file)?)),
        })
    }
}

/// A ring that knows the file, for the thread that makes it.
fn ring(file: &File) -> Result<Ring, Unfinished> {
    let setup = Setup {
        entries: ENTRIES,
        defer_taskrun: true,
        ..Default::default()
    };
    let ring = Ring::new(&setup)?;
    ring.register_file(file.as_fd())?;
    Ok(ring)
}

/// A way that is open.
#[derive(Debug)]
pub enum Door<'a> {
    /// By ioctl.
    Ioctl(&'a File),
    /// By ring.
    Ring(Box<Ring>),
}

fn refused(what: &str, error: i32) -> Unfinished {
    let error = ioctl::Errno(error);
    Unfinished::Failed(format!("{what}: {error}"))
}

/// Does an operation by ioctl.
pub fn call<O: ioctl::Operation>(file: &File, arg: &mut O::Arg) -> Result<(), Unfinished> {
    ioctl::call::<O>(file.as_fd(), arg).map_err(|error| refused(O::NAME, error.0))
}

/// Puts an operation into a ring.
pub fn push<O: RingOperation>(ring: &mut Ring, arg: &O::Arg) -> Result<(), Unfinished> {
    Ok(ring.push::<O>(Target::Fixed(0), arg, 0, EntryFlags::empty())?)
}

/// Submits what was pushed, and takes `count` completions.
pub fn complete(ring: &mut Ring, count: usize, what: &str) -> Result<(), Unfinished> {
    let deadline = Deadline::after_secs(WAIT_SECS);
    let mut left = count;
    while left > 0 {
        ring.submit_and_wait(left, deadline)?;
        let done = ring.completions();
        if let Some(Completion { result, .. }) = done.iter().find(|done| done.result < 0) {
            return Err(refused(what, result.saturating_neg()));
        }
        left = left.saturating_sub(done.len());
    }
    Ok(())
}

/// Waits for a value of a fence.
pub fn wait(door: &mut Door<'_>, fence: &Fence, value: u64) -> Result<(), Unfinished> {
    let mut arg = sys::FenceWait {
        fence: fence.handle(),
        value,
        deadline_ns: Deadline::after_secs(WAIT_SECS).as_ns(),
        ..Default::default()
    };
    match door {
        Door::Ioctl(file) => call::<FenceWait>(file, &mut arg),
        Door::Ring(ring) => {
            push::<FenceWait>(ring, &arg)?;
            complete(ring, 1, "FENCE_WAIT by ring")
        }
    }
}
