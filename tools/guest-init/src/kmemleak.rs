// SPDX-License-Identifier: MIT OR Apache-2.0
//! Leaked kernel memory, on kernels that look for it.

use std::path::Path;
use std::time::Duration;

/// The checker's file.
pub const FILE: &str = "/sys/kernel/debug/kmemleak";
/// Objects younger than about five seconds are not reported.
const SETTLE: Duration = Duration::from_secs(6);

/// Outcome of a scan.
#[derive(Debug, PartialEq, Eq)]
pub enum Scan {
    /// The kernel has no checker.
    Unavailable,
    /// Nothing was found.
    Clean,
    /// The checker's report.
    Leaks(String),
}

/// Scans twice, since the first pass may meet pointers on the move, and reads the report.
pub fn scan(file: &Path) -> std::io::Result<Scan> {
    if !file.exists() {
        return Ok(Scan::Unavailable);
    }
    std::thread::sleep(SETTLE);
    for _ in 0..2 {
        std::fs::write(file, "scan")?;
    }
    let report = std::fs::read_to_string(file)?;
    Ok(if report.trim().is_empty() {
        Scan::Clean
    } else {
        Scan::Leaks(report)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that a kernel without the checker is told apart from a clean one.
    #[test]
    fn absence_is_not_cleanliness() {
        assert_eq!(scan(Path::new("/nonexistent")).unwrap(), Scan::Unavailable);
    }
}
