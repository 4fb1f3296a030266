// SPDX-License-Identifier: MIT OR Apache-2.0
//! Messages and event flags for the guest, through the synthetic interrupt controller.
//!
//! The message page and the event flags page of each processor are guest memory, which this module
//! writes. There are two ways to have the rest:
//!
//! * KVM keeps the registers and raises the interrupts ([`Synic::in_kvm`]). It reports where the
//!   pages are whenever the guest changes them ([`Synic::set_pages`]), and an event descriptor a
//!   processor stands for its VMBus interrupt.
//! * The registers are here ([`Synic::in_user_space`]), [`crate::hyperv`] brings the guest's accesses
//!   to them, and interrupts are raised through [`Interrupts`], with the vector the guest chose.
//!
//! A message slot is free when its type is zero. A message for a taken slot is not queued here:
//! the slot is marked "message pending", so that the guest writes the EOM register after it took
//! the message, and the caller tries again when [`Synic::acknowledged`] of the processor fires.
//! A source that is masked, or that the guest polls, gets its messages and flags without an interrupt.
//! Layouts: Hyper-V TLFS, chapter "Virtual interrupt controller".
//!
//! Locks: each processor has one, over its registers. It is held while its pages are written and its
//! interrupt is raised, so that once a guest has moved a page nothing is written to the old place. No
//! other lock is taken under it.

mod error;
mod registers;
#[cfg(test)]
mod tests;

use std::sync::{Mutex, MutexGuard, PoisonError};

use vmm_sys_util::eventfd::{EventFd, EFD_NONBLOCK};

use crate::hypercall::MAX_PAYLOAD;
use crate::hyperv::Fault;
use crate::memory::SharedMemory;

pub use error::SynicError;
pub use registers::Pages;
use registers::{Registers, Written};

/// The interrupt source VMBus uses, for messages and for event flags. The only one KVM has a route for.
pub const VMBUS_SINT: u8 = 2;
const MESSAGE_SLOT: u64 = 256;
const EVENT_SLOT: u64 = 256;
/// Bit of a slot's second word that is "message pending", behind the payload size byte.
const PENDING_BIT: u32 = 8;
const PAYLOAD_OFFSET: u64 = 16;
/// Flags of one interrupt source.
const FLAGS: u16 = 2048;

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Posted {
    /// It is in its slot and the interrupt is raised.
    Delivered,
    /// The slot is taken; try again after the acknowledgement.
    Busy,
}

/// The way to the local APICs of the guest.
pub trait Interrupts: Send + Sync {
    /// Raises the edge-triggered interrupt `vector` of processor `vp`.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses.
    fn raise(&self, vp: u32, vector: u8) -> std::io::Result<()>;
}

/// Who raises interrupts.
enum Line {
    /// KVM, which knows the vectors, when the processor's event fires.
    Kvm(Vec<EventFd>),
    /// This program.
    UserSpace(Box<dyn Interrupts>),
}

struct Processor {
    registers: Mutex<Registers>,
    acknowledged: EventFd,
}

impl Processor {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            registers: Mutex::default(),
            acknowledged: EventFd::new(EFD_NONBLOCK)?,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Registers> {
        self.registers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The SynIC of all processors.
pub struct Synic {
    memory: SharedMemory,
    processors: Vec<Processor>,
    line: Line,
}

impl Synic {
    /// Makes the guest-bound side of KVM's SynIC for `vcpus` processors, all pages disabled.
    ///
    /// # Errors
    ///
    /// Fails if the process is out of file descriptors.
    pub fn in_kvm(memory: SharedMemory, vcpus: u8) -> std::io::Result<Self> {
        let events = (0..vcpus)
            .map(|_| EventFd::new(EFD_NONBLOCK))
            .collect::<std::io::Result<_>>()?;
        Self::new(memory, vcpus, Line::Kvm(events))
    }

    /// Makes the SynIC of `vcpus` processors as after a reset, which raises interrupts by `interrupts`.
    ///
    /// # Errors
    ///
    /// Fails if the process is out of file descriptors.
    pub fn in_user_space(
        memory: SharedMemory,
        vcpus: u8,
        interrupts: Box<dyn Interrupts>,
    ) -> std::io::Result<Self> {
        Self::new(memory, vcpus, Line::UserSpace(interrupts))
    }

    fn new(memory: SharedMemory, vcpus: u8, line: Line) -> std::io::Result<Self> {
        let processors = (0..vcpus)
            .map(|_| Processor::new())
            .collect::<std::io::Result<_>>()?;
        Ok(Self {
            memory,
            processors,
            line,
        })
    }

    /// The event that has KVM raise the VMBus interrupt of processor `vp`, and the one that KVM fires
    /// when the guest acknowledged it. `None` if there is no such processor or KVM has no part in it.
    pub(crate) fn wires(&self, vp: u32) -> Option<(&EventFd, &EventFd)> {
        let Line::Kvm(events) = &self.line else {
            return None;
        };
        let processor = self.processors.get(vp as usize)?;
        Some((events.get(vp as usize)?, &processor.acknowledged))
    }

    /// The events that fire when a processor ended the VMBus interrupt or freed a message slot
    /// that was wanted, in the order of the processors. Non-blocking.
    pub fn acknowledged(&self) -> impl Iterator<Item = &EventFd> {
        self.processors
            .iter()
            .map(|processor| &processor.acknowledged)
    }

    /// Notes new page registers of processor `vp`, which KVM keeps.
    pub fn set_pages(&self, vp: u32, pages: Pages) {
        if let Some(processor) = self.processors.get(vp as usize) {
            processor.lock().pages = pages;
        }
    }

    /// Reads a SynIC register of processor `vp` for the guest.
    ///
    /// # Errors
    ///
    /// The guest gets a fault where there is no such register.
    pub fn read_register(&self, vp: u32, index: u32) -> Result<u64, Fault> {
        let processor = self.processor(vp).map_err(|_| Fault)?;
        let registers = processor.lock();
        registers.read(index)
    }

    /// Writes a SynIC register of processor `vp` for the guest.
    ///
    /// # Errors
    ///
    /// The guest gets a fault where there is no such register, or not with such a value.
    pub fn write_register(&self, vp: u32, index: u32, value: u64) -> Result<(), Fault> {
        let processor = self.processor(vp).map_err(|_| Fault)?;
        let written = processor.lock().write(index, value, self.memory.as_ref())?;
        if written == Written::EndOfMessage {
            // Fails only when the counter is at its limit, and then the event has fired.
            let _ = processor.acknowledged.write(1);
        }
        Ok(())
    }

    /// Puts a message into the slot of `sint` of processor `vp` and raises the interrupt.
    ///
    /// # Errors
    ///
    /// Fails if the processor, its page or the payload's length do not allow it.
    pub fn post_message(
        &self,
        vp: u32,
        sint: u8,
        message_type: u32,
        payload: &[u8],
    ) -> Result<Posted, SynicError> {
        if payload.len() > MAX_PAYLOAD {
            return Err(SynicError::TooLong { len: payload.len() });
        }
        // Held over the write, so that two senders cannot take one slot.
        let registers = self.processor(vp)?.lock();
        let pages = registers.pages;
        let page = pages.enabled(pages.message).ok_or(SynicError::Disabled {
            vp,
            page: "message",
        })?;
        let slot = page + u64::from(sint & 15) * MESSAGE_SLOT;
        let at = |source| SynicError::Memory { vp, source };
        if self.memory.load_u32(slot).map_err(at)? != 0 {
            self.memory.set_bit_u32(slot + 4, PENDING_BIT).map_err(at)?;
            // The guest may have freed the slot before it could see the mark.
            if self.memory.load_u32(slot).map_err(at)? != 0 {
                return Ok(Posted::Busy);
            }
        }
        // Type last: it is what makes the message valid.
        self.memory
            .store_u32(slot + 4, payload.len() as u32)
            .map_err(at)?;
        self.memory.write(slot + 8, &[0; 8]).map_err(at)?;
        self.memory
            .write(slot + PAYLOAD_OFFSET, payload)
            .map_err(at)?;
        self.memory.store_u32(slot, message_type).map_err(at)?;
        self.raise(vp, sint, &registers)?;
        Ok(Posted::Delivered)
    }

    /// Sets an event flag of `sint` of processor `vp` and raises the interrupt if it was clear.
    ///
    /// # Errors
    ///
    /// Fails if the processor, its page or the flag do not allow it.
    pub fn signal_event(&self, vp: u32, sint: u8, flag: u16) -> Result<(), SynicError> {
        if flag >= FLAGS {
            return Err(SynicError::NoFlag { flag });
        }
        let registers = self.processor(vp)?.lock();
        let pages = registers.pages;
        let page = pages
            .enabled(pages.event)
            .ok_or(SynicError::Disabled { vp, page: "event" })?;
        let word = page + u64::from(sint & 15) * EVENT_SLOT + u64::from(flag / 32) * 4;
        let was_clear = self
            .memory
            .set_bit_u32(word, u32::from(flag % 32))
            .map_err(|source| SynicError::Memory { vp, source })?;
        if was_clear {
            self.raise(vp, sint, &registers)?;
        }
        Ok(())
    }

    fn processor(&self, vp: u32) -> Result<&Processor, SynicError> {
        self.processors
            .get(vp as usize)
            .ok_or(SynicError::NoProcessor {
                vp,
                count: self.processors.len(),
            })
    }

    fn raise(&self, vp: u32, sint: u8, registers: &Registers) -> Result<(), SynicError> {
        let raised = match &self.line {
            Line::Kvm(events) => events.get(vp as usize).map(|event| event.write(1)),
            Line::UserSpace(interrupts) => registers
                .vector(sint)
                .map(|vector| interrupts.raise(vp, vector)),
        };
        raised
            .unwrap_or(Ok(()))
            .map_err(|source| SynicError::Interrupt { vp, source })
    }
}
