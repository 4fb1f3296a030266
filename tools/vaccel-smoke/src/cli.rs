// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

const EXIT_STATUS: &str = "\
Exit status:
  0   everything that ran was verified
  1   a test failed, timed out, or an output differed from the CPU's
  2   the command line is wrong (an unknown test or an ambiguous device included)
  3   the environment is in the way: no permission, device lost, unreadable data
  77  there is no device, or every test was skipped";

const BENCH_EXIT_STATUS: &str = "\
Exit status:
  0   everything that ran met its targets
  1   a benchmark failed, or a ratio misses its target
  2   the command line is wrong
  3   the environment is in the way
  77  there is no device, or every benchmark was skipped";

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
    /// Measure what operations cost (all benchmarks, if none is named), as ratios
    #[command(after_help = BENCH_EXIT_STATUS)]
    Bench(BenchOptions),
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

/// Options of `bench`.
#[derive(Debug, Args)]
pub struct BenchOptions {
    /// Benchmarks to run, in this order; see --list
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// List the benchmarks with what they measure
    #[arg(long)]
    pub list: bool,
    /// Node (/dev/accel/accel0), name (accel0), PCI address or LUID
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Driver to measure
    #[arg(long, value_enum, default_value_t = Backend::Accel)]
    pub backend: Backend,
    /// Also tell how much of a submission is the host's own work. Asks a host of this repository over
    /// the second serial port, and means something on one processor only
    #[arg(long)]
    pub host_share: bool,
    /// Rounds of each benchmark, in place of its own number
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rounds: Option<u32>,
    /// Bytes of the memory that memory-1g and cpu-bandwidth measure, in place of 1 GiB and 64 MiB:
    /// a number with K, M or G
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub size: Option<u64>,
    /// Most objects that object-cost keeps
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = parse_objects)]
    pub objects: usize,
}

/// A driver for GPU-PV.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// This one, behind /dev/accel
    Accel,
    /// dxgkrnl, behind /dev/dxg; its first adapter
    Dxg,
}

/// Parses a number of objects.
fn parse_objects(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 100..=10_000_000) => Ok(number),
        _ => Err("a number from 100 to 10000000".into()),
    }
}

/// Parses a size such as `512M`.
fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(['K', 'M', 'G']);
    let shift = match text.get(digits.len()..) {
        Some("") => 0,
        Some("K") => 10,
        Some("M") => 20,
        Some("G") => 30,
        _ => return Err("at most one of K, M, G may follow the number".into()),
    };
    match digits.parse::<u64>() {
        Ok(0) => Err("nothing to measure".into()),
        Ok(number) => number
            .checked_mul(1 << shift)
            .filter(|size| *size <= 1 << 40)
            .ok_or_else(|| "larger than 1024G".into()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that sizes take one binary unit and nothing else, and are never 0.
    #[test]
    fn sizes() {
        assert_eq!(parse_size("4096"), Ok(4096));
        assert_eq!(parse_size("1G"), Ok(1 << 30));
        for bad in ["0", "1GG", "G", "2000G", "99999999999G", "1.5G"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    /// Proves that the definition of the command line holds.
    #[test]
    fn definition() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }
}
