// SPDX-License-Identifier: MIT OR Apache-2.0
//! PID 1 of the test machine.
//!
//! Mounts what programs expect, reads the plan `/etc/vaccel/plan`, runs its steps in order, reports
//! each on the console and on the control channel, prints one verdict line and powers off. It needs
//! nothing from the machine but itself: it is static and starts no shell.
//!
//! The verdict is pessimistic: it is "pass" only if every step of the plan ran and none failed. A
//! panic of this program is a failed verdict, and a machine that dies prints none.
//!
//! `guest-init --check PLAN` parses a plan on any machine and prints its steps.

use std::process::ExitCode;

use guest_init::kernel;
use guest_init::plan::Plan;
use guest_init::runner::Runner;

/// Where the plan is.
const PLAN: &str = "/etc/vaccel/plan";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, path] = arguments.as_slice() {
        if flag == "--check" {
            return check(path);
        }
    }
    if std::process::id() != 1 {
        eprintln!("guest-init: this is the first program of a test machine and runs only as PID 1");
        eprintln!("usage: guest-init --check PLAN    parse a plan and print its steps");
        return ExitCode::from(2);
    }
    std::panic::set_hook(Box::new(|panic| {
        println!("VACCEL-INIT: {panic}");
        finish(0, 0);
    }));
    run()
}

fn check(path: &str) -> ExitCode {
    let parsed = std::fs::read_to_string(path)
        .map_err(|error| error.to_string())
        .and_then(|text| Plan::parse(&text).map_err(|error| error.to_string()));
    match parsed {
        Ok(plan) => {
            for (index, step) in plan.steps.iter().enumerate() {
                println!("{:3} {} {}", index + 1, step.action.kind(), step.name());
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("guest-init: {path}: {error}");
            ExitCode::from(2)
        }
    }
}

/// Runs the plan; does not return.
fn run() -> ! {
    for problem in kernel::mount_all() {
        println!("VACCEL-INIT: {problem}");
    }
    let parsed = std::fs::read_to_string(PLAN)
        .map_err(|error| error.to_string())
        .and_then(|text| Plan::parse(&text).map_err(|error| error.to_string()));
    match parsed {
        Ok(plan) => {
            let (passed, total) = Runner::new(plan).run();
            finish(passed, total)
        }
        Err(error) => {
            println!("VACCEL-INIT: {PLAN}: {error}");
            finish(0, 0)
        }
    }
}

/// Prints the verdict and powers off. A plan of no steps is no success.
fn finish(passed: usize, total: usize) -> ! {
    let verdict = if total > 0 && passed == total {
        "pass"
    } else {
        "fail"
    };
    println!("VACCEL-VERDICT: {verdict} {passed}/{total}");
    kernel::power_off()
}
