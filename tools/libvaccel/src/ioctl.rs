// SPDX-License-Identifier: MIT OR Apache-2.0
//! The operations as typed calls: one line per ioctl.
//!
//! A call takes a file descriptor and the operation's structure, nothing else. It does not retry
//! and does not interpret: [`call`] returns the errno as it came. Malformed arguments can be sent
//! through it as well as good ones, which is what the driver's self-tests do.
//!
//! [`descriptor`] holds the operations that make a file descriptor, [`drm`] and [`syncobj`] the core
//! DRM ioctls that a client needs, [`eventfd`] and [`readiness`] what it waits by, [`udmabuf`] the way
//! from a program's memory to a dma-buf.

#![allow(
    unsafe_code,
    reason = "ioctl(2) is the boundary this module exists for"
)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::sys;

pub mod descriptor;
pub mod drm;
pub mod eventfd;
pub mod readiness;
pub mod syncobj;
pub mod udmabuf;

/// `_IOC` type of DRM ioctls.
const DRM_IOCTL_BASE: u32 = b'd' as u32;
/// First ioctl number of a driver.
const DRM_COMMAND_BASE: u32 = 0x40;

/// Request number of an ioctl whose argument the kernel reads and writes.
const fn iowr(number: u32, size: usize) -> u32 {
    (3 << 30) | ((size as u32) << 16) | (DRM_IOCTL_BASE << 8) | number
}

/// One operation of the interface.
///
/// # Safety
///
/// The ioctl [`Operation::REQUEST`] must access no memory of the caller other than the
/// [`Operation::Arg`] it is given, and every bit pattern it writes there must be a valid `Arg`.
/// The second half follows from [`sys::Wire`]; the first is the rule of the header ("no CPU
/// pointers").
pub unsafe trait Operation {
    /// The structure.
    type Arg: sys::Wire;
    /// Operation number, also the `cmd_op` of io_uring.
    const NUMBER: u32;
    /// Name as in the header, without `DRM_IOCTL_VACCEL_`.
    const NAME: &'static str;
    /// Request number of the ioctl.
    const REQUEST: u32 = iowr(
        DRM_COMMAND_BASE + Self::NUMBER,
        core::mem::size_of::<Self::Arg>(),
    );
}

macro_rules! operations {
    ($($op:ident = $number:literal, $name:literal, $arg:ident;)*) => {
        $(
            #[doc = concat!("`DRM_IOCTL_VACCEL_", $name, "`.")]
            #[derive(Clone, Copy, Debug)]
            pub enum $op {}

            // SAFETY: by the header, the operation's only memory is its structure.
            unsafe impl Operation for $op {
                type Arg = sys::$arg;
                const NUMBER: u32 = $number;
                const NAME: &'static str = $name;
            }
        )*

        /// Name, operation number and request number of every operation.
        pub const OPERATIONS: &[(&str, u32, u32)] =
            &[$(($name, $number, <$op as Operation>::REQUEST),)*];
    };
}

operations! {
    GetParam = 0x00, "GET_PARAM", GetParam;
    AdapterQuery = 0x01, "ADAPTER_QUERY", AdapterQuery;
    VmCreate = 0x02, "VM_CREATE", VmCreate;
    VmDestroy = 0x03, "VM_DESTROY", Destroy;
    VmQuery = 0x04, "VM_QUERY", VmQuery;
    QueueCreate = 0x05, "QUEUE_CREATE", QueueCreate;
    QueueDestroy = 0x06, "QUEUE_DESTROY", Destroy;
    QueueQuery = 0x07, "QUEUE_QUERY", QueueQuery;
    BoCreate = 0x08, "BO_CREATE", BoCreate;
    BoInfo = 0x09, "BO_INFO", BoInfo;
    BoSync = 0x0a, "BO_SYNC", BoSync;
    VaReserve = 0x0b, "VA_RESERVE", VaRange;
    VaRelease = 0x0c, "VA_RELEASE", VaRange;
    Bind = 0x0d, "BIND", Bind;
    Unbind = 0x0e, "UNBIND", Bind;
    Residency = 0x0f, "RESIDENCY", Residency;
    FenceCreate = 0x10, "FENCE_CREATE", FenceCreate;
    FenceDestroy = 0x11, "FENCE_DESTROY", Destroy;
    FenceSignal = 0x12, "FENCE_SIGNAL", FenceSignal;
    FenceQuery = 0x13, "FENCE_QUERY", FenceQuery;
    FenceWait = 0x14, "FENCE_WAIT", FenceWait;
    FenceWaitMany = 0x15, "FENCE_WAIT_MANY", FenceWaitMany;
    FenceEventfd = 0x16, "FENCE_EVENTFD", FenceEventfd;
    FenceToFd = 0x17, "FENCE_TO_FD", FenceFd;
    FenceFromFd = 0x18, "FENCE_FROM_FD", FenceFd;
    SyncExport = 0x19, "SYNC_EXPORT", Sync;
    SyncImport = 0x1a, "SYNC_IMPORT", Sync;
    Submit = 0x1b, "SUBMIT", Submit;
    Budget = 0x1c, "BUDGET", Budget;
    Events = 0x1d, "EVENTS", Events;
    Escape = 0x1e, "ESCAPE", Escape;
}

/// Number of `CANCEL`.
pub const CANCEL_NUMBER: u32 = 0x1f;

/// `CANCEL`, which exists as an io_uring command only.
#[derive(Clone, Copy, Debug)]
pub enum Cancel {}

// SAFETY: by the header, the operation's only memory is its structure; its ioctl is unknown.
unsafe impl Operation for Cancel {
    type Arg = sys::Cancel;
    const NUMBER: u32 = CANCEL_NUMBER;
    const NAME: &'static str = "CANCEL";
}

/// An errno value.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

impl Errno {
    /// What the last failed call of this thread left.
    fn last() -> Self {
        Self(
            io::Error::last_os_error()
                .raw_os_error()
                .unwrap_or(libc::EIO),
        )
    }

    /// The symbolic name, where this interface uses it.
    pub const fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            libc::EPERM => "EPERM",
            libc::ENOENT => "ENOENT",
            libc::EINTR => "EINTR",
            libc::EIO => "EIO",
            libc::ENXIO => "ENXIO",
            libc::E2BIG => "E2BIG",
            libc::EBADF => "EBADF",
            libc::EAGAIN => "EAGAIN",
            libc::ENOMEM => "ENOMEM",
            libc::EACCES => "EACCES",
            libc::EFAULT => "EFAULT",
            libc::EBUSY => "EBUSY",
            libc::EEXIST => "EEXIST",
            libc::ENODEV => "ENODEV",
            libc::EINVAL => "EINVAL",
            libc::ENOTTY => "ENOTTY",
            libc::EFBIG => "EFBIG",
            libc::ENOSPC => "ENOSPC",
            libc::EDEADLK => "EDEADLK",
            libc::ETIME => "ETIME",
            libc::EREMOTEIO => "EREMOTEIO",
            libc::EOVERFLOW => "EOVERFLOW",
            libc::EMSGSIZE => "EMSGSIZE",
            libc::EOPNOTSUPP => "EOPNOTSUPP",
            libc::ENOBUFS => "ENOBUFS",
            libc::ESTALE => "ESTALE",
            libc::ENODATA => "ENODATA",
            libc::ECANCELED => "ECANCELED",
            libc::EXDEV => "EXDEV",
            libc::EMFILE => "EMFILE",
            libc::ETIMEDOUT => "ETIMEDOUT",
            _ => return None,
        })
    }
}

impl std::fmt::Debug for Errno {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}

impl std::fmt::Display for Errno {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

/// Calls operation `O` on `fd`. The structure is written back also when the call fails.
pub fn call<O: Operation>(fd: BorrowedFd<'_>, arg: &mut O::Arg) -> Result<(), Errno> {
    let request = libc::Ioctl::from(O::REQUEST);
    // SAFETY: the descriptor is open for the borrow; by `Operation`'s contract the kernel accesses
    // only `*arg`, whose size is encoded in the request, and leaves a valid value in it. `arg` is
    // an exclusive reference to memory of that size.
    let status = unsafe { libc::ioctl(fd.as_raw_fd(), request, std::ptr::from_mut(arg)) };
    if status < 0 {
        Err(Errno::last())
    } else {
        Ok(())
    }
}

/// Calls an operation number that the interface does not define, with 80 zero bytes.
pub fn call_unknown(fd: BorrowedFd<'_>, number: u32) -> Result<(), Errno> {
    let mut bytes = [0u64; 10];
    let request = iowr(DRM_COMMAND_BASE + number, size_of_val(&bytes));
    // SAFETY: the descriptor is open for the borrow; by the rule of the header an operation, also a
    // future one, accesses only its structure, which is at most the 80 bytes that `bytes` has and
    // the request announces.
    let status = unsafe { libc::ioctl(fd.as_raw_fd(), libc::Ioctl::from(request), &mut bytes) };
    if status < 0 {
        Err(Errno::last())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;

    /// Proves the request arithmetic on a number computed by hand from the header: DRM_IOWR of
    /// 0x40 + 0x1b with 72 bytes.
    #[test]
    fn request_numbers_follow_ioc() {
        assert_eq!(Submit::REQUEST, 0xc048_645b);
        assert_eq!(GetParam::REQUEST, 0xc010_6440);
    }

    /// Proves that no two operations share a number, and that numbers are dense, so that a
    /// forgotten operation shows.
    #[test]
    fn numbers_are_unique_and_dense() {
        let numbers: Vec<u32> = OPERATIONS.iter().map(|op| op.1).collect();
        assert_eq!(numbers, (0..0x1f).collect::<Vec<_>>());
    }

    /// Proves that the errno of a refused call arrives: /dev/null knows no ioctls.
    #[test]
    fn errno_is_kept() {
        let null = File::open("/dev/null").unwrap();
        let mut arg = sys::GetParam::default();
        let error = call::<GetParam>(null.as_fd(), &mut arg).unwrap_err();
        assert_eq!(error, Errno(libc::ENOTTY));
        assert_eq!(error.to_string(), "ENOTTY");
    }
}
