// SPDX-License-Identifier: MIT OR Apache-2.0
//! The KVM interface of the machine.
//!
//! Everything here that needs `unsafe` does so because an ioctl takes an address or because the
//! kernel hands over a union. Memory slots keep the memory behind them alive: RAM and regions are
//! stored beside the VM's descriptor and dropped after it.

#![expect(
    unsafe_code,
    reason = "memory slots and the HYPERV exit are only reachable through raw addresses and unions"
)]

mod backend;
mod hyperv;
mod user_space;

use std::sync::{Arc, Mutex, PoisonError};

use kvm_bindings::{
    kvm_irq_routing_entry, kvm_irq_routing_entry__bindgen_ty_1 as RouteTarget,
    kvm_irq_routing_hv_sint, kvm_irq_routing_irqchip, kvm_pit_config, kvm_userspace_memory_region,
    KvmIrqRouting, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE,
    KVM_IRQ_ROUTING_HV_SINT, KVM_IRQ_ROUTING_IRQCHIP, KVM_PIT_SPEAKER_DUMMY,
};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use vmm_sys_util::eventfd::EventFd;

use crate::layout;
use crate::memory::{IoRegion, Ram, RamError, RamRange};
use crate::synic::VMBUS_SINT;

pub use backend::{enable_synic, probe, Backend, ProbeError};
pub use hyperv::{complete_hypercall, hyperv_exit, supported_hyperv_leaves, HypervExit};
pub use user_space::{
    complete_msr_read, complete_msr_write, read_tsc, take_hypercall, tsc_hz, LocalApics,
};

/// Pins of the I/O APIC, and of the two 8259s.
const IO_APIC_PINS: u32 = 24;
const PIC_PINS: u32 = 8;

/// KVM refused something.
#[derive(Debug, thiserror::Error)]
pub enum KvmError {
    /// An ioctl failed.
    #[error("kvm: {what}")]
    Ioctl {
        /// What was attempted.
        what: &'static str,
        /// What the kernel said.
        #[source]
        source: kvm_ioctls::Error,
    },
    /// Host memory for the guest could not be had.
    #[error(transparent)]
    Memory(#[from] RamError),
    /// The kernel takes no more of a kind of thing.
    #[error("kvm: too many {what}: {count}")]
    TooMany {
        /// What there are too many of.
        what: &'static str,
        /// How many were wanted.
        count: usize,
    },
    /// The guest asked for host memory where something else is.
    #[error("guest range {gpa:#x}, length {len:#x} is not free page-aligned address space")]
    Overlap {
        /// Guest-physical start.
        gpa: u64,
        /// Length in bytes.
        len: u64,
    },
}

/// Turns an ioctl's error into ours.
fn failed(what: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> KvmError {
    move |source| KvmError::Ioctl { what, source }
}

/// A virtual machine and all memory that its slots point to.
pub struct KvmVm {
    // Declared before the memory: dropped first, so that no slot outlives its memory. The vCPU
    // descriptors keep the VM alive too; `Vm` joins their threads before it drops this.
    vm: VmFd,
    regions: Mutex<Vec<(u32, Arc<IoRegion>)>>,
    ram: Arc<Ram>,
}

impl KvmVm {
    /// Makes a VM with `ram` and the in-kernel interrupt controllers and timer.
    ///
    /// # Errors
    ///
    /// Fails if KVM refuses; the error says which step.
    pub fn new(kvm: &Kvm, ram: Arc<Ram>) -> Result<Self, KvmError> {
        let vm = kvm.create_vm().map_err(failed("create a machine"))?;
        vm.set_tss_address(layout::TSS)
            .map_err(failed("place the task-state segment"))?;
        vm.set_identity_map_address(layout::IDENTITY_MAP)
            .map_err(failed("place the identity map"))?;
        vm.create_irq_chip()
            .map_err(failed("create the interrupt controllers"))?;
        vm.create_pit2(kvm_pit_config {
            flags: KVM_PIT_SPEAKER_DUMMY,
            ..Default::default()
        })
        .map_err(failed("create the timer"))?;
        let machine = Self {
            vm,
            regions: Mutex::default(),
            ram,
        };
        for (slot, range) in machine.ram.ranges().into_iter().enumerate() {
            machine.set_slot(slot as u32, range)?;
        }
        Ok(machine)
    }

    /// The machine's RAM.
    pub fn ram(&self) -> &Arc<Ram> {
        &self.ram
    }

    /// Makes a virtual processor.
    ///
    /// # Errors
    ///
    /// Fails if KVM refuses.
    pub fn create_vcpu(&self, id: u8) -> Result<VcpuFd, KvmError> {
        self.vm
            .create_vcpu(u64::from(id))
            .map_err(failed("create a processor"))
    }

    /// Routes the legacy interrupts and, for KVM's SynIC, the VMBus SINT of each of `sints` processors,
    /// which must exist.
    ///
    /// # Errors
    ///
    /// Fails if KVM refuses.
    pub fn route_interrupts(&self, sints: u8) -> Result<(), KvmError> {
        let routes = routes(sints);
        let routing = KvmIrqRouting::from_entries(&routes).map_err(|_| KvmError::TooMany {
            what: "interrupt routes",
            count: routes.len(),
        })?;
        self.vm
            .set_gsi_routing(&routing)
            .map_err(failed("route interrupts"))
    }

    /// Lets `event` raise interrupt line `gsi`.
    ///
    /// # Errors
    ///
    /// Fails if KVM refuses.
    pub fn wire(&self, event: &EventFd, gsi: u32) -> Result<(), KvmError> {
        self.vm
            .register_irqfd(event, gsi)
            .map_err(failed("wire an interrupt"))
    }

    /// Lets `event` raise interrupt line `gsi`, and fires `acknowledged` when the guest ends it.
    ///
    /// # Errors
    ///
    /// Fails if KVM refuses.
    pub fn wire_acknowledged(
        &self,
        event: &EventFd,
        acknowledged: &EventFd,
        gsi: u32,
    ) -> Result<(), KvmError> {
        self.vm
            .register_irqfd_with_resample(event, acknowledged, gsi)
            .map_err(failed("wire a synthetic interrupt"))
    }

    /// Shows `len` bytes of fresh host memory to the guest at `gpa`. The region lives until
    /// [`KvmVm::unmap_region`] and the last user of the returned handle.
    ///
    /// # Errors
    ///
    /// Fails if the range is not page aligned, empty, overlaps RAM or another region, or the host
    /// cannot provide it.
    pub fn map_region(&self, gpa: u64, len: u64) -> Result<Arc<IoRegion>, KvmError> {
        let mut regions = self.regions.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = self
            .ram
            .ranges()
            .into_iter()
            .chain(regions.iter().map(|(_, region)| region.range()));
        if !is_free(gpa, len, taken) {
            return Err(KvmError::Overlap { gpa, len });
        }
        let region = Arc::new(IoRegion::new(gpa, len)?);
        let first = self.ram.ranges().len() as u32;
        let slot = (first..)
            .find(|slot| regions.iter().all(|(used, _)| used != slot))
            .unwrap_or(u32::MAX);
        self.set_slot(slot, region.range())?;
        regions.push((slot, Arc::clone(&region)));
        Ok(region)
    }

    /// Takes the region at `gpa` away from the guest. Does nothing if there is none.
    ///
    /// # Errors
    ///
    /// Fails if KVM refuses; the region then stays.
    pub fn unmap_region(&self, gpa: u64) -> Result<(), KvmError> {
        let mut regions = self.regions.lock().unwrap_or_else(PoisonError::into_inner);
        let found = regions.iter().position(|(_, region)| region.gpa() == gpa);
        let Some((index, (slot, region))) =
            found.and_then(|index| Some((index, regions.get(index)?)))
        else {
            return Ok(());
        };
        let gone = RamRange {
            len: 0,
            ..region.range()
        };
        self.set_slot(*slot, gone)?;
        regions.remove(index);
        Ok(())
    }

    fn set_slot(&self, slot: u32, range: RamRange) -> Result<(), KvmError> {
        let region = kvm_userspace_memory_region {
            slot,
            flags: 0,
            guest_phys_addr: range.gpa,
            memory_size: range.len,
            userspace_addr: range.host,
        };
        // SAFETY: the range comes from a live mapping of exactly this length, owned by `self.ram`
        // or by a region that is stored in `self.regions` while its slot exists; both are dropped
        // after the VM. Rust code reaches the memory only by volatile copies and atomics, so the
        // guest writing to it breaks no reference.
        unsafe { self.vm.set_user_memory_region(region) }.map_err(failed("set a memory slot"))
    }
}

/// Whether `gpa..gpa + len` is non-empty, page aligned and touches none of `taken`.
fn is_free(gpa: u64, len: u64, taken: impl Iterator<Item = RamRange>) -> bool {
    let Some(end) = gpa.checked_add(len) else {
        return false;
    };
    let mut taken = taken;
    len > 0
        && gpa % 4096 == 0
        && len % 4096 == 0
        && taken.all(|range| end <= range.gpa || gpa >= range.gpa.saturating_add(range.len))
}

/// The interrupt routes: 8259s, I/O APIC with the timer on pin 2, and the VMBus SINTs.
fn routes(sints: u8) -> Vec<kvm_irq_routing_entry> {
    let chip = |gsi, irqchip, pin| kvm_irq_routing_entry {
        gsi,
        type_: KVM_IRQ_ROUTING_IRQCHIP,
        u: RouteTarget {
            irqchip: kvm_irq_routing_irqchip { irqchip, pin },
        },
        ..Default::default()
    };
    let mut routes = Vec::new();
    // Line 2 cascades the second 8259 and has no device.
    for gsi in (0..2 * PIC_PINS).filter(|gsi| *gsi != 2) {
        let (pic, pin) = if gsi < PIC_PINS {
            (KVM_IRQCHIP_PIC_MASTER, gsi)
        } else {
            (KVM_IRQCHIP_PIC_SLAVE, gsi - PIC_PINS)
        };
        routes.push(chip(gsi, pic, pin));
    }
    for gsi in (0..IO_APIC_PINS).filter(|gsi| *gsi != 2) {
        let pin = if gsi == 0 { 2 } else { gsi };
        routes.push(chip(gsi, KVM_IRQCHIP_IOAPIC, pin));
    }
    for vcpu in 0..u32::from(sints) {
        routes.push(kvm_irq_routing_entry {
            gsi: layout::SINT_GSI + vcpu,
            type_: KVM_IRQ_ROUTING_HV_SINT,
            u: RouteTarget {
                hv_sint: kvm_irq_routing_hv_sint {
                    vcpu,
                    sint: u32::from(VMBUS_SINT),
                },
            },
            ..Default::default()
        });
    }
    routes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regions that are odd, wrap, or touch RAM are refused; the neighbour of RAM is free.
    #[test]
    fn free_ranges() {
        let ram = [RamRange {
            gpa: 0,
            len: 0x10000,
            host: 0,
        }];
        let free = |gpa, len| is_free(gpa, len, ram.iter().copied());
        assert!(free(0x10000, 4096));
        assert!(!free(0xF000, 0x2000));
        assert!(!free(0x10800, 4096));
        assert!(!free(0x20000, 0));
        assert!(!free(u64::MAX - 4095, 8192));
    }

    /// The timer reaches pin 2 of the I/O APIC, and each processor has its own SINT line.
    #[test]
    fn interrupt_routes() {
        let routes = routes(2);
        let kinds = |gsi: u32| -> Vec<u32> {
            routes
                .iter()
                .filter(|route| route.gsi == gsi)
                .map(|route| route.type_)
                .collect()
        };
        assert_eq!(kinds(0), [KVM_IRQ_ROUTING_IRQCHIP; 2]);
        assert!(kinds(2).is_empty());
        assert_eq!(kinds(layout::SINT_GSI + 1), [KVM_IRQ_ROUTING_HV_SINT]);
        assert!(kinds(layout::SINT_GSI + 2).is_empty());
    }
}
