// SPDX-License-Identifier: MIT OR Apache-2.0
//! The open compute ISA of vaccel-host.
//!
//! A *command buffer* is a sequence of packets in GPU virtual memory, named by address and length
//! in a submission. This crate is the one definition of its bytes: user space encodes with
//! [`CommandStream`], the host copies the buffer once and decodes the copy with [`decode`]. It also
//! defines what the host tells about itself as user-mode driver private data ([`AdapterInfo`]), and
//! what allocations in its memory are described by ([`AllocationData`]).
//! Field tables and numeric semantics: Documentation/accel/vaccel/isa.rst.
//!
//! Rules of the format:
//!
//! - little-endian; a packet starts on a multiple of 8 bytes and is a multiple of 8 long;
//! - header: `u16` opcode, `u16` flags (0), `u32` length in bytes including the header;
//! - flags and reserved fields are zero, every other value is refused;
//! - the last packet is END, and nothing follows it, so a truncated buffer is never run;
//! - sizes of zero are refused, and so is everything above the limits below.
//!
//! Decoding checks a packet by itself. Whether its addresses are mapped is found out when it runs.

#![cfg_attr(not(feature = "std"), no_std)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod adapter_info;
mod allocation_data;
mod decode;
mod dispatch;
mod packet;
#[cfg(feature = "std")]
mod stream;
mod wire;

pub use adapter_info::{AdapterInfo, ADAPTER_INFO_BYTES, ADAPTER_INFO_MAGIC, ENGINE_NAME_BYTES};
pub use allocation_data::{AllocationData, Segment, ALLOCATION_DATA_BYTES, ALLOCATION_DATA_MAGIC};
pub use decode::{decode, DecodeError, Packets, Reason};
pub use dispatch::{Binding, BindingAccess, Bindings, Dispatch, Shader};
pub use packet::{
    Copy, Elementwise, ElementwiseOp, Fill, Gemm, Matrix, Operand, Packet, Pattern, Reduce,
    ReduceAxis, ReduceOp,
};
#[cfg(feature = "std")]
pub use stream::CommandStream;
pub use wire::{Opcode, HEADER_BYTES};

/// Version of the ISA, major in the upper and minor in the lower 16 bits. A new minor version only
/// adds opcodes, which [`AdapterInfo::op_mask`] announces.
pub const ISA_VERSION: u32 = 0x0001_0001;
/// Alignment of packets, and of the command buffer itself, in bytes.
pub const PACKET_ALIGN: usize = 8;
/// Largest command buffer in bytes.
pub const MAX_STREAM_BYTES: usize = 1 << 20;
/// Largest number of elements of one operand of an arithmetic packet.
pub const MAX_ELEMENTS: u64 = 1 << 24;
/// Largest distance, in elements, from the first to the last element of a strided matrix, plus one.
pub const MAX_EXTENT: u64 = 1 << 28;
/// Largest number of bytes one FILL or COPY handles.
pub const MAX_TRANSFER_BYTES: u64 = 1 << 32;
/// Longest SPIN in nanoseconds: one minute.
pub const MAX_SPIN_NS: u64 = 60_000_000_000;
/// Bytes of the name of a shader's entry point, padded with zeros.
pub const ENTRY_POINT_BYTES: usize = 32;
/// Largest SPIR-V module in bytes.
pub const MAX_MODULE_BYTES: u32 = 1 << 20;
/// Largest number of work groups in each direction.
pub const MAX_GROUPS: u32 = 65_535;
/// Largest number of buffers of one dispatch.
pub const MAX_BINDINGS: usize = 16;
/// Binding numbers are below this.
pub const MAX_BINDING_NUMBER: u32 = 32;
/// Largest number of bytes of one buffer of a dispatch, which every Vulkan device can bind.
pub const MAX_BINDING_BYTES: u64 = 1 << 27;
/// Largest number of bytes in all buffers of one dispatch together.
pub const MAX_DISPATCH_BYTES: u64 = 1 << 28;
/// Largest number of bytes of push constants.
pub const MAX_PUSH_BYTES: usize = 128;
/// Invocations of one work group at most.
pub const MAX_GROUP_INVOCATIONS: u32 = 1024;
/// Bytes of memory that the invocations of a work group share, at most.
pub const MAX_SHARED_BYTES: u32 = 16 << 10;
/// Bytes of variables of each invocation, at most.
pub const MAX_PRIVATE_BYTES: u32 = 16 << 10;
/// Longest that one dispatch runs, in nanoseconds: one minute.
pub const MAX_DISPATCH_NS: u64 = 60_000_000_000;
