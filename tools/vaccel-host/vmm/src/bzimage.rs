// SPDX-License-Identifier: MIT OR Apache-2.0
//! The bzImage file format: set-up header and protected-mode kernel.
//!
//! The header starts at [`HEADER`] both in the file and in the boot
//! parameters (the "zero page"), so it is copied there as it is and changed in
//! the copy. Follows Documentation/arch/x86/boot.rst of the kernel.

use std::ops::Range;

/// Offset of the header in the file and in the boot parameters.
const HEADER: usize = 0x1F1;
/// Where the header's length is told: a jump over it.
const JUMP: usize = 0x201;
/// Size of the boot parameters.
pub const BOOT_PARAMS_SIZE: usize = 4096;
/// Offsets in the boot parameters of what has no place in the header.
const ACPI_RSDP: usize = 0x70;
const E820_COUNT: usize = 0x1E8;
const E820_TABLE: usize = 0x2D0;
/// Size of one entry of the memory map.
const E820_ENTRY: usize = 20;
const SECTOR: usize = 512;

/// Header fields that are read or written: offset and length.
const SETUP_SECTS: Range<usize> = 0x1F1..0x1F2;
const BOOT_FLAG: Range<usize> = 0x1FE..0x200;
const MAGIC: Range<usize> = 0x202..0x206;
const VERSION: Range<usize> = 0x206..0x208;
const TYPE_OF_LOADER: usize = 0x210;
const RAMDISK_IMAGE: usize = 0x218;
const RAMDISK_SIZE: usize = 0x21C;
const CMD_LINE_PTR: usize = 0x228;
const INITRD_ADDR_MAX: Range<usize> = 0x22C..0x230;
const XLOADFLAGS: Range<usize> = 0x236..0x238;
const PREF_ADDRESS: Range<usize> = 0x258..0x260;
const INIT_SIZE: Range<usize> = 0x260..0x264;
/// The first protocol version with all of these.
const OLDEST: u64 = 0x020C;

/// What the header says that a loader needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Header {
    /// Highest address the initramfs may occupy.
    pub initrd_addr_max: u64,
    /// Where the kernel unpacks itself to.
    pub pref_address: u64,
    /// How much memory it needs there.
    pub init_size: u64,
}

/// A bzImage in memory.
#[derive(Debug)]
pub struct BzImage<'a> {
    file: &'a [u8],
    header_end: usize,
    code: usize,
    /// What the header says.
    pub header: Header,
}

/// The number in `range` of `bytes`, little endian.
fn number(bytes: &[u8], range: Range<usize>) -> Result<u64, &'static str> {
    let field = bytes.get(range).ok_or("the file is too short")?;
    Ok(field
        .iter()
        .rev()
        .fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

impl<'a> BzImage<'a> {
    /// Reads the header.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the file.
    pub fn parse(file: &'a [u8]) -> Result<Self, &'static str> {
        if number(file, BOOT_FLAG)? != 0xAA55 || file.get(MAGIC) != Some(b"HdrS") {
            return Err("no setup header");
        }
        if number(file, VERSION)? < OLDEST {
            return Err("boot protocol older than 2.12");
        }
        if number(file, XLOADFLAGS)? & 1 == 0 {
            return Err("no 64-bit entry point");
        }
        // Zero means four, for compatibility with the oldest kernels.
        let sectors = match number(file, SETUP_SECTS)? {
            0 => 4,
            sectors => sectors as usize,
        };
        let code = (sectors + 1) * SECTOR;
        let jump = number(file, JUMP..JUMP + 1)? as usize;
        let header_end = (JUMP + 1 + jump).min(E820_TABLE);
        if file.len() <= code || header_end < INIT_SIZE.end || code < header_end {
            return Err("the file is too short");
        }
        Ok(Self {
            file,
            header_end,
            code,
            header: Header {
                initrd_addr_max: number(file, INITRD_ADDR_MAX)?,
                pref_address: number(file, PREF_ADDRESS)?,
                init_size: number(file, INIT_SIZE)?,
            },
        })
    }

    /// The part that is loaded and run.
    pub fn code(&self) -> &'a [u8] {
        self.file.get(self.code..).unwrap_or_default()
    }

    /// The boot parameters with the header in its place.
    pub fn boot_params(&self) -> BootParams {
        let mut bytes = vec![0; BOOT_PARAMS_SIZE];
        let range = HEADER..self.header_end;
        if let (Some(to), Some(from)) = (bytes.get_mut(range.clone()), self.file.get(range)) {
            to.copy_from_slice(from);
        }
        BootParams { bytes }
    }
}

/// The page of boot parameters.
#[derive(Debug)]
pub struct BootParams {
    bytes: Vec<u8>,
}

impl BootParams {
    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Writes at a fixed place, which lies within the page.
    fn put(&mut self, at: usize, value: &[u8]) {
        if let Some(field) = self.bytes.get_mut(at..at + value.len()) {
            field.copy_from_slice(value);
        }
    }

    /// Kind of boot loader.
    pub fn set_loader(&mut self, kind: u8) {
        self.put(TYPE_OF_LOADER, &[kind]);
    }

    /// Address of the command line.
    pub fn set_command_line(&mut self, at: u32) {
        self.put(CMD_LINE_PTR, &at.to_le_bytes());
    }

    /// Address and length of the initramfs.
    pub fn set_initrd(&mut self, at: u32, len: u32) {
        self.put(RAMDISK_IMAGE, &at.to_le_bytes());
        self.put(RAMDISK_SIZE, &len.to_le_bytes());
    }

    /// Address of the ACPI root pointer.
    pub fn set_acpi(&mut self, at: u64) {
        self.put(ACPI_RSDP, &at.to_le_bytes());
    }

    /// The memory map: start, length, type; at most 128 entries.
    pub fn set_memory_map(&mut self, map: &[(u64, u64, u32)]) {
        self.put(E820_COUNT, &[map.len() as u8]);
        for (index, (start, len, kind)) in map.iter().enumerate() {
            let at = E820_TABLE + index * E820_ENTRY;
            self.put(at, &start.to_le_bytes());
            self.put(at + 8, &len.to_le_bytes());
            self.put(at + 16, &kind.to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Vec<u8> {
        let mut file = vec![0; 3 * SECTOR];
        file[0x1F1] = 1;
        file[0x1FE..0x200].copy_from_slice(&[0x55, 0xAA]);
        file[0x200..0x202].copy_from_slice(&[0xEB, 0x66]);
        file[0x202..0x206].copy_from_slice(b"HdrS");
        file[0x206..0x208].copy_from_slice(&[0x0F, 0x02]);
        file[0x22C..0x230].copy_from_slice(&0x7FFF_FFFF_u32.to_le_bytes());
        file[0x236] = 1;
        file[0x258..0x260].copy_from_slice(&0x100_0000_u64.to_le_bytes());
        file[0x260..0x264].copy_from_slice(&0x400_0000_u32.to_le_bytes());
        file[2 * SECTOR] = 0xCC;
        file
    }

    /// Header fields and code are found, and the header is copied to the same offset.
    #[test]
    fn fields_code_and_copy() {
        let file = image();
        let parsed = BzImage::parse(&file).unwrap();
        assert_eq!(
            parsed.header,
            Header {
                initrd_addr_max: 0x7FFF_FFFF,
                pref_address: 0x100_0000,
                init_size: 0x400_0000
            }
        );
        assert_eq!(parsed.code().len(), SECTOR);
        assert_eq!(parsed.code()[0], 0xCC);
        let mut params = parsed.boot_params();
        params.set_initrd(0x1234, 5);
        params.set_memory_map(&[(1, 2, 3), (4, 5, 6)]);
        assert_eq!(&params.bytes()[0x202..0x206], b"HdrS");
        assert_eq!(
            &params.bytes()[0x218..0x220],
            &[0x34, 0x12, 0, 0, 5, 0, 0, 0]
        );
        assert_eq!(params.bytes()[0x1E8], 2);
        assert_eq!(params.bytes()[0x2D0 + 20], 4);
    }

    /// Whatever lacks something is refused: short, no magic, too old, 32-bit.
    #[test]
    fn bad_files_are_refused() {
        let good = image();
        for len in [0, 0x200, 0x260, 2 * SECTOR] {
            assert!(BzImage::parse(&good[..len]).is_err(), "{len}");
        }
        for at in [0x1FE, 0x202, 0x207, 0x236] {
            let mut bad = good.clone();
            bad[at] = 0;
            assert!(BzImage::parse(&bad).is_err(), "{at:#x}");
        }
    }
}
