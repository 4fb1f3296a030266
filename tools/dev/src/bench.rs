// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table that ends `make bench`, made from what the benchmarks printed.
//!
//! The plans run the benchmarks once or more, each in one machine; each such run is a JSON document
//! of `vaccel-smoke bench`. Only ratios are shown: times are those of one machine, and of no
//! meaning where it was emulated.

use serde::Serialize;
use serde_json::Value;

/// One run of the benchmarks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Run {
    /// Name of the plan's step.
    pub name: String,
    /// What it printed.
    pub report: Value,
}

impl From<(String, Value)> for Run {
    fn from((name, report): (String, Value)) -> Self {
        Self { name, report }
    }
}

/// What `out/bench.json` holds.
#[derive(Clone, Debug, Serialize)]
pub struct Bench {
    /// Version of this format.
    pub schema: u32,
    /// Whether everything ran and met its target.
    pub ok: bool,
    /// How the machine was run, in the host's own words.
    pub host: String,
    /// Whether its processor was emulated: then only ratios mean something.
    pub emulated: bool,
    /// The runs in their order.
    pub runs: Vec<Run>,
    /// Wall time of the whole.
    pub seconds: f64,
    /// What went wrong.
    pub problems: Vec<String>,
}

/// Whether the host says that it emulates the machine.
pub fn is_emulated(host: &str) -> bool {
    host.contains("TCG")
}

/// Whether there are runs, and each ran all its benchmarks and met all its targets.
pub fn is_complete(documents: &[(String, Value)]) -> bool {
    let count = |report: &Value, key: &str| report.get(key).and_then(Value::as_u64);
    !documents.is_empty()
        && documents.iter().all(|(_, report)| {
            let none = |key| count(report, key) == Some(0);
            none("failed") && none("missed") && none("skipped") && count(report, "ran") > Some(0)
        })
}

/// The elements of an array in a document.
fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    let elements = value.get(key).and_then(Value::as_array);
    elements.into_iter().flatten()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or("?")
}

fn number(value: &Value, key: &str) -> String {
    match value.get(key).and_then(Value::as_f64) {
        Some(number) if number >= 100.0 => format!("{number:.0}"),
        Some(number) => format!("{number:.2}"),
        None => "?".into(),
    }
}

fn target(claim: &Value) -> String {
    let words = [("at-most", "at most"), ("at-least", "at least")];
    let limit = words.iter().find_map(|(key, word)| {
        let limit = claim.get("target")?.get(key)?.as_f64()?;
        Some(format!("{word} {limit}"))
    });
    match (limit, claim.get("met").and_then(Value::as_bool)) {
        (Some(limit), Some(true)) => format!("  {limit}: met"),
        (Some(limit), _) => format!("  {limit}: MISSED"),
        (None, _) => String::new(),
    }
}

impl Bench {
    /// The table, ready to print.
    pub fn table(&self) -> String {
        let mut out = String::new();
        let mut line = |words: &str| {
            out.push_str(words.trim_end());
            out.push('\n');
        };
        let emulated = if self.emulated {
            ": ratios only, times mean nothing"
        } else {
            ""
        };
        line(&format!("host   {}{emulated}", self.host));
        for run in &self.runs {
            line("");
            if let Some(machine) = run.report.get("machine") {
                line(&format!(
                    "guest  Linux {}, {} processor(s), {} MiB, huge pages of shared memory: {} ({})",
                    text(machine, "kernel"),
                    machine.get("cpus").unwrap_or(&Value::Null),
                    machine
                        .get("memory_bytes")
                        .and_then(Value::as_u64)
                        .unwrap_or(0)
                        >> 20,
                    text(machine, "shmem_huge_pages"),
                    run.name
                ));
            }
            for benchmark in list(&run.report, "benchmarks") {
                line("");
                line(&format!("{}/{}", run.name, text(benchmark, "name")));
                if text(benchmark, "status") != "ran" {
                    line(&format!(
                        "  {}: {}",
                        text(benchmark, "status").to_uppercase(),
                        text(benchmark, "reason")
                    ));
                }
                for claim in list(benchmark, "ratios") {
                    line(&format!(
                        "  {:<52} {:>7}  [{} .. {}]{}",
                        text(claim, "name"),
                        number(claim, "value"),
                        number(claim, "low"),
                        number(claim, "high"),
                        target(claim)
                    ));
                }
                for note in list(benchmark, "notes").filter_map(Value::as_str) {
                    line(&format!("  note: {note}"));
                }
            }
        }
        line("");
        for problem in &self.problems {
            line(&format!("problem: {problem}"));
        }
        let verdict = if self.ok { "ok" } else { "FAILED" };
        let sum = |key: &str| {
            let runs = self.runs.iter();
            let counts = runs.filter_map(|run| run.report.get(key)?.as_u64());
            counts.sum::<u64>()
        };
        line(&format!(
            "{} benchmarks ran in {:.0} s; {} of {} targets met: {verdict}",
            sum("ran"),
            self.seconds,
            sum("met"),
            sum("met") + sum("missed")
        ));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document(met: bool) -> (String, Value) {
        let document = json!({
            "machine": {"kernel": "7", "cpus": 1, "memory_bytes": 1 << 30, "shmem_huge_pages": "never"},
            "ran": 1, "failed": 0, "skipped": 0,
            "met": u32::from(met), "missed": u32::from(!met),
            "benchmarks": [{"name": "x", "status": "ran", "notes": ["heed this"], "ratios": [
                {"name": "a / b", "value": 1.5, "low": 1.0, "high": 250.0,
                 "target": {"at-most": 1.3}, "met": met},
                {"name": "c / d", "value": 7.0, "low": 1.0, "high": 9.0, "target": null, "met": null},
            ]}],
        });
        ("bench".into(), document)
    }

    fn bench(documents: Vec<(String, Value)>) -> Bench {
        Bench {
            schema: 1,
            ok: is_complete(&documents),
            host: "accelerator: TCG with emulated SVM".into(),
            emulated: true,
            runs: documents.into_iter().map(Run::from).collect(),
            seconds: 2.0,
            problems: vec![],
        }
    }

    /// A missed target is loud in its line, and makes the last line a failure.
    #[test]
    fn missed_targets_fail() {
        let table = bench(vec![document(false)]).table();
        assert!(
            table.contains("[1.00 .. 250]  at most 1.3: MISSED"),
            "{table}"
        );
        assert!(table.contains("note: heed this"), "{table}");
        assert!(table.ends_with("0 of 1 targets met: FAILED\n"), "{table}");
        let table = bench(vec![document(true)]).table();
        assert!(table.contains("at most 1.3: met"), "{table}");
        assert!(table.ends_with("1 of 1 targets met: ok\n"), "{table}");
    }

    /// No document, or one that counts nothing, is no success.
    #[test]
    fn silence_is_no_success() {
        assert!(!is_complete(&[]));
        assert!(!is_complete(&[document(true), ("y".into(), json!({}))]));
        let (name, mut skipped) = document(true);
        skipped["skipped"] = 1.into();
        assert!(!is_complete(&[(name, skipped)]));
        assert!(is_complete(&[document(true), document(true)]));
    }

    /// The host's line says how the machine was run.
    #[test]
    fn emulation_is_known() {
        assert!(is_emulated(
            "accelerator: TCG with emulated SVM (asked for)"
        ));
        assert!(!is_emulated("accelerator: KVM"));
    }
}
