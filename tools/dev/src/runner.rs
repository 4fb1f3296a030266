// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs steps and keeps what came of them, in one lane or in two side by side.
//!
//! Each step has a log in out/log, a time limit and a judge that reads the log
//! for tests. A step whose requirements failed is not run and counts as
//! failed: it gave no verdict.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::process;
use crate::report::{Status, Step, Test};

/// What a judge makes of a log: tests, or why there is no verdict.
pub type Verdict = Result<Vec<Test>, String>;

/// The steps of one run.
#[derive(Debug)]
pub struct Runner {
    /// The repository.
    pub repo: PathBuf,
    /// The cache, outside the repository.
    pub cache: PathBuf,
    start: Instant,
    /// Seconds that earlier programs of the same run took.
    before: Duration,
    /// In the order of their ends. Locked while something is said of one of them, so that lanes do not talk
    /// at a time.
    steps: Mutex<Vec<Step>>,
}

impl Runner {
    /// Starts a run in the repository `repo`. The run began at `t0` (seconds
    /// since 1970) where the caller measured that.
    pub fn new(repo: PathBuf, cache: PathBuf, t0: Option<u64>) -> std::io::Result<Self> {
        for folder in ["out/log", "out/vm", "out/image"] {
            fs::create_dir_all(repo.join(folder))?;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let before = match (now, t0) {
            (Ok(now), Some(t0)) => now.saturating_sub(Duration::from_secs(t0)),
            _ => Duration::ZERO,
        };
        Ok(Self {
            repo,
            cache,
            start: Instant::now(),
            before,
            steps: Mutex::default(),
        })
    }

    /// Time since the run began.
    pub fn elapsed(&self) -> Duration {
        self.before + self.start.elapsed()
    }

    /// Where the log of the step `name` is; scripts have logs of their own beside it.
    pub fn log(&self, name: &str) -> PathBuf {
        self.repo.join("out/log").join(format!("step-{name}.log"))
    }

    /// A script of tools/dev.
    pub fn script(&self, name: &str) -> Command {
        let mut command = Command::new(self.repo.join("tools/dev").join(name));
        command.current_dir(&self.repo);
        command
    }

    /// A program in the build root.
    pub fn in_root(&self, program: &str) -> Command {
        let mut command = self.script("in-root");
        command.arg(program);
        command
    }

    /// cargo in the build root, in the tools workspace.
    pub fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = self.in_root("cargo");
        command
            .args(arguments)
            .current_dir(self.repo.join("tools"))
            .env("CARGO_TERM_COLOR", "never")
            .env("CARGO_TARGET_DIR", self.repo.join("out/target"));
        command
    }

    /// Does two things side by side if the machine has a processor for each, else one after the other.
    pub fn lanes(&self, one: impl FnOnce(&Self), other: impl FnOnce(&Self) + Send) {
        let alone = thread::available_parallelism().is_ok_and(|processors| processors.get() == 1);
        if alone {
            one(self);
            return other(self);
        }
        thread::scope(|scope| {
            scope.spawn(|| other(self));
            one(self);
        });
    }

    fn steps(&self) -> MutexGuard<'_, Vec<Step>> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a step that is a test itself: it passes if the command succeeds.
    pub fn plain(&self, name: &str, minutes: u64, command: Command) -> bool {
        self.step(name, minutes, command, |_| Ok(Vec::new()))
    }

    /// Runs a step. The judge reads its log, also when the command failed.
    pub fn step(
        &self,
        name: &str,
        minutes: u64,
        command: Command,
        judge: impl FnOnce(&str) -> Verdict,
    ) -> bool {
        self.announce(name, "...");
        let begin = Instant::now();
        let log = self.log(name);
        let limit = Duration::from_secs(60 * minutes);
        let mut problems = Vec::new();
        match process::run(command, &log, limit, |elapsed, line| {
            eprintln!("        {:4}s  {name}: {line}", elapsed.as_secs());
        }) {
            Ok(end) if end.success() => {}
            Ok(end) => problems.push(end.describe()),
            Err(error) => problems.push(format!("{error:#}")),
        }
        let text = fs::read(&log).unwrap_or_default();
        let tests = match judge(&String::from_utf8_lossy(&text)) {
            Ok(tests) => tests,
            Err(problem) => {
                problems.push(problem);
                Vec::new()
            }
        };
        self.finish(name, begin.elapsed(), Some(&log), tests, problems)
    }

    /// Records a step that was done here, without a command.
    pub fn done(&self, name: &str, begin: Instant, tests: Verdict) -> bool {
        let (tests, problems) = match tests {
            Ok(tests) => (tests, Vec::new()),
            Err(problem) => (Vec::new(), vec![problem]),
        };
        self.finish(name, begin.elapsed(), None, tests, problems)
    }

    /// Whether all of `needs` passed; if not, the step `name` is recorded as
    /// failed.
    pub fn ready(&self, name: &str, needs: &[&str]) -> bool {
        let failed = needs.iter().find(|need| !self.passed(need));
        let Some(failed) = failed else { return true };
        let problem = format!("not run: {failed} did not pass");
        self.finish(name, Duration::ZERO, None, Vec::new(), vec![problem])
    }

    /// Whether the step ran and passed.
    pub fn passed(&self, name: &str) -> bool {
        self.steps()
            .iter()
            .any(|step| step.name == name && step.status == Status::Pass)
    }

    /// The steps in the order of their ends.
    pub fn into_steps(self) -> Vec<Step> {
        self.steps
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn announce(&self, name: &str, what: &str) {
        eprintln!("[{:4}s] {name:<28} {what}", self.elapsed().as_secs());
    }

    fn finish(
        &self,
        name: &str,
        took: Duration,
        log: Option<&Path>,
        tests: Vec<Test>,
        problems: Vec<String>,
    ) -> bool {
        let failed: Vec<&Test> = tests.iter().filter(|t| t.status == Status::Fail).collect();
        let ok = problems.is_empty() && failed.is_empty();
        let mut steps = self.steps();
        for problem in &problems {
            eprintln!("        ! {problem}");
        }
        for test in &failed {
            let detail = test.detail.as_deref().unwrap_or_default();
            eprintln!("        ! {} {detail}", test.name);
        }
        if let (false, Some(log)) = (ok, log) {
            let text = fs::read(log).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).into_owned();
            let lines: Vec<&str> = text.lines().collect();
            for line in lines.iter().skip(lines.len().saturating_sub(20)) {
                eprintln!("        | {line}");
            }
        }
        let count = match tests.len() {
            0 => String::new(),
            n => format!(" ({} of {n} tests failed)", failed.len()),
        };
        let count = if failed.is_empty() && !tests.is_empty() {
            format!(" ({} tests)", tests.len())
        } else {
            count
        };
        let word = if ok { "passed" } else { "FAILED" };
        self.announce(
            name,
            &format!("{word} in {:.0}s{count}", took.as_secs_f64()),
        );
        steps.push(Step {
            name: name.to_owned(),
            status: if ok { Status::Pass } else { Status::Fail },
            seconds: (took.as_secs_f64() * 1000.0).round() / 1000.0,
            log: log.map(|log| {
                let log = log.strip_prefix(&self.repo).unwrap_or(log);
                log.display().to_string()
            }),
            detail: (!problems.is_empty()).then(|| problems.join("; ")),
            tests,
        });
        ok
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What both lanes did is in the report, and a step that failed in one fails what needs it there.
    #[test]
    fn lanes() {
        let folder = std::env::temp_dir().join(format!("vaccel-runner-{}", std::process::id()));
        let run = Runner::new(folder.clone(), folder.clone(), None).unwrap();
        run.lanes(
            |run| {
                run.plain("good", 1, Command::new("true"));
                assert!(run.ready("next", &["good"]));
            },
            |run| {
                run.plain("bad", 1, Command::new("false"));
                assert!(!run.ready("later", &["bad"]));
            },
        );
        fs::remove_dir_all(folder).unwrap();
        let mut steps = run.into_steps();
        steps.sort_by(|a, b| a.name.cmp(&b.name));
        let verdicts: Vec<_> = steps.iter().map(|s| (s.name.as_str(), s.status)).collect();
        let expected = [
            ("bad", Status::Fail),
            ("good", Status::Pass),
            ("later", Status::Fail),
        ];
        assert_eq!(verdicts, expected);
    }
}
