// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who may: users without rights, io_uring switched off, 32-bit programs, several rings and processes.

use std::os::fd::AsFd;
use std::path::Path;

use libc::{ECANCELED, EPERM};
use libvaccel::{Deadline, Submission};

use super::Case;
use crate::rig::{ensure, failed, soon, Problem, Result, Rig};
use crate::sync::{fence, reaches};
use crate::system::{become_nobody, Child};
use crate::uring::door::{self, wait_for, Lists};
use crate::uring::{Entry, Ring, Setup};

pub const CASES: &[Case] = &[
    Case {
        name: "uring-nobody",
        proves: "a user without rights who was given the file uses it by io_uring",
        run: |node| nobody(node, 0),
    },
    Case {
        name: "uring-disabled-nobody",
        proves: "with kernel.io_uring_disabled=1 a user without rights makes no ring, and the ioctls do \
                 all the same",
        run: |node| nobody(node, 1),
    },
    Case {
        name: "uring-disabled",
        proves: "with kernel.io_uring_disabled=2 nobody makes a ring, and the ioctls do all the same",
        run: |node| nobody(node, 2),
    },
    Case {
        name: "uring-32-bit",
        proves: "a ring made by the 32-bit system call takes the same commands",
        run: narrow,
    },
    Case {
        name: "uring-two-rings",
        proves: "two rings on one file each get their own completions, and submit to one queue",
        run: two_rings,
    },
    Case {
        name: "uring-two-processes",
        proves: "two processes with one file use it by rings of their own, the one can cancel what the \
                 other waits for, and the end of one leaves the other's alone",
        run: two_processes,
    },
];

const SWITCH: &str = "/proc/sys/kernel/io_uring_disabled";

/// The switch, put back when this is dropped.
struct Switched(String);

impl Switched {
    fn to(value: u32) -> Result<Self> {
        let before = std::fs::read_to_string(SWITCH)
            .map_err(|error| Problem::Skipped(format!("{SWITCH}: {error}")))?;
        std::fs::write(SWITCH, value.to_string())?;
        Ok(Self(before))
    }
}

impl Drop for Switched {
    fn drop(&mut self) {
        // Nobody is left to tell.
        let _ = std::fs::write(SWITCH, &self.0);
    }
}

/// Uses the file without a ring.
fn ioctls(rig: &Rig, value: u64) -> Result {
    let list = Submission::new().signal(&rig.fence, value);
    rig.queue.submit(&list)?;
    rig.fence.wait(value, soon())?;
    Ok(())
}

/// Uses the file by a ring.
fn commands(rig: &Rig, ring: &mut Ring, value: u64) -> Result {
    let lists = Lists::new(&rig.device, 1)?;
    let list = Submission::new().signal(&rig.fence, value);
    ring.one(&lists.entry(0, &rig.queue, &list)?)?
        .is("SUBMIT", 0)?;
    ring.one(&wait_for(&rig.fence, value, soon(), 1))?
        .is("FENCE_WAIT", 0)?;
    ring.push(&wait_for(&rig.fence, value + 1, Deadline::NEVER, 2))?;
    ring.push(&Entry::cancel(rig.device.as_fd(), 2, 3))?;
    for completion in ring.collect(2, soon())? {
        let expected = if completion.user_data == 2 {
            -ECANCELED
        } else {
            0
        };
        completion.is("CANCEL and its target", expected)?;
    }
    Ok(())
}

fn no_ring() -> Result {
    match Ring::usual() {
        Err(error) if error.raw_os_error() == Some(EPERM) => Ok(()),
        Err(error) => failed(format!("a ring: {error}, expected EPERM")),
        Ok(_) => failed("there is a ring although they are switched off"),
    }
}

/// Does `work` in a child.
fn in_child(work: impl FnOnce() -> Result) -> Result {
    let child = Child::fork(|| match work() {
        Ok(()) => true,
        Err(Problem::Failed(reason) | Problem::Skipped(reason)) => {
            println!("the child: {reason}");
            false
        }
    })?;
    let good = child.join()?;
    ensure(good, "the child has failed")
}

fn nobody(node: &Path, disabled: u32) -> Result {
    door::open(node)?;
    let rig = Rig::new(node)?;
    let _switched = Switched::to(disabled)?;
    in_child(|| {
        become_nobody()?;
        ioctls(&rig, 1)?;
        match disabled {
            0 => commands(&rig, &mut Ring::usual()?, 2),
            _ => no_ring(),
        }
    })?;
    match disabled {
        2 => no_ring()?,
        _ => commands(&rig, &mut Ring::usual()?, 3)?,
    }
    ioctls(&rig, 4)
}

fn narrow(node: &Path) -> Result {
    door::open(node)?;
    let rig = Rig::new(node)?;
    let setup = Setup {
        narrow: true,
        ..Default::default()
    };
    // A kernel without such programs would end this one, and say so in its log.
    if !Path::new("/proc/sys/abi/vsyscall32").exists() {
        return Err(Problem::Skipped(
            "the kernel runs no 32-bit programs".into(),
        ));
    }
    let mut ring = Ring::new(&setup)?;
    commands(&rig, &mut ring, 1)
}

fn two_rings(node: &Path) -> Result {
    let (rig, mut one) = door::rig(node)?;
    let mut two = Ring::usual()?;
    let lists = Lists::new(&rig.device, 2)?;
    let done = fence(&rig.vm)?;
    for round in 1..=50 {
        for (ring, slot) in [(&mut one, 0), (&mut two, 1)] {
            let seq = 2 * round - 1 + slot;
            let list = Submission::new().signal(&done, seq).expect_seq(seq);
            let entry = lists.entry(slot, &rig.queue, &list)?;
            ring.push(&wait_for(&rig.fence, round, Deadline::NEVER, 10 + slot))?;
            ring.push(&entry)?;
            let completions = ring.collect(1, soon())?;
            for completion in completions {
                ensure(
                    completion.user_data == slot,
                    format!("{} completed in ring {slot}", completion.user_data),
                )?;
                completion.gives("SUBMIT", seq)?;
            }
        }
        rig.fence.signal(round)?;
        for (ring, slot) in [(&mut one, 10), (&mut two, 11)] {
            for completion in ring.collect(1, soon())? {
                ensure(completion.user_data == slot, "the other ring's completion")?;
                completion.gives("FENCE_WAIT", round)?;
            }
        }
    }
    reaches("the submissions", &done, 100, None)
}

fn two_processes(node: &Path) -> Result {
    let (rig, mut ring) = door::rig(node)?;
    let (ready, go) = (fence(&rig.vm)?, fence(&rig.vm)?);
    let other = Child::fork(|| waits_in_child(&rig, &ready, &go).is_ok())?;
    ready.wait(1, soon())?;
    ring.push(&wait_for(&go, 1, Deadline::NEVER, 5))?;
    ring.one(&Entry::cancel(rig.device.as_fd(), 77, 1))?
        .gives("CANCEL of another process's", 2)?;
    let good = other.join()?;
    ensure(good, "the other process saw something else")?;
    // One that dies with waits pending.
    let other = Child::fork(|| {
        let begun = || -> Result {
            let mut ring = Ring::usual()?;
            for _ in 0..20 {
                ring.push(&wait_for(&go, 1, Deadline::NEVER, 78))?;
            }
            ring.submit()?;
            ready.signal(2)?;
            std::thread::sleep(std::time::Duration::from_secs(600));
            Ok(())
        };
        begun().is_ok()
    })?;
    ready.wait(2, soon())?;
    other.kill()?;
    ring.stays_quiet("this process's wait")?;
    go.signal(1)?;
    for completion in ring.collect(1, soon())? {
        ensure(completion.user_data == 5, "another process's completion")?;
        completion.gives("this process's wait", 1)?;
    }
    commands(&rig, &mut ring, 1)
}

/// Two waits that the other process ends, and one that the ring's end does.
fn waits_in_child(rig: &Rig, ready: &libvaccel::Fence, go: &libvaccel::Fence) -> Result {
    let mut ring = Ring::usual()?;
    for user_data in [77, 77, 76] {
        ring.push(&wait_for(go, 1, Deadline::NEVER, user_data))?;
    }
    ring.submit()?;
    rig.vm.query()?;
    ready.signal(1)?;
    for completion in ring.collect(2, soon())? {
        ensure(completion.user_data == 77, "the wrong one ended")?;
        completion.is("what the other process cancelled", -ECANCELED)?;
    }
    Ok(())
}
