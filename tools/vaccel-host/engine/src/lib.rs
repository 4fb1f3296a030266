// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compute engines: what runs the command buffers of a virtual GPU.
//!
//! An [`Engine`] copies a command buffer out of an [`AddressSpace`], decodes all of it, and runs it
//! packet by packet. It owns no thread and no clock: the caller runs it where it likes and lends it
//! a [`Pace`], by which it sleeps and learns that nobody wants the result any more. Guest memory is
//! only copied in and out, so the guest may write to it at any time and gets unspecified numbers.
//!
//! [`BuiltIn`] is the engine with the fixed operations of the ISA, deterministic to the bit.
//! [`ShaderEngine`] has them too, and runs compute shaders with whatever it is given for that.
//! Memory an engine holds while it runs is bounded by the limits of the ISA: two operands of
//! [`vaccel_isa::MAX_ELEMENTS`], or [`vaccel_isa::MAX_DISPATCH_BYTES`], and small change.

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

mod built_in;
mod flip;
mod shaders;
#[cfg(test)]
mod test_memory;

use std::time::Duration;

use vaccel_isa::{AdapterInfo, DecodeError};

pub use built_in::BuiltIn;
pub use flip::flip_last_write;
pub use shaders::{ShaderBuffer, ShaderCall, ShaderEngine, ShaderStop, Shaders};

#[cfg(not(target_endian = "little"))]
compile_error!("guest numbers are little-endian and read in place");

/// What an access wanted to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read.
    Read,
    /// Write.
    Write,
}

/// Why an access to GPU virtual memory failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// Nothing is mapped there, or it is mapped without access.
    NotMapped,
    /// The mapping does not allow writing.
    ReadOnly,
    /// The allocation behind the mapping is not resident.
    NotResident,
    /// The allocation has no memory there, or what the guest named is not guest memory.
    NoMemory,
}

/// A failed access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{access:?} at GPU address {va:#x}: {kind:?}")]
pub struct Fault {
    /// First GPU virtual address that could not be accessed.
    pub va: u64,
    /// What was tried.
    pub access: Access,
    /// Why it failed.
    pub kind: FaultKind,
}

/// GPU virtual memory as a job sees it.
pub trait AddressSpace {
    /// Copies memory at `va` into `buf`.
    ///
    /// # Errors
    ///
    /// Fails at the first address without readable memory, with `buf` in an unspecified state.
    fn read(&self, va: u64, buf: &mut [u8]) -> Result<(), Fault>;

    /// Copies `data` to memory at `va`.
    ///
    /// # Errors
    ///
    /// Fails at the first address without writable memory; what is before it has been written.
    fn write(&self, va: u64, data: &[u8]) -> Result<(), Fault>;
}

/// Time and interest, lent to a running job by its caller.
pub trait Pace {
    /// Sleeps. Engines ask for a few milliseconds at most at a time.
    fn sleep(&self, time: Duration);

    /// Whether the job should stop: its device is being destroyed.
    fn cancelled(&self) -> bool;
}

/// Where a command buffer lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commands {
    /// GPU virtual address of the first packet, a multiple of 8.
    pub va: u64,
    /// Length in bytes.
    pub bytes: u32,
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Everything ran.
    Done,
    /// An access failed. Packets before the one that failed ran wholly, it itself perhaps in part.
    PageFault(Fault),
    /// The command buffer is malformed. Nothing ran.
    BadCommands(DecodeError),
    /// A shader is refused, or what ran it died of it. Nothing of its dispatch is written.
    BadProgram,
    /// A dispatch took longer than [`vaccel_isa::MAX_DISPATCH_NS`]. Nothing of it is written.
    Hung,
    /// The caller lost interest. The packet that was running perhaps ran in part.
    Cancelled,
}

/// Something that runs command buffers.
pub trait Engine: Send + Sync {
    /// What user space is told about the engine.
    fn info(&self) -> AdapterInfo;

    /// Runs one command buffer.
    fn run(&self, commands: Commands, space: &dyn AddressSpace, pace: &dyn Pace) -> Outcome;
}
