// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory of the virtual GPUs, and what of it the guest sees in the I/O space.

use std::sync::{Arc, PoisonError, RwLock};

use gpupv_host::{HostMemory, HostMemoryError, IoSpace, ShowError, VgpuId};
use vmm::sparse::SparseError;
use vmm::{IoRegion, SparseMemory};

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

    pub(super) fn get(&self, vgpu: VgpuId) -> Option<Arc<SparseMemory>> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.get(vgpu.index()).map(Arc::clone)
    }
}

/// Host memory in which a virtual GPU's allocations lie.
pub(super) struct GpuMemory(pub(super) Arc<SparseMemory>);

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
pub(super) struct MappedSpace {
    pub(super) region: Arc<IoRegion>,
    /// Memory of the virtual GPUs.
    pub(super) memory: GpuMemories,
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

#[cfg(test)]
mod tests {
    use super::*;
    use gpupv_host::{Host, HostConfig, VgpuConfig};

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
