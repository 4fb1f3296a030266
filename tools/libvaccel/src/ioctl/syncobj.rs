// SPDX-License-Identifier: MIT OR Apache-2.0
//! The core DRM ioctls of sync objects.
//!
//! Point 0 stands for a binary syncobj throughout, as it does in the core. Those that take lists carry
//! CPU pointers (their ABI is older than this driver's rules); the pointers stay inside this file.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::drm::raw;
use super::{iowr, Errno};

const CREATE: u32 = iowr(0xbf, size_of::<CreateArg>());
const DESTROY: u32 = iowr(0xc0, size_of::<CreateArg>());
const HANDLE_TO_FD: u32 = iowr(0xc1, size_of::<HandleArg>());
const FD_TO_HANDLE: u32 = iowr(0xc2, size_of::<HandleArg>());
const WAIT: u32 = iowr(0xc3, size_of::<WaitArg>());
const RESET: u32 = iowr(0xc4, size_of::<ArrayArg>());
const SIGNAL: u32 = iowr(0xc5, size_of::<ArrayArg>());
const TIMELINE_WAIT: u32 = iowr(0xca, size_of::<TimelineWaitArg>());
const QUERY: u32 = iowr(0xcb, size_of::<TimelineArrayArg>());
const TRANSFER: u32 = iowr(0xcc, size_of::<TransferArg>());
const TIMELINE_SIGNAL: u32 = iowr(0xcd, size_of::<TimelineArrayArg>());
const EVENTFD: u32 = iowr(0xcf, size_of::<EventfdArg>());

const CREATE_SIGNALED: u32 = 1 << 0;
/// Of HANDLE_TO_FD and FD_TO_HANDLE: the descriptor is a sync_file, not a syncobj.
const SYNC_FILE: u32 = 1 << 0;
/// Of the same: there is a point.
const TIMELINE: u32 = 1 << 1;
const QUERY_LAST_SUBMITTED: u32 = 1 << 0;

/// All that are listed, not any.
pub const WAIT_ALL: u32 = 1 << 0;
/// A fence that is still missing is waited for.
pub const WAIT_FOR_SUBMIT: u32 = 1 << 1;
/// The wait is for a fence to be there, not for it to signal.
pub const WAIT_AVAILABLE: u32 = 1 << 2;

/// `struct drm_syncobj_create`, and `drm_syncobj_destroy`, whose second word is padding.
#[repr(C)]
#[derive(Debug)]
struct CreateArg {
    handle: u32,
    flags: u32,
}

/// `struct drm_syncobj_handle`.
#[repr(C)]
#[derive(Debug)]
struct HandleArg {
    handle: u32,
    flags: u32,
    fd: i32,
    pad: u32,
    point: u64,
}

/// `struct drm_syncobj_transfer`.
#[repr(C)]
#[derive(Debug)]
struct TransferArg {
    src_handle: u32,
    dst_handle: u32,
    src_point: u64,
    dst_point: u64,
    flags: u32,
    pad: u32,
}

/// `struct drm_syncobj_wait`.
#[repr(C)]
#[derive(Debug)]
struct WaitArg {
    handles: u64,
    timeout_nsec: i64,
    count_handles: u32,
    flags: u32,
    first_signaled: u32,
    pad: u32,
    deadline_nsec: u64,
}

/// `struct drm_syncobj_timeline_wait`.
#[repr(C)]
#[derive(Debug)]
struct TimelineWaitArg {
    handles: u64,
    points: u64,
    timeout_nsec: i64,
    count_handles: u32,
    flags: u32,
    first_signaled: u32,
    pad: u32,
    deadline_nsec: u64,
}

/// `struct drm_syncobj_eventfd`.
#[repr(C)]
#[derive(Debug)]
struct EventfdArg {
    handle: u32,
    flags: u32,
    point: u64,
    fd: i32,
    pad: u32,
}

/// `struct drm_syncobj_array`.
#[repr(C)]
#[derive(Debug)]
struct ArrayArg {
    handles: u64,
    count_handles: u32,
    pad: u32,
}

/// `struct drm_syncobj_timeline_array`.
#[repr(C)]
#[derive(Debug)]
struct TimelineArrayArg {
    handles: u64,
    points: u64,
    count_handles: u32,
    flags: u32,
}

/// The flag that goes with a point.
const fn timeline(point: u64) -> u32 {
    match point {
        0 => 0,
        _ => TIMELINE,
    }
}

fn count(list: &[u32]) -> Result<u32, Errno> {
    u32::try_from(list.len()).map_err(|_| Errno(libc::EINVAL))
}

/// Makes a syncobj, signalled or not.
pub fn create(fd: BorrowedFd<'_>, signalled: bool) -> Result<u32, Errno> {
    let mut arg = CreateArg {
        handle: 0,
        flags: if signalled { CREATE_SIGNALED } else { 0 },
    };
    // SAFETY: CreateArg is the structure of CREATE; it holds no address.
    unsafe { raw(fd, CREATE, &mut arg) }?;
    Ok(arg.handle)
}

/// Gives a handle up.
pub fn destroy(fd: BorrowedFd<'_>, handle: u32) -> Result<(), Errno> {
    let mut arg = CreateArg { handle, flags: 0 };
    // SAFETY: CreateArg has the two words of the structure of DESTROY; it holds no address.
    unsafe { raw(fd, DESTROY, &mut arg) }
}

fn to_fd(fd: BorrowedFd<'_>, handle: u32, flags: u32, point: u64) -> Result<OwnedFd, Errno> {
    let mut arg = HandleArg {
        handle,
        flags,
        fd: -1,
        pad: 0,
        point,
    };
    // SAFETY: HandleArg is the structure of HANDLE_TO_FD; it holds no address.
    unsafe { raw(fd, HANDLE_TO_FD, &mut arg) }?;
    // SAFETY: the call succeeded, so `arg.fd` is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(arg.fd) })
}

fn from_fd(
    fd: BorrowedFd<'_>,
    other: BorrowedFd<'_>,
    handle: u32,
    flags: u32,
    point: u64,
) -> Result<u32, Errno> {
    let mut arg = HandleArg {
        handle,
        flags,
        fd: other.as_raw_fd(),
        pad: 0,
        point,
    };
    // SAFETY: HandleArg is the structure of FD_TO_HANDLE; it holds no address. The descriptor it
    // names is open for the borrow.
    unsafe { raw(fd, FD_TO_HANDLE, &mut arg) }?;
    Ok(arg.handle)
}

/// A descriptor of the syncobj itself, closed on exec.
pub fn handle_to_fd(fd: BorrowedFd<'_>, handle: u32) -> Result<OwnedFd, Errno> {
    to_fd(fd, handle, 0, 0)
}

/// A new handle to the syncobj of a descriptor.
pub fn fd_to_handle(fd: BorrowedFd<'_>, syncobj: BorrowedFd<'_>) -> Result<u32, Errno> {
    from_fd(fd, syncobj, 0, 0, 0)
}

/// A sync_file of the fence that the syncobj has at `point`.
pub fn export_sync_file(fd: BorrowedFd<'_>, handle: u32, point: u64) -> Result<OwnedFd, Errno> {
    to_fd(fd, handle, SYNC_FILE | timeline(point), point)
}

/// Puts the fence of a sync_file into the syncobj at `point`.
pub fn import_sync_file(
    fd: BorrowedFd<'_>,
    handle: u32,
    point: u64,
    sync_file: BorrowedFd<'_>,
) -> Result<(), Errno> {
    from_fd(fd, sync_file, handle, SYNC_FILE | timeline(point), point).map(drop)
}

/// Puts the fence at a point of one syncobj, given as {handle, point}, at a point of another.
pub fn transfer(
    fd: BorrowedFd<'_>,
    from: (u32, u64),
    to: (u32, u64),
    flags: u32,
) -> Result<(), Errno> {
    let mut arg = TransferArg {
        src_handle: from.0,
        dst_handle: to.0,
        src_point: from.1,
        dst_point: to.1,
        flags,
        pad: 0,
    };
    // SAFETY: TransferArg is the structure of TRANSFER; it holds no address.
    unsafe { raw(fd, TRANSFER, &mut arg) }
}

/// Waits for binary syncobjs until `deadline_ns` of CLOCK_MONOTONIC; index of the first, unless for
/// all.
pub fn wait(
    fd: BorrowedFd<'_>,
    handles: &[u32],
    deadline_ns: i64,
    flags: u32,
) -> Result<u32, Errno> {
    let mut arg = WaitArg {
        handles: handles.as_ptr() as u64,
        timeout_nsec: deadline_ns,
        count_handles: count(handles)?,
        flags,
        first_signaled: 0,
        pad: 0,
        deadline_nsec: 0,
    };
    // SAFETY: WaitArg is the structure of WAIT; `handles` is live and holds as many entries as
    // announced, which the kernel only reads.
    unsafe { raw(fd, WAIT, &mut arg) }?;
    Ok(arg.first_signaled)
}

/// Waits for points, given as {handle, point}, like [`wait`].
pub fn timeline_wait(
    fd: BorrowedFd<'_>,
    list: &[(u32, u64)],
    deadline_ns: i64,
    flags: u32,
) -> Result<u32, Errno> {
    let (handles, points): (Vec<u32>, Vec<u64>) = list.iter().copied().unzip();
    let mut arg = TimelineWaitArg {
        handles: handles.as_ptr() as u64,
        points: points.as_ptr() as u64,
        timeout_nsec: deadline_ns,
        count_handles: count(&handles)?,
        flags,
        first_signaled: 0,
        pad: 0,
        deadline_nsec: 0,
    };
    // SAFETY: TimelineWaitArg is the structure of TIMELINE_WAIT; both lists are live and hold as many
    // entries as announced, which the kernel only reads.
    unsafe { raw(fd, TIMELINE_WAIT, &mut arg) }?;
    Ok(arg.first_signaled)
}

fn array(fd: BorrowedFd<'_>, request: u32, handle: u32) -> Result<(), Errno> {
    let handles = [handle];
    let mut arg = ArrayArg {
        handles: handles.as_ptr() as u64,
        count_handles: 1,
        pad: 0,
    };
    // SAFETY: ArrayArg is the structure of RESET and SIGNAL, which are all that this file passes;
    // `handles` is live and holds one entry, which the kernel only reads.
    unsafe { raw(fd, request, &mut arg) }
}

/// Takes the fence out.
pub fn reset(fd: BorrowedFd<'_>, handle: u32) -> Result<(), Errno> {
    array(fd, RESET, handle)
}

/// Puts a signalled fence in.
pub fn signal(fd: BorrowedFd<'_>, handle: u32) -> Result<(), Errno> {
    array(fd, SIGNAL, handle)
}

/// Puts a signalled fence in at `point`.
pub fn timeline_signal(fd: BorrowedFd<'_>, handle: u32, point: u64) -> Result<(), Errno> {
    let (handles, points) = ([handle], [point]);
    let mut arg = TimelineArrayArg {
        handles: handles.as_ptr() as u64,
        points: points.as_ptr() as u64,
        count_handles: 1,
        flags: 0,
    };
    // SAFETY: TimelineArrayArg is the structure of TIMELINE_SIGNAL; both lists are live and hold one
    // entry, which the kernel only reads.
    unsafe { raw(fd, TIMELINE_SIGNAL, &mut arg) }
}

/// The last point that has signalled, or with `submitted` the last that has a fence.
pub fn query(fd: BorrowedFd<'_>, handle: u32, submitted: bool) -> Result<u64, Errno> {
    let handles = [handle];
    let mut points = [0u64];
    let mut arg = TimelineArrayArg {
        handles: handles.as_ptr() as u64,
        points: points.as_mut_ptr() as u64,
        count_handles: 1,
        flags: if submitted { QUERY_LAST_SUBMITTED } else { 0 },
    };
    // SAFETY: TimelineArrayArg is the structure of QUERY; both lists are live and hold one entry. The
    // kernel reads the first and writes the second, which is exclusively ours.
    unsafe { raw(fd, QUERY, &mut arg) }?;
    let [point] = points;
    Ok(point)
}

/// Has an eventfd signalled once when the point signals, or with [`WAIT_AVAILABLE`] has a fence.
pub fn eventfd(
    fd: BorrowedFd<'_>,
    handle: u32,
    point: u64,
    event: BorrowedFd<'_>,
    flags: u32,
) -> Result<(), Errno> {
    let mut arg = EventfdArg {
        handle,
        flags,
        point,
        fd: event.as_raw_fd(),
        pad: 0,
    };
    // SAFETY: EventfdArg is the structure of EVENTFD; it holds no address. The descriptor it names
    // is open for the borrow.
    unsafe { raw(fd, EVENTFD, &mut arg) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;

    /// Proves the request numbers against ones worked out from drm.h for 64-bit callers.
    #[test]
    fn request_numbers() {
        assert_eq!(CREATE, 0xc008_64bf);
        assert_eq!(DESTROY, 0xc008_64c0);
        assert_eq!(HANDLE_TO_FD, 0xc018_64c1);
        assert_eq!(FD_TO_HANDLE, 0xc018_64c2);
        assert_eq!(WAIT, 0xc028_64c3);
        assert_eq!(RESET, 0xc010_64c4);
        assert_eq!(SIGNAL, 0xc010_64c5);
        assert_eq!(TIMELINE_WAIT, 0xc030_64ca);
        assert_eq!(QUERY, 0xc018_64cb);
        assert_eq!(TRANSFER, 0xc020_64cc);
        assert_eq!(TIMELINE_SIGNAL, 0xc018_64cd);
        assert_eq!(EVENTFD, 0xc018_64cf);
    }

    /// Proves that the flag that makes a point count is there when there is a point, and only then.
    #[test]
    fn points() {
        assert_eq!(timeline(0), 0);
        assert_eq!(timeline(1), TIMELINE);
        assert_eq!(timeline(u64::MAX), TIMELINE);
    }

    /// Proves that a refusal comes back as the errno it was.
    #[test]
    fn refusals() {
        let null = File::open("/dev/null").unwrap();
        let fd = null.as_fd();
        assert_eq!(create(fd, false), Err(Errno(libc::ENOTTY)));
        assert_eq!(query(fd, 1, true), Err(Errno(libc::ENOTTY)));
        let waited = timeline_wait(fd, &[(1, 1)], 0, WAIT_ALL);
        assert_eq!(waited, Err(Errno(libc::ENOTTY)));
        assert_eq!(handle_to_fd(fd, 1).unwrap_err(), Errno(libc::ENOTTY));
    }
}
