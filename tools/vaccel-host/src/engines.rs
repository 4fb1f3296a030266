// SPDX-License-Identifier: MIT OR Apache-2.0
//! One thread a virtual GPU, which runs its engine's jobs.
//!
//! The GPU-PV host gives each GPU one job at a time. A job that has nothing to run is done at once, on the
//! thread that gives it: to hand it over would take longer, and a real GPU takes none of the guest's
//! processor for it. A panic of the engine is caught and reported as the engine's fault. The threads
//! end when the handle is dropped and their job is over.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::PathBuf;
use std::sync::mpsc::{self, Sender};
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result};
use engine::{BuiltIn, Engine, ShaderEngine};
use gpupv_host::{Job, JobOutcome, VgpuId};
use shader_process::ShaderProcess;
use vmm::SharedMemory;

use crate::cli::{EngineArg, RunArgs};
use crate::inbox::Inbox;

/// Program that runs compute shaders, beside this one unless asked for otherwise.
const WORKER: &str = "vaccel-spirv-worker";

/// Makes the engine of one virtual GPU.
///
/// # Errors
///
/// Fails if there is nothing that can run compute shaders, and they were asked for.
pub fn engine(args: &RunArgs) -> Result<Arc<dyn Engine>> {
    if args.engine == EngineArg::BuiltIn {
        return Ok(Arc::new(BuiltIn));
    }
    let program = worker_program(args)?;
    let shaders =
        ShaderProcess::start(&program).context("--engine spirv has no compute shaders")?;
    Ok(Arc::new(ShaderEngine::new(shaders)))
}

/// The program that runs compute shaders.
///
/// # Errors
///
/// Fails if the one that was asked for is not there.
pub fn worker_program(args: &RunArgs) -> Result<PathBuf> {
    let program = match &args.spirv_worker {
        // A worker starts in another folder.
        Some(program) => program.canonicalize(),
        None => std::env::current_exe().map(|own| own.with_file_name(WORKER)),
    };
    program.context("cannot find the program of --engine spirv")
}

/// The thread of one engine. It ends when this is dropped.
pub struct Worker(Sender<Job>);

/// The engines of all virtual GPUs, in their order.
pub struct Engines {
    workers: Vec<Worker>,
    memory: SharedMemory,
    inbox: Arc<Inbox>,
}

impl Engines {
    /// Starts a thread for each engine. Outcomes go to `inbox`.
    ///
    /// # Errors
    ///
    /// Fails if a thread cannot be made.
    pub fn start(
        engines: Vec<Arc<dyn Engine>>,
        memory: &SharedMemory,
        inbox: &Arc<Inbox>,
    ) -> std::io::Result<Self> {
        let mut all = Self {
            workers: Vec::new(),
            memory: Arc::clone(memory),
            inbox: Arc::clone(inbox),
        };
        for engine in engines {
            let worker = all.worker(engine)?;
            all.add(worker);
        }
        Ok(all)
    }

    /// Starts the thread of a GPU that is to be added, for its engine.
    ///
    /// # Errors
    ///
    /// Fails if a thread cannot be made.
    pub fn worker(&self, engine: Arc<dyn Engine>) -> std::io::Result<Worker> {
        let (sender, jobs) = mpsc::channel::<Job>();
        let memory = Arc::clone(&self.memory);
        let inbox = Arc::clone(&self.inbox);
        thread::Builder::new()
            .name(format!("engine{}", self.workers.len()))
            .spawn(move || {
                for job in jobs {
                    inbox.done(job.id(), run(&job, engine.as_ref(), &memory));
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
