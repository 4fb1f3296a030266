// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads what `cargo test` prints: one verdict a test, and a summary for each
//! test program. The sums of the summaries must be what was read, else a
//! verdict was lost and the reading fails.

use crate::report::{Status, Test};

/// Reads the whole output, standard output and error in one.
///
/// # Errors
///
/// Says what does not add up.
pub fn parse(log: &str) -> Result<Vec<Test>, String> {
    let mut tests = Vec::new();
    let mut program = String::new();
    let mut promised = 0;
    let mut summed = 0;
    for line in log.lines() {
        let line = line.trim();
        if let Some(rest) = line.strip_prefix("Running ") {
            program = program_name(rest);
        } else if let Some(rest) = line.strip_prefix("Doc-tests ") {
            program = format!("{}/doc", rest.trim());
        } else if let Some(count) = counted(line, "running ", " test") {
            promised += count;
        } else if line.starts_with("test result: ") {
            summed += ["passed", "failed", "ignored", "measured"]
                .iter()
                .filter_map(|word| word_count(line, word))
                .sum::<usize>();
        } else if let Some(test) = line.strip_prefix("test ").and_then(verdict) {
            let (name, status) = test;
            let mut test = Test::new(format!("{program}::{name}"), status);
            if status == Status::Skip {
                test = test.because("ignored by its own attribute");
            }
            tests.push(test);
        }
    }
    if tests.len() == promised && promised == summed {
        Ok(tests)
    } else {
        Err(format!(
            "{promised} tests were started, {} gave a verdict, {summed} are in the summaries",
            tests.len()
        ))
    }
}

/// `unittests src/lib.rs (target/debug/deps/engine-0123)` is `engine`;
/// `tests/layout.rs (.../layout-0123)` is `layout`.
fn program_name(rest: &str) -> String {
    let path = rest
        .rsplit_once('(')
        .map_or(rest, |(_, path)| path.trim_end_matches(')'));
    let file = path.rsplit('/').next().unwrap_or(path);
    file.rsplit_once('-')
        .map_or(file, |(name, _)| name)
        .to_owned()
}

/// The number between `before` and `after`.
fn counted(line: &str, before: &str, after: &str) -> Option<usize> {
    let rest = line.strip_prefix(before)?;
    rest[..rest.find(after)?].parse().ok()
}

/// The number before `word` in a summary.
fn word_count(line: &str, word: &str) -> Option<usize> {
    let before = line[..line.find(&format!(" {word}"))?].trim_end();
    before.rsplit(' ').next()?.parse().ok()
}

/// Name and verdict of what follows `test `.
fn verdict(rest: &str) -> Option<(&str, Status)> {
    let (name, verdict) = rest.rsplit_once(" ... ")?;
    let status = match verdict.split(',').next()?.trim() {
        "ok" => Status::Pass,
        "FAILED" => Status::Fail,
        "ignored" => Status::Skip,
        _ => return None,
    };
    // Benchmarks and should-panic marks follow the name.
    Some((name.trim_end_matches(" - should panic"), status))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
   Compiling engine v0.1.0
     Running unittests src/lib.rs (/c/target/debug/deps/engine-00aa)

running 3 tests
test a::good ... ok
test a::bad ... FAILED
test a::slow ... ignored, takes minutes

test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s

   Doc-tests engine

running 1 test
test src/lib.rs - f (line 3) ... ok

test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s
";

    /// Names carry their program, verdicts are told apart.
    #[test]
    fn verdicts_are_read() {
        let tests = parse(LOG).unwrap();
        let seen: Vec<_> = tests.iter().map(|t| (t.name.as_str(), t.status)).collect();
        assert_eq!(
            seen,
            [
                ("engine::a::good", Status::Pass),
                ("engine::a::bad", Status::Fail),
                ("engine::a::slow", Status::Skip),
                ("engine/doc::src/lib.rs - f (line 3)", Status::Pass),
            ]
        );
    }

    /// A verdict that is missing (the program died) is an error.
    #[test]
    fn a_lost_verdict_is_an_error() {
        let log = LOG.replace("test a::good ... ok\n", "");
        assert!(parse(&log).is_err());
        let died = "Running x (t/x-1)\nrunning 2 tests\ntest a ... ok\n";
        assert!(parse(died).is_err());
    }
}
