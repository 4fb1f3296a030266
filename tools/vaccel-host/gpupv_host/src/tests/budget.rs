// SPDX-License-Identifier: MIT OR Apache-2.0
//! Residency, budgets and reservations, by segment group.

use gpupv::*;
use vaccel_isa::Segment;

use super::guest::*;

const BAD: NtStatus = NtStatus::INVALID_PARAMETER;
const FULL: NtStatus = NtStatus::NO_MEMORY;

fn ask(guest: &mut Guest, group: MemorySegmentGroup) -> VideoMemoryInfo {
    let body = QueryVideoMemoryInfo {
        adapter: GPU.adapter_handle(),
        memory_segment_group: group,
        ..QueryVideoMemoryInfo::default()
    };
    guest.call(body).unwrap()
}

fn reserve(
    guest: &mut Guest,
    group: MemorySegmentGroup,
    reservation: u64,
) -> Result<NtStatus, NtStatus> {
    guest.call(ChangeVideoMemoryReservation {
        memory_segment_group: group,
        reservation,
        ..ChangeVideoMemoryReservation::default()
    })
}

/// The status and the bytes to trim of a MAKERESIDENT, whether it succeeds or not.
fn residency(
    guest: &mut Guest,
    setup: &Setup,
    flags: MakeResidentFlags,
    list: &[Handle],
) -> (NtStatus, u64) {
    let body = MakeResident {
        paging_queue: setup.queue.paging_queue,
        flags,
        ..MakeResident::default()
    };
    let request = Request::new(body, List::new(list)).unwrap();
    let payload = guest.exchange(&request).unwrap();
    let reply = request.parse_reply(guest.version, &payload).unwrap().reply;
    (reply.status, reply.num_bytes_to_trim)
}

/// Each group has its own budget and memory: what is short in one is said, the other does not
/// matter, and a list that does not fit changes nothing.
#[test]
fn groups_are_apart() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let mut made = |size, segment| guest.host_allocation(setup.device, size, segment).unwrap();
    let near = made(3 * MIB, Segment::Local);
    let near_too = made(2 * MIB, Segment::Local);
    let far = made(4 * MIB, Segment::NonLocal);
    let pages = guest.allocation(setup.device, &[1, 2]);
    let none = MakeResidentFlags::EMPTY;
    let done = (NtStatus::PENDING, 0);
    assert_eq!(residency(&mut guest, &setup, none, &[near, far]), done);
    let census = guest.host.census();
    assert_eq!(census.resident_local_bytes, 3 * MIB);
    assert_eq!(census.resident_non_local_bytes, 4 * MIB);
    assert_eq!(census.resident_bytes, 7 * MIB);
    // Guest memory is the host's, and there the budget is used up.
    let over = residency(&mut guest, &setup, none, &[pages]);
    assert_eq!(over, (FULL, 8192));
    let over = residency(&mut guest, &setup, none, &[near_too]);
    assert_eq!(over, (FULL, MIB));
    let over = residency(&mut guest, &setup, none, &[near_too, pages]);
    assert_eq!(over, (FULL, MIB), "the larger");
    let last = MakeResidentFlags::CANT_TRIM_FURTHER;
    let both = [near_too, pages];
    assert_eq!(residency(&mut guest, &setup, last, &both), done);
    let usage = |guest: &mut Guest, group| {
        let info = ask(guest, group);
        (info.budget, info.current_usage)
    };
    let local = usage(&mut guest, MemorySegmentGroup::LOCAL);
    assert_eq!(local, (4 * MIB, 5 * MIB));
    let non_local = usage(&mut guest, MemorySegmentGroup::NON_LOCAL);
    assert_eq!(non_local, (4 * MIB, 4 * MIB + 8192));
    let trim = guest.evict(setup.device, &[pages]);
    assert_eq!(trim, MIB.to_le_bytes(), "of the other group");
    let more = guest
        .host_allocation(setup.device, 4096, Segment::Local)
        .unwrap();
    assert_eq!(
        residency(&mut guest, &setup, last, &[more]),
        (FULL, MIB + 4096)
    );
    guest.finish();
}

/// A budget that is changed holds from the next command on, for this group only, and can be taken
/// back.
#[test]
fn budgets_change() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let near = guest
        .host_allocation(setup.device, MIB, Segment::Local)
        .unwrap();
    let far = guest
        .host_allocation(setup.device, MIB, Segment::NonLocal)
        .unwrap();
    assert!(guest.host.set_budget(GPU, Segment::Local, Some(4096)));
    assert!(!guest
        .host
        .set_budget(crate::VgpuId(1), Segment::Local, None));
    let local = MemorySegmentGroup::LOCAL;
    assert_eq!(ask(&mut guest, local).budget, 4096);
    let none = MakeResidentFlags::EMPTY;
    let over = residency(&mut guest, &setup, none, &[near]);
    assert_eq!(over, (FULL, MIB - 4096));
    let done = (NtStatus::PENDING, 0);
    assert_eq!(residency(&mut guest, &setup, none, &[far]), done);
    assert!(guest.host.set_budget(GPU, Segment::Local, None));
    assert_eq!(residency(&mut guest, &setup, none, &[near]), done);
    assert!(guest.host.set_budget(GPU, Segment::Local, Some(0)));
    let more = guest
        .host_allocation(setup.device, 4096, Segment::NonLocal)
        .unwrap();
    let other_group = residency(&mut guest, &setup, none, &[more]);
    assert_eq!(other_group, done, "nothing more of what is over");
    guest.evict(setup.device, &[more]);
    let trim = guest.evict(setup.device, &[far]);
    assert_eq!(trim, MIB.to_le_bytes());
    guest.finish();
}

/// Processes share half of the budget for reservations, by group; one above what is left is
/// refused, and they go with their process or adapter.
#[test]
fn reservations() {
    let mut guest = Guest::with_process(modern());
    let (local, other) = (MemorySegmentGroup::LOCAL, MemorySegmentGroup::NON_LOCAL);
    assert_eq!(ask(&mut guest, local).available_for_reservation, 2 * MIB);
    assert!(reserve(&mut guest, local, 2 * MIB).is_ok());
    assert_eq!(reserve(&mut guest, local, 2 * MIB + 1), Err(BAD));
    assert!(reserve(&mut guest, local, MIB).is_ok());
    let info = ask(&mut guest, local);
    assert_eq!(info.current_reservation, MIB);
    assert_eq!(info.available_for_reservation, 2 * MIB);
    assert_eq!(ask(&mut guest, other).current_reservation, 0);
    assert_eq!(
        reserve(&mut guest, MemorySegmentGroup::from_raw(2), 0),
        Err(BAD)
    );
    let foreign = ChangeVideoMemoryReservation {
        process: 1,
        ..ChangeVideoMemoryReservation::default()
    };
    assert_eq!(guest.call(foreign), Err(BAD));
    let first = guest.process;
    guest.process = guest.create_process();
    assert_eq!(ask(&mut guest, local).available_for_reservation, MIB);
    assert_eq!(reserve(&mut guest, local, MIB + 1), Err(BAD));
    assert!(reserve(&mut guest, other, MIB).is_ok());
    assert_eq!(guest.host.census().reserved_bytes, 2 * MIB);
    guest.call(DestroyProcess).unwrap();
    guest.process = first;
    assert_eq!(guest.host.census().reserved_bytes, MIB);
    let adapter = GPU.adapter_handle();
    guest.call(CloseAdapter { adapter, _pad: 0 }).unwrap();
    assert_eq!(guest.host.census().reserved_bytes, 0);
    guest.finish();
}

/// The same guest pages may be several allocations, of devices and of processes.
#[test]
fn pages_more_than_once() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let (_, first) = guest.buffer(&setup, &[1, 5]);
    let again = guest.setup();
    guest.buffer(&again, &[5]);
    let owner = guest.process;
    guest.process = guest.create_process();
    let other = guest.setup();
    let (_, va) = guest.buffer(&other, &[5, 6]);
    guest
        .submit(other.context, (6 * 4096, va + 4096), |s| {
            s.fill_words(va, 16, 0x4000_0000);
        })
        .unwrap();
    guest.run_all();
    guest.call(DestroyProcess).unwrap();
    guest.process = owner;
    guest
        .submit(setup.context, (4096, first), |s| {
            s.copy(first + 4096 + 16, first + 4096, 16);
        })
        .unwrap();
    guest.run_all();
    assert_eq!(guest.f32s(5 * 4096 + 16, 4), [2.0; 4]);
    guest.finish();
}
