// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory that is offered, dropped and reclaimed; priorities and properties.

use engine::{Access, Fault, FaultKind, Outcome};
use gpupv::*;
use vaccel_isa::{AllocationData, Segment};

use super::guest::*;
use crate::HostMemory;

const BAD: NtStatus = NtStatus::INVALID_PARAMETER;
const HANDLE: NtStatus = NtStatus::INVALID_HANDLE;
const FULL: NtStatus = NtStatus::NO_MEMORY;
const OK: ReclaimResult = ReclaimResult::OK;
const DISCARDED: ReclaimResult = ReclaimResult::DISCARDED;
const NOT_COMMITTED: ReclaimResult = ReclaimResult::NOT_COMMITTED;
const NORMAL: OfferPriority = OfferPriority::NORMAL;

fn offer(
    guest: &mut Guest,
    device: Handle,
    list: &[Handle],
    priority: OfferPriority,
    flags: OfferFlags,
) -> Result<NtStatus, NtStatus> {
    let body = OfferAllocations {
        device,
        priority,
        flags,
        ..OfferAllocations::default()
    };
    guest.send(body, List::new(list))
}

fn reclaim_as(
    guest: &mut Guest,
    setup: &Setup,
    list: &[Handle],
    resources: bool,
) -> Result<(u64, NtStatus, Vec<ReclaimResult>), NtStatus> {
    let body = ReclaimAllocations {
        device: setup.device,
        paging_queue: setup.queue.paging_queue,
        resources: resources.into(),
        write_results: true.into(),
        ..ReclaimAllocations::default()
    };
    let request = Request::new(body, List::new(list)).unwrap();
    let payload = guest.exchange(&request).unwrap();
    match request.parse_reply(guest.version, &payload) {
        Ok(answer) if answer.status().is_error() => Err(answer.status()),
        Ok(answer) => {
            let fence = answer.reply.paging_fence_value.get();
            Ok((fence, answer.reply.status, answer.tail.iter().collect()))
        }
        Err(ReplyError::Failed(status)) => Err(status),
        Err(error) => panic!("{error}"),
    }
}

fn reclaim(
    guest: &mut Guest,
    setup: &Setup,
    list: &[Handle],
) -> Result<Vec<ReclaimResult>, NtStatus> {
    reclaim_as(guest, setup, list, false).map(|(_, _, results)| results)
}

/// Allocations of these sizes in the GPU's memory.
fn make(guest: &mut Guest, setup: &Setup, sizes: &[u64]) -> Vec<Handle> {
    let make = |size: &u64| guest.host_allocation(setup.device, *size, Segment::Local);
    sizes.iter().map(make).collect::<Result<_, _>>().unwrap()
}

/// An offered allocation is out of reach and keeps its residency; reclaimed in time, its content is
/// as it was, and the paging queue says when.
#[test]
fn kept() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let (_, code) = guest.buffer(&setup, &[1, 2]);
    let made = make(&mut guest, &setup, &[4096]);
    let none = MakeResidentFlags::EMPTY;
    guest.make_resident(&setup, &made, none).unwrap();
    let va = guest
        .map(&setup, made[0], 1, Protection::WRITE)
        .unwrap()
        .virtual_address;
    let copy = |guest: &mut Guest, context, to: u64, from: u64| {
        guest
            .submit(context, (4096, code), |s| {
                s.copy(to, from, 16);
            })
            .unwrap();
        guest.run_all()
    };
    guest.put_f32s(2 * 4096, &[3.0; 4]);
    assert_eq!(
        copy(&mut guest, setup.context, va, code + 4096),
        [Outcome::Done]
    );
    let empty = OfferFlags::EMPTY;
    assert!(offer(&mut guest, setup.device, &made, NORMAL, empty).is_ok());
    let census = guest.host.census();
    assert_eq!(
        (census.offered_bytes, census.resident_local_bytes),
        (4096, 4096)
    );
    let again = offer(&mut guest, setup.device, &made, NORMAL, empty);
    assert_eq!(again, Err(BAD), "offered already");
    assert_eq!(guest.lock(setup.device, made[0]), Err(BAD));
    // More residency gives no access either.
    guest.make_resident(&setup, &made, none).unwrap();
    let other = guest.context(setup.device);
    let (fence, status, results) = reclaim_as(&mut guest, &setup, &made, false).unwrap();
    assert_eq!((status, results), (NtStatus::PENDING, vec![OK]));
    let address = setup.queue.fence_storage_physical_address;
    assert_eq!(guest.fence_value(address), fence);
    guest.put_f32s(2 * 4096, &[0.0; 4]);
    assert_eq!(copy(&mut guest, other, code + 4096, va), [Outcome::Done]);
    assert_eq!(guest.f32s(2 * 4096, 4), [3.0; 4]);
    assert_eq!(
        reclaim(&mut guest, &setup, &made),
        Ok(vec![OK]),
        "not offered"
    );
    assert!(offer(&mut guest, setup.device, &made, NORMAL, empty).is_ok());
    let fault = Outcome::PageFault(Fault {
        va,
        access: Access::Read,
        kind: FaultKind::NotResident,
    });
    assert_eq!(copy(&mut guest, setup.context, code + 4096, va), [fault]);
    guest.finish();
}

/// Offered to go at once, content is gone at once: its memory costs nothing, it does not count as
/// resident, and it is zero when it comes back; what was allowed to is not committed meanwhile.
#[test]
fn dropped_at_once() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let made = make(&mut guest, &setup, &[MIB, MIB]);
    let none = MakeResidentFlags::EMPTY;
    guest.make_resident(&setup, &made, none).unwrap();
    let address = guest.lock(setup.device, made[0]).unwrap();
    let (memory, at) = guest.seen(address).unwrap();
    memory.write(at, &[7; 8]).unwrap();
    let now = OfferFlags::OFFER_IMMEDIATELY;
    offer(&mut guest, setup.device, &made[..1], NORMAL, now).unwrap();
    assert_eq!(
        reclaim(&mut guest, &setup, &made[..1]),
        Ok(vec![OK]),
        "locked"
    );
    guest.unlock(setup.device, made[0]).unwrap();
    offer(&mut guest, setup.device, &made[..1], NORMAL, now).unwrap();
    let entirely = now | OfferFlags::ALLOW_DECOMMIT;
    offer(&mut guest, setup.device, &made[1..], NORMAL, entirely).unwrap();
    let census = guest.host.census();
    assert_eq!((census.resident_bytes, census.committed_bytes), (0, MIB));
    assert_eq!(census.offered_bytes, 2 * MIB);
    assert_eq!(memory.pages(), 0);
    let results = reclaim(&mut guest, &setup, &made);
    assert_eq!(results, Ok(vec![DISCARDED, NOT_COMMITTED]));
    let census = guest.host.census();
    assert_eq!(
        (census.resident_bytes, census.committed_bytes),
        (2 * MIB, 2 * MIB)
    );
    let mut bytes = [1; 8];
    memory.read(at, &mut bytes).unwrap();
    assert_eq!(bytes, [0; 8]);
    assert_eq!(guest.evict(setup.device, &made), [0; 8]);
    assert_eq!(guest.host.census().resident_bytes, 0);
    guest.finish();
}

/// Under pressure the cheapest goes first, then the oldest; AUTO goes by the priority of the
/// allocation; guest memory and shared content never go.
#[test]
fn order() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let device = setup.device;
    let made = make(&mut guest, &setup, &[4096; 6]);
    let pages = guest.allocation(device, &[1]);
    let flags = CreateAllocationFlags::CREATE_RESOURCE
        | CreateAllocationFlags::CREATE_SHARED
        | CreateAllocationFlags::NT_SECURITY_SHARING;
    let data = AllocationData {
        size: 4096,
        segment: Segment::Local,
    };
    let created = guest.create(device, Handle::NONE, flags, &[&data.to_bytes()]);
    let (reply, entries) = created.unwrap();
    let name = guest
        .call(CreateNtSharedObject {
            object: reply.resource,
            _pad: 0,
        })
        .unwrap()
        .shared_handle;
    let body = SetAllocationPriority {
        device,
        ..SetAllocationPriority::default()
    };
    let ranked = [made[4], made[5]];
    let tail = PriorityTail {
        allocations: (&ranked).into(),
        priorities: (&[0x2800_0000, 0xc800_0000]).into(),
    };
    guest.send(body, tail).unwrap();
    let empty = OfferFlags::EMPTY;
    let mut give = |handle, priority| {
        offer(&mut guest, device, &[handle], priority, empty).unwrap();
    };
    give(made[5], OfferPriority::AUTO);
    give(made[0], OfferPriority::HIGH);
    give(made[1], OfferPriority::NORMAL);
    give(made[2], OfferPriority::LOW);
    give(pages, OfferPriority::LOW);
    give(entries[0].allocation, OfferPriority::LOW);
    give(made[3], OfferPriority::LOW);
    give(made[4], OfferPriority::AUTO);
    let mut seen = Vec::new();
    for _ in 0..6 {
        assert_eq!(guest.host.pressure(GPU, 1), Some(4096));
        let gone = |handle: &Handle| {
            let process = guest.host.processes.get(guest.process).unwrap();
            let dropped = process.allocation(GPU, *handle).unwrap().is_dropped();
            dropped && !seen.contains(handle)
        };
        let next = *made.iter().find(|handle| gone(handle)).unwrap();
        seen.push(next);
    }
    assert_eq!(seen, [made[2], made[3], made[4], made[1], made[5], made[0]]);
    assert_eq!(guest.host.pressure(GPU, u64::MAX), Some(0));
    assert_eq!(guest.host.pressure(crate::VgpuId(1), 1), None);
    let list = [pages, entries[0].allocation, made[0]];
    let results = reclaim(&mut guest, &setup, &list);
    assert_eq!(results, Ok(vec![OK, OK, DISCARDED]));
    guest
        .call(DestroyNtSharedObject {
            shared_handle: name,
            _pad: 0,
        })
        .unwrap();
    guest.finish();
}

/// An allocation that needs what offers have committed gets it, and none is dropped in vain;
/// reclaiming commits again, if there is room.
#[test]
fn short_of_commit() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let made = make(&mut guest, &setup, &[8 * MIB, 4 * MIB, 4 * MIB]);
    let entirely = OfferFlags::ALLOW_DECOMMIT;
    offer(&mut guest, setup.device, &made[1..2], NORMAL, entirely).unwrap();
    let kept = OfferFlags::EMPTY;
    offer(&mut guest, setup.device, &made[2..], NORMAL, kept).unwrap();
    let more = guest.host_allocation(setup.device, 8 * MIB, Segment::Local);
    assert_eq!(more, Err(FULL));
    assert_eq!(reclaim(&mut guest, &setup, &made[1..]), Ok(vec![OK, OK]));
    offer(&mut guest, setup.device, &made[1..2], NORMAL, entirely).unwrap();
    let new = guest
        .host_allocation(setup.device, 2 * MIB, Segment::Local)
        .unwrap();
    assert_eq!(guest.host.census().committed_bytes, 14 * MIB);
    assert_eq!(reclaim(&mut guest, &setup, &made[1..2]), Err(FULL));
    assert_eq!(guest.host.census().offered_bytes, 4 * MIB, "still offered");
    // Reclaiming drops what others have offered.
    offer(&mut guest, setup.device, &[new], NORMAL, entirely).unwrap();
    let results = reclaim(&mut guest, &setup, &made[1..2]);
    assert_eq!(results, Ok(vec![NOT_COMMITTED]));
    assert_eq!(reclaim(&mut guest, &setup, &[new]), Err(FULL));
    guest.destroy(setup.device, &made[..1]).unwrap();
    assert_eq!(reclaim(&mut guest, &setup, &[new]), Ok(vec![NOT_COMMITTED]));
    assert_eq!(guest.host.census().committed_bytes, 10 * MIB);
    guest.finish();
}

/// What is reclaimed together does not pay for each other: when there is no room, all of it is
/// offered as before, and can still be dropped.
#[test]
fn reclaiming_does_not_drop_its_own() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let made = make(&mut guest, &setup, &[8 * MIB, 4 * MIB, 4 * MIB]);
    let entirely = OfferFlags::ALLOW_DECOMMIT;
    let now = entirely | OfferFlags::OFFER_IMMEDIATELY;
    offer(&mut guest, setup.device, &made[1..2], NORMAL, now).unwrap();
    make(&mut guest, &setup, &[4 * MIB]);
    offer(&mut guest, setup.device, &made[2..], NORMAL, entirely).unwrap();
    assert_eq!(reclaim(&mut guest, &setup, &made[1..]), Err(FULL));
    assert_eq!(guest.host.census().offered_bytes, 8 * MIB);
    assert_eq!(guest.host.pressure(GPU, u64::MAX), Some(4 * MIB));
    assert_eq!(
        reclaim(&mut guest, &setup, &made[2..]),
        Ok(vec![NOT_COMMITTED])
    );
    guest.finish();
}

/// Residency that memory is short for takes it from offers of the same group; what was dropped is
/// not resident until it is reclaimed, for which there has to be memory.
#[test]
fn short_of_memory() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let made = make(&mut guest, &setup, &[3 * MIB, 4 * MIB]);
    let far = guest
        .host_allocation(setup.device, 3 * MIB, Segment::NonLocal)
        .unwrap();
    let none = MakeResidentFlags::EMPTY;
    guest.make_resident(&setup, &[made[0], far], none).unwrap();
    let kept = OfferFlags::EMPTY;
    offer(&mut guest, setup.device, &[far, made[0]], NORMAL, kept).unwrap();
    let over = guest.make_resident(&setup, &made[1..], none);
    assert_eq!(over, Err(FULL), "over budget: nothing is dropped for that");
    assert_eq!(reclaim(&mut guest, &setup, &made[..1]), Ok(vec![OK]));
    offer(&mut guest, setup.device, &made[..1], NORMAL, kept).unwrap();
    let last = MakeResidentFlags::CANT_TRIM_FURTHER;
    guest.make_resident(&setup, &made[1..], last).unwrap();
    let census = guest.host.census();
    assert_eq!(census.resident_local_bytes, 4 * MIB);
    assert_eq!(census.resident_non_local_bytes, 3 * MIB);
    assert_eq!(reclaim(&mut guest, &setup, &made[..1]), Err(FULL));
    assert_eq!(reclaim(&mut guest, &setup, &[far]), Ok(vec![OK]));
    // Reclaiming takes it from offers, too.
    offer(&mut guest, setup.device, &made[1..], NORMAL, kept).unwrap();
    let back = reclaim(&mut guest, &setup, &made[..1]);
    assert_eq!(back, Ok(vec![DISCARDED]));
    assert_eq!(guest.host.census().resident_local_bytes, 3 * MIB);
    assert_eq!(reclaim(&mut guest, &setup, &made[1..]), Err(FULL));
    guest.evict(setup.device, &made[..1]);
    let back = reclaim(&mut guest, &setup, &made[1..]);
    assert_eq!(back, Ok(vec![DISCARDED]));
    assert_eq!(guest.host.census().resident_local_bytes, 4 * MIB);
    guest.finish();
}

/// Resources are offered and reclaimed whole; the result is the worst of their allocations.
#[test]
fn resources() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let data = AllocationData {
        size: 4096,
        segment: Segment::Local,
    };
    let data = data.to_bytes();
    let flags = CreateAllocationFlags::CREATE_RESOURCE;
    let created = guest.create(setup.device, Handle::NONE, flags, &[&data, &data]);
    let (reply, entries) = created.unwrap();
    let body = OfferAllocations {
        device: setup.device,
        priority: NORMAL,
        resources: true.into(),
        ..OfferAllocations::default()
    };
    let list = [reply.resource];
    guest.send(body, (&list).into()).unwrap();
    assert_eq!(guest.send(body, (&list).into()), Err(BAD), "again");
    assert_eq!(guest.host.pressure(GPU, 1), Some(4096));
    let results = reclaim_as(&mut guest, &setup, &list, true).unwrap().2;
    assert_eq!(results, [DISCARDED]);
    let handle = entries[0].allocation;
    assert_eq!(guest.send(body, (&[handle]).into()), Err(HANDLE));
    assert_eq!(reclaim_as(&mut guest, &setup, &list, false), Err(HANDLE));
    // Destroyed while it is offered, half of it dropped.
    guest.send(body, (&list).into()).unwrap();
    assert_eq!(guest.host.pressure(GPU, 1), Some(4096));
    let destroy = DestroyAllocation {
        device: setup.device,
        resource: reply.resource,
        ..DestroyAllocation::default()
    };
    guest.send(destroy, List::EMPTY).unwrap();
    assert_eq!(guest.host.pressure(GPU, 1), Some(0));
    guest.finish();
}

/// Bad lists, flags, priorities and queues are refused, and nothing is offered then.
#[test]
fn refused() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let other = guest.setup();
    let made = make(&mut guest, &setup, &[4096, 4096]);
    let (device, empty) = (setup.device, OfferFlags::EMPTY);
    for (list, expected) in [
        (vec![], BAD),
        (vec![made[0], made[0]], BAD),
        (vec![made[0], Handle::NONE], HANDLE),
        (vec![made[0]; 10_241], BAD),
    ] {
        let result = offer(&mut guest, device, &list, NORMAL, empty);
        assert_eq!(result, Err(expected));
        assert_eq!(reclaim(&mut guest, &setup, &list), Err(expected));
    }
    let unknown = OfferFlags::from_bits(4);
    assert_eq!(offer(&mut guest, device, &made, NORMAL, unknown), Err(BAD));
    for priority in [0, 5] {
        let priority = OfferPriority::from_raw(priority);
        assert_eq!(offer(&mut guest, device, &made, priority, empty), Err(BAD));
    }
    let foreign = offer(&mut guest, other.device, &made, NORMAL, empty);
    assert_eq!(foreign, Err(HANDLE));
    let mixed = Setup { device, ..other };
    assert_eq!(reclaim(&mut guest, &mixed, &made), Err(HANDLE));
    assert_eq!(guest.host.census().offered_bytes, 0);
    guest.finish();
}

/// Priorities are read as they were set, of allocations and of resources; a new one has the normal.
#[test]
fn priorities() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let device = setup.device;
    let data = AllocationData {
        size: 4096,
        segment: Segment::Local,
    };
    let flags = CreateAllocationFlags::CREATE_RESOURCE;
    let created = guest.create(
        device,
        Handle::NONE,
        flags,
        &[&data.to_bytes(); 2].map(|d| &d[..]),
    );
    let (reply, entries) = created.unwrap();
    let pair = [entries[0].allocation, entries[1].allocation];
    let set = |guest: &mut Guest, resource, list: &[Handle], priorities: &[u32]| {
        let body = SetAllocationPriority {
            device,
            resource,
            ..SetAllocationPriority::default()
        };
        let tail = PriorityTail {
            allocations: List::new(list),
            priorities: List::new(priorities),
        };
        guest.send(body, tail)
    };
    let get = |guest: &mut Guest, resource, list: &[Handle]| {
        let body = GetAllocationPriority {
            device,
            resource,
            ..GetAllocationPriority::default()
        };
        let request = Request::new(body, List::new(list)).unwrap();
        let payload = guest.exchange(&request).unwrap();
        let answer = request.parse_reply(guest.version, &payload).unwrap();
        answer.reply.status.ok()?;
        Ok::<_, NtStatus>(answer.tail.iter().collect::<Vec<u32>>())
    };
    let none = Handle::NONE;
    assert_eq!(get(&mut guest, none, &pair), Ok(vec![0x7800_0000; 2]));
    assert!(set(&mut guest, none, &pair, &[1, 2]).is_ok());
    assert_eq!(get(&mut guest, none, &pair), Ok(vec![1, 2]));
    assert_eq!(get(&mut guest, reply.resource, &[]), Ok(vec![1]));
    assert!(set(&mut guest, reply.resource, &[], &[3]).is_ok());
    assert_eq!(get(&mut guest, none, &pair), Ok(vec![3, 3]));
    let both = set(&mut guest, reply.resource, &pair, &[1, 2]);
    assert_eq!(both, Err(BAD));
    assert_eq!(set(&mut guest, none, &[], &[1]), Err(BAD));
    assert_eq!(get(&mut guest, none, &[none]), Err(HANDLE));
    guest.finish();
}

/// Properties are checked and reported through the paging queue.
#[test]
fn properties() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let made = make(&mut guest, &setup, &[4096]);
    let good = UpdateAllocationProperty {
        paging_queue: setup.queue.paging_queue,
        allocation: made[0],
        supported_segment_set: 3,
        preferred_segment: SegmentPreference::from_bits(1 | 2 << 6),
        property_mask: PropertyMask::SUPPORTED_SEGMENT_SET | PropertyMask::PREFERRED_SEGMENT,
        ..UpdateAllocationProperty::default()
    };
    let reply = guest.call(good).unwrap();
    assert_eq!(reply.status, NtStatus::PENDING);
    let address = setup.queue.fence_storage_physical_address;
    assert_eq!(guest.fence_value(address), reply.paging_fence_value);
    let preferred = |bits| UpdateAllocationProperty {
        preferred_segment: SegmentPreference::from_bits(bits),
        ..good
    };
    let set = |supported_segment_set| UpdateAllocationProperty {
        supported_segment_set,
        ..good
    };
    let mask = UpdateAllocationProperty {
        property_mask: PropertyMask::from_bits(8),
        ..good
    };
    for bad in [set(0), set(4), preferred(3), preferred(1 << 30), mask] {
        assert_eq!(guest.call(bad).err(), Some(BAD), "{bad:?}");
    }
    let foreign = UpdateAllocationProperty {
        paging_queue: made[0],
        ..good
    };
    assert_eq!(guest.call(foreign).err(), Some(HANDLE));
    guest.finish();
}
