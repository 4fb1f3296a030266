// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kill matrix: a process is killed at each operation, at several points. Then it is gone within
//! bounded time, the host holds nothing of it, and the device works.

use std::path::Path;
use std::time::Duration;

use anyhow::{ensure, Context as _, Result};

use crate::report::Counts;
use crate::rig::Rig;
use crate::row::{self, Row};
use crate::trial::Trial;
use crate::worker::{say, wait_for_go, Worker};

/// How long a process may take to get ready, and to do an operation: emulated machines are slow.
const READY: Duration = Duration::from_secs(60);
/// How long a killed process may take to be gone, whatever the host does.
const GONE: Duration = Duration::from_secs(15);
/// How long the host is silent unless it is told otherwise before: longer than a killed process may
/// take, so that its end does not depend on the host.
const SILENCE: Duration = Duration::from_secs(30);

/// When a process is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// Just as it begins.
    Begin,
    /// When the operation waits for a host that is silent.
    Mute,
    /// When it is done and the process lives on.
    Done,
    /// At any time while it does the operation again and again.
    Any,
}

/// All of them.
pub const POINTS: [Point; 4] = [Point::Begin, Point::Mute, Point::Done, Point::Any];

/// Kills at each point of each of these rows, in an order that follows from the seed, until the time is
/// up.
///
/// # Errors
///
/// A name is unknown.
pub fn run(trial: &mut Trial, names: &[String]) -> Result<()> {
    let rows = row::chosen(names)?;
    let mut cases: Vec<(Row, Point)> = rows
        .iter()
        .flat_map(|row| POINTS.map(|point| (*row, point)))
        .collect();
    trial.numbers.shuffle(&mut cases);
    for (row, point) in cases {
        if trial.is_over() {
            break;
        }
        one(trial, &row, point);
    }
    Ok(())
}

/// Kills once, and judges what is left.
pub fn one(trial: &mut Trial, row: &Row, point: Point) {
    let what = format!("kill {} {point:?}", row.name);
    eprintln!("# {what}");
    let outcome = kill(trial, row, point);
    // Also if the process could not be killed the host speaks again.
    let unmuted = trial.host.mute(Duration::ZERO);
    trial.judge(&what, outcome.and_then(|counts| unmuted.map(|()| counts)));
}

fn kill(trial: &mut Trial, row: &Row, point: Point) -> Result<Counts> {
    let mode = match point {
        Point::Any => "again",
        _ => "once",
    };
    let mut worker = Worker::start(&trial.node, &[mode, row.name])?;
    worker.expect("ready", READY)?;
    match point {
        Point::Begin => {
            worker.go()?;
            let delay = trial.numbers.below(3000);
            std::thread::sleep(Duration::from_micros(delay));
        }
        Point::Mute => {
            trial.host.mute(SILENCE)?;
            worker.go()?;
            let delay = 30 + trial.numbers.below(150);
            std::thread::sleep(Duration::from_millis(delay));
        }
        Point::Done => {
            worker.go()?;
            worker.expect("done", READY)?;
        }
        Point::Any => {
            worker.go()?;
            let delay = trial.numbers.below(400);
            std::thread::sleep(Duration::from_millis(delay));
        }
    }
    worker.kill(GONE)?;
    Ok(Counts {
        rows: 1,
        kills: 1,
        kills_mute: u64::from(point == Point::Mute),
        ..Default::default()
    })
}

/// The process that does a row once, and lives on.
///
/// # Errors
///
/// The operation has failed.
pub fn once(node: &Path, name: &str) -> Result<()> {
    let rig = Rig::new(node)?;
    let row = find(name)?;
    let mut step = (row.prepare)(&rig).context("to prepare")?;
    say("ready")?;
    wait_for_go()?;
    if let Err(errno) = step() {
        say(&format!("{name}: {errno}"))?;
    }
    say("done")?;
    loop {
        std::thread::park();
    }
}

/// The process that does a row until it is killed.
///
/// # Errors
///
/// The operation has failed.
pub fn again(node: &Path, name: &str) -> Result<()> {
    let row = find(name)?;
    let mut rig = Rig::new(node)?;
    say("ready")?;
    wait_for_go()?;
    loop {
        // Few of each: what the rig collects goes with it.
        for _ in 0..8 {
            let outcome = (row.prepare)(&rig).context("to prepare")?();
            ensure!(outcome.is_ok(), "{name}: {outcome:?}");
        }
        rig = Rig::new(node)?;
    }
}

/// The row of this name.
///
/// # Errors
///
/// There is none.
pub fn find(name: &str) -> Result<Row> {
    let rows = row::chosen(&[name.to_owned()])?;
    rows.into_iter().next().context("no such row")
}
