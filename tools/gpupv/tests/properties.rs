// SPDX-License-Identifier: MIT OR Apache-2.0

//! No bytes make a decoder panic, and what was decoded can be encoded and decoded again.

mod common;

use gpupv::*;
use proptest::collection::vec;
use proptest::prelude::*;

use common::every_command;

/// Reads `bytes` as a request of `C`; if that works, sends it through both versions and back.
fn exercise_request<C: Command>(bytes: &[u8]) {
    let Ok(request) = Request::<C>::parse(bytes) else {
        return;
    };
    for version in [Version::LEGACY, Version::CURRENT] {
        let route = Route::adapter(version, Luid::new(1, 2)).with_process(Handle::from_raw(3));
        let len = request.message_len(version).unwrap();
        let mut message = vec![0xff; len];
        assert_eq!(request.encode(&route, &mut message), Ok(len));
        let decoded = Message::decode(version, &message).unwrap();
        assert_eq!(decoded.id(), Ok(C::ID));
        let again = decoded.parse::<C>().unwrap();
        assert_eq!(again.body().bytes(), request.body().bytes());
        assert_eq!(
            format!("{:?}", again.tail()),
            format!("{:?}", request.tail())
        );
    }
}

/// Reads `reply` as the reply to a request made of `request`; if that works, the host's way of
/// writing it gives it again.
fn exercise_reply<C: Command>(request: &[u8], reply: &[u8]) {
    let Ok(request) = Request::<C>::parse(request) else {
        return;
    };
    for version in [Version::LEGACY, Version::CURRENT] {
        let Ok(answer) = request.parse_reply(version, reply) else {
            continue;
        };
        let _ = answer.ok();
        let len = request.answer_len(version, answer.tail);
        let mut out = vec![0xff; len];
        let written = request.encode_reply(version, &answer.reply, answer.tail, &mut out);
        assert_eq!(written, Ok(len), "{}", C::ID.name());
        assert!(len >= request.reply_len(version));
        let again = request.parse_reply(version, &out).unwrap();
        assert_eq!(again.reply.bytes(), answer.reply.bytes());
        assert_eq!(format!("{:?}", again.tail), format!("{:?}", answer.tail));
    }
}

/// A failure the host writes never passes for a malformed reply, and never for a success of a
/// reply that could say so.
fn exercise_failure<C: Command>(request: &[u8]) {
    let Ok(request) = Request::<C>::parse(request) else {
        return;
    };
    let status = NtStatus::NO_MEMORY;
    for version in [Version::LEGACY, Version::CURRENT] {
        let mut out = vec![0xff; request.reply_len(version).clamp(4, MAX_REPLY)];
        let len = request.encode_failure(version, status, &mut out).unwrap();
        // What the guest sees has been rounded up by VMBus.
        out.resize(align8(len), 0);
        match request.parse_reply(version, &out[..align8(len)]) {
            Ok(answer) => {
                let says_so = answer.status() == status;
                let cannot = answer.reply.status().is_none() || !version.has_ext_header();
                assert!(says_so || cannot, "{}", C::ID.name());
            }
            Err(error) => assert_eq!(error, ReplyError::Failed(status), "{}", C::ID.name()),
        }
    }
}

macro_rules! all_requests {
    ($($command:ident),* $(,)?) => { [$(exercise_request::<$command> as fn(&[u8])),*] };
}

macro_rules! all_replies {
    ($($command:ident),* $(,)?) => { [$(exercise_reply::<$command> as fn(&[u8], &[u8])),*] };
}

macro_rules! all_failures {
    ($($command:ident),* $(,)?) => { [$(exercise_failure::<$command> as fn(&[u8])),*] };
}

/// Bytes that are mostly small, so that counts in them often fit.
fn small_bytes(len: usize) -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![12 => Just(0u8), 3 => 0u8..5, 1 => any::<u8>()];
    vec(byte, 0..len)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Headers of any bytes are read or refused.
    #[test]
    fn any_message_is_read_or_refused(bytes in vec(any::<u8>(), 0..256)) {
        for version in [Version::LEGACY, Version::CURRENT] {
            if let Ok(message) = Message::decode(version, &bytes) {
                let _ = (message.id(), message.vgpu(), message.is_async());
            }
        }
        let _ = Event::decode(&bytes);
    }

    /// Bodies of any bytes are read or refused, whatever the command.
    #[test]
    fn any_request_is_read_or_refused(bytes in vec(any::<u8>(), 0..1024)) {
        for exercise in every_command!(all_requests) {
            exercise(&bytes);
        }
    }

    /// What was read as a request is written and read again unchanged.
    #[test]
    fn requests_survive_the_round_trip(bytes in small_bytes(1200)) {
        for exercise in every_command!(all_requests) {
            exercise(&bytes);
        }
    }

    /// Replies of any bytes are read or refused; what was read is written and read again unchanged.
    #[test]
    fn replies_survive_the_round_trip(
        request in small_bytes(1200),
        reply in prop_oneof![small_bytes(1200), vec(any::<u8>(), 0..64)],
    ) {
        for exercise in every_command!(all_replies) {
            exercise(&request, &reply);
        }
    }

    /// Failures reach the guest as failures.
    #[test]
    fn failures_are_seen_as_failures(request in small_bytes(1200)) {
        for exercise in every_command!(all_failures) {
            exercise(&request);
        }
    }

    /// Events are written and read again unchanged.
    #[test]
    fn events_survive_the_round_trip(number in 0u32..6, word in any::<u64>(), data in any::<u32>()) {
        let event = match number {
            0 => Event::Signal(SignalGuestEvent::new(word)),
            2 => Event::SetGuestData(SetGuestData::new(word, data)),
            3 => Event::SignalPassive(SignalGuestEvent::new(word)),
            other => Event::Other(other),
        };
        let mut out = [0xff; Event::LEN];
        let len = event.encode(&mut out).unwrap();
        prop_assert_eq!(Event::decode(&out[..len]), Ok(event));
    }

    /// A list gives back what it was made of, at any alignment.
    #[test]
    fn lists_work_at_any_alignment(values in vec(any::<u64>(), 0..20), shift in 0usize..8) {
        let mut bytes = vec![0xff; shift];
        bytes.extend_from_slice(List::new(&values).as_bytes());
        bytes.push(0xff);
        let count = u32::try_from(values.len()).unwrap();
        let (list, rest) = List::<u64>::take(&bytes[shift..], count).unwrap();
        prop_assert_eq!(rest, &[0xff]);
        prop_assert_eq!(list.len(), values.len());
        prop_assert!(list.iter().eq(values.iter().copied()));
        prop_assert_eq!(list.get(values.len()), None);
        prop_assert_eq!(list.first(), values.first().copied());
        prop_assert!(List::<u64>::take(&bytes[shift..], count + 1).is_err());
    }

    /// The parts of a CREATEALLOCATION reach the host as the guest gave them.
    #[test]
    fn allocations_keep_their_private_data(
        data in vec(vec(any::<u8>(), 0..20), 0..6),
        runtime in vec(any::<u8>(), 0..9),
        resource in vec(any::<u8>(), 0..9),
    ) {
        let infos: Vec<_> = data
            .iter()
            .map(|data| AllocationInfo {
                priv_drv_data_size: u32::try_from(data.len()).unwrap(),
                ..Default::default()
            })
            .collect();
        let tail = CreateAllocationTail {
            infos: List::new(&infos),
            runtime_data: &runtime,
            resource_data: &resource,
            allocation_data: &data.concat(),
        };
        let request = Request::new(CreateAllocation::default(), tail).unwrap();
        let mut out = vec![0xff; request.message_len(Version::LEGACY).unwrap()];
        request.encode(&Route::global(Version::LEGACY), &mut out).unwrap();
        let message = Message::decode(Version::LEGACY, &out).unwrap();
        let received = message.parse::<CreateAllocation>().unwrap();
        prop_assert_eq!(received.tail(), tail);
        let parts = received.tail().allocations().map(|(_, data)| data);
        prop_assert!(parts.eq(data.iter().map(Vec::as_slice)));
    }
}
