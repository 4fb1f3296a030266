// SPDX-License-Identifier: MIT OR Apache-2.0
//! The functions of the system's libdrm that this program uses, as `xf86drm.h` declares them, with a
//! safe form of each.
//!
//! Some of them return -1 and some a negative errno; both leave the errno of the ioctl, which is
//! what [`Refused`] carries.

#![expect(unsafe_code, reason = "libdrm is a C library")]

use std::ffi::{c_char, c_int, c_uint, c_ulong, CStr};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;

use libvaccel::ioctl::Errno;
use libvaccel::Deadline;

/// `DRM_CAP_SYNCOBJ`.
pub const CAP_SYNCOBJ: u64 = 0x13;
/// `DRM_CAP_SYNCOBJ_TIMELINE`.
pub const CAP_SYNCOBJ_TIMELINE: u64 = 0x14;

/// `DRM_SYNCOBJ_CREATE_SIGNALED`.
pub const CREATE_SIGNALED: u32 = 1 << 0;
/// `DRM_SYNCOBJ_WAIT_FLAGS_WAIT_FOR_SUBMIT`: a fence that is missing is waited for.
pub const WAIT_FOR_SUBMIT: u32 = 1 << 1;
/// `DRM_SYNCOBJ_WAIT_FLAGS_WAIT_AVAILABLE`: the wait ends when there is a fence, signalled or not.
pub const WAIT_AVAILABLE: u32 = 1 << 2;
/// `DRM_SYNCOBJ_QUERY_FLAGS_LAST_SUBMITTED`: the last point that has a fence, signalled or not.
pub const LAST_SUBMITTED: u32 = 1 << 0;

/// `struct _drmVersion`.
#[repr(C)]
struct Version {
    version: [c_int; 3],
    name_len: c_int,
    name: *mut c_char,
    date_len: c_int,
    date: *mut c_char,
    desc_len: c_int,
    desc: *mut c_char,
}

#[link(name = "drm")]
extern "C" {
    fn drmGetVersion(fd: c_int) -> *mut Version;
    fn drmFreeVersion(version: *mut Version);
    fn drmGetCap(fd: c_int, capability: u64, value: *mut u64) -> c_int;
    fn drmPrimeHandleToFD(fd: c_int, handle: u32, flags: u32, prime_fd: *mut c_int) -> c_int;
    fn drmPrimeFDToHandle(fd: c_int, prime_fd: c_int, handle: *mut u32) -> c_int;
    fn drmCloseBufferHandle(fd: c_int, handle: u32) -> c_int;
    fn drmSyncobjCreate(fd: c_int, flags: u32, handle: *mut u32) -> c_int;
    fn drmSyncobjDestroy(fd: c_int, handle: u32) -> c_int;
    fn drmSyncobjHandleToFD(fd: c_int, handle: u32, obj_fd: *mut c_int) -> c_int;
    fn drmSyncobjFDToHandle(fd: c_int, obj_fd: c_int, handle: *mut u32) -> c_int;
    fn drmSyncobjImportSyncFile(fd: c_int, handle: u32, sync_file_fd: c_int) -> c_int;
    fn drmSyncobjExportSyncFile(fd: c_int, handle: u32, sync_file_fd: *mut c_int) -> c_int;
    fn drmSyncobjWait(
        fd: c_int,
        handles: *mut u32,
        num_handles: c_uint,
        timeout_nsec: i64,
        flags: c_uint,
        first_signaled: *mut u32,
    ) -> c_int;
    fn drmSyncobjReset(fd: c_int, handles: *const u32, handle_count: u32) -> c_int;
    fn drmSyncobjSignal(fd: c_int, handles: *const u32, handle_count: u32) -> c_int;
    fn drmSyncobjTimelineSignal(
        fd: c_int,
        handles: *const u32,
        points: *mut u64,
        handle_count: u32,
    ) -> c_int;
    fn drmSyncobjTimelineWait(
        fd: c_int,
        handles: *mut u32,
        points: *mut u64,
        num_handles: c_uint,
        timeout_nsec: i64,
        flags: c_uint,
        first_signaled: *mut u32,
    ) -> c_int;
    fn drmSyncobjQuery(fd: c_int, handles: *mut u32, points: *mut u64, handle_count: u32) -> c_int;
    fn drmSyncobjQuery2(
        fd: c_int,
        handles: *mut u32,
        points: *mut u64,
        handle_count: u32,
        flags: u32,
    ) -> c_int;
    fn drmSyncobjTransfer(
        fd: c_int,
        dst_handle: u32,
        dst_point: u64,
        src_handle: u32,
        src_point: u64,
        flags: u32,
    ) -> c_int;
    fn drmSyncobjEventfd(fd: c_int, handle: u32, point: u64, ev_fd: c_int, flags: u32) -> c_int;
}

/// A call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which function.
    pub function: &'static str,
    /// Why.
    pub errno: Errno,
}

/// What a call gives.
pub type Result<T = ()> = std::result::Result<T, Refused>;

/// Takes the errno at once: nothing may come between the call and this.
fn check(function: &'static str, status: c_int) -> Result {
    if status == 0 {
        return Ok(());
    }
    let errno = std::io::Error::last_os_error().raw_os_error();
    Err(Refused {
        function,
        errno: Errno(errno.unwrap_or(libc::EIO)),
    })
}

fn nanoseconds(deadline: Deadline) -> i64 {
    i64::try_from(deadline.as_ns()).unwrap_or(i64::MAX)
}

/// An open node.
#[derive(Clone, Copy, Debug)]
pub struct Drm<'a>(BorrowedFd<'a>);

impl<'a> Drm<'a> {
    /// libdrm's functions on a node that is open already.
    pub const fn new(node: BorrowedFd<'a>) -> Self {
        Self(node)
    }

    fn raw(self) -> c_int {
        self.0.as_raw_fd()
    }

    /// Name of the driver.
    pub fn driver_name(self) -> Result<String> {
        // SAFETY: the descriptor is open for the borrow.
        let version = unsafe { drmGetVersion(self.raw()) };
        let Some(version) = NonNull::new(version) else {
            return check("drmGetVersion", -1).map(|()| String::new());
        };
        // SAFETY: what drmGetVersion returns is a valid structure until it is freed, which is below.
        let name = unsafe { version.as_ref() }.name;
        let name = if name.is_null() {
            String::new()
        } else {
            // SAFETY: libdrm terminates the name, which lives as long as the structure.
            unsafe { CStr::from_ptr(name) }
                .to_string_lossy()
                .into_owned()
        };
        // SAFETY: the structure is libdrm's and is not used any more.
        unsafe { drmFreeVersion(version.as_ptr()) };
        Ok(name)
    }

    /// A capability.
    pub fn cap(self, capability: u64) -> Result<u64> {
        let mut value = 0;
        // SAFETY: the descriptor is open for the borrow, `value` is a place for the answer.
        let status = unsafe { drmGetCap(self.raw(), capability, &mut value) };
        check("drmGetCap", status).map(|()| value)
    }

    /// Makes a dma-buf of a GEM object.
    pub fn prime_handle_to_fd(self, handle: u32) -> Result<OwnedFd> {
        let flags = (libc::O_CLOEXEC | libc::O_RDWR) as u32;
        let mut fd = -1;
        // SAFETY: the descriptor is open for the borrow, `fd` is a place for the answer.
        let status = unsafe { drmPrimeHandleToFD(self.raw(), handle, flags, &mut fd) };
        check("drmPrimeHandleToFD", status)?;
        // SAFETY: the call succeeded, so that `fd` is a new descriptor that nobody else owns.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// GEM handle of a dma-buf.
    pub fn prime_fd_to_handle(self, dma_buf: BorrowedFd<'_>) -> Result<u32> {
        let mut handle = 0;
        // SAFETY: both descriptors are open for their borrows, `handle` is a place for the answer.
        let status = unsafe { drmPrimeFDToHandle(self.raw(), dma_buf.as_raw_fd(), &mut handle) };
        check("drmPrimeFDToHandle", status).map(|()| handle)
    }

    /// Closes a GEM handle.
    pub fn close_buffer_handle(self, handle: u32) -> Result {
        // SAFETY: the descriptor is open for the borrow.
        let status = unsafe { drmCloseBufferHandle(self.raw(), handle) };
        check("drmCloseBufferHandle", status)
    }

    /// Makes a syncobj.
    pub fn create_syncobj(self, flags: u32) -> Result<SyncObj<'a>> {
        let mut handle = 0;
        // SAFETY: the descriptor is open for the borrow, `handle` is a place for the answer.
        let status = unsafe { drmSyncobjCreate(self.raw(), flags, &mut handle) };
        check("drmSyncobjCreate", status)?;
        Ok(SyncObj { drm: self, handle })
    }

    /// Opens the syncobj of a descriptor.
    pub fn open_syncobj(self, fd: BorrowedFd<'_>) -> Result<SyncObj<'a>> {
        let mut handle = 0;
        // SAFETY: both descriptors are open for their borrows, `handle` is a place for the answer.
        let status = unsafe { drmSyncobjFDToHandle(self.raw(), fd.as_raw_fd(), &mut handle) };
        check("drmSyncobjFDToHandle", status)?;
        Ok(SyncObj { drm: self, handle })
    }
}

/// A syncobj of an open node; destroyed when dropped.
#[derive(Debug)]
pub struct SyncObj<'a> {
    drm: Drm<'a>,
    handle: u32,
}

impl SyncObj<'_> {
    fn fd(&self) -> c_int {
        self.drm.raw()
    }

    /// A descriptor that other processes and files can open.
    pub fn to_fd(&self) -> Result<OwnedFd> {
        let mut fd = -1;
        // SAFETY: the node is open for the borrow, `fd` is a place for the answer.
        let status = unsafe { drmSyncobjHandleToFD(self.fd(), self.handle, &mut fd) };
        check("drmSyncobjHandleToFD", status)?;
        // SAFETY: the call succeeded, so that `fd` is a new descriptor that nobody else owns.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Takes the fence of a sync_file.
    pub fn import_sync_file(&self, file: BorrowedFd<'_>) -> Result {
        // SAFETY: both descriptors are open for their borrows.
        let status = unsafe { drmSyncobjImportSyncFile(self.fd(), self.handle, file.as_raw_fd()) };
        check("drmSyncobjImportSyncFile", status)
    }

    /// A sync_file of the fence that it has.
    pub fn export_sync_file(&self) -> Result<OwnedFd> {
        let mut fd = -1;
        // SAFETY: the node is open for the borrow, `fd` is a place for the answer.
        let status = unsafe { drmSyncobjExportSyncFile(self.fd(), self.handle, &mut fd) };
        check("drmSyncobjExportSyncFile", status)?;
        // SAFETY: the call succeeded, so that `fd` is a new descriptor that nobody else owns.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Waits for a binary one.
    pub fn wait(&self, deadline: Deadline, flags: u32) -> Result {
        let (mut handle, mut first) = (self.handle, 0);
        let end = nanoseconds(deadline);
        // SAFETY: the node is open for the borrow; the list has the one entry that is announced, and
        // `first` is a place for the answer.
        let status = unsafe { drmSyncobjWait(self.fd(), &mut handle, 1, end, flags, &mut first) };
        check("drmSyncobjWait", status)
    }

    /// Waits for a point.
    pub fn timeline_wait(&self, point: u64, deadline: Deadline, flags: u32) -> Result {
        let (mut handle, mut point, mut first) = (self.handle, point, 0);
        let end = nanoseconds(deadline);
        // SAFETY: the node is open for the borrow; both lists have the one entry that is announced,
        // and `first` is a place for the answer.
        let status = unsafe {
            drmSyncobjTimelineWait(
                self.fd(),
                &mut handle,
                &mut point,
                1,
                end,
                flags,
                &mut first,
            )
        };
        check("drmSyncobjTimelineWait", status)
    }

    /// Takes the fence away.
    pub fn reset(&self) -> Result {
        // SAFETY: the node is open for the borrow; the list has the one entry that is announced.
        let status = unsafe { drmSyncobjReset(self.fd(), &self.handle, 1) };
        check("drmSyncobjReset", status)
    }

    /// Gives it a signalled fence.
    pub fn signal(&self) -> Result {
        // SAFETY: the node is open for the borrow; the list has the one entry that is announced.
        let status = unsafe { drmSyncobjSignal(self.fd(), &self.handle, 1) };
        check("drmSyncobjSignal", status)
    }

    /// Gives a point a signalled fence.
    pub fn timeline_signal(&self, point: u64) -> Result {
        let mut point = point;
        // SAFETY: the node is open for the borrow; both lists have the one entry that is announced.
        let status = unsafe { drmSyncobjTimelineSignal(self.fd(), &self.handle, &mut point, 1) };
        check("drmSyncobjTimelineSignal", status)
    }

    /// The last point that has signalled.
    pub fn query(&self) -> Result<u64> {
        let (mut handle, mut point) = (self.handle, 0);
        // SAFETY: the node is open for the borrow; both lists have the one entry that is announced.
        let status = unsafe { drmSyncobjQuery(self.fd(), &mut handle, &mut point, 1) };
        check("drmSyncobjQuery", status).map(|()| point)
    }

    /// The last point that has a fence.
    pub fn query_submitted(&self) -> Result<u64> {
        let (mut handle, mut point) = (self.handle, 0);
        // SAFETY: the node is open for the borrow; both lists have the one entry that is announced.
        let status =
            unsafe { drmSyncobjQuery2(self.fd(), &mut handle, &mut point, 1, LAST_SUBMITTED) };
        check("drmSyncobjQuery2", status).map(|()| point)
    }

    /// Takes the fence of a point of another one, or with 0 that of a binary one.
    pub fn transfer_from(&self, point: u64, source: &SyncObj<'_>, source_point: u64) -> Result {
        // SAFETY: the node is open for the borrow.
        let status = unsafe {
            drmSyncobjTransfer(
                self.fd(),
                self.handle,
                point,
                source.handle,
                source_point,
                0,
            )
        };
        check("drmSyncobjTransfer", status)
    }

    /// Has an eventfd signalled when a point has, or with [`WAIT_AVAILABLE`] when it has a fence.
    pub fn eventfd(&self, point: u64, event: BorrowedFd<'_>, flags: u32) -> Result {
        // SAFETY: both descriptors are open for their borrows.
        let status =
            unsafe { drmSyncobjEventfd(self.fd(), self.handle, point, event.as_raw_fd(), flags) };
        check("drmSyncobjEventfd", status)
    }

    /// Destroys it and reports the outcome.
    pub fn close(self) -> Result {
        let this = std::mem::ManuallyDrop::new(self);
        // SAFETY: the node is open for the borrow.
        let status = unsafe { drmSyncobjDestroy(this.fd(), this.handle) };
        check("drmSyncobjDestroy", status)
    }
}

impl Drop for SyncObj<'_> {
    fn drop(&mut self) {
        // Nobody is left to tell; whoever wants to know calls close().
        // SAFETY: the node is open for the borrow.
        let _ = unsafe { drmSyncobjDestroy(self.fd(), self.handle) };
    }
}

/// `struct sync_fence_info` of <linux/sync_file.h>.
#[repr(C)]
#[derive(Clone, Copy)]
struct FenceInfo {
    obj_name: [u8; 32],
    driver_name: [u8; 32],
    status: i32,
    flags: u32,
    timestamp_ns: u64,
}

/// `struct sync_file_info` of <linux/sync_file.h>.
#[repr(C)]
struct FileInfo {
    name: [u8; 32],
    status: i32,
    flags: u32,
    num_fences: u32,
    pad: u32,
    sync_fence_info: u64,
}

/// `SYNC_IOC_FILE_INFO`.
const SYNC_IOC_FILE_INFO: c_ulong =
    (3 << 30) | ((size_of::<FileInfo>() as c_ulong) << 16) | ((b'>' as c_ulong) << 8) | 4;
/// More than any sync_file here has.
const FENCES: usize = 8;

/// Status of a sync_file: 1 signalled, 0 not, or the error of one of its fences. libdrm has no
/// function for it.
pub fn sync_file_status(file: BorrowedFd<'_>) -> Result<i32> {
    let mut fences = [FenceInfo {
        obj_name: [0; 32],
        driver_name: [0; 32],
        status: 0,
        flags: 0,
        timestamp_ns: 0,
    }; FENCES];
    let mut info = FileInfo {
        name: [0; 32],
        status: 0,
        flags: 0,
        num_fences: FENCES as u32,
        pad: 0,
        sync_fence_info: fences.as_mut_ptr() as u64,
    };
    // SAFETY: the descriptor is open for the borrow; `info` is the structure of the request, and
    // `fences` is live and as long as it announces.
    let status = unsafe { libc::ioctl(file.as_raw_fd(), SYNC_IOC_FILE_INFO, &mut info) };
    check("SYNC_IOC_FILE_INFO", status)?;
    let errors = fences.iter().take(info.num_fences as usize);
    let first = errors.map(|fence| fence.status).find(|status| *status < 0);
    Ok(first.unwrap_or(info.status))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;

    /// Proves that both ways in which libdrm reports failure arrive as the ioctl's errno: /dev/null
    /// knows no ioctls.
    #[test]
    fn errno_is_kept() {
        let null = File::open("/dev/null").unwrap();
        let drm = Drm::new(null.as_fd());
        let errno = |outcome: Result<u64>| outcome.unwrap_err().errno;
        assert_eq!(errno(drm.cap(CAP_SYNCOBJ)), Errno(libc::ENOTTY));
        let syncobj = SyncObj { drm, handle: 1 };
        let waited = syncobj.wait(Deadline::NOW, 0).map(|()| 0);
        assert_eq!(errno(waited), Errno(libc::ENOTTY));
        assert_eq!(errno(syncobj.query()), Errno(libc::ENOTTY));
        assert_eq!(errno(syncobj.close().map(|()| 0)), Errno(libc::ENOTTY));
        assert!(drm.driver_name().is_err());
    }

    /// Proves the request number against the one that <linux/sync_file.h> gives, and that a file of
    /// another kind is refused.
    #[test]
    fn sync_file_request() {
        assert_eq!(SYNC_IOC_FILE_INFO, 0xc038_3e04);
        assert_eq!(size_of::<FenceInfo>(), 80);
        let null = File::open("/dev/null").unwrap();
        assert!(sync_file_status(null.as_fd()).is_err());
    }
}
