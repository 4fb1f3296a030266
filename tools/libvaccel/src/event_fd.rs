// SPDX-License-Identifier: MIT OR Apache-2.0
//! Eventfds, by which a program waits for fences beside whatever else it waits for.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::ioctl::readiness::{self, Readiness};
use crate::ioctl::{eventfd, Errno};

/// A counter with a descriptor that is readable while it is not 0. What signals it
/// ([`Fence::eventfd`](crate::Fence::eventfd), [`SyncObj::eventfd`](crate::SyncObj::eventfd)) takes
/// any eventfd; this one is for programs that have none of their own.
#[derive(Debug)]
pub struct EventFd {
    fd: OwnedFd,
}

impl EventFd {
    /// A new one at 0, closed on exec, whose reads do not wait.
    ///
    /// # Errors
    ///
    /// Those of eventfd(2).
    pub fn new() -> Result<Self> {
        match eventfd::create() {
            Ok(fd) => Ok(Self { fd }),
            Err(errno) => Err(Error::from_errno("eventfd", errno, 0)),
        }
    }

    /// Takes what was counted since the last time, 0 if nothing was.
    ///
    /// # Errors
    ///
    /// Those of read(2).
    pub fn take(&self) -> Result<u64> {
        eventfd::take(self.as_fd()).map_err(|errno| Error::from_errno("eventfd read", errno, 0))
    }

    /// Waits until it is signalled and takes what was counted.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut) at the deadline, and those of poll(2) and
    /// read(2).
    pub fn wait(&self, deadline: Deadline) -> Result<u64> {
        loop {
            let ready = readiness::wait_readable(self.as_fd(), deadline)
                .map_err(|errno| Error::from_errno("poll", errno, 0))?;
            if ready == Readiness::TimedOut {
                return Err(Error::from_errno("poll", Errno(libc::ETIME), 0));
            }
            // Another thread may have been faster.
            match self.take()? {
                0 => {}
                count => return Ok(count),
            }
        }
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use std::fs::File;
    use std::io::Write;

    /// Proves that signals are counted and taken once, and that a wait without one ends at its
    /// deadline.
    #[test]
    fn counts() {
        let event = EventFd::new().unwrap();
        assert_eq!(event.take().unwrap(), 0);
        let error = event.wait(Deadline::NOW).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        let mut writer = File::from(event.as_fd().try_clone_to_owned().unwrap());
        writer.write_all(&2u64.to_ne_bytes()).unwrap();
        writer.write_all(&1u64.to_ne_bytes()).unwrap();
        assert_eq!(event.wait(Deadline::NEVER).unwrap(), 3);
        assert_eq!(event.take().unwrap(), 0);
    }
}
