// SPDX-License-Identifier: MIT OR Apache-2.0
//! The server's state as data, for the census and for debugging.

use serde::Serialize;

use crate::channel::{ChannelId, ChannelState};
use crate::connection::Connection;
use crate::gpadl::GpadlState;
use crate::guid::Guid;
use crate::server::Server;
use crate::version::Version;

/// State of a [`Server`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServerSnapshot {
    /// The connection.
    pub connection: ConnectionSnapshot,
    /// Channels, by number.
    pub channels: Vec<ChannelSnapshot>,
    /// GPADLs, by handle.
    pub gpadls: Vec<GpadlSnapshot>,
    /// Messages taken from the guest.
    pub messages_received: u64,
    /// Messages delivered to the guest.
    pub messages_sent: u64,
    /// Messages that wait for a SynIC slot.
    pub messages_waiting: usize,
    /// Times that the guest did something wrong or odd.
    pub complaints: u64,
}

/// State of the connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum ConnectionSnapshot {
    /// No guest is connected.
    Disconnected {
        /// Why the last connection ended, if the guest broke the protocol.
        reason: Option<String>,
    },
    /// A guest is connected.
    Connected {
        /// Protocol version.
        version: Version,
        /// Processor that takes the host's messages.
        vp: u32,
        /// Interrupt that announces them.
        sint: u8,
    },
}

/// State of a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChannelSnapshot {
    /// Its number.
    pub channel: ChannelId,
    /// Kind of device.
    pub class: Guid,
    /// The device.
    pub instance: Guid,
    /// "idle", "offered", "open" or "rescinded".
    pub state: &'static str,
    /// What it was opened with.
    pub open: Option<OpenSnapshot>,
    /// Signals of the guest since it was opened.
    pub signals_in: u64,
    /// Signals to the guest since it was opened.
    pub signals_out: u64,
}

/// What an open channel was opened with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct OpenSnapshot {
    /// GPADL of the rings.
    pub ring_gpadl: u32,
    /// First page of the host's ring.
    pub downstream_page: u32,
    /// Processor to interrupt.
    pub target_vp: u32,
}

/// State of a GPADL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct GpadlSnapshot {
    /// Its handle.
    pub handle: u32,
    /// Its channel.
    pub channel: ChannelId,
    /// "assembling", "ready" or "tearing-down".
    pub state: &'static str,
    /// Length in bytes; unknown while it is assembled.
    pub bytes: Option<u64>,
}

impl Server {
    /// The state as data.
    pub fn snapshot(&self) -> ServerSnapshot {
        ServerSnapshot {
            connection: match &self.connection {
                Connection::Disconnected { reason } => ConnectionSnapshot::Disconnected {
                    reason: reason.clone(),
                },
                Connection::Connected(contact) => ConnectionSnapshot::Connected {
                    version: contact.version,
                    vp: contact.vp,
                    sint: contact.sint,
                },
            },
            channels: self.channel_snapshots(),
            gpadls: self.gpadl_snapshots(),
            messages_received: self.received,
            messages_sent: self.outbox.sent(),
            messages_waiting: self.outbox.len(),
            complaints: self.log.complaints(),
        }
    }

    fn channel_snapshots(&self) -> Vec<ChannelSnapshot> {
        self.channels
            .iter()
            .map(|(id, channel)| ChannelSnapshot {
                channel: *id,
                class: channel.offer.class,
                instance: channel.offer.instance,
                state: channel.state.name(),
                open: match channel.state {
                    ChannelState::Open(open) => Some(OpenSnapshot {
                        ring_gpadl: open.ring_gpadl,
                        downstream_page: open.downstream_page,
                        target_vp: open.target_vp,
                    }),
                    _ => None,
                },
                signals_in: channel.signals_in,
                signals_out: channel.signals_out,
            })
            .collect()
    }

    fn gpadl_snapshots(&self) -> Vec<GpadlSnapshot> {
        self.gpadls
            .iter()
            .map(|(handle, gpadl)| {
                let (state, bytes) = match &gpadl.state {
                    GpadlState::Assembling { .. } => ("assembling", None),
                    GpadlState::Ready(ranges) => ("ready", Some(ranges.len())),
                    GpadlState::TearingDown(ranges) => ("tearing-down", Some(ranges.len())),
                };
                GpadlSnapshot {
                    handle,
                    channel: gpadl.channel,
                    state,
                    bytes,
                }
            })
            .collect()
    }
}
