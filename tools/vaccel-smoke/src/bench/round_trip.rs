// SPDX-License-Identifier: MIT OR Apache-2.0
//! The floor: one question to the host and its answer.
//!
//! A query of the memory budget is the smallest message that the host answers without doing
//! anything; nothing that needs the host is cheaper. A parameter is answered by the driver alone.

use std::time::Instant;

use libvaccel::{sys, Device, Segment};

use super::statistics::{Ratio, Samples};
use super::{Benchmark, Context, Findings, Unfinished};

/// The benchmark.
pub const BENCHMARK: Benchmark = Benchmark {
    name: "round-trip",
    what: "One question to the host and its answer",
    run,
};

/// Calls before anything is measured.
const WARM_UP: u32 = 50;
/// Calls that give a median for comparison.
pub const SHORT: u32 = 300;
/// Calls in one round.
const CALLS: u32 = 100;
/// Rounds.
const ROUNDS: u32 = 30;

/// Times `count` questions to the host, after some that do not count.
pub fn measure(device: &Device, segment: Segment, count: u32) -> libvaccel::Result<Samples> {
    for _ in 0..WARM_UP {
        device.budget(segment)?;
    }
    let mut samples = Samples::default();
    for _ in 0..count {
        let begin = Instant::now();
        device.budget(segment)?;
        samples.time(begin.elapsed());
    }
    Ok(samples)
}

fn run(context: &Context, findings: &mut Findings) -> Result<(), Unfinished> {
    let (mut asked, mut known) = (Samples::default(), Samples::default());
    measure(&context.device, Segment::NonLocal, 0)?;
    for _ in 0..context.rounds(ROUNDS) {
        for _ in 0..CALLS {
            let begin = Instant::now();
            context.device.budget(Segment::NonLocal)?;
            asked.time(begin.elapsed());
        }
        for _ in 0..CALLS {
            let begin = Instant::now();
            context.device.param(sys::PARAM_FEATURES)?;
            known.time(begin.elapsed());
        }
    }
    findings.seconds("budget, which the host is asked for", &asked);
    findings.seconds("parameter, which the driver knows", &known);
    findings.ratio("with the host / without", Ratio::of_medians(&asked, &known));
    Ok(())
}
