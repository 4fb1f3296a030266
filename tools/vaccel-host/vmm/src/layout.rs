// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where things are in guest-physical memory and in I/O port space.

/// First byte after the RAM below 4 GiB; the rest of RAM starts at [`HIGH_RAM`].
pub const LOW_RAM_END: u64 = 0xC000_0000;
/// First byte of the RAM above the 32-bit hole.
pub const HIGH_RAM: u64 = 1 << 32;
/// Smallest RAM a distribution kernel with an initramfs is expected to boot in.
pub const MIN_RAM: u64 = 64 << 20;

/// Global descriptor table the boot processor starts with.
pub const GDT: u64 = 0x500;
/// Boot parameters ("zero page") of the Linux boot protocol.
pub const BOOT_PARAMS: u64 = 0x7000;
/// Page tables of the identity map: one PML4, one PDPT, four page directories.
pub const PAGE_TABLES: u64 = 0x9000;
/// Kernel command line.
pub const COMMAND_LINE: u64 = 0x20000;
/// Longest command line, with its terminating zero.
pub const COMMAND_LINE_MAX: usize = 0x1000;
/// End of the conventional memory reported usable.
pub const CONVENTIONAL_END: u64 = 0x9_FC00;
/// ACPI tables, the root pointer first.
pub const ACPI: u64 = 0xE_0000;
/// First byte after the area reserved for the ACPI tables.
pub const ACPI_END: u64 = 0x10_0000;
/// Where the protected-mode kernel is loaded.
pub const KERNEL: u64 = 0x10_0000;

/// 32-bit memory window of the PCI root. No function here has a BAR, but Linux expects a window.
pub const PCI_WINDOW: u64 = 0xE000_0000;
/// Length of [`PCI_WINDOW`].
pub const PCI_WINDOW_LEN: u64 = 0x1000_0000;
/// In-kernel I/O APIC.
pub const IO_APIC: u32 = 0xFEC0_0000;
/// In-kernel local APICs.
pub const LOCAL_APIC: u32 = 0xFEE0_0000;
/// Three pages KVM wants for its task-state segment on some processors.
pub const TSS: usize = 0xFFFB_D000;
/// Page KVM wants for its identity map on some processors.
pub const IDENTITY_MAP: u64 = 0xFFFB_C000;

/// Gap between the end of RAM and the VMBus MMIO window, and the alignment of the window.
pub const MMIO_ALIGN: u64 = 1 << 30;

/// Base port and interrupt of the first serial port.
pub const COM1: (u16, u32) = (0x3F8, 4);
/// Base port and interrupt of the second serial port.
pub const COM2: (u16, u32) = (0x2F8, 3);
/// ACPI PM1a event block: status word, then enable word.
pub const PM1_EVENT: u16 = 0x600;
/// ACPI PM1a control word.
pub const PM1_CONTROL: u16 = 0x604;
/// Reset register named by the FADT; the value written is [`RESET_VALUE`].
pub const RESET: u16 = 0xCF9;
/// Value the FADT tells the guest to write to [`RESET`].
pub const RESET_VALUE: u8 = 0x0E;
/// Keyboard controller command port, the other way of Linux to reset (`reboot=k`).
pub const KEYBOARD_COMMAND: u16 = 0x64;
/// The port that the code of the hypercall page writes to, with Hyper-V in user space.
pub const HYPERCALL: u16 = 0xE5;
/// System control interrupt of ACPI. No event here raises it.
pub const SCI: u16 = 9;
/// Sleep type that the DSDT gives for S5.
pub const SLEEP_TYPE_OFF: u8 = 5;

/// First interrupt line of the VMBus SINTs, one a virtual processor; 0 to 23 are the I/O APIC's.
pub const SINT_GSI: u32 = 24;
/// Most virtual processors of one machine.
pub const MAX_VCPUS: u8 = 64;

/// Splits `ram` bytes into the part below the hole and the part above it.
pub fn split_ram(ram: u64) -> (u64, u64) {
    let low = ram.min(LOW_RAM_END);
    (low, ram.saturating_sub(low))
}

/// First address of the VMBus MMIO window of a machine with `ram` bytes.
pub fn mmio_window_start(ram: u64) -> u64 {
    let (_, high) = split_ram(ram);
    let ram_end = HIGH_RAM.saturating_add(high);
    ram_end
        .saturating_add(MMIO_ALIGN)
        .next_multiple_of(MMIO_ALIGN)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RAM is never placed in the 32-bit hole, and the MMIO window lies above all RAM.
    #[test]
    fn ram_avoids_hole_and_window() {
        assert_eq!(split_ram(1 << 30), (1 << 30, 0));
        assert_eq!(split_ram(4 << 30), (LOW_RAM_END, 1 << 30));
        assert_eq!(mmio_window_start(1 << 30), (1 << 32) + MMIO_ALIGN);
        assert_eq!(mmio_window_start((4 << 30) + 4096), (7 << 30));
    }
}
