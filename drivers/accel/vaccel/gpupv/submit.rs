// SPDX-License-Identifier: GPL-2.0-only

//! Command buffers to contexts and to hardware queues (protocol 4.5).

use super::command::Command;
use super::commands::CommandId;
use super::draft::Work;
use super::error::{DecodeError, EncodeError};
use super::flags::SubmitFlags;
use super::handle::Handle;
use super::limits::{MAX_BROADCAST_CONTEXTS, MAX_WRITTEN_PRIMARIES};
use super::list::{tail_struct, List};
use super::status::NtStatus;
use super::wire::{count, length, split, wire_struct};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Submits a command buffer to contexts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SubmitCommand {
    /// GPU address of the commands.
    pub command_buffer: u64,
    /// Bytes of commands.
    pub command_length: u32,
    /// How.
    pub flags: SubmitFlags,
    /// Zero without presentation.
    pub present_history_token: u64,
    /// How many contexts, 1 to 64.
    pub broadcast_context_count: u32,
    /// The contexts; the first selects the device.
    pub broadcast_context: [Handle; MAX_BROADCAST_CONTEXTS],
    /// Zero.
    pub reserved: u32,
    /// Pointer of the caller's structure: zero.
    pub priv_drv_data: u64,
    /// Bytes of private data.
    pub priv_drv_data_size: u32,
    /// How many allocations are listed as written.
    pub num_primaries: u32,
    /// Allocations listed as written.
    pub written_primaries: [Handle; MAX_WRITTEN_PRIMARIES],
    /// How many history buffers.
    pub num_history_buffers: u32,
    /// Zero.
    pub reserved1: u32,
    /// Pointer of the caller's structure: zero.
    pub history_buffer_array: u64,
}

wire_struct!(SubmitCommand = 384);

impl SubmitCommand {
    /// Commands for one context.
    pub fn new(context: Handle, command_buffer: u64, command_length: u32) -> Self {
        let mut body = Self::default();
        body.set(context, command_buffer, command_length);
        body
    }

    /// Makes what is all zero so far commands for one context.
    pub fn set(&mut self, context: Handle, command_buffer: u64, command_length: u32) {
        self.command_buffer = command_buffer;
        self.command_length = command_length;
        self.broadcast_context_count = 1;
        if let Some(first) = self.broadcast_context.first_mut() {
            *first = context;
        }
    }

    /// The contexts.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Count`] when more are announced than fit.
    pub fn contexts(&self) -> Result<&[Handle], DecodeError> {
        first(&self.broadcast_context, self.broadcast_context_count)
    }

    /// The allocations listed as written.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Count`] when more are announced than fit.
    pub fn primaries(&self) -> Result<&[Handle], DecodeError> {
        first(&self.written_primaries, self.num_primaries)
    }
}

fn first(handles: &[Handle], count: u32) -> Result<&[Handle], DecodeError> {
    handles.get(..length(count)).ok_or(DecodeError::Count {
        count,
        limit: handles.len(),
    })
}

/// What follows [`SubmitCommand`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubmitTail<'a> {
    /// Allocations of history buffers.
    pub history_buffers: List<'a, Handle>,
    /// Private data.
    pub private_data: &'a [u8],
}

tail_struct!(SubmitTail: history_buffers, private_data);

impl Command for SubmitCommand {
    const ID: CommandId = CommandId::SubmitCommand;
    type Tail<'a> = SubmitTail<'a>;
    type Reply = NtStatus;
    type ReplyTail<'a> = ();

    fn set_counts(&mut self, tail: &SubmitTail<'_>) -> Result<(), EncodeError> {
        self.num_history_buffers = count(tail.history_buffers.len())?;
        self.priv_drv_data_size = count(tail.private_data.len())?;
        Ok(())
    }

    fn parse_tail<'a>(&self, bytes: &'a [u8]) -> Result<SubmitTail<'a>, DecodeError> {
        let (history_buffers, rest) = List::take(bytes, self.num_history_buffers)?;
        Ok(SubmitTail {
            history_buffers,
            private_data: split(rest, length(self.priv_drv_data_size))?.0,
        })
    }

    fn parse_reply_tail(&self, _reply: &NtStatus, _bytes: &[u8]) -> Result<(), DecodeError> {
        Ok(())
    }
}

impl Work for SubmitCommand {}

/// Submits a command buffer to a hardware queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SubmitCommandToHwQueue {
    /// The queue.
    pub hwqueue: Handle,
    /// Zero.
    pub reserved: u32,
    /// The value the queue's progress fence gets.
    pub hwqueue_progress_fence_id: u64,
    /// GPU address of the commands.
    pub command_buffer: u64,
    /// Bytes of commands.
    pub command_length: u32,
    /// Bytes of private data.
    pub priv_drv_data_size: u32,
    /// Pointer of the caller's structure: zero.
    pub priv_drv_data: u64,
    /// How many allocations are listed as written.
    pub num_primaries: u32,
    /// Zero.
    pub reserved1: u32,
    /// Pointer of the caller's structure: zero.
    pub written_primaries: u64,
}

wire_struct!(SubmitCommandToHwQueue = 56);

/// What follows [`SubmitCommandToHwQueue`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubmitToHwQueueTail<'a> {
    /// Allocations listed as written.
    pub written_primaries: List<'a, Handle>,
    /// Private data.
    pub private_data: &'a [u8],
}

tail_struct!(SubmitToHwQueueTail: written_primaries, private_data);

impl Command for SubmitCommandToHwQueue {
    const ID: CommandId = CommandId::SubmitCommandToHwQueue;
    type Tail<'a> = SubmitToHwQueueTail<'a>;
    type Reply = NtStatus;
    type ReplyTail<'a> = ();

    fn set_counts(&mut self, tail: &SubmitToHwQueueTail<'_>) -> Result<(), EncodeError> {
        self.num_primaries = count(tail.written_primaries.len())?;
        self.priv_drv_data_size = count(tail.private_data.len())?;
        Ok(())
    }

    fn parse_tail<'a>(&self, bytes: &'a [u8]) -> Result<SubmitToHwQueueTail<'a>, DecodeError> {
        let (written_primaries, rest) = List::take(bytes, self.num_primaries)?;
        Ok(SubmitToHwQueueTail {
            written_primaries,
            private_data: split(rest, length(self.priv_drv_data_size))?.0,
        })
    }

    fn parse_reply_tail(&self, _reply: &NtStatus, _bytes: &[u8]) -> Result<(), DecodeError> {
        Ok(())
    }
}
