// SPDX-License-Identifier: MIT OR Apache-2.0
//! Monitored fences and the rest of the system: syncobjs, sync_files and eventfds.
//!
//! A value that nobody may ever reach cannot become a dma_fence, which has to signal. So a point that
//! stands for a value has no fence until the value is reached, and whoever waits for the point waits
//! for submission too ([`SyncObjWait::FOR_SUBMIT`](crate::SyncObjWait::FOR_SUBMIT)). What makes one at
//! once is work on a bounded queue ([`Submission::out_syncobj`](crate::Submission::out_syncobj)).

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::fence::Fence;
use crate::ioctl::{self, descriptor, Errno};
use crate::syncobj::SyncObj;
use crate::sys;

/// The flag that goes with a point.
pub(crate) const fn timeline(point: u64) -> u32 {
    match point {
        0 => 0,
        _ => sys::SYNC_TIMELINE,
    }
}

impl Fence {
    /// Has `point` of a syncobj get a signalled fence when this fence has reached `value`; returns at
    /// once. Points of a timeline are asked for in rising order and appear in that order.
    ///
    /// A value that cannot be reached any more gives a fence with an error: EIO (the vm is in error),
    /// ENODEV (the adapter is gone), ECANCELED (the file was closed).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`] for a point that is not above the one before or a syncobj of
    /// another file, [`ErrorKind::Busy`] if too many have yet to happen.
    pub fn export_to(&self, syncobj: &SyncObj, point: u64, value: u64) -> Result<()> {
        let mut arg = self.tie(syncobj, point, value, "SYNC_EXPORT")?;
        self.vm().node().call::<ioctl::SyncExport>(&mut arg)
    }

    /// Has this fence raised to `value` when `point` of a syncobj has signalled; returns at once. A
    /// point without a fence is waited for until `missing`, if that is given.
    ///
    /// An error of the point's fence is recorded on this one, which is raised all the same; so is
    /// ETIME if there was none in time.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`] for a point without a fence, unless it is waited for, a value
    /// that is not above that of the import before, or a syncobj of another file;
    /// [`ErrorKind::Busy`] if too many have yet to happen.
    pub fn import_from(
        &self,
        syncobj: &SyncObj,
        point: u64,
        value: u64,
        missing: Option<Deadline>,
    ) -> Result<()> {
        let mut arg = self.tie(syncobj, point, value, "SYNC_IMPORT")?;
        if let Some(deadline) = missing {
            arg.flags |= sys::SYNC_WAIT_FOR_SUBMIT;
            arg.deadline_ns = deadline.as_ns();
        }
        self.vm().node().call::<ioctl::SyncImport>(&mut arg)
    }

    /// Has this fence raised to `value` when a sync_file has signalled; as [`Fence::import_from`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`] for a descriptor that is no sync_file or a value that is not
    /// above that of the import before, [`ErrorKind::Busy`] if too many have yet to happen.
    pub fn import_sync_file(&self, sync_file: BorrowedFd<'_>, value: u64) -> Result<()> {
        let mut arg = sys::Sync {
            fence: self.handle(),
            flags: sys::SYNC_FILE,
            value,
            fd: sync_file.as_raw_fd(),
            ..Default::default()
        };
        self.vm().node().call::<ioctl::SyncImport>(&mut arg)
    }

    /// A sync_file, signalled, of a value that has been reached.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Busy`] for a value that has not.
    pub fn sync_file(&self, value: u64) -> Result<OwnedFd> {
        let node = self.vm().node();
        loop {
            match descriptor::sync_file(node.fd(), self.handle(), value) {
                Ok(fd) => return Ok(fd),
                Err(Errno(libc::EINTR)) => {}
                Err(errno) => return Err(Error::from_errno("SYNC_EXPORT", errno, 0)),
            }
        }
    }

    /// Has an eventfd signalled once when this fence has reached `value`, at once if it has. It is
    /// signalled too when the value cannot be reached any more: [`Fence::wait`] with
    /// [`Deadline::NOW`] tells.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`] for a descriptor that is no eventfd.
    pub fn eventfd(&self, value: u64, event: BorrowedFd<'_>) -> Result<()> {
        let mut arg = sys::FenceEventfd {
            fence: self.handle(),
            fd: event.as_raw_fd(),
            value,
            ..Default::default()
        };
        self.vm().node().call::<ioctl::FenceEventfd>(&mut arg)
    }

    pub(crate) fn tie(
        &self,
        syncobj: &SyncObj,
        point: u64,
        value: u64,
        operation: &'static str,
    ) -> Result<sys::Sync> {
        if !Arc::ptr_eq(self.vm().node(), syncobj.node()) {
            return Err(Error::local(
                ErrorKind::InvalidArgument,
                operation,
                "the syncobj belongs to another open file; export and import it",
            ));
        }
        Ok(sys::Sync {
            fence: self.handle(),
            flags: timeline(point),
            value,
            syncobj: syncobj.handle(),
            point,
            ..Default::default()
        })
    }
}
