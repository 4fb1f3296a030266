// SPDX-License-Identifier: MIT OR Apache-2.0
//! A wrong result on request: proves that whoever checks results would notice one.

use std::cell::Cell;

use crate::{AddressSpace, Commands, Engine, Fault, Outcome, Pace};

/// Bytes of an element.
const ELEMENT: usize = 4;

/// Remembers the last write that goes through it.
struct Recorder<'a> {
    inner: &'a dyn AddressSpace,
    last: Cell<Option<(u64, usize)>>,
}

impl AddressSpace for Recorder<'_> {
    fn read(&self, va: u64, buf: &mut [u8]) -> Result<(), Fault> {
        self.inner.read(va, buf)
    }

    fn write(&self, va: u64, data: &[u8]) -> Result<(), Fault> {
        self.last.set(Some((va, data.len())));
        self.inner.write(va, data)
    }
}

/// Runs a command buffer and then makes the first element of its last write wrong. A job that fails
/// or writes nothing stays as it is. Returns the outcome, and whether an element was changed.
pub fn flip_last_write(
    engine: &dyn Engine,
    commands: Commands,
    space: &dyn AddressSpace,
    pace: &dyn Pace,
) -> (Outcome, bool) {
    let recorder = Recorder {
        inner: space,
        last: Cell::new(None),
    };
    let outcome = engine.run(commands, &recorder, pace);
    if outcome != Outcome::Done {
        return (outcome, false);
    }
    let Some((va, bytes)) = recorder.last.get() else {
        return (outcome, false);
    };
    match change(space, va, bytes) {
        Ok(()) => (outcome, true),
        Err(fault) => (Outcome::PageFault(fault), false),
    }
}

fn change(space: &dyn AddressSpace, va: u64, bytes: usize) -> Result<(), Fault> {
    if bytes < ELEMENT {
        let mut byte = [0];
        space.read(va, &mut byte)?;
        return space.write(va, &byte.map(|old| !old));
    }
    let mut element = [0; ELEMENT];
    space.read(va, &mut element)?;
    let old = f32::from_le_bytes(element);
    // Off by one is plainly wrong for every number a network computes; where it changes nothing
    // (huge numbers, NaN) the sign does.
    let new = old + 1.0;
    let new = if new != old && new.is_finite() {
        new
    } else {
        -old
    };
    space.write(va, &new.to_le_bytes())
}
