// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

const EXIT_STATUS: &str = "\
Exit status:
  0   everything that ran was verified
  1   a test failed, timed out, or an output differed from the CPU's
  2   the command line is wrong (an unknown test or an ambiguous device included)
  3   the environment is in the way: no permission, device lost, unreadable data
  77  there is no device, or every test was skipped";

/// Smoke test for vaccel accelerators (/dev/accel/accelN).
#[derive(Debug, Parser)]
#[command(name = "vaccel-smoke", version, after_help = EXIT_STATUS)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the accelerators, one line each
    List(ListOptions),
    /// Describe one accelerator
    Info(InfoOptions),
    /// Run tests (all, if none is named) and compare every result with the CPU
    Run(RunOptions),
    /// List the tests with what they show
    ListTests,
}

/// Options of `list`.
#[derive(Debug, Args)]
pub struct ListOptions {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Options of `info`.
#[derive(Debug, Args)]
pub struct InfoOptions {
    /// Node (/dev/accel/accel0), name (accel0), PCI address or LUID
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Options of `run`.
#[derive(Debug, Args)]
pub struct RunOptions {
    /// Tests to run, in this order; see list-tests
    #[arg(value_name = "TEST")]
    pub tests: Vec<String>,
    /// Node (/dev/accel/accel0), name (accel0), PCI address or LUID
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// Print KTAP
    #[arg(long, conflicts_with = "json")]
    pub tap: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Seconds that one run of a test may take
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86400))]
    pub timeout: u64,
    /// Runs of each test; the fastest one is reported
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub repeat: u32,
    /// Take the .npy files of the gemm and digits tests from this folder (with the layout of
    /// tools/data) instead of the built-in ones
    #[arg(long, value_name = "FOLDER")]
    pub data: Option<PathBuf>,
}
