// SPDX-License-Identifier: MIT OR Apache-2.0
//! Second processes: this program started again, with a syncobj's descriptor as standard input.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};

use libvaccel::{Deadline, Device};

use crate::libdrm::{Drm, SyncObj, WAIT_FOR_SUBMIT};
use crate::scenario::{failed, soon, Problem, Result, Rig};

/// A point that one process brings and the other waits for.
pub const POINT: u64 = 5;

/// A second process that has said that it is ready.
#[derive(Debug)]
pub struct Second {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Second {
    /// Starts `role` with the descriptor of a syncobj and waits until it is ready.
    pub fn start(role: &str, node: &Path, syncobj: &SyncObj<'_>) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("--device")
            .arg(node)
            .args(["--second", role])
            .stdin(Stdio::from(syncobj.to_fd()?))
            .stdout(Stdio::piped())
            .spawn()?;
        let Some(output) = child.stdout.take() else {
            return failed("the second process has no output");
        };
        let mut output = BufReader::new(output);
        let mut line = String::new();
        output.read_line(&mut line)?;
        let second = Self { child, output };
        if line == "ready\n" {
            Ok(second)
        } else {
            second.finish().and(failed(format!("it said {line:?}")))
        }
    }

    /// Waits until it ends by itself with success.
    pub fn finish(mut self) -> Result {
        let mut said = String::new();
        self.output.read_to_string(&mut said)?;
        let status = self.child.wait()?;
        if status.success() {
            Ok(())
        } else {
            failed(format!("the second process: {status}: {}", said.trim()))
        }
    }

    /// Kills it, as `kill -9` does, and waits until it is gone.
    pub fn kill(mut self) -> Result {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

/// Runs a role in this process.
pub fn run(role: &str, node: &Path) -> ExitCode {
    let outcome = match role {
        "wait" => wait(node),
        "signal" => signal(node),
        "promise" => promise(node),
        _ => failed(format!("unknown role {role}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Problem::Failed(reason) | Problem::Skipped(reason)) => {
            println!("{reason}");
            ExitCode::FAILURE
        }
    }
}

fn passed() -> Result<OwnedFd> {
    Ok(std::io::stdin().as_fd().try_clone_to_owned()?)
}

fn ready() -> Result {
    let mut out = std::io::stdout().lock();
    writeln!(out, "ready")?;
    out.flush()?;
    Ok(())
}

/// Waits for a point that has no fence yet.
fn wait(node: &Path) -> Result {
    let device = Device::open(node)?;
    let syncobj = Drm::new(device.as_fd()).open_syncobj(passed()?.as_fd())?;
    if syncobj.timeline_wait(POINT, Deadline::NOW, 0).is_ok() {
        return failed("the point was there before");
    }
    ready()?;
    Ok(syncobj.timeline_wait(POINT, soon(), WAIT_FOR_SUBMIT)?)
}

/// Signals a point.
fn signal(node: &Path) -> Result {
    let device = Device::open(node)?;
    let syncobj = Drm::new(device.as_fd()).open_syncobj(passed()?.as_fd())?;
    syncobj.timeline_signal(POINT)?;
    ready()
}

/// Promises a point by a fence that it never signals, and waits to be killed.
fn promise(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let syncobj = rig.device.open_syncobj(passed()?.as_fd())?;
    rig.fence.export_to(&syncobj, POINT, 1)?;
    ready()?;
    std::thread::sleep(std::time::Duration::from_secs(600));
    failed("nobody killed the second process")
}
