// SPDX-License-Identifier: MIT OR Apache-2.0
//! This program as the first process of the outer machine ([`crate::tcg`]).
//!
//! Mounts what a run needs, loads the KVM modules, runs the guest, sends results and the exit status
//! over the second serial port, with a sign of life every second, and powers off. An error is one line on the console and exit status 1.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result};
use nix::kmod::{finit_module, ModuleInitFlags};
use nix::mount::{mount, MsFlags};
use nix::sys::reboot::{reboot, RebootMode};
use nix::sys::termios::{cfmakeraw, tcdrain, tcgetattr, tcsetattr, SetArg};

use crate::cli::RunArgs;
use crate::guest;
use crate::results::{self, Sink};
use crate::tcg::{place, HEARTBEAT};

/// Serial port the results leave by.
const RESULTS_PORT: &str = "/dev/ttyS1";

/// Whether this process is the first of an outer machine.
pub fn is_outer() -> bool {
    std::process::id() == 1 && Path::new(place::ARGS).exists()
}

/// Runs the guest and powers off; does not return.
pub fn main() -> ! {
    let outcome = run();
    let exit = outcome.unwrap_or_else(|error| {
        crate::print_error(&error);
        1
    });
    if let Err(error) = send_exit(exit) {
        crate::print_error(&error);
    }
    // Returns only if it failed; the kernel then panics as the first process ends, which also
    // ends the machine.
    let _ = reboot(RebootMode::RB_POWER_OFF);
    std::process::exit(1)
}

fn run() -> Result<u8> {
    for (kind, target) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")] {
        mount(
            Some(kind),
            target,
            Some(kind),
            MsFlags::empty(),
            None::<&str>,
        )
        .with_context(|| format!("cannot mount {target}"))?;
    }
    // Lines from the guest are complete already.
    raw("/dev/console")?;
    raw(RESULTS_PORT)?;
    std::thread::spawn(heartbeat);
    load_modules()?;
    let args: RunArgs = serde_json::from_slice(&fs::read(place::ARGS)?)?;
    if args.trace.is_some() {
        raw(place::TRACE)?;
    }
    let exit = guest::run(&args, results_port()?)?;
    if args.trace.is_some() {
        tcdrain(File::options().write(true).open(place::TRACE)?)?;
    }
    Ok(exit)
}

/// Says over and over that this machine is alive: an empty line, which is no result.
fn heartbeat() {
    while let Ok(mut port) = results_port() {
        if results::write_line(&mut port, "").is_err() {
            return;
        }
        std::thread::sleep(HEARTBEAT);
    }
}

fn load_modules() -> Result<()> {
    let folder = Path::new(place::MODULES);
    let order = fs::read_to_string(folder.join("modules.load"))?;
    for name in order.lines() {
        let file = File::open(folder.join(name))?;
        finit_module(file, c"", ModuleInitFlags::empty())
            .with_context(|| format!("cannot load {name}"))?;
    }
    Ok(())
}

fn raw(path: &str) -> Result<()> {
    let port = File::options().read(true).write(true).open(path)?;
    let mut settings = tcgetattr(&port)?;
    cfmakeraw(&mut settings);
    tcsetattr(&port, SetArg::TCSANOW, &settings)?;
    Ok(())
}

fn results_port() -> Result<Sink> {
    let port = File::options()
        .write(true)
        .open(RESULTS_PORT)
        .with_context(|| format!("cannot open {RESULTS_PORT}"))?;
    Ok(Box::new(port))
}

fn send_exit(exit: u8) -> Result<()> {
    results::write_exit(&mut results_port()?, exit)?;
    for port in ["/dev/console", RESULTS_PORT] {
        tcdrain(File::options().write(true).open(port)?)?;
    }
    Ok(())
}
