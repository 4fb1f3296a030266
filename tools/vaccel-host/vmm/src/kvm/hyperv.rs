// SPDX-License-Identifier: MIT OR Apache-2.0
//! What KVM's own Hyper-V support hands over: leaves, SynIC registers, hypercalls.

use kvm_bindings::{
    kvm_cpuid_entry2, CpuId, KVM_EXIT_HYPERV_HCALL, KVM_EXIT_HYPERV_SYNIC, KVM_MAX_CPUID_ENTRIES,
};
use kvm_ioctls::VcpuFd;
use vmm_sys_util::ioctl::ioctl_with_mut_ptr;

use super::KvmError;
use crate::hypercall::Hypercall;
use crate::synic::Pages;

/// The ioctl that kvm-ioctls lacks.
mod request {
    use kvm_bindings::{kvm_cpuid2, KVMIO};

    vmm_sys_util::ioctl_iowr_nr!(KVM_GET_SUPPORTED_HV_CPUID, KVMIO, 0xC1, kvm_cpuid2);
}

/// The Hyper-V CPUID leaves KVM can provide.
///
/// # Errors
///
/// Fails if KVM has no Hyper-V support at all.
pub fn supported_hyperv_leaves(vcpu: &VcpuFd) -> Result<Vec<kvm_cpuid_entry2>, KvmError> {
    let mut leaves = CpuId::new(KVM_MAX_CPUID_ENTRIES).map_err(|_| KvmError::TooMany {
        what: "cpuid leaves",
        count: KVM_MAX_CPUID_ENTRIES,
    })?;
    // SAFETY: the descriptor is a vCPU's; the pointer is to a `kvm_cpuid2` followed by as many
    // entries as its `nent` says, which is what this ioctl fills, and lives over the call.
    let result = unsafe {
        ioctl_with_mut_ptr(
            vcpu,
            request::KVM_GET_SUPPORTED_HV_CPUID(),
            leaves.as_mut_fam_struct_ptr(),
        )
    };
    if result < 0 {
        return Err(KvmError::Ioctl {
            what: "list Hyper-V leaves (kernel option KVM_HYPERV is needed)",
            source: kvm_ioctls::Error::last(),
        });
    }
    Ok(leaves.as_slice().to_vec())
}

/// Why a processor left the kernel with `VcpuExit::Hyperv`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HypervExit {
    /// The guest changed a SynIC register.
    Synic(Pages),
    /// A hypercall; the answer goes into [`complete_hypercall`].
    Hypercall(Hypercall),
    /// Something else, which needs no answer.
    Other(u32),
}

/// Decodes a Hyper-V exit. Call only after `VcpuExit::Hyperv`.
pub fn hyperv_exit(vcpu: &mut VcpuFd) -> HypervExit {
    // SAFETY: every variant of this union is plain integers in shared memory that the kernel
    // initialised, so any bit pattern is a valid value; a wrong variant gives wrong numbers only.
    let exit = unsafe { vcpu.get_kvm_run().__bindgen_anon_1.hyperv };
    match exit.type_ {
        KVM_EXIT_HYPERV_SYNIC => {
            // SAFETY: plain integers, as above; `type_` says that this variant was written.
            let synic = unsafe { exit.u.synic };
            HypervExit::Synic(Pages {
                control: synic.control,
                message: synic.msg_page,
                event: synic.evt_page,
            })
        }
        KVM_EXIT_HYPERV_HCALL => {
            // SAFETY: plain integers, as above; `type_` says that this variant was written.
            let call = unsafe { exit.u.hcall };
            let [input, _] = call.params;
            HypervExit::Hypercall(Hypercall {
                control: call.input,
                input,
            })
        }
        other => HypervExit::Other(other),
    }
}

/// Stores the status of a hypercall for the next entry into the guest.
pub fn complete_hypercall(vcpu: &mut VcpuFd, status: u16) {
    let hyperv = &mut vcpu.get_kvm_run().__bindgen_anon_1;
    hyperv.hyperv.u.hcall.result = u64::from(status);
}
