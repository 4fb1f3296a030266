// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads TAP and KTAP: the leaf results, with the names of the subtests they
//! are in. Diagnostics (`#`) and everything else is passed over; guest-init
//! has already compared plan and results.

use crate::report::{Status, Test};

/// The leaf results in `text`.
///
/// A KTAP parent's line comes after its children, which are indented by two
/// more blanks: a line is a parent's when deeper results came before it.
pub fn parse(text: &str) -> Vec<Test> {
    // Results seen and not yet claimed by a parent, with their depth.
    let mut tests: Vec<(usize, Test)> = Vec::new();
    for line in text.lines() {
        let body = line.trim_start();
        let depth = line.len() - body.len();
        let (failed, rest) = if let Some(rest) = body.strip_prefix("ok ") {
            (false, rest)
        } else if let Some(rest) = body.strip_prefix("not ok ") {
            (true, rest)
        } else {
            continue;
        };
        let (name, skip) = split(rest);
        let children = tests.iter_mut().rev().take_while(|(d, _)| *d > depth);
        let mut parent = false;
        for (d, child) in children {
            parent = true;
            child.name = format!("{name}/{}", child.name);
            *d = depth;
        }
        if parent {
            continue;
        }
        let status = match (&skip, failed) {
            (Some(_), _) => Status::Skip,
            (None, true) => Status::Fail,
            (None, false) => Status::Pass,
        };
        let mut test = Test::new(name, status);
        test.detail = skip;
        tests.push((depth, test));
    }
    tests.into_iter().map(|(_, test)| test).collect()
}

/// Name, and the reason if it was skipped, of `12 - name # SKIP reason`.
fn split(rest: &str) -> (String, Option<String>) {
    let rest = rest
        .trim_start_matches(|c: char| c.is_ascii_digit())
        .trim_start();
    let rest = rest.strip_prefix("- ").unwrap_or(rest);
    match rest.split_once('#') {
        None => (rest.trim().to_owned(), None),
        Some((name, note)) => {
            let note = note.trim();
            let skip = note
                .get(..4)
                .filter(|word| word.eq_ignore_ascii_case("skip"))
                .map(|_| note[4..].trim().to_owned());
            (name.trim().to_owned(), skip)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Flat results with all three verdicts.
    #[test]
    fn flat() {
        let tests =
            parse("TAP version 13\n1..3\nok 1 - a\nnot ok 2 b # oh\nok 3 - c # SKIP none\n");
        let seen: Vec<_> = tests.iter().map(|t| (t.name.as_str(), t.status)).collect();
        assert_eq!(
            seen,
            [
                ("a", Status::Pass),
                ("b", Status::Fail),
                ("c", Status::Skip)
            ]
        );
        assert_eq!(tests[2].detail.as_deref(), Some("none"));
    }

    /// Nested results are named by their parents, and parents don't count.
    #[test]
    fn nested() {
        let text = "KTAP version 1\n1..2\n  1..2\n  ok 1 x\n    ok 1 deep\n  not ok 2 y\nnot ok 1 top\nok 2 next\n";
        let names: Vec<_> = parse(text).into_iter().map(|t| t.name).collect();
        assert_eq!(names, ["top/x", "top/y/deep", "next"]);
    }
}
