// SPDX-License-Identifier: MIT OR Apache-2.0
//! Hyper-V in user space: the synthetic registers and the hypercall page of a guest whose KVM has no
//! Hyper-V support, or is not asked for it.
//!
//! KVM is told to leave every access to the registers to this program, whether it knows them or not
//! ([`crate::kvm`]). [`Partition`] has the registers of the machine and each processor's assist page;
//! the SynIC's are in [`Synic`]; the clock is [`ReferenceClock`]. What is not there, or not with such
//! a value, is a fault for the guest, as with Hyper-V. What is offered is in [`crate::cpuid`].
//!
//! A guest calls the hypervisor by calling into the hypercall page, which it has this program fill.
//! The code there writes to a port ([`crate::layout::HYPERCALL`]), by which the processor leaves the
//! kernel; [`crate::hypercall`] takes it from there. Ports with such a low number fit into the
//! instruction, so that no register of the call is needed for it.
//!
//! Hyper-V lays its pages over the guest's memory, and what was there comes back when a page is
//! disabled. Here the pages are the guest's memory: what was there is lost.
//!
//! Locks: one over the registers of the machine, held while the hypercall page or the clock's page is
//! written. The SynIC's locks are not taken under it.

mod clock;
pub mod msr;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use guest_memory::GuestMemory;

use crate::layout;
use crate::memory::SharedMemory;
use crate::synic::Synic;

pub use clock::ReferenceClock;

/// Enable bit of each register that says where a page is, and the page's address.
const ENABLE: u64 = 1;
const PAGE_MASK: u64 = !0xFFF;
const PAGE: usize = 4096;
/// Bit of the hypercall register that makes it stay as it is.
const LOCKED: u64 = 2;
/// KVM's local APIC timer counts nanoseconds.
const APIC_HZ: u64 = 1_000_000_000;
/// Words that say why a guest crashed.
const CRASH_WORDS: usize = 5;
/// Bit of the crash control register: the guest crashed; and that this can be said.
const CRASH_NOTIFY: u64 = 1 << 63;
/// What is called: a valid target of indirect calls, the port, and back. No call gets to the rest,
/// which is breakpoints.
const CODE: [u8; 7] = [0xF3, 0x0F, 0x1E, 0xFA, 0xE6, layout::HYPERCALL as u8, 0xC3];
const BREAKPOINT: u8 = 0xCC;

/// The guest did what it must not: it gets a general protection fault, and nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such register, or not with such a value")]
pub struct Fault;

/// What a write to a register asks of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Written {
    /// Nothing.
    Done,
    /// The guest reports that it crashed.
    Crash,
}

/// Registers of the machine.
#[derive(Debug, Default)]
struct Registers {
    guest_os: u64,
    hypercall: u64,
    reference_tsc: u64,
    crash: [u64; CRASH_WORDS],
    /// A crash was reported before.
    crashed: bool,
}

/// The Hyper-V side of a machine.
pub struct Partition {
    memory: SharedMemory,
    synic: Arc<Synic>,
    clock: ReferenceClock,
    registers: Mutex<Registers>,
    assist_pages: Vec<AtomicU64>,
}

impl Partition {
    /// Makes the registers of a machine of `vcpus` processors as after a reset.
    pub fn new(memory: SharedMemory, synic: Arc<Synic>, clock: ReferenceClock, vcpus: u8) -> Self {
        Self {
            memory,
            synic,
            clock,
            registers: Mutex::default(),
            assist_pages: (0..vcpus).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Whether the guest has a hypercall page.
    pub fn takes_hypercalls(&self) -> bool {
        self.lock().hypercall & ENABLE != 0
    }

    /// Reads the register `index` for processor `vp`, whose time-stamp counter is `tsc` if it can be
    /// read.
    ///
    /// # Errors
    ///
    /// The guest gets a fault where there is no such register.
    pub fn read(
        &self,
        vp: u32,
        index: u32,
        tsc: impl FnOnce() -> Option<u64>,
    ) -> Result<u64, Fault> {
        match index {
            msr::GUEST_OS_ID => Ok(self.lock().guest_os),
            msr::HYPERCALL => Ok(self.lock().hypercall),
            msr::VP_INDEX => Ok(u64::from(vp)),
            msr::TIME_REF_COUNT => self.clock.now(tsc).ok_or(Fault),
            msr::REFERENCE_TSC => Ok(self.lock().reference_tsc),
            msr::TSC_FREQUENCY => Ok(self.clock.tsc_hz()),
            msr::APIC_FREQUENCY => Ok(APIC_HZ),
            msr::VP_ASSIST_PAGE => Ok(self.assist_page(vp)?.load(Ordering::SeqCst)),
            msr::CRASH_CTL => Ok(CRASH_NOTIFY),
            index if msr::SYNIC.contains(&index) => self.synic.read_register(vp, index),
            _ => {
                let word = crash_word(index).ok_or(Fault)?;
                self.lock().crash.get(word).copied().ok_or(Fault)
            }
        }
    }

    /// Writes the register `index` for processor `vp`.
    ///
    /// # Errors
    ///
    /// The guest gets a fault where there is no such register, or not with such a value.
    pub fn write(&self, vp: u32, index: u32, value: u64) -> Result<Written, Fault> {
        match index {
            msr::GUEST_OS_ID => self.set_guest_os(value),
            msr::HYPERCALL => self.set_hypercall(value)?,
            msr::REFERENCE_TSC => self.set_reference_tsc(value)?,
            msr::VP_ASSIST_PAGE => {
                overlay_page(self.memory.as_ref(), value)?;
                self.assist_page(vp)?.store(value, Ordering::SeqCst);
            }
            msr::CRASH_CTL => return Ok(self.crash_control(value)),
            index if msr::SYNIC.contains(&index) => self.synic.write_register(vp, index, value)?,
            _ => {
                let word = crash_word(index).ok_or(Fault)?;
                *self.lock().crash.get_mut(word).ok_or(Fault)? = value;
            }
        }
        Ok(Written::Done)
    }

    /// A guest that is nobody has no hypercall page.
    fn set_guest_os(&self, value: u64) {
        let mut registers = self.lock();
        registers.guest_os = value;
        if value == 0 {
            registers.hypercall &= !ENABLE;
        }
    }

    /// A guest that is nobody gets no page, and what is locked stays; neither is a fault.
    fn set_hypercall(&self, value: u64) -> Result<(), Fault> {
        let mut registers = self.lock();
        if registers.guest_os == 0 || registers.hypercall & LOCKED != 0 {
            return Ok(());
        }
        if let Some(page) = overlay_page(self.memory.as_ref(), value)? {
            let mut code = [BREAKPOINT; PAGE];
            for (to, from) in code.iter_mut().zip(CODE) {
                *to = from;
            }
            self.memory.write(page, &code).map_err(|_| Fault)?;
        }
        registers.hypercall = value;
        Ok(())
    }

    fn set_reference_tsc(&self, value: u64) -> Result<(), Fault> {
        let mut registers = self.lock();
        if let Some(page) = overlay_page(self.memory.as_ref(), value)? {
            let head = self.clock.page();
            self.memory.write(page, &head).map_err(|_| Fault)?;
        }
        registers.reference_tsc = value;
        Ok(())
    }

    fn crash_control(&self, value: u64) -> Written {
        if value & CRASH_NOTIFY == 0 {
            return Written::Done;
        }
        let mut registers = self.lock();
        if !std::mem::replace(&mut registers.crashed, true) {
            tracing::warn!("the guest reports a crash: {:x?}", registers.crash);
        }
        Written::Crash
    }

    fn assist_page(&self, vp: u32) -> Result<&AtomicU64, Fault> {
        self.assist_pages.get(vp as usize).ok_or(Fault)
    }

    fn lock(&self) -> MutexGuard<'_, Registers> {
        self.registers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which word of a crash report the register `index` is.
fn crash_word(index: u32) -> Option<usize> {
    index.checked_sub(msr::CRASH_P0).map(|word| word as usize)
}

/// The address of the page that the value of a register enables; `None` if it enables none.
///
/// # Errors
///
/// The guest gets a fault when there is no memory.
pub(crate) fn overlay_page(memory: &dyn GuestMemory, value: u64) -> Result<Option<u64>, Fault> {
    let page = value & PAGE_MASK;
    if value & ENABLE == 0 {
        return Ok(None);
    }
    if memory.is_ram(page, PAGE as u64) {
        Ok(Some(page))
    } else {
        tracing::debug!("the guest asks for a page at {page:#x}, where it has no memory");
        Err(Fault)
    }
}
