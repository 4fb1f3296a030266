// SPDX-License-Identifier: MIT OR Apache-2.0
//! The parts of PID 1 of the test machine. The self-tests, which ask for a census after each of
//! their cases, use two of them: the control channel and the comparison of censuses.

pub mod census;
pub mod control;
pub mod kernel;
pub mod plan;
pub mod runner;

mod kernel_log;
mod kmemleak;
mod process;
mod report;
mod splats;
mod tap;
