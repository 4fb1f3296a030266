// SPDX-License-Identifier: MIT OR Apache-2.0
//! The operations against plain loops, and what happens to bad input.

use vaccel_isa::{ElementwiseOp, Gemm, Matrix};

use super::*;
use crate::flip_last_write;
use crate::test_memory::{FakePace, Memory};
use crate::{Access, FaultKind};

/// Numbers that are neither round nor equal.
fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 22) as f32 - 2.0
        })
        .collect()
}

/// FILL writes exactly its range, bytes and words, across chunks; COPY moves it unchanged.
#[test]
fn fill_and_copy() {
    let memory = Memory::new();
    memory.run(|s| {
        s.fill_bytes(1, 3, 0xaa)
            .fill_words(8, 8, 0x0403_0201)
            .copy(0x21, 8, 7);
    });
    let bytes = memory.bytes.borrow();
    assert_eq!(bytes[..6], [0, 0xaa, 0xaa, 0xaa, 0, 0]);
    assert_eq!(bytes[8..17], [1, 2, 3, 4, 1, 2, 3, 4, 0]);
    assert_eq!(bytes[0x20..0x29], [0, 1, 2, 3, 4, 1, 2, 3, 0]);
    drop(bytes);
    let sizes: Vec<_> = chunks(CHUNK_BYTES as u64 * 2 + 5).collect();
    assert_eq!(
        sizes,
        [
            (0, CHUNK_BYTES),
            (CHUNK_BYTES as u64, CHUNK_BYTES),
            (2 * CHUNK_BYTES as u64, 5)
        ]
    );
}

/// Every element-wise operation, with every kind of second operand, equals the plain loop.
#[test]
fn elementwise_equals_loop() {
    let (rows, cols) = (5_usize, 7_usize);
    let (a, b) = (numbers(rows * cols, 1), numbers(rows * cols, 2));
    let binary = [
        ElementwiseOp::Add,
        ElementwiseOp::Sub,
        ElementwiseOp::Mul,
        ElementwiseOp::Max,
        ElementwiseOp::Min,
    ];
    let cases = binary
        .iter()
        .flat_map(|op| {
            [
                (*op, Operand::Full(0x1000)),
                (*op, Operand::Row(0x1000)),
                (*op, Operand::Immediate(0.25)),
            ]
        })
        .chain([(ElementwiseOp::Relu, Operand::None)]);
    for (op, operand) in cases {
        let memory = Memory::new();
        memory.put(0, &a);
        memory.put(0x1000, &b);
        let outcome = memory.run(|s| {
            s.elementwise(Elementwise {
                op,
                dst: 0x2000,
                a: 0,
                b: operand,
                rows: rows as u32,
                cols: cols as u32,
            });
        });
        assert_eq!(outcome, Outcome::Done);
        let expected: Vec<f32> = (0..rows * cols)
            .map(|i| match operand {
                Operand::Full(_) => op.apply(a[i], b[i]),
                Operand::Row(_) => op.apply(a[i], b[i % cols]),
                Operand::Immediate(b) => op.apply(a[i], b),
                Operand::None => a[i].max(0.0),
            })
            .collect();
        assert_eq!(
            memory.get(0x2000, rows * cols),
            expected,
            "{op:?} {operand:?}"
        );
    }
}

/// GEMM equals the three plain loops to the bit, for every transposition, with strides, alpha and
/// beta.
#[test]
fn gemm_equals_loop() {
    let (m, n, k) = (6_usize, 5_usize, 9_usize);
    let (lda, ldb, ldc) = (11_usize, 12_usize, 8_usize);
    let (a, b, c) = (numbers(132, 3), numbers(132, 4), numbers(64, 5));
    for (ta, tb, alpha, beta) in [
        (false, false, 1.0, 0.0),
        (true, false, 0.5, 0.0),
        (false, true, 1.0, 1.0),
        (true, true, -0.3, 0.7_f32),
    ] {
        let memory = Memory::new();
        memory.put(0, &a);
        memory.put(0x1000, &b);
        memory.put(0x2000, &c);
        let matrix = |va, ld: usize, transpose| Matrix {
            va,
            ld: ld as u32,
            transpose,
        };
        let outcome = memory.run(|s| {
            s.gemm(Gemm {
                m: m as u32,
                n: n as u32,
                k: k as u32,
                a: matrix(0, lda, ta),
                b: matrix(0x1000, ldb, tb),
                c: matrix(0x2000, ldc, false),
                alpha,
                beta,
            });
        });
        assert_eq!(outcome, Outcome::Done);
        let mut expected = c.clone();
        for i in 0..m {
            for j in 0..n {
                let mut sum = 0.0_f32;
                for kk in 0..k {
                    let a = if ta { a[kk * lda + i] } else { a[i * lda + kk] };
                    let b = if tb { b[j * ldb + kk] } else { b[kk * ldb + j] };
                    sum += a * b;
                }
                let old = &mut expected[i * ldc + j];
                *old = if beta == 0.0 {
                    alpha * sum
                } else {
                    alpha * sum + beta * *old
                };
            }
        }
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&memory.get(0x2000, 64)), bits(&expected), "{ta} {tb}");
    }
}

/// Reductions equal plain loops; the first of equal maxima wins; NaN never does.
#[test]
fn reduce_equals_loop() {
    let values = [1.0, 3.0, 3.0, -1.0, f32::NAN, -5.0];
    let memory = Memory::new();
    memory.put(0, &values);
    let mut at = 0x1000;
    for axis in [ReduceAxis::Rows, ReduceAxis::All] {
        for op in [ReduceOp::Max, ReduceOp::ArgMax] {
            memory.run(|s| {
                s.reduce(Reduce {
                    op,
                    axis,
                    dst: at,
                    src: 0,
                    rows: 2,
                    cols: 3,
                });
            });
            at += 8;
        }
    }
    memory.run(|s| {
        s.reduce(Reduce {
            op: ReduceOp::Sum,
            axis: ReduceAxis::All,
            dst: at,
            src: 0,
            rows: 1,
            cols: 4,
        });
    });
    assert_eq!(memory.get(0x1000, 2), [3.0, -1.0]);
    let indexes = memory
        .get(0x1008, 2)
        .iter()
        .map(|v| v.to_bits())
        .collect::<Vec<_>>();
    assert_eq!(indexes, [1, 0]);
    assert_eq!(memory.get(0x1010, 1), [3.0]);
    assert_eq!(memory.get(0x1018, 1)[0].to_bits(), 1);
    assert_eq!(memory.get(0x1020, 1), [6.0]);
}

/// SPIN sleeps its time in small steps, and stops early when cancelled.
#[test]
fn spin_and_cancel() {
    let memory = Memory::new();
    let commands = memory.stage(|s| {
        s.spin(5_500_000);
    });
    let pace = FakePace::default();
    assert_eq!(BuiltIn.run(commands, &memory, &pace), Outcome::Done);
    assert_eq!(pace.slept.get(), Duration::from_nanos(5_500_000));
    let pace = FakePace {
        limit: Some(Duration::from_millis(2)),
        ..FakePace::default()
    };
    assert_eq!(BuiltIn.run(commands, &memory, &pace), Outcome::Cancelled);
    assert_eq!(pace.slept.get(), Duration::from_millis(2));
}

/// Faults name address and access; packets before the fault ran, those after did not.
#[test]
fn faults_stop_the_job() {
    let mut memory = Memory::new();
    let commands = memory.stage(|s| {
        s.fill_bytes(0, 4, 1)
            .copy(0x100, 0xfff0, 32)
            .fill_bytes(8, 4, 1);
    });
    let fault = |va, access, kind| Outcome::PageFault(Fault { va, access, kind });
    assert_eq!(
        BuiltIn.run(commands, &memory, &FakePace::default()),
        fault(0x10000, Access::Read, FaultKind::NotMapped)
    );
    assert_eq!(
        memory.bytes.borrow()[..12],
        [1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0]
    );
    let commands = memory.stage(|s| {
        s.fill_bytes(0x9000, 4, 1);
    });
    memory.read_only = 0x9000;
    assert_eq!(
        BuiltIn.run(commands, &memory, &FakePace::default()),
        fault(0x9000, Access::Write, FaultKind::ReadOnly)
    );
    let unmapped = Commands {
        va: 0xffff_fff8,
        bytes: 8,
    };
    assert!(matches!(
        BuiltIn.run(unmapped, &memory, &FakePace::default()),
        Outcome::PageFault(_)
    ));
}

/// A malformed buffer runs not even its good packets.
#[test]
fn bad_commands_run_nothing() {
    let memory = Memory::new();
    let good = memory.stage(|s| {
        s.fill_bytes(0, 4, 1);
    });
    let run = |va, bytes| BuiltIn.run(Commands { va, bytes }, &memory, &FakePace::default());
    for (va, bytes) in [
        (good.va, good.bytes - 8),
        (good.va, 0),
        (good.va + 4, good.bytes),
        (good.va, u32::MAX),
    ] {
        assert!(
            matches!(run(va, bytes), Outcome::BadCommands(_)),
            "{va:#x} {bytes}"
        );
    }
    assert_eq!(memory.bytes.borrow()[..4], [0; 4]);
}

/// The fault option changes exactly one element of the last thing the job wrote.
#[test]
fn flip_changes_one_element() {
    let values = numbers(16, 9);
    let memory = Memory::new();
    memory.put(0, &values);
    let commands = memory.stage(|s| {
        s.copy(0x100, 0, 64).copy(0x200, 0, 64);
    });
    let result = flip_last_write(&BuiltIn, commands, &memory, &FakePace::default());
    assert_eq!(result, (Outcome::Done, true));
    assert_eq!(memory.get(0x100, 16), values);
    let wrong = memory.get(0x200, 16);
    let differing = wrong.iter().zip(&values).filter(|(a, b)| a != b).count();
    assert_eq!(differing, 1);

    let nothing = memory.stage(|s| {
        s.nop();
    });
    let result = flip_last_write(&BuiltIn, nothing, &memory, &FakePace::default());
    assert_eq!(result, (Outcome::Done, false));
}
