// SPDX-License-Identifier: MIT OR Apache-2.0
//! What one batch takes by itself: until it is queued, and how often the host is told.

use std::fs::File;
use std::time::Instant;

use super::super::channels::Signals;
use super::super::statistics::{Ratio, Samples};
use super::super::{Findings, Unfinished};
use super::door::{Door, Way};
use super::lane::Lane;
use super::rates::SIZES;

/// Batches of a round for each way and size.
const TURNS: u32 = 3;
/// Single jobs of a round for each way.
const SINGLES: u32 = 15;

/// What was measured of one way, by size of the batch.
#[derive(Debug, Default)]
struct Of {
    /// Seconds until all of a batch are queued.
    queued: [Samples; SIZES.len()],
    /// Signals to the host until then.
    to_host: [Samples; SIZES.len()],
    /// Interrupts from the host until then.
    from_host: [Samples; SIZES.len()],
    /// Seconds of one job until its end is known.
    single: Samples,
    /// The median of each round.
    single_rounds: Samples,
}

/// What was measured of both ways, in the order of [`Way`].
#[derive(Debug, Default)]
pub struct Steps {
    of: [Of; 2],
}

impl Of {
    fn batch(
        &mut self,
        lane: &mut Lane,
        door: &mut Door<'_>,
        size: usize,
    ) -> Result<(), Unfinished> {
        let before = Signals::now();
        let begin = Instant::now();
        lane.submit(door, SIZES[size])?;
        self.queued[size].time(begin.elapsed());
        if let (Some(before), Some(now)) = (before, Signals::now()) {
            let signals = now - before;
            self.to_host[size].push(signals.to_host as f64);
            self.from_host[size].push(signals.from_host as f64);
        }
        lane.finish()
    }
}

impl Steps {
    /// Measures each way once or more, in the order given.
    pub fn round(&mut self, file: &File, lane: &mut Lane, ways: &[Way]) -> Result<(), Unfinished> {
        let mut doors = Vec::new();
        for way in ways {
            doors.push((*way, way.open(file)?));
        }
        for size in 0..SIZES.len() {
            for _ in 0..TURNS {
                for (way, door) in &mut doors {
                    self.of[*way as usize].batch(lane, door, size)?;
                }
            }
        }
        let mut round = [Samples::default(), Samples::default()];
        for _ in 0..SINGLES {
            for (way, door) in &mut doors {
                let begin = Instant::now();
                lane.single(door)?;
                let time = begin.elapsed();
                round[*way as usize].time(time);
                self.of[*way as usize].single.time(time);
            }
        }
        for (of, round) in self.of.iter_mut().zip(&round) {
            of.single_rounds.push(round.median());
        }
        Ok(())
    }

    /// Adds all that was measured.
    pub fn report(&self, findings: &mut Findings, ways: &[Way]) {
        for way in ways {
            let of = &self.of[*way as usize];
            let way = way.name();
            for (place, size) in SIZES.iter().enumerate() {
                let batch = format!("a batch of {size}, by {way}");
                findings.seconds(format!("SUBMIT of {batch}"), &of.queued[place]);
                if of.to_host[place].values().is_empty() {
                    continue;
                }
                let (signals, interrupts) = (&of.to_host[place], &of.from_host[place]);
                findings.series(format!("signals to the host, {batch}"), "signals", signals);
                findings.series(format!("interrupts, {batch}"), "interrupts", interrupts);
            }
            findings.seconds(
                format!("one job until its end is known, by {way}"),
                &of.single,
            );
        }
    }

    /// The ring's signals to the host for a batch, if the kernel counts them.
    pub fn signals(&self, size: usize) -> Option<Ratio> {
        let signals = &self.of[Way::Ring as usize].to_host[size];
        let mut batches = Samples::default();
        signals.values().iter().for_each(|_| batches.push(1.0));
        (!signals.values().is_empty()).then(|| Ratio::paired(signals, &batches))
    }

    /// A single SUBMIT by ring to one by ioctl, until it is queued.
    pub fn queued(&self) -> Ratio {
        let [ioctl, ring] = &self.of;
        Ratio::paired(&ring.queued[0], &ioctl.queued[0])
    }

    /// A single job by ring to one by ioctl, until its end is known.
    pub fn single(&self) -> Ratio {
        let [ioctl, ring] = &self.of;
        Ratio::paired(&ring.single_rounds, &ioctl.single_rounds)
    }
}
