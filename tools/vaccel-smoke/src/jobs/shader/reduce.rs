// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sums a vector in shared memory, with barriers, by two dispatches in one command buffer.

use libvaccel::compute::Session;
use vaccel_isa::{CommandStream, Opcode};

use super::{input, module, output, Bench, Job, Measured, Module};
use crate::compare;
use crate::failure::Failure;
use crate::reference;

/// The test.
pub const JOB: Job = Job {
    name: "shader-reduce",
    what: "sums 4,096 floats by work groups with shared memory and barriers, in two dispatches; \
           bit-exact",
    needs: &[Opcode::DispatchSpirv],
    run,
};

/// Elements that a work group sums.
const GROUP: usize = 64;
const COUNT: usize = GROUP * GROUP;

/// What a work group does: the upper half is added to the lower one until one element is left.
fn halve(values: &[f32]) -> f32 {
    let mut part = values.to_vec();
    while part.len() > 1 {
        let (low, high) = part.split_at(part.len() / 2);
        part = low.iter().zip(high).map(|(low, high)| low + high).collect();
    }
    part.first().copied().unwrap_or_default()
}

fn run(bench: &Bench) -> Result<Measured, Failure> {
    let mut session = Session::new(&bench.device)?;
    let values = reference::pattern(23, COUNT);
    let elements = session.buffer_f32(&values)?;
    let sums = session.buffer(GROUP as u64 * 4)?;
    let sum = session.buffer(4)?;
    let shader = Module::new(&session, module!("reduce"))?;

    let mut stream = CommandStream::new();
    let buffers = [input(0, &elements), output(1, &sums)];
    stream.dispatch(shader.main(), [GROUP as u32, 1, 1], &buffers, &[]);
    let buffers = [input(0, &sums), output(1, &sum)];
    stream.dispatch(shader.main(), [1; 3], &buffers, &[]);
    let time = bench.timed(&mut session, stream)?;

    let expected: Vec<f32> = values.chunks(GROUP).map(halve).collect();
    let mut outputs = compare::floats("sums of 64", &sums.read_f32(GROUP)?, &expected)?;
    outputs += compare::floats("sum", &sum.read_f32(1)?, &[halve(&expected)])?;
    Ok(Measured {
        outputs,
        time,
        amount: Some((COUNT as f64, "op/s")),
        ..Default::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves the order of the additions on a case in which it decides the result.
    #[test]
    fn halves() {
        assert_eq!(halve(&[1e8, 1.0, -1e8, 1.0]), 2.0);
        assert_eq!(halve(&[7.0]), 7.0);
    }
}
