// SPDX-License-Identifier: MIT OR Apache-2.0
//! Numbers of the synthetic registers. Hyper-V TLFS, appendix "Hypervisor synthetic MSRs".

use std::ops::{Range, RangeInclusive};

/// All numbers that belong to the hypervisor, used or not.
pub const ALL: Range<u32> = 0x4000_0000..0x4000_2000;

/// What the guest says it is.
pub const GUEST_OS_ID: u32 = 0x4000_0000;
/// Where the hypercall page is.
pub const HYPERCALL: u32 = 0x4000_0001;
/// The number of this processor.
pub const VP_INDEX: u32 = 0x4000_0002;
/// Reference time, in units of 100 ns.
pub const TIME_REF_COUNT: u32 = 0x4000_0020;
/// Where the page is by which a guest makes reference time of its time-stamp counter.
pub const REFERENCE_TSC: u32 = 0x4000_0021;
/// Frequency of the time-stamp counter, in Hz.
pub const TSC_FREQUENCY: u32 = 0x4000_0022;
/// Frequency of the local APIC's timer, in Hz.
pub const APIC_FREQUENCY: u32 = 0x4000_0023;
/// Where this processor's assist page is.
pub const VP_ASSIST_PAGE: u32 = 0x4000_0073;
/// SynIC: enable.
pub const SCONTROL: u32 = 0x4000_0080;
/// SynIC: version.
pub const SVERSION: u32 = 0x4000_0081;
/// SynIC: event flags page.
pub const SIEFP: u32 = 0x4000_0082;
/// SynIC: message page.
pub const SIMP: u32 = 0x4000_0083;
/// SynIC: a message slot is free again.
pub const EOM: u32 = 0x4000_0084;
/// SynIC: the first of 16 interrupt sources.
pub const SINT0: u32 = 0x4000_0090;
/// SynIC: all.
pub const SYNIC: RangeInclusive<u32> = SCONTROL..=SINT0 + 15;
/// The first of five words that say why a guest crashed.
pub const CRASH_P0: u32 = 0x4000_0100;
/// Reports the crash.
pub const CRASH_CTL: u32 = 0x4000_0105;
