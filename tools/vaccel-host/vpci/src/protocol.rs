// SPDX-License-Identifier: MIT OR Apache-2.0
//! Messages: layouts, parser, encoders.

use zerocopy::little_endian::{I32, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::version::Version;

/// Class of the channel, {44C4F61D-4444-4400-9D52-802E27EDE19F}, in the byte order of the wire.
pub const CHANNEL_CLASS: [u8; 16] = [
    0x1D, 0xF6, 0xC4, 0x44, 0x44, 0x44, 0x00, 0x44, 0x9D, 0x52, 0x80, 0x2E, 0x27, 0xED, 0xE1, 0x9F,
];

/// Statuses that answers have.
pub mod status {
    /// Done.
    pub const SUCCESS: u32 = 0;
    /// A member of the message is wrong, or it is too short.
    pub const INVALID_PARAMETER: u32 = 0xC000_000D;
    /// There is no function in that slot.
    pub const NO_SUCH_DEVICE: u32 = 0xC000_000E;
    /// The host does not speak that version.
    pub const REVISION_MISMATCH: u32 = 0xC000_0059;
    /// There is no such message, or the function has nothing of the kind.
    pub const NOT_SUPPORTED: u32 = 0xC000_00BB;
    /// Not now.
    pub const INVALID_DEVICE_STATE: u32 = 0xC000_0184;
}

const BASE: u32 = 0x4249_0000;

/// Kinds of messages that are acted on.
pub(crate) mod kind {
    use super::BASE;

    pub const BUS_RELATIONS: u32 = BASE;
    pub const QUERY_BUS_RELATIONS: u32 = BASE | 0x01;
    pub const QUERY_RESOURCE_REQUIREMENTS: u32 = BASE | 0x05;
    pub const BUS_D0_ENTRY: u32 = BASE | 0x07;
    pub const BUS_D0_EXIT: u32 = BASE | 0x08;
    pub const EJECT: u32 = BASE | 0x0B;
    pub const EJECTION_COMPLETE: u32 = BASE | 0x0F;
    pub const RESOURCES_ASSIGNED: u32 = BASE | 0x10;
    pub const RESOURCES_RELEASED: u32 = BASE | 0x11;
    pub const QUERY_PROTOCOL_VERSION: u32 = BASE | 0x13;
    pub const CREATE_INTERRUPT: u32 = BASE | 0x14;
    pub const DELETE_INTERRUPT: u32 = BASE | 0x15;
    pub const RESOURCES_ASSIGNED2: u32 = BASE | 0x16;
    pub const CREATE_INTERRUPT2: u32 = BASE | 0x17;
    pub const DELETE_INTERRUPT2: u32 = BASE | 0x18;
    pub const BUS_RELATIONS2: u32 = BASE | 0x19;
    pub const CREATE_INTERRUPT3: u32 = BASE | 0x1B;
}

/// Names of kinds, by their distance from the first.
const NAMES: [&str; 0x1C] = [
    "BUS_RELATIONS",
    "QUERY_BUS_RELATIONS",
    "",
    "",
    "POWER_STATE_CHANGE",
    "QUERY_RESOURCE_REQUIREMENTS",
    "QUERY_RESOURCE_RESOURCES",
    "BUS_D0ENTRY",
    "BUS_D0EXIT",
    "READ_BLOCK",
    "WRITE_BLOCK",
    "EJECT",
    "QUERY_STOP",
    "REENABLE",
    "QUERY_STOP_FAILED",
    "EJECTION_COMPLETE",
    "RESOURCES_ASSIGNED",
    "RESOURCES_RELEASED",
    "INVALIDATE_BLOCK",
    "QUERY_PROTOCOL_VERSION",
    "CREATE_INTERRUPT_MESSAGE",
    "DELETE_INTERRUPT_MESSAGE",
    "RESOURCES_ASSIGNED2",
    "CREATE_INTERRUPT_MESSAGE2",
    "DELETE_INTERRUPT_MESSAGE2",
    "BUS_RELATIONS2",
    "RESOURCES_ASSIGNED3",
    "CREATE_INTERRUPT_MESSAGE3",
];

/// The number of the kind of a message, if it is long enough to have one.
pub fn number(payload: &[u8]) -> Option<u32> {
    payload
        .first_chunk::<4>()
        .map(|bytes| u32::from_le_bytes(*bytes))
}

/// The name of a kind of message.
pub fn name(number: u32) -> Option<&'static str> {
    let at = usize::try_from(number.checked_sub(BASE)?).ok()?;
    NAMES.get(at).copied().filter(|name| !name.is_empty())
}

/// What the bus says of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Function {
    /// PCI vendor id.
    pub vendor: u16,
    /// PCI device id.
    pub device: u16,
    /// Base class, subclass and interface as one 24-bit number.
    pub class: u32,
    /// A number that no other function of the VM has.
    pub serial: u32,
}

/// The slot of the only function of a bus: device 0, function 0.
pub(crate) const SLOT: u32 = 0;

#[derive(Debug, Clone, Copy, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct VersionRequest {
    pub kind: U32,
    pub version: U32,
}

#[derive(Debug, Clone, Copy, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct D0Entry {
    pub kind: U32,
    pub reserved: U32,
    pub base: U64,
}

/// A message about one function; what is behind is not looked at.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct Child {
    pub kind: U32,
    pub slot: U32,
}

#[derive(Debug, Clone, Copy, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct Assigned {
    pub child: Child,
    /// Not used, as by Windows.
    ranges: [[u8; 6]; 0x14],
    pub interrupts: U32,
    reserved: [u8; 16],
}

#[derive(Debug, Clone, Copy, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct Assigned2 {
    pub child: Child,
    ranges: [[u8; 6]; 0x14],
    pub interrupts: U32,
    reserved: [u8; 70],
}

#[derive(Debug, Clone, Copy, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct EjectionComplete {
    pub child: Child,
    pub status: I32,
}

/// A message of the guest that this crate knows.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Request<'a> {
    Version(&'a VersionRequest),
    QueryRelations,
    QueryRequirements(&'a Child),
    EnterD0(&'a D0Entry),
    ExitD0,
    Assigned(&'a Child, u32),
    Released(&'a Child),
    CreateInterrupt(&'a Child),
    DeleteInterrupt(&'a Child),
    EjectionComplete(&'a EjectionComplete),
}

/// Why a message was not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ParseError {
    #[error("{kind:#x}: {len} bytes are too few")]
    Short { kind: u32, len: usize },
    #[error("{kind:#x} is no message of the guest in this version")]
    Unknown { kind: u32 },
}

impl ParseError {
    pub fn status(self) -> u32 {
        match self {
            Self::Short { .. } => status::INVALID_PARAMETER,
            Self::Unknown { .. } => status::NOT_SUPPORTED,
        }
    }
}

impl<'a> Request<'a> {
    /// Takes a message of a guest that speaks `version`, or none yet, apart.
    pub fn parse(payload: &'a [u8], version: Option<Version>) -> Result<Self, ParseError> {
        let len = payload.len();
        let kind = number(payload).ok_or(ParseError::Short { kind: 0, len })?;
        let short = ParseError::Short { kind, len };
        // What came with a version is no message of an older one.
        let since = |first| match version {
            Some(version) if version >= first => Ok(()),
            _ => Err(ParseError::Unknown { kind }),
        };
        let request = match kind {
            kind::QUERY_PROTOCOL_VERSION => Self::Version(prefix(payload).ok_or(short)?),
            kind::QUERY_BUS_RELATIONS => Self::QueryRelations,
            kind::QUERY_RESOURCE_REQUIREMENTS => {
                Self::QueryRequirements(prefix(payload).ok_or(short)?)
            }
            kind::BUS_D0_ENTRY => Self::EnterD0(prefix(payload).ok_or(short)?),
            kind::BUS_D0_EXIT => Self::ExitD0,
            kind::RESOURCES_ASSIGNED => {
                let message: &Assigned = prefix(payload).ok_or(short)?;
                Self::Assigned(&message.child, message.interrupts.get())
            }
            kind::RESOURCES_ASSIGNED2 => {
                since(Version::V1_2)?;
                let message: &Assigned2 = prefix(payload).ok_or(short)?;
                Self::Assigned(&message.child, message.interrupts.get())
            }
            kind::RESOURCES_RELEASED => Self::Released(prefix(payload).ok_or(short)?),
            kind::EJECTION_COMPLETE => Self::EjectionComplete(prefix(payload).ok_or(short)?),
            kind::CREATE_INTERRUPT => Self::CreateInterrupt(prefix(payload).ok_or(short)?),
            kind::CREATE_INTERRUPT2 => {
                since(Version::V1_2)?;
                Self::CreateInterrupt(prefix(payload).ok_or(short)?)
            }
            kind::CREATE_INTERRUPT3 => {
                since(Version::V1_4)?;
                Self::CreateInterrupt(prefix(payload).ok_or(short)?)
            }
            kind::DELETE_INTERRUPT => Self::DeleteInterrupt(prefix(payload).ok_or(short)?),
            kind::DELETE_INTERRUPT2 => {
                since(Version::V1_2)?;
                Self::DeleteInterrupt(prefix(payload).ok_or(short)?)
            }
            _ => return Err(ParseError::Unknown { kind }),
        };
        Ok(request)
    }
}

fn prefix<T: FromBytes + KnownLayout + Immutable + Unaligned>(payload: &[u8]) -> Option<&T> {
    T::ref_from_prefix(payload).ok().map(|(message, _)| message)
}

#[derive(Debug, Clone, Copy, IntoBytes, Immutable, Unaligned)]
#[repr(C)]
struct Description {
    vendor: U16,
    device: U16,
    revision: u8,
    /// Interface, subclass, base class.
    class: [u8; 3],
    subsystem: U32,
    slot: U32,
    serial: U32,
}

#[derive(Debug, Clone, Copy, IntoBytes, Immutable, Unaligned)]
#[repr(C)]
struct Description2 {
    description: Description,
    /// No NUMA node is given.
    flags: U32,
    node: U16,
    reserved: U16,
}

/// The message that says what is on the bus: `function`, or nothing.
pub(crate) fn relations(version: Version, function: Option<Function>) -> Vec<u8> {
    let second = version >= Version::V1_3;
    let kind = if second {
        kind::BUS_RELATIONS2
    } else {
        kind::BUS_RELATIONS
    };
    let count = u32::from(function.is_some());
    let mut message = [kind, count].map(u32::to_le_bytes).concat();
    if let Some(function) = function {
        let [interface, subclass, base, _] = function.class.to_le_bytes();
        let description = Description {
            vendor: U16::new(function.vendor),
            device: U16::new(function.device),
            revision: 0,
            class: [interface, subclass, base],
            subsystem: U32::new(0),
            slot: U32::new(SLOT),
            serial: U32::new(function.serial),
        };
        if second {
            let description = Description2 {
                description,
                flags: U32::new(0),
                node: U16::new(0),
                reserved: U16::new(0),
            };
            message.extend_from_slice(description.as_bytes());
        } else {
            message.extend_from_slice(description.as_bytes());
        }
    }
    message
}

/// The message that asks the guest to let go of the function.
pub(crate) fn eject() -> Vec<u8> {
    let message = Child {
        kind: U32::new(kind::EJECT),
        slot: U32::new(SLOT),
    };
    message.as_bytes().to_vec()
}

/// Length of an answer about resources: a status, and six BARs.
pub(crate) const REQUIREMENTS_LEN: usize = 28;
/// Length of an answer about an interrupt: a status, a reserved dword, and the interrupt.
pub(crate) const INTERRUPT_LEN: usize = 24;

/// An answer of `len` bytes that starts with a status and is otherwise zero.
pub(crate) fn answer(status: u32, len: usize) -> Vec<u8> {
    let mut answer = status.to_le_bytes().to_vec();
    answer.resize(len.max(answer.len()), 0);
    answer
}

#[cfg(test)]
mod tests;
