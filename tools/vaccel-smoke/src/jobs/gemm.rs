// SPDX-License-Identifier: MIT OR Apache-2.0
//! Multiplies matrices from .npy files.

use libvaccel::compute::Session;
use vaccel_isa::{CommandStream, Gemm, Matrix, Opcode};

use super::{Bench, Job, Measured};
use crate::compare;
use crate::failure::Failure;
use crate::npy::{Array, NpyError};
use crate::reference;

/// The test.
pub const JOB: Job = Job {
    name: "gemm",
    what:
        "multiplies two matrices from .npy files; equal to the CPU bit for bit, and to a product \
           computed in 64-bit floats within 1e-4",
    needs: &[Opcode::GemmF32],
    run,
};

/// Of elements whose terms are around 1; 64 roundings are far below it.
const TOLERANCE: f32 = 1e-4;

/// Rows and columns of a two-dimensional array.
fn extents(array: &Array<f32>, file: &str) -> Result<(usize, usize), Failure> {
    match array.shape.as_slice() {
        [rows, cols] if *rows > 0 && *cols > 0 => Ok((*rows, *cols)),
        _ => Err(Failure::Data {
            file: file.to_owned(),
            error: NpyError::Header("a matrix has two dimensions, none of them 0"),
        }),
    }
}

fn run(bench: &Bench) -> Result<Measured, Failure> {
    let a_values = bench.data.array::<f32>("gemm/a.npy")?;
    let (m, k) = extents(&a_values, "gemm/a.npy")?;
    let b_values = bench.data.array::<f32>("gemm/b.npy")?;
    let (_, n) = extents(&b_values, "gemm/b.npy")?;
    let b_values = b_values
        .expect_shape(&[k, n])
        .map_err(|error| Failure::Data {
            file: "gemm/b.npy".into(),
            error,
        })?;
    let exact = bench.data.shaped::<f32>("gemm/product.npy", &[m, n])?;

    let mut session = Session::new(&bench.device)?;
    let a = session.buffer_f32(&a_values.data)?;
    let b = session.buffer_f32(&b_values.data)?;
    let c = session.buffer((m * n * 4) as u64)?;
    let mut stream = CommandStream::new();
    stream.gemm(Gemm {
        m: m as u32,
        n: n as u32,
        k: k as u32,
        a: Matrix::dense(a.gpu_va(), k as u32),
        b: Matrix::dense(b.gpu_va(), n as u32),
        c: Matrix::dense(c.gpu_va(), n as u32),
        alpha: 1.0,
        beta: 0.0,
    });
    let time = bench.timed(&mut session, stream)?;

    let product = c.read_f32(m * n)?;
    let expected = reference::gemm(
        reference::Matrix {
            data: &a_values.data,
            cols: k,
        },
        reference::Matrix {
            data: &b_values.data,
            cols: n,
        },
    );
    let outputs = compare::floats("product", &product, &expected)?;
    compare::close(
        "product against 64-bit floats",
        &product,
        &exact.data,
        TOLERANCE,
    )?;
    for buffer in [a, b, c] {
        buffer.close()?;
    }
    Ok(Measured {
        outputs,
        time,
        amount: Some(((2 * m * n * k) as f64, "FLOP/s")),
        ..Default::default()
    })
}
