// SPDX-License-Identifier: GPL-2.0-only

//! DRM events, which `read()` on an open file delivers.
//!
//! C header: [`include/drm/drm_file.h`](srctree/include/drm/drm_file.h)
//!
//! Room for an event is reserved while its file calls into the driver, and paid for by that file;
//! sending it later cannot fail.

use core::{
    mem,
    ptr::NonNull, //
};

use kernel::{
    error::to_result,
    prelude::*,
    sync::aref::ARef, //
};

use crate::{
    bindings,
    drm, //
};

/// What user space reads of an event.
///
/// # Safety
///
/// - The type must begin with a `struct drm_event`.
/// - It must have no padding, and nothing to be dropped.
pub unsafe trait Event: IntoBytes + Send + 'static {}

/// An event as the DRM core keeps it: the core frees it by its first field.
#[repr(C)]
struct Pending<E> {
    base: bindings::drm_pending_event,
    event: E,
}

/// An event that will be sent to a file; without being sent, the room for it is given back.
///
/// It refers to the device, but not to the file: once that is closed nobody gets the event.
///
/// # Invariants
///
/// `pending` was initialised by `drm_event_reserve_init()` for a file of `dev`, and neither sent nor
/// cancelled. It is an allocation of `kmalloc()`.
pub struct PendingEvent<T: drm::DriverFile, E: Event> {
    dev: ARef<drm::Device<T::Driver>>,
    pending: NonNull<Pending<E>>,
}

impl<T: drm::DriverFile> drm::File<T> {
    /// Reserves room for an event of this file. Its length is filled in.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory, or too much of the file's share of it is taken by events that
    /// were not read yet; `EINVAL` if the file is not one of `dev`; `EBADF` if it is being closed.
    pub fn reserve_event<E: Event>(
        &self,
        dev: &drm::Device<T::Driver>,
        event: E,
    ) -> Result<PendingEvent<T, E>> {
        const { assert!(size_of::<E>() >= size_of::<bindings::drm_event>()) };
        const { assert!(align_of::<E>() >= align_of::<bindings::drm_event>()) };
        const { assert!(!mem::needs_drop::<E>()) };

        // SAFETY: An open file refers to its minor, which refers to the device.
        if unsafe { (*(*self.as_raw()).minor).dev } != dev.as_raw() {
            return Err(EINVAL);
        }
        // The driver sees a file that is being closed when its handles are, and by then the core has
        // already looked for events that have to forget it. A file that is open stays so, at least as
        // long as the call that the driver got it from.
        // SAFETY: The file is valid by its type invariants.
        if !unsafe { bindings::vaccel_drm_file_is_open(self.as_raw()) } {
            return Err(EBADF);
        }

        let base = bindings::drm_pending_event::default();
        let pending = KBox::into_raw(KBox::new(Pending { base, event }, GFP_KERNEL)?);
        // SAFETY: The pointer is to a valid event that nobody else knows of.
        unsafe { Pending::set_length(pending) };

        // SAFETY:
        // - The device is that of the file, which is open.
        // - The two pointers are to parts of an allocation that stays until the event is sent or
        //   cancelled; by the requirements of `Event` the second is to a `struct drm_event`.
        let ret = to_result(unsafe {
            bindings::drm_event_reserve_init(
                dev.as_raw(),
                self.as_raw(),
                &raw mut (*pending).base,
                (&raw mut (*pending).event).cast(),
            )
        });
        if let Err(e) = ret {
            // SAFETY: The core did not take it, so it is still ours.
            drop(unsafe { KBox::from_raw(pending) });
            return Err(e);
        }

        // INVARIANT: Initialised just now.
        Ok(PendingEvent {
            dev: dev.into(),
            // SAFETY: `KBox::into_raw()` does not return null.
            pending: unsafe { NonNull::new_unchecked(pending) },
        })
    }
}

impl<E: Event> Pending<E> {
    /// Fills in how much the core copies to user space.
    ///
    /// # Safety
    ///
    /// `this` must be valid, and nobody else may access the event.
    unsafe fn set_length(this: *mut Self) {
        // SAFETY: By the requirements of `Event` it begins with this structure.
        unsafe {
            let event = (&raw mut (*this).event).cast::<bindings::drm_event>();
            // CAST: The core refuses what does not fit its small share of memory.
            (*event).length = size_of::<E>() as u32;
        }
    }
}

impl<T: drm::DriverFile, E: Event> PendingEvent<T, E> {
    /// Sends the event, with what `update` makes of it.
    ///
    /// May be called wherever one can sleep, and also after the file was closed.
    pub fn send(self, update: impl FnOnce(&mut E)) {
        let pending = self.pending.as_ptr();

        // SAFETY: By the type invariants the event was not sent, so that the core does not look into
        // it, and nobody else knows of it.
        update(unsafe { &mut (*pending).event });
        // `update` may have changed it.
        // SAFETY: As above.
        unsafe { Pending::set_length(pending) };

        // SAFETY:
        // - By the type invariants the event is a reserved one of the device, which is valid. The
        //   core takes it over.
        // - If the file is closed first, the core took the event off the file's list and forgot the
        //   file, both under the lock that this takes. The function frees the event then.
        unsafe { bindings::drm_send_event(self.dev.as_raw(), &raw mut (*pending).base) };
        self.forget();
    }

    /// Drops everything but the event.
    fn forget(self) {
        let this = mem::ManuallyDrop::new(self);

        // SAFETY: `this` is not dropped, so the reference is read once.
        drop(unsafe { core::ptr::read(&this.dev) });
    }
}

impl<T: drm::DriverFile, E: Event> Drop for PendingEvent<T, E> {
    fn drop(&mut self) {
        let pending = self.pending.as_ptr();

        // SAFETY:
        // - By the type invariants the event is a reserved one of the device, which is valid. It was
        //   allocated by `kmalloc()`, and starts with the field that is freed.
        // - After the end of the file the core finds that the event has none, as in `send()`.
        unsafe { bindings::drm_event_cancel_free(self.dev.as_raw(), &raw mut (*pending).base) };
    }
}

// SAFETY: The event is `Send`; the core's part is protected by a lock of the device, and may be used
// and freed on any thread.
unsafe impl<T: drm::DriverFile, E: Event> Send for PendingEvent<T, E> {}

// SAFETY: A shared reference gives access to nothing.
unsafe impl<T: drm::DriverFile, E: Event> Sync for PendingEvent<T, E> {}
