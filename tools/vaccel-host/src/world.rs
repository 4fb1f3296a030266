// SPDX-License-Identifier: MIT OR Apache-2.0
//! What connects the VMBus server and the GPU-PV host with the machine and with each other.
//!
//! The server calls [`Wiring`] (its `Effects`), the host calls [`HostWorld`] (its `Env`); both work
//! on one [`World`], which the device thread owns. Neither may call back into who calls it, so
//! interrupts that a ring wants are noted and raised when the call is over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use gpupv_host::{
    Channel, Env, Host, HostMemory, HostMemoryError, IoSpace, IoSpaceError, Job, ShowError, VgpuId,
};
use guest_memory::GuestRange;
use vmbus_ring::{ChannelRings, RingError, Signal};
use vmbus_server::{
    ChannelId, CloseReason, Delivery, Effects, OpenRefused, Opened, Server, SynicMessage, Teardown,
};
use vmm::sparse::SparseError;
use vmm::synic::Posted;
use vmm::{IoRegion, RegionMapper, SparseMemory, Synic};

use crate::engines::Engines;
use crate::trace::Trace;

/// A channel that the guest opened.
pub struct Open {
    /// What it is for.
    pub channel: Channel,
    /// Its rings.
    pub rings: ChannelRings,
}

/// Memory of the virtual GPUs, in their order. Clones are the same list: what is added later can be shown in an
/// I/O space that is there already.
#[derive(Clone, Default)]
pub struct GpuMemories(Arc<RwLock<Vec<Arc<SparseMemory>>>>);

impl GpuMemories {
    /// Adds the memory of the next GPU.
    pub fn add(&self, memory: Arc<SparseMemory>) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.push(memory);
    }

    fn get(&self, vgpu: VgpuId) -> Option<Arc<SparseMemory>> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.get(vgpu.index()).map(Arc::clone)
    }
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
    pub offered: BTreeMap<ChannelId, Channel>,
    /// The channels that are open.
    pub open: BTreeMap<ChannelId, Open>,
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

    /// The open channel that is for `channel`.
    fn find_open(&mut self, channel: Channel) -> Option<(ChannelId, &mut Open)> {
        self.open
            .iter_mut()
            .find(|(_, open)| open.channel == channel)
            .map(|(id, open)| (*id, open))
    }

    /// Sends on a channel by `send`; a channel that is not open swallows it, as a closed ring does.
    fn send(
        &mut self,
        channel: Channel,
        send: impl FnOnce(&mut ChannelRings) -> Result<Signal, RingError>,
    ) {
        let Some((id, open)) = self.find_open(channel) else {
            tracing::debug!(?channel, "nothing sent: the channel is not open");
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
        self.world.send(channel, |rings| {
            rings.send_completion(transaction_id, payload)
        });
    }

    fn send(&mut self, payload: &[u8]) {
        let now = self.world.now_ns();
        if let Some(trace) = &mut self.world.trace {
            trace.event(now, payload);
        }
        self.world
            .send(Channel::Global, |rings| rings.send_inband(0, payload));
    }

    fn gpadl(&self, gpadl: u32) -> Option<Vec<GuestRange>> {
        let (id, _) = self
            .world
            .open
            .iter()
            .find(|(_, open)| open.channel == Channel::Global)?;
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

/// Host memory in which a virtual GPU's allocations lie.
struct GpuMemory(Arc<SparseMemory>);

impl GpuMemory {
    fn checked(
        (offset, len): (u64, u64),
        result: Result<(), SparseError>,
    ) -> Result<(), HostMemoryError> {
        result.map_err(|error| {
            tracing::warn!(%error, "a GPU's memory");
            HostMemoryError { offset, len }
        })
    }
}

impl HostMemory for GpuMemory {
    fn len(&self) -> u64 {
        self.0.len()
    }

    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), HostMemoryError> {
        let place = (offset, buf.len() as u64);
        Self::checked(place, self.0.read(offset, buf))
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), HostMemoryError> {
        let place = (offset, data.len() as u64);
        Self::checked(place, self.0.write(offset, data))
    }

    fn discard(&self, offset: u64, len: u64) -> Result<(), HostMemoryError> {
        Self::checked((offset, len), self.0.discard(offset, len))
    }
}

/// Host memory the guest sees as the I/O space.
struct MappedSpace {
    region: Arc<IoRegion>,
    /// Memory of the virtual GPUs.
    memory: GpuMemories,
}

impl IoSpace for MappedSpace {
    fn store_u64(&self, offset: u64, value: u64) {
        if let Err(error) = self.region.store_u64(offset, value) {
            tracing::error!(%error, "a fence value is lost");
        }
    }

    fn load_u64(&self, offset: u64) -> u64 {
        self.region.load_u64(offset).unwrap_or_else(|error| {
            tracing::error!(%error, "a fence value reads as zero");
            0
        })
    }

    fn show(&self, offset: u64, (vgpu, from): (VgpuId, u64), len: u64) -> Result<(), ShowError> {
        let error = |reason| ShowError {
            offset,
            len,
            reason,
        };
        let memory = self.memory.get(vgpu);
        let memory = memory.ok_or_else(|| error("no such GPU".into()))?;
        let shown = self.region.show(offset, &memory, from, len);
        shown.map_err(|reason| error(reason.to_string()))
    }

    /// # Panics
    ///
    /// When it cannot be hidden: the guest would go on seeing memory that may become another's, so
    /// the machine has to end, which the end of the device thread makes it do.
    fn hide(&self, offset: u64, len: u64) {
        if let Err(error) = self.region.hide(offset, len) {
            panic!("{error}");
        }
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
        if self.world.offered.get(&channel) == Some(&Channel::Global) {
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
            channel: purpose,
            rings: opened.rings,
        };
        self.world.open.insert(channel, open);
        self.host.channel_opened(purpose);
        Ok(())
    }

    fn channel_closed(&mut self, channel: ChannelId, reason: CloseReason) {
        tracing::debug!(%channel, ?reason, "channel closed");
        self.world.interrupts.remove(&channel);
        if let Some(open) = self.world.open.remove(&channel) {
            if let Some(trace) = &mut self.world.trace {
                trace.closed(open.channel);
            }
            let (host, mut env) = self.env();
            host.channel_closed(open.channel, &mut env);
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
        self.world.offered.remove(&channel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpupv_host::{HostConfig, VgpuConfig};

    /// What the host shows in the I/O space is what jobs have as memory of that GPU, and the fences
    /// beside it stay what they are.
    #[test]
    fn shown_memory_is_the_gpus() {
        let mut host = Host::new(HostConfig::default());
        let vgpus = [0, 1].map(|number| host.add_vgpu(VgpuConfig::numbered(number)).unwrap());
        let memory = GpuMemories::default();
        let space = MappedSpace {
            region: Arc::new(IoRegion::new(0x1_0000_0000, 1 << 20).unwrap()),
            memory: memory.clone(),
        };
        for _ in vgpus {
            memory.add(Arc::new(SparseMemory::new(64 << 30).unwrap()));
        }
        let job = GpuMemory(memory.get(vgpus[1]).unwrap());
        job.write(40 << 30, &7_u64.to_le_bytes()).unwrap();
        space.store_u64(0, 1);
        space.show(8192, (vgpus[1], 40 << 30), 4096).unwrap();
        assert_eq!((space.load_u64(8192), space.load_u64(0)), (7, 1));
        space.store_u64(8200, 9);
        let mut bytes = [0; 8];
        job.read((40 << 30) + 8, &mut bytes).unwrap();
        assert_eq!(u64::from_le_bytes(bytes), 9);
        space.hide(8192, 4096);
        assert_eq!((space.load_u64(8192), space.load_u64(0)), (0, 1));
        job.discard(40 << 30, 4096).unwrap();
        job.read((40 << 30) + 8, &mut bytes).unwrap();
        assert_eq!(bytes, [0; 8]);
        assert!(space.show(8192, (vgpus[0], 64 << 30), 4096).is_err());
        assert!(job.write(64 << 30, &[0]).is_err());
    }
}
