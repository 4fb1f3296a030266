// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of the registers, without KVM.

use std::io;

use guest_memory::FlatMemory;

use super::*;
use crate::synic::{Interrupts, Posted, SynicError, VMBUS_SINT};

const MEMORY: usize = 0x8000;
const OUTSIDE: u64 = MEMORY as u64;
const TSC_HZ: u64 = 2_000_000_000;
const LINUX: u64 = 0x8100 << 48;
/// Register of the source VMBus uses.
const SINT: u32 = msr::SINT0 + VMBUS_SINT as u32;
const MASKED: u64 = 1 << 16;
const MESSAGES: u64 = 0x2000;
const EVENTS: u64 = 0x3000;

/// Interrupts that were raised.
type Raised = Arc<Mutex<Vec<(u32, u8)>>>;

struct Apics(Raised);

impl Interrupts for Apics {
    fn raise(&self, vp: u32, vector: u8) -> io::Result<()> {
        self.0.lock().unwrap().push((vp, vector));
        Ok(())
    }
}

struct Guest {
    memory: Arc<FlatMemory>,
    synic: Arc<Synic>,
    partition: Partition,
    raised: Raised,
}

impl Guest {
    /// A machine with two processors.
    fn new() -> Self {
        let memory = Arc::new(FlatMemory::new(0, MEMORY));
        let raised = Raised::default();
        let apics = Box::new(Apics(Arc::clone(&raised)));
        let synic = Arc::new(Synic::in_user_space(memory.clone(), 2, apics).unwrap());
        let clock = ReferenceClock::new(TSC_HZ, || true);
        Self {
            partition: Partition::new(memory.clone(), Arc::clone(&synic), clock, 2),
            memory,
            synic,
            raised,
        }
    }

    /// One whose second processor takes VMBus interrupts as vector 0x40.
    fn with_synic() -> Self {
        let guest = Self::new();
        for (index, value) in [
            (msr::SIMP, MESSAGES | 1),
            (msr::SIEFP, EVENTS | 1),
            (SINT, 0x40),
            (msr::SCONTROL, 1),
        ] {
            guest.write(1, index, value).unwrap();
        }
        guest
    }

    fn read(&self, vp: u32, index: u32) -> Result<u64, Fault> {
        self.partition.read(vp, index, || Some(TSC_HZ))
    }

    fn write(&self, vp: u32, index: u32, value: u64) -> Result<(), Fault> {
        let written = self.partition.write(vp, index, value)?;
        assert_eq!(written, Written::Done);
        Ok(())
    }

    fn post(&self) -> Posted {
        self.synic.post_message(1, VMBUS_SINT, 1, &[7]).unwrap()
    }

    fn take_raised(&self) -> Vec<(u32, u8)> {
        std::mem::take(&mut *self.raised.lock().unwrap())
    }

    /// The interrupt source's slot of the message page.
    fn slot(&self) -> u64 {
        MESSAGES + 256 * u64::from(VMBUS_SINT)
    }
}

/// The page gets its code, from the guest that said who it is; what is off, nobody's, locked or
/// outside of memory is not changed.
#[test]
fn hypercall_page() {
    let guest = Guest::new();
    let code = || {
        let mut code = [0; 8];
        guest.memory.read(0x1000, &mut code).unwrap();
        code
    };
    guest.write(0, msr::HYPERCALL, 0x1001).unwrap();
    assert_eq!(guest.read(0, msr::HYPERCALL), Ok(0));
    guest.write(0, msr::GUEST_OS_ID, LINUX).unwrap();
    assert_eq!(guest.write(0, msr::HYPERCALL, OUTSIDE | 1), Err(Fault));
    assert!(!guest.partition.takes_hypercalls());
    assert_eq!(code(), [0; 8]);
    guest.write(1, msr::HYPERCALL, 0x1001).unwrap();
    assert!(guest.partition.takes_hypercalls());
    assert_eq!(code()[..7], CODE);
    assert_eq!(code()[7], BREAKPOINT);
    guest.write(0, msr::GUEST_OS_ID, 0).unwrap();
    assert!(!guest.partition.takes_hypercalls());
    guest.write(0, msr::GUEST_OS_ID, LINUX).unwrap();
    guest.write(0, msr::HYPERCALL, 0x4003).unwrap();
    guest.write(0, msr::HYPERCALL, 0).unwrap();
    assert_eq!(guest.read(0, msr::HYPERCALL), Ok(0x4003));
}

/// Reference time is the scaled counter, in the register and by the page.
#[test]
fn reference_time() {
    let guest = Guest::new();
    let second = guest.read(0, msr::TIME_REF_COUNT).unwrap();
    assert!((9_999_999..=10_000_000).contains(&second), "{second}");
    assert_eq!(
        guest.partition.read(0, msr::TIME_REF_COUNT, || None),
        Err(Fault)
    );
    guest.write(0, msr::REFERENCE_TSC, 0x5001).unwrap();
    assert_eq!(guest.memory.load_u32(0x5000), Ok(1));
    assert_eq!(guest.write(0, msr::REFERENCE_TSC, OUTSIDE | 1), Err(Fault));
    assert_eq!(guest.read(1, msr::REFERENCE_TSC), Ok(0x5001));
    assert_eq!(guest.read(0, msr::TSC_FREQUENCY), Ok(TSC_HZ));
    assert_eq!(guest.read(0, msr::APIC_FREQUENCY), Ok(APIC_HZ));
}

/// Processors know who they are, and each has its own assist page.
#[test]
fn processors() {
    let guest = Guest::new();
    assert_eq!(guest.read(0, msr::VP_INDEX), Ok(0));
    assert_eq!(guest.read(1, msr::VP_INDEX), Ok(1));
    guest.write(1, msr::VP_ASSIST_PAGE, 0x6001).unwrap();
    assert_eq!(guest.read(1, msr::VP_ASSIST_PAGE), Ok(0x6001));
    assert_eq!(guest.read(0, msr::VP_ASSIST_PAGE), Ok(0));
    assert_eq!(guest.write(1, msr::VP_ASSIST_PAGE, OUTSIDE | 1), Err(Fault));
    for index in [msr::VP_ASSIST_PAGE, msr::SIMP, SINT] {
        assert_eq!(guest.read(2, index), Err(Fault), "{index:#x}");
        assert_eq!(guest.write(2, index, 0), Err(Fault), "{index:#x}");
    }
}

/// What is not offered, and what cannot be written, is a fault.
#[test]
fn faults() {
    let guest = Guest::new();
    // Reset, run time, EOI, interrupt command, timers, TSC invariant control, and the ends.
    for index in [
        3, 0x10, 0x70, 0x71, 0x85, 0xA0, 0xB0, 0xB1, 0xB7, 0x106, 0x118, 0x1FFF,
    ] {
        let index = msr::ALL.start + index;
        assert_eq!(guest.read(0, index), Err(Fault), "{index:#x}");
        assert_eq!(guest.write(0, index, 0), Err(Fault), "{index:#x}");
    }
    for index in [
        msr::VP_INDEX,
        msr::TIME_REF_COUNT,
        msr::TSC_FREQUENCY,
        msr::APIC_FREQUENCY,
        msr::SVERSION,
    ] {
        assert!(guest.read(0, index).is_ok(), "{index:#x}");
        assert_eq!(guest.write(0, index, 1), Err(Fault), "{index:#x}");
    }
    for index in [0, 0x10, 0xC000_0080, u32::MAX] {
        assert_eq!(guest.read(0, index), Err(Fault), "{index:#x}");
    }
}

/// A crash is reported with its words, which can be read back.
#[test]
fn crash() {
    let guest = Guest::new();
    guest.write(1, msr::CRASH_P0 + 4, 9).unwrap();
    assert_eq!(guest.read(0, msr::CRASH_P0 + 4), Ok(9));
    guest.write(0, msr::CRASH_CTL, 1).unwrap();
    assert_eq!(guest.read(0, msr::CRASH_CTL), Ok(CRASH_NOTIFY));
    let written = guest.partition.write(0, msr::CRASH_CTL, CRASH_NOTIFY);
    assert_eq!(written, Ok(Written::Crash));
}

/// After a reset the SynIC is off and all its sources are masked; registers keep what is written.
#[test]
fn synic_registers() {
    let guest = Guest::new();
    for index in msr::SYNIC {
        let reset = match index {
            msr::SVERSION => Ok(1),
            msr::SCONTROL | msr::SIEFP | msr::SIMP | msr::EOM => Ok(0),
            index if index >= msr::SINT0 => Ok(MASKED),
            _ => Err(Fault),
        };
        assert_eq!(guest.read(1, index), reset, "{index:#x}");
    }
    let guest = Guest::with_synic();
    assert_eq!(guest.read(1, SINT), Ok(0x40));
    assert_eq!(guest.read(0, SINT), Ok(MASKED));
    assert_eq!(guest.read(1, msr::SIMP), Ok(MESSAGES | 1));
    assert_eq!(guest.read(0, msr::SIMP), Ok(0));
}

/// A source needs a vector that is no exception's, and ends no interrupt by itself.
#[test]
fn sources() {
    let guest = Guest::with_synic();
    for bad in [0, 15, 0x40 | 1 << 17] {
        assert_eq!(guest.write(1, SINT, bad), Err(Fault), "{bad:#x}");
        assert_eq!(guest.read(1, SINT), Ok(0x40));
        guest.write(1, SINT, bad | MASKED).unwrap();
        guest.write(1, SINT, 0x40).unwrap();
    }
    assert_eq!(guest.write(1, msr::SINT0 + 16, 0x40), Err(Fault));
}

/// Messages and events raise the vector the guest chose, at the processor that they are for; a source
/// that is masked or polled gets them without.
#[test]
fn interrupts() {
    let guest = Guest::with_synic();
    assert_eq!(guest.post(), Posted::Delivered);
    assert_eq!(guest.take_raised(), [(1, 0x40)]);
    guest.write(1, SINT, 0x51).unwrap();
    guest.synic.signal_event(1, VMBUS_SINT, 3).unwrap();
    assert_eq!(guest.take_raised(), [(1, 0x51)]);
    guest.synic.signal_event(1, VMBUS_SINT, 3).unwrap();
    assert_eq!(guest.take_raised(), []);
    for quiet in [0x51 | MASKED, 0x51 | 1 << 18] {
        guest.memory.store_u32(guest.slot(), 0).unwrap();
        guest.memory.write(EVENTS, &[0; 4096]).unwrap();
        guest.write(1, SINT, quiet).unwrap();
        assert_eq!(guest.post(), Posted::Delivered);
        guest.synic.signal_event(1, VMBUS_SINT, 3).unwrap();
        assert_eq!(guest.take_raised(), []);
        assert_eq!(guest.memory.load_u32(guest.slot()), Ok(1));
    }
}

/// A taken slot is marked; the guest's EOM, and nothing before, has the message tried again.
#[test]
fn end_of_message() {
    let guest = Guest::with_synic();
    let acknowledged = || -> Vec<bool> {
        let events = guest.synic.acknowledged();
        events.map(|event| event.read().is_ok()).collect()
    };
    assert_eq!(guest.post(), Posted::Delivered);
    assert_eq!(guest.post(), Posted::Busy);
    assert_eq!(guest.memory.load_u32(guest.slot() + 4), Ok(1 | 1 << 8));
    guest.memory.store_u32(guest.slot(), 0).unwrap();
    guest.write(1, SINT, 0x41).unwrap();
    assert_eq!(acknowledged(), [false, false]);
    guest.write(1, msr::EOM, 0).unwrap();
    assert_eq!(acknowledged(), [false, true]);
    assert_eq!(guest.post(), Posted::Delivered);
    assert_eq!(guest.take_raised(), [(1, 0x40), (1, 0x41)]);
}

/// Pages are where the guest has memory, and are off when the page or the SynIC is.
#[test]
fn synic_pages() {
    let guest = Guest::with_synic();
    for index in [msr::SIMP, msr::SIEFP] {
        for bad in [OUTSIDE | 1, u64::MAX] {
            let before = guest.read(1, index);
            assert_eq!(guest.write(1, index, bad), Err(Fault), "{bad:#x}");
            assert_eq!(guest.read(1, index), before);
        }
        // Where a page is that is off does not matter.
        guest.write(0, index, OUTSIDE).unwrap();
    }
    let post = || guest.synic.post_message(1, VMBUS_SINT, 1, &[7]);
    let signal = || guest.synic.signal_event(1, VMBUS_SINT, 3);
    guest.write(1, msr::SCONTROL, 0).unwrap();
    assert!(matches!(post(), Err(SynicError::Disabled { vp: 1, .. })));
    assert!(matches!(signal(), Err(SynicError::Disabled { vp: 1, .. })));
    guest.write(1, msr::SCONTROL, 1).unwrap();
    guest.write(1, msr::SIEFP, EVENTS).unwrap();
    assert!(matches!(signal(), Err(SynicError::Disabled { vp: 1, .. })));
    assert_eq!(guest.post(), Posted::Delivered);
}

/// Pages of a guest that lays them over each other hurt nobody but that guest.
#[test]
fn overlapping_pages() {
    let guest = Guest::with_synic();
    guest.write(1, msr::SIEFP, MESSAGES | 1).unwrap();
    guest.synic.signal_event(1, VMBUS_SINT, 0).unwrap();
    // The flag is where the type of a message is: the slot looks taken.
    assert_eq!(guest.post(), Posted::Busy);
    guest.write(0, msr::GUEST_OS_ID, LINUX).unwrap();
    guest.write(0, msr::HYPERCALL, MESSAGES | 1).unwrap();
    assert_eq!(guest.post(), Posted::Busy);
    assert_eq!(guest.memory.load_u32(0x1000), Ok(0));
    assert_eq!(guest.memory.load_u32(0x4000), Ok(0));
}
