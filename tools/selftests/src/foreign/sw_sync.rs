// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fences of the kernel's own test timeline, in debugfs: the only ones that can be made to fail.

use std::fs::File;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::path::Path;

use super::request;
use super::sync_file::SyncFile;
use crate::rig::{Problem, Result};
use crate::system;

const DEBUGFS: &str = "/sys/kernel/debug";
const NODE: &str = "/sys/kernel/debug/sync/sw_sync";

/// `struct sw_sync_create_fence_data`.
#[repr(C)]
#[derive(Debug, Default)]
struct CreateFenceArg {
    value: u32,
    name: [u8; 32],
    fence: i32,
}

const CREATE_FENCE: u32 = request(3, b'W', 0, size_of::<CreateFenceArg>());
const INC: u32 = request(1, b'W', 1, size_of::<u32>());

/// A timeline at 0. When it is dropped its fences that have not signalled do, with ENOENT.
#[derive(Debug)]
pub struct SwSync {
    node: File,
}

impl SwSync {
    /// Makes a timeline, or skips.
    pub fn open() -> Result<Self> {
        if !Path::new(NODE).exists() {
            // It may be there already, or not at all: the node tells.
            let _ = system::mount("debugfs", DEBUGFS);
        }
        match File::options().read(true).write(true).open(NODE) {
            Ok(node) => Ok(Self { node }),
            Err(error) => Err(Problem::Skipped(format!("{NODE}: {error}"))),
        }
    }

    /// A fence that signals when the timeline is at `value`.
    pub fn fence(&self, value: u32) -> Result<SyncFile> {
        let mut arg = CreateFenceArg {
            value,
            ..Default::default()
        };
        // SAFETY: CreateFenceArg is the structure of CREATE_FENCE; it holds no address.
        unsafe { system::ioctl(self.node.as_fd(), CREATE_FENCE, &mut arg) }?;
        // SAFETY: the call succeeded, so that `fence` is a new descriptor that nobody else owns.
        Ok(SyncFile::from(unsafe { OwnedFd::from_raw_fd(arg.fence) }))
    }

    /// Moves the timeline on.
    pub fn advance(&self, by: u32) -> Result {
        let mut arg = by;
        // SAFETY: a word is the argument of INC.
        unsafe { system::ioctl(self.node.as_fd(), INC, &mut arg) }?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves the request numbers against ones worked out from drivers/dma-buf/sw_sync.c.
    #[test]
    fn request_numbers() {
        assert_eq!(CREATE_FENCE, 0xc028_5700);
        assert_eq!(INC, 0x4004_5701);
    }
}
