// SPDX-License-Identifier: MIT OR Apache-2.0
//! Identifiers of channel classes and instances.

use std::fmt;

use serde::{Serialize, Serializer};

/// A GUID in the byte order of the wire: the first three fields little-endian.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Guid(
    /// The 16 bytes on the wire.
    pub [u8; 16],
);

impl Guid {
    /// Makes a GUID of its fields as they are written: `{a-b-c-d0d1-d2..d7}`.
    pub const fn from_fields(a: u32, b: u16, c: u16, d: [u8; 8]) -> Self {
        let [a0, a1, a2, a3] = a.to_le_bytes();
        let [b0, b1] = b.to_le_bytes();
        let [c0, c1] = c.to_le_bytes();
        let [d0, d1, d2, d3, d4, d5, d6, d7] = d;
        Self([
            a0, a1, a2, a3, b0, b1, c0, c1, d0, d1, d2, d3, d4, d5, d6, d7,
        ])
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a0, a1, a2, a3, b0, b1, c0, c1, d0, d1, rest @ ..] = self.0;
        let a = u32::from_le_bytes([a0, a1, a2, a3]);
        let b = u16::from_le_bytes([b0, b1]);
        let c = u16::from_le_bytes([c0, c1]);
        write!(f, "{a:08x}-{b:04x}-{c:04x}-{d0:02x}{d1:02x}-")?;
        rest.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Guid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The written form and the wire form are those of a known channel class.
    #[test]
    fn wire_and_text() {
        let guid = Guid::from_fields(
            0x6E38_2D18,
            0x3336,
            0x4F4B,
            [0xAC, 0xC4, 0x2B, 0x77, 0x03, 0xD4, 0xDF, 0x4A],
        );
        assert_eq!(
            guid.0[..8],
            [0x18, 0x2d, 0x38, 0x6e, 0x36, 0x33, 0x4b, 0x4f]
        );
        assert_eq!(guid.to_string(), "6e382d18-3336-4f4b-acc4-2b7703d4df4a");
    }
}
