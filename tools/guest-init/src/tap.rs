// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reading TAP and KTAP: a run passes only if the plan was met and nothing failed.

use serde::Serialize;

/// Counts of the top-level results.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Tests announced.
    pub plan: Option<usize>,
    /// Tests that passed.
    pub passed: usize,
    /// Tests that failed.
    pub failed: usize,
    /// Tests that were skipped.
    pub skipped: usize,
    /// Names of failed tests.
    pub failures: Vec<String>,
}

impl Summary {
    /// Why the output is no success, if it is none.
    pub fn problem(&self) -> Option<String> {
        let ran = self.passed + self.failed + self.skipped;
        if self.failed > 0 {
            return Some(format!(
                "{} failed: {}",
                self.failed,
                self.failures.join(", ")
            ));
        }
        match self.plan {
            None => Some("no plan in the output".into()),
            Some(plan) if plan != ran => Some(format!("{ran} of {plan} planned tests reported")),
            Some(0) => Some("no tests were planned".into()),
            Some(_) => None,
        }
    }
}

/// Reads output; nested tests are indented and counted through their parents.
pub fn parse(output: &str) -> Summary {
    let mut summary = Summary::default();
    for line in output.lines() {
        if let Some(count) = line.strip_prefix("1..") {
            summary.plan = count.split_whitespace().next().and_then(|n| n.parse().ok());
        } else if let Some(rest) = line.strip_prefix("not ok ") {
            summary.failed += 1;
            summary.failures.push(name(rest));
        } else if let Some(rest) = line.strip_prefix("ok ") {
            let directive = rest
                .split_once('#')
                .map_or("", |(_, text)| text.trim_start());
            if directive.to_ascii_uppercase().starts_with("SKIP") {
                summary.skipped += 1;
            } else {
                summary.passed += 1;
            }
        }
    }
    summary
}

fn name(rest: &str) -> String {
    let rest = rest.split_once('#').map_or(rest, |(name, _)| name).trim();
    let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit()).trim();
    rest.trim_start_matches("- ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves the counts on a complete run with nested results and a skip.
    #[test]
    fn a_good_run() {
        let summary = parse(
            "KTAP version 1\n1..3\n  1..1\n  not ok 1 nested\nok 1 a\nok 2 b # SKIP no host\nok 3 c\n",
        );
        assert_eq!((summary.passed, summary.failed, summary.skipped), (2, 0, 1));
        assert_eq!(summary.problem(), None);
    }

    /// Proves that a failure, a short run, no plan and an empty plan are all problems.
    #[test]
    fn bad_runs() {
        let failed = parse("1..2\nok 1 a\nnot ok 2 - b # TIMEOUT\n");
        assert_eq!(failed.failures, ["b"]);
        assert!(failed.problem().is_some());
        assert!(parse("1..2\nok 1 a\n").problem().is_some());
        assert!(parse("ok 1 a\n").problem().is_some());
        assert!(parse("1..0\n").problem().is_some());
        assert!(parse("").problem().is_some());
    }
}
