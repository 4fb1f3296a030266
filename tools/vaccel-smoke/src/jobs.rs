// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tests. Each computes on the accelerator and compares every output with the CPU.

mod copy;
mod digits;
mod fence;
mod fill;
mod gemm;
mod host_memory;
mod oversubscribe;
mod reduce;
mod shader;
mod share;
mod sparse;
mod spin;
mod sync;
mod vector_add;

use std::time::{Duration, Instant};

use libvaccel::compute::Session;
use libvaccel::{Deadline, Device, Features};
use vaccel_isa::{CommandStream, Opcode};

use crate::data::Data;
use crate::failure::Failure;
use crate::model::Figure;

/// What a test works with.
#[derive(Debug)]
pub struct Bench {
    /// The accelerator.
    pub device: Device,
    /// Arrays.
    pub data: Data,
    /// What the test may take.
    pub timeout: Duration,
    /// Until when the test must be done.
    pub deadline: Deadline,
}

/// What a test that passed has measured.
#[derive(Debug, Default)]
pub struct Measured {
    /// Outputs compared.
    pub outputs: u64,
    /// Time from the launch of the work to its end.
    pub time: Duration,
    /// Amount of work, and its unit per second.
    pub amount: Option<(f64, &'static str)>,
    /// Further results.
    pub figures: Vec<Figure>,
}

/// A test.
#[derive(Debug)]
pub struct Job {
    /// Name on the command line.
    pub name: &'static str,
    /// What it shows.
    pub what: &'static str,
    /// What the engine must be able to do.
    pub needs: &'static [Opcode],
    /// Runs it once.
    pub run: fn(&Bench) -> Result<Measured, Failure>,
}

/// All tests, the main job last.
pub const ALL: &[Job] = &[
    fill::JOB,
    copy::JOB,
    vector_add::JOB,
    gemm::JOB,
    reduce::JOB,
    spin::JOB,
    fence::JOB,
    host_memory::JOB,
    oversubscribe::JOB,
    sparse::JOB,
    share::JOB,
    sync::JOB,
    shader::ADD,
    shader::REDUCE,
    shader::GEMM,
    shader::INVALID,
    shader::ENDLESS,
    digits::JOB,
];

impl Bench {
    /// Says that the test is not possible unless the driver announces all of `features`.
    fn needs(&self, features: Features) -> Result<(), Failure> {
        let missing = features.difference(self.device.features()?);
        if missing.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = missing
            .iter_names()
            .map(|(name, _)| name.to_lowercase().replace('_', "-"))
            .collect();
        Err(Failure::NotPossible(format!(
            "the driver lacks {}",
            names.join(", ")
        )))
    }

    /// Runs a stream in a session and takes the time.
    fn timed(&self, session: &mut Session, stream: CommandStream) -> Result<Duration, Failure> {
        let begin = Instant::now();
        session.run(stream, self.deadline)?;
        Ok(begin.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that no two tests share a name, by which users ask for them.
    #[test]
    fn names_are_unique() {
        let mut names: Vec<&str> = ALL.iter().map(|job| job.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }
}
