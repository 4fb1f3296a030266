// SPDX-License-Identifier: MIT OR Apache-2.0
//! The order of submissions by one ring, of every kind.

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use libc::{ECANCELED, EDEADLK, ESTALE, ETIME};
use libvaccel::ring::raw;
use libvaccel::{
    ioctl, sys, Deadline, Fence, HostCaps, Queue, QueueMode, QueueOptions, Submission,
};

use super::Case;
use crate::rig::{ensure, failed, soon, Problem, Result, Rig};
use crate::sync::{fence, reaches, stays_below, within};
use crate::uring::door::{self, wait_for, Lists};
use crate::uring::entry::{ASYNC, DRAIN, HARDLINK, LINK};
use crate::uring::{Entry, Ring, Setup, COOP_TASKRUN, CQE32, DEFER_TASKRUN, SQE128, SQPOLL};

pub const CASES: &[Case] = &[
    Case {
        name: "uring-order",
        proves: "a thousand submissions in batches to one queue are taken in the order of their \
                 entries, each as the number that it expects",
        run: |node| in_order(node, Kind::Plain),
    },
    Case {
        name: "uring-order-sqpoll",
        proves: "the same by a ring whose entries a thread of the kernel takes",
        run: |node| in_order(node, Kind::Polled),
    },
    Case {
        name: "uring-order-fixed",
        proves: "the same with a registered file and a registered ring",
        run: |node| in_order(node, Kind::Fixed),
    },
    Case {
        name: "uring-order-deferred",
        proves: "the same by rings whose completions are made when the kernel is entered only",
        run: |node| {
            in_order(node, Kind::Deferred)?;
            in_order(node, Kind::Cooperative)
        },
    },
    Case {
        name: "uring-order-library",
        proves: "the same by the library's ring, also with a registered file and SQPOLL",
        run: library,
    },
    Case {
        name: "uring-order-linked",
        proves: "linked submissions are taken one after the other, one that is refused cancels the rest \
                 of its chain, and a wait holds back what is linked to it",
        run: linked,
    },
    Case {
        name: "uring-order-async",
        proves: "submissions with IOSQE_ASYNC are all taken, each once, and their order can be told by \
                 EXPECT_SEQ",
        run: asynchronous,
    },
    Case {
        name: "uring-order-drain",
        proves: "a submission with IOSQE_IO_DRAIN is taken when all before it are done",
        run: drain,
    },
    Case {
        name: "uring-order-queues",
        proves: "in a batch to several bounded queues each submission may wait for what an earlier one \
                 signals, if the host has asynchronous messages",
        run: queues,
    },
    Case {
        name: "uring-order-mixed",
        proves: "what is done when it is queued and what completes when its work is done are taken in the \
                 order of their entries, in one batch",
        run: mixed,
    },
    Case {
        name: "uring-order-ioctl",
        proves: "batches to a queue and ioctls of another thread to the same queue reach the host in the \
                 order of their numbers: each waits for the one before",
        run: beside_ioctls,
    },
    Case {
        name: "uring-order-much",
        proves: "batches with more data than the channel holds are taken whole and in order",
        run: much,
    },
];

const COUNT: u64 = 1000;
const BATCH: u64 = 25;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    Polled,
    Fixed,
    Deferred,
    Cooperative,
}

fn ring(kind: Kind, rig: &Rig) -> Result<Ring> {
    let more = match kind {
        Kind::Plain | Kind::Fixed => 0,
        Kind::Polled => SQPOLL,
        Kind::Deferred => DEFER_TASKRUN,
        Kind::Cooperative => COOP_TASKRUN,
    };
    let mut ring = Ring::new(&Setup {
        flags: SQE128 | CQE32 | more,
        ..Default::default()
    })?;
    if kind == Kind::Fixed {
        ring.register_file(rig.device.as_fd())?;
        ring.register()?;
    }
    Ok(ring)
}

/// List number `slot` raises the fence to the number that it has to have in the queue.
fn numbered(slot: u64, seq: u64, lists: &Lists, queue: &Queue, fence: &Fence) -> Result<Entry> {
    let list = Submission::new().signal(fence, seq).expect_seq(seq);
    Ok(lists
        .entry(slot, queue, &list)?
        .with(32, &seq.to_ne_bytes()))
}

fn in_order(node: &Path, kind: Kind) -> Result {
    let (rig, _) = door::rig(node)?;
    let mut ring = ring(kind, &rig)?;
    let lists = Lists::new(&rig.device, BATCH)?;
    for first in (1..=COUNT).step_by(BATCH as usize) {
        let mut entries = Vec::new();
        for (slot, seq) in (0..BATCH).zip(first..) {
            let mut entry = numbered(slot, seq, &lists, &rig.queue, &rig.fence)?;
            if kind == Kind::Fixed {
                entry = entry.fixed();
            }
            entries.push(entry);
        }
        for completion in ring.all(&entries)? {
            completion.gives("a submission", completion.user_data)?;
        }
    }
    reaches("the submissions", &rig.fence, COUNT, None)
}

/// Every third completes when its work is done.
fn mixed(node: &Path) -> Result {
    let (rig, mut ring) = door::rig(node)?;
    let lists = Lists::new(&rig.device, BATCH)?;
    let mut seq = 0;
    for _ in 0..20 {
        let mut entries = Vec::new();
        for slot in 0..BATCH {
            seq += 1;
            let list = Submission::new().signal(&rig.fence, seq).expect_seq(seq);
            let mut arg = lists.write(slot, &rig.queue, &list.done(&rig.fence, seq))?;
            if slot % 3 == 1 {
                arg.flags |= sys::SUBMIT_CQE_ON_DONE;
            }
            entries.push(Entry::new::<ioctl::Submit>(rig.device.as_fd(), &arg, seq));
        }
        for completion in ring.all(&entries)? {
            completion.gives("a submission", completion.user_data)?;
        }
    }
    reaches("the submissions", &rig.fence, seq, None)
}

/// Each job waits for the one with the number before its own, so that the queue stands still if one
/// overtakes another.
fn chained(seq: u64, fence: &Fence) -> Submission {
    let list = Submission::new().wait(fence, seq - 1);
    list.signal(fence, seq).expect_seq(seq)
}

/// Submits by ioctl until told to stop; how many were taken.
fn by_ioctl(queue: &Queue, fence: &Fence, stop: &AtomicBool) -> Result<u64> {
    let mut taken = 0;
    while !stop.load(Ordering::Relaxed) {
        let (_, last) = queue.query()?;
        match queue.submit(&chained(last + 1, fence)) {
            Ok(submitted) => {
                ensure(submitted.seq == last + 1, "a number that was not expected")?;
                taken += 1;
            }
            Err(error) if error.errno() == Some(ioctl::Errno(ESTALE)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(taken)
}

/// Submits batches; how many submissions were taken.
fn by_batches(rig: &Rig, ring: &mut Ring) -> Result<u64> {
    const BATCHES: u64 = 100;
    const SIZE: u64 = 6;
    let lists = Lists::new(&rig.device, SIZE)?;
    let mut taken = 0;
    for _ in 0..BATCHES {
        let (_, last) = rig.queue.query()?;
        let mut entries = Vec::new();
        for (slot, seq) in (0..SIZE).zip(last + 1..) {
            entries.push(lists.entry(slot, &rig.queue, &chained(seq, &rig.fence))?);
        }
        for completion in ring.all(&entries)? {
            // Else the other was faster.
            if completion.result != -ESTALE {
                completion.gives("a submission", last + 1 + completion.user_data)?;
                taken += 1;
            }
        }
    }
    Ok(taken)
}

/// Submits batches until some of them and some of the other thread's were taken.
fn until_both(rig: &Rig, ring: &mut Ring) -> Result<u64> {
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut taken = 0;
    loop {
        taken += by_batches(rig, ring)?;
        let (_, last) = rig.queue.query()?;
        if (taken > 0 && last > taken) || Instant::now() >= deadline {
            return Ok(taken);
        }
    }
}

fn beside_ioctls(node: &Path) -> Result {
    let (rig, mut ring) = door::rig(node)?;
    let stop = AtomicBool::new(false);
    let (by_ring, by_ioctl) = std::thread::scope(|scope| {
        let calls = scope.spawn(|| by_ioctl(&rig.queue, &rig.fence, &stop));
        let by_ring = until_both(&rig, &mut ring);
        stop.store(true, Ordering::Relaxed);
        let panicked = |_| failed("the thread panicked");
        (by_ring, calls.join().unwrap_or_else(panicked))
    });
    let (by_ring, by_ioctl) = (by_ring?, by_ioctl?);
    ensure(
        by_ring > 0 && by_ioctl > 0,
        format!("{by_ring} were taken by ring and {by_ioctl} by ioctl"),
    )?;
    let (_, last) = rig.queue.query()?;
    ensure(
        last == by_ring + by_ioctl,
        format!("{by_ring} by ring and {by_ioctl} by ioctl were taken, the queue is at {last}"),
    )?;
    reaches("the submissions", &rig.fence, last, None)
}

/// Each submission has so many messages that a batch of them does not fit the channel.
fn much(node: &Path) -> Result {
    const SIGNALS: u64 = 256;
    const SIZE: u64 = 24;
    let (rig, mut ring) = door::rig(node)?;
    needs_async(&rig, "the host answers each message before the next")?;
    let lists = (1..=SIZE).map(|seq| {
        let values = (seq - 1) * SIGNALS + 1..=seq * SIGNALS;
        let list = values.fold(Submission::new(), |list, value| {
            list.signal(&rig.fence, value)
        });
        Ok(list.expect_seq(seq).encode()?)
    });
    let lists = lists.collect::<Result<Vec<_>>>()?;
    let bytes = lists.iter().map(|list| list.bytes.len() as u64).sum();
    let args = rig.device.create_arg_bo(bytes)?;
    let (mut entries, mut start) = (Vec::new(), 0);
    for (list, seq) in lists.iter().zip(1..) {
        args.mapping().write(start, &list.bytes)?;
        let arg = sys::Submit {
            queue: rig.queue.handle(),
            arg_bo: args.handle(),
            arg_offset: start as u64,
            ..list.descriptor
        };
        entries.push(Entry::new::<ioctl::Submit>(rig.device.as_fd(), &arg, seq));
        start += list.bytes.len();
    }
    for completion in ring.all(&entries)? {
        completion.gives("a submission", completion.user_data)?;
    }
    reaches("the submissions", &rig.fence, SIZE * SIGNALS, None)
}

fn library(node: &Path) -> Result {
    let plain = raw::Setup::default();
    let polled = raw::Setup {
        sqpoll_idle_ms: Some(10),
        ..plain
    };
    by_library(node, &plain, false)?;
    by_library(node, &polled, true)
}

fn by_library(node: &Path, setup: &raw::Setup, fixed: bool) -> Result {
    let (rig, _) = door::rig(node)?;
    let mut ring = raw::Ring::new(setup)?;
    let lists = Lists::new(&rig.device, BATCH)?;
    let target = if fixed {
        ring.register_file(rig.device.as_fd())?;
        raw::Target::Fixed(0)
    } else {
        raw::Target::Fd(rig.device.as_fd())
    };
    for first in (1..=COUNT / 4).step_by(BATCH as usize) {
        for (slot, seq) in (0..BATCH).zip(first..) {
            let list = Submission::new().signal(&rig.fence, seq).expect_seq(seq);
            let arg = lists.write(slot, &rig.queue, &list)?;
            ring.push::<ioctl::Submit>(target, &arg, seq, raw::EntryFlags::empty())?;
        }
        let mut seen = Vec::new();
        while seen.len() < BATCH as usize {
            ring.submit_and_wait(1, soon())?;
            seen.extend(ring.completions());
        }
        let good = seen
            .iter()
            .all(|completion| completion.result == 0 && completion.extra == completion.user_data);
        ensure(good, format!("submissions from {first} on: {seen:?}"))?;
    }
    reaches("the submissions", &rig.fence, COUNT / 4, None)
}

fn linked(node: &Path) -> Result {
    let (rig, mut ring) = door::rig(node)?;
    let lists = Lists::new(&rig.device, 8)?;
    let entry = |slot: u64, seq: u64| numbered(slot, seq, &lists, &rig.queue, &rig.fence);
    let chain = [
        (entry(0, 1)?.flags(LINK), 0),
        (entry(1, 2)?.flags(LINK), 0),
        (entry(2, 99)?.flags(LINK), -ESTALE),
        (entry(3, 3)?.flags(LINK), -ECANCELED),
        (entry(4, 4)?, -ECANCELED),
    ];
    let entries: Vec<Entry> = (0..)
        .zip(&chain)
        .map(|(index, (entry, _)): (u64, _)| entry.with(32, &index.to_ne_bytes()))
        .collect();
    for (completion, (_, expected)) in ring.all(&entries)?.iter().zip(&chain) {
        completion.is(&format!("link {}", completion.user_data), *expected)?;
    }
    reaches("the chain", &rig.fence, 2, None)?;
    // A hard link holds whatever became of the one before.
    ring.push(&entry(0, 77)?.flags(HARDLINK))?;
    ring.push(&entry(1, 3)?)?;
    let results: Vec<i32> = ring
        .collect(2, soon())?
        .iter()
        .map(|completion| completion.result)
        .collect();
    ensure(results == [-ESTALE, 0], format!("hard links: {results:?}"))?;
    waits(&rig, &mut ring, &lists)
}

/// Waits as links.
fn waits(rig: &Rig, ring: &mut Ring, lists: &Lists) -> Result {
    let (go, done) = (fence(&rig.vm)?, fence(&rig.vm)?);
    let behind = lists.entry(5, &rig.queue, &Submission::new().signal(&done, 1))?;
    ring.push(&wait_for(&go, 1, Deadline::NEVER, 1).flags(LINK))?;
    ring.push(&behind)?;
    ring.submit()?;
    stays_below("behind a wait", &done, 1)?;
    go.signal(1)?;
    for completion in ring.collect(2, soon())? {
        completion.is("a wait and what is linked to it", 0)?;
    }
    reaches("behind a wait", &done, 1, None)?;
    ring.push(&wait_for(&go, 2, within(30), 1).flags(LINK))?;
    ring.push(&behind)?;
    let results: Vec<i32> = ring
        .collect(2, soon())?
        .iter()
        .map(|completion| completion.result)
        .collect();
    ensure(
        results == [-ETIME, -ECANCELED],
        format!("behind a wait that fails: {results:?}"),
    )
}

fn asynchronous(node: &Path) -> Result {
    const MANY: u64 = 60;
    let (rig, mut ring) = door::rig(node)?;
    let lists = Lists::new(&rig.device, MANY)?;
    let mut entries = Vec::new();
    for slot in 0..MANY {
        let list = Submission::new().signal(&rig.fence, 1);
        entries.push(lists.entry(slot, &rig.queue, &list)?.flags(ASYNC));
    }
    let mut numbers = Vec::new();
    for completion in ring.all(&entries)? {
        completion.is("SUBMIT", 0)?;
        numbers.push(completion.extra.unwrap_or(0));
    }
    numbers.sort_unstable();
    ensure(
        numbers.iter().copied().eq(1..=MANY),
        format!("numbers {numbers:?}"),
    )?;
    let done = fence(&rig.vm)?;
    let entries = (0..MANY)
        .map(|slot| numbered(slot, MANY + 1 + slot, &lists, &rig.queue, &done))
        .map(|entry| entry.map(|entry| entry.flags(ASYNC)))
        .collect::<Result<Vec<_>>>()?;
    let mut taken = 0;
    for completion in ring.all(&entries)? {
        match completion.result {
            0 => {
                completion.gives("SUBMIT", completion.user_data)?;
                taken += 1;
            }
            _ => completion.is("SUBMIT out of order", -ESTALE)?,
        }
    }
    let (_, last) = rig.queue.query()?;
    ensure(
        taken > 0 && last == MANY + taken,
        format!("{taken} were taken, and the queue is at {last}"),
    )?;
    asynchronous_waits(&rig, &mut ring)
}

/// Waits that a thread of the kernel issues.
fn asynchronous_waits(rig: &Rig, ring: &mut Ring) -> Result {
    let go = fence(&rig.vm)?;
    for value in 1..=20 {
        ring.push(&wait_for(&go, value, Deadline::NEVER, value).flags(ASYNC))?;
    }
    ring.submit()?;
    ring.stays_quiet("nothing is signalled")?;
    go.signal(20)?;
    for completion in ring.collect(20, soon())? {
        completion.gives("FENCE_WAIT", 20)?;
    }
    ring.one(&wait_for(&go, 21, within(30), 1).flags(ASYNC))?
        .is("a deadline", -ETIME)
}

fn drain(node: &Path) -> Result {
    let (rig, mut ring) = door::rig(node)?;
    let lists = Lists::new(&rig.device, 2)?;
    let (go, done) = (fence(&rig.vm)?, fence(&rig.vm)?);
    let first = lists.entry(0, &rig.queue, &Submission::new().signal(&done, 1))?;
    let last = lists.entry(1, &rig.queue, &Submission::new().signal(&done, 2))?;
    ring.push(&first)?;
    ring.push(&wait_for(&go, 1, Deadline::NEVER, 2))?;
    ring.push(&last.flags(DRAIN))?;
    ring.submit()?;
    reaches("what does not drain", &done, 1, None)?;
    stays_below("what drains", &done, 2)?;
    go.signal(1)?;
    let completions = ring.collect(3, soon())?;
    for completion in &completions {
        completion.is("each", 0)?;
    }
    match completions.last() {
        Some(completion) if completion.user_data == 1 => {}
        other => return failed(format!("the last is {other:?}")),
    }
    reaches("what drains", &done, 2, None)
}

/// Skips on a host without asynchronous messages, for the reason given.
fn needs_async(rig: &Rig, why: &str) -> Result {
    let caps = rig.device.info()?.host_caps.unwrap_or_default();
    if caps.contains(HostCaps::ASYNC) {
        return Ok(());
    }
    Err(Problem::Skipped(why.into()))
}

fn queues(node: &Path) -> Result {
    let (rig, mut ring) = door::rig(node)?;
    needs_async(&rig, "a worker of each queue submits on this host")?;
    let bounded = QueueOptions::new(QueueMode::Bounded);
    let queues = [
        rig.vm.create_queue(&bounded)?,
        rig.vm.create_queue(&bounded)?,
        rig.vm.create_queue(&bounded)?,
    ];
    // All complete when they are queued; some when their work is done.
    for every in [u64::MAX, 2, 3] {
        let mut tries = 0;
        while !is_chained(&rig, &mut ring, &queues, every)? {
            tries += 1;
            ensure(tries < 10, "no chain was taken as a whole")?;
        }
    }
    Ok(())
}

/// Submits a chain through several queues in one batch. A task that is made to sleep in the middle of a
/// batch leaves what it has to a worker, so that a link may come before the one it waits for: false then.
fn is_chained(rig: &Rig, ring: &mut Ring, queues: &[Queue], every: u64) -> Result<bool> {
    const LINKS: u64 = 20;
    let lists = Lists::new(&rig.device, LINKS)?;
    let chain = fence(&rig.vm)?;
    for value in 1..=LINKS {
        let mut list = Submission::new();
        if value > 1 {
            list = list.wait(&chain, value - 1);
        }
        let list = list.signal(&chain, value).done(&chain, value);
        let queue = &queues[value as usize % queues.len()];
        let mut arg = lists.write(value - 1, queue, &list)?;
        if value % every == 0 {
            arg.flags |= sys::SUBMIT_CQE_ON_DONE;
        }
        ring.queue(&Entry::new::<ioctl::Submit>(
            rig.device.as_fd(),
            &arg,
            value,
        ))?;
    }
    ring.submit()?;
    let mut is_whole = true;
    for completion in ring.collect(LINKS as usize, soon())? {
        if completion.result == -EDEADLK {
            // As is every link behind it, so that nobody waits for it.
            is_whole = false;
        } else {
            completion.is("one of the chain", 0)?;
        }
    }
    if is_whole {
        reaches("the end of the chain", &chain, LINKS, None)?;
    }
    Ok(is_whole)
}
