// SPDX-License-Identifier: MIT OR Apache-2.0
//! The open node, and handles that close themselves.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, ErrorKind, Result};
use crate::ioctl::{self, Errno, Operation};
use crate::sys::{self, Wire};

/// An open device node; closed when its last user goes.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
    /// How often this library holds each GEM handle: the kernel has one per file and object, which
    /// importing the object again returns and a single GEM_CLOSE ends. Held across both calls.
    gem: Mutex<HashMap<u32, usize>>,
}

impl Node {
    /// Reads of the file do not block from here on.
    pub(crate) fn new(file: File, path: PathBuf) -> Self {
        // An open descriptor takes this flag.
        let _ = ioctl::readiness::set_nonblocking(file.as_fd());
        Self {
            file,
            path,
            gem: Mutex::default(),
        }
    }

    fn gem(&self) -> MutexGuard<'_, HashMap<u32, usize>> {
        self.gem.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gets the GEM handle of a dma-buf, which may be one that is held already.
    pub(crate) fn import(self: &Arc<Self>, dma_buf: BorrowedFd<'_>) -> Result<Handle> {
        const OPERATION: &str = "PRIME_FD_TO_HANDLE";
        let mut gem = self.gem();
        let raw = ioctl::drm::prime_fd_to_handle(self.fd(), dma_buf)
            .map_err(|errno| Error::from_errno(OPERATION, errno, 0))?;
        let handle = Handle::uncounted(self.clone(), Kind::Gem, raw, OPERATION)?;
        *gem.entry(raw).or_default() += 1;
        Ok(handle)
    }

    /// Gives up one hold of a GEM handle, and with the last the handle.
    fn gem_close(&self, raw: u32) -> Result<()> {
        let mut gem = self.gem();
        if let Some(holds) = gem.get_mut(&raw) {
            *holds -= 1;
            if *holds > 0 {
                return Ok(());
            }
            gem.remove(&raw);
        }
        ioctl::drm::gem_close(self.fd(), raw)
            .map_err(|errno| Error::from_errno("GEM_CLOSE", errno, 0))
    }

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
    SyncObj,
}

impl Kind {
    /// Name of that operation.
    const fn closed_by(self) -> &'static str {
        match self {
            Self::Vm => "VM_DESTROY",
            Self::Queue => "QUEUE_DESTROY",
            Self::Fence => "FENCE_DESTROY",
            Self::Gem => "GEM_CLOSE",
            Self::SyncObj => "SYNCOBJ_DESTROY",
        }
    }
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
        let handle = Self::uncounted(node, kind, raw, operation)?;
        if kind == Kind::Gem {
            *handle.node.gem().entry(raw).or_default() += 1;
        }
        Ok(handle)
    }

    fn uncounted(node: Arc<Node>, kind: Kind, raw: u32, operation: &'static str) -> Result<Self> {
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

    /// Gives up a handle that pending operations may hold too. Then it goes with
    /// the last of them.
    pub(crate) fn close_shared(self: Arc<Self>) -> Result<()> {
        match Arc::try_unwrap(self) {
            Ok(handle) => handle.close(),
            Err(handle) => Err(Error::local(
                ErrorKind::Busy,
                handle.kind.closed_by(),
                "a pending operation holds it",
            )),
        }
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
            Kind::Gem => self.node.gem_close(raw),
            Kind::SyncObj => ioctl::syncobj::destroy(self.node.fd(), raw)
                .map_err(|errno| Error::from_errno("SYNCOBJ_DESTROY", errno, 0)),
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

    fn null() -> Arc<Node> {
        let file = File::open("/dev/null").unwrap();
        Arc::new(Node::new(file, "/dev/null".into()))
    }

    /// Proves that a GEM handle that is held twice reaches the kernel with its last holder only:
    /// /dev/null refuses every ioctl.
    #[test]
    fn gem_handles_are_counted() {
        let node = null();
        let hold = || Handle::new(node.clone(), Kind::Gem, 7, "BO_CREATE").unwrap();
        let (first, second) = (hold(), hold());
        first.close().unwrap();
        assert!(second.close().is_err());
        assert!(hold().close().is_err(), "counted from the start again");
        assert!(node.import(node.fd()).is_err());
    }

    /// Proves that handle 0, which the interface never gives out, is not taken for an object.
    #[test]
    fn zero_is_no_handle() {
        let node = null();
        assert!(Handle::new(node.clone(), Kind::Vm, 0, "VM_CREATE").is_err());
        let handle = Handle::new(node, Kind::Vm, 5, "VM_CREATE").unwrap();
        let error = handle.close().unwrap_err();
        assert_eq!(error.operation(), "VM_DESTROY");
        assert_eq!(error.errno(), Some(Errno(libc::ENOTTY)));
    }
}
