// SPDX-License-Identifier: MIT OR Apache-2.0
//! System calls that tests need and nobody else should: mappings that are moved, cut and inherited,
//! a forked child, memory of a file descriptor, a mount.

#![expect(
    unsafe_code,
    reason = "these system calls have no safe form in the standard library"
)]

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// How a range is mapped.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// Readable only.
    pub read_only: bool,
    /// A copy of one's own (MAP_PRIVATE).
    pub private: bool,
}

impl How {
    /// Readable, writable, shared.
    pub const SHARED: Self = Self {
        read_only: false,
        private: false,
    };
    /// Readable and shared.
    pub const READ_ONLY: Self = Self {
        read_only: true,
        private: false,
    };
    /// Readable, writable, one's own.
    pub const PRIVATE: Self = Self {
        read_only: false,
        private: true,
    };
}

fn check(status: libc::c_int) -> io::Result<libc::c_int> {
    if status < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(status)
    }
}

fn check_length(length: isize) -> io::Result<usize> {
    usize::try_from(length).map_err(|_| io::Error::last_os_error())
}

fn out_of_range() -> io::Error {
    io::Error::from_raw_os_error(libc::ERANGE)
}

/// A mapped range whose parts can be treated as the kernel allows. Unlike libvaccel's mappings it
/// can be cut; accesses to what is gone die, as they should.
#[derive(Debug)]
pub struct Area {
    address: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping belongs to the process, and the pointer is used for volatile accesses inside
// of it only.
unsafe impl Send for Area {}
// SAFETY: as above; memory that the device and other processes write too has no invariant that a
// concurrent access could break.
unsafe impl Sync for Area {}

impl Area {
    /// Maps `length` bytes of `fd` at `offset`.
    pub fn map(fd: BorrowedFd<'_>, offset: u64, length: usize, how: How) -> io::Result<Self> {
        let mut protection = libc::PROT_READ;
        if !how.read_only {
            protection |= libc::PROT_WRITE;
        }
        let flags = if how.private {
            libc::MAP_PRIVATE
        } else {
            libc::MAP_SHARED
        };
        let offset = libc::off_t::try_from(offset).map_err(|_| out_of_range())?;
        // SAFETY: a new mapping at an address of the kernel's choice replaces nothing; the
        // descriptor is open for the borrow.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                protection,
                flags,
                fd.as_raw_fd(),
                offset,
            )
        };
        Self::mapped(address, length)
    }

    fn mapped(address: *mut libc::c_void, length: usize) -> io::Result<Self> {
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let address = NonNull::new(address.cast()).ok_or_else(out_of_range)?;
        Ok(Self { address, length })
    }

    fn pointer(&self, offset: usize, length: usize) -> io::Result<*mut u8> {
        match offset.checked_add(length) {
            // SAFETY: the offset lies in the mapping, or at its end.
            Some(end) if end <= self.length => Ok(unsafe { self.address.as_ptr().add(offset) }),
            _ => Err(out_of_range()),
        }
    }

    /// Reads the aligned word at `offset`.
    pub fn get(&self, offset: usize) -> io::Result<u64> {
        let pointer = self.pointer(offset & !7, 8)?.cast::<u64>();
        // SAFETY: eight aligned bytes of the mapping; any value is a u64.
        Ok(unsafe { pointer.read_volatile() })
    }

    /// Writes the aligned word at `offset`.
    pub fn set(&self, offset: usize, value: u64) -> io::Result<()> {
        let pointer = self.pointer(offset & !7, 8)?.cast::<u64>();
        // SAFETY: eight aligned bytes of the mapping, to which no reference exists. On a read-only
        // mapping this ends the process, which is what a test of one asks for.
        unsafe { pointer.write_volatile(value) };
        Ok(())
    }

    fn word(&self, offset: usize) -> io::Result<&AtomicU32> {
        let pointer = self.pointer(offset & !3, 4)?.cast::<u32>();
        // SAFETY: four aligned bytes of the mapping, which lives as long as the borrow; atomics are
        // made for words that others write too.
        Ok(unsafe { AtomicU32::from_ptr(pointer) })
    }

    /// Reads the aligned half word at `offset`, ahead of all that is read later.
    pub fn load_u32(&self, offset: usize) -> io::Result<u32> {
        Ok(self.word(offset)?.load(Ordering::Acquire))
    }

    /// Writes the aligned half word at `offset`, behind all that was written before.
    pub fn store_u32(&self, offset: usize, value: u32) -> io::Result<()> {
        self.word(offset)?.store(value, Ordering::SeqCst);
        Ok(())
    }

    /// Has the kernel read from `fd` into the mapping: it faults in kernel mode.
    pub fn read_from(&self, fd: BorrowedFd<'_>, offset: usize, length: usize) -> io::Result<usize> {
        let pointer = self.pointer(offset, length)?;
        // SAFETY: the kernel checks the address; the bytes lie in the mapping.
        check_length(unsafe { libc::read(fd.as_raw_fd(), pointer.cast(), length) })
    }

    /// Has the kernel write from the mapping to `fd`.
    pub fn write_to(&self, fd: BorrowedFd<'_>, offset: usize, length: usize) -> io::Result<usize> {
        let pointer = self.pointer(offset, length)?;
        // SAFETY: the kernel checks the address; the bytes lie in the mapping.
        check_length(unsafe { libc::write(fd.as_raw_fd(), pointer.cast(), length) })
    }

    /// Unmaps the end from `offset` on.
    pub fn cut(&mut self, offset: usize) -> io::Result<()> {
        let rest = self.length.checked_sub(offset).ok_or_else(out_of_range)?;
        let pointer = self.pointer(offset, rest)?;
        // SAFETY: the range is part of this mapping and is not accessed any more: the length says
        // so from here on.
        check(unsafe { libc::munmap(pointer.cast(), rest) })?;
        self.length = offset;
        Ok(())
    }

    /// Unmaps the start up to `offset`, a multiple of the page size.
    pub fn cut_start(&mut self, offset: usize) -> io::Result<()> {
        let rest = self.length.checked_sub(offset).ok_or_else(out_of_range)?;
        let start = NonNull::new(self.pointer(offset, rest)?).ok_or_else(out_of_range)?;
        // SAFETY: the range is part of this mapping and is not accessed any more: the address says
        // so from here on.
        check(unsafe { libc::munmap(self.address.as_ptr().cast(), offset) })?;
        self.address = start;
        self.length = rest;
        Ok(())
    }

    /// Takes the right to write away.
    pub fn make_read_only(&self) -> io::Result<()> {
        // SAFETY: the range is this mapping; no reference to it exists that could mind.
        check(unsafe { libc::mprotect(self.address.as_ptr().cast(), self.length, libc::PROT_READ) })
            .map(drop)
    }

    /// Moves the mapping to another address, or changes its length on the way.
    pub fn remap(&mut self, length: usize) -> io::Result<()> {
        // A place that nothing else is at: reserved, then replaced.
        // SAFETY: a new mapping at an address of the kernel's choice replaces nothing.
        let place = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        let place = Self::mapped(place, length)?;
        // SAFETY: the old range is this mapping and the new one is `place`, which is ours and
        // unused.
        let address = unsafe {
            libc::mremap(
                self.address.as_ptr().cast(),
                self.length,
                length,
                libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED,
                place.address.as_ptr().cast::<libc::c_void>(),
            )
        };
        let moved = Self::mapped(address, length)?;
        // What was at both addresses is now `moved`, or nothing.
        std::mem::forget(place);
        std::mem::forget(std::mem::replace(self, moved));
        Ok(())
    }

    /// Address, to see that it changed.
    pub fn address(&self) -> usize {
        self.address.as_ptr() as usize
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        // SAFETY: the range was mapped for this value and is unmapped only here.
        unsafe { libc::munmap(self.address.as_ptr().cast(), self.length) };
    }
}

/// A forked child.
#[derive(Debug)]
pub struct Child(libc::pid_t);

impl Child {
    /// Runs `work` in a copy of this process, which must have one thread; true is success.
    pub fn fork(work: impl FnOnce() -> bool) -> io::Result<Self> {
        // SAFETY: the caller has one thread, so that no lock is held by one that the child lacks.
        // The child returns to nobody: it ends below.
        let pid = check(unsafe { libc::fork() })?;
        if pid == 0 {
            let status = match std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
                Ok(true) => 0,
                _ => 1,
            };
            // SAFETY: ends the child without running what the parent has registered for its exit.
            unsafe { libc::_exit(status) };
        }
        Ok(Self(pid))
    }

    /// Kills it, as `kill -9` does, and waits until it is gone.
    pub fn kill(self) -> io::Result<()> {
        // SAFETY: the process is a child that nobody has waited for, so that the number is its own.
        check(unsafe { libc::kill(self.0, libc::SIGKILL) })?;
        // That it was killed is what is expected.
        let _ = self.join();
        Ok(())
    }

    /// Waits for its end; true if it was a success, an error with the signal if one killed it.
    pub fn join(self) -> io::Result<bool> {
        let mut status = 0;
        // SAFETY: `status` is a valid place for the answer.
        while check(unsafe { libc::waitpid(self.0, &mut status, 0) }).is_err() {
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        if libc::WIFSIGNALED(status) {
            let signal = libc::WTERMSIG(status);
            return Err(io::Error::other(format!("killed by signal {signal}")));
        }
        Ok(libc::WEXITSTATUS(status) == 0)
    }
}

/// Gives up all rights of this process, which must have one thread: it is nobody's from here on.
pub fn become_nobody() -> io::Result<()> {
    const NOBODY: libc::uid_t = 65534;
    // SAFETY: these calls take numbers, and a list of no entries.
    unsafe {
        check(libc::setgroups(0, std::ptr::null()))?;
        check(libc::setresgid(NOBODY, NOBODY, NOBODY))?;
        check(libc::setresuid(NOBODY, NOBODY, NOBODY))?;
    }
    Ok(())
}

/// Memory of a file of its own that cannot shrink, as udmabuf wants it.
pub fn memfd(size: u64) -> io::Result<File> {
    const NAME: &CStr = c"vaccel-selftests";
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: the name is terminated and outlives the call.
    let fd = check(unsafe { libc::memfd_create(NAME.as_ptr(), flags) })?;
    // SAFETY: the call succeeded, so that `fd` is a new descriptor that nobody else owns.
    let file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    file.set_len(size)?;
    // SAFETY: the descriptor is open; the command takes a number.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, libc::F_SEAL_SHRINK) })?;
    Ok(file)
}

/// Calls an ioctl whose argument is `T`.
///
/// # Safety
///
/// `T` must be the argument structure of `request`, and every address in it valid for what the
/// ioctl does with it.
pub(crate) unsafe fn ioctl<T>(fd: BorrowedFd<'_>, request: u32, arg: &mut T) -> io::Result<i32> {
    // SAFETY: the descriptor is open for the borrow and `arg` is exclusively ours; the rest is
    // this function's own contract.
    check(unsafe {
        libc::ioctl(
            fd.as_raw_fd(),
            libc::Ioctl::from(request),
            std::ptr::from_mut(arg),
        )
    })
}

/// Mounts a file system that needs no source.
pub fn mount(kind: &str, folder: &str) -> io::Result<()> {
    let invalid = |_| io::Error::from_raw_os_error(libc::EINVAL);
    let kind = CString::new(kind).map_err(invalid)?;
    let folder = CString::new(folder).map_err(invalid)?;
    // SAFETY: source, target and type are terminated strings that outlive the call; null data
    // means no options.
    let status = unsafe {
        libc::mount(
            kind.as_ptr(),
            folder.as_ptr(),
            kind.as_ptr(),
            0,
            std::ptr::null(),
        )
    };
    check(status).map(drop)
}

/// Undoes [`mount`].
pub fn unmount(folder: &str) -> io::Result<()> {
    let folder = CString::new(folder).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    // SAFETY: the target is a terminated string that outlives the call.
    check(unsafe { libc::umount2(folder.as_ptr(), libc::MNT_DETACH) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    /// Proves that words travel through areas, moved and cut ones included, and that nothing behind
    /// the end is touched.
    #[test]
    fn areas() {
        let file = memfd(8192).unwrap();
        let mut area = Area::map(file.as_fd(), 0, 8192, How::SHARED).unwrap();
        area.set(4096, 7).unwrap();
        let before = area.address();
        area.remap(8192).unwrap();
        assert_ne!(area.address(), before);
        assert_eq!(area.get(4096).unwrap(), 7);
        area.cut(4096).unwrap();
        assert!(area.get(4096).is_err());
        assert!(area.set(4089, 0).is_ok() && area.set(4096, 0).is_err());
        let mut rest = Area::map(file.as_fd(), 0, 8192, How::SHARED).unwrap();
        rest.cut_start(4096).unwrap();
        assert_eq!(rest.get(0).unwrap(), 7);
        let (near, mut far) = UnixStream::pair().unwrap();
        far.write_all(b"12345678").unwrap();
        assert_eq!(area.read_from(near.as_fd(), 8, 8).unwrap(), 8);
        assert_eq!(area.write_to(near.as_fd(), 8, 8).unwrap(), 8);
        let mut back = [0; 8];
        far.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"12345678");
    }

    /// Proves that a read-only area refuses the kernel's writes.
    #[test]
    fn read_only() {
        let file = memfd(4096).unwrap();
        let area = Area::map(file.as_fd(), 0, 4096, How::SHARED).unwrap();
        area.make_read_only().unwrap();
        let (near, mut far) = UnixStream::pair().unwrap();
        far.write_all(b"x").unwrap();
        let error = area.read_from(near.as_fd(), 0, 1).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EFAULT));
    }
}
