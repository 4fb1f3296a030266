// SPDX-License-Identifier: MIT OR Apache-2.0
//! The encoder. It writes what it is told: a caller that passes sizes or addresses outside the
//! rules gets a stream that [`CommandStream::finish`] refuses, by the decoder's own words.

use zerocopy::{Immutable, IntoBytes};

use crate::decode::{decode, DecodeError};
use crate::dispatch::{Binding, Shader};
use crate::packet::{Elementwise, Fill, Gemm, Operand, Pattern, Reduce};
use crate::wire::{
    b_kind, transpose, Header, Opcode, WireBinding, WireCopy, WireDispatch, WireElementwise,
    WireFill, WireGemm, WireReduce, WireSpin, HEADER_BYTES,
};
use crate::{ENTRY_POINT_BYTES, PACKET_ALIGN};

/// Collects packets into a command buffer.
///
/// ```
/// use vaccel_isa::CommandStream;
/// let mut stream = CommandStream::new();
/// stream.fill_words(0x1000, 64, 0xdead_beef).copy(0x2000, 0x1000, 64);
/// let bytes = stream.finish()?;
/// assert_eq!(bytes.len() % 8, 0);
/// # Ok::<(), vaccel_isa::DecodeError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct CommandStream {
    bytes: Vec<u8>,
}

impl CommandStream {
    /// Starts an empty stream.
    pub fn new() -> Self {
        Self::default()
    }

    fn push(&mut self, opcode: Opcode, body: &(impl IntoBytes + Immutable + ?Sized)) -> &mut Self {
        let body = body.as_bytes();
        let header = Header {
            opcode: (opcode as u16).into(),
            flags: 0.into(),
            length: u32::try_from(body.len().saturating_add(HEADER_BYTES))
                .unwrap_or(u32::MAX)
                .into(),
        };
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(body);
        self
    }

    /// Appends a NOP without a body.
    pub fn nop(&mut self) -> &mut Self {
        self.push(Opcode::Nop, &[0_u8; 0])
    }

    /// Appends a FILL.
    pub fn fill(&mut self, fill: Fill) -> &mut Self {
        let (pattern, pattern_bytes) = match fill.pattern {
            Pattern::Byte(value) => (u32::from(value), 1),
            Pattern::Word(value) => (value, 4),
        };
        let wire = WireFill {
            dst: fill.dst.into(),
            bytes: fill.bytes.into(),
            pattern: pattern.into(),
            pattern_bytes: pattern_bytes.into(),
        };
        self.push(Opcode::Fill, &wire)
    }

    /// Appends a FILL with one byte.
    pub fn fill_bytes(&mut self, dst: u64, bytes: u64, value: u8) -> &mut Self {
        self.fill(Fill {
            dst,
            bytes,
            pattern: Pattern::Byte(value),
        })
    }

    /// Appends a FILL with a 32-bit word; `dst` and `bytes` are multiples of 4.
    pub fn fill_words(&mut self, dst: u64, bytes: u64, value: u32) -> &mut Self {
        self.fill(Fill {
            dst,
            bytes,
            pattern: Pattern::Word(value),
        })
    }

    /// Appends a COPY.
    pub fn copy(&mut self, dst: u64, src: u64, bytes: u64) -> &mut Self {
        let wire = WireCopy {
            dst: dst.into(),
            src: src.into(),
            bytes: bytes.into(),
        };
        self.push(Opcode::Copy, &wire)
    }

    /// Appends an ELEMENTWISE_F32.
    pub fn elementwise(&mut self, packet: Elementwise) -> &mut Self {
        let (kind, b, immediate) = match packet.b {
            Operand::None => (b_kind::NONE, 0, 0.0),
            Operand::Full(va) => (b_kind::FULL, va, 0.0),
            Operand::Row(va) => (b_kind::ROW, va, 0.0),
            Operand::Immediate(value) => (b_kind::IMMEDIATE, 0, value),
        };
        let wire = WireElementwise {
            dst: packet.dst.into(),
            a: packet.a.into(),
            b: b.into(),
            rows: packet.rows.into(),
            cols: packet.cols.into(),
            op: (packet.op as u32).into(),
            b_kind: kind.into(),
            immediate: immediate.into(),
            reserved: 0.into(),
        };
        self.push(Opcode::ElementwiseF32, &wire)
    }

    /// Appends a GEMM_F32. The result matrix is never transposed, so its flag is ignored.
    pub fn gemm(&mut self, packet: Gemm) -> &mut Self {
        let flag = |on: bool, bit: u32| if on { bit } else { 0 };
        let flags = flag(packet.a.transpose, transpose::A) | flag(packet.b.transpose, transpose::B);
        let wire = WireGemm {
            a: packet.a.va.into(),
            b: packet.b.va.into(),
            c: packet.c.va.into(),
            m: packet.m.into(),
            n: packet.n.into(),
            k: packet.k.into(),
            lda: packet.a.ld.into(),
            ldb: packet.b.ld.into(),
            ldc: packet.c.ld.into(),
            transpose: flags.into(),
            alpha: packet.alpha.into(),
            beta: packet.beta.into(),
            reserved: 0.into(),
        };
        self.push(Opcode::GemmF32, &wire)
    }

    /// Appends a REDUCE_F32.
    pub fn reduce(&mut self, packet: Reduce) -> &mut Self {
        let wire = WireReduce {
            dst: packet.dst.into(),
            src: packet.src.into(),
            rows: packet.rows.into(),
            cols: packet.cols.into(),
            op: (packet.op as u32).into(),
            axis: (packet.axis as u32).into(),
        };
        self.push(Opcode::ReduceF32, &wire)
    }

    /// Appends a SPIN of at most [`crate::MAX_SPIN_NS`] nanoseconds.
    pub fn spin(&mut self, nanoseconds: u64) -> &mut Self {
        let wire = WireSpin {
            nanoseconds: nanoseconds.into(),
        };
        self.push(Opcode::Spin, &wire)
    }

    /// Appends a DISPATCH_SPIRV: runs `groups` work groups (in x, y and z) of `shader`. Bindings are
    /// in ascending order of their numbers. An entry point with a longer name than
    /// [`ENTRY_POINT_BYTES`] is encoded as one without a name, which is refused.
    pub fn dispatch(
        &mut self,
        shader: Shader<'_>,
        groups: [u32; 3],
        bindings: &[Binding],
        push_constants: &[u8],
    ) -> &mut Self {
        let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
        let mut entry_point = [0; ENTRY_POINT_BYTES];
        if let Some(name) = entry_point.get_mut(..shader.entry_point.len()) {
            name.copy_from_slice(shader.entry_point.as_bytes());
        }
        let wire = WireDispatch {
            module: shader.va.into(),
            module_bytes: shader.bytes.into(),
            groups: groups.map(Into::into),
            binding_count: count(bindings.len()).into(),
            push_bytes: count(push_constants.len()).into(),
            entry_point,
        };
        let mut body = wire.as_bytes().to_vec();
        for binding in bindings {
            body.extend_from_slice(WireBinding::from(*binding).as_bytes());
        }
        body.extend_from_slice(push_constants);
        body.resize(body.len().next_multiple_of(PACKET_ALIGN), 0);
        self.push(Opcode::DispatchSpirv, body.as_slice())
    }

    /// Appends END and returns the bytes to submit.
    ///
    /// # Errors
    ///
    /// Fails with the first packet that the host would refuse.
    pub fn finish(mut self) -> Result<Vec<u8>, DecodeError> {
        self.push(Opcode::End, &[0_u8; 0]);
        decode(&self.bytes).try_for_each(|packet| packet.map(drop))?;
        Ok(self.bytes)
    }
}
