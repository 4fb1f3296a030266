// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is no ioctl of the driver's: opening and closing the node, mappings, handles of the core.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::Result;
use libvaccel::ioctl::{drm, BoCreate, FenceQuery};
use libvaccel::mapping::Access;
use libvaccel::{sys, Mapping};

use crate::rig::{os, Rig, SIZE};
use crate::row::{last, Row, Step};

fn open(rig: &Rig) -> Result<OwnedFd, std::io::Error> {
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(rig.device.path())?;
    Ok(file.into())
}

/// A mapping of one page, made and given up.
fn map(rig: &Rig, offset: u64, access: Access) -> Step<'_> {
    Box::new(move || {
        let mapping = Mapping::new(rig.fd(), offset, 4096, access).map_err(|error| {
            let errno = error.errno();
            errno.unwrap_or(libvaccel::ioctl::Errno(libc::EIO))
        })?;
        drop(mapping);
        Ok(())
    })
}

/// The rows.
pub const ROWS: &[Row] = &[
    Row::new("open", "open", |rig| {
        Ok(Box::new(|| open(rig).map(drop).map_err(last)))
    }),
    Row::new("close", "close", |rig| {
        let mut file = Some(open(rig)?);
        Ok(Box::new(move || {
            drop(file.take());
            Ok(())
        }))
    }),
    Row::new("gem-close", "GEM_CLOSE", |rig| {
        let bo = rig.make_bo(rig.vm())?;
        Ok(Box::new(move || drm::gem_close(rig.fd(), bo)))
    }),
    Row::new("prime-export", "PRIME_HANDLE_TO_FD", |rig| {
        let bo = rig.make_bo(rig.vm())?;
        Ok(Box::new(move || {
            drm::prime_handle_to_fd(rig.fd(), bo).map(drop)
        }))
    }),
    Row::new("prime-import", "PRIME_FD_TO_HANDLE", |rig| {
        let bo = rig.make_bo(rig.vm())?;
        let dma_buf = drm::prime_handle_to_fd(rig.fd(), bo).map_err(os)?;
        let other = libvaccel::Device::open(rig.device.path())?;
        Ok(Box::new(move || {
            drm::prime_fd_to_handle(other.as_fd(), dma_buf.as_fd()).map(drop)
        }))
    }),
    Row::new("map-bo", "mmap", |rig| {
        let arg = sys::BoCreate {
            size: SIZE,
            vm: rig.vm(),
            ..Default::default()
        };
        let offset = rig.call::<BoCreate>(arg)?.mmap_offset;
        Ok(map(rig, offset, Access::ReadWrite))
    }),
    Row::new("map-fence", "mmap", |rig| {
        let arg = sys::FenceQuery {
            fence: rig.fence.handle(),
            ..Default::default()
        };
        let offset = rig.call::<FenceQuery>(arg)?.mmap_offset;
        Ok(map(rig, offset, Access::Read))
    }),
];
