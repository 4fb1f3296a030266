// SPDX-License-Identifier: MIT OR Apache-2.0
//! Resources that several processes have open.

use engine::Outcome;
use gpupv::*;
use vaccel_isa::{AllocationData, Segment};

use super::guest::*;
use crate::{Channel, VgpuConfig, VgpuId, MAX_SHARED_OBJECTS};

const BAD: NtStatus = NtStatus::INVALID_PARAMETER;
const HANDLE: NtStatus = NtStatus::INVALID_HANDLE;

fn shareable() -> CreateAllocationFlags {
    CreateAllocationFlags::CREATE_RESOURCE
        | CreateAllocationFlags::CREATE_SHARED
        | CreateAllocationFlags::NT_SECURITY_SHARING
}

/// A shareable resource of two allocations, of one page and of two.
fn create(guest: &mut Guest, device: Handle) -> (Handle, Vec<Handle>) {
    let size = |size, segment| AllocationData { size, segment }.to_bytes();
    let data = [size(4096, Segment::Local), size(8192, Segment::NonLocal)];
    let data: Vec<&[u8]> = data.iter().map(|data| data.as_slice()).collect();
    let made = guest.create(device, Handle::NONE, shareable(), &data);
    let (reply, entries) = made.unwrap();
    let allocations = entries.iter().map(|entry| entry.allocation).collect();
    (reply.resource, allocations)
}

fn open(
    guest: &mut Guest,
    device: Handle,
    share: Handle,
    count: u32,
) -> Result<(Handle, Vec<Handle>), NtStatus> {
    let body = OpenResource {
        device,
        nt_security_sharing: true.into(),
        global_share: share,
        allocation_count: count,
        ..OpenResource::default()
    };
    let request = Request::from(body);
    let payload = guest.exchange(&request).unwrap();
    match request.parse_reply(guest.version, &payload) {
        Ok(answer) if answer.status().is_error() => Err(answer.status()),
        Ok(answer) => Ok((answer.reply.resource, answer.tail.iter().collect())),
        Err(ReplyError::Failed(status)) => Err(status),
        Err(error) => panic!("{error}"),
    }
}

/// What one process writes the other reads, in the order of creation; residency and locks are each
/// one's own, and the content lives as long as anybody has it.
#[test]
fn content_is_shared() {
    let mut guest = Guest::with_process(modern());
    let owner = guest.process;
    let setup = guest.setup();
    let (_, code) = guest.buffer(&setup, &[1, 2]);
    let (resource, made) = create(&mut guest, setup.device);
    let none = MakeResidentFlags::EMPTY;
    guest.make_resident(&setup, &made, none).unwrap();
    let map = guest.map(&setup, made[1], 2, Protection::WRITE).unwrap();
    guest
        .submit(setup.context, (4096, code), |s| {
            s.fill_words(map.virtual_address + 4096, 16, 0x40a0_0000);
        })
        .unwrap();
    guest.run_all();
    let name = guest.share(resource);
    assert_ne!(name, Handle::NONE);

    guest.process = guest.create_process();
    let opener = guest.process;
    let other = guest.setup();
    let (_, other_code) = guest.buffer(&other, &[3, 4]);
    let (opened, theirs) = open(&mut guest, other.device, name, 2).unwrap();
    let census = guest.host.census();
    assert_eq!((census.shared_objects, census.resources), (1, 2));
    assert_eq!((census.allocations, census.committed_bytes), (6, 3 * 4096));
    assert_eq!(census.resident_non_local_bytes, 4 * 4096 + 8192);
    guest.make_resident(&other, &theirs, none).unwrap();
    let theirs_map = guest.map(&other, theirs[1], 2, Protection::EMPTY).unwrap();
    let read = |guest: &mut Guest| {
        guest
            .submit(other.context, (3 * 4096, other_code), |s| {
                let from = theirs_map.virtual_address + 4096;
                s.copy(other_code + 4096, from, 16);
            })
            .unwrap();
        assert_eq!(guest.run_all(), [Outcome::Done]);
        guest.f32s(4 * 4096, 4)
    };
    assert_eq!(read(&mut guest), [5.0; 4]);
    let first = guest.lock(other.device, theirs[1]).unwrap();
    guest.process = owner;
    let second = guest.lock(setup.device, made[1]).unwrap();
    assert_ne!(first, second);
    assert_eq!(guest.seen(first).unwrap().1, guest.seen(second).unwrap().1);

    // The owner goes, then the name; the content stays until the opener lets go of it.
    guest.call(DestroyProcess).unwrap();
    guest.process = opener;
    assert_eq!(read(&mut guest), [5.0; 4]);
    assert!(guest.unshare(name).is_ok());
    assert_eq!(guest.unshare(name), Err(HANDLE));
    assert_eq!(open(&mut guest, other.device, name, 2), Err(HANDLE));
    assert_eq!(read(&mut guest), [5.0; 4]);
    assert_eq!(guest.host.census().committed_bytes, 3 * 4096);
    let destroy = DestroyAllocation {
        device: other.device,
        resource: opened,
        ..DestroyAllocation::default()
    };
    guest.send(destroy, List::EMPTY).unwrap();
    let census = guest.host.census();
    assert_eq!((census.committed_bytes, census.locks), (0, 0));
    assert_eq!(guest.gpu_memory().pages(), 0);
    guest.finish();
}

/// A name keeps the content of a resource that nobody has open any more, and what is opened can be
/// shared again.
#[test]
fn names_keep_content() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let (resource, _) = create(&mut guest, setup.device);
    let name = guest.share(resource);
    let device = setup.device;
    guest.call(DestroyDevice { device, _pad: 0 }).unwrap();
    assert_eq!(guest.host.census().committed_bytes, 3 * 4096);
    let device = guest.device(1);
    let (again, _) = open(&mut guest, device, name, 2).unwrap();
    let second = guest.share(again);
    assert!(guest.unshare(name).is_ok());
    let (_, opened) = open(&mut guest, device, second, 2).unwrap();
    assert_eq!(opened.len(), 2);
    guest.call(DestroyProcess).unwrap();
    assert_eq!(guest.host.census().committed_bytes, 3 * 4096);
    assert!(guest.unshare(second).is_ok());
    guest.assert_empty();
}

/// Names go with their GPU's channel and with the VM's.
#[test]
fn channels_close() {
    for channel in [Channel::Vgpu(GPU), Channel::Global] {
        let mut guest = Guest::with_process(modern());
        let setup = guest.setup();
        let (resource, _) = create(&mut guest, setup.device);
        guest.share(resource);
        guest.host.channel_closed(channel, &mut guest.world);
        let census = guest.host.census();
        assert_eq!((census.shared_objects, census.committed_bytes), (0, 0));
    }
}

/// Only resources that were made for it are shared, only by whom they belong to; opening needs the
/// right name, count and GPU.
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
    let setup = guest.setup();
    let data = AllocationData {
        size: 4096,
        segment: Segment::Local,
    };
    let (data, none) = (data.to_bytes(), Handle::NONE);
    for flags in [
        CreateAllocationFlags::CREATE_SHARED | CreateAllocationFlags::NT_SECURITY_SHARING,
        CreateAllocationFlags::CREATE_SHARED | CreateAllocationFlags::CREATE_RESOURCE,
        CreateAllocationFlags::NT_SECURITY_SHARING | CreateAllocationFlags::CREATE_RESOURCE,
    ] {
        let made = guest.create(setup.device, none, flags, &[&data]);
        assert_eq!(made.err(), Some(BAD), "{flags:?}");
    }
    let private = CreateAllocationFlags::CREATE_RESOURCE;
    let (private, _) = guest.create(setup.device, none, private, &[&data]).unwrap();
    let (resource, made) = create(&mut guest, setup.device);
    for object in [private.resource, made[0], none] {
        assert_eq!(guest.share(object), none, "{object}");
    }
    let offer = OfferAllocations {
        device: setup.device,
        priority: OfferPriority::LOW,
        flags: OfferFlags::OFFER_IMMEDIATELY,
        ..OfferAllocations::default()
    };
    guest.send(offer, (&[made[0]]).into()).unwrap();
    assert_eq!(guest.share(resource), none, "content dropped");
    let reclaim = ReclaimAllocations {
        device: setup.device,
        paging_queue: setup.queue.paging_queue,
        ..ReclaimAllocations::default()
    };
    guest.send(reclaim, (&[made[0]]).into()).unwrap();
    let name = guest.share(resource);
    let body = OpenResource {
        device: setup.device,
        global_share: name,
        allocation_count: 2,
        ..OpenResource::default()
    };
    assert_eq!(guest.call(body).err(), Some(BAD), "legacy sharing");
    for count in [0, 1, 3, u32::MAX] {
        assert_eq!(open(&mut guest, setup.device, name, count), Err(BAD));
    }
    assert_eq!(open(&mut guest, none, name, 2), Err(HANDLE));
    assert_eq!(open(&mut guest, setup.device, resource, 2), Err(HANDLE));
    guest.channel = Channel::Vgpu(VgpuId(1));
    assert_eq!(open(&mut guest, elsewhere, name, 2), Err(BAD), "other GPU");
    guest.channel = Channel::Vgpu(GPU);
    let owner = guest.process;
    guest.process = guest.create_process();
    assert_eq!(guest.share(resource), none, "another's");
    guest.call(DestroyProcess).unwrap();
    guest.process = owner;
    let mut names = vec![name];
    loop {
        match guest.share(resource) {
            Handle::NONE => break,
            name => names.push(name),
        }
    }
    assert_eq!(names.len(), MAX_SHARED_OBJECTS);
    for name in names {
        guest.unshare(name).unwrap();
    }
    guest.finish();
}
