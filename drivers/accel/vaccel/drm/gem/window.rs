// SPDX-License-Identifier: GPL-2.0-only

//! GEM objects whose memory is somebody else's, seen through a finite window of I/O space.
//!
//! C headers: [`include/drm/drm_gem.h`](srctree/include/drm/drm_gem.h),
//! [`include/linux/mm.h`](srctree/include/linux/mm.h)
//!
//! There is not enough room in the window for all objects at a time. So the driver makes the memory
//! of an object visible when it is touched ([`DriverObject::fault`]), and may take it out again: it
//! removes what user space got of it ([`UserMappings::zap`]) and gives the room to somebody else.
//! The next access faults again.
//!
//! Objects can be exported, but only to be mapped: the frames are no memory that another device
//! could reach, so attaching one is refused. The core makes user mappings through the dma-buf part of
//! the address space of the DRM device like those made through the device node, and they go with
//! them.
//!
//! Once the device is unplugged every access finds a page of the object's own that starts as zeros:
//! programs notice that the device is gone by its ioctls and not by a signal.

use core::{
    cell::{
        Cell,
        UnsafeCell, //
    },
    ptr::NonNull, //
};

use kernel::{
    mm::virt::{
        flags,
        VmaRef, //
    },
    page::{
        Page,
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*,
    sync::{
        aref::ARef,
        Arc,
        SetOnce, //
    },
};

use super::{
    Backing,
    DriverObject,
    Object, //
};
use crate::{
    bindings, drm,
    io::{
        CacheMode,
        MemRemap, //
    },
};

/// What the layer keeps of an object whose memory is visible on demand.
pub(super) struct Window {
    /// What user space finds once the device is unplugged.
    dummy: SetOnce<Page>,
    /// The kernel's mapping for others; protected by the reservation lock of the object.
    vmaps: UnsafeCell<VMaps>,
}

/// The kernel mapping of an object that importers of its dma-buf share.
struct VMaps {
    count: usize,
    memory: Option<Arc<MemRemap>>,
}

impl Window {
    pub(super) const fn new() -> Self {
        Self {
            dummy: SetOnce::new(),
            vmaps: UnsafeCell::new(VMaps {
                count: 0,
                memory: None,
            }),
        }
    }

    /// The frame of the page that stands in for the object.
    ///
    /// [`None`] if somebody else is making it right now.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    fn dummy_frame(&self) -> Result<Option<usize>> {
        if self.dummy.as_ref().is_none() {
            self.dummy
                .populate(Page::alloc_page(GFP_KERNEL | __GFP_ZERO)?);
        }

        Ok(self.dummy.as_ref().map(|page| {
            // SAFETY: The page is valid while it is in its cell.
            unsafe { bindings::vaccel_page_to_pfn(page.as_ptr()) }
        }))
    }
}

/// How a fault ended.
///
/// Only what ends a [`Fault`] makes one.
#[must_use = "the memory manager waits for it"]
pub struct FaultEnd(bindings::vm_fault_t);

/// Says by itself that the driver called [`Fault::lost`]: no reason of the memory manager.
const LOST: bindings::vm_fault_t = !0;

/// What the layer knows of a fault while the driver handles it.
///
/// # Invariants
///
/// - `vmf` is the description of a fault that is being handled, in a mapping that
///   [`Object::window_mmap_callback`] set up. It and the mapping are valid while `file` is null.
/// - `file` is null while the lock is held under which the fault is handled, then a file to be put.
struct Handling {
    vmf: NonNull<bindings::vm_fault>,
    page: usize,
    file: Cell<*mut bindings::file>,
}

impl Handling {
    /// Inserts a frame, cached as `mode` says.
    ///
    /// # Safety
    ///
    /// - The lock must be held under which the fault is handled.
    /// - User space may access the frame.
    unsafe fn insert(&self, frame: usize, mode: CacheMode) -> FaultEnd {
        let vmf = self.vmf.as_ptr();

        // SAFETY: By the safety requirements and the type invariants the description is valid, and
        // so is the mapping, whose protection does not change under the lock.
        let (vma, address, prot) = unsafe {
            let fault = &(*vmf).__bindgen_anon_1;
            (fault.vma, fault.address, (*fault.vma).vm_page_prot)
        };
        let prot = match mode {
            CacheMode::WriteBack => prot,
            // SAFETY: No requirements.
            CacheMode::WriteCombined => unsafe { bindings::vaccel_pgprot_writecombine(prot) },
        };

        // SAFETY:
        // - `address` lies in the mapping, one of page frames that is no copy-on-write mapping.
        // - The mapping is locked.
        // - By the safety requirements the frame may be seen.
        FaultEnd(unsafe { bindings::vmf_insert_pfn_prot(vma, address, frame, prot) })
    }

    /// Whether the fault may be handled without the lock, and tried again.
    fn may_retry(&self) -> bool {
        // SAFETY: Only called with the lock held, by the type invariants the description is valid.
        let flags = unsafe { self.vmf.as_ref() }.flags;

        flags & bindings::fault_flag_FAULT_FLAG_ALLOW_RETRY != 0
            && flags & bindings::fault_flag_FAULT_FLAG_TRIED == 0
    }

    /// Whether whoever caused the fault does not want to sleep.
    fn is_nowait(&self) -> bool {
        // SAFETY: As above.
        let flags = unsafe { self.vmf.as_ref() }.flags;

        self.may_retry() && flags & bindings::fault_flag_FAULT_FLAG_RETRY_NOWAIT != 0
    }

    /// Gives up the lock under which the fault is handled.
    ///
    /// # Safety
    ///
    /// The lock must be held, and `may_retry()` must say yes.
    unsafe fn unlock(&self) {
        // SAFETY: By the safety requirements the fault may be tried again, and the lock is held, so
        // the mapping is valid and has a file.
        let file = unsafe { bindings::vaccel_fault_unlock(self.vmf.as_ptr()) };
        // INVARIANT: The lock is not held any more, and the file is ours.
        self.file.set(file);
    }

    /// Turns the driver's word into what the memory manager is told.
    ///
    /// The state of the lock decides, whatever the driver said.
    fn result(&self, end: FaultEnd) -> bindings::vm_fault_t {
        if !self.file.get().is_null() {
            return bindings::vm_fault_reason_VM_FAULT_RETRY;
        }
        match end.0 {
            bindings::vm_fault_reason_VM_FAULT_RETRY => bindings::vm_fault_reason_VM_FAULT_NOPAGE,
            end => end,
        }
    }
}

impl Drop for Handling {
    fn drop(&mut self) {
        let file = self.file.get();
        if !file.is_null() {
            // SAFETY: By the type invariants the file is ours to put.
            unsafe { bindings::fput(file) };
        }
    }
}

/// An access of user space to a page that is not there; the driver has to end it.
pub struct Fault<'a>(&'a Handling);

impl<'a> Fault<'a> {
    /// The index of the page within the object.
    pub fn page(&self) -> usize {
        self.0.page
    }

    /// Lets user space see page `page` of `memory`, cached as that is, in place of the missing page.
    ///
    /// Raises `SIGBUS` if `memory` has no such page.
    ///
    /// The layer does not know when the memory behind the address becomes somebody else's. So the
    /// caller has to hold a lock here under which it found that the memory is still the object's,
    /// and take the same lock before it calls [`UserMappings::zap`] and lets go of the memory. The
    /// lock nests within the one of the address space: whoever holds it must not access user memory.
    pub fn insert(self, memory: &MemRemap, page: usize) -> FaultEnd {
        let Some(frame) = frame(memory, page) else {
            return self.sigbus();
        };

        // SAFETY:
        // - A `Fault` exists only while the lock is held: `try_unlock()` consumes it.
        // - The mapping's memory may be shown to user space, by the requirements of its maker.
        unsafe { self.0.insert(frame, memory.mode()) }
    }

    /// Whether [`Fault::try_unlock`] will succeed.
    ///
    /// Faults that must not wait for anything do not reach the driver; one that was tried already
    /// does, and may only be waited for with the lock held.
    pub fn may_wait(&self) -> bool {
        self.0.may_retry()
    }

    /// Gives up the lock of the address space, so that the driver can wait without stopping the
    /// process. The access is tried again afterwards.
    ///
    /// # Errors
    ///
    /// The fault itself, if it has to end in this call.
    pub fn try_unlock(self) -> Result<Unlocked<'a>, Fault<'a>> {
        if !self.0.may_retry() {
            return Err(self);
        }

        // SAFETY: Checked above; a `Fault` exists only while the lock is held.
        unsafe { self.0.unlock() };
        Ok(Unlocked(self.0))
    }

    /// Has the access tried again at once.
    pub fn again(self) -> FaultEnd {
        FaultEnd(bindings::vm_fault_reason_VM_FAULT_NOPAGE)
    }

    /// Raises `SIGBUS`.
    pub fn sigbus(self) -> FaultEnd {
        FaultEnd(bindings::vm_fault_reason_VM_FAULT_SIGBUS)
    }

    /// Lets user space see the page that it will see for good once the device is unplugged: what the
    /// object's memory was is gone.
    pub fn lost(self) -> FaultEnd {
        FaultEnd(LOST)
    }

    /// Says that there is not enough memory.
    pub fn out_of_memory(self) -> FaultEnd {
        FaultEnd(bindings::vm_fault_reason_VM_FAULT_OOM)
    }
}

/// A fault that is handled without the lock of the address space.
///
/// The mapping may be gone by now; the object is not, for the layer holds a reference to it until the
/// driver's handler is done.
#[must_use = "the access has to be tried again"]
pub struct Unlocked<'a>(#[expect(dead_code, reason = "a fault is being handled")] &'a Handling);

impl Unlocked<'_> {
    /// Has the access tried again.
    pub fn retry(self) -> FaultEnd {
        FaultEnd(bindings::vm_fault_reason_VM_FAULT_RETRY)
    }
}

/// The frame of page `page` of a mapping.
fn frame(memory: &MemRemap, page: usize) -> Option<usize> {
    if page >= memory.size() / PAGE_SIZE || memory.phys() % PAGE_SIZE as u64 != 0 {
        return None;
    }

    // A range does not wrap around, so neither does the frame of a page in it.
    usize::try_from(memory.phys() >> PAGE_SHIFT)
        .ok()?
        .checked_add(page)
}

/// Where user space maps an object, whether the object still exists or not.
///
/// It does not keep the object. Once that is gone, its place in the offset space may be another
/// object's; removing that one's mappings does no harm, for they fault again.
///
/// # Invariants
///
/// The `size` bytes at `start` are not empty.
pub struct UserMappings<T: DriverObject> {
    dev: ARef<drm::Device<T::Driver>>,
    start: u64,
    size: usize,
}

impl<T: DriverObject> UserMappings<T> {
    /// Removes all user mappings of the object; the next access faults again.
    ///
    /// Must be called where one can sleep. On return no processor can reach what was mapped, except
    /// by what was inserted after the call began: see [`Fault::insert`] for how to exclude that.
    pub fn zap(&self) {
        // SAFETY: The device is valid; a range that is not empty stays one.
        unsafe { bindings::vaccel_drm_unmap_range(self.dev.as_raw(), self.start, self.size) };
    }
}

impl<T: DriverObject> Object<T> {
    /// The functions of objects whose memory is visible on demand.
    pub(super) const WINDOW_FUNCS: bindings::drm_gem_object_funcs = {
        let mut funcs: bindings::drm_gem_object_funcs = pin_init::zeroed();

        funcs.free = Some(Self::free_callback);
        funcs.open = Some(Self::open_callback);
        funcs.close = Some(Self::close_callback);
        funcs.export = Some(Self::export_callback);
        funcs.pin = Some(Self::window_pin_callback);
        funcs.get_sg_table = Some(Self::window_get_sg_table_callback);
        funcs.vmap = Some(Self::window_vmap_callback);
        funcs.vunmap = Some(Self::window_vunmap_callback);
        funcs.mmap = Some(Self::window_mmap_callback);
        funcs.vm_ops = &Self::WINDOW_VM_OPS;

        funcs
    };

    /// What happens to user mappings of such objects.
    const WINDOW_VM_OPS: bindings::vm_operations_struct = {
        let mut ops: bindings::vm_operations_struct = pin_init::zeroed();

        ops.open = Some(bindings::drm_gem_vm_open);
        ops.close = Some(bindings::drm_gem_vm_close);
        ops.fault = Some(Self::window_fault_callback);

        ops
    };

    /// A handle by which the user mappings of this object can be removed, also after its end.
    ///
    /// Those made through a dma-buf of the object are among them: the core gives the file of such a
    /// dma-buf the address space of the device.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the object is an import: its mappings are its exporter's.
    pub fn user_mappings(&self) -> Result<UserMappings<T>> {
        if self.is_import() {
            return Err(EINVAL);
        }

        // INVARIANT: No object is empty.
        Ok(UserMappings {
            dev: self.dev().into(),
            start: self.mmap_offset(),
            size: self.size(),
        })
    }

    /// The layer's part of an object whose memory is visible on demand.
    ///
    /// # Errors
    ///
    /// `EINVAL` for another object.
    fn window(&self) -> Result<&Window> {
        match &self.backing {
            Backing::Window(window) => Ok(window),
            _ => Err(EINVAL),
        }
    }

    /// The `pin` callback of `struct drm_gem_object_funcs`, which is asked for each attachment to a
    /// dma-buf.
    ///
    /// # Safety
    ///
    /// None; `unsafe` by the type of the C table.
    unsafe extern "C" fn window_pin_callback(_obj: *mut bindings::drm_gem_object) -> c_int {
        EOPNOTSUPP.to_errno()
    }

    /// The `get_sg_table` callback of `struct drm_gem_object_funcs`.
    ///
    /// # Safety
    ///
    /// None; `unsafe` by the type of the C table.
    unsafe extern "C" fn window_get_sg_table_callback(
        _obj: *mut bindings::drm_gem_object,
    ) -> *mut bindings::sg_table {
        EOPNOTSUPP.to_ptr()
    }

    /// The `vmap` callback of `struct drm_gem_object_funcs`.
    ///
    /// # Safety
    ///
    /// Only for the DRM core, with an object of the driver of `T` that stays referenced and whose
    /// reservation is locked, and a mapping to be filled in.
    unsafe extern "C" fn window_vmap_callback(
        obj: *mut bindings::drm_gem_object,
        map: *mut bindings::iosys_map,
    ) -> c_int {
        // SAFETY: By the safety requirements.
        let this = unsafe { Self::from_raw(obj) };

        // SAFETY: The reservation is locked by the safety requirements.
        match unsafe { this.window_vmap() } {
            Ok(addr) => {
                // SAFETY: The mapping may be filled in by the safety requirements.
                unsafe {
                    (*map).__bindgen_anon_1.vaddr = addr;
                    (*map).is_iomem = false;
                }
                0
            }
            Err(e) => e.to_errno(),
        }
    }

    /// Takes a share in the kernel mapping of the object, and makes it if it is the first.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the device is unplugged, `EIO` if what the driver gave is smaller than the
    /// object, or the error of the driver.
    ///
    /// # Safety
    ///
    /// The reservation of the object must be locked.
    unsafe fn window_vmap(&self) -> Result<*mut c_void> {
        let window = self.window()?;
        let _guard = self.dev.enter().ok_or(ENODEV)?;

        // SAFETY: The reservation is locked, so nobody else accesses the field; the driver is not
        // called while the reference is used.
        let vmaps = unsafe { &mut *window.vmaps.get() };
        if let Some(memory) = &vmaps.memory {
            vmaps.count += 1;
            return Ok(memory.as_ptr());
        }

        let memory = T::vmap(self)?;
        if memory.size() < self.size() {
            T::vunmap(self);
            return Err(EIO);
        }
        let addr = memory.as_ptr();
        // SAFETY: The reservation is locked, so nobody else accesses the field.
        unsafe {
            *window.vmaps.get() = VMaps {
                count: 1,
                memory: Some(memory),
            };
        }
        Ok(addr)
    }

    /// The `vunmap` callback of `struct drm_gem_object_funcs`.
    ///
    /// # Safety
    ///
    /// Only for the DRM core, with an object of the driver of `T` that stays referenced and whose
    /// reservation is locked, and a mapping that `window_vmap_callback()` filled in.
    unsafe extern "C" fn window_vunmap_callback(
        obj: *mut bindings::drm_gem_object,
        _map: *mut bindings::iosys_map,
    ) {
        // SAFETY: By the safety requirements.
        let this = unsafe { Self::from_raw(obj) };
        let Ok(window) = this.window() else {
            return;
        };

        // SAFETY: The reservation is locked, so nobody else accesses the field; the driver is not
        // called while the reference is used.
        let vmaps = unsafe { &mut *window.vmaps.get() };
        vmaps.count = vmaps.count.saturating_sub(1);
        if vmaps.count != 0 {
            return;
        }
        if let Some(memory) = vmaps.memory.take() {
            drop(memory);
            T::vunmap(this);
        }
    }

    /// The `mmap` callback of `struct drm_gem_object_funcs`.
    ///
    /// # Safety
    ///
    /// Only for the DRM core, with an object of the driver of `T` that stays referenced and a
    /// mapping that is being set up.
    unsafe extern "C" fn window_mmap_callback(
        _obj: *mut bindings::drm_gem_object,
        vma: *mut bindings::vm_area_struct,
    ) -> c_int {
        // SAFETY: The mapping is valid and locked while it is being set up.
        let flags = unsafe { VmaRef::from_raw(vma) }.flags();

        // Page frames must not be inserted into copy-on-write mappings.
        if flags & (flags::SHARED | flags::MAYWRITE) == flags::MAYWRITE {
            return EINVAL.to_errno();
        }
        // SAFETY: The mapping is being set up, so its flags may be changed.
        unsafe { bindings::vaccel_vma_map_io(vma) };
        0
    }

    /// The `fault` callback of `struct vm_operations_struct`.
    ///
    /// # Safety
    ///
    /// Only for the memory manager, with a fault in a mapping of an object of `T`.
    unsafe extern "C" fn window_fault_callback(
        vmf: *mut bindings::vm_fault,
    ) -> bindings::vm_fault_t {
        // SAFETY: The description of the fault is valid.
        let (vma, offset) = unsafe {
            let fault = &(*vmf).__bindgen_anon_1;
            (fault.vma, fault.pgoff)
        };
        // SAFETY: The DRM core stored the object in the mapping, which holds a reference to it.
        let this = unsafe { Self::from_raw((*vma).vm_private_data.cast()) };
        // Without the lock the mapping may go away. With it, this is not the last reference.
        let this = ARef::from(this);

        // SAFETY: The object is initialised, and its place in the offset space does not change.
        let start = unsafe { (*this.as_raw()).vma_node.vm_node.start };
        // CAST: `unsigned long` has at most 64 bits, and as many as `usize`.
        let page = (offset as u64).wrapping_sub(start) as usize;
        if page >= this.size() / PAGE_SIZE {
            return bindings::vm_fault_reason_VM_FAULT_SIGBUS;
        }
        let Some(vmf) = NonNull::new(vmf) else {
            return bindings::vm_fault_reason_VM_FAULT_SIGBUS;
        };

        // INVARIANT: The fault is being handled, under the lock.
        let handling = Handling {
            vmf,
            page,
            file: Cell::new(core::ptr::null_mut()),
        };
        let result = this.window_handle(&handling);
        // The object may end here. What keeps this module goes last: the file.
        drop(this);
        drop(handling);
        result
    }

    /// Handles a fault, or has the driver do it.
    fn window_handle(&self, handling: &Handling) -> bindings::vm_fault_t {
        if handling.is_nowait() {
            // By this flag the lock stays as it is.
            return bindings::vm_fault_reason_VM_FAULT_RETRY;
        }

        let end = match self.dev.enter() {
            Some(_guard) => match T::fault(self, Fault(handling)) {
                end if end.0 == LOST && handling.file.get().is_null() => {
                    self.window_dummy(handling)
                }
                end => end,
            },
            None => self.window_dummy(handling),
        };
        handling.result(end)
    }

    /// Lets user space see the page that stands in for the memory of an unplugged device.
    fn window_dummy(&self, handling: &Handling) -> FaultEnd {
        match self.window().and_then(Window::dummy_frame) {
            // SAFETY:
            // - The lock is held: the driver was not called.
            // - The page belongs to the object, and is freed with it: not before the mapping, which
            //   holds a reference to it, is gone.
            Ok(Some(frame)) => unsafe { handling.insert(frame, CacheMode::WriteBack) },
            Ok(None) => Fault(handling).again(),
            Err(_) => Fault(handling).out_of_memory(),
        }
    }
}
