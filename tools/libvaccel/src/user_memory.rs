// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory of the program that the GPU uses in place.
//!
//! The interface takes no CPU addresses, so memory that both are to use is made to be shared: pages
//! of a memfd, which the program maps and the device imports as a dma-buf.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::error::{Error, Result};
use crate::ioctl::udmabuf;
use crate::mapping::{Access, Mapping};

const NODE: &str = "/dev/udmabuf";

/// Zeroed memory with a file and a dma-buf over it. Both may be passed to other processes.
#[derive(Debug)]
#[must_use = "the memory goes with its last user"]
pub struct UserMemory {
    file: File,
    dma_buf: OwnedFd,
    size: u64,
}

impl UserMemory {
    /// Makes `size` bytes, in whole pages.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`](crate::ErrorKind) where the kernel has no udmabuf,
    /// [`ErrorKind::Permission`](crate::ErrorKind) where the caller may not use it, and the errors
    /// of memfd_create(2) and of udmabuf.
    pub fn new(size: u64) -> Result<Self> {
        let node = File::options()
            .read(true)
            .write(true)
            .open(NODE)
            .map_err(|error| Error::from_io("open", &error, NODE))?;
        let file =
            udmabuf::memfd(size).map_err(|errno| Error::from_errno("memfd_create", errno, 0))?;
        let dma_buf = udmabuf::create(node.as_fd(), file.as_fd(), size)
            .map_err(|errno| Error::from_errno("UDMABUF_CREATE", errno, 0))?;
        Ok(Self {
            file,
            dma_buf,
            size,
        })
    }

    /// Bytes.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The file.
    pub const fn file(&self) -> &File {
        &self.file
    }

    /// The dma-buf, for [`Device::import`](crate::Device::import).
    pub fn dma_buf(&self) -> BorrowedFd<'_> {
        self.dma_buf.as_fd()
    }

    /// Maps all of it.
    ///
    /// # Errors
    ///
    /// Those of mmap(2).
    pub fn map(&self) -> Result<Mapping> {
        Mapping::new(self.file.as_fd(), 0, self.size, Access::ReadWrite)
    }
}
