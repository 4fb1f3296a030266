// SPDX-License-Identifier: MIT OR Apache-2.0
//! Waiting for fences.

use std::sync::Arc;

use zerocopy::IntoBytes;

use crate::deadline::Deadline;
use crate::error::Result;
use crate::fence::{self, Fence, Waited};
use crate::handle::Handle;
use crate::ioctl::{self, Errno};
use crate::ring::args::Place;
use crate::ring::command::Command;
use crate::ring::{Pending, Ring};
use crate::sys;
use crate::wait_many::{self, Reached};

/// What a wait for several names.
struct List {
    command: Command,
    fences: Vec<Arc<Handle>>,
    place: Place,
}

impl Ring {
    /// Waits until a fence has reached a value.
    ///
    /// # Errors
    ///
    /// As [`Fence::wait`].
    pub fn fence_wait(&self, fence: &Fence, value: u64, deadline: Deadline) -> Pending<Waited> {
        self.or_refused(|| {
            self.own(fence.vm().node(), "FENCE_WAIT")?;
            let arg = sys::FenceWait {
                fence: fence.handle(),
                value,
                deadline_ns: deadline.as_ns(),
                ..Default::default()
            };
            let fence = fence.hold().clone();
            Ok(self.begin(Command::FenceWait(arg), move |outcome| {
                let success = outcome.of::<ioctl::FenceWait>()?;
                Ok(Waited {
                    value: success.extra,
                    error: match success.recorded {
                        true => fence::query(&fence)?.error,
                        false => None,
                    },
                })
            }))
        })
    }

    /// Waits until each of several fences has reached its value; there may be up to
    /// [`sys::limit::WAIT_MANY_MAX`]. Gives the first error that is recorded on the first of them that
    /// has one.
    ///
    /// # Errors
    ///
    /// As [`Device::wait_all`](crate::Device::wait_all).
    pub fn wait_all(&self, list: &[(&Fence, u64)], deadline: Deadline) -> Pending<Option<Errno>> {
        self.or_refused(|| {
            let List {
                command,
                fences,
                place,
            } = self.list(list, 0, deadline)?;
            Ok(self.begin(command, move |outcome| {
                drop(place);
                let success = outcome.of::<ioctl::FenceWaitMany>()?;
                if !success.recorded {
                    return Ok(None);
                }
                for fence in &fences {
                    if let Some(errno) = fence::query(fence)?.error {
                        return Ok(Some(errno));
                    }
                }
                Ok(None)
            }))
        })
    }

    /// Waits until one of several fences has reached its value. The value in the result is what the
    /// fence has when the result is taken.
    ///
    /// # Errors
    ///
    /// As [`Device::wait_any`](crate::Device::wait_any).
    pub fn wait_any(&self, list: &[(&Fence, u64)], deadline: Deadline) -> Pending<Reached> {
        self.or_refused(|| {
            let List {
                command,
                fences,
                place,
            } = self.list(list, sys::WAIT_ANY, deadline)?;
            Ok(self.begin(command, move |outcome| {
                drop(place);
                let success = outcome.of::<ioctl::FenceWaitMany>()?;
                let index = usize::try_from(success.extra).unwrap_or(usize::MAX);
                let state = fences.get(index).map(|fence| fence::query(fence));
                let state = state.transpose()?;
                Ok(Reached {
                    index,
                    value: state.map_or(0, |state| state.value),
                    error: state
                        .filter(|_| success.recorded)
                        .and_then(|state| state.error),
                })
            }))
        })
    }

    fn list(&self, list: &[(&Fence, u64)], flags: u32, deadline: Deadline) -> Result<List> {
        let entries = wait_many::entries(self.node(), list)?;
        let bytes = entries.as_slice().as_bytes();
        let place = self.place(bytes.len() as u64)?;
        place.write(bytes)?;
        let arg = sys::FenceWaitMany {
            arg_bo: place.handle(),
            // At most WAIT_MANY_MAX.
            count: list.len() as u32,
            arg_offset: place.offset(),
            deadline_ns: deadline.as_ns(),
            flags,
            ..Default::default()
        };
        Ok(List {
            command: Command::FenceWaitMany { arg, list: entries },
            fences: list.iter().map(|(fence, _)| fence.hold().clone()).collect(),
            place,
        })
    }
}
