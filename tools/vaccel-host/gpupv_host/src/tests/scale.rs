// SPDX-License-Identifier: MIT OR Apache-2.0
//! A process with many allocations and address ranges pays for each what it would pay for the
//! first.

use gpupv::*;
use vaccel_isa::Segment;

use super::guest::*;

/// Allocations that live at a time.
const MANY: usize = 40_000;

/// Tens of thousands of small allocations, each mapped, a few at a time made resident; then all are
/// freed, evicted and destroyed in another order. A step that looked at what the others have would
/// take minutes here; the gaps looked at are counted.
#[test]
fn many_allocations() {
    let mut guest = Guest::with_limits(modern(), 1 << 40);
    let setup = guest.setup();
    let mut made = Vec::new();
    let looked = |guest: &Guest| {
        let process = guest.host.processes.get(guest.process).unwrap();
        process.spaces[&GPU].looks()
    };
    for _ in 0..MANY {
        let allocation = guest
            .host_allocation(setup.device, 4096, Segment::Local)
            .unwrap();
        let map = guest.map(&setup, allocation, 1, Protection::WRITE).unwrap();
        made.push((allocation, map.virtual_address));
        guest.sent.clear();
    }
    assert!(looked(&guest) <= 2 * MANY, "{}", looked(&guest));
    let handles: Vec<Handle> = made.iter().map(|(handle, _)| *handle).collect();
    let none = MakeResidentFlags::EMPTY;
    for list in handles.chunks(10_000) {
        guest.make_resident(&setup, list, none).unwrap();
    }
    let census = guest.host.census();
    assert_eq!(census.resident_bytes, MANY as u64 * 4096);
    assert_eq!(
        (census.allocations, census.va_ranges),
        (MANY as u64, MANY as u64)
    );
    let (even, odd): (Vec<_>, Vec<_>) = made.iter().enumerate().partition(|(at, _)| at % 2 == 0);
    let order: Vec<(Handle, u64)> = odd.iter().chain(&even).map(|(_, made)| **made).collect();
    for list in order.chunks(10_000) {
        for (_, va) in list {
            let body = FreeGpuVirtualAddress {
                adapter: GPU.adapter_handle(),
                reserved: 0,
                base_address: *va,
                size: 4096,
            };
            guest.call(body).unwrap();
        }
        let list: Vec<Handle> = list.iter().map(|(handle, _)| *handle).collect();
        guest.evict(setup.device, &list);
        guest.destroy(setup.device, &list).unwrap();
        guest.sent.clear();
    }
    assert!(looked(&guest) <= 2 * MANY);
    assert_eq!(guest.host.census().committed_bytes, 0);
    guest.finish();
}

/// Destroying the allocations first, or the device with everything on it, is as cheap.
#[test]
fn many_at_once() {
    for whole in [true, false] {
        let mut guest = Guest::with_limits(modern(), 1 << 40);
        let setup = guest.setup();
        let mut list = Vec::new();
        for _ in 0..MANY / 4 {
            let allocation = guest
                .host_allocation(setup.device, 4096, Segment::Local)
                .unwrap();
            guest.map(&setup, allocation, 1, Protection::WRITE).unwrap();
            list.push(allocation);
            guest.sent.clear();
        }
        if !whole {
            for list in list.chunks(10_000) {
                guest.destroy(setup.device, list).unwrap();
            }
            assert_eq!(guest.host.census().allocations, 0);
        }
        let device = setup.device;
        guest.call(DestroyDevice { device, _pad: 0 }).unwrap();
        assert_eq!(guest.host.census().committed_bytes, 0);
        guest.finish();
    }
}

/// The pages of an object of 1 GiB arrive in as many messages as they need.
#[test]
fn pages_of_a_gibibyte() {
    const PAGES: u64 = 262_144;
    let mut guest = Guest::with_limits(modern(), 1 << 40);
    let setup = guest.setup();
    let none = CreateAllocationFlags::EMPTY;
    let allocation = guest.heap(setup.device, PAGES * PAGE_SIZE, none).unwrap();
    let frames: Vec<u64> = (0..PAGES).map(|page| page ^ 1).collect();
    for (number, list) in frames.chunks(MAX_PAGES_PER_MESSAGE).enumerate() {
        let body = SetExistingSysmemPages {
            device: setup.device,
            allocation,
            alloc_offset_in_pages: (number * MAX_PAGES_PER_MESSAGE) as u32,
            ..SetExistingSysmemPages::default()
        };
        guest.send(body, List::new(list)).unwrap();
    }
    let none = MakeResidentFlags::EMPTY;
    guest.make_resident(&setup, &[allocation], none).unwrap();
    guest
        .map(&setup, allocation, PAGES, Protection::WRITE)
        .unwrap();
    assert_eq!(guest.host.census().pinned_pages, PAGES);
    guest.destroy(setup.device, &[allocation]).unwrap();
    guest.finish();
}
