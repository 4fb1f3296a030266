// SPDX-License-Identifier: MIT OR Apache-2.0
//! A stream whose reads and writes end at a deadline, and when nobody wants their result any more.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use engine::Pace;

/// How often interest and deadline are looked at while nothing moves.
const STEP: Duration = Duration::from_millis(2);

/// The host's end of a worker's socket for the time of one request.
///
/// A read or write that waits past the deadline fails with [`ErrorKind::TimedOut`], one that nobody
/// wants any more with [`ErrorKind::ConnectionAborted`].
pub(crate) struct Timed<'a> {
    pub(crate) stream: &'a UnixStream,
    pub(crate) deadline: Option<Instant>,
    pub(crate) pace: &'a dyn Pace,
}

/// Makes a stream's reads and writes return every [`STEP`].
pub(crate) fn prepare(stream: &UnixStream) -> io::Result<()> {
    stream.set_read_timeout(Some(STEP))?;
    stream.set_write_timeout(Some(STEP))
}

impl Timed<'_> {
    /// Tries until something moves.
    fn patiently(&self, mut try_once: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
        loop {
            if self.pace.cancelled() {
                return Err(ErrorKind::ConnectionAborted.into());
            }
            match try_once() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                other => return other,
            }
            if self.deadline.is_some_and(|end| Instant::now() >= end) {
                return Err(ErrorKind::TimedOut.into());
            }
        }
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut stream = self.stream;
        self.patiently(|| stream.read(buf))
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let mut stream = self.stream;
        self.patiently(|| stream.write(buf))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Interest(bool);

    impl Pace for Interest {
        fn sleep(&self, _: Duration) {}

        fn cancelled(&self) -> bool {
            !self.0
        }
    }

    /// A silent other side ends a read at the deadline, a full one a write; lost interest ends both
    /// at once; one that is gone is an error at once.
    #[test]
    fn ends() {
        let (near, far) = UnixStream::pair().unwrap();
        prepare(&near).unwrap();
        let timed = |interest, limit| Timed {
            stream: &near,
            deadline: Instant::now().checked_add(Duration::from_millis(limit)),
            pace: interest,
        };
        let (with, without) = (Interest(true), Interest(false));
        let mut buf = [0; 4];
        let read = timed(&with, 20).read(&mut buf).unwrap_err();
        assert_eq!(read.kind(), ErrorKind::TimedOut);
        let read = timed(&without, 60_000).read(&mut buf).unwrap_err();
        assert_eq!(read.kind(), ErrorKind::ConnectionAborted);
        let large = vec![0; 8 << 20];
        let write = timed(&with, 20).write_all(&large).unwrap_err();
        assert_eq!(write.kind(), ErrorKind::TimedOut);
        drop(far);
        let read = timed(&with, 60_000).read(&mut buf).unwrap_err();
        assert_eq!(
            read.kind(),
            ErrorKind::ConnectionReset,
            "it left something unread"
        );
    }
}
