// SPDX-License-Identifier: GPL-2.0-only

//! Event counters that a process reads by a file descriptor.
//!
//! C header: [`include/linux/eventfd.h`](srctree/include/linux/eventfd.h)

use core::ptr::NonNull;

use kernel::{
    error::from_err_ptr,
    prelude::*, //
};

use crate::bindings;

/// A reference to the counter of an eventfd. It does not keep the file open.
///
/// # Invariants
///
/// The pointer is valid and the reference is ours.
pub struct EventFd(NonNull<bindings::eventfd_ctx>);

impl EventFd {
    /// Looks up the counter of an eventfd, by a file descriptor of the calling process.
    ///
    /// # Errors
    ///
    /// `EBADF` if there is no such descriptor, `EINVAL` if it is that of another kind of file.
    pub fn from_fd(fd: i32) -> Result<Self> {
        // SAFETY: No requirements.
        let ctx = from_err_ptr(unsafe { bindings::eventfd_ctx_fdget(fd) })?;

        // INVARIANT: The lookup took a reference for us.
        Ok(Self(NonNull::new(ctx).ok_or(EBADF)?))
    }

    /// Adds one to the counter, and wakes those who wait for it. Returns at once.
    ///
    /// May be called in any context, except from within somebody who is being woken by an eventfd.
    pub fn signal(&self) {
        // SAFETY: The counter is valid by the type invariants.
        unsafe { bindings::eventfd_signal_mask(self.0.as_ptr(), 0) };
    }
}

impl Drop for EventFd {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the reference is ours to give up.
        unsafe { bindings::eventfd_ctx_put(self.0.as_ptr()) };
    }
}

// SAFETY: The counter is reference counted and locks for itself; a reference belongs to no thread.
unsafe impl Send for EventFd {}

// SAFETY: As above.
unsafe impl Sync for EventFd {}
