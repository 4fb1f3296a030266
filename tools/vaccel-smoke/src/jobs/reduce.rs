// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sums and maxima, by rows and of everything.

use libvaccel::compute::Session;
use vaccel_isa::{CommandStream, Opcode, Reduce, ReduceAxis, ReduceOp};

use super::{Bench, Job, Measured};
use crate::compare;
use crate::failure::Failure;
use crate::reference;

/// The test.
pub const JOB: Job = Job {
    name: "reduce",
    what: "sums and first maxima of 256 rows of 512 floats, and their total",
    needs: &[Opcode::ReduceF32],
    run,
};

const ROWS: usize = 256;
const COLS: usize = 512;

fn run(bench: &Bench) -> Result<Measured, Failure> {
    let mut session = Session::new(&bench.device)?;
    let values = reference::pattern(4, ROWS * COLS);
    let source = session.buffer_f32(&values)?;
    let sums = session.buffer(ROWS as u64 * 4)?;
    let maxima = session.buffer(ROWS as u64 * 4)?;
    let total = session.buffer(4)?;
    let packet = |op, axis, dst| Reduce {
        op,
        axis,
        dst,
        src: source.gpu_va(),
        rows: ROWS as u32,
        cols: COLS as u32,
    };
    let mut stream = CommandStream::new();
    stream.reduce(packet(ReduceOp::Sum, ReduceAxis::Rows, sums.gpu_va()));
    stream.reduce(packet(ReduceOp::ArgMax, ReduceAxis::Rows, maxima.gpu_va()));
    stream.reduce(packet(ReduceOp::Sum, ReduceAxis::All, total.gpu_va()));
    let time = bench.timed(&mut session, stream)?;

    let rows = || values.chunks_exact(COLS);
    let expected_sums: Vec<f32> = rows().map(reference::sum).collect();
    let expected_maxima: Vec<u32> = rows().map(reference::arg_max).collect();
    let mut outputs = compare::floats("row sums", &sums.read_f32(ROWS)?, &expected_sums)?;
    outputs += compare::words("row maxima", &maxima.read_u32(ROWS)?, &expected_maxima)?;
    outputs += compare::floats("total", &total.read_f32(1)?, &[reference::sum(&values)])?;
    for buffer in [source, sums, maxima, total] {
        buffer.close()?;
    }
    Ok(Measured {
        outputs,
        time,
        amount: Some(((ROWS * COLS * 3) as f64, "op/s")),
        ..Default::default()
    })
}
