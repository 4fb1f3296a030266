// SPDX-License-Identifier: MIT OR Apache-2.0
//! The plan: one step a line.
//!
//! ```text
//! # comment
//! module PATH [PARAM=VALUE...]
//! rmmod NAME
//! wait PATH [timeout=S]
//! absent PATH [timeout=S]
//! write PATH TEXT
//! sleep SECONDS
//! control JSON
//! census [baseline|zero]
//! splats
//! kmemleak
//! allow TEXT
//! run [name=N] [timeout=S] [expect=CODE[,CODE]|any] [capture=text|tap|json|none]
//!     ["says=TEXT"] [census=check|skip] [env=K=V]... [fatal] -- PROGRAM ARG...
//! ```
//!
//! Words are split at blanks; double quotes keep blanks, and inside them `\"` and `\\` stand for
//! themselves. (The `run` line is broken here for width only.) Anything not understood is an error
//! of the whole plan: a typing mistake must not skip a test.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

/// A parsed plan.
#[derive(Debug, PartialEq)]
pub struct Plan {
    /// Its steps.
    pub steps: Vec<Step>,
}

/// One step.
#[derive(Debug, PartialEq)]
pub struct Step {
    /// What to do.
    pub action: Action,
    /// Whether a failure ends the plan.
    pub fatal: bool,
}

/// What a step does.
#[derive(Debug, PartialEq)]
pub enum Action {
    /// Load a module.
    Module {
        /// File.
        path: PathBuf,
        /// Parameters, as on a kernel command line.
        parameters: String,
    },
    /// Unload a module.
    Rmmod(String),
    /// Wait until a path exists, or is gone.
    Wait {
        /// What to look for.
        path: PathBuf,
        /// Whether it shall be there.
        exists: bool,
        /// Limit.
        timeout: Duration,
    },
    /// Write to a file.
    Write {
        /// File.
        path: PathBuf,
        /// Content.
        text: String,
    },
    /// Do nothing for a while.
    Sleep(Duration),
    /// One request on the control channel.
    Control(Value),
    /// Ask the host's census.
    Census(Census),
    /// Scan the kernel log.
    Splats,
    /// Scan for leaked kernel memory.
    Kmemleak,
    /// Kernel log lines with this text are fine.
    Allow(String),
    /// Run a program.
    Run(Run),
}

/// What a census is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Census {
    /// To remember as the idle state.
    Baseline,
    /// To compare with the idle state.
    Check,
    /// To have no object at all, as without the driver.
    Zero,
}

/// A program to run.
#[derive(Debug, PartialEq)]
pub struct Run {
    /// Name in reports.
    pub name: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Limit.
    pub timeout: Duration,
    /// Exit codes that pass, 128 and its number for a signal; empty: any code, and no signal.
    pub expect: Vec<i32>,
    /// What to do with standard output.
    pub capture: Capture,
    /// What standard output has to contain.
    pub says: Option<String>,
    /// Whether the census is compared afterwards.
    pub census: bool,
    /// Variables beyond the fixed ones.
    pub environment: Vec<(String, String)>,
}

/// What standard output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capture {
    /// Text; its end goes into the report.
    Text,
    /// TAP, which decides with the exit code.
    Tap,
    /// One JSON document.
    Json,
    /// Not reported.
    None,
}

/// A plan that is not understood.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("line {line}: {reason}")]
pub struct PlanError {
    line: usize,
    reason: String,
}

impl Plan {
    /// Reads a plan.
    pub fn parse(text: &str) -> Result<Self, PlanError> {
        let mut steps = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let step = parse_line(line).map_err(|reason| PlanError {
                line: index + 1,
                reason,
            })?;
            steps.extend(step);
        }
        Ok(Self { steps })
    }
}

impl Step {
    /// Name for reports.
    pub fn name(&self) -> String {
        match &self.action {
            Action::Module { path, .. } => file_name(path),
            Action::Rmmod(name) => name.clone(),
            Action::Wait { path, .. } | Action::Write { path, .. } => path.display().to_string(),
            Action::Sleep(time) => format!("{}s", time.as_secs_f64()),
            Action::Control(request) => match request.get("op") {
                Some(Value::String(op)) => op.clone(),
                _ => "request".into(),
            },
            Action::Census(Census::Baseline) => "baseline".into(),
            Action::Census(Census::Check) => "check".into(),
            Action::Census(Census::Zero) => "zero".into(),
            Action::Splats => "log".into(),
            Action::Kmemleak => "scan".into(),
            Action::Allow(text) => text.clone(),
            Action::Run(run) => run.name.clone(),
        }
    }
}

impl Action {
    /// The word the step starts with.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Module { .. } => "module",
            Self::Rmmod(_) => "rmmod",
            Self::Wait { exists: true, .. } => "wait",
            Self::Wait { exists: false, .. } => "absent",
            Self::Write { .. } => "write",
            Self::Sleep(_) => "sleep",
            Self::Control(_) => "control",
            Self::Census(_) => "census",
            Self::Splats => "splats",
            Self::Kmemleak => "kmemleak",
            Self::Allow(_) => "allow",
            Self::Run(_) => "run",
        }
    }
}

fn file_name(path: &std::path::Path) -> String {
    path.file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse::<f64>()
        .ok()
        .and_then(|value| Duration::try_from_secs_f64(value).ok())
        .ok_or_else(|| format!("\"{text}\" is no number of seconds"))
}

fn parse_line(line: &str) -> Result<Option<Step>, String> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (kind, rest) = line
        .split_once(char::is_whitespace)
        .map_or((line, ""), |(kind, rest)| (kind, rest.trim()));
    // These take the rest of the line as it is.
    let verbatim = match kind {
        "control" => Some(Action::Control(
            serde_json::from_str(rest).map_err(|error| format!("control: {error}"))?,
        )),
        "allow" if rest.is_empty() => return Err("allow needs a text".into()),
        "allow" => Some(Action::Allow(rest.to_owned())),
        _ => None,
    };
    if let Some(action) = verbatim {
        return Ok(Some(Step {
            action,
            fatal: false,
        }));
    }
    let words = split(rest)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (action, fatal) = match (kind, words.as_slice()) {
        ("module", [path, parameters @ ..]) => (
            Action::Module {
                path: path.into(),
                parameters: parameters.join(" "),
            },
            true,
        ),
        ("rmmod", [name]) => (Action::Rmmod((*name).to_owned()), true),
        ("wait" | "absent", [path, options @ ..]) => {
            let timeout = match options {
                [] => Duration::from_secs(30),
                [option] => match option.strip_prefix("timeout=") {
                    Some(value) => seconds(value)?,
                    None => return Err(format!("unknown option \"{option}\"")),
                },
                _ => return Err("too many words".into()),
            };
            let action = Action::Wait {
                path: path.into(),
                exists: kind == "wait",
                timeout,
            };
            (action, kind == "wait")
        }
        ("write", [path, text]) => (
            Action::Write {
                path: path.into(),
                text: (*text).to_owned(),
            },
            false,
        ),
        ("sleep", [time]) => (Action::Sleep(seconds(time)?), false),
        ("census", []) => (Action::Census(Census::Check), false),
        ("census", ["baseline"]) => (Action::Census(Census::Baseline), false),
        ("census", ["zero"]) => (Action::Census(Census::Zero), false),
        ("splats", []) => (Action::Splats, false),
        ("kmemleak", []) => (Action::Kmemleak, false),
        ("run", words) => parse_run(words)?,
        _ => return Err(format!("not understood: {line}")),
    };
    Ok(Some(Step { action, fatal }))
}

fn parse_run(words: &[&str]) -> Result<(Action, bool), String> {
    let separator = words
        .iter()
        .position(|word| *word == "--")
        .ok_or("run needs \"--\" before the program")?;
    let (options, command) = words.split_at(separator);
    let command: Vec<String> = command
        .iter()
        .skip(1)
        .map(|word| (*word).to_owned())
        .collect();
    let program = command.first().ok_or("run needs a program")?;
    let mut run = Run {
        name: file_name(program.as_ref()),
        command: command.clone(),
        timeout: Duration::from_secs(120),
        expect: vec![0],
        capture: Capture::Text,
        says: None,
        census: true,
        environment: Vec::new(),
    };
    let mut fatal = false;
    for option in options {
        match option.split_once('=') {
            None if *option == "fatal" => fatal = true,
            Some(("name", value)) => run.name = value.to_owned(),
            Some(("timeout", value)) => run.timeout = seconds(value)?,
            Some(("expect", "any")) => run.expect = Vec::new(),
            Some(("expect", value)) => {
                run.expect = value
                    .split(',')
                    .map(|code| {
                        code.parse()
                            .map_err(|_| format!("\"{code}\" is no exit code"))
                    })
                    .collect::<Result<_, _>>()?;
            }
            Some(("capture", value)) => {
                run.capture = match value {
                    "text" => Capture::Text,
                    "tap" => Capture::Tap,
                    "json" => Capture::Json,
                    "none" => Capture::None,
                    _ => return Err(format!("unknown capture \"{value}\"")),
                }
            }
            Some(("says", value)) => run.says = Some(value.to_owned()),
            // "zero" is the older word for "check".
            Some(("census", "check" | "zero")) => run.census = true,
            Some(("census", "skip")) => run.census = false,
            Some(("env", value)) => {
                let (key, value) = value.split_once('=').ok_or("env=KEY=VALUE")?;
                run.environment.push((key.to_owned(), value.to_owned()));
            }
            _ => return Err(format!("unknown option \"{option}\"")),
        }
    }
    Ok((Action::Run(run), fatal))
}

/// Splits a line into words.
fn split(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word = None::<String>;
    let mut quoted = false;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' if quoted => match characters.next() {
                Some(escaped @ ('"' | '\\')) => word.get_or_insert_default().push(escaped),
                _ => return Err("only \\\" and \\\\ can be escaped".into()),
            },
            blank if blank.is_whitespace() && !quoted => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    if quoted {
        return Err("a quote is not closed".into());
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(line: &str) -> Step {
        let mut plan = Plan::parse(line).unwrap();
        assert_eq!(plan.steps.len(), 1);
        plan.steps.remove(0)
    }

    /// Proves every option of `run` and its defaults.
    #[test]
    fn runs() {
        let Action::Run(plain) = one("run -- /bin/a b").action else {
            panic!()
        };
        assert_eq!(plain.name, "a");
        assert_eq!(plain.command, ["/bin/a", "b"]);
        assert_eq!(plain.expect, [0]);
        assert!(plain.census);
        let step = one(
            "run name=x timeout=1.5 expect=0,77 capture=tap \"says=not ok\" census=skip env=A=b=c fatal -- p \"q r\" -- s",
        );
        assert!(step.fatal);
        let Action::Run(full) = step.action else {
            panic!()
        };
        assert_eq!(full.name, "x");
        assert_eq!(full.timeout, Duration::from_millis(1500));
        assert_eq!(full.expect, [0, 77]);
        assert_eq!(full.capture, Capture::Tap);
        assert_eq!(full.says.as_deref(), Some("not ok"));
        assert!(!full.census);
        assert_eq!(full.environment, [("A".to_owned(), "b=c".to_owned())]);
        assert_eq!(full.command, ["p", "q r", "--", "s"]);
    }

    /// Proves that the other steps are read.
    #[test]
    fn other_steps() {
        let module = one("module /m/drm.ko debug=1 x=2");
        assert!(module.fatal);
        assert_eq!(module.name(), "drm.ko");
        assert_eq!(
            module.action,
            Action::Module {
                path: "/m/drm.ko".into(),
                parameters: "debug=1 x=2".into()
            }
        );
        assert_eq!(
            one("absent /dev/accel/accel0 timeout=2").action,
            Action::Wait {
                path: "/dev/accel/accel0".into(),
                exists: false,
                timeout: Duration::from_secs(2)
            }
        );
        assert_eq!(one("control {\"op\":\"rescind\"}").name(), "rescind");
        assert_eq!(
            one("census baseline").action,
            Action::Census(Census::Baseline)
        );
        assert_eq!(one("census zero").action, Action::Census(Census::Zero));
        assert_eq!(
            one("allow  vaccel: channel gone").action,
            Action::Allow("vaccel: channel gone".into())
        );
    }

    /// Proves that whatever is not understood stops the plan and names the line.
    #[test]
    fn mistakes_are_errors() {
        for bad in [
            "rum -- a",
            "run a",
            "run --",
            "run tmeout=3 -- a",
            "run expect=x -- a",
            "run timeout=-1 -- a",
            "wait",
            "wait a b",
            "module",
            "control {",
            "census twice",
            "write /a \"open",
            "write /a \"\\n\"",
            "allow",
        ] {
            let error = Plan::parse(&format!("# first\n{bad}")).unwrap_err();
            assert_eq!(error.line, 2, "{bad}");
        }
    }
}
