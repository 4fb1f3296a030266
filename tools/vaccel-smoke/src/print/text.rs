// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tables for people.

use std::fmt::Write as _;

use crate::model::{DeviceInfo, List, RunReport, Status, TestReport};

fn or_unknown(text: Option<&str>) -> &str {
    text.unwrap_or("unknown")
}

/// `list`: one line a device.
pub fn list(list: &List) -> String {
    let mut out = format!(
        "{:<20} {:<16} {:<12} {:<8} {:<24} STATE",
        "NODE", "LUID", "PCI", "VERSION", "NAME"
    );
    for device in &list.devices {
        let version = device.interface_version.map(|version| version.to_string());
        // Writing to a string cannot fail.
        let _ = write!(
            out,
            "\n{:<20} {:<16} {:<12} {:<8} {:<24} {}",
            device.node,
            or_unknown(device.luid.as_deref()),
            or_unknown(device.pci.as_deref()),
            or_unknown(version.as_deref()),
            or_unknown(device.name.as_deref()),
            device.state
        );
    }
    out
}

/// `info`: aligned keys.
pub fn info(device: &DeviceInfo) -> String {
    let number = |value: Option<u64>| value.map(|value| value.to_string());
    let size = |value: Option<u64>| value.map(bytes);
    let words = |value: &Option<Vec<String>>| {
        let joined = value.as_ref().map(|words| words.join(" "));
        joined.map(|text| if text.is_empty() { "none".into() } else { text })
    };
    let yes_no =
        |value: Option<bool>| value.map(|value| if value { "yes" } else { "no" }.to_owned());
    let rows = [
        ("node", Some(device.node.clone())),
        ("name", device.name.clone()),
        ("engine", device.engine.clone()),
        ("instruction set", device.isa.clone()),
        ("LUID", device.luid.clone()),
        ("host adapter LUID", device.host_adapter_luid.clone()),
        ("host vGPU LUID", device.host_vgpu_luid.clone()),
        ("host instance", device.instance_id.clone()),
        ("interface version", number(device.interface_version)),
        ("compute only", yes_no(device.compute_only)),
        ("features", words(&device.features)),
        ("host capabilities", words(&device.host_capabilities)),
        ("I/O space", size(device.io_space_bytes)),
        ("largest object", size(device.object_bytes_max)),
        ("budget", size(device.budget_bytes)),
        ("usage", size(device.usage_bytes)),
        ("resets", number(device.resets)),
    ];
    let lines: Vec<String> = rows
        .iter()
        .map(|(key, value)| format!("{key:<18} {}", or_unknown(value.as_deref())))
        .collect();
    lines.join("\n")
}

/// Above the table of a run.
pub fn head(device: &DeviceInfo) -> String {
    format!(
        "{}: {}, engine {}, interface version {}\n\n{:<12} {:<8} {:>9} {:>10} {:>14}  NOTE",
        device.node,
        or_unknown(device.name.as_deref()),
        or_unknown(device.engine.as_deref()),
        device
            .interface_version
            .map_or("unknown".to_owned(), |version| version.to_string()),
        "TEST",
        "VERIFIED",
        "OUTPUTS",
        "TIME",
        "SPEED"
    )
}

/// A row of a run.
pub fn test(report: &TestReport) -> String {
    let verified = match report.status {
        Status::Pass => "yes",
        Status::Fail => "NO",
        Status::Skip => "skipped",
        Status::Timeout => "TIMEOUT",
        Status::Incomplete => "NOT RUN",
    };
    let fastest = report.seconds.iter().copied().reduce(f64::min);
    let speed = report.speed.map(|speed| scaled(speed.value, speed.unit));
    let mut notes: Vec<&str> = report
        .figures
        .iter()
        .map(|figure| figure.text.as_str())
        .collect();
    notes.extend(report.reason.as_deref());
    format!(
        "{:<12} {verified:<8} {:>9} {:>10} {:>14}  {}",
        report.name,
        report.outputs,
        fastest.map_or("-".into(), duration),
        speed.as_deref().unwrap_or("-"),
        notes.join("; ")
    )
    .trim_end()
    .to_owned()
}

/// Below the table of a run.
pub fn end(report: &RunReport) -> String {
    let verdict = match (report.failed, report.passed) {
        (0, 0) => "nothing was tested",
        (0, _) => "all verified",
        _ => "FAILED",
    };
    format!(
        "\n{} passed, {} failed, {} skipped: {verdict}",
        report.passed, report.failed, report.skipped
    )
}

fn duration(seconds: f64) -> String {
    if seconds < 1e-3 {
        format!("{:.1} us", seconds * 1e6)
    } else if seconds < 1.0 {
        format!("{:.2} ms", seconds * 1e3)
    } else {
        format!("{seconds:.2} s")
    }
}

/// A number with a decimal prefix for its unit.
fn scaled(value: f64, unit: &str) -> String {
    // Things that are counted, not measured, keep their number.
    let prefixed = ["bytes/s", "FLOP/s", "op/s"].contains(&unit);
    let unit = if unit == "bytes/s" { "B/s" } else { unit };
    if !prefixed {
        return format!("{value:.0} {unit}");
    }
    let (factor, prefix) = match value {
        v if v >= 1e9 => (1e9, "G"),
        v if v >= 1e6 => (1e6, "M"),
        v if v >= 1e3 => (1e3, "k"),
        _ => (1.0, ""),
    };
    format!("{:.1} {prefix}{unit}", value / factor)
}

/// A size in binary units.
fn bytes(value: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.iter().find(|(shift, _)| value >> shift != 0) {
        Some((shift, unit)) => format!("{:.1} {unit}", value as f64 / (1u64 << shift) as f64),
        None => format!("{value} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::print::tests::{device, other, passed};

    /// Proves the row of a test that passed: verified, time, speed with unit, note.
    #[test]
    fn a_passed_row() {
        assert_eq!(
            test(&passed()),
            "digits       yes          19767  500.00 ms  3594 images/s  accuracy 93.00 %"
        );
    }

    /// Proves that a failure is loud, in its row and in the last line.
    #[test]
    fn a_failed_run() {
        let failed = other(Status::Fail, "product: 1 of 9 outputs differ");
        assert!(test(&failed).contains(" NO "));
        assert!(test(&failed).ends_with("1 of 9 outputs differ"));
        let report = RunReport::new(device(), vec![passed(), failed]);
        assert_eq!(end(&report), "\n1 passed, 1 failed, 0 skipped: FAILED");
    }

    /// Proves that what is not known is said to be unknown, not left empty or 0.
    #[test]
    fn unknown_values() {
        let text = info(&device());
        assert!(text.contains("budget             unknown"), "{text}");
        assert!(text.contains("I/O space          512.0 MiB"), "{text}");
    }

    /// Proves the units.
    #[test]
    fn units() {
        assert_eq!(scaled(2.5e9, "FLOP/s"), "2.5 GFLOP/s");
        assert_eq!(scaled(999.0, "bytes/s"), "999.0 B/s");
        assert_eq!(duration(0.000_002), "2.0 us");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(3 << 29), "1.5 GiB");
    }
}
