// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which places in the kernel's code the calling thread came by (Documentation/dev-tools/kcov.rst in
//! the kernel). The debug kernel has it for the driver only.

#![expect(
    unsafe_code,
    reason = "kcov is used by ioctls and a mapping, which have no safe form"
)]

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

const FILE: &str = "/sys/kernel/debug/kcov";
/// `KCOV_INIT_TRACE`: `_IOR('c', 1, unsigned long)`.
const INIT_TRACE: u32 = (2 << 30) | (8 << 16) | ((b'c' as u32) << 8) | 1;
/// `KCOV_ENABLE`: `_IO('c', 100)`.
const ENABLE: u32 = ((b'c' as u32) << 8) | 100;
/// `KCOV_TRACE_PC`.
const TRACE_PC: libc::c_ulong = 0;
/// Words of the buffer: a count, and so many places. What is beyond is lost.
const WORDS: usize = 64 << 10;

/// The record of the thread that opened it.
#[derive(Debug)]
pub struct Coverage {
    words: NonNull<AtomicU64>,
    seen: HashSet<u64>,
    /// Ends the record when it is closed.
    _file: File,
}

impl Coverage {
    /// Begins to record the calling thread.
    ///
    /// # Errors
    ///
    /// ENOENT if the kernel has no kcov, and those of its calls.
    pub fn open() -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(FILE)?;
        let fd = file.as_raw_fd();
        // SAFETY: the descriptor is open; the command takes a number.
        check(unsafe { libc::ioctl(fd, libc::Ioctl::from(INIT_TRACE), WORDS as libc::c_ulong) })?;
        // SAFETY: a new mapping at an address of the kernel's choice replaces nothing; the descriptor
        // is open.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                WORDS * 8,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd,
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let words = NonNull::new(address.cast()).ok_or(io::ErrorKind::InvalidData)?;
        // SAFETY: the descriptor is open; the command takes a number.
        check(unsafe { libc::ioctl(fd, libc::Ioctl::from(ENABLE), TRACE_PC) })?;
        Ok(Self {
            words,
            seen: HashSet::new(),
            _file: file,
        })
    }

    fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping has so many words, is aligned to a page, and stays for the life of the
        // process: it is never unmapped. The kernel changes the words, which atomics allow for.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr(), WORDS) }
    }

    /// Forgets what was recorded.
    pub fn start(&self) {
        if let Some(count) = self.words().first() {
            count.store(0, Ordering::Relaxed);
        }
    }

    /// How many places the thread came by since the start that it had not come by before.
    pub fn new_places(&mut self) -> usize {
        let words = self.words();
        let count = words
            .first()
            .map_or(0, |count| count.load(Ordering::Relaxed));
        let places = words.iter().skip(1).take(count as usize);
        let places: Vec<u64> = places.map(|place| place.load(Ordering::Relaxed)).collect();
        let before = self.seen.len();
        self.seen.extend(places);
        self.seen.len() - before
    }

    /// How many places the thread came by in all.
    pub fn places(&self) -> usize {
        self.seen.len()
    }
}

fn check(status: libc::c_int) -> io::Result<()> {
    if status < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
