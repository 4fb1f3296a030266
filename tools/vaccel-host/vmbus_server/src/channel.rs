// SPDX-License-Identifier: MIT OR Apache-2.0
//! Channels and their states.

use std::fmt;

use serde::Serialize;

use crate::guid::Guid;
use crate::protocol::USER_DATA_LEN;

/// The number of a channel: the "relid" of the protocol, which is also its bit in the guest's event
/// flags page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ChannelId(pub(crate) u16);

/// Numbers of channels: bits of an event flags page, without bit 0.
pub(crate) const CHANNEL_IDS: std::ops::RangeInclusive<u16> = 1..=2047;

/// Signal connections are this plus the number of the channel.
const EVENT_CONNECTION_BASE: u32 = 0x2000;

impl ChannelId {
    /// The number on the wire.
    pub fn relid(self) -> u32 {
        u32::from(self.0)
    }

    /// The channel with number `relid`, which need not exist.
    pub(crate) fn from_relid(relid: u32) -> Option<Self> {
        u16::try_from(relid)
            .ok()
            .filter(|relid| CHANNEL_IDS.contains(relid))
            .map(Self)
    }

    /// The connection that the guest signals for this channel.
    pub fn event_connection(self) -> u32 {
        EVENT_CONNECTION_BASE.saturating_add(self.relid())
    }

    /// The inverse of [`ChannelId::event_connection`].
    pub(crate) fn from_event_connection(connection: u32) -> Option<Self> {
        connection
            .checked_sub(EVENT_CONNECTION_BASE)
            .and_then(Self::from_relid)
    }
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "channel {}", self.0)
    }
}

/// What the host offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Kind of device, by which the guest finds a driver.
    pub class: Guid,
    /// This device.
    pub instance: Guid,
    /// Flags of the offer (`VMBUS_CHANNEL_*`).
    pub flags: u16,
    /// I/O space that the device wants from the guest, in MiB.
    pub mmio_megabytes: u16,
    /// For the guest's driver.
    pub user_data: [u8; USER_DATA_LEN],
}

impl Offer {
    /// An offer without flags, I/O space and user data.
    pub fn new(class: Guid, instance: Guid) -> Self {
        Self {
            class,
            instance,
            flags: 0,
            mmio_megabytes: 0,
            user_data: [0; USER_DATA_LEN],
        }
    }
}

/// What an open channel was opened with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OpenChannel {
    /// GPADL of the rings.
    pub(crate) ring_gpadl: u32,
    /// First page of the host's ring.
    pub(crate) downstream_page: u32,
    /// Processor to interrupt.
    pub(crate) target_vp: u32,
}

/// State of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChannelState {
    /// The guest does not know of it.
    Idle,
    /// The guest was told.
    Offered,
    /// The guest opened it.
    Open(OpenChannel),
    /// The guest was told that it is gone, and has not released its number yet.
    Rescinded,
}

impl ChannelState {
    /// For the snapshot and the log.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Offered => "offered",
            Self::Open(_) => "open",
            Self::Rescinded => "rescinded",
        }
    }

    /// Whether GPADLs may exist on the channel.
    pub(crate) fn takes_gpadls(self) -> bool {
        matches!(self, Self::Offered | Self::Open(_))
    }
}

/// A channel.
#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) offer: Offer,
    pub(crate) state: ChannelState,
    /// Signals of the guest since the channel was opened.
    pub(crate) signals_in: u64,
    /// Signals to the guest since the channel was opened.
    pub(crate) signals_out: u64,
}

impl Channel {
    pub(crate) fn new(offer: Offer) -> Self {
        Self {
            offer,
            state: ChannelState::Idle,
            signals_in: 0,
            signals_out: 0,
        }
    }
}
