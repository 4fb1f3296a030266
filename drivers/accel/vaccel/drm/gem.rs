// SPDX-License-Identifier: GPL-2.0-only

//! DRM GEM objects.
//!
//! C header: [`include/drm/drm_gem.h`](srctree/include/drm/drm_gem.h)
//!
//! Every GEM object of a device is an [`Object`] of the driver's one [`DriverObject`] type; what is
//! behind it is shmem ([`shmem`]), frames of an I/O mapping ([`io`]), memory that is visible on demand
//! ([`window`]), or a dma-buf of somebody else ([`import`]).
//!
//! # Who frees what
//!
//! An object has two counts. The GEM reference count is what handles, user mappings, exported
//! dma-bufs and [`ARef`]s hold. When it drops to zero the driver's data is dropped, and no user can
//! reach the object any more. The storage count is held once by all GEM references together and
//! once by each guard ([`Pages`], [`shmem::VMap`]). When it drops to zero the pages and the
//! object itself are freed. So the driver's data may own guards of its own object, and may hand
//! them to somebody who has to outlive it, such as a request that tells another party to let go of
//! the pages.

pub mod import;
pub mod io;
pub mod pages;
pub mod reservation;
pub mod shmem;
pub mod window;

use core::{
    ops::Deref,
    ptr::NonNull, //
};

use kernel::{
    error::to_result,
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        aref::{
            ARef,
            AlwaysRefCounted, //
        },
        Arc,
        Refcount, //
    },
    types::Opaque,
};
use pin_init::Wrapper;

pub use self::{
    pages::Pages,
    window::{
        Fault,
        FaultEnd,
        Unlocked,
        UserMappings, //
    },
};
use crate::{
    bindings,
    drm,
    io::MemRemap, //
};

/// The open file type of the driver of `T`.
type DriverFile<T> = drm::File<<<T as DriverObject>::Driver as drm::Driver>::File>;

/// The driver's data of a GEM object.
pub trait DriverObject: Send + Sync + Sized + 'static {
    /// The driver this data belongs to.
    type Driver: drm::Driver<Object = Self>;

    /// Called for each new handle to the object in a file.
    ///
    /// If the handle is made of a dma-buf, the lock is held under which the file imports and exports
    /// those.
    fn open(_obj: &Object<Self>, _file: &DriverFile<Self>) -> Result {
        Ok(())
    }

    /// Called when such a handle is closed, or its file.
    ///
    /// In the latter case other handles of the file may be gone: do not look them up.
    fn close(_obj: &Object<Self>, _file: &DriverFile<Self>) {}

    /// Whether the object may leave the driver as a dma-buf, if its memory allows that.
    fn is_exportable(&self) -> bool {
        true
    }

    /// User space accesses a page that is not there, of an object that
    /// [`Object::new_window`] made.
    ///
    /// Called in a section under [`drm::Device::enter`], with the lock of the address space held
    /// until [`Fault::try_unlock`]. May sleep, but should not wait for long with that lock held, and
    /// in any case so that a fatal signal ends it. Locks that are taken here nest within the one of
    /// the address space, so whoever holds them must not access user memory.
    fn fault(_obj: &Object<Self>, fault: Fault<'_>) -> FaultEnd {
        fault.sigbus()
    }

    /// Makes all of an object that [`Object::new_window`] made visible to the kernel, for importers
    /// of its dma-buf. It has to stay so until [`DriverObject::vunmap`].
    ///
    /// Called with the reservation of the object locked, within which the locks nest that are taken
    /// here, and in a section under [`drm::Device::enter`]; not called again before `vunmap`.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` if the driver does not do that, or another error of the driver.
    fn vmap(_obj: &Object<Self>) -> Result<Arc<MemRemap>> {
        Err(EOPNOTSUPP)
    }

    /// Undoes [`DriverObject::vmap`]. Called with the reservation of the object locked, also after
    /// the device was unplugged.
    fn vunmap(_obj: &Object<Self>) {}

    /// Makes the data of an object of `size` bytes whose memory is a dma-buf of somebody else.
    ///
    /// The object exists only afterwards; its first handle is announced by
    /// [`DriverObject::open`]. Called in a section under [`drm::Device::enter`], with a lock held
    /// that all imports and exports of the device need: what takes long belongs elsewhere.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` if the driver does not do that, or another error of the driver.
    fn import(_dev: &drm::Device<Self::Driver>, _size: usize) -> Result<Self> {
        Err(EOPNOTSUPP)
    }
}

/// What is behind an object.
enum Backing {
    /// Pages of a shmem file; the C object is a complete `struct drm_gem_shmem_object`.
    Shmem,
    /// Frames of an I/O mapping; only the `base` of the C object is used.
    Io(io::IoPages),
    /// Memory that is visible on demand; only the `base` of the C object is used.
    Window(window::Window),
    /// Pages of a foreign dma-buf; only the `base` of the C object is used.
    Import(import::ImportPages),
}

/// A GEM object; dereferences to the driver's data.
///
/// # Invariants
///
/// - `obj.base` is an initialised GEM object of `dev`; all of `obj` is a shmem object if `backing`
///   says so.
/// - `inner` is initialised until the GEM reference count reaches zero.
/// - `storage` is one for all GEM references together plus one for each guard.
/// - The allocation is a `KBox<Self>`, freed when `storage` reaches zero.
#[repr(C)]
#[pin_data]
pub struct Object<T: DriverObject> {
    #[pin]
    obj: Opaque<bindings::drm_gem_shmem_object>,
    storage: Refcount,
    backing: Backing,
    dev: ARef<drm::Device<T::Driver>>,
    #[pin]
    inner: Opaque<T>,
}

impl<T: DriverObject> Object<T> {
    /// Creates an object of `size` bytes backed by shmem. Its content is zeros, its mappings are
    /// cached.
    ///
    /// # Errors
    ///
    /// `EINVAL` if `size` is not a positive multiple of the page size, `ENOMEM` and what else
    /// shmem returns, or the error of `inner`.
    pub fn new_shmem(
        dev: &drm::Device<T::Driver>,
        size: usize,
        inner: impl PinInit<T, Error>,
    ) -> Result<ARef<Self>> {
        let new = Self::alloc(dev, size, Backing::Shmem, inner)?;

        // SAFETY: The GEM object is not initialised yet, and `new` is not shared.
        unsafe { (*new.as_raw()).funcs = const { &Self::SHMEM_FUNCS } };
        // SAFETY:
        // - `dev` is a valid device, and the object keeps a reference to it.
        // - The shmem object is zeroed memory except for `funcs`, as the helper expects.
        let ret = unsafe { bindings::drm_gem_shmem_init(dev.as_raw(), new.as_raw_shmem(), size) };

        // What shmem says when it has no memory for an inode.
        let result = match to_result(ret) {
            Err(error) if error == ENOSPC => Err(ENOMEM),
            result => result,
        };
        Self::finish(new, result)
    }

    /// Creates an object over frames of an I/O mapping, which user space can map read-only.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENOSPC` or the error of `inner`.
    pub fn new_io(
        dev: &drm::Device<T::Driver>,
        pages: io::IoPages,
        inner: impl PinInit<T, Error>,
    ) -> Result<ARef<Self>> {
        let (size, backing) = (pages.size(), Backing::Io(pages));

        // SAFETY: The functions are those of this backing.
        unsafe { Self::new_private(dev, size, backing, const { &Self::IO_FUNCS }, inner) }
    }

    /// Creates an object of `size` bytes whose memory the driver makes visible when it is accessed,
    /// see [`DriverObject::fault`].
    ///
    /// # Errors
    ///
    /// `EINVAL` if `size` is not a positive multiple of the page size, `ENOMEM`, `ENOSPC` or the
    /// error of `inner`.
    pub fn new_window(
        dev: &drm::Device<T::Driver>,
        size: usize,
        inner: impl PinInit<T, Error>,
    ) -> Result<ARef<Self>> {
        let backing = Backing::Window(window::Window::new());

        // SAFETY: The functions are those of this backing.
        unsafe { Self::new_private(dev, size, backing, const { &Self::WINDOW_FUNCS }, inner) }
    }

    /// Creates an object that has no file behind it.
    ///
    /// # Errors
    ///
    /// `EINVAL` if `size` is not a positive multiple of the page size, `ENOMEM`, `ENOSPC` or the
    /// error of `inner`. The backing is dropped then.
    ///
    /// # Safety
    ///
    /// `funcs` must be for objects of this backing, which must not be shmem.
    unsafe fn new_private(
        dev: &drm::Device<T::Driver>,
        size: usize,
        backing: Backing,
        funcs: &'static bindings::drm_gem_object_funcs,
        inner: impl PinInit<T, Error>,
    ) -> Result<ARef<Self>> {
        let new = Self::alloc(dev, size, backing, inner)?;

        // SAFETY: The GEM object is not initialised yet, and `new` is not shared.
        unsafe { (*new.as_raw()).funcs = funcs };
        // SAFETY:
        // - `dev` is a valid device, and the object keeps a reference to it.
        // - The size is a multiple of the page size, as checked by `alloc()`.
        unsafe { bindings::drm_gem_private_object_init(dev.as_raw(), new.as_raw(), size) };
        // SAFETY: The object is initialised.
        let ret = to_result(unsafe { bindings::drm_gem_create_mmap_offset(new.as_raw()) });
        if ret.is_err() {
            // SAFETY: The object is initialised, and nobody else knows of it.
            unsafe { bindings::drm_gem_object_release(new.as_raw()) };
        }

        Self::finish(new, ret)
    }

    /// Allocates an object whose GEM part is still zeros.
    fn alloc(
        dev: &drm::Device<T::Driver>,
        size: usize,
        backing: Backing,
        inner: impl PinInit<T, Error>,
    ) -> Result<Pin<KBox<Self>>> {
        if size == 0 || size % PAGE_SIZE != 0 {
            return Err(EINVAL);
        }

        KBox::try_pin_init(
            try_pin_init!(Self {
                obj <- Opaque::init_zeroed(),
                storage: Refcount::new(1),
                backing,
                dev: dev.into(),
                inner <- Opaque::pin_init(inner),
            }),
            GFP_KERNEL,
        )
    }

    /// Turns an allocation into a reference once the GEM part is initialised, or frees it.
    fn finish(new: Pin<KBox<Self>>, ret: Result) -> Result<ARef<Self>> {
        if let Err(e) = ret {
            // SAFETY: `alloc()` initialised the data; nobody else can reach it, and the box does
            // not drop it.
            unsafe { core::ptr::drop_in_place(new.inner.get()) };
            return Err(e);
        }

        // SAFETY: The object is only ever dropped in place.
        let ptr = KBox::into_raw(unsafe { Pin::into_inner_unchecked(new) });
        // SAFETY: `KBox::into_raw()` does not return null.
        let ptr = unsafe { NonNull::new_unchecked(ptr) };
        // SAFETY: The GEM reference count was initialised to one, and that reference is ours.
        Ok(unsafe { ARef::from_raw(ptr) })
    }

    fn as_raw_shmem(&self) -> *mut bindings::drm_gem_shmem_object {
        self.obj.get()
    }

    fn as_raw(&self) -> *mut bindings::drm_gem_object {
        // SAFETY: Only the address of a field of the allocation is computed.
        unsafe { &raw mut (*self.obj.get()).base }
    }

    /// The address of the object a GEM object of the DRM core is embedded in.
    ///
    /// # Safety
    ///
    /// `obj` must be a GEM object of a device of `T::Driver`. It has no others than ones embedded in
    /// `Self`: the DRM core makes none, and has [`Object::import_callback`] make those of foreign
    /// dma-bufs.
    unsafe fn container(obj: *mut bindings::drm_gem_object) -> *mut Self {
        // SAFETY: By the safety requirements `obj` is embedded in `Self` in this way.
        unsafe {
            let shmem = kernel::container_of!(obj, bindings::drm_gem_shmem_object, base);

            kernel::container_of!(Opaque::cast_from(shmem), Self, obj).cast_mut()
        }
    }

    /// Makes a reference of what the DRM core gives to callbacks.
    ///
    /// # Safety
    ///
    /// `obj` must be a GEM object of a device of `T::Driver` that stays referenced for `'a`.
    pub(super) unsafe fn from_raw<'a>(obj: *mut bindings::drm_gem_object) -> &'a Self {
        // SAFETY: By the safety requirements, which include those of `container()`.
        unsafe { &*Self::container(obj) }
    }

    /// The device of this object.
    pub fn dev(&self) -> &drm::Device<T::Driver> {
        &self.dev
    }

    /// The size in bytes, a multiple of the page size.
    pub fn size(&self) -> usize {
        // SAFETY: The GEM object is initialised by the type invariants; its size does not change.
        unsafe { (*self.as_raw()).size }
    }

    /// Whether others may have the object too, for the statistics of memory.
    pub fn is_shared(&self) -> bool {
        // SAFETY: The GEM object is initialised by the type invariants.
        unsafe { bindings::vaccel_drm_gem_object_is_shared(self.as_raw()) }
    }

    /// Whether the object is backed by shmem.
    pub fn is_shmem(&self) -> bool {
        matches!(self.backing, Backing::Shmem)
    }

    /// Creates a handle to the object in `file`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENOSPC` or the error of [`DriverObject::open`].
    pub fn create_handle(&self, file: &DriverFile<T>) -> Result<u32> {
        let mut handle = 0;

        // SAFETY: An open file refers to its minor, which refers to the device.
        if unsafe { (*(*file.as_raw()).minor).dev } != self.dev().as_raw() {
            return Err(EINVAL);
        }
        // SAFETY: File and object are valid by their type invariants.
        to_result(unsafe {
            bindings::drm_gem_handle_create(file.as_raw(), self.as_raw(), &mut handle)
        })?;
        Ok(handle)
    }

    /// Closes a handle of `file`; undoes [`Object::create_handle`].
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is no such handle.
    pub fn delete_handle(file: &DriverFile<T>, handle: u32) -> Result {
        // SAFETY: The file is valid by its type invariants.
        to_result(unsafe { bindings::drm_gem_handle_delete(file.as_raw(), handle) })
    }

    /// Looks up an object by its handle in `file`.
    ///
    /// # Errors
    ///
    /// `ENOENT` if there is no such handle.
    pub fn lookup(file: &DriverFile<T>, handle: u32) -> Result<ARef<Self>> {
        // SAFETY: The file is valid by its type invariants.
        let obj = unsafe { bindings::drm_gem_object_lookup(file.as_raw(), handle) };
        if obj.is_null() {
            return Err(ENOENT);
        }

        // SAFETY: Handles of a file of `T::Driver` are objects of a device of it, and the lookup
        // took a reference.
        let obj = unsafe { Self::from_raw(obj) };
        // SAFETY: That reference is ours.
        Ok(unsafe { ARef::from_raw(obj.into()) })
    }

    /// The offset by which `mmap()` on the device node finds the object.
    pub fn mmap_offset(&self) -> u64 {
        // SAFETY: The GEM object is initialised by the type invariants, its offset included.
        unsafe { bindings::vaccel_drm_vma_node_offset_addr(self.as_raw()) }
    }

    /// The `free` callback of `struct drm_gem_object_funcs`.
    ///
    /// # Safety
    ///
    /// Only for the DRM core, with an object whose last GEM reference is gone.
    unsafe extern "C" fn free_callback(obj: *mut bindings::drm_gem_object) {
        // SAFETY: The vtable with this callback belongs to objects of `Self`.
        let this = unsafe { Self::container(obj) };

        // SAFETY:
        // - The data is initialised by the type invariants.
        // - Without GEM references nobody can reach it; guards do not give access to it.
        unsafe { core::ptr::drop_in_place((*this).inner.get()) };

        // SAFETY: The GEM references' share of the storage count is given up here, once.
        unsafe { Self::put_storage(this) };
    }

    /// Gives up a share of the storage, and frees it if that was the last.
    ///
    /// # Safety
    ///
    /// `this` must be an object, and the caller must own a share which it no longer uses.
    unsafe fn put_storage(this: *mut Self) {
        // SAFETY: The caller's share keeps the object allocated.
        if !unsafe { (*this).storage.dec_and_test() } {
            return;
        }

        // SAFETY: The last share is gone, so this is the only access.
        let this = unsafe { KBox::from_raw(this) };
        match this.backing {
            // SAFETY: The shmem object is initialised, and nobody uses it or its pages any more.
            Backing::Shmem => unsafe { bindings::drm_gem_shmem_release(this.as_raw_shmem()) },
            // SAFETY: The GEM object is initialised, and nobody uses it any more.
            Backing::Io(_) | Backing::Window(_) => unsafe {
                bindings::drm_gem_object_release(this.as_raw())
            },
            // SAFETY:
            // - The GEM object is initialised, and nobody uses it or its pages any more.
            // - The core stored the attachment in it when it was made, and the table is the mapping.
            Backing::Import(ref pages) => unsafe {
                bindings::drm_prime_gem_destroy(this.as_raw(), pages.sg_table());
                bindings::drm_gem_object_release(this.as_raw());
            },
        }
        // The device reference goes with the box, after the release that needs the device.
    }

    /// The `export` callback of `struct drm_gem_object_funcs`.
    ///
    /// # Safety
    ///
    /// Only for the DRM core, with an object of the driver of `T` that stays referenced.
    unsafe extern "C" fn export_callback(
        obj: *mut bindings::drm_gem_object,
        flags: c_int,
    ) -> *mut bindings::dma_buf {
        // SAFETY: By the safety requirements.
        if !unsafe { Self::from_raw(obj) }.is_exportable() {
            return EOPNOTSUPP.to_ptr();
        }
        // SAFETY: By the safety requirements.
        unsafe { bindings::drm_gem_prime_export(obj, flags) }
    }

    /// The `export` callback of `struct drm_gem_object_funcs` for objects that stay here.
    ///
    /// # Safety
    ///
    /// None; `unsafe` by the type of the C table.
    unsafe extern "C" fn no_export_callback(
        _obj: *mut bindings::drm_gem_object,
        _flags: c_int,
    ) -> *mut bindings::dma_buf {
        EOPNOTSUPP.to_ptr()
    }

    /// The `open` callback of `struct drm_gem_object_funcs`.
    ///
    /// # Safety
    ///
    /// Only for the DRM core, with an object and a file of the same device of `T::Driver`.
    unsafe extern "C" fn open_callback(
        obj: *mut bindings::drm_gem_object,
        file: *mut bindings::drm_file,
    ) -> c_int {
        // SAFETY: The core holds a reference to the object.
        let obj = unsafe { Self::from_raw(obj) };
        // SAFETY: The file is open: a handle is being created in it.
        let file = unsafe { DriverFile::<T>::from_raw(file) };

        match T::open(obj, file) {
            Ok(()) => 0,
            Err(e) => e.to_errno(),
        }
    }

    /// The `close` callback of `struct drm_gem_object_funcs`.
    ///
    /// # Safety
    ///
    /// Only for the DRM core, with an object and a file of the same device of `T::Driver`.
    unsafe extern "C" fn close_callback(
        obj: *mut bindings::drm_gem_object,
        file: *mut bindings::drm_file,
    ) {
        // SAFETY: The handle that is being closed still holds a reference to the object.
        let obj = unsafe { Self::from_raw(obj) };
        // SAFETY: Handles are closed before the driver's data of the file is freed.
        let file = unsafe { DriverFile::<T>::from_raw(file) };

        T::close(obj, file);
    }
}

impl<T: DriverObject> Deref for Object<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: By the type invariants the data is initialised while there is a GEM reference,
        // and a `&Self` outside of this module comes from one.
        unsafe { &*self.inner.get() }
    }
}

// SAFETY: GEM objects are reference counted; the count is the one these functions change.
unsafe impl<T: DriverObject> AlwaysRefCounted for Object<T> {
    fn inc_ref(&self) {
        // SAFETY: A shared reference shows that the count is not zero.
        unsafe { bindings::vaccel_drm_gem_object_get(self.as_raw()) };
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: By the safety requirements `obj` is valid.
        let raw = unsafe { obj.as_ref() }.as_raw();

        // SAFETY: By the safety requirements the caller gives up a reference.
        unsafe { bindings::vaccel_drm_gem_object_put(raw) };
    }
}

// SAFETY: The data is `Send` and the backing and the device reference belong to no thread; the last reference to a
// GEM object may be dropped on any thread that can sleep.
unsafe impl<T: DriverObject> Send for Object<T> {}

// SAFETY: The data is `Sync`, the storage count is atomic, what is in a `Window` locks or is accessed
// under the lock of the reservation, and the methods of `Object` rely on the locking of the DRM core.
unsafe impl<T: DriverObject> Sync for Object<T> {}
