// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fences that several devices and processes have open, and what their handles may do.

use gpupv::*;

use super::guest::*;
use crate::{Channel, VgpuConfig, VgpuId, MAX_SHARED_OBJECTS};

const BAD: NtStatus = NtStatus::INVALID_PARAMETER;
const HANDLE: NtStatus = NtStatus::INVALID_HANDLE;
const DENIED: NtStatus = NtStatus::ACCESS_DENIED;
const NONE: SyncObjectFlags = SyncObjectFlags::EMPTY;
const SHAREABLE: SyncObjectFlags =
    SyncObjectFlags::SHARED.union(SyncObjectFlags::NT_SECURITY_SHARING);

/// A wait of the CPU for one fence.
fn wait(guest: &mut Guest, device: Handle, fence: Handle, value: u64, event: u64) {
    let flags = WaitFromCpuFlags::EMPTY;
    let waited = guest.wait_cpu(device, &[(fence, value)], flags, event);
    waited.unwrap();
}

fn signal(guest: &mut Guest, device: Handle, fence: Handle, value: u64) -> Result<(), NtStatus> {
    let flags = SignalFlags::EMPTY;
    guest.signal_cpu(device, fence, value, flags).map(|_| ())
}

/// A device fails.
fn fail(guest: &mut Guest, device: Handle) {
    let reason = DeviceErrorReason::GENERIC;
    guest.call(MarkDeviceAsError { device, reason }).unwrap();
}

/// One value in one page, whoever has it open: what one process signals, by CPU or GPU, the others
/// wait for, by CPU or GPU, and read.
#[test]
fn one_value_for_all() {
    let mut guest = Guest::with_process(modern());
    let owner = guest.setup();
    let made = guest.shared_fence(owner.device);
    let name = made.global_sync_object;
    assert!(!name.is_none() && made.fence_gpu_va != 0);
    let beside = guest.device(1);
    let beside = guest.open_fence(beside, name, NONE).unwrap();
    let creator = guest.process;
    guest.process = guest.create_process();
    let other = guest.setup();
    let there = guest.open_fence(other.device, name, NONE).unwrap();
    for opened in [&beside, &there] {
        let address = opened.guest_cpu_physical_address;
        assert_eq!(address, made.fence_storage_address);
        assert_eq!(opened.gpu_virtual_address, made.fence_gpu_va);
    }
    let census = guest.host.census();
    assert_eq!((census.sync_objects, census.fence_pages), (7, 5));
    assert_eq!(census.shared_objects, 1);

    wait(&mut guest, other.device, there.sync_object, 3, 10);
    guest.wait_gpu(other.context, there.sync_object, 3);
    guest.signal_gpu(other.context, there.sync_object, 5);
    let opener = guest.speak_as(creator);
    wait(&mut guest, owner.device, made.sync_object, 5, 11);
    guest.signal_gpu(owner.context, beside.sync_object, 2);
    assert!(guest.guest_events().is_empty());
    signal(&mut guest, owner.device, made.sync_object, 3).unwrap();
    assert_eq!(guest.guest_events(), [10, 11]);
    assert_eq!(guest.fence_value(made.fence_storage_address), 5);
    guest.call(DestroyProcess).unwrap();
    guest.process = opener;
    guest.finish();
}

/// What is shared outlives its creator: it goes, with its name and its page, when the last handle of
/// a process and the last NT handle are gone, and no earlier.
#[test]
fn lives_until_the_last_handle() {
    let mut guest = Guest::new(modern());
    guest.io_space(IO_BASE, MIB).unwrap();
    guest.call(OpenAdapter::new(guest.version)).unwrap();
    guest.process = guest.create_process();
    let setup = guest.device(1);
    let made = guest.shared_fence(setup);
    let (name, page) = (made.global_sync_object, made.fence_storage_address);
    signal(&mut guest, setup, made.sync_object, 7).unwrap();
    let kept = guest.share(made.sync_object);
    assert!(kept != name && !kept.is_none());
    guest.call(DestroyProcess).unwrap();
    let census = guest.host.census();
    assert_eq!((census.shared_objects, census.fence_pages), (2, 1));
    assert_eq!((census.processes, census.sync_objects), (0, 0));

    guest.process = guest.create_process();
    let device = guest.device(2);
    let first = guest.open_fence(device, name, NONE).unwrap();
    assert_eq!(first.guest_cpu_physical_address, page);
    assert_eq!(guest.fence_value(page), 7);
    guest.unshare(kept).unwrap();
    assert_eq!(guest.unshare(kept), Err(HANDLE));
    let second = guest.open_fence(device, name, NONE).unwrap();
    guest.destroy_fence(first.sync_object).unwrap();
    // All pages but the last of the region, and none is that of the fence.
    let mut pages = Vec::new();
    while let Ok(fence) = guest.try_fence(device, NONE) {
        pages.push(fence.fence_storage_address);
    }
    assert_eq!(pages.len(), 254);
    assert!(!pages.contains(&page));
    signal(&mut guest, device, second.sync_object, 8).unwrap();
    assert_eq!(guest.fence_value(page), 8);
    guest.destroy_fence(second.sync_object).unwrap();
    let late = guest.open_fence(device, name, NONE);
    assert_eq!(late.err(), Some(HANDLE));
    let next = guest.fence(device, NONE);
    assert_eq!(next.fence_storage_address, page);
    guest.finish();
}

/// An NT handle alone keeps a fence, one can be made by whoever opened it, and neither it nor the
/// name serves as the other or as that of a resource.
#[test]
fn nt_handles() {
    let mut guest = Guest::with_process(modern());
    let device = guest.device(1);
    let made = guest.shared_fence(device);
    let name = made.global_sync_object;
    let mine = guest.fence(device, NONE);
    assert_eq!(mine.global_sync_object, Handle::NONE);
    assert_eq!(guest.share(mine.sync_object), Handle::NONE, "not shareable");
    let opened = guest.open_fence(device, name, NONE).unwrap();
    let kept = [
        guest.share(made.sync_object),
        guest.share(opened.sync_object),
    ];
    assert_ne!(kept[0], kept[1]);
    assert_eq!(guest.unshare(name), Err(HANDLE));
    assert_eq!(
        guest.open_fence(device, kept[0], NONE).err(),
        Some(HANDLE),
        "the NT handle is no name"
    );
    for global_share in [name, kept[0]] {
        let body = OpenResource {
            device,
            nt_security_sharing: true.into(),
            global_share,
            allocation_count: 1,
            ..OpenResource::default()
        };
        assert_eq!(guest.call(body).err(), Some(HANDLE));
    }
    for fence in [made.sync_object, opened.sync_object] {
        guest.destroy_fence(fence).unwrap();
    }
    guest.unshare(kept[0]).unwrap();
    assert_eq!(guest.host.census().fence_pages, 2);
    let again = guest.open_fence(device, name, NONE).unwrap();
    guest.destroy_fence(again.sync_object).unwrap();
    guest.unshare(kept[1]).unwrap();
    let census = guest.host.census();
    assert_eq!((census.shared_objects, census.fence_pages), (0, 1));
    guest.finish();
}

/// What a handle may not do binds that handle alone, on its way from CPU and GPU alike.
#[test]
fn rights() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let (device, context) = (setup.device, setup.context);
    let silent = SHAREABLE | SyncObjectFlags::NO_SIGNAL;
    let made = guest.fence(device, silent);
    let name = made.global_sync_object;
    let open = |guest: &mut Guest, flags| guest.open_fence(device, name, flags).unwrap();
    let full = open(&mut guest, SHAREABLE);
    let reads = open(&mut guest, SyncObjectFlags::NO_SIGNAL | SHAREABLE);
    let writes = open(&mut guest, SyncObjectFlags::NO_WAIT);
    for fence in [made.sync_object, reads.sync_object] {
        assert_eq!(signal(&mut guest, device, fence, 9), Err(DENIED));
        assert_eq!(guest.try_signal_gpu(context, fence, 9), Err(DENIED));
    }
    let pair = [(writes.sync_object, 1)];
    let all = WaitFromCpuFlags::EMPTY;
    assert_eq!(guest.wait_cpu(device, &pair, all, 2), Err(DENIED));
    let waited = guest.try_wait_gpu(context, writes.sync_object, 1);
    assert_eq!(waited, Err(DENIED));
    wait(&mut guest, device, reads.sync_object, 2, 20);
    guest.wait_gpu(context, made.sync_object, 1);
    guest.signal_gpu(context, writes.sync_object, 2);
    signal(&mut guest, device, full.sync_object, 1).unwrap();
    assert_eq!(guest.guest_events(), [20]);
    assert_eq!(guest.fence_value(made.fence_storage_address), 2);
    guest.finish();
}

/// A handle without GPU access has no GPU address; contexts use it all the same. Who opens a fence
/// that was created so has none either.
#[test]
fn no_gpu_access() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let none = SyncObjectFlags::NO_GPU_ACCESS;
    let made = guest.fence(setup.device, SHAREABLE | none);
    assert_eq!(made.fence_gpu_va, 0);
    guest.signal_gpu(setup.context, made.sync_object, 1);
    assert_eq!(guest.fence_value(made.fence_storage_address), 1);
    let name = made.global_sync_object;
    let opened = guest.open_fence(setup.device, name, NONE).unwrap();
    assert_eq!(opened.gpu_virtual_address, 0);
    let other = guest.shared_fence(setup.device).global_sync_object;
    for (flags, has) in [(NONE, true), (none, false)] {
        let opened = guest.open_fence(setup.device, other, flags).unwrap();
        assert_eq!(opened.gpu_virtual_address != 0, has);
    }
    guest.finish();
}

/// Destroying a handle lets go who waits by it on the CPU, and nobody else; what contexts wait for
/// goes on.
#[test]
fn waits_belong_to_handles() {
    let mut guest = Guest::with_process(modern());
    let owner = guest.setup();
    let made = guest.shared_fence(owner.device);
    let name = made.global_sync_object;
    let second = guest.open_fence(owner.device, name, NONE).unwrap();
    wait(&mut guest, owner.device, made.sync_object, 1, 1);
    wait(&mut guest, owner.device, second.sync_object, 1, 2);
    let creator = guest.process;
    guest.process = guest.create_process();
    let other = guest.setup();
    let there = guest.open_fence(other.device, name, NONE).unwrap();
    wait(&mut guest, other.device, there.sync_object, 1, 3);
    guest.wait_gpu(other.context, there.sync_object, 1);
    guest.event_gpu(other.context, 4).unwrap();
    guest.destroy_fence(there.sync_object).unwrap();
    assert_eq!(guest.guest_events(), [3]);
    let opener = guest.speak_as(creator);
    guest.destroy_fence(made.sync_object).unwrap();
    assert_eq!(guest.guest_events(), [1]);
    signal(&mut guest, owner.device, second.sync_object, 1).unwrap();
    assert_eq!(guest.guest_events(), [4, 2]);
    guest.call(DestroyProcess).unwrap();
    guest.process = opener;
    guest.finish();
}

/// When a process goes its CPU waits go without an answer; others' waits for the same fence stay.
#[test]
fn waits_of_a_process() {
    let mut guest = Guest::with_process(modern());
    let device = guest.device(1);
    let made = guest.shared_fence(device);
    wait(&mut guest, device, made.sync_object, 1, 1);
    let creator = guest.process;
    guest.process = guest.create_process();
    let device = guest.device(2);
    let name = made.global_sync_object;
    let opened = guest.open_fence(device, name, NONE).unwrap();
    wait(&mut guest, device, opened.sync_object, 1, 2);
    let opener = guest.speak_as(creator);
    guest.call(DestroyProcess).unwrap();
    assert!(guest.guest_events().is_empty());
    assert_eq!(guest.host.census().cpu_waits, 1);
    guest.process = opener;
    signal(&mut guest, device, opened.sync_object, 1).unwrap();
    assert_eq!(guest.guest_events(), [2]);
    guest.finish();
}

/// A device that fails takes the fences to the highest value that it created, for all who have them
/// open, unless they were created not to; those that it opened it leaves.
#[test]
fn failed_devices() {
    let mut guest = Guest::with_process(modern());
    let owner = guest.device(1);
    let made = guest.shared_fence(owner);
    let keeps = SyncObjectFlags::NO_SIGNAL_MAX_VALUE_ON_TDR;
    let keeps = guest.fence(owner, SHAREABLE | keeps);
    let closed = guest.shared_fence(owner);
    let other = guest.device(2);
    let fences = [&made, &keeps, &closed];
    let opened = fences.map(|fence| {
        let opened = guest.open_fence(other, fence.global_sync_object, NONE);
        opened.unwrap().sync_object
    });
    guest.destroy_fence(closed.sync_object).unwrap();
    let third = guest.device(3);
    for fence in fences {
        let name = fence.global_sync_object;
        guest.open_fence(third, name, NONE).unwrap();
    }
    let values = |guest: &Guest| fences.map(|fence| guest.fence_value(fence.fence_storage_address));
    fail(&mut guest, third);
    assert_eq!(values(&guest), [0, 0, 0]);
    for (event, fence) in (1..).zip(opened) {
        wait(&mut guest, other, fence, 1, event);
    }
    fail(&mut guest, owner);
    assert_eq!(values(&guest), [u64::MAX, 0, 0]);
    assert_eq!(guest.guest_events(), [1]);
    assert_eq!(guest.execution_state(other), ExecutionState::ACTIVE);
    let name = made.global_sync_object;
    let late = guest.open_fence(owner, name, NONE);
    assert_eq!(late.err(), Some(NtStatus::DEVICE_REMOVED));
    guest.finish();
}

/// Flags that make no sense, devices and names that are none, another GPU, and too many names.
#[test]
fn refused() {
    let numbered = [0, 1].map(VgpuConfig::numbered);
    let mut guest = Guest::on(modern(), numbered);
    guest.io_space(IO_BASE, 64 * MIB).unwrap();
    for index in 0..2 {
        guest.channel = Channel::Vgpu(VgpuId(index));
        guest.host.channel_opened(guest.channel);
        guest.call(OpenAdapter::new(guest.version)).unwrap();
    }
    guest.process = guest.create_process();
    let elsewhere = guest.device(1);
    guest.channel = Channel::Vgpu(GPU);
    let device = guest.device(2);
    let neither = SyncObjectFlags::NO_SIGNAL | SyncObjectFlags::NO_WAIT;
    let unsupported = NtStatus::NOT_SUPPORTED;
    for (flags, status) in [
        (SyncObjectFlags::SHARED, unsupported),
        (SHAREABLE | SyncObjectFlags::CROSS_ADAPTER, unsupported),
        (SyncObjectFlags::TOP_OF_PIPELINE, unsupported),
        (SyncObjectFlags::NT_SECURITY_SHARING, BAD),
        (neither, BAD),
        (SyncObjectFlags::from_bits(1 << 10), BAD),
    ] {
        let made = guest.try_fence(device, flags);
        assert_eq!(made.err(), Some(status), "{flags:?}");
    }
    let name = guest.shared_fence(device).global_sync_object;
    for flags in [
        SyncObjectFlags::CROSS_ADAPTER,
        SyncObjectFlags::TOP_OF_PIPELINE,
        SyncObjectFlags::NO_SIGNAL_MAX_VALUE_ON_TDR,
        neither,
        SyncObjectFlags::from_bits(1 << 31),
    ] {
        let opened = guest.open_fence(device, name, flags);
        assert_eq!(opened.err(), Some(BAD), "{flags:?}");
    }
    let body = OpenSyncObject {
        device,
        global_sync_object: name,
        engine_affinity: 2,
        ..OpenSyncObject::default()
    };
    assert_eq!(guest.call(body).err(), Some(BAD), "engines");
    let none = Handle::NONE;
    for (device, name, status) in [
        (none, name, HANDLE),
        (device, none, HANDLE),
        (device, Handle::from_raw(u32::MAX), HANDLE),
        (elsewhere, name, BAD),
    ] {
        let opened = guest.open_fence(device, name, NONE);
        assert_eq!(opened.err(), Some(status));
    }
    let owner = guest.process;
    guest.process = guest.create_process();
    let stolen = guest.open_fence(device, name, NONE);
    assert_eq!(stolen.err(), Some(HANDLE), "another's device");
    guest.call(DestroyProcess).unwrap();
    guest.process = owner;
    let mut names = 1;
    while guest.try_fence(device, SHAREABLE).is_ok() {
        names += 1;
    }
    assert_eq!(names, MAX_SHARED_OBJECTS);
    let census = guest.host.census();
    assert_eq!(census.fence_pages, MAX_SHARED_OBJECTS as u64);
    let sync = guest.open_fence(device, name, NONE).unwrap().sync_object;
    assert_eq!(guest.share(sync), none, "no handle left");
    guest.destroy_fence(sync).unwrap();
    guest.finish();
}

/// Channels that close take names, NT handles and pages with them.
#[test]
fn channels_close() {
    for channel in [Channel::Vgpu(GPU), Channel::Global] {
        let mut guest = Guest::with_process(modern());
        let device = guest.device(1);
        let kept = guest.shared_fence(device);
        guest.share(kept.sync_object);
        guest.destroy_fence(kept.sync_object).unwrap();
        let made = guest.shared_fence(device);
        let name = made.global_sync_object;
        let owner = guest.process;
        guest.process = guest.create_process();
        let device = guest.device(2);
        guest.open_fence(device, name, NONE).unwrap();
        guest.host.channel_closed(channel, &mut guest.world);
        let census = guest.host.census();
        assert_eq!((census.shared_objects, census.fence_pages), (0, 0));
        if channel == Channel::Global {
            guest.assert_empty();
            continue;
        }
        guest.call(DestroyProcess).unwrap();
        guest.process = owner;
        guest.finish();
    }
}
