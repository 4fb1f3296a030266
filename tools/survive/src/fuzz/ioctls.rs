// SPDX-License-Identifier: MIT OR Apache-2.0
//! Single operations. The first entry of an input is the operation's number, the second its
//! structure, the third what the argument object holds.

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};

use anyhow::Result;
use libvaccel::ioctl::{self, call, Errno, Operation};
use libvaccel::sys::{self, Layout, Wire};
use zerocopy::{FromBytes, IntoBytes};

use super::fields::{change, fill, find, get, limit_memory, set, Pool};
use super::target::{soon, Target};
use super::{judge, Input, Kind, Outcome};
use crate::numbers::Numbers;

/// An operation, by the words of its structure.
#[derive(Clone, Copy)]
pub struct Call {
    name: &'static str,
    layout: Layout,
    call: fn(BorrowedFd<'_>, &mut [u64; 10]) -> Result<(), Errno>,
}

fn typed<O: Operation>(fd: BorrowedFd<'_>, words: &mut [u64; 10]) -> Result<(), Errno> {
    let bytes = words.as_mut_bytes();
    // The words have room for each structure of the interface.
    let (mut arg, _) = O::Arg::read_from_prefix(bytes).map_err(|_| Errno(libc::EMSGSIZE))?;
    let outcome = call::<O>(fd, &mut arg);
    // As above.
    let _ = arg.write_to_prefix(bytes);
    outcome
}

macro_rules! calls {
    ($($op:ident),* $(,)?) => {
        /// All operations.
        pub const CALLS: &[Call] = &[$(Call {
            name: <ioctl::$op as Operation>::NAME,
            layout: <<ioctl::$op as Operation>::Arg as Wire>::LAYOUT,
            call: typed::<ioctl::$op>,
        }),*];
    };
}

calls! {
    GetParam, AdapterQuery, VmCreate, VmDestroy, VmQuery, QueueCreate, QueueDestroy, QueueQuery,
    BoCreate, BoInfo, BoSync, VaReserve, VaRelease, Bind, Unbind, Residency, FenceCreate,
    FenceDestroy, FenceSignal, FenceQuery, FenceWait, FenceWaitMany, FenceEventfd, FenceToFd,
    FenceFromFd, SyncExport, SyncImport, Submit, Budget, Events, Escape,
}

/// What waits in the call has to come back.
const WAITS: [&str; 2] = ["FENCE_WAIT", "FENCE_WAIT_MANY"];

fn of(input: &Input) -> Option<&'static Call> {
    let number = input.0.first()?.first()?;
    CALLS.get(usize::try_from(*number).ok()? % CALLS.len())
}

fn arguments(numbers: &mut Numbers, pool: &Pool) -> [u64; 10] {
    // A list of residency or of waits, or of records.
    match numbers.below(3) {
        0 => fill(numbers, pool, &sys::ResidencyEntry::LAYOUT),
        1 => fill(numbers, pool, &sys::WaitEntry::LAYOUT),
        _ => fill(numbers, pool, &sys::OpFence::LAYOUT),
    }
}

/// New input.
pub fn make(numbers: &mut Numbers, pool: &Pool) -> Input {
    let mut number = numbers.below(CALLS.len() as u64);
    let destroys = |number: u64| {
        let call = CALLS.get(number as usize);
        call.is_some_and(|call| call.name.ends_with("_DESTROY"))
    };
    // Otherwise there is soon nothing left.
    while destroys(number) && !numbers.one_in(10) {
        number = numbers.below(CALLS.len() as u64);
    }
    let mut input = Input(vec![[0; 10]; 3]);
    if let [first, words, memory] = &mut input.0[..] {
        first[0] = number;
        if let Some(call) = CALLS.get(number as usize) {
            *words = fill(numbers, pool, &call.layout);
        }
        *memory = arguments(numbers, pool);
    }
    input
}

/// Input that is a little different.
pub fn mutate(numbers: &mut Numbers, pool: &Pool, mut input: Input) -> Input {
    let Some(call) = of(&input) else {
        return input;
    };
    if let [_, words, memory] = &mut input.0[..] {
        for _ in 0..=numbers.below(3) {
            change(numbers, pool, &call.layout, words);
        }
        if numbers.one_in(4) {
            *memory = arguments(numbers, pool);
        }
    }
    input
}

/// Gives it to the driver.
pub fn run(target: &mut Target, input: &Input) -> Result<Outcome> {
    let (Some(call), [_, words, memory]) = (of(input), &input.0[..]) else {
        return Ok(Outcome::Refused);
    };
    target.rig.put(0, memory.as_bytes())?;
    let mut words = *words;
    limit_memory(&call.layout, &mut words);
    if WAITS.contains(&call.name) {
        if let Some((offset, size)) = find(&call.layout, "deadline_ns") {
            set(&mut words, offset, size, soon());
        }
    }
    let asked = words;
    let outcome = (call.call)(target.rig.fd(), &mut words);
    if outcome.is_ok() {
        close(call, &asked, &words);
    }
    judge(Kind::Ioctl, outcome)
}

/// Closes the descriptor that an operation has made.
fn close(call: &Call, asked: &[u64; 10], words: &[u64; 10]) {
    let field = |words, name| find(&call.layout, name).map_or(0, |(o, s)| get(words, o, s));
    let flags = field(asked, "flags") as u32;
    let made = match call.name {
        "FENCE_TO_FD" => true,
        "SYNC_EXPORT" => flags & sys::SYNC_FILE != 0,
        _ => false,
    };
    if made {
        close_number(field(words, "fd") as i32);
    }
}

#[expect(
    unsafe_code,
    reason = "the number of a descriptor that the kernel has just made"
)]
fn close_number(fd: i32) {
    // SAFETY: the operation has succeeded that makes a descriptor and writes its number there; nobody
    // else knows it.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that each operation of the interface is in the list, at its number.
    #[test]
    fn complete() {
        let names: Vec<&str> = CALLS.iter().map(|call| call.name).collect();
        let all: Vec<&str> = ioctl::OPERATIONS.iter().map(|op| op.0).collect();
        assert_eq!(names, all);
    }

    /// Proves that words are the structure: an errno comes back for any.
    #[test]
    fn words() {
        use std::os::fd::AsFd;
        let null = std::fs::File::open("/dev/null").unwrap();
        for call in CALLS {
            let outcome = (call.call)(null.as_fd(), &mut [u64::MAX; 10]);
            assert_eq!(outcome, Err(Errno(libc::ENOTTY)), "{}", call.name);
        }
    }
}
