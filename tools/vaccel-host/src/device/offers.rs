// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which channels are offered: at the start, and by request of the control channel and of rules.

use anyhow::{Context, Result};
use gpupv_host::{Channel, VgpuId};
use serde_json::Value;
use vmbus_server::{Guid, Offer};

use super::Device;
use crate::control::{self, Target};

impl Device {
    pub(crate) fn offer(&mut self, channel: Channel) -> Result<()> {
        let (class, instance, mmio_megabytes) = match channel {
            Channel::Global => (
                gpupv::GLOBAL_CHANNEL,
                // Any instance will do: there is one global channel.
                gpupv::GLOBAL_CHANNEL,
                self.host.config().mmio_megabytes,
            ),
            Channel::Vgpu(vgpu) => {
                let instance = self
                    .host
                    .vgpus()
                    .find(|(id, _)| *id == vgpu)
                    .map(|(_, config)| config.channel_instance)
                    .context("no such virtual GPU")?;
                (gpupv::VGPU_CHANNEL, instance, 0)
            }
        };
        let offer = Offer {
            mmio_megabytes,
            ..Offer::new(Guid(class.to_bytes()), Guid(instance.to_bytes()))
        };
        let id = self.with_server(|server, wiring| server.offer(offer, wiring))?;
        self.world.offered.insert(id, channel);
        Ok(())
    }

    /// Makes the offers that rules asked for, as soon as the guest has let go of the old channel.
    pub(super) fn offer_late_ones(&mut self) {
        let now = self.world.now_ns();
        for (channel, end) in std::mem::take(&mut self.late_offers) {
            if let Err(error) = self.offer(channel) {
                if now < end {
                    self.late_offers.push((channel, end));
                } else {
                    tracing::warn!(?channel, %error, "a rule's offer failed");
                }
            }
        }
    }

    pub(super) fn rescind(&mut self, target: Target) -> Value {
        let wanted = self.target(target);
        // The newest offer: older ones may wait for the guest to release them.
        let found = self
            .world
            .offered
            .iter()
            .rev()
            .find(|(_, channel)| Some(**channel) == wanted)
            .map(|(id, _)| *id);
        match found {
            Some(id) => match self.with_server(|server, wiring| server.rescind(id, wiring)) {
                Ok(()) => control::ok(),
                Err(error) => control::refused(&error.to_string()),
            },
            None => control::refused("no such channel is offered"),
        }
    }

    pub(super) fn target(&self, target: Target) -> Option<Channel> {
        match target {
            Target::Global => Some(Channel::Global),
            Target::Vgpu { vgpu } => self.vgpu(vgpu).map(Channel::Vgpu),
        }
    }

    pub(super) fn vgpu(&self, index: usize) -> Option<VgpuId> {
        self.host.vgpus().nth(index).map(|(id, _)| id)
    }
}
