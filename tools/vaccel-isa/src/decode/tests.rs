// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of the decoder against the encoder, and against bad input.

use proptest::prelude::*;

use super::*;
use crate::CommandStream;

fn gemm_packet() -> Gemm {
    Gemm {
        m: 3,
        n: 4,
        k: 5,
        a: Matrix::dense(0x1000, 3).transposed(),
        b: Matrix::dense(0x2000, 4),
        c: Matrix {
            va: 0x3000,
            ld: 9,
            transpose: false,
        },
        alpha: 0.5,
        beta: -1.0,
    }
}

fn elementwise_packet(op: ElementwiseOp, b: Operand) -> Elementwise {
    Elementwise {
        op,
        dst: 0x1000,
        a: 0x2000,
        b,
        rows: 2,
        cols: 3,
    }
}

fn every_packet() -> CommandStream {
    let mut stream = CommandStream::new();
    stream
        .nop()
        .fill_bytes(1, 7, 0xaa)
        .fill_words(4, 8, 0x1234_5678)
        .copy(0x10, 0x21, 3)
        .elementwise(elementwise_packet(ElementwiseOp::Add, Operand::Row(0x40)))
        .elementwise(elementwise_packet(ElementwiseOp::Mul, Operand::Full(0x40)))
        .elementwise(elementwise_packet(
            ElementwiseOp::Max,
            Operand::Immediate(2.5),
        ))
        .elementwise(elementwise_packet(ElementwiseOp::Relu, Operand::None))
        .gemm(gemm_packet())
        .reduce(Reduce {
            op: ReduceOp::ArgMax,
            axis: ReduceAxis::Rows,
            dst: 8,
            src: 16,
            rows: 2,
            cols: 10,
        })
        .spin(1000);
    stream
}

fn first_error(bytes: &[u8]) -> Option<Reason> {
    decode(bytes).find_map(|packet| packet.err().map(|error| error.reason))
}

/// Every packet decodes to what was encoded, in order, and END closes the stream.
#[test]
fn every_packet_round_trips() {
    let bytes = every_packet().finish().unwrap();
    let packets: Vec<Packet> = decode(&bytes).collect::<Result<_, _>>().unwrap();
    assert_eq!(packets.len(), 12);
    assert_eq!(packets[0], Packet::Nop);
    assert_eq!(
        packets[2],
        Packet::Fill(Fill {
            dst: 4,
            bytes: 8,
            pattern: Pattern::Word(0x1234_5678)
        })
    );
    assert_eq!(
        packets[7],
        Packet::Elementwise(elementwise_packet(ElementwiseOp::Relu, Operand::None))
    );
    assert_eq!(packets[8], Packet::Gemm(gemm_packet()));
    assert_eq!(packets[10], Packet::Spin(1000));
    assert_eq!(packets[11], Packet::End);
}

/// The bytes of a packet are the documented ones: header, then fields in order, little-endian.
#[test]
fn layout_is_the_documented_one() {
    let mut stream = CommandStream::new();
    stream.fill_words(0x1122_3344_5566_7788, 16, 0xaabb_ccdd);
    let bytes = stream.finish().unwrap();
    let expected = [
        3, 0, 0, 0, 32, 0, 0, 0, // opcode, flags, length
        0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, // dst
        16, 0, 0, 0, 0, 0, 0, 0, // bytes
        0xdd, 0xcc, 0xbb, 0xaa, 4, 0, 0, 0, // pattern, its width
        2, 0, 0, 0, 8, 0, 0, 0, // END
    ];
    assert_eq!(bytes, expected);
}

/// A buffer cut at any packet boundary, or with bytes after END, is refused.
#[test]
fn truncated_and_extended_buffers_are_refused() {
    let bytes = every_packet().finish().unwrap();
    for cut in (0..bytes.len()).step_by(PACKET_ALIGN) {
        assert!(first_error(&bytes[..cut]).is_some(), "cut at {cut}");
    }
    let mut longer = bytes.clone();
    longer.extend_from_slice(&[0; 8]);
    assert_eq!(first_error(&longer), Some(Reason::End));
    assert_eq!(
        first_error(&bytes[..12]),
        Some(Reason::StreamLength(12)),
        "not a multiple of 8"
    );
    assert_eq!(first_error(&[0; 16]), Some(Reason::PacketLength(0)));
}

/// Each rule on fields has an input that only it refuses.
#[test]
fn field_rules() {
    type Build = for<'a> fn(&'a mut CommandStream) -> &'a mut CommandStream;
    let refused = |build: Build| {
        let mut stream = CommandStream::new();
        build(&mut stream);
        stream.finish().unwrap_err().reason
    };
    assert_eq!(
        refused(|s| s.fill_words(2, 4, 0)),
        Reason::Address("dst", 2)
    );
    assert_eq!(
        refused(|s| s.fill_words(4, 6, 0)),
        Reason::Size("length", 6)
    );
    assert_eq!(refused(|s| s.copy(0, 0, 0)), Reason::Size("length", 0));
    assert_eq!(
        refused(|s| s.copy(u64::MAX, 0, 2)),
        Reason::Address("dst", u64::MAX)
    );
    assert_eq!(
        refused(|s| s.elementwise(elementwise_packet(ElementwiseOp::Add, Operand::None))),
        Reason::Field("b_kind", 0)
    );
    assert_eq!(
        refused(|s| s.elementwise(Elementwise {
            rows: 1 << 13,
            cols: 1 << 12,
            ..elementwise_packet(ElementwiseOp::Relu, Operand::None)
        })),
        Reason::Size("elements", 1 << 25)
    );
    assert_eq!(
        refused(|s| s.gemm(Gemm {
            a: Matrix::dense(0, 2),
            ..gemm_packet()
        })),
        Reason::Field("leading dimension", 2)
    );
    assert_eq!(
        refused(|s| s.gemm(Gemm {
            k: 0,
            ..gemm_packet()
        })),
        Reason::Size("a", 0)
    );
    assert_eq!(
        refused(|s| s.spin(MAX_SPIN_NS + 1)),
        Reason::Size("nanoseconds", MAX_SPIN_NS + 1)
    );
    let mut flagged = every_packet().finish().unwrap();
    flagged[2] = 1;
    assert_eq!(first_error(&flagged), Some(Reason::Flags(1)));
    flagged[0] = 99;
    assert_eq!(first_error(&flagged), Some(Reason::Opcode(99)));
}

proptest! {
    /// Arbitrary bytes never make the decoder panic or run for ever.
    #[test]
    fn arbitrary_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        prop_assert!(decode(&bytes).count() <= bytes.len() / PACKET_ALIGN + 1);
    }

    /// Flipping bits of a valid stream gives an error or another valid stream, never a panic.
    #[test]
    fn flipped_bits_end(at in 0_usize..400, bit in 0_u8..8) {
        let mut bytes = every_packet().finish().unwrap();
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1 << bit;
        }
        prop_assert!(decode(&bytes).count() > 0);
    }
}
