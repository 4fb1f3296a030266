// SPDX-License-Identifier: GPL-2.0-only

//! DRM print targets, as far as fdinfo needs them.
//!
//! C header: [`include/drm/drm_print.h`](srctree/include/drm/drm_print.h)

use core::marker::PhantomData;

use kernel::{
    fmt,
    prelude::*, //
};

use crate::{
    bindings,
    drm::{
        self,
        gem, //
    },
};

/// What counts for the memory that an object occupies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectStat {
    /// Which region it is in: an index into those given to [`Printer::memory_regions`].
    pub region: usize,
    /// Whether it has memory at present.
    pub resident: bool,
    /// Whether that memory may be taken away with its content.
    pub purgeable: bool,
}

/// The GEM objects of the driver whose open files `F` is the data of.
type ObjectOf<F> = gem::Object<<<F as drm::DriverFile>::Driver as drm::Driver>::Object>;

/// What the walk over the handles of a file needs.
struct Walk<'a, S> {
    stats: &'a mut [bindings::drm_memory_stats],
    stat: S,
}

/// Something the DRM core wants text in.
///
/// # Invariants
///
/// The pointer is a valid `struct drm_printer` for `'a`.
pub struct Printer<'a>(*mut bindings::drm_printer, PhantomData<&'a mut ()>);

impl Printer<'_> {
    /// Wraps what the DRM core gives to callbacks.
    ///
    /// # Safety
    ///
    /// `ptr` must be a valid printer for the life time of the result.
    pub(super) unsafe fn from_raw(ptr: *mut bindings::drm_printer) -> Self {
        // INVARIANT: As required from the caller.
        Self(ptr, PhantomData)
    }

    /// Prints; use [`drm_print!`].
    pub fn call_printf(&mut self, args: fmt::Arguments<'_>) {
        // SAFETY:
        // - The printer is valid by the type invariants.
        // - `%pA` takes a pointer to `fmt::Arguments`.
        unsafe {
            bindings::drm_printf(
                self.0,
                c"%pA".as_char_ptr(),
                core::ptr::from_ref(&args).cast::<c_void>(),
            );
        }
    }

    /// Prints the memory the GEM objects of `file` occupy, in the standard fdinfo keys.
    pub fn memory_stats<T: drm::DriverFile>(&mut self, file: &drm::File<T>) {
        // SAFETY: The printer is valid by the type invariants, and so is the file.
        unsafe { bindings::drm_show_memory_stats(self.0, file.as_raw()) };
    }

    /// Prints the memory that the GEM objects of `file` occupy, in the standard fdinfo keys for each
    /// of `regions`.
    ///
    /// `stat` says what to count an object as; [`None`] for one that does not count. It runs under a
    /// spinlock: it must not sleep, nor drop what may need to, nor look up handles. Prints nothing
    /// if there is no memory.
    pub fn memory_regions<F, S>(&mut self, file: &drm::File<F>, regions: &[&CStr], stat: S)
    where
        F: drm::DriverFile,
        S: Fn(&ObjectOf<F>) -> Option<ObjectStat>,
    {
        let zeros = bindings::drm_memory_stats::default();
        let Ok(mut stats) = KVec::from_elem(zeros, regions.len(), GFP_KERNEL) else {
            return;
        };
        let stats = &mut stats[..];
        sum_objects(file, &mut Walk { stats, stat });

        let supported = bindings::drm_gem_object_status_DRM_GEM_OBJECT_RESIDENT
            | bindings::drm_gem_object_status_DRM_GEM_OBJECT_PURGEABLE;
        for (stats, region) in stats.iter().zip(regions) {
            // SAFETY: The printer is valid by the type invariants, and so are the others.
            unsafe {
                bindings::drm_print_memory_stats(self.0, stats, supported, region.as_char_ptr());
            }
        }
    }
}

/// Sums up the objects that `file` has handles of.
fn sum_objects<F, S>(file: &drm::File<F>, walk: &mut Walk<'_, S>)
where
    F: drm::DriverFile,
    S: Fn(&ObjectOf<F>) -> Option<ObjectStat>,
{
    let file = file.as_raw();

    // SAFETY:
    // - The file is open, so its table and the lock of that are initialised.
    // - The table does not change while the lock is held.
    // - The callback is given what it was made for, and the reference is not used meanwhile.
    unsafe {
        bindings::spin_lock(&raw mut (*file).table_lock);
        bindings::idr_for_each(
            &raw const (*file).object_idr,
            Some(Walk::<S>::callback::<F>),
            core::ptr::from_mut(walk).cast(),
        );
        bindings::spin_unlock(&raw mut (*file).table_lock);
    }
}

impl<S> Walk<'_, S> {
    /// The callback of `idr_for_each()`.
    ///
    /// # Safety
    ///
    /// `obj` must be null or a GEM object of a device of the driver of `F`, which stays referenced
    /// during the call, and `data` a `Self` that nobody else uses.
    unsafe extern "C" fn callback<F>(_id: c_int, obj: *mut c_void, data: *mut c_void) -> c_int
    where
        F: drm::DriverFile,
        S: Fn(&ObjectOf<F>) -> Option<ObjectStat>,
    {
        // SAFETY: By the safety requirements.
        let this = unsafe { &mut *data.cast::<Self>() };

        // A handle that is being made or closed has no object.
        if !obj.is_null() {
            // SAFETY: By the safety requirements.
            let obj = unsafe { ObjectOf::<F>::from_raw(obj.cast()) };
            if let Some(stat) = (this.stat)(obj) {
                this.add(stat, obj.is_shared(), obj.size());
            }
        }
        0
    }

    /// Counts an object, as `drm_show_memory_stats()` would.
    fn add(&mut self, stat: ObjectStat, shared: bool, size: usize) {
        let Some(stats) = self.stats.get_mut(stat.region) else {
            return;
        };
        // CAST: `usize` has at most 64 bits.
        let size = size as u64;
        let count = |of: &mut u64, applies: bool| {
            if applies {
                *of = of.saturating_add(size);
            }
        };

        count(&mut stats.shared, shared);
        count(&mut stats.private, !shared);
        count(&mut stats.resident, stat.resident);
        // Memory that is not there cannot be taken away.
        count(&mut stats.purgeable, stat.purgeable && stat.resident);
    }
}

/// Prints to a [`Printer`] with the usual formatting syntax.
macro_rules! drm_print {
    ($printer:expr, $($arg:tt)+) => {
        $printer.call_printf(::kernel::prelude::fmt!($($arg)+))
    };
}
pub(crate) use drm_print;
