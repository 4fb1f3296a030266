// SPDX-License-Identifier: MIT OR Apache-2.0
//! sync_files: what is in them, merging them, waiting for them.

use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

use libvaccel::ioctl::readiness::{self, Readiness};
use libvaccel::Deadline;

use super::request;
use crate::rig::{Problem, Result};
use crate::system;

/// Most fences that are looked at.
const MOST: usize = 64;

/// `struct sync_merge_data`.
#[repr(C)]
#[derive(Debug, Default)]
struct MergeArg {
    name: [u8; 32],
    fd2: i32,
    fence: i32,
    flags: u32,
    pad: u32,
}

/// `struct sync_fence_info`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct FenceInfoArg {
    obj_name: [u8; 32],
    driver_name: [u8; 32],
    status: i32,
    flags: u32,
    timestamp_ns: u64,
}

/// `struct sync_file_info`.
#[repr(C)]
#[derive(Debug, Default)]
struct FileInfoArg {
    name: [u8; 32],
    status: i32,
    flags: u32,
    num_fences: u32,
    pad: u32,
    sync_fence_info: u64,
}

const MERGE: u32 = request(3, b'>', 3, size_of::<MergeArg>());
const FILE_INFO: u32 = request(3, b'>', 4, size_of::<FileInfoArg>());

/// What has become of a fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It has not signalled.
    Active,
    /// It has.
    Signalled,
    /// It has, with this errno.
    Failed(i32),
}

impl Status {
    const fn of(status: i32) -> Self {
        match status {
            0 => Self::Active,
            error if error < 0 => Self::Failed(error.saturating_neg()),
            _ => Self::Signalled,
        }
    }
}

/// A sync_file.
#[derive(Debug)]
pub struct SyncFile(OwnedFd);

impl From<OwnedFd> for SyncFile {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl AsFd for SyncFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl SyncFile {
    /// The status of each fence in it.
    pub fn fences(&self) -> Result<Vec<Status>> {
        let mut fences = [FenceInfoArg::default(); MOST];
        let mut arg = FileInfoArg {
            num_fences: MOST as u32,
            sync_fence_info: fences.as_mut_ptr() as u64,
            ..Default::default()
        };
        // SAFETY: FileInfoArg is the structure of FILE_INFO; the array is live, exclusively ours and
        // has as many entries as announced, which the kernel writes.
        unsafe { system::ioctl(self.as_fd(), FILE_INFO, &mut arg) }?;
        let all = fences.iter().take(arg.num_fences as usize);
        Ok(all.map(|fence| Status::of(fence.status)).collect())
    }

    /// The status of the whole: the first error, active if one is, signalled if all are.
    pub fn status(&self) -> Result<Status> {
        let fences = self.fences()?;
        let failed = |status: &&Status| matches!(status, Status::Failed(_));
        if let Some(failed) = fences.iter().find(failed) {
            return Ok(*failed);
        }
        Ok(if fences.contains(&Status::Active) {
            Status::Active
        } else {
            Status::Signalled
        })
    }

    /// One that signals when both have.
    pub fn merge(&self, other: &Self) -> Result<Self> {
        use std::os::fd::AsRawFd;
        let mut arg = MergeArg {
            fd2: other.0.as_raw_fd(),
            ..Default::default()
        };
        // SAFETY: MergeArg is the structure of MERGE; it holds no address.
        unsafe { system::ioctl(self.as_fd(), MERGE, &mut arg) }?;
        // SAFETY: the call succeeded, so that `fence` is a new descriptor that nobody else owns.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(arg.fence) }))
    }

    /// Waits, by poll(2), until all have signalled; whether they have by the deadline.
    pub fn wait(&self, deadline: Deadline) -> Result<bool> {
        match readiness::wait_readable(self.as_fd(), deadline) {
            Ok(Readiness::TimedOut) => Ok(false),
            Ok(Readiness::Readable) => Ok(true),
            Ok(Readiness::Ended) => Err(Problem::Failed("a sync_file polls as broken".into())),
            Err(errno) => Err(Problem::Failed(format!("poll of a sync_file: {errno}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves the request numbers against ones worked out from linux/sync_file.h, and the meaning of
    /// a status.
    #[test]
    fn requests_and_status() {
        assert_eq!(MERGE, 0xc030_3e03);
        assert_eq!(FILE_INFO, 0xc038_3e04);
        assert_eq!(Status::of(0), Status::Active);
        assert_eq!(Status::of(1), Status::Signalled);
        assert_eq!(Status::of(-62), Status::Failed(62));
    }
}
