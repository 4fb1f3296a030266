// SPDX-License-Identifier: MIT OR Apache-2.0
//! `vaccel-host`: for a Linux guest, a Hyper-V host with virtual GPUs.
//!
//! The command boots a guest on KVM, or where KVM cannot boot a kernel inside an emulated machine
//! that can, and ends with the guest's verdict. Results and the guest's console go to standard
//! output; everything else goes to standard error.

mod accel;
mod ballooning;
mod cli;
mod console;
mod control;
mod cpio;
mod device;
mod engines;
mod faults;
mod gpu_function;
mod guest;
mod hot_add;
mod inbox;
mod man;
mod outer;
mod pci;
mod results;
mod scenario;
mod tcg;
mod trace;
mod trace_diff;
mod vulkan_files;
mod world;

use std::fs::File;
use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use tracing_subscriber::EnvFilter;

use accel::Accelerator;
use cli::{Cli, Command, RunArgs};
use results::Sink;

/// Environment variable that chooses the log lines.
const LOG_VARIABLE: &str = "VACCEL_LOG";
/// Exit status when there is no verdict of the guest.
const FAILED: u8 = 1;

fn main() -> ExitCode {
    start_log();
    if outer::is_outer() {
        outer::main();
    }
    let (outcome, failed) = match Cli::parse().command {
        Command::Run(args) => (run(&args), FAILED),
        Command::TraceDiff(args) => (trace_diff::run(&args), trace_diff::TROUBLE),
        Command::Man => (man::write(&mut std::io::stdout()).map(|()| 0), FAILED),
    };
    match outcome {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            print_error(&error);
            ExitCode::from(failed)
        }
    }
}

fn run(args: &RunArgs) -> Result<u8> {
    let sink: Sink = match &args.results {
        Some(path) => Box::new(
            File::options()
                .create(true)
                .append(true)
                .open(path)
                .with_context(|| format!("cannot open {}", path.display()))?,
        ),
        None => Box::new(std::io::sink()),
    };
    let accelerator = accel::choose(args);
    eprintln!("vaccel-host: {accelerator}");
    match accelerator {
        Accelerator::Kvm => guest::run(args, sink),
        Accelerator::Tcg(_) => tcg::run(args, sink),
    }
}

/// Log lines go to standard error; [`LOG_VARIABLE`] chooses which.
fn start_log() {
    let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
}

/// Prints an error and its causes to standard error.
fn print_error(error: &anyhow::Error) {
    let mut text = format!("vaccel-host: {error}\n");
    for cause in error.chain().skip(1) {
        text.push_str(&format!("  caused by: {cause}\n"));
    }
    // There is nowhere else to report to.
    let _ = std::io::stderr().write_all(text.as_bytes());
}
