// SPDX-License-Identifier: GPL-2.0-only

//! Why something that needed the host failed: an errno for the caller, and what the host said.
//!
//! The host's NTSTATUS is never squeezed into the errno: it travels beside it, up to the
//! `host_status` field of the ioctl that asked.

use kernel::alloc::AllocError;
use kernel::prelude::*;

use crate::gpupv::{
    EncodeError,
    NtStatus,
    ReplyError, //
};

/// A failed exchange with the host, or a failure on the way to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostError {
    /// What the caller sees.
    pub(crate) errno: Error,
    /// What the host said; success if it was not asked or did not answer.
    pub(crate) status: NtStatus,
}

impl HostError {
    /// The host answered, but not what the protocol says.
    pub(crate) const PROTOCOL: Self = Self {
        errno: EIO,
        status: NtStatus::SUCCESS,
    };

    /// The host refused, in a reply that has no place for a reason.
    pub(crate) const NO_REASON: Self = Self {
        errno: EREMOTEIO,
        status: NtStatus::SUCCESS,
    };

    /// The host refused with `status`.
    ///
    /// The errno table of the protocol is not used: it maps unlike causes to one number (`EINVAL`
    /// for most), and `EPERM` or `EOVERFLOW` from an ioctl would say something else to its caller.
    pub(crate) fn refused(status: NtStatus) -> Self {
        let errno = match status {
            NtStatus::NO_MEMORY => ENOSPC,
            NtStatus::DEVICE_REMOVED => EIO,
            NtStatus::NOT_SUPPORTED | NtStatus::NOT_IMPLEMENTED => EOPNOTSUPP,
            NtStatus::OBJECT_NAME_COLLISION => EEXIST,
            _ => EREMOTEIO,
        };
        Self { errno, status }
    }
}

impl From<Error> for HostError {
    fn from(errno: Error) -> Self {
        Self {
            errno,
            status: NtStatus::SUCCESS,
        }
    }
}

impl From<AllocError> for HostError {
    fn from(error: AllocError) -> Self {
        Error::from(error).into()
    }
}

impl From<EncodeError> for HostError {
    fn from(error: EncodeError) -> Self {
        match error {
            EncodeError::TooLong { .. } => EFBIG.into(),
            EncodeError::NoRoom { .. }
            | EncodeError::Mismatch { .. }
            | EncodeError::NotAsynchronous => EINVAL.into(),
        }
    }
}

impl From<ReplyError> for HostError {
    fn from(error: ReplyError) -> Self {
        match error {
            ReplyError::Failed(status) => Self::refused(status),
            ReplyError::Malformed(_) => Self::PROTOCOL,
        }
    }
}

impl From<HostError> for Error {
    fn from(error: HostError) -> Self {
        error.errno
    }
}

/// Result of something that needs the host.
pub(crate) type HostResult<T = ()> = Result<T, HostError>;
