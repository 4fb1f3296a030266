// SPDX-License-Identifier: MIT OR Apache-2.0
//! What processes of the VM share (protocol 4.8): handles of the whole VM, and resources behind them.
//!
//! A shareable resource gets a handle of the whole VM, by which any process opens it: a resource and
//! allocations of its own over the same content, with residency and locks of their own. The content
//! lives until the last allocation over it and the handle are gone. Such a handle of a shareable
//! fence keeps the fence; what opens it is its name ([`crate::shared_fence`]). Handles belong to no
//! process; the guest drops them, or its channels close. All come from one table, so that none is
//! taken for another.

use std::sync::Arc;

use gpupv::{
    CreateAllocation, CreateAllocationFlags, CreateNtSharedObject, CreateNtSharedObjectReply,
    DestroyNtSharedObject, Handle, List, NtStatus, OpenResource, OpenResourceReply, Request,
    MAX_CREATE_ALLOCATIONS,
};
use vaccel_isa::Segment;

use crate::allocation::New;
use crate::backing::Backing;
use crate::call::{Call, Verdict};
use crate::env::{Env, VgpuId};
use crate::gpu_memory::Content;
use crate::handle_table::Full;
use crate::host::Host;
use crate::object::{Kind, Resource};
use crate::process::Process;
use crate::shared_fence::SharedFence;

/// What a handle of the whole VM stands for.
#[derive(Debug)]
pub enum Shared {
    /// A resource that can be opened.
    Resource(SharedResource),
    /// A fence, by which it can be opened.
    Fence(SharedFence),
    /// The fence of this name, to keep it.
    FenceKept {
        /// Where the fence is.
        vgpu: VgpuId,
        /// Its name.
        name: Handle,
    },
}

/// A resource that can be opened.
#[derive(Debug)]
pub struct SharedResource {
    vgpu: VgpuId,
    /// In the order of their creation.
    allocations: Vec<SharedAllocation>,
}

#[derive(Debug)]
struct SharedAllocation {
    content: Arc<Content>,
    segment: Segment,
    writable: bool,
}

impl Shared {
    /// Where it is.
    pub fn vgpu(&self) -> VgpuId {
        match self {
            Self::Resource(SharedResource { vgpu, .. }) | Self::FenceKept { vgpu, .. } => *vgpu,
            Self::Fence(fence) => fence.vgpu(),
        }
    }
}

#[cfg(test)]
impl Shared {
    /// What it keeps.
    pub fn contents(&self) -> impl Iterator<Item = &Arc<Content>> {
        let allocations = match self {
            Self::Resource(resource) => resource.allocations.as_slice(),
            Self::Fence(_) | Self::FenceKept { .. } => &[],
        };
        allocations.iter().map(|allocation| &allocation.content)
    }
}

impl Host {
    pub(crate) fn create_shared(
        &mut self,
        call: &Call,
        request: &Request<'_, CreateNtSharedObject>,
        _env: &mut dyn Env,
    ) -> Verdict {
        if self.shared.room() == 0 {
            return Err(NtStatus::NO_MEMORY);
        }
        let shared = self.what_is_shared(call.process, request.body().object)?;
        let shared_handle = self.add_shared(shared)?;
        call.answer(request, &CreateNtSharedObjectReply { shared_handle }, ())
    }

    /// What a handle for a shareable object keeps, counted as kept.
    pub(crate) fn what_is_shared(
        &mut self,
        process: Handle,
        object: Handle,
    ) -> Result<Shared, NtStatus> {
        let process = self.process(process)?;
        let object = process.objects.get(object);
        let object = object.ok_or(NtStatus::INVALID_HANDLE)?;
        let vgpu = object.vgpu;
        match &object.kind {
            Kind::Resource(resource) => {
                let allocations = contents(process, vgpu, resource)?;
                Ok(Shared::Resource(SharedResource { vgpu, allocations }))
            }
            Kind::Sync(sync) => {
                let name = sync.name.some().ok_or(NtStatus::ACCESS_DENIED)?;
                self.hold(name);
                Ok(Shared::FenceKept { vgpu, name })
            }
            _ => Err(NtStatus::INVALID_HANDLE),
        }
    }

    /// Gives something a handle of the whole VM.
    pub(crate) fn add_shared(&mut self, shared: Shared) -> Result<Handle, NtStatus> {
        let added = self.shared.insert(shared);
        added.map_err(|Full| NtStatus::NO_MEMORY)
    }

    pub(crate) fn destroy_shared(
        &mut self,
        call: &Call,
        request: &Request<'_, DestroyNtSharedObject>,
        _env: &mut dyn Env,
    ) -> Verdict {
        if !self.remove_shared(request.body().shared_handle) {
            return Err(NtStatus::INVALID_HANDLE);
        }
        call.done(request)
    }

    /// Drops an NT handle; a name is none, and goes with its fence.
    fn remove_shared(&mut self, handle: Handle) -> bool {
        if matches!(self.shared.get(handle), Some(Shared::Fence(_))) {
            return false;
        }
        let gone = self.shared.remove(handle);
        gone.map(|shared| self.drop_shared(shared)).is_some()
    }

    /// Gives up what a handle kept.
    pub(crate) fn drop_shared(&mut self, shared: Shared) {
        match shared {
            Shared::Resource(resource) => {
                for allocation in resource.allocations {
                    self.release_content(allocation.content);
                }
            }
            Shared::FenceKept { name, .. } => self.let_go_of(name),
            // Its last handle frees it.
            Shared::Fence(_) => {}
        }
    }

    /// Drops the NT handles of what is on a GPU.
    pub(crate) fn remove_shared_on(&mut self, on: VgpuId) {
        let there = |(handle, shared): (Handle, &Shared)| {
            let named = matches!(shared, Shared::Fence(_));
            (!named && shared.vgpu() == on).then_some(handle)
        };
        for handle in self.shared.iter().filter_map(there).collect::<Vec<_>>() {
            self.remove_shared(handle);
        }
    }

    pub(crate) fn open_resource(
        &mut self,
        call: &Call,
        request: &Request<'_, OpenResource>,
        _env: &mut dyn Env,
    ) -> Verdict {
        let body = request.body();
        let Some(Shared::Resource(shared)) = self.shared.get(body.global_share) else {
            return Err(NtStatus::INVALID_HANDLE);
        };
        let count = shared.allocations.len();
        let fits = shared.vgpu == call.vgpu
            && body.nt_security_sharing.get()
            && u32::try_from(count) == Ok(body.allocation_count);
        if !fits {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let place = CreateAllocation {
            device: body.device,
            flags: CreateAllocationFlags::CREATE_RESOURCE | CreateAllocationFlags::CREATE_SHARED,
            ..CreateAllocation::default()
        };
        self.check_place(call, &place, count)?;
        let new = shared.allocations.iter().map(|allocation| New {
            backing: Backing::host(Arc::clone(&allocation.content), allocation.writable),
            segment: allocation.segment,
        });
        let made = self.add_allocations(call, &place, new.collect())?;
        let reply = OpenResourceReply {
            resource: made.resource,
            status: NtStatus::SUCCESS,
        };
        call.answer(request, &reply, List::new(&made.allocations))
    }
}

/// What of a shareable resource is shared.
fn contents(
    process: &Process,
    vgpu: VgpuId,
    resource: &Resource,
) -> Result<Vec<SharedAllocation>, NtStatus> {
    if !resource.shared {
        return Err(NtStatus::ACCESS_DENIED);
    }
    let most = usize::try_from(MAX_CREATE_ALLOCATIONS).unwrap_or(usize::MAX);
    if resource.allocations.is_empty() || resource.allocations.len() > most {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    let share = |member: &Handle| {
        let allocation = process.allocation(vgpu, *member)?;
        // Who opens it could not tell that there is nothing behind it.
        if allocation.is_dropped() {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let content = allocation.backing.content();
        Ok(SharedAllocation {
            content: content.ok_or(NtStatus::INVALID_PARAMETER)?,
            segment: allocation.segment,
            writable: allocation.backing.writable(),
        })
    };
    resource.allocations.values().map(share).collect()
}
