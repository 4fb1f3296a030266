// SPDX-License-Identifier: GPL-2.0-only

//! Why a message could not be written, read, or was answered with a failure.

use core::fmt;

use super::status::NtStatus;

/// A message that cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodeError {
    /// The caller's buffer is too small.
    NoRoom {
        /// Bytes wanted, at least.
        needed: usize,
        /// Bytes there are.
        room: usize,
    },
    /// The message, or one of its counts, is above what the protocol allows.
    TooLong {
        /// The length or count asked for.
        len: usize,
        /// The largest there can be.
        limit: usize,
    },
    /// Lists that belong together differ in length.
    Mismatch {
        /// Entries of the first list.
        first: usize,
        /// Entries of the other.
        second: usize,
    },
    /// An asynchronous message was asked for, of a command that always has a reply.
    NotAsynchronous,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoom { needed, room } => {
                write!(f, "message needs {needed} bytes, the buffer has {room}")
            }
            Self::TooLong { len, limit } => {
                write!(f, "length {len} is above the protocol's limit {limit}")
            }
            Self::Mismatch { first, second } => {
                write!(f, "lists of {first} and {second} entries do not match")
            }
            Self::NotAsynchronous => write!(f, "this command cannot be sent asynchronously"),
        }
    }
}

impl core::error::Error for EncodeError {}

/// Bytes that are not the message they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The message ends too early.
    Short {
        /// Bytes wanted.
        needed: usize,
        /// Bytes found.
        got: usize,
    },
    /// The extended header names an impossible place for the command header.
    CommandOffset(u32),
    /// The channel type is none that a guest may use.
    ChannelType(u32),
    /// No such command exists on that channel.
    UnknownCommand {
        /// The channel type in the header.
        channel_type: u32,
        /// The command number in the header.
        number: u32,
    },
    /// The message is another command than the one asked for.
    WrongCommand {
        /// The number asked for.
        expected: u32,
        /// The number in the header.
        got: u32,
    },
    /// A count is above what its fixed array can hold.
    Count {
        /// The count in the message.
        count: u32,
        /// Entries the array has.
        limit: usize,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short { needed, got } => write!(f, "{needed} bytes expected, {got} found"),
            Self::CommandOffset(offset) => write!(f, "command offset {offset} is impossible"),
            Self::ChannelType(channel) => write!(f, "channel type {channel} is not a guest's"),
            Self::UnknownCommand {
                channel_type,
                number,
            } => write!(f, "no command {number} on channel type {channel_type}"),
            Self::WrongCommand { expected, got } => {
                write!(f, "command {expected} expected, {got} found")
            }
            Self::Count { count, limit } => write!(f, "count {count} is above {limit}"),
        }
    }
}

impl core::error::Error for DecodeError {}

/// A reply that carries no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyError {
    /// The host refused; this is its status.
    Failed(NtStatus),
    /// The reply is not what the command returns, and no failure status either.
    Malformed(DecodeError),
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(status) => write!(f, "the host answered {status}"),
            Self::Malformed(error) => write!(f, "malformed reply: {error}"),
        }
    }
}

impl core::error::Error for ReplyError {}
