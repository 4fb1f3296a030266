// SPDX-License-Identifier: MIT OR Apache-2.0
//! Client library for the nodes of the vaccel driver, `/dev/accel/accelN`.
//!
//! Three layers, each usable without the ones above it:
//!
//! - [`sys`]: the uAPI's structures and constants, checked against the C header;
//! - [`ioctl`]: one typed call per operation, nothing interpreted (what malformed-input tests use);
//! - the objects: [`Device`], [`Vm`], [`Queue`], [`Bo`], [`Binding`], [`Fence`], [`ArgBo`],
//!   [`Reservation`], [`Mapping`], [`SyncObj`], [`EventFd`] and the [`Submission`] builder.
//!
//! An object keeps what it needs alive and gives itself up when dropped; `close` does the same and
//! reports the outcome. Waiting always has a [`Deadline`]. Mapped memory is copied in and out,
//! never lent. Everything outside of [`sys`], [`ioctl`] and [`mapping`] is safe code: no structure
//! of the interface holds a CPU address.
//!
//! [`compute`] runs command streams of the open compute ISA (crate `vaccel-isa`) in a few lines:
//!
//! ```no_run
//! use libvaccel::{compute::Session, Deadline, Device};
//! use vaccel_isa::CommandStream;
//!
//! let device = Device::open("/dev/accel/accel0")?;
//! let mut session = Session::new(&device)?;
//! let buffer = session.buffer(4096)?;
//! let mut stream = CommandStream::new();
//! stream.fill_words(buffer.gpu_va(), 4096, 0x1234_5678);
//! let ticket = session.launch(stream)?;
//! session.wait(ticket, Deadline::after_secs(10))?;
//! assert_eq!(buffer.read_u32(1)?, [0x1234_5678]);
//! # Ok::<(), libvaccel::Error>(())
//! ```

pub mod compute;
pub mod enumerate;
pub mod ioctl;
pub mod mapping;
pub mod ring;
pub mod sys;

mod arg;
mod binding;
mod bo;
mod bridge;
mod deadline;
mod device;
mod error;
mod escape;
mod event;
mod event_fd;
mod fence;
mod fence_fd;
mod flags;
mod handle;
mod info;
mod queue;
mod reservation;
mod residency;
mod submission;
mod syncobj;
mod user_memory;
mod vm;
mod wait_many;

pub use arg::ArgBo;
pub use binding::{BindOptions, Binding};
pub use bo::{Bo, BoInfo, BoKind, BoOptions, Caching};
pub use deadline::Deadline;
pub use device::Device;
pub use error::{Error, ErrorKind, Result};
pub use event::Event;
pub use event_fd::EventFd;
pub use fence::{Fence, FenceState, Waited};
pub use flags::{
    AccessFlags, BindFlags, BoFlags, EventMask, Features, FenceFlags, HostCaps, ResidentFlags,
    SyncFlags, SyncObjWait, VmFlags,
};
pub use info::{Budget, Info, Segment};
pub use mapping::{Access, Mapping};
pub use queue::{Queue, QueueMode, QueueOptions};
pub use reservation::{Reservation, ReserveOptions};
pub use residency::{OfferPriority, Priority, Reclaimed, Resident};
pub use submission::{Encoded, OpOutcome, Rejected, Submission, Submitted};
pub use syncobj::SyncObj;
pub use user_memory::UserMemory;
pub use vm::{PageFault, State, Vm, VmState};
pub use wait_many::Reached;
