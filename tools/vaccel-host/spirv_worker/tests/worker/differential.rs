// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shaders against the built-in operations: one command buffer runs both on the same operands, and
//! the results have to be the same bits. Sums are the exception: Vulkan allows a device to fuse a
//! multiplication and an addition, so products of matrices may differ by the rounding of each term.

use engine::Outcome;
use vaccel_isa::{Elementwise, ElementwiseOp, Gemm, Matrix, Operand, Reduce, ReduceAxis, ReduceOp};

use crate::memory::{input, output, Memory, Numbers, Until, BUFFERS};
use crate::{shared_engine, wgsl};

/// Sizes tried for each operation.
const ROUNDS: u32 = 8;
/// Bytes from one buffer to the next.
const STEP: u64 = 1 << 20;
const A: u64 = BUFFERS;
const B: u64 = BUFFERS + STEP;
/// Results of built-in operations.
const BUILT_IN: u64 = BUFFERS + 2 * STEP;
/// Results of shaders.
const SHADER: u64 = BUFFERS + 3 * STEP;

fn memory() -> Memory {
    Memory::new(4 * STEP as usize)
}

fn constants(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Work groups of 64 for so many invocations.
fn groups(count: u32) -> [u32; 3] {
    [count.div_ceil(64), 1, 1]
}

fn assert_same(memory: &Memory, count: u32, what: &str) {
    // One more than was written: both leave what is behind alone.
    let count = count as usize + 1;
    let (built_in, shader) = (memory.words(BUILT_IN, count), memory.words(SHADER, count));
    assert_eq!(built_in, shader, "{what}");
}

/// FILL and COPY of words.
#[test]
fn fill_and_copy() {
    let fill = wgsl::compile(
        "@group(0) @binding(0) var<storage, read_write> to: array<u32>;
        var<immediate> pattern: u32;
        @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) at: vec3<u32>) {
            if at.x < arrayLength(&to) { to[at.x] = pattern; }
        }",
    );
    let copy = wgsl::compile(
        "@group(0) @binding(0) var<storage, read> source: array<u32>;
        @group(0) @binding(1) var<storage, read_write> to: array<u32>;
        @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) at: vec3<u32>) {
            if at.x < arrayLength(&to) { to[at.x] = source[at.x]; }
        }",
    );
    let mut numbers = Numbers(1);
    for round in 0..ROUNDS {
        let memory = memory();
        let (count, pattern) = (numbers.size(100_000), numbers.word());
        let bytes = u64::from(count) * 4;
        let shader = memory.shader(&fill);
        let outcome = memory.run(shared_engine(), &Until::done(), |s| {
            let buffer = output(0, SHADER, count as usize);
            s.fill_words(BUILT_IN, bytes, pattern);
            s.dispatch(shader, groups(count), &[buffer], &constants(&[pattern]));
        });
        assert_eq!(outcome, Outcome::Done);
        assert_same(&memory, count, &format!("fill {round}: {count} words"));

        memory.put_f32(A, &numbers.floats(count as usize));
        let shader = memory.shader(&copy);
        let outcome = memory.run(shared_engine(), &Until::done(), |s| {
            let buffers = [
                input(0, A, count as usize),
                output(1, SHADER, count as usize),
            ];
            s.copy(BUILT_IN, A, bytes);
            s.dispatch(shader, groups(count), &buffers, &[]);
        });
        assert_eq!(outcome, Outcome::Done);
        assert_same(&memory, count, &format!("copy {round}: {count} words"));
        assert_ne!(memory.words(SHADER, 1), memory.words(SHADER, 2)[1..]);
    }
}

/// Every element-wise operation.
#[test]
fn elementwise() {
    let module = wgsl::compile(
        "@group(0) @binding(0) var<storage, read> a: array<f32>;
        @group(0) @binding(1) var<storage, read> b: array<f32>;
        @group(0) @binding(2) var<storage, read_write> to: array<f32>;
        var<immediate> operation: u32;
        @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) at: vec3<u32>) {
            let i = at.x;
            if i >= arrayLength(&to) { return; }
            switch operation {
                case 1u: { to[i] = a[i] + b[i]; }
                case 2u: { to[i] = a[i] - b[i]; }
                case 3u: { to[i] = a[i] * b[i]; }
                case 4u: { to[i] = select(b[i], a[i], a[i] > b[i]); }
                case 5u: { to[i] = select(b[i], a[i], a[i] < b[i]); }
                default: { to[i] = select(0.0, a[i], a[i] > 0.0); }
            }
        }",
    );
    let mut numbers = Numbers(2);
    for op in [
        ElementwiseOp::Add,
        ElementwiseOp::Sub,
        ElementwiseOp::Mul,
        ElementwiseOp::Max,
        ElementwiseOp::Min,
        ElementwiseOp::Relu,
    ] {
        let memory = memory();
        let count = numbers.size(50_000);
        memory.put_f32(A, &numbers.floats(count as usize));
        memory.put_f32(B, &numbers.floats(count as usize));
        let shader = memory.shader(&module);
        let b = if op.is_unary() {
            Operand::None
        } else {
            Operand::Full(B)
        };
        let outcome = memory.run(shared_engine(), &Until::done(), |s| {
            s.elementwise(Elementwise {
                op,
                dst: BUILT_IN,
                a: A,
                b,
                rows: 1,
                cols: count,
            });
            let size = count as usize;
            let buffers = [
                input(0, A, size),
                input(1, B, size),
                output(2, SHADER, size),
            ];
            let push = constants(&[op as u32]);
            s.dispatch(shader, groups(count), &buffers, &push);
        });
        assert_eq!(outcome, Outcome::Done);
        assert_same(&memory, count, &format!("{op:?}: {count} elements"));
    }
}

/// GEMM of dense matrices. The tolerance is the rounding of each of the k terms and of what they add
/// up to.
#[test]
fn gemm() {
    let module = wgsl::compile(
        "struct Sizes { m: u32, n: u32, k: u32 }
        @group(0) @binding(0) var<storage, read> a: array<f32>;
        @group(0) @binding(1) var<storage, read> b: array<f32>;
        @group(0) @binding(2) var<storage, read_write> c: array<f32>;
        var<immediate> s: Sizes;
        @compute @workgroup_size(8, 8) fn main(@builtin(global_invocation_id) at: vec3<u32>) {
            if at.x >= s.n || at.y >= s.m { return; }
            var sum = 0.0;
            for (var i = 0u; i < s.k; i++) { sum += a[at.y * s.k + i] * b[i * s.n + at.x]; }
            c[at.y * s.n + at.x] = sum;
        }",
    );
    let mut numbers = Numbers(3);
    for round in 0..ROUNDS {
        let memory = memory();
        let [m, n, k] = [(); 3].map(|()| numbers.size(70));
        let (a_size, b_size) = ((m * k) as usize, (k * n) as usize);
        memory.put_f32(A, &numbers.floats(a_size));
        memory.put_f32(B, &numbers.floats(b_size));
        let shader = memory.shader(&module);
        let count = (m * n) as usize;
        let outcome = memory.run(shared_engine(), &Until::done(), |s| {
            s.gemm(Gemm {
                m,
                n,
                k,
                a: Matrix::dense(A, k),
                b: Matrix::dense(B, n),
                c: Matrix::dense(BUILT_IN, n),
                alpha: 1.0,
                beta: 0.0,
            });
            let buffers = [
                input(0, A, a_size),
                input(1, B, b_size),
                output(2, SHADER, count),
            ];
            let groups = [n.div_ceil(8), m.div_ceil(8), 1];
            s.dispatch(shader, groups, &buffers, &constants(&[m, n, k]));
        });
        assert_eq!(outcome, Outcome::Done);
        // Operands are below 2, so terms are below 4.
        let tolerance = f32::EPSILON * 4.0 * (k * k) as f32;
        let (built_in, shader) = (memory.floats(BUILT_IN, count), memory.floats(SHADER, count));
        for (at, (a, b)) in built_in.iter().zip(&shader).enumerate() {
            let close = (a - b).abs() <= tolerance;
            assert!(
                close,
                "round {round}, {m} x {n} x {k}, element {at}: {a} and {b}"
            );
        }
    }
}

/// Row sums, which are additions only and so the same bits, and the index of the maximum.
#[test]
fn reduce() {
    let module = wgsl::compile(
        "struct Sizes { rows: u32, cols: u32, operation: u32 }
        @group(0) @binding(0) var<storage, read> source: array<f32>;
        @group(0) @binding(1) var<storage, read_write> to: array<u32>;
        var<immediate> s: Sizes;
        @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) at: vec3<u32>) {
            if at.x >= s.rows { return; }
            let row = at.x * s.cols;
            var sum = 0.0;
            var best = source[row];
            var index = 0u;
            for (var i = 0u; i < s.cols; i++) {
                let value = source[row + i];
                sum += value;
                if value > best { best = value; index = i; }
            }
            switch s.operation {
                case 1u: { to[at.x] = bitcast<u32>(sum); }
                case 2u: { to[at.x] = bitcast<u32>(best); }
                default: { to[at.x] = index; }
            }
        }",
    );
    let mut numbers = Numbers(4);
    for op in [ReduceOp::Sum, ReduceOp::Max, ReduceOp::ArgMax] {
        let memory = memory();
        let (rows, cols) = (numbers.size(300), numbers.size(300));
        let count = (rows * cols) as usize;
        memory.put_f32(A, &numbers.floats(count));
        let shader = memory.shader(&module);
        let outcome = memory.run(shared_engine(), &Until::done(), |s| {
            s.reduce(Reduce {
                op,
                axis: ReduceAxis::Rows,
                dst: BUILT_IN,
                src: A,
                rows,
                cols,
            });
            let buffers = [input(0, A, count), output(1, SHADER, rows as usize)];
            let push = constants(&[rows, cols, op as u32]);
            s.dispatch(shader, groups(rows), &buffers, &push);
        });
        assert_eq!(outcome, Outcome::Done);
        assert_same(&memory, rows, &format!("{op:?}: {rows} x {cols}"));
    }
}
