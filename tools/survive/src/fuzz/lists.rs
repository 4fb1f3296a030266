// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lists of operations. The first entry of an input is the SUBMIT, the others are records.

use anyhow::Result;
use libvaccel::ioctl::{call, Submit};
use libvaccel::sys::{self, Layout, Wire};
use zerocopy::{FromBytes, IntoBytes};

use super::fields::{change, fill, set, Pool};
use super::target::Target;
use super::{judge, Input, Kind, Outcome};
use crate::numbers::Numbers;

/// The record of each opcode.
const RECORDS: &[(u32, Layout)] = &[
    (sys::OP_EXEC, sys::OpExec::LAYOUT),
    (sys::OP_FENCE_WAIT, sys::OpFence::LAYOUT),
    (sys::OP_FENCE_SIGNAL, sys::OpFence::LAYOUT),
    (sys::OP_SYNCOBJ_WAIT, sys::OpSyncobj::LAYOUT),
    (sys::OP_SYNCOBJ_SIGNAL, sys::OpSyncobj::LAYOUT),
    (sys::OP_BIND, sys::OpBind::LAYOUT),
    (sys::OP_UNBIND, sys::OpBind::LAYOUT),
    (sys::OP_RESIDENCY, sys::OpResidency::LAYOUT),
    (sys::OP_BO_ACCESS, sys::OpBoAccess::LAYOUT),
];
/// Most records of a list.
const RECORDS_MOST: u64 = 8;
/// Words of a record, and of the room between two.
const STRIDE: usize = 8;

fn record(numbers: &mut Numbers, pool: &Pool, code_size: u32) -> [u64; 10] {
    let Some((opcode, layout)) = numbers.pick(RECORDS) else {
        return [0; 10];
    };
    let mut words = fill(numbers, pool, layout);
    set(&mut words, 0, 4, u64::from(*opcode));
    // A stream that fails ends the vm, and with it the round.
    if *opcode == sys::OP_EXEC && !numbers.one_in(20) {
        let exec = sys::OpExec {
            opcode: sys::OP_EXEC,
            gpu_va: pool.addresses.last().copied().unwrap_or(0),
            size: code_size,
            ..Default::default()
        };
        words = [0; 10];
        for (word, bytes) in words.iter_mut().zip(exec.as_bytes().chunks_exact(8)) {
            *word = u64::from_ne_bytes(bytes.try_into().unwrap_or_default());
        }
    }
    words
}

/// New input.
pub fn make(numbers: &mut Numbers, pool: &Pool, code_size: u32) -> Input {
    let count = 1 + numbers.below(RECORDS_MOST);
    let mut submit = fill(numbers, pool, &sys::Submit::LAYOUT);
    let likely = sys::Submit {
        queue: numbers.pick(&pool.queues).copied().unwrap_or(0),
        arg_bo: pool.arguments,
        nr_ops: count as u32,
        op_stride: (STRIDE * 8) as u32,
        flags: numbers.below(64) as u32 & numbers.below(64) as u32,
        done_fence: numbers.pick(&pool.fences).copied().unwrap_or(0),
        done_value: numbers.below(8),
        out_syncobj: numbers.pick(&pool.syncobjs).copied().unwrap_or(0),
        result_offset: 8192,
        ..Default::default()
    };
    if !numbers.one_in(6) {
        submit = words(&likely);
    }
    let mut entries = vec![submit];
    for _ in 0..count {
        entries.push(record(numbers, pool, code_size));
    }
    Input(entries)
}

/// The words of a SUBMIT, without what goes with flags that it does not have.
fn words(submit: &sys::Submit) -> [u64; 10] {
    let mut submit = *submit;
    if submit.flags & sys::SUBMIT_DONE_FENCE == 0 {
        (submit.done_fence, submit.done_value) = (0, 0);
    }
    if submit.flags & sys::SUBMIT_OUT_SYNCOBJ == 0 {
        submit.out_syncobj = 0;
    }
    if submit.flags & sys::SUBMIT_RESULTS == 0 {
        submit.result_offset = 0;
    }
    let mut words = [0; 10];
    for (word, bytes) in words.iter_mut().zip(submit.as_bytes().chunks_exact(8)) {
        *word = u64::from_ne_bytes(bytes.try_into().unwrap_or_default());
    }
    words
}

/// Input that is a little different.
pub fn mutate(numbers: &mut Numbers, pool: &Pool, mut input: Input) -> Input {
    for _ in 0..=numbers.below(3) {
        let place = numbers.below(input.0.len() as u64) as usize;
        let Some(words) = input.0.get_mut(place) else {
            continue;
        };
        let layout = match place {
            0 => &sys::Submit::LAYOUT,
            _ => {
                let opcode = words[0] as u32;
                let record = RECORDS.iter().find(|record| record.0 == opcode);
                record.map_or(&sys::OpFence::LAYOUT, |record| &record.1)
            }
        };
        change(numbers, pool, layout, words);
    }
    if numbers.one_in(6) && input.0.len() > 2 {
        let place = 1 + numbers.below(input.0.len() as u64 - 1) as usize;
        input.0.remove(place);
    }
    input
}

/// Gives it to the driver.
pub fn run(target: &mut Target, input: &Input) -> Result<Outcome> {
    let Some((submit, records)) = input.0.split_first() else {
        return Ok(Outcome::Refused);
    };
    for (offset, record) in (0..).step_by(STRIDE * 8).zip(records) {
        let (record, _) = record.split_at(STRIDE);
        target.rig.put(offset, record.as_bytes())?;
    }
    let Ok((mut arg, _)) = sys::Submit::read_from_prefix(submit.as_bytes()) else {
        return Ok(Outcome::Refused);
    };
    judge(Kind::Ops, call::<Submit>(target.rig.fd(), &mut arg))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that every record has the size that lists are made with.
    #[test]
    fn sizes() {
        for (_, layout) in RECORDS {
            assert_eq!(layout.size, STRIDE * 8, "{}", layout.c_name);
        }
    }

    /// Proves that what goes with a flag is there with it only.
    #[test]
    fn flags() {
        let submit = sys::Submit {
            done_fence: 3,
            result_offset: 8,
            ..Default::default()
        };
        assert_eq!(words(&submit), [0; 10]);
    }
}
