// SPDX-License-Identifier: MIT OR Apache-2.0
//! What objects are compared with: anonymous memory, and guest memory that the kernel itself pins
//! for a device (a memfd, sealed, made a dma-buf by udmabuf).

#![expect(
    unsafe_code,
    reason = "these system calls have no safe form in the standard library"
)]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;

/// The driver that makes dma-bufs of memfds.
pub const UDMABUF: &str = "/dev/udmabuf";
/// The most that it makes a dma-buf of, in MiB.
pub const UDMABUF_LIMIT: &str = "/sys/module/udmabuf/parameters/size_limit_mb";

fn check(status: libc::c_int) -> io::Result<libc::c_int> {
    if status < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(status)
    }
}

/// A new file of memory, which can be sealed.
pub fn memfd(size: u64) -> io::Result<File> {
    let name = c"vaccel-bench";
    // SAFETY: the name is a terminated string that outlives the call.
    let status = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_ALLOW_SEALING) };
    let descriptor = check(status)?;
    // SAFETY: the descriptor was just opened and belongs to nobody else.
    let file = unsafe { File::from_raw_fd(descriptor) };
    file.set_len(size)?;
    Ok(file)
}

/// Makes sure that a file of memory never shrinks, as udmabuf wants it.
pub fn seal(file: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open; the call takes no memory.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, libc::F_SEAL_SHRINK) })?;
    Ok(())
}

/// The argument of UDMABUF_CREATE (linux/udmabuf.h).
#[repr(C)]
struct Create {
    memfd: u32,
    flags: u32,
    offset: u64,
    size: u64,
}

/// UDMABUF_CREATE: `_IOW('u', 0x42, struct udmabuf_create)`.
const UDMABUF_CREATE: libc::c_ulong = (1 << 30)
    | ((size_of::<Create>() as libc::c_ulong) << 16)
    | ((b'u' as libc::c_ulong) << 8)
    | 0x42;
/// UDMABUF_FLAGS_CLOEXEC.
const CLOEXEC: u32 = 1;

/// Pins all of a sealed file of memory in a dma-buf.
pub fn udmabuf(device: &File, memory: &File, size: u64) -> io::Result<OwnedFd> {
    let create = Create {
        memfd: u32::try_from(memory.as_raw_fd()).map_err(io::Error::other)?,
        flags: CLOEXEC,
        offset: 0,
        size,
    };
    // The type of the request differs between C libraries.
    let request = UDMABUF_CREATE as _;
    // SAFETY: the structure is the request's, lives until the call returns, and is only read.
    let descriptor = check(unsafe { libc::ioctl(device.as_raw_fd(), request, &raw const create) })?;
    // SAFETY: the kernel just opened it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Anonymous memory, as malloc(3) of much memory gives it.
#[derive(Debug)]
pub struct Anonymous {
    address: NonNull<u8>,
    length: usize,
}

impl Anonymous {
    /// Maps `length` bytes, of huge pages where the kernel has them, or without.
    pub fn new(length: usize, huge: bool) -> io::Result<Self> {
        // SAFETY: a new private mapping at an address of the kernel's choice replaces nothing.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let address = NonNull::new(address.cast::<u8>())
            .ok_or_else(|| io::Error::from(io::ErrorKind::AddrInUse))?;
        let memory = Self { address, length };
        if !huge {
            // SAFETY: the range is this mapping; the advice changes no content. A kernel without
            // huge pages refuses it, and has none to avoid.
            unsafe { libc::madvise(address.as_ptr().cast(), length, libc::MADV_NOHUGEPAGE) };
        }
        Ok(memory)
    }

    fn check(&self, offset: usize, length: usize) -> io::Result<()> {
        match offset.checked_add(length) {
            Some(end) if end <= self.length => Ok(()),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// Copies bytes out, as [`libvaccel::Mapping::read`] does.
    pub fn read(&self, offset: usize, bytes: &mut [u8]) -> io::Result<()> {
        self.check(offset, bytes.len())?;
        // SAFETY: the range was checked to lie in the mapping; `bytes` is exclusive memory of the
        // caller and so no part of it, which is never lent.
        unsafe {
            std::ptr::copy_nonoverlapping(
                self.address.as_ptr().add(offset),
                bytes.as_mut_ptr(),
                bytes.len(),
            );
        }
        Ok(())
    }

    /// Copies bytes in, as [`libvaccel::Mapping::write`] does.
    pub fn write(&self, offset: usize, bytes: &[u8]) -> io::Result<()> {
        self.check(offset, bytes.len())?;
        // SAFETY: the range was checked to lie in the mapping; `bytes` is memory of the caller, of
        // which no part is in the mapping since that is never lent.
        unsafe {
            std::ptr::copy_nonoverlapping(
                bytes.as_ptr(),
                self.address.as_ptr().add(offset),
                bytes.len(),
            );
        }
        Ok(())
    }
}

impl Drop for Anonymous {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `new`, is unmapped only here, and no reference to it
        // exists.
        unsafe { libc::munmap(self.address.as_ptr().cast(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves the number of the request against linux/udmabuf.h.
    #[test]
    fn request_number() {
        assert_eq!(UDMABUF_CREATE, 0x4018_7542);
    }

    /// Proves that a sealed file of memory grows but does not shrink.
    #[test]
    fn sealed() {
        let file = memfd(8192).unwrap();
        seal(&file).unwrap();
        assert!(file.set_len(4096).is_err());
        assert!(file.set_len(16384).is_ok());
    }

    /// Proves that anonymous memory is checked at its end and keeps what is written.
    #[test]
    fn anonymous() {
        for huge in [true, false] {
            let memory = Anonymous::new(8192, huge).unwrap();
            memory.write(8190, &[1, 2]).unwrap();
            let mut bytes = [0; 2];
            memory.read(8190, &mut bytes).unwrap();
            assert_eq!(bytes, [1, 2]);
            assert!(memory.write(8191, &[1, 2]).is_err());
            assert!(memory.read(usize::MAX, &mut bytes).is_err());
        }
    }
}
