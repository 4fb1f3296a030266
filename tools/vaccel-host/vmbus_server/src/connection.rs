// SPDX-License-Identifier: MIT OR Apache-2.0
//! The connection and its states.

use crate::version::Version;

/// Whether the guest has asked for the offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OfferPhase {
    /// It has not; offers are kept from it.
    Waiting,
    /// It has; new offers go out at once.
    Requested,
}

/// What guest and host agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Contact {
    /// Protocol version.
    pub(crate) version: Version,
    /// Processor that takes the host's messages.
    pub(crate) vp: u32,
    /// Interrupt that announces them.
    pub(crate) sint: u8,
    /// Whether offers go out.
    pub(crate) offers: OfferPhase,
}

/// State of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Connection {
    /// No guest is connected; only a contact is understood.
    Disconnected {
        /// Why the last connection ended, if the guest broke the protocol.
        reason: Option<String>,
    },
    /// A guest is connected.
    Connected(Contact),
}

impl Connection {
    /// What was agreed on, if a guest is connected.
    pub(crate) fn contact(&self) -> Option<Contact> {
        match self {
            Self::Connected(contact) => Some(*contact),
            Self::Disconnected { .. } => None,
        }
    }
}
