// SPDX-License-Identifier: GPL-2.0-only

//! Devices: what contexts, allocations and queues of a client belong to (protocol 4.4).
//!
//! Destroying a device destroys all that is left under it.

use super::codes::{
    DeviceErrorReason, DeviceStateType, ExecutionState, FlushReason, PipelineStage,
};
use super::command::{fixed_command, reply};
use super::flags::{CreateDeviceFlags, FaultErrorCode, PageFaultFlags};
use super::handle::Handle;
use super::status::NtStatus;
use super::wire::{read_partial, wire_struct, Bool8, Wire};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Creates a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CreateDevice {
    /// How.
    pub flags: CreateDeviceFlags,
    /// False.
    pub cdd_device: Bool8,
    /// Padding.
    pub _pad: [u8; 3],
    /// Cookie of the guest, comes back in [`SetGuestData`](super::SetGuestData).
    pub error_code: u64,
}

wire_struct!(CreateDevice = 16);
fixed_command!(CreateDevice => CreateDeviceReply);

/// The new device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CreateDeviceReply {
    /// The device; none on failure.
    pub device: Handle,
}

wire_struct!(CreateDeviceReply = 4);
reply!(CreateDeviceReply, zero);

/// Destroys a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct DestroyDevice {
    /// The device.
    pub device: Handle,
    /// Padding.
    pub _pad: u32,
}

wire_struct!(DestroyDevice = 8);
fixed_command!(DestroyDevice => NtStatus);

/// Waits until the scheduler has nothing more of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct FlushDevice {
    /// The device.
    pub device: Handle,
    /// Why.
    pub reason: FlushReason,
}

wire_struct!(FlushDevice = 8);
fixed_command!(FlushDevice => NtStatus);

/// Puts a device in error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct MarkDeviceAsError {
    /// The device.
    pub device: Handle,
    /// Why.
    pub reason: DeviceErrorReason,
}

wire_struct!(MarkDeviceAsError = 8);
fixed_command!(MarkDeviceAsError => NtStatus);

/// One state of a device: which one, and 48 bytes that depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct DeviceState {
    /// The device.
    pub device: Handle,
    /// Which state; says how to read the rest.
    pub state_type: DeviceStateType,
    /// The state: an [`ExecutionState`], a [`PageFaultState`] or another, zero after it.
    pub state: [u8; 48],
}

wire_struct!(DeviceState = 56);

impl DeviceState {
    /// Asks for a state.
    pub fn ask(device: Handle, state_type: DeviceStateType) -> Self {
        Self {
            device,
            state_type,
            ..Self::default()
        }
    }

    /// The same with a state filled in, cut to 48 bytes.
    pub fn with_state<T: Wire>(mut self, state: &T) -> Self {
        for (to, from) in self.state.iter_mut().zip(state.bytes()) {
            *to = *from;
        }
        self
    }

    /// The execution state, when that is what this is.
    pub fn execution(&self) -> Option<ExecutionState> {
        self.view(DeviceStateType::EXECUTION)
    }

    /// The page fault, when that is what this is.
    pub fn page_fault(&self) -> Option<PageFaultState> {
        self.view(DeviceStateType::PAGE_FAULT)
    }

    fn view<T: Wire>(&self, state_type: DeviceStateType) -> Option<T> {
        let (state, _) = read_partial(&self.state, size_of::<T>()).ok()?;
        Some(state).filter(|_| self.state_type == state_type)
    }
}

/// What is known about a page fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct PageFaultState {
    /// Sequence number of the faulting primitive.
    pub primitive: u64,
    /// Where in the pipeline.
    pub stage: PipelineStage,
    /// Entry of the binding table.
    pub bind_table_entry: u32,
    /// What kind of fault.
    pub flags: PageFaultFlags,
    /// Code.
    pub error_code: FaultErrorCode,
    /// The GPU address.
    pub address: u64,
}

wire_struct!(PageFaultState = 32);

/// Asks for a state of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GetDeviceState {
    /// Which device, which state.
    pub args: DeviceState,
}

wire_struct!(GetDeviceState = 56);
fixed_command!(GetDeviceState => GetDeviceStateReply);

impl GetDeviceState {
    /// Asks for a state.
    pub fn new(device: Handle, state_type: DeviceStateType) -> Self {
        Self {
            args: DeviceState::ask(device, state_type),
        }
    }
}

/// The state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GetDeviceStateReply {
    /// What was asked, and the answer.
    pub args: DeviceState,
    /// Success or not.
    pub status: NtStatus,
    /// Padding.
    pub _pad: u32,
}

wire_struct!(GetDeviceStateReply = 64);
reply!(GetDeviceStateReply, status);
