// SPDX-License-Identifier: MIT OR Apache-2.0
//! GEMM_F32. Rows of the result are made one by one from rows of the right operand, so that the
//! inner loop runs over consecutive numbers and each element still sums its terms in order of k.

use vaccel_isa::Gemm;

use super::matrix::{read_f32, read_matrix, row_va, write_words};
use super::{size, Run, Stop};

impl Run<'_> {
    pub(super) fn gemm(self, packet: Gemm) -> Result<(), Stop> {
        let (m, n, k) = (size(packet.m), size(packet.n), size(packet.k));
        let a = read_matrix(self.space, packet.a, m, k)?;
        let b = read_matrix(self.space, packet.b, k, n)?;
        let mut sums = vec![0.0_f32; n];
        for (row, a) in a.chunks_exact(k.max(1)).enumerate() {
            self.check()?;
            sums.fill(0.0);
            for (a, b) in a.iter().zip(b.chunks_exact(n.max(1))) {
                for (sum, b) in sums.iter_mut().zip(b) {
                    *sum += a * b;
                }
            }
            for sum in &mut sums {
                *sum *= packet.alpha;
            }
            let va = row_va(packet.c, row);
            if packet.beta != 0.0 {
                let old = read_f32(self.space, va, n)?;
                for (sum, old) in sums.iter_mut().zip(&old) {
                    *sum += packet.beta * old;
                }
            }
            write_words(self.space, va, &sums)?;
        }
        Ok(())
    }
}
