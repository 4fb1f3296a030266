// SPDX-License-Identifier: GPL-2.0-only

//! NTSTATUS: how the host says that something worked, or why not (protocol 2.7).

use core::fmt;

use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::wire::wire_struct;

/// A status of the host: negative is failure, zero and above success.
#[derive(Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(transparent)]
pub struct NtStatus(i32);

wire_struct!(NtStatus = 4);

impl NtStatus {
    /// A status from its 32 bits.
    pub const fn from_bits(bits: u32) -> Self {
        Self(i32::from_le_bytes(bits.to_le_bytes()))
    }

    /// The 32 bits, the way statuses are usually written.
    pub const fn bits(self) -> u32 {
        u32::from_le_bytes(self.0.to_le_bytes())
    }

    /// A status from its number.
    pub const fn from_raw(raw: i32) -> Self {
        Self(raw)
    }

    /// The status as a number.
    pub const fn raw(self) -> i32 {
        self.0
    }

    /// Whether this is a failure.
    pub const fn is_error(self) -> bool {
        self.0 < 0
    }

    /// Turns a failure into an error.
    ///
    /// # Errors
    ///
    /// The status itself when it is negative.
    pub const fn ok(self) -> Result<Self, Self> {
        if self.is_error() {
            Err(self)
        } else {
            Ok(self)
        }
    }
}

/// Names statuses, and says which error number of Linux each failure becomes.
macro_rules! statuses {
    ($($(#[$meta:meta])* $name:ident = $bits:literal $(=> $errno:literal)?,)*) => {
        impl NtStatus {
            $($(#[$meta])* pub const $name: Self = Self::from_bits($bits);)*

            /// Every status that has a name here.
            pub const NAMED: &'static [(&'static str, Self)] =
                &[$((stringify!($name), Self::$name),)*];

            /// The (positive) Linux error number of a failure; none for a success.
            ///
            /// Failures that are not listed by the protocol are `EINVAL`.
            pub const fn errno(self) -> Option<i32> {
                match self.bits() {
                    $($($bits => Some($errno),)?)*
                    _ if self.is_error() => Some(22),
                    _ => None,
                }
            }

            /// The name, when there is one.
            pub const fn name(self) -> Option<&'static str> {
                match self.bits() {
                    $($bits => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

statuses! {
    /// Done.
    SUCCESS = 0x0000_0000,
    /// A wait ended without its condition. Positive, hence no failure.
    TIMEOUT = 0x0000_0102,
    /// Accepted; a fence says when it is done.
    PENDING = 0x0000_0103,
    /// Unspecific failure.
    UNSUCCESSFUL = 0xc000_0001,
    /// The host does not have this operation (`EPERM`).
    NOT_IMPLEMENTED = 0xc000_0002 => 1,
    /// No such object, or one of another kind (`EBADF`).
    INVALID_HANDLE = 0xc000_0008 => 9,
    /// An argument is wrong (`EINVAL`).
    INVALID_PARAMETER = 0xc000_000d => 22,
    /// Memory or handles ran out (`ENOMEM`).
    NO_MEMORY = 0xc000_0017 => 12,
    /// The commands are not valid (`EOPNOTSUPP`).
    ILLEGAL_INSTRUCTION = 0xc000_001d => 95,
    /// Not allowed for this process (`EACCES`).
    ACCESS_DENIED = 0xc000_0022 => 13,
    /// The caller's buffer is too small (`EOVERFLOW`).
    BUFFER_TOO_SMALL = 0xc000_0023 => 75,
    /// The object is of another type (`EPROTOTYPE`).
    OBJECT_TYPE_MISMATCH = 0xc000_0024 => 91,
    /// The name is not valid (`ENOENT`).
    OBJECT_NAME_INVALID = 0xc000_0033 => 2,
    /// There is nothing of that name (`ENOENT`).
    OBJECT_NAME_NOT_FOUND = 0xc000_0034 => 2,
    /// There is something of that name already (`EEXIST`).
    OBJECT_NAME_COLLISION = 0xc000_0035 => 17,
    /// The host does not do this (`EPERM`).
    NOT_SUPPORTED = 0xc000_00bb => 1,
    /// The GPU is gone (`ENODEV`).
    DEVICE_REMOVED = 0xc000_02b6 => 19,
    /// The allocation is in use (`EINPROGRESS`).
    GRAPHICS_ALLOCATION_BUSY = 0xc01e_0102 => 115,
}

impl fmt::Debug for NtStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for NtStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} ({:#010x})", self.bits()),
            None => write!(f, "status {:#010x}", self.bits()),
        }
    }
}
