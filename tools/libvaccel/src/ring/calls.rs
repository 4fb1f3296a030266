// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operations by ioctls, where there is no io_uring.
//!
//! The ring's thread makes the calls, and what a call leaves to be waited for goes to [`Waits`]. A
//! call may wait for the host; nothing else of the ring goes on meanwhile.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use super::command::{Command, Outcome};
use super::driver::Engine;
use super::waits::{Answer, Wait, Waits, What};
use crate::error::{Error, Result};
use crate::event_fd::EventFd;
use crate::handle::Node;
use crate::ioctl::{
    readiness, Bind, Errno, Operation, Residency, Submit, SyncExport, SyncImport, Unbind,
};
use crate::sys;

pub(super) struct Calls {
    node: Arc<Node>,
    waits: Waits,
    ended: Vec<(u64, Outcome)>,
}

/// How a failed call ends an operation.
fn failed(error: &Error, extra: Option<u64>) -> Outcome {
    let errno = error.errno().unwrap_or(Errno(libc::EIO));
    match extra {
        Some(extra) if errno.0 == libc::ENOSPC => Outcome::failed(errno, extra),
        _ => Outcome::failed(errno, error.host_status().unwrap_or(0).into()),
    }
}

/// A call's outcome, or what is left to be waited for.
type Next = std::result::Result<Wait, Outcome>;

impl Calls {
    pub(super) fn new(node: &Arc<Node>) -> Result<Self> {
        Ok(Self {
            node: node.clone(),
            waits: Waits::new(node)?,
            ended: Vec::new(),
        })
    }

    fn call<O: Operation>(&self, arg: &mut O::Arg) -> std::result::Result<(), Outcome> {
        let called = self.node.call::<O>(arg);
        called.map_err(|error| failed(&error, None))
    }

    fn submit(&self, mut arg: sys::Submit) -> Next {
        let waits = arg.flags & sys::SUBMIT_CQE_ON_DONE != 0;
        arg.flags &= !sys::SUBMIT_CQE_ON_DONE;
        self.call::<Submit>(&mut arg)?;
        if !waits {
            return Err(Outcome::ok(arg.seq));
        }
        let done = What::fence(arg.done_fence, arg.done_value);
        Ok(Wait::without_deadline(done, Answer::Fixed(arg.seq)))
    }

    fn residency(&self, mut arg: sys::Residency, paging_fence: u32) -> Next {
        let called = self.node.call::<Residency>(&mut arg);
        called.map_err(|error| failed(&error, Some(arg.bytes_to_trim)))?;
        paging(paging_fence, arg.paging_value, arg.bytes_to_trim)
    }

    fn bind(&self, mut arg: sys::Bind, paging_fence: u32) -> Next {
        let called = self.node.call::<Bind>(&mut arg);
        called.map_err(|error| failed(&error, Some(arg.bytes_to_trim)))?;
        paging(paging_fence, arg.paging_value, arg.gpu_va)
    }

    fn unbind(&self, mut arg: sys::Bind, paging_fence: u32) -> Next {
        self.call::<Unbind>(&mut arg)?;
        paging(paging_fence, arg.paging_value, 0)
    }

    fn export(&self, mut arg: sys::Sync) -> Next {
        self.call::<SyncExport>(&mut arg)?;
        let what = What::Export {
            fence: arg.fence,
            value: arg.value,
            syncobj: arg.syncobj,
            point: arg.point,
        };
        Ok(Wait::without_deadline(what, Answer::Fixed(arg.value)))
    }

    fn import(&self, mut arg: sys::Sync) -> Next {
        self.call::<SyncImport>(&mut arg)?;
        let what = What::fence(arg.fence, arg.value);
        Ok(Wait::without_deadline(what, Answer::Fixed(arg.value)))
    }
}

/// What is left of an operation of which the paging fence says when it holds.
fn paging(fence: u32, value: u64, extra: u64) -> Next {
    if value == 0 {
        return Err(Outcome::ok(extra));
    }
    let what = What::fence(fence, value);
    Ok(Wait::without_deadline(what, Answer::Fixed(extra)))
}

impl Engine for Calls {
    fn start(&mut self, id: u64, command: Command) {
        let next = match command {
            Command::Submit { arg, .. } => self.submit(arg),
            Command::FenceWait(arg) => Ok(Wait::on_fence(&arg)),
            Command::FenceWaitMany { arg, list } => Ok(Wait::on_many(arg, list)),
            Command::Residency { arg, paging_fence } => self.residency(arg, paging_fence),
            Command::Bind { arg, paging_fence } => self.bind(arg, paging_fence),
            Command::Unbind { arg, paging_fence } => self.unbind(arg, paging_fence),
            Command::SyncExport(arg) => self.export(arg),
            Command::SyncImport(arg) => self.import(arg),
        };
        let outcome = match next {
            Ok(wait) => self.waits.add(id, wait),
            Err(outcome) => Some(outcome),
        };
        self.ended.extend(outcome.map(|outcome| (id, outcome)));
    }

    fn cancel(&mut self, id: u64) {
        if self.waits.remove(id) {
            self.ended.push((id, Outcome::CANCELLED));
        }
    }

    fn wait(&mut self, bell: &EventFd, ended: &mut Vec<(u64, Outcome)>) -> io::Result<()> {
        let deadline = self.waits.deadline(!self.ended.is_empty());
        let fds = [bell.as_fd(), self.waits.event().as_fd()];
        let [rung, reached] = readiness::wait_either(fds, deadline)
            .map_err(|errno| io::Error::from_raw_os_error(errno.0))?;
        if rung {
            let _ = bell.take();
        }
        if reached {
            self.waits.look(&mut self.ended);
        }
        self.waits.expire(&mut self.ended);
        ended.append(&mut self.ended);
        Ok(())
    }
}
