// SPDX-License-Identifier: MIT OR Apache-2.0
//! Judges one run of a virtual machine.
//!
//! Three things must agree: the plan the guest was given, the results it sent
//! over the control channel (one a step), and its console (exactly one
//! verdict, no splat). What is missing counts as failed.

use serde::Deserialize;
use serde_json::Value;

use crate::report::{Status, Test};
use crate::{splat, tap};

/// One line of the results file.
#[derive(Debug, Deserialize)]
struct Line {
    name: String,
    data: Value,
}

/// What guest-init says of one step.
#[derive(Debug, Deserialize)]
struct StepResult {
    kind: String,
    index: usize,
    of: usize,
    status: Status,
    seconds: f64,
    reason: Option<String>,
    exit: Option<i32>,
    tap: Option<TapCounts>,
    stdout: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct TapCounts {
    passed: usize,
    failed: usize,
    skipped: usize,
    #[serde(default)]
    failures: Vec<String>,
}

/// A judged run.
#[derive(Debug, Default)]
pub struct Judged {
    /// Its tests, one or more for each step of the plan.
    pub tests: Vec<Test>,
    /// What is wrong with the run as a whole.
    pub problems: Vec<String>,
    /// JSON documents that programs printed, by step name.
    pub documents: Vec<(String, Value)>,
    /// Steps that failed, with the exit status of their program.
    failed: Vec<(String, Option<i32>)>,
}

/// Judges a run that should pass.
pub fn judge(plan: &str, console: &str, results: &str) -> Judged {
    let mut run = collect(plan, console, results);
    match verdicts(console).as_slice() {
        [one] if one.starts_with("pass ") => {}
        [one] => run.problems.push(format!("the guest's verdict: {one}")),
        several => run
            .problems
            .push(format!("{} verdicts on the console, not 1", several.len())),
    }
    run
}

/// Judges a run in which exactly the step `culprit` has to fail, because its
/// program found a wrong result (status 1): the check that our checks can
/// fail.
pub fn judge_broken(plan: &str, console: &str, results: &str, culprit: &str) -> Judged {
    let mut run = collect(plan, console, results);
    let verdicts = verdicts(console);
    if !matches!(verdicts.as_slice(), [one] if one.starts_with("fail ")) {
        run.problems
            .push(format!("the guest's verdict should be fail: {verdicts:?}"));
    }
    let expected = [(culprit.to_owned(), Some(1))];
    if run.failed != expected {
        run.problems.push(format!(
            "these steps failed: {:?}, exactly {expected:?} should",
            run.failed
        ));
    }
    let passed = run.problems.is_empty();
    run.tests = vec![Test::new(
        format!("{culprit} fails when a result is wrong"),
        if passed { Status::Pass } else { Status::Fail },
    )];
    run
}

/// What follows `VACCEL-VERDICT: ` on the console.
fn verdicts(console: &str) -> Vec<&str> {
    console
        .lines()
        .filter_map(|line| line.split_once("VACCEL-VERDICT: "))
        .map(|(_, verdict)| verdict.trim())
        .collect()
}

/// The steps a plan has, and the texts it allows in the kernel log.
fn read_plan(plan: &str) -> (usize, Vec<String>) {
    let lines = || {
        plan.lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
    };
    let allowed = lines()
        .filter_map(|line| line.strip_prefix("allow "))
        .map(|text| text.trim().to_owned())
        .collect();
    (lines().count(), allowed)
}

fn collect(plan: &str, console: &str, results: &str) -> Judged {
    let mut run = Judged::default();
    let (planned, allowed) = read_plan(plan);
    for line in splat::scan(console, &allowed) {
        run.problems.push(format!("kernel: {line}"));
    }
    let mut next = 1;
    let mut of = planned;
    for line in results.lines().filter(|line| !line.trim().is_empty()) {
        match serde_json::from_str::<Line>(line) {
            Ok(Line { name, data }) if name == "verdict" => {
                if data.get("kind").and_then(Value::as_str) != Some("verdict") {
                    run.problems.push("a verdict that is none".into());
                }
            }
            // Not a step: figures that a program handed over.
            Ok(Line { name, data }) if data.get("kind").is_none() => {
                run.documents.push((name, data));
            }
            Ok(Line { name, data }) => match serde_json::from_value::<StepResult>(data) {
                Ok(step) => {
                    if step.index != next {
                        run.problems
                            .push(format!("result {} where {next} was due", step.index));
                    }
                    next = step.index + 1;
                    of = step.of;
                    run.add(&name, step);
                }
                Err(error) => run.problems.push(format!("result of {name}: {error}")),
            },
            Err(error) => run.problems.push(format!("results file: {error}")),
        }
    }
    // The guest may add steps of its own (kmemleak), never drop one.
    let due = of.max(planned);
    for index in next..=due {
        run.tests
            .push(Test::new(format!("{index}/{due}"), Status::Fail).because("no verdict"));
    }
    if next - 1 > due {
        run.problems
            .push(format!("{} results for {due} steps", next - 1));
    }
    run
}

impl Judged {
    fn add(&mut self, name: &str, step: StepResult) {
        let label = format!("{} {} {name}", step.index, step.kind);
        if step.status == Status::Fail {
            self.failed.push((name.to_owned(), step.exit));
        }
        if let Some(document @ Value::Object(_)) = &step.stdout {
            self.documents.push((name.to_owned(), document.clone()));
        }
        if let Some(counts) = &step.tap {
            self.tests
                .extend(tap_tests(&label, counts, step.stdout.as_ref()));
            // The step's own verdict counts only where it says more.
            let shown = counts.failed > 0 && step.status == Status::Fail;
            if shown || (step.status == Status::Pass && counts.passed > 0) {
                return;
            }
        }
        let mut test = Test::new(label, step.status);
        test.seconds = Some(step.seconds);
        test.detail = step.reason;
        self.tests.push(test);
    }
}

/// The results a TAP program printed. Its output may have been cut; the counts
/// are always right, so they decide how many tests there are.
fn tap_tests(label: &str, counts: &TapCounts, stdout: Option<&Value>) -> Vec<Test> {
    let mut named = stdout
        .and_then(Value::as_str)
        .map(tap::parse)
        .unwrap_or_default();
    let of = |status| named.iter().filter(|test| test.status == status).count();
    if (of(Status::Pass), of(Status::Fail), of(Status::Skip))
        == (counts.passed, counts.failed, counts.skipped)
    {
        for test in &mut named {
            test.name = format!("{label}: {}", test.name);
        }
        return named;
    }
    let numbered = |status, count: usize, word: &str| {
        (1..=count)
            .map(|n| Test::new(format!("{label}: {word} {n}"), status))
            .collect::<Vec<_>>()
    };
    let mut tests = numbered(Status::Pass, counts.passed, "passed");
    tests.extend(numbered(Status::Skip, counts.skipped, "skipped"));
    let mut failures = numbered(Status::Fail, counts.failed, "failed");
    for (test, name) in failures.iter_mut().zip(&counts.failures) {
        test.name = format!("{label}: {name}");
    }
    tests.extend(failures);
    tests
}

#[cfg(test)]
mod tests;
