// SPDX-License-Identifier: MIT OR Apache-2.0
//! One thread a virtual GPU, which runs its engine's jobs.
//!
//! The GPU-PV host gives each GPU one job at a time. A job that has nothing to run is done at once, on the
//! thread that gives it: to hand it over would take longer, and a real GPU takes none of the guest's
//! processor for it. A panic of the engine is caught and reported as the engine's fault. The threads
//! end when the handle is dropped and their job is over.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::mpsc::{self, Sender};
use std::sync::Arc;
use std::thread;

use engine::{BuiltIn, Engine};
use gpupv_host::{Job, JobOutcome, VgpuId};
use vmm::SharedMemory;

use crate::inbox::Inbox;

/// The thread of one engine. It ends when this is dropped.
pub struct Worker(Sender<Job>);

/// The engines of all virtual GPUs, in their order.
pub struct Engines {
    workers: Vec<Worker>,
    memory: SharedMemory,
    inbox: Arc<Inbox>,
}

impl Engines {
    /// Starts the threads of `count` GPUs. Outcomes go to `inbox`.
    ///
    /// # Errors
    ///
    /// Fails if a thread cannot be made.
    pub fn start(count: usize, memory: &SharedMemory, inbox: &Arc<Inbox>) -> std::io::Result<Self> {
        let mut engines = Self {
            workers: Vec::new(),
            memory: Arc::clone(memory),
            inbox: Arc::clone(inbox),
        };
        for _ in 0..count {
            let worker = engines.worker()?;
            engines.add(worker);
        }
        Ok(engines)
    }

    /// Starts the thread of a GPU that is to be added.
    ///
    /// # Errors
    ///
    /// Fails if a thread cannot be made.
    pub fn worker(&self) -> std::io::Result<Worker> {
        let (sender, jobs) = mpsc::channel::<Job>();
        let memory = Arc::clone(&self.memory);
        let inbox = Arc::clone(&self.inbox);
        thread::Builder::new()
            .name(format!("engine{}", self.workers.len()))
            .spawn(move || {
                for job in jobs {
                    inbox.done(job.id(), run(&job, &BuiltIn, &memory));
                }
            })?;
        Ok(Worker(sender))
    }

    /// Makes a thread that of the next GPU.
    pub fn add(&mut self, worker: Worker) {
        self.workers.push(worker);
    }

    /// Gives a job to the thread of its GPU.
    pub fn start_job(&self, vgpu: VgpuId, job: Job) {
        if job.is_trivial() {
            let outcome = run(&job, &BuiltIn, &self.memory);
            return self.inbox.done(job.id(), outcome);
        }
        let sent = self
            .workers
            .get(vgpu.index())
            .is_some_and(|worker| worker.0.send(job).is_ok());
        if !sent {
            tracing::error!(vgpu = vgpu.index(), "the engine's thread is gone");
        }
    }
}

fn run(job: &Job, engine: &dyn Engine, memory: &SharedMemory) -> JobOutcome {
    catch_unwind(AssertUnwindSafe(|| {
        job.run(engine, memory.as_ref(), &thread::sleep)
    }))
    .unwrap_or_else(|_| {
        tracing::error!(job = ?job.id(), "the engine panicked");
        JobOutcome::Crashed
    })
}
