// SPDX-License-Identifier: GPL-2.0-only

//! Allocations and resources: creation and destruction (protocol 4.7).
//!
//! An allocation stands alone or belongs to a resource. The host answers with the size and the
//! private data of each.

use super::command::{list_command, reply, Command};
use super::commands::CommandId;
use super::discovery::Version;
use super::error::{DecodeError, EncodeError};
use super::flags::{
    AllocationFlags, AllocationInfoFlags, CreateAllocationFlags, DestroyAllocationFlags,
};
use super::handle::Handle;
use super::list::{tail_struct, List};
use super::status::NtStatus;
use super::wire::{count, length, split, wire_struct, Bool8};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Creates allocations, and a resource around them if asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CreateAllocation {
    /// The device.
    pub device: Handle,
    /// Resource to add to, or none.
    pub resource: Handle,
    /// Bytes of private data of the runtime.
    pub private_runtime_data_size: u32,
    /// Bytes of private data of the resource.
    pub priv_drv_data_size: u32,
    /// How many allocations.
    pub alloc_count: u32,
    /// How.
    pub flags: CreateAllocationFlags,
    /// Cookie of the caller.
    pub private_runtime_resource_handle: u64,
    /// False.
    pub make_resident: Bool8,
    /// Padding.
    pub _pad: [u8; 7],
}

wire_struct!(CreateAllocation = 40);

/// One of the allocations to create.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct AllocationInfo {
    /// Properties.
    pub flags: AllocationInfoFlags,
    /// Bytes of its private data.
    pub priv_drv_data_size: u32,
    /// Not used.
    pub vidpn_source_id: u32,
}

wire_struct!(AllocationInfo = 12);

/// What follows [`CreateAllocation`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CreateAllocationTail<'a> {
    /// The allocations.
    pub infos: List<'a, AllocationInfo>,
    /// Private data of the runtime.
    pub runtime_data: &'a [u8],
    /// Private data of the resource, or a [`StandardAllocation`](super::StandardAllocation).
    pub resource_data: &'a [u8],
    /// Private data of the allocations, back to back, in their order.
    pub allocation_data: &'a [u8],
}

tail_struct!(CreateAllocationTail: infos, runtime_data, resource_data, allocation_data);

impl<'a> CreateAllocationTail<'a> {
    /// The allocations, each with its private data.
    pub fn allocations(&self) -> impl Iterator<Item = (AllocationInfo, &'a [u8])> + 'a {
        let mut data = self.allocation_data;
        self.infos.iter().map(move |info| {
            let len = length(info.priv_drv_data_size);
            let (own, rest) = data.split_at_checked(len).unwrap_or((data, &[]));
            data = rest;
            (info, own)
        })
    }
}

fn total(sizes: impl Iterator<Item = u32>) -> usize {
    sizes.fold(0, |sum: usize, size| sum.saturating_add(length(size)))
}

impl Command for CreateAllocation {
    const ID: CommandId = CommandId::CreateAllocation;
    type Tail<'a> = CreateAllocationTail<'a>;
    type Reply = CreateAllocationReply;
    type ReplyTail<'a> = CreatedAllocations<'a>;

    fn set_counts(&mut self, tail: &CreateAllocationTail<'_>) -> Result<(), EncodeError> {
        let announced = total(tail.infos.iter().map(|info| info.priv_drv_data_size));
        if announced != tail.allocation_data.len() {
            return Err(EncodeError::Mismatch {
                first: announced,
                second: tail.allocation_data.len(),
            });
        }
        self.alloc_count = count(tail.infos.len())?;
        self.private_runtime_data_size = count(tail.runtime_data.len())?;
        self.priv_drv_data_size = count(tail.resource_data.len())?;
        Ok(())
    }

    fn parse_tail<'a>(&self, bytes: &'a [u8]) -> Result<CreateAllocationTail<'a>, DecodeError> {
        let (infos, rest) = List::<AllocationInfo>::take(bytes, self.alloc_count)?;
        let (runtime_data, rest) = split(rest, length(self.private_runtime_data_size))?;
        let (resource_data, rest) = split(rest, length(self.priv_drv_data_size))?;
        let data = total(infos.iter().map(|info| info.priv_drv_data_size));
        Ok(CreateAllocationTail {
            infos,
            runtime_data,
            resource_data,
            allocation_data: split(rest, data)?.0,
        })
    }

    fn reply_len(&self, tail: &CreateAllocationTail<'_>, _version: Version) -> usize {
        let entries = tail
            .infos
            .len()
            .saturating_mul(size_of::<CreatedAllocation>());
        size_of::<CreateAllocationReply>()
            .saturating_add(entries)
            .saturating_add(tail.allocation_data.len())
    }

    fn parse_reply_tail<'a>(
        &self,
        _reply: &CreateAllocationReply,
        bytes: &'a [u8],
    ) -> Result<CreatedAllocations<'a>, DecodeError> {
        let (entries, rest) = List::<CreatedAllocation>::take(bytes, self.alloc_count)?;
        let data = total(entries.iter().map(|entry| entry.priv_drv_data_size));
        Ok(CreatedAllocations {
            entries,
            data: split(rest, data)?.0,
        })
    }
}

/// What stands before the created allocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CreateAllocationReply {
    /// How they were created.
    pub flags: CreateAllocationFlags,
    /// The resource, if one was asked for.
    pub resource: Handle,
    /// Not used.
    pub global_share: Handle,
    /// Not used.
    pub vgpu_flags: u32,
}

wire_struct!(CreateAllocationReply = 16);
reply!(CreateAllocationReply, short);

/// A created allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CreatedAllocation {
    /// The allocation.
    pub allocation: Handle,
    /// Bytes of private data returned for it.
    pub priv_drv_data_size: u32,
    /// What it became.
    pub flags: AllocationFlags,
    /// Padding.
    pub _pad: u32,
    /// Bytes.
    pub size: u64,
    /// What the host's driver says about it; not used.
    pub driver_info: AllocationDescription,
}

wire_struct!(CreatedAllocation = 72);

/// An allocation as the host's driver describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct AllocationDescription {
    /// Cookie of the host.
    pub allocation: u64,
    /// Width.
    pub width: u32,
    /// Height.
    pub height: u32,
    /// Format.
    pub format: u32,
    /// Multisampling.
    pub multisample_method: u32,
    /// Refresh rate, numerator.
    pub refresh_rate_numerator: u32,
    /// Refresh rate, denominator.
    pub refresh_rate_denominator: u32,
    /// Private to the driver.
    pub private_driver_attribute: u32,
    /// Flags.
    pub flags: u32,
    /// Rotation.
    pub rotation: u32,
    /// Padding.
    pub _pad: u32,
}

wire_struct!(AllocationDescription = 48);

/// What follows [`CreateAllocationReply`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CreatedAllocations<'a> {
    /// The allocations.
    pub entries: List<'a, CreatedAllocation>,
    /// Their private data, back to back.
    pub data: &'a [u8],
}

tail_struct!(CreatedAllocations: entries, data);

impl<'a> CreatedAllocations<'a> {
    /// The allocations, each with its private data.
    pub fn allocations(&self) -> impl Iterator<Item = (CreatedAllocation, &'a [u8])> + 'a {
        let mut data = self.data;
        self.entries.iter().map(move |entry| {
            let len = length(entry.priv_drv_data_size);
            let (own, rest) = data.split_at_checked(len).unwrap_or((data, &[]));
            data = rest;
            (entry, own)
        })
    }
}

/// Destroys the listed allocations, or a whole resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct DestroyAllocation {
    /// The device.
    pub device: Handle,
    /// The resource, or none.
    pub resource: Handle,
    /// How many allocations.
    pub alloc_count: u32,
    /// How.
    pub flags: DestroyAllocationFlags,
}

wire_struct!(DestroyAllocation = 16);

list_command!(DestroyAllocation: alloc_count of Handle, slack 8 => NtStatus);
