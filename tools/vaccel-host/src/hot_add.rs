// SPDX-License-Identifier: MIT OR Apache-2.0
//! Virtual GPUs: how each is configured, and one more of them while the guest runs.
//!
//! What can fail comes before the host has the GPU, which it cannot lose again: a GPU that was refused left
//! nothing behind. On bus 0 the PCI function is there before the channel is offered, so that a driver that
//! looks for one at the sight of the other finds it once the bus has been scanned.

use std::sync::Arc;

use anyhow::{bail, Context, Result};
use engine::Engine;
use gpupv_host::{PerSegment, VgpuConfig, VgpuId, MAX_VGPUS};
use vmm::pci::PciBus;
use vmm::SparseMemory;

use crate::cli::{GpuKindArg, PciArg, RunArgs};
use crate::device::Device;
use crate::engines;
use crate::gpu_function::GpuFunction;

// Every GPU has a slot on the bus.
const _: () = assert!(MAX_VGPUS <= vmm::pci::MAX_FUNCTIONS);

/// Address space for the allocations of one virtual GPU, far more than it may use at a time.
const GPU_ADDRESS_SPACE: u64 = 64 << 30;

/// Where virtual GPUs can be added, and what they are.
pub struct GpuSlots {
    args: RunArgs,
    /// Bus 0.
    bus: Arc<PciBus>,
    /// The functions, in the order of their GPUs.
    functions: Vec<Arc<GpuFunction>>,
}

impl GpuSlots {
    /// Slots of bus 0, or of buses over VMBus, for GPUs as `args` say; `functions` are those that there are.
    pub fn new(args: &RunArgs, bus: Arc<PciBus>, functions: Vec<Arc<GpuFunction>>) -> Self {
        Self {
            args: args.clone(),
            bus,
            functions,
        }
    }

    /// Has the PCI function of a virtual GPU answer accesses or not.
    pub fn set_present(&self, vgpu: VgpuId, present: bool) {
        if let Some(function) = self.functions.get(vgpu.index()) {
            function.set_present(present);
        }
    }
}

/// The configuration of a virtual GPU, by its number and what runs its jobs.
pub fn vgpu_config(args: &RunArgs, number: u32, engine: &dyn Engine) -> VgpuConfig {
    VgpuConfig {
        budget: PerSegment {
            local: args.budget,
            non_local: args.budget_non_local,
        },
        memory: PerSegment {
            local: args.gpu_memory.max(args.budget),
            non_local: args.gpu_memory_non_local.max(args.budget_non_local),
        },
        commit_limit: args.commit_limit,
        compute_only: args.gpu_kind == GpuKindArg::Compute,
        engine: engine.info(),
        ..VgpuConfig::numbered(number)
    }
}

/// Memory for the allocations of one virtual GPU.
///
/// # Errors
///
/// Fails if the process is out of address space or file descriptors.
pub fn gpu_memory() -> Result<Arc<SparseMemory>> {
    let memory = SparseMemory::new(GPU_ADDRESS_SPACE).context("cannot make a GPU's memory")?;
    Ok(Arc::new(memory))
}

impl Device {
    /// Adds a virtual GPU and offers its channels.
    ///
    /// # Errors
    ///
    /// Fails if there are as many as a VM may have, or the process is out of a resource; then there is none.
    /// Also if the channels cannot be offered; then the GPU is there, and can be offered.
    pub fn add_vgpu(&mut self) -> Result<VgpuId> {
        let count = self.host.vgpus().count();
        if count == 0 {
            bail!("the VM has no channel for virtual GPUs (--vgpu 0)");
        }
        let memory = gpu_memory()?;
        let engine = engines::engine(&self.slots.args)?;
        let config = vgpu_config(&self.slots.args, u32::try_from(count)?, engine.as_ref());
        let worker = self.world.engines.worker(engine);
        let worker = worker.context("cannot start a GPU's engine")?;
        let vgpu = self.host.add_vgpu(config)?;
        self.world.gpu_memory.add(memory);
        self.world.engines.add(worker);
        let window = self.host.pci_window(vgpu);
        let window = window.context("no configuration window")?;
        let function = Arc::new(GpuFunction::new(window));
        match self.slots.args.pci {
            PciArg::Ports => self.slots.bus.add(Arc::clone(&function) as _)?,
            PciArg::Vmbus => self.world.pci.add(Arc::clone(&function)),
        }
        self.slots.functions.push(function);
        self.offer_vgpu(vgpu)?;
        Ok(vgpu)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use engine::BuiltIn;

    use super::*;
    use crate::cli::{Cli, Command};

    /// Virtual GPUs are of the kind that was asked for, those that are added later too.
    #[test]
    fn kinds() {
        for (kind, compute_only) in [("compute", true), ("render", false)] {
            let line = ["vaccel-host", "run", "--kernel=k", "--initrd=i"];
            let line = line.iter().chain([&"--gpu-kind", &kind]);
            let Command::Run(args) = Cli::try_parse_from(line).unwrap().command else {
                panic!("{kind}");
            };
            let config = vgpu_config(&args, 1, &BuiltIn);
            assert_eq!(config.compute_only, compute_only, "{kind}");
        }
    }
}
