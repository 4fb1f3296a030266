// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rows of the table, by what they are about.

pub mod bridge;
pub mod device;
pub mod fence;
pub mod file;
pub mod memory;
pub mod objects;
pub mod ring;
pub mod submit;
