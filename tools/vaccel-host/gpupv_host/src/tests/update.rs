// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reservations that are filled in parts, and changes of addresses in the order of a context.

use engine::{Access, Fault, FaultKind, Outcome};
use gpupv::*;
use vaccel_isa::Segment;

use super::guest::*;

const BAD: NtStatus = NtStatus::INVALID_PARAMETER;
const HANDLE: NtStatus = NtStatus::INVALID_HANDLE;

fn map_part(base: u64, allocation: Handle, offset: u64, size: u64) -> GpuVaChange {
    GpuVaChange::Map {
        base,
        size,
        allocation,
        allocation_offset: offset,
        allocation_size: size,
        protection: None,
    }
}

fn unmap(base: u64, size: u64, protection: Protection) -> GpuVaChange {
    GpuVaChange::Unmap {
        base,
        size,
        protection,
    }
}

fn update(
    guest: &mut Guest,
    setup: &Setup,
    value: u64,
    changes: &[GpuVaChange],
) -> Result<NtStatus, NtStatus> {
    let body = UpdateGpuVirtualAddress {
        fence_value: value,
        device: setup.device,
        context: setup.context,
        fence_object: setup.fence.sync_object,
        ..UpdateGpuVirtualAddress::default()
    };
    let operations: Vec<GpuVaOperation> = changes.iter().map(|c| (*c).into()).collect();
    guest.send(body, List::new(&operations))
}

fn reserve(guest: &mut Guest, size: u64, reservation_type: ReservationType) -> u64 {
    let body = ReserveGpuVirtualAddress {
        adapter: GPU.adapter_handle(),
        size,
        reservation_type,
        ..ReserveGpuVirtualAddress::default()
    };
    guest.call(body).unwrap().virtual_address
}

fn free(guest: &mut Guest, base_address: u64, size: u64) -> Result<NtStatus, NtStatus> {
    guest.call(FreeGpuVirtualAddress {
        adapter: GPU.adapter_handle(),
        reserved: 0,
        base_address,
        size,
    })
}

/// How a job that reads 8 bytes there ends.
fn touch(guest: &mut Guest, setup: &Setup, code: u64, va: u64) -> Outcome {
    guest
        .submit(setup.context, (4096, code), |s| {
            s.copy(code + 2048, va, 8);
        })
        .unwrap();
    guest.run_all()[0]
}

fn not_mapped(va: u64) -> Outcome {
    Outcome::PageFault(Fault {
        va,
        access: Access::Read,
        kind: FaultKind::NotMapped,
    })
}

/// A queued update waits for what is before it, and what is behind it sees the new memory; the
/// fence is set in between.
#[test]
fn in_order() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let (_, code) = guest.buffer(&setup, &[1]);
    let gate = guest.fence(setup.device, SyncObjectFlags::EMPTY);
    let allocation = guest.allocation(setup.device, &[5, 6]);
    let none = MakeResidentFlags::EMPTY;
    guest.make_resident(&setup, &[allocation], none).unwrap();
    let base = reserve(&mut guest, MIB, ReservationType::ZERO);
    guest.put_f32s(6 * 4096, &[4.0, 5.0]);
    guest.put_f32s(4096 + 2048, &[7.0, 7.0]);
    assert_eq!(touch(&mut guest, &setup, code, base + 4096), Outcome::Done);
    assert_eq!(guest.f32s(4096 + 2048, 2), [0.0, 0.0], "zeros are reserved");
    guest.wait_gpu(setup.context, gate.sync_object, 1);
    let changes = [
        map_part(base, allocation, 0, 8192),
        map_part(base + 4096, allocation, 0, 4096),
        map_part(base + 4096, allocation, 4096, 4096),
    ];
    assert!(update(&mut guest, &setup, 3, &changes).is_ok());
    guest
        .submit(setup.context, (4096, code), |s| {
            s.copy(code + 2048, base + 4096, 8);
        })
        .unwrap();
    let value = |guest: &Guest| guest.fence_value(setup.fence.fence_storage_address);
    assert_eq!((value(&guest), guest.world.jobs.len()), (0, 0));
    assert_eq!(guest.host.census().queued_work, 3);
    let none = SignalFlags::EMPTY;
    guest
        .signal_cpu(setup.device, gate.sync_object, 1, none)
        .unwrap();
    assert_eq!(value(&guest), 3);
    assert_eq!(guest.run_all(), [Outcome::Done]);
    assert_eq!(guest.f32s(4096 + 2048, 2), [4.0, 5.0]);
    // A whole reservation goes with everything in it.
    assert!(free(&mut guest, base, MIB).is_ok());
    assert_eq!(guest.host.census().va_ranges, 1);
    guest.finish();
}

/// A copy leads where its source leads when the context reaches it, and to nothing where nothing is.
#[test]
fn copies() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let (_, code) = guest.buffer(&setup, &[1]);
    let allocation = guest.allocation(setup.device, &[5, 6]);
    let none = MakeResidentFlags::EMPTY;
    guest.make_resident(&setup, &[allocation], none).unwrap();
    let base = reserve(&mut guest, MIB, ReservationType::NO_ACCESS);
    guest.put_f32s(6 * 4096, &[4.0, 5.0]);
    let changes = [
        map_part(base, allocation, 0, 8192),
        GpuVaChange::Copy {
            source: base,
            size: 3 * 4096,
            destination: base + 16 * 4096,
        },
        // The copy has been made: this is no part of it.
        unmap(base, 8192, Protection::EMPTY),
    ];
    assert!(update(&mut guest, &setup, 3, &changes).is_ok());
    let copied = base + 17 * 4096;
    assert_eq!(touch(&mut guest, &setup, code, copied), Outcome::Done);
    assert_eq!(guest.f32s(4096 + 2048, 2), [4.0, 5.0]);
    let beyond = base + 18 * 4096;
    let fault = touch(&mut guest, &setup, code, beyond);
    assert_eq!(fault, not_mapped(beyond));
    guest.finish();
}

/// A job that runs keeps the addresses it started with.
#[test]
fn running_jobs_keep_theirs() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let other = guest.context(setup.device);
    let (_, code) = guest.buffer(&setup, &[1]);
    let (allocation, va) = guest.buffer(&setup, &[2]);
    guest
        .submit(other, (4096, code), |s| {
            s.fill_bytes(va, 4, 9);
        })
        .unwrap();
    let gone = [unmap(va, 4096, Protection::EMPTY)];
    assert!(update(&mut guest, &setup, 1, &gone).is_ok());
    assert_eq!(guest.fence_value(setup.fence.fence_storage_address), 1);
    let transaction = {
        let body = DestroyAllocation {
            device: setup.device,
            ..DestroyAllocation::default()
        };
        let list = [allocation];
        guest.post(&Request::new(body, (&list).into()).unwrap())
    };
    assert_eq!(guest.completion(transaction), None, "the job has it still");
    // Behind a job of its own context it waits for that.
    let behind = UpdateGpuVirtualAddress {
        fence_value: 2,
        device: setup.device,
        context: other,
        fence_object: setup.fence.sync_object,
        ..UpdateGpuVirtualAddress::default()
    };
    let operation = unmap(va, 4096, Protection::ZERO).into();
    guest.send(behind, (&[operation]).into()).unwrap();
    assert_eq!(guest.fence_value(setup.fence.fence_storage_address), 1);
    assert_eq!(guest.run_all(), [Outcome::Done]);
    assert!(guest.completion(transaction).is_some());
    assert_eq!(guest.fence_value(setup.fence.fence_storage_address), 2);
    guest.finish();
}

/// What unmapping leaves behind, and mapping with a protection: zeros, or nothing; and the same by
/// MAPGPUVIRTUALADDRESS over a part of a reservation.
#[test]
fn what_stays() {
    for (protection, zero) in [
        (Protection::EMPTY, false),
        (Protection::NO_ACCESS, false),
        (Protection::ZERO, true),
    ] {
        for by in 0..3 {
            let mut guest = Guest::with_process(modern());
            let setup = guest.setup();
            let (_, code) = guest.buffer(&setup, &[1]);
            let (allocation, _) = guest.buffer(&setup, &[2]);
            let base = reserve(&mut guest, MIB, ReservationType::NO_ACCESS);
            let at = base + 8192;
            let part = [map_part(at, allocation, 0, 4096)];
            update(&mut guest, &setup, 1, &part).unwrap();
            let whole_reservation = protection == Protection::EMPTY;
            match by {
                0 => {
                    let gone = [unmap(at, 4096, protection)];
                    update(&mut guest, &setup, 2, &gone).unwrap();
                }
                _ if whole_reservation => continue,
                1 => {
                    let change = GpuVaChange::Map {
                        base: at,
                        size: 4096,
                        allocation: Handle::NONE,
                        allocation_offset: 0,
                        allocation_size: 0,
                        protection: Some((protection, 0)),
                    };
                    update(&mut guest, &setup, 2, &[change]).unwrap();
                }
                _ => {
                    let body = MapGpuVirtualAddress {
                        paging_queue: setup.queue.paging_queue,
                        base_address: at,
                        size_in_pages: 1,
                        protection,
                        ..MapGpuVirtualAddress::default()
                    };
                    guest.call(body).unwrap();
                }
            }
            assert_eq!(guest.host.census().va_ranges, 2 + 3);
            let outcome = touch(&mut guest, &setup, code, at);
            let expected = if zero { Outcome::Done } else { not_mapped(at) };
            assert_eq!(outcome, expected, "{protection:?} {by}");
            assert!(free(&mut guest, base, MIB).is_ok());
            assert_eq!(guest.host.census().va_ranges, 2);
            guest.finish();
        }
    }
}

/// An allocation that is destroyed before its mapping is reached leaves a range without access.
#[test]
fn allocation_gone_meanwhile() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let (_, code) = guest.buffer(&setup, &[1]);
    let gate = guest.fence(setup.device, SyncObjectFlags::EMPTY);
    let local = Segment::Local;
    let allocation = guest.host_allocation(setup.device, 4096, local).unwrap();
    guest.wait_gpu(setup.context, gate.sync_object, 1);
    let part = [map_part(MIB, allocation, 0, 4096)];
    update(&mut guest, &setup, 1, &part).unwrap();
    guest.destroy(setup.device, &[allocation]).unwrap();
    assert_eq!(guest.host.census().committed_bytes, 0);
    // Its handle's index goes to another.
    guest.host_allocation(setup.device, 4096, local).unwrap();
    let none = SignalFlags::EMPTY;
    guest
        .signal_cpu(setup.device, gate.sync_object, 1, none)
        .unwrap();
    assert_eq!(guest.fence_value(setup.fence.fence_storage_address), 1);
    let outcome = touch(&mut guest, &setup, code, MIB);
    assert_eq!(outcome, not_mapped(MIB));
    guest.finish();
}

/// Everything that can be refused at once is, and then nothing is queued.
#[test]
fn refused() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let allocation = guest.allocation(setup.device, &[1, 2]);
    let flags = CreateAllocationFlags::READ_ONLY;
    let constant = guest.heap(setup.device, 4096, flags).unwrap();
    let good = map_part(MIB, allocation, 0, 8192);
    let protect = |protection, allocation| GpuVaChange::Map {
        base: MIB,
        size: 4096,
        allocation,
        allocation_offset: 0,
        allocation_size: 4096,
        protection: Some((protection, 0)),
    };
    let both = Protection::ZERO | Protection::NO_ACCESS;
    let copy = |source, size, destination| GpuVaChange::Copy {
        source,
        size,
        destination,
    };
    let part = |size, allocation_size| GpuVaChange::Map {
        base: MIB,
        size,
        allocation,
        allocation_offset: 0,
        allocation_size,
        protection: None,
    };
    for (change, status) in [
        (map_part(MIB + 1, allocation, 0, 4096), BAD),
        (map_part(MIB, allocation, 1, 4096), BAD),
        (map_part(MIB, allocation, 4096, 8192), BAD),
        (map_part(MIB, allocation, u64::MAX - 4095, 4096), BAD),
        (map_part(MIB, allocation, 0, 0), BAD),
        (map_part(0, allocation, 0, 4096), BAD),
        (map_part(1 << 47, allocation, 0, 4096), BAD),
        (part(8192, 4096), BAD),
        (part(4096, 4095), BAD),
        (map_part(MIB, setup.context, 0, 4096), HANDLE),
        (map_part(MIB, Handle::NONE, 0, 4096), HANDLE),
        (protect(Protection::SYSTEM_USE_ONLY, allocation), BAD),
        (protect(both, allocation), BAD),
        (
            protect(Protection::WRITE, constant),
            NtStatus::ACCESS_DENIED,
        ),
        (unmap(MIB, 1, Protection::EMPTY), BAD),
        (unmap(MIB, 4096, Protection::WRITE), BAD),
        (unmap(MIB, 4096, both), BAD),
        (unmap(MIB, u64::MAX - 4095, Protection::EMPTY), BAD),
        (copy(MIB, 1, 2 * MIB), BAD),
        (copy(MIB + 1, 4096, 2 * MIB), BAD),
        (copy(MIB, 4096, 1 << 47), BAD),
        (copy(MIB, u64::MAX - 4095, 2 * MIB), BAD),
        (copy(0, 4096, MIB), BAD),
    ] {
        let result = update(&mut guest, &setup, 1, &[good, change]);
        assert_eq!(result, Err(status), "{change:?}");
    }
    assert!(update(&mut guest, &setup, 1, &[part(4096, 8192)]).is_ok());
    assert_eq!(update(&mut guest, &setup, 1, &[]), Err(BAD));
    let unknown = GpuVaOperation {
        operation: GpuVaOperationType::from_raw(4),
        _pad: 0,
        words: [0; 7],
    };
    let body = UpdateGpuVirtualAddress {
        device: setup.device,
        context: setup.context,
        ..UpdateGpuVirtualAddress::default()
    };
    assert_eq!(guest.send(body, (&[unknown]).into()), Err(BAD));
    let good: [GpuVaOperation; 1] = [good.into()];
    let second = guest.setup();
    for (bad, status) in [
        (
            UpdateGpuVirtualAddress {
                context: second.context,
                ..body
            },
            HANDLE,
        ),
        (
            UpdateGpuVirtualAddress {
                context: Handle::NONE,
                ..body
            },
            HANDLE,
        ),
        (
            UpdateGpuVirtualAddress {
                device: Handle::NONE,
                ..body
            },
            HANDLE,
        ),
        (
            UpdateGpuVirtualAddress {
                fence_object: second.fence.sync_object,
                ..body
            },
            HANDLE,
        ),
        (
            UpdateGpuVirtualAddress {
                fence_object: setup.queue.sync_object,
                ..body
            },
            NtStatus::ACCESS_DENIED,
        ),
        (
            UpdateGpuVirtualAddress {
                flags: UpdateGpuVaFlags::from_bits(2),
                ..body
            },
            BAD,
        ),
    ] {
        assert_eq!(guest.send(bad, (&good).into()), Err(status), "{bad:?}");
    }
    let waits = UpdateGpuVirtualAddress {
        flags: UpdateGpuVaFlags::DO_NOT_WAIT,
        ..body
    };
    assert!(guest.send(waits, (&good).into()).is_ok(), "no fence");
    guest.finish();
}

/// The longest list that fits in a message is taken; queued changes have a limit, and go with the
/// device.
#[test]
fn limits() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let gate = guest.fence(setup.device, SyncObjectFlags::EMPTY);
    guest.wait_gpu(setup.context, gate.sync_object, 1);
    let most = MAX_UPDATE_OPERATIONS as usize;
    let changes = vec![unmap(MIB, 4096, Protection::EMPTY); most];
    let mut queued = 0;
    while update(&mut guest, &setup, 1, &changes).is_ok() {
        queued += most;
        guest.sent.clear();
    }
    assert!(queued <= crate::MAX_VM_QUEUED_CHANGES && queued + most > crate::MAX_VM_QUEUED_CHANGES);
    let device = setup.device;
    let reason = FlushReason::DEVICE_TERMINATE;
    guest.call(FlushDevice { device, reason }).unwrap();
    guest.wait_gpu(setup.context, gate.sync_object, 1);
    assert!(update(&mut guest, &setup, 1, &changes).is_ok());
    assert!(update(&mut guest, &setup, 1, &changes).is_ok());
    guest.finish();
}
