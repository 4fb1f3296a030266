// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the results must be, computed on the CPU by the rules of the ISA: 32-bit floats, every
//! operation rounded, sums in ascending order. Results are compared bit for bit.

use vaccel_isa::ElementwiseOp;

/// A dense matrix, row by row.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    /// Elements.
    pub data: &'a [f32],
    /// Length of a row, not 0.
    pub cols: usize,
}

impl<'a> Matrix<'a> {
    fn rows(&self) -> impl Iterator<Item = &'a [f32]> {
        self.data.chunks_exact(self.cols)
    }
}

/// `a * b`.
pub fn gemm(a: Matrix<'_>, b: Matrix<'_>) -> Vec<f32> {
    let mut product = Vec::new();
    for row in a.rows() {
        // One sum per column, each in ascending order of the inner index.
        let mut sums = vec![0f32; b.cols];
        for (factor, b_row) in row.iter().zip(b.rows()) {
            for (sum, element) in sums.iter_mut().zip(b_row) {
                *sum += factor * element;
            }
        }
        product.append(&mut sums);
    }
    product
}

/// `op(a, b)` for every element.
pub fn elementwise(op: ElementwiseOp, a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| op.apply(*a, *b)).collect()
}

/// `op(a, row)` with the same row for every row of `a`.
pub fn with_row(op: ElementwiseOp, a: &[f32], row: &[f32]) -> Vec<f32> {
    a.iter()
        .zip(row.iter().cycle())
        .map(|(a, b)| op.apply(*a, *b))
        .collect()
}

/// Sum in ascending order.
pub fn sum(values: &[f32]) -> f32 {
    values.iter().fold(0f32, |sum, value| sum + value)
}

/// Position of the first largest element; 0 for none.
pub fn arg_max(values: &[f32]) -> u32 {
    let mut best = (0u32, f32::NEG_INFINITY);
    for (index, value) in (0u32..).zip(values) {
        if index == 0 || *value > best.1 {
            best = (index, *value);
        }
    }
    best.0
}

/// A fixed sequence of floats between -1 and 1, the same everywhere.
pub fn pattern(seed: u32, count: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // 24 bits fit a float exactly.
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves the product on a case worked out by hand.
    #[test]
    fn products() {
        let a = Matrix {
            data: &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
            cols: 3,
        };
        let b = Matrix {
            data: &[1.0, 0.0, 0.0, 1.0, 2.0, -1.0],
            cols: 2,
        };
        assert_eq!(gemm(a, b), [7.0, -1.0, 16.0, -1.0]);
    }

    /// Proves that the order of summation is the ISA's: ascending, each step rounded.
    #[test]
    fn order_matters() {
        let values = [1e8, 1.0, -1e8, 1.0];
        assert_eq!(sum(&values), 1.0);
        let ones = [1.0; 4];
        let product = gemm(
            Matrix {
                data: &values,
                cols: 4,
            },
            Matrix {
                data: &ones,
                cols: 1,
            },
        );
        assert_eq!(product, [1.0]);
    }

    /// Proves that the first of equals wins, also when all are negative.
    #[test]
    fn first_maximum() {
        assert_eq!(arg_max(&[-3.0, -1.0, -1.0]), 1);
        assert_eq!(arg_max(&[2.0, 2.0]), 0);
    }

    /// Proves that a bias goes to every row.
    #[test]
    fn rows() {
        let sum = with_row(ElementwiseOp::Add, &[1.0, 2.0, 3.0, 4.0], &[10.0, 20.0]);
        assert_eq!(sum, [11.0, 22.0, 13.0, 24.0]);
    }

    /// Proves that the sequence is fixed and stays in its range.
    #[test]
    fn patterns() {
        let values = pattern(1, 1000);
        assert_eq!(values, pattern(1, 1000));
        assert_ne!(values, pattern(2, 1000));
        assert!(values.iter().all(|value| (-1.0..1.0).contains(value)));
    }
}
