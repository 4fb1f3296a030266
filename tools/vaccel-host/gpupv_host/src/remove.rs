// SPDX-License-Identifier: MIT OR Apache-2.0
//! Taking objects away: one, a device with everything on it, a process, all of them.
//!
//! What is removed while a job runs on its behalf tells the job to stop; the caller gets the job,
//! to acknowledge only when it has ended.

use std::sync::Arc;

use gpupv::Handle;

use crate::backing::Backing;
use crate::env::VgpuId;
use crate::host::Host;
use crate::job::JobId;
use crate::object::{Kind, Object};

impl Host {
    /// The jobs that run for a device.
    pub(crate) fn jobs_of(&self, process: Handle, device: Handle) -> Vec<JobId> {
        let runs = self.vgpus.iter().filter_map(|vgpu| vgpu.running.as_ref());
        let of_device = runs.filter(|run| {
            let owner = run.owner;
            owner.is_some_and(|owner| owner.process == process && owner.device == device)
        });
        of_device.map(|run| run.job).collect()
    }

    /// Removes one object. Returns the job that ran for it, which has been told to stop.
    pub(crate) fn remove_object(&mut self, process: Handle, handle: Handle) -> Option<JobId> {
        let owner = self.processes.get_mut(process)?;
        let kind = match owner.objects.get(handle)?.kind {
            Kind::Allocation(_) => {
                let (backing, _) = self.detach_allocation(process, handle)?;
                self.release(&backing);
                return None;
            }
            _ => owner.objects.remove(handle)?.kind,
        };
        match kind {
            Kind::Context(_) => return self.remove_context(process, handle),
            Kind::HwQueue(queue) => {
                self.remove_object(process, queue.fence_handle);
                return self.orphan(process, handle);
            }
            Kind::Sync(sync) => self.let_go(&sync),
            Kind::PagingQueue(queue) => {
                self.remove_object(process, queue.fence_handle);
            }
            Kind::Device(_) | Kind::Resource(_) | Kind::Allocation(_) | Kind::Plain(_) => {}
        }
        None
    }

    /// Removes what goes with a context: its hardware queues. Returns the job that ran for it or for
    /// one of them; an engine runs one at a time.
    fn remove_context(&mut self, process: Handle, context: Handle) -> Option<JobId> {
        let mut job = self.orphan(process, context);
        let queues = self.processes.get(process).map(|p| p.hw_queues(context));
        for queue in queues.unwrap_or_default() {
            job = self.remove_object(process, queue).or(job);
        }
        job
    }

    /// Cuts the job of a queue loose and tells it to stop.
    fn orphan(&mut self, process: Handle, queue: Handle) -> Option<JobId> {
        let mut runs = self
            .vgpus
            .iter_mut()
            .filter_map(|vgpu| vgpu.running.as_mut());
        let run = runs.find(|run| {
            let owner = run.owner;
            owner.is_some_and(|owner| owner.process == process && owner.queue == queue)
        })?;
        run.owner = None;
        run.cancel.cancel();
        Some(run.job)
    }

    /// Takes an allocation out of its process, resource and address space. Its pages stay pinned;
    /// the caller gets them, and the running job that may touch them.
    pub(crate) fn detach_allocation(
        &mut self,
        process: Handle,
        handle: Handle,
    ) -> Option<(Arc<Backing>, Option<JobId>)> {
        let owner = self.processes.get_mut(process)?;
        let object = owner.objects.get(handle)?;
        let vgpu = object.vgpu;
        let Kind::Allocation(_) = object.kind else {
            return None;
        };
        let Object {
            kind: Kind::Allocation(mut allocation),
            ..
        } = owner.objects.remove(handle)?
        else {
            return None;
        };
        let mut used = owner.used(vgpu);
        let in_segment = used.of_mut(allocation.segment);
        *in_segment = in_segment.saturating_sub(allocation.charged());
        owner.set_used(vgpu, used);
        if let Ok(resource) = owner.resource_mut(vgpu, allocation.resource) {
            resource.allocations.remove(&allocation.place);
        }
        if let Some(space) = owner.spaces.get_mut(&vgpu) {
            space.forget(&allocation.backing);
        }
        if let Some(gpadl) = allocation.gpadl {
            self.by_gpadl.remove(&(gpadl, process.raw(), handle.raw()));
        }
        self.unlock_all(&mut allocation);
        let on = self.vgpus.get_mut(vgpu.index());
        if let (Some(on), Some(offer)) = (on, &allocation.offer) {
            on.offers.remove(offer);
        }
        let running = self.vgpus.get(vgpu.index())?.running.as_ref();
        let job = running.filter(|run| run.table.uses(&allocation.backing));
        Some((allocation.backing, job.map(|run| run.job)))
    }

    /// Removes a device and everything on it. Returns the jobs that ran for it.
    pub(crate) fn remove_device(&mut self, process: Handle, device: Handle) -> Vec<JobId> {
        let Some(owner) = self.processes.get(process) else {
            return Vec::new();
        };
        let doomed = owner.device_objects(device);
        doomed
            .into_iter()
            .filter_map(|handle| self.remove_object(process, handle))
            .collect()
    }

    /// Removes a process and everything it has. Returns the jobs that ran for it.
    pub(crate) fn remove_process(&mut self, process: Handle) -> Vec<JobId> {
        let Some(owner) = self.processes.get_mut(process) else {
            return Vec::new();
        };
        // First, so that allocations need not be looked for in them.
        owner.spaces.clear();
        let doomed: Vec<Handle> = owner.objects.iter().map(|(handle, _)| handle).collect();
        let jobs = doomed
            .into_iter()
            .filter_map(|handle| self.remove_object(process, handle))
            .collect();
        self.drop_exports_of(process);
        self.processes.remove(process);
        self.cpu_waits.retain(|wait| wait.process != process);
        jobs
    }

    /// Closes an adapter: its devices and address spaces go, of all processes. The guest has not asked
    /// for that, so it may know their handles until it ends the process.
    pub(crate) fn close_adapter(&mut self, vgpu: VgpuId) {
        let Some(closed) = self.vgpus.get_mut(vgpu.index()) else {
            return;
        };
        closed.open = false;
        self.remove_shared_on(vgpu);
        self.drop_exports_on(vgpu);
        let processes: Vec<Handle> = self.processes.iter().map(|(handle, _)| handle).collect();
        for process in processes {
            let Some(owner) = self.processes.get(process) else {
                continue;
            };
            let before = owner.objects.given_up();
            for device in owner.devices(vgpu) {
                self.remove_device(process, device);
            }
            let rest = self.processes.get(process).map(|p| p.of_adapter(vgpu));
            for handle in rest.unwrap_or_default() {
                self.remove_object(process, handle);
            }
            if let Some(process) = self.processes.get_mut(process) {
                process.objects.lose_since(before);
                process.spaces.remove(&vgpu);
                process.reservations.remove(&vgpu);
            }
        }
    }

    /// Removes every process.
    pub(crate) fn remove_everything(&mut self) {
        let processes: Vec<Handle> = self.processes.iter().map(|(handle, _)| handle).collect();
        for process in processes {
            self.remove_process(process);
        }
        for index in 0..self.vgpus.len() {
            self.remove_shared_on(VgpuId(index));
        }
    }
}
