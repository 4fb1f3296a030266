// SPDX-License-Identifier: GPL-2.0-only

//! Paging queues: the order in which memory becomes available (protocol 4.6).
//!
//! A paging queue has a monitored fence; operations that take time return the value it reaches
//! when they are done.

use super::codes::PagingQueuePriority;
use super::command::{fixed_command, reply, NoFixedReply};
use super::handle::Handle;
use super::wire::wire_struct;
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Creates a paging queue and its fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CreatePagingQueue {
    /// The device.
    pub device: Handle,
    /// Its priority.
    pub priority: PagingQueuePriority,
    /// Output of the caller's structure: none.
    pub paging_queue: Handle,
    /// Output of the caller's structure: none.
    pub sync_object: Handle,
    /// Output of the caller's structure: zero.
    pub fence_cpu_virtual_address: u64,
    /// Which GPU of a linked group.
    pub physical_adapter_index: u32,
    /// Padding.
    pub _pad: u32,
}

wire_struct!(CreatePagingQueue = 32);
fixed_command!(CreatePagingQueue => CreatePagingQueueReply);

impl CreatePagingQueue {
    /// A paging queue of a device.
    pub fn new(device: Handle, priority: PagingQueuePriority) -> Self {
        Self {
            device,
            priority,
            ..Self::default()
        }
    }
}

/// The new queue and its fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CreatePagingQueueReply {
    /// The queue; none on failure.
    pub paging_queue: Handle,
    /// Its fence.
    pub sync_object: Handle,
    /// Guest-physical address of the fence's page in the I/O space.
    pub fence_storage_physical_address: u64,
    /// Not used.
    pub fence_storage_offset: u64,
}

wire_struct!(CreatePagingQueueReply = 24);
reply!(CreatePagingQueueReply, short);

/// Destroys a paging queue and its fence. The completion has no content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct DestroyPagingQueue {
    /// The queue.
    pub paging_queue: Handle,
    /// Padding.
    pub _pad: u32,
}

wire_struct!(DestroyPagingQueue = 8);
fixed_command!(DestroyPagingQueue => NoFixedReply);
