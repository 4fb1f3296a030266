// SPDX-License-Identifier: GPL-2.0-only

//! Execution contexts on a node of the GPU (protocol 4.5).

use super::codes::ClientHint;
use super::command::{fixed_command, reply, Command};
use super::commands::CommandId;
use super::discovery::Version;
use super::error::{DecodeError, EncodeError};
use super::flags::CreateContextFlags;
use super::handle::Handle;
use super::header::CommandHeader;
use super::status::NtStatus;
use super::wire::{count, length, split, wire_struct};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Creates a context. Private data goes in and comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CreateContextVirtual {
    /// None in the request; the context in the reply, none on failure.
    pub context: Handle,
    /// The device.
    pub device: Handle,
    /// The node it runs on.
    pub node_ordinal: u32,
    /// Which engines of the node.
    pub engine_affinity: u32,
    /// How.
    pub flags: CreateContextFlags,
    /// Who asks.
    pub client_hint: ClientHint,
    /// Bytes of private data.
    pub priv_drv_data_size: u32,
}

wire_struct!(CreateContextVirtual = 28);

impl Command for CreateContextVirtual {
    const ID: CommandId = CommandId::CreateContextVirtual;
    type Tail<'a> = &'a [u8];
    type Reply = CreateContextVirtualReply;
    type ReplyTail<'a> = &'a [u8];

    fn set_counts(&mut self, tail: &&[u8]) -> Result<(), EncodeError> {
        self.priv_drv_data_size = count(tail.len())?;
        Ok(())
    }

    fn parse_tail<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8], DecodeError> {
        Ok(split(bytes, length(self.priv_drv_data_size))?.0)
    }

    fn slack(&self) -> usize {
        3
    }

    fn reply_len(&self, _tail: &&[u8], _version: Version) -> usize {
        size_of::<CreateContextVirtualReply>()
            .saturating_add(length(self.priv_drv_data_size))
            .saturating_add(self.slack())
    }

    fn parse_reply_tail<'a>(
        &self,
        _reply: &CreateContextVirtualReply,
        bytes: &'a [u8],
    ) -> Result<&'a [u8], DecodeError> {
        self.parse_tail(bytes)
    }
}

/// The request again, completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CreateContextVirtualReply {
    /// A command header; not looked at.
    pub header: CommandHeader,
    /// The request with the context filled in.
    pub body: CreateContextVirtual,
}

wire_struct!(CreateContextVirtualReply = 52);
reply!(CreateContextVirtualReply, zero);

/// Destroys a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct DestroyContext {
    /// The context.
    pub context: Handle,
    /// Padding.
    pub _pad: u32,
}

wire_struct!(DestroyContext = 8);
fixed_command!(DestroyContext => NtStatus);
