// SPDX-License-Identifier: GPL-2.0-only

//! The end of a batch: something to do when the task has issued all that it is about to issue.
//!
//! C header: [`include/linux/blkdev.h`](srctree/include/linux/blkdev.h)
//!
//! io_uring plugs the task while it issues several entries. A plug was made for block devices, but
//! takes callbacks of anybody.

#[cfg(CONFIG_BLOCK)]
use core::ptr;

use kernel::{
    prelude::*,
    sync::Arc, //
};

use crate::bindings;

/// Something to do at the end of a batch.
pub trait Unplug: Send + Sync + 'static {
    /// Does it. With `in_schedule` the task is about to sleep in the middle of the batch: this must not
    /// sleep then, nor drop what may not be dropped there.
    fn unplug(this: Arc<Self>, in_schedule: bool);
}

/// The entry in the list of a plug.
#[cfg(CONFIG_BLOCK)]
#[repr(C)]
struct Entry {
    callback: bindings::blk_plug_cb,
    /// What is to be done, given up by `Arc::into_raw()`; null at first.
    what: *const c_void,
}

/// The entry of the running task for things of type `T`, made if there is none; null without a batch.
/// Valid until the task sleeps. Does not sleep.
#[cfg(CONFIG_BLOCK)]
fn entry<T: Unplug>() -> *mut Entry {
    // SAFETY: The size is that of the entry, of which the core initialises the first field and zeroes
    // the rest; the callback is for such entries.
    let entry = unsafe {
        bindings::blk_check_plugged(
            Some(callback::<T>),
            ptr::null_mut(),
            // CAST: a small number.
            size_of::<Entry>() as c_int,
        )
    };
    entry.cast()
}

/// Has what `make` makes called at the end of the batch, unless `is_it` says that what is to be called
/// then is as good. If something else is, that is called now: a batch does one thing after the other.
/// Whether there is a batch.
#[cfg(CONFIG_BLOCK)]
pub fn at_end<T: Unplug>(
    is_it: impl FnOnce(&T) -> bool,
    make: impl FnOnce() -> Result<Arc<T>>,
) -> bool {
    let present = entry::<T>();
    if present.is_null() {
        return false;
    }
    // SAFETY: The entry is valid, as the task has not slept since it was looked up, and what it holds
    // is a `T`, as its callback says.
    if unsafe { (*present).what.cast::<T>().as_ref() }.is_some_and(is_it) {
        return true;
    }

    // This may sleep, and end the batch so far.
    let Ok(what) = make() else {
        return false;
    };
    let present = entry::<T>();
    if present.is_null() {
        return false;
    }
    // SAFETY: As above; nobody else uses the entry before the callback.
    let before = unsafe { ptr::replace(&raw mut (*present).what, Arc::into_raw(what).cast()) };
    if !before.is_null() {
        // SAFETY: The reference was the entry's.
        T::unplug(unsafe { Arc::from_raw(before.cast()) }, false);
    }
    true
}

/// Whether there is a batch.
pub fn is_open() -> bool {
    // SAFETY: The function has no requirements.
    unsafe { bindings::vaccel_current_is_plugged() }
}

/// There are no batches without block devices.
#[cfg(not(CONFIG_BLOCK))]
pub fn at_end<T: Unplug>(
    _is_it: impl FnOnce(&T) -> bool,
    _make: impl FnOnce() -> Result<Arc<T>>,
) -> bool {
    false
}

/// Takes an entry out.
///
/// # Safety
///
/// Only for the core, with an entry that [`entry`] had made.
#[cfg(CONFIG_BLOCK)]
unsafe extern "C" fn callback<T: Unplug>(cb: *mut bindings::blk_plug_cb, in_schedule: bool) {
    // SAFETY: The entry is valid.
    let what = unsafe { (*cb.cast::<Entry>()).what };
    // SAFETY: The core allocated it for `kfree()`, and has taken it out of its list.
    unsafe { bindings::kfree(cb.cast()) };
    if !what.is_null() {
        // SAFETY: The reference was the entry's.
        T::unplug(unsafe { Arc::from_raw(what.cast()) }, in_schedule);
    }
}
