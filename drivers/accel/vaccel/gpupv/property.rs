// SPDX-License-Identifier: GPL-2.0-only

//! What else is done to allocations: properties, CPU access, caches.

use super::command::{fixed_command, reply};
use super::flags::{Lock2Flags, PropertyMask, UpdatePropertyFlags};
use super::handle::Handle;
use super::status::NtStatus;
use super::wire::{wire_struct, Bool8};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Changes where an allocation may live, through a paging queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct UpdateAllocationProperty {
    /// The paging queue.
    pub paging_queue: Handle,
    /// The allocation.
    pub allocation: Handle,
    /// Set of segments, one bit each.
    pub supported_segment_set: u32,
    /// The preferred segments.
    pub preferred_segment: SegmentPreference,
    /// The properties that are bits.
    pub flags: UpdatePropertyFlags,
    /// Padding.
    pub _pad0: u32,
    /// Output of the caller's structure: zero.
    pub paging_fence_value: u64,
    /// Which properties to change.
    pub property_mask: PropertyMask,
    /// Padding.
    pub _pad1: u32,
}

wire_struct!(UpdateAllocationProperty = 40);
fixed_command!(UpdateAllocationProperty => UpdateAllocationPropertyReply);

/// Up to five segments in order of preference: 6 bits each, segment number and direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(transparent)]
pub struct SegmentPreference(u32);

wire_struct!(SegmentPreference = 4);

impl SegmentPreference {
    /// From the whole word.
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The whole word.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Segment (0: none) and direction of the choice at `rank`, 0 to 4.
    pub const fn choice(self, rank: u32) -> Option<(u32, bool)> {
        if rank > 4 {
            return None;
        }
        let choice = self.0 >> (rank * 6);
        Some((choice & 0x1f, choice & 0x20 != 0))
    }
}

/// When the change is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct UpdateAllocationPropertyReply {
    /// Value of the paging queue's fence that says so, if the status is
    /// [`NtStatus::PENDING`].
    pub paging_fence_value: u64,
    /// Success, [`NtStatus::PENDING`] or not.
    pub status: NtStatus,
    /// Padding.
    pub _pad: u32,
}

wire_struct!(UpdateAllocationPropertyReply = 16);
reply!(UpdateAllocationPropertyReply, status);

/// Makes an allocation visible to the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Lock2 {
    /// The device.
    pub device: Handle,
    /// The allocation.
    pub allocation: Handle,
    /// How.
    pub flags: Lock2Flags,
    /// Zero.
    pub reserved: u32,
    /// Output of the caller's structure: zero.
    pub data: u64,
    /// False.
    pub use_legacy_lock: Bool8,
    /// Padding.
    pub _pad0: [u8; 3],
    /// Zero.
    pub legacy_flags: u32,
    /// Zero.
    pub priv_drv_data: u32,
    /// Padding.
    pub _pad1: u32,
}

wire_struct!(Lock2 = 40);
fixed_command!(Lock2 => Lock2Reply);

/// Where the allocation is visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Lock2Reply {
    /// Success or not.
    pub status: NtStatus,
    /// Padding.
    pub _pad: u32,
    /// Guest-physical address in the I/O space.
    pub cpu_visible_address: u64,
}

wire_struct!(Lock2Reply = 16);
reply!(Lock2Reply, status);

/// Ends CPU visibility.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Unlock2 {
    /// The device.
    pub device: Handle,
    /// The allocation.
    pub allocation: Handle,
    /// False.
    pub use_legacy_unlock: Bool8,
    /// Padding.
    pub _pad: [u8; 7],
}

wire_struct!(Unlock2 = 16);
fixed_command!(Unlock2 => NtStatus);

/// Drops a range of an allocation from caches, for GPUs that are not coherent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct InvalidateCache {
    /// The device.
    pub device: Handle,
    /// The allocation.
    pub allocation: Handle,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// Zero.
    pub reserved: u64,
}

wire_struct!(InvalidateCache = 32);
fixed_command!(InvalidateCache => NtStatus);

/// Finishes what the memory manager has pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct FlushHeapTransitions;

wire_struct!(FlushHeapTransitions = 0);
fixed_command!(FlushHeapTransitions => NtStatus);
