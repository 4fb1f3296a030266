// SPDX-License-Identifier: GPL-2.0-only

//! Standard allocations: those the host knows without private data of a driver (protocol 3.5).

use super::codes::{
    DriverStandardAllocationType, GdiSurfaceType, StandardAllocationType, SurfaceFormat,
};
use super::command::{reply, Command};
use super::commands::CommandId;
use super::discovery::Version;
use super::error::DecodeError;
use super::flags::StandardAllocationFlags;
use super::list::tail_struct;
use super::status::NtStatus;
use super::wire::{align8, length, split, wire_struct};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The resource data of CREATEALLOCATION for a standard allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct StandardAllocation {
    /// Which kind.
    pub kind: StandardAllocationType,
    /// Zero.
    pub reserved: u32,
    /// Bytes; a multiple of the page size.
    pub size: u64,
    /// How.
    pub flags: StandardAllocationFlags,
    /// Zero.
    pub reserved1: u32,
}

wire_struct!(StandardAllocation = 24);

/// Asks the host's driver for the private data of a standard allocation.
///
/// Asked twice: with both sizes 0 to learn them, then with them to get the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GetStandardAllocationDriverData {
    /// Which kind; a guest asks for GDI surfaces only.
    pub alloc_type: DriverStandardAllocationType,
    /// Bytes wanted of the allocation's data.
    pub priv_driver_data_size: u32,
    /// Bytes wanted of the resource's data.
    pub priv_driver_resource_size: u32,
    /// Which GPU of a linked group.
    pub physical_adapter_index: u32,
    /// The surface.
    pub surface: GdiSurface,
}

wire_struct!(GetStandardAllocationDriverData = 40);

/// A surface, and how to describe a heap as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GdiSurface {
    /// Width; bytes of the heap.
    pub width: u32,
    /// Height; 1.
    pub height: u32,
    /// Format; unknown.
    pub format: SurfaceFormat,
    /// Kind; cross-adapter texture.
    pub kind: GdiSurfaceType,
    /// Flags; zero.
    pub flags: u32,
    /// Pitch; zero.
    pub pitch: u32,
}

wire_struct!(GdiSurface = 24);

impl GetStandardAllocationDriverData {
    /// Asks about a heap of `size` bytes, with room for data of these sizes.
    pub fn heap(size: u32, data_size: u32, resource_size: u32) -> Self {
        Self {
            alloc_type: DriverStandardAllocationType::GDI_SURFACE,
            priv_driver_data_size: data_size,
            priv_driver_resource_size: resource_size,
            physical_adapter_index: 0,
            surface: GdiSurface {
                width: size,
                height: 1,
                format: SurfaceFormat::UNKNOWN,
                kind: GdiSurfaceType::TEXTURE_CROSS_ADAPTER,
                flags: 0,
                pitch: 0,
            },
        }
    }
}

impl Command for GetStandardAllocationDriverData {
    const ID: CommandId = CommandId::GetStandardAllocationDriverData;
    type Tail<'a> = ();
    type Reply = StandardAllocationDriverData;
    type ReplyTail<'a> = StandardAllocationData<'a>;

    fn parse_tail(&self, _bytes: &[u8]) -> Result<(), DecodeError> {
        Ok(())
    }

    fn reply_len(&self, _tail: &(), _version: Version) -> usize {
        align8(
            size_of::<StandardAllocationDriverData>()
                .saturating_add(length(self.priv_driver_data_size))
                .saturating_add(length(self.priv_driver_resource_size)),
        )
    }

    /// No data unless it was asked for; the sizes in the reply must be those asked for then.
    fn parse_reply_tail<'a>(
        &self,
        _reply: &StandardAllocationDriverData,
        bytes: &'a [u8],
    ) -> Result<StandardAllocationData<'a>, DecodeError> {
        let (allocation, rest) = split(bytes, length(self.priv_driver_data_size))?;
        let (resource, _) = split(rest, length(self.priv_driver_resource_size))?;
        Ok(StandardAllocationData {
            allocation,
            resource,
        })
    }
}

/// The sizes of the data, which follows if it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct StandardAllocationDriverData {
    /// Success or not.
    pub status: NtStatus,
    /// Bytes of the allocation's data.
    pub priv_driver_data_size: u32,
    /// Bytes of the resource's data.
    pub priv_driver_resource_size: u32,
    /// The surface.
    pub surface: GdiSurface,
}

wire_struct!(StandardAllocationDriverData = 36);
reply!(StandardAllocationDriverData, status);

/// What follows [`StandardAllocationDriverData`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StandardAllocationData<'a> {
    /// The allocation's data.
    pub allocation: &'a [u8],
    /// The resource's data.
    pub resource: &'a [u8],
}

tail_struct!(StandardAllocationData: allocation, resource);
