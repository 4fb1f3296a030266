// SPDX-License-Identifier: MIT OR Apache-2.0
//! The core DRM ioctls a vaccel client uses: driver name, GEM_CLOSE and PRIME.
//!
//! Some of these carry CPU pointers (their ABI is older than this driver's rules); the pointers
//! stay inside this file.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::{iowr, Errno, DRM_IOCTL_BASE};

const GEM_CLOSE: u32 = (1 << 30) | (8 << 16) | (DRM_IOCTL_BASE << 8) | 0x09;
const VERSION: u32 = iowr(0x00, core::mem::size_of::<VersionArg>());
const PRIME_HANDLE_TO_FD: u32 = iowr(0x2d, core::mem::size_of::<PrimeArg>());
const PRIME_FD_TO_HANDLE: u32 = iowr(0x2e, core::mem::size_of::<PrimeArg>());

/// `struct drm_version`.
#[repr(C)]
#[derive(Debug)]
struct VersionArg {
    version: [i32; 3],
    name_len: usize,
    name: *mut u8,
    date_len: usize,
    date: *mut u8,
    desc_len: usize,
    desc: *mut u8,
}

/// `struct drm_prime_handle`.
#[repr(C)]
#[derive(Debug)]
struct PrimeArg {
    handle: u32,
    flags: u32,
    fd: i32,
}

/// `struct drm_gem_close`.
#[repr(C)]
#[derive(Debug)]
struct GemCloseArg {
    handle: u32,
    pad: u32,
}

/// # Safety
///
/// `T` must be the argument structure of `request`, and every address in it must be valid for what
/// the ioctl does with it.
pub(super) unsafe fn raw<T>(fd: BorrowedFd<'_>, request: u32, arg: &mut T) -> Result<(), Errno> {
    // SAFETY: the descriptor is open for the borrow and `arg` is exclusively ours; the rest is
    // this function's own contract.
    let status = unsafe {
        libc::ioctl(
            fd.as_raw_fd(),
            libc::Ioctl::from(request),
            std::ptr::from_mut(arg),
        )
    };
    if status < 0 {
        Err(Errno::last())
    } else {
        Ok(())
    }
}

/// Name of the DRM driver behind `fd` (`DRM_IOCTL_VERSION`).
pub fn driver_name(fd: BorrowedFd<'_>) -> Result<String, Errno> {
    let mut name = [0u8; 64];
    let mut arg = VersionArg {
        version: [0; 3],
        name_len: name.len(),
        name: name.as_mut_ptr(),
        date_len: 0,
        date: std::ptr::null_mut(),
        desc_len: 0,
        desc: std::ptr::null_mut(),
    };
    // SAFETY: VersionArg is the structure of VERSION; `name` is live and as long as announced,
    // the two other strings have length 0, so that their null pointers are not followed.
    unsafe { raw(fd, VERSION, &mut arg) }?;
    // The kernel reports the full length, which may be more than it could write.
    let length = arg.name_len.min(name.len());
    let bytes = name.get(..length).unwrap_or(&name);
    Ok(String::from_utf8_lossy(bytes).into_owned())
}

/// Closes a GEM handle.
pub fn gem_close(fd: BorrowedFd<'_>, handle: u32) -> Result<(), Errno> {
    let mut arg = GemCloseArg { handle, pad: 0 };
    // SAFETY: GemCloseArg is the structure of GEM_CLOSE; it holds no address.
    unsafe { raw(fd, GEM_CLOSE, &mut arg) }
}

/// Makes a dma-buf of a GEM object; it can be mapped for writing and is closed on exec.
pub fn prime_handle_to_fd(fd: BorrowedFd<'_>, handle: u32) -> Result<OwnedFd, Errno> {
    let mut arg = PrimeArg {
        handle,
        flags: (libc::O_CLOEXEC | libc::O_RDWR) as u32,
        fd: -1,
    };
    // SAFETY: PrimeArg is the structure of PRIME_HANDLE_TO_FD; it holds no address.
    unsafe { raw(fd, PRIME_HANDLE_TO_FD, &mut arg) }?;
    // SAFETY: the call succeeded, so `arg.fd` is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(arg.fd) })
}

/// GEM handle in `fd` of a dma-buf.
pub fn prime_fd_to_handle(fd: BorrowedFd<'_>, dma_buf: BorrowedFd<'_>) -> Result<u32, Errno> {
    let mut arg = PrimeArg {
        handle: 0,
        flags: 0,
        fd: dma_buf.as_raw_fd(),
    };
    // SAFETY: PrimeArg is the structure of PRIME_FD_TO_HANDLE; it holds no address.
    unsafe { raw(fd, PRIME_FD_TO_HANDLE, &mut arg) }?;
    Ok(arg.handle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;

    /// Proves the request numbers against ones worked out from drm.h for 64-bit callers.
    #[test]
    fn request_numbers() {
        assert_eq!(VERSION, 0xc040_6400);
        assert_eq!(GEM_CLOSE, 0x4008_6409);
        assert_eq!(PRIME_HANDLE_TO_FD, 0xc00c_642d);
    }

    /// Proves that a file that is no DRM device is an error and not a name.
    #[test]
    fn other_files_have_no_driver_name() {
        let null = File::open("/dev/null").unwrap();
        assert_eq!(driver_name(null.as_fd()), Err(Errno(libc::ENOTTY)));
    }
}
