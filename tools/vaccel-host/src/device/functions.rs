// SPDX-License-Identifier: MIT OR Apache-2.0
//! PCI functions of virtual GPUs that come and go.
//!
//! On bus 0 a function that is taken away only stops to answer. On a bus of its own the guest is told: it is
//! asked to let go, or finds the bus without its function, or loses the bus.

use gpupv_host::VgpuId;
use serde_json::Value;

use super::{Device, MILLISECOND, OFFER_PATIENCE};
use crate::control::{self, Removal};
use crate::pci::Place;
use crate::world::Purpose;

/// Nanoseconds that a guest has to let go of a function; then it is gone, as with a Windows host.
const EJECTION_PATIENCE: u64 = 60_000 * MILLISECOND;

impl Device {
    /// Takes the function of a virtual GPU away.
    pub(super) fn remove_function(&mut self, number: usize, how: Option<Removal>) -> Value {
        let Some(vgpu) = self.vgpu(number) else {
            return control::refused("no such virtual GPU");
        };
        let Some(place) = self.world.pci.place(vgpu) else {
            return self.unplug(vgpu, how);
        };
        // It may be about to come back.
        let awaited = self.cancel_late(Purpose::Pci(vgpu));
        match (place, how.unwrap_or(Removal::Eject)) {
            (Place::Gone, _) if awaited => control::ok(),
            (Place::Missing | Place::Gone, _) => {
                control::refused("the function of this virtual GPU is gone already (add-function)")
            }
            (_, Removal::Eject) => {
                self.eject(vgpu);
                control::ok()
            }
            (_, Removal::Relations) => {
                self.world.pci.set_place(vgpu, Place::Missing);
                self.world
                    .with_bus(vgpu, |bus, port| bus.set_present(false, port));
                control::ok()
            }
            (_, Removal::Rescind) => {
                self.lose_bus(vgpu);
                control::ok()
            }
        }
    }

    /// Puts the function of a virtual GPU back. A bus that has gone with it is offered as soon as the guest
    /// has let go of the old one.
    pub(super) fn add_function(&mut self, number: usize) -> Value {
        let Some(vgpu) = self.vgpu(number) else {
            return control::refused("no such virtual GPU");
        };
        match self.world.pci.place(vgpu) {
            None => {
                self.slots.set_present(vgpu, true);
                control::ok()
            }
            Some(Place::Present) => {
                control::refused("the function of this virtual GPU is there already")
            }
            Some(Place::Missing) => {
                self.put_back(vgpu);
                control::ok()
            }
            Some(place @ (Place::Ejecting(_) | Place::Gone)) => {
                let gone = match place {
                    Place::Ejecting(end) => end,
                    _ => self.world.now_ns(),
                };
                let end = gone.saturating_add(OFFER_PATIENCE);
                self.offer_later(Purpose::Pci(vgpu), end);
                control::ok()
            }
        }
    }

    /// Goes on with functions that the guest has let go of, or has had the time for.
    pub(super) fn settle_functions(&mut self) {
        let now = self.world.now_ns();
        let vgpus: Vec<VgpuId> = self.host.vgpus().map(|(id, _)| id).collect();
        for vgpu in vgpus {
            if self.world.pci.take_ejected(vgpu, now) {
                self.lose_bus(vgpu);
            }
        }
    }

    /// Has the function on its bus, and tells a guest that watches.
    pub(super) fn put_back(&mut self, vgpu: VgpuId) {
        self.world.pci.set_place(vgpu, Place::Present);
        self.world
            .with_bus(vgpu, |bus, port| bus.set_present(true, port));
    }

    /// A function on bus 0.
    fn unplug(&self, vgpu: VgpuId, how: Option<Removal>) -> Value {
        if how.is_some() {
            return control::refused(
                "\"how\" is for functions that have a bus of their own (--pci vmbus)",
            );
        }
        self.slots.set_present(vgpu, false);
        control::ok()
    }

    /// Asks the guest to let go of a function; without a guest that could, the bus goes at once.
    fn eject(&mut self, vgpu: VgpuId) {
        let end = self.world.now_ns().saturating_add(EJECTION_PATIENCE);
        let asked = self.world.with_bus(vgpu, |bus, port| bus.eject(port));
        if asked == Some(true) {
            self.world.pci.set_place(vgpu, Place::Ejecting(end));
        } else {
            self.lose_bus(vgpu);
        }
    }

    /// Takes the bus of a function away, and the function with it.
    fn lose_bus(&mut self, vgpu: VgpuId) {
        if let Err(error) = self.rescind(Purpose::Pci(vgpu)) {
            tracing::debug!(%error, "a PCI bus");
            self.world.lose_bus(vgpu);
        }
    }
}
