// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is said about a step: a marker line on the console, an object on the control channel.

use serde::Serialize;
use serde_json::Value;

use crate::tap;

/// Version of the objects.
pub const SCHEMA: u32 = 1;
/// Most text of a program's output in a report; the console has all of it.
const TAIL_BYTES: usize = 8 << 10;

/// Outcome of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Done and verified.
    Pass,
    /// Not done, or wrong.
    Fail,
    /// Not possible on this kernel.
    Skip,
}

impl Status {
    /// The word on the console.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Skip => "skip",
        }
    }
}

/// One step.
#[derive(Debug, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Kind of step.
    pub kind: &'static str,
    /// Number in the plan, from 1.
    pub index: usize,
    /// Steps of the plan.
    pub of: usize,
    /// Outcome.
    pub status: Status,
    /// Wall-clock time.
    pub seconds: f64,
    /// Why it failed or was skipped.
    pub reason: Option<String>,
    /// Exit code of a program.
    pub exit: Option<i32>,
    /// Signal that ended a program.
    pub signal: Option<i32>,
    /// Counts of a TAP run.
    pub tap: Option<tap::Summary>,
    /// Output of a program: a document, or the end of its text.
    pub stdout: Option<Value>,
    /// Census after the step.
    pub census: Option<Value>,
    /// Signs of kernel faults.
    pub splats: Vec<String>,
}

impl Report {
    /// An empty report of a step that passed so far.
    pub fn new(kind: &'static str, index: usize, of: usize) -> Self {
        Self {
            schema: SCHEMA,
            kind,
            index,
            of,
            status: Status::Pass,
            seconds: 0.0,
            reason: None,
            exit: None,
            signal: None,
            tap: None,
            stdout: None,
            census: None,
            splats: Vec::new(),
        }
    }

    /// Records a failure; all reasons are kept.
    pub fn fail(&mut self, reason: impl Into<String>) {
        self.status = Status::Fail;
        let reason = reason.into();
        self.reason = Some(match self.reason.take() {
            Some(earlier) => format!("{earlier}; {reason}"),
            None => reason,
        });
    }

    /// Records that the step is not possible here.
    pub fn skip(&mut self, reason: impl Into<String>) {
        self.status = Status::Skip;
        self.reason = Some(reason.into());
    }
}

/// The end of a text, whole lines where possible.
pub fn tail(bytes: &[u8]) -> String {
    let start = bytes.len().saturating_sub(TAIL_BYTES);
    let text = String::from_utf8_lossy(bytes.get(start..).unwrap_or_default()).into_owned();
    match (start, text.split_once('\n')) {
        (1.., Some((_, whole))) => whole.to_owned(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that a short text is kept and a long one loses its start at a line's end.
    #[test]
    fn tails() {
        assert_eq!(tail(b"a\nb\n"), "a\nb\n");
        let long: Vec<u8> = (0..2000)
            .flat_map(|n| format!("line {n}\n").into_bytes())
            .collect();
        let end = tail(&long);
        assert!(end.len() <= TAIL_BYTES);
        assert!(end.starts_with("line ") && end.ends_with("line 1999\n"));
    }

    /// Proves that a second reason does not hide the first.
    #[test]
    fn reasons_add_up() {
        let mut report = Report::new("run", 1, 2);
        report.fail("one");
        report.fail("two");
        assert_eq!(report.reason.as_deref(), Some("one; two"));
        assert_eq!(report.status, Status::Fail);
    }
}
