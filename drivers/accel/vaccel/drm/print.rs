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
    drm, //
};

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
}

/// Prints to a [`Printer`] with the usual formatting syntax.
macro_rules! drm_print {
    ($printer:expr, $($arg:tt)+) => {
        $printer.call_printf(::kernel::prelude::fmt!($($arg)+))
    };
}
pub(crate) use drm_print;
