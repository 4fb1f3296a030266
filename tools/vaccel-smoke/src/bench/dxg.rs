// SPDX-License-Identifier: MIT OR Apache-2.0
//! The benchmarks on `/dev/dxg`: the same operations, as far as that driver has them.
//!
//! What is compared with what is in the same words as for this driver, so that both reports can be
//! laid side by side. There are no targets.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use vaccel_isa::CommandStream;

use super::statistics::{Ratio, Samples};
use super::{bytes, Benchmark, Findings, Unfinished, PAGE};
use crate::dxg::call::Page;
use crate::dxg::objects::{Adapter, Allocation, Context, Device, Fence};
use crate::dxg::NODE;
use crate::failure::{Exit, Stop};
use crate::model::DeviceInfo;

/// A benchmark's form on this driver.
type Form = fn(&Rig, &mut Findings) -> Result<(), Unfinished>;

/// The benchmarks that have one.
const FORMS: &[(&str, Form)] = &[
    ("round-trip", round_trip),
    ("sync-latency", sync_latency),
    ("submission", submission),
    ("memory-1g", memory),
    ("object-cost", objects),
];

/// Calls before anything is measured.
const WARM_UP: u32 = 50;
/// Calls of one round.
const CALLS: u32 = 100;
/// Rounds.
const ROUNDS: u32 = 20;
/// Rounds that make and give up much memory.
const FEW_ROUNDS: u32 = 5;
/// Memory that is made ready at a time, unless another size is asked for.
const GIBIBYTE: u64 = 1 << 30;
/// Sizes of the objects that are made one by one.
const OBJECTS: [usize; 2] = [4 << 10, 64 << 10];
/// Jobs of a batch.
const SIZES: [u32; 5] = [1, 4, 16, 64, 256];

/// What the benchmarks work with.
#[derive(Debug)]
pub struct Rig {
    adapter: Arc<Adapter>,
    rounds: Option<u32>,
    size: Option<u64>,
}

impl Rig {
    /// The first adapter of the node.
    pub fn open(rounds: Option<u32>, size: Option<u64>) -> Result<Self, Stop> {
        let adapter = Adapter::open(NODE).map_err(|error| missing(&error))?;
        let none = || Stop::new(Exit::NoDevice, format!("{NODE} has no adapter"));
        Ok(Self {
            adapter: adapter.ok_or_else(none)?,
            rounds,
            size,
        })
    }

    /// What there is to say of the adapter.
    pub fn info(&self) -> DeviceInfo {
        DeviceInfo {
            node: NODE.into(),
            luid: Some(self.adapter.luid()),
            ..Default::default()
        }
    }

    /// Runs a benchmark's form.
    pub fn run(&self, benchmark: &Benchmark, findings: &mut Findings) -> Result<(), Unfinished> {
        match FORMS.iter().find(|(name, _)| *name == benchmark.name) {
            Some((_, form)) => form(self, findings),
            None => Err(Unfinished::NotHere(format!(
                "it has no form on {NODE}: objects there are the program's own memory"
            ))),
        }
    }

    fn rounds(&self, usual: u32) -> u32 {
        self.rounds.unwrap_or(usual)
    }
}

/// Why there is nothing to measure.
fn missing(error: &io::Error) -> Stop {
    let exit = match error.kind() {
        io::ErrorKind::NotFound => Exit::NoDevice,
        _ => Exit::Environment,
    };
    let mut stop = Stop::new(exit, format!("{NODE}: {error}"));
    stop.advice
        .push("the driver dxgkrnl makes it, on WSL2 and some Hyper-V guests".into());
    stop
}

/// Times calls.
fn timed(
    samples: &mut Samples,
    calls: u32,
    mut call: impl FnMut() -> io::Result<()>,
) -> io::Result<()> {
    for _ in 0..calls {
        let begin = Instant::now();
        call()?;
        samples.time(begin.elapsed());
    }
    Ok(())
}

fn round_trip(rig: &Rig, findings: &mut Findings) -> Result<(), Unfinished> {
    let (mut asked, mut known) = (Samples::default(), Samples::default());
    timed(&mut Samples::default(), WARM_UP, || {
        rig.adapter.query_memory()
    })?;
    for _ in 0..rig.rounds(ROUNDS) {
        timed(&mut asked, CALLS, || rig.adapter.query_memory())?;
        timed(&mut known, CALLS, || rig.adapter.count().map(drop))?;
    }
    findings.seconds("budget, which the host is asked for", &asked);
    findings.seconds("list of adapters, which the driver knows", &known);
    findings.ratio("with the host / without", Ratio::of_medians(&asked, &known));
    Ok(())
}

/// A context, and a fence that its jobs raise one by one.
struct Lane {
    context: Context,
    fence: Fence,
    /// An empty command buffer, where the engine is known to take one.
    code: Option<(Allocation, u32)>,
    last: u64,
}

impl Lane {
    fn new(adapter: &Arc<Adapter>, findings: &mut Findings) -> Result<Self, Unfinished> {
        let device = Device::new(adapter)?;
        let mut code = None;
        if adapter.is_open() {
            let stream = CommandStream::new()
                .finish()
                .map_err(|error| Unfinished::Failed(error.to_string()))?;
            let mut memory = pages(1);
            let room = memory[0].0.get_mut(..stream.len());
            room.ok_or_else(|| Unfinished::Failed("an empty stream has a page".into()))?
                .copy_from_slice(&stream);
            code = Some((Allocation::new(&device, memory)?, stream.len() as u32));
        } else {
            findings.note("a job is a signal alone: the engine's command buffers are not known");
        }
        Ok(Self {
            context: Context::new(&device)?,
            fence: Fence::new(&device)?,
            code,
            last: 0,
        })
    }

    fn submit(&mut self) -> io::Result<()> {
        self.last += 1;
        if let Some((code, size)) = &self.code {
            self.context.submit(code, *size)?;
        }
        self.context.signal(&self.fence, self.last)
    }

    fn finish(&self) -> io::Result<()> {
        self.fence.wait(self.last)
    }
}

fn sync_latency(rig: &Rig, findings: &mut Findings) -> Result<(), Unfinished> {
    let mut lane = Lane::new(&rig.adapter, findings)?;
    let mut trip = Samples::default();
    let (mut job, mut submitted) = (Samples::default(), Samples::default());
    let (mut signal, mut reached) = (Samples::default(), Samples::default());
    for _ in 0..rig.rounds(ROUNDS) * CALLS {
        timed(&mut trip, 1, || rig.adapter.query_memory())?;
        let begin = Instant::now();
        timed(&mut submitted, 1, || lane.submit())?;
        lane.finish()?;
        job.time(begin.elapsed());
        timed(&mut reached, 1, || lane.finish())?;
        timed(&mut signal, 1, || {
            lane.last += 1;
            lane.fence.signal(lane.last)
        })?;
    }
    findings.seconds("round trip to the host", &trip);
    for (name, samples) in [
        ("empty job, until the wait is back", &job),
        ("empty job, its submission alone", &submitted),
        ("wait for a value that is reached", &reached),
        ("signal from the CPU", &signal),
    ] {
        findings.seconds(name, samples);
        let ratio = Ratio::paired(samples, &trip);
        findings.ratio(format!("{name}, in round trips"), ratio);
    }
    Ok(())
}

fn submission(rig: &Rig, findings: &mut Findings) -> Result<(), Unfinished> {
    let mut lane = Lane::new(&rig.adapter, findings)?;
    let mut rates: [Samples; SIZES.len()] = Default::default();
    for _ in 0..rig.rounds(ROUNDS) {
        for (size, rates) in SIZES.iter().zip(&mut rates) {
            let begin = Instant::now();
            for _ in 0..*size {
                lane.submit()?;
            }
            lane.finish()?;
            rates.push(f64::from(*size) / begin.elapsed().as_secs_f64().max(1e-9));
        }
    }
    for (size, rates) in SIZES.iter().zip(&rates) {
        let name = format!("jobs, 1 thread, batches of {size}, by ioctl");
        findings.series(name, "jobs/s", rates);
    }
    findings.note("this driver has no ring commands: by ioctl only");
    Ok(())
}

/// Zeroed memory.
fn pages(count: usize) -> Vec<Page> {
    vec![Page([0; PAGE]); count]
}

fn memory(rig: &Rig, findings: &mut Findings) -> Result<(), Unfinished> {
    let device = Device::new(&rig.adapter)?;
    let size = rig.size.unwrap_or(GIBIBYTE);
    let count = usize::try_from(size).unwrap_or(usize::MAX) / PAGE;
    let (mut there, mut back) = (Samples::default(), Samples::default());
    for _ in 0..rig.rounds(FEW_ROUNDS) {
        let begin = Instant::now();
        let allocation = Allocation::new(&device, pages(count.max(1)))?;
        there.time(begin.elapsed());
        timed_drop(&mut back, allocation);
    }
    findings.seconds(format!("{} there, from nothing", bytes(size)), &there);
    findings.seconds(format!("{} given back", bytes(size)), &back);
    Ok(())
}

fn timed_drop(samples: &mut Samples, allocation: Allocation) {
    let begin = Instant::now();
    drop(allocation);
    samples.time(begin.elapsed());
}

fn objects(rig: &Rig, findings: &mut Findings) -> Result<(), Unfinished> {
    let device = Device::new(&rig.adapter)?;
    for size in OBJECTS {
        let (mut made, mut gone) = (Samples::default(), Samples::default());
        for _ in 0..rig.rounds(ROUNDS) * CALLS {
            let memory = pages(size / PAGE);
            let begin = Instant::now();
            let allocation = Allocation::new(&device, memory)?;
            made.time(begin.elapsed());
            timed_drop(&mut gone, allocation);
        }
        let name = bytes(size as u64);
        findings.seconds(format!("{name}, made, resident and with addresses"), &made);
        findings.seconds(format!("{name}, given up"), &gone);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that every form is one of a benchmark that there is.
    #[test]
    fn forms_have_benchmarks() {
        for (name, _) in FORMS {
            assert!(super::super::ALL.iter().any(|b| b.name == *name), "{name}");
        }
    }

    /// Proves that a machine without the node is no failure, and one where it does not open is.
    #[test]
    fn without_a_node() {
        let stop = missing(&io::Error::from(io::ErrorKind::NotFound));
        assert_eq!(stop.exit, Exit::NoDevice);
        assert!(stop.message.starts_with("/dev/dxg: "));
        let stop = missing(&io::Error::from(io::ErrorKind::PermissionDenied));
        assert_eq!(stop.exit, Exit::Environment);
    }
}
