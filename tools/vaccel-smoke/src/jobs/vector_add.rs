// SPDX-License-Identifier: MIT OR Apache-2.0
//! Element-wise arithmetic, each operation the engine has.

use libvaccel::compute::Session;
use vaccel_isa::{CommandStream, Elementwise, ElementwiseOp, Opcode, Operand};

use super::{Bench, Job, Measured};
use crate::compare;
use crate::failure::Failure;
use crate::reference;

/// The test.
pub const JOB: Job = Job {
    name: "vector-add",
    what: "adds, multiplies and clamps vectors of 131,072 floats; sums are bit-exact",
    needs: &[Opcode::ElementwiseF32],
    run,
};

const COUNT: usize = 1 << 17;

fn run(bench: &Bench) -> Result<Measured, Failure> {
    let mut session = Session::new(&bench.device)?;
    let a_values = reference::pattern(2, COUNT);
    let b_values = reference::pattern(3, COUNT);
    let a = session.buffer_f32(&a_values)?;
    let b = session.buffer_f32(&b_values)?;
    let bytes = COUNT as u64 * 4;
    let sum = session.buffer(bytes)?;
    let product = session.buffer(bytes)?;
    let clamped = session.buffer(bytes)?;

    let packet = |op, dst, a, b| Elementwise {
        op,
        dst,
        a,
        b,
        rows: 1,
        cols: COUNT as u32,
    };
    let mut stream = CommandStream::new();
    let full_b = Operand::Full(b.gpu_va());
    stream.elementwise(packet(ElementwiseOp::Add, sum.gpu_va(), a.gpu_va(), full_b));
    stream.elementwise(packet(
        ElementwiseOp::Mul,
        product.gpu_va(),
        a.gpu_va(),
        full_b,
    ));
    stream.elementwise(packet(
        ElementwiseOp::Relu,
        clamped.gpu_va(),
        sum.gpu_va(),
        Operand::None,
    ));
    let time = bench.timed(&mut session, stream)?;

    let expected_sum = reference::elementwise(ElementwiseOp::Add, &a_values, &b_values);
    let expected_product = reference::elementwise(ElementwiseOp::Mul, &a_values, &b_values);
    let expected_clamped = reference::elementwise(ElementwiseOp::Relu, &expected_sum, &b_values);
    let mut outputs = compare::floats("sum", &sum.read_f32(COUNT)?, &expected_sum)?;
    outputs += compare::floats("product", &product.read_f32(COUNT)?, &expected_product)?;
    outputs += compare::floats("relu", &clamped.read_f32(COUNT)?, &expected_clamped)?;
    for buffer in [a, b, sum, product, clamped] {
        buffer.close()?;
    }
    Ok(Measured {
        outputs,
        time,
        amount: Some((COUNT as f64 * 3.0, "op/s")),
        ..Default::default()
    })
}
