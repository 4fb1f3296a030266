// SPDX-License-Identifier: MIT OR Apache-2.0
//! Multiplies matrices by a shader and by the built-in operation, in one command buffer.

use libvaccel::compute::Session;
use vaccel_isa::{CommandStream, Gemm, Matrix, Opcode};

use super::{input, module, output, Bench, Job, Measured, Module};
use crate::compare;
use crate::failure::Failure;
use crate::reference;

/// The test.
pub const JOB: Job = Job {
    name: "shader-gemm",
    what: "multiplies matrices of 64 x 64 whole numbers by tiles in shared memory; equal to the \
           built-in operation and to the CPU bit for bit",
    needs: &[Opcode::DispatchSpirv, Opcode::GemmF32],
    run,
};

/// Rows and columns, a multiple of the shader's tile.
const SIZE: usize = 64;
/// Rows and columns of a tile.
const TILE: usize = 8;

/// Whole numbers of which sums and products are exact, so that a device may fuse them.
fn whole_numbers(seed: u32) -> Vec<f32> {
    let scaled = |value: &f32| (value * 100.0).trunc();
    reference::pattern(seed, SIZE * SIZE)
        .iter()
        .map(scaled)
        .collect()
}

fn run(bench: &Bench) -> Result<Measured, Failure> {
    let mut session = Session::new(&bench.device)?;
    let a_values = whole_numbers(24);
    let b_values = whole_numbers(25);
    let a = session.buffer_f32(&a_values)?;
    let b = session.buffer_f32(&b_values)?;
    let bytes = (SIZE * SIZE * 4) as u64;
    let (by_shader, built_in) = (session.buffer(bytes)?, session.buffer(bytes)?);
    let shader = Module::new(&session, module!("gemm"))?;

    let size = SIZE as u32;
    let dense = |va| Matrix::dense(va, size);
    let mut stream = CommandStream::new();
    stream.dispatch(
        shader.main(),
        [(SIZE / TILE) as u32, (SIZE / TILE) as u32, 1],
        &[input(0, &a), input(1, &b), output(2, &by_shader)],
        &size.to_le_bytes(),
    );
    stream.gemm(Gemm {
        m: size,
        n: size,
        k: size,
        a: dense(a.gpu_va()),
        b: dense(b.gpu_va()),
        c: dense(built_in.gpu_va()),
        alpha: 1.0,
        beta: 0.0,
    });
    let time = bench.timed(&mut session, stream)?;

    let matrix = |data| reference::Matrix { data, cols: SIZE };
    let expected = reference::gemm(matrix(&a_values), matrix(&b_values));
    let count = SIZE * SIZE;
    let mut outputs = compare::floats("shader", &by_shader.read_f32(count)?, &expected)?;
    outputs += compare::floats("built-in", &built_in.read_f32(count)?, &expected)?;
    Ok(Measured {
        outputs,
        time,
        amount: Some(((4 * SIZE * SIZE * SIZE) as f64, "FLOP/s")),
        ..Default::default()
    })
}
