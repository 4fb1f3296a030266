// SPDX-License-Identifier: MIT OR Apache-2.0
//! KTAP for harnesses.

use crate::model::{DeviceInfo, RunReport, Status, TestReport};

/// Version, device, plan.
pub fn head(device: &DeviceInfo, tests: usize) -> String {
    format!("KTAP version 1\n# device {}\n1..{tests}", device.node)
}

/// A result line, with diagnostics before it.
pub fn test(number: usize, report: &TestReport) -> String {
    let name = report.name;
    let mut out = String::new();
    if let Some(speed) = report.speed {
        out += &format!("# {name}: {:.0} {}\n", speed.value, speed.unit);
    }
    for figure in &report.figures {
        out += &format!("# {name}: {}\n", one_line(&figure.text));
    }
    let reason = one_line(report.reason.as_deref().unwrap_or_default());
    let result = match report.status {
        Status::Pass => format!("ok {number} {name}"),
        Status::Skip => format!("ok {number} {name} # SKIP {reason}"),
        Status::Timeout => format!("not ok {number} {name} # TIMEOUT {reason}"),
        Status::Fail | Status::Incomplete => {
            out += &format!("# {name}: {reason}\n");
            format!("not ok {number} {name}")
        }
    };
    out + &result
}

/// Totals.
pub fn end(report: &RunReport) -> String {
    format!(
        "# Totals: pass:{} fail:{} skip:{}",
        report.passed, report.failed, report.skipped
    )
}

/// A reason must not break the line it stands on.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::print::tests::{device, other, passed};

    /// Proves the form of each outcome.
    #[test]
    fn result_lines() {
        assert_eq!(
            head(&device(), 2),
            "KTAP version 1\n# device /dev/accel/accel0\n1..2"
        );
        assert_eq!(
            test(1, &passed()),
            "# digits: 3594 images/s\n# digits: accuracy 93.00 %\nok 1 digits"
        );
        assert_eq!(
            test(2, &other(Status::Skip, "no ISA")),
            "ok 2 gemm # SKIP no ISA"
        );
        assert_eq!(
            test(3, &other(Status::Fail, "a\nb")),
            "# gemm: a b\nnot ok 3 gemm"
        );
        assert_eq!(
            test(4, &other(Status::Timeout, "late")),
            "not ok 4 gemm # TIMEOUT late"
        );
        assert!(test(5, &other(Status::Incomplete, "x")).ends_with("not ok 5 gemm"));
    }
}
