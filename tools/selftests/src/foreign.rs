// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory and fences of other drivers: udmabuf and vgem by their ioctls, and dma-bufs as such.

#![expect(
    unsafe_code,
    reason = "ioctl(2) on other drivers' nodes, with structures that are declared here"
)]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::PathBuf;

use libvaccel::ioctl::drm;

use crate::rig::{Problem, Result};
use crate::system::{self, Area, How};

pub mod pending;
pub mod sw_sync;
pub mod sync_file;

use sync_file::SyncFile;

const fn request(direction: u32, kind: u8, number: u32, size: usize) -> u32 {
    (direction << 30) | ((size as u32) << 16) | ((kind as u32) << 8) | number
}

/// `struct udmabuf_create`.
#[repr(C)]
#[derive(Debug)]
struct UdmabufCreate {
    memfd: u32,
    flags: u32,
    offset: u64,
    size: u64,
}

/// `struct dma_buf_sync`.
#[repr(C)]
#[derive(Debug)]
struct DmaBufSync {
    flags: u64,
}

/// `struct dma_buf_export_sync_file` and `struct dma_buf_import_sync_file`.
#[repr(C)]
#[derive(Debug)]
struct DmaBufSyncFile {
    flags: u32,
    fd: i32,
}

/// `struct drm_vgem_fence_attach`.
#[repr(C)]
#[derive(Debug, Default)]
struct VgemFenceAttach {
    handle: u32,
    flags: u32,
    out_fence: u32,
    pad: u32,
}

/// `struct drm_vgem_fence_signal`.
#[repr(C)]
#[derive(Debug)]
struct VgemFenceSignal {
    fence: u32,
    flags: u32,
}

/// `struct drm_mode_create_dumb`.
#[repr(C)]
#[derive(Debug, Default)]
struct CreateDumb {
    height: u32,
    width: u32,
    bpp: u32,
    flags: u32,
    handle: u32,
    pitch: u32,
    size: u64,
}

/// `struct drm_mode_map_dumb`.
#[repr(C)]
#[derive(Debug, Default)]
struct MapDumb {
    handle: u32,
    pad: u32,
    offset: u64,
}

const UDMABUF_CREATE: u32 = request(1, b'u', 0x42, size_of::<UdmabufCreate>());
const UDMABUF_FLAGS_CLOEXEC: u32 = 1;
const DMA_BUF_IOCTL_SYNC: u32 = request(1, b'b', 0, size_of::<DmaBufSync>());
const DMA_BUF_SYNC_RW: u64 = 3;
const DMA_BUF_SYNC_END: u64 = 4;
const DMA_BUF_SYNC_READ: u32 = 1;
const DMA_BUF_SYNC_WRITE: u32 = 2;
const EXPORT_SYNC_FILE: u32 = request(3, b'b', 2, size_of::<DmaBufSyncFile>());
const IMPORT_SYNC_FILE: u32 = request(1, b'b', 3, size_of::<DmaBufSyncFile>());
const VGEM_FENCE_ATTACH: u32 = request(3, b'd', 0x41, size_of::<VgemFenceAttach>());
const VGEM_FENCE_SIGNAL: u32 = request(1, b'd', 0x42, size_of::<VgemFenceSignal>());
const VGEM_FENCE_WRITE: u32 = 1;
const CREATE_DUMB: u32 = request(3, b'd', 0xb2, size_of::<CreateDumb>());
const MAP_DUMB: u32 = request(3, b'd', 0xb3, size_of::<MapDumb>());

/// A dma-buf over the memory of a memfd, or a skip where there is no udmabuf.
pub fn udmabuf(memory: &File, size: u64) -> Result<OwnedFd> {
    let node = match File::options().read(true).write(true).open("/dev/udmabuf") {
        Ok(node) => node,
        Err(error) => return Err(Problem::Skipped(format!("/dev/udmabuf: {error}"))),
    };
    let mut arg = UdmabufCreate {
        memfd: u32::try_from(memory.as_raw_fd()).unwrap_or(u32::MAX),
        flags: UDMABUF_FLAGS_CLOEXEC,
        offset: 0,
        size,
    };
    // SAFETY: UdmabufCreate is the structure of UDMABUF_CREATE; it holds no address.
    let fd = unsafe { system::ioctl(node.as_fd(), UDMABUF_CREATE, &mut arg) }?;
    // SAFETY: the call succeeded, so that `fd` is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Begins, or ends, an access of the CPU to a dma-buf that was mapped.
pub fn dma_buf_sync(dma_buf: BorrowedFd<'_>, end: bool) -> io::Result<()> {
    let mut arg = DmaBufSync {
        flags: DMA_BUF_SYNC_RW | if end { DMA_BUF_SYNC_END } else { 0 },
    };
    // SAFETY: DmaBufSync is the structure of DMA_BUF_IOCTL_SYNC; it holds no address.
    unsafe { system::ioctl(dma_buf, DMA_BUF_IOCTL_SYNC, &mut arg) }.map(drop)
}

/// Whom an access has to wait for.
#[derive(Clone, Copy, Debug)]
pub enum Waits {
    /// A reader: for those who write.
    ForWriters,
    /// A writer: for all.
    ForAll,
}

/// The fences that a dma-buf has now against an access.
pub fn export_sync_file(dma_buf: BorrowedFd<'_>, waits: Waits) -> Result<SyncFile> {
    let mut arg = DmaBufSyncFile {
        flags: match waits {
            Waits::ForWriters => DMA_BUF_SYNC_READ,
            Waits::ForAll => DMA_BUF_SYNC_WRITE,
        },
        fd: -1,
    };
    // SAFETY: DmaBufSyncFile is the structure of EXPORT_SYNC_FILE; it holds no address.
    unsafe { system::ioctl(dma_buf, EXPORT_SYNC_FILE, &mut arg) }?;
    // SAFETY: the call succeeded, so that `fd` is a new descriptor that nobody else owns.
    Ok(SyncFile::from(unsafe { OwnedFd::from_raw_fd(arg.fd) }))
}

/// Adds a fence to a dma-buf, of a writer or of a reader.
pub fn attach_sync_file(dma_buf: BorrowedFd<'_>, fence: &SyncFile, writes: bool) -> Result {
    let mut arg = DmaBufSyncFile {
        flags: if writes {
            DMA_BUF_SYNC_WRITE
        } else {
            DMA_BUF_SYNC_READ
        },
        fd: fence.as_fd().as_raw_fd(),
    };
    // SAFETY: DmaBufSyncFile is the structure of IMPORT_SYNC_FILE; it holds no address.
    unsafe { system::ioctl(dma_buf, IMPORT_SYNC_FILE, &mut arg) }?;
    Ok(())
}

/// An object of vgem.
#[derive(Debug)]
pub struct VgemBuffer {
    /// Its GEM handle in the node that made it.
    pub handle: u32,
    dma_buf: OwnedFd,
}

impl VgemBuffer {
    /// The dma-buf.
    pub fn dma_buf(&self) -> BorrowedFd<'_> {
        self.dma_buf.as_fd()
    }
}

/// A node of vgem, whose objects are plain pages.
#[derive(Debug)]
pub struct Vgem {
    node: File,
}

impl Vgem {
    /// Opens the first one, or skips.
    pub fn open() -> Result<Self> {
        for number in 0..16 {
            let path = PathBuf::from(format!("/dev/dri/card{number}"));
            let Ok(node) = File::options().read(true).write(true).open(&path) else {
                continue;
            };
            if drm::driver_name(node.as_fd()).is_ok_and(|name| name == "vgem") {
                return Ok(Self { node });
            }
        }
        Err(Problem::Skipped("no node of vgem in /dev/dri".into()))
    }

    /// Makes an object of one row of `size` bytes.
    pub fn buffer(&self, size: u64) -> Result<VgemBuffer> {
        let mut arg = CreateDumb {
            height: 1,
            width: u32::try_from(size / 4).unwrap_or(u32::MAX),
            bpp: 32,
            ..Default::default()
        };
        // SAFETY: CreateDumb is the structure of CREATE_DUMB; it holds no address.
        unsafe { system::ioctl(self.node.as_fd(), CREATE_DUMB, &mut arg) }?;
        let dma_buf = drm::prime_handle_to_fd(self.node.as_fd(), arg.handle)
            .map_err(|errno| Problem::Failed(format!("vgem export: {errno}")))?;
        Ok(VgemBuffer {
            handle: arg.handle,
            dma_buf,
        })
    }

    /// Makes an object of `size` bytes and exports it; its mapping and the dma-buf.
    pub fn export(&self, size: u64) -> Result<(Area, OwnedFd)> {
        let buffer = self.buffer(size)?;
        Ok((self.map(buffer.handle, size)?, buffer.dma_buf))
    }

    /// Adds a fence to an object, of a writer or of a reader; its number. It signals by itself after
    /// 10 s, or when the node is closed.
    pub fn attach(&self, handle: u32, writes: bool) -> Result<u32> {
        let mut arg = VgemFenceAttach {
            handle,
            flags: if writes { VGEM_FENCE_WRITE } else { 0 },
            ..Default::default()
        };
        // SAFETY: VgemFenceAttach is the structure of VGEM_FENCE_ATTACH; it holds no address.
        unsafe { system::ioctl(self.node.as_fd(), VGEM_FENCE_ATTACH, &mut arg) }?;
        Ok(arg.out_fence)
    }

    /// Signals a fence, once, within its 10 s.
    pub fn signal(&self, fence: u32) -> Result {
        let mut arg = VgemFenceSignal { fence, flags: 0 };
        // SAFETY: VgemFenceSignal is the structure of VGEM_FENCE_SIGNAL; it holds no address.
        unsafe { system::ioctl(self.node.as_fd(), VGEM_FENCE_SIGNAL, &mut arg) }?;
        Ok(())
    }

    /// Imports a dma-buf, which attaches vgem to it, and maps what vgem exports of it in turn: the core
    /// maps no imported object by the importer's node.
    pub fn import(&self, dma_buf: BorrowedFd<'_>, size: u64) -> Result<Area> {
        let handle = drm::prime_fd_to_handle(self.node.as_fd(), dma_buf)
            .map_err(|errno| Problem::Failed(format!("vgem import: {errno}")))?;
        let again = drm::prime_handle_to_fd(self.node.as_fd(), handle)
            .map_err(|errno| Problem::Failed(format!("vgem export of an import: {errno}")))?;
        let length = usize::try_from(size).unwrap_or(usize::MAX);
        Ok(Area::map(again.as_fd(), 0, length, How::SHARED)?)
    }

    /// Maps an object of this node.
    pub fn map(&self, handle: u32, size: u64) -> Result<Area> {
        let mut arg = MapDumb {
            handle,
            ..Default::default()
        };
        // SAFETY: MapDumb is the structure of MAP_DUMB; it holds no address.
        unsafe { system::ioctl(self.node.as_fd(), MAP_DUMB, &mut arg) }?;
        let length = usize::try_from(size).unwrap_or(usize::MAX);
        Ok(Area::map(
            self.node.as_fd(),
            arg.offset,
            length,
            How::SHARED,
        )?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves the request numbers against ones worked out from the kernel's headers.
    #[test]
    fn request_numbers() {
        assert_eq!(UDMABUF_CREATE, 0x4018_7542);
        assert_eq!(DMA_BUF_IOCTL_SYNC, 0x4008_6200);
        assert_eq!(CREATE_DUMB, 0xc020_64b2);
        assert_eq!(MAP_DUMB, 0xc010_64b3);
        assert_eq!(EXPORT_SYNC_FILE, 0xc008_6202);
        assert_eq!(IMPORT_SYNC_FILE, 0x4008_6203);
        assert_eq!(VGEM_FENCE_ATTACH, 0xc010_6441);
        assert_eq!(VGEM_FENCE_SIGNAL, 0x4008_6442);
    }
}
