// SPDX-License-Identifier: MIT OR Apache-2.0
//! Waiting until a descriptor has something to read.

use std::os::fd::{AsRawFd, BorrowedFd};

use super::Errno;
use crate::deadline::Deadline;
use crate::sys::clock;

/// Waits until `fd` is readable; false if the deadline came first.
pub fn wait_readable(fd: BorrowedFd<'_>, deadline: Deadline) -> Result<bool, Errno> {
    loop {
        let left = match deadline {
            Deadline::NOW => 0,
            _ => deadline.as_ns().saturating_sub(clock::monotonic_ns()),
        };
        // What is beyond poll's reach is waited for in parts.
        let (milliseconds, last) = match i32::try_from(left.div_ceil(1_000_000)) {
            Ok(milliseconds) => (milliseconds, true),
            Err(_) => (i32::MAX, false),
        };
        let mut poll = libc::pollfd {
            fd: fd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: `poll` is one exclusively borrowed entry, as the count says; the descriptor is
        // open for the borrow.
        match unsafe { libc::poll(&mut poll, 1, milliseconds) } {
            0 if last => return Ok(false),
            0 => {}
            ready if ready > 0 => return Ok(true),
            _ => match Errno::last() {
                Errno(libc::EINTR) => {}
                errno => return Err(errno),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    /// Proves that data ends the wait and that a deadline does when there is none.
    #[test]
    fn data_and_deadline() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let wait = |deadline| wait_readable(near.as_fd(), deadline).unwrap();
        assert!(!wait(Deadline::NOW));
        assert!(!wait(Deadline::after(Duration::from_millis(2))));
        far.write_all(b"x").unwrap();
        assert!(wait(Deadline::NOW));
        assert!(wait(Deadline::NEVER));
    }
}
