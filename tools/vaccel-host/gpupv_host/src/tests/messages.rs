// SPDX-License-Identifier: MIT OR Apache-2.0
//! Counting messages.

use gpupv::*;

use super::guest::*;
use crate::{Channel, HostConfig, MessageCounts};

/// What came and was answered since `before`.
fn since(guest: &Guest, before: MessageCounts) -> (u64, u64) {
    let now = guest.host.messages();
    (now.taken - before.taken, now.answered - before.answered)
}

/// Answers count whatever they say, asynchronous messages have none.
#[test]
fn answers_are_counted() {
    let mut guest = Guest::with_process(HostConfig {
        async_messages: true,
        ..modern()
    });
    let setup = guest.setup();
    let before = guest.host.messages();
    assert_eq!(before.taken, before.answered);
    guest.device(1);
    assert_eq!(since(&guest, before), (1, 1));
    // Refused by its handler, and by what is before that.
    guest.destroy_fence(Handle::NONE).unwrap_err();
    guest.raw(Channel::Global, &[0; 3], true);
    assert_eq!(since(&guest, before), (3, 3));
    let (objects, contexts) = ([setup.fence.sync_object], [setup.context]);
    let tail = SignalTail {
        objects: (&objects).into(),
        contexts: (&contexts).into(),
        fence_values: (&[3]).into(),
    };
    guest.post_async(SignalSyncObject::default(), tail);
    assert_eq!(guest.fence_value(setup.fence.fence_storage_address), 3);
    assert_eq!(since(&guest, before), (4, 3));
    guest.finish();
}

/// What waits because the host is mute has not been taken, and an answer that is held back is not one
/// yet.
#[test]
fn late_answers() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let (_, va) = guest.buffer(&setup, &[1]);
    guest.submit(setup.context, (4096, va), |_| ()).unwrap();
    let before = guest.host.messages();
    let body = DestroyDevice {
        device: setup.device,
        _pad: 0,
    };
    guest.host.mute(10, &guest.world);
    guest.post(&Request::from(body));
    assert_eq!(since(&guest, before), (0, 0));
    guest.pass_ms(10);
    assert_eq!(since(&guest, before), (1, 0));
    guest.run_all();
    assert_eq!(since(&guest, before), (1, 1));
    guest.finish();
}
