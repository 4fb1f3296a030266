// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a ring does, by subject.

mod memory;
mod submit;
mod sync;
mod wait;

pub use submit::Completed;
