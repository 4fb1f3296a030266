// SPDX-License-Identifier: MIT OR Apache-2.0
//! Answers to adapter queries (command 2), by their D3DKMT numbers.
//!
//! Numbers and layouts are those of Microsoft's public d3dkmthk.h and d3dkmdt.h (as in
//! microsoft/libdxg). What is about displays is not answered, nor are the key of the PnP device (a
//! query by pointer) and the registry, of which there is none. Nothing is measured but time, so
//! temperatures, power and bandwidths are 0, as drivers answer that do not measure them.

use gpupv::{AdapterTypeFlags, NtStatus, QueryType, PCI_DEVICE_COMPUTE, PCI_DEVICE_RENDER};
use gpupv::{Guid, PCI_VENDOR};

use crate::adapter::{DRIVER_MODEL, NANOSECONDS};
use crate::choices::Choices;
use crate::host::Vgpu;

/// Bus type PCI.
const BUS_PCI: u32 = 1;
/// Units of a path.
const MAX_PATH: usize = 260;
/// Bits of a GPU virtual address.
const ADDRESS_BITS: u32 = 47;
/// Last of the runtimes that a user-mode driver can be for: Direct3D 9, 10, 11, 12.
const LAST_RUNTIME: u32 = 3;

/// Bytes of an answer, put together.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn word(self, word: u32) -> Self {
        self.bytes(&word.to_le_bytes())
    }

    fn words(self, words: &[u32]) -> Self {
        words.iter().fold(self, |bytes, word| bytes.word(*word))
    }

    fn long(self, long: u64) -> Self {
        self.bytes(&long.to_le_bytes())
    }

    fn longs(self, longs: &[u64]) -> Self {
        longs.iter().fold(self, |bytes, long| bytes.long(*long))
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// UTF-16 in so many units, the last of which is 0.
    fn text(self, text: &str, units: usize) -> Self {
        let room = units.saturating_sub(1);
        let text = text.encode_utf16().take(room);
        let padded = text.chain(std::iter::repeat(0)).take(units);
        padded.fold(self, |bytes, unit| bytes.bytes(&unit.to_le_bytes()))
    }
}

/// A word of the input.
fn input_word(input: &[u8], offset: usize) -> Result<u32, NtStatus> {
    let end = offset.saturating_add(4);
    let word = input.get(offset..end).and_then(|word| word.try_into().ok());
    word.map(u32::from_le_bytes)
        .ok_or(NtStatus::BUFFER_TOO_SMALL)
}

/// The answer begins with the index of a GPU of a linked group, of which there is one.
fn indexed(input: &[u8]) -> Result<Bytes, NtStatus> {
    match input_word(input, 0)? {
        0 => Ok(Bytes::default().word(0)),
        _ => Err(NtStatus::INVALID_PARAMETER),
    }
}

impl Vgpu {
    /// Answers an adapter query with as many bytes as its answer has.
    ///
    /// # Errors
    ///
    /// `NOT_SUPPORTED` for a query that is not answered, `INVALID_PARAMETER` for what is asked about
    /// but not there, `BUFFER_TOO_SMALL` if the input ends before it says what is asked about.
    pub(crate) fn query(
        &self,
        choices: &Choices,
        query: QueryType,
        input: &[u8],
    ) -> Result<Vec<u8>, NtStatus> {
        let config = &self.config;
        let start = Bytes::default();
        let answer = match query.raw() {
            // Private to the user-mode driver.
            0 => start.bytes(&config.engine.to_bytes()),
            // File name of the user-mode driver for a runtime.
            1 => match input_word(input, 0)? {
                runtime @ 0..=LAST_RUNTIME => {
                    start.word(runtime).text(&config.umd_file_name, MAX_PATH)
                }
                _ => return Err(NtStatus::INVALID_PARAMETER),
            },
            // Dedicated video, dedicated system and shared memory.
            3 => start.longs(&self.memory_sizes()),
            // GUID; the same for rendering.
            4 | 52 => start.bytes(&config.channel_instance.to_bytes()),
            // Bus, device, function.
            6 | 53 => start.words(&[0, self.number(), 0]),
            // Adapter, BIOS, DAC and chip as texts.
            8 | 54 => ["", "", ""]
                .iter()
                .fold(start.text(&config.name, MAX_PATH), |bytes, text| {
                    bytes.text(text, MAX_PATH)
                }),
            // Whether the driver is being updated.
            11 | 55 => start.word(0),
            13 | 56 => start.word(DRIVER_MODEL),
            15 | 57 => start.word(self.adapter_type().bits()),
            // Capabilities of older driver models, all of them about displays or power.
            17 | 22 | 58 | 59 => start.word(0),
            // Versions of user-mode and kernel-mode driver.
            18 | 49 => start.long(config.driver_version),
            24 => start.word(caps::GPU_MMU | caps::SURPRISE_REMOVAL),
            25 => self.node(input)?,
            // How many GPUs are linked.
            30 => start.word(1),
            31 => indexed(input)?.words(&self.pci_ids()),
            // Extended driver capabilities.
            32 => start.word(0),
            34 => indexed(input)?.words(&[caps::READ_ONLY | caps::COHERENT, ADDRESS_BITS]),
            42 => {
                let (local, non_local) = (config.memory.local, config.memory.non_local);
                let sizes = indexed(input)?.word(0).longs(&self.memory_sizes());
                sizes.longs(&[local, non_local, 0])
            }
            48 => return self.registry(input),
            60 => start.text(&unique_guid(config.channel_instance), 40),
            61 => {
                self.node_of(input)?;
                let clock = [NANOSECONDS, NANOSECONDS, 0];
                let node = indexed_node(input)?.longs(&clock);
                node.words(&[0; 4]).long(0)
            }
            62 => indexed(input)?.word(0).longs(&[0; 7]),
            63 => indexed(input)?.word(0).longs(&[0; 4]),
            64 => indexed(input)?.text("", 32).text("vaccel", 32),
            65 | 66 => start.text(
                &config.name,
                config.name.encode_utf16().count().saturating_add(1),
            ),
            // Whether it is in a secure container: extended functions are not held back.
            68 => start.bytes(&[0]),
            70 if choices.hw_scheduling => start.word(caps::HW_SCH_ON_2_7),
            75 if choices.hw_scheduling => start.word(caps::HW_SCH_ON_2_9),
            // And nothing across adapters (76), no flip queue (77).
            70 | 75 | 76 | 77 => start.word(0),
            _ => return Err(NtStatus::NOT_SUPPORTED),
        };
        Ok(answer.0)
    }

    /// Its number, as the low half of its host LUID has it.
    fn number(&self) -> u32 {
        self.config.host_adapter_luid.low & 0xff
    }

    fn memory_sizes(&self) -> [u64; 3] {
        [self.config.memory.local, 0, self.config.memory.non_local]
    }

    fn adapter_type(&self) -> AdapterTypeFlags {
        let flags = AdapterTypeFlags::RENDER_SUPPORTED | AdapterTypeFlags::PARAVIRTUALIZED;
        if self.config.compute_only {
            flags | AdapterTypeFlags::COMPUTE_ONLY
        } else {
            flags
        }
    }

    /// Vendor, device, subsystem vendor, subsystem, revision, bus type.
    fn pci_ids(&self) -> [u32; 6] {
        let device = if self.config.compute_only {
            PCI_DEVICE_COMPUTE
        } else {
            PCI_DEVICE_RENDER
        };
        [PCI_VENDOR.into(), device.into(), 0, 0, 0, BUS_PCI]
    }

    /// Checks a node ordinal in the first word of the input.
    fn node_of(&self, input: &[u8]) -> Result<(), NtStatus> {
        match input_word(input, 0)? {
            0 => Ok(()),
            _ => Err(NtStatus::INVALID_PARAMETER),
        }
    }

    /// Type and name of a node: ordinal, engine type, name, flags, whether it has a GPU MMU and an
    /// I/O MMU. A compute accelerator has an engine of no particular type.
    fn node(&self, input: &[u8]) -> Result<Bytes, NtStatus> {
        self.node_of(input)?;
        let kind = u32::from(!self.config.compute_only);
        let node = Bytes::default().words(&[0, kind]).text("Compute", 32);
        Ok(node.word(0).bytes(&[1, 0]))
    }

    /// Where the driver is; the keys of service and adapter have no values.
    fn registry(&self, input: &[u8]) -> Result<Vec<u8>, NtStatus> {
        const TRANSLATE: u32 = 1;
        const STRING: u32 = 1;
        const SIZE_AT: usize = 4 + 4 + MAX_PATH * 2 + 4 + 4;
        const VALUE_AT: usize = SIZE_AT + 4 + 4;
        let (kind, flags) = (input_word(input, 0)?, input_word(input, 4)?);
        let path = match (kind, flags & TRANSLATE) {
            (2, TRANSLATE) => config_path(&self.config.guest_driver_store, ""),
            (2, _) => config_path(&self.config.driver_store, ""),
            (3, _) => config_path(&self.config.driver_store, "\\vaccel.sys"),
            (0 | 1, _) => return Err(NtStatus::OBJECT_NAME_NOT_FOUND),
            _ => return Err(NtStatus::INVALID_PARAMETER),
        };
        let head = input.get(..SIZE_AT).ok_or(NtStatus::BUFFER_TOO_SMALL)?;
        let room = input.len().saturating_sub(VALUE_AT);
        let size = u32::try_from(path.len()).unwrap_or(u32::MAX);
        let fits = path.len() <= room;
        let type_at = SIZE_AT.saturating_sub(8);
        let (front, index) = (
            head.get(..type_at),
            input_word(input, SIZE_AT.saturating_sub(4))?,
        );
        if index != 0 {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let answer = Bytes::default().bytes(front.unwrap_or_default());
        // Status 1: the value does not fit, but its size is there.
        let answer = answer.words(&[STRING, index, size, u32::from(!fits)]);
        Ok(if fits {
            answer.bytes(&path).0
        } else {
            answer.0
        })
    }
}

/// The number of a node and of its GPU, which begin an answer.
fn indexed_node(input: &[u8]) -> Result<Bytes, NtStatus> {
    match input_word(input, 4)? {
        0 => Ok(Bytes::default().words(&[0, 0])),
        _ => Err(NtStatus::INVALID_PARAMETER),
    }
}

/// A path, ended by a 0.
fn config_path(folder: &str, file: &str) -> Vec<u8> {
    let units = folder.encode_utf16().chain(file.encode_utf16());
    units.chain([0]).flat_map(u16::to_le_bytes).collect()
}

fn unique_guid(guid: Guid) -> String {
    format!("{{{guid}}}")
}

/// Bits of capability words.
mod caps {
    /// Driver model 2.0: the GPU has an MMU.
    pub const GPU_MMU: u32 = 1 << 1;
    /// Driver model 2.0: it may go away at any time.
    pub const SURPRISE_REMOVAL: u32 = 1 << 5;
    /// The MMU knows read-only memory.
    pub const READ_ONLY: u32 = 1;
    /// And memory that is coherent with the CPU's.
    pub const COHERENT: u32 = 1 << 2;
    /// Driver model 2.7: hardware scheduling is supported, enabled, and so by default.
    pub const HW_SCH_ON_2_7: u32 = 0b111;
    /// Driver model 2.9: hardware scheduling has stable support, and is enabled.
    pub const HW_SCH_ON_2_9: u32 = 2 | 1 << 2;
}
