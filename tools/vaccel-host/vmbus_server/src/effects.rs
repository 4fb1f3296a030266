// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the server asks its owner to do.
//!
//! The owner is the part of the program that knows the hypervisor and the device models. It passes an
//! [`Effects`] to each call of the server; the server calls it back before that call returns. An effect
//! must not call the server: what a device wants to do in answer it does afterwards.

use serde::Serialize;
use vmbus_ring::ChannelRings;

use crate::channel::ChannelId;
use crate::protocol::{MAX_MESSAGE, USER_DATA_LEN};

/// The synthetic interrupt on which a guest expects VMBus.
pub const VMBUS_SINT: u8 = 2;

/// The SynIC message type of a VMBus message.
const VMBUS_MESSAGE_TYPE: u32 = 1;

/// A message to the guest's SynIC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SynicMessage {
    /// Virtual processor whose message page receives it.
    pub vp: u32,
    /// Synthetic interrupt, which also numbers the slot in the page.
    pub sint: u8,
    payload: Vec<u8>,
}

impl SynicMessage {
    pub(crate) fn new(vp: u32, sint: u8, payload: Vec<u8>) -> Self {
        debug_assert!(payload.len() <= MAX_MESSAGE);
        Self { vp, sint, payload }
    }

    /// SynIC message type.
    pub fn message_type(&self) -> u32 {
        VMBUS_MESSAGE_TYPE
    }

    /// The VMBus message, at most [`MAX_MESSAGE`] bytes.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }
}

/// What became of a [`SynicMessage`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// It is in the slot.
    Taken,
    /// The slot holds an older message: [`crate::Server::retry_messages`] when it is free.
    Busy,
}

/// A channel that the guest opens.
pub struct Opened {
    /// The rings; dropping them is all there is to closing.
    pub rings: ChannelRings,
    /// Virtual processor that the guest wants interrupted; it may change.
    pub target_vp: u32,
    /// What the guest passed with the request.
    pub user_data: [u8; USER_DATA_LEN],
}

/// The owner does not want the channel opened; the guest is told that it failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("device refused: {reason}")]
pub struct OpenRefused {
    /// For the log.
    pub reason: String,
}

/// Why a channel was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CloseReason {
    /// The guest closed it.
    Guest,
    /// The host rescinded the offer, on its own account or because the guest broke the protocol.
    Rescinded,
    /// The connection ended.
    Disconnected,
}

/// Whether a GPADL is out of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Teardown {
    /// Nothing uses it any more; the guest may have its memory back.
    Done,
    /// Something does; [`crate::Server::gpadl_released`] follows.
    Later,
}

/// What the server asks its owner to do. See the [module](self) for the rule about calling back.
pub trait Effects {
    /// Puts `message` into the SynIC slot of its processor and interrupt.
    fn post_message(&mut self, message: &SynicMessage) -> Delivery;

    /// Sets `flag` in the event flags page of `vp` for `sint` and interrupts.
    fn signal_event(&mut self, vp: u32, sint: u8, flag: u16);

    /// The guest opens `channel`. The rings may be used from the end of the server's call on.
    ///
    /// # Errors
    ///
    /// The guest is told that opening failed.
    fn channel_opened(&mut self, channel: ChannelId, opened: Opened) -> Result<(), OpenRefused>;

    /// `channel` is closed: its rings must not be used any more.
    fn channel_closed(&mut self, channel: ChannelId, reason: CloseReason);

    /// The guest wants the memory of a GPADL back. Until the answer is [`Teardown::Done`], now or by
    /// [`crate::Server::gpadl_released`], it waits.
    fn gpadl_teardown(&mut self, channel: ChannelId, handle: u32) -> Teardown {
        let _ = (channel, handle);
        Teardown::Done
    }

    /// The GPADL is gone: the memory must not be used from now on.
    fn gpadl_revoked(&mut self, channel: ChannelId, handle: u32) {
        let _ = (channel, handle);
    }

    /// The guest, too, has forgotten the rescinded `channel`; its number may be used again.
    fn channel_released(&mut self, channel: ChannelId) {
        let _ = channel;
    }
}
