// SPDX-License-Identifier: MIT OR Apache-2.0
//! A host that does not answer, and rings that are not held up by it.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use libc::{ECANCELED, EIO, ENOBUFS, ETIMEDOUT};
use libvaccel::{
    ioctl, sys, BoOptions, Deadline, Device, Features, HostCaps, Segment, State, Submission,
};

use super::Case;
use crate::host::Host;
use crate::rig::{check_device_works, ensure, failed, needs, soon, Problem, Result, Rig};
use crate::sync::{fence, reaches};
use crate::uring::door::{self, wait_for, Lists};
use crate::uring::{Entry, Ring, Setup};

pub const CASES: &[Case] = &[
    Case {
        name: "mute-uring",
        proves: "while the host answers nothing commands of every kind are taken at once, a wait is \
                 cancelled at once, and all complete when the host is back",
        run: at_once,
    },
    Case {
        name: "mute-uring-limit",
        proves: "while the host answers nothing submissions are taken up to a limit, then ENOBUFS; what \
                 was taken is done, in order, when the host is back",
        run: limit,
    },
    Case {
        name: "mute-uring-closed",
        proves: "a ring with all kinds of commands pending is closed at once while the host answers \
                 nothing",
        run: closed,
    },
    Case {
        name: "mute-uring-lost",
        proves: "what completed as queued, but was not read by a host for as long as it has for an answer, \
                 ends its vm: waits end with EIO, another vm works, and the host hears of it",
        run: lost,
    },
];

/// How long the host says nothing.
const SILENCE: Duration = Duration::from_millis(1500);

/// How long it does while it is given more than it has room for.
const LONG_SILENCE: Duration = Duration::from_secs(40);
/// What is taken at once takes less.
const AT_ONCE: Duration = Duration::from_millis(500);

fn quick(what: &str, since: Instant) -> Result {
    let took = since.elapsed();
    ensure(took < AT_ONCE, format!("{what} took {took:?}"))
}

/// What is pushed while the host is mute, by name.
fn commands(rig: &Rig, lists: &Lists) -> Result<Vec<(&'static str, Entry)>> {
    let file = rig.device.as_fd();
    let never = Deadline::NEVER;
    let mut all = Vec::new();
    for slot in 0..4 {
        let list = Submission::new().signal(&rig.fence, slot + 1);
        all.push(("SUBMIT", lists.entry(slot, &rig.queue, &list)?));
    }
    let list = Submission::new().done(&rig.fence, 5);
    let mut arg = lists.write(4, &rig.queue, &list.signal(&rig.fence, 5))?;
    arg.flags |= sys::SUBMIT_CQE_ON_DONE;
    all.push((
        "SUBMIT with CQE_ON_DONE",
        Entry::new::<ioctl::Submit>(file, &arg, 4),
    ));
    all.push(("FENCE_WAIT", wait_for(&rig.fence, 4, never, 5)));
    let bind = sys::Bind {
        vm: rig.vm.handle(),
        bo: rig.bo.handle(),
        size: rig.bo.size(),
        ..Default::default()
    };
    all.push(("BIND", Entry::new::<ioctl::Bind>(file, &bind, 6)));
    let unbind = sys::Bind {
        bo: 0,
        gpu_va: rig.binding.gpu_va(),
        ..bind
    };
    all.push(("UNBIND", Entry::new::<ioctl::Unbind>(file, &unbind, 7)));
    Ok(all)
}

fn at_once(node: &Path) -> Result {
    let (rig, mut ring) = door::rig(node)?;
    let lists = Lists::new(&rig.device, 8)?;
    let mut host = Host::open(node)?;
    let syncobj = if rig.device.features()?.contains(Features::SYNC_BRIDGE) {
        Some(rig.device.create_syncobj(false)?)
    } else {
        None
    };
    let mut all = commands(&rig, &lists)?;
    if let Some(syncobj) = &syncobj {
        let arg = sys::Sync {
            fence: rig.fence.handle(),
            value: 3,
            syncobj: syncobj.handle(),
            ..Default::default()
        };
        let entry = Entry::new::<ioctl::SyncExport>(rig.device.as_fd(), &arg, 8);
        all.push(("SYNC_EXPORT", entry));
    }
    let lost = fence(&rig.vm)?;
    host.mute(SILENCE)?;
    let begin = Instant::now();
    for (what, entry) in &all {
        let begin = Instant::now();
        ring.push(entry)?;
        ring.submit()?;
        quick(what, begin)?;
    }
    // What is done for good is done without the host.
    ring.push(&wait_for(&lost, 1, Deadline::NEVER, 100))?;
    ring.push(&Entry::cancel(rig.device.as_fd(), 100, 101))?;
    ring.push(&wait_for(&lost, 0, Deadline::NEVER, 102))?;
    let mut early = Vec::new();
    while early.len() < 3 {
        let seen = ring.wait(1, soon())?;
        early.extend(seen.into_iter().filter(|seen| seen.user_data >= 100));
    }
    quick("all of it", begin)?;
    for completion in &early {
        let expected = if completion.user_data == 100 {
            -ECANCELED
        } else {
            0
        };
        completion.is("what needs no host", expected)?;
    }
    reaches("the submissions", &rig.fence, 5, None)?;
    drop(ring);
    check_device_works(&rig.device)
}

fn limit(node: &Path) -> Result {
    const MOST: u32 = 1 << 15;
    let (rig, _) = door::rig(node)?;
    let mut ring = Ring::deep(2 * MOST)?;
    let lists = Lists::new(&rig.device, 1)?;
    let mut host = Host::open(node)?;
    let list = Submission::new().signal(&rig.fence, 1);
    let entry = lists.entry(0, &rig.queue, &list)?;
    host.mute(LONG_SILENCE)?;
    let end = Instant::now() + LONG_SILENCE / 2;
    let mut pushed: u64 = 0;
    let mut completions = Vec::new();
    while pushed < u64::from(MOST) {
        for _ in 0..16 {
            ring.queue(&entry.with(32, &pushed.to_ne_bytes()))?;
            pushed += 1;
        }
        ring.submit()?;
        completions.extend(ring.take()?);
        let full = completions.iter().any(|seen| seen.result == -ENOBUFS);
        if full || Instant::now() >= end {
            break;
        }
    }
    host.mute(Duration::ZERO)?;
    let full = completions.iter().any(|seen| seen.result == -ENOBUFS);
    while (completions.len() as u64) < pushed {
        let more = ring.wait(1, soon())?;
        if more.is_empty() {
            return failed(format!("{} of {pushed} completed", completions.len()));
        }
        completions.extend(more);
    }
    if !full {
        // A slow machine, as one that checks itself is, does not get there in time.
        return Err(Problem::Skipped(format!(
            "{pushed} submissions do not fill the line"
        )));
    }
    completions.sort_by_key(|completion| completion.user_data);
    let mut last = 0;
    for completion in &completions {
        if completion.result == -ENOBUFS {
            continue;
        }
        last += 1;
        completion.gives("a submission", last)?;
    }
    ensure(last > 0, "none was taken")?;
    let (_, seq) = rig.queue.query()?;
    ensure(
        seq == last,
        format!("{last} were taken, the queue is at {seq}"),
    )?;
    // There is room again.
    ring.one(&entry)?.gives("a submission behind", last + 1)?;
    reaches("the submissions", &rig.fence, 1, None)
}

fn closed(node: &Path) -> Result {
    let (rig, _) = door::rig(node)?;
    needs(&rig.device, Features::SYNC_BRIDGE)?;
    let mut host = Host::open(node)?;
    for completions in [64, 256] {
        let mut ring = Ring::new(&Setup {
            completions,
            ..Default::default()
        })?;
        let lists = Lists::new(&rig.device, 8)?;
        let bo = rig.vm.create_bo(&BoOptions::new(4096))?;
        host.mute(SILENCE)?;
        for (_, entry) in commands(&rig, &lists)? {
            // The rig's binding is to stay.
            if !entry.words().any(|word| word == (8, 0x0e)) {
                ring.push(&entry)?;
            }
        }
        ring.submit()?;
        let begin = Instant::now();
        drop(ring);
        quick("to close the ring", begin)?;
        drop((bo, lists));
    }
    check_device_works(&rig.device)
}

/// Whether the driver waits for an answer for a moment only: a minute is too long to be waited for here.
fn is_impatient(device: &Device, host: &mut Host) -> Result<bool> {
    host.mute(SILENCE)?;
    let asked = device.budget(Segment::Local);
    host.mute(Duration::ZERO)?;
    Ok(asked.is_err_and(|error| error.errno() == Some(ioctl::Errno(ETIMEDOUT))))
}

fn lost(node: &Path) -> Result {
    /// Messages of a submission; a channel holds some two thousand.
    const SIGNALS: u64 = 256;
    const BATCHES: u64 = 24;
    /// A full channel is tried for ten seconds, once if an answer is waited for no longer.
    const MOST: Duration = Duration::from_secs(60);
    let (rig, mut ring) = door::rig(node)?;
    let mut host = Host::open(node)?;
    if !rig
        .device
        .info()?
        .host_caps
        .unwrap_or_default()
        .contains(HostCaps::ASYNC)
    {
        return Err(Problem::Skipped("the host answers every message".into()));
    }
    if !is_impatient(&rig.device, &mut host)? {
        return Err(Problem::Skipped("the driver is patient (reply_ms)".into()));
    }
    let list = (1..=SIGNALS).fold(Submission::new(), |list, value| {
        list.signal(&rig.fence, value)
    });
    let encoded = list.encode()?;
    let args = rig.device.create_arg_bo(encoded.bytes.len() as u64)?;
    args.mapping().write(0, &encoded.bytes)?;
    let arg = sys::Submit {
        queue: rig.queue.handle(),
        arg_bo: args.handle(),
        ..encoded.descriptor
    };
    host.mute(MOST)?;
    let mut taken = 0;
    for number in 0..BATCHES {
        ring.queue(&Entry::new::<ioctl::Submit>(
            rig.device.as_fd(),
            &arg,
            number,
        ))?;
        ring.submit()?;
        taken += ring.take()?.iter().filter(|seen| seen.result == 0).count();
    }
    ensure(taken > 0, "no submission completed")?;
    let begin = Instant::now();
    while rig
        .queue
        .query()
        .is_ok_and(|(state, _)| state == State::Active)
    {
        ensure(begin.elapsed() < MOST, "the vm was not given up")?;
        std::thread::sleep(Duration::from_millis(100));
    }
    let waited = rig.fence.wait(SIGNALS + 1, soon());
    let errno = waited.err().and_then(|error| error.errno());
    host.mute(Duration::ZERO)?;
    ensure(
        errno == Some(ioctl::Errno(EIO)),
        format!("a wait for what was lost: {errno:?}, expected EIO"),
    )?;
    // The host sets the fences of a device in error to the highest value.
    let begin = Instant::now();
    while rig.fence.query()?.value != u64::MAX {
        ensure(begin.elapsed() < MOST, "the host did not hear of it")?;
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(ring);
    check_device_works(&rig.device)
}
