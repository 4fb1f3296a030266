// SPDX-License-Identifier: MIT OR Apache-2.0

//! A message written by a guest is the message a host reads, and the reply comes back the same way.

use gpupv::{
    CommandId, Handle, Luid, MakeResident, MakeResidentReply, Message, NtStatus, ReplyError,
    Request, Route, Version,
};

#[test]
fn a_request_and_its_reply_make_the_round_trip() {
    let version = Version::CURRENT;
    let allocations = [Handle::from_raw(0x80), Handle::from_raw(0xc0)];
    let body = MakeResident {
        paging_queue: Handle::from_raw(0x40),
        ..Default::default()
    };
    let request = Request::new(body, (&allocations).into()).unwrap();
    let route = Route::adapter(version, Luid::new(1, 2)).with_process(Handle::from_raw(0x40));
    let mut buffer = [0xff_u8; 256];
    let mut reply_buffer = [0xff_u8; 64];
    let len = request.encode(&route, &mut buffer).unwrap();
    assert_eq!(len, 16 + 44 + 4 * 2);

    let message = Message::decode(version, &buffer[..len]).unwrap();
    assert_eq!(message.id(), Ok(CommandId::MakeResident));
    assert_eq!(message.vgpu(), Luid::new(1, 2));
    let received = message.parse::<MakeResident>().unwrap();
    assert_eq!(received.body().alloc_count, 2);
    assert!(received.tail().iter().eq(allocations));

    let reply = MakeResidentReply {
        paging_fence_value: 7,
        status: NtStatus::PENDING,
        ..Default::default()
    };
    let len = received
        .encode_reply(version, &reply, (), &mut reply_buffer)
        .unwrap();
    let answer = request.parse_reply(version, &reply_buffer[..len]).unwrap();
    assert_eq!(answer.reply, reply);
    assert_eq!(answer.status(), NtStatus::PENDING);

    let len = received
        .encode_failure(version, NtStatus::NO_MEMORY, &mut reply_buffer)
        .unwrap();
    let answer = request.parse_reply(version, &reply_buffer[..len]).unwrap();
    assert_eq!(
        answer.ok().unwrap_err(),
        ReplyError::Failed(NtStatus::NO_MEMORY)
    );
}
