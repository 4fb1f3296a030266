// SPDX-License-Identifier: GPL-2.0-only

//! vaccel: compute on the GPU of the host, from inside a virtual machine.
//!
//! The host offers paravirtual GPUs (Hyper-V "GPU-PV"): per virtual GPU a PCI function and a VMBus
//! channel, and one more channel for the VM. The driver makes an accel node of each. From the wire
//! up:
//!
//! - `vmbus`, `pci`, `io`, `mm`, `sync`, `workqueue`, `kthread`, `dma_fence`, `sync_file`, `eventfd`,
//!   `anon_file`, `coredump`, `drm`, `uring`, `plug`: safe layers over C, which know nothing of the driver;
//! - `gpupv`: the wire protocol, `logic`: bookkeeping; neither knows the kernel;
//! - [`link`], [`transport`]: calls to the host and their answers; [`reaper`], [`release`]: giving
//!   back what the host made for us; [`events`]: what the host says by itself;
//! - [`bus`], [`discovery`], [`global`], [`adapter`]: finding and starting virtual GPUs;
//! - [`client`], [`vm`], [`queue`], [`bo`], [`bind`], [`reservation`], [`residency`], [`fence`],
//!   [`fence_wait`], [`fence_share`], [`sync_export`], [`sync_import`], [`submit`] and [`plain`],
//!   [`budget`], [`query`]: one file for each concept of the user-space interface; [`driver`] ties them to DRM;
//! - the same by io_uring: [`uring_cmd`], [`uring_submit`], [`uring_operation`]; [`outbox`], messages that
//!   are sent together;
//! - below them, synchronisation: [`watch`] and [`pending`], who waits; [`submit_sync`], [`inputs`] and
//!   [`relay`], what queues wait for; [`out_fence`] and [`watchdog`], the dma_fences of their work;
//!   [`background`] and [`alarm`], who looks after all of it;
//! - memory: [`allocation`], [`guest_memory`], [`host_memory`], [`view`], [`pinned`],
//!   [`memory_charge`]; addresses: [`space`], [`range_map`], [`backed`]; order: [`turn`], [`gate`],
//!   [`progress`]; and [`trim`], which gives way when memory is short.
//!
//! User-space interface: include/uapi/drm/vaccel_accel.h.

#![crate_name = "vaccel"]

use kernel::driver::Registration;
use kernel::prelude::*;

mod adapter;
mod alarm;
mod allocation;
pub mod anon_file;
mod backed;
mod background;
mod bind;
mod bindings;
mod bo;
mod bound;
mod budget;
mod bus;
mod capability;
mod client;
pub mod coredump;
mod device;
mod discovery;
pub mod dma_fence;
mod driver;
pub mod drm;
mod escape;
pub mod eventfd;
mod events;
mod fence;
mod fence_share;
mod fence_wait;
mod function;
mod gate;
mod global;
pub mod gpupv;
mod guest_memory;
mod host_error;
mod host_memory;
mod inputs;
pub mod io;
mod io_space;
mod ioctl;
pub mod kthread;
mod link;
pub mod logic;
mod memory_charge;
pub mod mm;
mod out_fence;
mod outbox;
pub mod pci;
mod pending;
mod pinned;
mod plain;
pub mod plug;
mod process;
mod progress;
mod query;
mod queue;
mod range_map;
mod reaper;
mod relay;
mod release;
mod reservation;
mod residency;
mod space;
mod submit;
mod submit_sync;
pub mod sync;
mod sync_export;
pub mod sync_file;
mod sync_import;
pub mod task;
mod transport;
mod trim;
mod turn;
pub mod uring;
mod uring_cmd;
mod uring_operation;
mod uring_submit;
mod view;
mod vm;
pub mod vmbus;
mod watch;
mod watchdog;
pub mod workqueue;

/// The module: its bus drivers.
///
/// Dropped from top to bottom: first the drivers, so that every virtual GPU stops, then the workers
/// that give back what was left.
#[pin_data]
struct Vaccel {
    #[pin]
    functions: Registration<kernel::pci::Adapter<bus::FunctionDriver>>,
    #[pin]
    channels: Registration<vmbus::Adapter<bus::ChannelDriver>>,
    background: InTheRoom,
}

/// What works in the background, while the room of [`discovery`] is open.
struct InTheRoom {
    _running: background::Running,
}

impl InTheRoom {
    fn start() -> Result<Self> {
        let running = background::Running::start()?;
        discovery::ROOM.lock().open(running.background());
        Ok(Self { _running: running })
    }
}

impl Drop for InTheRoom {
    fn drop(&mut self) {
        // Then the field goes: no driver is bound and no file open, so nobody begins anything.
        discovery::ROOM.lock().close();
    }
}

impl kernel::InPlaceModule for Vaccel {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        // SAFETY: Called once, before anything that uses the room exists.
        unsafe { discovery::ROOM.init() };

        try_pin_init!(Self {
            // In the order of initialisation, not of the fields: the drivers need the background.
            background: InTheRoom::start()?,
            channels <- Registration::new(c"vaccel", module),
            functions <- Registration::new(c"vaccel", module),
        })
    }
}

module! {
    type: Vaccel,
    name: "vaccel",
    authors: ["The vaccel authors"],
    description: "Compute on a paravirtualised GPU",
    license: "GPL",
    imports_ns: ["DMA_BUF"],
    params: {
        pin_limit_mib: u64 {
            default: 0,
            description: "MiB of guest memory that one open file may pin (default: half of the memory)",
        },
        reply_ms: u32 {
            default: 60000,
            description: "Milliseconds that the host may take for an answer (500 to 120000)",
        },
        watchdog_ms: u32 {
            default: 10000,
            description: "Milliseconds that work with a dma_fence may make no progress (100 to 120000)",
        },
    },
}
