// SPDX-License-Identifier: MIT OR Apache-2.0
//! Making an eventfd, counting, and taking what was counted.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::Errno;

/// A new one at 0, whose reads do not wait.
pub fn create() -> Result<OwnedFd, Errno> {
    // SAFETY: the call takes numbers.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if fd < 0 {
        return Err(Errno::last());
    }
    // SAFETY: the call succeeded, so `fd` is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Adds 1 to what was counted.
pub fn signal(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    let count = 1u64.to_ne_bytes();
    // SAFETY: the descriptor is open for the borrow; `count` is live and as long as announced.
    let written = unsafe { libc::write(fd.as_raw_fd(), count.as_ptr().cast(), count.len()) };
    if written < 0 {
        return Err(Errno::last());
    }
    Ok(())
}

/// Reads what was counted and sets it back to 0, which is also what there is when nothing was.
pub fn take(fd: BorrowedFd<'_>) -> Result<u64, Errno> {
    let mut count = [0u8; 8];
    // SAFETY: the descriptor is open for the borrow; `count` is live, exclusively ours and as long as
    // announced.
    let read = unsafe { libc::read(fd.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    if read >= 0 {
        return Ok(u64::from_ne_bytes(count));
    }
    match Errno::last() {
        Errno(libc::EAGAIN) => Ok(0),
        errno => Err(errno),
    }
}
