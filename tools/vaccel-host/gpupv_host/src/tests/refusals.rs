// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bad input, one class at a time, and the status it gets.

use engine::Outcome;
use gpupv::*;

use super::guest::*;
use crate::{Channel, HostConfig};

const BAD: NtStatus = NtStatus::INVALID_PARAMETER;
const HANDLE: NtStatus = NtStatus::INVALID_HANDLE;

/// Messages that are no commands get a bare status if the guest waits for one, and nothing
/// otherwise.
#[test]
fn malformed_messages() {
    let mut guest = Guest::up(modern());
    let status = |guest: &mut Guest, channel, bytes: &[u8]| {
        let transaction = guest.raw(channel, bytes, true);
        let payload = guest.completion(transaction).unwrap();
        assert_eq!(payload.len(), 8, "a bare status");
        NtStatus::from_bits(u32::from_le_bytes(payload[..4].try_into().unwrap()))
    };
    assert_eq!(status(&mut guest, Channel::Global, &[]), BAD);
    assert_eq!(status(&mut guest, Channel::Global, &[0; 39]), BAD);
    let message = |channel: u32, number: u32| {
        let mut bytes = vec![0; 40];
        bytes[0] = 16;
        bytes[28..32].copy_from_slice(&channel.to_le_bytes());
        bytes[32..36].copy_from_slice(&number.to_le_bytes());
        bytes
    };
    for (channel, number) in [(1, 1006), (1, 1020), (1, 5000)] {
        let bytes = message(channel, number);
        let got = status(&mut guest, Channel::Global, &bytes);
        assert_eq!(got, NtStatus::NOT_SUPPORTED, "{number}");
    }
    for number in [3, 27, 64, 69, u32::MAX] {
        let got = status(&mut guest, Channel::Vgpu(GPU), &message(0, number));
        assert_eq!(got, NtStatus::NOT_SUPPORTED, "{number}");
    }
    assert_eq!(status(&mut guest, Channel::Global, &message(2, 0)), BAD);
    let global = message(1, 1000);
    assert_eq!(status(&mut guest, Channel::Vgpu(GPU), &global), BAD);
    let adapter = message(0, 14);
    assert_eq!(
        status(&mut guest, Channel::Global, &adapter),
        BAD,
        "no LUID"
    );
    guest.raw(Channel::Global, &message(1, 5000), false);
    assert!(guest.world.completions.is_empty());
}

/// A command whose counts announce more than there is fails in the shape of its reply.
#[test]
fn malformed_commands() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let body = MakeResident {
        paging_queue: setup.queue.paging_queue,
        ..MakeResident::default()
    };
    let request = Request::new(body, List::EMPTY).unwrap();
    guest.exchange(&request).unwrap();
    let (_, mut message) = guest.sent.pop().unwrap();
    // The count of allocations, behind both headers.
    message[16 + 36] = 100;
    let transaction = guest.raw(Channel::Vgpu(GPU), &message, true);
    let payload = guest.completion(transaction).unwrap();
    let reply = request.parse_reply(guest.version, &payload).unwrap().reply;
    assert_eq!((payload.len(), reply.status), (24, BAD));
    guest.finish();
}

/// Handles that do not exist, are of another kind, of another process or of another device.
#[test]
fn wrong_handles() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let allocation = guest.allocation(setup.device, &[1]);
    let device = guest.device(2);
    let foreign = guest.allocation(device, &[2]);
    for handle in [Handle::NONE, Handle::from_raw(0xffff_ffff), setup.context] {
        let body = DestroyDevice {
            device: handle,
            _pad: 0,
        };
        assert_eq!(guest.call(body), Err(HANDLE), "{handle}");
    }
    let flags = MakeResidentFlags::EMPTY;
    let both = guest.make_resident(&setup, &[allocation, foreign], flags);
    assert_eq!(both, Err(HANDLE));
    assert_eq!(guest.host.census().resident_bytes, 0, "all or nothing");
    let map = guest.map(&setup, foreign, 1, Protection::WRITE);
    assert_eq!(map, Err(HANDLE));
    let owner = guest.process;
    guest.process = guest.create_process();
    let stolen = DestroyDevice {
        device: setup.device,
        _pad: 0,
    };
    assert_eq!(guest.call(stolen), Err(HANDLE));
    guest.call(DestroyProcess).unwrap();
    assert_eq!(guest.call(DestroyProcess), Err(HANDLE));
    guest.process = owner;
    guest.finish();
}

/// Sizes, flags and kinds of allocations.
#[test]
fn allocation_rules() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let none = CreateAllocationFlags::EMPTY;
    for size in [0, 1, 4097, u64::MAX] {
        assert_eq!(guest.heap(setup.device, size, none), Err(BAD), "{size}");
    }
    let huge = guest.heap(setup.device, 1 << 60, none);
    assert_eq!(huge, Err(NtStatus::NO_MEMORY));
    let shared = guest.heap(setup.device, 4096, CreateAllocationFlags::CREATE_SHARED);
    assert_eq!(shared, Err(BAD), "no resource, not by handle");
    let unknown = CreateAllocationFlags::from_bits(1 << 30);
    assert_eq!(guest.heap(setup.device, 4096, unknown), Err(BAD));
    let half = CreateAllocation {
        device: setup.device,
        flags: CreateAllocationFlags::EXISTING_SYSMEM,
        ..CreateAllocation::default()
    };
    let reply = guest.send(half, CreateAllocationTail::default());
    assert_eq!(reply.err(), Some(NtStatus::NOT_SUPPORTED));

    let allocation = guest.heap(setup.device, 2 * 4096, none).unwrap();
    let pages = |alloc_offset_in_pages| SetExistingSysmemPages {
        device: setup.device,
        allocation,
        alloc_offset_in_pages,
        ..SetExistingSysmemPages::default()
    };
    assert_eq!(guest.send(pages(0), List::EMPTY), Err(BAD));
    assert_eq!(guest.send(pages(1), (&[1, 2]).into()), Err(BAD));
    assert_eq!(guest.send(pages(u32::MAX), (&[1]).into()), Err(BAD));
    assert_eq!(guest.send(pages(0), (&[u64::MAX]).into()), Err(BAD));
    assert!(guest.send(pages(1), (&[2]).into()).is_ok());
    assert_eq!(guest.send(pages(1), (&[2]).into()), Err(BAD), "again");

    let destroy = |resource| DestroyAllocation {
        device: setup.device,
        resource,
        ..DestroyAllocation::default()
    };
    let twice = [allocation, allocation];
    assert_eq!(guest.send(destroy(Handle::NONE), (&twice).into()), Err(BAD));
    assert_eq!(guest.send(destroy(Handle::NONE), List::EMPTY), Err(BAD));
    let one = [allocation];
    assert!(guest.send(destroy(Handle::NONE), (&one).into()).is_ok());
    assert_eq!(guest.host.census().pinned_pages, 0);
    guest.finish();
}

/// A resource holds allocations and takes them along; a member is not destroyed as another's.
#[test]
fn resources() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let flags = CreateAllocationFlags::CREATE_RESOURCE;
    guest.heap(setup.device, 4096, flags).unwrap();
    let census = guest.host.census();
    assert_eq!((census.resources, census.allocations), (1, 1));
    let resource = guest
        .host
        .processes
        .get(guest.process)
        .unwrap()
        .objects
        .iter();
    let resource = resource
        .filter(|(_, object)| matches!(object.kind, crate::object::Kind::Resource(_)))
        .map(|(handle, _)| handle)
        .next()
        .unwrap();
    let alone = guest.allocation(setup.device, &[3]);
    let destroy = DestroyAllocation {
        device: setup.device,
        resource,
        ..DestroyAllocation::default()
    };
    assert_eq!(guest.send(destroy, (&[alone]).into()), Err(BAD));
    assert!(guest.send(destroy, List::EMPTY).is_ok());
    let census = guest.host.census();
    assert_eq!((census.resources, census.allocations), (0, 1));
    guest.finish();
}

/// The budget is enforced, says how much to trim, yields to a process that cannot trim further, and
/// the GPU's memory is the limit then.
#[test]
fn budget() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let frames: Vec<u64> = (0..512).collect();
    let buffers: Vec<Handle> = (0..4)
        .map(|_| guest.allocation(setup.device, &frames))
        .collect();
    let none = MakeResidentFlags::EMPTY;
    guest.make_resident(&setup, &buffers[..2], none).unwrap();
    let body = MakeResident {
        paging_queue: setup.queue.paging_queue,
        ..MakeResident::default()
    };
    let request = Request::new(body, List::new(&buffers[2..3])).unwrap();
    let payload = guest.exchange(&request).unwrap();
    let reply = request.parse_reply(guest.version, &payload).unwrap().reply;
    assert_eq!(reply.status, NtStatus::NO_MEMORY);
    assert_eq!(reply.num_bytes_to_trim, 2 * MIB);
    guest.make_resident(&setup, &buffers[..1], none).unwrap();
    let last = MakeResidentFlags::CANT_TRIM_FURTHER;
    guest.make_resident(&setup, &buffers[2..3], last).unwrap();
    let full = guest.make_resident(&setup, &buffers[3..], last);
    assert_eq!(full, Err(NtStatus::NO_MEMORY));
    assert_eq!(guest.host.census().resident_bytes, 6 * MIB);
    let trim = guest.evict(setup.device, &buffers[..1]);
    assert_eq!(
        trim,
        (2 * MIB).to_le_bytes(),
        "still resident: counted twice"
    );
    let trim = guest.evict(setup.device, &buffers[..1]);
    assert_eq!(trim, [0; 8]);
    guest.evict(setup.device, &buffers[..1]);
    assert_eq!(
        guest.host.census().resident_bytes,
        4 * MIB,
        "not below zero"
    );
    let must = MakeResidentFlags::MUST_SUCCEED;
    let failed = guest.make_resident(&setup, &[buffers[0], buffers[3]], must);
    assert_eq!(failed, Err(NtStatus::NO_MEMORY));
    let state = guest.execution_state(setup.device);
    assert_eq!(state, ExecutionState::ERROR_OUT_OF_MEMORY);
    guest.finish();
}

/// Address ranges: bad places and protections, read-only memory, adapter handles.
#[test]
fn addresses() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let allocation = guest.allocation(setup.device, &[1, 2]);
    let write = Protection::WRITE;
    for pages in [0, 3, u64::MAX] {
        let map = guest.map(&setup, allocation, pages, write);
        assert_eq!(map, Err(BAD), "{pages}");
    }
    let both = Protection::ZERO | Protection::NO_ACCESS;
    assert_eq!(guest.map(&setup, Handle::NONE, 1, both), Err(BAD));
    let system = Protection::SYSTEM_USE_ONLY;
    assert_eq!(guest.map(&setup, allocation, 1, system), Err(BAD));
    let flags = CreateAllocationFlags::READ_ONLY;
    let constant = guest.heap(setup.device, 4096, flags).unwrap();
    let map = guest.map(&setup, constant, 1, write);
    assert_eq!(map, Err(NtStatus::ACCESS_DENIED));
    assert!(guest.map(&setup, constant, 1, Protection::EMPTY).is_ok());

    let adapter = GPU.adapter_handle();
    let reserve = ReserveGpuVirtualAddress {
        adapter,
        size: 1 << 20,
        ..ReserveGpuVirtualAddress::default()
    };
    let wrong = ReserveGpuVirtualAddress {
        adapter: setup.device,
        ..reserve
    };
    assert_eq!(guest.call(wrong).err(), Some(HANDLE));
    let odd = ReserveGpuVirtualAddress {
        size: 4097,
        ..reserve
    };
    assert_eq!(guest.call(odd).err(), Some(BAD));
    let base = guest.call(reserve).unwrap().virtual_address;
    let again = ReserveGpuVirtualAddress {
        base_address: base,
        adapter: setup.queue.paging_queue,
        ..reserve
    };
    assert_eq!(guest.call(again).err(), Some(BAD), "taken");
    let free = |base_address, size| FreeGpuVirtualAddress {
        adapter,
        reserved: 0,
        base_address,
        size,
    };
    assert_eq!(guest.call(free(base, 1 << 21)), Err(BAD));
    assert!(guest.call(free(base, 1 << 20)).is_ok());
    assert_eq!(guest.call(free(base, 1 << 20)), Err(BAD));
    guest.finish();
}

/// Fences: kinds, flags, fences of paging queues, and the end of the I/O space.
#[test]
fn fences() {
    let mut guest = Guest::new(modern());
    guest.io_space(IO_BASE, MIB).unwrap();
    guest.call(OpenAdapter::new(guest.version)).unwrap();
    guest.process = guest.create_process();
    let setup = guest.setup();
    let owned = setup.queue.sync_object;
    let destroy = |sync_object| DestroySyncObject {
        sync_object,
        _pad: 0,
    };
    assert_eq!(guest.call(destroy(owned)), Err(BAD));
    let flags = SignalFlags::EMPTY;
    let denied = Err(NtStatus::ACCESS_DENIED);
    assert_eq!(guest.signal_cpu(setup.device, owned, 9, flags), denied);
    let silent = guest.fence(setup.device, SyncObjectFlags::NO_SIGNAL);
    let silent = silent.sync_object;
    assert_eq!(guest.signal_cpu(setup.device, silent, 9, flags), denied);
    let unwaited = guest.fence(setup.device, SyncObjectFlags::NO_WAIT);
    let pair = [(unwaited.sync_object, 1)];
    let none = WaitFromCpuFlags::EMPTY;
    assert_eq!(guest.wait_cpu(setup.device, &pair, none, 2), denied);
    let fence = [(setup.fence.sync_object, 1)];
    assert_eq!(guest.wait_cpu(setup.device, &fence, none, 0), Err(BAD));
    assert_eq!(guest.wait_cpu(setup.device, &[], none, 2), Err(BAD));
    let many = [fence[0]; 33];
    assert_eq!(guest.wait_cpu(setup.device, &many, none, 2), Err(BAD));

    // 256 pages, the last never used, four used by now.
    let info = SyncObjectInfo::monitored_fence(SyncObjectFlags::EMPTY, &MonitoredFence::default());
    let create = CreateSyncObject::new(setup.device, info);
    let fences: Vec<_> = (0..251).map(|_| guest.call(create).unwrap()).collect();
    let highest = fences.iter().map(|f| f.fence_storage_address).max();
    assert_eq!(highest, Some(IO_BASE + 254 * 4096));
    assert_eq!(guest.call(create).err(), Some(NtStatus::NO_MEMORY));
    guest.call(destroy(fences[0].sync_object)).unwrap();
    assert!(guest.call(create).is_ok(), "pages are used again");
    guest.finish();
}

/// Submissions that are refused, and those that run into faults: the device stops, says why, and
/// takes no more work.
#[test]
fn bad_work() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let (_, va) = guest.buffer(&setup, &[1]);
    let submit = |guest: &mut Guest, body| guest.send(body, SubmitTail::default());
    let good = SubmitCommand::new(setup.context, va, 8);
    for body in [
        SubmitCommand::new(setup.context, va, 0),
        SubmitCommand::new(setup.context, va, 2 << 20),
        SubmitCommand {
            broadcast_context_count: 0,
            ..good
        },
        SubmitCommand {
            broadcast_context_count: 65,
            ..good
        },
        SubmitCommand {
            flags: SubmitFlags::from_bits(8),
            ..good
        },
    ] {
        assert_eq!(submit(&mut guest, body), Err(BAD));
    }
    let two = SubmitCommand {
        broadcast_context_count: 2,
        ..good
    };
    assert_eq!(submit(&mut guest, two), Err(HANDLE), "the second is none");
    guest
        .submit(setup.context, (4096, va), |s| {
            s.fill_bytes(va + 4000, 200, 0);
        })
        .unwrap();
    guest.signal_gpu(setup.context, setup.fence.sync_object, 1);
    assert!(matches!(guest.run_all()[..], [Outcome::PageFault(_)]));
    let state = guest.execution_state(setup.device);
    assert_eq!(state, ExecutionState::ERROR_DMA_PAGE_FAULT);
    let body = GetDeviceState::new(setup.device, DeviceStateType::PAGE_FAULT);
    let fault = guest.call(body).unwrap().args.page_fault().unwrap();
    assert_eq!(fault.address, va + 4096);
    assert_eq!(fault.flags, PageFaultFlags::WRITE);
    // Nobody waits for ever: the fence has the highest value, and the guest was told.
    assert_eq!(
        guest.fence_value(setup.fence.fence_storage_address),
        u64::MAX
    );
    let told = |event: &&Event| matches!(event, Event::SetGuestData(_));
    assert_eq!(guest.world.events.iter().filter(told).count(), 1);
    let removed = Err(NtStatus::DEVICE_REMOVED);
    assert_eq!(submit(&mut guest, good), removed);
    guest.finish();
}

/// Malformed commands and memory that is not resident stop the device, another device goes on.
#[test]
fn faults_stay_on_their_device() {
    let mut guest = Guest::with_process(modern());
    let good = guest.setup();
    let bad = guest.setup();
    let (allocation, va) = guest.buffer(&good, &[1]);
    let zeros = SubmitCommand::new(bad.context, va, 16);
    guest.send(zeros, SubmitTail::default()).unwrap();
    assert!(matches!(guest.run_all()[..], [Outcome::BadCommands(_)]));
    let state = guest.execution_state(bad.device);
    assert_eq!(state, ExecutionState::ERROR_DMA_FAULT);
    assert_eq!(guest.execution_state(good.device), ExecutionState::ACTIVE);
    guest.submit(good.context, (4096, va), |_| ()).unwrap();
    assert_eq!(guest.run_all(), [Outcome::Done]);
    guest.evict(good.device, &[allocation]);
    guest.submit(good.context, (4096, va), |_| ()).unwrap();
    assert!(matches!(guest.run_all()[..], [Outcome::PageFault(_)]));
    guest.finish();
}

/// A device marked as failed by the guest is reset; a fence may be exempt from the highest value.
#[test]
fn marked_device() {
    let mut guest = Guest::with_process(HostConfig::default());
    let setup = guest.setup();
    let keeps = SyncObjectFlags::NO_SIGNAL_MAX_VALUE_ON_TDR;
    let keeps = guest.fence(setup.device, keeps);
    let body = MarkDeviceAsError {
        device: setup.device,
        reason: DeviceErrorReason::GENERIC,
    };
    guest.call(body).unwrap();
    assert_eq!(guest.execution_state(setup.device), ExecutionState::RESET);
    assert_eq!(guest.fence_value(keeps.fence_storage_address), 0);
    assert_eq!(
        guest.fence_value(setup.fence.fence_storage_address),
        u64::MAX
    );
    guest.finish();
}

/// Tables have limits: processes, queued work, CPU waits. Reaching one refuses the next and breaks
/// nothing.
#[test]
fn limits() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let full = Err(NtStatus::NO_MEMORY);
    let owner = guest.process;
    let mut processes = Vec::new();
    loop {
        let process = guest.call(CreateProcess::new(1, 1, "p")).unwrap().process;
        if process.is_none() {
            break;
        }
        processes.push(process);
    }
    assert_eq!(processes.len() + 1, crate::MAX_PROCESSES);
    for process in processes {
        guest.process = process;
        guest.call(DestroyProcess).unwrap();
    }
    guest.process = owner;
    guest.wait_gpu(setup.context, setup.fence.sync_object, 1);
    let submit = SubmitCommand::new(setup.context, 0x1_0000, 8);
    for _ in 1..crate::MAX_QUEUED_WORK {
        guest.send(submit, SubmitTail::default()).unwrap();
    }
    assert_eq!(guest.send(submit, SubmitTail::default()), full);
    let pair = [(setup.fence.sync_object, 1)];
    let flags = WaitFromCpuFlags::EMPTY;
    for event in 2..u64::MAX {
        if guest.wait_cpu(setup.device, &pair, flags, event) == full {
            assert_eq!(event, crate::MAX_CPU_WAITS as u64 + 2);
            break;
        }
    }
    guest.finish();
}
