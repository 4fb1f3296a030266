// SPDX-License-Identifier: GPL-2.0-only

//! What the cgroup of whoever makes memory resident pays for it (dmem controller).
//!
//! The guest sees what the host committed to it, not where the host really put it: so a region is a
//! segment group as the host describes it, and a charge stands for residency that was asked for.

use kernel::prelude::*;
use kernel::sync::{
    new_mutex,
    Mutex, //
};

use crate::driver::VaccelDrm;
use crate::drm::{
    self,
    UnregisteredDevice, //
};

/// A segment group of the host.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Segment {
    /// The adapter's own memory.
    Local,
    /// System memory that the adapter uses.
    NonLocal,
}

/// A charge, until it is dropped.
pub(crate) type MemoryCharge = drm::cgroup::Charge;

struct Pair {
    local: drm::cgroup::MemoryRegion,
    non_local: drm::cgroup::MemoryRegion,
}

/// The regions of an adapter, while its device is registered.
#[pin_data]
pub(crate) struct Regions {
    #[pin]
    pair: Mutex<Option<Pair>>,
}

impl Regions {
    /// No regions yet.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            pair <- new_mutex!(None, "Regions::pair"),
        })
    }

    /// Registers the regions of a device that is about to be registered. A size of 0 is unknown.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn open(
        &self,
        dev: &UnregisteredDevice<VaccelDrm>,
        (local, non_local): (u64, u64),
    ) -> Result {
        let size = |known| if known == 0 { u64::MAX } else { known };
        let pair = Pair {
            local: dev.register_memory_region(c"local", size(local))?,
            non_local: dev.register_memory_region(c"nonlocal", size(non_local))?,
        };
        *self.pair.lock() = Some(pair);
        Ok(())
    }

    /// Ends the regions: their names are free for a device that comes back. Charges stay charged.
    pub(crate) fn close(&self) {
        let pair = self.pair.lock().take();
        drop(pair);
    }

    /// Charges `bytes` of `segment` to the cgroup of the caller; none where nothing is controlled.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if that is above a limit.
    pub(crate) fn charge(&self, segment: Segment, bytes: u64) -> Result<Option<MemoryCharge>> {
        match (self.pair.lock().as_ref(), segment) {
            (None, _) => Ok(None),
            (Some(pair), Segment::Local) => pair.local.try_charge(bytes),
            (Some(pair), Segment::NonLocal) => pair.non_local.try_charge(bytes),
        }
    }
}
