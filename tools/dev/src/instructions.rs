// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table that ends `make bench-instructions`: what a job costs in instructions.
//!
//! The machine's clock counts an instruction as a nanosecond, so the seconds of the benchmark
//! `submission` are instructions there. It tells the guest's part of a job and the host's.

use serde::Serialize;
use serde_json::Value;

/// Nanoseconds, and so instructions, of a second.
const SECOND: f64 = 1e9;
/// Sizes of batches that the benchmark has.
const SIZES: [u32; 5] = [1, 4, 16, 64, 256];
/// The size with a target.
const CLAIMED: u32 = 64;
/// What a job by ring may cost the guest then, in what one by ioctl does.
const LIMIT: f64 = 0.25;

/// Instructions of a job.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Job {
    /// The guest's, and those of going from guest to host and back.
    pub guest: f64,
    /// The host's, on what the guest told it.
    pub host: f64,
}

impl Job {
    fn both(self) -> f64 {
        self.guest + self.host
    }
}

/// A size of batches.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Batch {
    /// Jobs.
    pub size: u32,
    /// A job by ioctl.
    pub ioctl: Job,
    /// A job by ring.
    pub ring: Job,
    /// The guest's instructions by ring to those by ioctl.
    pub guest_ratio: f64,
    /// All instructions by ring to those by ioctl.
    pub ratio: f64,
}

/// What `out/bench-instructions.json` holds.
#[derive(Clone, Debug, Serialize)]
pub struct Instructions {
    /// Version of this format.
    pub schema: u32,
    /// Whether it ran and met its target.
    pub ok: bool,
    /// Medians, by size of the batch.
    pub batches: Vec<Batch>,
    /// What the guest's ratio may be at most at 64 jobs.
    pub target: f64,
    /// What the benchmark printed; its seconds are instructions.
    pub report: Value,
    /// Wall time of the whole.
    pub seconds: f64,
    /// What went wrong.
    pub problems: Vec<String>,
}

/// The median of a series, in instructions.
fn median(report: &Value, name: &str) -> Option<f64> {
    let benchmarks = report.get("benchmarks")?.as_array()?.iter();
    let mut series = benchmarks.filter_map(|b| b.get("series")?.as_array());
    let found = series.find_map(|all| {
        let mut all = all.iter();
        all.find(|one| one.get("name").and_then(Value::as_str) == Some(name))
    });
    Some(found?.get("median")?.as_f64()? * SECOND)
}

fn job(report: &Value, size: u32, way: &str) -> Option<Job> {
    let part = |whose| {
        let name = format!("the {whose}'s part of a job, batches of {size}, by {way}");
        median(report, &name)
    };
    Some(Job {
        guest: part("guest")?,
        host: part("host")?,
    })
}

fn batch(report: &Value, size: u32) -> Option<Batch> {
    let (ioctl, ring) = (job(report, size, "ioctl")?, job(report, size, "ring")?);
    (ioctl.guest > 0.0).then(|| Batch {
        size,
        ioctl,
        ring,
        guest_ratio: ring.guest / ioctl.guest,
        ratio: ring.both() / ioctl.both(),
    })
}

/// Reads what the benchmark printed.
fn batches(report: &Value) -> Vec<Batch> {
    let each = SIZES.iter().filter_map(|size| batch(report, *size));
    each.collect()
}

impl Instructions {
    /// Judges a report. A report without the size that has the target is no success.
    pub fn new(report: Value, passed: bool, seconds: f64, problems: Vec<String>) -> Self {
        let batches = batches(&report);
        let claimed = batches.iter().find(|batch| batch.size == CLAIMED);
        Self {
            schema: 1,
            ok: passed && claimed.is_some_and(|batch| batch.guest_ratio <= LIMIT),
            target: LIMIT,
            batches,
            report,
            seconds,
            problems,
        }
    }

    /// The table, ready to print.
    pub fn table(&self) -> String {
        let mut out = String::from(
            "instructions of a job   by ioctl           by ring            ring / ioctl\n\
             batches of             guest     host     guest     host     guest    both\n",
        );
        for batch in &self.batches {
            let Batch { ioctl, ring, .. } = batch;
            let verdict = match (batch.size == CLAIMED, batch.guest_ratio <= LIMIT) {
                (false, _) => String::new(),
                (true, true) => format!("  guest at most {LIMIT}: met"),
                (true, false) => format!("  guest at most {LIMIT}: MISSED"),
            };
            out.push_str(&format!(
                "{:>10}        {:>10.0} {:>8.0}  {:>8.0} {:>8.0}    {:>6.2}  {:>6.2}{verdict}\n",
                batch.size,
                ioctl.guest,
                ioctl.host,
                ring.guest,
                ring.host,
                batch.guest_ratio,
                batch.ratio
            ));
        }
        for problem in &self.problems {
            out.push_str(&format!("problem: {problem}\n"));
        }
        let verdict = if self.ok { "ok" } else { "FAILED" };
        out.push_str(&format!("in {:.0} s: {verdict}\n", self.seconds));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn report(ring: f64) -> Value {
        let series = |whose: &str, way: &str, median: f64| {
            json!({
                "name": format!("the {whose}'s part of a job, batches of 64, by {way}"),
                "median": median,
            })
        };
        json!({"benchmarks": [{"series": [
            series("guest", "ioctl", 2e-5), series("host", "ioctl", 3e-5),
            series("guest", "ring", ring), series("host", "ring", 2e-5),
        ]}]})
    }

    /// Seconds become instructions, and the guest's ratio alone decides.
    #[test]
    fn guest_decides() {
        let met = Instructions::new(report(5e-6), true, 1.0, vec![]);
        assert!(met.ok, "{}", met.table());
        assert_eq!(met.batches.len(), 1);
        assert_eq!(met.batches[0].ring.guest.round(), 5000.0);
        assert_eq!(met.batches[0].ratio, 0.5);
        assert!(met.table().contains("guest at most 0.25: met"));
        let missed = Instructions::new(report(6e-6), true, 1.0, vec![]);
        assert!(!missed.ok);
        assert!(missed.table().contains("MISSED"), "{}", missed.table());
    }

    /// Without numbers, or with a machine that failed, there is no success.
    #[test]
    fn silence_is_no_success() {
        assert!(!Instructions::new(json!({}), true, 1.0, vec![]).ok);
        assert!(!Instructions::new(report(5e-6), false, 1.0, vec![]).ok);
    }
}
