// SPDX-License-Identifier: GPL-2.0-only

//! Memory budget and clocks (protocol 4.11).

use super::codes::MemorySegmentGroup;
use super::command::{fixed_command, reply};
use super::flags::ClockFlags;
use super::handle::Handle;
use super::status::NtStatus;
use super::wire::{wire_struct, PackedU64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Asks what a process may use of a group of memory segments, and what it uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct QueryVideoMemoryInfo {
    /// The adapter's handle of the host.
    pub adapter: Handle,
    /// Which memory.
    pub memory_segment_group: MemorySegmentGroup,
    /// Which GPU of a linked group.
    pub physical_adapter_index: u32,
    /// Padding.
    pub _pad: u32,
}

wire_struct!(QueryVideoMemoryInfo = 16);
fixed_command!(QueryVideoMemoryInfo => VideoMemoryInfo);

/// What a process may use of memory, and what it uses, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct VideoMemoryInfo {
    /// What it may use.
    pub budget: u64,
    /// What it uses.
    pub current_usage: u64,
    /// What is reserved for it.
    pub current_reservation: u64,
    /// What could be reserved for it.
    pub available_for_reservation: u64,
}

wire_struct!(VideoMemoryInfo = 32);
reply!(VideoMemoryInfo, short);

/// Sets how much memory is reserved for a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ChangeVideoMemoryReservation {
    /// Zero: the calling process.
    pub process: u64,
    /// None.
    pub adapter: Handle,
    /// Which memory.
    pub memory_segment_group: MemorySegmentGroup,
    /// Bytes.
    pub reservation: u64,
    /// Which GPU of a linked group.
    pub physical_adapter_index: u32,
    /// Padding.
    pub _pad: u32,
}

wire_struct!(ChangeVideoMemoryReservation = 32);
fixed_command!(ChangeVideoMemoryReservation => NtStatus);

/// Reads the clocks of GPU and CPU together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct QueryClockCalibration {
    /// The adapter's handle of the host.
    pub adapter: Handle,
    /// The node.
    pub node_ordinal: u32,
    /// Which GPU of a linked group.
    pub physical_adapter_index: u32,
    /// Output of the caller's structure: zero.
    pub clock_data: ClockData,
}

wire_struct!(QueryClockCalibration = 40);
fixed_command!(QueryClockCalibration => QueryClockCalibrationReply);

/// Two clocks at one moment. Packed: the 64-bit values are at multiples of four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ClockData {
    /// Ticks a second of the GPU's clock.
    pub gpu_frequency: PackedU64,
    /// The GPU's clock.
    pub gpu_clock_counter: PackedU64,
    /// The CPU's clock.
    pub cpu_clock_counter: PackedU64,
    /// How it was read.
    pub flags: ClockFlags,
}

wire_struct!(ClockData = 28);

/// The clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct QueryClockCalibrationReply {
    /// Success or not.
    pub status: NtStatus,
    /// The clocks.
    pub clock_data: ClockData,
}

wire_struct!(QueryClockCalibrationReply = 32);
reply!(QueryClockCalibrationReply, status);
