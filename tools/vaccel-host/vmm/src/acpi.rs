// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ACPI tables of the machine.
//!
//! RSDP, XSDT, FADT, MADT and one DSDT. The FADT describes ACPI hardware with PM1 registers (so
//! that the guest keeps its legacy interrupt controllers), no keyboard controller, no CMOS clock,
//! no VGA, and a reset register. The DSDT holds the serial ports, the PCI root, `\_S5`, and the
//! VMBus device under a module device that owns the MMIO window: Linux's VMBus driver takes the
//! window from `_CRS` of the nearest ancestor that has one.

use crate::aml;
use crate::layout;

const OEM: [u8; 6] = *b"VACCEL";
const OEM_TABLE: [u8; 8] = *b"VACCELVM";
const OEM_REVISION: u32 = 1;
/// Length of the root pointer, and of its part that revision 1 knew.
const RSDP_LEN: usize = 36;
const RSDP_V1_LEN: usize = 20;
/// Length of the header every table but the FACS starts with.
const HEADER_LEN: u32 = 36;

/// What the tables say about this machine.
#[derive(Debug, Clone, Copy)]
pub struct Machine {
    /// Number of virtual processors; APIC ids are 0 to this less one.
    pub vcpus: u8,
    /// First address of the VMBus MMIO window.
    pub mmio_start: u64,
    /// Length of the VMBus MMIO window.
    pub mmio_len: u64,
}

/// The tables do not fit the area reserved for them.
#[derive(Debug, thiserror::Error)]
#[error("acpi tables need {need} bytes, {room} are reserved")]
pub struct TooLarge {
    /// Bytes needed.
    pub need: usize,
    /// Bytes reserved.
    pub room: usize,
}

/// Builds all tables as one block to be placed at `base`, the root pointer first.
///
/// # Errors
///
/// Fails if the block is larger than the reserved area.
pub fn build(machine: &Machine, base: u64) -> Result<Vec<u8>, TooLarge> {
    let mut block = Block {
        base,
        // The root pointer is written last, when the address of the XSDT is known.
        bytes: vec![0; RSDP_LEN],
    };
    let dsdt = block.push(&dsdt(machine));
    let facs = block.push(&facs());
    let fadt = block.push(&fadt(dsdt, facs));
    let madt = block.push(&madt(machine.vcpus));
    let xsdt = block.push(&xsdt(&[fadt, madt]));
    for (to, from) in block.bytes.iter_mut().zip(rsdp(xsdt)) {
        *to = from;
    }
    let room = layout::ACPI_END.saturating_sub(layout::ACPI) as usize;
    if block.bytes.len() > room {
        return Err(TooLarge {
            need: block.bytes.len(),
            room,
        });
    }
    Ok(block.bytes)
}

/// Tables laid out one behind the other.
struct Block {
    base: u64,
    bytes: Vec<u8>,
}

impl Block {
    /// Appends a table at a 64-byte boundary (the FACS needs one) and returns its address.
    fn push(&mut self, table: &[u8]) -> u64 {
        self.bytes.resize(self.bytes.len().next_multiple_of(64), 0);
        let address = self.base + self.bytes.len() as u64;
        self.bytes.extend_from_slice(table);
        address
    }
}

/// A table: header, body, checksum.
fn table(signature: &[u8; 4], revision: u8, body: &[u8]) -> Vec<u8> {
    let mut table = signature.to_vec();
    table.extend((HEADER_LEN + body.len() as u32).to_le_bytes());
    table.extend([revision, 0]);
    table.extend(OEM);
    table.extend(OEM_TABLE);
    table.extend(OEM_REVISION.to_le_bytes());
    // Creator and its revision.
    table.extend(*b"VACL\x01\0\0\0");
    table.extend(body);
    let sum = checksum(&table);
    if let Some(byte) = table.get_mut(9) {
        *byte = sum;
    }
    table
}

/// The byte that makes the sum of `bytes`, where it is still zero, zero.
fn checksum(bytes: &[u8]) -> u8 {
    bytes
        .iter()
        .fold(0_u8, |sum, byte| sum.wrapping_add(*byte))
        .wrapping_neg()
}

fn rsdp(xsdt: u64) -> Vec<u8> {
    let mut rsdp = b"RSD PTR \0".to_vec();
    rsdp.extend(OEM);
    rsdp.push(2);
    rsdp.extend(0_u32.to_le_bytes());
    rsdp.extend((RSDP_LEN as u32).to_le_bytes());
    rsdp.extend(xsdt.to_le_bytes());
    rsdp.extend([0; 4]);
    for (len, at) in [(RSDP_V1_LEN, 8), (RSDP_LEN, 32)] {
        let sum = checksum(rsdp.get(..len).unwrap_or_default());
        if let Some(byte) = rsdp.get_mut(at) {
            *byte = sum;
        }
    }
    rsdp
}

fn xsdt(entries: &[u64]) -> Vec<u8> {
    let body: Vec<u8> = entries
        .iter()
        .flat_map(|entry| entry.to_le_bytes())
        .collect();
    table(b"XSDT", 1, &body)
}

/// Firmware control structure: only the global lock in it is ever used.
fn facs() -> [u8; 64] {
    let mut facs = [0; 64];
    let (head, _) = facs.split_at_mut(8);
    head.copy_from_slice(b"FACS\x40\0\0\0");
    facs
}

fn fadt(dsdt: u64, facs: u64) -> Vec<u8> {
    const LEN: usize = 276;
    // Legacy devices exist; no VGA, no CMOS clock, no keyboard controller (bit 1 clear).
    const BOOT_ARCH: u16 = 1 | 1 << 2 | 1 << 5;
    // WBINVD works; C1 everywhere; no fixed power or sleep button, no fixed RTC; reset register.
    const FLAGS: u32 = 1 | 1 << 2 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 10;
    // Latencies above these limits mean "no C2" and "no C3".
    const NO_C2: u16 = 101;
    const NO_C3: u16 = 1001;
    let mut body = vec![0; LEN - HEADER_LEN as usize];
    let mut put = |offset: usize, value: &[u8]| {
        let at = offset - HEADER_LEN as usize;
        if let Some(to) = body.get_mut(at..at + value.len()) {
            to.copy_from_slice(value);
        }
    };
    put(36, &(facs as u32).to_le_bytes());
    put(40, &(dsdt as u32).to_le_bytes());
    put(46, &layout::SCI.to_le_bytes());
    put(56, &u32::from(layout::PM1_EVENT).to_le_bytes());
    put(64, &u32::from(layout::PM1_CONTROL).to_le_bytes());
    put(88, &[4, 2]);
    put(96, &NO_C2.to_le_bytes());
    put(98, &NO_C3.to_le_bytes());
    put(109, &BOOT_ARCH.to_le_bytes());
    put(112, &FLAGS.to_le_bytes());
    put(116, &port_register(layout::RESET, 1));
    put(128, &[layout::RESET_VALUE]);
    put(140, &dsdt.to_le_bytes());
    put(148, &port_register(layout::PM1_EVENT, 4));
    put(172, &port_register(layout::PM1_CONTROL, 2));
    table(b"FACP", 6, &body)
}

/// A generic address structure for a register of `bytes` bytes in I/O space.
fn port_register(port: u16, bytes: u8) -> Vec<u8> {
    const IO_SPACE: u8 = 1;
    // Access size: 1 is a byte, 2 a word, 3 a dword.
    let access = bytes.trailing_zeros() as u8 + 1;
    let mut register = vec![IO_SPACE, bytes * 8, 0, access];
    register.extend(u64::from(port).to_le_bytes());
    register
}

fn madt(vcpus: u8) -> Vec<u8> {
    let mut body = layout::LOCAL_APIC.to_le_bytes().to_vec();
    // Dual 8259 present.
    body.extend(1_u32.to_le_bytes());
    for id in 0..vcpus {
        body.extend([0, 8, id, id, 1, 0, 0, 0]);
    }
    body.extend([1, 12, vcpus, 0]);
    body.extend(layout::IO_APIC.to_le_bytes());
    body.extend(0_u32.to_le_bytes());
    // The timer is wired to pin 2, edge triggered.
    body.extend([2, 10, 0, 0, 2, 0, 0, 0, 0, 0]);
    // The SCI is active high, level triggered.
    let [sci, _] = layout::SCI.to_le_bytes();
    body.extend([2, 10, 0, sci, sci, 0, 0, 0, 0x0D, 0]);
    // LINT1 of every processor is NMI.
    body.extend([4, 6, 0xFF, 0, 0, 1]);
    table(b"APIC", 5, &body)
}

fn dsdt(machine: &Machine) -> Vec<u8> {
    let off = u32::from(layout::SLEEP_TYPE_OFF);
    let sleep = aml::package(&[off, off, 0, 0].map(aml::integer));
    let devices = [
        pci_root(),
        serial_port(b"COM1", 0, layout::COM1),
        serial_port(b"COM2", 1, layout::COM2),
        vmbus(machine),
    ];
    let body = [aml::name(b"_S5_", &sleep), aml::scope(b"_SB_", &devices)].concat();
    table(b"DSDT", 6, &body)
}

fn pci_root() -> Vec<u8> {
    let window_end = layout::PCI_WINDOW + layout::PCI_WINDOW_LEN - 1;
    aml::device(
        b"PCI0",
        &[
            aml::name(b"_HID", &aml::eisa_id("PNP0A03")),
            aml::name(b"_UID", &aml::integer(0)),
            aml::name(b"_BBN", &aml::integer(0)),
            aml::name(
                b"_CRS",
                &aml::resources(&[
                    aml::bus_numbers(0, 0),
                    aml::io_ports(0xCF8, 8),
                    aml::io_window(0, 0x0CF7),
                    aml::io_window(0x0D00, 0xFFFF),
                    aml::memory_window(layout::PCI_WINDOW, window_end),
                ]),
            ),
        ],
    )
}

fn serial_port(name: &aml::Segment, uid: u32, (port, irq): (u16, u32)) -> Vec<u8> {
    aml::device(
        name,
        &[
            aml::name(b"_HID", &aml::eisa_id("PNP0501")),
            aml::name(b"_UID", &aml::integer(uid)),
            aml::name(
                b"_CRS",
                &aml::resources(&[aml::io_ports(port, 8), aml::interrupt(irq)]),
            ),
        ],
    )
}

fn vmbus(machine: &Machine) -> Vec<u8> {
    let end = machine.mmio_start + (machine.mmio_len - 1);
    let bus = aml::device(
        b"VMBS",
        &[
            aml::name(b"_HID", &aml::string("VMBus")),
            aml::name(b"_UID", &aml::integer(0)),
            aml::name(b"_CRS", &aml::resources(&[])),
        ],
    );
    aml::device(
        b"VMOD",
        &[
            aml::name(b"_HID", &aml::string("ACPI0004")),
            aml::name(b"_UID", &aml::integer(0)),
            aml::name(
                b"_CRS",
                &aml::resources(&[aml::memory_window(machine.mmio_start, end)]),
            ),
            bus,
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: Machine = Machine {
        vcpus: 2,
        mmio_start: 0x1_8000_0000,
        mmio_len: 0x1_0000_0000,
    };

    fn u64_at(bytes: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
    }

    fn table_at(block: &[u8], address: u64) -> &[u8] {
        let at = (address - layout::ACPI) as usize;
        let len = u32::from_le_bytes(block[at + 4..at + 8].try_into().unwrap()) as usize;
        &block[at..at + len]
    }

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
    }

    /// Every table can be reached from the root pointer, and every checksum holds.
    #[test]
    fn tables_are_linked_and_summed() {
        let block = build(&MACHINE, layout::ACPI).unwrap();
        assert_eq!(&block[..8], b"RSD PTR ");
        assert_eq!(sum(&block[..20]), 0);
        assert_eq!(sum(&block[..36]), 0);
        let xsdt = table_at(&block, u64_at(&block, 24));
        assert_eq!(&xsdt[..4], b"XSDT");
        let fadt = table_at(&block, u64_at(xsdt, 36));
        let madt = table_at(&block, u64_at(xsdt, 44));
        let dsdt = table_at(&block, u64_at(fadt, 140));
        assert_eq!(&fadt[..4], b"FACP");
        assert_eq!(&madt[..4], b"APIC");
        assert_eq!(&dsdt[..4], b"DSDT");
        for table in [xsdt, fadt, madt, dsdt] {
            assert_eq!(sum(table), 0);
        }
        let facs = u32::from_le_bytes(fadt[36..40].try_into().unwrap());
        assert_eq!(facs % 64, 0);
        assert_eq!(&table_at(&block, u64::from(facs))[..4], b"FACS");
    }

    /// The MADT names each processor once, with its APIC id, enabled.
    #[test]
    fn madt_lists_processors() {
        let madt = madt(3);
        let mut entries = &madt[44..];
        let mut ids = Vec::new();
        while let [kind, len, ..] = *entries {
            if kind == 0 {
                assert_eq!(entries[4], 1);
                ids.push(entries[3]);
            }
            entries = &entries[usize::from(len)..];
        }
        assert_eq!(ids, [0, 1, 2]);
    }

    /// The DSDT names the VMBus device the way Linux looks for it and gives the exact window.
    #[test]
    fn dsdt_has_vmbus_and_window() {
        let dsdt = dsdt(&MACHINE);
        let find = |needle: &[u8]| dsdt.windows(needle.len()).any(|window| window == needle);
        assert!(find(b"VMBus\0"));
        assert!(find(b"_S5_"));
        assert!(find(&MACHINE.mmio_start.to_le_bytes()));
        assert!(find(
            &(MACHINE.mmio_start + MACHINE.mmio_len - 1).to_le_bytes()
        ));
    }
}
