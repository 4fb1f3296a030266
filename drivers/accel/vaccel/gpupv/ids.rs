// SPDX-License-Identifier: GPL-2.0-only

//! LUIDs and GUIDs in wire order.

use core::fmt;

use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::wire::wire_struct;

/// A locally unique identifier: names an adapter.
#[derive(Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Luid {
    /// The low half, first on the wire.
    pub low: u32,
    /// The high half.
    pub high: u32,
}

wire_struct!(Luid = 8);

impl Luid {
    /// Names no adapter: what global commands carry.
    pub const ZERO: Self = Self::new(0, 0);

    /// A LUID from its halves.
    pub const fn new(low: u32, high: u32) -> Self {
        Self { low, high }
    }

    /// A LUID from its 64 bits.
    pub const fn from_u64(value: u64) -> Self {
        let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
        Self::new(
            u32::from_le_bytes([a, b, c, d]),
            u32::from_le_bytes([e, f, g, h]),
        )
    }

    /// The 64 bits.
    pub const fn as_u64(self) -> u64 {
        let ([a, b, c, d], [e, f, g, h]) = (self.low.to_le_bytes(), self.high.to_le_bytes());
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}

impl fmt::Debug for Luid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{:08x}", self.high, self.low)
    }
}

impl fmt::Display for Luid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A globally unique identifier, in the order its bytes travel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(transparent)]
pub struct Guid([u8; 16]);

wire_struct!(Guid = 16);

impl Guid {
    /// A GUID from its bytes in wire order.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes in wire order.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// A GUID from the number its usual text shows, dashes left out.
    pub const fn from_text(value: u128) -> Self {
        let [d, c, b, a, f, e, h, g, rest @ ..] = value.to_be_bytes();
        let [i, j, k, l, m, n, o, p] = rest;
        Self([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
    }

    /// The LUID in the first 8 bytes: how a vGPU's channel and PCI function find each other.
    pub const fn luid(self) -> Luid {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        Luid::new(
            u32::from_le_bytes([a, b, c, d]),
            u32::from_le_bytes([e, f, g, h]),
        )
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g, h, i, j, k, rest @ ..] = self.0;
        write!(f, "{d:02x}{c:02x}{b:02x}{a:02x}-{g:02x}{e:02x}")?;
        write!(f, "-{i:02x}{h:02x}-{j:02x}{k:02x}-")?;
        rest.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
