// SPDX-License-Identifier: GPL-2.0-only

//! vaccel: compute on the GPU of the host, from inside a virtual machine.
//!
//! The host offers paravirtual GPUs (Hyper-V "GPU-PV"): per virtual GPU a PCI function and a VMBus
//! channel, and one more channel for the VM. The driver makes an accel node of each. From the wire
//! up:
//!
//! - `vmbus`, `pci`, `io`, `mm`, `sync`, `workqueue`, `drm`: safe layers over C, which know nothing
//!   of the driver;
//! - `gpupv`: the wire protocol, `logic`: bookkeeping; neither knows the kernel;
//! - [`link`], [`transport`]: calls to the host and their answers; [`reaper`], [`release`]: giving
//!   back what the host made for us; [`events`]: what the host says by itself;
//! - [`bus`], [`discovery`], [`global`], [`adapter`]: finding and starting virtual GPUs;
//! - [`client`], [`vm`], [`queue`], [`bo`], [`bind`], [`reservation`], [`residency`], [`fence`],
//!   [`submit`], [`budget`], [`query`]: one file for each concept of the user-space interface;
//!   [`driver`] ties them to DRM;
//! - below them, memory: [`allocation`], [`guest_memory`], [`host_memory`], [`view`], [`pinned`],
//!   [`memory_charge`]; addresses: [`space`], [`range_map`], [`backed`]; order: [`turn`], [`gate`],
//!   [`progress`]; and [`trim`], which gives way when memory is short.
//!
//! User-space interface: include/uapi/drm/vaccel_accel.h.

#![crate_name = "vaccel"]

use kernel::driver::Registration;
use kernel::prelude::*;
use kernel::sync::Arc;

mod adapter;
mod allocation;
mod backed;
mod bind;
mod bindings;
mod bo;
mod bound;
mod budget;
mod bus;
mod capability;
mod client;
mod device;
mod discovery;
mod driver;
pub mod drm;
mod events;
mod fence;
mod function;
mod gate;
mod global;
pub mod gpupv;
mod guest_memory;
mod host_error;
mod host_memory;
pub mod io;
mod io_space;
mod ioctl;
mod link;
pub mod logic;
mod memory_charge;
pub mod mm;
pub mod pci;
mod pinned;
mod process;
mod progress;
mod query;
mod queue;
mod range_map;
mod reaper;
mod release;
mod reservation;
mod residency;
mod space;
mod submit;
pub mod sync;
mod transport;
mod trim;
mod turn;
mod view;
mod vm;
pub mod vmbus;
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
    workers: Workers,
}

/// The workers of all reapers, while the room of [`discovery`] is open.
struct Workers;

impl Workers {
    fn start() -> Result<Self> {
        let queue = workqueue::OwnedQueue::new(
            c"vaccel-reaper",
            workqueue::Flags {
                mem_reclaim: true,
                unbound: true,
            },
            0,
        )?;
        discovery::ROOM.lock().open(Arc::new(queue, GFP_KERNEL)?);
        Ok(Self)
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        let queue = discovery::ROOM.lock().close();
        // No file is open and no driver bound, so nobody queues any more; the last reference is
        // this one once the queue has run dry, which its drop waits for.
        if let Some(queue) = queue {
            queue.flush();
        }
    }
}

impl kernel::InPlaceModule for Vaccel {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        // SAFETY: Called once, before anything that uses the room exists.
        unsafe { discovery::ROOM.init() };

        try_pin_init!(Self {
            // In the order of initialisation, not of the fields: the drivers need the workers.
            workers: Workers::start()?,
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
    },
}
