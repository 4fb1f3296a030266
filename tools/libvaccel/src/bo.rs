// SPDX-License-Identifier: MIT OR Apache-2.0
//! Buffer objects: guest memory, memory of the host, and dma-bufs of others.

use std::any::Any;
use std::ops::Range;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Weak};

use vaccel_isa::AllocationData;

use crate::arg::ArgBo;
use crate::binding::{BindOptions, Binding};
use crate::error::{Error, ErrorKind, Result};
use crate::flags::{BindFlags, BoFlags, SyncFlags};
use crate::handle::{Handle, Kind, Node};
use crate::info::Segment;
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

/// What an object is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BoKind {
    /// Guest memory shared with the host.
    Guest,
    /// Memory of the host's choice; the CPU sees it through a window.
    Host,
    /// A dma-buf of another driver or adapter.
    Import,
    /// Memory for arguments, which neither the host nor the GPU sees.
    Arg,
    /// A kind this library does not know.
    Unknown(u32),
}

impl From<u32> for BoKind {
    fn from(value: u32) -> Self {
        match value {
            sys::BO_KIND_GUEST => Self::Guest,
            sys::BO_KIND_HOST => Self::Host,
            sys::BO_KIND_IMPORT => Self::Import,
            sys::BO_KIND_ARG => Self::Arg,
            other => Self::Unknown(other),
        }
    }
}

/// What the kernel says about an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoInfo {
    /// What it is made of.
    pub kind: BoKind,
    /// Caching of CPU mappings.
    pub caching: Caching,
    /// Flags of creation.
    pub flags: BoFlags,
    /// Bytes.
    pub size: u64,
    /// Offset for mmap on the node.
    pub mmap_offset: u64,
}

/// Which memory a new object is to have.
#[derive(Clone, Debug)]
enum Memory {
    Guest,
    Host(Segment),
    /// As this driver data says.
    HostPrivate(Vec<u8>),
}

/// What kind of object to make.
#[derive(Clone, Debug)]
pub struct BoOptions {
    size: u64,
    memory: Memory,
    caching: Caching,
    flags: BoFlags,
}

impl BoOptions {
    /// Cached, writable guest memory of `size` bytes, a multiple of the page size.
    pub const fn new(size: u64) -> Self {
        Self {
            size,
            memory: Memory::Guest,
            caching: Caching::Cached,
            flags: BoFlags::empty(),
        }
    }

    /// Cached, writable memory of the host, of at least `size` bytes, a multiple of the page size:
    /// the adapter's own, unless another segment is named.
    pub const fn host(size: u64) -> Self {
        Self {
            size,
            memory: Memory::Host(Segment::Local),
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

    /// Replaces the flags.
    #[must_use]
    pub const fn flags(mut self, flags: BoFlags) -> Self {
        self.flags = flags;
        self
    }

    /// Makes it memory of the host in `segment`, by the data that the open compute ISA defines for
    /// it.
    #[must_use]
    pub fn segment(mut self, segment: Segment) -> Self {
        self.memory = Memory::Host(segment);
        self
    }

    /// Makes it memory of the host by driver data of the caller's own making, instead of by a
    /// segment.
    #[must_use]
    pub fn private_data(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.memory = Memory::HostPrivate(bytes.into());
        self
    }

    /// Lets memory of the host be exported as a dma-buf, as guest memory always may.
    #[must_use]
    pub fn shareable(mut self) -> Self {
        self.flags |= BoFlags::SHAREABLE;
        self
    }

    /// The driver data to send; `None` for guest memory.
    fn host_data(&self) -> Option<Vec<u8>> {
        match &self.memory {
            Memory::Guest => None,
            Memory::Host(segment) => {
                let data = AllocationData {
                    size: self.size,
                    segment: match segment {
                        Segment::Local => vaccel_isa::Segment::Local,
                        Segment::NonLocal => vaccel_isa::Segment::NonLocal,
                    },
                };
                Some(data.to_bytes().to_vec())
            }
            Memory::HostPrivate(bytes) => Some(bytes.clone()),
        }
    }
}

#[derive(Debug)]
struct Inner {
    handle: Handle,
    kind: BoKind,
    size: u64,
    mmap_offset: u64,
    private_data: Vec<u8>,
    /// Given up after the object, whose memory its host device owns. An imported object has none.
    vm: Option<Vm>,
}

/// Memory that the GPU can use. Clones are the same object.
#[derive(Clone, Debug)]
#[must_use = "the object is closed when its last user is dropped"]
pub struct Bo {
    inner: Arc<Inner>,
}

/// An object that is not kept.
#[derive(Clone, Debug)]
pub(crate) struct WeakBo {
    inner: Weak<Inner>,
}

impl WeakBo {
    /// What keeps the object, unless it is closed.
    pub(crate) fn keep(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        self.inner.upgrade().map(|inner| inner as _)
    }
}

impl Bo {
    pub(crate) fn downgrade(&self) -> WeakBo {
        WeakBo {
            inner: Arc::downgrade(&self.inner),
        }
    }

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
        let mut private_data = options.host_data().unwrap_or_default();
        let mut args = None;
        if !matches!(options.memory, Memory::Guest) {
            arg.kind = sys::BO_KIND_HOST;
            arg.priv_size = u32::try_from(private_data.len())
                .ok()
                .filter(|size| *size <= sys::limit::PRIV_SIZE_MAX)
                .ok_or_else(|| {
                    Error::local(
                        ErrorKind::TooLarge,
                        "BO_CREATE",
                        format!(
                            "{} bytes of driver data, at most {}",
                            private_data.len(),
                            sys::limit::PRIV_SIZE_MAX
                        ),
                    )
                })?;
            let bo = ArgBo::on(vm.node(), ArgBo::size_for(private_data.len() as u64))?;
            bo.mapping().write(0, &private_data)?;
            arg.arg_bo = bo.handle();
            args = Some(bo);
        }
        vm.node().call::<ioctl::BoCreate>(&mut arg)?;
        let handle = Handle::new(vm.node().clone(), Kind::Gem, arg.bo, "BO_CREATE")?;
        if let Some(args) = args {
            args.mapping().read(0, &mut private_data)?;
        }
        Ok(Self {
            inner: Arc::new(Inner {
                handle,
                kind: BoKind::from(arg.kind),
                size: arg.size,
                mmap_offset: arg.mmap_offset,
                private_data,
                vm: Some(vm.clone()),
            }),
        })
    }

    pub(crate) fn import(node: &Arc<Node>, dma_buf: BorrowedFd<'_>) -> Result<Self> {
        let handle = node.import(dma_buf)?;
        let info = info(node, handle.raw())?;
        Ok(Self {
            inner: Arc::new(Inner {
                handle,
                kind: info.kind,
                size: info.size,
                mmap_offset: info.mmap_offset,
                private_data: Vec::new(),
                vm: None,
            }),
        })
    }

    /// GEM handle.
    pub fn handle(&self) -> u32 {
        self.inner.handle.raw()
    }

    /// What it is made of.
    pub fn kind(&self) -> BoKind {
        self.inner.kind
    }

    /// Size in bytes, which for memory of the host may be more than was asked for.
    pub fn size(&self) -> u64 {
        self.inner.size
    }

    /// The driver data of memory of the host in the host's version; empty for anything else.
    pub fn private_data(&self) -> &[u8] {
        &self.inner.private_data
    }

    /// The vm that it was made in and whose host device owns it; none for an imported object.
    pub fn vm(&self) -> Option<&Vm> {
        self.inner.vm.as_ref()
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        self.inner.handle.node()
    }

    /// Asks the kernel what the object is.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if somebody else closed the handle.
    pub fn info(&self) -> Result<BoInfo> {
        info(self.node(), self.handle())
    }

    /// Maps the whole object for the CPU.
    ///
    /// # Errors
    ///
    /// Those of mmap(2).
    pub fn map(&self) -> Result<Mapping> {
        self.map_prefix(self.size(), Access::ReadWrite)
    }

    /// Maps the first `length` bytes, in whole pages. A mapping through the node begins where the
    /// object does; the dma-buf of [`Bo::export`] can be mapped from any page on.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`] for more bytes than the object has, and those of mmap(2).
    pub fn map_prefix(&self, length: u64, access: Access) -> Result<Mapping> {
        let length = self.length_of(&(0..length), "mmap")?;
        Mapping::new(self.node().fd(), self.inner.mmap_offset, length, access)
    }

    /// Makes caches right before the CPU or the GPU uses `range`. Guest memory needs none of it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`] for a range that is not one of the object's or no direction,
    /// and [`ErrorKind::HostRefused`] with the host's status.
    pub fn sync(&self, flags: SyncFlags, range: Range<u64>) -> Result<()> {
        let mut arg = sys::BoSync {
            bo: self.handle(),
            flags: flags.bits(),
            bo_offset: range.start,
            size: self.length_of(&range, "BO_SYNC")?,
            ..Default::default()
        };
        self.node().call::<ioctl::BoSync>(&mut arg)
    }

    /// Length of a range that lies in the object.
    fn length_of(&self, range: &Range<u64>, operation: &'static str) -> Result<u64> {
        range
            .end
            .checked_sub(range.start)
            .filter(|_| range.end <= self.size())
            .ok_or_else(|| {
                Error::local(
                    ErrorKind::InvalidArgument,
                    operation,
                    format!(
                        "{range:?} is no range of an object of {} bytes",
                        self.size()
                    ),
                )
            })
    }

    /// Binds the whole object in its own vm, at an address of the host's choice.
    ///
    /// # Errors
    ///
    /// As [`Vm::bind`]; [`ErrorKind::InvalidArgument`] for an imported object, which has no vm.
    pub fn bind(&self, flags: BindFlags) -> Result<Binding> {
        self.own_vm()?.bind(self, &BindOptions::new(flags))
    }

    /// Binds `size` bytes from `bo_offset` in its own vm, at `gpu_va` if one is given.
    ///
    /// # Errors
    ///
    /// As [`Bo::bind`].
    pub fn bind_range(
        &self,
        flags: BindFlags,
        gpu_va: Option<u64>,
        bo_offset: u64,
        size: u64,
    ) -> Result<Binding> {
        let mut options = BindOptions::new(flags).part(bo_offset, size);
        if let Some(gpu_va) = gpu_va {
            options = options.at(gpu_va);
        }
        self.own_vm()?.bind(self, &options)
    }

    fn own_vm(&self) -> Result<&Vm> {
        self.vm().ok_or_else(|| {
            Error::local(
                ErrorKind::InvalidArgument,
                "BIND",
                "an imported object belongs to no vm; Vm::bind names one",
            )
        })
    }

    /// Exports the object as a dma-buf, which keeps it alive.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] for memory of the host that was not made shareable.
    pub fn export(&self) -> Result<OwnedFd> {
        ioctl::drm::prime_handle_to_fd(self.node().fd(), self.handle())
            .map_err(|errno| Error::from_errno("PRIME_HANDLE_TO_FD", errno, 0))
    }

    /// Closes the object.
    ///
    /// A GEM handle of which there are several [`Bo`] in one file, because the object was imported
    /// more than once or into the file that made it, is counted: success then means that this one is
    /// given up, and the handle, with everything the kernel keeps by it, is closed with the last.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Busy`] while clones or bindings of this [`Bo`] exist, not of another one of the
    /// same handle; it then goes with the last of them.
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

fn info(node: &Node, bo: u32) -> Result<BoInfo> {
    let mut arg = sys::BoInfo {
        bo,
        ..Default::default()
    };
    node.call::<ioctl::BoInfo>(&mut arg)?;
    Ok(BoInfo {
        kind: BoKind::from(arg.kind),
        caching: match arg.caching {
            sys::BO_WRITE_COMBINED => Caching::WriteCombined,
            _ => Caching::Cached,
        },
        flags: BoFlags::from_bits_retain(arg.flags),
        size: arg.size,
        mmap_offset: arg.mmap_offset,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves which driver data goes out: none for guest memory, the ISA's for a segment, the
    /// caller's own otherwise.
    #[test]
    fn driver_data() {
        assert_eq!(BoOptions::new(4096).host_data(), None);
        let data = BoOptions::host(8192)
            .segment(Segment::NonLocal)
            .host_data()
            .unwrap();
        let data = AllocationData::from_bytes(&data).unwrap();
        assert_eq!(data.size, 8192);
        assert_eq!(data.segment, vaccel_isa::Segment::NonLocal);
        let own = BoOptions::host(8192).private_data(b"abc");
        assert_eq!(own.host_data().unwrap(), b"abc");
    }

    /// Proves that a kind of a newer driver is kept.
    #[test]
    fn unknown_kinds_are_kept() {
        assert_eq!(BoKind::from(1), BoKind::Host);
        assert_eq!(BoKind::from(9), BoKind::Unknown(9));
    }
}
