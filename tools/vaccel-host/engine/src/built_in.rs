// SPDX-License-Identifier: MIT OR Apache-2.0
//! The engine with the fixed operations of the ISA, in plain scalar Rust that compilers vectorise.
//!
//! Numbers are f32; every operation is rounded once, sums run in ascending order, nothing is fused
//! or reassociated. The same command buffer therefore gives the same bits on every machine, and a
//! loop written the same way elsewhere can be compared for equality.

mod gemm;
pub(crate) mod matrix;
#[cfg(test)]
mod tests;

use std::time::Duration;

use vaccel_isa::{
    decode, AdapterInfo, Copy, DecodeError, Elementwise, Fill, Opcode, Operand, Packet, Pattern,
    Reason, Reduce, ReduceAxis, ReduceOp, MAX_STREAM_BYTES, PACKET_ALIGN,
};

use crate::shaders::{self, Shaders};
use crate::{AddressSpace, Commands, Engine, Fault, Outcome, Pace};
use matrix::{read_f32, write_words, ELEMENT_BYTES};

/// Bytes that FILL and COPY move at a time.
const CHUNK_BYTES: usize = 64 << 10;
/// Elements that ELEMENTWISE and REDUCE handle at a time, unless a single row is longer.
const CHUNK_ELEMENTS: usize = CHUNK_BYTES / 4;
/// Longest uninterrupted sleep.
const SLEEP_STEP: Duration = Duration::from_millis(1);

/// The built-in engine. It has no state.
#[derive(Debug, Default, Clone, Copy)]
pub struct BuiltIn;

/// Why a packet stopped.
pub(crate) enum Stop {
    Fault(Fault),
    BadProgram,
    Hung,
    Cancelled,
}

impl From<Stop> for Outcome {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Fault(fault) => Outcome::PageFault(fault),
            Stop::BadProgram => Outcome::BadProgram,
            Stop::Hung => Outcome::Hung,
            Stop::Cancelled => Outcome::Cancelled,
        }
    }
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Stop::Fault(fault)
    }
}

/// What a packet runs on.
#[derive(Clone, std::marker::Copy)]
pub(crate) struct Run<'a> {
    pub(crate) space: &'a dyn AddressSpace,
    pub(crate) pace: &'a dyn Pace,
    /// What runs DISPATCH_SPIRV; without it command buffers with one are malformed.
    pub(crate) shaders: Option<&'a dyn Shaders>,
}

impl Engine for BuiltIn {
    fn info(&self) -> AdapterInfo {
        AdapterInfo::new("vaccel built-in f32")
    }

    fn run(&self, commands: Commands, space: &dyn AddressSpace, pace: &dyn Pace) -> Outcome {
        let run = Run {
            space,
            pace,
            shaders: None,
        };
        run.commands(commands)
    }
}

/// Copies the command buffer, once.
fn fetch(commands: Commands, space: &dyn AddressSpace) -> Result<Vec<u8>, Outcome> {
    let bad = |reason| Outcome::BadCommands(DecodeError { offset: 0, reason });
    let bytes = usize::try_from(commands.bytes).unwrap_or(usize::MAX);
    if bytes > MAX_STREAM_BYTES {
        return Err(bad(Reason::StreamLength(bytes)));
    }
    let align = u64::try_from(PACKET_ALIGN).unwrap_or(u64::MAX);
    if commands.va.checked_rem(align) != Some(0) {
        return Err(bad(Reason::Address("command buffer", commands.va)));
    }
    let mut stream = vec![0; bytes];
    space
        .read(commands.va, &mut stream)
        .map_err(Outcome::PageFault)?;
    Ok(stream)
}

impl Run<'_> {
    /// Runs a command buffer.
    pub(crate) fn commands(self, commands: Commands) -> Outcome {
        if self.pace.cancelled() {
            return Outcome::Cancelled;
        }
        let stream = match fetch(commands, self.space) {
            Ok(stream) => stream,
            Err(outcome) => return outcome,
        };
        if let Err(error) = self.decode_all(&stream) {
            return Outcome::BadCommands(error);
        }
        for packet in decode(&stream).flatten() {
            if let Err(stop) = self.packet(packet) {
                return stop.into();
            }
        }
        Outcome::Done
    }

    /// Checks a command buffer as a whole.
    fn decode_all(self, stream: &[u8]) -> Result<(), DecodeError> {
        let mut packets = decode(stream);
        loop {
            let offset = packets.offset();
            match packets.next() {
                None => return Ok(()),
                Some(Ok(Packet::Dispatch(_))) if self.shaders.is_none() => {
                    let reason = Reason::Opcode(Opcode::DispatchSpirv as u16);
                    return Err(DecodeError { offset, reason });
                }
                Some(packet) => packet.map(drop)?,
            }
        }
    }

    fn packet(self, packet: Packet<'_>) -> Result<(), Stop> {
        self.check()?;
        match packet {
            Packet::Nop | Packet::End => Ok(()),
            Packet::Fill(fill) => self.fill(fill),
            Packet::Copy(copy) => self.copy(copy),
            Packet::Elementwise(elementwise) => self.elementwise(elementwise),
            Packet::Gemm(gemm) => self.gemm(gemm),
            Packet::Reduce(reduce) => self.reduce(reduce),
            Packet::Spin(nanoseconds) => self.spin(nanoseconds),
            Packet::Dispatch(dispatch) => match self.shaders {
                Some(with) => shaders::dispatch(self, with, dispatch),
                None => Err(Stop::BadProgram),
            },
        }
    }

    pub(crate) fn check(self) -> Result<(), Stop> {
        if self.pace.cancelled() {
            Err(Stop::Cancelled)
        } else {
            Ok(())
        }
    }

    fn fill(self, fill: Fill) -> Result<(), Stop> {
        let word = match fill.pattern {
            Pattern::Byte(byte) => [byte; 4],
            Pattern::Word(word) => word.to_le_bytes(),
        };
        // A whole number of patterns, so every chunk starts with a whole one.
        let chunk: Vec<u8> = word.into_iter().cycle().take(CHUNK_BYTES).collect();
        for (at, bytes) in chunks(fill.bytes) {
            self.check()?;
            let chunk = chunk.get(..bytes).unwrap_or_default();
            self.space.write(fill.dst.wrapping_add(at), chunk)?;
        }
        Ok(())
    }

    fn copy(self, copy: Copy) -> Result<(), Stop> {
        let mut buffer = vec![0; CHUNK_BYTES];
        for (at, bytes) in chunks(copy.bytes) {
            self.check()?;
            let chunk = buffer.get_mut(..bytes).unwrap_or_default();
            self.space.read(copy.src.wrapping_add(at), chunk)?;
            self.space.write(copy.dst.wrapping_add(at), chunk)?;
        }
        Ok(())
    }

    fn elementwise(self, packet: Elementwise) -> Result<(), Stop> {
        let op = packet.op;
        let cols = size(packet.cols);
        let row = match packet.b {
            Operand::Row(va) => read_f32(self.space, va, cols)?,
            _ => Vec::new(),
        };
        for (at, elements) in row_chunks(packet.rows, packet.cols) {
            self.check()?;
            let mut values = read_f32(self.space, packet.a.wrapping_add(at), elements)?;
            match packet.b {
                Operand::None => each(&mut values, |a| op.apply(a, 0.0)),
                Operand::Immediate(b) => each(&mut values, |a| op.apply(a, b)),
                Operand::Full(va) => {
                    let b = read_f32(self.space, va.wrapping_add(at), elements)?;
                    pairs(&mut values, &b, |a, b| op.apply(a, b));
                }
                Operand::Row(_) => {
                    for a in values.chunks_exact_mut(cols.max(1)) {
                        pairs(a, &row, |a, b| op.apply(a, b));
                    }
                }
            }
            write_words(self.space, packet.dst.wrapping_add(at), &values)?;
        }
        Ok(())
    }

    fn reduce(self, packet: Reduce) -> Result<(), Stop> {
        let cols = size(packet.cols);
        let mut results: Vec<u32> = Vec::new();
        let mut all = Reduction::new(packet.op);
        for (at, elements) in row_chunks(packet.rows, packet.cols) {
            self.check()?;
            let values = read_f32(self.space, packet.src.wrapping_add(at), elements)?;
            match packet.axis {
                ReduceAxis::All => all.take(&values),
                ReduceAxis::Rows => results.extend(values.chunks_exact(cols.max(1)).map(|row| {
                    let mut reduction = Reduction::new(packet.op);
                    reduction.take(row);
                    reduction.bits()
                })),
            }
        }
        if packet.axis == ReduceAxis::All {
            results.push(all.bits());
        }
        Ok(write_words(self.space, packet.dst, &results)?)
    }

    fn spin(self, nanoseconds: u64) -> Result<(), Stop> {
        let mut left = Duration::from_nanos(nanoseconds);
        while !left.is_zero() {
            self.check()?;
            let step = left.min(SLEEP_STEP);
            self.pace.sleep(step);
            left = left.saturating_sub(step);
        }
        Ok(())
    }
}

/// A reduction under way.
struct Reduction {
    op: ReduceOp,
    seen: u32,
    value: f32,
    index: u32,
}

impl Reduction {
    fn new(op: ReduceOp) -> Self {
        Self {
            op,
            seen: 0,
            value: 0.0,
            index: 0,
        }
    }

    fn take(&mut self, values: &[f32]) {
        for value in values {
            match self.op {
                ReduceOp::Sum => self.value += value,
                ReduceOp::Max | ReduceOp::ArgMax => {
                    if self.seen == 0 || *value > self.value {
                        self.value = *value;
                        self.index = self.seen;
                    }
                }
            }
            self.seen = self.seen.wrapping_add(1);
        }
    }

    fn bits(&self) -> u32 {
        match self.op {
            ReduceOp::Sum | ReduceOp::Max => self.value.to_bits(),
            ReduceOp::ArgMax => self.index,
        }
    }
}

fn each(values: &mut [f32], op: impl Fn(f32) -> f32) {
    for value in values {
        *value = op(*value);
    }
}

fn pairs(values: &mut [f32], other: &[f32], op: impl Fn(f32, f32) -> f32) {
    for (a, b) in values.iter_mut().zip(other) {
        *a = op(*a, *b);
    }
}

fn size(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// Splits `bytes` into (offset, length) of at most [`CHUNK_BYTES`].
fn chunks(bytes: u64) -> impl Iterator<Item = (u64, usize)> {
    (0..bytes).step_by(CHUNK_BYTES).map(move |at| {
        let left = usize::try_from(bytes.saturating_sub(at)).unwrap_or(usize::MAX);
        (at, left.min(CHUNK_BYTES))
    })
}

/// Splits a dense matrix into (byte offset, elements) of whole rows.
fn row_chunks(rows: u32, cols: u32) -> impl Iterator<Item = (u64, usize)> {
    let (rows, cols) = (size(rows), size(cols));
    let step = CHUNK_ELEMENTS.checked_div(cols).unwrap_or(1).max(1);
    (0..rows).step_by(step).map(move |row| {
        let count = step.min(rows.saturating_sub(row));
        let offset = row.saturating_mul(cols).saturating_mul(ELEMENT_BYTES);
        let offset = u64::try_from(offset).unwrap_or(u64::MAX);
        (offset, count.saturating_mul(cols))
    })
}
