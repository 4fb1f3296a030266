// SPDX-License-Identifier: MIT OR Apache-2.0
//! What Hyper-V in user space needs of KVM: every access to the synthetic registers, the registers of
//! a hypercall, interrupts with a vector, and the time-stamp counter.

use std::io;
use std::sync::Arc;

use kvm_bindings::{
    kvm_enable_cap, kvm_msi, kvm_msr_entry, kvm_regs, kvm_sregs, Msrs, KVM_CAP_X86_USER_SPACE_MSR,
    KVM_CLOCK_TSC_STABLE,
};
use kvm_ioctls::{
    MsrExitReason, MsrFilterDefaultAction, MsrFilterRange, MsrFilterRangeFlags, VcpuFd,
};

use super::{failed, KvmError, KvmVm};
use crate::hypercall::Hypercall;
use crate::hyperv::{msr, Fault};
use crate::layout;
use crate::synic::Interrupts;

/// Register of the time-stamp counter.
const MSR_TSC: u32 = 0x10;
/// Long mode active, in EFER.
const LONG_MODE: u64 = 1 << 10;
/// Position of the APIC id in the address of a message-signalled interrupt.
const MSI_DESTINATION: u32 = 12;

impl KvmVm {
    /// Has KVM leave all synthetic registers to this program, those that it knows too.
    ///
    /// # Errors
    ///
    /// Fails if KVM refuses.
    pub fn leave_synthetic_registers(&self) -> Result<(), KvmError> {
        self.vm
            .enable_cap(&kvm_enable_cap {
                cap: KVM_CAP_X86_USER_SPACE_MSR,
                args: [u64::from(MsrExitReason::Filter.bits()), 0, 0, 0],
                ..Default::default()
            })
            .map_err(failed("have registers left to user space"))?;
        // A clear bit is a register that KVM does not serve.
        let none = vec![0; msr::ALL.len().div_ceil(8)];
        let range = MsrFilterRange {
            flags: MsrFilterRangeFlags::READ | MsrFilterRangeFlags::WRITE,
            base: msr::ALL.start,
            msr_count: msr::ALL.len() as u32,
            bitmap: &none,
        };
        self.vm
            .set_msr_filter(MsrFilterDefaultAction::ALLOW, &[range])
            .map_err(failed("have synthetic registers left to user space"))
    }

    /// Whether the time-stamp counters of all processors are one steady clock. KVM knows once a
    /// processor has run.
    pub fn has_steady_tsc(&self) -> bool {
        self.vm
            .get_clock()
            .is_ok_and(|clock| clock.flags & KVM_CLOCK_TSC_STABLE != 0)
    }
}

/// Interrupts with a vector, to the local APICs of a machine: processor `n` has the APIC id `n`.
pub struct LocalApics(pub Arc<KvmVm>);

impl Interrupts for LocalApics {
    fn raise(&self, vp: u32, vector: u8) -> io::Result<()> {
        let message = kvm_msi {
            address_lo: layout::LOCAL_APIC | vp << MSI_DESTINATION,
            data: u32::from(vector),
            ..Default::default()
        };
        // A guest that disabled its APIC is not interrupted, which is no failure.
        self.0
            .vm
            .signal_msi(message)
            .map(drop)
            .map_err(|error| io::Error::from_raw_os_error(error.errno()))
    }
}

/// Frequency of the time-stamp counter of a processor.
///
/// # Errors
///
/// Fails if KVM does not know it.
pub fn tsc_hz(vcpu: &VcpuFd) -> Result<u64, KvmError> {
    let khz = vcpu
        .get_tsc_khz()
        .map_err(failed("read the frequency of the time-stamp counter"))?;
    Ok(u64::from(khz) * 1000)
}

/// The time-stamp counter of a processor.
pub fn read_tsc(vcpu: &VcpuFd) -> Option<u64> {
    let entry = kvm_msr_entry {
        index: MSR_TSC,
        ..Default::default()
    };
    let mut msrs = Msrs::from_entries(&[entry]).ok()?;
    vcpu.get_msrs(&mut msrs).ok()?;
    msrs.as_slice().first().map(|entry| entry.data)
}

/// Stores what the guest reads of a register, for the next entry into the guest.
pub fn complete_msr_read(vcpu: &mut VcpuFd, read: Result<u64, Fault>) {
    let exit = &mut vcpu.get_kvm_run().__bindgen_anon_1;
    exit.msr.error = u8::from(read.is_err());
    exit.msr.data = read.unwrap_or(0);
}

/// Stores whether the guest could write a register, for the next entry into the guest.
pub fn complete_msr_write<T>(vcpu: &mut VcpuFd, written: Result<T, Fault>) {
    let exit = &mut vcpu.get_kvm_run().__bindgen_anon_1;
    exit.msr.error = u8::from(written.is_err());
}

/// Takes the hypercall of a processor that wrote to the port of the hypercall page, has `run` carry it
/// out and stores its status. Does nothing for who cannot call: anything but the kernel, in 64-bit
/// mode.
///
/// # Errors
///
/// Fails if KVM refuses.
pub fn take_hypercall(
    vcpu: &VcpuFd,
    run: impl FnOnce(Hypercall) -> u16,
) -> Result<(), kvm_ioctls::Error> {
    if !can_call(&vcpu.get_sregs()?) {
        return Ok(());
    }
    let regs = vcpu.get_regs()?;
    let status = run(Hypercall {
        control: regs.rcx,
        input: regs.rdx,
    });
    vcpu.set_regs(&kvm_regs {
        rax: u64::from(status),
        ..regs
    })
}

fn can_call(sregs: &kvm_sregs) -> bool {
    sregs.ss.dpl == 0 && sregs.cs.l == 1 && sregs.efer & LONG_MODE != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only the kernel in 64-bit mode calls.
    #[test]
    fn callers() {
        let mut sregs = kvm_sregs {
            efer: LONG_MODE,
            ..Default::default()
        };
        sregs.cs.l = 1;
        assert!(can_call(&sregs));
        sregs.ss.dpl = 3;
        assert!(!can_call(&sregs));
        sregs.ss.dpl = 0;
        sregs.cs.l = 0;
        assert!(!can_call(&sregs));
        sregs.cs.l = 1;
        sregs.efer = 0;
        assert!(!can_call(&sregs));
    }
}
