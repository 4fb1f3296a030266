// SPDX-License-Identifier: MIT OR Apache-2.0
//! An io_uring with entries of 128 and completions of 32 bytes, and the operations as entries of it.
//!
//! As thin as [`ioctl`](crate::ioctl): a ring takes a descriptor and an operation's structure, good
//! or malformed, and gives back numbers. What they mean says the header, at "Operations as io_uring
//! commands".

#![allow(
    unsafe_code,
    reason = "entries of an io_uring can name memory, so pushing one is unsafe"
)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use io_uring::types::{self, SubmitArgs, Timespec};
use io_uring::{cqueue, opcode, squeue, Builder, IoUring};
use zerocopy::IntoBytes;

use crate::deadline::Deadline;
use crate::ioctl::{
    Bind, Cancel, FenceWait, FenceWaitMany, Operation, Residency, Submit, SyncExport, SyncImport,
    Unbind,
};
use crate::sys::clock;

/// Bytes of an entry's command area.
const COMMAND_BYTES: usize = 80;

/// Operations that exist as io_uring commands.
pub trait RingOperation: Operation {}

impl RingOperation for Submit {}
impl RingOperation for FenceWait {}
impl RingOperation for FenceWaitMany {}
impl RingOperation for Residency {}
impl RingOperation for Bind {}
impl RingOperation for Unbind {}
impl RingOperation for SyncExport {}
impl RingOperation for SyncImport {}
impl RingOperation for Cancel {}

/// What kind of ring to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    /// Entries of the submission queue; the completion queue has twice as many. Completions beyond
    /// are kept by the kernel until there is room.
    pub entries: u32,
    /// Has a kernel thread take the entries, which sleeps after so many milliseconds without any.
    pub sqpoll_idle_ms: Option<u32>,
    /// Completions are made only while the one thread that submits waits for them. Implies a single
    /// issuer: from any other thread, to submit fails with EEXIST.
    pub defer_taskrun: bool,
    /// Completions are polled for.
    pub iopoll: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            entries: 64,
            sqpoll_idle_ms: None,
            defer_taskrun: false,
            iopoll: false,
        }
    }
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The number that the entry was given.
    pub user_data: u64,
    /// 0 or more, or a negative errno.
    pub result: i32,
    /// The first half of the completion's extra 16 bytes.
    pub extra: u64,
}

bitflags::bitflags! {
    /// How an entry stands to others.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct EntryFlags: u8 {
        /// The next entry begins when this one is done, and is dropped if it fails.
        const LINK = squeue::Flags::IO_LINK.bits();
        /// The next entry begins when this one is done, also if it fails.
        const HARDLINK = squeue::Flags::IO_HARDLINK.bits();
        /// A thread of the kernel issues it.
        const ASYNC = squeue::Flags::ASYNC.bits();
        /// Begins when all before are done.
        const DRAIN = squeue::Flags::IO_DRAIN.bits();
    }
}

/// The file an entry is for.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// By a descriptor, which has to stay open until the entry is submitted: the kernel gets its
    /// number only.
    Fd(BorrowedFd<'a>),
    /// By its place among the registered files.
    Fixed(u32),
}

/// A ring.
pub struct Ring {
    inner: IoUring<squeue::Entry128, cqueue::Entry32>,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let params = self.inner.params();
        f.debug_struct("Ring")
            .field("entries", &params.sq_entries())
            .field("sqpoll", &params.is_setup_sqpoll())
            .finish_non_exhaustive()
    }
}

/// Tells the builder what kind of ring is asked for.
fn configure(builder: &mut Builder<squeue::Entry128, cqueue::Entry32>, setup: &Setup) {
    // The ring goes to no child.
    builder.dontfork().setup_submit_all();
    if let Some(idle) = setup.sqpoll_idle_ms {
        builder.setup_sqpoll(idle);
    }
    if setup.defer_taskrun {
        builder.setup_single_issuer().setup_defer_taskrun();
    }
    if setup.iopoll {
        builder.setup_iopoll();
    }
}

impl Ring {
    /// Makes a ring.
    ///
    /// # Errors
    ///
    /// Those of io_uring_setup(2): EPERM where it is disabled, ENOSYS where there is none, EINVAL for
    /// what the kernel cannot combine.
    pub fn new(setup: &Setup) -> io::Result<Self> {
        let mut builder = IoUring::builder();
        configure(&mut builder, setup);
        let inner = builder.build(setup.entries)?;
        Ok(Self { inner })
    }

    /// Makes a file known to the ring, as [`Target::Fixed`] 0.
    ///
    /// # Errors
    ///
    /// Those of io_uring_register(2): EBUSY if there is one already.
    pub fn register_file(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.inner.submitter().register_files(&[fd.as_raw_fd()])
    }

    /// Puts an operation into the submission queue; the kernel is not told yet.
    ///
    /// # Errors
    ///
    /// EBUSY if the queue is full: [`Ring::submit`] makes room.
    pub fn push<O: RingOperation>(
        &mut self,
        target: Target<'_>,
        arg: &O::Arg,
        user_data: u64,
        flags: EntryFlags,
    ) -> io::Result<()> {
        let entry = match target {
            Target::Fd(fd) => opcode::UringCmd80::new(types::Fd(fd.as_raw_fd()), O::NUMBER),
            Target::Fixed(index) => opcode::UringCmd80::new(types::Fixed(index), O::NUMBER),
        };
        let entry = entry.cmd(command(arg)).build().flags(entry_flags(flags));
        self.push_entry(&entry.user_data(user_data))
    }

    /// Asks for a completion when `fd`, which has to stay open until then, is readable.
    ///
    /// # Errors
    ///
    /// As [`Ring::push`].
    pub fn push_readable(&mut self, fd: BorrowedFd<'_>, user_data: u64) -> io::Result<()> {
        const READABLE: u32 = libc::POLLIN as u32;
        let entry = opcode::PollAdd::new(types::Fd(fd.as_raw_fd()), READABLE).build();
        self.push_entry(&squeue::Entry128::from(entry.user_data(user_data)))
    }

    fn push_entry(&mut self, entry: &squeue::Entry128) -> io::Result<()> {
        // SAFETY: the entry names no memory. A command is an `Operation`, of which the kernel accesses
        // nothing but the structure, and that is in the entry; to poll takes numbers.
        let pushed = unsafe { self.inner.submission().push(entry) };
        pushed.map_err(|_| io::Error::from_raw_os_error(libc::EBUSY))
    }

    /// How many more operations the submission queue takes.
    pub fn room(&mut self) -> usize {
        let queue = self.inner.submission();
        queue.capacity() - queue.len()
    }

    /// Gives what was pushed to the kernel, and returns how much that was.
    ///
    /// # Errors
    ///
    /// Those of io_uring_enter(2).
    pub fn submit(&mut self) -> io::Result<usize> {
        self.inner.submit()
    }

    /// Gives what was pushed to the kernel, and waits until there are `count` completions. If the
    /// deadline comes first that is no error if something was submitted.
    ///
    /// # Errors
    ///
    /// ETIME at the deadline, and those of io_uring_enter(2), EINTR among them.
    pub fn submit_and_wait(&mut self, count: usize, deadline: Deadline) -> io::Result<usize> {
        if deadline == Deadline::NEVER {
            return self.inner.submit_and_wait(count);
        }
        let left = deadline.as_ns().saturating_sub(clock::monotonic_ns());
        let left = Timespec::from(Duration::from_nanos(left));
        let args = SubmitArgs::new().timespec(&left);
        self.inner.submitter().submit_with_args(count, &args)
    }

    /// Takes the completions that there are, oldest first.
    pub fn completions(&mut self) -> Vec<Completion> {
        let completions = self.inner.completion();
        completions
            .map(|entry| Completion {
                user_data: entry.user_data(),
                result: entry.result(),
                extra: entry.big_cqe()[0],
            })
            .collect()
    }
}

/// The structure at the start of the command area, zeros behind it.
fn command<T: IntoBytes + zerocopy::Immutable>(arg: &T) -> [u8; COMMAND_BYTES] {
    let mut area = [0; COMMAND_BYTES];
    let bytes = arg.as_bytes();
    // A structure has at most as many bytes as the area; `sys` asserts it of each.
    area[..bytes.len()].copy_from_slice(bytes);
    area
}

fn entry_flags(flags: EntryFlags) -> squeue::Flags {
    squeue::Flags::from_bits_retain(flags.bits())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_fd::EventFd;
    use crate::sys;
    use std::fs::File;
    use std::os::fd::AsFd;

    /// A ring, unless this machine allows none.
    fn ring(setup: &Setup) -> Option<Ring> {
        match Ring::new(setup) {
            Ok(ring) => Some(ring),
            Err(error) => match error.raw_os_error() {
                Some(libc::EPERM | libc::ENOSYS) => None,
                _ => panic!("{error}"),
            },
        }
    }

    /// Proves that a command reaches its file and that the answer comes back with its number:
    /// /dev/null takes any command and answers 0, a socketless eventfd takes none.
    #[test]
    fn commands_are_answered() {
        let Some(mut ring) = ring(&Setup::default()) else {
            return;
        };
        let event = EventFd::new().unwrap();
        let null = File::open("/dev/null").unwrap();
        let arg = sys::FenceWait::default();
        let flags = EntryFlags::empty();
        ring.push::<FenceWait>(Target::Fd(null.as_fd()), &arg, 7, flags)
            .unwrap();
        ring.push::<FenceWait>(Target::Fd(event.as_fd()), &arg, 8, flags)
            .unwrap();
        assert_eq!(ring.submit_and_wait(2, Deadline::NEVER).unwrap(), 2);
        let mut seen = ring.completions();
        seen.sort_by_key(|completion| completion.user_data);
        let seen: Vec<_> = seen.iter().map(|c| (c.user_data, c.result)).collect();
        assert_eq!(seen, [(7, 0), (8, -libc::EOPNOTSUPP)]);
    }

    /// Proves that a registered file is found at its place, and nothing beside it.
    #[test]
    fn registered_files() {
        let Some(mut ring) = ring(&Setup::default()) else {
            return;
        };
        let null = File::open("/dev/null").unwrap();
        ring.register_file(null.as_fd()).unwrap();
        drop(null);
        for place in [0, 1] {
            let arg = sys::Cancel::default();
            ring.push::<Cancel>(Target::Fixed(place), &arg, 0, EntryFlags::empty())
                .unwrap();
            ring.submit_and_wait(1, Deadline::after_secs(10)).unwrap();
            let expected = if place == 0 { 0 } else { -libc::EBADF };
            assert_eq!(ring.completions()[0].result, expected);
        }
    }

    /// Proves that a full queue says so and takes more once it was submitted, and that a wait for
    /// what does not come ends at its deadline.
    #[test]
    fn full_queue_and_deadline() {
        let setup = Setup {
            entries: 2,
            defer_taskrun: true,
            ..Default::default()
        };
        let Some(mut ring) = ring(&setup) else {
            return;
        };
        let event = EventFd::new().unwrap();
        assert_eq!(ring.room(), 2);
        for _ in 0..2 {
            ring.push_readable(event.as_fd(), 1).unwrap();
        }
        let error = ring.push_readable(event.as_fd(), 1).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBUSY));
        assert_eq!(ring.submit().unwrap(), 2);
        assert_eq!(ring.room(), 2);
        let soon = Deadline::after(Duration::from_millis(2));
        let error = ring.submit_and_wait(1, soon).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ETIME));
        assert!(ring.completions().is_empty());
    }

    /// Proves that the structure is at the start of the command area, whatever its size.
    #[test]
    fn command_area() {
        let cancel = sys::Cancel {
            user_value: u64::MAX,
            reserved: 0,
        };
        let area = command(&cancel);
        assert_eq!(area[..8], [0xff; 8]);
        assert_eq!(area[8..], [0; 72]);
        assert_eq!(command(&sys::Submit::default()), [0; 80]);
    }
}
