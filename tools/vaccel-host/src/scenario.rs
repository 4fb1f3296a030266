// SPDX-License-Identifier: MIT OR Apache-2.0
//! The scenario file: what the host does wrong from the start.
//!
//! ```json
//! {"seed": 7,
//!  "operations": [{"op": "budget", "segment": "local", "bytes": 1048576}],
//!  "rules": [{"on": {"command": "CreateDevice"}, "do": {"kind": "duplicate"}}]}
//! ```

use std::path::Path;

use anyhow::{bail, Context, Result};
use serde::Deserialize;
use serde_json::Value;

use crate::control::Request;
use crate::faults::FaultRule;

/// A scenario.
#[derive(Debug, Default, PartialEq)]
pub struct Scenario {
    /// Seed of all random bytes that have none of their own.
    pub seed: u64,
    /// What is done before the guest starts.
    pub operations: Vec<Request>,
    /// The rules that are armed then.
    pub rules: Vec<FaultRule>,
}

/// A scenario as it is written, its parts not yet understood.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    #[serde(default)]
    seed: u64,
    #[serde(default)]
    operations: Vec<Value>,
    #[serde(default)]
    rules: Vec<Value>,
}

impl Scenario {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be read or is no scenario; says where and why.
    pub fn read(path: &Path) -> Result<Self> {
        let name = || format!("scenario {}", path.display());
        let text = std::fs::read_to_string(path).with_context(name)?;
        Self::parse(&text).with_context(name)
    }

    fn parse(text: &str) -> Result<Self> {
        let Text {
            seed,
            operations,
            rules,
        } = serde_json::from_str(text)?;
        Ok(Self {
            seed,
            operations: parts("operation", operations)?,
            rules: parts("rule", rules)?,
        })
    }
}

/// The parts of a list, or what is wrong with which of them, counted from 1.
fn parts<T: for<'a> Deserialize<'a>>(what: &str, list: Vec<Value>) -> Result<Vec<T>> {
    let mut parts = Vec::new();
    for (number, value) in (1..).zip(list) {
        match serde_json::from_value(value) {
            Ok(part) => parts.push(part),
            Err(error) => bail!("{what} {number}: {error}"),
        }
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with everything in it, and an empty one.
    #[test]
    fn scenarios() {
        let text = r#"{
            "seed": 7,
            "operations": [{"op": "drop-events", "count": 2}],
            "rules": [{"on": {"command": "any"}, "do": {"kind": "duplicate"}}]
        }"#;
        let scenario = Scenario::parse(text).unwrap();
        assert_eq!(scenario.seed, 7);
        assert_eq!(scenario.operations, [Request::DropEvents { count: 2 }]);
        assert_eq!(scenario.rules.len(), 1);
        assert_eq!(Scenario::parse("{}").unwrap(), Scenario::default());
    }

    /// What is wrong is said, and where.
    #[test]
    fn errors() {
        let good = r#"{"on": {"command": "any"}, "do": {"kind": "duplicate"}}"#;
        let cases = [
            ("{\n  \"seed\": x}".to_owned(), "line 2 column 11"),
            (r#"{"sed": 1}"#.to_owned(), "unknown field `sed`"),
            (
                format!(r#"{{"rules": [{good}, {{"on": {{}}}}]}}"#),
                "rule 2: missing field `do`",
            ),
            (
                r#"{"rules": [{"on": {"command": "Dance"}, "do": {"kind": "duplicate"}}]}"#
                    .to_owned(),
                "rule 1: there is no command \"Dance\"",
            ),
            (
                r#"{"operations": [{"op": "dance"}]}"#.to_owned(),
                "operation 1: unknown variant `dance`",
            ),
        ];
        for (text, part) in cases {
            let error = Scenario::parse(&text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
