// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one place where it matters whose Hyper-V the guest gets, KVM's or this program's.

use std::sync::Arc;

use kvm_bindings::kvm_cpuid_entry2;
use kvm_ioctls::VcpuFd;

use super::VmError;
use crate::cpuid;
use crate::hyperv::{Partition, ReferenceClock};
use crate::kvm::{self, Backend, KvmVm, LocalApics};
use crate::layout;
use crate::memory::SharedMemory;
use crate::synic::Synic;

/// The Hyper-V side of a machine.
pub(super) struct HyperV {
    /// The SynIC.
    pub synic: Arc<Synic>,
    /// The rest, if it is not in KVM.
    pub partition: Option<Arc<Partition>>,
    /// The leaves that can be offered.
    pub leaves: Vec<kvm_cpuid_entry2>,
}

impl HyperV {
    /// Makes that of `machine`, which has the processors `vcpus` and they have not run.
    pub fn new(backend: Backend, machine: &Arc<KvmVm>, vcpus: &[VcpuFd]) -> Result<Self, VmError> {
        tracing::info!(?backend, "SynIC");
        match backend {
            Backend::Kvm => Self::in_kvm(machine, vcpus),
            Backend::UserSpace => Self::in_user_space(machine, vcpus),
        }
    }

    fn in_kvm(machine: &KvmVm, vcpus: &[VcpuFd]) -> Result<Self, VmError> {
        for vcpu in vcpus {
            kvm::enable_synic(vcpu)?;
        }
        let count = count(vcpus);
        machine.route_interrupts(count)?;
        let synic = Arc::new(Synic::in_kvm(memory(machine), count)?);
        for vp in 0..u32::from(count) {
            if let Some((interrupt, acknowledged)) = synic.wires(vp) {
                machine.wire_acknowledged(interrupt, acknowledged, layout::SINT_GSI + vp)?;
            }
        }
        let leaves = vcpus.first().map(kvm::supported_hyperv_leaves);
        Ok(Self {
            synic,
            partition: None,
            leaves: leaves.transpose()?.unwrap_or_default(),
        })
    }

    fn in_user_space(machine: &Arc<KvmVm>, vcpus: &[VcpuFd]) -> Result<Self, VmError> {
        machine.leave_synthetic_registers()?;
        machine.route_interrupts(0)?;
        let memory = memory(machine);
        let count = count(vcpus);
        let apics = Box::new(LocalApics(Arc::clone(machine)));
        let synic = Arc::new(Synic::in_user_space(Arc::clone(&memory), count, apics)?);
        let tsc_hz = vcpus.first().map(kvm::tsc_hz).transpose()?.unwrap_or(0);
        let clock = ReferenceClock::new(tsc_hz, {
            let machine = Arc::clone(machine);
            move || machine.has_steady_tsc()
        });
        let partition = Partition::new(memory, Arc::clone(&synic), clock, count);
        Ok(Self {
            synic,
            partition: Some(Arc::new(partition)),
            leaves: cpuid::user_space_leaves(),
        })
    }
}

fn memory(machine: &KvmVm) -> SharedMemory {
    machine.ram().clone()
}

/// The number of processors, which is at most [`layout::MAX_VCPUS`].
fn count(vcpus: &[VcpuFd]) -> u8 {
    u8::try_from(vcpus.len()).unwrap_or(layout::MAX_VCPUS)
}
