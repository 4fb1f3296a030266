// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compute shaders in a process of their own, seen from outside.
//!
//! Whatever a guest's shader makes of the compiler and the Vulkan driver, it does in a worker
//! process that has nothing but a socket: module, constants and buffers go there, buffers come back
//! ([`protocol`]). [`ShaderProcess`] starts it, believes nothing that it says about sizes, and kills
//! it when a shader is over its time, when the caller loses interest, and when it breaks the
//! protocol. The next dispatch gets a new one.
//!
//! Rules:
//!
//! - one request at a time; a worker is kept after a request that ended well or was refused, and in
//!   no other case;
//! - a worker ends with the [`ShaderProcess`], and by itself when the socket closes or the process
//!   that started it dies.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

pub mod protocol;
mod socket;
mod worker;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use engine::{Pace, ShaderCall, ShaderStop, Shaders};

use worker::{Ended, Worker};

/// How long a worker may take to say that it is ready: it loads a driver and makes a device.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Why there are no compute shaders.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The program does not run.
    #[error("cannot start {program}")]
    Spawn {
        /// The program.
        program: PathBuf,
        /// What the system says.
        #[source]
        error: io::Error,
    },
    /// The worker says what is missing.
    #[error("{0}")]
    Unable(String),
    /// It ended, stayed silent or spoke another language.
    #[error("{program} does not answer as a worker")]
    Silent {
        /// The program.
        program: PathBuf,
    },
}

/// Runs compute shaders in a worker process.
#[derive(Debug)]
pub struct ShaderProcess {
    program: PathBuf,
    device: String,
    worker: Mutex<Option<Worker>>,
}

impl ShaderProcess {
    /// Starts a worker and waits until it has a Vulkan device.
    ///
    /// # Errors
    ///
    /// Fails if the program does not run or finds no Vulkan device, after a minute at most.
    pub fn start(program: &Path) -> Result<Self, StartError> {
        let deadline = Instant::now().checked_add(START_LIMIT);
        let (worker, device) = Worker::start(program, deadline, &Patient)?;
        Ok(Self {
            program: program.to_owned(),
            device,
            worker: Mutex::new(Some(worker)),
        })
    }

    /// Process id of the worker, if there is one.
    pub fn worker_pid(&self) -> Option<u32> {
        self.lock().as_ref().map(Worker::pid)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Worker>> {
        // The slot is empty while a request runs, so a panic leaves it right.
        self.worker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn restart(&self, deadline: Option<Instant>, pace: &dyn Pace) -> Result<Worker, ShaderStop> {
        match Worker::start(&self.program, deadline, pace) {
            Ok((worker, _)) => Ok(worker),
            Err(_) if pace.cancelled() => Err(ShaderStop::Cancelled),
            Err(error) => {
                tracing::error!(%error, "no new shader worker");
                Err(ShaderStop::Died)
            }
        }
    }
}

impl Shaders for ShaderProcess {
    fn device(&self) -> &str {
        &self.device
    }

    fn run(
        &self,
        call: &mut ShaderCall,
        limit: Duration,
        pace: &dyn Pace,
    ) -> Result<(), ShaderStop> {
        let deadline = Instant::now().checked_add(limit);
        let mut slot = self.lock();
        let mut worker = match slot.take() {
            Some(worker) => worker,
            None => self.restart(deadline, pace)?,
        };
        match worker.run(call, deadline, pace) {
            Ok(()) => {
                *slot = Some(worker);
                Ok(())
            }
            Err(Ended::Refused(reason)) => {
                tracing::debug!(reason, "shader refused");
                *slot = Some(worker);
                Err(ShaderStop::Refused)
            }
            // In each other case the worker is dropped, which kills it.
            Err(Ended::TimedOut) => Err(ShaderStop::Hung),
            Err(Ended::Cancelled) => Err(ShaderStop::Cancelled),
            Err(Ended::Broken(error)) => {
                tracing::debug!(%error, "the shader worker died");
                Err(ShaderStop::Died)
            }
        }
    }
}

/// Interest that does not end.
struct Patient;

impl Pace for Patient {
    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }

    fn cancelled(&self) -> bool {
        false
    }
}
