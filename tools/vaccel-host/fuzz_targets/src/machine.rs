// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the guest's processors do to the machine itself: hypercalls, synthetic registers, the places of the SynIC's
//! pages, and PCI configuration space.

use std::io;
use std::sync::{Arc, Mutex};

use guest_memory::{FlatMemory, GuestMemory};
use vmm::hypercall::{Hypercall, MAX_PAYLOAD};
use vmm::hyperv::{msr, Partition, ReferenceClock};
use vmm::pci::{Header, PciBus, ADDRESS_PORT, DATA_PORT, PORTS};
use vmm::synic::{Interrupts, Pages, VMBUS_SINT};
use vmm::{Hypercalls, PciFunction, Synic};

use crate::input::{Input, Output};

/// Guest memory, from address 0.
const MEMORY: usize = 8 * 4096;
const VCPUS: u8 = 2;
const STEPS: usize = 400;

/// Checks what reaches whoever takes the payload of hypercalls.
#[derive(Default)]
struct Taker(Mutex<u16>);

impl Hypercalls for Taker {
    fn post_message(&self, _connection: u32, _message_type: u32, payload: &[u8]) -> u16 {
        assert!(payload.len() <= MAX_PAYLOAD);
        *self.0.lock().unwrap()
    }

    fn signal_event(&self, _connection: u32, _flag: u16) -> u16 {
        *self.0.lock().unwrap()
    }
}

/// Checks the interrupts that the guest's registers make.
struct Apics;

impl Interrupts for Apics {
    fn raise(&self, vp: u32, vector: u8) -> io::Result<()> {
        assert!(vp < u32::from(VCPUS) && vector >= 16);
        Ok(())
    }
}

/// A machine with Hyper-V in user space.
fn partition(memory: &Arc<FlatMemory>) -> (Arc<Synic>, Partition) {
    let synic = Synic::in_user_space(memory.clone(), VCPUS, Box::new(Apics)).unwrap();
    let synic = Arc::new(synic);
    let clock = ReferenceClock::new(2_000_000_000, || true);
    let partition = Partition::new(memory.clone(), Arc::clone(&synic), clock, VCPUS);
    (synic, partition)
}

/// One access to a synthetic register, or near one. What was written is read back.
fn register(partition: &Partition, input: &mut Input<'_>) {
    let vp = u32::from(input.u8() % 3);
    let index = msr::ALL.start.wrapping_add(input.u16().into());
    let value = input.u64();
    if input.u8() % 2 == 0 {
        let tsc = || (value != 0).then_some(value);
        let _ = partition.read(vp, index, tsc);
    } else if partition.write(vp, index, value).is_ok() {
        assert!(vp < u32::from(VCPUS) || !msr::SYNIC.contains(&index));
        assert!(partition.read(vp, index, || Some(0)).is_ok());
    }
}

/// A function that checks where it is accessed.
struct Checked(Header);

impl PciFunction for Checked {
    fn config_read(&self, offset: u16, data: &mut [u8]) {
        assert!(usize::from(offset % 4) + data.len() <= 4 && offset < 256);
        self.0.config_read(offset, data);
    }

    fn config_write(&self, offset: u16, data: &[u8]) {
        assert!(usize::from(offset % 4) + data.len() <= 4 && offset < 256);
        self.0.config_write(offset, data);
    }
}

/// Runs the bytes of a fuzzer.
///
/// # Panics
///
/// When the machine breaks its contract.
pub fn run(data: &[u8]) {
    let memory = Arc::new(FlatMemory::new(0, MEMORY));
    let in_kvm = Arc::new(Synic::in_kvm(memory.clone(), VCPUS).unwrap());
    let (in_user_space, partition) = partition(&memory);
    // Which of the two the host sends by.
    let mut synic = &in_kvm;
    let bus = PciBus::new(vec![Arc::new(Checked(Header::new(
        0x1414, 0x8e, 0x12_0000,
    )))]);
    let taker = Taker::default();
    let mut input = Input::new(data);
    for _ in 0..STEPS {
        if input.is_empty() {
            return;
        }
        match input.u8() % 8 {
            0 => {
                let call = Hypercall {
                    control: input.u64(),
                    input: input.u64(),
                };
                call.run(memory.as_ref(), &taker);
            }
            1 => {
                let gpa = u64::from(input.u16());
                // Outside of memory is fine.
                let _ = memory.write(gpa, input.bytes());
            }
            2 => in_kvm.set_pages(
                u32::from(input.u8() % 3),
                Pages {
                    control: input.u64(),
                    message: input.u64(),
                    event: input.u64(),
                },
            ),
            3 => {
                let vp = u32::from(input.u8() % 3);
                let len = usize::from(input.u8());
                // A guest without a page gets nothing.
                let _ = synic.post_message(vp, VMBUS_SINT, 1, &vec![0x5A; len]);
            }
            4 => {
                let vp = u32::from(input.u8() % 3);
                let _ = synic.signal_event(vp, VMBUS_SINT, input.u16());
            }
            5 => register(&partition, &mut input),
            6 => synic = [&in_kvm, &in_user_space][usize::from(input.u8() % 2)],
            _ => access(&bus, &mut input),
        }
    }
}

/// One access to the ports of configuration space, in a width that the processor has.
fn access(bus: &PciBus, input: &mut Input<'_>) {
    let width = [1, 2, 4][usize::from(input.u8() % 3)];
    let port = ADDRESS_PORT + u16::from(input.u8()) % PORTS;
    let value = input.u32().to_le_bytes();
    if input.u8() % 2 == 0 {
        bus.port_write(port, &value[..width]);
    } else {
        let mut data = value;
        bus.port_read(port, &mut data[..width]);
    }
}

/// A message posted and one received, a signal each way; a walk through configuration space; the same messages
/// through registers, with pages where none can be.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut synic = Output::default();
    let message = [1_u32, 0, 1, 8, 14, 0].map(u32::to_le_bytes).concat();
    synic.u8(1).u16(0x100).bytes(&message);
    synic.u8(0).u64(0x5C).u64(0x100);
    synic.u8(0).u64(0x1_005D).u64(0x2001);
    synic.u8(2).u8(1).u64(1).u64(0x3001).u64(0x4001);
    synic.u8(3).u8(1).u8(16).u8(3).u8(1).u8(16);
    synic.u8(4).u8(1).u16(1);
    synic.u8(2).u8(1).u64(1).u64(u64::MAX).u64(0x7fff);
    synic.u8(3).u8(1).u8(240).u8(4).u8(1).u16(2047);

    let mut pci = Output::default();
    for register in [0, 8, 0x2C, 0xC0, 0xFC] {
        pci.u8(7).u8(2).u8(0).u32(0x8000_0800 | register).u8(0);
        let data = u8::try_from(DATA_PORT - ADDRESS_PORT).unwrap();
        for (width, byte) in [(2, 0), (1, 2), (0, 3), (2, 2)] {
            pci.u8(7).u8(width).u8(data + byte).u32(0).u8(1);
        }
    }

    let offset = |index: u32| u16::try_from(index - msr::ALL.start).unwrap();
    let mut user = Output::default();
    let sint = msr::SINT0 + u32::from(VMBUS_SINT);
    for (index, value) in [
        (msr::GUEST_OS_ID, 1),
        (msr::HYPERCALL, 0x1001),
        (msr::REFERENCE_TSC, 0x2001),
        (msr::VP_ASSIST_PAGE, 0x5001),
        (msr::SIMP, 0x3001),
        (msr::SIEFP, 0x4001),
        (sint, 0x40),
        (msr::SCONTROL, 1),
    ] {
        user.u8(5).u8(1).u16(offset(index)).u64(value).u8(1);
    }
    user.u8(6).u8(1);
    user.u8(3).u8(1).u8(16).u8(3).u8(1).u8(16);
    user.u8(4).u8(1).u16(1);
    for (index, value) in [
        (msr::EOM, 0),
        (sint, 15),
        (msr::SIMP, u64::MAX),
        (msr::SIEFP, 0x3001),
        (msr::CRASH_P0, 1),
        (msr::CRASH_CTL, 1 << 63),
        (msr::GUEST_OS_ID, 0),
    ] {
        user.u8(5).u8(1).u16(offset(index)).u64(value).u8(1);
    }
    user.u8(3).u8(1).u8(240).u8(4).u8(1).u16(2047);
    for index in [
        msr::TIME_REF_COUNT,
        msr::HYPERCALL,
        msr::SVERSION,
        0x4000_1FFF,
    ] {
        user.u8(5).u8(0).u16(offset(index)).u64(77).u8(0);
    }
    vec![synic.done(), pci.done(), user.done()]
}
