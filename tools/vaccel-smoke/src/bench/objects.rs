// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether many objects make each of them dearer.
//!
//! More and more small objects are made, bound and kept. At 100 of them and each tenfold, further
//! objects are made, bound and destroyed one at a time, and timed. The same is done on the way back,
//! and both ways count: a machine that gets slower or faster meanwhile cancels out.

use std::time::{Duration, Instant};

use libvaccel::{BindFlags, Binding, Bo, BoOptions, Segment, Vm, VmFlags};

use super::machine::meminfo;
use super::statistics::{Ratio, Samples, Target};
use super::{bytes, round_trip, Benchmark, Context, Findings, Unfinished};

/// The benchmark.
pub const BENCHMARK: Benchmark = Benchmark {
    name: "object-cost",
    what: "One small object made, bound and destroyed, beside many others",
    run,
};

/// Size of the objects that are kept.
const KEPT: u64 = 4 << 10;
/// Sizes of the objects that are timed.
const SIZES: [u64; 2] = [4 << 10, 64 << 10];
/// The smallest number of others.
const FEWEST: usize = 100;
/// Memory that an object with its records in the kernel takes, amply.
const FOOTPRINT: u64 = 16 << 10;
/// Objects that are timed at each level and size, each way, after a few that do not count.
const ROUNDS: u32 = 60;
/// Those few.
const WARM_UP: u32 = 5;
/// Objects that are made or destroyed between two readings of the clock.
const BATCH: usize = 100;
/// Questions to the host that are timed at each level, each way.
const TRIPS: u32 = 100;
/// Pause between two signs of life.
const SIGN: Duration = Duration::from_secs(10);

/// Parts of an object's life.
const PARTS: [&str; 4] = ["create", "bind", "unbind", "close"];

/// Times of one size at one level.
#[derive(Clone, Debug, Default)]
struct Probe {
    parts: [Samples; PARTS.len()],
    total: Samples,
}

impl Probe {
    fn measure(&mut self, vm: &Vm, size: u64, count: u32) -> Result<(), Unfinished> {
        let options = BoOptions::new(size);
        for round in 0..WARM_UP + count {
            let begin = Instant::now();
            let bo = vm.create_bo(&options)?;
            let created = Instant::now();
            let binding = bo.bind(BindFlags::WRITE)?;
            let bound = Instant::now();
            binding.close()?;
            let unbound = Instant::now();
            bo.close()?;
            let closed = Instant::now();
            if round < WARM_UP {
                continue;
            }
            let times = [
                created - begin,
                bound - created,
                unbound - bound,
                closed - unbound,
            ];
            for (part, time) in self.parts.iter_mut().zip(times) {
                part.time(time);
            }
            self.total.time(closed - begin);
        }
        Ok(())
    }
}

/// A number of other objects, and what others cost meanwhile.
#[derive(Clone, Debug, Default)]
struct Level {
    others: usize,
    probes: [Probe; SIZES.len()],
    /// One question to the host, which others should not make dearer either.
    trips: Samples,
    /// Seconds for each object on the way from the level below, and back there.
    build: Samples,
    tear: Samples,
}

impl Level {
    fn measure(&mut self, context: &Context, vm: &Vm) -> Result<(), Unfinished> {
        let trips = round_trip::measure(&context.device, Segment::NonLocal, TRIPS)?;
        trips
            .values()
            .iter()
            .for_each(|trip| self.trips.push(*trip));
        let mut medians = Vec::new();
        for (size, probe) in SIZES.iter().zip(&mut self.probes) {
            probe.measure(vm, *size, context.rounds(ROUNDS))?;
            let median = probe.total.median() * 1e3;
            medians.push(format!("{} {median:.2} ms", bytes(*size)));
        }
        context.progress(&format!(
            "beside {} others: {}",
            self.others,
            medians.join(", ")
        ));
        Ok(())
    }
}

/// The levels up to `most` others: 100 and each tenfold.
fn levels(most: usize) -> Vec<usize> {
    std::iter::successors(Some(FEWEST), |others| others.checked_mul(10))
        .take_while(|others| *others <= most)
        .collect()
}

/// Objects that are kept.
#[derive(Debug, Default)]
struct Crowd {
    members: Vec<(Bo, Binding)>,
    said: Option<Instant>,
}

impl Crowd {
    /// Says now and then how many there are.
    fn sign(&mut self, context: &Context) {
        let said = *self.said.get_or_insert_with(Instant::now);
        if said.elapsed() >= SIGN {
            self.said = Some(Instant::now());
            context.progress(&format!("{} objects", self.members.len()));
        }
    }

    fn grow(&mut self, context: &Context, vm: &Vm, level: &mut Level) -> Result<(), Unfinished> {
        let options = BoOptions::new(KEPT);
        while self.members.len() < level.others {
            let count = BATCH.min(level.others - self.members.len());
            let begin = Instant::now();
            for _ in 0..count {
                let bo = vm.create_bo(&options)?;
                let binding = bo.bind(BindFlags::WRITE)?;
                self.members.push((bo, binding));
            }
            level
                .build
                .push(begin.elapsed().as_secs_f64() / count as f64);
            self.sign(context);
        }
        Ok(())
    }

    fn shrink(
        &mut self,
        context: &Context,
        level: &mut Level,
        left: usize,
    ) -> Result<(), Unfinished> {
        while self.members.len() > left {
            let count = BATCH.min(self.members.len() - left);
            let begin = Instant::now();
            for (bo, binding) in self.members.drain(self.members.len() - count..) {
                binding.close()?;
                bo.close()?;
            }
            level
                .tear
                .push(begin.elapsed().as_secs_f64() / count as f64);
            self.sign(context);
        }
        Ok(())
    }
}

fn run(context: &Context, findings: &mut Findings) -> Result<(), Unfinished> {
    let room = usize::try_from(meminfo("MemAvailable") / FOOTPRINT).unwrap_or(usize::MAX);
    let levels = levels(context.objects.min(room));
    let Some(most) = levels.last().copied() else {
        return Err(Unfinished::NotHere(format!(
            "there is room for fewer than {FEWEST} objects"
        )));
    };
    if room < context.objects {
        findings.note(format!(
            "{most} objects instead of {}: the memory available is enough for {room}",
            context.objects
        ));
    }
    let vm = context.device.create_vm(VmFlags::empty())?;
    let mut levels: Vec<Level> = levels
        .into_iter()
        .map(|others| Level {
            others,
            ..Level::default()
        })
        .collect();
    let mut crowd = Crowd::default();
    for level in &mut levels {
        crowd.grow(context, &vm, level)?;
        level.measure(context, &vm)?;
    }
    let below: Vec<usize> = std::iter::once(0)
        .chain(levels.iter().map(|level| level.others))
        .collect();
    for (level, left) in levels.iter_mut().zip(below).rev() {
        level.measure(context, &vm)?;
        crowd.shrink(context, level, left)?;
    }
    vm.close()?;
    report(findings, &levels);
    Ok(())
}

fn report(findings: &mut Findings, levels: &[Level]) {
    let (Some(first), Some(last)) = (levels.first(), levels.last()) else {
        return;
    };
    for level in levels {
        for (size, probe) in SIZES.iter().zip(&level.probes) {
            let beside = format!("{} beside {}", bytes(*size), level.others);
            findings.seconds(format!("{beside}: all"), &probe.total);
            for (part, samples) in PARTS.iter().zip(&probe.parts) {
                findings.seconds(format!("{beside}: {part}"), samples);
            }
        }
        findings.seconds(
            format!("round trip to the host beside {}", level.others),
            &level.trips,
        );
        let kept = format!("{} each, up to {}", bytes(KEPT), level.others);
        findings.seconds(format!("build-up, {kept}"), &level.build);
        findings.seconds(format!("tear-down, {kept}"), &level.tear);
    }
    for level in levels.iter().skip(1) {
        let pairs = level.probes.iter().zip(&first.probes);
        for (size, (probe, few)) in SIZES.iter().zip(pairs) {
            let ratio = Ratio::of_medians(&probe.total, &few.total);
            let name = format!(
                "{}, beside {} / beside {}",
                bytes(*size),
                level.others,
                first.others
            );
            if level.others == last.others {
                findings.claim(name, ratio, Target::AtMost(1.3));
            } else {
                findings.ratio(name, ratio);
            }
        }
    }
    for (what, many, few) in [
        ("round trip, beside", &last.trips, &first.trips),
        ("build-up, to", &last.build, &first.build),
        ("tear-down, from", &last.tear, &first.tear),
    ] {
        let name = format!("{what} {} / {}", last.others, first.others);
        findings.ratio(name, Ratio::of_medians(many, few));
    }
    let [small, large] = &first.probes;
    let mut parts = vec![
        ("4 KiB object, all", &small.total),
        ("64 KiB object, all", &large.total),
    ];
    parts.extend(PARTS.iter().copied().zip(&small.parts));
    for (part, samples) in parts {
        let ratio = Ratio::of_medians(samples, &first.trips);
        findings.ratio(format!("{part}, in round trips"), ratio);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves which levels are measured for how many objects.
    #[test]
    fn levels_end_at_the_limit() {
        assert_eq!(levels(100_000), [100, 1000, 10_000, 100_000]);
        assert_eq!(levels(99_999), [100, 1000, 10_000]);
        assert_eq!(levels(99), [0; 0]);
    }
}
