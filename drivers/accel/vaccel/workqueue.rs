// SPDX-License-Identifier: GPL-2.0-only

//! Work queues of one's own.
//!
//! C header: [`include/linux/workqueue.h`](srctree/include/linux/workqueue.h)

use core::{
    ops::Deref,
    ptr::NonNull, //
};

use kernel::{
    prelude::*,
    workqueue::Queue, //
};

use crate::bindings;

/// What a work queue is like.
#[derive(Clone, Copy)]
pub struct Flags {
    /// The queue makes progress when memory is short: it has a rescuer thread.
    pub mem_reclaim: bool,
    /// Work runs on any CPU, rather than on the one that queued it.
    pub unbound: bool,
}

/// A work queue that is destroyed when it is dropped, after the work in it ran.
///
/// # Invariants
///
/// The pointer is a valid work queue, which is ours.
pub struct OwnedQueue(NonNull<bindings::workqueue_struct>);

impl OwnedQueue {
    /// Creates a work queue that runs up to `max_active` items at a time (0: the default number).
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(name: &CStr, flags: Flags, max_active: i32) -> Result<Self> {
        let mut bits = 0;
        if flags.mem_reclaim {
            bits |= bindings::VACCEL_WQ_MEM_RECLAIM;
        }
        if flags.unbound {
            bits |= bindings::VACCEL_WQ_UNBOUND;
        }

        // SAFETY: The name is a valid string, which the function copies.
        let queue =
            unsafe { bindings::vaccel_alloc_workqueue(name.as_char_ptr(), bits, max_active) };

        // INVARIANT: The queue was made just now.
        Ok(Self(NonNull::new(queue).ok_or(ENOMEM)?))
    }

    /// Waits until what has been queued so far has run. Sleeps.
    pub fn flush(&self) {
        // SAFETY: By the type invariants the queue is valid.
        unsafe { bindings::vaccel_flush_workqueue(self.0.as_ptr()) };
    }
}

impl Deref for OwnedQueue {
    type Target = Queue;

    fn deref(&self) -> &Queue {
        // SAFETY: By the type invariants the queue is valid as long as `self`.
        unsafe { Queue::from_raw(self.0.as_ptr()) }
    }
}

impl Drop for OwnedQueue {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the queue is ours, and nobody can queue to it any more.
        unsafe { bindings::destroy_workqueue(self.0.as_ptr()) };
    }
}

// SAFETY: A work queue may be used and destroyed on any thread.
unsafe impl Send for OwnedQueue {}

// SAFETY: Queueing locks for itself.
unsafe impl Sync for OwnedQueue {}
