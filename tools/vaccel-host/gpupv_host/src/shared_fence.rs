// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fences that devices of a virtual GPU share (protocol 4.8, 4.9).
//!
//! A fence that was created for it has a name in the whole VM, by which any process opens it: a
//! handle with rights of its own for the same value in the same page. The fence keeps its name and
//! its page until the last handle of a process and the last NT handle are gone, whoever created it.
//!
//! Inferred: a fence that the creator keeps from the GPU has no GPU address for those who open it
//! either; opening takes the flags that restrict the handle, and ignores those that say what the
//! name says, that the fence is shared.

use std::sync::Arc;

use gpupv::{Handle, NtStatus, OpenSyncObject, OpenSyncObjectReply, Request, SyncObjectFlags};

use crate::call::{Call, Verdict};
use crate::env::{Env, VgpuId};
use crate::fence::Fence;
use crate::host::Host;
use crate::object::{Kind, Origin, SyncObject};
use crate::share::Shared;
use crate::sync::{check_affinity, check_rights};

/// A fence that can be opened.
#[derive(Debug)]
pub struct SharedFence {
    vgpu: VgpuId,
    fence: Arc<Fence>,
    /// Those of processes, and NT handles.
    handles: usize,
    /// Created without access for the GPU.
    no_gpu_access: bool,
}

impl SharedFence {
    /// Where it is.
    pub fn vgpu(&self) -> VgpuId {
        self.vgpu
    }
}

/// What opening may ask for.
const OPENING: SyncObjectFlags = SyncObjectFlags::SHARED
    .union(SyncObjectFlags::NT_SECURITY_SHARING)
    .union(SyncObjectFlags::NO_SIGNAL)
    .union(SyncObjectFlags::NO_WAIT)
    .union(SyncObjectFlags::NO_GPU_ACCESS);

impl Host {
    /// Gives a fence a name. The creator's handle counts as its first one.
    pub(crate) fn name_fence(
        &mut self,
        vgpu: VgpuId,
        sync: &SyncObject,
    ) -> Result<Handle, NtStatus> {
        self.add_shared(Shared::Fence(SharedFence {
            vgpu,
            fence: Arc::clone(&sync.fence),
            handles: 1,
            no_gpu_access: sync.flags.contains(SyncObjectFlags::NO_GPU_ACCESS),
        }))
    }

    /// A global command: the device says which GPU it is about.
    pub(crate) fn open_sync_object(
        &mut self,
        call: &Call,
        request: &Request<'_, OpenSyncObject>,
        _env: &mut dyn Env,
    ) -> Verdict {
        let body = request.body();
        if body.flags.bits() & !OPENING.bits() != 0 {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        check_rights(body.flags)?;
        check_affinity(body.engine_affinity)?;
        let process = self.process(call.process)?;
        let device = process.objects.get(body.device);
        let vgpu = device.ok_or(NtStatus::INVALID_HANDLE)?.vgpu;
        process.working_device(vgpu, body.device)?;
        if process.objects.room() == 0 {
            return Err(NtStatus::NO_MEMORY);
        }
        let name = body.global_sync_object;
        let mut sync = self.opened(vgpu, name, body.flags)?;
        sync.name = name;
        let mut reply = OpenSyncObjectReply {
            sync_object: Handle::NONE,
            status: NtStatus::SUCCESS,
            gpu_virtual_address: sync.gpu_va(),
            guest_cpu_physical_address: sync.fence.guest_physical(),
        };
        let process = self.process_mut(call.process)?;
        reply.sync_object = process.add(vgpu, body.device, Kind::Sync(sync))?;
        self.hold(name);
        call.answer(request, &reply, ())
    }

    /// A handle for a fence with a name, which is yet to be counted.
    fn opened(
        &self,
        vgpu: VgpuId,
        name: Handle,
        flags: SyncObjectFlags,
    ) -> Result<SyncObject, NtStatus> {
        let Some(Shared::Fence(shared)) = self.shared.get(name) else {
            return Err(NtStatus::INVALID_HANDLE);
        };
        if shared.vgpu != vgpu {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let flags = if shared.no_gpu_access {
            flags | SyncObjectFlags::NO_GPU_ACCESS
        } else {
            flags
        };
        let fence = Arc::clone(&shared.fence);
        Ok(SyncObject::new(fence, flags, Origin::Opened))
    }

    /// Counts one handle more.
    pub(crate) fn hold(&mut self, name: Handle) {
        if let Some(Shared::Fence(shared)) = self.shared.get_mut(name) {
            shared.handles = shared.handles.saturating_add(1);
        }
    }

    /// Counts one handle less. With the last one go the name and the page.
    pub(crate) fn let_go_of(&mut self, name: Handle) {
        let Some(Shared::Fence(shared)) = self.shared.get_mut(name) else {
            return;
        };
        shared.handles = shared.handles.saturating_sub(1);
        if shared.handles != 0 {
            return;
        }
        if let Some(Shared::Fence(shared)) = self.shared.remove(name) {
            self.free_page(&shared.fence);
        }
    }

    /// The handle of a process is gone.
    pub(crate) fn let_go(&mut self, sync: &SyncObject) {
        match sync.name.some() {
            Some(name) => self.let_go_of(name),
            None => self.free_page(&sync.fence),
        }
    }

    fn free_page(&mut self, fence: &Fence) {
        if let Some(pages) = &mut self.io {
            pages.release(fence);
        }
    }
}
