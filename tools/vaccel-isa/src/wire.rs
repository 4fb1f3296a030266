// SPDX-License-Identifier: MIT OR Apache-2.0
//! The packets as bytes. Private: users see the typed forms in `packet`.

use zerocopy::little_endian::{F32, U16, U32, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::ENTRY_POINT_BYTES;

/// Packet opcodes. 0 is never valid, so zeroed memory is not a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Opcode {
    /// Does nothing; any length, contents ignored.
    Nop = 1,
    /// Ends the command buffer.
    End = 2,
    /// Writes a pattern.
    Fill = 3,
    /// Copies bytes.
    Copy = 4,
    /// Element-wise arithmetic on f32.
    ElementwiseF32 = 5,
    /// Matrix product on f32.
    GemmF32 = 6,
    /// Reduction of f32.
    ReduceF32 = 7,
    /// Keeps the engine busy.
    Spin = 8,
    /// Runs a compute shader.
    DispatchSpirv = 9,
}

impl Opcode {
    /// Every opcode of this version.
    pub const ALL: [Opcode; 9] = [
        Opcode::Nop,
        Opcode::End,
        Opcode::Fill,
        Opcode::Copy,
        Opcode::ElementwiseF32,
        Opcode::GemmF32,
        Opcode::ReduceF32,
        Opcode::Spin,
        Opcode::DispatchSpirv,
    ];

    /// The bit that announces this opcode in [`crate::AdapterInfo::op_mask`].
    pub const fn mask(self) -> u64 {
        1_u64.wrapping_shl(self as u32)
    }

    pub(crate) fn from_wire(value: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|opcode| *opcode as u16 == value)
    }
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Header {
    pub opcode: U16,
    pub flags: U16,
    pub length: U32,
}

/// Bytes of a packet header.
pub const HEADER_BYTES: usize = size_of::<Header>();

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct WireFill {
    pub dst: U64,
    pub bytes: U64,
    pub pattern: U32,
    pub pattern_bytes: U32,
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct WireCopy {
    pub dst: U64,
    pub src: U64,
    pub bytes: U64,
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct WireElementwise {
    pub dst: U64,
    pub a: U64,
    pub b: U64,
    pub rows: U32,
    pub cols: U32,
    pub op: U32,
    pub b_kind: U32,
    pub immediate: F32,
    pub reserved: U32,
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct WireGemm {
    pub a: U64,
    pub b: U64,
    pub c: U64,
    pub m: U32,
    pub n: U32,
    pub k: U32,
    pub lda: U32,
    pub ldb: U32,
    pub ldc: U32,
    pub transpose: U32,
    pub alpha: F32,
    pub beta: F32,
    pub reserved: U32,
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct WireReduce {
    pub dst: U64,
    pub src: U64,
    pub rows: U32,
    pub cols: U32,
    pub op: U32,
    pub axis: U32,
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct WireSpin {
    pub nanoseconds: U64,
}

/// The fixed part of a DISPATCH_SPIRV. Bindings follow, then push constants up to a multiple of 8.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct WireDispatch {
    pub module: U64,
    pub module_bytes: U32,
    pub groups: [U32; 3],
    pub binding_count: U32,
    pub push_bytes: U32,
    pub entry_point: [u8; ENTRY_POINT_BYTES],
}

/// A buffer of a DISPATCH_SPIRV.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub(crate) struct WireBinding {
    pub va: U64,
    pub bytes: U64,
    pub binding: U32,
    pub access: U32,
}

/// Values of `WireElementwise::b_kind`.
pub(crate) mod b_kind {
    pub const NONE: u32 = 0;
    pub const FULL: u32 = 1;
    pub const ROW: u32 = 2;
    pub const IMMEDIATE: u32 = 3;
}

/// Bits of `WireGemm::transpose`.
pub(crate) mod transpose {
    pub const A: u32 = 1;
    pub const B: u32 = 2;
}
