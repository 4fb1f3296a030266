// SPDX-License-Identifier: MIT OR Apache-2.0
//! What connects the VMBus server and the GPU-PV host with the machine and with each other.
//!
//! The server calls [`Wiring`] (its `Effects`), the host calls [`HostWorld`] (its `Env`); both work
//! on one [`World`], which the device thread owns. Neither may call back into who calls it, so
//! interrupts that a ring wants are noted and raised when the call is over.

mod gpu_memory;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use balloon::Balloon;
use gpupv_host::{Channel, Env, Host, HostMemory, IoSpace, IoSpaceError, Job, VgpuId};
use guest_memory::GuestRange;
use vmbus_ring::{ChannelRings, RingError, Signal};
use vmbus_server::{
    ChannelId, CloseReason, Delivery, Effects, OpenRefused, Opened, Server, SynicMessage, Teardown,
};
use vmm::synic::Posted;
use vmm::{RegionMapper, Synic};
use vpci::Bus;

use crate::engines::Engines;
use crate::pci::{Buses, Place, Port};
use crate::trace::Trace;
pub use gpu_memory::GpuMemories;
use gpu_memory::{GpuMemory, MappedSpace};

/// What a channel is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// Messages to the GPU-PV host.
    Gpu(Channel),
    /// The bus on which the PCI function of a virtual GPU is.
    Pci(VgpuId),
    /// The balloon.
    Balloon,
}

/// A channel that the guest opened.
pub struct Open {
    /// What it is for.
    pub purpose: Purpose,
    /// Its rings.
    pub rings: ChannelRings,
}

/// Everything of the device thread but the server and the host.
pub struct World {
    /// Messages and interrupts to the guest.
    pub synic: Arc<Synic>,
    /// Host memory for the guest.
    pub mapper: RegionMapper,
    /// Memory of the virtual GPUs.
    pub gpu_memory: GpuMemories,
    /// Who runs jobs.
    pub engines: Engines,
    /// What each offered channel is for.
    pub offered: BTreeMap<ChannelId, Purpose>,
    /// The channels that are open.
    pub open: BTreeMap<ChannelId, Open>,
    /// The PCI buses over VMBus.
    pub pci: Buses,
    /// The balloon, if there is one.
    pub balloon: Option<Balloon>,
    /// Channels whose guest is to be interrupted.
    pub interrupts: BTreeSet<ChannelId>,
    /// Channels whose rings failed, with the reason.
    pub failed: Vec<(ChannelId, String)>,
    /// Where the I/O space is, while there is one.
    pub io_space: Option<u64>,
    /// Where messages are written down.
    pub trace: Option<Trace>,
    /// Start of the host's clock.
    pub start: Instant,
}

impl World {
    /// What the host's clock says.
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Calls the bus of a virtual GPU's PCI function, if it has one, and sends what that says.
    pub fn with_bus<R>(
        &mut self,
        vgpu: VgpuId,
        call: impl FnOnce(&mut Bus, &mut Port) -> R,
    ) -> Option<R> {
        let (result, packets) = self.pci.call(vgpu, call)?;
        let now = self.now_ns();
        for packet in packets {
            if let Some(trace) = &mut self.trace {
                trace.pci_packet(now, vgpu, &packet);
            }
            let payload = &packet.payload;
            self.send(Purpose::Pci(vgpu), |rings| match packet.completes {
                Some(transaction) => rings.send_completion(transaction, payload),
                None => rings.send_inband(0, payload),
            });
        }
        Some(result)
    }

    /// Notes that the bus of a GPU's function is gone, and the function with it.
    pub fn lose_bus(&mut self, vgpu: VgpuId) {
        self.pci.set_place(vgpu, Place::Gone);
        self.with_bus(vgpu, |bus, port| bus.set_present(false, port));
    }

    /// Calls the balloon, if there is one, and sends what that says.
    pub fn with_balloon<R>(
        &mut self,
        call: impl FnOnce(&mut Balloon, &mut dyn balloon::Env) -> R,
    ) -> Option<R> {
        let (result, packets) = self.call_balloon(call)?;
        let now = self.now_ns();
        for payload in packets {
            if let Some(trace) = &mut self.trace {
                trace.balloon(now, "host", &payload);
            }
            self.send(Purpose::Balloon, |rings| rings.send_inband(0, &payload));
        }
        Some(result)
    }

    /// The open channel that is for `purpose`.
    fn find_open(&mut self, purpose: Purpose) -> Option<(ChannelId, &mut Open)> {
        self.open
            .iter_mut()
            .find(|(_, open)| open.purpose == purpose)
            .map(|(id, open)| (*id, open))
    }

    /// Sends on a channel by `send`; a channel that is not open swallows it, as a closed ring does.
    fn send(
        &mut self,
        purpose: Purpose,
        send: impl FnOnce(&mut ChannelRings) -> Result<Signal, RingError>,
    ) {
        let Some((id, open)) = self.find_open(purpose) else {
            tracing::debug!(?purpose, "nothing sent: the channel is not open");
            return;
        };
        match send(&mut open.rings) {
            Ok(Signal::Needed) => {
                self.interrupts.insert(id);
            }
            Ok(Signal::NotNeeded) => {}
            Err(error) => self.failed.push((id, error.to_string())),
        }
    }
}

/// The world as the GPU-PV host sees it.
pub struct HostWorld<'a> {
    /// The server, when it is not it that is being served.
    pub server: Option<&'a Server>,
    /// The rest.
    pub world: &'a mut World,
}

impl Env for HostWorld<'_> {
    fn complete(&mut self, channel: Channel, transaction_id: u64, payload: &[u8]) {
        let now = self.world.now_ns();
        if let Some(trace) = &mut self.world.trace {
            trace.answer(now, channel, transaction_id, payload);
        }
        self.world.send(Purpose::Gpu(channel), |rings| {
            rings.send_completion(transaction_id, payload)
        });
    }

    fn send(&mut self, payload: &[u8]) {
        let now = self.world.now_ns();
        if let Some(trace) = &mut self.world.trace {
            trace.event(now, payload);
        }
        self.world.send(Purpose::Gpu(Channel::Global), |rings| {
            rings.send_inband(0, payload)
        });
    }

    fn gpadl(&self, gpadl: u32) -> Option<Vec<GuestRange>> {
        let (id, _) = self
            .world
            .open
            .iter()
            .find(|(_, open)| open.purpose == Purpose::Gpu(Channel::Global))?;
        let ranges = self.server?.gpadl(*id, gpadl)?;
        Some(ranges.iter().collect())
    }

    fn start_job(&mut self, vgpu: VgpuId, job: Job) {
        self.world.engines.start_job(vgpu, job);
    }

    fn map_io_space(&mut self, gpa: u64, len: u64) -> Result<Arc<dyn IoSpace>, IoSpaceError> {
        let region = self
            .world
            .mapper
            .map(gpa, len)
            .map_err(|error| IoSpaceError {
                gpa,
                len,
                reason: error.to_string(),
            })?;
        self.world.io_space = Some(gpa);
        Ok(Arc::new(MappedSpace {
            region,
            memory: self.world.gpu_memory.clone(),
        }))
    }

    fn unmap_io_space(&mut self) {
        if let Some(gpa) = self.world.io_space.take() {
            if let Err(error) = self.world.mapper.unmap(gpa) {
                tracing::error!(%error, "the I/O space stays mapped");
            }
        }
    }

    fn host_memory(&mut self, vgpu: VgpuId) -> Option<Arc<dyn HostMemory>> {
        let memory = self.world.gpu_memory.get(vgpu)?;
        Some(Arc::new(GpuMemory(memory)))
    }

    fn now_ns(&self) -> u64 {
        self.world.now_ns()
    }
}

/// The world as the VMBus server sees it.
pub struct Wiring<'a> {
    /// The GPU-PV host.
    pub host: &'a mut Host,
    /// The rest.
    pub world: &'a mut World,
}

impl Wiring<'_> {
    fn env(&mut self) -> (&mut Host, HostWorld<'_>) {
        let env = HostWorld {
            server: None,
            world: self.world,
        };
        (self.host, env)
    }

    /// Tells the host that guest memory shared by GPADL must not be touched any more.
    fn revoke(&mut self, channel: ChannelId, handle: u32) {
        if self.world.offered.get(&channel) == Some(&Purpose::Gpu(Channel::Global)) {
            self.host.gpadl_revoked(handle);
        }
    }
}

impl Effects for Wiring<'_> {
    fn post_message(&mut self, message: &SynicMessage) -> Delivery {
        let posted = self.world.synic.post_message(
            message.vp,
            message.sint,
            message.message_type(),
            message.payload(),
        );
        let now = self.world.now_ns();
        match posted {
            Ok(Posted::Delivered) => {
                if let Some(trace) = &mut self.world.trace {
                    trace.vmbus(now, "host", message.payload());
                }
                Delivery::Taken
            }
            Ok(Posted::Busy) => Delivery::Busy,
            // A guest without a message page gets no messages.
            Err(error) => {
                tracing::debug!(%error, "message dropped");
                Delivery::Taken
            }
        }
    }

    fn signal_event(&mut self, vp: u32, sint: u8, flag: u16) {
        if let Err(error) = self.world.synic.signal_event(vp, sint, flag) {
            tracing::debug!(%error, "event dropped");
        }
    }

    fn channel_opened(&mut self, channel: ChannelId, opened: Opened) -> Result<(), OpenRefused> {
        let Some(purpose) = self.world.offered.get(&channel).copied() else {
            return Err(OpenRefused {
                reason: format!("{channel} is for nothing"),
            });
        };
        let open = Open {
            purpose,
            rings: opened.rings,
        };
        self.world.open.insert(channel, open);
        if let Purpose::Gpu(channel) = purpose {
            self.host.channel_opened(channel);
        }
        Ok(())
    }

    fn channel_closed(&mut self, channel: ChannelId, reason: CloseReason) {
        tracing::debug!(%channel, ?reason, "channel closed");
        self.world.interrupts.remove(&channel);
        match self.world.open.remove(&channel).map(|open| open.purpose) {
            Some(Purpose::Gpu(channel)) => {
                if let Some(trace) = &mut self.world.trace {
                    trace.closed(channel);
                }
                let (host, mut env) = self.env();
                host.channel_closed(channel, &mut env);
            }
            Some(Purpose::Pci(vgpu)) => {
                self.world.with_bus(vgpu, |bus, port| bus.closed(port));
            }
            Some(Purpose::Balloon) => {
                self.world.with_balloon(|balloon, _| balloon.closed());
            }
            None => {}
        }
    }

    fn gpadl_teardown(&mut self, channel: ChannelId, handle: u32) -> Teardown {
        self.revoke(channel, handle);
        Teardown::Done
    }

    fn gpadl_revoked(&mut self, channel: ChannelId, handle: u32) {
        self.revoke(channel, handle);
    }

    fn channel_released(&mut self, channel: ChannelId) {
        // The server takes a channel back by itself too, from a guest that broke the rules.
        if let Some(Purpose::Pci(vgpu)) = self.world.offered.remove(&channel) {
            self.world.lose_bus(vgpu);
        }
    }
}
