// SPDX-License-Identifier: MIT OR Apache-2.0
//! Commands by io_uring. Entries of an input come in pairs: number and flags, then the structure. They
//! are given to the kernel together.

use std::os::fd::BorrowedFd;

use anyhow::{Context as _, Result};
use libvaccel::ioctl::{
    Bind, Cancel, Errno, FenceWait, FenceWaitMany, Operation, Residency, Submit, SyncExport,
    SyncImport, Unbind,
};
use libvaccel::ring::raw::{EntryFlags, Ring, RingOperation, Target as File};
use libvaccel::sys::{self, Layout, Wire};
use libvaccel::Deadline;
use zerocopy::{FromBytes, IntoBytes};

use super::fields::{change, fill, find, set, Pool};
use super::target::{soon, Target};
use super::{judge, Input, Kind, Outcome};
use crate::numbers::Numbers;

type Push = fn(&mut Ring, BorrowedFd<'_>, &[u64; 10], u64, EntryFlags) -> std::io::Result<()>;

struct Command {
    layout: Layout,
    push: Push,
}

fn push<O: RingOperation>(
    ring: &mut Ring,
    fd: BorrowedFd<'_>,
    words: &[u64; 10],
    user_data: u64,
    flags: EntryFlags,
) -> std::io::Result<()> {
    match O::Arg::read_from_prefix(words.as_bytes()) {
        Ok((arg, _)) => ring.push::<O>(File::Fd(fd), &arg, user_data, flags),
        // The words have room for each structure of the interface.
        Err(_) => Ok(()),
    }
}

macro_rules! commands {
    ($($op:ident),*) => {
        const COMMANDS: &[Command] = &[$(Command {
            layout: <<$op as Operation>::Arg as Wire>::LAYOUT,
            push: push::<$op>,
        }),*];
    };
}

commands!(
    Submit,
    FenceWait,
    FenceWaitMany,
    Residency,
    Bind,
    Unbind,
    SyncExport,
    SyncImport,
    Cancel
);

/// Most commands of an input.
const MOST: u64 = 4;
/// user_data of the commands: few, so that CANCEL hits some.
const USERS: u64 = 4;

fn command(numbers: &mut Numbers, pool: &Pool) -> [[u64; 10]; 2] {
    let number = numbers.below(COMMANDS.len() as u64);
    let flags = match numbers.one_in(4) {
        true => numbers.below(256),
        false => 0,
    };
    let mut head = [0; 10];
    (head[0], head[1], head[2]) = (number, flags, numbers.below(USERS));
    let mut words = COMMANDS
        .get(number as usize)
        .map_or([0; 10], |command| fill(numbers, pool, &command.layout));
    // CANCEL names what the commands are called.
    if numbers.one_in(2) && head[0] == COMMANDS.len() as u64 - 1 {
        words[0] = numbers.below(USERS);
    }
    [head, words]
}

/// New input.
pub fn make(numbers: &mut Numbers, pool: &Pool) -> Input {
    let count = 1 + numbers.below(MOST);
    Input((0..count).flat_map(|_| command(numbers, pool)).collect())
}

/// Input that is a little different.
pub fn mutate(numbers: &mut Numbers, pool: &Pool, mut input: Input) -> Input {
    for pair in input.0.chunks_exact_mut(2) {
        if let [head, words] = pair {
            if let Some(command) = COMMANDS.get(head[0] as usize) {
                change(numbers, pool, &command.layout, words);
            }
        }
    }
    if numbers.one_in(3) && (input.0.len() as u64) < 2 * MOST {
        input.0.extend(command(numbers, pool));
    }
    input
}

/// The flags that are tried: how commands stand to each other.
fn flags(word: u64) -> EntryFlags {
    EntryFlags::from_bits_truncate(word as u8)
}

/// Gives it to the driver.
pub fn run(target: &mut Target, input: &Input) -> Result<Outcome> {
    // A list for whatever wants one: a signal of a fence.
    let record = sys::OpFence {
        opcode: sys::OP_FENCE_SIGNAL,
        fence: target.rig.fence.handle(),
        value: 1,
        ..Default::default()
    };
    target.rig.put(0, record.as_bytes())?;
    let fd = target.rig.fd();
    let ring = target.ring.as_mut().context("no ring")?;
    for pair in input.0.chunks_exact(2) {
        let [head, words] = pair else { continue };
        let Some(command) = COMMANDS.get(head[0] as usize) else {
            continue;
        };
        let mut words = *words;
        if let (Some((offset, size)), false) = (find(&command.layout, "deadline_ns"), head[2] == 0)
        {
            set(&mut words, offset, size, soon());
        }
        match (command.push)(ring, fd, &words, head[2], flags(head[1])) {
            // What is pending behind a drain or a link fills the ring.
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => break,
            outcome => outcome?,
        }
    }
    let soon = Deadline::after(std::time::Duration::from_millis(2));
    match ring.submit_and_wait(1, soon) {
        Err(error) if !TOLERATED.contains(&error.raw_os_error().unwrap_or(0)) => {
            return Err(error).context("io_uring_enter")
        }
        _ => {}
    }
    let mut all = Outcome::Refused;
    for completion in ring.completions() {
        let result = match completion.result {
            result if result < 0 => Err(Errno(-result)),
            _ => Ok(()),
        };
        match judge(Kind::Ring, result).context("a completion")? {
            Outcome::Failed => return Ok(Outcome::Failed),
            Outcome::Taken => all = Outcome::Taken,
            Outcome::Refused => {}
        }
    }
    Ok(all)
}

/// What to enter a ring may give: nothing came in time, or there is too much to come.
const TOLERATED: [i32; 4] = [libc::ETIME, libc::EINTR, libc::EBUSY, libc::EAGAIN];
