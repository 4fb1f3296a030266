// SPDX-License-Identifier: MIT OR Apache-2.0
//! Jobs a second: batches that are submitted and waited for, by one thread or several.

use std::fs::File;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use super::super::statistics::{Ratio, Samples};
use super::super::{Findings, Unfinished};
use super::door::Way;
use super::lane::Lane;

/// Jobs of a batch.
pub const SIZES: [u32; 5] = [1, 4, 16, 64, 256];
/// Threads, each with a queue of its own.
pub const THREADS: usize = 4;
/// Jobs of a turn of one thread, if a batch has no more; several threads share them.
const JOBS: u32 = 256;
/// Most batches of a turn.
const BATCHES: u32 = 16;
/// Jobs of the batch that does not count.
const WARM_UP: u32 = 16;

/// When a thread measured.
struct Span {
    begin: Instant,
    end: Instant,
}

/// What all threads of a turn do.
#[derive(Clone, Copy)]
struct Work<'a> {
    file: &'a File,
    way: Way,
    size: u32,
    batches: u32,
    start: &'a Barrier,
}

impl Work<'_> {
    /// Batch after batch, each until its last job is done.
    fn on(self, lane: &mut Lane) -> Result<Span, Unfinished> {
        let ready = self.way.open(self.file).and_then(|mut door| {
            lane.submit(&mut door, self.size.min(WARM_UP))?;
            lane.finish()?;
            Ok(door)
        });
        // Also a thread that failed lets the others begin.
        self.start.wait();
        let mut door = ready?;
        let begin = Instant::now();
        for _ in 0..self.batches {
            lane.submit(&mut door, self.size)?;
            lane.finish()?;
        }
        let end = Instant::now();
        Ok(Span { begin, end })
    }
}

/// Jobs a second of all lanes together, each with a thread.
fn turn(file: &File, lanes: &mut [Lane], way: Way, size: u32) -> Result<f64, Unfinished> {
    let start = Barrier::new(lanes.len());
    let share = JOBS / u32::try_from(lanes.len()).unwrap_or(JOBS);
    let work = Work {
        file,
        way,
        size,
        batches: (share / size).clamp(1, BATCHES),
        start: &start,
    };
    let jobs = lanes.len() as f64 * f64::from(size * work.batches);
    let spans = thread::scope(|scope| {
        let threads: Vec<_> = lanes
            .iter_mut()
            .map(|lane| scope.spawn(move || work.on(lane)))
            .collect();
        let join = |thread: thread::ScopedJoinHandle<'_, _>| {
            let panicked = |_| Err(Unfinished::Failed("a thread panicked".into()));
            thread.join().unwrap_or_else(panicked)
        };
        // All are waited for, also behind one that failed.
        let ended: Vec<_> = threads.into_iter().map(join).collect();
        ended.into_iter().collect::<Result<Vec<Span>, _>>()
    })?;
    let begin = spans.iter().map(|span| span.begin).min();
    let end = spans.iter().map(|span| span.end).max();
    let time = match (begin, end) {
        (Some(begin), Some(end)) => (end - begin).as_secs_f64(),
        _ => 0.0,
    };
    Ok(jobs / time.max(1e-9))
}

/// Rates of both ways, for threads and sizes of batches.
#[derive(Debug, Default)]
pub struct Rates {
    /// By thread count less one, size and way.
    samples: [[[Samples; 2]; SIZES.len()]; THREADS],
}

impl Rates {
    /// Measures each once, the ways in the order given.
    pub fn round(
        &mut self,
        file: &File,
        lanes: &mut [Lane],
        ways: &[Way],
    ) -> Result<(), Unfinished> {
        for (threads, of_threads) in self.samples.iter_mut().enumerate() {
            for (size, of_size) in SIZES.iter().zip(of_threads) {
                for way in ways {
                    let rate = turn(file, &mut lanes[..=threads], *way, *size)?;
                    of_size[*way as usize].push(rate);
                }
            }
        }
        Ok(())
    }

    /// How many times as many jobs a second the ring does as the ioctl, from one thread.
    pub fn ratio(&self, size: usize) -> Ratio {
        let [ioctl, ring] = &self.samples[0][size];
        Ratio::paired(ring, ioctl)
    }

    /// Adds all that was measured, and the ratios of several threads.
    pub fn report(&self, findings: &mut Findings, ways: &[Way]) {
        for (threads, of_threads) in (1..).zip(&self.samples) {
            for (size, of_size) in SIZES.iter().zip(of_threads) {
                for way in ways {
                    findings.series(
                        name(threads, *size, *way),
                        "jobs/s",
                        &of_size[*way as usize],
                    );
                }
                let [ioctl, ring] = of_size;
                if threads > 1 && ways.len() > 1 {
                    let what = format!("rate, {threads} threads, batches of {size}, ring / ioctl");
                    findings.ratio(what, Ratio::paired(ring, ioctl));
                }
            }
        }
    }
}

/// Name of a series, by which others find it.
fn name(threads: usize, size: u32, way: Way) -> String {
    let plural = if threads == 1 { "" } else { "s" };
    format!(
        "jobs, {threads} thread{plural}, batches of {size}, by {}",
        way.name()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves the names of the series that the count of instructions is made of.
    #[test]
    fn names() {
        assert_eq!(
            name(1, 64, Way::Ring),
            "jobs, 1 thread, batches of 64, by ring"
        );
        assert_eq!(
            name(2, 1, Way::Ioctl),
            "jobs, 2 threads, batches of 1, by ioctl"
        );
    }
}
