// SPDX-License-Identifier: MIT OR Apache-2.0
//! All of it, in an order that follows from the seed, until the time is up.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::fuzz::{self, Kind};
use crate::injection::Injection;
use crate::trial::Trial;
use crate::{faults, kill, row, shortage, storm};

/// How long input of one kind is made up at a time.
const FUZZ: Duration = Duration::from_secs(15);
/// Times in a storm.
const STORM: u64 = 3;

/// Goes on until the time is up.
///
/// # Errors
///
/// The table has no rows.
pub fn run(trial: &mut Trial, module: &Path) -> Result<()> {
    let rows = row::chosen(&[])?;
    let can_fail = Injection::open().is_ok();
    if !can_fail {
        eprintln!("# this kernel cannot make allocations fail: no faults");
    }
    while !trial.is_over() {
        match trial.numbers.below(13) {
            0..=5 => {
                let row = trial.numbers.pick(&rows).copied();
                let point = trial.numbers.pick(&kill::POINTS).copied();
                if let (Some(row), Some(point)) = (row, point) {
                    kill::one(trial, &row, point);
                }
            }
            6..=8 if can_fail => {
                if let Some(row) = trial.numbers.pick(&rows).copied() {
                    faults::one(trial, &row);
                }
            }
            9 => storm::rescind(trial, STORM),
            10 => storm::reload(trial, module, STORM),
            11 if can_fail => shortage::run(trial, 1)?,
            _ => {
                if let Some(kind) = trial.numbers.pick(&Kind::ALL).copied() {
                    fuzz::run(trial, kind, FUZZ);
                }
            }
        }
    }
    Ok(())
}
