// SPDX-License-Identifier: MIT OR Apache-2.0
//! Messages and event flags for the guest, through the synthetic interrupt controller.
//!
//! KVM keeps the SynIC's registers and delivers its interrupts; the message page and the event
//! flags page of each processor are guest memory, which this module writes. KVM reports where the
//! pages are whenever the guest changes them ([`Synic::set_pages`]).
//!
//! A message slot is free when its type is zero. A message for a taken slot is not queued here:
//! the slot is marked "message pending", so that the guest writes the EOM register after it took
//! the message, and the caller tries again when [`Synic::acknowledged`] of the processor fires.
//! Layouts: Hyper-V TLFS, chapter "Virtual interrupt controller".

use std::sync::{Mutex, PoisonError};

use guest_memory::MemoryError;
use vmm_sys_util::eventfd::{EventFd, EFD_NONBLOCK};

use crate::hypercall::MAX_PAYLOAD;
use crate::memory::SharedMemory;

/// The interrupt source VMBus uses, for messages and for event flags. The only one routed.
pub const VMBUS_SINT: u8 = 2;
/// Enable bit of SCONTROL, SIMP and SIEFP.
const ENABLE: u64 = 1;
const PAGE_MASK: u64 = !0xFFF;
const MESSAGE_SLOT: u64 = 256;
const EVENT_SLOT: u64 = 256;
/// Bit of a slot's second word that is "message pending", behind the payload size byte.
const PENDING_BIT: u32 = 8;
const PAYLOAD_OFFSET: u64 = 16;
/// Flags of one interrupt source.
const FLAGS: u16 = 2048;

/// Something could not be delivered to the guest.
#[derive(Debug, thiserror::Error)]
pub enum SynicError {
    /// There is no such processor.
    #[error("no virtual processor {vp}, the machine has {count}")]
    NoProcessor {
        /// The processor named.
        vp: u32,
        /// How many there are.
        count: usize,
    },
    /// The guest has not enabled the page that is needed.
    #[error("synic {page} page of virtual processor {vp} is not enabled")]
    Disabled {
        /// The processor.
        vp: u32,
        /// "message" or "event".
        page: &'static str,
    },
    /// A message is longer than a slot.
    #[error("message of {len} bytes, limit is {MAX_PAYLOAD}")]
    TooLong {
        /// Its length.
        len: usize,
    },
    /// An event flag is out of range.
    #[error("event flag {flag}, limit is {max}", max = FLAGS - 1)]
    NoFlag {
        /// The flag.
        flag: u16,
    },
    /// The guest put a page where no memory is.
    #[error("synic page of virtual processor {vp}")]
    Memory {
        /// The processor.
        vp: u32,
        /// The access that failed.
        #[source]
        source: MemoryError,
    },
    /// The interrupt could not be raised.
    #[error("cannot raise the interrupt of virtual processor {vp}")]
    Interrupt {
        /// The processor.
        vp: u32,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Posted {
    /// It is in its slot and the interrupt is raised.
    Delivered,
    /// The slot is taken; try again after the acknowledgement.
    Busy,
}

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
    fn enabled(&self, page: u64) -> Option<u64> {
        (self.control & page & ENABLE != 0).then_some(page & PAGE_MASK)
    }
}

struct Processor {
    pages: Mutex<Pages>,
    interrupt: EventFd,
    acknowledged: EventFd,
}

/// The guest-bound side of the SynIC of all processors.
pub struct Synic {
    memory: SharedMemory,
    processors: Vec<Processor>,
}

impl Synic {
    /// Makes the state of `vcpus` processors, all pages disabled.
    ///
    /// # Errors
    ///
    /// Fails if the process is out of file descriptors.
    pub fn new(memory: SharedMemory, vcpus: u8) -> std::io::Result<Self> {
        let processors = (0..vcpus)
            .map(|_| {
                Ok(Processor {
                    pages: Mutex::default(),
                    interrupt: EventFd::new(EFD_NONBLOCK)?,
                    acknowledged: EventFd::new(EFD_NONBLOCK)?,
                })
            })
            .collect::<std::io::Result<_>>()?;
        Ok(Self { memory, processors })
    }

    /// The event that raises the VMBus interrupt of processor `vp`, and the one that fires when
    /// the guest acknowledged it. `None` if there is no such processor.
    pub(crate) fn wires(&self, vp: u32) -> Option<(&EventFd, &EventFd)> {
        let processor = self.processors.get(vp as usize)?;
        Some((&processor.interrupt, &processor.acknowledged))
    }

    /// The events that fire when a processor ended the VMBus interrupt or freed a message slot
    /// that was wanted, in the order of the processors. Non-blocking.
    pub fn acknowledged(&self) -> impl Iterator<Item = &EventFd> {
        self.processors
            .iter()
            .map(|processor| &processor.acknowledged)
    }

    /// Notes new page registers of processor `vp`.
    pub fn set_pages(&self, vp: u32, pages: Pages) {
        if let Some(processor) = self.processors.get(vp as usize) {
            *processor
                .pages
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = pages;
        }
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
        let processor = self.processor(vp)?;
        // Held over the write, so that two senders cannot take one slot.
        let pages = processor
            .pages
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
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
        raise(processor, vp)?;
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
        let processor = self.processor(vp)?;
        let pages = *processor
            .pages
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let page = pages
            .enabled(pages.event)
            .ok_or(SynicError::Disabled { vp, page: "event" })?;
        let word = page + u64::from(sint & 15) * EVENT_SLOT + u64::from(flag / 32) * 4;
        let was_clear = self
            .memory
            .set_bit_u32(word, u32::from(flag % 32))
            .map_err(|source| SynicError::Memory { vp, source })?;
        if was_clear {
            raise(processor, vp)?;
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
}

fn raise(processor: &Processor, vp: u32) -> Result<(), SynicError> {
    processor
        .interrupt
        .write(1)
        .map_err(|source| SynicError::Interrupt { vp, source })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use guest_memory::{FlatMemory, GuestMemory};

    use super::*;

    const MESSAGES: u64 = 0x1000;
    const EVENTS: u64 = 0x2000;
    const SLOT: u64 = MESSAGES + 2 * MESSAGE_SLOT;

    fn synic() -> (Arc<FlatMemory>, Synic) {
        let memory = Arc::new(FlatMemory::new(0, 0x3000));
        let synic = Synic::new(memory.clone(), 2).unwrap();
        synic.set_pages(
            1,
            Pages {
                control: 1,
                message: MESSAGES | 1,
                event: EVENTS | 1,
            },
        );
        (memory, synic)
    }

    fn raised(synic: &Synic) -> bool {
        synic.wires(1).unwrap().0.read().is_ok()
    }

    /// A message lands in the slot of its source with its size, and raises the interrupt once.
    #[test]
    fn delivery() {
        let (memory, synic) = synic();
        let posted = synic.post_message(1, VMBUS_SINT, 1, &[9, 8]).unwrap();
        assert_eq!(posted, Posted::Delivered);
        assert_eq!(memory.load_u32(SLOT), Ok(1));
        assert_eq!(memory.load_u32(SLOT + 4), Ok(2));
        let mut payload = [0; 2];
        memory.read(SLOT + 16, &mut payload).unwrap();
        assert_eq!(payload, [9, 8]);
        assert!(raised(&synic));
        assert!(!raised(&synic));
    }

    /// A taken slot keeps its message and is marked; after the guest freed it the next one fits.
    #[test]
    fn busy_slot() {
        let (memory, synic) = synic();
        let _ = synic.post_message(1, VMBUS_SINT, 1, &[1]).unwrap();
        assert!(raised(&synic));
        let posted = synic.post_message(1, VMBUS_SINT, 1, &[2]).unwrap();
        assert_eq!(posted, Posted::Busy);
        assert_eq!(memory.load_u32(SLOT + 4), Ok(1 | 1 << 8));
        assert!(!raised(&synic));
        memory.store_u32(SLOT, 0).unwrap();
        let posted = synic.post_message(1, VMBUS_SINT, 1, &[2, 3]).unwrap();
        assert_eq!(posted, Posted::Delivered);
        assert_eq!(memory.load_u32(SLOT + 4), Ok(2));
    }

    /// Flags are set where the guest looks for them; a flag already set raises nothing.
    #[test]
    fn event_flags() {
        let (memory, synic) = synic();
        synic.signal_event(1, VMBUS_SINT, 33).unwrap();
        assert_eq!(memory.load_u32(EVENTS + 2 * EVENT_SLOT + 4), Ok(2));
        assert!(raised(&synic));
        synic.signal_event(1, VMBUS_SINT, 33).unwrap();
        assert!(!raised(&synic));
        assert!(synic.signal_event(1, VMBUS_SINT, 2048).is_err());
    }

    /// Pages that are off, outside memory or of unknown processors give errors, not writes.
    #[test]
    fn refusals() {
        let (_, synic) = synic();
        assert!(matches!(
            synic.post_message(0, VMBUS_SINT, 1, &[]),
            Err(SynicError::Disabled { vp: 0, .. })
        ));
        assert!(matches!(
            synic.signal_event(7, VMBUS_SINT, 1),
            Err(SynicError::NoProcessor { vp: 7, count: 2 })
        ));
        assert!(synic.post_message(1, VMBUS_SINT, 1, &[0; 241]).is_err());
        synic.set_pages(
            1,
            Pages {
                control: 1,
                message: 1 << 40 | 1,
                event: 0,
            },
        );
        assert!(matches!(
            synic.post_message(1, VMBUS_SINT, 1, &[]),
            Err(SynicError::Memory { vp: 1, .. })
        ));
        synic.set_pages(1, Pages::default());
        assert!(synic.post_message(1, VMBUS_SINT, 1, &[]).is_err());
    }
}
