// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a run reports: steps, and in each step its tests with their verdicts.
//!
//! `out/test.json` is a [`Report`]. A step that holds no tests of its own
//! counts as one test. A step that failed although none of its tests did
//! (no verdict, a crash, a kernel splat) counts one failure more, so that the
//! totals can't look better than the steps.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// How a test or step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It was run and did what it should.
    Pass,
    /// It did not, or gave no verdict.
    Fail,
    /// It was not run; the detail says why.
    Skip,
}

/// One test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Test {
    /// Unique within its step.
    pub name: String,
    /// The verdict.
    pub status: Status,
    /// How long it took, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// Why it failed or was skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Test {
    /// A test without duration or detail.
    pub fn new(name: impl Into<String>, status: Status) -> Self {
        Self {
            name: name.into(),
            status,
            seconds: None,
            detail: None,
        }
    }

    /// The same with a reason.
    pub fn because(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }
}

/// One step of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Unique within the report.
    pub name: String,
    /// Fails if any test of it failed, or the step as a whole.
    pub status: Status,
    /// Wall time.
    pub seconds: f64,
    /// Its log, relative to the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// Why it failed or was skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Its tests; empty for a step that is a test itself.
    #[serde(default)]
    pub tests: Vec<Test>,
}

/// How many tests ended which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Passed.
    pub passed: usize,
    /// Failed.
    pub failed: usize,
    /// Skipped.
    pub skipped: usize,
}

impl Totals {
    fn add(&mut self, status: Status) {
        match status {
            Status::Pass => self.passed += 1,
            Status::Fail => self.failed += 1,
            Status::Skip => self.skipped += 1,
        }
    }

    /// Whether the run as a whole passed: something ran and nothing failed.
    pub fn ok(&self) -> bool {
        self.failed == 0 && self.passed > 0
    }

    /// The closing line: `N passed, N failed`, and what was skipped.
    pub fn line(&self) -> String {
        let skipped = match self.skipped {
            0 => String::new(),
            n => format!(", {n} skipped"),
        };
        format!("{} passed, {} failed{skipped}", self.passed, self.failed)
    }
}

impl Step {
    /// What the step adds to the totals.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for test in &self.tests {
            totals.add(test.status);
        }
        if self.tests.is_empty() || (self.status == Status::Fail && totals.failed == 0) {
            totals.add(self.status);
        }
        totals
    }

    /// A line for each of its failed tests; for the step if none of them failed but it did.
    fn failures(&self) -> Vec<String> {
        let line = |name: &str, detail: &Option<String>| match detail {
            Some(detail) => format!("{name}: {detail}"),
            None => name.to_owned(),
        };
        let tests = self.tests.iter().filter(|t| t.status == Status::Fail);
        let lines: Vec<_> = tests
            .map(|test| format!("{}: {}", self.name, line(&test.name, &test.detail)))
            .collect();
        if lines.is_empty() && self.status == Status::Fail {
            return vec![line(&self.name, &self.detail)];
        }
        lines
    }
}

/// A whole run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Version of this format.
    pub schema: u32,
    /// `test` or `check`.
    pub kind: String,
    /// The sums over all steps.
    #[serde(flatten)]
    pub totals: Totals,
    /// Wall time.
    pub seconds: f64,
    /// The steps in the order they ran.
    pub steps: Vec<Step>,
}

impl Report {
    /// Sums the steps up.
    pub fn new(kind: &str, seconds: f64, steps: Vec<Step>) -> Self {
        let mut totals = Totals::default();
        for one in steps.iter().map(Step::totals) {
            totals.passed += one.passed;
            totals.failed += one.failed;
            totals.skipped += one.skipped;
        }
        Self {
            schema: 1,
            kind: kind.to_owned(),
            totals,
            seconds,
            steps,
        }
    }

    /// What failed, a line for each test, and for each step that failed as a whole.
    pub fn failures(&self) -> Vec<String> {
        self.steps.iter().flat_map(Step::failures).collect()
    }

    /// What went wrong, a line for each step that says so.
    pub fn problems(self) -> Vec<String> {
        let steps = self.steps.into_iter();
        steps
            .filter_map(|step| Some(format!("{}: {}", step.name, step.detail?)))
            .collect()
    }
}

/// Writes `value` as JSON, by rename, so that a reader never sees half of it.
pub fn write_json(path: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value)? + "\n";
    let new = path.with_extension("json.new");
    fs::write(&new, text).with_context(|| format!("{}: cannot be written", new.display()))?;
    fs::rename(&new, path).with_context(|| format!("{}: cannot be replaced", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(status: Status, tests: Vec<Test>) -> Step {
        Step {
            name: "s".into(),
            status,
            seconds: 0.0,
            log: None,
            detail: None,
            tests,
        }
    }

    /// A step without tests is one test; one that failed beside its passing
    /// tests still shows up as a failure.
    #[test]
    fn totals_never_hide_a_failed_step() {
        let good = Test::new("t", Status::Pass);
        let report = Report::new(
            "test",
            1.0,
            vec![
                step(Status::Pass, vec![]),
                step(Status::Fail, vec![good.clone()]),
                step(Status::Skip, vec![]),
            ],
        );
        assert_eq!(report.totals.line(), "2 passed, 1 failed, 1 skipped");
        assert!(!report.totals.ok());
        let bad = Test::new("t", Status::Fail);
        assert_eq!(step(Status::Fail, vec![good, bad]).totals().failed, 1);
    }

    /// Every failure that is counted is named, and nothing else.
    #[test]
    fn failures_are_named() {
        let good = Test::new("good", Status::Pass);
        let bad = Test::new("bad", Status::Fail).because("3 is not 4");
        let mut whole = step(Status::Fail, vec![good.clone()]);
        whole.detail = Some("exit status 1".into());
        let steps = vec![
            step(Status::Fail, vec![good, bad]),
            whole,
            step(Status::Pass, vec![]),
        ];
        let report = Report::new("test", 1.0, steps);
        assert_eq!(
            report.failures(),
            ["s: bad: 3 is not 4", "s: exit status 1"]
        );
        assert_eq!(report.failures().len(), report.totals.failed);
    }

    /// An empty run has shown nothing and does not pass.
    #[test]
    fn nothing_run_is_no_success() {
        assert!(!Report::new("test", 0.0, vec![]).totals.ok());
        assert!(!Totals {
            skipped: 3,
            ..Totals::default()
        }
        .ok());
    }
}
