// SPDX-License-Identifier: MIT OR Apache-2.0
//! Message layouts: include/linux/hyperv.h, `vmbus_channel_*`.
//!
//! Every message starts with [`Header`]; all fields are little-endian and packed. Guest messages may
//! be longer than their structure, the rest is ignored. GPADL messages end in a list of 8-byte words.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Longest message in either direction.
pub const MAX_MESSAGE: usize = 240;

/// Length of the user data in an offer and in an open request.
pub const USER_DATA_LEN: usize = 120;

/// Message numbers.
pub(crate) mod kind {
    pub(crate) const OFFER_CHANNEL: u32 = 1;
    pub(crate) const RESCIND_CHANNEL_OFFER: u32 = 2;
    pub(crate) const REQUEST_OFFERS: u32 = 3;
    pub(crate) const ALL_OFFERS_DELIVERED: u32 = 4;
    pub(crate) const OPEN_CHANNEL: u32 = 5;
    pub(crate) const OPEN_CHANNEL_RESULT: u32 = 6;
    pub(crate) const CLOSE_CHANNEL: u32 = 7;
    pub(crate) const GPADL_HEADER: u32 = 8;
    pub(crate) const GPADL_BODY: u32 = 9;
    pub(crate) const GPADL_CREATED: u32 = 10;
    pub(crate) const GPADL_TEARDOWN: u32 = 11;
    pub(crate) const GPADL_TORNDOWN: u32 = 12;
    pub(crate) const RELID_RELEASED: u32 = 13;
    pub(crate) const INITIATE_CONTACT: u32 = 14;
    pub(crate) const VERSION_RESPONSE: u32 = 15;
    pub(crate) const UNLOAD: u32 = 16;
    pub(crate) const UNLOAD_RESPONSE: u32 = 17;
    pub(crate) const TL_CONNECT_REQUEST: u32 = 21;
    pub(crate) const MODIFY_CHANNEL: u32 = 22;
    pub(crate) const MODIFY_CHANNEL_RESPONSE: u32 = 24;
}

macro_rules! layout {
    ($(#[$doc:meta])* $name:ident, $size:literal, { $($field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
        #[repr(C)]
        pub(crate) struct $name {
            $(pub(crate) $field: $type,)*
        }
        const _: () = assert!(size_of::<$name>() == $size);
        const _: () = assert!(size_of::<Header>() + size_of::<$name>() <= MAX_MESSAGE);
    };
}

layout!(
    /// Start of every message.
    Header, 8, { kind: U32, padding: U32, }
);
layout!(
    /// Guest: connect.
    InitiateContact, 32, {
        version: U32,
        target_vp: U32,
        // From 5.0 on; before, these 8 bytes are the address of an interrupt page that is not used
        // with dedicated interrupts.
        sint: u8,
        vtl: u8,
        reserved: U16,
        feature_flags: U32,
        monitor_page1: U64,
        monitor_page2: U64,
    }
);
layout!(
    /// Host: whether the version is accepted.
    VersionResponse, 8, {
        supported: u8,
        state: u8,
        padding: U16,
        // Of a version that is accepted: before 5.0 the version, from 5.0 on the connection that takes the
        // guest's messages. Else 0.
        version_or_connection: U32,
    }
);
layout!(
    /// Host: a channel.
    OfferChannel, 188, {
        class: [u8; 16],
        instance: [u8; 16],
        reserved1: U64,
        reserved2: U64,
        flags: U16,
        mmio_megabytes: U16,
        user_data: [u8; USER_DATA_LEN],
        sub_channel_index: U16,
        reserved3: U16,
        relid: U32,
        monitor_id: u8,
        monitor_allocated: u8,
        dedicated_interrupt: U16,
        connection: U32,
    }
);
layout!(
    /// Both: a message that names only a channel.
    RelidOnly, 4, { relid: U32, }
);
layout!(
    /// Guest: open a channel.
    OpenRequest, 140, {
        relid: U32,
        open_id: U32,
        ring_gpadl: U32,
        target_vp: U32,
        downstream_page: U32,
        user_data: [u8; USER_DATA_LEN],
    }
);
layout!(
    /// Host: whether the channel is open.
    OpenResult, 12, { relid: U32, open_id: U32, status: U32, }
);
layout!(
    /// Guest: first part of a GPADL; words follow.
    GpadlHeader, 12, { relid: U32, handle: U32, range_bytes: U16, range_count: U16, }
);
layout!(
    /// Guest: next part of a GPADL; words follow. Linux leaves the number zero.
    GpadlBody, 8, { number: U32, handle: U32, }
);
layout!(
    /// Host: whether the GPADL exists now.
    GpadlCreated, 12, { relid: U32, handle: U32, status: U32, }
);
layout!(
    /// Guest: give a GPADL back.
    GpadlTeardown, 8, { relid: U32, handle: U32, }
);
layout!(
    /// Host: the GPADL is out of use.
    GpadlTorndown, 4, { handle: U32, }
);
layout!(
    /// Guest: interrupt another processor from now on.
    ModifyChannel, 8, { relid: U32, target_vp: U32, }
);
layout!(
    /// Host: whether the other processor is interrupted now.
    ModifyChannelResponse, 8, { relid: U32, status: U32, }
);

/// A message of the guest.
#[derive(Debug, Clone, Copy)]
pub(crate) enum GuestMessage<'a> {
    InitiateContact(InitiateContact),
    RequestOffers,
    OpenChannel(OpenRequest),
    CloseChannel(RelidOnly),
    GpadlHeader(GpadlHeader, &'a [u8]),
    GpadlBody(GpadlBody, &'a [u8]),
    GpadlTeardown(GpadlTeardown),
    RelidReleased(RelidOnly),
    ModifyChannel(ModifyChannel),
    Unload,
    /// Understood by hosts with sockets over VMBus; ignored here.
    TlConnect,
}

/// Why a message was not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ParseError {
    /// Too short for its kind.
    #[error("message {kind} of {len} bytes is shorter than {needed} bytes")]
    Truncated {
        kind: u32,
        len: usize,
        needed: usize,
    },
    /// Too short for a header.
    #[error("message of {len} bytes has no header")]
    NoHeader { len: usize },
    /// Unknown, or sent by hosts only.
    #[error("message {kind} is not one that a guest sends")]
    NotFromGuest { kind: u32 },
}

impl<'a> GuestMessage<'a> {
    /// Reads a message in a private copy of its bytes.
    pub(crate) fn parse(message: &'a [u8]) -> Result<Self, ParseError> {
        let (header, body) = Header::read_from_prefix(message)
            .map_err(|_| ParseError::NoHeader { len: message.len() })?;
        let kind = header.kind.get();
        Ok(match kind {
            kind::INITIATE_CONTACT => Self::InitiateContact(take(kind, body)?.0),
            kind::REQUEST_OFFERS => Self::RequestOffers,
            kind::OPEN_CHANNEL => Self::OpenChannel(take(kind, body)?.0),
            kind::CLOSE_CHANNEL => Self::CloseChannel(take(kind, body)?.0),
            kind::GPADL_HEADER => {
                let (head, words) = take(kind, body)?;
                Self::GpadlHeader(head, words)
            }
            kind::GPADL_BODY => {
                let (head, words) = take(kind, body)?;
                Self::GpadlBody(head, words)
            }
            kind::GPADL_TEARDOWN => Self::GpadlTeardown(take(kind, body)?.0),
            kind::RELID_RELEASED => Self::RelidReleased(take(kind, body)?.0),
            kind::MODIFY_CHANNEL => Self::ModifyChannel(take(kind, body)?.0),
            kind::UNLOAD => Self::Unload,
            kind::TL_CONNECT_REQUEST => Self::TlConnect,
            _ => return Err(ParseError::NotFromGuest { kind }),
        })
    }
}

fn take<T: FromBytes + KnownLayout + Immutable + Unaligned>(
    kind: u32,
    body: &[u8],
) -> Result<(T, &[u8]), ParseError> {
    T::read_from_prefix(body).map_err(|_| ParseError::Truncated {
        kind,
        len: body.len().saturating_add(size_of::<Header>()),
        needed: size_of::<T>().saturating_add(size_of::<Header>()),
    })
}

/// Builds the host's message `kind` with `body`.
pub(crate) fn encode<T: IntoBytes + Immutable>(kind: u32, body: &T) -> Vec<u8> {
    let header = Header {
        kind: U32::new(kind),
        padding: U32::new(0),
    };
    let mut message = header.as_bytes().to_vec();
    message.extend_from_slice(body.as_bytes());
    message
}

/// Builds the host's message `kind` that is a header alone.
pub(crate) fn encode_header(kind: u32) -> Vec<u8> {
    encode(kind, &[0_u8; 0])
}
