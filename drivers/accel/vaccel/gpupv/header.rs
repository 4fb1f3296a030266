// SPDX-License-Identifier: GPL-2.0-only

//! The headers in front of every message (protocol 2.2 and 2.4).
//!
//! Commands to a virtual GPU, global commands and host-to-guest messages have headers of one
//! shape; the channel type tells them apart. From version 40 on an extended header stands before
//! guest-to-host commands, never before replies and host-to-guest messages.

use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::handle::Handle;
use super::ids::Luid;
use super::wire::{wire_struct, PackedU64};

/// Stands before guest-to-host commands from version 40 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ExtHeader {
    /// Bytes from the start of the message to the command header.
    pub command_offset: u32,
    /// Zero.
    pub reserved: u32,
    /// The virtual GPU an adapter command is for; zero for global commands.
    pub vgpu_luid: Luid,
}

wire_struct!(ExtHeader = 16);

impl ExtHeader {
    /// The header before a command for `vgpu_luid`.
    pub const fn new(vgpu_luid: Luid) -> Self {
        Self {
            command_offset: 16,
            reserved: 0,
            vgpu_luid,
        }
    }
}

/// Who speaks to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelType {
    /// A guest to a virtual GPU.
    Adapter,
    /// A guest to its host as a whole.
    Global,
    /// The host to the guest.
    HostToGuest,
}

impl ChannelType {
    /// The number in a header.
    pub const fn raw(self) -> u32 {
        match self {
            Self::Adapter => 0,
            Self::Global => 1,
            Self::HostToGuest => 2,
        }
    }
}

/// Channel type and asynchronous bit of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(transparent)]
pub struct ChannelWord(u32);

wire_struct!(ChannelWord = 4);

impl ChannelWord {
    const ASYNC: u32 = 1 << 8;

    /// The word of a message.
    pub const fn new(channel: ChannelType, asynchronous: bool) -> Self {
        if asynchronous {
            Self(channel.raw() | Self::ASYNC)
        } else {
            Self(channel.raw())
        }
    }

    /// The whole word.
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// The number of the channel type.
    pub const fn channel_type(self) -> u32 {
        self.0 & 0xff
    }

    /// Whether the sender expects no reply.
    pub const fn is_async(self) -> bool {
        self.0 & Self::ASYNC != 0
    }
}

/// The header of every message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CommandHeader {
    /// Zero.
    pub command_id: PackedU64,
    /// Host process the command is for, or none.
    pub process: Handle,
    /// Channel type and asynchronous bit.
    pub channel: ChannelWord,
    /// Number of the command on that channel.
    pub command_type: u32,
    /// Padding.
    pub _pad: u32,
}

wire_struct!(CommandHeader = 24);

impl CommandHeader {
    /// A header.
    pub const fn new(
        channel: ChannelType,
        asynchronous: bool,
        process: Handle,
        command_type: u32,
    ) -> Self {
        Self {
            command_id: PackedU64::new(0),
            process,
            channel: ChannelWord::new(channel, asynchronous),
            command_type,
            _pad: 0,
        }
    }
}
