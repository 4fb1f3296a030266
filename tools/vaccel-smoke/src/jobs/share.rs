// SPDX-License-Identifier: MIT OR Apache-2.0
//! Computes in place on memory that the program shares with the accelerator.

use libvaccel::compute::Session;
use libvaccel::{BindFlags, BindOptions, ErrorKind, Features, SyncFlags, UserMemory};
use vaccel_isa::{CommandStream, Elementwise, ElementwiseOp, Opcode, Operand};

use super::{Bench, Job, Measured};
use crate::compare;
use crate::failure::Failure;
use crate::reference;

/// The test.
pub const JOB: Job = Job {
    name: "share",
    what: "multiplies 1 MiB of the program's own memory in place: pages of a memfd that the \
           accelerator imports as a dma-buf",
    needs: &[Opcode::ElementwiseF32],
    run,
};

const WORDS: usize = 1 << 18;
const BYTES: u64 = WORDS as u64 * 4;
const FACTOR: f32 = 1.5;

fn run(bench: &Bench) -> Result<Measured, Failure> {
    bench.needs(Features::IMPORT)?;
    let memory = match UserMemory::new(BYTES) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Permission) => {
            return Err(Failure::NotPossible(error.to_string()));
        }
        other => other?,
    };
    let mapping = memory.map()?;
    let values = reference::pattern(31, WORDS);
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    mapping.write(0, &bytes)?;

    let mut session = Session::new(&bench.device)?;
    let bo = bench.device.import(memory.dma_buf())?;
    bo.sync(SyncFlags::FOR_DEVICE, 0..BYTES)?;
    let binding = session
        .vm()
        .bind(&bo, &BindOptions::new(BindFlags::WRITE))?;
    let mut stream = CommandStream::new();
    stream.elementwise(Elementwise {
        op: ElementwiseOp::Mul,
        dst: binding.gpu_va(),
        a: binding.gpu_va(),
        b: Operand::Immediate(FACTOR),
        rows: 1,
        cols: WORDS as u32,
    });
    let time = bench.timed(&mut session, stream)?;
    bo.sync(SyncFlags::FOR_CPU, 0..BYTES)?;

    let mut bytes = vec![0; BYTES as usize];
    mapping.read(0, &mut bytes)?;
    let products: Vec<f32> = bytes
        .chunks_exact(4)
        .filter_map(|chunk| chunk.first_chunk())
        .map(|chunk| f32::from_le_bytes(*chunk))
        .collect();
    let factors = vec![FACTOR; WORDS];
    let expected = reference::elementwise(ElementwiseOp::Mul, &values, &factors);
    let outputs = compare::floats("products in place", &products, &expected)?;
    binding.close()?;
    bo.close()?;
    Ok(Measured {
        outputs,
        time,
        amount: Some((WORDS as f64, "FLOP/s")),
        ..Default::default()
    })
}
