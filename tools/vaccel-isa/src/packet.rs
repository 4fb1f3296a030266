// SPDX-License-Identifier: MIT OR Apache-2.0
//! Packets in typed form. Addresses are GPU virtual addresses; matrices are row-major.

use crate::Dispatch;

/// One decoded packet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Packet<'a> {
    /// Padding.
    Nop,
    /// Write a pattern.
    Fill(Fill),
    /// Copy bytes.
    Copy(Copy),
    /// Element-wise arithmetic.
    Elementwise(Elementwise),
    /// Matrix product.
    Gemm(Gemm),
    /// Reduction.
    Reduce(Reduce),
    /// Keep the engine busy for so many nanoseconds.
    Spin(u64),
    /// Run a compute shader.
    Dispatch(Dispatch<'a>),
    /// End of the command buffer.
    End,
}

/// What FILL repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// One byte.
    Byte(u8),
    /// A little-endian word; address and length are multiples of 4.
    Word(u32),
}

/// FILL: writes `bytes` bytes of `pattern` at `dst`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fill {
    /// First byte written.
    pub dst: u64,
    /// Bytes written.
    pub bytes: u64,
    /// What is written.
    pub pattern: Pattern,
}

/// COPY: copies `bytes` bytes from `src` to `dst`. Overlapping ranges leave unspecified contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copy {
    /// First byte written.
    pub dst: u64,
    /// First byte read.
    pub src: u64,
    /// Bytes copied.
    pub bytes: u64,
}

/// Operation of an ELEMENTWISE_F32 packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum ElementwiseOp {
    /// `a + b`
    Add = 1,
    /// `a - b`
    Sub = 2,
    /// `a * b`
    Mul = 3,
    /// `a` if `a > b`, else `b`
    Max = 4,
    /// `a` if `a < b`, else `b`
    Min = 5,
    /// `a` if `a > 0`, else `+0`; takes no second operand
    Relu = 6,
}

impl ElementwiseOp {
    pub(crate) const ALL: [Self; 6] = [
        Self::Add,
        Self::Sub,
        Self::Mul,
        Self::Max,
        Self::Min,
        Self::Relu,
    ];

    /// Whether the operation takes no second operand.
    pub const fn is_unary(self) -> bool {
        matches!(self, Self::Relu)
    }

    /// The operation on one pair of elements: the definition the engine follows, and the one a CPU
    /// reference can use.
    pub fn apply(self, a: f32, b: f32) -> f32 {
        match self {
            Self::Add => a + b,
            Self::Sub => a - b,
            Self::Mul => a * b,
            Self::Max if a > b => a,
            Self::Min if a < b => a,
            Self::Max | Self::Min => b,
            Self::Relu if a > 0.0 => a,
            Self::Relu => 0.0,
        }
    }
}

/// Second operand of an ELEMENTWISE_F32 packet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Operand {
    /// None: the operation is unary.
    None,
    /// A matrix of the same shape at this address.
    Full(u64),
    /// One row at this address, used for every row (a bias).
    Row(u64),
    /// This number for every element (a scale).
    Immediate(f32),
}

/// ELEMENTWISE_F32: `dst[r][c] = op(a[r][c], b[r][c])`, dense matrices of `rows` x `cols`.
/// `dst` may be equal to `a` or to a full `b`; other overlaps leave unspecified contents.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Elementwise {
    /// The operation.
    pub op: ElementwiseOp,
    /// Result, a multiple of 4.
    pub dst: u64,
    /// First operand, a multiple of 4.
    pub a: u64,
    /// Second operand.
    pub b: Operand,
    /// Rows.
    pub rows: u32,
    /// Columns.
    pub cols: u32,
}

/// A matrix operand of GEMM_F32 as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Matrix {
    /// Address of the first element, a multiple of 4.
    pub va: u64,
    /// Elements from the start of a row to the start of the next, at least the length of a row.
    pub ld: u32,
    /// The operand is the transpose of what is stored. Never set for the result.
    pub transpose: bool,
}

impl Matrix {
    /// A matrix whose rows of `cols` elements follow each other without gaps.
    pub const fn dense(va: u64, cols: u32) -> Self {
        Self {
            va,
            ld: cols,
            transpose: false,
        }
    }

    /// The transpose of the stored matrix.
    pub const fn transposed(self) -> Self {
        Self {
            transpose: !self.transpose,
            ..self
        }
    }
}

/// GEMM_F32: `c = alpha * (a * b) + beta * c` with `a` of `m` x `k`, `b` of `k` x `n` (after
/// transposition), `c` of `m` x `n`. `c` is not read when `beta` is 0. A `c` that overlaps `a` or
/// `b` gets unspecified contents.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gemm {
    /// Rows of the result.
    pub m: u32,
    /// Columns of the result.
    pub n: u32,
    /// Terms summed for each element.
    pub k: u32,
    /// Left operand.
    pub a: Matrix,
    /// Right operand.
    pub b: Matrix,
    /// Result, and third operand when `beta` is not 0.
    pub c: Matrix,
    /// Factor of the product.
    pub alpha: f32,
    /// Factor of the old `c`.
    pub beta: f32,
}

/// Operation of a REDUCE_F32 packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum ReduceOp {
    /// Sum, from +0 and in ascending order; the result is an f32.
    Sum = 1,
    /// The first element, replaced by each later one that compares greater; an f32.
    Max = 2,
    /// Index of the element that [`ReduceOp::Max`] gives; a u32.
    ArgMax = 3,
}

impl ReduceOp {
    pub(crate) const ALL: [Self; 3] = [Self::Sum, Self::Max, Self::ArgMax];
}

/// What a REDUCE_F32 packet reduces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum ReduceAxis {
    /// Each row to one result: `rows` results.
    Rows = 1,
    /// All elements, row after row, to one result.
    All = 2,
}

impl ReduceAxis {
    pub(crate) const ALL: [Self; 2] = [Self::Rows, Self::All];
}

/// REDUCE_F32: reduces the dense matrix of `rows` x `cols` at `src` and writes 4-byte results, one
/// after the other, at `dst`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reduce {
    /// The operation.
    pub op: ReduceOp,
    /// What is reduced.
    pub axis: ReduceAxis,
    /// Results, a multiple of 4.
    pub dst: u64,
    /// Matrix, a multiple of 4.
    pub src: u64,
    /// Rows.
    pub rows: u32,
    /// Columns.
    pub cols: u32,
}
