// SPDX-License-Identifier: MIT OR Apache-2.0
//! How long after its signal a wait is back.
//!
//! Another thread signals the fence while the wait sleeps, and says when it began to.

use std::fs::File;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use libvaccel::{Fence, FenceFlags, Vm};

use super::super::statistics::{Ratio, Samples};
use super::super::{Findings, Unfinished};
use super::door::{wait, Door, Way};

/// Until the wait sleeps.
const SETTLE: Duration = Duration::from_millis(1);
/// Waits of a round for each way.
const TURNS: u32 = 50;

/// Latencies of both ways, in the order of [`Way`].
#[derive(Debug, Default)]
pub struct Waits {
    samples: [Samples; 2],
}

/// One wait; how long it was back after the signal began.
fn once(
    door: &mut Door<'_>,
    fence: &Fence,
    value: u64,
    signal: &mpsc::Sender<u64>,
    signalled: &mpsc::Receiver<Instant>,
) -> Result<Duration, Unfinished> {
    let gone = || Unfinished::Failed("the signal did not come".into());
    signal.send(value).map_err(|_| gone())?;
    wait(door, fence, value)?;
    let back = Instant::now();
    let began = signalled.recv().map_err(|_| gone())?;
    Ok(back.saturating_duration_since(began))
}

/// Signals each value that comes, and says when.
fn signaller(
    fence: &Fence,
    values: &mpsc::Receiver<u64>,
    signalled: &mpsc::Sender<Instant>,
) -> libvaccel::Result<()> {
    for value in values {
        thread::sleep(SETTLE);
        let begin = Instant::now();
        fence.signal(value)?;
        if signalled.send(begin).is_err() {
            break;
        }
    }
    Ok(())
}

impl Waits {
    /// Measures the ways in turns.
    pub fn measure(
        &mut self,
        file: &File,
        vm: &Vm,
        ways: &[Way],
        rounds: u32,
    ) -> Result<(), Unfinished> {
        let fence = vm.create_fence(FenceFlags::empty(), 0)?;
        let (signal, values) = mpsc::channel();
        let (say, signalled) = mpsc::channel();
        thread::scope(|scope| {
            let fence = &fence;
            scope.spawn(move || signaller(fence, &values, &say));
            // Moved in, so that the other thread ends with this.
            let signal = signal;
            let mut doors = Vec::new();
            for way in ways {
                doors.push((*way, way.open(file)?));
            }
            let mut value = 0;
            for turn in 0..rounds * TURNS {
                for (way, door) in &mut doors {
                    value += 1;
                    let time = once(door, fence, value, &signal, &signalled)?;
                    if turn > 0 {
                        self.samples[*way as usize].time(time);
                    }
                }
                doors.reverse();
            }
            Ok(())
        })
    }

    /// Adds what was measured; returns the ratio of the tails.
    pub fn report(&self, findings: &mut Findings, ways: &[Way]) -> Ratio {
        for way in ways {
            let name = format!("from a signal until the wait is back, by {}", way.name());
            findings.seconds(name, &self.samples[*way as usize]);
        }
        let [ioctl, ring] = &self.samples;
        Ratio::of_tails(ring, ioctl)
    }

    /// The ratio of the medians.
    pub fn medians(&self) -> Ratio {
        let [ioctl, ring] = &self.samples;
        Ratio::of_medians(ring, ioctl)
    }
}
