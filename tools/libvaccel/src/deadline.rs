// SPDX-License-Identifier: MIT OR Apache-2.0
//! Absolute deadlines on CLOCK_MONOTONIC.

use std::time::Duration;

use crate::sys::{clock, TIME_FOREVER};

/// When a wait gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(u64);

impl Deadline {
    /// Do not wait at all: a poll.
    pub const NOW: Self = Self(0);
    /// No deadline; the wait still ends when the device is lost.
    pub const NEVER: Self = Self(TIME_FOREVER);

    /// After `duration` from now; durations that leave the clock's range never end.
    pub fn after(duration: Duration) -> Self {
        let duration = u64::try_from(duration.as_nanos()).unwrap_or(TIME_FOREVER);
        let end = clock::monotonic_ns().saturating_add(duration);
        // A zero duration still is a point in time, not the "do not wait" of the interface.
        Self(end.min(TIME_FOREVER))
    }

    /// After `seconds` from now.
    pub fn after_secs(seconds: u64) -> Self {
        Self::after(Duration::from_secs(seconds))
    }

    /// At this time of CLOCK_MONOTONIC.
    pub(crate) const fn at_ns(ns: u64) -> Self {
        Self(ns)
    }

    /// The value the interface takes.
    pub const fn as_ns(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that deadlines grow with the duration and saturate instead of wrapping into the past.
    #[test]
    fn order_and_saturation() {
        let soon = Deadline::after(Duration::ZERO);
        assert!(soon > Deadline::NOW);
        assert!(Deadline::after_secs(1) > soon);
        assert_eq!(Deadline::after(Duration::MAX), Deadline::NEVER);
    }
}
