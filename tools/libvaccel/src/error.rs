// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can go wrong: a kind to match on, the operation, the errno and the host's NTSTATUS.

use crate::ioctl::Errno;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What class of failure an [`Error`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A value was out of range or not allowed here.
    InvalidArgument,
    /// No device, or no object with this handle.
    NotFound,
    /// More than one device matches.
    Ambiguous,
    /// The caller may not do this.
    Permission,
    /// Something is in use.
    Busy,
    /// The driver or the host does not provide it.
    Unsupported,
    /// A size or count above its limit.
    TooLarge,
    /// Guest memory ran out.
    OutOfMemory,
    /// Device memory or the budget ran out.
    OutOfDeviceMemory,
    /// The deadline passed.
    TimedOut,
    /// A wait that may never end on a bounded queue.
    Deadlock,
    /// The vm is in error; its state says why.
    VmError,
    /// The host refused; the NTSTATUS says why.
    HostRefused,
    /// The adapter is gone.
    DeviceLost,
    /// What an offered object held is lost.
    ContentLost,
    /// The sequence number was not the expected one.
    Stale,
    /// It was cancelled before it was done.
    Cancelled,
    /// None of the above.
    Other,
}

impl ErrorKind {
    /// The kind that the header's table gives an errno.
    pub const fn of(errno: Errno) -> Self {
        match errno.0 {
            libc::EINVAL | libc::EOVERFLOW => Self::InvalidArgument,
            libc::ENOENT => Self::NotFound,
            libc::EACCES | libc::EPERM => Self::Permission,
            libc::EBUSY | libc::EEXIST => Self::Busy,
            libc::EOPNOTSUPP | libc::ENOTTY => Self::Unsupported,
            libc::EFBIG | libc::E2BIG | libc::EMSGSIZE => Self::TooLarge,
            libc::ENOMEM => Self::OutOfMemory,
            libc::ENOSPC => Self::OutOfDeviceMemory,
            libc::ETIME => Self::TimedOut,
            libc::EDEADLK => Self::Deadlock,
            libc::EIO => Self::VmError,
            libc::EREMOTEIO => Self::HostRefused,
            libc::ENODEV | libc::ENXIO => Self::DeviceLost,
            libc::ENODATA => Self::ContentLost,
            libc::ESTALE => Self::Stale,
            libc::ECANCELED => Self::Cancelled,
            _ => Self::Other,
        }
    }
}

/// A failed operation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{operation}: {}", self.reason())]
pub struct Error {
    kind: ErrorKind,
    operation: &'static str,
    errno: Option<Errno>,
    host_status: u32,
    bytes_to_trim: u64,
    detail: String,
}

impl Error {
    /// An error the kernel reported; `host_status` is 0 if the host was not involved.
    pub fn from_errno(operation: &'static str, errno: Errno, host_status: u32) -> Self {
        Self {
            kind: ErrorKind::of(errno),
            operation,
            errno: Some(errno),
            host_status,
            bytes_to_trim: 0,
            detail: String::new(),
        }
    }

    /// An error found before the kernel was asked.
    pub fn local(kind: ErrorKind, operation: &'static str, detail: impl Into<String>) -> Self {
        Self {
            kind,
            operation,
            errno: None,
            host_status: 0,
            bytes_to_trim: 0,
            detail: detail.into(),
        }
    }

    /// An error of the operating system's file interface.
    pub fn from_io(
        operation: &'static str,
        error: &std::io::Error,
        detail: impl Into<String>,
    ) -> Self {
        let errno = error.raw_os_error().map(Errno);
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            std::io::ErrorKind::PermissionDenied => ErrorKind::Permission,
            _ => errno.map_or(ErrorKind::Other, ErrorKind::of),
        };
        Self {
            kind,
            operation,
            errno,
            host_status: 0,
            bytes_to_trim: 0,
            detail: detail.into(),
        }
    }

    /// The same error with what it was about, such as a path.
    #[must_use]
    pub fn about(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    /// Class of the failure.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What was tried.
    pub const fn operation(&self) -> &'static str {
        self.operation
    }

    /// The kernel's errno, if it was the kernel that refused.
    pub const fn errno(&self) -> Option<Errno> {
        self.errno
    }

    /// The host's NTSTATUS, if the host was asked and refused.
    pub const fn host_status(&self) -> Option<u32> {
        match self.host_status {
            0 => None,
            status => Some(status),
        }
    }

    /// How many bytes have to be evicted before this can succeed. Known only where memory was to be
    /// made resident over the budget.
    pub const fn bytes_to_trim(&self) -> Option<u64> {
        match self.bytes_to_trim {
            0 => None,
            bytes => Some(bytes),
        }
    }

    pub(crate) fn with_bytes_to_trim(mut self, bytes: u64) -> Self {
        if self.kind == ErrorKind::OutOfDeviceMemory {
            self.bytes_to_trim = bytes;
        }
        self
    }

    fn reason(&self) -> String {
        let mut text = self.detail.clone();
        let mut add = |part: &str| {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(part);
        };
        if let Some(errno) = self.errno {
            let words = match self.kind {
                ErrorKind::InvalidArgument => "value not accepted",
                ErrorKind::NotFound => "not found",
                ErrorKind::Permission => "no permission",
                ErrorKind::Busy => "in use",
                ErrorKind::Unsupported => "not provided by this driver or host",
                ErrorKind::TooLarge => "above the limit",
                ErrorKind::OutOfMemory => "out of memory",
                ErrorKind::OutOfDeviceMemory => "out of device memory or over budget",
                ErrorKind::TimedOut => "the deadline passed",
                ErrorKind::Deadlock => "the wait might never end",
                ErrorKind::VmError => "the vm is in error",
                ErrorKind::HostRefused => "the host refused",
                ErrorKind::DeviceLost => "the adapter is gone",
                ErrorKind::ContentLost => "the content was dropped",
                ErrorKind::Stale => "unexpected sequence number",
                ErrorKind::Cancelled => "cancelled",
                ErrorKind::Ambiguous | ErrorKind::Other => "failed",
            };
            add(&format!("{words} ({errno})"));
        }
        if self.host_status != 0 {
            add(&format!("host status {:#010x}", self.host_status));
        }
        if self.bytes_to_trim != 0 {
            add(&format!("{} bytes to trim", self.bytes_to_trim));
        }
        if text.is_empty() {
            text.push_str("failed");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that one line names operation, errno and NTSTATUS, and that all three can be asked.
    #[test]
    fn says_everything() {
        let error = Error::from_errno("BIND", Errno(libc::EREMOTEIO), 0xc000_009a);
        assert_eq!(
            error.to_string(),
            "BIND: the host refused (EREMOTEIO): host status 0xc000009a"
        );
        assert_eq!(error.kind(), ErrorKind::HostRefused);
        assert_eq!(error.errno(), Some(Errno(libc::EREMOTEIO)));
        assert_eq!(error.host_status(), Some(0xc000_009a));
    }

    /// Proves that the bytes to trim come only with the error they belong to.
    #[test]
    fn bytes_to_trim() {
        let over = Error::from_errno("RESIDENCY", Errno(libc::ENOSPC), 0xc000_0001);
        assert_eq!(over.bytes_to_trim(), None);
        let over = over.with_bytes_to_trim(4096);
        assert_eq!(over.bytes_to_trim(), Some(4096));
        assert!(over.to_string().ends_with(": 4096 bytes to trim"), "{over}");
        let other = Error::from_errno("RESIDENCY", Errno(libc::EBUSY), 0).with_bytes_to_trim(4096);
        assert_eq!(other.bytes_to_trim(), None);
    }

    /// Proves that a missing file and a missing right are told apart.
    #[test]
    fn io_errors_keep_their_class() {
        let missing = std::io::Error::from_raw_os_error(libc::ENOENT);
        let denied = std::io::Error::from_raw_os_error(libc::EACCES);
        assert_eq!(
            Error::from_io("open", &missing, "x").kind(),
            ErrorKind::NotFound
        );
        assert_eq!(
            Error::from_io("open", &denied, "x").kind(),
            ErrorKind::Permission
        );
    }
}
