// SPDX-License-Identifier: GPL-2.0-only

//! Buffer objects.
//!
//! Every GEM object of the driver has a [`Bo`] inside. Three kinds exist: guest memory shared with
//! the host, argument memory that the host never sees, and the page of a fence, which exists only to
//! be mapped.
//!
//! # Life of a guest object
//!
//! Its pages are pinned, an allocation is made on the host, the pages are named to it. From then on
//! the [`Backing`] hangs on the release node of the allocation: when the last reference to the object
//! goes, the node is queued, the host is told, and only its answer (or the end of the channel) frees
//! the pages.

use kernel::prelude::*;
use kernel::sync::aref::ARef;
use kernel::sync::{
    Arc,
    SetOnce, //
};

use crate::adapter::Adapter;
use crate::bindings::uapi;
use crate::device::Device;
use crate::driver::{
    DrmDevice,
    DrmFile,
    VaccelDrm, //
};
use crate::drm::gem;
use crate::fence::Fence;
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
use crate::logic::range;
use crate::reaper::Owned;
use crate::release::What;
use crate::residency;
use crate::vmbus;

/// A GEM object of this driver.
pub(crate) type Object = gem::Object<Bo>;

/// Largest object, in bytes: the table of its pages has to be one allocation.
const SIZE_MAX: u64 = 1 << 39;

/// Largest object that a GPADL can name, in bytes.
const GPADL_SIZE_MAX: u64 = (1 << 32) - gpupv::PAGE_SIZE;

/// Largest object of an adapter, in bytes.
pub(crate) fn size_max(adapter: &Adapter) -> u64 {
    if adapter.takes_page_lists() {
        SIZE_MAX
    } else {
        GPADL_SIZE_MAX
    }
}

/// Guest memory that the host can reach; dropping it lets go of the pages.
pub(crate) enum Backing {
    /// Named to the host by page numbers.
    Pages(#[expect(dead_code, reason = "held for its drop")] gem::shmem::Pages<Bo>),
    /// Named to the host by a GPADL, which is torn down first.
    Gpadl(
        #[expect(dead_code, reason = "held for its drop")]
        vmbus::Gpadl<gem::shmem::VMap<Bo>, Dispatch>,
    ),
}

/// Guest memory shared with the host.
pub(crate) struct Guest {
    // Dropped first: the allocation has to be given back before the device it belongs to.
    allocation: SetOnce<Owned>,
    pub(crate) flags: u32,
    /// Residency references taken by hand.
    pub(crate) residents: residency::Count,
    pub(crate) device: Arc<Device>,
}

/// Memory for arguments.
pub(crate) struct Arg {
    map: SetOnce<gem::shmem::VMap<Bo>>,
}

/// What is inside a GEM object.
pub(crate) enum Bo {
    /// `VACCEL_BO_KIND_GUEST`.
    Guest(Guest),
    /// `VACCEL_BO_KIND_ARG`.
    Arg(Arg),
    /// The value of a fence, to be mapped. Holds the fence while a mapping exists.
    FencePage(Arc<Fence>),
}

impl gem::DriverObject for Bo {
    type Driver = VaccelDrm;

    fn is_exportable(&self) -> bool {
        matches!(self, Self::Guest(_))
    }
}

impl Bo {
    /// The inside of the object that maps `fence`.
    pub(crate) fn fence_page(fence: Arc<Fence>) -> impl PinInit<Self, Error> {
        Ok(Self::FencePage(fence))
    }

    /// Whether this is the page of `fence`.
    pub(crate) fn is_page_of(&self, fence: &Arc<Fence>) -> bool {
        matches!(self, Self::FencePage(of) if Arc::ptr_eq(of, fence))
    }

    /// The guest memory in it.
    ///
    /// # Errors
    ///
    /// `EINVAL` for another kind of object.
    pub(crate) fn guest(&self) -> Result<&Guest> {
        match self {
            Self::Guest(guest) => Ok(guest),
            Self::Arg(_) | Self::FencePage(_) => Err(EINVAL),
        }
    }

    /// The argument memory in it.
    ///
    /// # Errors
    ///
    /// `EINVAL` for another kind of object.
    fn arg(&self) -> Result<&gem::shmem::VMap<Self>> {
        match self {
            Self::Arg(arg) => arg.map.as_ref().ok_or(EINVAL),
            Self::Guest(_) | Self::FencePage(_) => Err(EINVAL),
        }
    }
}

impl Guest {
    /// The host's handle of the allocation.
    ///
    /// # Errors
    ///
    /// `EINVAL` while the object is being made.
    pub(crate) fn allocation(&self) -> Result<Handle> {
        Ok(self.allocation.as_ref().ok_or(EINVAL)?.handle())
    }
}

/// Finds an object by handle.
///
/// # Errors
///
/// `ENOENT`.
pub(crate) fn find(file: &DrmFile, handle: u32) -> Result<ARef<Object>> {
    let object = Object::lookup(file, handle)?;
    match &**object {
        // An implementation detail that has a handle by accident.
        Bo::FencePage(_) => Err(ENOENT),
        Bo::Guest(_) | Bo::Arg(_) => Ok(object),
    }
}

/// A stretch of an argument object, copied at most once in each direction.
pub(crate) struct ArgRef {
    object: ARef<Object>,
    offset: usize,
    size: usize,
}

impl ArgRef {
    /// The `size` bytes at `offset` of the argument object `handle`.
    ///
    /// # Errors
    ///
    /// `ENOENT`, `EINVAL` for another kind of object, an offset that is not a multiple of 8, an
    /// empty stretch or one beyond the object, `EOVERFLOW` if its end does not fit 64 bits.
    pub(crate) fn new(file: &DrmFile, handle: u32, offset: u64, size: usize) -> Result<Self> {
        let object = find(file, handle)?;
        object.arg()?;
        if offset % 8 != 0 {
            return Err(EINVAL);
        }
        // CAST: object sizes fit both ways on a 64-bit kernel.
        range::inside(offset, size as u64, object.size() as u64).map_err(range_error)?;
        Ok(Self {
            object,
            offset: offset as usize,
            size,
        })
    }

    /// Copies it in.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn read(&self) -> Result<KVVec<u8>> {
        let mut bytes = KVVec::from_elem(0, self.size, GFP_KERNEL)?;
        self.object.arg()?.read(self.offset, &mut bytes)?;
        Ok(bytes)
    }

    /// Copies `bytes` out, at most as many as it has.
    ///
    /// # Errors
    ///
    /// None in practice: the extent was checked.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result {
        let len = bytes.len().min(self.size);
        self.object
            .arg()?
            .write(self.offset, bytes.get(..len).ok_or(EINVAL)?)
    }
}

/// The errno of a refused range.
pub(crate) fn range_error(error: range::RangeError) -> Error {
    match error {
        range::RangeError::Unaligned | range::RangeError::Outside => EINVAL,
        range::RangeError::Overflow => EOVERFLOW,
    }
}

/// `DRM_IOCTL_VACCEL_BO_CREATE`.
pub(crate) fn create(
    dev: &DrmDevice,
    args: &mut uapi::drm_vaccel_bo_create,
    file: &DrmFile,
) -> HostResult {
    if args.flags & !uapi::VACCEL_BO_READ_ONLY != 0
        || args.caching > uapi::VACCEL_BO_WRITE_COMBINED
        || args.reserved != [0; 2]
        || args.size == 0
        || args.size % gpupv::PAGE_SIZE != 0
    {
        return Err(EINVAL.into());
    }
    let object = match args.kind {
        uapi::VACCEL_BO_KIND_GUEST => create_guest(dev, args, file)?,
        uapi::VACCEL_BO_KIND_ARG => create_arg(dev, args)?,
        uapi::VACCEL_BO_KIND_HOST => return Err(EOPNOTSUPP.into()),
        _ => return Err(EINVAL.into()),
    };
    args.bo = object.create_handle(file)?;
    args.mmap_offset = object.mmap_offset();
    Ok(())
}

fn create_arg(dev: &DrmDevice, args: &uapi::drm_vaccel_bo_create) -> HostResult<ARef<Object>> {
    if args.caching != uapi::VACCEL_BO_CACHED
        || args.flags != 0
        || args.vm != 0
        || has_private_data(args)
    {
        return Err(EINVAL.into());
    }
    if args.size > u64::from(uapi::VACCEL_ARG_SIZE_MAX) {
        return Err(EFBIG.into());
    }
    let map = SetOnce::new();
    // CAST: checked above.
    let object = Object::new_shmem(dev, args.size as usize, Ok(Bo::Arg(Arg { map })))?;
    let map = object.vmap()?;
    if let Bo::Arg(arg) = &**object {
        arg.map.populate(map);
    }
    Ok(object)
}

fn has_private_data(args: &uapi::drm_vaccel_bo_create) -> bool {
    args.arg_bo != 0 || args.priv_size != 0 || args.arg_offset != 0
}

fn create_guest(
    dev: &DrmDevice,
    args: &uapi::drm_vaccel_bo_create,
    file: &DrmFile,
) -> HostResult<ARef<Object>> {
    if has_private_data(args) {
        return Err(EINVAL.into());
    }
    if args.caching != uapi::VACCEL_BO_CACHED {
        return Err(EOPNOTSUPP.into());
    }
    if args.size > size_max(dev) {
        return Err(EFBIG.into());
    }
    let device = file.inner().vm(args.vm)?.device.clone();
    device.check()?;
    let guest = Guest {
        device,
        flags: args.flags,
        residents: residency::Count::new(),
        allocation: SetOnce::new(),
    };
    // CAST: sizes fit on a 64-bit kernel.
    let object = Object::new_shmem(dev, args.size as usize, Ok(Bo::Guest(guest)))?;
    let guest = object.guest()?;
    let mut allocation = allocate(guest, args.size)?;
    share(guest, &object, &mut allocation)?;
    guest.allocation.populate(allocation);
    Ok(object)
}

/// Makes the host's allocation: an existing heap of guest memory.
fn allocate(guest: &Guest, size: u64) -> HostResult<Owned> {
    let device = guest.device.handle();
    let mut flags =
        CreateAllocationFlags::EXISTING_SYSMEM | CreateAllocationFlags::STANDARD_ALLOCATION;
    if guest.flags & uapi::VACCEL_BO_READ_ONLY != 0 {
        flags = flags | CreateAllocationFlags::READ_ONLY;
    }
    let heap = gpupv::StandardAllocation {
        kind: gpupv::StandardAllocationType::EXISTING_HEAP,
        size,
        ..Default::default()
    };
    let info = [AllocationInfo::default()];
    let request = Request::new(
        gpupv::CreateAllocation {
            device,
            flags,
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
        device,
        allocation: Handle::NONE,
    };
    let (owned, made) = guest.device.process.create(&request, what, |answer| {
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
fn share(guest: &Guest, object: &Object, allocation: &mut Owned) -> HostResult {
    let adapter = &guest.device.process.adapter;
    if !adapter.takes_page_lists() {
        let gpadl = vmbus::Gpadl::establish(adapter.transport.global.channel(), object.vmap()?)?;
        let request = Request::from(gpupv::SetExistingSysmemStore {
            device: guest.device.handle(),
            allocation: allocation.handle(),
            gpadl: gpadl.handle(),
            _pad: 0,
        });
        allocation.attach(Backing::Gpadl(gpadl));
        return guest.device.process.call(&request, |_| Ok(()));
    }
    let pages = object.pin()?;
    let mut numbers =
        KVVec::<u64>::with_capacity(pages.len().min(gpupv::MAX_PAGES_PER_MESSAGE), GFP_KERNEL)?;
    let mut sent = 0;
    let mut result = Ok(());
    for number in pages.pfns() {
        numbers.push(number, GFP_KERNEL)?;
        if numbers.len() == gpupv::MAX_PAGES_PER_MESSAGE {
            result = send_pages(guest, allocation.handle(), sent, &numbers);
            sent += numbers.len();
            numbers.clear();
            if result.is_err() {
                break;
            }
        }
    }
    if result.is_ok() && !numbers.is_empty() {
        result = send_pages(guest, allocation.handle(), sent, &numbers);
    }
    // Also after a failure: the host may know some of the pages.
    allocation.attach(Backing::Pages(pages));
    result
}

fn send_pages(guest: &Guest, allocation: Handle, first: usize, numbers: &[u64]) -> HostResult {
    let request = Request::new(
        gpupv::SetExistingSysmemPages {
            device: guest.device.handle(),
            allocation,
            // OVERFLOW: objects have fewer than 2^31 pages.
            alloc_offset_in_pages: first as u32,
            ..Default::default()
        },
        List::new(numbers),
    )?;
    guest.device.process.call(&request, |_| Ok(()))
}

/// `DRM_IOCTL_VACCEL_BO_INFO`.
pub(crate) fn info(
    _dev: &DrmDevice,
    args: &mut uapi::drm_vaccel_bo_info,
    file: &DrmFile,
) -> HostResult {
    if args.reserved != [0; 2] {
        return Err(EINVAL.into());
    }
    let object = find(file, args.bo)?;
    (args.kind, args.flags) = match &**object {
        Bo::Guest(guest) => (uapi::VACCEL_BO_KIND_GUEST, guest.flags),
        Bo::Arg(_) => (uapi::VACCEL_BO_KIND_ARG, 0),
        Bo::FencePage(_) => return Err(ENOENT.into()),
    };
    args.caching = uapi::VACCEL_BO_CACHED;
    args.size = object.size() as u64;
    args.mmap_offset = object.mmap_offset();
    Ok(())
}
