// SPDX-License-Identifier: MIT OR Apache-2.0
//! What runs when: the queues of contexts and hardware queues, engines, CPU waits.
//!
//! A context does its work strictly in order, and so does a hardware queue; those of one context do
//! not wait for each other. A wait that is not over blocks its own queue only. An engine runs one job
//! at a time; of the queues that have one ready, those whose context has the highest priority take
//! turns. Of several queues that wait for one mutex the first to be looked at gets it.

use std::sync::Arc;

use engine::{Access, Commands, Outcome};
use gpupv::{ExecutionState, Handle, PageFaultFlags, PageFaultState};

use crate::env::{Env, VgpuId};
use crate::fence::FenceValue;
use crate::host::{Host, Owner, Running, Vgpu};
use crate::job::{Cancel, Job, JobId, JobOutcome};
use crate::object::Context;
use crate::outlet::Outlet;
use crate::work::{Work, WorkQueue};

impl WorkQueue {
    /// Does what can be done now. Returns whether anything was.
    fn advance(&mut self, out: &mut Outlet, env: &mut dyn Env) -> bool {
        let mut progress = false;
        while self.running.is_none() {
            match self.queue.front_mut() {
                Some(Work::Wait(fences)) if fences.iter().all(|pair| pair.reached()) => {}
                Some(Work::Acquire(syncs)) => {
                    syncs.retain(|one| !one.sync.acquire(one.value));
                    if !syncs.is_empty() {
                        break;
                    }
                }
                Some(Work::Release(syncs)) => {
                    for one in syncs {
                        one.sync.signal(one.value, out, env);
                    }
                }
                Some(Work::Signal { fences, rewind }) => {
                    for pair in fences {
                        pair.fence.signal(pair.value, *rewind);
                    }
                }
                Some(Work::Event(event)) => out.signal(*event, env),
                Some(Work::Wait(_) | Work::Run(_) | Work::Update(_)) | None => break,
            }
            self.queue.pop_front();
            progress = true;
        }
        progress
    }

    /// The commands to run next, if that is what comes next.
    fn ready(&self) -> Option<Commands> {
        match self.queue.front() {
            Some(Work::Run(commands)) if self.running.is_none() => Some(*commands),
            _ => None,
        }
    }
}

impl Context {
    /// Which contexts go first: global priority, then priority in the process.
    fn rank(&self) -> (i32, i32) {
        (self.priority, self.in_process_priority)
    }
}

impl Host {
    /// Does everything that can be done now. Called after each input.
    pub(crate) fn settle(&mut self, env: &mut dyn Env) {
        if self.is_mute() {
            return;
        }
        loop {
            let mut progress = false;
            let active: Vec<(VgpuId, Owner)> = self.active.values().copied().collect();
            for (vgpu, owner) in active {
                progress |= self.advance(vgpu, owner, env);
            }
            if !progress {
                break;
            }
        }
        let processes = &self.processes;
        self.active.retain(|_, (vgpu, owner)| {
            let process = processes.get(owner.process);
            let work = process.and_then(|p| p.work(*vgpu, owner.queue).ok());
            work.is_some_and(|work| !work.queue.is_empty())
        });
        let out = &mut self.out;
        self.cpu_waits.retain(|wait| {
            let process = processes.get(wait.process);
            let over = |(handle, pair): &(Handle, FenceValue)| {
                pair.reached() || process.is_none_or(|p| p.objects.get(*handle).is_none())
            };
            let done = if wait.any {
                wait.fences.iter().any(over)
            } else {
                wait.fences.iter().all(over)
            };
            if done {
                out.signal(wait.event, env);
            }
            !done
        });
        for index in 0..self.vgpus.len() {
            self.start_next(VgpuId(index), env);
        }
    }

    /// Does what a queue can do now. Returns whether anything was done.
    fn advance(&mut self, vgpu: VgpuId, owner: Owner, env: &mut dyn Env) -> bool {
        let mut progress = false;
        loop {
            let process = self.processes.get_mut(owner.process);
            let work = process.and_then(|p| p.work_mut(vgpu, owner.queue).ok());
            let Some(work) = work else {
                return progress;
            };
            progress |= work.advance(&mut self.out, env);
            let Some(update) = work.take_update() else {
                return progress;
            };
            self.apply(vgpu, owner, update, env);
            progress = true;
        }
    }

    /// The queue whose job an idle engine takes next.
    fn next_queue(&self, id: VgpuId, last: (u32, u32)) -> Option<(Owner, Commands)> {
        let mut best = None;
        for (at, (vgpu, owner)) in self.active.iter().filter(|(_, (vgpu, _))| *vgpu == id) {
            let candidate = self.processes.get(owner.process).and_then(|process| {
                let commands = process.work(*vgpu, owner.queue).ok()?.ready()?;
                let context = process.context_of(*vgpu, owner.queue).ok()?;
                Some((context.rank(), commands))
            });
            let Some((priority, commands)) = candidate else {
                continue;
            };
            // Among equals those after the last one come first, in order of their handles.
            let turn = std::cmp::Reverse((*at <= last, *at));
            let rank = (priority, turn);
            if best.as_ref().is_none_or(|(highest, _, _)| rank > *highest) {
                best = Some((rank, *owner, commands));
            }
        }
        best.map(|(_, owner, commands)| (owner, commands))
    }

    /// Gives an idle engine its next job.
    fn start_next(&mut self, id: VgpuId, env: &mut dyn Env) {
        let Some(vgpu) = self.vgpus.get(id.index()) else {
            return;
        };
        if vgpu.running.is_some() {
            return;
        }
        let Some((owner, commands)) = self.next_queue(id, vgpu.last) else {
            return;
        };
        let started = env.now_ns();
        let deadline = self.job_deadline(id, owner, started);
        let job = JobId(self.next_job);
        self.next_job = self.next_job.wrapping_add(1);
        let Some(process) = self.processes.get_mut(owner.process) else {
            return;
        };
        let table = process.spaces.entry(id).or_default().snapshot();
        if let Ok(work) = process.work_mut(id, owner.queue) {
            work.queue.pop_front();
            work.running = Some(job);
        }
        let cancel = Cancel::default();
        let Some(vgpu) = self.vgpus.get_mut(id.index()) else {
            return;
        };
        let switched = vgpu.last != (owner.process.raw(), owner.queue.raw());
        vgpu.engine_use.begin(switched);
        process.engine_use.entry(id).or_default().begin(switched);
        vgpu.last = (owner.process.raw(), owner.queue.raw());
        let flip = std::mem::take(&mut vgpu.flip);
        let hang = std::mem::take(&mut vgpu.hang);
        vgpu.running = Some(Running {
            job,
            owner: Some(owner),
            table: Arc::clone(&table),
            cancel: cancel.clone(),
            started,
            flip,
            deadline,
        });
        let job = Job {
            id: job,
            commands,
            table,
            cancel,
            flip,
            hang,
        };
        env.start_job(id, job);
    }

    /// Takes the outcome of a job: its queue goes on, or its device fails.
    pub(crate) fn job_done(&mut self, job: JobId, outcome: JobOutcome, env: &mut dyn Env) {
        let mut vgpus = self.vgpus.iter_mut().enumerate();
        let runs = |(_, vgpu): &(usize, &mut Vgpu)| {
            vgpu.running.as_ref().is_some_and(|run| run.job == job)
        };
        let found = vgpus.find(runs);
        let found = found.and_then(|(id, v)| Some((VgpuId(id), v.running.take()?, v)));
        let Some((id, running, vgpu)) = found else {
            tracing::debug!(?job, "outcome of an unknown job");
            return;
        };
        // A job that wrote nothing leaves the wrong result to the next one.
        let flipped = matches!(outcome, JobOutcome::Ran { flipped: true, .. });
        vgpu.flip |= running.flip && !flipped;
        let ns = env.now_ns().saturating_sub(running.started);
        vgpu.engine_use.end(ns);
        if let Some(owner) = running.owner {
            if let Some(process) = self.processes.get_mut(owner.process) {
                process.engine_use.entry(id).or_default().end(ns);
            }
            self.finish(owner, outcome, env);
        }
        for held in std::mem::take(&mut self.held) {
            self.complete(held, env);
        }
    }

    fn finish(&mut self, owner: Owner, outcome: JobOutcome, env: &mut dyn Env) {
        if let Some(process) = self.processes.get_mut(owner.process) {
            let vgpu = process.objects.get(owner.queue).map(|object| object.vgpu);
            let work = vgpu.and_then(|vgpu| process.work_mut(vgpu, owner.queue).ok());
            if let Some(work) = work {
                work.running = None;
            }
        }
        let (state, fault) = match outcome {
            JobOutcome::Ran { outcome, .. } => match outcome {
                Outcome::Done | Outcome::Cancelled => return,
                Outcome::PageFault(fault) => {
                    tracing::debug!(%fault, "job faulted");
                    let flags = match fault.access {
                        Access::Read => PageFaultFlags::EMPTY,
                        Access::Write => PageFaultFlags::WRITE,
                    };
                    let fault = PageFaultState {
                        flags,
                        address: fault.va,
                        ..PageFaultState::default()
                    };
                    (ExecutionState::ERROR_DMA_PAGE_FAULT, fault)
                }
                Outcome::BadProgram => (ExecutionState::ERROR_DMA_FAULT, PageFaultState::default()),
                Outcome::Hung => (ExecutionState::HUNG, PageFaultState::default()),
                Outcome::BadCommands(error) => {
                    tracing::debug!(%error, "malformed command buffer");
                    (ExecutionState::ERROR_DMA_FAULT, PageFaultState::default())
                }
            },
            JobOutcome::Crashed => (ExecutionState::HUNG, PageFaultState::default()),
        };
        self.fail_device(owner.process, owner.device, state, fault, env);
    }
}
