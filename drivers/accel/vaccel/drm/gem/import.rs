// SPDX-License-Identifier: GPL-2.0-only

//! GEM objects whose memory is a dma-buf of somebody else.
//!
//! C headers: [`include/linux/dma-buf.h`](srctree/include/linux/dma-buf.h),
//! [`include/drm/drm_prime.h`](srctree/include/drm/drm_prime.h)
//!
//! The other party of such an object is no device of this machine that goes through its DMA layer: it
//! is told page frame numbers. So what is imported has to be whole pages of system memory, and the
//! addresses the DMA layer gives for them have to be those of the pages themselves. Everything else
//! is refused.
//!
//! The attachment is a static one: the exporter leaves the pages where they are as long as they are
//! mapped, which is until the storage of the object is freed.

use core::marker::PhantomData;

use kernel::{
    error::to_result,
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*,
    sync::aref::ARef, //
};

use super::{
    Backing,
    DriverObject,
    Object, //
};
use crate::{
    bindings,
    drm, //
};

/// The pages of a foreign dma-buf.
///
/// # Invariants
///
/// - `attach` is a static attachment to a dma-buf and `sgt` what mapping it gave. Both are valid, and
///   the table does not change, until the storage of the object is freed.
/// - The segments of the table hold as many pages as the object has.
pub(super) struct ImportPages {
    attach: NonNullAttachment,
    sgt: *mut bindings::sg_table,
}

/// An attachment that is not null.
type NonNullAttachment = core::ptr::NonNull<bindings::dma_buf_attachment>;

impl ImportPages {
    /// The dma-buf.
    fn dma_buf(&self) -> *mut bindings::dma_buf {
        // SAFETY: The attachment is valid by the type invariants.
        unsafe { (*self.attach.as_ptr()).dmabuf }
    }

    /// The device that the dma-buf is mapped for.
    fn dev(&self) -> *mut bindings::device {
        // SAFETY: The attachment is valid by the type invariants.
        unsafe { (*self.attach.as_ptr()).dev }
    }

    /// The mapping of the dma-buf, which whoever frees the object undoes.
    pub(super) fn sg_table(&self) -> *mut bindings::sg_table {
        self.sgt
    }

    /// The segments of the mapping.
    fn segments(&self) -> Segments<'_> {
        // SAFETY: The table is valid by the type invariants.
        let (sg, left) = unsafe { ((*self.sgt).sgl, (*self.sgt).nents) };

        // INVARIANT: The list has that many entries.
        Segments {
            sg,
            left,
            dev: self.dev(),
            _pages: PhantomData,
        }
    }

    /// The numbers of the first `len` pages, which must not be more than there are.
    pub(super) fn pfns(&self, len: usize) -> Pfns<'_> {
        Pfns {
            segments: self.segments(),
            pfn: 0,
            in_segment: 0,
            left: len,
        }
    }

    /// Checks that there are `size` bytes in pages that may be named by their numbers.
    fn check(&self, size: usize) -> Result<(), &'static str> {
        // SAFETY: The device is valid.
        if !unsafe { bindings::vaccel_dma_is_identity(self.dev()) } {
            return Err("the device does not see memory as it is");
        }

        let mut total = 0usize;
        for segment in self.segments() {
            segment.check()?;
            total = total
                .checked_add(segment.len)
                .ok_or("its pages are too many")?;
        }
        if total < size {
            return Err("it has fewer pages than it says");
        }
        Ok(())
    }
}

/// A stretch of memory as the DMA layer describes it.
struct Segment {
    phys: u64,
    len: usize,
    /// Whether what else the entry says agrees with `phys`.
    consistent: bool,
}

impl Segment {
    /// Checks that these are whole pages of system memory.
    fn check(&self) -> Result<(), &'static str> {
        // CAST: `usize` has at most 64 bits.
        if self.phys % PAGE_SIZE as u64 != 0 || self.len % PAGE_SIZE != 0 {
            return Err("a part of it is no whole pages");
        }
        if !self.consistent {
            return Err("a part of it is not where the device would find it");
        }
        // SAFETY: No requirements.
        if self.len != 0 && !unsafe { bindings::vaccel_is_ram(self.phys, self.len) } {
            return Err("a part of it is no system memory");
        }
        Ok(())
    }
}

/// The segments of a mapping.
///
/// # Invariants
///
/// `sg` is an entry of a list with at least `left - 1` entries after it, or `left` is zero. The list
/// is valid for `'a`, and so is `dev`.
struct Segments<'a> {
    sg: *mut bindings::scatterlist,
    left: u32,
    dev: *mut bindings::device,
    _pages: PhantomData<&'a ImportPages>,
}

impl Iterator for Segments<'_> {
    type Item = Segment;

    fn next(&mut self) -> Option<Segment> {
        let sg = self.sg;

        // INVARIANT: The next entry has one less after it.
        self.left = self.left.checked_sub(1)?;
        if self.left != 0 {
            // SAFETY: By the type invariants there is an entry after this one.
            self.sg = unsafe { bindings::sg_next(sg) };
        }

        // SAFETY: By the type invariants the entry and the device are valid.
        Some(unsafe {
            let phys = bindings::vaccel_dma_to_phys(self.dev, bindings::sg_dma_address(sg));

            Segment {
                phys,
                // CAST: `usize` has at least 32 bits.
                len: bindings::sg_dma_len(sg) as usize,
                consistent: bindings::vaccel_sg_dma_is_at(sg, phys),
            }
        })
    }
}

/// Page frame numbers of an import.
pub(super) struct Pfns<'a> {
    segments: Segments<'a>,
    /// The next number, if the segment is not at its end.
    pfn: u64,
    /// How many more are in the segment.
    in_segment: usize,
    /// How many more there are.
    left: usize,
}

impl Iterator for Pfns<'_> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let left = self.left.checked_sub(1)?;
        while self.in_segment == 0 {
            let segment = self.segments.next()?;
            self.pfn = segment.phys >> PAGE_SHIFT;
            self.in_segment = segment.len / PAGE_SIZE;
        }

        let pfn = self.pfn;
        self.pfn += 1;
        self.in_segment -= 1;
        self.left = left;
        Some(pfn)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Pfns<'_> {}

impl<T: DriverObject> Object<T> {
    /// The functions of imports.
    const IMPORT_FUNCS: bindings::drm_gem_object_funcs = {
        let mut funcs: bindings::drm_gem_object_funcs = pin_init::zeroed();

        funcs.free = Some(Self::free_callback);
        funcs.open = Some(Self::open_callback);
        funcs.close = Some(Self::close_callback);
        // The core exports the dma-buf that was imported.
        funcs.export = Some(Self::no_export_callback);
        funcs.vmap = Some(Self::import_vmap_callback);
        funcs.vunmap = Some(Self::import_vunmap_callback);
        funcs.mmap = Some(Self::import_mmap_callback);

        funcs
    };

    /// Whether the object is a dma-buf of somebody else.
    pub fn is_import(&self) -> bool {
        matches!(self.backing, Backing::Import(_))
    }

    /// Readies the memory of an import for accesses of the processor; returns at once for others.
    ///
    /// May wait for what other devices do with the memory, which need not end soon.
    ///
    /// # Errors
    ///
    /// Those of the exporter, or `ERESTARTSYS` if a signal arrived.
    pub fn begin_cpu_access(&self) -> Result {
        let Backing::Import(pages) = &self.backing else {
            return Ok(());
        };

        // SAFETY: The dma-buf is valid by the invariants of `ImportPages`.
        to_result(unsafe {
            bindings::dma_buf_begin_cpu_access(
                pages.dma_buf(),
                bindings::dma_data_direction::DMA_BIDIRECTIONAL,
            )
        })
    }

    /// Ends what [`Object::begin_cpu_access`] began.
    ///
    /// # Errors
    ///
    /// Those of the exporter.
    pub fn end_cpu_access(&self) -> Result {
        let Backing::Import(pages) = &self.backing else {
            return Ok(());
        };

        // SAFETY: The dma-buf is valid by the invariants of `ImportPages`.
        to_result(unsafe {
            bindings::dma_buf_end_cpu_access(
                pages.dma_buf(),
                bindings::dma_data_direction::DMA_BIDIRECTIONAL,
            )
        })
    }

    /// Makes an object of a foreign dma-buf.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the device is unplugged, `EOPNOTSUPP` if the pages are not of the kind that can
    /// be shared, `ENOMEM`, `ENOSPC` or the error of the driver. The mapping is still the caller's
    /// then.
    fn import(dev: &drm::Device<T::Driver>, pages: ImportPages) -> Result<ARef<Self>> {
        let dev = dev.enter().ok_or(ENODEV)?;

        // SAFETY: The dma-buf is valid, and its size does not change.
        let size = unsafe { (*pages.dma_buf()).size };
        let size = size.checked_next_multiple_of(PAGE_SIZE).ok_or(EINVAL)?;
        pages.check(size).map_err(|why| {
            dev_dbg!(dev.as_dev(), "a dma-buf cannot be shared: {why}\n");
            EOPNOTSUPP
        })?;

        let inner = T::import(&dev, size)?;
        let backing = Backing::Import(pages);
        // SAFETY: The functions are those of this backing.
        unsafe {
            Self::new_private(
                &dev,
                size,
                backing,
                const { &Self::IMPORT_FUNCS },
                Ok(inner),
            )
        }
    }

    /// The `gem_prime_import_sg_table` callback of `struct drm_driver`.
    ///
    /// # Safety
    ///
    /// Only for the DRM core, with a device of `T::Driver` and a static attachment of it whose
    /// mapping is `sgt`. Both become the object's if the result is one.
    pub(in crate::drm) unsafe extern "C" fn import_callback(
        dev: *mut bindings::drm_device,
        attach: *mut bindings::dma_buf_attachment,
        sgt: *mut bindings::sg_table,
    ) -> *mut bindings::drm_gem_object {
        // SAFETY: The core holds a reference to the device.
        let dev = unsafe { drm::Device::from_raw(dev) };
        let Some(attach) = NonNullAttachment::new(attach) else {
            return EINVAL.to_ptr();
        };

        // INVARIANT: By the safety requirements; the number of pages is checked before the object
        // is made.
        match Self::import(dev, ImportPages { attach, sgt }) {
            // SAFETY: The object is valid; the reference is the core's from here on.
            Ok(object) => unsafe { ARef::into_raw(object).as_ref().as_raw() },
            Err(e) => e.to_ptr(),
        }
    }

    /// The pages of an import.
    fn import_pages(&self) -> Result<&ImportPages> {
        match &self.backing {
            Backing::Import(pages) => Ok(pages),
            _ => Err(EINVAL),
        }
    }

    /// The `vmap` callback of `struct drm_gem_object_funcs`.
    ///
    /// # Safety
    ///
    /// Only for the DRM core, with an import of the driver of `T` that stays referenced and whose
    /// reservation, that of the dma-buf, is locked, and a mapping to be filled in.
    unsafe extern "C" fn import_vmap_callback(
        obj: *mut bindings::drm_gem_object,
        map: *mut bindings::iosys_map,
    ) -> c_int {
        // SAFETY: By the safety requirements.
        match unsafe { Self::from_raw(obj) }.import_pages() {
            // SAFETY: The dma-buf is valid by the invariants of `ImportPages`, the rest is so by the
            // safety requirements.
            Ok(pages) => unsafe { bindings::dma_buf_vmap(pages.dma_buf(), map) },
            Err(e) => e.to_errno(),
        }
    }

    /// The `vunmap` callback of `struct drm_gem_object_funcs`.
    ///
    /// # Safety
    ///
    /// Only for the DRM core, with an import of the driver of `T` that stays referenced and whose
    /// reservation, that of the dma-buf, is locked, and a mapping of it.
    unsafe extern "C" fn import_vunmap_callback(
        obj: *mut bindings::drm_gem_object,
        map: *mut bindings::iosys_map,
    ) {
        // SAFETY: By the safety requirements.
        if let Ok(pages) = unsafe { Self::from_raw(obj) }.import_pages() {
            // SAFETY: As in `import_vmap_callback()`.
            unsafe { bindings::dma_buf_vunmap(pages.dma_buf(), map) };
        }
    }

    /// The `mmap` callback of `struct drm_gem_object_funcs`; the exporter makes the mapping.
    ///
    /// # Safety
    ///
    /// Only for the DRM core, with an import of the driver of `T` and a mapping that is being set
    /// up, for which the core took a reference to the object besides the one it holds itself.
    unsafe extern "C" fn import_mmap_callback(
        obj: *mut bindings::drm_gem_object,
        vma: *mut bindings::vm_area_struct,
    ) -> c_int {
        // SAFETY: By the safety requirements.
        let pages = match unsafe { Self::from_raw(obj) }.import_pages() {
            Ok(pages) => pages,
            Err(e) => return e.to_errno(),
        };

        // SAFETY:
        // - The mapping is being set up. It must not keep what the core put there for mappings of
        //   our own, in case the exporter does not set it.
        // - The dma-buf is valid by the invariants of `ImportPages`.
        let ret = unsafe {
            (*vma).vm_private_data = core::ptr::null_mut();
            (*vma).vm_ops = core::ptr::null();
            bindings::dma_buf_mmap(pages.dma_buf(), vma, 0)
        };
        if ret == 0 {
            // SAFETY: The mapping refers to the dma-buf and not to the object, so the reference the
            // core took for it is nobody's. It is not the last one.
            unsafe { bindings::vaccel_drm_gem_object_put(obj) };
        }
        ret
    }
}
