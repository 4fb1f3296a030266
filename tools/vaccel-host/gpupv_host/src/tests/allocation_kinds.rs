// SPDX-License-Identifier: MIT OR Apache-2.0
//! Standard allocations of both kinds, and what a guest may say of an allocation besides.

use gpupv::*;
use vaccel_isa::{AllocationData, Segment};

use super::guest::*;

const BAD: NtStatus = NtStatus::INVALID_PARAMETER;
/// What the resource of a standard allocation across adapters is made with.
const ACROSS: CreateAllocationFlags = CreateAllocationFlags::STANDARD_ALLOCATION
    .union(CreateAllocationFlags::CROSS_ADAPTER)
    .union(SHAREABLE);
const SHAREABLE: CreateAllocationFlags = CreateAllocationFlags::CREATE_RESOURCE
    .union(CreateAllocationFlags::CREATE_SHARED)
    .union(CreateAllocationFlags::NT_SECURITY_SHARING);

/// Creates `infos` allocations, described by the resource's data.
fn create(
    guest: &mut Guest,
    (device, flags): (Handle, CreateAllocationFlags),
    infos: &[AllocationInfo],
    (resource_data, allocation_data): (&[u8], &[u8]),
) -> Result<(CreateAllocationReply, CreatedAllocation), NtStatus> {
    let body = CreateAllocation {
        device,
        flags,
        ..CreateAllocation::default()
    };
    let tail = CreateAllocationTail {
        infos: List::new(infos),
        resource_data,
        allocation_data,
        ..CreateAllocationTail::default()
    };
    let request = Request::new(body, tail).unwrap();
    let payload = guest.exchange(&request).unwrap();
    match request.parse_reply(guest.version, &payload) {
        Ok(answer) => Ok((answer.reply, answer.tail.entries.first().unwrap())),
        Err(ReplyError::Failed(status)) => Err(status),
        Err(error) => panic!("{error}"),
    }
}

fn standard(kind: StandardAllocationType, size: u64) -> StandardAllocation {
    StandardAllocation {
        kind,
        size,
        ..StandardAllocation::default()
    }
}

/// A standard allocation across adapters has memory of the host, of the size that the guest says,
/// and is seen by its processors and opened by others as any other is.
#[test]
fn across_adapters() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let one = [AllocationInfo::default()];
    let across = standard(StandardAllocationType::CROSS_ADAPTER, 3 * PAGE_SIZE);
    let data = (across.bytes(), &[][..]);
    let (reply, entry) = create(&mut guest, (setup.device, ACROSS), &one, data).unwrap();
    assert_eq!(entry.size, 3 * PAGE_SIZE);
    assert_eq!(guest.host.census().committed_bytes, 3 * PAGE_SIZE);
    assert_eq!(guest.host.census().pinned_pages, 0);
    guest.lock(setup.device, entry.allocation).unwrap();
    guest.unlock(setup.device, entry.allocation).unwrap();
    let shared = guest.share(reply.resource);
    assert!(!shared.is_none());
    guest.unshare(shared).unwrap();

    let heap = standard(StandardAllocationType::EXISTING_HEAP, PAGE_SIZE);
    let uneven = standard(StandardAllocationType::CROSS_ADAPTER, 1);
    let sysmem = ACROSS | CreateAllocationFlags::EXISTING_SYSMEM;
    for (flags, infos, data) in [
        (ACROSS, 1, heap.bytes()),
        (ACROSS, 1, uneven.bytes()),
        (ACROSS, 2, across.bytes()),
        (ACROSS, 1, &across.bytes()[..16]),
        (sysmem, 1, across.bytes()),
    ] {
        let infos = vec![AllocationInfo::default(); infos];
        let to = (setup.device, flags);
        let refused = create(&mut guest, to, &infos, (data, &[])).err();
        assert_eq!(refused, Some(BAD), "{flags:?} {data:?}");
    }
    guest.finish();
}

/// A heap of the guest's may be made for sharing, which some runtimes always do, but is not opened
/// by others.
#[test]
fn shareable_heap() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let one = [AllocationInfo::default()];
    let heap = standard(StandardAllocationType::EXISTING_HEAP, PAGE_SIZE);
    let flags = ACROSS | CreateAllocationFlags::EXISTING_SYSMEM;
    let to = (setup.device, flags);
    let (reply, _) = create(&mut guest, to, &one, (heap.bytes(), &[])).unwrap();
    assert!(guest.share(reply.resource).is_none());
    guest.finish();
}

/// That an allocation has a priority of its own is not refused; what is about displays is.
#[test]
fn flags_of_one_allocation() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let size = PAGE_SIZE;
    let segment = Segment::Local;
    let data = AllocationData { size, segment }.to_bytes();
    for (flags, refused) in [
        (AllocationInfoFlags::OVERRIDE_PRIORITY, None),
        (AllocationInfoFlags::PRIMARY, Some(BAD)),
        (AllocationInfoFlags::STEREO, Some(BAD)),
    ] {
        let info = AllocationInfo {
            flags,
            priv_drv_data_size: 32,
            ..AllocationInfo::default()
        };
        let to = (setup.device, CreateAllocationFlags::EMPTY);
        let made = create(&mut guest, to, &[info], (&[], &data));
        assert_eq!(made.err(), refused, "{flags:?}");
    }
    guest.finish();
}
