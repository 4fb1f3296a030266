// SPDX-License-Identifier: MIT OR Apache-2.0
//! Allocations whose content is in host memory.

use engine::Outcome;
use gpupv::*;
use guest_memory::GuestRange;
use vaccel_isa::{AllocationData, Segment};

use super::guest::*;
use crate::Channel;

const BAD: NtStatus = NtStatus::INVALID_PARAMETER;

fn data(size: u64, segment: Segment) -> [u8; 32] {
    AllocationData { size, segment }.to_bytes()
}

/// A job reads and writes host memory beside guest memory, and content is zero at first, also where
/// another allocation had been.
#[test]
fn jobs_work_in_host_memory() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let (_, code) = guest.buffer(&setup, &[1, 2]);
    for round in 0..2 {
        let allocation = guest
            .host_allocation(setup.device, 3 * 4096 - 5, Segment::Local)
            .unwrap();
        assert_eq!(guest.host.census().committed_bytes, 3 * 4096);
        let none = MakeResidentFlags::EMPTY;
        guest.make_resident(&setup, &[allocation], none).unwrap();
        let va = guest
            .map(&setup, allocation, 3, Protection::WRITE)
            .unwrap()
            .virtual_address;
        guest.put_f32s(2 * 4096, &[7.0; 4]);
        guest
            .submit(setup.context, (4096, code), |s| {
                s.copy(code + 4096, va + 4090, 16);
                s.fill_words(va + 4092, 32, 0x3f80_0000);
                s.copy(code + 4096 + 16, va + 4092, 16);
            })
            .unwrap();
        assert_eq!(guest.run_all(), [Outcome::Done], "round {round}");
        assert_eq!(guest.f32s(2 * 4096, 4), [0.0; 4], "zero at first");
        assert_eq!(guest.f32s(2 * 4096 + 16, 4), [1.0; 4]);
        assert_eq!(guest.gpu_memory().pages(), 2, "two were touched");
        guest.destroy(setup.device, &[allocation]).unwrap();
        assert_eq!(guest.gpu_memory().pages(), 0, "given back");
        assert_eq!(guest.host.census().committed_bytes, 0);
    }
    guest.finish();
}

/// The reply says what became of each of several: size in whole pages, caching, and the resource
/// around them, which takes them all along.
#[test]
fn several_at_once() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let all = [data(1, Segment::Local), data(8192, Segment::NonLocal)];
    let all: Vec<&[u8]> = all.iter().map(|data| data.as_slice()).collect();
    let flags =
        CreateAllocationFlags::CREATE_RESOURCE | CreateAllocationFlags::CREATE_WRITE_COMBINED;
    let (reply, entries) = guest
        .create(setup.device, Handle::NONE, flags, &all)
        .unwrap();
    let got: Vec<_> = entries.iter().map(|e| (e.size, e.flags)).collect();
    let combined = AllocationFlags::EMPTY;
    assert_eq!(got, [(4096, combined), (8192, combined)]);
    let list = [entries[0].allocation, entries[1].allocation];
    let none = MakeResidentFlags::EMPTY;
    guest.make_resident(&setup, &list, none).unwrap();
    let where_is = |guest: &mut Guest, resource, list: &[Handle]| {
        let body = QueryAllocationResidency {
            device: setup.device,
            resource,
            ..QueryAllocationResidency::default()
        };
        let request = Request::new(body, List::new(list)).unwrap();
        let payload = guest.exchange(&request).unwrap();
        let answer = request.parse_reply(guest.version, &payload).unwrap();
        answer.tail.iter().collect::<Vec<_>>()
    };
    let (near, far) = (
        ResidencyStatus::RESIDENT_IN_GPU_MEMORY,
        ResidencyStatus::RESIDENT_IN_SHARED_MEMORY,
    );
    assert_eq!(where_is(&mut guest, Handle::NONE, &list), [near, far]);
    assert_eq!(where_is(&mut guest, reply.resource, &[]), [far]);
    let none = CreateAllocationFlags::EMPTY;
    let (_, more) = guest
        .create(setup.device, reply.resource, none, &all[..1])
        .unwrap();
    assert_eq!(more[0].flags, AllocationFlags::CACHED);
    let census = guest.host.census();
    assert_eq!((census.resources, census.allocations), (1, 3));
    assert_eq!(census.committed_bytes, 4 * 4096);
    guest
        .destroy(setup.device, &[entries[0].allocation])
        .unwrap();
    let body = DestroyAllocation {
        device: setup.device,
        resource: reply.resource,
        ..DestroyAllocation::default()
    };
    guest.send(body, List::EMPTY).unwrap();
    let census = guest.host.census();
    assert_eq!((census.resources, census.allocations), (0, 0));
    assert_eq!(census.committed_bytes, 0);
    guest.finish();
}

/// Private data that is not exactly a description, contradictory flags, and too much memory are
/// refused, and nothing is left of a creation that failed in the middle.
#[test]
fn refused_creations() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let good = data(4096, Segment::Local);
    let none = CreateAllocationFlags::EMPTY;
    let create = |guest: &mut Guest, flags, all: &[&[u8]]| {
        let made = guest.create(setup.device, Handle::NONE, flags, all);
        made.err()
    };
    let long = [good.as_slice(), &[0]].concat();
    for bad in [&good[..31], &long, &[0; 32], &[]] {
        assert_eq!(create(&mut guest, none, &[&good, bad]), Some(BAD));
    }
    assert_eq!(create(&mut guest, none, &[]), Some(BAD));
    assert_eq!(create(&mut guest, none, &[&good[..]; 1025]), Some(BAD));
    let cached = CreateAllocationFlags::CREATE_CACHED;
    let both = cached | CreateAllocationFlags::CREATE_WRITE_COMBINED;
    assert_eq!(create(&mut guest, both, &[&good]), Some(BAD));
    let protected = CreateAllocationFlags::CREATE_PROTECTED;
    let refused = Some(NtStatus::NOT_SUPPORTED);
    assert_eq!(create(&mut guest, protected, &[&good]), refused);
    let full = Some(NtStatus::NO_MEMORY);
    let (half, rest) = (
        data(8 * MIB, Segment::Local),
        data(8 * MIB - 1, Segment::Local),
    );
    for size in [16 * MIB + 1, u64::MAX] {
        assert_eq!(
            create(&mut guest, none, &[&data(size, Segment::Local)]),
            full
        );
    }
    assert_eq!(create(&mut guest, none, &[&half, &half, &good]), full);
    assert_eq!(guest.host.census().committed_bytes, 0);
    assert_eq!(create(&mut guest, none, &[&half, &rest]), None, "all of it");
    assert_eq!(create(&mut guest, none, &[&good]), full);
    guest.finish();
}

/// Content in host memory does not become guest pages, by list or by GPADL.
#[test]
fn no_guest_pages() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let allocation = guest
        .host_allocation(setup.device, 4096, Segment::Local)
        .unwrap();
    let body = SetExistingSysmemPages {
        device: setup.device,
        allocation,
        ..SetExistingSysmemPages::default()
    };
    assert_eq!(guest.send(body, (&[1]).into()), Err(BAD));
    let range = GuestRange { gpa: 0, len: 4096 };
    guest.world.gpadls.insert(7, vec![range]);
    let body = SetExistingSysmemStore {
        device: setup.device,
        allocation,
        gpadl: 7,
        ..SetExistingSysmemStore::default()
    };
    assert_eq!(guest.call(body), Err(BAD));
    assert_eq!(guest.host.census().pinned_pages, 0);
    guest.finish();
}

/// As with guest pages, a destruction is acknowledged when the job that may touch the content has
/// ended, and only then is the memory given away.
#[test]
fn destruction_waits() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let (_, code) = guest.buffer(&setup, &[1]);
    let host = guest
        .host_allocation(setup.device, 4096, Segment::Local)
        .unwrap();
    let none = MakeResidentFlags::EMPTY;
    guest.make_resident(&setup, &[host], none).unwrap();
    let map = guest.map(&setup, host, 1, Protection::WRITE).unwrap();
    guest
        .submit(setup.context, (4096, code), |s| {
            s.fill_bytes(map.virtual_address, 4, 9);
        })
        .unwrap();
    let body = DestroyAllocation {
        device: setup.device,
        ..DestroyAllocation::default()
    };
    let list = [host];
    let request = Request::new(body, (&list).into()).unwrap();
    let transaction = guest.post(&request);
    assert_eq!(guest.completion(transaction), None);
    assert_eq!(guest.host.census().committed_bytes, 4096);
    assert_eq!(guest.run_all(), [Outcome::Done]);
    assert!(guest.completion(transaction).is_some());
    assert_eq!(guest.host.census().committed_bytes, 0);
    assert_eq!(guest.gpu_memory().pages(), 0);
    guest.finish();
}

/// A channel that closes in the middle leaves nothing, and the job that still runs does not reach
/// the content any more.
#[test]
fn channels_close() {
    for channel in [Channel::Vgpu(GPU), Channel::Global] {
        let mut guest = Guest::with_process(modern());
        let setup = guest.setup();
        let (_, code) = guest.buffer(&setup, &[1]);
        let host = guest
            .host_allocation(setup.device, 4096, Segment::Local)
            .unwrap();
        let none = MakeResidentFlags::EMPTY;
        guest.make_resident(&setup, &[host], none).unwrap();
        let map = guest.map(&setup, host, 1, Protection::WRITE).unwrap();
        guest
            .submit(setup.context, (4096, code), |s| {
                s.fill_bytes(map.virtual_address, 4, 9);
            })
            .unwrap();
        let body = DestroyAllocation {
            device: setup.device,
            ..DestroyAllocation::default()
        };
        let list = [host];
        guest.post(&Request::new(body, (&list).into()).unwrap());
        guest.host.channel_closed(channel, &mut guest.world);
        guest.run_all();
        assert_eq!(guest.gpu_memory().pages(), 0);
        assert_eq!(guest.host.census().committed_bytes, 0);
    }
}
