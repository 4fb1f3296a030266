// SPDX-License-Identifier: MIT OR Apache-2.0
//! Connecting, offers, disconnecting.
//!
//! A guest asks for versions from the newest it knows downwards until one is accepted. A contact of a
//! connected guest means that a new kernel took over (kexec, crash): it ends the old connection.
//!
//! Client identifiers and feature flags came with 6.0, which is not served: both are ignored, as by a
//! host that is older.

use zerocopy::little_endian::{U16, U32};

use super::{Server, MESSAGE_CONNECTION_V5};
use crate::channel::{ChannelId, ChannelState};
use crate::connection::{Connection, Contact, OfferPhase};
use crate::effects::{CloseReason, Effects, SynicMessage, VMBUS_SINT};
use crate::gpadl::GpadlState;
use crate::protocol::{encode, encode_header, kind, InitiateContact, VersionResponse};
use crate::version::Version;

/// Interrupts of a SynIC.
const SINTS: std::ops::RangeInclusive<u8> = 1..=15;

impl Server {
    pub(super) fn on_contact(&mut self, message: &InitiateContact, fx: &mut dyn Effects) {
        if self.connection.contact().is_some() {
            self.log.note(format_args!("the guest connects anew"));
            self.disconnect(None, fx);
        }
        let version = Version(message.version.get());
        let vp = message.target_vp.get();
        if vp >= self.config.vp_count {
            self.log.complain(format_args!(
                "contact for processor {vp}, which does not exist"
            ));
            return;
        }
        let (sint, vtl) = if version >= Version::V5_0 {
            (message.sint, message.vtl)
        } else {
            (VMBUS_SINT, 0)
        };
        let usable = SINTS.contains(&sint) && vtl == 0;
        if !usable {
            self.log.complain(format_args!(
                "contact for interrupt {sint}, trust level {vtl}"
            ));
        }
        let accepted = usable && version.is_served() && version <= self.config.max_version;
        let response = VersionResponse {
            supported: accepted.into(),
            state: 0,
            padding: U16::new(0),
            version_or_connection: U32::new(match accepted {
                true if version >= Version::V5_0 => MESSAGE_CONNECTION_V5,
                true => version.0,
                false => 0,
            }),
        };
        let sint = if usable { sint } else { VMBUS_SINT };
        if accepted {
            self.log.note(format_args!(
                "guest connected: VMBus {version}, processor {vp}"
            ));
            self.connection = Connection::Connected(Contact {
                version,
                vp,
                sint,
                offers: OfferPhase::Waiting,
            });
        } else {
            tracing::debug!(%version, "version refused");
        }
        let response = encode(kind::VERSION_RESPONSE, &response);
        self.outbox.push(SynicMessage::new(vp, sint, response), fx);
    }

    pub(super) fn on_request_offers(&mut self, fx: &mut dyn Effects) {
        match &mut self.connection {
            Connection::Connected(contact) if contact.offers == OfferPhase::Waiting => {
                contact.offers = OfferPhase::Requested;
            }
            _ => {
                self.log
                    .complain(format_args!("ignored a second request for offers"));
                return;
            }
        }
        let ids: Vec<ChannelId> = self.channels.keys().copied().collect();
        for id in ids {
            self.announce(id, fx);
        }
        self.send(encode_header(kind::ALL_OFFERS_DELIVERED), fx);
    }

    pub(super) fn on_unload(&mut self, fx: &mut dyn Effects) {
        if let Some(contact) = self.connection.contact() {
            self.log.note(format_args!("guest disconnected"));
            self.disconnect(None, fx);
            let message = encode_header(kind::UNLOAD_RESPONSE);
            self.outbox
                .push(SynicMessage::new(contact.vp, contact.sint, message), fx);
        }
    }

    /// The machine was reset: ends the connection without a word to the guest.
    pub fn reset(&mut self, fx: &mut dyn Effects) {
        self.check_invariants();
        self.disconnect(None, fx);
        self.check_invariants();
    }

    /// Closes all channels, revokes all GPADLs and forgets the guest.
    pub(super) fn disconnect(&mut self, reason: Option<String>, fx: &mut dyn Effects) {
        self.connection = Connection::Disconnected { reason };
        self.outbox.clear();
        let states: Vec<(ChannelId, ChannelState)> = self
            .channels
            .iter()
            .map(|(id, channel)| (*id, channel.state))
            .collect();
        for (id, state) in states {
            match state {
                ChannelState::Idle => {}
                ChannelState::Offered => self.set_state(id, ChannelState::Idle),
                ChannelState::Open(_) => {
                    self.set_state(id, ChannelState::Idle);
                    fx.channel_closed(id, CloseReason::Disconnected);
                }
                ChannelState::Rescinded => {
                    self.channels.remove(&id);
                    fx.channel_released(id);
                }
            }
            self.revoke_gpadls(id, fx);
        }
    }

    /// Drops the GPADLs of `channel`.
    pub(super) fn revoke_gpadls(&mut self, channel: ChannelId, fx: &mut dyn Effects) {
        for handle in self.gpadls.of_channel(channel) {
            let Some(gpadl) = self.gpadls.remove(handle) else {
                continue;
            };
            if !matches!(gpadl.state, GpadlState::Assembling { .. }) {
                fx.gpadl_revoked(channel, handle);
            }
        }
    }
}
