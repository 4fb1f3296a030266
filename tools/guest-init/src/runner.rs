// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs a plan's steps and reports them.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{json, Value};

use crate::census::{self, Counts};
use crate::control::{Control, ControlError};
use crate::kernel;
use crate::kernel_log::KernelLog;
use crate::kmemleak::{self, Scan};
use crate::plan::{Action, Capture, Census, Plan, Run, Step};
use crate::process::{self, End};
use crate::report::{tail, Report, Status, SCHEMA};
use crate::tap;

/// How long the host may take to let go of what a dead program had.
const SETTLE: Duration = Duration::from_secs(5);
/// How long a module may still be in use by what is being closed.
const UNLOAD: Duration = Duration::from_secs(5);
/// Pause between two looks at something.
const PAUSE: Duration = Duration::from_millis(20);
/// How long the guest may take to let go of a channel whose offer was taken back.
const RELEASE: Duration = Duration::from_secs(30);

/// State of a running plan.
#[derive(Debug)]
pub struct Runner {
    plan: Plan,
    control: Option<Control>,
    log: KernelLog,
    idle: Counts,
}

impl Runner {
    /// Gets ready: kernel log from the boot on, control channel if there is one. Where the kernel
    /// looks for leaks, a plan that does not say so ends with a scan.
    pub fn new(mut plan: Plan) -> Self {
        let scans = plan
            .steps
            .iter()
            .any(|step| step.action == Action::Kmemleak);
        if !scans && Path::new(kmemleak::FILE).exists() {
            plan.steps.push(Step {
                action: Action::Kmemleak,
                fatal: false,
            });
        }
        Self {
            plan,
            control: Control::open(),
            log: KernelLog::open(),
            idle: Counts::new(),
        }
    }

    /// Runs all steps; returns how many did not fail, and how many there are.
    pub fn run(mut self) -> (usize, usize) {
        let steps = std::mem::take(&mut self.plan.steps);
        let total = steps.len();
        let release = kernel::release();
        let channel = if self.control.is_some() { "yes" } else { "no" };
        println!("VACCEL-INIT: plan {total} steps, kernel {release}, control channel {channel}");
        let mut good = 0;
        for (position, step) in steps.iter().enumerate() {
            let report = self.step(step, position + 1, total);
            if report.status != Status::Fail {
                good += 1;
            } else if step.fatal {
                println!("VACCEL-INIT: the plan cannot go on without this step");
                break;
            }
        }
        let code = i32::from(good != total || total == 0);
        self.tell(&json!({"op": "result", "name": "verdict", "data": {
            "schema": SCHEMA, "kind": "verdict", "passed": good, "total": total, "kernel": release,
        }}));
        self.tell(&json!({"op": "exit", "code": code}));
        (good, total)
    }

    /// Sends what needs no answer but an acknowledgement. A channel that fails here is said on the
    /// console; the verdict there stands.
    fn tell(&mut self, request: &Value) {
        if let Some(control) = &mut self.control {
            if let Err(error) = control.request(request) {
                println!("VACCEL-INIT: {error}");
            }
        }
    }

    fn step(&mut self, step: &Step, index: usize, of: usize) -> Report {
        let (kind, name) = (step.action.kind(), step.name());
        println!("VACCEL-STEP: begin {index}/{of} {kind} {name}");
        let begin = Instant::now();
        let mut report = Report::new(kind, index, of);
        self.act(&step.action, &mut report);
        report.splats = self.log.scan();
        for splat in &report.splats {
            println!("VACCEL-SPLAT: {splat}");
        }
        if !report.splats.is_empty() {
            let count = report.splats.len();
            report.fail(format!("{count} kernel log lines report a fault"));
        }
        report.seconds = begin.elapsed().as_secs_f64();
        println!(
            "VACCEL-STEP: end {index}/{of} {kind} {name} {} {:.3}s {}",
            report.status.word(),
            report.seconds,
            report.reason.as_deref().unwrap_or_default()
        );
        match serde_json::to_value(&report) {
            Ok(data) => self.tell(&json!({"op": "result", "name": name, "data": data})),
            Err(error) => report.fail(format!("the report cannot be sent: {error}")),
        }
        report
    }

    fn act(&mut self, action: &Action, report: &mut Report) {
        match action {
            Action::Module { path, parameters } => match kernel::load_module(path, parameters) {
                Err(error) if error.raw_os_error() != Some(libc::EEXIST) => {
                    report.fail(format!("{}: {error}", path.display()));
                }
                _ => {}
            },
            Action::Rmmod(name) => {
                if let Err(error) = retry(UNLOAD, || kernel::unload_module(name)) {
                    report.fail(format!("{name}: {error}"));
                }
            }
            Action::Wait {
                path,
                exists,
                timeout,
            } => {
                if !wait(*timeout, || path.exists() == *exists) {
                    let state = if *exists { "does not appear" } else { "stays" };
                    report.fail(format!("{} {state}", path.display()));
                }
            }
            Action::Write { path, text } => {
                if let Err(error) = std::fs::write(path, text) {
                    report.fail(format!("{}: {error}", path.display()));
                }
            }
            Action::Sleep(time) => std::thread::sleep(*time),
            Action::Control(request) => match &mut self.control {
                Some(control) => match ask(control, request) {
                    Ok(answer) => report.stdout = Some(answer),
                    Err(error) => report.fail(error.to_string()),
                },
                None => report.fail("there is no control channel"),
            },
            Action::Census(Census::Baseline) => match self.census() {
                Ok(census) => {
                    self.idle = census::counts(&census);
                    report.census = Some(census);
                }
                Err(reason) => report.fail(reason),
            },
            Action::Census(Census::Check) => {
                let idle = self.idle.clone();
                self.compare_census(&idle, report);
            }
            Action::Census(Census::Zero) => self.compare_census(&Counts::new(), report),
            Action::Splats => {}
            Action::Kmemleak => match kmemleak::scan(Path::new(kmemleak::FILE)) {
                Ok(Scan::Clean) => {}
                Ok(Scan::Unavailable) => report.skip("this kernel does not look for leaks"),
                Ok(Scan::Leaks(leaks)) => {
                    println!("{leaks}");
                    report.stdout = Some(tail(leaks.as_bytes()).into());
                    report.fail("the kernel leaked memory");
                }
                Err(error) => report.fail(format!("{}: {error}", kmemleak::FILE)),
            },
            Action::Allow(text) => self.log.allow(text.clone()),
            Action::Run(run) => self.program(run, report),
        }
    }

    fn program(&mut self, run: &Run, report: &mut Report) {
        match process::run(run) {
            Ok(outcome) => {
                judge_end(run, outcome.end, report);
                if !matches!(outcome.end, End::Exit(_)) {
                    // It may have been talking to the host.
                    if let Some(Err(error)) = self.control.as_mut().map(Control::settle) {
                        report.fail(error.to_string());
                    }
                }
                judge_output(run.capture, &outcome.stdout, report);
                judge_words(run.says.as_deref(), &outcome.stdout, report);
            }
            Err(error) => report.fail(format!("{}: {error}", run.command.join(" "))),
        }
        if run.census && self.control.is_some() {
            let idle = self.idle.clone();
            self.compare_census(&idle, report);
        }
    }

    fn census(&mut self) -> Result<Value, String> {
        let control = self.control.as_mut().ok_or("there is no control channel")?;
        control
            .request(&json!({"op": "census"}))
            .map_err(|error| error.to_string())
    }

    /// Compares with what may be there; gives the host a while, as destruction is asynchronous.
    fn compare_census(&mut self, allowed: &Counts, report: &mut Report) {
        let end = Instant::now() + SETTLE;
        loop {
            let census = match self.census() {
                Ok(census) => census,
                Err(reason) => return report.fail(reason),
            };
            let excess = census::excess(&census, allowed);
            report.census = Some(census);
            match excess {
                None => return,
                Some(leaks) if Instant::now() >= end => {
                    return report.fail(format!("the host still holds {leaks}"));
                }
                Some(_) => std::thread::sleep(PAUSE),
            }
        }
    }
}

/// What a signal adds to its number to be an exit code, as in a shell.
const SIGNALLED: i32 = 128;

fn judge_end(run: &Run, end: End, report: &mut Report) {
    match end {
        End::Exit(code) => {
            report.exit = Some(code);
            if !run.expect.is_empty() && !run.expect.contains(&code) {
                report.fail(format!("exit code {code}, expected {:?}", run.expect));
            }
        }
        End::Signal(signal) => {
            report.signal = Some(signal);
            if !run.expect.contains(&(SIGNALLED + signal)) {
                report.fail(format!("killed by signal {signal}"));
            }
        }
        End::Timeout => report.fail(format!("not done after {:?}", run.timeout)),
        End::Stuck => report.fail("cannot be killed: it hangs in the kernel"),
    }
}

fn judge_output(capture: Capture, stdout: &[u8], report: &mut Report) {
    match capture {
        Capture::None => {}
        Capture::Text => report.stdout = Some(tail(stdout).into()),
        Capture::Tap => {
            let summary = tap::parse(&String::from_utf8_lossy(stdout));
            if let Some(problem) = summary.problem() {
                report.fail(problem);
            }
            report.tap = Some(summary);
        }
        Capture::Json => match serde_json::from_slice(stdout) {
            Ok(document) => report.stdout = Some(document),
            Err(error) => {
                println!("{}", tail(stdout));
                report.stdout = Some(tail(stdout).into());
                report.fail(format!("the output is no JSON: {error}"));
            }
        },
    }
}

/// Looks for what standard output has to contain.
fn judge_words(says: Option<&str>, stdout: &[u8], report: &mut Report) {
    match says {
        Some(text) if !String::from_utf8_lossy(stdout).contains(text) => {
            report.fail(format!("the output does not say \"{text}\""));
        }
        _ => {}
    }
}

/// Asks the host, as often as it takes for what the guest may not be ready for: an offer, the balloon.
fn ask(control: &mut Control, request: &Value) -> Result<Value, ControlError> {
    let op = request.get("op").and_then(Value::as_str);
    if matches!(op, Some("offer" | "balloon" | "balloon-state")) {
        control.request_until_taken(request, RELEASE)
    } else {
        control.request(request)
    }
}

/// Waits for a condition; false if it does not come true in time.
fn wait(timeout: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + timeout;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Tries again while something is in use.
fn retry(
    timeout: Duration,
    mut action: impl FnMut() -> std::io::Result<()>,
) -> std::io::Result<()> {
    let mut outcome = Ok(());
    wait(timeout, || {
        outcome = action();
        !matches!(&outcome, Err(error) if error.raw_os_error() == Some(libc::EAGAIN))
    });
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(expect: Vec<i32>) -> Run {
        Run {
            name: "x".into(),
            command: vec!["x".into()],
            timeout: Duration::from_secs(1),
            expect,
            capture: Capture::Text,
            says: None,
            census: false,
            environment: Vec::new(),
        }
    }

    /// Proves that an unexpected code, a signal and a hang fail, whatever codes are allowed.
    #[test]
    fn ends_are_judged() {
        let judge = |expect, end| {
            let mut report = Report::new("run", 1, 1);
            judge_end(&run(expect), end, &mut report);
            report.status
        };
        assert_eq!(judge(vec![0], End::Exit(0)), Status::Pass);
        assert_eq!(judge(vec![0], End::Exit(1)), Status::Fail);
        assert_eq!(judge(vec![], End::Exit(1)), Status::Pass);
        assert_eq!(judge(vec![], End::Signal(11)), Status::Fail);
        assert_eq!(judge(vec![0], End::Signal(11)), Status::Fail);
        assert_eq!(judge(vec![139], End::Signal(11)), Status::Pass);
        assert_eq!(judge(vec![], End::Timeout), Status::Fail);
    }

    /// Proves that output that is not what it should be fails a program that exited with 0.
    #[test]
    fn output_is_judged() {
        let judge = |capture, text: &str| {
            let mut report = Report::new("run", 1, 1);
            judge_output(capture, text.as_bytes(), &mut report);
            report.status
        };
        assert_eq!(judge(Capture::Tap, "1..1\nok 1 a\n"), Status::Pass);
        assert_eq!(judge(Capture::Tap, ""), Status::Fail);
        assert_eq!(judge(Capture::Json, "{}"), Status::Pass);
        assert_eq!(judge(Capture::Json, "{"), Status::Fail);
        assert_eq!(judge(Capture::Text, ""), Status::Pass);
    }

    /// Proves that words that are asked for have to be there.
    #[test]
    fn words_are_judged() {
        let judge = |says, text: &str| {
            let mut report = Report::new("run", 1, 1);
            judge_words(says, text.as_bytes(), &mut report);
            report.status
        };
        assert_eq!(judge(None, ""), Status::Pass);
        assert_eq!(judge(Some("EIO"), "it failed: EIO (5)"), Status::Pass);
        assert_eq!(judge(Some("EIO"), "ok"), Status::Fail);
    }

    /// Proves that a busy module is tried again and another error is not.
    #[test]
    fn retries() {
        let mut left = 3;
        let outcome = retry(Duration::from_secs(10), || {
            left -= 1;
            match left {
                0 => Ok(()),
                _ => Err(std::io::Error::from_raw_os_error(libc::EAGAIN)),
            }
        });
        assert!(outcome.is_ok());
        let mut calls = 0;
        let outcome = retry(Duration::from_secs(10), || {
            calls += 1;
            Err(std::io::Error::from_raw_os_error(libc::ENOENT))
        });
        assert!(outcome.is_err());
        assert_eq!(calls, 1);
    }
}
