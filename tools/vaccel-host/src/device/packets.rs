// SPDX-License-Identifier: MIT OR Apache-2.0
//! Packets of the guest, taken from the rings and given to who they are for.

use gpupv_host::{Channel, MessageIn, VgpuId};
use vmbus_ring::{OwnedPacket, PacketKind, PollState};
use vmbus_server::ChannelId;

use super::Device;
use crate::trace::Asks;
use crate::world::{HostWorld, Purpose};

/// Packets taken from one ring before others get their turn.
const RING_BUDGET: usize = 64;

impl Device {
    /// Takes packets from a channel's rings and gives them to the channel's device.
    pub(super) fn poll(&mut self, id: ChannelId) {
        let Some(open) = self.world.open.get_mut(&id) else {
            return;
        };
        let purpose = open.purpose;
        let batch = match open.rings.receive(RING_BUDGET) {
            Ok(batch) => batch,
            Err(error) => {
                self.world.failed.push((id, error.to_string()));
                return;
            }
        };
        if batch.signal.is_needed() {
            self.world.interrupts.insert(id);
        }
        if batch.state == PollState::More {
            self.inbox.lock().signals.insert(id.event_connection());
        }
        for packet in batch.packets {
            if packet.head.kind != PacketKind::Data {
                tracing::debug!(%id, kind = ?packet.head.kind, "packet ignored");
                continue;
            }
            match purpose {
                Purpose::Gpu(channel) => self.gpu_message(channel, &packet),
                Purpose::Pci(vgpu) => self.pci_message(vgpu, &packet),
                Purpose::Balloon => self.balloon_message(id, &packet),
            }
            self.obey_rules();
            let failed = self.world.failed.iter().any(|(failed, _)| *failed == id);
            if failed || !self.world.open.contains_key(&id) {
                // A violation ends it, or a rule had it rescinded.
                break;
            }
        }
    }

    fn gpu_message(&mut self, channel: Channel, packet: &OwnedPacket) {
        let message = MessageIn {
            transaction_id: packet.head.transaction_id,
            completion_requested: packet.head.completion_requested,
            payload: &packet.payload,
        };
        let now = self.world.now_ns();
        if let Some(trace) = &mut self.world.trace {
            let asks = Asks {
                transaction: message.transaction_id,
                answered: message.completion_requested,
                payload: message.payload,
            };
            trace.command(now, self.host.version(), channel, asks);
        }
        let mut env = HostWorld {
            server: Some(&self.server),
            world: &mut self.world,
        };
        self.host.message(channel, message, &mut env);
    }

    fn pci_message(&mut self, vgpu: VgpuId, packet: &OwnedPacket) {
        let now = self.world.now_ns();
        if let Some(trace) = &mut self.world.trace {
            let asks = Asks {
                transaction: packet.head.transaction_id,
                answered: packet.head.completion_requested,
                payload: &packet.payload,
            };
            trace.pci_command(now, vgpu, asks);
        }
        let message = vpci::MessageIn {
            transaction_id: packet.head.transaction_id,
            completion_requested: packet.head.completion_requested,
            payload: &packet.payload,
        };
        self.world
            .with_bus(vgpu, |bus, port| bus.message(message, port));
    }

    fn balloon_message(&mut self, id: ChannelId, packet: &OwnedPacket) {
        let now = self.world.now_ns();
        if let Some(trace) = &mut self.world.trace {
            trace.balloon(now, "guest", &packet.payload);
        }
        let taken = self
            .world
            .with_balloon(|balloon, env| balloon.message(&packet.payload, env));
        if let Some(Err(violation)) = taken {
            self.world.failed.push((id, violation.to_string()));
        }
    }
}
