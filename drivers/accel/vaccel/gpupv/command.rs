// SPDX-License-Identifier: GPL-2.0-only

//! What a command and a reply are.
//!
//! Adding a command is one structure (its fixed part), one entry in [`CommandId`], and one
//! [`Command`] implementation.

use super::commands::CommandId;
use super::discovery::Version;
use super::error::{DecodeError, EncodeError};
use super::list::Tail;
use super::status::NtStatus;
use super::wire::Wire;

/// A guest-to-host command: the fixed part that follows the 24-byte header.
pub trait Command: Wire {
    /// Which command this is.
    const ID: CommandId;

    /// What follows the fixed part.
    type Tail<'a>: Tail;

    /// The fixed part of the reply.
    type Reply: Reply;

    /// What follows the fixed part of the reply.
    type ReplyTail<'a>: Tail;

    /// Writes the counts of `tail` into the fixed part.
    ///
    /// # Errors
    ///
    /// When the parts of `tail` contradict each other or a count does not fit.
    fn set_counts(&mut self, _tail: &Self::Tail<'_>) -> Result<(), EncodeError> {
        Ok(())
    }

    /// Reads what follows the fixed part, by the counts in it. Bytes left over are no error.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Short`] when the counts announce more than there is.
    fn parse_tail<'a>(&self, bytes: &'a [u8]) -> Result<Self::Tail<'a>, DecodeError>;

    /// Zero bytes that the message carries after its last part.
    fn slack(&self) -> usize {
        0
    }

    /// How many bytes of the reply structure a host of this version sends.
    fn reply_fixed_len(_version: Version) -> usize {
        size_of::<Self::Reply>()
    }

    /// How long a reply has to be so that every guest accepts it.
    fn reply_len(&self, _tail: &Self::Tail<'_>, version: Version) -> usize {
        Self::reply_fixed_len(version)
    }

    /// Reads what follows the fixed part of the reply.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Short`] when the counts announce more than there is.
    fn parse_reply_tail<'a>(
        &self,
        reply: &Self::Reply,
        bytes: &'a [u8],
    ) -> Result<Self::ReplyTail<'a>, DecodeError>;
}

/// Implements [`Command`] for a command without variable parts.
macro_rules! fixed_command {
    ($name:ident => $reply:ty) => {
        impl super::command::Command for $name {
            const ID: super::commands::CommandId = super::commands::CommandId::$name;
            type Tail<'a> = ();
            type Reply = $reply;
            type ReplyTail<'a> = ();

            fn parse_tail(&self, _bytes: &[u8]) -> Result<(), super::error::DecodeError> {
                Ok(())
            }

            fn parse_reply_tail(
                &self,
                _reply: &$reply,
                _bytes: &[u8],
            ) -> Result<(), super::error::DecodeError> {
                Ok(())
            }
        }
    };
}
pub(super) use fixed_command;

/// Implements [`Command`] for a command that ends with a counted list and has a fixed reply.
macro_rules! list_command {
    ($name:ident: $counter:ident of $entry:ty, slack $slack:literal => $reply:ty) => {
        impl super::command::Command for $name {
            const ID: super::commands::CommandId = super::commands::CommandId::$name;
            type Tail<'a> = super::list::List<'a, $entry>;
            type Reply = $reply;
            type ReplyTail<'a> = ();

            fn set_counts(
                &mut self,
                tail: &super::list::List<'_, $entry>,
            ) -> Result<(), super::error::EncodeError> {
                self.$counter = super::wire::count(tail.len())?;
                Ok(())
            }

            fn parse_tail<'a>(
                &self,
                bytes: &'a [u8],
            ) -> Result<super::list::List<'a, $entry>, super::error::DecodeError> {
                Ok(super::list::List::take(bytes, self.$counter)?.0)
            }

            fn slack(&self) -> usize {
                $slack
            }

            fn parse_reply_tail(
                &self,
                _reply: &$reply,
                _bytes: &[u8],
            ) -> Result<(), super::error::DecodeError> {
                Ok(())
            }
        }
    };
}
pub(super) use list_command;

/// The fixed part of a reply.
pub trait Reply: Wire {
    /// The status inside, when this reply has one.
    fn status(&self) -> Option<NtStatus>;

    /// The reply that says `status`, when a reply of full length can say that something failed;
    /// none when a bare, short NTSTATUS has to (protocol 2.7).
    fn failure(status: NtStatus) -> Option<Self>;
}

/// Implements [`Reply`]: with a status inside; without, where zero means failure; or without, where
/// only a short reply can.
macro_rules! reply {
    ($name:ty, status) => {
        impl super::command::Reply for $name {
            fn status(&self) -> Option<super::status::NtStatus> {
                Some(self.status)
            }

            fn failure(status: super::status::NtStatus) -> Option<Self> {
                let mut reply: Self = super::wire::zeroed();
                reply.status = status;
                Some(reply)
            }
        }
    };
    ($name:ty, zero) => {
        impl super::command::Reply for $name {
            fn status(&self) -> Option<super::status::NtStatus> {
                None
            }

            fn failure(_status: super::status::NtStatus) -> Option<Self> {
                Some(Default::default())
            }
        }
    };
    ($name:ty, short) => {
        impl super::command::Reply for $name {
            fn status(&self) -> Option<super::status::NtStatus> {
                None
            }

            fn failure(_status: super::status::NtStatus) -> Option<Self> {
                None
            }
        }
    };
}
pub(super) use reply;

/// The most common reply: a bare status.
impl Reply for NtStatus {
    fn status(&self) -> Option<NtStatus> {
        Some(*self)
    }

    fn failure(status: NtStatus) -> Option<Self> {
        Some(status)
    }
}

/// A reply of which nothing is fixed: no content at all, or raw data.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    zerocopy_derive::FromBytes,
    zerocopy_derive::IntoBytes,
    zerocopy_derive::KnownLayout,
    zerocopy_derive::Immutable,
)]
#[repr(C)]
pub struct NoFixedReply;

super::wire::wire_struct!(NoFixedReply = 0);
reply!(NoFixedReply, short);
