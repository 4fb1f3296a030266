// SPDX-License-Identifier: MIT OR Apache-2.0
//! The host's side of PCI functions over VMBus, without I/O.
//!
//! A Hyper-V host shows a PCI function to its guest by a VMBus channel, which is a bus of its own with that
//! function on it. Over the channel the guest settles a protocol version, asks what is on the bus and what
//! it needs, and says where it wants configuration space: a window in guest-physical address space, whose
//! accesses go to the host ([`access`]). The host says when a function comes, goes, or should be let go of.
//!
//! [`Bus`] is one such bus, plain data: packets of the guest and wishes of the host come in, and what it does
//! goes out through [`Env`], borrowed for one call. It knows no hypervisor, thread or clock.
//!
//! | module | holds |
//! | --- | --- |
//! | `bus` | the states of a bus, and what it does with each message |
//! | `protocol` | message layouts, parser and encoders |
//! | `version` | protocol versions |
//! | `window` | what an access to the window is for |
//!
//! The function has no BARs and no interrupts: requests for those are refused.
//!
//! The guest is hostile: a message is checked in a private copy and its length by its kind, there is no table
//! that it could make grow, and what breaks the protocol is answered with a status or ignored.
//!
//! The protocol is that of drivers/pci/controller/pci-hyperv.c of Linux 7.3, versions 1.1 to 1.4.

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

mod bus;
mod protocol;
mod version;
mod window;

pub use bus::{Bus, Env, MessageIn, State, WindowRefused};
pub use protocol::{name, number, status, Function, CHANNEL_CLASS};
pub use version::{UnknownVersion, Version};
pub use window::{access, Access, WINDOW_LEN};
