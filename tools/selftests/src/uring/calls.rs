// SPDX-License-Identifier: MIT OR Apache-2.0
//! The system calls of io_uring.

#![expect(
    unsafe_code,
    reason = "io_uring has no safe form in the standard library"
)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libvaccel::Deadline;

/// `struct io_sqring_offsets`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct EntryOffsets {
    pub head: u32,
    pub tail: u32,
    pub ring_mask: u32,
    pub ring_entries: u32,
    pub flags: u32,
    pub dropped: u32,
    pub array: u32,
    pub reserved: u32,
    pub user_addr: u64,
}

/// `struct io_cqring_offsets`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct CompletionOffsets {
    pub head: u32,
    pub tail: u32,
    pub ring_mask: u32,
    pub ring_entries: u32,
    pub overflow: u32,
    pub cqes: u32,
    pub flags: u32,
    pub reserved: u32,
    pub user_addr: u64,
}

/// `struct io_uring_params`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Params {
    pub sq_entries: u32,
    pub cq_entries: u32,
    pub flags: u32,
    pub sq_thread_cpu: u32,
    pub sq_thread_idle: u32,
    pub features: u32,
    pub wq_fd: u32,
    pub reserved: [u32; 3],
    pub sq_off: EntryOffsets,
    pub cq_off: CompletionOffsets,
}

const _: () = assert!(size_of::<Params>() == 120);

/// `struct io_uring_getevents_arg`.
#[repr(C)]
#[derive(Debug)]
struct WaitArg {
    sigmask: u64,
    sigmask_size: u32,
    min_wait_usec: u32,
    time: u64,
}

/// `struct __kernel_timespec`.
#[repr(C)]
#[derive(Debug)]
struct Time {
    seconds: i64,
    nanoseconds: i64,
}

/// `struct io_uring_rsrc_update`.
#[repr(C)]
#[derive(Debug)]
struct Update {
    offset: u32,
    reserved: u32,
    data: u64,
}

/// IORING_ENTER_GETEVENTS.
pub const GETEVENTS: u32 = 1 << 0;
/// IORING_ENTER_SQ_WAKEUP.
pub const SQ_WAKEUP: u32 = 1 << 1;
const EXT_ARG: u32 = 1 << 3;
/// IORING_ENTER_REGISTERED_RING: the descriptor is a number that [`register_ring`] gave.
pub const REGISTERED_RING: u32 = 1 << 4;
const ABS_TIMER: u32 = 1 << 5;

fn check(status: libc::c_long) -> io::Result<i32> {
    if status < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(status as i32)
    }
}

/// Makes a ring; its descriptor.
pub fn setup(entries: u32, params: &mut Params) -> io::Result<OwnedFd> {
    // SAFETY: Params is the structure of the call and exclusively ours; with flags that name no
    // memory of the caller it holds no address.
    let fd = check(unsafe {
        libc::syscall(
            libc::SYS_io_uring_setup,
            entries,
            std::ptr::from_mut(params),
        )
    })?;
    // SAFETY: the call succeeded, so that `fd` is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes a ring as a 32-bit program does: the structure has to lie in its address space.
#[cfg(target_arch = "x86_64")]
pub fn setup_32(entries: u32, params: &mut Params) -> io::Result<OwnedFd> {
    const SETUP: i32 = 425;
    let length = 4096;
    // SAFETY: a new mapping at an address of the kernel's choice replaces nothing.
    let page = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            length,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT,
            -1,
            0,
        )
    };
    if page == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let place = page.cast::<Params>();
    let mut status = SETUP;
    // SAFETY: the page is ours, aligned, and larger than the structure; the call takes a number and
    // the page's address, which 32 bits hold, and writes to the page only. All registers that the
    // entry may change are named; rbx, which may not be, is put back.
    unsafe {
        place.write(*params);
        std::arch::asm!(
            "xchg rbx, {entries}",
            "int 0x80",
            "xchg rbx, {entries}",
            entries = inout(reg) u64::from(entries) => _,
            inout("eax") status,
            in("rcx") place,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
        *params = place.read();
        libc::munmap(page, length);
    }
    if status < 0 {
        return Err(io::Error::from_raw_os_error(-status));
    }
    // SAFETY: the call succeeded, so that `status` is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(status) })
}

/// Makes a ring as a 32-bit program does, which this machine has none of.
#[cfg(not(target_arch = "x86_64"))]
pub fn setup_32(_entries: u32, _params: &mut Params) -> io::Result<OwnedFd> {
    Err(io::Error::from_raw_os_error(libc::ENOSYS))
}

/// Has `submit` entries taken, and waits for `complete` completions until the deadline; how many
/// were taken.
pub fn enter(
    ring: i32,
    submit: u32,
    complete: u32,
    flags: u32,
    deadline: Deadline,
) -> io::Result<u32> {
    let nanoseconds = deadline.as_ns();
    let time = Time {
        seconds: (nanoseconds / 1_000_000_000) as i64,
        nanoseconds: (nanoseconds % 1_000_000_000) as i64,
    };
    let arg = WaitArg {
        sigmask: 0,
        sigmask_size: 0,
        min_wait_usec: 0,
        time: if deadline == Deadline::NEVER {
            0
        } else {
            std::ptr::from_ref(&time) as u64
        },
    };
    // SAFETY: the argument, and the time that it names, are live and of the size and form that the
    // flags announce. What the entries do is the driver's and names no memory of this process.
    let taken = check(unsafe {
        libc::syscall(
            libc::SYS_io_uring_enter,
            ring,
            submit,
            complete,
            flags | EXT_ARG | ABS_TIMER,
            std::ptr::from_ref(&arg),
            size_of::<WaitArg>(),
        )
    })?;
    Ok(taken.unsigned_abs())
}

fn register<T>(ring: BorrowedFd<'_>, operation: u32, arg: &mut T) -> io::Result<i32> {
    // SAFETY: the descriptor is open for the borrow; `arg` is exclusively ours and, by the callers
    // below, the array of one that the operation reads and writes.
    check(unsafe {
        libc::syscall(
            libc::SYS_io_uring_register,
            ring.as_raw_fd(),
            operation,
            std::ptr::from_mut(arg),
            1,
        )
    })
}

/// Makes a file known to the ring as number 0.
pub fn register_file(ring: BorrowedFd<'_>, file: BorrowedFd<'_>) -> io::Result<()> {
    const FILES: u32 = 2;
    register(ring, FILES, &mut file.as_raw_fd()).map(drop)
}

/// Makes the ring known to this thread; the number for [`enter`].
pub fn register_ring(ring: BorrowedFd<'_>) -> io::Result<i32> {
    const RING_FDS: u32 = 20;
    let mut update = Update {
        offset: u32::MAX,
        reserved: 0,
        data: ring.as_raw_fd() as u64,
    };
    register(ring, RING_FDS, &mut update)?;
    Ok(update.offset as i32)
}
