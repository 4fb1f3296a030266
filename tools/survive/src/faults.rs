// SPDX-License-Identifier: MIT OR Apache-2.0
//! The fault sweep: in each operation the first allocation or copy fails, then the second, and so on
//! until it does not get to as many.
//!
//! Each time the operation either succeeds or gives a documented errno. One that gives ENOMEM has not
//! done anything: done again, with nothing made to fail, it succeeds.

use std::path::Path;
use std::time::Duration;

use anyhow::{bail, ensure, Context as _, Result};
use libvaccel::ioctl::Errno;

use crate::injection::Injection;
use crate::kill::find;
use crate::report::Counts;
use crate::rig::Rig;
use crate::row::{self, Row, Step};
use crate::trial::Trial;
use crate::worker::{say, Worker};

/// No operation allocates so often; one that seems to does not get on.
const MOST: u32 = 3000;
/// How long one row may take.
const LIMIT: Duration = Duration::from_secs(240);

/// Sweeps these rows, in an order that follows from the seed, until the time is up.
///
/// # Errors
///
/// A name is unknown, or the kernel cannot make allocations fail.
pub fn run(trial: &mut Trial, names: &[String]) -> Result<()> {
    let mut rows = row::chosen(names)?;
    // Says why before a process of each row does.
    Injection::open()?;
    trial.numbers.shuffle(&mut rows);
    for row in rows {
        if trial.is_over() {
            break;
        }
        one(trial, &row);
    }
    Ok(())
}

/// Sweeps one row, and judges what is left.
pub fn one(trial: &mut Trial, row: &Row) {
    let what = format!("faults {}", row.name);
    let outcome = sweep_in_process(trial, row);
    if let Ok(counts) = &outcome {
        eprintln!("# {what}: {}", counts.faults);
        trial.report.add_faults(row.name, counts.faults);
    }
    trial.judge(&what, outcome);
}

fn sweep_in_process(trial: &Trial, row: &Row) -> Result<Counts> {
    let worker = Worker::start(&trial.node, &["sweep", row.name])?;
    let said = worker.finish(LIMIT)?;
    let faults = said.last().context("the process said nothing")?;
    Ok(Counts {
        rows: 1,
        faults: faults.parse()?,
        ..Default::default()
    })
}

/// The process that sweeps a row and says how many faults there were.
///
/// # Errors
///
/// The operation did not behave.
pub fn sweep(node: &Path, name: &str) -> Result<()> {
    let row = find(name)?;
    let injection = Injection::open()?;
    let rig = Rig::new(node)?;
    for nth in 1..=MOST {
        let mut step =
            (row.prepare)(&rig).with_context(|| format!("to prepare for fault {nth}"))?;
        injection.arm(nth)?;
        let outcome = step();
        let hit = injection.disarm()?;
        if !hit {
            ensure!(outcome.is_ok(), "without a fault: {outcome:?}");
            return say(&(nth - 1).to_string());
        }
        after_fault(&row, outcome, step).with_context(|| format!("fault {nth}"))?;
    }
    bail!("there is no end of it after {MOST} faults")
}

fn after_fault(row: &Row, outcome: Result<(), Errno>, mut step: Step<'_>) -> Result<()> {
    match outcome {
        // What failed was not needed.
        Ok(()) => Ok(()),
        Err(Errno(libc::ENOMEM)) => {
            step().map_err(|errno| anyhow::anyhow!("done again after ENOMEM: {errno}"))
        }
        // What the operation has done cannot be told then: the answer did not get through.
        Err(Errno(libc::EFAULT)) => Ok(()),
        Err(Errno(errno)) if row.also.contains(&errno) => Ok(()),
        Err(errno) => bail!("{errno}"),
    }
}
