// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the host says of itself, escapes, sharing with the host; and that no command is left out.

use gpupv::*;

use super::guest::*;
use crate::{Channel, HostConfig};

const BAD: NtStatus = NtStatus::INVALID_PARAMETER;

fn chosen(name: &str, value: &str) -> HostConfig {
    let mut config = modern();
    config.choose(name, value).unwrap();
    config
}

fn luid(guest: &Guest) -> Luid {
    guest.host.vgpus().next().unwrap().1.host_adapter_luid
}

fn statistics(
    guest: &mut Guest,
    kind: StatisticsType,
    selector: u32,
) -> Result<[u8; STATISTICS_SIZE], NtStatus> {
    let body = QueryStatistics {
        kind,
        adapter_luid: luid(guest),
        ..QueryStatistics::default()
    };
    guest.call(body.about(selector)).map(|reply| reply.result)
}

fn long(block: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(block[offset..offset + 8].try_into().unwrap())
}

fn word(block: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(block[offset..offset + 4].try_into().unwrap())
}

fn ask(guest: &mut Guest, query: u32, input: &[u8]) -> Result<Vec<u8>, NtStatus> {
    let body = QueryAdapterInfo {
        query_type: QueryType::from_raw(query),
        ..QueryAdapterInfo::default()
    };
    let request = Request::new(body, input).unwrap();
    let payload = guest.exchange(&request).unwrap();
    match request.parse_reply(guest.version, &payload) {
        Ok(answer) if answer.status().is_error() => Err(answer.status()),
        Ok(answer) => Ok(answer.tail.to_vec()),
        Err(ReplyError::Failed(status)) => Err(status),
        Err(error) => panic!("{error}"),
    }
}

/// Every command of the protocol has a handler: with zeros in it, on its channel, it is completed,
/// by a host of either version, and never with the status of a command that does not exist.
#[test]
fn no_command_is_unknown() {
    for version in [40, 27] {
        let mut guest = Guest::with_process(HostConfig {
            version,
            ..modern()
        });
        let setup = guest.setup();
        let all = (0..70).chain(1000..1023);
        let mut known = 0;
        for number in all {
            let kind = u32::from(number >= 1000);
            let channel = if kind == 1 {
                Channel::Global
            } else {
                guest.channel
            };
            // What ends the process or the adapter is in other tests.
            let ends = matches!((kind, number), (1, 1001) | (0, 15));
            let header = [0, 0, guest.process.raw(), kind, number, 0];
            let mut bytes: Vec<u8> = header.iter().flat_map(|w: &u32| w.to_le_bytes()).collect();
            bytes.resize(24 + 4096, 0);
            if guest.version.has_ext_header() {
                let vgpu = guest.host.vgpus().next().unwrap().1.vgpu_luid;
                let ext = [16, 0, vgpu.low, vgpu.high];
                let ext: Vec<u8> = ext.iter().flat_map(|w: &u32| w.to_le_bytes()).collect();
                bytes.splice(0..0, ext);
            }
            let message = Message::decode(guest.version, &bytes).unwrap();
            if message.id().is_err() || ends {
                known += usize::from(ends);
                continue;
            }
            known += 1;
            let name = message.id().unwrap().name();
            let transaction = guest.raw(channel, &bytes, true);
            let payload = guest.completion(transaction).unwrap();
            let first = payload
                .get(..4)
                .map(|w| u32::from_le_bytes(w.try_into().unwrap()));
            assert_ne!(first, Some(NtStatus::NOT_IMPLEMENTED.bits()), "{name}");
            // Zeros ask it for data of a kind of surface that there is not.
            if number != CommandId::GetStandardAllocationDriverData.number() {
                assert_ne!(first, Some(NtStatus::NOT_SUPPORTED.bits()), "{name}");
            }
        }
        assert_eq!(known, CommandId::ALL.len());
        assert_eq!(known, 63 - 3, "three of the 63 go to the guest");
        let device = setup.device;
        guest.call(DestroyDevice { device, _pad: 0 }).unwrap();
        guest.host.channel_closed(Channel::Global, &mut guest.world);
        guest.assert_empty();
    }
}

/// Queries that open consumers ask, and the other ones of the documents, have answers of the size of
/// their structures, with what was configured.
#[test]
fn adapter_queries() {
    let mut guest = Guest::with_process(modern());
    let sizes = [
        (1, 524),
        (3, 24),
        (4, 16),
        (6, 12),
        (8, 2080),
        (11, 4),
        (13, 4),
        (15, 4),
        (18, 8),
        (24, 4),
        (25, 78),
        (30, 4),
        (31, 28),
        (32, 4),
        (34, 12),
        (42, 56),
        (49, 8),
        (52, 16),
        (55, 4),
        (56, 4),
        (57, 4),
        (58, 4),
        (59, 4),
        (60, 80),
        (61, 56),
        (62, 64),
        (63, 40),
        (64, 132),
        (68, 1),
        (70, 4),
        (75, 4),
        (76, 4),
        (77, 4),
    ];
    for (query, size) in sizes {
        assert!(ask(&mut guest, query, &vec![0; size]).is_ok(), "{query}");
        if size > 8 {
            let short = ask(&mut guest, query, &vec![0; size - 1]);
            assert_eq!(short, Err(NtStatus::BUFFER_TOO_SMALL), "{query}");
        }
    }
    let text = |bytes: &[u8]| {
        let units = bytes
            .chunks_exact(2)
            .map(|u| u16::from_le_bytes([u[0], u[1]]));
        let units: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
        String::from_utf16(&units).unwrap()
    };
    let mut name = vec![0; 524];
    name[0] = 3;
    let name = ask(&mut guest, 1, &name).unwrap();
    assert_eq!((name[0], text(&name[4..])), (3, "libvaccel.so".into()));
    for query in [1, 25, 31, 34, 42, 61, 62, 63, 64] {
        let beyond = ask(&mut guest, query, &[9; 600]);
        assert_eq!(beyond, Err(BAD), "{query}: there is only one");
    }
    let ids = ask(&mut guest, 31, &[0; 28]).unwrap();
    assert_eq!((word(&ids, 4), word(&ids, 8)), (0x1414, 0x8a));
    assert_eq!(word(&ask(&mut guest, 70, &[0; 4]).unwrap(), 0), 7);
    for query in [5, 9, 10, 41] {
        let refused = ask(&mut guest, query, &[0; 64]);
        assert_eq!(refused, Err(NtStatus::NOT_SUPPORTED), "{query}");
    }
    guest.finish();
    let mut guest = Guest::with_process(chosen("hw-scheduling", "off"));
    assert_eq!(ask(&mut guest, 70, &[0; 4]).unwrap(), [0; 4]);
    guest.finish();
}

/// The registry has paths, which do not always fit, and no keys.
#[test]
fn registry() {
    let mut guest = Guest::with_process(modern());
    let mut input = vec![0; 700];
    let missing = ask(&mut guest, 48, &input);
    assert_eq!(missing, Err(NtStatus::OBJECT_NAME_NOT_FOUND));
    (input[0], input[4]) = (2, 1);
    let path = ask(&mut guest, 48, &input).unwrap();
    let size = word(&path, 536) as usize;
    let expected: Vec<u8> = "/usr/lib/wsl/drivers/vaccel\0"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    assert_eq!(word(&path, 540), 0);
    assert_eq!(path[544..544 + size], expected);
    let path = ask(&mut guest, 48, &input[..552]).unwrap();
    assert_eq!((word(&path, 536) as usize, word(&path, 540)), (size, 1));
    assert_eq!(
        ask(&mut guest, 48, &input[..500]),
        Err(NtStatus::BUFFER_TOO_SMALL)
    );
    input[0] = 4;
    assert_eq!(ask(&mut guest, 48, &input), Err(BAD));
    guest.finish();
}

/// Hardware scheduling is a feature of the adapter; the host as a whole knows it. Others are known
/// and off, unknown ones are answered or refused, as chosen.
#[test]
fn features() {
    for (value, unknown) in [("answered", None), ("refused", Some(BAD))] {
        let mut guest = Guest::with_process(chosen("unknown-feature", value));
        let mut of = |feature| guest.call(IsFeatureEnabled { feature, _pad: 0 });
        let on = of(FeatureId::HWSCH).unwrap();
        assert_eq!((on.min_supported_version, on.version), (1, 1));
        assert!(on.flags.contains(FeatureFlags::SUPPORTED));
        assert_eq!(on.state.bits(), 0b1111);
        let off = of(FeatureId::KERNEL_MODE_TESTING).unwrap();
        assert_eq!(off.state, FeatureState::KNOWN_FEATURE);
        let other = of(FeatureId::from_raw(4711));
        assert_eq!(other.err(), unknown);
        if let Ok(other) = other {
            assert_eq!(other.state, FeatureState::EMPTY);
        }
        let body = IsFeatureEnabledGlobal {
            feature: FeatureId::HWSCH,
            _pad: 0,
        };
        let global = guest.call(body).unwrap();
        assert_eq!(global.state, FeatureState::KNOWN_FEATURE);
        guest.finish();
    }
    let mut guest = Guest::with_process(chosen("hw-scheduling", "off"));
    let feature = FeatureId::HWSCH;
    let off = guest.call(IsFeatureEnabled { feature, _pad: 0 }).unwrap();
    assert_eq!(off.state, FeatureState::KNOWN_FEATURE);
    let info = guest.call(GetInternalAdapterInfo).unwrap();
    assert!(!info.caps.contains(AdapterCaps::HW_SCH_ENABLED));
    guest.finish();
}

/// Statistics follow what is committed, resident and run; selectors beyond what there is, video
/// sources and other adapters are refused.
#[test]
fn statistics_follow() {
    use StatisticsType as Kind;

    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    guest.world.now = 1000;
    let (_, va) = guest.buffer(&setup, &[1, 2]);
    guest.allocation(setup.device, &[3]);
    let far = statistics(&mut guest, Kind::SEGMENT, 1).unwrap();
    assert_eq!(long(&far, 0), 6 * MIB);
    assert_eq!((long(&far, 8), long(&far, 16)), (3 * 4096, 2 * 4096));
    assert_eq!((word(&far, 32), word(&far, 36), word(&far, 40)), (2, 1, 1));
    let near = statistics(&mut guest, Kind::SEGMENT, 0).unwrap();
    assert_eq!((long(&near, 8), word(&near, 40)), (0, 0));
    let own = statistics(&mut guest, Kind::PROCESS_SEGMENT, 1).unwrap();
    assert_eq!((long(&own, 0), long(&own, 48)), (3 * 4096, 2 * 4096));
    let group = statistics(&mut guest, Kind::PROCESS_SEGMENT_GROUP, 1).unwrap();
    let group = [0, 8, 16].map(|offset| long(&group, offset));
    assert_eq!(group, [4 * MIB, 3 * 4096, 2 * 4096]);
    let adapter = statistics(&mut guest, Kind::ADAPTER, 0).unwrap();
    assert_eq!([0, 4, 8].map(|at| word(&adapter, at)), [2, 1, 0]);

    guest.submit(setup.context, (4096, va), |_| ()).unwrap();
    guest.world.now += 700;
    let node = statistics(&mut guest, Kind::NODE, 0).unwrap();
    assert_eq!(
        (long(&node, 0), word(&node, 140), word(&node, 144)),
        (7, 1, 0)
    );
    guest.world.now += 300;
    guest.run_all();
    guest.world.now += 5000;
    for kind in [Kind::NODE, Kind::PROCESS_NODE] {
        let node = statistics(&mut guest, kind, 0).unwrap();
        assert_eq!((long(&node, 0), word(&node, 144)), (10, 1));
    }
    let owner = guest.process;
    guest.process = guest.create_process();
    let other = statistics(&mut guest, Kind::PROCESS_NODE, 0).unwrap();
    assert_eq!(long(&other, 0), 0, "of another process");
    guest.call(DestroyProcess).unwrap();
    guest.process = owner;

    for (kind, selector) in [(Kind::SEGMENT, 2), (Kind::NODE, 1), (Kind::VIDPN_SOURCE, 0)] {
        assert_eq!(statistics(&mut guest, kind, selector).err(), Some(BAD));
    }
    let elsewhere = guest.call(QueryStatistics::default());
    assert_eq!(elsewhere.err(), Some(BAD), "no such adapter");
    guest.finish();
}

/// Data of an escape to the driver comes back and nothing else; handles that it names are there;
/// escapes to Windows are refused, with a bare status.
#[test]
fn escapes() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let body = Escape {
        adapter: GPU.adapter_handle(),
        device: setup.device,
        context: setup.context,
        ..Escape::default()
    };
    let raw = |guest: &mut Guest, body: Escape, data: &[u8]| {
        let request = Request::new(body, data).unwrap();
        let transaction = guest.post(&request);
        guest.completion(transaction).unwrap()
    };
    let data = [9; 24];
    assert_eq!(raw(&mut guest, body, &data), data);
    assert_eq!(raw(&mut guest, body, &[]), [0; 0]);
    let refused = |status: NtStatus| {
        let mut payload = status.bits().to_le_bytes().to_vec();
        payload.resize(8, 0);
        payload
    };
    let windows = Escape {
        kind: EscapeType::VIDMM,
        ..body
    };
    let no = refused(NtStatus::NOT_SUPPORTED);
    assert_eq!(raw(&mut guest, windows, &data), no);
    let handle = refused(NtStatus::INVALID_HANDLE);
    for wrong in [
        Escape {
            adapter: setup.device,
            ..body
        },
        Escape {
            device: setup.context,
            ..body
        },
        Escape {
            context: setup.device,
            ..body
        },
    ] {
        assert_eq!(raw(&mut guest, wrong, &data), handle);
    }
    let known = Escape {
        flags: EscapeFlags::DRIVER_KNOWN_ESCAPE,
        ..body
    };
    let allocation = guest.allocation(setup.device, &[1]);
    let translate = |handle: Handle| [[0; 4], handle.raw().to_le_bytes(), [0; 4]].concat();
    let good = translate(allocation);
    assert_eq!(raw(&mut guest, known, &good)[..12], good);
    assert_eq!(raw(&mut guest, known, &translate(setup.device)), handle);
    let mut build = [0; 112];
    build[0] = 3;
    assert_eq!(
        raw(&mut guest, known, &build),
        no,
        "without kernel-mode tests"
    );
    guest.finish();
    let mut guest = Guest::with_process(chosen("driver-escape", "refused"));
    let body = Escape {
        adapter: GPU.adapter_handle(),
        ..Escape::default()
    };
    assert_eq!(raw(&mut guest, body, &data), no);
    guest.finish();
}

/// What is shared with the host is kept until the process or the adapter is gone; what cannot be
/// shared, is elsewhere or is no object is refused.
#[test]
fn host_sharing() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let share = |guest: &mut Guest, device, object| {
        let reply = guest.call(ShareObjectWithHost {
            device,
            object,
            reserved: 0,
        });
        reply.map(|reply| reply.vail_nt_handle)
    };
    let fence = guest.shared_fence(setup.device).sync_object;
    let handle = share(&mut guest, setup.device, fence).unwrap();
    assert!(handle != 0 && handle % 4 == 0, "as handles of Windows are");
    guest.destroy_fence(fence).unwrap();
    let census = guest.host.census();
    assert_eq!((census.shared_objects, census.fence_pages), (2, 3), "kept");
    let private = setup.fence.sync_object;
    let denied = Err(NtStatus::ACCESS_DENIED);
    assert_eq!(share(&mut guest, setup.device, private), denied);
    let none = Err(NtStatus::INVALID_HANDLE);
    assert_eq!(share(&mut guest, setup.device, fence), none);
    let other = guest.device(2);
    assert_eq!(share(&mut guest, other, private), none);
    guest.finish();

    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let fence = guest.shared_fence(setup.device).sync_object;
    share(&mut guest, setup.device, fence).unwrap();
    guest
        .host
        .channel_closed(Channel::Vgpu(GPU), &mut guest.world);
    assert_eq!(guest.host.census().shared_objects, 0);
    guest.finish();

    let mut guest = Guest::with_process(chosen("host-sharing", "off"));
    let device = guest.device(1);
    let no = Err(NtStatus::NOT_SUPPORTED);
    assert_eq!(share(&mut guest, device, device), no);
    guest.finish();
}

/// Events of the passive kind carry the same ids.
#[test]
fn passive_events() {
    let mut guest = Guest::with_process(chosen("guest-events", "passive"));
    let setup = guest.setup();
    guest.event_gpu(setup.context, 8).unwrap();
    let events = std::mem::take(&mut guest.world.events);
    let signal = SignalGuestEvent::new(8);
    assert_eq!(events, [Event::SignalPassive(signal)]);
    guest.finish();
}

/// Completions without known content are empty or a status; asynchronous failures stop their device
/// or do nothing.
#[test]
fn other_choices() {
    for (value, length) in [("empty", 0), ("status", 8)] {
        let mut guest = Guest::with_process(chosen("empty-replies", value));
        let setup = guest.setup();
        let paging_queue = setup.queue.paging_queue;
        let body = DestroyPagingQueue {
            paging_queue,
            _pad: 0,
        };
        let payload = guest.exchange(&Request::from(body)).unwrap();
        assert_eq!(payload.len(), length);
        guest.finish();
    }
    for (value, state) in [
        ("stops", ExecutionState::STOPPED),
        ("ignored", ExecutionState::ACTIVE),
    ] {
        let mut guest = Guest::with_process(HostConfig {
            async_messages: true,
            ..chosen("async-failure", value)
        });
        let setup = guest.setup();
        let bad = SubmitCommand::new(setup.context, 4096, 0);
        guest.post_async(bad, SubmitTail::default());
        assert_eq!(guest.execution_state(setup.device), state);
        guest.finish();
    }
}
