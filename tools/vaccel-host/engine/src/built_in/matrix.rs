// SPDX-License-Identifier: MIT OR Apache-2.0
//! Numbers in GPU memory: dense runs and strided matrices.

use vaccel_isa::Matrix;
use zerocopy::{Immutable, IntoBytes};

use crate::{AddressSpace, Fault};

/// Bytes of an f32 or u32.
pub(super) const ELEMENT_BYTES: usize = 4;

/// Reads `count` numbers that follow each other.
pub(crate) fn read_f32(space: &dyn AddressSpace, va: u64, count: usize) -> Result<Vec<f32>, Fault> {
    let mut values = vec![0.0_f32; count];
    space.read(va, values.as_mut_slice().as_mut_bytes())?;
    Ok(values)
}

/// Writes words (f32 or u32) that follow each other.
pub(crate) fn write_words<T: IntoBytes + Immutable>(
    space: &dyn AddressSpace,
    va: u64,
    values: &[T],
) -> Result<(), Fault> {
    space.write(va, values.as_bytes())
}

/// Address of row `row` of a stored matrix.
pub(super) fn row_va(matrix: Matrix, row: usize) -> u64 {
    let bytes = u64::from(matrix.ld).wrapping_mul(4);
    let row = u64::try_from(row).unwrap_or(u64::MAX);
    matrix.va.wrapping_add(row.wrapping_mul(bytes))
}

/// Reads a matrix operand of `rows` x `cols` (as the operation sees it) into dense rows.
pub(super) fn read_matrix(
    space: &dyn AddressSpace,
    matrix: Matrix,
    rows: usize,
    cols: usize,
) -> Result<Vec<f32>, Fault> {
    if !matrix.transpose {
        return read_stored(space, matrix, rows, cols);
    }
    let stored = read_stored(space, matrix, cols, rows)?;
    let mut values = vec![0.0; stored.len()];
    for (row, to) in values.chunks_exact_mut(cols.max(1)).enumerate() {
        let column = stored.iter().skip(row).step_by(rows.max(1));
        for (value, from) in to.iter_mut().zip(column) {
            *value = *from;
        }
    }
    Ok(values)
}

fn read_stored(
    space: &dyn AddressSpace,
    matrix: Matrix,
    rows: usize,
    cols: usize,
) -> Result<Vec<f32>, Fault> {
    let count = rows.saturating_mul(cols);
    if usize::try_from(matrix.ld) == Ok(cols) {
        return read_f32(space, matrix.va, count);
    }
    let mut values = vec![0.0_f32; count];
    for (row, to) in values.chunks_exact_mut(cols.max(1)).enumerate() {
        space.read(row_va(matrix, row), to.as_mut_bytes())?;
    }
    Ok(values)
}
