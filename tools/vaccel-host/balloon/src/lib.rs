// SPDX-License-Identifier: MIT OR Apache-2.0
//! The host's side of Hyper-V dynamic memory, without I/O.
//!
//! A Hyper-V host asks its guest for memory over a VMBus channel, and gives it back. The guest keeps the
//! pages that it gives in a "balloon", where nothing of its own uses them, and tells the host which they are;
//! the host takes the memory behind them away. It also reports how much memory it has and needs.
//!
//! [`Balloon`] is the host's end of that channel, plain data: packets of the guest and what the host wants come
//! in, and what it does goes out through [`Env`], borrowed for one call.
//!
//! | module | holds |
//! | --- | --- |
//! | `balloon` | the states, and what happens with each message |
//! | `pages` | which pages the guest gave |
//! | `protocol` | message layouts, parser and encoders |
//!
//! The guest is hostile: a message is checked in a private copy, and pages are taken only if the host asked
//! for so many, they are RAM, and they were not given before. What breaks the protocol is a [`Violation`],
//! for which the owner ends the channel. What is kept of the guest is bounded by the pages of its RAM.
//!
//! The protocol is that of drivers/hv/hv_balloon.c of Linux 7.3: versions 0.3, 1.0 and 2.0, without hot-add.

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

mod balloon;
mod pages;
mod protocol;

pub use balloon::{Balloon, Env, NoGuest, Outcome, State, Violation};
pub use pages::Range;
pub use protocol::{name, number, Pressure, CHANNEL_CLASS, PAGES_PER_MIB};
