// SPDX-License-Identifier: MIT OR Apache-2.0
//! Offering, opening, closing, rescinding.

use std::sync::Arc;

use vmbus_ring::ChannelRings;
use zerocopy::little_endian::{U16, U32, U64};

use super::{Server, Violation, STATUS_SUCCESS, STATUS_UNSUCCESSFUL};
use crate::channel::{Channel, ChannelId, ChannelState, Offer, OpenChannel, CHANNEL_IDS};
use crate::connection::OfferPhase;
use crate::effects::{CloseReason, Effects, OpenRefused, Opened};
use crate::protocol::{
    encode, kind, ModifyChannel, ModifyChannelResponse, OfferChannel, OpenRequest, OpenResult,
    RelidOnly,
};
use crate::version::Version;

/// Monitor number of a channel without one.
const NO_MONITOR: u8 = 0xff;

/// Why an offer was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// As many channels as the limits allow exist.
    #[error("{count} channels exist, which is the limit")]
    TooMany {
        /// Channels.
        count: usize,
    },
    /// The device is offered already, or rescinded and not yet released by the guest, which would
    /// take the offer for a sub-channel.
    #[error("the same device is {state} as {channel}")]
    Duplicate {
        /// Its channel.
        channel: ChannelId,
        /// The channel's state.
        state: &'static str,
    },
}

/// There is no such channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{channel} does not exist")]
pub struct UnknownChannel {
    /// The channel.
    pub channel: ChannelId,
}

impl Server {
    /// Offers a channel. A guest that has asked for offers is told at once, others when they ask.
    ///
    /// # Errors
    ///
    /// Fails if there is no room, or if the device has a channel already.
    pub fn offer(&mut self, offer: Offer, fx: &mut dyn Effects) -> Result<ChannelId, OfferError> {
        self.check_invariants();
        let too_many = OfferError::TooMany {
            count: self.channels.len(),
        };
        if self.channels.len() >= self.config.limits.channels {
            return Err(too_many);
        }
        let same = self.channels.iter().find(|(_, channel)| {
            channel.offer.class == offer.class && channel.offer.instance == offer.instance
        });
        if let Some((id, channel)) = same {
            return Err(OfferError::Duplicate {
                channel: *id,
                state: channel.state.name(),
            });
        }
        let id = self.free_id().ok_or(too_many)?;
        self.last_id = id.0;
        self.channels.insert(id, Channel::new(offer));
        let wanted = self.connection.contact().map(|contact| contact.offers);
        if wanted == Some(OfferPhase::Requested) {
            self.announce(id, fx);
        }
        self.check_invariants();
        Ok(id)
    }

    /// Takes an offer back: the channel is closed and its GPADLs are revoked before this returns. It
    /// exists until [`Effects::channel_released`].
    ///
    /// # Errors
    ///
    /// Fails if there is no such channel.
    pub fn rescind(
        &mut self,
        channel: ChannelId,
        fx: &mut dyn Effects,
    ) -> Result<(), UnknownChannel> {
        self.check_invariants();
        let state = self
            .channels
            .get(&channel)
            .map(|entry| entry.state)
            .ok_or(UnknownChannel { channel })?;
        match state {
            ChannelState::Idle => {
                self.channels.remove(&channel);
                fx.channel_released(channel);
            }
            ChannelState::Offered | ChannelState::Open(_) => {
                self.set_state(channel, ChannelState::Rescinded);
                if let ChannelState::Open(_) = state {
                    fx.channel_closed(channel, CloseReason::Rescinded);
                }
                self.revoke_gpadls(channel, fx);
                let message = RelidOnly {
                    relid: U32::new(channel.relid()),
                };
                self.send(encode(kind::RESCIND_CHANNEL_OFFER, &message), fx);
            }
            ChannelState::Rescinded => {}
        }
        self.check_invariants();
        Ok(())
    }

    /// The guest broke the protocol of `channel`, for instance in its rings: logs why and rescinds.
    pub fn fail_channel(&mut self, channel: ChannelId, reason: &str, fx: &mut dyn Effects) {
        self.log
            .complain(format_args!("{channel} rescinded: {reason}"));
        if let Err(error) = self.rescind(channel, fx) {
            tracing::debug!(%error, "nothing to rescind");
        }
    }

    /// Tells the guest of an idle channel.
    pub(super) fn announce(&mut self, id: ChannelId, fx: &mut dyn Effects) {
        let Some(channel) = self.channels.get_mut(&id) else {
            return;
        };
        if channel.state != ChannelState::Idle {
            return;
        }
        channel.state = ChannelState::Offered;
        let offer = &channel.offer;
        let message = OfferChannel {
            class: offer.class.0,
            instance: offer.instance.0,
            reserved1: U64::new(0),
            reserved2: U64::new(0),
            flags: U16::new(offer.flags),
            mmio_megabytes: U16::new(offer.mmio_megabytes),
            user_data: offer.user_data,
            sub_channel_index: U16::new(0),
            reserved3: U16::new(0),
            relid: U32::new(id.relid()),
            monitor_id: NO_MONITOR,
            monitor_allocated: 0,
            dedicated_interrupt: U16::new(1),
            connection: U32::new(id.event_connection()),
        };
        self.send(encode(kind::OFFER_CHANNEL, &message), fx);
    }

    pub(super) fn on_open(
        &mut self,
        request: &OpenRequest,
        fx: &mut dyn Effects,
    ) -> Result<(), Violation> {
        let (id, state) = self.known(request.relid.get())?;
        let opened = match state {
            ChannelState::Offered => self.open(id, request, fx),
            ChannelState::Idle | ChannelState::Rescinded => Err(OpenRefused {
                reason: "rescinded".to_owned(),
            }),
            ChannelState::Open(_) => {
                return Err(Violation::OpenedTwice {
                    channel: id,
                    state: state.name(),
                })
            }
        };
        let status = match opened {
            Ok(()) => STATUS_SUCCESS,
            Err(error) => {
                self.log
                    .complain(format_args!("{id} not opened: {}", error.reason));
                STATUS_UNSUCCESSFUL
            }
        };
        let result = OpenResult {
            relid: request.relid,
            open_id: request.open_id,
            status: U32::new(status),
        };
        self.send(encode(kind::OPEN_CHANNEL_RESULT, &result), fx);
        Ok(())
    }

    fn open(
        &mut self,
        id: ChannelId,
        request: &OpenRequest,
        fx: &mut dyn Effects,
    ) -> Result<(), OpenRefused> {
        let refuse = |reason: String| OpenRefused { reason };
        let open = OpenChannel {
            ring_gpadl: request.ring_gpadl.get(),
            downstream_page: request.downstream_page.get(),
            target_vp: request.target_vp.get(),
        };
        if open.target_vp >= self.config.vp_count {
            return Err(refuse(format!("processor {}", open.target_vp)));
        }
        let shared = self
            .gpadls
            .ready(id, open.ring_gpadl)
            .ok_or_else(|| refuse(format!("gpadl {:#x} is not usable", open.ring_gpadl)))?;
        let rings = ChannelRings::new(Arc::clone(&self.memory), shared, open.downstream_page)
            .map_err(|error| refuse(error.to_string()))?;
        fx.channel_opened(
            id,
            Opened {
                rings,
                target_vp: open.target_vp,
                user_data: request.user_data,
            },
        )?;
        if let Some(channel) = self.channels.get_mut(&id) {
            channel.signals_in = 0;
            channel.signals_out = 0;
        }
        self.set_state(id, ChannelState::Open(open));
        Ok(())
    }

    pub(super) fn on_close(&mut self, relid: u32, fx: &mut dyn Effects) -> Result<(), Violation> {
        let (id, state) = self.known(relid)?;
        match state {
            ChannelState::Open(_) => {
                self.set_state(id, ChannelState::Offered);
                fx.channel_closed(id, CloseReason::Guest);
            }
            ChannelState::Idle | ChannelState::Offered => self
                .log
                .complain(format_args!("{id} closed while {}", state.name())),
            // The guest had not seen the rescind yet.
            ChannelState::Rescinded => {}
        }
        Ok(())
    }

    pub(super) fn on_released(
        &mut self,
        relid: u32,
        fx: &mut dyn Effects,
    ) -> Result<(), Violation> {
        let (id, state) = self.known(relid)?;
        match state {
            ChannelState::Rescinded => {
                self.channels.remove(&id);
                fx.channel_released(id);
            }
            // A guest that cannot use an offer forgets it; it is told again when it reconnects.
            ChannelState::Idle | ChannelState::Offered => {
                self.set_state(id, ChannelState::Idle);
                self.revoke_gpadls(id, fx);
            }
            ChannelState::Open(_) => return Err(Violation::ReleasedOpen { channel: id }),
        }
        Ok(())
    }

    pub(super) fn on_modify(
        &mut self,
        request: &ModifyChannel,
        fx: &mut dyn Effects,
    ) -> Result<(), Violation> {
        let (id, state) = self.known(request.relid.get())?;
        let version = self.connection.contact().map(|contact| contact.version);
        let target_vp = request.target_vp.get();
        let status = match state {
            ChannelState::Open(open)
                if target_vp < self.config.vp_count && version >= Some(Version::V4_1) =>
            {
                self.set_state(id, ChannelState::Open(OpenChannel { target_vp, ..open }));
                STATUS_SUCCESS
            }
            _ => {
                self.log.complain(format_args!(
                    "{id}: no interrupts to processor {target_vp} while {}",
                    state.name()
                ));
                STATUS_UNSUCCESSFUL
            }
        };
        if version >= Some(Version::V5_3) {
            let response = ModifyChannelResponse {
                relid: request.relid,
                status: U32::new(status),
            };
            self.send(encode(kind::MODIFY_CHANNEL_RESPONSE, &response), fx);
        }
        Ok(())
    }

    /// A number after the last one given, so that a number is not used again soon.
    fn free_id(&self) -> Option<ChannelId> {
        let after = CHANNEL_IDS.filter(|id| *id > self.last_id);
        let before = CHANNEL_IDS.filter(|id| *id <= self.last_id);
        after
            .chain(before)
            .map(ChannelId)
            .find(|id| !self.channels.contains_key(id))
    }
}
