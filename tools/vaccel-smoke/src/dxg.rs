// SPDX-License-Identifier: MIT OR Apache-2.0
//! The other Linux driver for GPU-PV, behind `/dev/dxg`: as much of it as the benchmarks need.
//!
//! [`wire`] has its numbers and structures as data, [`call`] the calls, [`objects`] what they make.
//! Its interface takes addresses of the program's memory and gives some back; none leaves [`call`].

pub mod call;
pub mod objects;
pub mod wire;

/// The node of the driver.
pub const NODE: &str = "/dev/dxg";
