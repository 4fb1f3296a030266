// SPDX-License-Identifier: MIT OR Apache-2.0
//! Storms: the host takes channels back and offers them again, and the module is unloaded and loaded,
//! while processes use the device.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context as _, Result};
use guest_init::kernel;
use libvaccel::compute::Session;
use libvaccel::{Deadline, Device};
use vaccel_isa::CommandStream;

use crate::host::Channel;
use crate::numbers::Numbers;
use crate::report::Counts;
use crate::rig::Rig;
use crate::row;
use crate::trial::Trial;
use crate::worker::{say, Worker};

/// Processes that use the device meanwhile.
const WORKERS: usize = 3;
const READY: Duration = Duration::from_secs(60);
/// How long a killed process may take to be gone.
const GONE: Duration = Duration::from_secs(10);
/// How long a node may take to come.
const NODE: Duration = Duration::from_secs(60);
/// How long unloading is tried against processes that live.
const IN_USE: Duration = Duration::from_secs(1);
/// How long a module may be in use after the last process with an open file is gone.
const UNLOAD: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(5);
/// What belonged to files of a device that is gone is given back within this, and with it the number of
/// the node.
const LET_GO: Duration = Duration::from_millis(500);

/// How much a process asks of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// Rows of the table, in a file that stays open for some.
    Full,
    /// One job, in a file that is closed again at once, and a pause.
    Light,
}

impl Load {
    const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Light => "light",
        }
    }
}

/// Starts processes that use the device.
///
/// # Errors
///
/// One does not get ready.
pub fn start(trial: &mut Trial, load: Load) -> Result<Vec<Worker>> {
    let mut workers = Vec::new();
    for _ in 0..WORKERS {
        let seed = trial.numbers.word().to_string();
        let mut worker = Worker::start(&trial.node, &["load", load.name(), &seed])?;
        worker.expect("ready", READY)?;
        workers.push(worker);
    }
    Ok(workers)
}

/// Ends the processes; each has to have lived until then.
///
/// # Errors
///
/// One has not, or is not gone in time.
pub fn stop(workers: Vec<Worker>) -> Result<()> {
    for worker in workers {
        worker.kill(GONE)?;
    }
    Ok(())
}

/// The first node that there is. Files that are still open keep the number of theirs.
fn any_node(node: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(node.parent()?).ok()?;
    let mut nodes: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    nodes.sort();
    nodes.into_iter().next()
}

fn until(what: &str, limit: Duration, mut done: impl FnMut() -> bool) -> Result<()> {
    let end = Instant::now() + limit;
    while !done() {
        ensure!(
            Instant::now() < end,
            "{what}: not within {} s",
            limit.as_secs()
        );
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// Takes channels back and offers them again, `most` times or until the time is up.
pub fn rescind(trial: &mut Trial, most: u64) {
    let mut done = 0;
    let mut outcome = rescind_under_load(trial, most, &mut done);
    if outcome.is_ok() {
        outcome = restore_node(trial);
    }
    let counts = Counts {
        rescinds: done,
        ..Default::default()
    };
    eprintln!("# rescinded {done} times");
    trial.judge("rescind", outcome.map(|()| counts));
}

fn rescind_under_load(trial: &mut Trial, most: u64, done: &mut u64) -> Result<()> {
    let workers = start(trial, Load::Full)?;
    while *done < most && !trial.is_over() {
        std::thread::sleep(Duration::from_millis(trial.numbers.below(600)));
        let channel = match trial.numbers.one_in(4) {
            true => Channel::Global,
            false => Channel::Vgpu,
        };
        trial.host.rescind(channel)?;
        std::thread::sleep(Duration::from_millis(trial.numbers.below(300)));
        let offered = trial.host.offer(channel);
        offered.with_context(|| format!("{channel:?}, time {done}"))?;
        *done += 1;
        // Sometimes the next comes before the guest is through with this one.
        if !trial.numbers.one_in(3) {
            let node = trial.node.clone();
            until("a node", NODE, || any_node(&node).is_some())?;
        }
    }
    stop(workers)
}

/// Has the node come back under its own name, now that nobody has a file open.
fn restore_node(trial: &mut Trial) -> Result<()> {
    let node = trial.node.clone();
    until("a node", NODE, || any_node(&node).is_some())?;
    std::thread::sleep(LET_GO);
    if !trial.node.exists() {
        trial.host.rescind(Channel::Vgpu)?;
        until("the node goes", NODE, || any_node(&node).is_none())?;
        std::thread::sleep(LET_GO);
        trial.host.offer(Channel::Vgpu)?;
    }
    trial.wait_for_node()
}

/// Unloads and loads the module, `most` times or until the time is up.
pub fn reload(trial: &mut Trial, module: &Path, most: u64) {
    let mut counts = Counts::default();
    let outcome = reload_under_load(trial, module, most, &mut counts);
    eprintln!(
        "# reloaded {} times, in use {} times",
        counts.reloads, counts.reloads_busy
    );
    // Whatever went wrong: what comes next needs the module.
    if let Err(error) = kernel::load_module(module, "") {
        if error.raw_os_error() != Some(libc::EEXIST) {
            trial.report.fail(format!("reload: load: {error}"));
        }
    }
    let outcome = outcome.and_then(|()| trial.wait_for_node());
    trial.judge("reload", outcome.map(|()| counts));
}

fn reload_under_load(
    trial: &mut Trial,
    module: &Path,
    most: u64,
    counts: &mut Counts,
) -> Result<()> {
    ensure!(module.exists(), "{}: there is no module", module.display());
    while counts.reloads < most && !trial.is_over() {
        let workers = start(trial, Load::Light)?;
        std::thread::sleep(Duration::from_millis(trial.numbers.below(200)));
        // Between two files of theirs, if there is such a moment.
        let unloaded = unload(counts, IN_USE)?;
        stop(workers)?;
        if !unloaded {
            ensure!(unload(counts, UNLOAD)?, "unload: still in use");
        }
        std::thread::sleep(Duration::from_millis(trial.numbers.below(50)));
        kernel::load_module(module, "").context("load")?;
        counts.reloads += 1;
        trial.wait_for_node()?;
    }
    Ok(())
}

/// Unloads the module, unless it is in use all of the time until `limit`. Whether it did.
fn unload(counts: &mut Counts, limit: Duration) -> Result<bool> {
    let end = Instant::now() + limit;
    loop {
        match kernel::unload_module("vaccel") {
            Ok(()) => return Ok(true),
            Err(error) => match error.raw_os_error() {
                Some(libc::EAGAIN | libc::EBUSY) => counts.reloads_busy += 1,
                _ => return Err(error).context("unload"),
            },
        }
        if Instant::now() >= end {
            return Ok(false);
        }
        std::thread::sleep(PAUSE);
    }
}

/// The process that uses the device until it is killed, also while there is none. Operations may fail,
/// and the device go.
///
/// # Errors
///
/// The load has another name.
pub fn load(node: &Path, name: &str, seed: u64) -> Result<()> {
    let mut numbers = Numbers::new(seed);
    let load = match name {
        "full" => Load::Full,
        "light" => Load::Light,
        other => bail!("unknown load {other}"),
    };
    say("ready")?;
    loop {
        if let Some(node) = any_node(node) {
            // That it fails is no news: the device is being taken away.
            let _ = match load {
                Load::Full => some_rows(&node, &mut numbers),
                Load::Light => one_job(&node),
            };
        }
        std::thread::sleep(Duration::from_millis(1 + numbers.below(40)));
    }
}

fn some_rows(node: &Path, numbers: &mut Numbers) -> Result<()> {
    let rig = Rig::new(node)?;
    let rows = row::all();
    for _ in 0..12 {
        if let Some(row) = numbers.pick(&rows) {
            (row.prepare)(&rig)?().map_err(crate::rig::os)?;
        }
    }
    Ok(())
}

fn one_job(node: &Path) -> Result<()> {
    let device = Device::open(node)?;
    let mut session = Session::new(&device)?;
    let mut stream = CommandStream::new();
    stream.nop();
    session.run(stream, Deadline::after_secs(10))?;
    Ok(())
}
