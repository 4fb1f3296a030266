// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fills memory with bytes and words; what lies around must stay as it was.

use libvaccel::compute::Session;
use vaccel_isa::{CommandStream, Opcode};

use super::{Bench, Job, Measured};
use crate::compare;
use crate::failure::Failure;

/// The test.
pub const JOB: Job = Job {
    name: "fill",
    what: "fills 1 MiB with a word and a part of it with a byte, and leaves the rest alone",
    needs: &[Opcode::Fill],
    run,
};

const WORDS: usize = 1 << 18;
const WORD: u32 = 0xa5c3_0f96;
/// Untouched words before and behind.
const MARGIN: usize = 64;
const BEFORE: u32 = 0x1111_1111;
/// The byte fill starts and ends within words.
const BYTE_START: usize = 4 * 100 + 1;
const BYTES: usize = 4 * 10 + 2;
const BYTE: u8 = 0x7e;

fn run(bench: &Bench) -> Result<Measured, Failure> {
    let mut session = Session::new(&bench.device)?;
    let all = WORDS + 2 * MARGIN;
    let mut expected = vec![BEFORE; all];
    let buffer = session.buffer(all as u64 * 4)?;
    let bytes: Vec<u8> = expected
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect();
    buffer.mapping().write(0, &bytes)?;

    let first = buffer.gpu_va() + MARGIN as u64 * 4;
    let mut stream = CommandStream::new();
    stream.fill_words(first, WORDS as u64 * 4, WORD);
    stream.fill_bytes(first + BYTE_START as u64, BYTES as u64, BYTE);
    let time = bench.timed(&mut session, stream)?;

    for (index, word) in expected.iter_mut().skip(MARGIN).take(WORDS).enumerate() {
        let mut bytes = WORD.to_le_bytes();
        for (offset, byte) in bytes.iter_mut().enumerate() {
            if (BYTE_START..BYTE_START + BYTES).contains(&(index * 4 + offset)) {
                *byte = BYTE;
            }
        }
        *word = u32::from_le_bytes(bytes);
    }
    let outputs = compare::words("filled words", &buffer.read_u32(all)?, &expected)?;
    buffer.close()?;
    Ok(Measured {
        outputs,
        time,
        amount: Some((WORDS as f64 * 4.0, "bytes/s")),
        ..Default::default()
    })
}
