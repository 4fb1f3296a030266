// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bandwidth of the CPU in a guest object, against anonymous memory.
//!
//! Both are mapped, touched once, and then written and read by the same loop, in turns that are short
//! against what else may run on the machine. The claim is against anonymous memory as a program gets it, huge pages included where the kernel gives them;
//! the same without huge pages tells what they are worth.

use std::ops::Range;
use std::time::{Duration, Instant};

use libvaccel::{BoOptions, Mapping, VmFlags};

use super::machine::{faults, meminfo};
use super::statistics::{Ratio, Samples, Target};
use super::system::Anonymous;
use super::{bytes, Benchmark, Context, Findings, Unfinished};

/// The benchmark.
pub const BENCHMARK: Benchmark = Benchmark {
    name: "cpu-bandwidth",
    what: "The CPU in a guest object, against anonymous memory",
    run,
};

/// Size of each memory.
const SIZE: u64 = 64 << 20;
/// Bytes copied at a time: what the first caches hold beside the memory that is measured.
const CHUNK: usize = 16 << 10;
/// Bytes of each memory in one turn.
const STRETCH: usize = 4 << 20;
/// Rounds, each through all of the memories, after one that does not count.
const ROUNDS: u32 = 25;

/// One of the memories that are compared.
trait Memory {
    fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<(), Unfinished>;
    fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), Unfinished>;
}

impl Memory for Mapping {
    fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<(), Unfinished> {
        Ok(Self::read(self, offset, bytes)?)
    }

    fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), Unfinished> {
        Ok(Self::write(self, offset, bytes)?)
    }
}

impl Memory for Anonymous {
    fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<(), Unfinished> {
        Ok(Self::read(self, offset, bytes)?)
    }

    fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), Unfinished> {
        Ok(Self::write(self, offset, bytes)?)
    }
}

fn write_all(
    memory: &dyn Memory,
    place: Range<usize>,
    chunk: &[u8],
) -> Result<Duration, Unfinished> {
    let begin = Instant::now();
    for offset in place.step_by(CHUNK) {
        memory.write(offset, chunk)?;
    }
    Ok(begin.elapsed())
}

fn read_all(
    memory: &dyn Memory,
    place: Range<usize>,
    chunk: &mut [u8],
) -> Result<Duration, Unfinished> {
    let begin = Instant::now();
    for offset in place.step_by(CHUNK) {
        memory.read(offset, chunk)?;
    }
    Ok(begin.elapsed())
}

/// One round through all of the memories: how long each took, a stretch in turn, the first one
/// another each time.
fn round<const N: usize>(
    length: usize,
    mut pass: impl FnMut(usize, Range<usize>) -> Result<Duration, Unfinished>,
) -> Result<[Duration; N], Unfinished> {
    let mut times = [Duration::ZERO; N];
    for (number, start) in (0..length).step_by(STRETCH).enumerate() {
        let place = start..length.min(start + STRETCH);
        for turn in 0..N {
            let which = (number + turn) % N;
            times[which] += pass(which, place.clone())?;
        }
    }
    Ok(times)
}

fn run(context: &Context, findings: &mut Findings) -> Result<(), Unfinished> {
    let size = context.size.unwrap_or(SIZE).next_multiple_of(CHUNK as u64);
    let length = usize::try_from(size)
        .map_err(|_| Unfinished::NotHere(format!("{} do not fit", bytes(size))))?;
    let vm = context.device.create_vm(VmFlags::empty())?;
    let before = meminfo("ShmemHugePages");
    let bo = vm.create_bo(&BoOptions::new(size))?;
    let object_huge = meminfo("ShmemHugePages").saturating_sub(before);
    let object = bo.map()?;
    let ordinary = Anonymous::new(length, true)?;
    let small = Anonymous::new(length, false)?;
    let memories: [&dyn Memory; 3] = [&object, &ordinary, &small];
    let mut chunk = vec![0xa5; CHUNK];
    // Nothing is measured before each has been touched.
    let before = meminfo("AnonHugePages");
    let mut touches = Vec::new();
    for memory in memories {
        let before = faults();
        write_all(memory, 0..length, &chunk)?;
        touches.push(faults().saturating_sub(before));
        read_all(memory, 0..length, &mut chunk)?;
    }
    let anonymous_huge = meminfo("AnonHugePages").saturating_sub(before);

    let rounds = context.rounds(ROUNDS);
    let mut writes: [Samples; 3] = Default::default();
    let mut reads: [Samples; 3] = Default::default();
    for number in 1..=rounds {
        let times = round::<3>(length, |which, place| {
            write_all(memories[which], place, &chunk)
        })?;
        writes
            .iter_mut()
            .zip(times)
            .for_each(|(w, time)| w.time(time));
        let times = round::<3>(length, |which, place| {
            read_all(memories[which], place, &mut chunk)
        })?;
        reads
            .iter_mut()
            .zip(times)
            .for_each(|(r, time)| r.time(time));
        if number % 5 == 0 {
            context.progress(&format!("round {number} of {rounds}"));
        }
    }

    for (word, times) in [("write", &writes), ("read", &reads)] {
        let names = [
            "guest object",
            "anonymous memory",
            "anonymous memory, no huge pages",
        ];
        for (name, samples) in names.iter().zip(times) {
            let mut bandwidth = Samples::default();
            for seconds in samples.values() {
                bandwidth.push(size as f64 / seconds.max(1e-9));
            }
            findings.series(format!("{word}, {name}"), "B/s", &bandwidth);
        }
    }
    for (word, [object, ordinary, small]) in [("write", &writes), ("read", &reads)] {
        // Bandwidths have the inverse ratio of times.
        findings.claim(
            format!("{word} bandwidth, object / anonymous"),
            Ratio::paired(ordinary, object),
            Target::AtLeast(0.95),
        );
        findings.ratio(
            format!("{word} bandwidth, object / anonymous, no huge pages"),
            Ratio::paired(small, object),
        );
    }
    findings.note(format!(
        "of {} each, in huge pages: object {}, anonymous memory {}",
        bytes(size),
        bytes(object_huge),
        bytes(anonymous_huge)
    ));
    findings.note(format!(
        "page faults of the first touch (object, anonymous, without huge pages): {touches:?}"
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that a round goes through all of each memory once, in short turns, each first in its
    /// turn.
    #[test]
    fn turns() {
        let mut seen = Vec::new();
        let length = 2 * STRETCH + CHUNK;
        let times = round::<2>(length, |which, place| {
            seen.push((which, place.clone()));
            Ok(Duration::from_nanos(place.len() as u64))
        });
        let nanos = Duration::from_nanos(length as u64);
        assert_eq!(times.unwrap(), [nanos, nanos]);
        let order: Vec<usize> = seen.iter().map(|(which, _)| *which).collect();
        assert_eq!(order, [0, 1, 1, 0, 0, 1]);
        assert_eq!(seen[4].1, 2 * STRETCH..length);
    }
}
