// SPDX-License-Identifier: GPL-2.0-only

//! Buffer objects.
//!
//! Every GEM object of the driver has a [`Bo`] inside: memory that the GPU sees, argument memory that
//! the host never sees, or the page of a fence, which exists only to be mapped.
//!
//! # Life of memory
//!
//! The host knows an object by its allocations, one for each vm that uses it
//! ([`allocation`]). Bindings hold their allocation by themselves; the list here only lets a
//! vm find its own again, and forgets those of a file when the file closes its handle. Pages of the
//! guest are let go of by the host before they are freed (see [`guest_memory`]). What is left of a vm
//! that was destroyed goes when the object is used the next time.
//!
//! # Locks
//!
//! `Allocations::list` is held for list operations only. Asking the exporter of a dma-buf, which may
//! wait for its devices, takes a [`Turn`] and no lock.

use core::sync::atomic::{
    AtomicBool,
    Ordering, //
};

use kernel::prelude::*;
use kernel::sync::aref::ARef;
use kernel::sync::{
    new_mutex,
    Arc,
    Mutex,
    SetOnce, //
};

use crate::adapter::Adapter;
use crate::allocation::{
    Allocation,
    Usage, //
};
use crate::bindings::uapi;
use crate::device::Device;
use crate::driver::{
    DrmDevice,
    DrmFile,
    VaccelDrm, //
};
use crate::drm::gem;
use crate::drm::gem::window::{
    Fault,
    FaultEnd, //
};
use crate::fence::Fence;
use crate::gpupv::{
    self,
    Request, //
};
use crate::guest_memory;
use crate::host_error::HostResult;
use crate::host_memory::{
    HostMemory,
    Wanted, //
};
use crate::io::{
    CacheMode,
    MemRemap, //
};
use crate::logic::range;
use crate::turn::Turn;
use crate::view::View;

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

/// Whose memory it is.
enum Source {
    /// The object's own pages, shared with the host.
    Guest,
    /// Pages of a dma-buf of somebody else.
    Import(Arc<CpuAccess>),
    /// The host's.
    Host(HostView),
}

/// Whether an access of the CPU to somebody else's memory has begun.
#[pin_data]
struct CpuAccess {
    /// Who asks the exporter, which may wait for its devices.
    #[pin]
    turn: Turn,
    /// Changed by who has the turn.
    begun: AtomicBool,
}

impl CpuAccess {
    fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                turn <- Turn::new(),
                begun: AtomicBool::new(false),
            }),
            GFP_KERNEL,
        )
    }

    /// Begins or ends an access, or both.
    ///
    /// Exporters want an access to begin before it ends, and to end before it begins again.
    fn sync(&self, object: &Object, flags: u32) -> HostResult {
        let _turn = self.turn.take()?;
        if self.begun.load(Ordering::Relaxed) {
            object.end_cpu_access()?;
            self.begun.store(false, Ordering::Relaxed);
        }
        if flags & uapi::VACCEL_SYNC_FOR_CPU != 0 {
            object.begin_cpu_access()?;
            self.begun.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Memory of the host with the CPU's view of it.
struct HostView {
    // Dropped first, so that the view ends before the memory.
    view: EndedView,
    memory: HostMemory,
}

/// A view that ends with its object.
struct EndedView(Arc<View>);

impl Drop for EndedView {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// The allocations of one object.
#[pin_data]
struct Allocations {
    #[pin]
    list: Mutex<KVec<Arc<Allocation>>>,
}

/// Memory that the GPU sees.
pub(crate) struct Memory {
    allocations: Arc<Allocations>,
    source: Source,
    flags: u32,
    usage: Arc<Usage>,
}

impl Memory {
    fn new(source: Source, flags: u32, usage: Arc<Usage>) -> Result<Self> {
        let allocations = Arc::pin_init(
            pin_init!(Allocations {
                list <- new_mutex!(KVec::new(), "Allocations::list"),
            }),
            GFP_KERNEL,
        )?;
        Ok(Self {
            allocations,
            source,
            flags,
            usage,
        })
    }

    /// Whether the GPU may only read it.
    pub(crate) fn is_read_only(&self) -> bool {
        self.flags & uapi::VACCEL_BO_READ_ONLY != 0
    }

    /// How it is used.
    pub(crate) fn usage(&self) -> &Usage {
        &self.usage
    }

    /// Whether other vms may have the same memory of the host.
    pub(crate) fn is_shared_by_host(&self) -> bool {
        matches!(&self.source, Source::Host(host) if host.memory.shareable)
    }

    /// Whether it is memory of the host.
    pub(crate) fn is_host(&self) -> bool {
        matches!(self.source, Source::Host(_))
    }

    /// Takes it out of the CPU's view, until the CPU accesses it again.
    ///
    /// # Errors
    ///
    /// Those of [`View::hide`].
    pub(crate) fn hide(&self) -> HostResult {
        match self.view() {
            Some(view) => view.hide(),
            None => Ok(()),
        }
    }

    fn view(&self) -> Option<&Arc<View>> {
        match &self.source {
            Source::Host(host) => Some(&host.view.0),
            Source::Guest | Source::Import(_) => None,
        }
    }

    fn known_allocation(&self, device: &Arc<Device>) -> Option<Arc<Allocation>> {
        let list = self.allocations.list.lock();
        let found = list
            .iter()
            .find(|known| Arc::ptr_eq(&known.device, device))
            .cloned();
        found
    }

    /// Gives back the allocations of vms that are gone, and with them what the file pays for them.
    fn give_up_retired(&self) -> HostResult {
        loop {
            let retired = {
                let mut list = self.allocations.list.lock();
                let at = list.iter().position(|known| known.device.is_retired());
                at.and_then(|at| list.remove(at).ok())
            };
            match retired {
                Some(retired) => Allocation::end(retired)?,
                None => return Ok(()),
            }
        }
    }

    /// Enters an allocation, unless there is one of its device by now.
    fn enter(&self, new: Arc<Allocation>) -> Result<Arc<Allocation>> {
        let mut list = self.allocations.list.lock();
        let known = list
            .iter()
            .find(|known| Arc::ptr_eq(&known.device, &new.device))
            .cloned();
        if let Some(known) = known {
            // Dropped behind the lock, with what was made in vain.
            drop(list);
            return Ok(known);
        }
        list.push(new.clone(), GFP_KERNEL)?;
        Ok(new)
    }

    /// Forgets the allocations of a file that closed its handle. Bindings keep theirs.
    fn forget(&self, file: &DrmFile) {
        let client = file.inner();
        self.allocations
            .list
            .lock()
            .retain(|known| !Arc::ptr_eq(&known.device.process, &client.process));
    }
}

/// Memory for arguments.
pub(crate) struct Arg {
    map: SetOnce<gem::shmem::VMap<Bo>>,
}

/// What is inside a GEM object.
pub(crate) enum Bo {
    /// Memory that the GPU sees.
    Memory(Memory),
    /// `VACCEL_BO_KIND_ARG`.
    Arg(Arg),
    /// The value of a fence, to be mapped. Holds the fence while a mapping exists.
    FencePage(Arc<Fence>),
}

impl gem::DriverObject for Bo {
    type Driver = VaccelDrm;

    fn close(object: &Object, file: &DrmFile) {
        if let Self::Memory(memory) = &**object {
            memory.forget(file);
        }
    }

    fn is_exportable(&self) -> bool {
        match self {
            Self::Memory(memory) => match &memory.source {
                Source::Guest | Source::Import(_) => true,
                Source::Host(host) => host.memory.shareable,
            },
            Self::Arg(_) | Self::FencePage(_) => false,
        }
    }

    fn import(dev: &DrmDevice, _size: usize) -> Result<Self> {
        if !dev.takes_page_lists() {
            return Err(EOPNOTSUPP);
        }
        let usage = Arc::new(Usage::default(), GFP_KERNEL)?;
        Ok(Self::Memory(Memory::new(
            Source::Import(CpuAccess::new()?),
            0,
            usage,
        )?))
    }

    fn fault(object: &Object, fault: Fault<'_>) -> FaultEnd {
        match object.memory().ok().and_then(Memory::view) {
            Some(view) => view.fault(fault),
            None => fault.sigbus(),
        }
    }

    fn vmap(object: &Object) -> Result<Arc<MemRemap>> {
        let view = object.memory()?.view().ok_or(EOPNOTSUPP)?;
        Ok(view.pin()?)
    }

    fn vunmap(object: &Object) {
        if let Some(view) = object.memory().ok().and_then(Memory::view) {
            view.unpin();
        }
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

    /// The memory in it.
    ///
    /// # Errors
    ///
    /// `EINVAL` for another kind of object.
    pub(crate) fn memory(&self) -> Result<&Memory> {
        match self {
            Self::Memory(memory) => Ok(memory),
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
            Self::Memory(_) | Self::FencePage(_) => Err(EINVAL),
        }
    }
}

/// The allocation of `object` on `device`, made if there is none yet.
///
/// # Errors
///
/// `EINVAL` for an object that has no memory for the GPU, or host memory that cannot be shared;
/// those of the host and of its kind of memory.
pub(crate) fn allocation(object: &Object, device: &Arc<Device>) -> HostResult<Arc<Allocation>> {
    let memory = object.memory()?;
    memory.give_up_retired()?;
    if let Some(known) = memory.known_allocation(device) {
        return Ok(known);
    }
    let made = match &memory.source {
        Source::Guest | Source::Import(_) => {
            guest_memory::allocate(object, memory.flags, device, &memory.usage)?
        }
        Source::Host(host) if Arc::ptr_eq(&host.memory.home.device, device) => {
            host.memory.home.clone()
        }
        Source::Host(host) => host.memory.open(device)?,
    };
    Ok(memory.enter(made)?)
}

/// The allocation of `object` on `device`, which must exist.
///
/// # Errors
///
/// `EINVAL` for an object that has none there, whatever it is.
pub(crate) fn used_allocation(object: &Object, device: &Arc<Device>) -> Result<Arc<Allocation>> {
    object.memory()?.known_allocation(device).ok_or(EINVAL)
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
        Bo::Memory(_) | Bo::Arg(_) => Ok(object),
    }
}

/// Copies what is at `offset` of the argument object `handle`, once.
///
/// # Errors
///
/// Those of [`ArgRef::new`].
pub(crate) fn read_arg(file: &DrmFile, handle: u32, offset: u64, bytes: &mut [u8]) -> Result {
    let object = find(file, handle)?;
    let arg = object.arg()?;
    check_arg(&object, offset, bytes.len())?;
    // CAST: it is inside of the object.
    arg.read(offset as usize, bytes)
}

/// Checks the place of arguments in an object.
fn check_arg(object: &Object, offset: u64, size: usize) -> Result {
    if offset % 8 != 0 {
        return Err(EINVAL);
    }
    // CAST: object sizes fit both ways on a 64-bit kernel.
    range::inside(offset, size as u64, object.size() as u64).map_err(range_error)?;
    Ok(())
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
        check_arg(&object, offset, size)?;
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
        let mut bytes = KVVec::zeroed(self.size, GFP_KERNEL)?;
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
    let known = uapi::VACCEL_BO_READ_ONLY | uapi::VACCEL_BO_SHAREABLE;
    if args.flags & !known != 0
        || args.caching > uapi::VACCEL_BO_WRITE_COMBINED
        || args.reserved != [0; 2]
        || args.size == 0
        || args.size % gpupv::PAGE_SIZE != 0
    {
        return Err(EINVAL.into());
    }
    let object = match args.kind {
        uapi::VACCEL_BO_KIND_GUEST => create_guest(dev, args, file)?,
        uapi::VACCEL_BO_KIND_HOST => create_host(dev, args, file)?,
        uapi::VACCEL_BO_KIND_ARG => create_arg(dev, args)?,
        _ => return Err(EINVAL.into()),
    };
    args.bo = object.create_handle(file)?;
    // CAST: object sizes fit.
    args.size = object.size() as u64;
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
    if has_private_data(args) || args.flags & uapi::VACCEL_BO_SHAREABLE != 0 {
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
    let usage = Arc::new(Usage::default(), GFP_KERNEL)?;
    let memory = Memory::new(Source::Guest, args.flags, usage)?;
    // CAST: sizes fit on a 64-bit kernel.
    let object = Object::new_shmem(dev, args.size as usize, Ok(Bo::Memory(memory)))?;
    allocation(&object, &device)?;
    Ok(object)
}

fn create_host(
    dev: &DrmDevice,
    args: &uapi::drm_vaccel_bo_create,
    file: &DrmFile,
) -> HostResult<ARef<Object>> {
    if args.priv_size == 0 {
        return Err(EINVAL.into());
    }
    if args.priv_size > uapi::VACCEL_PRIV_SIZE_MAX || args.size > size_max(dev) {
        return Err(EFBIG.into());
    }
    // CAST: checked above.
    let place = ArgRef::new(file, args.arg_bo, args.arg_offset, args.priv_size as usize)?;
    let device = file.inner().vm(args.vm)?.device.clone();
    device.check()?;
    let wanted = Wanted {
        size: args.size,
        flags: args.flags,
        mode: match args.caching {
            uapi::VACCEL_BO_WRITE_COMBINED => CacheMode::WriteCombined,
            _ => CacheMode::WriteBack,
        },
        data: &place.read()?,
    };
    let usage = Arc::new(Usage::default(), GFP_KERNEL)?;
    let memory = HostMemory::new(&device, &wanted, |data| place.write(data), &usage)?;
    let view = View::new(memory.home.clone(), memory.mode)?;
    // CAST: the host's size is checked by whoever maps it; here it only has to fit.
    let size = usize::try_from(memory.size).map_err(|_| EFBIG)?;
    let host = HostView {
        view: EndedView(view.clone()),
        memory,
    };
    let home = host.memory.home.clone();
    let memory = Memory::new(Source::Host(host), args.flags, usage)?;
    memory.enter(home)?;
    let object = Object::new_window(dev, size, Ok(Bo::Memory(memory)))?;
    view.set_users(object.user_mappings()?);
    Ok(object)
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
    args.caching = uapi::VACCEL_BO_CACHED;
    (args.kind, args.flags) = match &**object {
        Bo::Memory(memory) => {
            let kind = match &memory.source {
                Source::Guest => uapi::VACCEL_BO_KIND_GUEST,
                Source::Import(_) => uapi::VACCEL_BO_KIND_IMPORT,
                Source::Host(host) => {
                    if host.memory.mode == CacheMode::WriteCombined {
                        args.caching = uapi::VACCEL_BO_WRITE_COMBINED;
                    }
                    uapi::VACCEL_BO_KIND_HOST
                }
            };
            (kind, memory.flags)
        }
        Bo::Arg(_) => (uapi::VACCEL_BO_KIND_ARG, 0),
        Bo::FencePage(_) => return Err(ENOENT.into()),
    };
    // CAST: object sizes fit.
    args.size = object.size() as u64;
    args.mmap_offset = object.mmap_offset();
    Ok(())
}

/// `DRM_IOCTL_VACCEL_BO_SYNC`.
pub(crate) fn sync(
    _dev: &DrmDevice,
    args: &mut uapi::drm_vaccel_bo_sync,
    file: &DrmFile,
) -> HostResult {
    let known = uapi::VACCEL_SYNC_FOR_CPU | uapi::VACCEL_SYNC_FOR_DEVICE;
    if args.flags == 0 || args.flags & !known != 0 || args.pad != 0 {
        return Err(EINVAL.into());
    }
    let object = find(file, args.bo)?;
    let memory = object.memory()?;
    // CAST: object sizes fit.
    range::inside(args.bo_offset, args.size, object.size() as u64).map_err(range_error)?;
    match &memory.source {
        Source::Guest => Ok(()),
        Source::Import(access) => access.sync(&object, args.flags),
        Source::Host(host) => invalidate(&host.memory.home, args.bo_offset, args.size),
    }
}

/// Has the host make caches agree: the protocol knows no direction.
fn invalidate(allocation: &Allocation, offset: u64, length: u64) -> HostResult {
    let device = &allocation.device;
    let request = Request::from(gpupv::InvalidateCache {
        device: device.handle(),
        allocation: allocation.handle(),
        offset,
        length,
        ..Default::default()
    });
    device.process.call(&request, |_| Ok(()))
}
