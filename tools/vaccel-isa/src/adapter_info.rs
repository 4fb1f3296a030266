// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the host says about its engine: the user-mode driver private data that QUERYADAPTERINFO
//! type 0 returns (gpu-pv protocol: query adapter info). Contexts and submissions need no private
//! data of their own.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, IntoBytes};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::wire::Opcode;
use crate::{ISA_VERSION, MAX_ELEMENTS, MAX_SPIN_NS, MAX_STREAM_BYTES, MAX_TRANSFER_BYTES};

/// First four bytes of the private data: "VISA" read as a little-endian word.
pub const ADAPTER_INFO_MAGIC: u32 = u32::from_le_bytes(*b"VISA");
/// Bytes of the engine's name, the rest filled with zeros.
pub const ENGINE_NAME_BYTES: usize = 32;
/// Bytes of the private data in this version.
pub const ADAPTER_INFO_BYTES: usize = size_of::<WireAdapterInfo>();

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct WireAdapterInfo {
    magic: U32,
    isa_version: U32,
    size: U32,
    reserved: U32,
    op_mask: U64,
    max_elements: U64,
    max_transfer_bytes: U64,
    max_spin_ns: U64,
    max_stream_bytes: U32,
    reserved2: U32,
    engine_name: [u8; ENGINE_NAME_BYTES],
}

/// The engine's description in typed form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdapterInfo {
    /// Version of the ISA, see [`ISA_VERSION`].
    pub isa_version: u32,
    /// Supported opcodes, see [`Opcode::mask`].
    pub op_mask: u64,
    /// Largest number of elements of one operand.
    pub max_elements: u64,
    /// Largest FILL or COPY in bytes.
    pub max_transfer_bytes: u64,
    /// Longest SPIN in nanoseconds.
    pub max_spin_ns: u64,
    /// Largest command buffer in bytes.
    pub max_stream_bytes: u32,
    /// Name of the engine, padded with zeros.
    pub engine_name: [u8; ENGINE_NAME_BYTES],
}

impl AdapterInfo {
    /// Describes an engine with the operations that every engine has: all but DISPATCH_SPIRV. The
    /// name is cut to fit, at a character boundary.
    pub fn new(name: &str) -> Self {
        let mut engine_name = [0; ENGINE_NAME_BYTES];
        let fits = name
            .char_indices()
            .map(|(at, c)| at.saturating_add(c.len_utf8()))
            .take_while(|end| *end <= ENGINE_NAME_BYTES)
            .last()
            .unwrap_or(0);
        for (to, from) in engine_name.iter_mut().zip(name.bytes().take(fits)) {
            *to = from;
        }
        Self {
            isa_version: ISA_VERSION,
            op_mask: Opcode::ALL.iter().fold(0, |mask, op| mask | op.mask())
                & !Opcode::DispatchSpirv.mask(),
            max_elements: MAX_ELEMENTS,
            max_transfer_bytes: MAX_TRANSFER_BYTES,
            max_spin_ns: MAX_SPIN_NS,
            max_stream_bytes: u32::try_from(MAX_STREAM_BYTES).unwrap_or(u32::MAX),
            engine_name,
        }
    }

    /// The same engine with one more operation.
    #[must_use]
    pub const fn with(mut self, opcode: Opcode) -> Self {
        self.op_mask |= opcode.mask();
        self
    }

    /// The engine's name up to its padding, empty if it is not UTF-8.
    pub fn name(&self) -> &str {
        let text = self.engine_name.split(|byte| *byte == 0).next();
        core::str::from_utf8(text.unwrap_or_default()).unwrap_or_default()
    }

    /// Whether the engine runs packets with this opcode.
    pub const fn supports(&self, opcode: Opcode) -> bool {
        self.op_mask & opcode.mask() != 0
    }

    /// The private data as bytes.
    pub fn to_bytes(&self) -> [u8; ADAPTER_INFO_BYTES] {
        let wire = WireAdapterInfo {
            magic: ADAPTER_INFO_MAGIC.into(),
            isa_version: self.isa_version.into(),
            size: u32::try_from(ADAPTER_INFO_BYTES).unwrap_or(0).into(),
            reserved: 0.into(),
            op_mask: self.op_mask.into(),
            max_elements: self.max_elements.into(),
            max_transfer_bytes: self.max_transfer_bytes.into(),
            max_spin_ns: self.max_spin_ns.into(),
            max_stream_bytes: self.max_stream_bytes.into(),
            reserved2: 0.into(),
            engine_name: self.engine_name,
        };
        let mut bytes = [0; ADAPTER_INFO_BYTES];
        for (to, from) in bytes.iter_mut().zip(wire.as_bytes()) {
            *to = *from;
        }
        bytes
    }

    /// Reads private data. `None` if it is not from a host with this ISA: wrong magic, too short, or
    /// another major version. Bytes past the ones known here are ignored.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (wire, _) = WireAdapterInfo::ref_from_prefix(bytes).ok()?;
        let size = usize::try_from(wire.size.get()).ok()?;
        let major = |version: u32| version >> 16;
        if wire.magic.get() != ADAPTER_INFO_MAGIC
            || size < ADAPTER_INFO_BYTES
            || major(wire.isa_version.get()) != major(ISA_VERSION)
        {
            return None;
        }
        Some(Self {
            isa_version: wire.isa_version.get(),
            op_mask: wire.op_mask.get(),
            max_elements: wire.max_elements.get(),
            max_transfer_bytes: wire.max_transfer_bytes.get(),
            max_spin_ns: wire.max_spin_ns.get(),
            max_stream_bytes: wire.max_stream_bytes.get(),
            engine_name: wire.engine_name,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The private data is 88 bytes, survives a round trip, and is refused when it is cut, foreign,
    /// or of another major version.
    #[test]
    fn round_trip_and_refusals() {
        let info = AdapterInfo::new("built-in");
        let bytes = info.to_bytes();
        assert_eq!(bytes.len(), 88);
        assert_eq!(AdapterInfo::from_bytes(&bytes), Some(info));
        assert_eq!(info.name(), "built-in");
        assert!(info.supports(Opcode::GemmF32));
        assert!(!info.supports(Opcode::DispatchSpirv));
        let more = info.with(Opcode::DispatchSpirv);
        assert_eq!(AdapterInfo::from_bytes(&more.to_bytes()), Some(more));
        assert!(more.supports(Opcode::DispatchSpirv) && more.supports(Opcode::GemmF32));
        assert_eq!(AdapterInfo::from_bytes(&bytes[..87]), None);
        let mut foreign = bytes;
        foreign[0] ^= 1;
        assert_eq!(AdapterInfo::from_bytes(&foreign), None);
        let mut newer = bytes;
        newer[6] ^= 2;
        assert_eq!(AdapterInfo::from_bytes(&newer), None);
    }

    /// A name that is too long is cut before the character that does not fit.
    #[test]
    fn long_names_are_cut() {
        let name = "0123456789012345678901234567890é";
        let info = AdapterInfo::new(name);
        assert_eq!(info.name(), "0123456789012345678901234567890");
    }
}
