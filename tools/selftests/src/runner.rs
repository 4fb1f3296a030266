// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs cases as processes, asks the census, prints KTAP.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use guest_init::census::{self, Counts};
use guest_init::control::Control;
use serde_json::json;

use crate::cases::Case;
use crate::host;
use crate::SKIPPED;

/// Limit of a case. Nothing in them takes long; nested emulation is slow.
const LIMIT: Duration = Duration::from_secs(120);
/// How long the host may take to let go of what a case had: of sixteen thousand exports, on a debug kernel.
const SETTLE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(10);

/// Outcome of a case.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed(String),
    Skipped(String),
    TimedOut,
}

/// The host's view, where it can be asked.
struct Host {
    control: Control,
    idle: Counts,
}

impl Host {
    fn open() -> Option<Self> {
        let mut control = Control::open()?;
        let census = control.request(&json!({"op": "census"})).ok()?;
        Some(Self {
            control,
            idle: census::counts(&census),
        })
    }

    /// What the host holds beyond the idle state, after giving it time.
    fn leak(&mut self) -> Option<String> {
        let end = Instant::now() + SETTLE;
        loop {
            let census = match self.control.request(&json!({"op": "census"})) {
                Ok(census) => census,
                Err(error) => return Some(error.to_string()),
            };
            let excess = census::excess(&census, &self.idle)?;
            if Instant::now() >= end {
                return Some(format!("the host still holds {excess}"));
            }
            std::thread::sleep(PAUSE);
        }
    }
}

/// Runs the cases; returns the exit status.
pub fn run(cases: &[Case], node: &Path) -> u8 {
    println!("KTAP version 1");
    let mut host = Host::open();
    if host.is_none() {
        println!("# no control channel: the host's census is not checked");
    }
    println!("1..{}", cases.len());
    let (mut passed, mut failed) = (0u32, 0u32);
    for (index, case) in cases.iter().enumerate() {
        let mut outcome = run_case(case, node);
        if let Some(leak) = host.as_mut().and_then(Host::leak) {
            outcome = match outcome {
                Outcome::Failed(reason) => Outcome::Failed(format!("{reason}; {leak}")),
                _ => Outcome::Failed(leak),
            };
            // What is lost stays lost: the next case is not to be blamed for it.
            host = Host::open();
        }
        let ended = matches!(outcome, Outcome::Passed | Outcome::Skipped(_));
        if let (Some(asked), false) = (host.as_mut(), ended) {
            // It may have died before it put back what it had the host change.
            let _ = asked.control.settle();
            host::restore(&mut asked.control, host::vgpu_of(node));
        }
        match outcome {
            Outcome::Passed => passed += 1,
            Outcome::Failed(_) | Outcome::TimedOut => failed += 1,
            Outcome::Skipped(_) => {}
        }
        println!("{}", result_line(index + 1, case.name, &outcome));
    }
    println!(
        "# Totals: pass:{passed} fail:{failed} skip:{}",
        cases.len() as u32 - passed - failed
    );
    match (failed, passed) {
        (0, 0) => 77,
        (0, _) => 0,
        _ => 1,
    }
}

fn result_line(number: usize, name: &str, outcome: &Outcome) -> String {
    match outcome {
        Outcome::Passed => format!("ok {number} {name}"),
        Outcome::Skipped(reason) => format!("ok {number} {name} # SKIP {}", one_line(reason)),
        Outcome::Failed(reason) => {
            format!("# {name}: {}\nnot ok {number} {name}", one_line(reason))
        }
        Outcome::TimedOut => format!("not ok {number} {name} # TIMEOUT {} s", LIMIT.as_secs()),
    }
}

fn one_line(text: &str) -> String {
    text.trim().replace('\n', "; ")
}

fn run_case(case: &Case, node: &Path) -> Outcome {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return Outcome::Failed(format!("own path: {error}")),
    };
    let child = Command::new(program)
        .arg("--device")
        .arg(node)
        .args(["--one", case.name])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn();
    match child {
        Ok(child) => judge(child),
        Err(error) => Outcome::Failed(format!("start: {error}")),
    }
}

fn judge(mut child: Child) -> Outcome {
    let end = Instant::now() + LIMIT;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < end => std::thread::sleep(PAUSE),
            Ok(None) => {
                // Killing is all that can be done; a case that does not die shows in the census.
                let _ = child.kill();
                return Outcome::TimedOut;
            }
            Err(error) => return Outcome::Failed(format!("wait: {error}")),
        }
    };
    let mut said = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        // What it said before it died is all there is to say.
        let _ = stdout.read_to_string(&mut said);
    }
    match status.code() {
        Some(0) => Outcome::Passed,
        Some(code) if code == i32::from(SKIPPED) => Outcome::Skipped(said),
        Some(1) => Outcome::Failed(said),
        _ => Outcome::Failed(format!("{status}: {said}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn child(script: &str) -> Child {
        Command::new("/bin/sh")
            .args(["-c", script])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Proves that only status 0 is a pass: a crash, a failure and a skip are told apart.
    #[test]
    fn outcomes() {
        assert_eq!(judge(child("exit 0")), Outcome::Passed);
        assert_eq!(
            judge(child("echo no; exit 4")),
            Outcome::Skipped("no\n".into())
        );
        assert_eq!(
            judge(child("echo bad; exit 1")),
            Outcome::Failed("bad\n".into())
        );
        assert!(matches!(judge(child("kill -11 $$")), Outcome::Failed(_)));
        assert!(matches!(judge(child("exit 101")), Outcome::Failed(_)));
    }

    /// Proves the lines of each outcome.
    #[test]
    fn lines() {
        assert_eq!(result_line(1, "a", &Outcome::Passed), "ok 1 a");
        assert_eq!(
            result_line(2, "b", &Outcome::Failed("x\ny\n".into())),
            "# b: x; y\nnot ok 2 b"
        );
        assert_eq!(
            result_line(3, "c", &Outcome::Skipped("z".into())),
            "ok 3 c # SKIP z"
        );
    }
}
