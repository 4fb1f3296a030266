// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was done, in numbers, and what went wrong.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Serialize;

/// Version of the document.
const SCHEMA: u32 = 1;
/// Failures that are kept; how many there are is counted all the same.
const KEPT: usize = 50;

/// Numbers of things that were done, of things that happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Operations of the table that were tried.
    pub rows: u64,
    /// Processes killed.
    pub kills: u64,
    /// Of these, while the host was silent.
    pub kills_mute: u64,
    /// Allocations and copies that were made to fail.
    pub faults: u64,
    /// Allocations that were made to fail wherever the driver made them.
    pub faults_anywhere: u64,
    /// Random inputs that the driver was given.
    pub inputs: u64,
    /// Of these, those that it took.
    pub inputs_taken: u64,
    /// Places in the driver's code that the inputs reached (KCOV), 0 without that.
    pub places: u64,
    /// Channels taken back by the host and offered again.
    pub rescinds: u64,
    /// Times the module was unloaded and loaded.
    pub reloads: u64,
    /// Times it could not be unloaded because it was in use.
    pub reloads_busy: u64,
    /// Times objects were left on the host.
    pub leaks: u64,
}

impl Counts {
    /// Adds up; what is a maximum stays one.
    pub fn add(&mut self, other: &Self) {
        self.rows += other.rows;
        self.kills += other.kills;
        self.kills_mute += other.kills_mute;
        self.faults += other.faults;
        self.faults_anywhere += other.faults_anywhere;
        self.inputs += other.inputs;
        self.inputs_taken += other.inputs_taken;
        self.places = self.places.max(other.places);
        self.rescinds += other.rescinds;
        self.reloads += other.reloads;
        self.reloads_busy += other.reloads_busy;
        self.leaks += other.leaks;
    }
}

/// The document that this program prints.
#[derive(Debug, Serialize)]
pub struct Report {
    schema: u32,
    command: &'static str,
    seed: u64,
    seconds: f64,
    ok: bool,
    counts: Counts,
    /// Faults by row: how many allocations each has.
    faults_of: BTreeMap<String, u64>,
    failed: u64,
    failures: Vec<String>,
    #[serde(skip)]
    begin: Instant,
}

impl Report {
    /// Of nothing yet.
    pub fn new(command: &'static str, seed: u64) -> Self {
        Self {
            schema: SCHEMA,
            command,
            seed,
            seconds: 0.0,
            ok: false,
            counts: Counts::default(),
            faults_of: BTreeMap::new(),
            failed: 0,
            failures: Vec::new(),
            begin: Instant::now(),
        }
    }

    /// Notes what was done.
    pub fn add(&mut self, counts: &Counts) {
        self.counts.add(counts);
    }

    /// Notes the faults of a row.
    pub fn add_faults(&mut self, row: &str, faults: u64) {
        self.faults_of.insert(row.to_owned(), faults);
    }

    /// Notes what is wrong.
    pub fn fail(&mut self, what: String) {
        eprintln!("FAILED: {what}");
        self.failed += 1;
        if self.failures.len() < KEPT {
            self.failures.push(what);
        }
    }

    /// Prints the document; true if nothing was wrong and something was done.
    pub fn finish(mut self) -> bool {
        self.seconds = self.begin.elapsed().as_secs_f64();
        self.ok = self.failed == 0 && self.counts != Counts::default();
        match serde_json::to_string(&self) {
            Ok(text) => println!("{text}"),
            Err(error) => {
                eprintln!("vaccel-survive: the report: {error}");
                return false;
            }
        }
        self.ok
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that nothing done is no success, one failure is none, and work without one is.
    #[test]
    fn verdicts() {
        let work = Counts {
            kills: 1,
            ..Default::default()
        };
        assert!(!Report::new("kill", 1).finish());
        let mut report = Report::new("kill", 1);
        report.add(&work);
        assert!(report.finish());
        let mut report = Report::new("kill", 1);
        report.add(&work);
        report.fail("x".into());
        assert!(!report.finish());
    }

    /// Proves that sums are sums and the highest coverage stays.
    #[test]
    fn sums() {
        let one = Counts {
            kills: 1,
            places: 7,
            leaks: 2,
            ..Default::default()
        };
        let mut sum = one.clone();
        sum.add(&Counts { places: 5, ..one });
        assert_eq!((sum.kills, sum.places, sum.leaks), (2, 7, 4));
    }
}
