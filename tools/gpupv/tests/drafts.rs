// SPDX-License-Identifier: MIT OR Apache-2.0

//! A draft makes the same message as the request it stands for.

use gpupv::*;
use proptest::prelude::*;

/// Versions with and without an extended header.
const VERSIONS: [Version; 2] = [Version::CURRENT, Version::LEGACY];

fn route(version: Version) -> Route {
    let vgpu = Luid {
        low: 7,
        ..Luid::ZERO
    };
    let route = Route::adapter(version, vgpu).with_process(Handle::from_raw(0x40));
    match version.has_ext_header() {
        true => route.without_reply(),
        false => route,
    }
}

/// Checks a draft against its request, at an address that is `misaligned` by so many bytes.
fn same<C: Work>(
    draft: Draft<'_, C, impl FnOnce(&mut C) + Clone>,
    version: Version,
    misaligned: usize,
) {
    let route = route(version);
    let request = draft.clone().into_request().unwrap();
    let len = request.message_len(version).unwrap();
    assert_eq!(draft.message_len(version), Ok(len));

    let mut expected = vec![0; len];
    request.encode(&route, &mut expected).unwrap();
    // Memory of words begins where any structure may.
    let mut words = vec![0u64; len / 8 + 2];
    let place = &mut zerocopy::IntoBytes::as_mut_bytes(&mut words[..])[misaligned..];
    assert_eq!(draft.clone().encode(&route, place), Ok(len));
    assert_eq!(place[..len], expected);
    assert!(place[len..].iter().all(|byte| *byte == 0));

    let mut small = vec![0; len - 1];
    let refused = draft.encode(&route, &mut small);
    assert!(matches!(refused, Err(EncodeError::NoRoom { .. })));
}

proptest! {
    /// Proves it of all commands that queue work, of both shapes of header, wherever the message lies.
    #[test]
    fn a_draft_is_its_request(
        context: u32,
        address: u64,
        size: u32,
        private in proptest::collection::vec(any::<u8>(), 0..40),
        fences in proptest::collection::vec(any::<(u32, u64)>(), 1..5),
        misaligned in 0usize..8,
    ) {
        let context = Handle::from_raw(context);
        let objects: Vec<_> = fences.iter().map(|fence| Handle::from_raw(fence.0)).collect();
        let values: Vec<_> = fences.iter().map(|fence| fence.1).collect();
        for version in VERSIONS {
            let tail = SubmitTail {
                history_buffers: List::EMPTY,
                private_data: &private,
            };
            let fill = |body: &mut SubmitCommand| body.set(context, address, size);
            same(Draft::new(tail, fill), version, misaligned);
            let tail = SignalTail {
                objects: List::new(&objects),
                contexts: List::new(std::slice::from_ref(&context)),
                fence_values: List::new(&values),
            };
            same(Draft::new(tail, |_: &mut SignalSyncObject| {}), version, misaligned);
            let tail = GpuWaitTail {
                fence_values: List::new(&values),
                objects: List::new(&objects),
            };
            let fill = |body: &mut WaitForSyncObjectFromGpu| body.context = context;
            same(Draft::new(tail, fill), version, misaligned);
        }
    }
}

/// Proves that a draft of parts that contradict each other makes no message.
#[test]
fn contradictions_are_refused() {
    let tail = SignalTail {
        objects: List::EMPTY,
        contexts: List::EMPTY,
        fence_values: List::new(&[1]),
    };
    let draft = Draft::new(tail, |_: &mut SignalSyncObject| {});
    let mut buffer = [0; 256];
    let refused = draft.encode(&route(Version::CURRENT), &mut buffer);
    let mismatch = EncodeError::Mismatch {
        first: 0,
        second: 1,
    };
    assert_eq!(refused, Err(mismatch));
}
