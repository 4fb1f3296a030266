// SPDX-License-Identifier: MIT OR Apache-2.0
//! Adds vectors by a shader.

use libvaccel::compute::Session;
use vaccel_isa::{CommandStream, Opcode};

use super::{input, module, output, Bench, Job, Measured, Module};
use crate::compare;
use crate::failure::Failure;
use crate::reference;

/// The test.
pub const JOB: Job = Job {
    name: "shader-add",
    what: "adds vectors of 65,521 floats and a push constant by a compute shader; bit-exact",
    needs: &[Opcode::DispatchSpirv],
    run,
};

/// No multiple of the size of a work group.
const COUNT: usize = 65_521;
const NUMBER: f32 = 0.25;

fn run(bench: &Bench) -> Result<Measured, Failure> {
    let mut session = Session::new(&bench.device)?;
    let a_values = reference::pattern(21, COUNT);
    let b_values = reference::pattern(22, COUNT);
    let a = session.buffer_f32(&a_values)?;
    let b = session.buffer_f32(&b_values)?;
    let sum = session.buffer(COUNT as u64 * 4)?;
    let shader = Module::new(&session, module!("add"))?;

    let mut stream = CommandStream::new();
    stream.dispatch(
        shader.main(),
        [COUNT.div_ceil(64) as u32, 1, 1],
        &[input(0, &a), input(1, &b), output(2, &sum)],
        &NUMBER.to_le_bytes(),
    );
    let time = bench.timed(&mut session, stream)?;

    let expected: Vec<f32> = a_values
        .iter()
        .zip(&b_values)
        .map(|(a, b)| (a + b) + NUMBER)
        .collect();
    let outputs = compare::floats("sum", &sum.read_f32(COUNT)?, &expected)?;
    Ok(Measured {
        outputs,
        time,
        amount: Some((COUNT as f64 * 2.0, "op/s")),
        ..Default::default()
    })
}
