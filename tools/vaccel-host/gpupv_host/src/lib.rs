// SPDX-License-Identifier: MIT OR Apache-2.0
//! The host's side of GPU-PV: virtual GPUs as a Windows host offers them, without any I/O.
//!
//! [`Host`] takes messages of VMBus channels and outcomes of engine jobs, and causes completions,
//! events and jobs through [`Env`]. It knows no VMBus, no KVM, no thread and no clock but the caller's:
//! [`Host::deadline`] says when it wants to be told the time. Guest memory is touched only by jobs,
//! which the caller runs where it likes. [`PciWindow`] is the part of a virtual GPU that lives in PCI
//! configuration space.
//!
//! Memory of a virtual GPU is host memory that the caller provides ([`HostMemory`]); jobs copy in and
//! out, and the guest sees what it locks through the I/O space ([`IoSpace`]).
//!
//! Objects (protocol 4): a *process* owns handles and, per GPU, an address space; a *device* owns
//! contexts, hardware queues, paging queues, allocations, resources and fences. Destroying one destroys
//! what is below it. Pages of a destroyed allocation are no longer touched when the destruction is
//! acknowledged.
//!
//! The guest is hostile: every message is decoded strictly, every table has a limit (`config`),
//! arithmetic is checked, and bad input is answered with an NTSTATUS in the shape the command's
//! reply has. What the documents of the protocol leave open is a choice ([`Choices`]).

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod access;
mod adapter;
mod adapter_query;
mod allocation;
mod backing;
mod budget;
mod call;
mod census;
mod choices;
mod config;
mod context;
mod device;
mod dispatch;
mod env;
mod escape;
mod fault;
mod features;
mod fence;
mod gaps;
mod global;
mod gpu_memory;
mod gpuva;
mod handle_table;
mod host;
mod host_share;
mod hw_queue;
mod io_pages;
mod job;
mod lock;
mod messages;
mod mute;
mod object;
mod offer;
mod outlet;
mod paging;
mod pci;
mod plain_sync;
mod process;
mod property;
mod remove;
mod schedule;
mod segment;
mod share;
mod shared_fence;
mod statistics;
mod submit;
mod sync;
mod sysmem;
mod time_limit;
mod update;
mod va;
mod work;

#[cfg(test)]
mod tests;

pub use census::Census;
pub use choices::{Choice, ChoiceError, Choices, MutexStart, ProgressValues, RunningTime, CHOICES};
pub use config::{
    HostConfig, PagingMode, VgpuConfig, DEFAULT_COMMIT_LIMIT, MAX_CPU_WAITS, MAX_HELD_COMPLETIONS,
    MAX_LOCKS, MAX_OBJECTS, MAX_PINNED_PAGES, MAX_PROCESSES, MAX_QUEUED_WORK, MAX_SHARED_OBJECTS,
    MAX_VA_RANGES, MAX_VGPUS, MAX_VM_OBJECTS, MAX_VM_QUEUED_CHANGES, MAX_VM_QUEUED_WORK,
    MAX_VM_VA_RANGES,
};
pub use env::{
    Channel, Env, HostMemory, HostMemoryError, IoSpace, IoSpaceError, MessageIn, ShowError, VgpuId,
};
pub use fault::{
    Action, ChannelMatch, CommandMatch, EventMatch, Garbage, On, OperationId, Rule, RuleCounts,
    RuleError, Status, MAX_RULES,
};
pub use host::{Host, TooManyVgpus};
pub use job::{Job, JobId, JobOutcome};
pub use messages::MessageCounts;
pub use pci::PciWindow;
pub use segment::PerSegment;
