// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reference time: units of 100 ns since about the start of the machine.
//!
//! Where KVM says that the time-stamp counters of all processors are one steady clock, reference time
//! is that clock scaled, and the guest can make it by itself with what the reference TSC page says.
//! Where it does not, this program's clock counts, and the page says that it is not to be used. Which
//! it is, is decided when the guest first asks, and stays: the guest is never shown two clocks.

use std::sync::OnceLock;
use std::time::Instant;

/// Units of reference time in a second.
const UNITS: u128 = 10_000_000;
/// Offsets in the reference TSC page: the sequence number (0: do not use), the factor, the offset.
const SEQUENCE: usize = 0;
const SCALE: usize = 8;
/// Bytes of the page that mean something.
pub(super) const PAGE_HEAD: usize = 24;

/// The clock of a machine.
pub struct ReferenceClock {
    tsc_hz: u64,
    is_steady: Box<dyn Fn() -> bool + Send + Sync>,
    scale: OnceLock<Option<u64>>,
    start: Instant,
}

impl ReferenceClock {
    /// Makes the clock of a machine whose counters have `tsc_hz`. `is_steady` is asked once, while a
    /// processor runs, whether they are one steady clock.
    pub fn new(tsc_hz: u64, is_steady: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self {
            tsc_hz,
            is_steady: Box::new(is_steady),
            scale: OnceLock::new(),
            start: Instant::now(),
        }
    }

    /// Frequency of the time-stamp counters.
    pub(super) fn tsc_hz(&self) -> u64 {
        self.tsc_hz
    }

    /// The reference time, when the asking processor's counter is `tsc`.
    pub(super) fn now(&self, tsc: impl FnOnce() -> Option<u64>) -> Option<u64> {
        match self.scale() {
            Some(scale) => {
                let product = u128::from(tsc()?).wrapping_mul(u128::from(scale));
                Some((product >> 64) as u64)
            }
            None => Some((self.start.elapsed().as_nanos() / 100) as u64),
        }
    }

    /// What the reference TSC page begins with.
    pub(super) fn page(&self) -> [u8; PAGE_HEAD] {
        let mut page = [0; PAGE_HEAD];
        if let Some(scale) = self.scale() {
            put(&mut page, SEQUENCE, &1_u32.to_le_bytes());
            put(&mut page, SCALE, &scale.to_le_bytes());
        }
        page
    }

    /// Reference time of a tick, in units of 2^-64, if the counters are the clock.
    fn scale(&self) -> Option<u64> {
        *self.scale.get_or_init(|| {
            let scale = (UNITS << 64).checked_div(u128::from(self.tsc_hz))?;
            let scale = u64::try_from(scale).ok()?;
            let steady = (self.is_steady)();
            tracing::info!(tsc_hz = self.tsc_hz, steady, "reference clock");
            steady.then_some(scale)
        })
    }
}

fn put(page: &mut [u8; PAGE_HEAD], at: usize, bytes: &[u8]) {
    if let Some(field) = page.get_mut(at..at.saturating_add(bytes.len())) {
        field.copy_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a guest makes of the page is what the register says.
    #[test]
    fn steady() {
        let clock = ReferenceClock::new(2_400_000_000, || true);
        let second = 2_400_000_000;
        for (tsc, expected) in [
            (0, 0),
            (second, 10_000_000),
            (86_400 * second, 864_000_000_000),
        ] {
            let now = clock.now(|| Some(tsc)).unwrap();
            assert!(expected - now <= 1, "{now} instead of {expected}");
            let page = clock.page();
            assert_eq!(page[..8], [1, 0, 0, 0, 0, 0, 0, 0]);
            let scale = u64::from_le_bytes(page[8..16].try_into().unwrap());
            assert_eq!(page[16..], [0; 8]);
            assert_eq!((u128::from(tsc) * u128::from(scale) >> 64) as u64, now);
        }
        assert_eq!(clock.now(|| None), None);
    }

    /// Counters that are not steady, or too slow to be scaled, are not used.
    #[test]
    fn not_steady() {
        for clock in [
            ReferenceClock::new(2_400_000_000, || false),
            ReferenceClock::new(10_000_000, || true),
            ReferenceClock::new(0, || true),
        ] {
            let now = clock.now(|| Some(u64::MAX)).unwrap();
            assert!(now < 600_000_000, "{now}");
            assert_eq!(clock.page(), [0; PAGE_HEAD]);
        }
    }
}
