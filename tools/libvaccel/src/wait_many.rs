// SPDX-License-Identifier: MIT OR Apache-2.0
//! Waiting for several fences at once.

use std::sync::{Arc, Mutex, PoisonError};

use zerocopy::IntoBytes;

use crate::arg::{self, ArgBo};
use crate::deadline::Deadline;
use crate::device::Device;
use crate::error::{Error, ErrorKind, Result};
use crate::fence::{self, Fence};
use crate::handle::Node;
use crate::ioctl::{self, Errno};
use crate::sys;

const OPERATION: &str = "FENCE_WAIT_MANY";

/// Argument objects of waits that have ended, one for each that there were at a time.
pub(crate) type WaitArgs = Mutex<Vec<ArgBo>>;

/// The fence that ended a wait for any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Its place in the list.
    pub index: usize,
    /// The value seen.
    pub value: u64,
    /// First error recorded on it.
    pub error: Option<Errno>,
}

impl Device {
    /// Waits until each of these fences of this file, of whatever vm, has reached its value. There
    /// may be up to [`sys::limit::WAIT_MANY_MAX`]. Gives the first error that is recorded on the first
    /// of them that has one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TimedOut`] at the deadline; [`ErrorKind::VmError`] or [`ErrorKind::DeviceLost`] as
    /// soon as one of them cannot be reached any more.
    pub fn wait_all(&self, list: &[(&Fence, u64)], deadline: Deadline) -> Result<Option<Errno>> {
        let arg = self.wait_many(list, 0, deadline)?;
        Ok(fence::recorded(arg.error))
    }

    /// Waits until one of these fences has reached its value.
    ///
    /// # Errors
    ///
    /// As [`Device::wait_all`]; a failed vm or adapter only if none can be reached any more.
    pub fn wait_any(&self, list: &[(&Fence, u64)], deadline: Deadline) -> Result<Reached> {
        let arg = self.wait_many(list, sys::WAIT_ANY, deadline)?;
        Ok(Reached {
            index: arg.index as usize,
            value: arg.observed_value,
            error: fence::recorded(arg.error),
        })
    }

    fn wait_many(
        &self,
        list: &[(&Fence, u64)],
        flags: u32,
        deadline: Deadline,
    ) -> Result<sys::FenceWaitMany> {
        let entries = entries(self.node(), list)?;
        let bytes = entries.as_slice().as_bytes();
        let mut slot = self.wait_args().pop();
        let args = arg::at_least(&mut slot, self.node(), bytes.len() as u64)?;
        args.mapping().write(0, bytes)?;
        let mut arg = sys::FenceWaitMany {
            arg_bo: args.handle(),
            count: list.len() as u32,
            deadline_ns: deadline.as_ns(),
            flags,
            ..Default::default()
        };
        let waited = self.node().call::<ioctl::FenceWaitMany>(&mut arg);
        self.wait_args().extend(slot);
        waited.map(|()| arg)
    }

    fn wait_args(&self) -> std::sync::MutexGuard<'_, Vec<ArgBo>> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The list as the interface takes it.
pub(crate) fn entries(node: &Arc<Node>, list: &[(&Fence, u64)]) -> Result<Vec<sys::WaitEntry>> {
    let most = sys::limit::WAIT_MANY_MAX as usize;
    if list.len() > most {
        return Err(Error::local(
            ErrorKind::TooLarge,
            OPERATION,
            format!("{} fences, at most {most}", list.len()),
        ));
    }
    let own = |fence: &Fence| Arc::ptr_eq(fence.vm().node(), node);
    if !list.iter().all(|(fence, _)| own(fence)) {
        return Err(Error::local(
            ErrorKind::InvalidArgument,
            OPERATION,
            "a fence belongs to another open file",
        ));
    }
    let entries = list.iter().map(|(fence, value)| sys::WaitEntry {
        fence: fence.handle(),
        pad: 0,
        value: *value,
    });
    Ok(entries.collect())
}
