// SPDX-License-Identifier: GPL-2.0-only

//! The GPU-PV wire protocol: what the guest and the host of a paravirtual GPU say to each other.
//!
//! This directory is used twice from one source: as the module `gpupv` of the kernel driver, and
//! as the root of the user-space crate `gpupv` (tools/gpupv), where it is tested, fuzzed and
//! reused by the host side. That is why the root file is `mod.rs`, why every path starts with
//! `super::`, and why nothing but `core` and `zerocopy` is used. A kernel crate declares it as
//! `pub mod gpupv;`.
//!
//! The protocol is expressed as types:
//!
//! - [`Command`] is implemented by the fixed part of every guest-to-host command; it names the
//!   variable part, the reply and their lengths;
//! - [`Request`] ties a command to its variable part, with matching counts. A guest builds one and
//!   encodes it; a host gets one from [`Message::parse`]. Both ends ask it about the reply;
//! - [`Draft`] is what a guest makes instead of a command that queues work;
//! - [`Event`] is a host-to-guest message.
//!
//! Nothing here allocates, keeps state or trusts its input: decoders return an error for every
//! byte string that is not a message, and copy what they return out of the buffer.
//!
//! All numbers are little-endian, and so must be the machine.

mod adapter;
mod allocation;
mod codes;
mod command;
mod commands;
mod context;
mod device;
mod discovery;
mod draft;
mod error;
mod escape;
mod event;
mod flags;
mod gpuva;
mod handle;
mod header;
mod hwqueue;
mod ids;
mod limits;
mod list;
mod message;
mod paging;
mod priority;
mod process;
mod property;
mod query;
mod request;
mod residency;
mod share;
mod standard;
mod statistics;
mod status;
mod submit;
mod sync;
mod sync_ops;
mod sysmem;
mod wire;

pub use self::adapter::*;
pub use self::allocation::*;
pub use self::codes::*;
pub use self::command::*;
pub use self::commands::*;
pub use self::context::*;
pub use self::device::*;
pub use self::discovery::*;
pub use self::draft::*;
pub use self::error::*;
pub use self::escape::*;
pub use self::event::*;
pub use self::flags::*;
pub use self::gpuva::*;
pub use self::handle::*;
pub use self::header::*;
pub use self::hwqueue::*;
pub use self::ids::*;
pub use self::limits::*;
pub use self::list::*;
pub use self::message::*;
pub use self::paging::*;
pub use self::priority::*;
pub use self::process::*;
pub use self::property::*;
pub use self::query::*;
pub use self::request::*;
pub use self::residency::*;
pub use self::share::*;
pub use self::standard::*;
pub use self::statistics::*;
pub use self::status::*;
pub use self::submit::*;
pub use self::sync::*;
pub use self::sync_ops::*;
pub use self::sysmem::*;
pub use self::wire::*;

#[cfg(not(target_endian = "little"))]
compile_error!("GPU-PV is a little-endian protocol");
