// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sparse host memory that a guest may be shown in parts.
//!
//! A memory file: it costs memory where it was written, reads as zeros elsewhere, and gives memory
//! back by holes. The host copies in and out through the file, not through a mapping, so that being
//! out of memory is an error and not a signal. What a guest sees of it
//! ([`IoRegion::show`](crate::IoRegion::show)) are the same pages.

#![expect(
    unsafe_code,
    reason = "the standard library makes no memory files and seals none"
)]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;

use vmm_sys_util::fallocate::{fallocate, FallocateMode};

/// Memory that does not exist outside this process.
#[derive(Debug)]
pub struct SparseMemory {
    file: File,
    len: u64,
}

/// An access to sparse memory failed.
#[derive(Debug, thiserror::Error)]
#[error("sparse memory of {size:#x} bytes: {what} {len:#x} bytes at {offset:#x}")]
pub struct SparseError {
    /// Bytes there are.
    pub size: u64,
    /// What was tried.
    pub what: &'static str,
    /// Where.
    pub offset: u64,
    /// How much.
    pub len: u64,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

impl SparseMemory {
    /// Makes `len` bytes that cost nothing yet.
    ///
    /// # Errors
    ///
    /// Fails if the kernel makes no such file.
    pub fn new(len: u64) -> Result<Self, SparseError> {
        let error = |source| SparseError {
            size: len,
            what: "cannot make",
            offset: 0,
            len,
            source,
        };
        let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
        // SAFETY: the name is a string that ends with a zero byte and lives over the call.
        let fd = unsafe { libc::memfd_create(c"vgpu".as_ptr(), flags) };
        if fd < 0 {
            return Err(error(io::Error::last_os_error()));
        }
        // SAFETY: the descriptor was just made, and nobody else has it.
        let file = unsafe { File::from_raw_fd(fd) };
        file.set_len(len).map_err(error)?;
        let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
        // SAFETY: the descriptor is open, and this command takes an integer.
        let sealed = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) };
        if sealed != 0 {
            return Err(error(io::Error::last_os_error()));
        }
        Ok(Self { file, len })
    }

    /// Bytes of it. Sealed: it never has fewer.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The file, for mapping it.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Whether all of a range is inside.
    pub(crate) fn contains(&self, offset: u64, len: u64) -> bool {
        offset.checked_add(len).is_some_and(|end| end <= self.len)
    }

    fn checked(
        &self,
        what: &'static str,
        (offset, len): (u64, u64),
        access: impl FnOnce(&File) -> io::Result<()>,
    ) -> Result<(), SparseError> {
        let result = if self.contains(offset, len) {
            access(&self.file)
        } else {
            Err(io::ErrorKind::InvalidInput.into())
        };
        result.map_err(|source| SparseError {
            size: self.len,
            what,
            offset,
            len,
            source,
        })
    }

    /// Copies bytes from `offset` on into `buf`.
    ///
    /// # Errors
    ///
    /// Fails outside the memory.
    pub fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), SparseError> {
        self.checked("cannot read", (offset, buf.len() as u64), |file| {
            file.read_exact_at(buf, offset)
        })
    }

    /// Copies `data` to `offset`.
    ///
    /// # Errors
    ///
    /// Fails outside the memory, or when the host has no more.
    pub fn write(&self, offset: u64, data: &[u8]) -> Result<(), SparseError> {
        self.checked("cannot write", (offset, data.len() as u64), |file| {
            file.write_all_at(data, offset)
        })
    }

    /// Makes bytes zero; whole pages of them cost nothing any more.
    ///
    /// # Errors
    ///
    /// Fails outside the memory, or if the kernel refuses.
    pub fn discard(&self, offset: u64, len: u64) -> Result<(), SparseError> {
        self.checked("cannot discard", (offset, len), |file| {
            fallocate(file, FallocateMode::PunchHole, true, offset, len)
                .map_err(|error| io::Error::from_raw_os_error(error.errno()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    /// A large memory costs what was written, and nothing after that was discarded; then it is zero
    /// again.
    #[test]
    fn costs_what_is_written() {
        let memory = SparseMemory::new(64 << 30).unwrap();
        let cost = || memory.file.metadata().unwrap().blocks() * 512;
        let mut buf = [7; 16];
        memory.read(40 << 30, &mut buf).unwrap();
        assert_eq!((buf, cost()), ([0; 16], 0));
        memory.write((40 << 30) - 8, &[9; 16]).unwrap();
        assert_eq!(cost(), 8192);
        memory.discard((40 << 30) - 4096, 8192).unwrap();
        memory.read((40 << 30) - 8, &mut buf).unwrap();
        assert_eq!((buf, cost()), ([0; 16], 0));
    }

    /// Accesses over the end or around it are refused; the size stays.
    #[test]
    fn bounds() {
        let memory = SparseMemory::new(8192).unwrap();
        assert!(memory.read(8190, &mut [0; 4]).is_err());
        assert!(memory.write(u64::MAX, &[0; 4]).is_err());
        assert!(memory.discard(4096, 8192).is_err());
        assert!(memory.write(8190, &[1, 2]).is_ok());
        assert!(memory.file.set_len(4096).is_err(), "sealed");
    }
}
