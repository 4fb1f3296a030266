// SPDX-License-Identifier: MIT OR Apache-2.0

//! Guest and host talking: requests, replies of all shapes, failures, and what is tolerated.

use gpupv::*;

const VERSIONS: [Version; 2] = [Version::LEGACY, Version::CURRENT];

/// A message written by a guest is the one a host reads; the reply comes back the same way.
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

fn request() -> Request<'static, MakeResident> {
    const ALLOCATIONS: &[Handle] = &[Handle::from_raw(0x80)];
    Request::new(MakeResident::default(), List::new(ALLOCATIONS)).unwrap()
}

/// A reply too short for the command is a failure if it says so, and malformed if it does not.
#[test]
fn short_replies_are_read_as_statuses() {
    let request = request();
    let version = Version::CURRENT;
    let busy = NtStatus::GRAPHICS_ALLOCATION_BUSY;
    for payload in [busy.bytes(), &[busy.bytes(), &[0; 4]].concat()] {
        let error = request.parse_reply(version, payload).unwrap_err();
        assert_eq!(error, ReplyError::Failed(busy));
    }
    for payload in [&[][..], &[0xff; 3], NtStatus::SUCCESS.bytes()] {
        let error = request.parse_reply(version, payload).unwrap_err();
        let got = payload.len();
        let short = DecodeError::Short { needed: 24, got };
        assert_eq!(error, ReplyError::Malformed(short));
    }
}

/// A reply with a failure inside may leave out the list that success would have.
#[test]
fn a_failed_reply_may_end_after_its_status() {
    let body = OpenResource {
        allocation_count: 5,
        ..Default::default()
    };
    let reply = OpenResourceReply {
        status: NtStatus::ACCESS_DENIED,
        ..Default::default()
    };
    let request = Request::from(body);
    let error = request.parse_reply(Version::CURRENT, reply.bytes());
    let failed = ReplyError::Failed(NtStatus::ACCESS_DENIED);
    assert_eq!(error.unwrap_err(), failed);
    let good = OpenResourceReply::default();
    let error = request.parse_reply(Version::CURRENT, good.bytes());
    assert!(matches!(error, Err(ReplyError::Malformed(_))));
}

/// Each kind of reply has its own way to say that a command failed.
#[test]
fn failures_have_the_shape_of_the_command() {
    let mut out = [0xff; 1024];
    let status = NtStatus::NO_MEMORY;
    for version in VERSIONS {
        let device = Request::from(CreateDevice::default());
        assert_eq!(device.encode_failure(version, status, &mut out), Ok(4));
        let answer = device.parse_reply(version, &out[..8]).unwrap();
        assert!(answer.reply.device.is_none());

        let reserve = Request::from(ReserveGpuVirtualAddress::default());
        assert_eq!(reserve.encode_failure(version, status, &mut out), Ok(4));
        let error = reserve.parse_reply(version, &out[..8]).unwrap_err();
        assert_eq!(error, ReplyError::Failed(status));

        let queue = Request::new(CreateHwQueue::default(), &[1, 2][..]).unwrap();
        assert_eq!(queue.encode_failure(version, status, &mut out), Ok(73));
        let answer = queue.parse_reply(version, &out[..80]).unwrap();
        assert_eq!(answer.ok().unwrap_err(), ReplyError::Failed(status));

        let info = Request::from(GetInternalAdapterInfo);
        let len = info.encode_failure(version, status, &mut out).unwrap();
        assert_eq!(&out[..len], status.bytes());
    }
}

/// A guest that announces an impossible reply does not make the host write one.
#[test]
fn a_reply_is_never_longer_than_a_packet() {
    let body = OpenResource {
        allocation_count: u32::MAX,
        ..Default::default()
    };
    let request = Request::from(body);
    let mut out = vec![0; MAX_REPLY];
    let len = request.encode_failure(Version::CURRENT, NtStatus::INVALID_PARAMETER, &mut out);
    assert_eq!(len, Ok(MAX_REPLY));
    assert_eq!(request.answer_len(Version::CURRENT, List::EMPTY), MAX_REPLY);
}

/// Below version 40 adapter queries have no status in front, and adapter information no vGPU LUID.
#[test]
fn legacy_replies_are_shorter() {
    let mut out = [0xff; 1024];
    let query = Request::new(QueryAdapterInfo::default(), &[0; 4][..]).unwrap();
    let reply = QueryAdapterInfoReply::default();
    for (version, len) in [(Version::LEGACY, 4), (Version::CURRENT, 8)] {
        let written = query.encode_reply(version, &reply, &[1, 2, 3, 4], &mut out);
        assert_eq!(written, Ok(len));
        let answer = query.parse_reply(version, &out[..len]).unwrap();
        assert_eq!(
            (answer.status(), answer.tail),
            (NtStatus::SUCCESS, &[1, 2, 3, 4][..])
        );
    }

    let get = Request::from(GetInternalAdapterInfo);
    let info = AdapterInfo {
        host_vgpu_luid: Luid::new(7, 8),
        caps: AdapterCaps::ASYNC_MSG_ENABLED,
        ..Default::default()
    };
    let info = info.with_description("GPU").with_instance_id("0");
    for (version, len, luid) in [
        (Version::LEGACY, 704, Luid::ZERO),
        (Version::CURRENT, 712, info.host_vgpu_luid),
    ] {
        assert_eq!(get.encode_reply(version, &info, (), &mut out), Ok(len));
        let answer = get.parse_reply(version, &out[..len]).unwrap();
        assert_eq!(answer.reply.host_vgpu_luid, luid);
        assert!(answer.reply.description().eq("GPU".chars()));
        assert!(answer.reply.instance_id().eq("0".chars()));
    }
}

/// Texts that are too long are cut, with their final zero in place.
#[test]
fn texts_are_cut() {
    let long = "n\u{1f600}".repeat(400);
    let process = CreateProcess::new(1, 2, &long);
    assert_eq!(process.process_name.last(), Some(&0));
    assert_eq!(process.kind, CreateProcess::LINUX);
    let info = AdapterInfo::default().with_description(&long);
    assert_eq!(info.device_description.last(), Some(&0));
    assert!(info.device_description[..79].iter().all(|unit| *unit != 0));
    let process = CreateProcess::new(1, 2, "a\0b");
    assert!(process.name().eq("a".chars()));
}

/// A host says what is wrong with a message that is none.
#[test]
fn bad_headers_are_refused() {
    let version = Version::CURRENT;
    let mut buffer = [0; 128];
    let route = Route::adapter(version, Luid::new(1, 2));
    let len = request().encode(&route, &mut buffer).unwrap();
    let error = |change: fn(&mut [u8])| {
        let mut bytes = buffer[..len].to_vec();
        change(&mut bytes);
        let message = Message::decode(version, &bytes);
        message
            .and_then(|message| message.parse::<MakeResident>().map(|_| ()))
            .unwrap_err()
    };
    assert_eq!(error(|bytes| bytes[0] = 15), DecodeError::CommandOffset(15));
    assert_eq!(error(|bytes| bytes[28] = 2), DecodeError::ChannelType(2));
    let unknown = DecodeError::UnknownCommand {
        channel_type: 0,
        number: 3,
    };
    assert_eq!(error(|bytes| bytes[32] = 3), unknown);
    let wrong = DecodeError::WrongCommand {
        expected: 11,
        got: 12,
    };
    assert_eq!(error(|bytes| bytes[32] = 12), wrong);
    // Two allocations are announced; one handle and four spare bytes follow: that still fits.
    let short = DecodeError::Short { needed: 12, got: 8 };
    assert_eq!(error(|bytes| bytes[52] = 3), short);
    for len in 0..len - 4 {
        let message = Message::decode(version, &buffer[..len]);
        assert!(message
            .and_then(|message| message.parse::<MakeResident>())
            .is_err());
    }
}

/// Bytes after a message are ignored, and so is a gap after the extended header.
#[test]
fn more_bytes_than_needed_are_tolerated() {
    let version = Version::CURRENT;
    let mut buffer = [0; 128];
    let request = request();
    let route = Route::adapter(version, Luid::new(1, 2));
    let len = request.encode(&route, &mut buffer).unwrap();
    let mut bytes = buffer[..len].to_vec();
    bytes.splice(16..16, [0xff; 8]);
    bytes[0] = 24;
    bytes.extend_from_slice(&[0xff; 40]);
    let message = Message::decode(version, &bytes).unwrap();
    let received = message.parse::<MakeResident>().unwrap();
    assert_eq!(received.body(), request.body());
    assert_eq!(received.tail(), request.tail());
}

/// The fence values of a signal are there or not; padding does not make them appear.
#[test]
fn padding_is_no_fence_value() {
    let objects = [Handle::from_raw(0x40)];
    let tail = SignalTail {
        objects: List::new(&objects),
        ..Default::default()
    };
    let signal = Request::new(SignalSyncObject::event(9), tail).unwrap();
    assert_eq!(signal.body().cpu_event(), Some(9));
    assert_eq!(signal.body().device(), None);
    let mut buffer = [0; 128];
    let route = Route::global(Version::LEGACY);
    let len = signal.encode(&route, &mut buffer).unwrap();
    let message = Message::decode(Version::LEGACY, &buffer[..align8(len)]).unwrap();
    let received = message.parse::<SignalSyncObject>().unwrap();
    assert!(received.tail().fence_values.is_empty());

    let device = Handle::from_raw(0x4000_0080);
    let body = SignalSyncObject::from_cpu(device, SignalFlags::ALLOW_FENCE_REWIND);
    let tail = SignalTail {
        fence_values: List::new(&[5]),
        ..tail
    };
    let signal = Request::new(body, tail).unwrap();
    assert_eq!(
        (signal.body().device(), signal.body().cpu_event()),
        (Some(device), None)
    );
    let len = signal.encode(&route, &mut buffer).unwrap();
    let message = Message::decode(Version::LEGACY, &buffer[..align8(len)]).unwrap();
    let received = message.parse::<SignalSyncObject>().unwrap();
    assert_eq!(received.tail().fence_values.first(), Some(5));
}

/// Arrays inside a submission end at their count, and a count beyond the array is refused.
#[test]
fn submissions_count_their_contexts() {
    let context = Handle::from_raw(0x40);
    let mut body = SubmitCommand::new(context, 0x1000, 64);
    assert_eq!(body.contexts(), Ok(&[context][..]));
    assert_eq!(body.primaries(), Ok(&[][..]));
    body.broadcast_context_count = 65;
    body.num_primaries = 17;
    let (count, limit) = (65, 64);
    assert_eq!(body.contexts(), Err(DecodeError::Count { count, limit }));
    let (count, limit) = (17, 16);
    assert_eq!(body.primaries(), Err(DecodeError::Count { count, limit }));
}

/// A state of a device is read only as the state it is.
#[test]
fn device_states_are_told_apart() {
    let device = Handle::from_raw(0x40);
    let ask = |kind| GetDeviceState::new(device, kind).args;
    let state = ask(DeviceStateType::EXECUTION).with_state(&ExecutionState::HUNG);
    assert_eq!(state.execution(), Some(ExecutionState::HUNG));
    assert_eq!(state.page_fault(), None);
    let fault = PageFaultState {
        address: 0x1234_5000,
        ..Default::default()
    };
    let state = ask(DeviceStateType::PAGE_FAULT).with_state(&fault);
    assert_eq!(state.page_fault(), Some(fault));
    assert_eq!(state.execution(), None);
}

/// What a kind of sync object needs is read only as that kind.
#[test]
fn sync_objects_are_told_apart() {
    let none = SyncObjectFlags::EMPTY;
    let fence = MonitoredFence {
        initial_value: 3,
        ..Default::default()
    };
    let periodic = PeriodicMonitoredFence {
        time: 4,
        ..Default::default()
    };
    let semaphore = Semaphore {
        max_count: 5,
        initial_count: 1,
    };
    let info = SyncObjectInfo::monitored_fence(none, &fence);
    assert_eq!(info.as_monitored_fence(), Some(fence));
    assert_eq!(info.as_fence(), None);
    let info = SyncObjectInfo::periodic_fence(none, &periodic);
    assert_eq!(info.as_periodic_fence(), Some(periodic));
    assert_eq!(info.as_monitored_fence(), None);
    assert_eq!(SyncObjectInfo::fence(none, 6).as_fence(), Some(6));
    let notification = SyncObjectInfo::cpu_notification(none, 7);
    assert_eq!(notification.as_cpu_notification(), Some(7));
    assert_eq!(SyncObjectInfo::mutex(none, 1).as_mutex(), Some(1));
    let info = SyncObjectInfo::semaphore(none, &semaphore);
    assert_eq!(info.as_semaphore(), Some(semaphore));
    assert_eq!(info.as_mutex(), None);
}

/// Errors say what is wrong, with the numbers.
#[test]
fn errors_have_words() {
    let needed = EncodeError::NoRoom { needed: 9, room: 8 };
    assert_eq!(
        needed.to_string(),
        "message needs 9 bytes, the buffer has 8"
    );
    let failed = ReplyError::Failed(NtStatus::NO_MEMORY);
    assert_eq!(
        failed.to_string(),
        "the host answered NO_MEMORY (0xc0000017)"
    );
    let short = ReplyError::Malformed(DecodeError::Short { needed: 4, got: 1 });
    assert_eq!(
        short.to_string(),
        "malformed reply: 4 bytes expected, 1 found"
    );
}
