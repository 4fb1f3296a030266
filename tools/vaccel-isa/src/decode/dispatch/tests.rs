// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of DISPATCH_SPIRV: encoder against decoder, and every rule.

use proptest::prelude::*;

use super::*;
use crate::{decode, Binding, CommandStream, Packet};

fn shader(entry_point: &str) -> Shader<'_> {
    Shader {
        va: 0x1000,
        bytes: 400,
        entry_point,
    }
}

fn buffer(number: u32) -> Binding {
    Binding {
        number,
        va: 0x2000,
        bytes: 64,
        access: BindingAccess::ReadWrite,
    }
}

/// Encodes a dispatch and gives what the decoder refuses it for.
fn refused(
    shader: Shader<'_>,
    groups: [u32; 3],
    bindings: &[Binding],
    push_constants: &[u8],
) -> Reason {
    let mut stream = CommandStream::new();
    stream.dispatch(shader, groups, bindings, push_constants);
    stream.finish().unwrap_err().reason
}

/// Encodes a dispatch that is right, with one byte of the packet changed.
fn refused_with(at: usize, value: u8) -> Reason {
    let mut stream = CommandStream::new();
    stream.dispatch(shader("main"), [1; 3], &[buffer(0)], &[1, 2, 3, 4]);
    let mut bytes = stream.finish().unwrap();
    bytes[at] = value;
    let first = decode(&bytes).next().unwrap();
    first.unwrap_err().reason
}

/// The bytes of a packet are the documented ones.
#[test]
fn layout_is_the_documented_one() {
    let mut stream = CommandStream::new();
    stream.dispatch(shader("main"), [1, 2, 3], &[buffer(7)], &[9, 8, 7, 6]);
    let bytes = stream.finish().unwrap();
    assert_eq!(bytes.len(), 72 + 24 + 8 + 8, "fixed, a binding, push, END");
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    assert_eq!((bytes[0], word(4)), (9, 104), "opcode, length");
    assert_eq!((word(8), word(16)), (0x1000, 400), "module");
    assert_eq!([word(20), word(24), word(28)], [1, 2, 3], "groups");
    assert_eq!((word(32), word(36)), (1, 4), "bindings, push constants");
    assert_eq!(bytes[40..46], *b"main\0\0");
    assert_eq!((word(72), word(80)), (0x2000, 64), "buffer");
    assert_eq!((word(88), word(92)), (7, 2), "its number and access");
    assert_eq!(bytes[96..104], [9, 8, 7, 6, 0, 0, 0, 0]);
}

/// Each rule has an input that only it refuses.
#[test]
fn rules() {
    let main = shader("main");
    let one = [1; 3];
    let refused_buffer = |buffer| refused(main, one, &[buffer], &[]);
    assert_eq!(
        refused(shader(""), one, &[], &[]),
        Reason::Size("entry point", 0)
    );
    assert_eq!(
        refused(shader(&"x".repeat(33)), one, &[], &[]),
        Reason::Size("entry point", 0)
    );
    assert_eq!(
        refused(Shader { bytes: 0, ..main }, one, &[], &[]),
        Reason::Size("module", 0)
    );
    assert_eq!(
        refused(Shader { bytes: 6, ..main }, one, &[], &[]),
        Reason::Size("module", 6)
    );
    let large = MAX_MODULE_BYTES + 4;
    assert_eq!(
        refused(
            Shader {
                bytes: large,
                ..main
            },
            one,
            &[],
            &[]
        ),
        Reason::Size("module", u64::from(large))
    );
    assert_eq!(
        refused(Shader { va: 2, ..main }, one, &[], &[]),
        Reason::Address("module", 2)
    );
    assert_eq!(
        refused(main, [1, 0, 1], &[], &[]),
        Reason::Size("groups", 0)
    );
    assert_eq!(
        refused(main, [1, 1, 65_536], &[], &[]),
        Reason::Size("groups", 65_536)
    );
    assert_eq!(
        refused(main, one, &[], &[0; 6]),
        Reason::Size("push constants", 6)
    );
    assert_eq!(
        refused(main, one, &[], &[0; 132]),
        Reason::Size("push constants", 132)
    );
    let many: Vec<_> = (0..17).map(buffer).collect();
    assert_eq!(refused(main, one, &many, &[]), Reason::Size("bindings", 17));
    assert_eq!(
        refused(main, one, &[buffer(3), buffer(3)], &[]),
        Reason::Field("binding", 3)
    );
    assert_eq!(refused_buffer(buffer(32)), Reason::Field("binding", 32));
    assert_eq!(
        refused_buffer(Binding {
            bytes: 2,
            ..buffer(0)
        }),
        Reason::Size("buffer", 2)
    );
    assert_eq!(
        refused_buffer(Binding { va: 1, ..buffer(0) }),
        Reason::Address("buffer", 1)
    );
    assert_eq!(
        refused_buffer(Binding {
            va: u64::MAX - 3,
            ..buffer(0)
        }),
        Reason::Address("buffer", u64::MAX - 3)
    );
    let large = |number| Binding {
        bytes: MAX_BINDING_BYTES,
        ..buffer(number)
    };
    assert_eq!(
        refused(main, one, &[large(0), large(1), buffer(2)], &[]),
        Reason::Size("buffers", MAX_DISPATCH_BYTES + 64)
    );
    let over = Binding {
        bytes: MAX_BINDING_BYTES + 4,
        ..buffer(0)
    };
    assert_eq!(
        refused_buffer(over),
        Reason::Size("buffer", MAX_BINDING_BYTES + 4)
    );
}

/// What the encoder cannot write is refused as well: an unknown access, dirty padding, a name with
/// bytes behind its end or that is not UTF-8, and lengths that do not fit together.
#[test]
fn foreign_bytes() {
    assert_eq!(refused_with(92, 3), Reason::Field("access", 3));
    assert_eq!(refused_with(103, 1), Reason::Field("padding", 1));
    assert_eq!(refused_with(50, 1), Reason::Size("entry point", 4));
    assert_eq!(refused_with(40, 0xff), Reason::Size("entry point", 4));
    assert_eq!(refused_with(4, 64), Reason::PacketLength(64));
    assert_eq!(refused_with(32, 2), Reason::PacketLength(104));
    assert_eq!(refused_with(32, 0), Reason::PacketLength(104));
    assert_eq!(refused_with(36, 12), Reason::PacketLength(104));
}

prop_compose! {
    fn any_buffer(number: u32)(
        va in 0_u64..1 << 60, words in 1_u64..1 << 20, write: bool,
    ) -> Binding {
        Binding {
            number,
            va: va * 4 % (1 << 62),
            bytes: words * 4,
            access: if write { BindingAccess::ReadWrite } else { BindingAccess::Read },
        }
    }
}

fn any_buffers() -> impl Strategy<Value = Vec<Binding>> {
    proptest::sample::subsequence(
        (0..MAX_BINDING_NUMBER).collect::<Vec<_>>(),
        0..=MAX_BINDINGS,
    )
    .prop_flat_map(|numbers| numbers.into_iter().map(any_buffer).collect::<Vec<_>>())
}

proptest! {
    /// Whatever is within the rules decodes to what was encoded.
    #[test]
    fn round_trip(
        entry_point in "[a-z_][a-zA-Z0-9_]{0,31}",
        module in 0_u64..1 << 40,
        words in 1_u32..=MAX_MODULE_BYTES / 4,
        groups in proptest::array::uniform3(1..=MAX_GROUPS),
        bindings in any_buffers(),
        push in proptest::collection::vec(any::<[u8; 4]>(), 0..=MAX_PUSH_BYTES / 4),
    ) {
        let shader = Shader { va: module * 4, bytes: words * 4, entry_point: &entry_point };
        let push = push.concat();
        let mut stream = CommandStream::new();
        stream.dispatch(shader, groups, &bindings, &push);
        let bytes = stream.finish().unwrap();
        let Some(Ok(Packet::Dispatch(dispatch))) = decode(&bytes).next() else {
            return Err(TestCaseError::fail("not a dispatch"));
        };
        prop_assert_eq!(dispatch.shader, shader);
        prop_assert_eq!(dispatch.groups, groups);
        prop_assert_eq!(dispatch.push_constants, push.as_slice());
        prop_assert_eq!(dispatch.bindings.iter().collect::<Vec<_>>(), bindings);
    }

    /// Changed bytes of a valid dispatch give an error or another valid dispatch, never a panic.
    #[test]
    fn changed_bytes_end(changes in proptest::collection::vec((0_usize..136, any::<u8>()), 1..6)) {
        let mut stream = CommandStream::new();
        stream.dispatch(shader("main"), [1; 3], &[buffer(0), buffer(5)], &[1, 2, 3, 4]);
        let mut bytes = stream.finish().unwrap();
        for (at, value) in changes {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        prop_assert!(decode(&bytes).count() > 0);
    }
}
