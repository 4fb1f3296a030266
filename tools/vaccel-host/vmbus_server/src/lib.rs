// SPDX-License-Identifier: MIT OR Apache-2.0
//! The host's side of the VMBus control plane, without I/O.
//!
//! VMBus is how a guest and its Hyper-V host set up channels. The guest posts messages (connect, ask
//! for offers, share memory as a GPADL, open, close, disconnect) and the host answers through the
//! guest's SynIC; data then flows through the rings of each channel (crate `vmbus_ring`).
//!
//! [`Server`] is plain data. Its inputs are the guest's hypercalls ([`Server::post_message`],
//! [`Server::signal_event`]) and the host's wishes ([`Server::offer`], [`Server::rescind`]); its outputs
//! are calls on [`Effects`], borrowed for one call. It knows no hypervisor, thread or clock.
//!
//! | module | holds |
//! | --- | --- |
//! | `server` | entry points and dispatch |
//! | `server::connection`, `server::channels`, `server::gpadls` | the three groups of messages |
//! | [`channel`], `connection`, `gpadl` | the states and their data |
//! | `protocol` | message layouts, parser and encoders |
//! | `outbox` | messages that wait for a SynIC slot |
//! | [`effects`] | what the server asks its owner to do |
//! | [`snapshot`] | the state as serialisable data |
//!
//! # Life of a channel
//!
//! [`Server::offer`] makes a channel, the guest learns of it when it asks for offers, opens it over
//! a ring GPADL, closes it, may open it again. [`Server::rescind`] ends it: it is closed and its GPADLs
//! are revoked at once, because a guest frees the memory of a rescinded channel without asking; its
//! number becomes free when the guest releases it.
//!
//! # Trust
//!
//! The guest is hostile. Messages are checked in a private copy, tables and queues are bounded by
//! [`Limits`], and no guest message is taken while an answer waits ([`Server::can_accept`]). What
//! breaks the protocol of a channel gets the channel rescinded, what breaks that of the connection
//! gets the guest disconnected, both with one logged reason; log lines that a guest can cause are
//! counted and stop after a limit.
//!
//! The protocol is that of include/linux/hyperv.h, drivers/hv/connection.c, channel.c and
//! channel_mgmt.c of Linux 7.3: versions 4.0 to 5.3, dedicated interrupts, no monitor pages, no
//! sub-channels, no save and restore.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

pub mod channel;
mod connection;
pub mod effects;
mod gpadl;
mod guest_log;
mod guid;
mod outbox;
mod protocol;
mod server;
pub mod snapshot;
mod version;

pub use channel::{ChannelId, Offer};
pub use effects::{
    CloseReason, Delivery, Effects, OpenRefused, Opened, SynicMessage, Teardown, VMBUS_SINT,
};
pub use guid::Guid;
pub use protocol::{MAX_MESSAGE, USER_DATA_LEN};
pub use server::{
    Limits, OfferError, PostError, Server, ServerConfig, UnknownChannel, UnknownConnection,
};
pub use snapshot::ServerSnapshot;
pub use version::{UnknownVersion, Version};
