// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the driver survived, in numbers: `out/survive.json`.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

/// The numbers of one run of `vaccel-survive`.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// Step of the plan.
    pub name: String,
    /// What it printed.
    pub report: Value,
}

/// What `out/survive.json` holds.
#[derive(Clone, Debug, Serialize)]
pub struct Survive {
    /// Version of this format.
    pub schema: u32,
    /// Whether every part ran and nothing went wrong.
    pub ok: bool,
    /// Sums: kills, faults, inputs, rescinds, reloads, leaks.
    pub totals: BTreeMap<String, u64>,
    /// The runs in their order.
    pub runs: Vec<Run>,
}

impl Survive {
    /// Adds the documents of a plan up, which ended well or not. There have to be `expected`.
    pub fn new(documents: Vec<(String, Value)>, passed: bool, expected: usize) -> Self {
        let mut totals = BTreeMap::new();
        let complete = documents.len() == expected;
        let fine = |report: &Value| report.get("ok").and_then(Value::as_bool) == Some(true);
        let ok = passed && complete && documents.iter().all(|(_, report)| fine(report));
        for (_, report) in &documents {
            let counts = report.get("counts").and_then(Value::as_object);
            for (name, count) in counts.into_iter().flatten() {
                let count = count.as_u64().unwrap_or(0);
                let total: &mut u64 = totals.entry(name.clone()).or_default();
                // Places in the code are the same ones in each run.
                match name.as_str() {
                    "places" => *total = count.max(*total),
                    _ => *total += count,
                }
            }
        }
        Self {
            schema: 1,
            ok,
            totals,
            runs: documents
                .into_iter()
                .map(|(name, report)| Run { name, report })
                .collect(),
        }
    }

    /// The closing lines.
    pub fn table(&self) -> String {
        let mut out = String::new();
        for (name, count) in &self.totals {
            out.push_str(&format!("{name:<14} {count:>10}\n"));
        }
        for run in &self.runs {
            let failures = run.report.get("failures").and_then(Value::as_array);
            for failure in failures.into_iter().flatten().filter_map(Value::as_str) {
                out.push_str(&format!("FAILED: {failure}\n"));
            }
        }
        out.push_str(if self.ok { "ok\n" } else { "FAILED\n" });
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document(name: &str, ok: bool) -> (String, Value) {
        let report = json!({
            "ok": ok, "counts": {"kills": 3, "places": 9},
            "failures": if ok { vec![] } else { vec!["kill x: the host still holds 1"] },
        });
        (name.into(), report)
    }

    /// Sums are sums, and one failure or one missing run is no success.
    #[test]
    fn verdicts() {
        let both = |ok| vec![document("kill", true), document("soak", ok)];
        let good = Survive::new(both(true), true, 2);
        assert!(good.ok && good.totals["kills"] == 6 && good.totals["places"] == 9);
        assert!(good.table().ends_with("ok\n"));
        assert!(!Survive::new(both(true), true, 3).ok);
        assert!(!Survive::new(both(true), false, 2).ok);
        let bad = Survive::new(both(false), true, 2);
        assert!(!bad.ok && bad.table().contains("FAILED: kill x"));
    }
}
