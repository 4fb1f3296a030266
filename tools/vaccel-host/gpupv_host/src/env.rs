// SPDX-License-Identifier: MIT OR Apache-2.0
//! The world around the host, as a trait: everything it causes goes through here, and everything
//! it needs to know of the machine comes from here.

use std::sync::Arc;

use guest_memory::GuestRange;

use crate::job::Job;

/// A virtual GPU, by its place in the VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VgpuId(pub(crate) usize);

impl VgpuId {
    /// The place, from 0, in the order of [`crate::Host::add_vgpu`].
    pub fn index(self) -> usize {
        self.0
    }
}

/// A VMBus channel of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// The channel of the whole VM.
    Global,
    /// The channel of one virtual GPU.
    Vgpu(VgpuId),
}

/// A guest's message.
#[derive(Debug, Clone, Copy)]
pub struct MessageIn<'a> {
    /// Identifies the completion.
    pub transaction_id: u64,
    /// Whether the guest waits for a completion.
    pub completion_requested: bool,
    /// The packet's payload, copied out of the ring.
    pub payload: &'a [u8],
}

/// An access that is not wholly inside a [`HostMemory`], or that the host has no memory for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("offset {offset:#x}, length {len:#x} cannot be accessed in a GPU's memory")]
pub struct HostMemoryError {
    /// Where the access starts.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
}

/// Host memory for the allocations of one virtual GPU: sparse, zero until written, and only copied
/// in and out, because the guest may see it at the same time.
pub trait HostMemory: Send + Sync {
    /// Bytes of address space; it has memory only where it was written.
    fn len(&self) -> u64;

    /// Whether there is no address space.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies bytes from `offset` on into `buf`.
    ///
    /// # Errors
    ///
    /// Fails outside the address space.
    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), HostMemoryError>;

    /// Copies `data` to `offset`.
    ///
    /// # Errors
    ///
    /// Fails outside the address space, or when the host is out of memory.
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), HostMemoryError>;

    /// Makes bytes zero and gives their memory back to the host. Both are multiples of 4096.
    ///
    /// # Errors
    ///
    /// Fails outside the address space, or when the host cannot; some bytes may be left then.
    fn discard(&self, offset: u64, len: u64) -> Result<(), HostMemoryError>;
}

/// Host memory that the guest sees at the address it chose for the I/O space.
pub trait IoSpace: Send + Sync {
    /// Stores a little-endian word with release ordering. `offset` is a multiple of 8 inside the
    /// space.
    fn store_u64(&self, offset: u64, value: u64);

    /// Loads a little-endian word with acquire ordering.
    fn load_u64(&self, offset: u64) -> u64;

    /// Lets the guest see `len` bytes of a GPU's memory, from an offset in it, instead of what the
    /// space has at `offset`. All are multiples of 4096.
    ///
    /// # Errors
    ///
    /// Fails when the host cannot; then the space is as before.
    fn show(&self, offset: u64, memory: (VgpuId, u64), len: u64) -> Result<(), ShowError>;

    /// Puts zeroed memory of the space's own where a GPU's was shown. The guest has no access to
    /// that any more when this returns.
    fn hide(&self, offset: u64, len: u64);
}

/// A part of a GPU's memory could not be shown.
#[derive(Debug, thiserror::Error)]
#[error("{len:#x} bytes at {offset:#x} of the I/O space: {reason}")]
pub struct ShowError {
    /// Where in the I/O space.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
    /// Why not.
    pub reason: String,
}

/// The I/O space could not be put where the guest wants it.
#[derive(Debug, thiserror::Error)]
#[error("I/O space of {len:#x} bytes at {gpa:#x}: {reason}")]
pub struct IoSpaceError {
    /// Guest-physical start.
    pub gpa: u64,
    /// Bytes.
    pub len: u64,
    /// Why not.
    pub reason: String,
}

/// What the host causes and asks. Implementations must not call back into the host.
pub trait Env {
    /// Completes a message.
    fn complete(&mut self, channel: Channel, transaction_id: u64, payload: &[u8]);

    /// Sends a message to the guest on the global channel, without a completion.
    fn send(&mut self, payload: &[u8]);

    /// The guest memory of a GPADL that was established on the global channel.
    fn gpadl(&self, gpadl: u32) -> Option<Vec<GuestRange>>;

    /// Runs a job on the engine of a virtual GPU, elsewhere. One job at a time is given to each
    /// GPU; [`crate::Host::engine_done`] takes the outcome.
    fn start_job(&mut self, vgpu: VgpuId, job: Job);

    /// Makes host memory of `len` bytes, zeroed, visible to the guest at `gpa`.
    ///
    /// # Errors
    ///
    /// Fails when the range is not free in the guest's address space, or memory is short.
    fn map_io_space(&mut self, gpa: u64, len: u64) -> Result<Arc<dyn IoSpace>, IoSpaceError>;

    /// Takes the I/O space away again.
    fn unmap_io_space(&mut self);

    /// The memory of a virtual GPU: the same one each time. Asked for when the first allocation in
    /// it is made.
    fn host_memory(&mut self, vgpu: VgpuId) -> Option<Arc<dyn HostMemory>>;

    /// Nanoseconds since any fixed moment.
    fn now_ns(&self) -> u64;
}
