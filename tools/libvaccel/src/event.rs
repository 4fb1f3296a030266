// SPDX-License-Identifier: MIT OR Apache-2.0
//! Events, read from the node's file.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::PoisonError;

use zerocopy::FromBytes;

use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::handle::Node;
use crate::info::Segment;
use crate::ioctl::readiness;
use crate::sys;
use crate::vm::State;

/// Room for what one read takes; more stays with the kernel.
const READ_BYTES: usize = 1024;
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
pub(crate) fn next(node: &Node, deadline: Deadline) -> Result<Option<Event>> {
    let wait = |deadline| {
        readiness::wait_readable(node.fd(), deadline)
            .map_err(|errno| Error::from_errno("poll", errno, 0))
    };
    loop {
        {
            // A read blocks if there is nothing: one thread looks and reads at a time.
            let mut events = node.events.lock().unwrap_or_else(PoisonError::into_inner);
            if events.is_empty() && wait(Deadline::NOW)? {
                read(node, &mut events)?;
            }
            if let Some(event) = events.pop_front() {
                return Ok(Some(event));
            }
        }
        if !wait(deadline)? {
            return Ok(None);
        }
    }
}

fn read(node: &Node, events: &mut VecDeque<Event>) -> Result<()> {
    let mut bytes = [0; READ_BYTES];
    let length = match (&node.file).read(&mut bytes) {
        Ok(length) => length,
        Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return Ok(()),
        Err(error) => return Err(Error::from_io("read", &error, "events")),
    };
    let mut rest = bytes.get(..length).unwrap_or_default();
    while let Some(event) = Event::parse(&mut rest) {
        events.push_back(event);
    }
    Ok(())
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

    /// Proves that lengths that are too short or too long end the parsing instead of repeating it.
    #[test]
    fn bad_lengths() {
        for length in [0, 7, 25] {
            let event = budget(length);
            assert_eq!(Event::parse(&mut event.as_bytes()), None, "length {length}");
        }
    }
}
