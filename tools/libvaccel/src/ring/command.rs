// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a ring can be asked for, and how it ends: the terms of the header's "Operations as io_uring
//! commands", whichever way the kernel is asked.

use crate::error::{Error, Result};
use crate::ioctl::{Errno, Operation};
use crate::sys;

/// An operation with its structure.
#[derive(Clone, Debug)]
pub(super) enum Command {
    Submit {
        arg: sys::Submit,
        /// The list makes memory resident, which io_uring_enter() does not wait for.
        slow: bool,
    },
    FenceWait(sys::FenceWait),
    FenceWaitMany {
        arg: sys::FenceWaitMany,
        /// What is in the argument object.
        list: Vec<sys::WaitEntry>,
    },
    Residency {
        arg: sys::Residency,
        paging_fence: u32,
    },
    Bind {
        arg: sys::Bind,
        paging_fence: u32,
    },
    Unbind {
        arg: sys::Bind,
        paging_fence: u32,
    },
    SyncExport(sys::Sync),
    SyncImport(sys::Sync),
}

impl Command {
    /// Whether nothing is left behind when it ends early. What was bound or made resident has to be
    /// known, so that it can be undone.
    pub(super) const fn is_cancellable(&self) -> bool {
        !matches!(
            self,
            Self::Bind { .. } | Self::Unbind { .. } | Self::Residency { .. }
        )
    }
}

/// How an operation has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// 0 or [`sys::URING_RECORDED`], or a negative errno.
    pub(super) result: i32,
    /// What the operation says; with an error the host's status, or the bytes to trim.
    pub(super) extra: u64,
}

impl Outcome {
    pub(super) const fn ok(extra: u64) -> Self {
        Self { result: 0, extra }
    }

    pub(super) const fn failed(errno: Errno, extra: u64) -> Self {
        Self {
            result: -errno.0,
            extra,
        }
    }

    pub(super) const CANCELLED: Self = Self::failed(Errno(libc::ECANCELED), 0);

    /// The success of operation `O`, or its error with the host's status.
    pub(super) fn of<O: Operation>(self) -> Result<Success> {
        if self.result < 0 {
            // A status has 32 bits.
            let host_status = self.extra as u32;
            return Err(Error::from_errno(O::NAME, self.errno(), host_status));
        }
        Ok(Success {
            recorded: self.result as u32 == sys::URING_RECORDED,
            extra: self.extra,
        })
    }

    /// The same of an operation that says with ENOSPC how much has to go first.
    pub(super) fn of_memory<O: Operation>(self) -> Result<Success> {
        if self.result == -libc::ENOSPC {
            let error = Error::from_errno(O::NAME, self.errno(), 0);
            return Err(error.with_bytes_to_trim(self.extra));
        }
        self.of::<O>()
    }

    const fn errno(self) -> Errno {
        Errno(self.result.saturating_neg())
    }
}

/// What an operation that succeeded says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Success {
    /// The fence that was waited for has an error recorded.
    pub(super) recorded: bool,
    pub(super) extra: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::ioctl::{Bind, FenceWait};

    /// Proves that the extra is the host's status with an error, the bytes to trim with ENOSPC, and
    /// the answer else.
    #[test]
    fn extras() {
        let refused = Outcome::failed(Errno(libc::EREMOTEIO), 0xc000_0001);
        let error = refused.of::<FenceWait>().unwrap_err();
        assert_eq!(error.host_status(), Some(0xc000_0001));
        assert_eq!(error.operation(), "FENCE_WAIT");
        let error = refused.of_memory::<Bind>().unwrap_err();
        assert_eq!(error.host_status(), Some(0xc000_0001));
        let full = Outcome::failed(Errno(libc::ENOSPC), 1 << 40);
        let error = full.of_memory::<Bind>().unwrap_err();
        assert_eq!(error.bytes_to_trim(), Some(1 << 40));
        assert_eq!(error.host_status(), None);
        let answer = Outcome::ok(7).of::<FenceWait>().unwrap();
        assert_eq!((answer.recorded, answer.extra), (false, 7));
        let recorded = Outcome {
            result: 1,
            extra: 8,
        };
        assert!(recorded.of::<FenceWait>().unwrap().recorded);
        let error = Outcome::CANCELLED.of::<FenceWait>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
    }
}
