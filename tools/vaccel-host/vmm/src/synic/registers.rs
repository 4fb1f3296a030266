// SPDX-License-Identifier: MIT OR Apache-2.0
//! The SynIC registers of one processor, and what a guest may write to them.
//!
//! With the SynIC in KVM only the pages are known here, as KVM reports them; with the one in user
//! space these are the registers.

use guest_memory::GuestMemory;

use crate::hyperv::{msr, overlay_page, Fault};

/// Enable bit of SCONTROL, SIMP and SIEFP.
const ENABLE: u64 = 1;
const PAGE_MASK: u64 = !0xFFF;
/// Interrupt sources of a processor.
const SOURCES: usize = 16;
/// Fields of an interrupt source's register.
const VECTOR: u64 = 0xFF;
const MASKED: u64 = 1 << 16;
const AUTO_EOI: u64 = 1 << 17;
const POLLING: u64 = 1 << 18;
/// Vectors below are the processor's exceptions.
const FIRST_VECTOR: u64 = 16;
/// The version of the SynIC, the only one there is.
const VERSION: u64 = 1;

/// Where the pages of a processor are, as the guest's registers say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pages {
    /// SCONTROL.
    pub control: u64,
    /// SIMP.
    pub message: u64,
    /// SIEFP.
    pub event: u64,
}

impl Pages {
    /// The address of `page`, which is one of the two, if it and the SynIC are enabled.
    pub(super) fn enabled(&self, page: u64) -> Option<u64> {
        (self.control & page & ENABLE != 0).then_some(page & PAGE_MASK)
    }
}

/// What a write to a register asks for beyond being remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// Nothing.
    Stored,
    /// Messages that found their slot taken are to be tried again.
    EndOfMessage,
}

/// The registers of one processor.
#[derive(Debug, Clone)]
pub(super) struct Registers {
    /// The pages.
    pub pages: Pages,
    sources: [u64; SOURCES],
}

impl Default for Registers {
    fn default() -> Self {
        Self {
            pages: Pages::default(),
            sources: [MASKED; SOURCES],
        }
    }
}

impl Registers {
    /// The vector of source `sint`, unless it is masked or the guest polls.
    pub fn vector(&self, sint: u8) -> Option<u8> {
        let source = self.sources.get(usize::from(sint))?;
        (source & (MASKED | POLLING) == 0).then_some((source & VECTOR) as u8)
    }

    /// Reads the register `index`.
    pub fn read(&self, index: u32) -> Result<u64, Fault> {
        match index {
            msr::SCONTROL => Ok(self.pages.control),
            msr::SVERSION => Ok(VERSION),
            msr::SIEFP => Ok(self.pages.event),
            msr::SIMP => Ok(self.pages.message),
            msr::EOM => Ok(0),
            _ => {
                let source = source(index).and_then(|number| self.sources.get(number));
                source.copied().ok_or(Fault)
            }
        }
    }

    /// Writes the register `index`. Nothing has changed after a fault.
    pub fn write(
        &mut self,
        index: u32,
        value: u64,
        memory: &dyn GuestMemory,
    ) -> Result<Written, Fault> {
        match index {
            msr::SCONTROL => self.pages.control = value,
            msr::SIEFP => {
                overlay_page(memory, value)?;
                self.pages.event = value;
            }
            msr::SIMP => {
                overlay_page(memory, value)?;
                self.pages.message = value;
            }
            msr::EOM => return Ok(Written::EndOfMessage),
            _ => {
                let source = source(index).and_then(|number| self.sources.get_mut(number));
                *source.ok_or(Fault)? = checked_source(value)?;
            }
        }
        Ok(Written::Stored)
    }
}

/// Which interrupt source the register `index` is for.
fn source(index: u32) -> Option<usize> {
    index
        .checked_sub(msr::SINT0)
        .map(|number| number as usize)
        .filter(|number| *number < SOURCES)
}

/// A value for an interrupt source. Interrupts come through the local APIC of KVM, which cannot end
/// one by itself: the leaves recommend against the automatic end, and it is refused.
fn checked_source(value: u64) -> Result<u64, Fault> {
    let bad_vector = value & VECTOR < FIRST_VECTOR;
    if value & MASKED == 0 && (bad_vector || value & AUTO_EOI != 0) {
        tracing::debug!("the guest asks for interrupt source {value:#x}, which is not possible");
        return Err(Fault);
    }
    Ok(value)
}
