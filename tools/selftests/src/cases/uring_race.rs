// SPDX-License-Identifier: MIT OR Apache-2.0
//! Entries that are changed while the kernel reads them.

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use libc::{EINVAL, ENOENT, EOPNOTSUPP, ESTALE, ETIME};
use libvaccel::{sys, Deadline, Submission};

use super::Case;
use crate::rig::{check_device_works, ensure, failed, Numbers, Problem, Result};
use crate::sync::fence;
use crate::uring::door::{self, wait_for, Lists};
use crate::uring::entry::{AREA, ASYNC};
use crate::uring::{Completion, Entry, Ring, Setup};

pub const CASES: &[Case] = &[
    Case {
        name: "uring-race-word",
        proves:
            "an entry of which another thread changes one word is taken as the one or the other, \
                 with what belongs to it",
        run: word,
    },
    Case {
        name: "uring-race-submit",
        proves:
            "a submission whose flags and number change under the kernel is taken or refused as a \
                 whole, and the numbers of what was taken have no gap",
        run: submit,
    },
    Case {
        name: "uring-race-any",
        proves:
            "entries whose every word changes under the kernel do no harm, and other rings and \
                 ioctls work",
        run: any,
    },
];

const ROUNDS: u32 = 1500;

/// A ring of one place, which is always hit.
fn ring() -> Result<Ring> {
    Ok(Ring::new(&Setup {
        entries: 1,
        ..Default::default()
    })?)
}

/// Runs `work` while another thread does `change` to the one entry again and again.
fn beside(
    ring: &mut Ring,
    mut change: impl FnMut(&crate::system::Area) -> std::io::Result<()> + Send,
    work: impl FnOnce(&mut Ring) -> Result,
) -> Result {
    let stop = AtomicBool::new(false);
    let entries = ring.entries();
    std::thread::scope(|scope| {
        let changer = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                if change(&entries).is_err() {
                    return false;
                }
            }
            true
        });
        let outcome = work(ring);
        stop.store(true, Ordering::Relaxed);
        match changer.join() {
            Ok(true) => outcome,
            _ => failed("the thread that changes entries has failed"),
        }
    })
}

fn expect(what: &str, seen: Completion, allowed: &[(i32, Option<u64>)]) -> Result {
    let good = allowed
        .iter()
        .any(|(result, extra)| seen.result == *result && (extra.is_none() || seen.extra == *extra));
    ensure(
        good,
        format!("{what}: {seen:?}, expected one of {allowed:?}"),
    )
}

/// What an entry may become in one word, and what it may give then.
struct Change {
    what: &'static str,
    offset: usize,
    words: [u64; 2],
    allowed: [(i32, Option<u64>); 2],
}

fn word(node: &Path) -> Result {
    let (rig, _) = door::rig(node)?;
    let other = fence(&rig.vm)?;
    rig.fence.signal(11)?;
    other.signal(22)?;
    let (one, two) = (rig.fence.handle().into(), u64::from(other.handle()));
    let changes = [
        Change {
            what: "two fences",
            offset: AREA,
            words: [one, two],
            allowed: [(0, Some(11)), (0, Some(22))],
        },
        Change {
            what: "a fence and none",
            offset: AREA,
            words: [one, 0],
            allowed: [(0, Some(11)), (-ENOENT, None)],
        },
        Change {
            what: "an unknown flag",
            offset: AREA,
            words: [one, one | 1 << 63],
            allowed: [(0, Some(11)), (-EINVAL, None)],
        },
        Change {
            what: "a value that is not reached",
            offset: AREA + 8,
            words: [11, 12],
            allowed: [(0, Some(11)), (-ETIME, None)],
        },
        Change {
            what: "two commands",
            offset: 8,
            words: [0x14, 0x7777],
            allowed: [(0, Some(11)), (-EOPNOTSUPP, None)],
        },
    ];
    for change in changes {
        for flags in [0, ASYNC] {
            let entry = wait_for(&rig.fence, 11, Deadline::NOW, 1).flags(flags);
            one_word(&change, &entry)?;
        }
    }
    check_device_works(&rig.device)
}

fn one_word(change: &Change, entry: &Entry) -> Result {
    let mut ring = ring()?;
    let mut odd = false;
    let flip = |entries: &crate::system::Area| {
        odd = !odd;
        let [even_word, odd_word] = change.words;
        entries.set(change.offset, if odd { odd_word } else { even_word })
    };
    beside(&mut ring, flip, |ring| {
        for _ in 0..ROUNDS / 5 {
            let completion = ring.one(entry)?;
            expect(change.what, completion, &change.allowed)?;
        }
        Ok(())
    })
}

fn submit(node: &Path) -> Result {
    let (rig, _) = door::rig(node)?;
    let mut ring = ring()?;
    let lists = Lists::new(&rig.device, 1)?;
    let list = Submission::new().signal(&rig.fence, 1);
    let entry = lists.entry(0, &rig.queue, &list)?;
    let arg = lists.write(0, &rig.queue, &list)?;
    let queue = u64::from(arg.queue);
    let stale = queue | u64::from(sys::SUBMIT_EXPECT_SEQ) << 32;
    let bad = queue | 1 << 63;
    let mut turn = 0;
    let flip = |entries: &crate::system::Area| {
        turn += 1;
        let word = match turn % 3 {
            0 => queue,
            1 => stale,
            _ => bad,
        };
        entries.set(AREA, word)
    };
    let mut taken = 0;
    beside(&mut ring, flip, |ring| {
        for _ in 0..ROUNDS {
            let completion = ring.one(&entry)?;
            if completion.result == 0 {
                taken += 1;
                completion.gives("SUBMIT", taken)?;
            } else {
                expect("SUBMIT", completion, &[(-EINVAL, None), (-ESTALE, None)])?;
            }
        }
        Ok(())
    })?;
    let (_, last) = rig.queue.query()?;
    ensure(
        last == taken,
        format!("{taken} were taken, and the queue is at {last}"),
    )?;
    check_device_works(&rig.device)
}

fn any(node: &Path) -> Result {
    let (rig, mut quiet) = door::rig(node)?;
    let mut ring = ring()?;
    let lists = Lists::new(&rig.device, 1)?;
    let list = Submission::new().signal(&rig.fence, 1);
    let good = [
        lists.entry(0, &rig.queue, &list)?,
        wait_for(&rig.fence, 0, Deadline::NOW, 2),
        Entry::cancel(rig.device.as_fd(), 3, 4),
    ];
    let words: Vec<(usize, u64)> = good.iter().flat_map(Entry::words).collect();
    let mut numbers = Numbers(7);
    // What says which file, which ring, and whether anybody hears of it stays.
    let fixed = [0, 32, 40];
    let change = |entries: &crate::system::Area| {
        let index = numbers.below(words.len() as u64) as usize;
        let Some((offset, word)) = words.get(index) else {
            return Ok(());
        };
        if fixed.contains(offset) {
            return Ok(());
        }
        let word = match numbers.below(4) {
            0 => word ^ 1 << numbers.below(64),
            1 => numbers.below(u64::MAX),
            _ => *word,
        };
        // No deadline far away, so that each ends by itself.
        let word = if *offset == AREA + 16 {
            word % 4096
        } else {
            word
        };
        entries.set(*offset, word)
    };
    beside(&mut ring, change, |ring| {
        for round in 0..ROUNDS {
            let Some(entry) = good.get(round as usize % good.len()) else {
                return Err(Problem::Failed("no entry".into()));
            };
            // What it gives cannot be told, but it ends.
            let _ = ring.one(entry)?;
            if round % 100 == 0 {
                quiet
                    .one(&wait_for(&rig.fence, 0, Deadline::NOW, 1))?
                    .is("a wait by another ring", 0)?;
                rig.vm.query()?;
            }
        }
        Ok(())
    })?;
    check_device_works(&rig.device)
}
