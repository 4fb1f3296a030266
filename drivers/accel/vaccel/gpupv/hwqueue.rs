// SPDX-License-Identifier: GPL-2.0-only

//! Hardware queues: contexts whose order the GPU keeps itself (protocol 4.5).
//!
//! A hardware queue has a progress fence; each submission names the value it gets.

use super::command::{fixed_command, Command, Reply};
use super::commands::CommandId;
use super::discovery::Version;
use super::error::{DecodeError, EncodeError};
use super::flags::CreateHwQueueFlags;
use super::handle::Handle;
use super::header::CommandHeader;
use super::status::NtStatus;
use super::wire::{count, length, split, wire_struct, PackedU64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Creates a hardware queue of a context. Private data goes in and comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CreateHwQueue {
    /// Reply: success or not.
    pub status: NtStatus,
    /// Reply: the queue.
    pub hwqueue: Handle,
    /// Reply: its progress fence.
    pub progress_fence: Handle,
    /// Padding.
    pub _pad: u32,
    /// Reply: guest-physical address of the fence's page in the I/O space.
    pub progress_fence_address: PackedU64,
    /// Reply: GPU address of the fence.
    pub progress_fence_gpuva: PackedU64,
    /// The context.
    pub context: Handle,
    /// How.
    pub flags: CreateHwQueueFlags,
    /// Bytes of private data.
    pub priv_drv_data_size: u32,
}

wire_struct!(CreateHwQueue = 44);

impl Command for CreateHwQueue {
    const ID: CommandId = CommandId::CreateHwQueue;
    type Tail<'a> = &'a [u8];
    type Reply = CreateHwQueueReply;
    type ReplyTail<'a> = &'a [u8];

    fn set_counts(&mut self, tail: &&[u8]) -> Result<(), EncodeError> {
        self.priv_drv_data_size = count(tail.len())?;
        Ok(())
    }

    fn parse_tail<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8], DecodeError> {
        Ok(split(bytes, length(self.priv_drv_data_size))?.0)
    }

    fn slack(&self) -> usize {
        match self.priv_drv_data_size {
            0 => 4,
            _ => 3,
        }
    }

    fn reply_len(&self, tail: &&[u8], _version: Version) -> usize {
        size_of::<CreateHwQueueReply>()
            .saturating_add(tail.len())
            .saturating_add(self.slack())
    }

    fn parse_reply_tail<'a>(
        &self,
        _reply: &CreateHwQueueReply,
        bytes: &'a [u8],
    ) -> Result<&'a [u8], DecodeError> {
        self.parse_tail(bytes)
    }
}

/// The request again, completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CreateHwQueueReply {
    /// A command header; not looked at.
    pub header: CommandHeader,
    /// The request with everything marked "reply" filled in.
    pub body: CreateHwQueue,
}

wire_struct!(CreateHwQueueReply = 68);

impl Reply for CreateHwQueueReply {
    fn status(&self) -> Option<NtStatus> {
        Some(self.body.status)
    }

    fn failure(status: NtStatus) -> Option<Self> {
        let mut reply = Self::default();
        reply.body.status = status;
        Some(reply)
    }
}

/// Destroys a hardware queue and its progress fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct DestroyHwQueue {
    /// The queue.
    pub hwqueue: Handle,
    /// Padding.
    pub _pad: u32,
}

wire_struct!(DestroyHwQueue = 8);
fixed_command!(DestroyHwQueue => NtStatus);
