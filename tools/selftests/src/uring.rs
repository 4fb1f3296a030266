// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rings of io_uring of any form, to be used against the rules too: entries and completions of either
//! size or both, and entries that are changed while the kernel reads them.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use libvaccel::Deadline;

use crate::rig::{failed, Result};
use crate::system::{Area, How};

mod calls;
pub mod door;
pub mod entry;

pub use entry::Entry;

/// IORING_SETUP_IOPOLL.
pub const IOPOLL: u32 = 1 << 0;
/// IORING_SETUP_SQPOLL.
pub const SQPOLL: u32 = 1 << 1;
const CQSIZE: u32 = 1 << 3;
/// IORING_SETUP_COOP_TASKRUN.
pub const COOP_TASKRUN: u32 = 1 << 8;
/// IORING_SETUP_SINGLE_ISSUER and IORING_SETUP_DEFER_TASKRUN.
pub const DEFER_TASKRUN: u32 = 1 << 12 | 1 << 13;
/// IORING_SETUP_SQE128.
pub const SQE128: u32 = 1 << 10;
/// IORING_SETUP_CQE32.
pub const CQE32: u32 = 1 << 11;
const NO_SQARRAY: u32 = 1 << 16;
/// IORING_SETUP_CQE_MIXED.
pub const CQE_MIXED: u32 = 1 << 18;
/// IORING_SETUP_SQE_MIXED.
pub const SQE_MIXED: u32 = 1 << 19;

/// Offset of the rings in the descriptor.
const RINGS: u64 = 0;
/// Offset of the entries in the descriptor.
const ENTRIES: u64 = 0x1000_0000;
/// IORING_SQ_NEED_WAKEUP.
const NEED_WAKEUP: u32 = 1 << 0;
/// IORING_CQE_F_SKIP.
const SKIP: u32 = 1 << 5;
/// IORING_CQE_F_32.
const LARGE: u32 = 1 << 15;

/// A completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// Of the entry.
    pub user_data: u64,
    /// A negative errno, or what the command gives.
    pub result: i32,
    /// The first extra word, where the completion has one.
    pub extra: Option<u64>,
}

/// What kind of ring to make.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Entries, a power of two.
    pub entries: u32,
    /// Completions, a power of two.
    pub completions: u32,
    /// `IORING_SETUP_` flags.
    pub flags: u32,
    /// Made by the 32-bit system call.
    pub narrow: bool,
}

impl Default for Setup {
    /// Large entries, large completions.
    fn default() -> Self {
        Self {
            entries: 64,
            completions: 512,
            flags: SQE128 | CQE32,
            narrow: false,
        }
    }
}

/// A ring. What it has pending ends with it.
#[derive(Debug)]
pub struct Ring {
    rings: Area,
    entries: Arc<Area>,
    params: calls::Params,
    /// Next place for an entry.
    tail: u32,
    /// Entries that the kernel has not been told of.
    pushed: u32,
    taken: VecDeque<Completion>,
    /// Number of the ring among those that the thread has registered.
    registered: Option<i32>,
    fd: OwnedFd,
}

impl Ring {
    /// Makes one.
    pub fn new(setup: &Setup) -> io::Result<Self> {
        let mut params = calls::Params {
            flags: setup.flags | CQSIZE | NO_SQARRAY,
            cq_entries: setup.completions,
            sq_thread_idle: 10,
            ..Default::default()
        };
        let fd = if setup.narrow {
            calls::setup_32(setup.entries, &mut params)?
        } else {
            calls::setup(setup.entries, &mut params)?
        };
        let rings = params.cq_off.cqes + params.cq_entries * completion_size(params.flags);
        let entries = params.sq_entries * entry_size(params.flags);
        Ok(Self {
            rings: Area::map(fd.as_fd(), RINGS, rings as usize, How::SHARED)?,
            entries: Arc::new(Area::map(
                fd.as_fd(),
                ENTRIES,
                entries as usize,
                How::SHARED,
            )?),
            params,
            tail: 0,
            pushed: 0,
            taken: VecDeque::new(),
            registered: None,
            fd,
        })
    }

    /// The usual one.
    pub fn usual() -> io::Result<Self> {
        Self::new(&Setup::default())
    }

    /// One for so many completions.
    pub fn deep(completions: u32) -> io::Result<Self> {
        Self::new(&Setup {
            completions,
            ..Default::default()
        })
    }

    fn has(&self, flag: u32) -> bool {
        self.params.flags & flag != 0
    }

    /// The memory of the entries, which the kernel reads while it takes them.
    pub fn entries(&self) -> Arc<Area> {
        self.entries.clone()
    }

    /// Makes a file known as number 0, for [`Entry::fixed`].
    pub fn register_file(&self, file: BorrowedFd<'_>) -> io::Result<()> {
        calls::register_file(self.fd.as_fd(), file)
    }

    /// Enters the kernel without the descriptor from here on; this thread only.
    pub fn register(&mut self) -> io::Result<()> {
        self.registered = Some(calls::register_ring(self.fd.as_fd())?);
        Ok(())
    }

    /// Writes an entry, to be submitted later. EBUSY if there is no room.
    pub fn push(&mut self, entry: &Entry) -> io::Result<()> {
        let count = self.params.sq_entries;
        let places = if self.has(SQE_MIXED) && entry.is_large() {
            2
        } else {
            1
        };
        // A large entry does not go around the end.
        while places == 2 && self.tail % count == count - 1 {
            self.push(&Entry::nop(FILLER))?;
        }
        let head = self.rings.load_u32(self.params.sq_off.head as usize)?;
        if self.tail.wrapping_sub(head) + places > count {
            return Err(io::Error::from_raw_os_error(libc::EBUSY));
        }
        let size = entry_size(self.params.flags);
        let start = (self.tail % count * size) as usize;
        for (offset, word) in entry.words().take((size * places / 8) as usize) {
            self.entries.set(start + offset, word)?;
        }
        self.tail = self.tail.wrapping_add(places);
        self.pushed += places;
        let tail = self.params.sq_off.tail as usize;
        self.rings.store_u32(tail, self.tail)
    }

    /// Has the kernel take what was pushed; waits for nothing.
    pub fn submit(&mut self) -> io::Result<()> {
        self.enter(0, 0, Deadline::NOW)
    }

    /// Has the kernel do what it has left for when it is entered; waits for nothing.
    pub fn look(&mut self) -> io::Result<()> {
        self.enter(0, calls::GETEVENTS, Deadline::NOW)
    }

    fn enter(&mut self, complete: u32, flags: u32, deadline: Deadline) -> io::Result<()> {
        let mut flags = flags;
        let submit = std::mem::take(&mut self.pushed);
        if self.has(SQPOLL) {
            let state = self.rings.load_u32(self.params.sq_off.flags as usize)?;
            if state & NEED_WAKEUP != 0 {
                flags |= calls::SQ_WAKEUP;
            }
        }
        let ring = match self.registered {
            Some(number) => {
                flags |= calls::REGISTERED_RING;
                number
            }
            None => self.fd.as_raw_fd(),
        };
        let taken = calls::enter(ring, submit, complete, flags, deadline)?;
        if !self.has(SQPOLL) && taken < submit {
            self.pushed = submit - taken;
        }
        Ok(())
    }

    /// The completions that are there.
    pub fn take(&mut self) -> io::Result<Vec<Completion>> {
        self.reap()?;
        Ok(self.taken.drain(..).collect())
    }

    fn reap(&mut self) -> io::Result<()> {
        let offsets = self.params.cq_off;
        let tail = self.rings.load_u32(offsets.tail as usize)?;
        let mut head = self.rings.load_u32(offsets.head as usize)?;
        let size = completion_size(self.params.flags);
        while head != tail {
            let place = (offsets.cqes + head % self.params.cq_entries * size) as usize;
            let word = self.rings.get(place + 8)?;
            let flags = (word >> 32) as u32;
            let large = self.has(CQE32) || flags & LARGE != 0;
            if flags & SKIP == 0 {
                let completion = Completion {
                    user_data: self.rings.get(place)?,
                    result: word as u32 as i32,
                    extra: large.then(|| self.rings.get(place + 16)).transpose()?,
                };
                if completion.user_data != FILLER {
                    self.taken.push_back(completion);
                }
            }
            let places = 1 + u32::from(large && self.has(CQE_MIXED));
            head = head.wrapping_add(places);
        }
        self.rings.store_u32(offsets.head as usize, head)
    }

    /// Submits what was pushed and waits until there are `count` completions; at the deadline less.
    pub fn wait(&mut self, count: usize, deadline: Deadline) -> io::Result<Vec<Completion>> {
        self.submit()?;
        loop {
            self.reap()?;
            if self.taken.len() >= count {
                return self.take();
            }
            match self.enter(1, calls::GETEVENTS, deadline) {
                Ok(()) => {}
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                Err(error) if error.raw_os_error() == Some(libc::ETIME) => return self.take(),
                Err(error) => return Err(error),
            }
        }
    }

    /// As [`Ring::wait`], and all of them must be there in time.
    pub fn collect(&mut self, count: usize, deadline: Deadline) -> Result<Vec<Completion>> {
        let completions = self.wait(count, deadline)?;
        if completions.len() == count {
            return Ok(completions);
        }
        failed(format!(
            "{} completions, expected {count}: {:?}",
            completions.len(),
            completions.iter().take(8).collect::<Vec<_>>()
        ))
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// user_data of what only fills a place.
const FILLER: u64 = u64::MAX;

const fn entry_size(flags: u32) -> u32 {
    if flags & SQE128 != 0 {
        128
    } else {
        64
    }
}

const fn completion_size(flags: u32) -> u32 {
    if flags & CQE32 != 0 {
        32
    } else {
        16
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rig::soon;
    use std::fs::File;

    fn ring(flags: u32) -> Option<Ring> {
        let setup = Setup {
            entries: 8,
            completions: 16,
            flags,
            narrow: false,
        };
        // Not every kernel has each kind, and not every place lets us.
        Ring::new(&setup).ok()
    }

    /// Proves, where the kernel has such rings, that entries of both sizes come back in order, many times
    /// around the end of the ring, by each way to have them taken.
    #[test]
    fn entries_come_back() {
        let null = File::open("/dev/null").unwrap();
        for more in [0, SQPOLL, DEFER_TASKRUN, COOP_TASKRUN] {
            for sizes in [SQE128 | CQE32, SQE128, CQE32, SQE_MIXED | CQE_MIXED] {
                let Some(mut ring) = ring(sizes | more) else {
                    continue;
                };
                for round in 0..100 {
                    let command = Entry::raw(null.as_fd(), 1, &[], 3 * round + 1);
                    let large = sizes & SQE_MIXED != 0;
                    ring.push(&Entry::nop(3 * round)).unwrap();
                    ring.push(&if large { command.large() } else { command })
                        .unwrap();
                    ring.push(&Entry::nop(3 * round + 2)).unwrap();
                    let seen = ring.collect(3, soon()).unwrap();
                    let seen: Vec<_> = seen.iter().map(|seen| seen.user_data).collect();
                    let expected: Vec<_> = (3 * round..3 * round + 3).collect();
                    assert_eq!(seen, expected, "{sizes:#x} {more:#x}");
                }
            }
        }
    }

    /// Proves that a deadline ends a wait, with what is there, and that a ring has an end.
    #[test]
    fn deadlines_and_room() {
        let Some(mut ring) = ring(SQE128 | CQE32) else {
            return;
        };
        ring.push(&Entry::nop(1)).unwrap();
        let seen = ring.wait(2, Deadline::after_secs(0)).unwrap();
        assert_eq!((seen.len(), seen[0].result), (1, 0));
        for _ in 0..8 {
            ring.push(&Entry::nop(2)).unwrap();
        }
        let error = ring.push(&Entry::nop(2)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBUSY));
    }

    /// Proves that a registered file and ring do as well.
    #[test]
    fn registered() {
        let null = File::open("/dev/null").unwrap();
        let Some(mut ring) = ring(SQE128 | CQE32) else {
            return;
        };
        ring.register_file(null.as_fd()).unwrap();
        ring.register().unwrap();
        let entry = Entry::raw(null.as_fd(), 1, &[], 5);
        ring.push(&entry.fixed()).unwrap();
        let seen = ring.collect(1, soon()).unwrap();
        assert_eq!(seen[0].user_data, 5);
        assert_ne!(seen[0].result, -libc::EBADF);
    }
}
