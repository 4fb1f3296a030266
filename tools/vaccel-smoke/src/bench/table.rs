// SPDX-License-Identifier: MIT OR Apache-2.0
//! A run of benchmarks as a table for people.

use std::fmt::Write as _;

use super::model::{BenchmarkReport, Claim, Report, Series, Status};
use super::statistics::Target;

/// The whole report.
pub fn text(report: &Report) -> String {
    let machine = &report.machine;
    let mut out = format!(
        "Linux {}, {} processor(s), {} MiB; {}\n",
        machine.kernel,
        machine.cpus,
        machine.memory_bytes >> 20,
        report.device.node
    );
    for benchmark in &report.benchmarks {
        one(&mut out, benchmark);
    }
    // Writing to a string cannot fail.
    let _ = write!(
        out,
        "\n{} ran, {} failed, {} skipped; {} of {} targets met",
        report.ran,
        report.failed,
        report.skipped,
        report.met,
        report.met + report.missed
    );
    out
}

fn one(out: &mut String, benchmark: &BenchmarkReport) {
    let _ = writeln!(out, "\n{}: {}", benchmark.name, benchmark.what);
    if let Some(reason) = &benchmark.reason {
        let word = match benchmark.status {
            Status::Skipped => "skipped",
            Status::Ran | Status::Failed => "FAILED",
        };
        let _ = writeln!(out, "  {word}: {reason}");
    }
    for series in &benchmark.findings.series {
        let _ = writeln!(out, "  {}", measured(series));
    }
    for claim in &benchmark.findings.ratios {
        let _ = writeln!(out, "  {}", compared(claim));
    }
    for note in &benchmark.findings.notes {
        let _ = writeln!(out, "  note: {note}");
    }
}

fn measured(series: &Series) -> String {
    let scale = |value| scaled(value, series.unit);
    let summary = &series.summary;
    format!(
        "{:<52} {:>10}  [{} .. {}], p99 {}, n {}",
        series.name,
        scale(summary.median),
        scale(summary.q1),
        scale(summary.q3),
        scale(summary.p99),
        summary.count
    )
}

fn compared(claim: &Claim) -> String {
    let ratio = &claim.ratio;
    let target = match (claim.target, claim.met) {
        (Some(target), Some(true)) => format!("  {}: met", wanted(target)),
        (Some(target), _) => format!("  {}: MISSED", wanted(target)),
        (None, _) => String::new(),
    };
    format!(
        "= {:<50} {:>10}  [{} .. {}]{target}",
        claim.name,
        number(ratio.value),
        number(ratio.low),
        number(ratio.high)
    )
}

fn wanted(target: Target) -> String {
    match target {
        Target::AtMost(limit) => format!("at most {limit}"),
        Target::AtLeast(limit) => format!("at least {limit}"),
    }
}

fn number(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}

fn scaled(value: f64, unit: &str) -> String {
    let steps: &[(f64, &str)] = match unit {
        "s" => &[(1.0, "s"), (1e-3, "ms"), (1e-6, "us")],
        "B/s" => &[(1e9, "GB/s"), (1e6, "MB/s"), (1e3, "kB/s")],
        _ => return format!("{value:.2} {unit}"),
    };
    let step = steps.iter().find(|(size, _)| value >= *size);
    let (size, name) = step.or(steps.last()).copied().unwrap_or((1.0, unit));
    format!("{:.2} {name}", value / size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::tests::report;

    /// Proves that a missed target is loud where it is and counted below, and that a ratio without
    /// a target is shown as no more than that.
    #[test]
    fn targets_are_shown() {
        let missed = text(&report(Status::Ran, 2.5));
        assert!(missed.contains("at most 2: MISSED"), "{missed}");
        assert!(missed.contains("0 of 1 targets met"), "{missed}");
        assert!(missed.contains("note: something to know"), "{missed}");
        let met = text(&report(Status::Ran, 1.5));
        assert!(met.contains("at most 2: met"), "{met}");
        assert!(met.ends_with("1 of 1 targets met"), "{met}");
    }

    /// Proves that a benchmark without a result says why.
    #[test]
    fn reasons_are_shown() {
        assert!(text(&report(Status::Failed, 1.5)).contains("FAILED: because"));
        assert!(text(&report(Status::Skipped, 1.5)).contains("skipped: because"));
    }

    /// Proves the units.
    #[test]
    fn units() {
        assert_eq!(scaled(0.0015, "s"), "1.50 ms");
        assert_eq!(scaled(2e-7, "s"), "0.20 us");
        assert_eq!(scaled(2.5e9, "B/s"), "2.50 GB/s");
        assert_eq!(
            (number(1.0), number(1234.5)),
            ("1.00".into(), "1234".into())
        );
    }
}
