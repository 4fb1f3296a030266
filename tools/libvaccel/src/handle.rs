// SPDX-License-Identifier: MIT OR Apache-2.0
//! The open node, and handles that close themselves.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::ioctl::{self, Errno, Operation};
use crate::sys::{self, Wire};

/// An open device node; closed when its last user goes.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) file: OwnedFd,
    pub(crate) path: PathBuf,
}

impl Node {
    /// Calls an operation, again if a signal interrupted it: an interrupted operation has started
    /// nothing, and deadlines are absolute.
    pub(crate) fn call<O: Operation>(&self, arg: &mut O::Arg) -> Result<()> {
        let original = *arg;
        loop {
            match ioctl::call::<O>(self.file.as_fd(), arg) {
                Ok(()) => return Ok(()),
                Err(Errno(libc::EINTR)) => *arg = original,
                Err(errno) => return Err(Error::from_errno(O::NAME, errno, arg.host_status())),
            }
        }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Which operation gives a handle up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Vm,
    Queue,
    Fence,
    Gem,
}

/// A handle of this file, given up when dropped.
#[derive(Debug)]
pub(crate) struct Handle {
    node: Arc<Node>,
    kind: Kind,
    /// 0 once given up.
    raw: u32,
}

impl Handle {
    /// Takes over what an operation returned.
    pub(crate) fn new(
        node: Arc<Node>,
        kind: Kind,
        raw: u32,
        operation: &'static str,
    ) -> Result<Self> {
        if raw == 0 {
            return Err(Error::local(
                ErrorKind::Other,
                operation,
                "the driver returned handle 0",
            ));
        }
        Ok(Self { node, kind, raw })
    }

    pub(crate) const fn raw(&self) -> u32 {
        self.raw
    }

    pub(crate) const fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Gives the handle up and reports the outcome.
    pub(crate) fn close(mut self) -> Result<()> {
        self.release()
    }

    fn release(&mut self) -> Result<()> {
        let raw = std::mem::take(&mut self.raw);
        if raw == 0 {
            return Ok(());
        }
        let mut destroy = sys::Destroy {
            handle: raw,
            pad: 0,
        };
        match self.kind {
            Kind::Vm => self.node.call::<ioctl::VmDestroy>(&mut destroy),
            Kind::Queue => self.node.call::<ioctl::QueueDestroy>(&mut destroy),
            Kind::Fence => self.node.call::<ioctl::FenceDestroy>(&mut destroy),
            Kind::Gem => ioctl::drm::gem_close(self.node.fd(), raw)
                .map_err(|errno| Error::from_errno("GEM_CLOSE", errno, 0)),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Nobody is left to tell; whoever wants to know calls close().
        let _ = self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    /// Proves that handle 0, which the interface never gives out, is not taken for an object.
    #[test]
    fn zero_is_no_handle() {
        let node = Arc::new(Node {
            file: File::open("/dev/null").unwrap().into(),
            path: "/dev/null".into(),
        });
        assert!(Handle::new(node.clone(), Kind::Vm, 0, "VM_CREATE").is_err());
        let handle = Handle::new(node, Kind::Vm, 5, "VM_CREATE").unwrap();
        let error = handle.close().unwrap_err();
        assert_eq!(error.operation(), "VM_DESTROY");
        assert_eq!(error.errno(), Some(Errno(libc::ENOTTY)));
    }
}
