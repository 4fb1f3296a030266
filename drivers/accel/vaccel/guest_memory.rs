// SPDX-License-Identifier: GPL-2.0-only

//! Allocations over pages of the guest: of the object's own, or of an imported dma-buf.
//!
//! The pages are pinned, an allocation is made on the host, the pages are named to it: as lists of
//! page numbers, or to old hosts as a GPADL. From then on the [`Backing`] hangs on the release node of
//! the allocation, and only the host's answer (or the end of the channel) lets go of the pages.

use kernel::prelude::*;
use kernel::sync::Arc;

use crate::allocation::{
    Allocation,
    Usage, //
};
use crate::bindings::uapi;
use crate::bo::{
    Bo,
    Object, //
};
use crate::device::Device;
use crate::drm::gem;
use crate::gpupv::{
    self,
    AllocationInfo,
    CreateAllocationFlags,
    CreateAllocationTail,
    Handle,
    List,
    Request, //
};
use crate::host_error::{
    HostError,
    HostResult, //
};
use crate::link::Dispatch;
use crate::memory_charge::Segment;
use crate::pinned::Pinned;
use crate::reaper::Owned;
use crate::release::What;
use crate::vmbus;

/// Guest memory that the host can reach; dropping it lets go of the pages.
pub(crate) enum Backing {
    /// Named to the host by page numbers.
    Pages(
        #[expect(dead_code, reason = "held for its drop")] gem::Pages<Bo>,
        #[expect(dead_code, reason = "held for its drop")] Pinned,
    ),
    /// Named to the host by a GPADL, which is torn down first.
    Gpadl(
        #[expect(dead_code, reason = "held for its drop")]
        vmbus::Gpadl<gem::shmem::VMap<Bo>, Dispatch>,
        #[expect(dead_code, reason = "held for its drop")] Pinned,
    ),
}

/// Makes an allocation on `device` over the pages of `object`.
///
/// # Errors
///
/// `ENOSPC` if the file may not pin that much, `ENOMEM`, and those of the host.
pub(crate) fn allocate(
    object: &Object,
    flags: u32,
    device: &Arc<Device>,
    usage: &Arc<Usage>,
) -> HostResult<Arc<Allocation>> {
    // CAST: object sizes fit.
    let size = object.size() as u64;
    let pinned = device.process.pinned.charge(size)?;
    let mut owned = create(device, flags, size)?;
    share(device, object, &mut owned, pinned)?;
    Ok(Allocation::new(
        device.clone(),
        owned,
        size,
        Segment::NonLocal,
        usage.clone(),
    )?)
}

/// Makes the host's allocation: an existing heap of guest memory.
fn create(device: &Device, flags: u32, size: u64) -> HostResult<Owned> {
    let mut how =
        CreateAllocationFlags::EXISTING_SYSMEM | CreateAllocationFlags::STANDARD_ALLOCATION;
    if flags & uapi::VACCEL_BO_READ_ONLY != 0 {
        how = how | CreateAllocationFlags::READ_ONLY;
    }
    let heap = gpupv::StandardAllocation {
        kind: gpupv::StandardAllocationType::EXISTING_HEAP,
        size,
        ..Default::default()
    };
    let info = [AllocationInfo::default()];
    let request = Request::new(
        gpupv::CreateAllocation {
            device: device.handle(),
            flags: how,
            ..Default::default()
        },
        CreateAllocationTail {
            infos: List::new(&info),
            runtime_data: &[],
            resource_data: gpupv::Wire::bytes(&heap),
            allocation_data: &[],
        },
    )?;
    let what = What::Allocation {
        device: device.handle(),
        allocation: Handle::NONE,
    };
    let (owned, made) = device.process.create(&request, what, |answer| {
        let entry = answer.tail.entries.first().ok_or(HostError::PROTOCOL)?;
        Ok(entry.size)
    })?;
    // The host decides how many pages it will reach for; it must not be more than there are.
    if made != size {
        return Err(HostError::PROTOCOL);
    }
    Ok(owned)
}

/// Names the pages of the object to the host and ties them to the allocation.
fn share(device: &Device, object: &Object, owned: &mut Owned, pinned: Pinned) -> HostResult {
    let adapter = &device.process.adapter;
    if !adapter.takes_page_lists() {
        let gpadl = vmbus::Gpadl::establish(adapter.transport.global.channel(), object.vmap()?)?;
        let request = Request::from(gpupv::SetExistingSysmemStore {
            device: device.handle(),
            allocation: owned.handle(),
            gpadl: gpadl.handle(),
            _pad: 0,
        });
        owned.attach(Backing::Gpadl(gpadl, pinned));
        return device.process.call(&request, |_| Ok(()));
    }
    let pages = object.pin()?;
    let sent = send_pages(device, owned.handle(), &pages);
    // Also after a failure: the host may know some of the pages.
    owned.attach(Backing::Pages(pages, pinned));
    sent
}

/// Sends the page numbers, as many as fit in one message at a time.
fn send_pages(device: &Device, allocation: Handle, pages: &gem::Pages<Bo>) -> HostResult {
    let room = pages.len().min(gpupv::MAX_PAGES_PER_MESSAGE);
    let mut numbers = KVVec::<u64>::with_capacity(room, GFP_KERNEL)?;
    let mut first = 0;
    for number in pages.pfns() {
        numbers.push(number, GFP_KERNEL)?;
        if numbers.len() == room {
            send(device, allocation, first, &numbers)?;
            first += numbers.len();
            numbers.clear();
        }
    }
    if numbers.is_empty() {
        return Ok(());
    }
    send(device, allocation, first, &numbers)
}

fn send(device: &Device, allocation: Handle, first: usize, numbers: &[u64]) -> HostResult {
    let request = Request::new(
        gpupv::SetExistingSysmemPages {
            device: device.handle(),
            allocation,
            // OVERFLOW: objects have fewer than 2^31 pages.
            alloc_offset_in_pages: first as u32,
            ..Default::default()
        },
        List::new(numbers),
    )?;
    device.process.call(&request, |_| Ok(()))
}
