// SPDX-License-Identifier: GPL-2.0-only

//! The private channel between a user-mode driver and the host's driver (protocol 3.5, 4.11).

use super::codes::{EscapeType, KnownEscapeType};
use super::command::{Command, NoFixedReply};
use super::commands::CommandId;
use super::discovery::Version;
use super::error::{DecodeError, EncodeError};
use super::flags::EscapeFlags;
use super::handle::Handle;
use super::wire::{count, length, split, wire_struct};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Takes private data to the host's driver and brings it back.
///
/// The reply is the data and nothing else, so a failure of the escape itself shows only where
/// there is more data than a status has bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Escape {
    /// The adapter's handle of the host.
    pub adapter: Handle,
    /// The device, or none.
    pub device: Handle,
    /// What for.
    pub kind: EscapeType,
    /// How.
    pub flags: EscapeFlags,
    /// Bytes of private data.
    pub priv_drv_data_size: u32,
    /// The context, or none.
    pub context: Handle,
}

wire_struct!(Escape = 24);

impl Command for Escape {
    const ID: CommandId = CommandId::Escape;
    type Tail<'a> = &'a [u8];
    type Reply = NoFixedReply;
    type ReplyTail<'a> = &'a [u8];

    fn set_counts(&mut self, tail: &&[u8]) -> Result<(), EncodeError> {
        self.priv_drv_data_size = count(tail.len())?;
        Ok(())
    }

    fn parse_tail<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8], DecodeError> {
        Ok(split(bytes, length(self.priv_drv_data_size))?.0)
    }

    fn slack(&self) -> usize {
        7
    }

    fn reply_len(&self, tail: &&[u8], _version: Version) -> usize {
        tail.len()
    }

    fn parse_reply_tail<'a>(
        &self,
        _reply: &NoFixedReply,
        bytes: &'a [u8],
    ) -> Result<&'a [u8], DecodeError> {
        self.parse_tail(bytes)
    }
}

/// Private data of the known escape that builds a test command buffer.
///
/// Room for the buffer and for its private data follows, in the request and in the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct BuildTestCommandBuffer {
    /// [`KnownEscapeType::BUILD_TEST_COMMAND_BUFFER`].
    pub escape_type: KnownEscapeType,
    /// The device.
    pub device: Handle,
    /// The context.
    pub context: Handle,
    /// How.
    pub flags: u32,
    /// The command to build.
    pub command: [u8; 72],
    /// Pointer of the caller's structure: zero.
    pub dma_buffer: u64,
    /// Pointer of the caller's structure: zero.
    pub dma_buffer_priv_data: u64,
    /// Bytes of room for the buffer.
    pub dma_buffer_size: u32,
    /// Bytes of room for its private data.
    pub dma_buffer_priv_data_size: u32,
}

wire_struct!(BuildTestCommandBuffer = 112);
