// SPDX-License-Identifier: GPL-2.0-only

//! Residency: making allocations usable and giving their memory back (protocol 4.6).

use super::codes::{OfferPriority, ReclaimResult, ResidencyStatus};
use super::command::{list_command, reply, Command};
use super::commands::CommandId;
use super::discovery::Version;
use super::error::{DecodeError, EncodeError};
use super::flags::{EvictFlags, MakeResidentFlags, OfferFlags};
use super::handle::Handle;
use super::list::List;
use super::status::NtStatus;
use super::wire::{align8, count, length, wire_struct, Bool8, PackedU64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Makes allocations resident through a paging queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct MakeResident {
    /// None.
    pub device: Handle,
    /// The paging queue.
    pub paging_queue: Handle,
    /// How.
    pub flags: MakeResidentFlags,
    /// How many allocations.
    pub alloc_count: u32,
}

wire_struct!(MakeResident = 16);
list_command!(MakeResident: alloc_count of Handle, slack 4 => MakeResidentReply);

/// When they are resident, or what is in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct MakeResidentReply {
    /// Value of the paging queue's fence that says so.
    pub paging_fence_value: u64,
    /// Bytes the process has to free when memory is short.
    pub num_bytes_to_trim: u64,
    /// Success, [`NtStatus::PENDING`] or not.
    pub status: NtStatus,
    /// Padding.
    pub _pad: u32,
}

wire_struct!(MakeResidentReply = 24);
reply!(MakeResidentReply, status);

/// Takes back the residency of allocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Evict {
    /// The device.
    pub device: Handle,
    /// How.
    pub flags: EvictFlags,
    /// How many allocations.
    pub alloc_count: u32,
}

wire_struct!(Evict = 12);
list_command!(Evict: alloc_count of Handle, slack 0 => EvictReply);

/// What is still to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct EvictReply {
    /// Bytes the process has to free.
    pub num_bytes_to_trim: u64,
}

wire_struct!(EvictReply = 8);
reply!(EvictReply, short);

/// Lets the host take the memory of allocations or resources when it needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct OfferAllocations {
    /// The device.
    pub device: Handle,
    /// How many.
    pub allocation_count: u32,
    /// How dear they are.
    pub priority: OfferPriority,
    /// How.
    pub flags: OfferFlags,
    /// Whether the handles are resources.
    pub resources: Bool8,
    /// Padding.
    pub _pad: [u8; 3],
}

wire_struct!(OfferAllocations = 20);
list_command!(OfferAllocations: allocation_count of Handle, slack 0 => NtStatus);

/// Takes offered allocations or resources back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ReclaimAllocations {
    /// The device of the paging queue.
    pub device: Handle,
    /// The paging queue.
    pub paging_queue: Handle,
    /// How many.
    pub allocation_count: u32,
    /// Whether the handles are resources.
    pub resources: Bool8,
    /// Whether a result for each is wanted.
    pub write_results: Bool8,
    /// Padding.
    pub _pad: [u8; 2],
}

wire_struct!(ReclaimAllocations = 16);

impl Command for ReclaimAllocations {
    const ID: CommandId = CommandId::ReclaimAllocations;
    type Tail<'a> = List<'a, Handle>;
    type Reply = ReclaimAllocationsReply;
    /// One result for each, if they were asked for.
    type ReplyTail<'a> = List<'a, ReclaimResult>;

    fn set_counts(&mut self, tail: &List<'_, Handle>) -> Result<(), EncodeError> {
        self.allocation_count = count(tail.len())?;
        Ok(())
    }

    fn parse_tail<'a>(&self, bytes: &'a [u8]) -> Result<List<'a, Handle>, DecodeError> {
        Ok(List::take(bytes, self.allocation_count)?.0)
    }

    fn slack(&self) -> usize {
        4
    }

    fn reply_len(&self, _tail: &List<'_, Handle>, _version: Version) -> usize {
        let results = length(self.results()).saturating_mul(size_of::<ReclaimResult>());
        align8(size_of::<ReclaimAllocationsReply>().saturating_add(results)).max(16)
    }

    fn parse_reply_tail<'a>(
        &self,
        _reply: &ReclaimAllocationsReply,
        bytes: &'a [u8],
    ) -> Result<List<'a, ReclaimResult>, DecodeError> {
        Ok(List::take(bytes, self.results())?.0)
    }
}

impl ReclaimAllocations {
    fn results(&self) -> u32 {
        if self.write_results.get() {
            self.allocation_count
        } else {
            0
        }
    }
}

/// When they are back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ReclaimAllocationsReply {
    /// Value of the paging queue's fence that says so.
    pub paging_fence_value: PackedU64,
    /// Success, [`NtStatus::PENDING`] or not.
    pub status: NtStatus,
}

wire_struct!(ReclaimAllocationsReply = 12);
reply!(ReclaimAllocationsReply, status);

/// Asks where allocations, or one resource, are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct QueryAllocationResidency {
    /// The device.
    pub device: Handle,
    /// The resource; then no allocations are listed.
    pub resource: Handle,
    /// Pointer of the caller's structure: zero.
    pub allocations: u64,
    /// How many allocations.
    pub allocation_count: u32,
    /// Zero.
    pub reserved: u32,
    /// Pointer of the caller's structure: zero.
    pub residency_status: u64,
}

wire_struct!(QueryAllocationResidency = 32);

impl Command for QueryAllocationResidency {
    const ID: CommandId = CommandId::QueryAllocationResidency;
    type Tail<'a> = List<'a, Handle>;
    type Reply = QueryAllocationResidencyReply;
    /// One for each allocation, or one for the resource.
    type ReplyTail<'a> = List<'a, ResidencyStatus>;

    fn set_counts(&mut self, tail: &List<'_, Handle>) -> Result<(), EncodeError> {
        self.allocation_count = count(tail.len())?;
        Ok(())
    }

    fn parse_tail<'a>(&self, bytes: &'a [u8]) -> Result<List<'a, Handle>, DecodeError> {
        Ok(List::take(bytes, self.allocation_count)?.0)
    }

    fn reply_len(&self, _tail: &List<'_, Handle>, _version: Version) -> usize {
        let answers = length(self.allocation_count.max(1));
        align8(answers.saturating_add(1).saturating_mul(4))
    }

    fn parse_reply_tail<'a>(
        &self,
        _reply: &QueryAllocationResidencyReply,
        bytes: &'a [u8],
    ) -> Result<List<'a, ResidencyStatus>, DecodeError> {
        Ok(List::take(bytes, self.allocation_count.max(1))?.0)
    }
}

/// What stands before the answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct QueryAllocationResidencyReply {
    /// Success or not.
    pub status: NtStatus,
}

wire_struct!(QueryAllocationResidencyReply = 4);
reply!(QueryAllocationResidencyReply, status);
