// SPDX-License-Identifier: MIT OR Apache-2.0
//! How much of a job is the host's own work, by the host's own clock.
//!
//! Where guest and host share one processor, the time of a job is that of both. The host says how
//! long its thread has run; what is left is the guest's, and what it takes to go from one to the
//! other.

use std::fs::File;
use std::time::Instant;

use guest_init::control::{Control, ControlError};
use serde_json::{json, Value};

use super::super::statistics::{Ratio, Samples};
use super::super::{Findings, Unfinished};
use super::door::Way;
use super::lane::Lane;
use super::rates::SIZES;

/// Jobs of a sample, at least.
const JOBS: u32 = 64;
/// Samples of a round for each way and size. Many short ones: a timer's tick is in some of them, and not
/// in the median.
const TURNS: usize = 8;

impl From<ControlError> for Unfinished {
    fn from(error: ControlError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// What a job takes, by size of the batch.
#[derive(Debug, Default)]
struct Of {
    host: [Samples; SIZES.len()],
    guest: [Samples; SIZES.len()],
}

/// The host, and what was measured of both ways, in the order of [`Way`].
#[derive(Debug)]
pub struct Share {
    control: Control,
    of: [Of; 2],
}

impl Share {
    /// Finds the host.
    pub fn open() -> Result<Self, Unfinished> {
        let nobody = || Unfinished::NotHere("no host answers on the second serial port".into());
        Ok(Self {
            control: Control::open().ok_or_else(nobody)?,
            of: Default::default(),
        })
    }

    /// Seconds that the host has worked.
    fn worked(&mut self) -> Result<f64, Unfinished> {
        let answer = self.control.request(&json!({"op": "time"}))?;
        let busy = answer.get("busy_ns").and_then(Value::as_f64);
        let unknown = || Unfinished::NotHere(format!("the host tells no time: {answer}"));
        Ok(busy.ok_or_else(unknown)? / 1e9)
    }

    /// Measures each a few times, the ways in the order given.
    pub fn round(&mut self, file: &File, lane: &mut Lane, ways: &[Way]) -> Result<(), Unfinished> {
        for (place, size) in SIZES.into_iter().enumerate() {
            for way in ways.iter().cycle().take(ways.len() * TURNS) {
                self.sample(file, lane, *way, (place, size))?;
            }
        }
        Ok(())
    }

    /// Measures one way with batches of one size.
    fn sample(
        &mut self,
        file: &File,
        lane: &mut Lane,
        way: Way,
        (place, size): (usize, u32),
    ) -> Result<(), Unfinished> {
        let mut door = way.open(file)?;
        let batches = JOBS.div_ceil(size);
        // What the question itself takes.
        let asked = -self.worked()? + self.worked()?;
        let before = self.worked()?;
        let begin = Instant::now();
        for _ in 0..batches {
            lane.submit(&mut door, size)?;
            lane.finish()?;
        }
        let whole = begin.elapsed().as_secs_f64();
        let host = self.worked()? - before - asked;
        let jobs = f64::from(batches * size);
        let of = &mut self.of[way as usize];
        of.host[place].push(host / jobs);
        of.guest[place].push((whole - host) / jobs);
        Ok(())
    }

    /// Adds what was measured.
    pub fn report(&self, findings: &mut Findings, ways: &[Way]) {
        for way in ways {
            let Of { host, guest } = &self.of[*way as usize];
            for (whose, all) in [("guest", guest), ("host", host)] {
                for (size, samples) in SIZES.iter().zip(all) {
                    findings.seconds(name(whose, *size, *way), samples);
                }
            }
        }
        let [ioctl, ring] = &self.of;
        for (place, size) in SIZES.iter().enumerate().filter(|_| ways.len() > 1) {
            let ratio = Ratio::paired(&ring.guest[place], &ioctl.guest[place]);
            findings.ratio(
                format!("the guest's part, batches of {size}, ring / ioctl"),
                ratio,
            );
        }
    }
}

/// Name of a series, by which others find it.
fn name(whose: &str, size: u32, way: Way) -> String {
    format!(
        "the {whose}'s part of a job, batches of {size}, by {}",
        way.name()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves the names of the series that the count of instructions is made of.
    #[test]
    fn names() {
        assert_eq!(
            name("guest", 64, Way::Ring),
            "the guest's part of a job, batches of 64, by ring"
        );
    }
}
