// SPDX-License-Identifier: MIT OR Apache-2.0
//! Output: one model, three forms.

pub mod tap;
pub mod text;

use std::io::{self, Write};

use serde::Serialize;

use crate::model::{DeviceInfo, RunReport, TestReport};

/// Why nothing more can be printed.
#[derive(Debug)]
pub enum Closed {
    /// The reader went away.
    Pipe,
    /// Something else.
    Error(io::Error),
}

impl From<io::Error> for Closed {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Pipe,
            _ => Self::Error(error),
        }
    }
}

/// Prints a text and a line's end, at once.
pub fn line(text: &str) -> Result<(), Closed> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()?;
    Ok(())
}

/// Prints a document.
pub fn json(document: &impl Serialize) -> Result<(), Closed> {
    let text = serde_json::to_string_pretty(document).map_err(io::Error::from)?;
    line(&text)
}

/// The form of a run's output.
#[derive(Clone, Copy, Debug)]
pub enum Printer {
    /// A table.
    Text,
    /// One JSON document at the end.
    Json,
    /// KTAP.
    Tap,
}

impl Printer {
    /// Before the first test.
    pub fn start(&mut self, device: &DeviceInfo, tests: usize) -> Result<(), Closed> {
        match self {
            Self::Text => line(&text::head(device)),
            Self::Json => Ok(()),
            Self::Tap => line(&tap::head(device, tests)),
        }
    }

    /// After a test.
    pub fn test(&mut self, number: usize, report: &TestReport) -> Result<(), Closed> {
        match self {
            Self::Text => line(&text::test(report)),
            Self::Json => Ok(()),
            Self::Tap => line(&tap::test(number, report)),
        }
    }

    /// After the last test.
    pub fn end(&mut self, report: &RunReport) -> Result<(), Closed> {
        match self {
            Self::Text => line(&text::end(report)),
            Self::Json => json(report),
            Self::Tap => line(&tap::end(report)),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::{Figure, Speed, Status};

    /// A device of which little is known.
    pub(crate) fn device() -> DeviceInfo {
        DeviceInfo {
            node: "/dev/accel/accel0".into(),
            name: Some("Test adapter".into()),
            instance_id: None,
            luid: Some("0000000000000077".into()),
            host_adapter_luid: None,
            host_vgpu_luid: None,
            interface_version: Some(40),
            compute_only: None,
            features: Some(vec!["arg-submit".into()]),
            host_capabilities: None,
            io_space_bytes: Some(512 << 20),
            object_bytes_max: None,
            resets: Some(0),
            budget_bytes: None,
            usage_bytes: None,
            engine: Some("built-in".into()),
            isa: Some("1.0".into()),
        }
    }

    /// A test that passed with everything there is to say.
    pub(crate) fn passed() -> TestReport {
        TestReport {
            name: "digits",
            status: Status::Pass,
            verified: true,
            outputs: 19767,
            seconds: vec![0.5],
            speed: Some(Speed {
                value: 3594.0,
                unit: "images/s",
            }),
            figures: vec![Figure {
                name: "accuracy",
                value: 0.93,
                unit: "",
                text: "accuracy 93.00 %".into(),
            }],
            reason: None,
        }
    }

    /// A test that did not.
    pub(crate) fn other(status: Status, reason: &str) -> TestReport {
        TestReport {
            status,
            reason: Some(reason.into()),
            ..TestReport::incomplete("gemm")
        }
    }

    /// Proves that the JSON has a schema number, spells states in lower case and unknowns as null.
    #[test]
    fn json_form() {
        let report = RunReport::new(device(), vec![passed(), other(Status::Fail, "x")]);
        let value = serde_json::to_value(&report).unwrap();
        assert_eq!(value["schema"], 1);
        assert_eq!(value["device"]["compute_only"], serde_json::Value::Null);
        assert_eq!(value["tests"][0]["status"], "pass");
        assert_eq!(value["tests"][0]["speed"]["unit"], "images/s");
        assert_eq!(value["tests"][1]["verified"], false);
        assert_eq!((&value["passed"], &value["failed"]), (&1.into(), &1.into()));
    }
}
