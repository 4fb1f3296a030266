// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table that ends `make demo`, made from what the smoke test printed.

use serde::Serialize;
use serde_json::Value;

use crate::report::Status;

/// One job of the demo.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Job {
    /// What ran.
    pub name: String,
    /// Whether every output was compared and right.
    pub verified: bool,
    /// How it ended.
    pub status: Status,
    /// How fast, with its unit; measured in this run.
    pub speed: Option<String>,
    /// More about it: accuracy, sizes, or why it failed.
    pub note: Option<String>,
}

/// What `out/demo.json` holds.
#[derive(Clone, Debug, Serialize)]
pub struct Demo {
    /// Version of this format.
    pub schema: u32,
    /// Whether everything ran and was verified.
    pub ok: bool,
    /// How the machine was run, in the host's own words.
    pub host: String,
    /// Guest kernel.
    pub kernel: String,
    /// The accelerator, as the guest saw it.
    pub accelerator: String,
    /// The jobs in their order.
    pub jobs: Vec<Job>,
    /// Wall time of the whole demo.
    pub seconds: f64,
    /// What went wrong.
    pub problems: Vec<String>,
    /// The smoke test's own report.
    pub smoke: Vec<Value>,
}

/// The jobs in a smoke test's report: its `tests`, as `vaccel-smoke run --json`
/// prints them.
pub fn jobs(report: &Value) -> Vec<Job> {
    let tests = report.get("tests").and_then(Value::as_array);
    tests.into_iter().flatten().map(job).collect()
}

impl Job {
    /// Whether it is verified, or is one that the host's engine cannot do: shaders on the built-in one.
    pub fn is_fine(&self) -> bool {
        let lacks = self.note.as_deref() == Some("the engine lacks DispatchSpirv");
        self.verified || self.status == Status::Skip && lacks
    }
}

/// The first device of `vaccel-smoke list`, in a few words.
pub fn accelerator(list: Option<&Value>) -> String {
    let device = list
        .and_then(|list| list.get("devices"))
        .and_then(|devices| devices.get(0));
    let words: Vec<String> = ["name", "node", "luid"]
        .iter()
        .filter_map(|key| Some(device?.get(key)?.as_str()?.to_owned()))
        .collect();
    if words.is_empty() {
        "none seen".into()
    } else {
        words.join(", ")
    }
}

fn job(test: &Value) -> Job {
    let text = |key: &str| test.get(key).and_then(Value::as_str).map(str::to_owned);
    let status = match text("status").as_deref() {
        Some("pass") => Status::Pass,
        Some("skip") => Status::Skip,
        _ => Status::Fail,
    };
    let speed = test.get("speed").and_then(|speed| {
        let value = speed.get("value")?.as_f64()?;
        let unit = speed.get("unit")?.as_str()?;
        Some(with_prefix(value, unit))
    });
    let figures = test.get("figures").and_then(Value::as_array);
    let figures: Vec<&str> = figures
        .into_iter()
        .flatten()
        .filter_map(|figure| figure.get("text")?.as_str())
        .collect();
    Job {
        name: text("name").unwrap_or_else(|| "?".into()),
        verified: status == Status::Pass && test.get("verified") == Some(&Value::Bool(true)),
        status,
        speed,
        note: text("reason").or_else(|| (!figures.is_empty()).then(|| figures.join(", "))),
    }
}

/// `19168563.0 bytes/s` is `19.2 MB/s`.
fn with_prefix(value: f64, unit: &str) -> String {
    let unit = unit.replace("bytes/s", "B/s");
    let prefixes = [(1e9, "G"), (1e6, "M"), (1e3, "k")];
    match prefixes.iter().find(|(size, _)| value >= *size) {
        Some((size, prefix)) => format!("{:.1} {prefix}{unit}", value / size),
        None => format!("{value:.0} {unit}"),
    }
}

impl Demo {
    /// The table, ready to print.
    pub fn table(&self) -> String {
        let mut text = String::new();
        let mut line = |words: String| {
            text.push_str(words.trim_end());
            text.push('\n');
        };
        line(format!("host         {}", self.host));
        line(format!("guest        {}", self.kernel));
        line(format!("accelerator  {}", self.accelerator));
        line(String::new());
        let width = self.jobs.iter().map(|job| job.name.len()).max();
        let width = width.unwrap_or_default().max(4);
        line(format!("{:<width$}  verified  measured", "job"));
        for job in &self.jobs {
            let verified = match (job.verified, job.status) {
                (true, _) => "yes",
                (false, Status::Skip) => "skipped",
                (false, _) => "NO",
            };
            let rest = [&job.speed, &job.note];
            let rest: Vec<&str> = rest.iter().filter_map(|text| text.as_deref()).collect();
            line(format!(
                "{:<width$}  {verified:<8}  {}",
                job.name,
                rest.join("; ")
            ));
        }
        for problem in &self.problems {
            line(format!("problem: {problem}"));
        }
        line(String::new());
        let verified = self.jobs.iter().filter(|job| job.verified).count();
        let skipped = match self.jobs.iter().filter(|job| job.status == Status::Skip) {
            skipped if skipped.clone().count() == 0 => String::new(),
            skipped => format!(", {} skipped,", skipped.count()),
        };
        line(format!(
            "{verified} of {} jobs verified{skipped} in {:.0} s: {}",
            self.jobs.len(),
            self.seconds,
            if self.ok { "ok" } else { "FAILED" }
        ));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A failed job, and one that never said that it was verified, are shown as
    /// not verified, whatever they measured.
    #[test]
    fn only_verified_jobs_count() {
        let report = serde_json::json!({"tests": [
            {"name": "fill", "status": "pass", "verified": true,
             "speed": {"value": 1_540_000.0, "unit": "bytes/s"}, "figures": [], "reason": null},
            {"name": "digits", "status": "fail", "verified": false,
             "speed": {"value": 100.0, "unit": "images/s"}, "figures": [], "reason": "row 3"},
            {"name": "quiet", "status": "pass", "verified": false},
            {"name": "odd"},
            {"name": "shader", "status": "skip", "reason": "the engine lacks DispatchSpirv"},
            {"name": "sparse", "status": "skip", "reason": "the driver lacks sparse"},
        ]});
        let jobs = jobs(&report);
        assert_eq!(jobs[0].speed.as_deref(), Some("1.5 MB/s"));
        let verified: Vec<bool> = jobs.iter().map(|job| job.verified).collect();
        assert_eq!(verified, [true, false, false, false, false, false]);
        let fine: Vec<bool> = jobs.iter().map(Job::is_fine).collect();
        assert_eq!(fine, [true, false, false, false, true, false]);
        let demo = Demo {
            schema: 1,
            ok: false,
            host: "h".into(),
            kernel: "k".into(),
            accelerator: "a".into(),
            jobs,
            seconds: 1.0,
            problems: vec![],
            smoke: vec![],
        };
        let table = demo.table();
        assert!(table.contains("digits  NO"), "{table}");
        assert!(table.ends_with("1 of 6 jobs verified, 2 skipped, in 1 s: FAILED\n"));
    }
}
