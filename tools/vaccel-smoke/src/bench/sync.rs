// SPDX-License-Identifier: MIT OR Apache-2.0
//! What it takes to run an empty job and to learn that it is done.
//!
//! A job that nobody has to compute leaves what synchronisation costs: the messages of the
//! submission, the host's work on them, and the news that the fence is reached. The floor is one
//! question to the host and its answer on the same channel. All sides take turns call by call, and a
//! round's median of each is compared, so that what else happens on the machine meets all of them.

use std::time::{Duration, Instant};

use libvaccel::compute::{Buffer, Session};
use libvaccel::{
    sys, Fence, FenceFlags, HostCaps, QueueMode, Segment, Submission, SyncObj, SyncObjWait,
};
use vaccel_isa::CommandStream;

use super::statistics::{Ratio, Samples, Target};
use super::{Benchmark, Context, Findings, Unfinished};

/// The benchmark.
pub const BENCHMARK: Benchmark = Benchmark {
    name: "sync-latency",
    what: "An empty job, from its submission until its end is known",
    run,
};

/// Turns that do not count.
const WARM_UP: u32 = 20;
/// Turns of a round.
const TURNS: u32 = 15;
/// Rounds.
const ROUNDS: u32 = 60;
/// What the host may still do when a call is back.
const SETTLE: Duration = Duration::from_millis(1);
/// How often a side is repeated; the last time counts.
const REPEATS: u32 = 3;
/// What an empty job may take until its end is known, in round trips, if the host has asynchronous
/// messages.
const LIMIT: f64 = 1.5;

/// What is timed, in the order of [`Rig::turn`].
const SIDES: [&str; 9] = [
    "round trip to the host",
    "empty job, until FENCE_WAIT is back",
    "empty job, its SUBMIT alone",
    "empty job, until its value is in the page",
    "empty job with a syncobj, until that is waited for",
    "wait for a value that is reached",
    "export of a value that is reached",
    "parameter, which the driver knows",
    "empty command buffer without a signal, its SUBMIT alone",
];
const TRIP: usize = 0;
/// The sides with the target: the end of a job told by the driver, and seen in the page.
const CLAIMED: [usize; 2] = [1, 3];

/// One time for each side.
type Times = [Duration; SIDES.len()];

/// What the sides work with.
struct Rig<'a> {
    context: &'a Context,
    session: Session,
    code: Buffer,
    fence: Fence,
    out: SyncObj,
    exported: SyncObj,
    /// The last value of the fence, and the last point of both syncobjs.
    last: u64,
}

/// Lets the host finish what it still does of the last call when that is back, so that it is not
/// charged to the next.
fn settle() {
    std::thread::sleep(SETTLE);
}

/// What a call gives that was done before in the same way: what it needs is in the caches then, for
/// all sides alike.
fn warm<T>(mut call: impl FnMut() -> Result<T, Unfinished>) -> Result<T, Unfinished> {
    for _ in 1..REPEATS {
        settle();
        call()?;
    }
    settle();
    call()
}

/// How long a call takes.
fn timed<T>(call: impl FnOnce() -> Result<T, Unfinished>) -> Result<Duration, Unfinished> {
    let begin = Instant::now();
    call()?;
    Ok(begin.elapsed())
}

impl<'a> Rig<'a> {
    fn new(context: &'a Context) -> Result<Self, Unfinished> {
        let session = Session::with_mode(&context.device, QueueMode::Bounded)?;
        let bytes = CommandStream::new()
            .finish()
            .map_err(|error| Unfinished::Failed(error.to_string()))?;
        let code = session.code_buffer(bytes.len() as u64)?;
        code.mapping().write(0, &bytes)?;
        Ok(Self {
            fence: session.vm().create_fence(FenceFlags::empty(), 0)?,
            out: context.device.create_syncobj(false)?,
            exported: context.device.create_syncobj(false)?,
            context,
            session,
            code,
            last: 0,
        })
    }

    /// An empty job that raises the fence by one.
    fn job(&mut self) -> Submission {
        self.last += 1;
        Submission::new()
            .exec(self.code.gpu_va(), self.code.len() as u32)
            .signal(&self.fence, self.last)
    }

    fn submit(&self, work: &Submission) -> Result<(), Unfinished> {
        self.session.queue().submit(work)?;
        Ok(())
    }

    fn wait(&self) -> Result<(), Unfinished> {
        self.fence.wait(self.last, self.context.deadline())?;
        Ok(())
    }

    /// A job whose end is waited for by the driver; its whole time, and that of its submission.
    fn waited(&mut self) -> Result<(Duration, Duration), Unfinished> {
        let work = self.job();
        let mut submitted = Duration::ZERO;
        let whole = timed(|| {
            submitted = timed(|| self.submit(&work))?;
            self.wait()
        })?;
        Ok((whole, submitted))
    }

    /// One message of a submission: what the second one adds is the difference to a job's.
    fn unsignalled(&self) -> Result<Duration, Unfinished> {
        let work = Submission::new().exec(self.code.gpu_va(), self.code.len() as u32);
        timed(|| self.submit(&work))
    }

    /// A job whose end the program sees by itself.
    fn polled(&mut self) -> Result<Duration, Unfinished> {
        let work = self.job();
        let end = Instant::now() + Duration::from_secs(super::WAIT_SECS);
        timed(|| {
            self.submit(&work)?;
            while self.fence.value()? < self.last {
                if Instant::now() > end {
                    return Err(Unfinished::Failed("the job does not end".into()));
                }
            }
            Ok(())
        })
    }

    /// A job whose end a fence of the kernel stands for.
    fn with_syncobj(&mut self) -> Result<Duration, Unfinished> {
        let work = self.job().out_syncobj(&self.out, self.last);
        let flags = SyncObjWait::empty();
        timed(|| {
            self.submit(&work)?;
            Ok(self.out.wait(self.last, self.context.deadline(), flags)?)
        })
    }

    /// Each side once.
    fn turn(&mut self) -> Result<Times, Unfinished> {
        let trip = warm(|| timed(|| Ok(self.context.device.budget(Segment::NonLocal)?)))?;
        let (job, submission) = warm(|| self.waited())?;
        let polled = warm(|| self.polled())?;
        let with_syncobj = warm(|| self.with_syncobj())?;
        let unsignalled = warm(|| self.unsignalled())?;
        let device = &self.context.device;
        settle();
        let reached = timed(|| self.wait())?;
        let export = timed(|| Ok(self.fence.export_to(&self.exported, self.last, self.last)?))?;
        let known = timed(|| Ok(device.param(sys::PARAM_FEATURES)?))?;
        Ok([
            trip,
            job,
            submission,
            polled,
            with_syncobj,
            reached,
            export,
            known,
            unsignalled,
        ])
    }
}

/// Times of all sides.
#[derive(Default)]
struct Measured {
    all: [Samples; SIDES.len()],
    /// The median of each round.
    rounds: [Samples; SIDES.len()],
}

impl Measured {
    fn round(&mut self, rig: &mut Rig<'_>) -> Result<(), Unfinished> {
        let mut round: [Samples; SIDES.len()] = Default::default();
        for _ in 0..TURNS {
            for (side, time) in rig.turn()?.into_iter().enumerate() {
                round[side].time(time);
                self.all[side].time(time);
            }
        }
        for (rounds, round) in self.rounds.iter_mut().zip(&round) {
            rounds.push(round.median());
        }
        Ok(())
    }
}

fn run(context: &Context, findings: &mut Findings) -> Result<(), Unfinished> {
    let caps = context.device.info()?.host_caps.unwrap_or_default();
    let asynchronous = caps.contains(HostCaps::ASYNC);
    let mut rig = Rig::new(context)?;
    for _ in 0..WARM_UP {
        rig.turn()?;
    }
    let mut measured = Measured::default();
    for _ in 0..context.rounds(ROUNDS) {
        measured.round(&mut rig)?;
    }
    report(findings, &measured, asynchronous);
    Ok(())
}

fn report(findings: &mut Findings, measured: &Measured, asynchronous: bool) {
    for (name, samples) in SIDES.iter().zip(&measured.all) {
        findings.seconds(*name, samples);
    }
    for (side, name) in SIDES.iter().enumerate().skip(1) {
        let ratio = Ratio::paired(&measured.rounds[side], &measured.rounds[TRIP]);
        let name = format!("{name}, in round trips");
        if CLAIMED.contains(&side) && asynchronous {
            findings.claim(name, ratio, Target::AtMost(LIMIT));
        } else {
            findings.ratio(name, ratio);
        }
    }
    findings.note(if asynchronous {
        "the host takes submissions without answering them"
    } else {
        "the host answers every message of a submission: no target"
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that the target is one of hosts with asynchronous messages only, and for the sides that
    /// end with the job.
    #[test]
    fn target() {
        for asynchronous in [true, false] {
            let mut findings = Findings::default();
            let mut measured = Measured::default();
            for (side, samples) in measured.rounds.iter_mut().enumerate() {
                samples.push(1.0 + side as f64);
            }
            report(&mut findings, &measured, asynchronous);
            let met: Vec<_> = findings.ratios.iter().map(|claim| claim.met).collect();
            let mut expected = vec![None; SIDES.len() - 1];
            for side in CLAIMED {
                expected[side - 1] = asynchronous.then_some(false);
            }
            assert_eq!(met, expected);
            assert_eq!(findings.ratios[0].ratio.value, 2.0);
        }
    }
}
