// SPDX-License-Identifier: GPL-2.0-only

//! GUIDs, as they name the classes and instances of VMBus devices.
//!
//! C header: [`include/linux/uuid.h`](srctree/include/linux/uuid.h)

use crate::bindings;

/// A GUID in wire order: the first three groups are little-endian.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Guid([u8; 16]);

impl Guid {
    /// The GUID whose text form is `a-b-c-d`, the last group with a dash after two bytes.
    pub const fn new(a: u32, b: u16, c: u16, d: [u8; 8]) -> Self {
        let [a0, a1, a2, a3] = a.to_le_bytes();
        let [b0, b1] = b.to_le_bytes();
        let [c0, c1] = c.to_le_bytes();
        let [d0, d1, d2, d3, d4, d5, d6, d7] = d;

        Self([
            a0, a1, a2, a3, b0, b1, c0, c1, d0, d1, d2, d3, d4, d5, d6, d7,
        ])
    }

    /// The GUID with these bytes in wire order.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes in wire order.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    pub(super) const fn into_raw(self) -> bindings::guid_t {
        bindings::guid_t { b: self.0 }
    }

    pub(super) const fn from_raw(raw: bindings::guid_t) -> Self {
        Self(raw.b)
    }
}
