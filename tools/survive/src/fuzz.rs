// SPDX-License-Identifier: MIT OR Apache-2.0
//! Random input: operations, lists of operations, and commands by io_uring, with structures whose
//! fields are likely, at a limit, or wrong.
//!
//! An input that reaches code that none before has reached (KCOV, where the kernel has it) is kept,
//! and others are made from it. Nothing that is tried may give an errno that the interface does not
//! have, or break anything; what the seed is, the report says.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{ensure, Context as _, Result};
use clap::ValueEnum;
use libvaccel::ioctl::Errno;

use crate::kcov::Coverage;
use crate::numbers::Numbers;
use crate::report::Counts;
use crate::trial::Trial;
use crate::worker::{say, Worker};

pub mod fields;
mod ioctls;
mod lists;
mod rings;
mod target;

use target::Target;

/// How long one process goes on.
const SLICE: Duration = Duration::from_secs(60);
/// How much longer it may take.
const GRACE: Duration = Duration::from_secs(120);
/// Inputs that a file is given before it is closed.
const ROUND: usize = 250;
/// Inputs that are kept.
const KEPT: usize = 4096;

/// What is made up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Single operations.
    Ioctl,
    /// Lists for SUBMIT.
    Ops,
    /// Commands by io_uring.
    Ring,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Ioctl, Self::Ops, Self::Ring];

    const fn name(self) -> &'static str {
        match self {
            Self::Ioctl => "ioctl",
            Self::Ops => "ops",
            Self::Ring => "ring",
        }
    }
}

/// One input: words that a kind gives a meaning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Input(pub Vec<[u64; 10]>);

/// What became of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Something of it was done.
    Taken,
    /// It was refused.
    Refused,
    /// A vm failed: little can be done with the file any more.
    Failed,
}

/// The errno values that the header names, for whatever operation. ENODEV, ETIMEDOUT and EINTR are not
/// among them: nobody takes the device away, silences the host, or kills the process here.
const DOCUMENTED: &[i32] = &[
    libc::EINVAL,
    libc::ENOENT,
    libc::EOVERFLOW,
    libc::EFBIG,
    libc::EACCES,
    libc::EOPNOTSUPP,
    libc::ENOMEM,
    libc::EMFILE,
    libc::ENOSPC,
    libc::EBUSY,
    libc::EIO,
    libc::EREMOTEIO,
    libc::EEXIST,
    libc::EMSGSIZE,
    libc::ETIME,
    libc::EDEADLK,
    libc::EBADF,
    libc::EXDEV,
    libc::E2BIG,
    libc::ENODATA,
    libc::ESTALE,
];

/// Those that only commands give.
const OF_COMMANDS: &[i32] = &[libc::ECANCELED, libc::EAGAIN, libc::ENOBUFS, libc::EALREADY];

/// Judges the errno of an operation.
///
/// # Errors
///
/// It is one that the interface does not have.
fn judge(kind: Kind, result: Result<(), Errno>) -> Result<Outcome> {
    let Err(errno) = result else {
        return Ok(Outcome::Taken);
    };
    let known =
        DOCUMENTED.contains(&errno.0) || (kind == Kind::Ring && OF_COMMANDS.contains(&errno.0));
    ensure!(known, "{errno} is not documented");
    match errno.0 {
        libc::EIO => Ok(Outcome::Failed),
        _ => Ok(Outcome::Refused),
    }
}

/// Gives the driver input of a kind until the time is up.
pub fn run(trial: &mut Trial, kind: Kind, time: Duration) {
    let end = Instant::now() + time;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left < Duration::from_secs(1) {
            return;
        }
        let seed = trial.numbers.word();
        let what = format!("fuzz {} seed {seed}", kind.name());
        eprintln!("# {what}");
        let outcome = in_process(trial, kind, seed, left.min(SLICE));
        trial.judge(&what, outcome);
    }
}

fn in_process(trial: &Trial, kind: Kind, seed: u64, time: Duration) -> Result<Counts> {
    let arguments = [
        "fuzz",
        kind.name(),
        &seed.to_string(),
        &time.as_secs().to_string(),
    ];
    let said = Worker::start(&trial.node, &arguments)?.finish(time + GRACE)?;
    let last = said.last().context("the process said nothing")?;
    let numbers: Vec<u64> = last
        .split(' ')
        .map(str::parse)
        .collect::<Result<_, _>>()
        .with_context(|| last.clone())?;
    let [inputs, inputs_taken, places] = numbers[..] else {
        anyhow::bail!("the process said {last}");
    };
    eprintln!("# {inputs} inputs, {inputs_taken} taken, {places} places");
    Ok(Counts {
        inputs,
        inputs_taken,
        places,
        ..Default::default()
    })
}

/// The process that makes the input up, and says how much that was.
///
/// # Errors
///
/// The driver did what it must not; the input is named.
pub fn process(node: &Path, kind: Kind, seed: u64, time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    let mut numbers = Numbers::new(seed);
    let mut coverage = Coverage::open().ok();
    let mut kept: Vec<Input> = Vec::new();
    let (mut inputs, mut taken) = (0u64, 0u64);
    while Instant::now() < end {
        let mut target = Target::new(node, kind)?;
        for _ in 0..ROUND {
            let input = match numbers.pick(&kept).cloned() {
                Some(input) if !numbers.one_in(3) => target.mutate(&mut numbers, input),
                _ => target.make(&mut numbers),
            };
            if let Some(coverage) = &coverage {
                coverage.start();
            }
            let outcome = target
                .run(&input)
                .with_context(|| format!("input {inputs}: {}", target.describe(&input)))?;
            inputs += 1;
            taken += u64::from(outcome == Outcome::Taken);
            if let Some(coverage) = &mut coverage {
                if coverage.new_places() > 0 && kept.len() < KEPT {
                    kept.push(input);
                }
            }
            if outcome == Outcome::Failed || Instant::now() >= end {
                break;
            }
        }
    }
    let places = coverage.map_or(0, |coverage| coverage.places());
    say(&format!("{inputs} {taken} {places}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that an errno that the header does not name is a failure, and that those of commands are
    /// for commands only.
    #[test]
    fn errnos() {
        let refused = |errno| Err(Errno(errno));
        assert_eq!(judge(Kind::Ioctl, Ok(())).unwrap(), Outcome::Taken);
        let outcome = judge(Kind::Ioctl, refused(libc::EINVAL)).unwrap();
        assert_eq!(outcome, Outcome::Refused);
        assert!(judge(Kind::Ops, refused(libc::EFAULT)).is_err());
        assert!(judge(Kind::Ops, refused(libc::EAGAIN)).is_err());
        assert!(judge(Kind::Ring, refused(libc::EAGAIN)).is_ok());
    }
}
