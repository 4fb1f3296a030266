// SPDX-License-Identifier: MIT OR Apache-2.0
//! The clock of every deadline: CLOCK_MONOTONIC in nanoseconds.

#![allow(
    unsafe_code,
    reason = "clock_gettime has no safe form that yields the raw value"
)]

/// Nanoseconds of CLOCK_MONOTONIC, at most [`super::TIME_FOREVER`].
pub fn monotonic_ns() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is a live timespec that the call may write, and the clock id is a constant
    // that every Linux has, so the call cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(nanoseconds)
        .min(super::TIME_FOREVER)
}

#[cfg(test)]
mod tests {
    /// Proves that the clock runs forward.
    #[test]
    fn does_not_go_back() {
        let first = super::monotonic_ns();
        assert!(first > 0);
        assert!(super::monotonic_ns() >= first);
    }
}
