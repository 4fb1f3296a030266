// SPDX-License-Identifier: MIT OR Apache-2.0
//! Running one program: time limit, output to the console and to memory, nothing left behind.

use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::kernel;
use crate::plan::{Capture, Run};

/// How often a running program is looked at.
const POLL: Duration = Duration::from_millis(5);
/// How long a killed program may take to go. One that takes longer hangs in the kernel.
const DEATH: Duration = Duration::from_secs(10);
/// Most output kept; what is more is counted as a failure for formats that are parsed.
const OUTPUT_BYTES: usize = 8 << 20;

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself.
    Exit(i32),
    /// By a signal.
    Signal(i32),
    /// Killed at its time limit.
    Timeout,
    /// Killed, but still there.
    Stuck,
}

/// What a program did.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// Standard output, from the start.
    pub stdout: Vec<u8>,
}

/// Runs a program to its end.
pub fn run(run: &Run) -> io::Result<Outcome> {
    let (program, arguments) = run
        .command
        .split_first()
        .ok_or(io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", "/bin:/sbin:/usr/bin:/usr/sbin")
        .env("HOME", "/tmp")
        .envs(run.environment.iter().map(|(key, value)| (key, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()?;
    let stdout = child.stdout.take();
    let show = !matches!(run.capture, Capture::Json);
    let (sender, receiver) = mpsc::channel();
    // Ends at end of file, which comes with the death of the last process that has the pipe.
    std::thread::spawn(move || {
        let collected = stdout.map(|pipe| collect(pipe, show)).unwrap_or_default();
        // The receiver may have given up; then nobody wants it.
        let _ = sender.send(collected);
    });
    let end = wait(&mut child, run.timeout)?;
    kernel::kill_group(child.id());
    kernel::kill_strays();
    let stdout = receiver.recv_timeout(DEATH).unwrap_or_default();
    Ok(Outcome { end, stdout })
}

fn wait(child: &mut Child, timeout: Duration) -> io::Result<End> {
    if let Some(status) = wait_until(child, Instant::now() + timeout)? {
        return Ok(End::from(status));
    }
    describe_hang(child.id());
    kernel::kill_group(child.id());
    Ok(match wait_until(child, Instant::now() + DEATH)? {
        Some(_) => End::Timeout,
        None => End::Stuck,
    })
}

fn wait_until(child: &mut Child, end: Instant) -> io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            return Ok(None);
        }
        std::thread::sleep(POLL);
    }
}

impl From<ExitStatus> for End {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Exit(code),
            (None, Some(signal)) => Self::Signal(signal),
            (None, None) => Self::Stuck,
        }
    }
}

/// Says where a program hangs: the kernel stacks of its threads.
fn describe_hang(process: u32) {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{process}/task")) else {
        return;
    };
    for thread in threads.flatten() {
        let path = thread.path();
        let read = |file: &str| std::fs::read_to_string(path.join(file)).unwrap_or_default();
        println!(
            "VACCEL-INIT: {} hangs in {}",
            path.display(),
            read("wchan").trim()
        );
        print!("{}", read("stack"));
    }
}

/// Copies a program's output to the console while keeping it.
fn collect(mut pipe: impl Read, show: bool) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match pipe.read(&mut chunk) {
            Ok(0) => return kept,
            Ok(length) => {
                let bytes = chunk.get(..length).unwrap_or_default();
                if show {
                    // A console that fails must not lose the report.
                    let _ = io::stdout().write_all(bytes);
                    let _ = io::stdout().flush();
                }
                let room = OUTPUT_BYTES.saturating_sub(kept.len());
                kept.extend(bytes.iter().take(room));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return kept,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, timeout: Duration) -> Outcome {
        super::run(&Run {
            name: "test".into(),
            command: vec!["/bin/sh".into(), "-c".into(), script.into()],
            timeout,
            expect: vec![0],
            capture: Capture::Json,
            says: None,
            census: false,
            environment: vec![("GREETING".into(), "hello".into())],
        })
        .unwrap()
    }

    const LONG: Duration = Duration::from_secs(60);

    /// Proves that exit code, environment and output arrive.
    #[test]
    fn output_and_status() {
        let outcome = shell("echo $GREETING; exit 3", LONG);
        assert_eq!(outcome.end, End::Exit(3));
        assert_eq!(outcome.stdout, b"hello\n");
    }

    /// Proves that death by a signal is not an exit code.
    #[test]
    fn signals() {
        assert_eq!(shell("kill -9 $$", LONG).end, End::Signal(9));
    }

    /// Proves that a hanging program with children is killed at its limit, and its output so far
    /// is kept.
    #[test]
    fn time_limit() {
        let outcome = shell("echo begun; sleep 1000 & wait", Duration::from_millis(300));
        assert_eq!(outcome.end, End::Timeout);
        assert_eq!(outcome.stdout, b"begun\n");
    }

    /// Proves that a program that is not there is an error.
    #[test]
    fn missing_program() {
        let missing = Run {
            name: "x".into(),
            command: vec!["/nonexistent".into()],
            timeout: LONG,
            expect: vec![0],
            capture: Capture::Text,
            says: None,
            census: false,
            environment: Vec::new(),
        };
        assert!(super::run(&missing).is_err());
    }
}
