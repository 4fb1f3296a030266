// SPDX-License-Identifier: GPL-2.0-only

//! Sync objects: creating, opening, destroying (protocol 4.9).
//!
//! A monitored fence is a 64-bit value at the start of a page of the I/O space. The other kinds
//! have no storage the guest could see.

use super::codes::{ClientHint, SyncObjectType};
use super::command::{fixed_command, reply};
use super::flags::SyncObjectFlags;
use super::handle::Handle;
use super::status::NtStatus;
use super::wire::{read_partial, wire_struct, Wire};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Creates a sync object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CreateSyncObject {
    /// The device of a monitored fence.
    pub device: Handle,
    /// Zero.
    pub reserved: u32,
    /// What to create.
    pub info: SyncObjectInfo,
    /// Output of the caller's structure: none.
    pub sync_object: Handle,
    /// Zero.
    pub reserved1: u32,
    /// Who asks; the C driver says OpenGL.
    pub client_hint: ClientHint,
    /// Padding.
    pub _pad: u32,
}

wire_struct!(CreateSyncObject = 104);
fixed_command!(CreateSyncObject => CreateSyncObjectReply);

impl CreateSyncObject {
    /// A sync object of a device.
    pub fn new(device: Handle, info: SyncObjectInfo) -> Self {
        Self {
            device,
            info,
            client_hint: ClientHint::OPENGL,
            ..Self::default()
        }
    }
}

/// A sync object: its kind, and 64 bytes that depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SyncObjectInfo {
    /// Which kind; says how to read `args`.
    pub kind: SyncObjectType,
    /// Properties.
    pub flags: SyncObjectFlags,
    /// What the kind needs, zero after it.
    pub args: [u8; 64],
    /// Output of the caller's structure: none.
    pub shared_handle: Handle,
    /// Padding.
    pub _pad: u32,
}

wire_struct!(SyncObjectInfo = 80);

impl SyncObjectInfo {
    fn new<T: Wire>(kind: SyncObjectType, flags: SyncObjectFlags, args: &T) -> Self {
        let mut info = Self {
            kind,
            flags,
            ..Self::default()
        };
        for (to, from) in info.args.iter_mut().zip(args.bytes()) {
            *to = *from;
        }
        info
    }

    /// A monitored fence.
    pub fn monitored_fence(flags: SyncObjectFlags, args: &MonitoredFence) -> Self {
        Self::new(SyncObjectType::MONITORED_FENCE, flags, args)
    }

    /// A monitored fence driven by the host.
    pub fn periodic_fence(flags: SyncObjectFlags, args: &PeriodicMonitoredFence) -> Self {
        Self::new(SyncObjectType::PERIODIC_MONITORED_FENCE, flags, args)
    }

    /// A fence without storage, with a first value.
    pub fn fence(flags: SyncObjectFlags, value: u64) -> Self {
        Self::new(SyncObjectType::FENCE, flags, &value)
    }

    /// An object whose signals arrive as a guest event.
    pub fn cpu_notification(flags: SyncObjectFlags, event: u64) -> Self {
        Self::new(SyncObjectType::CPU_NOTIFICATION, flags, &event)
    }

    /// A mutex, owned at first or not.
    pub fn mutex(flags: SyncObjectFlags, initial_state: u32) -> Self {
        Self::new(SyncObjectType::MUTEX, flags, &initial_state)
    }

    /// A semaphore.
    pub fn semaphore(flags: SyncObjectFlags, args: &Semaphore) -> Self {
        Self::new(SyncObjectType::SEMAPHORE, flags, args)
    }

    /// What a monitored fence needs, when this is one.
    pub fn as_monitored_fence(&self) -> Option<MonitoredFence> {
        self.view(SyncObjectType::MONITORED_FENCE)
    }

    /// What a periodic fence needs, when this is one.
    pub fn as_periodic_fence(&self) -> Option<PeriodicMonitoredFence> {
        self.view(SyncObjectType::PERIODIC_MONITORED_FENCE)
    }

    /// The first value, when this is a fence without storage.
    pub fn as_fence(&self) -> Option<u64> {
        self.view(SyncObjectType::FENCE)
    }

    /// The guest event, when this is a CPU notification.
    pub fn as_cpu_notification(&self) -> Option<u64> {
        self.view(SyncObjectType::CPU_NOTIFICATION)
    }

    /// The first state, when this is a mutex.
    pub fn as_mutex(&self) -> Option<u32> {
        self.view(SyncObjectType::MUTEX)
    }

    /// The counts, when this is a semaphore.
    pub fn as_semaphore(&self) -> Option<Semaphore> {
        self.view(SyncObjectType::SEMAPHORE)
    }

    fn view<T: Wire>(&self, kind: SyncObjectType) -> Option<T> {
        let (args, _) = read_partial(&self.args, size_of::<T>()).ok()?;
        Some(args).filter(|_| self.kind == kind)
    }
}

/// What a monitored fence needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct MonitoredFence {
    /// First value.
    pub initial_value: u64,
    /// Output of the caller's structure: zero.
    pub fence_cpu_virtual_address: u64,
    /// Output of the caller's structure: zero.
    pub fence_gpu_virtual_address: u64,
    /// Which engines use it.
    pub engine_affinity: u32,
    /// Padding.
    pub _pad: u32,
}

wire_struct!(MonitoredFence = 32);

/// What a periodic fence needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct PeriodicMonitoredFence {
    /// Adapter, as the caller knows it.
    pub adapter: Handle,
    /// Video target.
    pub vidpn_target_id: u32,
    /// Distance from the vertical blank.
    pub time: u64,
    /// Output of the caller's structure: zero.
    pub fence_cpu_virtual_address: u64,
    /// Output of the caller's structure: zero.
    pub fence_gpu_virtual_address: u64,
    /// Which engines use it.
    pub engine_affinity: u32,
    /// Padding.
    pub _pad: u32,
}

wire_struct!(PeriodicMonitoredFence = 40);

/// What a semaphore needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Semaphore {
    /// Highest count.
    pub max_count: u32,
    /// First count.
    pub initial_count: u32,
}

wire_struct!(Semaphore = 8);

/// The new sync object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CreateSyncObjectReply {
    /// The object; none on failure.
    pub sync_object: Handle,
    /// The name other processes open it by, if it can be shared.
    pub global_sync_object: Handle,
    /// GPU address of a fence with storage.
    pub fence_gpu_va: u64,
    /// Guest-physical address of its page in the I/O space.
    pub fence_storage_address: u64,
    /// Not used.
    pub fence_storage_offset: u32,
    /// Padding.
    pub _pad: u32,
}

wire_struct!(CreateSyncObjectReply = 32);
reply!(CreateSyncObjectReply, short);

/// Opens a shared sync object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct OpenSyncObject {
    /// The device that gets it.
    pub device: Handle,
    /// Its name, from [`CreateSyncObjectReply::global_sync_object`].
    pub global_sync_object: Handle,
    /// Which engines use it.
    pub engine_affinity: u32,
    /// Properties.
    pub flags: SyncObjectFlags,
}

wire_struct!(OpenSyncObject = 16);
fixed_command!(OpenSyncObject => OpenSyncObjectReply);

/// The opened sync object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct OpenSyncObjectReply {
    /// The object in this process.
    pub sync_object: Handle,
    /// Success or not.
    pub status: NtStatus,
    /// GPU address in this process.
    pub gpu_virtual_address: u64,
    /// Guest-physical address of its page in the I/O space.
    pub guest_cpu_physical_address: u64,
}

wire_struct!(OpenSyncObjectReply = 24);
reply!(OpenSyncObjectReply, status);

/// Closes a sync object, whichever GPU it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct DestroySyncObject {
    /// The object.
    pub sync_object: Handle,
    /// Padding.
    pub _pad: u32,
}

wire_struct!(DestroySyncObject = 8);
fixed_command!(DestroySyncObject => NtStatus);
