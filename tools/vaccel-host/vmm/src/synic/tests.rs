// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of the delivery, with both ways of raising interrupts.

use std::sync::Arc;

use guest_memory::{FlatMemory, GuestMemory};

use super::*;

const MESSAGES: u64 = 0x1000;
const EVENTS: u64 = 0x2000;
const SLOT: u64 = MESSAGES + 2 * MESSAGE_SLOT;

fn synic() -> (Arc<FlatMemory>, Synic) {
    let memory = Arc::new(FlatMemory::new(0, 0x3000));
    let synic = Synic::in_kvm(memory.clone(), 2).unwrap();
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
