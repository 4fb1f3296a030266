// SPDX-License-Identifier: GPL-2.0-only

//! Bookkeeping without kernel types.
//!
//! Like `gpupv/`, this directory is a module of the driver and the root of a user-space crate
//! (tools/vaccel-logic), where it is tested; hence `mod.rs` and nothing but `core` and `zerocopy`.

pub mod ops;
pub mod range;
