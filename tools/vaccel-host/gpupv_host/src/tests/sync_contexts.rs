// SPDX-License-Identifier: MIT OR Apache-2.0
//! Contexts that only synchronise, and fences of one device in contexts of another.

use engine::Outcome;
use gpupv::*;

use super::guest::*;
use crate::HostConfig;

/// A context with flags.
fn context(guest: &mut Guest, device: Handle, flags: CreateContextFlags) -> Handle {
    let body = CreateContextVirtual {
        device,
        flags,
        ..CreateContextVirtual::default()
    };
    guest.send(body, &[]).unwrap().body.context
}

/// A context for synchronisation takes waits, signals and events in their order, and no submission,
/// not even an empty one.
#[test]
fn synchronisation_only() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let flags = CreateContextFlags::SYNCHRONIZATION_ONLY;
    let only = context(&mut guest, setup.device, flags);
    let done = guest.fence(setup.device, SyncObjectFlags::EMPTY);
    guest.wait_gpu(only, setup.fence.sync_object, 1);
    guest.signal_gpu(only, done.sync_object, 2);
    guest.event_gpu(only, 9).unwrap();
    let bad = Err(NtStatus::INVALID_PARAMETER);
    for flags in [SubmitFlags::EMPTY, SubmitFlags::NULL_RENDERING] {
        let body = SubmitCommand {
            flags,
            ..SubmitCommand::new(only, 0x1_0000, 8)
        };
        assert_eq!(guest.send(body, SubmitTail::default()), bad);
    }
    let flags = SignalFlags::EMPTY;
    guest
        .signal_cpu(setup.device, setup.fence.sync_object, 1, flags)
        .unwrap();
    assert_eq!(guest.guest_events(), [9]);
    assert_eq!(guest.fence_value(done.fence_storage_address), 2);
    guest.finish();
}

/// A submission to one, sent without waiting for an answer, stops its device.
#[test]
fn submission_without_an_answer() {
    let mut guest = Guest::with_process(HostConfig {
        async_messages: true,
        ..modern()
    });
    let setup = guest.setup();
    let flags = CreateContextFlags::SYNCHRONIZATION_ONLY;
    let only = context(&mut guest, setup.device, flags);
    guest.post_async(SubmitCommand::new(only, 0x1_0000, 8), SubmitTail::default());
    let state = guest.execution_state(setup.device);
    assert_eq!(state, ExecutionState::STOPPED);
    guest.finish();
}

/// Contexts of one device wait for, and signal, fences of another of the same process; so does the
/// CPU, and one wait may name fences of both.
#[test]
fn across_devices() {
    let mut guest = Guest::with_process(modern());
    let (first, second) = (guest.setup(), guest.setup());
    let (_, va) = guest.buffer(&first, &[1]);
    let fences = [first.fence.sync_object, second.fence.sync_object];
    let pairs = [(fences[0], 2), (fences[1], 1)];
    let all = WaitFromCpuFlags::EMPTY;
    guest.wait_cpu(second.device, &pairs, all, 5).unwrap();
    guest.wait_gpu(second.context, fences[0], 1);
    guest.signal_gpu(second.context, fences[0], 2);
    guest.submit(first.context, (4096, va), |_| ()).unwrap();
    guest.signal_gpu(first.context, fences[0], 1);
    let both = [first.context, second.context];
    let (objects, values) = ([fences[1]], [1]);
    let tail = SignalTail {
        objects: (&objects).into(),
        contexts: (&both).into(),
        fence_values: (&values).into(),
    };
    guest.send(SignalSyncObject::default(), tail).unwrap();
    assert!(guest.guest_events().is_empty());
    assert_eq!(guest.run_all(), [Outcome::Done]);
    assert_eq!(guest.guest_events(), [5]);
    let flags = SignalFlags::EMPTY;
    guest
        .signal_cpu(second.device, fences[0], 3, flags)
        .unwrap();
    assert_eq!(guest.fence_value(first.fence.fence_storage_address), 3);
    guest.finish();
}

/// Another process's handles are no handles, whatever they stand for.
#[test]
fn not_across_processes() {
    let mut guest = Guest::with_process(modern());
    let first = guest.device(1);
    for _ in 0..4 {
        guest.fence(first, SyncObjectFlags::EMPTY);
    }
    let theirs = guest.fence(first, SyncObjectFlags::EMPTY).sync_object;
    let owner = guest.process;
    guest.process = guest.create_process();
    let second = guest.device(2);
    let own = context(&mut guest, second, CreateContextFlags::EMPTY);
    let none = Err(NtStatus::INVALID_HANDLE);
    assert_eq!(guest.try_wait_gpu(own, theirs, 1), none);
    assert_eq!(guest.try_signal_gpu(own, theirs, 1), none);
    guest.call(DestroyProcess).unwrap();
    guest.process = owner;
    guest.finish();
}

/// A periodic fence is refused as what it is, numbers that are no kind as bad ones. Engines that do
/// not exist do not use fences; a semaphore starts within its bounds, a notification has an event.
#[test]
fn refused_kinds() {
    let mut guest = Guest::with_process(modern());
    let device = guest.device(1);
    let none = SyncObjectFlags::EMPTY;
    let periodic = SyncObjectInfo::periodic_fence(none, &PeriodicMonitoredFence::default());
    let unknown = SyncObjectInfo {
        kind: SyncObjectType::from_raw(99),
        ..SyncObjectInfo::default()
    };
    let engines = MonitoredFence {
        engine_affinity: 2,
        ..MonitoredFence::default()
    };
    let semaphore = |max_count, initial_count| {
        let counts = Semaphore {
            max_count,
            initial_count,
        };
        SyncObjectInfo::semaphore(none, &counts)
    };
    let shared = SyncObjectFlags::SHARED | SyncObjectFlags::NT_SECURITY_SHARING;
    let (bad, other) = (NtStatus::INVALID_PARAMETER, NtStatus::NOT_SUPPORTED);
    for (info, status) in [
        (periodic, other),
        (unknown, bad),
        (SyncObjectInfo::monitored_fence(none, &engines), bad),
        (semaphore(0, 0), bad),
        (semaphore(1, 2), bad),
        (SyncObjectInfo::cpu_notification(none, 0), bad),
        (SyncObjectInfo::fence(shared, 0), other),
        (
            SyncObjectInfo::mutex(SyncObjectFlags::from_bits(1 << 20), 0),
            bad,
        ),
    ] {
        let reply = guest.call(CreateSyncObject::new(device, info));
        assert_eq!(reply.err(), Some(status), "{info:?}");
    }
    let census = guest.host.census();
    assert_eq!((census.fence_pages, census.sync_objects), (0, 0));
    guest.finish();
}
