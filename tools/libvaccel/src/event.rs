// SPDX-License-Identifier: MIT OR Apache-2.0
//! Events, read from the node's file.

use std::io::{self, Read};

use zerocopy::FromBytes;

use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::handle::Node;
use crate::info::Segment;
use crate::ioctl::readiness::{self, Readiness};
use crate::ioctl::Errno;
use crate::sys;
use crate::vm::State;

/// The kernel keeps no more than this for a file, so no event is longer.
const LONGEST: usize = 4096;
/// Bytes of `struct drm_event`, with which every event starts.
const HEADER_BYTES: usize = 8;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The budget of a segment group changed, or usage crossed it. There will not be another until
    /// [`Device::budget`](crate::Device::budget) was asked.
    Budget {
        /// Which.
        segment: Segment,
        /// Bytes to evict, 0 if none.
        bytes_to_trim: u64,
    },
    /// A vm changed state.
    VmState {
        /// Its handle.
        vm: u32,
        /// The new state.
        state: State,
    },
    /// What this library does not know.
    Other {
        /// Event type.
        kind: u32,
        /// All bytes behind type and length.
        bytes: Vec<u8>,
    },
}

impl Event {
    /// Takes one event off the front; `None` at the end, or before what is cut off.
    fn parse(bytes: &mut &[u8]) -> Option<Self> {
        let (kind, rest) = u32::read_from_prefix(bytes).ok()?;
        let (length, _) = u32::read_from_prefix(rest).ok()?;
        let length = usize::try_from(length).ok()?;
        let event = bytes.get(..length)?;
        let body = event.get(HEADER_BYTES..)?;
        *bytes = bytes.get(length..)?;
        Some(Self::from_wire(event, kind).unwrap_or_else(|| Self::Other {
            kind,
            bytes: body.to_vec(),
        }))
    }

    fn from_wire(event: &[u8], kind: u32) -> Option<Self> {
        // A later kernel's event may be longer.
        let (event, _) = sys::Event::read_from_prefix(event).ok()?;
        match kind {
            sys::EVENT_BUDGET => Some(Self::Budget {
                segment: Segment::from_value(event.segment)?,
                bytes_to_trim: event.value,
            }),
            sys::EVENT_VM_STATE => Some(Self::VmState {
                vm: event.vm,
                state: State::from(u32::try_from(event.value).ok()?),
            }),
            _ => None,
        }
    }
}

/// Takes the next event of a file.
///
/// Nothing is kept between calls and nothing is locked: each event goes from the kernel to the one
/// who returns it, and whoever waits is woken for what is left.
pub(crate) fn next(node: &Node, deadline: Deadline) -> Result<Option<Event>> {
    loop {
        let ready = readiness::wait_readable(node.fd(), deadline)
            .map_err(|errno| Error::from_errno("poll", errno, 0))?;
        if ready == Readiness::TimedOut {
            return Ok(None);
        }
        let taken = take_one(|bytes| (&node.file).read(bytes));
        match taken {
            Ok(bytes) => {
                if let Some(event) = Event::parse(&mut bytes.as_slice()) {
                    return Ok(Some(event));
                }
            }
            // Somebody else was faster, or there is nothing to come any more.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if ready == Readiness::Ended {
                    let gone = Errno(libc::ENODEV);
                    return Err(Error::from_errno("poll", gone, 0).about("events"));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::from_io("read", &error, "events")),
        }
    }
}

/// Takes the bytes of exactly one event, by a `read` that gives as many whole events as fit, 0
/// bytes if the first does not.
///
/// The room grows by no more than the header that every event has: what the first event did not fit
/// before it does not share now.
fn take_one(mut read: impl FnMut(&mut [u8]) -> io::Result<usize>) -> io::Result<Vec<u8>> {
    for room in (HEADER_BYTES..=LONGEST).step_by(HEADER_BYTES) {
        let mut bytes = vec![0; room];
        let length = read(&mut bytes)?;
        if length > 0 {
            bytes.truncate(length);
            return Ok(bytes);
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes;

    fn budget(length: u32) -> sys::Event {
        sys::Event {
            base: [sys::EVENT_BUDGET, length],
            vm: 0,
            segment: sys::SEGMENT_NON_LOCAL,
            value: 4096,
        }
    }

    /// Proves that events that come together are told apart, a longer one and an unknown one
    /// included.
    #[test]
    fn several_at_once() {
        let mut bytes = budget(24).as_bytes().to_vec();
        bytes.extend_from_slice(budget(32).as_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice([77u32, 12, 5].as_bytes());
        let mut rest = bytes.as_slice();
        let expected = Event::Budget {
            segment: Segment::NonLocal,
            bytes_to_trim: 4096,
        };
        assert_eq!(Event::parse(&mut rest), Some(expected.clone()));
        assert_eq!(Event::parse(&mut rest), Some(expected));
        let other = Event::Other {
            kind: 77,
            bytes: 5u32.to_ne_bytes().to_vec(),
        };
        assert_eq!(Event::parse(&mut rest), Some(other));
        assert_eq!(Event::parse(&mut rest), None);
    }

    /// What drm_read() does with events that wait.
    fn kernel(waiting: &mut Vec<Vec<u8>>, bytes: &mut [u8]) -> io::Result<usize> {
        if waiting.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut done = 0;
        while let Some(event) = waiting.first() {
            let Some(target) = bytes.get_mut(done..done + event.len()) else {
                break;
            };
            target.copy_from_slice(event);
            done += event.len();
            waiting.remove(0);
        }
        Ok(done)
    }

    /// Proves that each read takes one event, whatever the lengths, and that nothing is lost.
    #[test]
    fn one_at_a_time() {
        let lengths = [24, 24, 8, 8, 12, 12, 40, 24, 1000, 8, LONGEST];
        let mut waiting: Vec<Vec<u8>> = (0..)
            .zip(lengths)
            .map(|(number, length)| vec![number; length])
            .collect();
        for expected in waiting.clone() {
            let taken = take_one(|bytes| kernel(&mut waiting, bytes)).unwrap();
            assert_eq!(taken, expected);
        }
        let error = take_one(|bytes| kernel(&mut waiting, bytes)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    /// Proves that a file that never gives anything does not hold the caller.
    #[test]
    fn end_of_file() {
        let error = take_one(|_| Ok(0)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    fn node(socket: std::os::unix::net::UnixDatagram) -> Node {
        let file = std::os::fd::OwnedFd::from(socket);
        Node::new(file.into(), "a socket".into())
    }

    /// Proves that of two who wait for one event the one who does not get it goes on waiting,
    /// instead of staying in read.
    #[test]
    fn the_slower_one_waits() {
        let (near, far) = std::os::unix::net::UnixDatagram::pair().unwrap();
        let node = node(near);
        let got = std::thread::scope(|scope| {
            let waiters: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let deadline = Deadline::after(std::time::Duration::from_millis(300));
                        next(&node, deadline).unwrap()
                    })
                })
                .collect();
            std::thread::sleep(std::time::Duration::from_millis(50));
            // A datagram is given to a read in whole, cut off: its length is one that fits.
            let event: Vec<u8> = [77u32, 8].as_bytes().to_vec();
            far.send(&event).unwrap();
            waiters
                .into_iter()
                .filter_map(|waiter| waiter.join().unwrap())
                .count()
        });
        assert_eq!(got, 1);
    }

    /// Proves that a file from which nothing can come any more is the end, not a wait for ever.
    #[test]
    fn nothing_more_to_come() {
        let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        let file = std::os::fd::OwnedFd::from(near);
        let node = Node::new(file.into(), "a socket".into());
        drop(far);
        assert!(next(&node, Deadline::NEVER).is_err());
    }

    /// Proves that lengths that are too short or too long end the parsing instead of repeating it.
    #[test]
    fn bad_lengths() {
        for length in [0, 7, 25] {
            let event = budget(length);
            assert_eq!(Event::parse(&mut event.as_bytes()), None, "length {length}");
        }
    }
}
