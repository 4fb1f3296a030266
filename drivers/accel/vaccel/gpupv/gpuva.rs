// SPDX-License-Identifier: GPL-2.0-only

//! GPU virtual addresses: reserve, map, free, update (protocol 4.10).
//!
//! Addresses belong to a process and a GPU. Offsets and sizes of a mapping are in pages of 4096
//! bytes, reservations in bytes.

use super::codes::{GpuVaOperationType, ReservationType};
use super::command::{fixed_command, list_command, reply};
use super::flags::{Protection, UpdateGpuVaFlags};
use super::handle::Handle;
use super::status::NtStatus;
use super::wire::wire_struct;
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Reserves a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ReserveGpuVirtualAddress {
    /// The adapter's handle of the host, or a paging queue.
    pub adapter: Handle,
    /// Padding.
    pub _pad0: u32,
    /// Where, or 0.
    pub base_address: u64,
    /// Lowest address, if `base_address` is 0.
    pub minimum_address: u64,
    /// Highest address, if `base_address` is 0.
    pub maximum_address: u64,
    /// Bytes.
    pub size: u64,
    /// What accesses do.
    pub reservation_type: ReservationType,
    /// Padding.
    pub _pad1: u32,
    /// Protection as the user-mode driver defines it.
    pub driver_protection: u64,
    /// Output of the caller's structure: zero.
    pub virtual_address: u64,
    /// Output of the caller's structure: zero.
    pub paging_fence_value: u64,
}

wire_struct!(ReserveGpuVirtualAddress = 72);
fixed_command!(ReserveGpuVirtualAddress => ReserveGpuVirtualAddressReply);

/// The reserved range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ReserveGpuVirtualAddressReply {
    /// Where.
    pub virtual_address: u64,
    /// Not used.
    pub paging_fence_value: u64,
}

wire_struct!(ReserveGpuVirtualAddressReply = 16);
reply!(ReserveGpuVirtualAddressReply, short);

/// Maps a range to an allocation, or to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct MapGpuVirtualAddress {
    /// The paging queue.
    pub paging_queue: Handle,
    /// Padding.
    pub _pad0: u32,
    /// Where, or 0.
    pub base_address: u64,
    /// Lowest address, if `base_address` is 0.
    pub minimum_address: u64,
    /// Highest address, if `base_address` is 0.
    pub maximum_address: u64,
    /// The allocation, or none with a protection that says what accesses do.
    pub allocation: Handle,
    /// Padding.
    pub _pad1: u32,
    /// First page of the allocation.
    pub offset_in_pages: u64,
    /// Pages.
    pub size_in_pages: u64,
    /// Protection.
    pub protection: Protection,
    /// Protection as the user-mode driver defines it.
    pub driver_protection: u64,
    /// Zero.
    pub reserved0: u32,
    /// Padding.
    pub _pad2: u32,
    /// Zero.
    pub reserved1: u64,
    /// Output of the caller's structure: zero.
    pub virtual_address: u64,
    /// Output of the caller's structure: zero.
    pub paging_fence_value: u64,
    /// None.
    pub device: Handle,
    /// Padding.
    pub _pad3: u32,
}

wire_struct!(MapGpuVirtualAddress = 112);
fixed_command!(MapGpuVirtualAddress => MapGpuVirtualAddressReply);

/// The mapped range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct MapGpuVirtualAddressReply {
    /// Where.
    pub virtual_address: u64,
    /// Value of the paging queue's fence that says it can be used.
    pub paging_fence_value: u64,
    /// Success, [`NtStatus::PENDING`] or not.
    pub status: NtStatus,
    /// Padding.
    pub _pad: u32,
}

wire_struct!(MapGpuVirtualAddressReply = 24);
reply!(MapGpuVirtualAddressReply, status);

/// Frees a reserved or mapped range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct FreeGpuVirtualAddress {
    /// The adapter's handle of the host.
    pub adapter: Handle,
    /// Zero.
    pub reserved: u32,
    /// Where.
    pub base_address: u64,
    /// Bytes.
    pub size: u64,
}

wire_struct!(FreeGpuVirtualAddress = 24);
fixed_command!(FreeGpuVirtualAddress => NtStatus);

/// Queues operations on addresses to a context, ordered by a fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct UpdateGpuVirtualAddress {
    /// Value of the fence.
    pub fence_value: u64,
    /// The device.
    pub device: Handle,
    /// The context.
    pub context: Handle,
    /// The fence.
    pub fence_object: Handle,
    /// How many operations.
    pub num_operations: u32,
    /// How.
    pub flags: UpdateGpuVaFlags,
    /// Padding.
    pub _pad: u32,
}

wire_struct!(UpdateGpuVirtualAddress = 32);
list_command!(UpdateGpuVirtualAddress: num_operations of GpuVaOperation, slack 0 => NtStatus);

/// An operation on addresses: its kind, and seven words that depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GpuVaOperation {
    /// Which kind.
    pub operation: GpuVaOperationType,
    /// Padding.
    pub _pad: u32,
    /// The arguments.
    pub words: [u64; 7],
}

wire_struct!(GpuVaOperation = 64);

/// The same, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GpuVaChange {
    /// Maps part of an allocation; a protection is given or not.
    Map {
        /// Where.
        base: u64,
        /// Bytes.
        size: u64,
        /// The allocation.
        allocation: Handle,
        /// First byte of the allocation.
        allocation_offset: u64,
        /// Bytes of the allocation.
        allocation_size: u64,
        /// Protection, and protection as the user-mode driver defines it.
        protection: Option<(Protection, u64)>,
    },
    /// Unmaps.
    Unmap {
        /// Where.
        base: u64,
        /// Bytes.
        size: u64,
        /// What accesses do from now on.
        protection: Protection,
    },
    /// Copies mappings.
    Copy {
        /// From where.
        source: u64,
        /// Bytes.
        size: u64,
        /// To where.
        destination: u64,
    },
}

impl GpuVaOperation {
    fn new(operation: GpuVaOperationType, words: [u64; 7]) -> Self {
        Self {
            operation,
            _pad: 0,
            words,
        }
    }

    /// Takes the operation apart; none when its kind is unknown.
    pub fn change(&self) -> Option<GpuVaChange> {
        let [base, size, third, allocation_offset, allocation_size, protection, driver] =
            self.words;
        let [a, b, c, d, ..] = third.to_le_bytes();
        let map = |protection| GpuVaChange::Map {
            base,
            size,
            allocation: Handle::from_raw(u32::from_le_bytes([a, b, c, d])),
            allocation_offset,
            allocation_size,
            protection,
        };
        match self.operation {
            GpuVaOperationType::MAP => Some(map(None)),
            GpuVaOperationType::MAP_PROTECT => {
                Some(map(Some((Protection::from_bits(protection), driver))))
            }
            GpuVaOperationType::UNMAP => Some(GpuVaChange::Unmap {
                base,
                size,
                protection: Protection::from_bits(third),
            }),
            GpuVaOperationType::COPY => Some(GpuVaChange::Copy {
                source: base,
                size,
                destination: third,
            }),
            _ => None,
        }
    }
}

impl From<GpuVaChange> for GpuVaOperation {
    fn from(change: GpuVaChange) -> Self {
        match change {
            GpuVaChange::Map {
                base,
                size,
                allocation,
                allocation_offset,
                allocation_size,
                protection,
            } => {
                let kind = match protection {
                    Some(_) => GpuVaOperationType::MAP_PROTECT,
                    None => GpuVaOperationType::MAP,
                };
                let (protection, driver) = protection.unwrap_or_default();
                let allocation = u64::from(allocation.raw());
                let (offset, bytes) = (allocation_offset, allocation_size);
                let words = [
                    base,
                    size,
                    allocation,
                    offset,
                    bytes,
                    protection.bits(),
                    driver,
                ];
                Self::new(kind, words)
            }
            GpuVaChange::Unmap {
                base,
                size,
                protection,
            } => {
                let words = [base, size, protection.bits(), 0, 0, 0, 0];
                Self::new(GpuVaOperationType::UNMAP, words)
            }
            GpuVaChange::Copy {
                source,
                size,
                destination,
            } => {
                let words = [source, size, destination, 0, 0, 0, 0];
                Self::new(GpuVaOperationType::COPY, words)
            }
        }
    }
}
