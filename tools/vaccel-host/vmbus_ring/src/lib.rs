// SPDX-License-Identifier: MIT OR Apache-2.0
//! The host's side of VMBus ring buffers.
//!
//! A VMBus channel is a pair of rings in guest memory, each a control page followed by data pages.
//! The guest allocates both, describes them with one GPADL and names the page at which the second
//! one starts. In the first ring the guest writes and the host reads, in the second one the host
//! writes.
//!
//! | module | holds |
//! | --- | --- |
//! | `layout` | the control page, the packet descriptor and the footer |
//! | [`packet`] | what a packet is once it has been checked |
//! | `ring` | one ring in guest memory: control words, bytes with wrap-around, index checks |
//! | `reader`, `writer` | consumer and producer, with their interrupt rules |
//! | [`channel`] | the pair, with a bounded queue of what does not fit in the ring yet |
//! | `guest` | the guest's end, for tests (feature `guest`) |
//!
//! # Trust
//!
//! Everything in the rings may be changed by the guest at any time. The index that the host owns is
//! kept privately and never read back; the guest's index is loaded once per use and checked; a packet
//! is copied out once and used only after its whole extent, footer included, was found to be
//! published. A violation is a [`RingError`]; the owner then fails the channel. An empty or full
//! ring is not an error.
//!
//! # Limits
//!
//! A payload from the guest is at most [`MAX_PAYLOAD`] bytes, a packet to the guest at most
//! [`MAX_PACKET_OUT`] bytes with its descriptor, a ring at most [`MAX_RING`] bytes, and what waits
//! for space in a ring at most [`channel::MAX_QUEUED`] bytes.
//!
//! The layout and the interrupt rules are those of include/linux/hyperv.h and
//! drivers/hv/ring_buffer.c of Linux 7.3.

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
mod error;
#[cfg(any(test, feature = "guest"))]
pub mod guest;
mod layout;
pub mod packet;
mod reader;
mod ring;
mod signal;
mod writer;

pub use channel::{Batch, ChannelRings, PollState, Polled, RingsSnapshot};
pub use error::RingError;
pub use layout::{MAX_PACKET_OUT, MAX_PAYLOAD, MAX_RING, PAGE_SIZE};
pub use packet::{OwnedPacket, Packet, PacketHead, PacketKind};
pub use signal::Signal;
