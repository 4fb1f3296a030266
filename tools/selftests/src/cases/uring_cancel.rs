// SPDX-License-Identifier: MIT OR Apache-2.0
//! CANCEL, with thousands of commands pending.

use std::os::fd::AsFd;
use std::path::Path;

use libc::{EALREADY, ECANCELED, ENOENT};
use libvaccel::{ioctl, sys, Deadline, Features, QueueMode, QueueOptions, Submission};
use zerocopy::IntoBytes;

use super::Case;
use crate::rig::{ensure, failed, needs, soon, Result, Rig};
use crate::sync::{fence, reaches};
use crate::uring::door::{self, wait_for, Lists};
use crate::uring::{Completion, Entry, Ring};

pub const CASES: &[Case] = &[
    Case {
        name: "uring-cancel",
        proves: "among 4000 waits CANCEL ends exactly those with the user_data it names, one, several or \
                 none, and each wait completes once",
        run: thousands,
    },
    Case {
        name: "uring-cancel-kinds",
        proves: "CANCEL ends waits for several fences, exports, imports and submissions that are to \
                 complete when done, and what was submitted is done all the same",
        run: kinds,
    },
    Case {
        name: "uring-cancel-files",
        proves: "CANCEL reaches commands of the same file by another ring and a duplicated descriptor, \
                 and none of another file",
        run: files,
    },
    Case {
        name: "uring-cancel-race",
        proves: "a wait that is cancelled while its fence is signalled completes once, as cancelled just \
                 when CANCEL says so",
        run: race,
    },
];

const COUNT: u64 = 4000;
/// user_data of the CANCELs.
const ASKED: u64 = 1 << 40;

/// Completions by how often each user_data was seen; a second time fails.
#[derive(Debug, Default)]
pub(super) struct Seen {
    results: std::collections::HashMap<u64, i32>,
}

impl Seen {
    /// Adds these.
    pub(super) fn add(&mut self, completions: Vec<Completion>) -> Result {
        for completion in completions {
            let user_data = completion.user_data;
            let before = self.results.insert(user_data, completion.result);
            ensure(before.is_none(), format!("{user_data} completed twice"))?;
        }
        Ok(())
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.results.len()
    }

    /// Those that have another result than this.
    pub(super) fn others(&self, result: i32) -> Vec<(u64, i32)> {
        let others = self.results.iter().filter(|seen| *seen.1 != result);
        others
            .map(|(user_data, result)| (*user_data, *result))
            .collect()
    }
}

/// Begins so many waits for a value that does not come, numbered from 0.
pub(super) fn begin(ring: &mut Ring, rig: &Rig, count: u64) -> Result {
    for user_data in 0..count {
        ring.queue(&wait_for(
            &rig.fence,
            u64::MAX - 1,
            Deadline::NEVER,
            user_data,
        ))?;
    }
    Ok(ring.submit()?)
}

/// Cancels, and takes what ends by it: the CANCEL's result and extra word, and how many ended.
fn cancel(
    ring: &mut Ring,
    rig: &Rig,
    target: u64,
    seen: &mut Vec<Completion>,
) -> Result<Completion> {
    ring.push(&Entry::cancel(rig.device.as_fd(), target, ASKED))?;
    loop {
        let completions = ring.wait(1, soon())?;
        if completions.is_empty() {
            return failed("CANCEL does not complete");
        }
        let mut answer = None;
        for completion in completions {
            if completion.user_data == ASKED {
                answer = Some(completion);
            } else {
                seen.push(completion);
            }
        }
        if let Some(answer) = answer {
            return Ok(answer);
        }
    }
}

fn thousands(node: &Path) -> Result {
    let (rig, _) = door::rig(node)?;
    let mut ring = Ring::deep(8192)?;
    begin(&mut ring, &rig, COUNT)?;
    // Ten more with a number that is taken, and five that have none.
    for user_data in [7; 10].into_iter().chain([ASKED + 1; 5]) {
        ring.queue(&wait_for(
            &rig.fence,
            u64::MAX - 1,
            Deadline::NEVER,
            user_data,
        ))?;
    }
    ring.submit()?;
    let mut ended = Vec::new();
    for (target, count) in [(0, 1), (COUNT - 1, 1), (7, 11), (ASKED + 1, 5)] {
        cancel(&mut ring, &rig, target, &mut ended)?.gives("CANCEL", count)?;
        let missing = count as usize - ended.len();
        ended.extend(ring.collect(missing, soon())?);
        let good = ended.len() == count as usize
            && ended
                .iter()
                .all(|seen| seen.user_data == target && seen.result == -ECANCELED);
        ensure(good, format!("CANCEL of {target}: {ended:?}"))?;
        ended.clear();
        cancel(&mut ring, &rig, target, &mut ended)?.is("CANCEL again", -ENOENT)?;
    }
    for target in [COUNT, u64::MAX, ASKED] {
        cancel(&mut ring, &rig, target, &mut ended)?.is("CANCEL of none", -ENOENT)?;
    }
    ensure(ended.is_empty(), format!("ended without CANCEL: {ended:?}"))?;
    rig.fence.signal(u64::MAX - 1)?;
    let mut rest = Seen::default();
    rest.add(ring.collect(COUNT as usize - 3, soon())?)?;
    let others = rest.others(0);
    ensure(others.is_empty(), format!("others than 0: {others:?}"))?;
    ring.stays_quiet("all have completed")
}

fn kinds(node: &Path) -> Result {
    let (rig, mut ring) = door::rig(node)?;
    let device = &rig.device;
    needs(device, Features::SYNC_BRIDGE)?;
    let file = device.as_fd();
    let (point, missing) = (device.create_syncobj(false)?, device.create_syncobj(false)?);
    let entry = sys::WaitEntry {
        fence: rig.fence.handle(),
        value: 1,
        ..Default::default()
    };
    rig.arg.mapping().write(0, entry.as_bytes())?;
    let many = sys::FenceWaitMany {
        arg_bo: rig.arg.handle(),
        count: 1,
        deadline_ns: Deadline::NEVER.as_ns(),
        ..Default::default()
    };
    let export = sys::Sync {
        fence: rig.fence.handle(),
        value: 1,
        syncobj: point.handle(),
        ..Default::default()
    };
    let import = sys::Sync {
        flags: sys::SYNC_TIMELINE | sys::SYNC_WAIT_FOR_SUBMIT,
        syncobj: missing.handle(),
        point: 1,
        deadline_ns: Deadline::NEVER.as_ns(),
        ..export
    };
    let queue = rig
        .vm
        .create_queue(&QueueOptions::new(QueueMode::LongRunning))?;
    let lists = Lists::new(device, 1)?;
    let (go, done) = (fence(&rig.vm)?, fence(&rig.vm)?);
    let list = Submission::new().wait(&go, 1).done(&done, 1);
    let mut submit = lists.write(0, &queue, &list)?;
    submit.flags |= sys::SUBMIT_CQE_ON_DONE;
    let all = [
        Entry::new::<ioctl::FenceWaitMany>(file, &many, 1),
        Entry::new::<ioctl::SyncExport>(file, &export, 2),
        Entry::new::<ioctl::SyncImport>(file, &import, 3),
        Entry::new::<ioctl::Submit>(file, &submit, 4),
    ];
    for entry in &all {
        ring.push(entry)?;
    }
    ring.submit()?;
    // The submission has to be queued before it can be cancelled.
    ring.stays_quiet("all are pending")?;
    let mut ended = Vec::new();
    for target in 1..=4 {
        cancel(&mut ring, &rig, target, &mut ended)?.gives("CANCEL", 1)?;
        let missing = 1 - ended.len().min(1);
        ended.extend(ring.collect(missing, soon())?);
        for completion in ended.drain(..) {
            ensure(completion.user_data == target, "another one ended")?;
            completion.is("what was cancelled", -ECANCELED)?;
        }
    }
    go.signal(1)?;
    reaches("what was submitted", &done, 1, None)?;
    ring.stays_quiet("all have completed")
}

fn files(node: &Path) -> Result {
    let (rig, mut ring) = door::rig(node)?;
    let (other, mut second) = door::rig(node)?;
    let copy = rig.device.as_fd().try_clone_to_owned()?;
    for target in 1..=2 {
        ring.push(&wait_for(&rig.fence, 1, Deadline::NEVER, target))?;
    }
    ring.push(&wait_for(&other.fence, 1, Deadline::NEVER, 3))?;
    ring.submit()?;
    for target in 1..=2 {
        second
            .one(&Entry::cancel(other.device.as_fd(), target, 9))?
            .is("CANCEL of another file's", -ENOENT)?;
    }
    second
        .one(&Entry::cancel(rig.device.as_fd(), 1, 9))?
        .gives("CANCEL by another ring", 1)?;
    second
        .one(&Entry::cancel(copy.as_fd(), 2, 9))?
        .gives("CANCEL by a duplicate", 1)?;
    for completion in ring.collect(2, soon())? {
        ensure(completion.user_data < 3, "another file's wait ended")?;
        completion.is("what was cancelled", -ECANCELED)?;
    }
    other.fence.signal(1)?;
    for completion in ring.collect(1, soon())? {
        completion.gives("another file's wait", 1)?;
    }
    Ok(())
}

fn race(node: &Path) -> Result {
    const ROUNDS: u64 = 150;
    let (rig, mut ring) = door::rig(node)?;
    let barrier = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        let signaller = scope.spawn(|| {
            for value in 1..=ROUNDS {
                barrier.wait();
                rig.fence.signal(value)?;
            }
            Ok::<_, libvaccel::Error>(())
        });
        let mut outcome = Ok(());
        for value in 1..=ROUNDS {
            // The other thread is kept going whatever went wrong.
            if outcome.is_ok() {
                outcome = ring
                    .push(&wait_for(&rig.fence, value, Deadline::NEVER, value))
                    .and_then(|()| ring.submit())
                    .map_err(Into::into);
            }
            barrier.wait();
            if outcome.is_ok() {
                outcome = one_race(&mut ring, &rig, value);
            }
        }
        match signaller.join() {
            Ok(Ok(())) => outcome,
            _ => failed("the thread that signals has failed"),
        }
    })
}

fn one_race(ring: &mut Ring, rig: &Rig, value: u64) -> Result {
    let mut ended = Vec::new();
    let answer = cancel(ring, rig, value, &mut ended)?;
    let missing = 1 - ended.len().min(1);
    ended.extend(ring.collect(missing, soon())?);
    let [wait] = ended.as_slice() else {
        return failed(format!("one wait completed as {ended:?}"));
    };
    match answer.result {
        0 => wait.is("a wait that was cancelled", -ECANCELED),
        result if [-ENOENT, -EALREADY].contains(&result) => {
            wait.is("a wait that was not cancelled", 0)
        }
        other => failed(format!("CANCEL gives {other}")),
    }
}
