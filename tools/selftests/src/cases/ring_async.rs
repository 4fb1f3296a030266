// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operations as futures, by io_uring and by ioctls: the same cases on both.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use libvaccel::compute::Session;
use libvaccel::ring::{Backend, Options, Pending, Ring};
use libvaccel::{
    sys, ArgBo, BindFlags, BindOptions, BoOptions, Deadline, Device, ErrorKind, Features, Fence,
    OfferPriority, QueueMode, QueueOptions, Reclaimed, ResidentFlags, Submission, VmFlags,
};

use super::lost::{and_back, until};
use super::Case;
use crate::executor::{poll_once, run};
use crate::rig::{check_device_works, ensure, failed, fails, needs, soon, Result, Rig, SIZE};
use crate::sync::{absent, briefly, fence, open, signals, stays_below, within, Program};

pub const CASES: &[Case] = &[
    Case {
        name: "async-many",
        proves:
            "thousands of futures wait for values of a few fences at a time; each ends when its \
                 value is reached, with what was seen",
        run: |node| both(node, many),
    },
    Case {
        name: "async-order",
        proves:
            "hundreds of submissions to a queue that are sent at once are queued in order, and end \
                 when they are done",
        run: |node| both(node, order),
    },
    Case {
        name: "async-drop",
        proves:
            "a future that is dropped before it is sent does nothing; one that is dropped later \
                 stops waiting, lets go of what it named, and harms no other",
        run: |node| both(node, dropped),
    },
    Case {
        name: "async-blocking",
        proves: "threads without an executor wait with deadlines, and what a thread has asked for \
                 outlives it",
        run: |node| both(node, blocking),
    },
    Case {
        name: "async-errors",
        proves:
            "what is refused is refused as by the blocking calls: the same errno, host status and \
                 bytes to trim",
        run: |node| both(node, errors),
    },
    Case {
        name: "async-prepared",
        proves:
            "a submission that the caller wrote into its own argument object, and one too long for \
                 a shared place, run and give their outcomes",
        run: |node| both(node, prepared),
    },
    Case {
        name: "async-wait-many",
        proves:
            "waits for all and for any of several fences end with the last and the first of them",
        run: |node| both(node, wait_many),
    },
    Case {
        name: "async-memory",
        proves: "bindings and residency hold when their futures end; a binding whose future was \
                 dropped is undone",
        run: |node| both(node, memory),
    },
    Case {
        name: "async-sync",
        proves:
            "an export ends when the syncobj has its fence, an import when the fence has its value",
        run: |node| both(node, sync),
    },
    Case {
        name: "async-lost",
        proves:
            "when the virtual GPU is taken back, whatever is pending fails with ENODEV, and so \
                 does what is asked for later",
        run: |node| both(node, lost),
    },
];

/// Runs a case by ioctls and by io_uring.
fn both(node: &Path, run: fn(&Path, &Options) -> Result) -> Result {
    run(node, &Options::new().backend(Backend::Ioctl))?;
    needs(&Device::open(node)?, Features::URING)?;
    run(node, &Options::new().backend(Backend::IoUring))
}

/// A deadline of futures that is not to be met.
fn later() -> Deadline {
    Deadline::after_secs(50)
}

/// What each future gave; the first error of any.
pub(super) fn all<T>(futures: Vec<Pending<T>>) -> Result<Vec<T>> {
    let outputs: libvaccel::Result<Vec<T>> = run(futures)?.into_iter().collect();
    Ok(outputs?)
}

fn many(node: &Path, options: &Options) -> Result {
    const FENCES: usize = 8;
    const VALUES: u64 = 500;
    let (device, vm) = open(node)?;
    let ring = Ring::new(&device, options)?;
    let fences = (0..FENCES)
        .map(|_| fence(&vm))
        .collect::<Result<Vec<Fence>>>()?;
    let mut expected = Vec::new();
    let mut waits = Vec::new();
    for step in 0..VALUES {
        // Not in the order of the values.
        let value = step * 37 % VALUES + 1;
        for fence in &fences {
            expected.push(value);
            waits.push(ring.fence_wait(fence, value, later()));
        }
    }
    let waited = std::thread::scope(|scope| {
        let signaller = scope.spawn(|| -> Result {
            for value in (1..VALUES).step_by(11).chain([VALUES]) {
                for fence in &fences {
                    fence.signal(value)?;
                }
            }
            Ok(())
        });
        let waited = all(waits);
        let signalled = signaller.join().unwrap_or_else(|_| failed("a thread died"));
        signalled.and(waited)
    })?;
    for (expected, waited) in expected.iter().zip(&waited) {
        ensure(
            waited.value >= *expected && waited.error.is_none(),
            format!("waited for {expected}, saw {waited:?}"),
        )?;
    }
    ensure(waited.len() == expected.len(), "some are missing")
}

/// How many submissions are sent at once.
const AT_ONCE: u64 = 200;

fn order(node: &Path, options: &Options) -> Result {
    let rig = Rig::new(node)?;
    let ring = Ring::new(&rig.device, options)?;
    let list = |seq: u64| {
        Submission::new()
            .signal(&rig.fence, seq)
            .expect_seq(seq)
            .with_outcomes()
    };
    let futures = (1..=AT_ONCE)
        .map(|seq| ring.submit(&rig.queue, &list(seq)))
        .collect();
    for (submitted, seq) in all(futures)?.iter().zip(1..) {
        ensure(
            submitted.seq == seq && submitted.outcomes.len() == 1,
            format!("number {seq} became {submitted:?}"),
        )?;
    }
    rig.fence.wait(AT_ONCE, soon())?;
    let done = |seq: u64| list(seq).done(&rig.fence, seq);
    let futures = (AT_ONCE + 1..=2 * AT_ONCE)
        .map(|seq| ring.submit_and_complete(&rig.queue, &done(seq)))
        .collect();
    for (completed, seq) in all(futures)?.iter().zip(AT_ONCE + 1..) {
        ensure(
            completed.submitted.seq == seq && completed.error.is_none(),
            format!("number {seq} became {completed:?}"),
        )?;
    }
    let value = rig.fence.value()?;
    ensure(value == 2 * AT_ONCE, format!("the fence is at {value}"))
}

fn dropped(node: &Path, options: &Options) -> Result {
    const COUNT: u64 = 500;
    let rig = Rig::new(node)?;
    let ring = Ring::new(&rig.device, options)?;
    let never = fence(&rig.vm)?;
    // Not sent: nothing happens.
    drop(ring.submit(&rig.queue, &Submission::new().signal(&rig.fence, 1)));
    ring.flush();
    stays_below("a submission that was not sent", &rig.fence, 1)?;
    // Sent: it runs.
    let sent = ring.submit(&rig.queue, &Submission::new().signal(&rig.fence, 1));
    ring.flush();
    rig.fence.wait(1, soon())?;
    drop(sent);
    // Waits, of which every second is dropped.
    let mut waits: Vec<_> = (0..COUNT)
        .map(|_| ring.fence_wait(&never, 1, later()))
        .collect();
    let unsent: Vec<_> = (0..COUNT)
        .map(|_| ring.fence_wait(&never, 1, later()))
        .collect();
    ensure(poll_once(&mut waits) == 0, "a wait has ended by itself")?;
    drop(unsent);
    let mut index = 0;
    waits.retain(|_| {
        index += 1;
        index % 2 == 0
    });
    never.signal(1)?;
    let waited = all(waits)?;
    ensure(
        waited.len() as u64 == COUNT / 2,
        format!("{} waits ended", waited.len()),
    )?;
    // The ring goes with what is pending, and lets go of the fence.
    let mut last = vec![ring.fence_wait(&never, 9, later())];
    poll_once(&mut last);
    let done = Submission::new().wait(&rig.fence, 1).done(&never, 2);
    drop(ring.submit_and_complete(&rig.queue, &done));
    drop(ring);
    drop((last, done));
    never.close()?;
    check_device_works(&rig.device)
}

fn blocking(node: &Path, options: &Options) -> Result {
    const THREADS: u64 = 8;
    const WAITS: u64 = 50;
    let (device, vm) = open(node)?;
    let ring = Ring::new(&device, options)?;
    let fence = fence(&vm)?;
    let wait = ring.fence_wait(&fence, 1, later()).wait(briefly());
    fails("a wait for what does not come", wait, ErrorKind::TimedOut)?;
    let wait = ring.fence_wait(&fence, 1, within(20)).wait(soon());
    fails("a wait with a deadline", wait, ErrorKind::TimedOut)?;
    let wait = ring.fence_wait(&fence, 1, Deadline::NOW).wait(soon());
    fails("a wait that does not wait", wait, ErrorKind::TimedOut)?;
    // Asked for by a thread that is gone.
    let mut orphan = std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            let wait = ring.fence_wait(&fence, 1, later());
            ring.flush();
            wait
        });
        asked.join()
    })
    .map_err(|_| crate::rig::Problem::Failed("a thread died".into()))?;
    ensure(
        orphan.wait_for(briefly()).is_none(),
        "a wait has ended with its thread",
    )?;
    fence.signal(1)?;
    let waited = orphan.wait(soon())?;
    ensure(waited.value == 1, format!("saw {}", waited.value))?;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| -> Result {
                    for value in 2..WAITS + 2 {
                        ring.fence_wait(&fence, value, later()).wait(soon())?;
                    }
                    Ok(())
                })
            })
            .collect();
        for value in 2..WAITS + 2 {
            fence.signal(value)?;
            std::thread::sleep(Duration::from_millis(1));
        }
        threads.into_iter().try_for_each(|thread| {
            thread
                .join()
                .unwrap_or_else(|_| failed("a thread has died"))
        })
    })
}

/// Two ways to ask for the same must fail alike.
fn alike<T, U>(
    what: &str,
    blocking: libvaccel::Result<T>,
    ring: libvaccel::Result<U>,
) -> Result<libvaccel::Error> {
    match (blocking.err(), ring.err()) {
        (Some(one), Some(other)) if one == other => Ok(one),
        (one, other) => failed(format!("{what}: {one:?} by a call, {other:?} by the ring")),
    }
}

fn errors(node: &Path, options: &Options) -> Result {
    let rig = Rig::new(node)?;
    let ring = Ring::new(&rig.device, options)?;
    let other_vm = rig.device.create_vm(VmFlags::empty())?;
    let foreign = fence(&other_vm)?;
    for (what, list) in [
        ("an empty list", Submission::new()),
        ("another vm's fence", Submission::new().signal(&foreign, 1)),
        (
            "an unexpected number",
            Submission::new().signal(&rig.fence, 1).expect_seq(99),
        ),
        (
            "a wait that may not end",
            Submission::new().wait(&rig.fence, 99),
        ),
    ] {
        let asked = ring.submit(&rig.queue, &list).wait(soon());
        alike(what, rig.queue.submit(&list), asked)?;
    }
    let no_fence = Submission::new().signal(&rig.fence, 1);
    let asked = ring.submit_and_complete(&rig.queue, &no_fence);
    let kind = ErrorKind::InvalidArgument;
    fails("no fence when it is done", asked.wait(soon()), kind)?;
    // Addresses that are taken, and those that no host gives.
    for gpu_va in [rig.binding.gpu_va(), 1 << 62] {
        let bind = BindOptions::new(BindFlags::WRITE).at(gpu_va);
        let asked = ring.bind(&rig.vm, &rig.bo, &bind).wait(soon());
        alike("BIND", rig.vm.bind(&rig.bo, &bind), asked)?;
    }
    let objects = [&rig.bo];
    let asked = ring.evict(&rig.vm, &objects).wait(soon());
    alike("EVICT", rig.vm.evict(&objects), asked)?;
    let other_file = Rig::new(node)?;
    let asked = ring.fence_wait(&other_file.fence, 0, soon());
    fails("another file's fence", asked.wait(soon()), kind)?;
    check_device_works(&rig.device)
}

fn prepared(node: &Path, options: &Options) -> Result {
    const LONG: u64 = 500;
    let rig = Rig::new(node)?;
    let ring = Ring::new(&rig.device, options)?;
    let mut list = Submission::new().with_outcomes();
    for value in 1..=LONG {
        list = list.signal(&rig.fence, value);
    }
    let submitted = ring.submit(&rig.queue, &list).wait(soon())?;
    ensure(
        submitted.outcomes.len() as u64 == LONG,
        format!("{} outcomes", submitted.outcomes.len()),
    )?;
    let args: Arc<ArgBo> = Arc::new(rig.device.create_arg_bo(SIZE)?);
    let list = Submission::new()
        .signal(&rig.fence, LONG + 1)
        .done(&rig.fence, LONG + 2);
    let encoded = list.encode()?;
    args.mapping().write(0, &encoded.bytes)?;
    let mut descriptor = encoded.descriptor;
    descriptor.flags |= sys::SUBMIT_CQE_ON_DONE;
    let seq = ring
        .submit_prepared(&rig.queue, &args, &descriptor)
        .wait(soon())?;
    ensure(seq == submitted.seq + 1, format!("number {seq}"))?;
    let value = rig.fence.value()?;
    ensure(value == LONG + 2, format!("done at {value}"))
}

fn wait_many(node: &Path, options: &Options) -> Result {
    let (device, vm) = open(node)?;
    let ring = Ring::new(&device, options)?;
    let fences = [fence(&vm)?, fence(&vm)?, fence(&vm)?];
    let list: Vec<(&Fence, u64)> = fences.iter().map(|fence| (fence, 1)).collect();
    let mut every = ring.wait_all(&list, later());
    let mut any = ring.wait_any(&list, later());
    ensure(any.wait_for(briefly()).is_none(), "none is reached yet")?;
    fences[1].signal(1)?;
    let reached = any.wait(soon())?;
    ensure(
        (reached.index, reached.value) == (1, 1),
        format!("{reached:?}"),
    )?;
    fences[0].signal(1)?;
    ensure(every.wait_for(briefly()).is_none(), "one is still missing")?;
    fences[2].signal(1)?;
    let error = every.wait(soon())?;
    ensure(error.is_none(), format!("{error:?}"))?;
    let mut high = list.clone();
    high[2].1 = 9;
    let wait = ring.wait_all(&high, briefly()).wait(soon());
    fails("a wait for all, at its deadline", wait, ErrorKind::TimedOut)?;
    let reached = ring.wait_any(&high, later()).wait(soon())?;
    ensure(reached.index == 0, format!("{reached:?}"))?;
    let too_long = vec![list[0]; sys::limit::WAIT_MANY_MAX as usize + 1];
    let wait = ring.wait_any(&too_long, later()).wait(soon());
    fails("too many fences", wait, ErrorKind::TooLarge)
}

fn memory(node: &Path, options: &Options) -> Result {
    let rig = Rig::new(node)?;
    needs(&rig.device, Features::MANUAL_RESIDENCY | Features::OFFER)?;
    let ring = Ring::new(&rig.device, options)?;
    let bind = BindOptions::new(BindFlags::WRITE);
    let bindings = all((0..16)
        .map(|_| ring.bind(&rig.vm, &rig.bo, &bind))
        .collect())?;
    let session = Session::in_vm(&rig.vm, QueueMode::Bounded)?;
    let seen = rig.bo.map()?;
    for (binding, word) in bindings.iter().zip(1..) {
        let program = Program::late_word(&session, 0, binding.gpu_va(), word)?;
        let value = u64::from(word);
        let list = program.run().done(session.fence(), value);
        ring.submit_and_complete(session.queue(), &list)
            .wait(soon())?;
        let mut bytes = [0; 4];
        seen.read(0, &mut bytes)?;
        ensure(bytes == word.to_le_bytes(), format!("read {bytes:?}"))?;
    }
    let gpu_va = bindings[3].gpu_va();
    all(bindings
        .into_iter()
        .map(|binding| ring.unbind(binding))
        .collect())?;
    // Dropped with or without being sent, nothing stays bound.
    let there = bind.at(gpu_va);
    drop(ring.bind(&rig.vm, &rig.bo, &there));
    let mut sent = [ring.bind(&rig.vm, &rig.bo, &there)];
    poll_once(&mut sent);
    drop(sent);
    until("the address is free", || {
        ring.bind(&rig.vm, &rig.bo, &there).wait(soon()).is_ok()
    })?;
    let null = ring.bind_null(&rig.vm, BindFlags::empty(), None, SIZE);
    ring.unbind(null.wait(soon())?).wait(soon())?;

    let vm = rig.device.create_vm(VmFlags::MANUAL_RESIDENCY)?;
    let objects: Vec<_> = (0..3)
        .map(|_| vm.create_bo(&BoOptions::new(SIZE)))
        .collect::<libvaccel::Result<_>>()?;
    let bound: Vec<_> = objects.iter().map(|bo| ring.bind(&vm, bo, &bind)).collect();
    let bound = all(bound)?;
    let list: Vec<_> = objects.iter().collect();
    let flags = ResidentFlags::empty();
    ring.make_resident(&vm, &list, flags).wait(soon())?;
    ring.evict(&vm, &list).wait(soon())?;
    let again = ring.evict(&vm, &list).wait(soon());
    ensure(again.is_err(), "evicted twice")?;
    ring.offer(&vm, &list, OfferPriority::Normal, false)
        .wait(soon())?;
    let reclaimed = ring.reclaim(&vm, &list).wait(soon())?;
    let known = |outcome: &Reclaimed| !matches!(outcome, Reclaimed::Unknown(_));
    ensure(
        reclaimed.len() == list.len() && reclaimed.iter().all(known),
        format!("{reclaimed:?}"),
    )?;
    drop(bound);
    Ok(())
}

fn sync(node: &Path, options: &Options) -> Result {
    let (device, vm) = open(node)?;
    let ring = Ring::new(&device, options)?;
    let (from, to) = (fence(&vm)?, fence(&vm)?);
    let syncobj = device.create_syncobj(false)?;
    let mut exports: Vec<_> = (1..=4)
        .map(|value| ring.export(&from, value, &syncobj, value * 10))
        .collect();
    let mut import = ring.import(&to, 7, &syncobj, 30, Some(later()));
    let error = ring.export(&from, 9, &syncobj, 10).wait(soon());
    fails(
        "a point that is not above",
        error,
        ErrorKind::InvalidArgument,
    )?;
    ensure(poll_once(&mut exports) == 0, "nothing is reached yet")?;
    absent("before", &syncobj, 10)?;
    from.signal(2)?;
    all(exports.drain(..2).collect())?;
    signals("the second", &syncobj, 20, None)?;
    ensure(import.wait_for(briefly()).is_none(), "imported too early")?;
    from.signal(4)?;
    all(exports)?;
    let error = import.wait(soon())?;
    ensure(error.is_none(), format!("imported with {error:?}"))?;
    let value = to.value()?;
    ensure(value == 7, format!("imported {value}"))?;
    // A point that never gets a fence: raised at the deadline, with an error.
    let import = ring.import(&to, 8, &syncobj, 1000, Some(within(50)));
    let error = import.wait(soon())?;
    ensure(
        error.is_some_and(|errno| errno.0 == libc::ETIME),
        format!("imported nothing with {error:?}"),
    )
}

fn lost(node: &Path, options: &Options) -> Result {
    and_back(node, |host| {
        let rig = Rig::new(node)?;
        let device = &rig.device;
        let ring = Ring::new(device, options)?;
        let never = fence(&rig.vm)?;
        let syncobj = device.create_syncobj(false)?;
        let long = rig
            .vm
            .create_queue(&QueueOptions::new(QueueMode::LongRunning))?;
        let list = Submission::new().wait(&never, 1).done(&rig.fence, 9);
        let mut waits: Vec<_> = (1..=500)
            .map(|value| ring.fence_wait(&never, value, later()))
            .collect();
        let mut done = vec![ring.submit_and_complete(&long, &list)];
        let mut several = vec![ring.wait_any(&[(&never, 1), (&rig.fence, 9)], later())];
        let mut exports = vec![ring.export(&never, 1, &syncobj, 1)];
        poll_once(&mut waits);
        poll_once(&mut done);
        poll_once(&mut several);
        poll_once(&mut exports);
        host.rescind()?;
        until("the node goes", || !node.exists())?;
        gone("a wait", run(waits)?)?;
        gone("a submission", run(done)?)?;
        gone("a wait for any", run(several)?)?;
        let export = run(exports)?;
        ensure(export.len() == 1, "an export is missing")?;
        gone(
            "a wait afterwards",
            vec![ring.fence_wait(&never, 1, later()).wait(soon())],
        )?;
        let late = ring.submit(&rig.queue, &Submission::new().signal(&rig.fence, 1));
        gone("a submission afterwards", vec![late.wait(soon())])
    })
}

/// What a host says of a device that it has taken away already, while the guest has yet to learn it.
const DEVICE_REMOVED: u32 = 0xc000_02b6;

/// Each must have failed because the adapter is gone.
fn gone<T>(what: &str, outcomes: Vec<libvaccel::Result<T>>) -> Result {
    let mut outcomes = outcomes.into_iter();
    outcomes.try_for_each(|outcome| match outcome {
        Err(error) if error.host_status() == Some(DEVICE_REMOVED) => Ok(()),
        outcome => fails(what, outcome, ErrorKind::DeviceLost),
    })
}
