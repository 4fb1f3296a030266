// SPDX-License-Identifier: MIT OR Apache-2.0
//! Loading a Linux kernel by the 64-bit x86 boot protocol.
//!
//! The kernel goes to [`layout::KERNEL`], the initramfs as high as the kernel accepts in low RAM,
//! and the command line, boot parameters and an identity map of the first 4 GiB into conventional
//! memory. The boot processor then starts in long mode at the kernel's 64-bit entry point.
//! Follows Documentation/arch/x86/boot.rst of the kernel.

use std::path::{Path, PathBuf};

use guest_memory::{GuestMemory, MemoryError};
use kvm_bindings::{kvm_regs, kvm_segment, kvm_sregs};

use crate::bzimage::{BootParams, BzImage, Header};
use crate::layout;
use crate::memory::Ram;

/// Offset of the 64-bit entry point from the start of the loaded kernel.
const ENTRY_64: u64 = 0x200;
/// Boot loader type for loaders without an assigned number.
const LOADER_UNDEFINED: u8 = 0xFF;
const E820_RAM: u32 = 1;
const E820_RESERVED: u32 = 2;

/// A guest kernel could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// A file could not be opened or read.
    #[error("cannot read {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The kernel is not a bzImage or does not fit.
    #[error("{path} is not a bzImage that can be loaded: {reason}")]
    Kernel {
        /// The file.
        path: PathBuf,
        /// What the loader said.
        reason: String,
    },
    /// The initramfs does not fit between the kernel and the end of usable low memory.
    #[error("initramfs of {len} bytes does not fit below {limit:#x} (--memory)")]
    InitrdTooLarge {
        /// Length of the initramfs.
        len: u64,
        /// First address it must not reach.
        limit: u64,
    },
    /// The command line is too long.
    #[error("kernel command line of {len} bytes, limit is {max}", max = layout::COMMAND_LINE_MAX - 1)]
    CommandLine {
        /// Its length.
        len: usize,
    },
    /// A boot structure did not fit into guest memory.
    #[error("cannot write boot structures")]
    Memory(#[from] MemoryError),
}

/// What is to be booted.
#[derive(Debug, Clone, Copy)]
pub struct BootImages<'a> {
    /// Kernel, a bzImage.
    pub kernel: &'a Path,
    /// Initramfs.
    pub initrd: &'a Path,
    /// Kernel command line.
    pub command_line: &'a str,
}

/// Loads everything the kernel needs and returns its entry point.
///
/// # Errors
///
/// Fails if a file cannot be read or something does not fit.
pub fn load(ram: &Ram, images: &BootImages<'_>) -> Result<u64, BootError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        |source| BootError::File { path, source }
    };
    let file = std::fs::read(images.kernel).map_err(unreadable(images.kernel))?;
    let kernel = BzImage::parse(&file).map_err(|reason| BootError::Kernel {
        path: images.kernel.to_owned(),
        reason: reason.into(),
    })?;
    let code = kernel.code();
    ram.write(layout::KERNEL, code)?;
    let kernel_end = layout::KERNEL + code.len() as u64;

    let initrd = std::fs::read(images.initrd).map_err(unreadable(images.initrd))?;
    let initrd_at = place_initrd(&kernel.header, ram.bytes(), kernel_end, initrd.len() as u64)?;
    ram.write(initrd_at, &initrd)?;

    let line = images.command_line.as_bytes();
    if line.len() >= layout::COMMAND_LINE_MAX {
        return Err(BootError::CommandLine { len: line.len() });
    }
    ram.write(layout::COMMAND_LINE, line)?;
    ram.write(layout::COMMAND_LINE + line.len() as u64, &[0])?;

    let mut params = kernel.boot_params();
    params.set_loader(LOADER_UNDEFINED);
    params.set_command_line(layout::COMMAND_LINE as u32);
    params.set_initrd(initrd_at as u32, initrd.len() as u32);
    write_boot_params(ram, params)?;
    write_page_tables(ram)?;
    write_gdt(ram)?;
    Ok(layout::KERNEL + ENTRY_64)
}

/// The highest page-aligned place for the initramfs.
fn place_initrd(header: &Header, ram: u64, kernel_end: u64, len: u64) -> Result<u64, BootError> {
    let (low, _) = layout::split_ram(ram);
    let limit = low.min(header.initrd_addr_max + 1);
    let too_large = BootError::InitrdTooLarge { len, limit };
    // The kernel unpacks itself to its preferred address and needs this much room there.
    let unpacked = header
        .pref_address
        .max(layout::KERNEL)
        .saturating_add(header.init_size);
    let start = match limit.checked_sub(len) {
        Some(start) => start & !0xFFF,
        None => return Err(too_large),
    };
    if start < kernel_end.max(unpacked) {
        return Err(too_large);
    }
    Ok(start)
}

/// The memory map given to the kernel: start, length, type.
fn memory_map(ram: u64) -> Vec<(u64, u64, u32)> {
    let (low, high) = layout::split_ram(ram);
    let mut map = vec![
        (0, layout::CONVENTIONAL_END, E820_RAM),
        (layout::ACPI, layout::ACPI_END - layout::ACPI, E820_RESERVED),
        (layout::KERNEL, low - layout::KERNEL, E820_RAM),
    ];
    if high > 0 {
        map.push((layout::HIGH_RAM, high, E820_RAM));
    }
    map
}

fn write_boot_params(ram: &Ram, mut params: BootParams) -> Result<(), MemoryError> {
    params.set_acpi(layout::ACPI);
    params.set_memory_map(&memory_map(ram.bytes()));
    ram.write(layout::BOOT_PARAMS, params.bytes())
}

/// Identity map of the first 4 GiB in 2 MiB pages.
fn write_page_tables(ram: &Ram) -> Result<(), MemoryError> {
    const TABLE: u64 = 4096;
    const PRESENT_WRITABLE: u64 = 3;
    const LARGE: u64 = 1 << 7;
    let pml4 = layout::PAGE_TABLES;
    let pdpt = pml4 + TABLE;
    let directories = pdpt + TABLE;
    ram.write(pml4, &(pdpt | PRESENT_WRITABLE).to_le_bytes())?;
    for gib in 0..4_u64 {
        let directory = directories + gib * TABLE;
        ram.write(
            pdpt + gib * 8,
            &(directory | PRESENT_WRITABLE).to_le_bytes(),
        )?;
        for slot in 0..512_u64 {
            let page = ((gib << 9) | slot) << 21;
            ram.write(
                directory + slot * 8,
                &(page | LARGE | PRESENT_WRITABLE).to_le_bytes(),
            )?;
        }
    }
    Ok(())
}

/// The descriptors the boot protocol asks for: code at 0x10, data at 0x18, flat.
fn write_gdt(ram: &Ram) -> Result<(), MemoryError> {
    for (index, descriptor) in [0, 0, 0x00AF_9B00_0000_FFFF, 0x00CF_9300_0000_FFFF_u64]
        .into_iter()
        .enumerate()
    {
        ram.write(
            layout::GDT + index as u64 * 8,
            &u64::to_le_bytes(descriptor),
        )?;
    }
    Ok(())
}

/// General registers of the boot processor at `entry`.
pub fn registers(entry: u64) -> kvm_regs {
    kvm_regs {
        rip: entry,
        rsi: layout::BOOT_PARAMS,
        rflags: 2,
        ..Default::default()
    }
}

/// Puts the boot processor into long mode on the identity map.
pub fn system_registers(sregs: &mut kvm_sregs) {
    const CR0_PE_MP_ET_NE_WP_PG: u64 = 1 | 1 << 1 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 31;
    const CR4_PAE: u64 = 1 << 5;
    const EFER_LME_LMA: u64 = 1 << 8 | 1 << 10;
    let segment = |selector, type_, long| kvm_segment {
        base: 0,
        limit: 0xFFFF_FFFF,
        selector,
        type_,
        present: 1,
        db: 1 - long,
        s: 1,
        l: long,
        g: 1,
        ..Default::default()
    };
    let data = segment(0x18, 3, 0);
    sregs.cs = segment(0x10, 11, 1);
    sregs.ds = data;
    sregs.es = data;
    sregs.fs = data;
    sregs.gs = data;
    sregs.ss = data;
    sregs.gdt.base = layout::GDT;
    sregs.gdt.limit = 31;
    sregs.cr3 = layout::PAGE_TABLES;
    sregs.cr0 = CR0_PE_MP_ET_NE_WP_PG;
    sregs.cr4 = CR4_PAE;
    sregs.efer = EFER_LME_LMA;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            initrd_addr_max: 0x7FFF_FFFF,
            pref_address: 0x100_0000,
            init_size: 0x400_0000,
        }
    }

    /// The initramfs goes to the top of low memory, page aligned, never over the unpacked kernel.
    #[test]
    fn initrd_placement() {
        let end = layout::KERNEL + (16 << 20);
        assert_eq!(
            place_initrd(&header(), 512 << 20, end, 5000).unwrap(),
            (512 << 20) - 8192
        );
        // Above 2 GiB the kernel's own limit counts.
        assert_eq!(
            place_initrd(&header(), 4 << 30, end, 4096).unwrap(),
            (2 << 30) - 4096
        );
        assert!(place_initrd(&header(), 128 << 20, end, 120 << 20).is_err());
        assert!(place_initrd(&header(), 128 << 20, end, u64::MAX).is_err());
    }

    /// The memory map never overlaps and covers exactly the RAM outside the legacy area.
    #[test]
    fn memory_map_is_sorted_and_disjoint() {
        for ram in [128 << 20, 6_u64 << 30] {
            let map = memory_map(ram);
            for pair in map.windows(2) {
                assert!(pair[0].0 + pair[0].1 <= pair[1].0);
            }
            let usable: u64 = map
                .iter()
                .filter(|entry| entry.2 == E820_RAM && entry.0 >= layout::KERNEL)
                .map(|entry| entry.1)
                .sum();
            assert_eq!(usable, ram - layout::KERNEL);
        }
    }

    /// A file that is no kernel is refused with its name.
    #[test]
    fn not_a_kernel() {
        let ram = Ram::new(layout::MIN_RAM).unwrap();
        let error = load(
            &ram,
            &BootImages {
                kernel: Path::new("/dev/null"),
                initrd: Path::new("/dev/null"),
                command_line: "",
            },
        )
        .unwrap_err();
        assert!(error.to_string().contains("/dev/null"), "{error}");
    }

    /// The page tables map the last 2 MiB page below 4 GiB onto itself.
    #[test]
    fn identity_map() {
        let ram = Ram::new(layout::MIN_RAM).unwrap();
        write_page_tables(&ram).unwrap();
        let mut entry = [0; 8];
        ram.read(layout::PAGE_TABLES + 6 * 4096 - 8, &mut entry)
            .unwrap();
        assert_eq!(u64::from_le_bytes(entry), 0xFFE0_0000 | 0x83);
    }
}
