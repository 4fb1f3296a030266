// SPDX-License-Identifier: GPL-2.0-only

//! Host processes and the I/O space: what a VM sets up before any GPU (protocol 3.2, 4.2).
//!
//! A host process owns every handle of one guest client; the host frees what is left of it when it
//! is destroyed. The I/O space is the range of guest-physical addresses in which the host places
//! fences and CPU-visible allocations.

use super::command::{fixed_command, reply};
use super::handle::Handle;
use super::limits::PROCESS_NAME_UNITS;
use super::status::NtStatus;
use super::wire::wire_struct;
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Makes a host process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CreateProcess {
    /// Cookie of the guest; any value that is not 0.
    pub process: u64,
    /// The guest's process id, for display.
    pub process_id: u64,
    /// Name in UTF-16, ended by a zero.
    pub process_name: [u16; PROCESS_NAME_UNITS],
    /// What kind of process; [`CreateProcess::LINUX`].
    pub kind: u8,
    /// Padding.
    pub _pad: [u8; 5],
}

wire_struct!(CreateProcess = 544);
fixed_command!(CreateProcess => CreateProcessReply);

impl CreateProcess {
    /// [`CreateProcess::kind`] of a Linux process.
    pub const LINUX: u8 = 1 << 3;

    /// The process of a guest client. The name is cut to what fits, and ends before a zero byte.
    pub fn new(cookie: u64, process_id: u64, name: &str) -> Self {
        let mut body = Self {
            process: cookie,
            process_id,
            kind: Self::LINUX,
            ..Self::default()
        };
        let units = name.encode_utf16().take_while(|unit| *unit != 0);
        let room = body.process_name.iter_mut().take(PROCESS_NAME_UNITS - 1);
        for (to, unit) in room.zip(units) {
            *to = unit;
        }
        body
    }

    /// The characters of the name; those that are not valid UTF-16 are replaced.
    pub fn name(&self) -> impl Iterator<Item = char> + '_ {
        utf16(&self.process_name)
    }
}

/// The characters of a zero-ended UTF-16 string; invalid ones are replaced.
pub(super) fn utf16(units: &[u16]) -> impl Iterator<Item = char> + '_ {
    char::decode_utf16(units.iter().copied().take_while(|unit| *unit != 0))
        .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
}

/// The new process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CreateProcessReply {
    /// The host process, for the header of its later commands; none on failure.
    pub process: Handle,
}

wire_struct!(CreateProcessReply = 4);
reply!(CreateProcessReply, zero);

/// Ends the host process in the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct DestroyProcess;

wire_struct!(DestroyProcess = 0);
fixed_command!(DestroyProcess => NtStatus);

/// Tells the host where the I/O space is. The first message of a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SetIoSpaceRegion {
    /// Guest-physical start.
    pub start: u64,
    /// Bytes.
    pub length: u64,
    /// Zero.
    pub shared_page_gpadl: u32,
    /// Padding.
    pub _pad: u32,
}

wire_struct!(SetIoSpaceRegion = 24);
fixed_command!(SetIoSpaceRegion => NtStatus);

impl SetIoSpaceRegion {
    /// An I/O space.
    pub const fn new(start: u64, length: u64) -> Self {
        Self {
            start,
            length,
            shared_page_gpadl: 0,
            _pad: 0,
        }
    }
}
