// SPDX-License-Identifier: MIT OR Apache-2.0
//! Virtual processors: their first state, and the loop that runs one on its thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::Arc;

use kvm_bindings::{kvm_cpuid_entry2, kvm_msr_entry, CpuId, Msrs};
use kvm_ioctls::{VcpuExit, VcpuFd};

use crate::boot;
use crate::cpuid;
use crate::hypercall::{status, Hypercall, Hypercalls};
use crate::hyperv::{Fault, Partition, Written};
use crate::kvm::{self, HypervExit, KvmError};
use crate::layout;
use crate::memory::SharedMemory;
use crate::mmio::MmioBus;
use crate::ports::{Ports, PowerRequest};
use crate::synic::Synic;
use crate::vm::End;

/// Memory type range default: ranges on, write-back.
const MSR_MTRR_DEFAULT: u32 = 0x2FF;
const MTRR_ENABLED_WRITE_BACK: u64 = 0x806;
/// Offsets of the local interrupt registers in the local APIC, and delivery modes.
const APIC_LINT0: usize = 0x350;
const APIC_LINT1: usize = 0x360;
const DELIVER_EXTERNAL: u8 = 7;
const DELIVER_NMI: u8 = 4;
/// KVM's number for a crash report through Hyper-V's crash registers.
const SYSTEM_EVENT_CRASH: u32 = kvm_bindings::KVM_SYSTEM_EVENT_CRASH;

/// Gives a processor its CPUID leaves, memory types and local interrupts.
///
/// # Errors
///
/// Fails if KVM refuses.
pub fn set_up(vcpu: &VcpuFd, id: u8, leaves: &[kvm_cpuid_entry2]) -> Result<(), KvmError> {
    let failed = |what| move |source| KvmError::Ioctl { what, source };
    let mut leaves = leaves.to_vec();
    cpuid::for_vcpu(&mut leaves, id);
    let cpuid = CpuId::from_entries(&leaves).map_err(|_| KvmError::TooMany {
        what: "cpuid leaves",
        count: leaves.len(),
    })?;
    vcpu.set_cpuid2(&cpuid)
        .map_err(failed("set cpuid leaves"))?;
    let msr = kvm_msr_entry {
        index: MSR_MTRR_DEFAULT,
        data: MTRR_ENABLED_WRITE_BACK,
        ..Default::default()
    };
    if let Ok(msrs) = Msrs::from_entries(&[msr]) {
        vcpu.set_msrs(&msrs).map_err(failed("set memory types"))?;
    }
    let mut lapic = vcpu.get_lapic().map_err(failed("read the local APIC"))?;
    for (register, mode) in [(APIC_LINT0, DELIVER_EXTERNAL), (APIC_LINT1, DELIVER_NMI)] {
        // Bits 8 to 10 of the register are the delivery mode.
        if let Some(byte) = lapic.regs.get_mut(register + 1) {
            *byte = *byte & !7 | mode as libc::c_char;
        }
    }
    vcpu.set_lapic(&lapic).map_err(failed("set the local APIC"))
}

/// Puts the boot processor at the kernel's entry point.
///
/// # Errors
///
/// Fails if KVM refuses.
pub fn set_entry(vcpu: &VcpuFd, entry: u64) -> Result<(), KvmError> {
    let failed = |what| move |source| KvmError::Ioctl { what, source };
    let mut sregs = vcpu.get_sregs().map_err(failed("read system registers"))?;
    boot::system_registers(&mut sregs);
    vcpu.set_sregs(&sregs)
        .map_err(failed("set system registers"))?;
    vcpu.set_regs(&boot::registers(entry))
        .map_err(failed("set registers"))
}

/// What a processor's thread works with.
pub struct Runner {
    /// The processor.
    pub vcpu: VcpuFd,
    /// Its index, which is also its VP index and APIC id.
    pub id: u8,
    /// The I/O ports.
    pub ports: Ports,
    /// The devices behind addresses.
    pub mmio: Arc<MmioBus>,
    /// Guest memory, for hypercall input.
    pub memory: SharedMemory,
    /// Where SynIC register changes go.
    pub synic: Arc<Synic>,
    /// Hyper-V, where it is not KVM's.
    pub partition: Option<Arc<Partition>>,
    /// Where hypercalls go.
    pub hypercalls: Arc<dyn Hypercalls>,
    /// Set when the machine is to stop.
    pub stop: Arc<AtomicBool>,
    /// Where the reason for the end goes.
    pub end: Sender<End>,
}

impl Runner {
    /// Runs the processor until the machine stops or this processor ends it.
    pub fn run(mut self) {
        while !self.stop.load(Ordering::SeqCst) {
            if let Some(end) = self.step() {
                // The receiver is gone only when the machine already stops.
                let _ = self.end.send(end);
                if !matches!(end, End::CrashReported) {
                    return;
                }
            }
        }
    }

    /// Enters the guest once and handles the exit.
    fn step(&mut self) -> Option<End> {
        match self.vcpu.run() {
            Ok(VcpuExit::IoOut(layout::HYPERCALL, [_])) if self.partition.is_some() => {
                self.hypercall_page()
            }
            Ok(VcpuExit::X86Rdmsr(exit)) => {
                let index = exit.index;
                self.read_register(index);
                None
            }
            Ok(VcpuExit::X86Wrmsr(exit)) => {
                let (index, value) = (exit.index, exit.data);
                self.write_register(index, value)
            }
            Ok(VcpuExit::IoOut(port, data)) => match self.ports.write(port, data)? {
                PowerRequest::Off => Some(End::PowerOff),
                PowerRequest::Reset => Some(End::Reset),
            },
            Ok(VcpuExit::IoIn(port, data)) => {
                self.ports.read(port, data);
                None
            }
            Ok(VcpuExit::MmioRead(address, data)) => {
                self.mmio.read(address, data);
                None
            }
            Ok(VcpuExit::MmioWrite(address, data)) => {
                self.mmio.write(address, data);
                None
            }
            Ok(VcpuExit::Intr | VcpuExit::Hlt) => None,
            Ok(VcpuExit::Hyperv) => {
                self.hyperv();
                None
            }
            Ok(VcpuExit::Shutdown) => Some(End::TripleFault),
            Ok(VcpuExit::SystemEvent(SYSTEM_EVENT_CRASH, _)) => Some(End::CrashReported),
            Ok(VcpuExit::SystemEvent(..)) => Some(End::Reset),
            Ok(VcpuExit::InternalError) => Some(End::Failed("internal error")),
            Ok(VcpuExit::FailEntry(..)) => Some(End::Failed("entry refused by the processor")),
            Ok(_) => Some(End::Failed("exit this machine does not handle")),
            // A signal asked for attention, or the kernel wants to be asked again.
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => None,
            Err(_) => Some(End::Failed("run call refused")),
        }
    }

    fn hyperv(&mut self) {
        match kvm::hyperv_exit(&mut self.vcpu) {
            HypervExit::Synic(pages) => self.synic.set_pages(u32::from(self.id), pages),
            HypervExit::Hypercall(mut call) => {
                // KVM replaces the address of a signal's input by the input when it looked for an
                // event descriptor; the register still holds the address.
                if call.is_slow() {
                    match self.vcpu.get_regs() {
                        Ok(regs) => call.input = regs.rdx,
                        Err(_) => {
                            kvm::complete_hypercall(&mut self.vcpu, status::INVALID_INPUT);
                            return;
                        }
                    }
                }
                let status = self.hypercall(call);
                kvm::complete_hypercall(&mut self.vcpu, status);
            }
            HypervExit::Other(_) => {}
        }
    }

    fn hypercall(&self, call: Hypercall) -> u16 {
        call.run(self.memory.as_ref(), self.hypercalls.as_ref())
    }

    /// The guest wrote to the port of the hypercall page.
    fn hypercall_page(&self) -> Option<End> {
        let partition = self.partition.as_ref()?;
        if !partition.takes_hypercalls() {
            return None;
        }
        let taken = kvm::take_hypercall(&self.vcpu, |call| self.hypercall(call));
        taken.err().map(|_| End::Failed("registers refused"))
    }

    fn read_register(&mut self, index: u32) {
        let read = self.partition.as_ref().map_or(Err(Fault), |partition| {
            partition.read(u32::from(self.id), index, || kvm::read_tsc(&self.vcpu))
        });
        kvm::complete_msr_read(&mut self.vcpu, read);
    }

    fn write_register(&mut self, index: u32, value: u64) -> Option<End> {
        let written = self.partition.as_ref().map_or(Err(Fault), |partition| {
            partition.write(u32::from(self.id), index, value)
        });
        kvm::complete_msr_write(&mut self.vcpu, written);
        (written == Ok(Written::Crash)).then_some(End::CrashReported)
    }
}
