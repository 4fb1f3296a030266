// SPDX-License-Identifier: MIT OR Apache-2.0
//! `bench`: how much operations cost, as ratios to something measured in the same run.
//!
//! A benchmark is one file below and one line in [`ALL`]. It measures [`Samples`], adds what it
//! measured and the ratios that follow to its [`Findings`], and says on standard error how far it
//! is. Statistics, report and table are shared. How to read the numbers is said in
//! Documentation/accel/vaccel/performance.rst.

mod bandwidth;
mod channels;
mod dxg;
mod machine;
mod memory;
mod model;
mod objects;
mod round_trip;
mod statistics;
mod submission;
mod sync;
mod system;
mod table;

use std::io;
use std::time::{Duration, Instant};

use libvaccel::{Deadline, Device, Segment};

use crate::cli::{Backend, BenchOptions};
use crate::environment::System;
use crate::failure::{Exit, Stop};
use crate::model::DeviceInfo;
use crate::print;
use crate::select;
use crate::show;
use machine::Machine;
use model::{BenchmarkReport, Findings, Report, Status};
use statistics::{Ratio, Samples};

/// Size of a page.
const PAGE: usize = 4096;
/// Longest wait for one operation of the host.
const WAIT_SECS: u64 = 120;
/// Pause between two looks at something that is not timed finely.
const PAUSE: Duration = Duration::from_micros(200);

/// A benchmark.
#[derive(Debug)]
struct Benchmark {
    /// Name on the command line.
    name: &'static str,
    /// What it measures.
    what: &'static str,
    /// Measures.
    run: fn(&Context, &mut Findings) -> Result<(), Unfinished>,
}

/// All benchmarks, in order.
const ALL: &[Benchmark] = &[
    round_trip::BENCHMARK,
    sync::BENCHMARK,
    submission::BENCHMARK,
    bandwidth::BENCHMARK,
    memory::BENCHMARK,
    objects::BENCHMARK,
];

/// Why a benchmark has no findings.
#[derive(Debug)]
enum Unfinished {
    /// It is not possible here.
    NotHere(String),
    /// Something went wrong.
    Failed(String),
}

impl From<libvaccel::Error> for Unfinished {
    fn from(error: libvaccel::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<io::Error> for Unfinished {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// What a benchmark works with.
#[derive(Debug)]
struct Context {
    device: Device,
    name: &'static str,
    rounds: Option<u32>,
    size: Option<u64>,
    objects: usize,
    host_share: bool,
}

impl Context {
    /// How many rounds to measure, `usual` ones unless the user asked for another number.
    fn rounds(&self, usual: u32) -> u32 {
        self.rounds.unwrap_or(usual)
    }

    /// Says how far it is. Never within something that is timed.
    fn progress(&self, text: &str) {
        progress(self.name, text);
    }

    /// Until when an operation must be done.
    fn deadline(&self) -> Deadline {
        Deadline::after_secs(WAIT_SECS)
    }

    /// Adds `samples`, and how many round trips to the host each is.
    fn in_round_trips(
        &self,
        findings: &mut Findings,
        of: &[(&str, &Samples)],
    ) -> Result<(), Unfinished> {
        let trips = round_trip::measure(&self.device, Segment::NonLocal, round_trip::SHORT)?;
        findings.seconds("round trip to the host", &trips);
        for (name, samples) in of {
            let ratio = Ratio::of_medians(samples, &trips);
            findings.ratio(format!("{name}, in round trips"), ratio);
        }
        Ok(())
    }
}

/// Runs the benchmarks.
pub fn run(options: &BenchOptions) -> Result<Exit, Stop> {
    if options.list {
        for benchmark in ALL {
            print::line(&format!("{:<16}{}", benchmark.name, benchmark.what))?;
        }
        return Ok(Exit::Pass);
    }
    let chosen = choose(&options.names)?;
    let (info, reports) = match options.backend {
        Backend::Accel => on_accel(&chosen, options)?,
        Backend::Dxg => on_dxg(&chosen, options)?,
    };
    let report = Report::new(Machine::read(), info, reports);
    if options.json {
        print::json(&report)?;
    } else {
        print::line(&table::text(&report))?;
    }
    Ok(exit(&report))
}

/// Runs the benchmarks on this driver.
fn on_accel(
    chosen: &[&'static Benchmark],
    options: &BenchOptions,
) -> Result<(DeviceInfo, Vec<BenchmarkReport>), Stop> {
    let device = select::one(options.device.as_deref(), &System::default())?;
    let info = show::describe(&device)?;
    let run = |benchmark: &&'static Benchmark| {
        let context = Context {
            device: device.clone(),
            name: benchmark.name,
            rounds: options.rounds,
            size: options.size,
            objects: options.objects,
            host_share: options.host_share,
        };
        run_one(benchmark, |findings| (benchmark.run)(&context, findings))
    };
    Ok((info, chosen.iter().map(run).collect()))
}

/// Runs what there is of the benchmarks on the other driver.
fn on_dxg(
    chosen: &[&'static Benchmark],
    options: &BenchOptions,
) -> Result<(DeviceInfo, Vec<BenchmarkReport>), Stop> {
    let rig = dxg::Rig::open(options.rounds, options.size)?;
    let run = |benchmark: &&'static Benchmark| {
        run_one(benchmark, |findings| rig.run(benchmark, findings))
    };
    Ok((rig.info(), chosen.iter().map(run).collect()))
}

/// The exit status of a run.
fn exit(report: &Report) -> Exit {
    if report.failed > 0 || report.missed > 0 {
        Exit::Fail
    } else if report.ran == 0 {
        Exit::NoDevice
    } else {
        Exit::Pass
    }
}

/// Says how far a benchmark is.
fn progress(benchmark: &str, text: &str) {
    eprintln!("{benchmark}: {text}");
}

fn run_one(
    benchmark: &Benchmark,
    run: impl FnOnce(&mut Findings) -> Result<(), Unfinished>,
) -> BenchmarkReport {
    progress(benchmark.name, benchmark.what);
    let begin = Instant::now();
    let mut findings = Findings::default();
    let (status, reason) = match run(&mut findings) {
        Ok(()) => (Status::Ran, None),
        Err(Unfinished::NotHere(why)) => (Status::Skipped, Some(why)),
        Err(Unfinished::Failed(why)) => (Status::Failed, Some(why)),
    };
    let seconds = begin.elapsed().as_secs_f64();
    let end = match &reason {
        None => format!("done in {seconds:.0} s"),
        Some(why) => format!("no result: {why}"),
    };
    progress(benchmark.name, &end);
    BenchmarkReport {
        name: benchmark.name,
        what: benchmark.what,
        status,
        reason,
        seconds,
        findings,
    }
}

fn choose(names: &[String]) -> Result<Vec<&'static Benchmark>, Stop> {
    if names.is_empty() {
        return Ok(ALL.iter().collect());
    }
    let find = |name: &String| {
        let known = ALL.iter().find(|benchmark| benchmark.name == name);
        known.ok_or_else(|| {
            let all: Vec<&str> = ALL.iter().map(|benchmark| benchmark.name).collect();
            Stop {
                exit: Exit::Usage,
                message: format!("unknown benchmark \"{name}\""),
                advice: vec![format!("benchmarks: {}", all.join(", "))],
            }
        })
    };
    names.iter().map(find).collect()
}

/// A size in words, binary units.
fn bytes(value: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let exact = |shift: &u32| value >> shift != 0 && value.trailing_zeros() >= *shift;
    if value == 0 {
        return "none".into();
    }
    match units.iter().find(|(shift, _)| exact(shift)) {
        Some((shift, unit)) => format!("{} {unit}", value >> shift),
        None => format!("{:.1} MiB", value as f64 / f64::from(1 << 20)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use statistics::Target;

    /// A report of one benchmark with one claim.
    pub(super) fn report(status: Status, ratio: f64) -> Report {
        let mut samples = Samples::default();
        samples.push(ratio);
        let mut one = Samples::default();
        one.push(1.0);
        let mut findings = Findings::default();
        findings.seconds("a time", &samples);
        findings.claim(
            "this to that",
            Ratio::paired(&samples, &one),
            Target::AtMost(2.0),
        );
        findings.ratio("another", Ratio::of_medians(&samples, &one));
        findings.note("something to know");
        let benchmark = BenchmarkReport {
            name: "x",
            what: "Something",
            status,
            reason: (status != Status::Ran).then(|| "because".to_owned()),
            seconds: 1.0,
            findings,
        };
        Report::new(
            Machine::read(),
            crate::print::tests::device(),
            vec![benchmark],
        )
    }

    /// Proves that a target that is missed, and a benchmark that broke, are failures, and that
    /// nothing but skips is no success.
    #[test]
    fn exit_status() {
        assert_eq!(exit(&report(Status::Ran, 1.5)), Exit::Pass);
        assert_eq!(exit(&report(Status::Ran, 2.5)), Exit::Fail);
        assert_eq!(exit(&report(Status::Failed, 1.5)), Exit::Fail);
        assert_eq!(exit(&report(Status::Skipped, 1.5)), Exit::NoDevice);
    }

    /// Proves the JSON that others read: names, ratio, target, whether it is met.
    #[test]
    fn json_form() {
        let value = serde_json::to_value(report(Status::Ran, 2.5)).unwrap();
        assert_eq!((&value["schema"], &value["missed"]), (&1.into(), &1.into()));
        let benchmark = &value["benchmarks"][0];
        assert_eq!(benchmark["status"], "ran");
        assert_eq!(benchmark["series"][0]["median"], 2.5);
        let claim = &benchmark["ratios"][0];
        assert_eq!(
            (&claim["value"], &claim["met"]),
            (&2.5.into(), &false.into())
        );
        assert_eq!(claim["target"]["at-most"], 2.0);
        assert_eq!(benchmark["ratios"][1]["target"], serde_json::Value::Null);
    }

    /// Proves that names are unique, kept in the order asked for, and that a misspelt one is a
    /// usage error.
    #[test]
    fn choosing() {
        let mut names: Vec<&str> = ALL.iter().map(|benchmark| benchmark.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        let chosen = choose(&["object-cost".into(), "round-trip".into()]).unwrap();
        assert_eq!(chosen[0].name, "object-cost");
        assert_eq!(choose(&["round".into()]).unwrap_err().exit, Exit::Usage);
    }

    /// Proves the units.
    #[test]
    fn sizes() {
        assert_eq!(bytes(1 << 30), "1 GiB");
        assert_eq!(bytes(3 << 29), "1536 MiB");
        assert_eq!(bytes(4096), "4 KiB");
        assert_eq!(bytes(0), "none");
        assert_eq!(bytes((1 << 20) + 1), "1.0 MiB");
    }
}
