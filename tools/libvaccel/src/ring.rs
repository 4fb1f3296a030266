// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operations that do not hold up the caller: by io_uring where there is one, else by ioctls.
//!
//! A [`Ring`] takes operations of one [`Device`] and gives a [`Pending`] for each: a future for any
//! executor, or something to wait for in a thread that has none. Operations are collected, and go to
//! the kernel together when the first of them is polled or waited for, or at [`Ring::flush`]:
//!
//! ```no_run
//! use libvaccel::compute::Session;
//! use libvaccel::ring::{Options, Ring};
//! use libvaccel::{Deadline, Device, Submission};
//!
//! # async fn example() -> Result<(), libvaccel::Error> {
//! let device = Device::open("/dev/accel/accel0")?;
//! let session = Session::new(&device)?;
//! let (queue, fence) = (session.queue(), session.fence());
//! let ring = Ring::new(&device, &Options::new())?;
//!
//! // Two submissions in one system call; the second is awaited until the GPU is done with it.
//! let first = ring.submit(queue, &Submission::new().signal(fence, 1));
//! let second = ring.submit_and_complete(queue, &Submission::new().signal(fence, 2).done(fence, 3));
//! let completed = second.await?;
//! assert_eq!(completed.submitted.seq, first.await?.seq + 1);
//!
//! // The same without an executor.
//! let waited = ring.fence_wait(fence, 3, Deadline::NEVER).wait(Deadline::after_secs(10))?;
//! assert!(waited.value >= 3);
//! # Ok(())
//! # }
//! ```
//!
//! Each ring has a thread of its own, and one descriptor or two; no operation needs another. That
//! thread asks the kernel, wakes the wakers, and drops what operations have named. (It also is what
//! the kernel knows the operations by: it cancels those of a thread that exits, so no other thread
//! of the program may be the one.) Who does nothing but wait for one thing at a time is faster with
//! [`Fence::wait`](crate::Fence::wait), which has no thread between.
//!
//! What an operation names is kept until it has ended: the argument memory, the handles of queue,
//! fences and syncobjs, the objects. That their `close` says so, instead of doing it, is all there is
//! to see of it.
//!
//! # Ways to ask
//!
//! [`Ring::backend`] says which way was taken. By io_uring a system call takes many operations, and
//! none of them makes the thread wait. Where the kernel has no io_uring, or denies it (the sysctl
//! `kernel.io_uring_disabled`, a filter, a security module), where the driver does not take
//! operations by it ([`Features::URING`]), and where the variable `VACCEL_URING` is `0`, the same is
//! done by ioctls: one call for each operation, and for all waits one eventfd that the thread polls.
//! A call that waits for the host holds up the others of the ring then.
//!
//! The low layer is [`raw`]: a ring of entries and completions, nothing interpreted.

pub mod raw;

mod args;
mod calls;
mod command;
mod driver;
mod lanes;
mod operations;
mod options;
mod pending;
mod slot;
mod uring;
mod waits;

use std::sync::Arc;

pub use operations::Completed;
pub use options::{Backend, Options};
pub use pending::Pending;

use crate::device::Device;
use crate::error::{Error, ErrorKind, Result};
use crate::flags::Features;
use crate::handle::Node;
use args::{Args, Place};
use calls::Calls;
use command::{Command, Outcome};
use driver::{Driver, Job};
use slot::Slot;
use uring::Uring;

/// Operations of a device, many at a time. Clones are the same ring.
#[derive(Clone)]
pub struct Ring {
    driver: Arc<Driver>,
    args: Arc<Args>,
    node: Arc<Node>,
    backend: Backend,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring")
            .field("path", &self.node.path)
            .field("backend", &self.backend)
            .finish_non_exhaustive()
    }
}

/// A thread that asks by io_uring.
fn by_io_uring(device: &Device, entries: u32) -> Result<Driver> {
    let refused = |reason| Err(Error::local(ErrorKind::Unsupported, "io_uring", reason));
    if !options::allowed() {
        return refused("VACCEL_URING is 0");
    }
    if !device.features()?.contains(Features::URING) {
        return refused("the driver takes no operations by it");
    }
    let node = device.node().clone();
    Driver::start(move || Uring::new(&node, entries))
}

/// A thread that asks by ioctls.
fn by_ioctls(device: &Device) -> Result<Driver> {
    let node = device.node().clone();
    Driver::start(move || Calls::new(&node))
}

impl Ring {
    /// Makes a ring and starts its thread.
    ///
    /// # Errors
    ///
    /// With [`Backend::IoUring`] why there is no io_uring: [`ErrorKind::Unsupported`], or the errno.
    /// Else those of making a thread and an eventfd.
    pub fn new(device: &Device, options: &Options) -> Result<Self> {
        let (driver, backend) = match options.backend {
            Backend::IoUring => (by_io_uring(device, options.entries)?, Backend::IoUring),
            Backend::Ioctl => (by_ioctls(device)?, Backend::Ioctl),
            Backend::Auto => match by_io_uring(device, options.entries) {
                Ok(driver) => (driver, Backend::IoUring),
                Err(_) => (by_ioctls(device)?, Backend::Ioctl),
            },
        };
        Ok(Self {
            driver: Arc::new(driver),
            args: Arc::default(),
            node: device.node().clone(),
            backend,
        })
    }

    /// The way that was taken; never [`Backend::Auto`].
    pub const fn backend(&self) -> Backend {
        self.backend
    }

    /// Sends the operations that were collected.
    pub fn flush(&self) {
        self.driver.flush();
    }

    const fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Room for arguments.
    fn place(&self, bytes: u64) -> Result<Place> {
        self.args.place(&self.node, bytes)
    }

    /// Refuses objects of another file, whose handles would name something else here.
    fn own(&self, node: &Arc<Node>, operation: &'static str) -> Result<()> {
        if Arc::ptr_eq(node, &self.node) {
            return Ok(());
        }
        Err(Error::local(
            ErrorKind::InvalidArgument,
            operation,
            "it belongs to another open file than the ring",
        ))
    }

    fn begin<T: 'static>(
        &self,
        command: Command,
        finish: impl FnOnce(Outcome) -> Result<T> + Send + 'static,
    ) -> Pending<T> {
        let slot = Arc::new(Slot::new(Box::new(finish)));
        let id = driver::next_id();
        self.driver.collect(Job {
            id,
            command,
            slot: slot.clone(),
        });
        Pending::sent(id, slot, self.driver.clone())
    }

    /// What could not begin fails when it is waited for, as what the kernel refuses does.
    fn or_refused<T>(&self, begin: impl FnOnce() -> Result<Pending<T>>) -> Pending<T> {
        begin().unwrap_or_else(Pending::refused)
    }
}
