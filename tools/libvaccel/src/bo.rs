// SPDX-License-Identifier: MIT OR Apache-2.0
//! Buffer objects of guest memory.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::binding::Binding;
use crate::error::{Error, ErrorKind, Result};
use crate::flags::{BindFlags, BoFlags};
use crate::handle::{Handle, Kind};
use crate::ioctl;
use crate::mapping::{Access, Mapping};
use crate::sys;
use crate::vm::Vm;

/// Caching of CPU mappings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Caching {
    /// Cached and coherent.
    #[default]
    Cached,
    /// Write-combined.
    WriteCombined,
}

/// What kind of object to make.
#[derive(Clone, Copy, Debug)]
pub struct BoOptions {
    size: u64,
    caching: Caching,
    flags: BoFlags,
}

impl BoOptions {
    /// Cached, writable guest memory of `size` bytes, a multiple of the page size.
    pub const fn new(size: u64) -> Self {
        Self {
            size,
            caching: Caching::Cached,
            flags: BoFlags::empty(),
        }
    }

    /// Sets the caching mode.
    #[must_use]
    pub const fn caching(mut self, caching: Caching) -> Self {
        self.caching = caching;
        self
    }

    /// Sets the flags.
    #[must_use]
    pub const fn flags(mut self, flags: BoFlags) -> Self {
        self.flags = flags;
        self
    }
}

#[derive(Debug)]
struct Inner {
    handle: Handle,
    size: u64,
    mmap_offset: u64,
    /// Given up after the object, whose memory its host device owns.
    vm: Vm,
}

/// Guest memory shared with the host. Clones are the same object.
#[derive(Clone, Debug)]
#[must_use = "the object is closed when its last user is dropped"]
pub struct Bo {
    inner: Arc<Inner>,
}

impl Bo {
    pub(crate) fn new(vm: &Vm, options: &BoOptions) -> Result<Self> {
        let mut arg = sys::BoCreate {
            size: options.size,
            kind: sys::BO_KIND_GUEST,
            caching: match options.caching {
                Caching::Cached => sys::BO_CACHED,
                Caching::WriteCombined => sys::BO_WRITE_COMBINED,
            },
            flags: options.flags.bits(),
            vm: vm.handle(),
            ..Default::default()
        };
        vm.node().call::<ioctl::BoCreate>(&mut arg)?;
        let handle = Handle::new(vm.node().clone(), Kind::Gem, arg.bo, "BO_CREATE")?;
        Ok(Self {
            inner: Arc::new(Inner {
                handle,
                size: options.size,
                mmap_offset: arg.mmap_offset,
                vm: vm.clone(),
            }),
        })
    }

    /// GEM handle.
    pub fn handle(&self) -> u32 {
        self.inner.handle.raw()
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        self.inner.size
    }

    /// The vm whose host device owns it.
    pub fn vm(&self) -> &Vm {
        &self.inner.vm
    }

    /// Maps the whole object for the CPU.
    pub fn map(&self) -> Result<Mapping> {
        let node = self.inner.handle.node();
        Mapping::new(
            node.fd(),
            self.inner.mmap_offset,
            self.inner.size,
            Access::ReadWrite,
        )
    }

    /// Binds the whole object at an address of the host's choice.
    pub fn bind(&self, flags: BindFlags) -> Result<Binding> {
        Binding::new(self, flags, None, 0, self.size())
    }

    /// Binds `size` bytes from `bo_offset`, at `gpu_va` if one is given.
    pub fn bind_range(
        &self,
        flags: BindFlags,
        gpu_va: Option<u64>,
        bo_offset: u64,
        size: u64,
    ) -> Result<Binding> {
        Binding::new(self, flags, gpu_va, bo_offset, size)
    }

    /// Exports the object as a dma-buf.
    pub fn export(&self) -> Result<OwnedFd> {
        ioctl::drm::prime_handle_to_fd(self.inner.handle.node().fd(), self.handle())
            .map_err(|errno| Error::from_errno("PRIME_HANDLE_TO_FD", errno, 0))
    }

    /// Closes the object. Refused while bindings of it exist; it then goes with the last of them.
    pub fn close(self) -> Result<()> {
        match Arc::try_unwrap(self.inner) {
            Ok(inner) => inner.handle.close(),
            Err(inner) => Err(Error::local(
                ErrorKind::Busy,
                "GEM_CLOSE",
                format!("{} users are left", Arc::strong_count(&inner) - 1),
            )),
        }
    }
}
