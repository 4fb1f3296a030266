// SPDX-License-Identifier: MIT OR Apache-2.0
//! Allocations that the guest's CPU sees in the I/O space.

use engine::Outcome;
use gpupv::*;
use vaccel_isa::Segment;

use super::guest::*;
use crate::{Channel, HostConfig, HostMemory};

const BAD: NtStatus = NtStatus::INVALID_PARAMETER;
const FULL: NtStatus = NtStatus::NO_MEMORY;

/// What the CPU writes the engine reads, and the other way round; the address stays while locks
/// nest, and is free when the last is undone.
#[test]
fn both_see_the_same_bytes() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let (_, code) = guest.buffer(&setup, &[1]);
    let (device, local) = (setup.device, Segment::Local);
    let allocation = guest.host_allocation(device, 8192, local).unwrap();
    let none = MakeResidentFlags::EMPTY;
    guest.make_resident(&setup, &[allocation], none).unwrap();
    let map = guest.map(&setup, allocation, 2, Protection::WRITE).unwrap();
    let va = map.virtual_address;
    let address = guest.lock(device, allocation).unwrap();
    assert_eq!(guest.lock(device, allocation), Ok(address));
    let (memory, at) = guest.seen(address).unwrap();
    memory.write(at + 4096, b"from the guest!!").unwrap();
    guest
        .submit(setup.context, (4096, code), |s| {
            s.copy(va + 100, va + 4096, 16);
        })
        .unwrap();
    assert_eq!(guest.run_all(), [Outcome::Done]);
    let mut text = [0; 16];
    memory.read(at + 100, &mut text).unwrap();
    assert_eq!(&text, b"from the guest!!");
    let census = guest.host.census();
    assert_eq!((census.locks, census.locked_bytes), (1, 8192));
    assert!(guest.unlock(device, allocation).is_ok());
    assert!(guest.seen(address).is_some(), "still locked once");
    assert!(guest.unlock(device, allocation).is_ok());
    assert!(guest.seen(address).is_none());
    assert_eq!(guest.host.census().locks, 0);
    assert!(guest.unlock(device, allocation).is_ok(), "once too often");
    assert_eq!(guest.lock(device, allocation), Ok(address));
    guest.finish();
}

/// Locks and fences share the I/O space and never meet, large allocations lie as guests can map
/// them best, and the last page stays free.
#[test]
fn places() {
    let mut guest = Guest::new(modern());
    guest.io_space(IO_BASE + 0x1_0000, 8 * MIB).unwrap();
    guest.call(OpenAdapter::new(guest.version)).unwrap();
    guest.process = guest.create_process();
    let setup = guest.setup();
    let lock = |guest: &mut Guest, bytes| {
        let made = guest.host_allocation(setup.device, bytes, Segment::Local);
        let made = made.unwrap();
        (made, guest.lock(setup.device, made))
    };
    let (large, at) = lock(&mut guest, 2 * MIB);
    assert_eq!(at.unwrap() % (2 * MIB), 0);
    let (_, at) = lock(&mut guest, MIB);
    assert_eq!(at.unwrap() % 0x1_0000, 0);
    let (_, at) = lock(&mut guest, 2 * MIB);
    assert_eq!(at.unwrap() % (2 * MIB), 0);
    let (_, at) = lock(&mut guest, 2 * MIB - 4096);
    assert_eq!(at.unwrap() % 0x1_0000, 0);
    let (again, at) = lock(&mut guest, 2 * MIB);
    assert_eq!(at, Err(FULL));
    let fence = SyncObjectFlags::EMPTY;
    let fences: Vec<_> = (0..100).map(|_| guest.fence(setup.device, fence)).collect();
    for fence in &fences {
        assert!(guest.seen(fence.fence_storage_address).is_none());
    }
    guest.unlock(setup.device, large).unwrap();
    assert!(guest.lock(setup.device, again).is_ok(), "room again");
    guest.finish();
}

/// Guest memory is not locked, and unlocking it does nothing; foreign handles and unknown flags are
/// refused; beyond the window there is no room.
#[test]
fn refused() {
    let mut guest = Guest::with_process(HostConfig {
        lock_window: Some(8192),
        ..modern()
    });
    let setup = guest.setup();
    let (device, local) = (setup.device, Segment::Local);
    let pages = guest.allocation(device, &[1]);
    assert_eq!(guest.lock(device, pages), Err(BAD));
    assert!(guest.unlock(device, pages).is_ok());
    let other = guest.device(2);
    let first = guest.host_allocation(device, 4096, local).unwrap();
    let handle = Err(NtStatus::INVALID_HANDLE);
    assert_eq!(guest.lock(other, first), handle);
    assert_eq!(guest.unlock(other, first).map(|_| 0), handle);
    let flags = Lock2 {
        device,
        allocation: first,
        flags: Lock2Flags::from_bits(1),
        ..Lock2::default()
    };
    assert_eq!(guest.call(flags).err(), Some(BAD));
    let second = guest.host_allocation(device, 8192, local).unwrap();
    guest.lock(device, first).unwrap();
    assert_eq!(guest.lock(device, second), Err(FULL));
    guest.unlock(device, first).unwrap();
    guest.lock(device, second).unwrap();
    assert_eq!(guest.lock(device, first), Err(FULL));
    guest.finish();
}

/// What is locked when its allocation, device, process or channel goes is locked no more; with the
/// I/O space all locks go.
#[test]
fn gone_while_locked() {
    for level in 0..5 {
        let mut guest = Guest::with_process(modern());
        let setup = guest.setup();
        let device = setup.device;
        let made = guest.host_allocation(device, 4096, Segment::Local).unwrap();
        let address = guest.lock(device, made).unwrap();
        match level {
            0 => assert!(guest.destroy(device, &[made]).is_ok()),
            1 => assert!(guest.call(DestroyDevice { device, _pad: 0 }).is_ok()),
            2 => assert!(guest.call(DestroyProcess).is_ok()),
            3 => {
                let channel = Channel::Vgpu(GPU);
                guest.host.channel_closed(channel, &mut guest.world);
            }
            _ => {
                let channel = Channel::Global;
                guest.host.channel_closed(channel, &mut guest.world);
                assert!(guest.world.io.is_none());
            }
        }
        if level < 4 {
            assert!(guest.seen(address).is_none(), "level {level}");
        }
        let census = guest.host.census();
        assert_eq!((census.locks, census.locked_bytes), (0, 0));
        assert_eq!(census.committed_bytes, 0);
    }
}
