// SPDX-License-Identifier: GPL-2.0-only

//! Handles: how both sides name host objects (protocol 4.1).
//!
//! A handle is 32 bits: 6 of instance, 24 of index, 2 of uniqueness. All objects of one process
//! share one index space, so the index is a slot in a per-process table. Zero names nothing.

use core::fmt;
use core::num::NonZeroU32;

use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::wire::wire_struct;

/// The name of a host object, or of nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(transparent)]
pub struct Handle(u32);

wire_struct!(Handle = 4);

impl Handle {
    /// Names nothing.
    pub const NONE: Self = Self(0);
    /// The largest index a guest accepts.
    pub const MAX_INDEX: u32 = 0x00ff_fffe;

    const INSTANCE_BITS: u32 = 6;
    const INDEX_BITS: u32 = 24;
    const INSTANCE_MASK: u32 = (1 << Self::INSTANCE_BITS) - 1;
    const INDEX_MASK: u32 = (1 << Self::INDEX_BITS) - 1;
    const UNIQUE_SHIFT: u32 = Self::INSTANCE_BITS + Self::INDEX_BITS;

    /// Packs the three parts, each cut to its width.
    pub const fn pack(instance: u32, index: u32, unique: u32) -> Self {
        Self(
            (instance & Self::INSTANCE_MASK)
                | (index & Self::INDEX_MASK) << Self::INSTANCE_BITS
                | unique << Self::UNIQUE_SHIFT,
        )
    }

    /// A handle from its 32 bits.
    pub const fn from_raw(raw: u32) -> Self {
        Self(raw)
    }

    /// The 32 bits.
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// Whether this names nothing.
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// This handle, unless it names nothing.
    pub const fn some(self) -> Option<Self> {
        if self.is_none() {
            None
        } else {
            Some(self)
        }
    }

    /// The 32 bits, unless this names nothing.
    pub const fn non_zero(self) -> Option<NonZeroU32> {
        NonZeroU32::new(self.0)
    }

    /// The instance: stored by guests, never compared.
    pub const fn instance(self) -> u32 {
        self.0 & Self::INSTANCE_MASK
    }

    /// The slot in the process's table.
    pub const fn index(self) -> u32 {
        self.0 >> Self::INSTANCE_BITS & Self::INDEX_MASK
    }

    /// Tells apart successive users of one slot.
    pub const fn unique(self) -> u32 {
        self.0 >> Self::UNIQUE_SHIFT
    }
}

impl From<Option<Self>> for Handle {
    fn from(handle: Option<Self>) -> Self {
        handle.unwrap_or(Self::NONE)
    }
}

impl From<NonZeroU32> for Handle {
    fn from(raw: NonZeroU32) -> Self {
        Self(raw.get())
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
