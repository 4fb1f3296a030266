// SPDX-License-Identifier: MIT OR Apache-2.0
//! Self-tests of the driver through its device node: what the uAPI header promises, and above all
//! what it refuses. Output is KTAP.
//!
//! Each case runs in a process of its own with a file of its own, so that one that hangs or dies
//! takes nothing with it. Where the control channel is there (the test machine's second serial
//! port), the host's census is taken after each case: objects that stay fail the case that left
//! them.
//!
//! ```text
//! vaccel-selftests [--device NODE] [NAME...]     run all cases, or these
//! vaccel-selftests [--device NODE] --quick       those that take no time
//! vaccel-selftests --list                        names and what they prove
//! vaccel-selftests --misbehave ..                see [`misbehaviour`]
//! ```
//!
//! A name that ends in `*` stands for all cases whose names begin so.
//!
//! Exit status: 0 all passed, 1 one failed, 2 usage, 77 no device or all skipped.

mod cases;
mod executor;
mod expect;
mod foreign;
mod helper;
mod host;
mod misbehaviour;
mod passing;
mod rig;
mod runner;
mod seccomp;
mod sync;
mod system;
mod thread;
mod uevent;
mod uring;

use std::path::PathBuf;
use std::process::ExitCode;

use rig::Problem;

/// The node, unless another is named.
const NODE: &str = "/dev/accel/accel0";

/// How the names of cases begin that take seconds: storms, kills, losses, waits for the host.
const SLOW: &[&str] = &[
    "budget-both",
    "budget-busy",
    "budget-idle",
    "budget-oversubscribe",
    "budget-unread",
    "event-",
    "file-kill",
    "kill-",
    "lost-",
    "mute-",
    "mmap-huge",
    "reserve-race",
    "reserve-random",
    "share-kept-written",
    "stress-",
    "sync-limit",
    "uring-cancel",
    "uring-end",
    "uring-export-many",
    "uring-order-",
    "uring-race",
    "uring-two",
    "uring-wait-all-any",
    "uring-wait-destroyed",
    "watchdog-hung",
    "watchdog-long-running",
    "watchdog-progress",
    "watchdog-queue-closed",
    "watchdog-vm-failed",
    "watchdog-waits",
    "window-kill",
    "window-reclaim",
    "window-storm",
];

/// Exit status of a case that was not possible.
const SKIPPED: u8 = 4;

fn main() -> ExitCode {
    let mut node = PathBuf::from(NODE);
    let mut names = Vec::new();
    let mut quick = false;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--list" => {
                for case in cases::all() {
                    println!("{:<28} {}", case.name, case.proves);
                }
                return ExitCode::SUCCESS;
            }
            "--device" => match arguments.next() {
                Some(path) => node = path.into(),
                None => return usage("--device needs a node"),
            },
            "--quick" => quick = true,
            "--misbehave" => return misbehaviour::run(arguments),
            // What follows is how this program starts itself.
            "--one" => return one(&arguments.next().unwrap_or_default(), &node),
            "--helper" => {
                let name = arguments.next().unwrap_or_default();
                return helper::run(&name, &arguments.collect::<Vec<_>>());
            }
            name if name.starts_with('-') => return usage(&format!("unknown option {name}")),
            name => names.push(name.to_owned()),
        }
    }
    let mut chosen = cases::all();
    if let Some(unknown) = names
        .iter()
        .find(|name| !chosen.iter().any(|case| stands_for(name, case.name)))
    {
        return usage(&format!("unknown case {unknown}"));
    }
    if !names.is_empty() {
        chosen.retain(|case| names.iter().any(|name| stands_for(name, case.name)));
    }
    if quick {
        let slow = |name: &str| SLOW.iter().any(|start| name.starts_with(start));
        chosen.retain(|case| !slow(case.name));
    }
    if !node.exists() {
        eprintln!("vaccel-selftests: {} does not exist", node.display());
        return ExitCode::from(77);
    }
    ExitCode::from(runner::run(&chosen, &node))
}

/// Whether `name`, as a user gave it, is that of `case`, or the beginning of it before a `*`.
fn stands_for(name: &str, case: &str) -> bool {
    match name.strip_suffix('*') {
        Some(start) => case.starts_with(start),
        None => name == case,
    }
}

fn usage(problem: &str) -> ExitCode {
    eprintln!("vaccel-selftests: {problem}");
    eprintln!("usage: vaccel-selftests [--device NODE] [--quick] [NAME...] | --list");
    ExitCode::from(2)
}

/// Runs one case in this process; the parent reads the reason from standard output.
fn one(name: &str, node: &std::path::Path) -> ExitCode {
    let Some(case) = cases::all().into_iter().find(|case| case.name == name) else {
        return usage(&format!("unknown case {name}"));
    };
    match (case.run)(node) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Problem::Failed(reason)) => {
            println!("{reason}");
            ExitCode::FAILURE
        }
        Err(Problem::Skipped(reason)) => {
            println!("{reason}");
            ExitCode::from(SKIPPED)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only a star makes a name stand for more than itself.
    #[test]
    fn patterns() {
        assert!(stands_for("window-kill", "window-kill"));
        assert!(!stands_for("window", "window-kill"));
        assert!(stands_for("window-*", "window-kill"));
        assert!(!stands_for("kill*", "window-kill"));
    }

    /// Every beginning that is left out of the quick run is one of a case.
    #[test]
    fn slow_cases_exist() {
        let cases = cases::all();
        for start in SLOW {
            assert!(
                cases
                    .iter()
                    .any(|case| stands_for(&format!("{start}*"), case.name)),
                "{start}: no such case"
            );
        }
    }
}
