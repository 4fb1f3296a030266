// SPDX-License-Identifier: MIT OR Apache-2.0
//! CPU mappings of device memory: bytes are copied in and out, never lent.
//!
//! The device and other threads may change mapped memory at any time, so no Rust reference to it
//! ever exists. Offsets and lengths are checked on every access. The mapping ends when the value is
//! dropped; it keeps nothing else alive (the kernel keeps the object while it is mapped).

#![allow(
    unsafe_code,
    reason = "mmap(2) and copies through raw pointers happen only here"
)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, ErrorKind, Result};
use crate::ioctl::Errno;

/// Whether the CPU may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reads only.
    Read,
    /// Reads and writes.
    ReadWrite,
}

/// A mapped range of a device node.
#[derive(Debug)]
#[must_use = "the mapping ends when this is dropped"]
pub struct Mapping {
    address: NonNull<u8>,
    length: usize,
    access: Access,
}

// SAFETY: the mapping belongs to the process, not to a thread, and the pointer is used only for
// checked copies.
unsafe impl Send for Mapping {}
// SAFETY: methods that take `&self` copy bytes between the mapping and memory of the caller. The
// mapping is shared with the device anyway, so concurrent writers can mix bytes of a copy but break
// no invariant: no reference to it exists and every bit pattern is a valid byte.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `length` bytes of `fd` at `offset`, shared with the device.
    pub fn new(fd: BorrowedFd<'_>, offset: u64, length: u64, access: Access) -> Result<Self> {
        const OPERATION: &str = "mmap";
        let too_big = || {
            Error::local(
                ErrorKind::InvalidArgument,
                OPERATION,
                "does not fit the address space",
            )
        };
        let size = usize::try_from(length).map_err(|_| too_big())?;
        let offset = libc::off_t::try_from(offset).map_err(|_| too_big())?;
        let protection = match access {
            Access::Read => libc::PROT_READ,
            Access::ReadWrite => libc::PROT_READ | libc::PROT_WRITE,
        };
        // SAFETY: a new mapping at an address of the kernel's choice replaces nothing; the
        // descriptor is open for the borrow.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size,
                protection,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                offset,
            )
        };
        if address == libc::MAP_FAILED {
            let errno = io::Error::last_os_error()
                .raw_os_error()
                .unwrap_or(libc::EIO);
            return Err(Error::from_errno(OPERATION, Errno(errno), 0));
        }
        let address = NonNull::new(address.cast::<u8>())
            .ok_or_else(|| Error::local(ErrorKind::Other, OPERATION, "mapped at address 0"))?;
        Ok(Self {
            address,
            length: size,
            access,
        })
    }

    /// Length in bytes.
    pub const fn len(&self) -> usize {
        self.length
    }

    /// True for a mapping of no bytes, which cannot be made.
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The address, for tests that check what the kernel does with it.
    pub fn address(&self) -> u64 {
        self.address.as_ptr() as u64
    }

    fn check(&self, offset: usize, length: usize, operation: &'static str) -> Result<()> {
        match offset.checked_add(length) {
            Some(end) if end <= self.length => Ok(()),
            _ => Err(Error::local(
                ErrorKind::InvalidArgument,
                operation,
                format!(
                    "{length} bytes at {offset} are outside of the {} mapped",
                    self.length
                ),
            )),
        }
    }

    /// Copies bytes out.
    pub fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<()> {
        self.check(offset, bytes.len(), "mapping read")?;
        // SAFETY: the range was checked to lie in the mapping, which is readable; `bytes` is
        // exclusive memory of the caller and so cannot overlap it; bytes need no alignment.
        unsafe {
            std::ptr::copy_nonoverlapping(
                self.address.as_ptr().add(offset),
                bytes.as_mut_ptr(),
                bytes.len(),
            );
        }
        Ok(())
    }

    /// Copies bytes in.
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<()> {
        if self.access == Access::Read {
            return Err(Error::local(
                ErrorKind::Permission,
                "mapping write",
                "the mapping is read-only",
            ));
        }
        self.check(offset, bytes.len(), "mapping write")?;
        // SAFETY: the range was checked to lie in the mapping, which is writable; `bytes` is
        // memory of the caller, of which no part is in the mapping since that is never lent.
        unsafe {
            std::ptr::copy_nonoverlapping(
                bytes.as_ptr(),
                self.address.as_ptr().add(offset),
                bytes.len(),
            );
        }
        Ok(())
    }

    /// Reads one aligned 64-bit value that the device may change, with acquire ordering.
    pub fn load_u64(&self, offset: usize) -> Result<u64> {
        self.check(offset, 8, "mapping load")?;
        if offset % 8 != 0 {
            return Err(Error::local(
                ErrorKind::InvalidArgument,
                "mapping load",
                format!("offset {offset} is not a multiple of 8"),
            ));
        }
        // SAFETY: the eight bytes lie in the mapping and are aligned, as the mapping starts at a
        // page; the borrow of the atomic ends with this statement, inside the mapping's life. An
        // atomic load is what the machine does to memory that others write; on this target it is a
        // plain load, which read-only memory allows.
        let value = unsafe {
            AtomicU64::from_ptr(self.address.as_ptr().add(offset).cast::<u64>())
                .load(Ordering::Acquire)
        };
        Ok(value)
    }

    /// Asks the kernel to make the mapping writable; for tests of read-only mappings.
    pub fn try_make_writable(&self) -> std::result::Result<(), Errno> {
        // SAFETY: the range is this mapping; more rights for it invalidate nothing.
        let status = unsafe {
            libc::mprotect(
                self.address.as_ptr().cast(),
                self.length,
                libc::PROT_READ | libc::PROT_WRITE,
            )
        };
        if status == 0 {
            Ok(())
        } else {
            let errno = io::Error::last_os_error().raw_os_error();
            Err(Errno(errno.unwrap_or(libc::EIO)))
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `new`, is unmapped only here, and no reference to it
        // exists.
        unsafe { libc::munmap(self.address.as_ptr().cast(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;

    fn backing(size: u64) -> File {
        let path = std::env::temp_dir().join(format!(
            "libvaccel-mapping-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .unwrap();
        std::fs::remove_file(&path).unwrap();
        file.set_len(size).unwrap();
        file
    }

    /// Proves that what is written through one mapping is read through another.
    #[test]
    fn bytes_travel() {
        let file = backing(4096);
        let writer = Mapping::new(file.as_fd(), 0, 4096, Access::ReadWrite).unwrap();
        let reader = Mapping::new(file.as_fd(), 0, 4096, Access::Read).unwrap();
        writer.write(4088, &7u64.to_le_bytes()).unwrap();
        assert_eq!(reader.load_u64(4088).unwrap(), 7);
        let mut bytes = [0; 2];
        reader.read(4088, &mut bytes).unwrap();
        assert_eq!(bytes, [7, 0]);
    }

    /// Proves that no access leaves the mapping, overflow included.
    #[test]
    fn bounds_hold() {
        let file = backing(4096);
        let mapping = Mapping::new(file.as_fd(), 0, 4096, Access::ReadWrite).unwrap();
        assert!(mapping.write(4095, &[0; 2]).is_err());
        assert!(mapping.read(usize::MAX, &mut [0; 2]).is_err());
        assert!(mapping.load_u64(4092).is_err());
        assert!(mapping.load_u64(4).is_err());
        assert!(mapping.write(4096, &[]).is_ok());
    }

    /// Proves that a read-only mapping refuses writes instead of faulting.
    #[test]
    fn read_only_refuses() {
        let file = backing(4096);
        let mapping = Mapping::new(file.as_fd(), 0, 4096, Access::Read).unwrap();
        let error = mapping.write(0, &[1]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Permission);
    }

    /// Proves that the kernel's refusal arrives as an error.
    #[test]
    fn zero_length_is_refused() {
        let file = backing(4096);
        let error = Mapping::new(file.as_fd(), 0, 0, Access::Read).unwrap_err();
        assert_eq!(error.errno(), Some(Errno(libc::EINVAL)));
    }
}
