// SPDX-License-Identifier: MIT OR Apache-2.0
//! `vaccel-host trace-diff`: what two traces differ in.
//!
//! A command and its answer are one exchange. The exchanges of a channel are aligned by their
//! commands ([`align`]), those that belong together are compared field by field ([`compare`]). Values
//! that are chosen anew in each run (handles, addresses, identifiers) have to correspond, not to be equal.

mod align;
mod compare;
mod read;
mod report;

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;

use read::Exchange;
use report::Report;

/// Exit status if the traces say the same.
const EQUAL: u8 = 0;
/// Exit status if they differ.
const DIFFERENT: u8 = 1;
/// Exit status if they cannot be compared.
pub const TROUBLE: u8 = 2;

/// Which traces are compared.
#[derive(Debug, Clone, Args)]
pub struct TraceDiffArgs {
    /// A trace that `vaccel-host run --trace` wrote.
    pub a: PathBuf,
    /// Another one.
    pub b: PathBuf,
    /// Print one JSON document.
    #[arg(long)]
    pub json: bool,
}

/// Compares the traces, says what differs on standard output, and returns the exit status.
///
/// # Errors
///
/// Fails if a trace cannot be read or the output not be written.
pub fn run(args: &TraceDiffArgs) -> Result<u8> {
    let report = diff(&load(&args.a)?, &load(&args.b)?);
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer(&mut out, &report)?;
        writeln!(out)?;
    } else {
        report.print(&mut out)?;
    }
    Ok(if report.equal { EQUAL } else { DIFFERENT })
}

fn load(path: &Path) -> Result<Vec<Exchange>> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    read::exchanges(&text).with_context(|| format!("{} is no trace", path.display()))
}

fn diff(a: &[Exchange], b: &[Exchange]) -> Report {
    let mut renamed = compare::Renamed::default();
    let mut differences = Vec::new();
    for pair in align::pairs(a, b) {
        differences.extend(report::difference(pair, &mut renamed));
    }
    Report::new([a.len(), b.len()], differences)
}

#[cfg(test)]
mod tests;
