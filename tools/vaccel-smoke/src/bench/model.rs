// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a run of benchmarks says, before it is text or JSON.

use serde::Serialize;

use super::machine::Machine;
use super::statistics::{Ratio, Samples, Summary, Target};
use crate::model::DeviceInfo;

/// Version of the JSON.
pub const SCHEMA: u32 = 1;

/// Samples of one thing, summed up.
#[derive(Clone, Debug, Serialize)]
pub struct Series {
    /// What.
    pub name: String,
    /// Of what the numbers are: `s` or `B/s`.
    pub unit: &'static str,
    /// The numbers.
    #[serde(flatten)]
    pub summary: Summary,
}

/// A ratio, with what it should be.
#[derive(Clone, Debug, Serialize)]
pub struct Claim {
    /// What is compared with what.
    pub name: String,
    /// The ratio.
    #[serde(flatten)]
    pub ratio: Ratio,
    /// What it should be; none where it is only told.
    pub target: Option<Target>,
    /// Whether it is; none without a target.
    pub met: Option<bool>,
}

/// What a benchmark found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Findings {
    /// What was measured.
    pub series: Vec<Series>,
    /// What follows.
    pub ratios: Vec<Claim>,
    /// What a reader has to know besides, a line each.
    pub notes: Vec<String>,
}

impl Findings {
    /// Adds times.
    pub fn seconds(&mut self, name: impl Into<String>, samples: &Samples) {
        self.series(name, "s", samples);
    }

    /// Adds measured values.
    pub fn series(&mut self, name: impl Into<String>, unit: &'static str, samples: &Samples) {
        self.series.push(Series {
            name: name.into(),
            unit,
            summary: samples.summary(),
        });
    }

    /// Adds a ratio that has a target.
    pub fn claim(&mut self, name: impl Into<String>, ratio: Ratio, target: Target) {
        self.ratios.push(Claim {
            name: name.into(),
            ratio,
            target: Some(target),
            met: Some(target.is_met(ratio.value)),
        });
    }

    /// Adds a ratio that is only told.
    pub fn ratio(&mut self, name: impl Into<String>, ratio: Ratio) {
        self.ratios.push(Claim {
            name: name.into(),
            ratio,
            target: None,
            met: None,
        });
    }

    /// Adds a note.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }
}

/// How a benchmark ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It ran; whether targets were met is said with its ratios.
    Ran,
    /// It did not come to its end.
    Failed,
    /// It is not possible here.
    Skipped,
}

/// One benchmark.
#[derive(Clone, Debug, Serialize)]
pub struct BenchmarkReport {
    /// Name.
    pub name: &'static str,
    /// What it measures.
    pub what: &'static str,
    /// How it ended.
    pub status: Status,
    /// Why, unless it ran.
    pub reason: Option<String>,
    /// How long it took.
    pub seconds: f64,
    /// What it found.
    #[serde(flatten)]
    pub findings: Findings,
}

/// A run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// What was measured on.
    pub machine: Machine,
    /// What was measured.
    pub device: DeviceInfo,
    /// The benchmarks, in order.
    pub benchmarks: Vec<BenchmarkReport>,
    /// How many ran.
    pub ran: usize,
    /// How many did not come to their end.
    pub failed: usize,
    /// How many are not possible here.
    pub skipped: usize,
    /// Ratios that have a target and meet it.
    pub met: usize,
    /// Ratios that miss their target.
    pub missed: usize,
}

impl Report {
    /// Counts.
    pub fn new(machine: Machine, device: DeviceInfo, benchmarks: Vec<BenchmarkReport>) -> Self {
        let of = |wanted: Status| benchmarks.iter().filter(|b| b.status == wanted).count();
        let ratios = |wanted: bool| {
            let all = benchmarks.iter().flat_map(|b| &b.findings.ratios);
            all.filter(|claim| claim.met == Some(wanted)).count()
        };
        Self {
            schema: SCHEMA,
            machine,
            device,
            ran: of(Status::Ran),
            failed: of(Status::Failed),
            skipped: of(Status::Skipped),
            met: ratios(true),
            missed: ratios(false),
            benchmarks,
        }
    }
}
