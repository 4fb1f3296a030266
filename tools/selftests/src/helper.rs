// SPDX-License-Identifier: MIT OR Apache-2.0
//! Second processes of cases: this program started again, with the device node as standard input.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};

use libvaccel::compute::Session;
use libvaccel::ioctl::{self, call};
use libvaccel::{sys, Deadline, Device, FenceFlags, VmFlags};
use vaccel_isa::CommandStream;

use crate::rig::{failed, Problem, Result};

/// A running helper that has said what it had to say.
#[derive(Debug)]
pub struct Helper {
    child: Child,
    /// What it says after its first line.
    rest: Option<BufReader<ChildStdout>>,
    /// Its first line.
    pub said: String,
}

impl Helper {
    /// Starts `name` with the device's file and waits for its line.
    pub fn start(name: &str, device: &Device) -> Result<Self> {
        Self::start_with(name, &[], device.as_fd())
    }

    /// Starts `name` with arguments and any file, and waits for its line.
    pub fn start_with(name: &str, arguments: &[&str], file: BorrowedFd<'_>) -> Result<Self> {
        let file: OwnedFd = file.try_clone_to_owned()?;
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--helper", name])
            .args(arguments)
            .stdin(Stdio::from(file))
            .stdout(Stdio::piped())
            .spawn()?;
        let mut said = String::new();
        let mut rest = child.stdout.take().map(BufReader::new);
        if let Some(stdout) = &mut rest {
            stdout.read_line(&mut said)?;
        }
        Ok(Self {
            child,
            rest,
            said: said.trim().to_owned(),
        })
    }

    /// Kills it, as `kill -9` does, and waits until it is gone. One that has ended by itself has
    /// failed.
    pub fn kill(mut self) -> Result {
        if let Some(status) = self.child.try_wait()? {
            let mut reason = String::new();
            if let Some(stdout) = &mut self.rest {
                stdout.read_to_string(&mut reason)?;
            }
            return failed(format!("the second process: {status}: {}", reason.trim()));
        }
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits until it ends by itself with success.
    pub fn finish(mut self) -> Result {
        let status = self.child.wait()?;
        if status.success() {
            Ok(())
        } else {
            failed(format!("the second process: {status}: {}", self.said))
        }
    }
}

/// Runs a helper in this process.
pub fn run(name: &str, arguments: &[String]) -> ExitCode {
    let outcome = match name {
        "query-vm" => query_vm(),
        "work" => work(),
        "wait" => wait(),
        _ => match crate::cases::HELPERS
            .concat()
            .iter()
            .find(|helper| helper.0 == name)
        {
            Some((_, work)) => work(arguments),
            None => failed(format!("unknown helper {name}")),
        },
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Problem::Failed(reason) | Problem::Skipped(reason)) => {
            println!("{reason}");
            ExitCode::FAILURE
        }
    }
}

/// The file that was passed as standard input.
pub fn inherited() -> Result<Device> {
    let file = std::io::stdin().as_fd().try_clone_to_owned()?;
    Ok(Device::from_fd(file, "standard input"))
}

/// Says its line.
pub fn say(text: &str) -> Result {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()?;
    Ok(())
}

/// Uses the first vm of the shared file, which another process made, then makes one.
fn query_vm() -> Result {
    let device = inherited()?;
    let found = (1..64u32).find(|vm| {
        let mut arg = sys::VmQuery {
            vm: *vm,
            ..Default::default()
        };
        call::<ioctl::VmQuery>(device.as_fd(), &mut arg).is_ok()
    });
    match found {
        Some(vm) => say(&vm.to_string())?,
        None => return failed("no vm of the other process is reachable"),
    }
    device.create_vm(VmFlags::empty())?.close()?;
    Ok(())
}

/// Opens a file of its own by the same node, has everything in use, and stays in the middle of a
/// job.
fn work() -> Result {
    let own = Device::open(std::fs::read_link("/proc/self/fd/0")?)?;
    let mut session = Session::new(&own)?;
    let buffers: Vec<_> = (0..8)
        .map(|_| session.buffer(64 * 1024))
        .collect::<libvaccel::Result<_>>()?;
    let mut ticket = None;
    for buffer in &buffers {
        let mut stream = CommandStream::new();
        stream.spin(300_000_000);
        stream.fill_words(buffer.gpu_va(), 64 * 1024, 1);
        ticket = Some(session.launch(stream)?);
    }
    say("working")?;
    if let Some(ticket) = ticket {
        session.wait(ticket, Deadline::NEVER)?;
    }
    // The other process kills this one long before.
    std::thread::sleep(std::time::Duration::from_secs(600));
    Ok(())
}

/// Waits for ever for a fence of its own.
fn wait() -> Result {
    let own = Device::open(std::fs::read_link("/proc/self/fd/0")?)?;
    let vm = own.create_vm(VmFlags::empty())?;
    let fence = vm.create_fence(FenceFlags::empty(), 0)?;
    say("waiting")?;
    fence.wait(1, Deadline::NEVER)?;
    failed("a wait that nobody signals has ended")
}
