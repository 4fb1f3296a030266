// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the driver has to survive: processes killed in the middle of operations, allocations that fail,
//! random input, a host that takes the device away, and a module that goes and comes.
//!
//! Runs in the test machine: the host's control channel says after each part whether something was left
//! there, and a job whether the device works. Progress is on standard error; standard output is one JSON
//! document with what was done, in numbers, and what went wrong. What is random follows from a seed,
//! which is printed.
//!
//! Exit status: 0 nothing went wrong, 1 something did, 2 usage, 3 the environment is at fault.

mod faults;
mod fuzz;
mod host;
mod injection;
mod kcov;
mod kill;
mod numbers;
mod report;
mod rig;
mod row;
mod rows;
mod shortage;
mod soak;
mod storm;
mod trial;
mod worker;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use clap::{Parser, Subcommand};

use fuzz::Kind;
use trial::Trial;

#[derive(Debug, Parser)]
#[command(about = "Tests that the driver survives; to be run in the test machine")]
struct Arguments {
    /// Device node.
    #[arg(long, default_value = "/dev/accel/accel0", global = true)]
    node: PathBuf,
    /// What is random follows from this number; the clock's, unless one is given.
    #[arg(long, global = true)]
    seed: Option<u64>,
    /// Seconds until nothing new is begun. Without it all there is is done once.
    #[arg(long, global = true)]
    time: Option<u64>,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Names the operations of the table.
    List,
    /// Kills processes at each point of these operations, or of all.
    Kill {
        /// Names of operations.
        names: Vec<String>,
    },
    /// Has each allocation and copy of these operations fail, or of all.
    Faults {
        /// Names of operations.
        names: Vec<String>,
    },
    /// Has allocations of the driver fail at random, wherever it makes them, under load.
    Shortage,
    /// Gives the driver random input.
    Fuzz {
        /// What kind; all, one after the other, unless one is named.
        kind: Option<Kind>,
    },
    /// Has the host take channels back and offer them again under load.
    Rescind,
    /// Unloads and loads the module under load.
    Reload {
        /// The module's file.
        #[arg(long, default_value = MODULE)]
        module: PathBuf,
    },
    /// All of it in random order.
    Soak {
        /// The module's file.
        #[arg(long, default_value = MODULE)]
        module: PathBuf,
    },
    /// How this program starts itself.
    #[command(hide = true)]
    Worker {
        /// What to do, and with what.
        words: Vec<String>,
    },
}

/// Where the test machine has the module.
const MODULE: &str = "/modules/vaccel.ko";
/// Time for a kind of random input, unless it is given.
const FUZZ: Duration = Duration::from_secs(20);
/// Times in a storm, unless time is given.
const STORM: u64 = 10;
/// Time of a soak, unless it is given.
const SOAK: Duration = Duration::from_secs(600);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let What::Worker { words } = &arguments.what {
        return work(&arguments, words);
    }
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("vaccel-survive: {error:#}");
            ExitCode::from(3)
        }
    }
}

fn run(arguments: &Arguments) -> Result<bool> {
    let seed = arguments.seed.unwrap_or_else(from_clock);
    let time = arguments.time.map(Duration::from_secs);
    let most = if time.is_some() { u64::MAX } else { STORM };
    let trial = |command, time| Trial::new(command, &arguments.node, seed, time);
    let trial = match &arguments.what {
        What::List => {
            for row in row::all() {
                println!("{:<28} {}", row.name, row.operation);
            }
            return Ok(true);
        }
        What::Kill { names } => {
            let mut trial = trial("kill", time)?;
            kill::run(&mut trial, names)?;
            trial
        }
        What::Faults { names } => {
            let mut trial = trial("faults", time)?;
            faults::run(&mut trial, names)?;
            trial
        }
        What::Shortage => {
            let mut trial = trial("shortage", time)?;
            shortage::run(&mut trial, most)?;
            trial
        }
        What::Fuzz { kind } => {
            let mut trial = trial("fuzz", time)?;
            let kinds: Vec<Kind> = Kind::ALL
                .into_iter()
                .filter(|one| kind.is_none_or(|kind| kind == *one))
                .collect();
            let share = time.map_or(FUZZ, |time| time / kinds.len() as u32);
            for kind in kinds {
                fuzz::run(&mut trial, kind, share);
            }
            trial
        }
        What::Rescind => {
            let mut trial = trial("rescind", time)?;
            storm::rescind(&mut trial, most);
            trial
        }
        What::Reload { module } => {
            let mut trial = trial("reload", time)?;
            storm::reload(&mut trial, module, most);
            trial
        }
        What::Soak { module } => {
            let mut trial = trial("soak", Some(time.unwrap_or(SOAK)))?;
            soak::run(&mut trial, module)?;
            trial
        }
        // main does that.
        What::Worker { .. } => return Ok(false),
    };
    Ok(trial.report.finish())
}

/// One that differs from run to run.
fn from_clock() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

/// A process of [`worker`]. Its last line says what was wrong.
fn work(arguments: &Arguments, words: &[String]) -> ExitCode {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let node = &arguments.node;
    let outcome = match words[..] {
        ["once", row] => kill::once(node, row),
        ["again", row] => kill::again(node, row),
        ["sweep", row] => faults::sweep(node, row),
        ["load", load, seed] => number(seed).and_then(|seed| storm::load(node, load, seed)),
        ["fuzz", kind, seed, seconds] => fuzz_process(node, kind, seed, seconds),
        _ => Err(anyhow::anyhow!("unknown work {words:?}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn number(text: &str) -> Result<u64> {
    Ok(text.parse()?)
}

fn fuzz_process(node: &std::path::Path, kind: &str, seed: &str, seconds: &str) -> Result<()> {
    let kind = clap::ValueEnum::from_str(kind, true).map_err(anyhow::Error::msg)?;
    let time = Duration::from_secs(number(seconds)?);
    fuzz::process(node, kind, number(seed)?, time)
}
