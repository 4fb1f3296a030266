// SPDX-License-Identifier: GPL-2.0-only

//! Priorities of contexts and allocations.

use super::command::{fixed_command, reply, Command};
use super::commands::CommandId;
use super::discovery::Version;
use super::error::{DecodeError, EncodeError};
use super::handle::Handle;
use super::list::{tail_struct, List};
use super::status::NtStatus;
use super::wire::{align8, count, length, wire_struct, Bool8};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Sets the scheduling priority of a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SetContextSchedulingPriority {
    /// The context.
    pub context: Handle,
    /// The priority.
    pub priority: i32,
    /// Whether it orders contexts of the process only.
    pub in_process: Bool8,
    /// Padding.
    pub _pad: [u8; 7],
}

wire_struct!(SetContextSchedulingPriority = 16);
fixed_command!(SetContextSchedulingPriority => NtStatus);

/// Asks for the scheduling priority of a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GetContextSchedulingPriority {
    /// The context.
    pub context: Handle,
    /// Whether the one within the process is meant.
    pub in_process: Bool8,
    /// Padding.
    pub _pad: [u8; 3],
}

wire_struct!(GetContextSchedulingPriority = 8);
fixed_command!(GetContextSchedulingPriority => GetContextSchedulingPriorityReply);

/// The scheduling priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GetContextSchedulingPriorityReply {
    /// Success or not.
    pub status: NtStatus,
    /// The priority.
    pub priority: i32,
}

wire_struct!(GetContextSchedulingPriorityReply = 8);
reply!(GetContextSchedulingPriorityReply, status);

/// Sets the residency priority of allocations, or of one resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SetAllocationPriority {
    /// The device.
    pub device: Handle,
    /// The resource; then no allocations are listed.
    pub resource: Handle,
    /// How many allocations.
    pub allocation_count: u32,
    /// Padding.
    pub _pad: u32,
}

wire_struct!(SetAllocationPriority = 16);

/// What follows [`SetAllocationPriority`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PriorityTail<'a> {
    /// The allocations; none for a resource.
    pub allocations: List<'a, Handle>,
    /// One for each allocation, or one for the resource.
    pub priorities: List<'a, u32>,
}

tail_struct!(PriorityTail: allocations, priorities);

impl Command for SetAllocationPriority {
    const ID: CommandId = CommandId::SetAllocationPriority;
    type Tail<'a> = PriorityTail<'a>;
    type Reply = NtStatus;
    type ReplyTail<'a> = ();

    fn set_counts(&mut self, tail: &PriorityTail<'_>) -> Result<(), EncodeError> {
        let (first, second) = (tail.allocations.len(), tail.priorities.len());
        if first.max(1) != second {
            return Err(EncodeError::Mismatch { first, second });
        }
        self.allocation_count = count(first)?;
        Ok(())
    }

    fn parse_tail<'a>(&self, bytes: &'a [u8]) -> Result<PriorityTail<'a>, DecodeError> {
        let (allocations, rest) = List::take(bytes, self.allocation_count)?;
        let (priorities, _) = List::take(rest, self.allocation_count.max(1))?;
        Ok(PriorityTail {
            allocations,
            priorities,
        })
    }

    fn parse_reply_tail(&self, _reply: &NtStatus, _bytes: &[u8]) -> Result<(), DecodeError> {
        Ok(())
    }
}

/// Asks for the residency priority of allocations, or of one resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GetAllocationPriority {
    /// The device.
    pub device: Handle,
    /// The resource; then no allocations are listed.
    pub resource: Handle,
    /// How many allocations.
    pub allocation_count: u32,
    /// Padding.
    pub _pad: u32,
}

wire_struct!(GetAllocationPriority = 16);

impl Command for GetAllocationPriority {
    const ID: CommandId = CommandId::GetAllocationPriority;
    type Tail<'a> = List<'a, Handle>;
    type Reply = GetAllocationPriorityReply;
    /// One for each allocation, or one for the resource.
    type ReplyTail<'a> = List<'a, u32>;

    fn set_counts(&mut self, tail: &List<'_, Handle>) -> Result<(), EncodeError> {
        self.allocation_count = count(tail.len())?;
        Ok(())
    }

    fn parse_tail<'a>(&self, bytes: &'a [u8]) -> Result<List<'a, Handle>, DecodeError> {
        Ok(List::take(bytes, self.allocation_count)?.0)
    }

    /// The message has as much room at its end as the reply takes.
    fn slack(&self) -> usize {
        let priorities = length(self.allocation_count.max(1));
        align8(priorities.saturating_add(1).saturating_mul(4))
    }

    fn reply_len(&self, _tail: &List<'_, Handle>, _version: Version) -> usize {
        self.slack()
    }

    fn parse_reply_tail<'a>(
        &self,
        _reply: &GetAllocationPriorityReply,
        bytes: &'a [u8],
    ) -> Result<List<'a, u32>, DecodeError> {
        Ok(List::take(bytes, self.allocation_count.max(1))?.0)
    }
}

/// What stands before the priorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GetAllocationPriorityReply {
    /// Success or not.
    pub status: NtStatus,
}

wire_struct!(GetAllocationPriorityReply = 4);
reply!(GetAllocationPriorityReply, status);
