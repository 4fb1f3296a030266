// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the driver survives: a host that misbehaves, by rules that are armed over the control channel.
//!
//! ```text
//! vaccel-selftests --misbehave matrix   every fault against every command
//! vaccel-selftests --misbehave away     a channel taken back at every command
//! vaccel-selftests --misbehave fuzz     random changes of all that the host says
//!     [--seconds N] [--seed N] [--only TEXT]
//! ```
//!
//! What is chosen follows from the seed, the clock's unless it is given; a line `# seed` tells it.
//!
//! What is right: each operation comes back in bounded time, with success, the host's own refusal, or
//! a documented errno. With rules disarmed the virtual GPU works again, at the latest when its channels
//! have been taken back and offered anew, and then the host holds nothing of anybody: what it made and
//! the driver cannot know, because the answer was lost, goes with the process or the channel.
//!
//! The driver's own time limit for answers should be short: `reply_ms=1000`. Results are KTAP, figures
//! a line that begins with `# figures`, and a result of the machine.

mod away;
mod bounded;
mod commands;
mod faults;
mod figures;
mod fuzz;
mod master;
mod matrix;
mod operations;
mod restart;

use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use commands::Command;
use figures::{End, Figures};
use master::{Channel, Master};

use crate::rig::{Numbers, Problem, Result};

/// What the command line asks for.
#[derive(Debug)]
struct Wanted {
    /// Which of the three.
    what: What,
    /// How long at most.
    seconds: u64,
    /// Where random numbers begin.
    seed: u64,
    /// Part of the name of commands or faults.
    only: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Matrix,
    Away,
    Fuzz,
}

/// All the time that is needed.
const UNLIMITED: u64 = 24 * 60 * 60;

impl Wanted {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Self> {
        let what = match arguments.next()?.as_str() {
            "matrix" => What::Matrix,
            "away" => What::Away,
            "fuzz" => What::Fuzz,
            _ => return None,
        };
        let mut wanted = Self {
            what,
            seconds: if what == What::Fuzz { 60 } else { UNLIMITED },
            seed: clock(),
            only: None,
        };
        while let Some(option) = arguments.next() {
            let value = arguments.next()?;
            match option.as_str() {
                "--seconds" => wanted.seconds = value.parse().ok()?,
                "--seed" => wanted.seed = value.parse().ok()?,
                "--only" => wanted.only = Some(value),
                _ => return None,
            }
        }
        Some(wanted)
    }
}

/// A seed that is another one each time, also where the clock starts with the machine.
fn clock() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(1, |now| now.as_millis() as u64)
}

/// One try: a command and what happens to it.
struct Try {
    command: &'static Command,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    Fault(&'static faults::Fault),
    Away(Channel),
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Fault(fault) => fault.name,
            Self::Away(Channel::Global) => "away-global",
            Self::Away(Channel::Vgpu) => "away-vgpu",
        }
    }

    fn meet(self, master: &mut Master, command: &Command, seed: u64) -> Result<End> {
        match self {
            Self::Fault(fault) => matrix::try_one(master, command, fault, seed),
            Self::Away(channel) => away::try_one(master, command, channel),
        }
    }
}

/// Runs what the arguments after `--misbehave` ask for.
pub fn run(arguments: impl Iterator<Item = String>) -> ExitCode {
    let Some(wanted) = Wanted::parse(arguments) else {
        eprintln!(
            "usage: vaccel-selftests --misbehave matrix|away|fuzz [--seconds N] [--seed N] \
             [--only TEXT]"
        );
        return ExitCode::from(2);
    };
    let mut master = match Master::open() {
        Ok(master) => master,
        Err(Problem::Failed(reason) | Problem::Skipped(reason)) => {
            eprintln!("vaccel-selftests: {reason}");
            return ExitCode::from(77);
        }
    };
    let end = Instant::now() + Duration::from_secs(wanted.seconds);
    println!("KTAP version 1");
    println!("# seed {}", wanted.seed);
    let mut figures = Figures::new(wanted.seed);
    let mut good = match wanted.what {
        What::Fuzz => fuzzed(&mut master, &mut figures, end, wanted.seed),
        What::Matrix | What::Away => tried(&mut master, &mut figures, end, &wanted),
    };
    let report = figures.to_json();
    println!("# figures {report}");
    let name = match wanted.what {
        What::Matrix => "misbehave-matrix",
        What::Away => "misbehave-away",
        What::Fuzz => "misbehave-fuzz",
    };
    good &= master.report(name, &report).is_ok();
    ExitCode::from(u8::from(!good))
}

fn fuzzed(master: &mut Master, figures: &mut Figures, end: Instant, seed: u64) -> bool {
    println!("1..1");
    let problems = fuzz::run(master, figures, end, seed);
    for problem in &problems {
        println!("# {problem}");
        figures.fail(format!("fuzz {problem}"));
    }
    let verdict = if problems.is_empty() { "ok" } else { "not ok" };
    println!("{verdict} 1 fuzz");
    problems.is_empty()
}

/// Fewer tries than this prove nothing.
const LEAST: usize = 10;

/// All tries, so that each command has had one before any has two. Which come first follows from the seed.
fn tries(what: What, seed: u64, only: Option<&str>) -> Vec<Try> {
    let mut numbers = Numbers(seed);
    let mut all: Vec<((u64, u64), Try)> = Vec::new();
    for command in commands::ALL {
        let mut kinds: Vec<Kind> = match what {
            What::Matrix => faults::ALL.iter().map(Kind::Fault).collect(),
            What::Away => [Channel::Vgpu, Channel::Global].map(Kind::Away).into(),
            What::Fuzz => Vec::new(),
        };
        let mut round = 0;
        while !kinds.is_empty() {
            let kind = kinds.swap_remove(numbers.below(kinds.len() as u64) as usize);
            let named = |text: &str| format!("{} {}", command.name, kind.name()).contains(text);
            if possible(command, kind) && only.is_none_or(named) {
                let place = numbers.below(1 << 20);
                all.push(((round, place), Try { command, kind }));
                round += 1;
            }
        }
    }
    all.sort_by_key(|(place, _)| *place);
    all.into_iter().map(|(_, one)| one).collect()
}

/// Whether it makes sense: CLOSEADAPTER is not sent when a channel is offered.
fn possible(command: &Command, kind: Kind) -> bool {
    !(command.name == "CloseAdapter" && matches!(kind, Kind::Away(_)))
}

fn tried(master: &mut Master, figures: &mut Figures, end: Instant, wanted: &Wanted) -> bool {
    let all = tries(wanted.what, wanted.seed, wanted.only.as_deref());
    let (mut lost, mut short) = (false, false);
    for (number, one) in all.iter().enumerate() {
        if Instant::now() >= end {
            short = number < LEAST;
            println!("# the time was over after {number} of {} tries", all.len());
            break;
        }
        let name = format!("{} {}", one.command.name, one.kind.name());
        note(&name);
        let start = Instant::now();
        let outcome = one
            .kind
            .meet(master, one.command, wanted.seed + number as u64);
        figures.add(
            one.kind.name(),
            one.command.name,
            outcome.as_ref().ok().copied(),
        );
        if let Err(Problem::Failed(reason) | Problem::Skipped(reason)) = outcome {
            let seconds = start.elapsed().as_secs_f64();
            println!("# {name}: {reason} ({seconds:.1} s)");
            figures.fail(format!("{name}: {reason}"));
            if let Err(problem) = master.renew() {
                println!("# the virtual GPU does not come back: {problem:?}");
                lost = true;
                break;
            }
        }
    }
    let mut names: Vec<&str> = all.iter().map(|one| one.command.name).collect();
    names.sort_unstable();
    names.dedup();
    println!("1..{}", names.len());
    let mut good = !lost && !short && !names.is_empty();
    for (number, name) in (1..).zip(names) {
        match figures.of_command(name) {
            (0, _) => println!("ok {number} {name} # SKIP not reached in the time"),
            (tried, survived) if tried == survived => println!("ok {number} {name}"),
            _ => {
                good = false;
                println!("not ok {number} {name}");
            }
        }
    }
    good
}

/// Says in the kernel log what comes, so that a report there has a cause.
fn note(text: &str) {
    // A log that takes none makes no difference to what is tried.
    let _ = std::fs::write("/dev/kmsg", format!("<6>vaccel-selftests: {text}\n"));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Proves that each command meets each fault once, and every command one before any meets two.
    #[test]
    fn all_are_tried() {
        let all = tries(What::Matrix, 3, None);
        assert_eq!(all.len(), commands::ALL.len() * faults::ALL.len());
        let names = |tries: &[Try]| {
            let names = tries.iter().map(|one| (one.command.name, one.kind.name()));
            names.collect::<BTreeSet<_>>()
        };
        assert_eq!(names(&all).len(), all.len());
        let first = &all[..commands::ALL.len()];
        let commands: BTreeSet<_> = first.iter().map(|one| one.command.name).collect();
        assert_eq!(commands.len(), commands::ALL.len());
        assert_ne!(
            names(first),
            names(&tries(What::Matrix, 4, None)[..commands::ALL.len()])
        );
        let only = tries(What::Away, 1, Some("Lock2 away-vgpu"));
        assert_eq!((only.len(), only[0].command.name), (1, "Lock2"));
    }

    /// Proves that the command line is understood, and that nonsense is not.
    #[test]
    fn arguments() {
        let parse = |text: &str| Wanted::parse(text.split(' ').map(str::to_owned));
        let wanted = parse("matrix --seconds 5 --seed 9 --only Lock2").unwrap();
        assert_eq!(
            (wanted.what, wanted.seconds, wanted.seed),
            (What::Matrix, 5, 9)
        );
        assert_eq!(wanted.only.as_deref(), Some("Lock2"));
        for text in [
            "",
            "dance",
            "fuzz --seconds",
            "fuzz --seconds x",
            "away --what 1",
        ] {
            assert!(parse(text).is_none(), "{text}");
        }
    }
}
