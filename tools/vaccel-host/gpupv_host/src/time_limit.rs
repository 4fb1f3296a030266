// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the passing of time does: it ends being mute, jobs that run for too long, and delays.
//!
//! A job over the limit hangs its device. A device, context or hardware queue that was created without a time limit
//! has none. (Windows has a limit of 2 s unless configured otherwise, for the time it takes to
//! preempt a job; here nothing preempts, so it is the time that the job runs.)

use gpupv::{
    CreateContextFlags, CreateDeviceFlags, CreateHwQueueFlags, ExecutionState, PageFaultState,
};

use crate::env::{Env, VgpuId};
use crate::host::{Host, Owner};
use crate::mute::MILLISECOND;

impl Host {
    /// When [`Host::tick`] is to be called, by the host's clock.
    pub fn deadline(&self) -> Option<u64> {
        if let Some(until) = self.mute.until() {
            return Some(until);
        }
        let running = self.vgpus.iter().filter_map(|vgpu| vgpu.running.as_ref());
        let jobs = running.filter_map(|run| run.deadline);
        jobs.chain(self.out.faults.deadline()).min()
    }

    /// Time has passed.
    pub fn tick(&mut self, env: &mut dyn Env) {
        let now = env.now_ns();
        self.unmute(now, env);
        if !self.is_mute() {
            self.end_overdue_jobs(now, env);
            self.end_delays(now, env);
        }
    }

    /// When a job that starts now is over the limit.
    pub(crate) fn job_deadline(&self, vgpu: VgpuId, owner: Owner, now: u64) -> Option<u64> {
        let limit = u64::from(self.config.tdr_ms).saturating_mul(MILLISECOND);
        let process = self.processes.get(owner.process)?;
        let context = process.context_of(vgpu, owner.queue).ok()?;
        let device = process.device(vgpu, owner.device).ok()?;
        let (of_context, of_device) = (
            CreateContextFlags::DISABLE_GPU_TIMEOUT,
            CreateDeviceFlags::DISABLE_GPU_TIMEOUT,
        );
        let of_queue = CreateHwQueueFlags::DISABLE_GPU_TIMEOUT;
        let queue = process.hw_queue(vgpu, owner.queue);
        let exempt = context.flags.contains(of_context)
            || device.flags.contains(of_device)
            || queue.is_ok_and(|queue| queue.flags.contains(of_queue));
        (limit != 0 && !exempt).then(|| now.saturating_add(limit))
    }

    fn end_overdue_jobs(&mut self, now: u64, env: &mut dyn Env) {
        let mut overdue = Vec::new();
        for vgpu in &mut self.vgpus {
            let Some(run) = vgpu.running.as_mut() else {
                continue;
            };
            // Once each: the job takes its time to end.
            if run.deadline.take_if(|deadline| *deadline <= now).is_some() {
                overdue.extend(run.owner);
                vgpu.hangs = vgpu.hangs.saturating_add(1);
            }
        }
        if overdue.is_empty() {
            return;
        }
        for owner in overdue {
            let (state, fault) = (ExecutionState::HUNG, PageFaultState::default());
            self.fail_device(owner.process, owner.device, state, fault, env);
        }
        self.settle(env);
    }
}
