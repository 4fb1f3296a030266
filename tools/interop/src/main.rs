// SPDX-License-Identifier: MIT OR Apache-2.0
//! Monitored fences and drm_syncobj, seen by the distribution's own libdrm.
//!
//! Whatever is done to a syncobj here is done by libdrm, as a compositor or a Vulkan driver would; only
//! the driver's own operations go through libvaccel, which gets the syncobj by its descriptor. The program is linked
//! dynamically and needs libdrm.so.2. Output is KTAP.
//!
//! ```text
//! vaccel-interop [--device NODE] [NAME...]     run all scenarios, or these
//! vaccel-interop --list                        names and what they prove
//! ```
//!
//! Exit status: 0 all passed, 1 one failed, 2 usage, 77 no device or all skipped.

mod job;
mod libdrm;
mod process;
mod scenario;
mod scenarios;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use scenario::{Problem, Scenario};

/// The node, unless another is named.
const NODE: &str = "/dev/accel/accel0";

fn main() -> ExitCode {
    let mut node = PathBuf::from(NODE);
    let mut names = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--list" => {
                for scenario in scenarios::all() {
                    println!("{:<24} {}", scenario.name, scenario.proves);
                }
                return ExitCode::SUCCESS;
            }
            "--device" => match arguments.next() {
                Some(path) => node = path.into(),
                None => return usage("--device needs a node"),
            },
            // How this program starts itself.
            "--second" => return process::run(&arguments.next().unwrap_or_default(), &node),
            name if name.starts_with('-') => return usage(&format!("unknown option {name}")),
            name => names.push(name.to_owned()),
        }
    }
    let mut chosen = scenarios::all();
    if let Some(unknown) = names
        .iter()
        .find(|name| !chosen.iter().any(|scenario| scenario.name == **name))
    {
        return usage(&format!("unknown scenario {unknown}"));
    }
    if !names.is_empty() {
        chosen.retain(|scenario| names.iter().any(|name| name == scenario.name));
    }
    if !node.exists() {
        eprintln!("vaccel-interop: {} does not exist", node.display());
        return ExitCode::from(77);
    }
    ExitCode::from(run(&chosen, &node))
}

fn usage(problem: &str) -> ExitCode {
    eprintln!("vaccel-interop: {problem}");
    eprintln!("usage: vaccel-interop [--device NODE] [NAME...] | --list");
    ExitCode::from(2)
}

/// Runs the scenarios, each on files of its own; returns the exit status.
fn run(scenarios: &[Scenario], node: &Path) -> u8 {
    println!("KTAP version 1");
    println!("1..{}", scenarios.len());
    let (mut passed, mut failed) = (0, 0);
    for (number, scenario) in (1..).zip(scenarios) {
        let outcome = (scenario.run)(node);
        match outcome {
            Ok(()) => passed += 1,
            Err(Problem::Failed(_)) => failed += 1,
            Err(Problem::Skipped(_)) => {}
        }
        println!("{}", result_line(number, scenario.name, &outcome));
    }
    match (failed, passed) {
        (0, 0) => 77,
        (0, _) => 0,
        _ => 1,
    }
}

fn result_line(number: usize, name: &str, outcome: &scenario::Result) -> String {
    match outcome {
        Ok(()) => format!("ok {number} {name}"),
        Err(Problem::Skipped(reason)) => format!("ok {number} {name} # SKIP {reason}"),
        Err(Problem::Failed(reason)) => format!("# {name}: {reason}\nnot ok {number} {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves the lines of each outcome.
    #[test]
    fn lines() {
        assert_eq!(result_line(1, "a", &Ok(())), "ok 1 a");
        assert_eq!(
            result_line(2, "b", &scenario::failed("x")),
            "# b: x\nnot ok 2 b"
        );
        assert_eq!(
            result_line(3, "c", &Err(Problem::Skipped("z".into()))),
            "ok 3 c # SKIP z"
        );
    }
}
