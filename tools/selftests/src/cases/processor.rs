// SPDX-License-Identifier: MIT OR Apache-2.0
//! Several processors: the interrupts of the driver's channels, and work on all of them at once.

use std::fs;
use std::path::{Path, PathBuf};

use libc::EIO;
use libvaccel::Device;

use super::Case;
use crate::rig::{check_device_works, ensure, Problem, Result};

pub const CASES: &[Case] = &[
    Case {
        name: "processor-interrupts",
        proves: "interrupts of the driver's channels come to the processor that the channels are moved to",
        run: interrupts,
    },
    Case {
        name: "processor-all",
        proves: "a file a processor, all at work at once, get their own results",
        run: all,
    },
];

/// Channels of all devices of the driver.
const DEVICES: &str = "/sys/bus/vmbus/drivers/vaccel";
/// Computations a file.
const ROUNDS: usize = 3;

fn interrupts(node: &Path) -> Result {
    let processors = hypervisor_interrupts()?.len();
    if processors < 2 {
        return Err(Problem::Skipped("there is one processor".into()));
    }
    let channels = channels()?;
    ensure(!channels.is_empty(), format!("no channels in {DEVICES}"))?;
    let before: Vec<_> = channels
        .iter()
        .map(fs::read_to_string)
        .collect::<std::io::Result<_>>()?;
    let outcome = (0..processors).try_for_each(|processor| {
        for channel in &channels {
            move_to(channel, &processor.to_string())?;
        }
        interrupts_at(node, processor)
    });
    for (channel, processor) in channels.iter().zip(&before) {
        move_to(channel, processor.trim())?;
    }
    outcome
}

/// Works, and looks where the interrupts come.
fn interrupts_at(node: &Path, processor: usize) -> Result {
    let device = Device::open(node)?;
    // What was on its way when the channels were moved still comes to the old place.
    check_device_works(&device)?;
    let before = hypervisor_interrupts()?;
    check_device_works(&device)?;
    let after = hypervisor_interrupts()?;
    let came: Vec<_> = after
        .iter()
        .zip(&before)
        .map(|(after, before)| after - before)
        .collect();
    let here = came.get(processor).copied().unwrap_or(0);
    let all: u64 = came.iter().sum();
    ensure(
        here > 0 && here == all,
        format!("channels at processor {processor}, interrupts of each: {came:?}"),
    )
}

fn all(node: &Path) -> Result {
    let processors = hypervisor_interrupts()?.len();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..processors)
            .map(|_| {
                scope.spawn(|| {
                    let device = Device::open(node)?;
                    (0..ROUNDS).try_for_each(|_| check_device_works(&device))
                })
            })
            .collect();
        threads.into_iter().try_for_each(|thread| {
            thread
                .join()
                .map_err(|_| Problem::Failed("a thread died".into()))?
        })
    })
}

/// Where each channel's processor can be read and written.
fn channels() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for device in fs::read_dir(DEVICES)? {
        // Beside the devices there are files of the driver itself.
        let Ok(channels) = fs::read_dir(device?.path().join("channels")) else {
            continue;
        };
        for channel in channels {
            found.push(channel?.path().join("cpu"));
        }
    }
    Ok(found)
}

fn move_to(channel: &Path, processor: &str) -> Result {
    match fs::write(channel, processor) {
        Err(error) if error.raw_os_error() == Some(EIO) => {
            Err(Problem::Skipped("this VMBus cannot move a channel".into()))
        }
        outcome => Ok(outcome?),
    }
}

/// Interrupts of the hypervisor at each processor that is online.
fn hypervisor_interrupts() -> Result<Vec<u64>> {
    let text = fs::read_to_string("/proc/interrupts")?;
    counts(&text).ok_or_else(|| Problem::Failed("/proc/interrupts has no line HYP".into()))
}

fn counts(interrupts: &str) -> Option<Vec<u64>> {
    let line = interrupts
        .lines()
        .find_map(|line| line.trim_start().strip_prefix("HYP:"))?;
    let numbers = line.split_whitespace().map_while(|word| word.parse().ok());
    Some(numbers.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One number a processor, and nothing of the text behind them.
    #[test]
    fn columns() {
        let text = "           CPU0       CPU1\n\
                    LOC:         12         13   Local timer interrupts\n\
                    HYP:         26          4   Hypervisor callback interrupts\n";
        assert_eq!(counts(text), Some(vec![26, 4]));
        assert_eq!(counts("LOC: 1 2 Local timer interrupts\n"), None);
    }
}
