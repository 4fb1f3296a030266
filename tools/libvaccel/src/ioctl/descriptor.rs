// SPDX-License-Identifier: MIT OR Apache-2.0
//! The operations that make a file descriptor.

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};

use super::{call, Errno, FenceToFd, SyncExport};
use crate::sys;

/// A descriptor that stands for a fence.
pub fn fence_to_fd(fd: BorrowedFd<'_>, arg: &mut sys::FenceFd) -> Result<OwnedFd, Errno> {
    call::<FenceToFd>(fd, arg)?;
    // SAFETY: the call succeeded, so `arg.fd` is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(arg.fd) })
}

/// A sync_file of a value that a fence has reached.
pub fn sync_file(fd: BorrowedFd<'_>, fence: u32, value: u64) -> Result<OwnedFd, Errno> {
    let mut arg = sys::Sync {
        fence,
        flags: sys::SYNC_FILE,
        value,
        ..Default::default()
    };
    call::<SyncExport>(fd, &mut arg)?;
    // SAFETY: the call succeeded with the flag that asks for a sync_file, so `arg.fd` is a new
    // descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(arg.fd) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;

    /// Proves that a refused operation owns no descriptor.
    #[test]
    fn refusals() {
        let null = File::open("/dev/null").unwrap();
        let errno = fence_to_fd(null.as_fd(), &mut sys::FenceFd::default()).unwrap_err();
        assert_eq!(errno, Errno(libc::ENOTTY));
        let errno = sync_file(null.as_fd(), 1, 1).unwrap_err();
        assert_eq!(errno, Errno(libc::ENOTTY));
    }
}
