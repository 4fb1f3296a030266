// SPDX-License-Identifier: GPL-2.0-only

//! Backing an allocation by memory of the guest (protocol 4.7).
//!
//! After CREATEALLOCATION answered with the size, the guest gives the pages: as a GPADL
//! established on the global channel, or, if the host can, as page numbers in one message or more.
//! It frees them only after DESTROYALLOCATION was answered.

use super::command::{fixed_command, Command};
use super::commands::CommandId;
use super::error::{DecodeError, EncodeError};
use super::handle::Handle;
use super::limits::MAX_PAGES_PER_MESSAGE;
use super::list::List;
use super::status::NtStatus;
use super::wire::{count, length, wire_struct};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Gives an allocation its memory as a GPADL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SetExistingSysmemStore {
    /// The device.
    pub device: Handle,
    /// The allocation.
    pub allocation: Handle,
    /// The GPADL.
    pub gpadl: u32,
    /// Padding.
    pub _pad: u32,
}

wire_struct!(SetExistingSysmemStore = 16);
fixed_command!(SetExistingSysmemStore => NtStatus);

/// Gives an allocation a stretch of its memory as page numbers.
///
/// The message always has room for [`MAX_PAGES_PER_MESSAGE`]; what is not used is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SetExistingSysmemPages {
    /// The device.
    pub device: Handle,
    /// The allocation.
    pub allocation: Handle,
    /// How many pages.
    pub num_pages: u32,
    /// Which page of the allocation the first one is.
    pub alloc_offset_in_pages: u32,
}

wire_struct!(SetExistingSysmemPages = 16);

impl Command for SetExistingSysmemPages {
    const ID: CommandId = CommandId::SetExistingSysmemPages;
    /// Guest page numbers.
    type Tail<'a> = List<'a, u64>;
    type Reply = NtStatus;
    type ReplyTail<'a> = ();

    fn set_counts(&mut self, tail: &List<'_, u64>) -> Result<(), EncodeError> {
        if tail.len() > MAX_PAGES_PER_MESSAGE {
            return Err(EncodeError::TooLong {
                len: tail.len(),
                limit: MAX_PAGES_PER_MESSAGE,
            });
        }
        self.num_pages = count(tail.len())?;
        Ok(())
    }

    fn parse_tail<'a>(&self, bytes: &'a [u8]) -> Result<List<'a, u64>, DecodeError> {
        Ok(List::take(bytes, self.num_pages)?.0)
    }

    fn slack(&self) -> usize {
        let unused = MAX_PAGES_PER_MESSAGE.saturating_sub(length(self.num_pages));
        unused.saturating_mul(size_of::<u64>())
    }

    fn parse_reply_tail(&self, _reply: &NtStatus, _bytes: &[u8]) -> Result<(), DecodeError> {
        Ok(())
    }
}
