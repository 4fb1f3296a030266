// SPDX-License-Identifier: MIT OR Apache-2.0
//! Monitored fences as file descriptors, which may be passed to other processes.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use crate::error::{Error, Result};
use crate::fence::Fence;
use crate::ioctl::{self, descriptor, Errno};
use crate::sys::{self, Wire};
use crate::vm::Vm;

impl Fence {
    /// A descriptor that stands for the fence, which it keeps, also when vm and file are gone. With
    /// `wait_only` whoever opens it can wait for the fence but not signal it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) for a fence made without
    /// [`FenceFlags::SHAREABLE`](crate::FenceFlags::SHAREABLE),
    /// [`ErrorKind::Permission`](crate::ErrorKind::Permission) for one that can only be waited for, if
    /// the descriptor is to do more.
    pub fn to_fd(&self, wait_only: bool) -> Result<OwnedFd> {
        let node = self.vm().node();
        let asked = sys::FenceFd {
            fence: self.handle(),
            flags: if wait_only { sys::FENCE_WAIT_ONLY } else { 0 },
            ..Default::default()
        };
        loop {
            let mut arg = asked;
            match descriptor::fence_to_fd(node.fd(), &mut arg) {
                Ok(fd) => return Ok(fd),
                Err(Errno(libc::EINTR)) => {}
                Err(errno) => {
                    return Err(Error::from_errno("FENCE_TO_FD", errno, arg.host_status()))
                }
            }
        }
    }
}

impl Vm {
    /// Opens the fence that a descriptor stands for: a fence of this vm's own with the same value.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) for a descriptor of
    /// anything else, and EXDEV for a fence of another adapter.
    pub fn open_fence(&self, fd: BorrowedFd<'_>) -> Result<Fence> {
        let mut arg = sys::FenceFd {
            vm: self.handle(),
            fd: fd.as_raw_fd(),
            ..Default::default()
        };
        self.node().call::<ioctl::FenceFromFd>(&mut arg)?;
        Fence::made(
            self,
            arg.fence,
            arg.gpu_va,
            arg.mmap_offset,
            "FENCE_FROM_FD",
        )
    }
}
