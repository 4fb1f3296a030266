// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bring-up, adapter queries, both versions, both message modes.

use gpupv::*;
use vaccel_isa::ADAPTER_INFO_BYTES;

use super::guest::*;
use crate::{Channel, HostConfig};

/// A current host, a legacy host and an asynchronous host all come up, and what they say about
/// themselves has the lengths and values of their version.
#[test]
fn three_kinds_of_host() {
    for (version, async_messages) in [
        (40, false),
        (40, true),
        (27, false),
        (0, false),
        (39, false),
    ] {
        let mut guest = Guest::up(HostConfig {
            version,
            async_messages,
            ..modern()
        });
        let request = Request::from(GetInternalAdapterInfo);
        let payload = guest.exchange(&request).unwrap();
        let current = guest.version.has_ext_header();
        assert_eq!(current, version == 40);
        assert_eq!(payload.len(), if current { 712 } else { 704 });
        let info = request.parse_reply(guest.version, &payload).unwrap().reply;
        let name: String = info.description().collect();
        assert_eq!(name, "vaccel virtual GPU 0");
        let asynchronous = info.caps.contains(AdapterCaps::ASYNC_MSG_ENABLED);
        assert_eq!(asynchronous, async_messages);
        guest.process = guest.create_process();
        guest.setup();
        guest.finish();
    }
}

/// The I/O space must be aligned, of the offered size at most, and is set once; closing the global
/// channel gives it back.
#[test]
fn io_space_rules() {
    let bad = Err(NtStatus::INVALID_PARAMETER);
    let mut guest = Guest::new(modern());
    assert_eq!(guest.io_space(IO_BASE + 4096, MIB), bad);
    assert_eq!(guest.io_space(IO_BASE, 0), bad);
    assert_eq!(guest.io_space(IO_BASE, MIB + 4096), bad);
    assert_eq!(guest.io_space(IO_BASE, 65 * MIB), bad);
    assert_eq!(guest.io_space(u64::MAX - 0xffff, MIB), bad);
    guest.world.refuse_io = true;
    assert_eq!(guest.io_space(IO_BASE, MIB), bad);
    guest.world.refuse_io = false;
    assert!(guest.io_space(IO_BASE, MIB).is_ok());
    assert_eq!(guest.io_space(IO_BASE, MIB), bad);
    guest.host.channel_closed(Channel::Global, &mut guest.world);
    assert!(guest.world.io.is_none());
    assert!(guest.io_space(IO_BASE, MIB).is_ok());
}

/// The user-mode driver data is the ISA's, other queries have their sizes, unknown ones fail with a
/// reply of full length.
#[test]
fn adapter_queries() {
    let mut guest = Guest::with_process(modern());
    let ask = |guest: &mut Guest, query_type: u32, size: usize| {
        let body = QueryAdapterInfo {
            query_type: QueryType::from_raw(query_type),
            ..QueryAdapterInfo::default()
        };
        let data = vec![0; size];
        let request = Request::new(body, data.as_slice()).unwrap();
        let payload = guest.exchange(&request).unwrap();
        let answer = request.parse_reply(guest.version, &payload).unwrap();
        answer.ok().map(|answer| answer.tail.to_vec())
    };
    let data = ask(&mut guest, 0, 200).unwrap();
    let info = vaccel_isa::AdapterInfo::from_bytes(&data).unwrap();
    assert!(info.supports(vaccel_isa::Opcode::GemmF32));
    let failed = |status| Err(ReplyError::Failed(status));
    let small = ask(&mut guest, 0, ADAPTER_INFO_BYTES - 1);
    assert_eq!(small, failed(NtStatus::BUFFER_TOO_SMALL));
    for query in [15, 57] {
        let flags = ask(&mut guest, query, 4).unwrap();
        assert_eq!(
            flags,
            0x881_u32.to_le_bytes(),
            "render, paravirtual, compute"
        );
    }
    assert_eq!(ask(&mut guest, 30, 4).unwrap(), [1, 0, 0, 0]);
    assert_eq!(ask(&mut guest, 31, 28).unwrap()[4..6], [0x14, 0x14]);
    let sizes = [5 * MIB, 0, 6 * MIB].map(u64::to_le_bytes).concat();
    assert_eq!(ask(&mut guest, 3, 24).unwrap()[..24], sizes);
    assert_eq!(ask(&mut guest, 13, 4).unwrap(), 2900_u32.to_le_bytes());
    let unknown = ask(&mut guest, 9999, 16);
    assert_eq!(unknown, failed(NtStatus::NOT_SUPPORTED));

    let body = QueryVideoMemoryInfo {
        adapter: GPU.adapter_handle(),
        ..QueryVideoMemoryInfo::default()
    };
    assert_eq!(guest.call(body).unwrap().budget, 4 * MIB);
    let body = QueryClockCalibration {
        adapter: GPU.adapter_handle(),
        ..QueryClockCalibration::default()
    };
    guest.world.now = 42;
    let clock = guest.call(body).unwrap().clock_data;
    assert_eq!(clock.gpu_clock_counter.get(), 42);
    guest.finish();
}

/// Commands on a GPU that was not opened, or was closed, fail; opening again works.
#[test]
fn closed_adapter() {
    let mut guest = Guest::with_process(modern());
    guest.setup();
    let adapter = GPU.adapter_handle();
    let close = CloseAdapter { adapter, _pad: 0 };
    let wrong = CloseAdapter {
        adapter: Handle::NONE,
        _pad: 0,
    };
    guest.call(wrong).unwrap();
    assert_eq!(guest.host.census().devices, 1, "another adapter's handle");
    guest.call(close).unwrap();
    let census = guest.host.census();
    assert_eq!(
        (census.processes, census.devices, census.contexts),
        (1, 0, 0)
    );
    let create = guest.call(CreateDevice::default());
    // A zero handle of full length, as the reply has no status.
    assert_eq!(create.unwrap().device, Handle::NONE);
    guest.call(OpenAdapter::new(guest.version)).unwrap();
    guest.setup();
    guest.finish();
}

/// With asynchronous messages, submissions, signals and waits need no completion and keep their
/// order with synchronous commands; a failure puts the device in error and tells the guest.
#[test]
fn asynchronous_messages() {
    let mut guest = Guest::with_process(HostConfig {
        async_messages: true,
        ..modern()
    });
    let setup = guest.setup();
    let (_, va) = guest.buffer(&setup, &[4, 5]);
    let bytes = guest.stage(4 * 4096, |s| {
        s.fill_words(va + 4096, 4096, 7);
    });
    guest.post_async(
        SubmitCommand::new(setup.context, va, bytes),
        SubmitTail::default(),
    );
    let (objects, contexts) = ([setup.fence.sync_object], [setup.context]);
    let tail = SignalTail {
        objects: (&objects).into(),
        contexts: (&contexts).into(),
        fence_values: (&[3]).into(),
    };
    guest.post_async(SignalSyncObject::default(), tail);
    assert!(guest.world.completions.is_empty());
    guest.run_all();
    assert_eq!(guest.fence_value(setup.fence.fence_storage_address), 3);

    guest.post_async(
        SubmitCommand::new(setup.context, va, 0),
        SubmitTail::default(),
    );
    assert_eq!(guest.execution_state(setup.device), ExecutionState::STOPPED);
    let told = guest.world.events.iter().any(|event| {
        matches!(event, Event::SetGuestData(data)
            if data.guest_pointer == 0xc00c1e && data.data32() != Some(0))
    });
    assert!(told);
    // An asynchronous command that must have an answer is not handled.
    let body = Request::from(DestroyDevice {
        device: setup.device,
        _pad: 0,
    });
    let luid = guest.host.vgpus().next().unwrap().1.vgpu_luid;
    let route = Route::adapter(guest.version, luid).with_process(guest.process);
    let mut bytes = vec![0; body.message_len(guest.version).unwrap()];
    body.encode(&route, &mut bytes).unwrap();
    bytes[16 + 13] = 1;
    guest.raw(Channel::Global, &bytes, false);
    assert_eq!(guest.host.census().devices, 1);
    guest.finish();
}
