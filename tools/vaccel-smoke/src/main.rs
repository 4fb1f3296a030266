// SPDX-License-Identifier: MIT OR Apache-2.0
//! `vaccel-smoke`: does the accelerator work, here and now?
//!
//! `list` and `info` say what is there, `run` computes on it and compares every result with the
//! CPU, `bench` measures. Results go to standard output as a table, JSON or KTAP, everything else to standard error.
//! The exit status is documented with the command line. The program needs nothing but `/sys`,
//! `/dev` and itself: the data of its jobs is built in.

mod bench;
mod cli;
mod compare;
mod data;
mod dxg;
mod environment;
mod failure;
mod jobs;
mod model;
mod npy;
mod print;
mod reference;
mod runner;
mod select;
mod show;

use std::process::ExitCode;

use clap::Parser as _;

use cli::{Cli, Command};
use failure::Exit;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Command::List(options) => show::list(options.json),
        Command::Info(options) => show::info(options.device.as_deref(), options.json),
        Command::ListTests => show::tests(),
        Command::Run(options) => runner::run(&options),
        Command::Bench(options) => bench::run(&options),
    };
    let exit = outcome.unwrap_or_else(|stop| {
        eprintln!("vaccel-smoke: {}", stop.message);
        for line in &stop.advice {
            eprintln!("  {line}");
        }
        stop.exit
    });
    ExitCode::from(match exit {
        Exit::Pass => 0,
        Exit::Fail => 1,
        Exit::Usage => 2,
        Exit::Environment => 3,
        Exit::NoDevice => 77,
    })
}
