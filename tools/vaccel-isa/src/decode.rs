// SPDX-License-Identifier: MIT OR Apache-2.0
//! The strict decoder: bytes to typed packets. It accepts exactly what the encoder can write (and
//! NOP padding of any contents), never panics, and says where and why it stopped.

mod dispatch;

use core::fmt;

use zerocopy::FromBytes;

use crate::packet::{
    Copy, Elementwise, ElementwiseOp, Fill, Gemm, Matrix, Operand, Packet, Pattern, Reduce,
    ReduceAxis, ReduceOp,
};
use crate::wire::{
    b_kind, transpose, Header, Opcode, WireCopy, WireElementwise, WireFill, WireGemm, WireReduce,
    WireSpin, HEADER_BYTES,
};
use crate::{
    MAX_ELEMENTS, MAX_EXTENT, MAX_SPIN_NS, MAX_STREAM_BYTES, MAX_TRANSFER_BYTES, PACKET_ALIGN,
};

/// Bytes of an f32 or u32 element.
const ELEMENT_BYTES: u64 = 4;

/// Why a packet was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The buffer is empty, longer than [`MAX_STREAM_BYTES`], or not a multiple of 8 long.
    StreamLength(usize),
    /// The buffer ends without END, or bytes follow END.
    End,
    /// The packet length is not possible for its opcode, or runs past the buffer.
    PacketLength(u32),
    /// Unknown opcode.
    Opcode(u16),
    /// Non-zero flags.
    Flags(u16),
    /// A field has a value that is not defined, or a reserved field is not zero.
    Field(&'static str, u32),
    /// A size is zero or above its limit.
    Size(&'static str, u64),
    /// An address is misaligned, or the range that starts there wraps.
    Address(&'static str, u64),
}

/// A refused command buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeError {
    /// Offset of the packet in the buffer, in bytes.
    pub offset: usize,
    /// What is wrong with it.
    pub reason: Reason,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "packet at byte {}: ", self.offset)?;
        match self.reason {
            Reason::StreamLength(length) => write!(
                f,
                "buffer of {length} bytes, must be a multiple of 8 from 8 to {MAX_STREAM_BYTES}"
            ),
            Reason::End => write!(f, "END must be the last packet"),
            Reason::PacketLength(length) => write!(f, "impossible packet length {length}"),
            Reason::Opcode(opcode) => write!(f, "unknown opcode {opcode}"),
            Reason::Flags(flags) => write!(f, "flags {flags:#x} must be 0"),
            Reason::Field(name, value) => write!(f, "{name} has undefined value {value:#x}"),
            Reason::Size(name, value) => write!(
                f,
                "{name} of {value} is zero, not a multiple or over the limit"
            ),
            Reason::Address(name, value) => {
                write!(f, "{name} at {value:#x} is misaligned or wraps")
            }
        }
    }
}

impl core::error::Error for DecodeError {}

/// Iterator over the packets of a buffer, END included; it ends after END or the first error.
#[derive(Debug, Clone)]
pub struct Packets<'a> {
    rest: &'a [u8],
    offset: usize,
    done: bool,
}

/// Starts decoding a command buffer. A user that must not run half a buffer (the host) goes through
/// the iterator once before running anything.
pub fn decode(stream: &[u8]) -> Packets<'_> {
    Packets {
        rest: stream,
        offset: 0,
        done: false,
    }
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<Packet<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let offset = self.offset;
        let packet = self
            .packet()
            .map_err(|reason| DecodeError { offset, reason });
        self.done = matches!(packet, Err(_) | Ok(Packet::End));
        Some(packet)
    }
}

impl<'a> Packets<'a> {
    /// Where the next packet starts, in bytes from the start of the buffer.
    pub fn offset(&self) -> usize {
        self.offset
    }

    fn packet(&mut self) -> Result<Packet<'a>, Reason> {
        if self.offset == 0
            && (self.rest.is_empty()
                || self.rest.len() > MAX_STREAM_BYTES
                || self.rest.len() % PACKET_ALIGN != 0)
        {
            return Err(Reason::StreamLength(self.rest.len()));
        }
        let (header, _) = Header::ref_from_prefix(self.rest).map_err(|_| Reason::End)?;
        let length = header.length.get();
        let bytes = usize::try_from(length).map_err(|_| Reason::PacketLength(length))?;
        if bytes < HEADER_BYTES || bytes % PACKET_ALIGN != 0 {
            return Err(Reason::PacketLength(length));
        }
        let (packet, rest) = self
            .rest
            .split_at_checked(bytes)
            .ok_or(Reason::PacketLength(length))?;
        let body = packet.get(HEADER_BYTES..).unwrap_or_default();
        let opcode = header.opcode.get();
        let opcode = Opcode::from_wire(opcode).ok_or(Reason::Opcode(opcode))?;
        if header.flags.get() != 0 {
            return Err(Reason::Flags(header.flags.get()));
        }
        let packet = match opcode {
            Opcode::Nop => Packet::Nop,
            Opcode::End if !body.is_empty() => return Err(Reason::PacketLength(length)),
            Opcode::End if !rest.is_empty() => return Err(Reason::End),
            Opcode::End => Packet::End,
            Opcode::Fill => Packet::Fill(fill(exact(body, length)?)?),
            Opcode::Copy => Packet::Copy(copy(exact(body, length)?)?),
            Opcode::ElementwiseF32 => Packet::Elementwise(elementwise(exact(body, length)?)?),
            Opcode::GemmF32 => Packet::Gemm(gemm(exact(body, length)?)?),
            Opcode::ReduceF32 => Packet::Reduce(reduce(exact(body, length)?)?),
            Opcode::Spin => Packet::Spin(spin(exact(body, length)?)?),
            Opcode::DispatchSpirv => Packet::Dispatch(dispatch::dispatch(body, length)?),
        };
        self.rest = rest;
        self.offset = self.offset.saturating_add(bytes);
        Ok(packet)
    }
}

fn exact<T: FromBytes>(body: &[u8], length: u32) -> Result<T, Reason> {
    T::read_from_bytes(body).map_err(|_| Reason::PacketLength(length))
}

fn zero(name: &'static str, value: u32) -> Result<(), Reason> {
    if value == 0 {
        Ok(())
    } else {
        Err(Reason::Field(name, value))
    }
}

/// Checks a size against zero and its limit.
fn size(name: &'static str, value: u64, limit: u64) -> Result<u64, Reason> {
    if value == 0 || value > limit {
        Err(Reason::Size(name, value))
    } else {
        Ok(value)
    }
}

/// Checks that `va` is aligned and that `bytes` from there do not wrap.
fn range(name: &'static str, va: u64, bytes: u64, align: u64) -> Result<u64, Reason> {
    if va.checked_rem(align) != Some(0) || va.checked_add(bytes).is_none() {
        return Err(Reason::Address(name, va));
    }
    Ok(va)
}

/// Checks a range of f32 or u32 elements.
fn elements(name: &'static str, va: u64, count: u64) -> Result<u64, Reason> {
    let bytes = count
        .checked_mul(ELEMENT_BYTES)
        .ok_or(Reason::Address(name, va))?;
    range(name, va, bytes, ELEMENT_BYTES)
}

/// Checks the number of elements of a matrix.
fn shape(name: &'static str, rows: u32, cols: u32) -> Result<u64, Reason> {
    let count = u64::from(rows).saturating_mul(u64::from(cols));
    size(name, count, MAX_ELEMENTS)
}

fn fill(wire: WireFill) -> Result<Fill, Reason> {
    let bytes = size("length", wire.bytes.get(), MAX_TRANSFER_BYTES)?;
    let value = wire.pattern.get();
    let width = wire.pattern_bytes.get();
    let pattern = match width {
        1 => Pattern::Byte(u8::try_from(value).map_err(|_| Reason::Field("pattern", value))?),
        4 => Pattern::Word(value),
        _ => return Err(Reason::Field("pattern_bytes", width)),
    };
    if bytes.checked_rem(u64::from(width)) != Some(0) {
        return Err(Reason::Size("length", bytes));
    }
    Ok(Fill {
        dst: range("dst", wire.dst.get(), bytes, u64::from(width))?,
        bytes,
        pattern,
    })
}

fn copy(wire: WireCopy) -> Result<Copy, Reason> {
    let bytes = size("length", wire.bytes.get(), MAX_TRANSFER_BYTES)?;
    Ok(Copy {
        dst: range("dst", wire.dst.get(), bytes, 1)?,
        src: range("src", wire.src.get(), bytes, 1)?,
        bytes,
    })
}

fn elementwise(wire: WireElementwise) -> Result<Elementwise, Reason> {
    let op = wire.op.get();
    let op = ElementwiseOp::ALL
        .into_iter()
        .find(|known| *known as u32 == op)
        .ok_or(Reason::Field("op", op))?;
    zero("reserved", wire.reserved.get())?;
    let (rows, cols) = (wire.rows.get(), wire.cols.get());
    let count = shape("elements", rows, cols)?;
    let kind = wire.b_kind.get();
    if op.is_unary() != (kind == b_kind::NONE) {
        return Err(Reason::Field("b_kind", kind));
    }
    let va = wire.b.get();
    let immediate = wire.immediate.get();
    let unused_va = if va == 0 {
        Ok(())
    } else {
        Err(Reason::Address("b", va))
    };
    let unused_immediate = zero("immediate", immediate.to_bits());
    let b = match kind {
        b_kind::NONE => {
            unused_va.and(unused_immediate)?;
            Operand::None
        }
        b_kind::FULL => {
            unused_immediate?;
            Operand::Full(elements("b", va, count)?)
        }
        b_kind::ROW => {
            unused_immediate?;
            Operand::Row(elements("b", va, u64::from(cols))?)
        }
        b_kind::IMMEDIATE => {
            unused_va?;
            Operand::Immediate(immediate)
        }
        _ => return Err(Reason::Field("b_kind", kind)),
    };
    Ok(Elementwise {
        op,
        dst: elements("dst", wire.dst.get(), count)?,
        a: elements("a", wire.a.get(), count)?,
        b,
        rows,
        cols,
    })
}

/// Checks one matrix of a GEMM; `rows` and `cols` describe the operand after transposition.
fn matrix(
    name: &'static str,
    va: u64,
    ld: u32,
    (rows, cols): (u32, u32),
    transpose: bool,
) -> Result<Matrix, Reason> {
    shape(name, rows, cols)?;
    let (rows, cols) = if transpose {
        (cols, rows)
    } else {
        (rows, cols)
    };
    if ld < cols {
        return Err(Reason::Field("leading dimension", ld));
    }
    let extent = u64::from(rows)
        .saturating_sub(1)
        .saturating_mul(u64::from(ld))
        .saturating_add(u64::from(cols));
    let extent = size(name, extent, MAX_EXTENT)?;
    Ok(Matrix {
        va: elements(name, va, extent)?,
        ld,
        transpose,
    })
}

fn gemm(wire: WireGemm) -> Result<Gemm, Reason> {
    let (m, n, k) = (wire.m.get(), wire.n.get(), wire.k.get());
    let flags = wire.transpose.get();
    if flags & !(transpose::A | transpose::B) != 0 {
        return Err(Reason::Field("transpose", flags));
    }
    zero("reserved", wire.reserved.get())?;
    let transpose_a = flags & transpose::A != 0;
    let transpose_b = flags & transpose::B != 0;
    Ok(Gemm {
        m,
        n,
        k,
        a: matrix("a", wire.a.get(), wire.lda.get(), (m, k), transpose_a)?,
        b: matrix("b", wire.b.get(), wire.ldb.get(), (k, n), transpose_b)?,
        c: matrix("c", wire.c.get(), wire.ldc.get(), (m, n), false)?,
        alpha: wire.alpha.get(),
        beta: wire.beta.get(),
    })
}

fn reduce(wire: WireReduce) -> Result<Reduce, Reason> {
    let op = wire.op.get();
    let op = ReduceOp::ALL
        .into_iter()
        .find(|known| *known as u32 == op)
        .ok_or(Reason::Field("op", op))?;
    let axis = wire.axis.get();
    let axis = ReduceAxis::ALL
        .into_iter()
        .find(|known| *known as u32 == axis)
        .ok_or(Reason::Field("axis", axis))?;
    let (rows, cols) = (wire.rows.get(), wire.cols.get());
    let count = shape("elements", rows, cols)?;
    let results = match axis {
        ReduceAxis::Rows => u64::from(rows),
        ReduceAxis::All => 1,
    };
    Ok(Reduce {
        op,
        axis,
        dst: elements("dst", wire.dst.get(), results)?,
        src: elements("src", wire.src.get(), count)?,
        rows,
        cols,
    })
}

fn spin(wire: WireSpin) -> Result<u64, Reason> {
    let nanoseconds = wire.nanoseconds.get();
    if nanoseconds > MAX_SPIN_NS {
        return Err(Reason::Size("nanoseconds", nanoseconds));
    }
    Ok(nanoseconds)
}

#[cfg(all(test, feature = "std"))]
mod tests;
