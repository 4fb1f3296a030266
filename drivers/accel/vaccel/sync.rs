// SPDX-License-Identifier: GPL-2.0-only

//! Synchronisation primitives that the kernel crate lacks.

mod completion;

pub use completion::{
    Completion,
    Wait, //
};
