// SPDX-License-Identifier: MIT OR Apache-2.0
//! Computes in memory of the host: what the CPU writes through a window the accelerator uses, and
//! back.

use std::time::Duration;

use libvaccel::compute::Session;
use libvaccel::{BoOptions, Caching, Features, Segment, SyncFlags};
use vaccel_isa::{CommandStream, Elementwise, ElementwiseOp, Opcode, Operand};

use super::{Bench, Job, Measured};
use crate::compare;
use crate::failure::Failure;
use crate::reference;

/// The test.
pub const JOB: Job = Job {
    name: "host-memory",
    what: "adds two vectors of 1 MiB in the accelerator's own memory, and in the host's, that the \
           CPU wrote there, cached and write-combined, and reads the sums back",
    needs: &[Opcode::ElementwiseF32],
    run,
};

const WORDS: usize = 1 << 18;
const BYTES: u64 = WORDS as u64 * 4;

fn run(bench: &Bench) -> Result<Measured, Failure> {
    bench.needs(Features::HOST_MEMORY)?;
    let mut session = Session::new(&bench.device)?;
    let left = reference::pattern(11, WORDS);
    let right = reference::pattern(12, WORDS);
    let expected = reference::elementwise(ElementwiseOp::Add, &left, &right);
    let mut outputs = 0;
    let mut time = Duration::ZERO;
    for segment in [Segment::Local, Segment::NonLocal] {
        for caching in [Caching::Cached, Caching::WriteCombined] {
            let options = BoOptions::host(BYTES).segment(segment).caching(caching);
            let a = session.buffer_with(BYTES, &options)?;
            let b = session.buffer_with(BYTES, &options)?;
            let sum = session.buffer_with(BYTES, &options)?;
            for (buffer, values) in [(&a, &left), (&b, &right)] {
                buffer.write_f32(values)?;
                buffer.bo().sync(SyncFlags::FOR_DEVICE, 0..BYTES)?;
            }
            let mut stream = CommandStream::new();
            stream.elementwise(Elementwise {
                op: ElementwiseOp::Add,
                dst: sum.gpu_va(),
                a: a.gpu_va(),
                b: Operand::Full(b.gpu_va()),
                rows: 1,
                cols: WORDS as u32,
            });
            time += bench.timed(&mut session, stream)?;
            sum.bo().sync(SyncFlags::FOR_CPU, 0..BYTES)?;
            let what = format!("sums in {segment:?} memory, {caching:?}");
            outputs += compare::floats(&what, &sum.read_f32(WORDS)?, &expected)?;
            for buffer in [a, b, sum] {
                buffer.close()?;
            }
        }
    }
    Ok(Measured {
        outputs,
        time,
        amount: Some((outputs as f64, "FLOP/s")),
        ..Default::default()
    })
}
