// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads TAP and KTAP: the leaf results, with the names of the subtests they
//! are in. Of the diagnostics (`#`) the one right before a failure is kept as
//! its reason; everything else is passed over. guest-init has already compared
//! plan and results.

use crate::report::{Status, Test};

/// The leaf results in `text`.
///
/// A KTAP parent's line comes after its children, which are indented by two
/// more blanks: a line is a parent's when deeper results came before it.
pub fn parse(text: &str) -> Vec<Test> {
    // Results seen and not yet claimed by a parent, with their depth.
    let mut tests: Vec<(usize, Test)> = Vec::new();
    let mut diagnostic = None;
    for line in text.lines() {
        let said = diagnostic.take();
        let body = line.trim_start();
        let depth = line.len() - body.len();
        let (failed, rest) = if let Some(rest) = body.strip_prefix("ok ") {
            (false, rest)
        } else if let Some(rest) = body.strip_prefix("not ok ") {
            (true, rest)
        } else {
            diagnostic = body.strip_prefix('#').map(str::trim);
            continue;
        };
        let (name, note) = split(rest);
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
        let (status, detail) = match (note.and_then(skipped), failed) {
            (Some(why), _) => (Status::Skip, Some(why)),
            (None, true) => (Status::Fail, reason(&name, said).or(note)),
            (None, false) => (Status::Pass, None),
        };
        let mut test = Test::new(name, status);
        test.detail = detail.map(str::to_owned);
        tests.push((depth, test));
    }
    tests.into_iter().map(|(_, test)| test).collect()
}

/// Name and note of `12 - name # note`.
fn split(rest: &str) -> (String, Option<&str>) {
    let rest = rest
        .trim_start_matches(|c: char| c.is_ascii_digit())
        .trim_start();
    let rest = rest.strip_prefix("- ").unwrap_or(rest);
    match rest.split_once('#') {
        None => (rest.trim().to_owned(), None),
        Some((name, note)) => (name.trim().to_owned(), Some(note.trim())),
    }
}

/// Why a test was skipped, if its note says that it was.
fn skipped(note: &str) -> Option<&str> {
    let word = note.get(..4)?;
    word.eq_ignore_ascii_case("skip").then(|| note[4..].trim())
}

/// What a diagnostic says of the test `name`: `name: reason`, or all of it.
fn reason<'a>(name: &str, diagnostic: Option<&'a str>) -> Option<&'a str> {
    let text = diagnostic?;
    let own = text
        .strip_prefix(name)
        .and_then(|text| text.strip_prefix(": "));
    Some(own.unwrap_or(text))
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
        assert_eq!(tests[1].detail.as_deref(), Some("oh"));
    }

    /// A failure's reason is in the line before it, and nobody else's.
    #[test]
    fn reasons() {
        let text = "# a: not mine\nok 1 a\n# b: 3 is not 4\nnot ok 2 b\n# old\n1..4\nnot ok 3 c\n\
                    # in general\nnot ok 4 d # TIMEOUT 60 s\n";
        let reasons: Vec<_> = parse(text).into_iter().map(|t| t.detail).collect();
        let expected = [None, Some("3 is not 4"), None, Some("in general")];
        assert_eq!(reasons, expected.map(|reason| reason.map(str::to_owned)));
    }

    /// Nested results are named by their parents, and parents don't count.
    #[test]
    fn nested() {
        let text = "KTAP version 1\n1..2\n  1..2\n  ok 1 x\n    ok 1 deep\n  not ok 2 y\nnot ok 1 top\nok 2 next\n";
        let names: Vec<_> = parse(text).into_iter().map(|t| t.name).collect();
        assert_eq!(names, ["top/x", "top/y/deep", "next"]);
    }
}
