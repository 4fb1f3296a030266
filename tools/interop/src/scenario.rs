// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a scenario is, how it ends, and what most of them start from.

use std::fmt::Debug;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use libvaccel::compute::Session;
use libvaccel::ioctl::readiness::{wait_readable, Readiness};
use libvaccel::ioctl::Errno;
use libvaccel::{Deadline, Device, Features, Fence, FenceFlags, VmFlags};

use crate::libdrm::{Drm, Refused, SyncObj};

/// One scenario.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Name in the output.
    pub name: &'static str,
    /// What a pass shows.
    pub proves: &'static str,
    /// Runs it on a node.
    pub run: fn(&Path) -> Result,
}

/// Why a scenario did not pass.
#[derive(Debug)]
pub enum Problem {
    /// Something is wrong.
    Failed(String),
    /// It is not possible on this driver.
    Skipped(String),
}

/// Result of a scenario, or of a part of one.
pub type Result<T = ()> = std::result::Result<T, Problem>;

impl From<libvaccel::Error> for Problem {
    fn from(error: libvaccel::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<std::io::Error> for Problem {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        Self::Failed(format!("{}: {}", refused.function, refused.errno))
    }
}

impl From<Errno> for Problem {
    fn from(errno: Errno) -> Self {
        Self::Failed(format!("poll: {errno}"))
    }
}

/// A failed scenario.
pub fn failed<T>(reason: impl Into<String>) -> Result<T> {
    Err(Problem::Failed(reason.into()))
}

/// A condition that must hold.
pub fn ensure(condition: bool, otherwise: impl Into<String>) -> Result {
    if condition {
        Ok(())
    } else {
        failed(otherwise)
    }
}

/// Two values that must be the same.
pub fn same<T: PartialEq + Debug>(what: &str, seen: T, expected: T) -> Result {
    ensure(
        seen == expected,
        format!("{what}: {seen:?}, expected {expected:?}"),
    )
}

/// The errno of a failed call, libdrm's or the driver's.
pub trait HasErrno {
    /// It, if the kernel was asked.
    fn errno(&self) -> Option<Errno>;
}

impl HasErrno for Refused {
    fn errno(&self) -> Option<Errno> {
        Some(self.errno)
    }
}

impl HasErrno for libvaccel::Error {
    fn errno(&self) -> Option<Errno> {
        self.errno()
    }
}

/// A call that must fail, and how.
pub fn fails<T, E: HasErrno>(
    what: &str,
    outcome: std::result::Result<T, E>,
    expected: i32,
) -> Result {
    match outcome {
        Err(error) => same(what, error.errno(), Some(Errno(expected))),
        Ok(_) => failed(format!("{what}: accepted, expected {}", Errno(expected))),
    }
}

/// Generous, since nested emulation is slow.
pub fn soon() -> Deadline {
    Deadline::after_secs(60)
}

/// Long enough for what must not happen to happen.
const A_WHILE: Duration = Duration::from_millis(30);

/// For waits that are to end without success.
pub fn a_while() -> Deadline {
    Deadline::after(A_WHILE)
}

/// Waits in another thread until `act`, and no earlier, ends the wait.
pub fn ends_by<E: Send>(
    what: &str,
    wait: impl FnOnce() -> std::result::Result<(), E> + Send,
    act: impl FnOnce() -> Result,
) -> Result
where
    Problem: From<E>,
{
    std::thread::scope(|scope| {
        let waiter = scope.spawn(wait);
        std::thread::sleep(A_WHILE);
        let early = waiter.is_finished();
        // Also if it is early: the thread is joined in any case, by what it waits for.
        let acted = act();
        let waited = waiter.join();
        acted?;
        match waited {
            Ok(outcome) => outcome?,
            Err(_) => return failed(format!("{what}: the waiting thread died")),
        }
        ensure(!early, format!("{what}: the wait ended early"))
    })
}

/// Whether a descriptor becomes readable until `deadline`.
pub fn readable(fd: BorrowedFd<'_>, deadline: Deadline) -> Result<bool> {
    Ok(wait_readable(fd, deadline)? == Readiness::Readable)
}

/// A file with a fence at 0 in a vm of its own.
#[derive(Debug)]
pub struct Rig {
    /// The fence.
    pub fence: Fence,
    /// The file.
    pub device: Device,
}

impl Rig {
    /// Opens the node, and skips where fences and syncobjs have nothing to do with each other.
    pub fn new(node: &Path) -> Result<Self> {
        let device = Device::open(node)?;
        if !device.features()?.contains(Features::SYNC_BRIDGE) {
            return Err(Problem::Skipped("the driver lacks SYNC_BRIDGE".into()));
        }
        let vm = device.create_vm(VmFlags::empty())?;
        let fence = vm.create_fence(FenceFlags::empty(), 0)?;
        Ok(Self { fence, device })
    }

    /// The file, for libdrm.
    pub fn drm(&self) -> Drm<'_> {
        Drm::new(self.device.as_fd())
    }

    /// A syncobj that libdrm made, and libvaccel's handle of it, by which the driver gets it.
    pub fn syncobj(&self, flags: u32) -> Result<(SyncObj<'_>, libvaccel::SyncObj)> {
        let syncobj = self.drm().create_syncobj(flags)?;
        let tie = self.device.open_syncobj(syncobj.to_fd()?.as_fd())?;
        Ok((syncobj, tie))
    }

    /// A queue with a fence of its own, for jobs.
    pub fn session(&self) -> Result<Session> {
        Ok(Session::new(&self.device)?)
    }
}
