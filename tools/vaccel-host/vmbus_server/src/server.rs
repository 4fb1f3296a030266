// SPDX-License-Identifier: MIT OR Apache-2.0
//! The server: entry points, dispatch of guest messages, invariants.

mod channels;
mod connection;
mod gpadls;

use std::collections::BTreeMap;
use std::sync::Arc;

use guest_memory::{GuestMemory, GuestRanges};

use crate::channel::{Channel, ChannelId, ChannelState};
use crate::connection::Connection;
use crate::effects::{Effects, SynicMessage, VMBUS_SINT};
use crate::gpadl::{GpadlState, GpadlTable};
use crate::guest_log::GuestLog;
use crate::outbox::Outbox;
use crate::protocol::{GuestMessage, ParseError, MAX_MESSAGE};
use crate::version::Version;

pub use channels::{OfferError, UnknownChannel};

/// Connection for messages of versions before 5.0.
const MESSAGE_CONNECTION: u32 = 1;
/// Connection for messages of version 5.0 and later.
const MESSAGE_CONNECTION_V5: u32 = 4;
/// SynIC message type of VMBus messages.
const MESSAGE_TYPE: u32 = 1;

/// Status of a request that succeeded.
const STATUS_SUCCESS: u32 = 0;
/// Status of a request that failed; guests only look whether it is 0.
const STATUS_UNSUCCESSFUL: u32 = 0xC000_0001;

/// What a guest may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Channels, rescinded ones that the guest has not released included.
    pub channels: usize,
    /// GPADLs, incomplete ones included.
    pub gpadls: usize,
    /// 8-byte words in the page lists of all GPADLs; a page is one word.
    pub gpadl_words: u64,
}

impl Default for Limits {
    /// 64 channels, 4096 GPADLs, page lists for 4 GiB (8 MiB of host memory).
    fn default() -> Self {
        Self {
            channels: 64,
            gpadls: 4096,
            gpadl_words: 1 << 20,
        }
    }
}

/// What a [`Server`] is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerConfig {
    /// Virtual processors, numbered from 0.
    pub vp_count: u32,
    /// Newest version that is accepted.
    pub max_version: Version,
    /// What a guest may use.
    pub limits: Limits,
}

impl ServerConfig {
    /// The newest version and the default limits for a guest with `vp_count` processors.
    pub fn new(vp_count: u32) -> Self {
        Self {
            vp_count,
            max_version: Version::V5_3,
            limits: Limits::default(),
        }
    }
}

/// Why a message was not taken from the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PostError {
    /// No such connection. A guest also learns in this way which versions there are.
    #[error("message connection {connection:#x} does not exist")]
    UnknownConnection {
        /// The connection.
        connection: u32,
    },
    /// The hypercall's input is not a VMBus message.
    #[error("message type {message_type}, {len} bytes: not type 1 with at most 240 bytes")]
    Malformed {
        /// SynIC message type.
        message_type: u32,
        /// Length of the payload.
        len: usize,
    },
    /// Answers wait; the guest must try again.
    #[error("answers wait for a message slot")]
    Busy,
}

impl PostError {
    /// Result of the guest's hypercall (`HV_STATUS_*`).
    pub fn hypercall_status(self) -> u16 {
        match self {
            Self::Malformed { .. } => 0x05,
            Self::UnknownConnection { .. } => 0x12,
            Self::Busy => 0x13,
        }
    }
}

/// The guest signalled a connection that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("event connection {connection:#x}, flag {flag} does not exist")]
pub struct UnknownConnection {
    /// The connection.
    pub connection: u32,
    /// The flag.
    pub flag: u16,
}

impl UnknownConnection {
    /// Result of the guest's hypercall (`HV_STATUS_INVALID_CONNECTION_ID`).
    pub fn hypercall_status(self) -> u16 {
        0x12
    }
}

/// How the guest broke the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Violation {
    #[error(transparent)]
    Parse(#[from] ParseError),
    #[error("message for channel {relid}, which was not offered")]
    UnknownChannel { relid: u32 },
    #[error("{channel} opened while {state}")]
    OpenedTwice {
        channel: ChannelId,
        state: &'static str,
    },
    #[error("{channel} released while open")]
    ReleasedOpen { channel: ChannelId },
    #[error("{channel}: gpadl {handle:#x} taken back while it holds the rings")]
    RingTakenBack { channel: ChannelId, handle: u32 },
    #[error("{channel}: gpadl {handle:#x} belongs to {owner}")]
    ForeignGpadl {
        channel: ChannelId,
        handle: u32,
        owner: ChannelId,
    },
}

impl Violation {
    /// The channel that pays for it; `None` if it is the connection.
    fn channel(self) -> Option<ChannelId> {
        match self {
            Self::Parse(_) | Self::UnknownChannel { .. } => None,
            Self::OpenedTwice { channel, .. }
            | Self::ReleasedOpen { channel }
            | Self::RingTakenBack { channel, .. }
            | Self::ForeignGpadl { channel, .. } => Some(channel),
        }
    }
}

/// The host's side of the VMBus control plane. See the [crate] for an overview.
pub struct Server {
    pub(crate) config: ServerConfig,
    memory: Arc<dyn GuestMemory>,
    pub(crate) connection: Connection,
    pub(crate) channels: BTreeMap<ChannelId, Channel>,
    pub(crate) gpadls: GpadlTable,
    pub(crate) outbox: Outbox,
    pub(crate) log: GuestLog,
    pub(crate) received: u64,
    last_id: u16,
}

impl Server {
    /// Makes a server without channels for the guest whose memory is `memory`.
    pub fn new(config: ServerConfig, memory: Arc<dyn GuestMemory>) -> Self {
        Self {
            config,
            memory,
            connection: Connection::Disconnected { reason: None },
            channels: BTreeMap::new(),
            gpadls: GpadlTable::new(config.limits.gpadls, config.limits.gpadl_words),
            outbox: Outbox::default(),
            log: GuestLog::default(),
            received: 0,
            last_id: 0,
        }
    }

    /// The connections that take messages. They do not change, so that a processor's thread can
    /// answer a hypercall for another one by itself.
    pub fn message_connections(&self) -> &'static [u32] {
        if self.config.max_version >= Version::V5_0 {
            &[MESSAGE_CONNECTION, MESSAGE_CONNECTION_V5]
        } else {
            &[MESSAGE_CONNECTION]
        }
    }

    /// Whether a guest message is taken now: none while an answer waits.
    pub fn can_accept(&self) -> bool {
        self.outbox.is_empty()
    }

    /// Takes a message of the guest (`HvPostMessage`).
    ///
    /// # Errors
    ///
    /// The message was not taken; [`PostError::hypercall_status`] is for the guest. What is wrong
    /// *in* a message is not an error here: the server deals with it.
    pub fn post_message(
        &mut self,
        connection: u32,
        message_type: u32,
        payload: &[u8],
        fx: &mut dyn Effects,
    ) -> Result<(), PostError> {
        if !self.message_connections().contains(&connection) {
            return Err(PostError::UnknownConnection { connection });
        }
        if message_type != MESSAGE_TYPE || payload.len() > MAX_MESSAGE {
            return Err(PostError::Malformed {
                message_type,
                len: payload.len(),
            });
        }
        if !self.can_accept() {
            return Err(PostError::Busy);
        }
        self.check_invariants();
        self.received = self.received.saturating_add(1);
        if let Err(violation) = self.dispatch(payload, fx) {
            self.punish(violation, fx);
        }
        self.check_invariants();
        Ok(())
    }

    /// Goes on after a message slot of the guest became free.
    pub fn retry_messages(&mut self, fx: &mut dyn Effects) {
        self.outbox.flush(fx);
    }

    /// Takes a signal of the guest (`HvSignalEvent`) and returns the open channel that it is for;
    /// its rings want to be polled.
    ///
    /// # Errors
    ///
    /// Fails if there is no channel with this connection.
    pub fn signal_event(
        &mut self,
        connection: u32,
        flag: u16,
    ) -> Result<Option<ChannelId>, UnknownConnection> {
        let unknown = UnknownConnection { connection, flag };
        let id = ChannelId::from_event_connection(connection)
            .filter(|_| flag == 0)
            .ok_or(unknown)?;
        let channel = self.channels.get_mut(&id).ok_or(unknown)?;
        if !matches!(channel.state, ChannelState::Open(_)) {
            return Ok(None);
        }
        channel.signals_in = channel.signals_in.saturating_add(1);
        Ok(Some(id))
    }

    /// Interrupts the guest for `id` and returns whether the channel is open.
    pub fn signal_guest(&mut self, id: ChannelId, fx: &mut dyn Effects) -> bool {
        match self.channels.get_mut(&id) {
            Some(Channel {
                state: ChannelState::Open(open),
                signals_out,
                ..
            }) => {
                *signals_out = signals_out.saturating_add(1);
                fx.signal_event(open.target_vp, VMBUS_SINT, id.0);
                true
            }
            _ => false,
        }
    }

    /// The memory of GPADL `handle` of `channel`, unless the guest has asked for it back.
    pub fn gpadl(&self, channel: ChannelId, handle: u32) -> Option<&GuestRanges> {
        self.gpadls.ready(channel, handle)
    }

    fn dispatch(&mut self, payload: &[u8], fx: &mut dyn Effects) -> Result<(), Violation> {
        let message = match GuestMessage::parse(payload) {
            Ok(message) => message,
            Err(error @ ParseError::NotFromGuest { .. }) => {
                self.log.complain(format_args!("ignored: {error}"));
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        tracing::trace!(?message, "guest message");
        if let GuestMessage::InitiateContact(contact) = message {
            self.on_contact(&contact, fx);
            return Ok(());
        }
        if self.connection.contact().is_none() {
            self.log.complain(format_args!(
                "ignored a message of a guest that is not connected"
            ));
            return Ok(());
        }
        match message {
            // Taken above.
            GuestMessage::InitiateContact(_) => Ok(()),
            GuestMessage::RequestOffers => {
                self.on_request_offers(fx);
                Ok(())
            }
            GuestMessage::Unload => {
                self.on_unload(fx);
                Ok(())
            }
            GuestMessage::TlConnect => {
                tracing::debug!("ignored a socket request");
                Ok(())
            }
            GuestMessage::OpenChannel(request) => self.on_open(&request, fx),
            GuestMessage::CloseChannel(request) => self.on_close(request.relid.get(), fx),
            GuestMessage::RelidReleased(request) => self.on_released(request.relid.get(), fx),
            GuestMessage::ModifyChannel(request) => self.on_modify(&request, fx),
            GuestMessage::GpadlHeader(header, words) => self.on_gpadl_header(&header, words, fx),
            GuestMessage::GpadlBody(body, words) => {
                self.on_gpadl_part(body.handle.get(), words, fx);
                Ok(())
            }
            GuestMessage::GpadlTeardown(request) => self.on_gpadl_teardown(&request, fx),
        }
    }

    /// Ends the channel or the connection of a guest that broke the protocol.
    fn punish(&mut self, violation: Violation, fx: &mut dyn Effects) {
        match violation.channel() {
            Some(channel) => self.fail_channel(channel, &violation.to_string(), fx),
            None => {
                self.log.complain(format_args!("disconnected: {violation}"));
                self.disconnect(Some(violation.to_string()), fx);
            }
        }
    }

    /// Sends `message` to the connected guest.
    fn send(&mut self, message: Vec<u8>, fx: &mut dyn Effects) {
        if let Some(contact) = self.connection.contact() {
            let message = SynicMessage::new(contact.vp, contact.sint, message);
            self.outbox.push(message, fx);
        }
    }

    /// The channel that the guest means, which it must have been told of.
    fn known(&self, relid: u32) -> Result<(ChannelId, ChannelState), Violation> {
        let unknown = Violation::UnknownChannel { relid };
        let id = ChannelId::from_relid(relid).ok_or(unknown)?;
        let channel = self.channels.get(&id).ok_or(unknown)?;
        match channel.state {
            ChannelState::Idle => Err(unknown),
            state => Ok((id, state)),
        }
    }

    fn set_state(&mut self, id: ChannelId, state: ChannelState) {
        if let Some(channel) = self.channels.get_mut(&id) {
            tracing::debug!(channel = id.0, state = state.name(), "channel");
            channel.state = state;
        }
    }

    /// Stops a debug build whose state contradicts itself.
    fn check_invariants(&self) {
        if !cfg!(debug_assertions) {
            return;
        }
        let limits = &self.config.limits;
        debug_assert!(self.gpadls.is_consistent(), "gpadl accounting");
        debug_assert!(self.channels.len() <= limits.channels, "channel limit");
        debug_assert!(
            self.outbox.len() <= Outbox::bound(limits.channels, limits.gpadls),
            "messages waiting"
        );
        for (handle, gpadl) in self.gpadls.iter() {
            let owner = self.channels.get(&gpadl.channel);
            debug_assert!(
                owner.is_some_and(|channel| channel.state.takes_gpadls()),
                "gpadl {handle:#x} without channel"
            );
        }
        for (id, channel) in &self.channels {
            match channel.state {
                ChannelState::Idle => {}
                _ => debug_assert!(self.connection.contact().is_some(), "{id} without guest"),
            }
            if let ChannelState::Open(open) = channel.state {
                let ring = self.gpadls.get(open.ring_gpadl);
                debug_assert!(
                    ring.is_some_and(
                        |gpadl| gpadl.channel == *id && matches!(gpadl.state, GpadlState::Ready(_))
                    ),
                    "{id} without rings"
                );
                debug_assert!(open.target_vp < self.config.vp_count, "{id} target");
            }
        }
    }
}

#[cfg(test)]
mod tests;
