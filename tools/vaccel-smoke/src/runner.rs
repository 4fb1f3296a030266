// SPDX-License-Identifier: MIT OR Apache-2.0
//! `run`: the tests in order, each in a thread of its own, so that one that hangs is reported and
//! not waited for.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use libvaccel::{Deadline, Device, ErrorKind};
use vaccel_isa::AdapterInfo;

use crate::cli::RunOptions;
use crate::data::Data;
use crate::environment::System;
use crate::failure::{Exit, Failure, Stop};
use crate::jobs::{self, Bench, Job, Measured};
use crate::model::{RunReport, Speed, Status, TestReport};
use crate::print::{self, Printer};
use crate::select;
use crate::show;

/// What a test may take beyond its deadline before it is given up: the calls that have none.
const GRACE: Duration = Duration::from_secs(10);

/// How a test went, beyond its report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    /// The next test can run.
    Continue,
    /// The environment broke.
    Environment,
    /// The test still hangs.
    Hangs,
}

/// Runs the tests.
pub fn run(options: &RunOptions) -> Result<Exit, Stop> {
    let jobs = choose(&options.tests)?;
    let device = select::one(options.device.as_deref(), &System::default())?;
    let info = show::describe(&device)?;
    let isa = device.isa()?;
    let data = Data::new(options.data.clone());

    let mut printer = if options.json {
        Printer::Json
    } else if options.tap {
        Printer::Tap
    } else {
        Printer::Text
    };
    printer.start(&info, jobs.len())?;
    let mut tests = Vec::new();
    let mut environment = false;
    let mut hangs = false;
    for (index, job) in jobs.iter().enumerate() {
        let mut report = TestReport::incomplete(job.name);
        if hangs {
            report.reason = Some("an earlier test hangs".into());
        } else if let Some(missing) = missing(job, isa.as_ref()) {
            report.status = Status::Skip;
            report.reason = Some(missing);
        } else {
            match run_test(job, &device, &data, options, &mut report) {
                After::Continue => {}
                After::Environment => environment = true,
                After::Hangs => hangs = true,
            }
        }
        printer.test(index + 1, &report)?;
        tests.push(report);
    }
    let report = RunReport::new(info, tests);
    printer.end(&report)?;
    Ok(exit(&report, environment))
}

/// The exit status of a run.
fn exit(report: &RunReport, environment: bool) -> Exit {
    if report.failed > 0 && environment {
        Exit::Environment
    } else if report.failed > 0 {
        Exit::Fail
    } else if report.passed == 0 {
        Exit::NoDevice
    } else {
        Exit::Pass
    }
}

fn choose(names: &[String]) -> Result<Vec<&'static Job>, Stop> {
    if names.is_empty() {
        return Ok(jobs::ALL.iter().collect());
    }
    let find = |name: &String| {
        let known = jobs::ALL.iter().find(|job| job.name == name);
        known.ok_or_else(|| {
            let all: Vec<&str> = jobs::ALL.iter().map(|job| job.name).collect();
            Stop {
                exit: Exit::Usage,
                message: format!("unknown test \"{name}\""),
                advice: vec![format!("tests: {}", all.join(", "))],
            }
        })
    };
    names.iter().map(find).collect()
}

/// What the engine lacks for a job.
fn missing(job: &Job, isa: Option<&AdapterInfo>) -> Option<String> {
    let Some(isa) = isa else {
        return Some("the host does not speak the open compute ISA".into());
    };
    let lacking: Vec<String> = job
        .needs
        .iter()
        .filter(|opcode| !isa.supports(**opcode))
        .map(|opcode| format!("{opcode:?}"))
        .collect();
    (!lacking.is_empty()).then(|| format!("the engine lacks {}", lacking.join(", ")))
}

fn run_test(
    job: &'static Job,
    device: &Device,
    data: &Data,
    options: &RunOptions,
    report: &mut TestReport,
) -> After {
    for _ in 0..options.repeat {
        let timeout = Duration::from_secs(options.timeout);
        let bench = Bench {
            device: device.clone(),
            data: data.clone(),
            timeout,
            deadline: Deadline::after(timeout),
        };
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            // Nobody listens any more if the test was given up.
            let _ = sender.send((job.run)(&bench));
        });
        let after = match receiver.recv_timeout(timeout + GRACE) {
            Ok(Ok(measured)) => {
                record(report, &measured);
                continue;
            }
            Ok(Err(failure)) => fail(report, &failure),
            Err(RecvTimeoutError::Timeout) => {
                report.status = Status::Timeout;
                report.reason = Some(format!(
                    "not done after {} s: a call does not come back",
                    (timeout + GRACE).as_secs()
                ));
                After::Hangs
            }
            Err(RecvTimeoutError::Disconnected) => {
                report.status = Status::Fail;
                report.reason = Some("the test ended without a result".into());
                After::Continue
            }
        };
        report.verified = false;
        return after;
    }
    After::Continue
}

fn record(report: &mut TestReport, measured: &Measured) {
    let seconds = measured.time.as_secs_f64();
    report.status = Status::Pass;
    report.verified = true;
    report.outputs = measured.outputs;
    report.seconds.push(seconds);
    report.figures.clone_from(&measured.figures);
    let speed = measured.amount.map(|(amount, unit)| Speed {
        // A clock that did not move says nothing about speed, but must not divide by zero.
        value: amount / seconds.max(1e-9),
        unit,
    });
    let best = report.speed.map_or(0.0, |speed| speed.value);
    if speed.is_some_and(|speed| speed.value > best) {
        report.speed = speed;
    }
}

fn fail(report: &mut TestReport, failure: &Failure) -> After {
    let late = matches!(failure, Failure::Device(error) if error.kind() == ErrorKind::TimedOut);
    report.status = match failure {
        Failure::NotPossible(_) => Status::Skip,
        _ if late => Status::Timeout,
        _ => Status::Fail,
    };
    report.reason = Some(failure.to_string());
    if failure.is_environment() {
        After::Environment
    } else {
        After::Continue
    }
}

impl From<print::Closed> for Stop {
    fn from(closed: print::Closed) -> Self {
        match closed {
            // Whoever closed the pipe has seen what they wanted.
            print::Closed::Pipe => Self::new(Exit::Pass, "standard output was closed"),
            print::Closed::Error(error) => {
                Self::new(Exit::Environment, format!("standard output: {error}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DeviceInfo;

    fn device() -> DeviceInfo {
        crate::print::tests::device()
    }

    fn test(status: Status) -> TestReport {
        TestReport {
            status,
            ..TestReport::incomplete("x")
        }
    }

    /// Proves the exit status of each kind of run: one failure outweighs any number of passes, and
    /// nothing but skips is no success.
    #[test]
    fn exit_status() {
        let exit_of = |statuses: &[Status], environment| {
            let tests = statuses.iter().map(|status| test(*status)).collect();
            exit(&RunReport::new(device(), tests), environment)
        };
        assert_eq!(exit_of(&[Status::Pass, Status::Skip], false), Exit::Pass);
        assert_eq!(exit_of(&[Status::Pass, Status::Fail], false), Exit::Fail);
        assert_eq!(exit_of(&[Status::Timeout], false), Exit::Fail);
        assert_eq!(
            exit_of(&[Status::Pass, Status::Incomplete], false),
            Exit::Fail
        );
        assert_eq!(exit_of(&[Status::Fail], true), Exit::Environment);
        assert_eq!(exit_of(&[Status::Skip], false), Exit::NoDevice);
    }

    /// Proves that a misspelt test is a usage error, and that the order asked for is kept.
    #[test]
    fn choosing() {
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        assert_eq!(choose(&[]).unwrap().len(), jobs::ALL.len());
        let chosen = choose(&names(&["spin", "fill"])).unwrap();
        assert_eq!(chosen[0].name, "spin");
        assert_eq!(choose(&names(&["fil"])).unwrap_err().exit, Exit::Usage);
    }

    /// Proves that a host without the ISA, or without an operation, is a skip that says so.
    #[test]
    fn missing_operations() {
        let job = &jobs::ALL[0];
        assert!(missing(job, None).is_some());
        let mut isa = AdapterInfo::new("x");
        assert_eq!(missing(job, Some(&isa)), None);
        isa.op_mask = 0;
        assert_eq!(missing(job, Some(&isa)).unwrap(), "the engine lacks Fill");
    }

    /// Proves that with repetitions the fastest run gives the speed, and that a late failure takes
    /// the verification back.
    #[test]
    fn repetitions() {
        let mut report = TestReport::incomplete("x");
        for millis in [20, 10, 40] {
            record(
                &mut report,
                &Measured {
                    outputs: 5,
                    time: Duration::from_millis(millis),
                    amount: Some((1.0, "x/s")),
                    figures: Vec::new(),
                },
            );
        }
        assert_eq!(report.seconds.len(), 3);
        assert!((report.speed.unwrap().value - 100.0).abs() < 1e-6);
        assert_eq!(report.status, Status::Pass);
        let late = libvaccel::Error::local(ErrorKind::TimedOut, "wait", "late");
        assert_eq!(fail(&mut report, &late.into()), After::Continue);
        assert_eq!(report.status, Status::Timeout);
        let impossible = Failure::NotPossible("too small".into());
        assert_eq!(fail(&mut report, &impossible), After::Continue);
        assert_eq!(report.status, Status::Skip);
    }
}
