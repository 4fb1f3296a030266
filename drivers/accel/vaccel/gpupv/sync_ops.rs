// SPDX-License-Identifier: GPL-2.0-only

//! Waiting for sync objects and signalling them (protocol 4.9 and 5).
//!
//! Lists of 64-bit fence values can start at any multiple of four bytes.

use super::command::Command;
use super::commands::CommandId;
use super::draft::Work;
use super::error::{DecodeError, EncodeError};
use super::flags::{SignalFlags, WaitFromCpuFlags};
use super::handle::Handle;
use super::list::{tail_struct, List};
use super::status::NtStatus;
use super::wire::{count, length, wire_struct, Bool8};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Signals sync objects, from the CPU or from contexts, or queues an event for the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SignalSyncObject {
    /// How many objects.
    pub object_count: u32,
    /// How.
    pub flags: SignalFlags,
    /// How many contexts or hardware queues.
    pub context_count: u32,
    /// Padding.
    pub _pad: u32,
    /// The one value of objects that are no monitored fences; otherwise 0.
    pub fence_value: u64,
    /// The guest event, or the device (low half) of a signal from the CPU.
    pub event_or_device: u64,
}

wire_struct!(SignalSyncObject = 32);

impl SignalSyncObject {
    /// A signal from the CPU.
    pub fn from_cpu(device: Handle, flags: SignalFlags) -> Self {
        Self {
            flags,
            event_or_device: u64::from(device.raw()),
            ..Self::default()
        }
    }

    /// An event to the guest when the contexts have come this far.
    pub fn event(event: u64) -> Self {
        Self {
            flags: SignalFlags::ENQUEUE_CPU_EVENT,
            event_or_device: event,
            ..Self::default()
        }
    }

    /// The guest event to queue, if one is.
    pub fn cpu_event(&self) -> Option<u64> {
        Some(self.event_or_device).filter(|_| self.flags.contains(SignalFlags::ENQUEUE_CPU_EVENT))
    }

    /// The device of a signal from the CPU; none for an event and for signals from contexts.
    pub fn device(&self) -> Option<Handle> {
        if self.flags.contains(SignalFlags::ENQUEUE_CPU_EVENT) {
            return None;
        }
        let [a, b, c, d, ..] = self.event_or_device.to_le_bytes();
        Handle::from_raw(u32::from_le_bytes([a, b, c, d])).some()
    }
}

/// What follows [`SignalSyncObject`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SignalTail<'a> {
    /// The objects.
    pub objects: List<'a, Handle>,
    /// Contexts or hardware queues.
    pub contexts: List<'a, Handle>,
    /// One value for each object, or none where [`SignalSyncObject::fence_value`] serves or an
    /// event is queued.
    pub fence_values: List<'a, u64>,
}

tail_struct!(SignalTail: objects, contexts, fence_values);

impl Command for SignalSyncObject {
    const ID: CommandId = CommandId::SignalSyncObject;
    type Tail<'a> = SignalTail<'a>;
    type Reply = NtStatus;
    type ReplyTail<'a> = ();

    fn set_counts(&mut self, tail: &SignalTail<'_>) -> Result<(), EncodeError> {
        if !tail.fence_values.is_empty() {
            same_len(tail.objects, tail.fence_values)?;
        }
        self.object_count = count(tail.objects.len())?;
        self.context_count = count(tail.contexts.len())?;
        Ok(())
    }

    /// The number of values is not announced: they are there if all of them fit, as padding is
    /// always shorter than one.
    fn parse_tail<'a>(&self, bytes: &'a [u8]) -> Result<SignalTail<'a>, DecodeError> {
        let (objects, rest) = List::take(bytes, self.object_count)?;
        let (contexts, rest) = List::take(rest, self.context_count)?;
        let no_values = rest.len() < length(self.object_count.min(1)).saturating_mul(8);
        let values = if no_values { 0 } else { self.object_count };
        Ok(SignalTail {
            objects,
            contexts,
            fence_values: List::take(rest, values)?.0,
        })
    }

    fn parse_reply_tail(&self, _reply: &NtStatus, _bytes: &[u8]) -> Result<(), DecodeError> {
        Ok(())
    }
}

impl Work for SignalSyncObject {}

fn same_len(objects: List<'_, Handle>, values: List<'_, u64>) -> Result<(), EncodeError> {
    if objects.len() == values.len() {
        return Ok(());
    }
    Err(EncodeError::Mismatch {
        first: objects.len(),
        second: values.len(),
    })
}

/// Makes a context or hardware queue wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct WaitForSyncObjectFromGpu {
    /// The context or hardware queue.
    pub context: Handle,
    /// How many objects.
    pub object_count: u32,
    /// Whether the objects are no monitored fences; then only the first value counts.
    pub legacy_fence_object: Bool8,
    /// Padding.
    pub _pad: [u8; 7],
}

wire_struct!(WaitForSyncObjectFromGpu = 16);

impl WaitForSyncObjectFromGpu {
    /// A wait of a context or hardware queue for monitored fences.
    pub fn new(context: Handle) -> Self {
        Self {
            context,
            ..Self::default()
        }
    }
}

/// What follows [`WaitForSyncObjectFromGpu`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GpuWaitTail<'a> {
    /// The values to reach.
    pub fence_values: List<'a, u64>,
    /// The objects.
    pub objects: List<'a, Handle>,
}

tail_struct!(GpuWaitTail: fence_values, objects);

impl Command for WaitForSyncObjectFromGpu {
    const ID: CommandId = CommandId::WaitForSyncObjectFromGpu;
    type Tail<'a> = GpuWaitTail<'a>;
    type Reply = NtStatus;
    type ReplyTail<'a> = ();

    fn set_counts(&mut self, tail: &GpuWaitTail<'_>) -> Result<(), EncodeError> {
        same_len(tail.objects, tail.fence_values)?;
        self.object_count = count(tail.objects.len())?;
        Ok(())
    }

    fn parse_tail<'a>(&self, bytes: &'a [u8]) -> Result<GpuWaitTail<'a>, DecodeError> {
        let (fence_values, rest) = List::take(bytes, self.object_count)?;
        let (objects, _) = List::take(rest, self.object_count)?;
        Ok(GpuWaitTail {
            fence_values,
            objects,
        })
    }

    fn parse_reply_tail(&self, _reply: &NtStatus, _bytes: &[u8]) -> Result<(), DecodeError> {
        Ok(())
    }
}

impl Work for WaitForSyncObjectFromGpu {}

/// Asks for a guest event when monitored fences reach values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct WaitForSyncObjectFromCpu {
    /// The device.
    pub device: Handle,
    /// How many objects.
    pub object_count: u32,
    /// How.
    pub flags: WaitFromCpuFlags,
    /// Padding.
    pub _pad0: u32,
    /// The guest event.
    pub guest_event: u64,
    /// False.
    pub dereference_event: Bool8,
    /// Padding.
    pub _pad1: [u8; 7],
}

wire_struct!(WaitForSyncObjectFromCpu = 32);

impl WaitForSyncObjectFromCpu {
    /// A wait that ends with a guest event.
    pub fn new(device: Handle, flags: WaitFromCpuFlags, guest_event: u64) -> Self {
        Self {
            device,
            flags,
            guest_event,
            ..Self::default()
        }
    }
}

/// What follows [`WaitForSyncObjectFromCpu`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuWaitTail<'a> {
    /// The objects.
    pub objects: List<'a, Handle>,
    /// The values to reach.
    pub fence_values: List<'a, u64>,
}

tail_struct!(CpuWaitTail: objects, fence_values);

impl Command for WaitForSyncObjectFromCpu {
    const ID: CommandId = CommandId::WaitForSyncObjectFromCpu;
    type Tail<'a> = CpuWaitTail<'a>;
    type Reply = NtStatus;
    type ReplyTail<'a> = ();

    fn set_counts(&mut self, tail: &CpuWaitTail<'_>) -> Result<(), EncodeError> {
        same_len(tail.objects, tail.fence_values)?;
        self.object_count = count(tail.objects.len())?;
        Ok(())
    }

    fn parse_tail<'a>(&self, bytes: &'a [u8]) -> Result<CpuWaitTail<'a>, DecodeError> {
        let (objects, rest) = List::take(bytes, self.object_count)?;
        let (fence_values, _) = List::take(rest, self.object_count)?;
        Ok(CpuWaitTail {
            objects,
            fence_values,
        })
    }

    fn parse_reply_tail(&self, _reply: &NtStatus, _bytes: &[u8]) -> Result<(), DecodeError> {
        Ok(())
    }
}
