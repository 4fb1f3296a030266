// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mutexes, semaphores, fences without storage and CPU notifications.

use gpupv::*;

use super::guest::*;
use crate::HostConfig;

const NONE: SyncObjectFlags = SyncObjectFlags::EMPTY;

fn create(guest: &mut Guest, device: Handle, info: SyncObjectInfo) -> Handle {
    let reply = guest.call(CreateSyncObject::new(device, info)).unwrap();
    let addresses = (reply.fence_gpu_va, reply.fence_storage_address);
    assert_eq!(addresses, (0, 0), "no storage");
    assert!(reply.global_sync_object.is_none());
    reply.sync_object
}

/// The legacy wait of a context; values behind the first are junk.
fn wait(guest: &mut Guest, queue: Handle, objects: &[Handle], value: u64) -> Result<(), NtStatus> {
    let mut values = vec![u64::MAX; objects.len()];
    values[0] = value;
    let body = WaitForSyncObjectFromGpu {
        legacy_fence_object: true.into(),
        ..WaitForSyncObjectFromGpu::new(queue)
    };
    let tail = GpuWaitTail {
        fence_values: List::new(&values),
        objects: List::new(objects),
    };
    guest.send(body, tail).map(|_| ())
}

/// The legacy signal by contexts.
fn signal(
    guest: &mut Guest,
    queues: &[Handle],
    object: Handle,
    fence_value: u64,
    flags: SignalFlags,
) -> Result<(), NtStatus> {
    let body = SignalSyncObject {
        fence_value,
        flags,
        ..SignalSyncObject::default()
    };
    let objects = [object];
    let tail = SignalTail {
        objects: (&objects).into(),
        contexts: List::new(queues),
        ..SignalTail::default()
    };
    guest.send(body, tail).map(|_| ())
}

/// Two contexts take a mutex in turn: the second goes on when the first gives it back.
#[test]
fn mutex() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let second = guest.context(setup.device);
    let mutex = create(&mut guest, setup.device, SyncObjectInfo::mutex(NONE, 0));
    for (context, event) in [(setup.context, 1), (second, 2)] {
        wait(&mut guest, context, &[mutex], 0).unwrap();
        guest.event_gpu(context, event).unwrap();
    }
    assert_eq!(guest.guest_events(), [1], "one has it");
    let flags = SignalFlags::EMPTY;
    signal(&mut guest, &[setup.context], mutex, 0, flags).unwrap();
    assert_eq!(guest.guest_events(), [2]);
    guest.finish();
}

/// What a mutex's initial state means is a choice.
#[test]
fn mutex_start() {
    for (value, events) in [("owned-if-set", vec![]), ("free-if-set", vec![4])] {
        let mut config = modern();
        config.choose("mutex-start", value).unwrap();
        let mut guest = Guest::with_process(config);
        let setup = guest.setup();
        let mutex = create(&mut guest, setup.device, SyncObjectInfo::mutex(NONE, 1));
        wait(&mut guest, setup.context, &[mutex], 0).unwrap();
        guest.event_gpu(setup.context, 4).unwrap();
        assert_eq!(guest.guest_events(), events, "{value}");
        guest.finish();
    }
}

/// A semaphore lets as many waits through as its count says; signals above the highest count are
/// lost.
#[test]
fn semaphore() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let other = guest.context(setup.device);
    let counts = Semaphore {
        max_count: 2,
        initial_count: 1,
    };
    let info = SyncObjectInfo::semaphore(NONE, &counts);
    let semaphore = create(&mut guest, setup.device, info);
    let flags = SignalFlags::EMPTY;
    for _ in 0..3 {
        signal(&mut guest, &[other], semaphore, 0, flags).unwrap();
    }
    for event in 1..=3 {
        wait(&mut guest, setup.context, &[semaphore], 0).unwrap();
        guest.event_gpu(setup.context, event).unwrap();
    }
    assert_eq!(guest.guest_events(), [1, 2]);
    signal(&mut guest, &[other], semaphore, 0, flags).unwrap();
    assert_eq!(guest.guest_events(), [3]);
    guest.finish();
}

/// A fence without storage: the first value of a wait counts for all objects, lower signals change
/// nothing, a signal at submission does not wait for the context.
#[test]
fn fence() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let other = guest.context(setup.device);
    let first = create(&mut guest, setup.device, SyncObjectInfo::fence(NONE, 5));
    let second = create(&mut guest, setup.device, SyncObjectInfo::fence(NONE, 0));
    wait(&mut guest, setup.context, &[first, second], 5).unwrap();
    guest.event_gpu(setup.context, 7).unwrap();
    let flags = SignalFlags::EMPTY;
    signal(&mut guest, &[other], second, 4, flags).unwrap();
    signal(&mut guest, &[setup.context], second, 9, flags).unwrap();
    assert!(guest.guest_events().is_empty());
    let now = SignalFlags::SIGNAL_AT_SUBMISSION;
    signal(&mut guest, &[setup.context], second, 6, now).unwrap();
    assert_eq!(guest.guest_events(), [7]);
    guest.finish();
}

/// Each signal of a CPU notification sends its event, until it is destroyed; what is queued then
/// still does.
#[test]
fn notification() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let info = SyncObjectInfo::cpu_notification(NONE, 77);
    let object = create(&mut guest, setup.device, info);
    let flags = SignalFlags::EMPTY;
    let both = [setup.context, guest.context(setup.device)];
    signal(&mut guest, &both, object, 0, flags).unwrap();
    assert_eq!(guest.guest_events(), [77, 77]);
    let refused = wait(&mut guest, setup.context, &[object], 0);
    assert_eq!(refused, Err(NtStatus::INVALID_PARAMETER));
    guest.wait_gpu(setup.context, setup.fence.sync_object, 1);
    signal(&mut guest, &both[..1], object, 0, flags).unwrap();
    guest.destroy_fence(object).unwrap();
    assert!(guest.guest_events().is_empty());
    guest
        .signal_cpu(setup.device, setup.fence.sync_object, 1, flags)
        .unwrap();
    assert_eq!(guest.guest_events(), [77]);
    guest.finish();
}

/// Forms do not mix: fences with storage have values of their own, the others one for all; the CPU
/// neither waits for the latter nor signals them. They outlive the device, not the process, and are
/// destroyed like others.
#[test]
fn forms_and_ends() {
    let mut guest = Guest::with_process(HostConfig::default());
    let setup = guest.setup();
    let fence = create(&mut guest, setup.device, SyncObjectInfo::fence(NONE, 0));
    let (none, flags) = (Err(NtStatus::INVALID_HANDLE), SignalFlags::EMPTY);
    let bad = NtStatus::INVALID_PARAMETER;
    let monitored = setup.fence.sync_object;
    assert_eq!(wait(&mut guest, setup.context, &[monitored], 0), none);
    assert_eq!(
        guest.try_wait_gpu(setup.context, fence, 1).err(),
        none.err()
    );
    let refused = signal(&mut guest, &[setup.context], monitored, 1, flags);
    assert_eq!(refused, Err(bad));
    let by_cpu = guest.signal_cpu(setup.device, fence, 1, flags);
    assert_eq!(by_cpu.err(), Some(bad));
    let pair = [(fence, 1)];
    let all = WaitFromCpuFlags::EMPTY;
    let by_cpu = guest.wait_cpu(setup.device, &pair, all, 3);
    assert_eq!(by_cpu.err(), none.err());
    guest
        .call(DestroyDevice {
            device: setup.device,
            _pad: 0,
        })
        .unwrap();
    assert_eq!(guest.host.census().sync_objects, 1);
    guest.destroy_fence(fence).unwrap();
    assert!(guest.destroy_fence(fence).is_err());
    let device = guest.device(1);
    create(&mut guest, Handle::NONE, SyncObjectInfo::mutex(NONE, 0));
    create(&mut guest, device, SyncObjectInfo::mutex(NONE, 0));
    guest.host.channel_closed(guest.channel, &mut guest.world);
    assert_eq!(guest.host.census().sync_objects, 0, "with the adapter");
    guest.finish();
}
