// SPDX-License-Identifier: MIT OR Apache-2.0
//! Waiting until a descriptor has something to read.

use std::os::fd::{AsRawFd, BorrowedFd};

use super::Errno;
use crate::deadline::Deadline;
use crate::sys::clock;

/// How a wait has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// There is something to read.
    Readable,
    /// What is behind the descriptor is gone: there may be something to read, but no more comes.
    Ended,
    /// The deadline came first.
    TimedOut,
}

/// Has reads of `fd` fail instead of waiting. So they do for all who share the open file.
pub fn set_nonblocking(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: the descriptor is open for the borrow; the command takes nothing.
    let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) };
    if flags < 0 {
        return Err(Errno::last());
    }
    // SAFETY: the descriptor is open for the borrow; the command takes a number.
    if unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) } < 0 {
        return Err(Errno::last());
    }
    Ok(())
}

/// What is left until a deadline, in poll's unit, and whether that is all: what is beyond poll's reach
/// is waited for in parts.
fn left(deadline: Deadline) -> (i32, bool) {
    let left = match deadline {
        Deadline::NOW => 0,
        _ => deadline.as_ns().saturating_sub(clock::monotonic_ns()),
    };
    match i32::try_from(left.div_ceil(1_000_000)) {
        Ok(milliseconds) => (milliseconds, true),
        Err(_) => (i32::MAX, false),
    }
}

/// Waits until one of two descriptors is readable, or never will be, and says of each whether it is:
/// neither at the deadline.
pub fn wait_either(fds: [BorrowedFd<'_>; 2], deadline: Deadline) -> Result<[bool; 2], Errno> {
    loop {
        let (milliseconds, last) = left(deadline);
        let mut polls = fds.map(|fd| libc::pollfd {
            fd: fd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        });
        // SAFETY: `polls` are two exclusively borrowed entries, as the count says; the descriptors
        // are open for the borrow.
        match unsafe { libc::poll(polls.as_mut_ptr(), 2, milliseconds) } {
            0 if !last => {}
            ready if ready >= 0 => return Ok(polls.map(|poll| poll.revents != 0)),
            _ => match Errno::last() {
                Errno(libc::EINTR) => {}
                errno => return Err(errno),
            },
        }
    }
}

/// Waits until `fd` is readable, or never will be.
pub fn wait_readable(fd: BorrowedFd<'_>, deadline: Deadline) -> Result<Readiness, Errno> {
    const ENDED: i16 = libc::POLLERR | libc::POLLHUP | libc::POLLNVAL;
    loop {
        let (milliseconds, last) = left(deadline);
        let mut poll = libc::pollfd {
            fd: fd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: `poll` is one exclusively borrowed entry, as the count says; the descriptor is
        // open for the borrow.
        match unsafe { libc::poll(&mut poll, 1, milliseconds) } {
            0 if last => return Ok(Readiness::TimedOut),
            0 => {}
            ready if ready > 0 && poll.revents & ENDED != 0 => return Ok(Readiness::Ended),
            ready if ready > 0 => return Ok(Readiness::Readable),
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
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    /// Proves that data ends the wait and that a deadline does when there is none.
    #[test]
    fn data_and_deadline() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let wait = |deadline| wait_readable(near.as_fd(), deadline).unwrap();
        let soon = Deadline::after(Duration::from_millis(2));
        assert_eq!(wait(Deadline::NOW), Readiness::TimedOut);
        assert_eq!(wait(soon), Readiness::TimedOut);
        far.write_all(b"x").unwrap();
        assert_eq!(wait(Deadline::NOW), Readiness::Readable);
        assert_eq!(wait(Deadline::NEVER), Readiness::Readable);
        drop(far);
        assert_eq!(wait(Deadline::NEVER), Readiness::Ended);
    }

    /// Proves that either of two is told from the other.
    #[test]
    fn either() {
        let pairs = [UnixStream::pair().unwrap(), UnixStream::pair().unwrap()];
        let near = [pairs[0].0.as_fd(), pairs[1].0.as_fd()];
        let soon = Deadline::after(Duration::from_millis(2));
        assert_eq!(wait_either(near, soon).unwrap(), [false, false]);
        (&pairs[1].1).write_all(b"x").unwrap();
        assert_eq!(wait_either(near, Deadline::NEVER).unwrap(), [false, true]);
    }

    /// Proves that a read of nothing fails at once.
    #[test]
    fn nonblocking() {
        let (mut near, _far) = UnixStream::pair().unwrap();
        set_nonblocking(near.as_fd()).unwrap();
        let error = near.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    }
}
