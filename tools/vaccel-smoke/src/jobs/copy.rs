// SPDX-License-Identifier: MIT OR Apache-2.0
//! Copies memory, unaligned parts included.

use libvaccel::compute::Session;
use vaccel_isa::{CommandStream, Opcode};

use super::{Bench, Job, Measured};
use crate::compare;
use crate::failure::Failure;
use crate::reference;

/// The test.
pub const JOB: Job = Job {
    name: "copy",
    what: "copies 1 MiB between buffers, and a few bytes from an odd address to another",
    needs: &[Opcode::Copy],
    run,
};

const WORDS: usize = 1 << 18;
/// Source, target and length of the unaligned copy, in bytes.
const ODD: (usize, usize, usize) = (1001, 2003, 333);

fn run(bench: &Bench) -> Result<Measured, Failure> {
    let mut session = Session::new(&bench.device)?;
    let values = reference::pattern(1, WORDS);
    let mut expected: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let source = session.buffer_f32(&values)?;
    let target = session.buffer(WORDS as u64 * 4)?;

    let mut stream = CommandStream::new();
    stream.copy(target.gpu_va(), source.gpu_va(), WORDS as u64 * 4);
    let (from, to, length) = ODD;
    stream.copy(
        target.gpu_va() + to as u64,
        source.gpu_va() + from as u64,
        length as u64,
    );
    let time = bench.timed(&mut session, stream)?;

    expected.copy_within(from..from + length, to);
    let expected: Vec<u32> = expected
        .chunks_exact(4)
        .filter_map(|chunk| chunk.first_chunk())
        .map(|chunk| u32::from_le_bytes(*chunk))
        .collect();
    let outputs = compare::words("copied words", &target.read_u32(WORDS)?, &expected)?;
    source.close()?;
    target.close()?;
    Ok(Measured {
        outputs,
        time,
        amount: Some((WORDS as f64 * 4.0, "bytes/s")),
        ..Default::default()
    })
}
