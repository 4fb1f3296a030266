// SPDX-License-Identifier: GPL-2.0-only

//! Messages from the host (protocol 3.4 and 5).
//!
//! They arrive on the global channel, without an extended header, and are never completed.

use super::codes::GuestDataType;
use super::error::{DecodeError, EncodeError};
use super::handle::Handle;
use super::header::{ChannelType, CommandHeader};
use super::wire::{read, wire_struct, Bool8, Writer};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A guest event fired. Event ids are the guest's, valid in the whole VM, never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SignalGuestEvent {
    /// The event.
    pub event: u64,
    /// Not used.
    pub process_id: u64,
    /// Not used.
    pub dereference_event: Bool8,
    /// Padding.
    pub _pad: [u8; 7],
}

wire_struct!(SignalGuestEvent = 24);

impl SignalGuestEvent {
    /// An event fired.
    pub fn new(event: u64) -> Self {
        Self {
            event,
            ..Self::default()
        }
    }
}

/// The execution state of some device changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SetGuestData {
    /// The cookie given at the creation of the device.
    pub guest_pointer: u64,
    /// Data; 32 bits of it, not 0, in the only form guests act on.
    pub data: u64,
    /// Width of the data in bits 1 to 4.
    pub form: u32,
    /// Padding.
    pub _pad: u32,
}

wire_struct!(SetGuestData = 24);

impl SetGuestData {
    /// The message for devices created with this cookie.
    pub fn new(cookie: u64, data: u32) -> Self {
        Self {
            guest_pointer: cookie,
            data: u64::from(data),
            ..Self::default()
        }
    }

    /// Width of the data.
    pub const fn data_type(&self) -> GuestDataType {
        GuestDataType::from_raw(self.form >> 1 & 0xf)
    }

    /// The data, when it is 32 bits wide.
    pub fn data32(&self) -> Option<u32> {
        let [a, b, c, d, ..] = self.data.to_le_bytes();
        Some(u32::from_le_bytes([a, b, c, d])).filter(|_| self.data_type() == GuestDataType::DWORD)
    }
}

/// A message from the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A guest event fired.
    Signal(SignalGuestEvent),
    /// A guest event fired, to be handled outside of interrupt context.
    SignalPassive(SignalGuestEvent),
    /// The execution state of some device changed.
    SetGuestData(SetGuestData),
    /// A message a guest ignores, by its number.
    Other(u32),
}

impl Event {
    /// Length of the messages a guest acts on.
    pub const LEN: usize = 48;

    const SIGNAL: u32 = 0;
    const SET_GUEST_DATA: u32 = 2;
    const SIGNAL_PASSIVE: u32 = 3;

    /// The number in the header.
    pub const fn number(&self) -> u32 {
        match self {
            Self::Signal(_) => Self::SIGNAL,
            Self::SignalPassive(_) => Self::SIGNAL_PASSIVE,
            Self::SetGuestData(_) => Self::SET_GUEST_DATA,
            Self::Other(number) => *number,
        }
    }

    /// Guest: reads a message.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Short`] when its end is missing.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (header, rest): (CommandHeader, _) = read(bytes)?;
        Ok(match header.command_type {
            Self::SIGNAL => Self::Signal(read(rest)?.0),
            Self::SIGNAL_PASSIVE => Self::SignalPassive(read(rest)?.0),
            Self::SET_GUEST_DATA => Self::SetGuestData(read(rest)?.0),
            other => Self::Other(other),
        })
    }

    /// Host: writes a message and returns its length.
    ///
    /// # Errors
    ///
    /// [`EncodeError::NoRoom`] when `out` is too small.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, EncodeError> {
        let mut out = Writer::new(out);
        out.value(&CommandHeader::new(
            ChannelType::HostToGuest,
            false,
            Handle::NONE,
            self.number(),
        ))?;
        match self {
            Self::Signal(body) | Self::SignalPassive(body) => out.value(body)?,
            Self::SetGuestData(body) => out.value(body)?,
            Self::Other(_) => {}
        }
        Ok(out.written())
    }
}
