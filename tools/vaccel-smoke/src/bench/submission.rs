// SPDX-License-Identifier: MIT OR Apache-2.0
//! Empty jobs by ioctl and by io_uring: how many a second, how soon, and how often the host is told.
//!
//! A job is a SUBMIT of one empty command buffer and a fence that is set behind it. By ioctl each is
//! a call; by ring a batch is one call, whatever its size. What one way gains is the ratio of both in
//! the same run, taken in turns.

mod door;
mod lane;
mod rates;
mod share;
mod steps;
mod waits;

use std::fs::File;
use std::os::fd::OwnedFd;

use libvaccel::{Device, Features, HostCaps, VmFlags};

use super::statistics::{Ratio, Target};
use super::{Benchmark, Context, Findings, Unfinished};
use door::Way;
use lane::Lane;
use rates::{Rates, SIZES, THREADS};
use share::Share;
use steps::Steps;
use waits::Waits;

/// The benchmark.
pub const BENCHMARK: Benchmark = Benchmark {
    name: "submission",
    what: "Empty jobs by ioctl and by ring, alone and in batches",
    run,
};

/// Rounds.
const ROUNDS: u32 = 20;
/// Rounds where the host answers every message, which takes long and has no targets.
const ANSWERED_ROUNDS: u32 = 3;
/// Place of the batch with targets among [`SIZES`].
const CLAIMED: usize = 3;
const _: () = assert!(SIZES[CLAIMED] == 64);
/// How many times the ioctl's rate the ring's has to be then.
const RATE: f64 = 4.0;
/// Signals to the host of such a batch.
const SIGNALS: f64 = 1.0;
/// What a single job may cost by ring, in that by ioctl: no more, but for what a median of rounds
/// moves from run to run.
const SINGLE: f64 = 1.05;
/// What the 99th percentile of a wait by ring may be, in that by ioctl.
const TAIL: f64 = 1.2;

/// Everything that is measured.
#[derive(Debug, Default)]
struct Measured {
    rates: Rates,
    steps: Steps,
    waits: Waits,
}

/// The ways there are, and why not both.
fn ways(device: &Device, file: &File) -> Result<(Vec<Way>, Option<String>), Unfinished> {
    if !device.features()?.contains(Features::URING) {
        return Ok((
            vec![Way::Ioctl],
            Some("the driver has no ring commands".into()),
        ));
    }
    Ok(match Way::Ring.open(file) {
        Ok(_) => (vec![Way::Ioctl, Way::Ring], None),
        Err(Unfinished::Failed(why) | Unfinished::NotHere(why)) => {
            (vec![Way::Ioctl], Some(format!("no io_uring here: {why}")))
        }
    })
}

fn run(context: &Context, findings: &mut Findings) -> Result<(), Unfinished> {
    let path = context.device.path();
    let file = File::options().read(true).write(true).open(path)?;
    let device = Device::from_fd(OwnedFd::from(file.try_clone()?), path);
    let (mut ways, missing) = ways(&device, &file)?;
    let vm = device.create_vm(VmFlags::empty())?;
    let lanes: Result<Vec<_>, _> = (0..THREADS).map(|_| Lane::new(&device, &vm)).collect();
    let mut lanes = lanes?;
    let mut measured = Measured::default();
    let mut share = context.host_share.then(Share::open).transpose()?;
    let caps = context.device.info()?.host_caps.unwrap_or_default();
    let asynchronous = caps.contains(HostCaps::ASYNC);
    let usual = if asynchronous {
        ROUNDS
    } else {
        ANSWERED_ROUNDS
    };
    let rounds = context.rounds(usual);
    for _ in 0..rounds {
        measured.rates.round(&file, &mut lanes, &ways)?;
        measured.steps.round(&file, &mut lanes[0], &ways)?;
        if let Some(share) = &mut share {
            share.round(&file, &mut lanes[0], &ways)?;
        }
        ways.reverse();
    }
    context.progress("waits");
    measured.waits.measure(&file, &vm, &ways, rounds)?;
    ways.sort_by_key(|way| *way as usize);
    report(findings, &measured, &ways, asynchronous);
    if let Some(share) = share {
        share.report(findings, &ways);
    }
    if let Some(missing) = missing {
        findings.note(format!("{missing}: by ioctl only"));
    }
    Ok(())
}

fn report(findings: &mut Findings, measured: &Measured, ways: &[Way], asynchronous: bool) {
    let Measured {
        rates,
        steps,
        waits,
    } = measured;
    rates.report(findings, ways);
    steps.report(findings, ways);
    let tails = waits.report(findings, ways);
    if ways.len() == 1 {
        return;
    }
    let mut tell = |name: String, ratio: Ratio, target: Option<Target>| match target {
        Some(target) if asynchronous => findings.claim(name, ratio, target),
        _ => findings.ratio(name, ratio),
    };
    for (place, size) in SIZES.iter().enumerate() {
        let target = (place == CLAIMED).then_some(Target::AtLeast(RATE));
        let name = format!("rate, 1 thread, batches of {size}, ring / ioctl");
        tell(name, rates.ratio(place), target);
        if let Some(signals) = steps.signals(place) {
            let target = (place == CLAIMED).then_some(Target::AtMost(SIGNALS));
            tell(
                format!("signals of a batch of {size}, by ring"),
                signals,
                target,
            );
        }
    }
    let single = Some(Target::AtMost(SINGLE));
    let name = "one job until its end is known, ring / ioctl";
    tell(name.into(), steps.single(), single);
    tell(
        "one SUBMIT until it is queued, ring / ioctl".into(),
        steps.queued(),
        None,
    );
    let name = "wait, 99th percentile, ring / ioctl";
    tell(name.into(), tails, Some(Target::AtMost(TAIL)));
    tell("wait, median, ring / ioctl".into(), waits.medians(), None);
    findings.note(if asynchronous {
        "the host takes submissions without answering them"
    } else {
        "the host answers every message of a submission: no targets"
    });
}
