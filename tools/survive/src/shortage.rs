// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shortages: allocations of the driver fail at random, wherever it makes them, in its own threads and
//! callbacks as in system calls, while processes use the device.
//!
//! The kernel picks them by the stack: one that leads through the module's code. What the processes
//! ask for may fail. They are killed while memory is still short, so that the way to give back what
//! they had has to do without. When there is memory again the device works and nothing is left.

use std::path::Path;
use std::time::Duration;

use anyhow::{ensure, Context as _, Result};

use crate::injection::Injection;
use crate::report::Counts;
use crate::storm::{self, Load};
use crate::trial::Trial;

const DEBUG: &str = "/sys/kernel/debug";
/// Objects of slab caches, and whole pages.
const KINDS: &[&str] = &["failslab", "fail_page_alloc"];
/// Of a hundred allocations of the driver, these fail.
const PERCENT: &[u32] = &[1, 5, 30];
/// How long memory is short at a time.
const SHORT: Duration = Duration::from_secs(4);
/// Frames of a stack that are looked at.
const DEPTH: u32 = 32;
/// More than fail in that time.
const MOST: u64 = 1 << 30;

/// Makes memory short `most` times, or until the time is up.
///
/// # Errors
///
/// The kernel cannot make allocations fail.
pub fn run(trial: &mut Trial, most: u64) -> Result<()> {
    Injection::open()?;
    let mut done = 0;
    while done < most && !trial.is_over() {
        let Some(percent) = trial.numbers.pick(PERCENT).copied() else {
            break;
        };
        one(trial, percent);
        done += 1;
    }
    Ok(())
}

/// Makes memory short once, and judges what is left.
pub fn one(trial: &mut Trial, percent: u32) {
    let what = format!("shortage {percent} %");
    let outcome = under_load(trial, percent);
    if let Ok(counts) = &outcome {
        eprintln!("# {what}: {}", counts.faults_anywhere);
    }
    trial.judge(&what, outcome);
}

fn under_load(trial: &mut Trial, percent: u32) -> Result<Counts> {
    let workers = storm::start(trial, Load::Full)?;
    let shortage = Shortage::begin(percent)?;
    std::thread::sleep(SHORT);
    let stopped = storm::stop(workers);
    let failed = shortage.failed()?;
    drop(shortage);
    stopped?;
    ensure!(failed > 0, "no allocation was made to fail");
    Ok(Counts {
        faults_anywhere: failed,
        ..Default::default()
    })
}

/// Memory is short as long as this exists.
struct Shortage;

impl Shortage {
    fn begin(percent: u32) -> Result<Self> {
        let (start, end) = module_range()?;
        let shortage = Self;
        for kind in KINDS {
            // Whatever the parts before have left.
            set(kind, "probability", "0")?;
            for (name, value) in [
                ("require-start", format!("{start:#x}")),
                ("require-end", format!("{end:#x}")),
                ("stacktrace-depth", DEPTH.to_string()),
                ("interval", "1".into()),
                ("space", "0".into()),
                ("task-filter", "N".into()),
                ("times", MOST.to_string()),
                ("probability", percent.to_string()),
            ] {
                set(kind, name, &value)?;
            }
        }
        Ok(shortage)
    }

    /// How many allocations failed so far.
    fn failed(&self) -> Result<u64> {
        let mut failed = 0;
        for kind in KINDS {
            let text = std::fs::read_to_string(Path::new(DEBUG).join(kind).join("times"))?;
            let left: u64 = text.trim().parse().context("times")?;
            failed += MOST.saturating_sub(left);
        }
        Ok(failed)
    }
}

impl Drop for Shortage {
    fn drop(&mut self) {
        for kind in KINDS {
            for (name, value) in [
                ("probability", "0"),
                // The filter would hold for a countdown as well.
                ("require-start", "0"),
                ("require-end", "0xffffffffffffffff"),
            ] {
                if let Err(error) = set(kind, name, value) {
                    eprintln!("# {error:#}: memory may stay short");
                }
            }
        }
    }
}

fn set(kind: &str, name: &str, value: &str) -> Result<()> {
    let path = Path::new(DEBUG).join(kind).join(name);
    std::fs::write(&path, value)
        .with_context(|| format!("{}: cannot be set to {value}", path.display()))
}

/// Where the module's code is.
fn module_range() -> Result<(u64, u64)> {
    let modules = std::fs::read_to_string("/proc/modules")?;
    range_in(&modules).context("/proc/modules: vaccel has no address there")
}

fn range_in(modules: &str) -> Option<(u64, u64)> {
    let words = modules.lines().map(|line| line.split(' '));
    let mut words = words.into_iter().find_map(|mut words| {
        let ours = words.next() == Some("vaccel");
        ours.then_some(words)
    })?;
    let size: u64 = words.next()?.parse().ok()?;
    let start = words.find_map(|word| word.strip_prefix("0x"))?;
    let start = u64::from_str_radix(start, 16).ok()?;
    (start != 0).then(|| (start, start.saturating_add(size)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that the module is found between others, and that a hidden address is none.
    #[test]
    fn range() {
        let modules = "hv_vmbus 1000 2 vaccel, Live 0xffffffffc0000000\n\
                       vaccel 4096 0 - Live 0xffffffffc0400000 (O)\n";
        let start = 0xffff_ffff_c040_0000;
        assert_eq!(range_in(modules), Some((start, start + 4096)));
        assert_eq!(range_in("vaccel 4096 0 - Live 0x0000000000000000\n"), None);
        assert_eq!(range_in("other 4096 0 - Live 0xffffffffc0400000\n"), None);
    }
}
