// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pages of a memfd as a dma-buf, by the kernel's udmabuf.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::Errno;

/// `struct udmabuf_create`.
#[repr(C)]
#[derive(Debug)]
struct CreateArg {
    memfd: u32,
    flags: u32,
    offset: u64,
    size: u64,
}

/// `UDMABUF_CREATE`.
const CREATE: u32 =
    (1 << 30) | ((size_of::<CreateArg>() as u32) << 16) | ((b'u' as u32) << 8) | 0x42;
const FLAGS_CLOEXEC: u32 = 1;

/// Memory of `size` zero bytes behind a file, which cannot shrink any more: udmabuf insists on it.
pub fn memfd(size: u64) -> Result<File, Errno> {
    const NAME: &CStr = c"vaccel";
    let size = libc::off_t::try_from(size).map_err(|_| Errno(libc::EFBIG))?;
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: the name is terminated and outlives the call.
    let fd = unsafe { libc::memfd_create(NAME.as_ptr(), flags) };
    if fd < 0 {
        return Err(Errno::last());
    }
    // SAFETY: the call succeeded, so `fd` is a new descriptor that nobody else owns.
    let file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    // SAFETY: the descriptor is open; the call takes a number.
    if unsafe { libc::ftruncate(file.as_raw_fd(), size) } < 0 {
        return Err(Errno::last());
    }
    // SAFETY: the descriptor is open; this command takes a number.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, libc::F_SEAL_SHRINK) } < 0 {
        return Err(Errno::last());
    }
    Ok(file)
}

/// A dma-buf of the first `size` bytes of `memory`; `node` is an open /dev/udmabuf.
pub fn create(node: BorrowedFd<'_>, memory: BorrowedFd<'_>, size: u64) -> Result<OwnedFd, Errno> {
    let mut arg = CreateArg {
        memfd: memory.as_raw_fd() as u32,
        flags: FLAGS_CLOEXEC,
        offset: 0,
        size,
    };
    // SAFETY: the descriptors are open for their borrows; CreateArg is the structure of CREATE, is
    // exclusively ours, and holds no address.
    let fd = unsafe { libc::ioctl(node.as_raw_fd(), libc::Ioctl::from(CREATE), &mut arg) };
    if fd < 0 {
        return Err(Errno::last());
    }
    // SAFETY: the call succeeded, so `fd` is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    /// Proves the request number against the one worked out from linux/udmabuf.h, and that the
    /// memory is of the size asked for and stays so.
    #[test]
    fn request_and_seal() {
        assert_eq!(CREATE, 0x4018_7542);
        let memory = memfd(8192).unwrap();
        assert_eq!(memory.metadata().unwrap().len(), 8192);
        assert!(memory.set_len(4096).is_err());
        let null = File::open("/dev/null").unwrap();
        let refused = create(null.as_fd(), memory.as_fd(), 8192).unwrap_err();
        assert_eq!(refused, Errno(libc::ENOTTY));
    }
}
