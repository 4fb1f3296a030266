// SPDX-License-Identifier: MIT OR Apache-2.0
//! A host process: the handles of one guest client, its address spaces and what it uses
//! (protocol 4.2).

use std::collections::BTreeMap;
use std::sync::Arc;

use gpupv::{Handle, NtStatus};

use crate::config::MAX_OBJECTS;
use crate::env::VgpuId;
use crate::handle_table::{Full, HandleTable};
use crate::object::{
    Allocation, Context, Device, HwQueue, Kind, Object, PagingQueue, Resource, SyncObject,
};
use crate::plain_sync::PlainSync;
use crate::segment::PerSegment;
use crate::statistics::EngineUse;
use crate::va::VaSpace;
use crate::work::WorkQueue;

/// A host process.
#[derive(Debug)]
pub struct Process {
    /// Every object, of all GPUs: they share one index space.
    pub objects: HandleTable<Object>,
    /// Address spaces, by GPU.
    pub spaces: BTreeMap<VgpuId, VaSpace>,
    /// Resident bytes, by GPU.
    pub usage: BTreeMap<VgpuId, PerSegment<u64>>,
    /// Reserved bytes, by GPU.
    pub reservations: BTreeMap<VgpuId, PerSegment<u64>>,
    /// What engines did for it, by GPU.
    pub engine_use: BTreeMap<VgpuId, EngineUse>,
}

/// Makes the typed lookups: the object must be on that GPU and of that kind.
macro_rules! lookups {
    ($($(#[$meta:meta])* $name:ident => $kind:ident($type:ty);)*) => {$(
        $(#[$meta])*
        pub fn $name(&self, vgpu: VgpuId, handle: Handle) -> Result<&$type, NtStatus> {
            match &self.object(vgpu, handle)?.kind {
                Kind::$kind(object) => Ok(object),
                _ => Err(NtStatus::INVALID_HANDLE),
            }
        }
    )*};
    (mut $($(#[$meta:meta])* $name:ident => $kind:ident($type:ty);)*) => {$(
        $(#[$meta])*
        pub fn $name(&mut self, vgpu: VgpuId, handle: Handle) -> Result<&mut $type, NtStatus> {
            let object = self.objects.get_mut(handle).filter(|object| object.vgpu == vgpu);
            match object.map(|object| &mut object.kind) {
                Some(Kind::$kind(object)) => Ok(object),
                _ => Err(NtStatus::INVALID_HANDLE),
            }
        }
    )*};
}

impl Process {
    /// A process without objects.
    pub fn new() -> Self {
        Self {
            objects: HandleTable::new(MAX_OBJECTS),
            spaces: BTreeMap::new(),
            usage: BTreeMap::new(),
            reservations: BTreeMap::new(),
            engine_use: BTreeMap::new(),
        }
    }

    /// Any object of this GPU.
    pub fn object(&self, vgpu: VgpuId, handle: Handle) -> Result<&Object, NtStatus> {
        let object = self.objects.get(handle);
        object
            .filter(|object| object.vgpu == vgpu)
            .ok_or(NtStatus::INVALID_HANDLE)
    }

    lookups! {
        /// A device.
        device => Device(Device);
        /// A context.
        context => Context(Context);
        /// A hardware queue.
        hw_queue => HwQueue(HwQueue);
        /// A paging queue.
        paging_queue => PagingQueue(PagingQueue);
        /// An allocation.
        allocation => Allocation(Allocation);
        /// A resource.
        resource => Resource(Resource);
        /// A monitored fence.
        sync => Sync(SyncObject);
        /// A sync object without storage.
        plain_sync => Plain(Arc<PlainSync>);
    }

    lookups! { mut
        /// A context, to change it.
        context_mut => Context(Context);
        /// A hardware queue, to change it.
        hw_queue_mut => HwQueue(HwQueue);
        /// A paging queue, to change it.
        paging_queue_mut => PagingQueue(PagingQueue);
        /// An allocation, to change it.
        allocation_mut => Allocation(Allocation);
        /// A resource, to change it.
        resource_mut => Resource(Resource);
    }

    /// The work of a context or a hardware queue.
    pub fn work(&self, vgpu: VgpuId, handle: Handle) -> Result<&WorkQueue, NtStatus> {
        match &self.object(vgpu, handle)?.kind {
            Kind::Context(context) => Ok(&context.work),
            Kind::HwQueue(queue) => Ok(&queue.work),
            _ => Err(NtStatus::INVALID_HANDLE),
        }
    }

    /// The work of a context or a hardware queue, to change it.
    pub fn work_mut(&mut self, vgpu: VgpuId, handle: Handle) -> Result<&mut WorkQueue, NtStatus> {
        let object = self.objects.get_mut(handle);
        let object = object.filter(|object| object.vgpu == vgpu);
        match object.map(|object| &mut object.kind) {
            Some(Kind::Context(context)) => Ok(&mut context.work),
            Some(Kind::HwQueue(queue)) => Ok(&mut queue.work),
            _ => Err(NtStatus::INVALID_HANDLE),
        }
    }

    /// The context that work of a queue counts as: the one itself, or that of a hardware queue.
    pub fn context_of(&self, vgpu: VgpuId, handle: Handle) -> Result<&Context, NtStatus> {
        match &self.object(vgpu, handle)?.kind {
            Kind::HwQueue(queue) => self.context(vgpu, queue.context),
            _ => self.context(vgpu, handle),
        }
    }

    /// The hardware queues of a context.
    pub fn hw_queues(&self, context: Handle) -> Vec<Handle> {
        let of_context = |(handle, object): (Handle, &Object)| match &object.kind {
            Kind::HwQueue(queue) if queue.context == context => Some(handle),
            _ => None,
        };
        self.objects.iter().filter_map(of_context).collect()
    }

    /// A device that has not failed.
    pub fn working_device(&self, vgpu: VgpuId, handle: Handle) -> Result<&Device, NtStatus> {
        let device = self.device(vgpu, handle)?;
        if device.state != gpupv::ExecutionState::ACTIVE {
            return Err(NtStatus::DEVICE_REMOVED);
        }
        Ok(device)
    }

    /// The device an object belongs to.
    pub fn device_of(&self, vgpu: VgpuId, handle: Handle) -> Result<Handle, NtStatus> {
        Ok(self.object(vgpu, handle)?.device)
    }

    /// An allocation that belongs to `device`.
    pub fn allocation_of(
        &self,
        vgpu: VgpuId,
        device: Handle,
        handle: Handle,
    ) -> Result<&Allocation, NtStatus> {
        if self.device_of(vgpu, handle)? != device {
            return Err(NtStatus::INVALID_HANDLE);
        }
        self.allocation(vgpu, handle)
    }

    /// Adds an object.
    pub fn add(&mut self, vgpu: VgpuId, device: Handle, kind: Kind) -> Result<Handle, NtStatus> {
        let object = Object { vgpu, device, kind };
        self.objects
            .insert(object)
            .map_err(|Full| NtStatus::NO_MEMORY)
    }

    /// The handles of everything on a device, and of the device itself.
    pub fn device_objects(&self, device: Handle) -> Vec<Handle> {
        let of_device = |(handle, object): (Handle, &Object)| {
            (handle == device || object.device == device).then_some(handle)
        };
        self.objects.iter().filter_map(of_device).collect()
    }

    /// The devices on a GPU.
    pub fn devices(&self, vgpu: VgpuId) -> Vec<Handle> {
        let device = |(handle, object): (Handle, &Object)| {
            let matches = object.vgpu == vgpu && matches!(object.kind, Kind::Device(_));
            matches.then_some(handle)
        };
        self.objects.iter().filter_map(device).collect()
    }

    /// What belongs to a GPU and to no device.
    pub fn of_adapter(&self, vgpu: VgpuId) -> Vec<Handle> {
        let of_adapter = |(handle, object): (Handle, &Object)| {
            let matches = object.vgpu == vgpu && matches!(object.kind, Kind::Plain(_));
            matches.then_some(handle)
        };
        self.objects.iter().filter_map(of_adapter).collect()
    }

    /// Resident bytes on a GPU.
    pub fn used(&self, vgpu: VgpuId) -> PerSegment<u64> {
        self.usage.get(&vgpu).copied().unwrap_or_default()
    }

    /// Changes the resident bytes on a GPU.
    pub fn set_used(&mut self, vgpu: VgpuId, bytes: PerSegment<u64>) {
        set(&mut self.usage, vgpu, bytes);
    }

    /// Reserved bytes on a GPU.
    pub fn reserved(&self, vgpu: VgpuId) -> PerSegment<u64> {
        self.reservations.get(&vgpu).copied().unwrap_or_default()
    }

    /// Changes the reserved bytes on a GPU.
    pub fn set_reserved(&mut self, vgpu: VgpuId, bytes: PerSegment<u64>) {
        set(&mut self.reservations, vgpu, bytes);
    }
}

fn set(map: &mut BTreeMap<VgpuId, PerSegment<u64>>, vgpu: VgpuId, bytes: PerSegment<u64>) {
    if bytes.is_zero() {
        map.remove(&vgpu);
    } else {
        map.insert(vgpu, bytes);
    }
}
