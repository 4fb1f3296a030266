// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sync objects of the DRM core: what other drivers and window systems synchronise by.
//!
//! A syncobj holds one dma_fence (binary) or a timeline of them. A point is a number on that
//! timeline; 0 means the binary one, here and wherever this library takes a point. Monitored fences
//! are tied to points by [`Fence::export_to`](crate::Fence::export_to),
//! [`Fence::import_from`](crate::Fence::import_from) and the syncobj operations of a
//! [`Submission`](crate::Submission).

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::flags::SyncObjWait;
use crate::handle::{Handle, Kind, Node};
use crate::ioctl::{syncobj, Errno};

/// A syncobj of a file. It goes with its last handle in any file and its last descriptor.
#[derive(Debug)]
#[must_use = "the handle is given up when this is dropped"]
pub struct SyncObj {
    handle: Arc<Handle>,
}

/// A call of the core, again if a signal interrupted it: deadlines are absolute.
fn again<T>(
    operation: &'static str,
    mut call: impl FnMut() -> std::result::Result<T, Errno>,
) -> Result<T> {
    loop {
        match call() {
            Ok(value) => return Ok(value),
            Err(Errno(libc::EINTR)) => {}
            Err(errno) => return Err(Error::from_errno(operation, errno, 0)),
        }
    }
}

/// The core's deadlines are signed.
fn signed(deadline: Deadline) -> i64 {
    i64::try_from(deadline.as_ns()).unwrap_or(i64::MAX)
}

impl SyncObj {
    pub(crate) fn new(node: &Arc<Node>, signalled: bool) -> Result<Self> {
        const OPERATION: &str = "SYNCOBJ_CREATE";
        Self::of(
            node,
            again(OPERATION, || syncobj::create(node.fd(), signalled))?,
        )
    }

    pub(crate) fn open(node: &Arc<Node>, fd: BorrowedFd<'_>) -> Result<Self> {
        const OPERATION: &str = "SYNCOBJ_FD_TO_HANDLE";
        Self::of(
            node,
            again(OPERATION, || syncobj::fd_to_handle(node.fd(), fd))?,
        )
    }

    /// Takes over a handle.
    pub(crate) fn of(node: &Arc<Node>, raw: u32) -> Result<Self> {
        let handle = Handle::new(node.clone(), Kind::SyncObj, raw, "SYNCOBJ_CREATE")?;
        Ok(Self {
            handle: Arc::new(handle),
        })
    }

    /// Handle.
    pub fn handle(&self) -> u32 {
        self.handle.raw()
    }

    /// What keeps the handle.
    pub(crate) const fn hold(&self) -> &Arc<Handle> {
        &self.handle
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        self.handle.node()
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.node().fd()
    }

    /// A descriptor of the syncobj, for other processes and other devices.
    ///
    /// # Errors
    ///
    /// Those of the kernel, such as too many open files.
    pub fn to_fd(&self) -> Result<OwnedFd> {
        again("SYNCOBJ_HANDLE_TO_FD", || {
            syncobj::handle_to_fd(self.fd(), self.handle())
        })
    }

    /// A sync_file of the fence that is at `point` now.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if there is none.
    pub fn export_sync_file(&self, point: u64) -> Result<OwnedFd> {
        again("SYNCOBJ_HANDLE_TO_FD", || {
            syncobj::export_sync_file(self.fd(), self.handle(), point)
        })
    }

    /// Puts the fence of a sync_file at `point`.
    ///
    /// A sync_file that came of a point of a timeline is for the binary one only: the core warns of
    /// timelines in timelines. [`SyncObj::transfer`] is the way there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if the descriptor is no
    /// sync_file.
    pub fn import_sync_file(&self, point: u64, sync_file: BorrowedFd<'_>) -> Result<()> {
        again("SYNCOBJ_FD_TO_HANDLE", || {
            syncobj::import_sync_file(self.fd(), self.handle(), point, sync_file)
        })
    }

    /// Puts the fence at `point` at `to_point` of another syncobj of the same file too. Of the flags
    /// [`SyncObjWait::FOR_SUBMIT`] has a meaning.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if there is no fence.
    pub fn transfer(&self, point: u64, to: &Self, to_point: u64, flags: SyncObjWait) -> Result<()> {
        let (from, to) = ((self.handle(), point), (to.handle(), to_point));
        again("SYNCOBJ_TRANSFER", || {
            syncobj::transfer(self.fd(), from, to, flags.bits())
        })
    }

    /// The last point of the timeline that has signalled.
    ///
    /// # Errors
    ///
    /// Those of the kernel.
    pub fn query(&self) -> Result<u64> {
        again("SYNCOBJ_QUERY", || {
            syncobj::query(self.fd(), self.handle(), false)
        })
    }

    /// The last point of the timeline that has a fence.
    ///
    /// # Errors
    ///
    /// Those of the kernel.
    pub fn query_last_submitted(&self) -> Result<u64> {
        again("SYNCOBJ_QUERY", || {
            syncobj::query(self.fd(), self.handle(), true)
        })
    }

    /// Puts a signalled fence at `point`.
    ///
    /// # Errors
    ///
    /// Those of the kernel.
    pub fn signal(&self, point: u64) -> Result<()> {
        let (fd, handle) = (self.fd(), self.handle());
        match point {
            0 => again("SYNCOBJ_SIGNAL", || syncobj::signal(fd, handle)),
            _ => again("SYNCOBJ_TIMELINE_SIGNAL", || {
                syncobj::timeline_signal(fd, handle, point)
            }),
        }
    }

    /// Takes the fence out, with all points.
    ///
    /// # Errors
    ///
    /// Those of the kernel.
    pub fn reset(&self) -> Result<()> {
        again("SYNCOBJ_RESET", || syncobj::reset(self.fd(), self.handle()))
    }

    /// Waits for `point`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut) at the deadline, and
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if there is no fence and
    /// `flags` do not wait for one. That a fence signalled with an error is none: its sync_file
    /// says.
    pub fn wait(&self, point: u64, deadline: Deadline, flags: SyncObjWait) -> Result<()> {
        let (fd, handle) = (self.fd(), self.handle());
        let (end, flags) = (signed(deadline), flags.bits());
        // Of a binary syncobj too, by point 0.
        let waited = again("SYNCOBJ_TIMELINE_WAIT", || {
            syncobj::timeline_wait(fd, &[(handle, point)], end, flags)
        });
        waited.map(drop)
    }

    /// Has an eventfd signalled once when `point` signals, or with [`SyncObjWait::AVAILABLE`], the
    /// one flag there is, has a fence. It need not have one yet.
    ///
    /// # Errors
    ///
    /// Those of the kernel.
    pub fn eventfd(&self, point: u64, event: BorrowedFd<'_>, flags: SyncObjWait) -> Result<()> {
        again("SYNCOBJ_EVENTFD", || {
            syncobj::eventfd(self.fd(), self.handle(), point, event, flags.bits())
        })
    }

    /// Gives the handle up. Refused while a pending operation of a
    /// [`Ring`](crate::ring::Ring) names it; it then goes with the last of them. What waits for the syncobj or is to signal it keeps it.
    ///
    /// # Errors
    ///
    /// Those of the kernel.
    pub fn close(self) -> Result<()> {
        self.handle.close_shared()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    /// Proves that a call is made again exactly as long as signals interrupt it.
    #[test]
    fn interrupted() {
        let mut answers = vec![Err(Errno(libc::ETIME)), Err(Errno(libc::EINTR)), Ok(3)];
        let mut call = || answers.pop().unwrap();
        assert_eq!(again("X", &mut call), Ok(3));
        let error = again("X", &mut call).unwrap_err();
        assert_eq!(
            (error.kind(), error.operation()),
            (ErrorKind::TimedOut, "X")
        );
    }

    /// Proves that a deadline that never comes stays one.
    #[test]
    fn deadlines() {
        assert_eq!(signed(Deadline::NEVER), i64::MAX);
        assert_eq!(signed(Deadline::NOW), 0);
    }
}
