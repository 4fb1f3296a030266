// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which channels are offered: at the start, and by request of the control channel and of rules.

use anyhow::{Context, Result};
use gpupv_host::{Channel, VgpuId};
use vmbus_server::{Guid, Offer};

use super::Device;
use crate::control::Target;
use crate::pci::Place;
use crate::world::Purpose;
use crate::{ballooning, pci};

impl Device {
    /// Offers all channels.
    ///
    /// # Errors
    ///
    /// Fails if the server has no room for them.
    pub fn offer_all(&mut self) -> Result<()> {
        if self.world.balloon.is_some() {
            self.offer(Purpose::Balloon)?;
        }
        let vgpus: Vec<VgpuId> = self.host.vgpus().map(|(id, _)| id).collect();
        if vgpus.is_empty() {
            return Ok(());
        }
        self.offer(Purpose::Gpu(Channel::Global))?;
        for vgpu in vgpus {
            // A scenario may have added it, with its channels.
            if !self.is_offered(Purpose::Gpu(Channel::Vgpu(vgpu))) {
                self.offer_vgpu(vgpu)?;
            }
        }
        Ok(())
    }

    fn is_offered(&self, purpose: Purpose) -> bool {
        self.world
            .offered
            .values()
            .any(|offered| *offered == purpose)
    }

    /// Offers the channels of a virtual GPU; not the bus of a function that was taken away with it.
    ///
    /// # Errors
    ///
    /// Fails if the server has no room for them.
    pub(crate) fn offer_vgpu(&mut self, vgpu: VgpuId) -> Result<()> {
        let place = self.world.pci.place(vgpu);
        if place.is_some_and(|place| place != Place::Gone) {
            self.offer(Purpose::Pci(vgpu))?;
        }
        self.offer(Purpose::Gpu(Channel::Vgpu(vgpu)))
    }

    pub(super) fn offer(&mut self, purpose: Purpose) -> Result<()> {
        let offer = self.describe(purpose)?;
        let id = self.with_server(|server, wiring| server.offer(offer, wiring))?;
        self.world.offered.insert(id, purpose);
        self.cancel_late(purpose);
        match purpose {
            Purpose::Pci(vgpu) if self.world.pci.place(vgpu) == Some(Place::Gone) => {
                self.put_back(vgpu);
            }
            _ => {}
        }
        Ok(())
    }

    fn describe(&self, purpose: Purpose) -> Result<Offer> {
        let guid = |guid: gpupv::Guid| Guid(guid.to_bytes());
        let offer = match purpose {
            Purpose::Gpu(Channel::Global) => Offer {
                mmio_megabytes: self.host.config().mmio_megabytes,
                // Any instance will do: there is one global channel.
                ..Offer::new(guid(gpupv::GLOBAL_CHANNEL), guid(gpupv::GLOBAL_CHANNEL))
            },
            Purpose::Gpu(Channel::Vgpu(vgpu)) => {
                let mut vgpus = self.host.vgpus();
                let found = vgpus.find(|(id, _)| *id == vgpu);
                let (_, config) = found.context("no such virtual GPU")?;
                Offer::new(guid(gpupv::VGPU_CHANNEL), guid(config.channel_instance))
            }
            Purpose::Pci(vgpu) => Offer::new(Guid(vpci::CHANNEL_CLASS), pci::instance(vgpu)),
            Purpose::Balloon => Offer::new(Guid(balloon::CHANNEL_CLASS), ballooning::INSTANCE),
        };
        Ok(offer)
    }

    /// Makes an offer as soon as the guest has let go of the old channel, or not at all after `end`.
    pub(super) fn offer_later(&mut self, purpose: Purpose, end: u64) {
        self.cancel_late(purpose);
        self.late_offers.push((purpose, end));
    }

    /// Forgets an offer that was to be made later. Whether there was one.
    pub(super) fn cancel_late(&mut self, purpose: Purpose) -> bool {
        let before = self.late_offers.len();
        self.late_offers.retain(|(late, _)| *late != purpose);
        self.late_offers.len() < before
    }

    /// Makes the offers that rules and added functions asked for, as soon as the guest has let go of the old
    /// channel.
    pub(super) fn offer_late_ones(&mut self) {
        let now = self.world.now_ns();
        for (purpose, end) in std::mem::take(&mut self.late_offers) {
            if let Err(error) = self.offer(purpose) {
                if now < end {
                    self.late_offers.push((purpose, end));
                } else {
                    tracing::warn!(?purpose, %error, "a late offer failed");
                }
            }
        }
    }

    /// Takes an offer back.
    ///
    /// # Errors
    ///
    /// Fails if no such channel is offered.
    pub(super) fn rescind(&mut self, purpose: Purpose) -> Result<()> {
        // The newest offer: older ones may wait for the guest to release them.
        let mut offers = self.world.offered.iter().rev();
        let found = offers.find(|(_, offered)| **offered == purpose);
        let id = *found.context("no such channel is offered")?.0;
        self.with_server(|server, wiring| server.rescind(id, wiring))?;
        if let Purpose::Pci(vgpu) = purpose {
            self.world.lose_bus(vgpu);
        }
        Ok(())
    }

    /// The channel that a request means.
    ///
    /// # Errors
    ///
    /// Says what is not there.
    pub(super) fn target(&self, target: Target) -> Result<Purpose> {
        let vgpu = |index| self.vgpu(index).context("no such virtual GPU");
        match target {
            Target::Global => Ok(Purpose::Gpu(Channel::Global)),
            Target::Vgpu { vgpu: index } => Ok(Purpose::Gpu(Channel::Vgpu(vgpu(index)?))),
            Target::Pci { vgpu: index } => {
                let bus = Some(vgpu(index)?).filter(|vgpu| self.world.pci.has(*vgpu));
                let bus = bus.context("functions have no channels (--pci vmbus)")?;
                Ok(Purpose::Pci(bus))
            }
            Target::Balloon => {
                let balloon = self.world.balloon.as_ref();
                balloon.context("there is no balloon (--balloon)")?;
                Ok(Purpose::Balloon)
            }
        }
    }

    pub(super) fn vgpu(&self, index: usize) -> Option<VgpuId> {
        self.host.vgpus().nth(index).map(|(id, _)| id)
    }
}
