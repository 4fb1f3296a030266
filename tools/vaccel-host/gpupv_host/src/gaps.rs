// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is free in a space of numbered pages: a GPU's addresses, its memory, the I/O space.
//!
//! Gaps never touch each other. They are found by place, and by the power of two below their size:
//! a gap of a higher class than a request fits whatever its alignment, so finding a place takes a
//! look at each class. Only when no such gap is left are all gaps of the request's own size tried.

use std::collections::{BTreeMap, BTreeSet};
#[cfg(test)]
use std::sync::atomic::{AtomicUsize, Ordering};

/// Gaps of about the wanted size that are tried before larger ones are cut.
const PROBES: usize = 16;

/// The free pages of a space.
#[derive(Debug, Default)]
pub struct Gaps {
    /// Smallest alignment that is ever asked for, in pages.
    grain: u64,
    /// End of each gap, by its start.
    gaps: BTreeMap<u64, u64>,
    /// Starts of the gaps by the power of two below their usable size: what is left from the first
    /// multiple of the grain on.
    classes: BTreeMap<u32, BTreeSet<u64>>,
    /// How many gaps were looked at.
    #[cfg(test)]
    visited: AtomicUsize,
}

impl Gaps {
    /// The pages from `first` up to `end`, all free.
    pub fn new(first: u64, end: u64, grain: u64) -> Self {
        let mut gaps = Self {
            grain: grain.max(1),
            ..Self::default()
        };
        gaps.add(first, end);
        gaps
    }

    fn class(&self, start: u64, end: u64) -> Option<u32> {
        let usable = start.checked_next_multiple_of(self.grain)?;
        end.saturating_sub(usable).checked_ilog2()
    }

    fn add(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        self.gaps.insert(start, end);
        if let Some(class) = self.class(start, end) {
            self.classes.entry(class).or_default().insert(start);
        }
    }

    fn remove(&mut self, start: u64) {
        let Some(end) = self.gaps.remove(&start) else {
            return;
        };
        if let Some(class) = self.class(start, end) {
            if let Some(starts) = self.classes.get_mut(&class) {
                starts.remove(&start);
            }
        }
    }

    /// Makes the pages from `first` up to `end` used, whether they were free or not.
    pub fn take(&mut self, first: u64, end: u64) {
        while let Some((start, gap_end)) = self.before(end) {
            if gap_end <= first {
                break;
            }
            self.remove(start);
            self.add(start, first.min(gap_end));
            self.add(end.max(start), gap_end);
            if start <= first {
                break;
            }
        }
    }

    /// Makes the pages from `first` up to `end`, which are all used, free.
    pub fn give(&mut self, first: u64, end: u64) {
        let (mut start, mut gap_end) = (first, end);
        if let Some((before, before_end)) = self.before(first) {
            if before_end == first {
                self.remove(before);
                start = before;
            }
        }
        if let Some(after_end) = self.gaps.get(&end).copied() {
            self.remove(end);
            gap_end = after_end;
        }
        self.add(start, gap_end);
    }

    /// The last gap that starts before `page`: start and end.
    fn before(&self, page: u64) -> Option<(u64, u64)> {
        let (start, end) = self.gaps.range(..page).next_back()?;
        Some((*start, *end))
    }

    /// Where `len` free pages lie between `low` and `high`, from a multiple of `align` on.
    pub fn fit(&self, len: u64, align: u64, low: u64, high: u64) -> Option<u64> {
        let align = align.max(self.grain);
        let place = |start: u64| {
            #[cfg(test)]
            self.visited.fetch_add(1, Ordering::Relaxed);
            let end = self.gaps.get(&start)?;
            let at = start.max(low).checked_next_multiple_of(align)?;
            (at.checked_add(len)? <= high.min(*end)).then_some(at)
        };
        let around = self.before(low.saturating_add(1));
        if let Some(at) = around.and_then(|(start, _)| place(start)) {
            return Some(at);
        }
        // Any gap fits that is this large, wherever it starts.
        let sure = len.checked_add(align.saturating_sub(self.grain))?;
        let (own, last) = (len.checked_ilog2()?, sure.checked_ilog2()?);
        let small = || {
            let classes = self.classes.range(own..=last);
            classes.flat_map(|(_, starts)| starts.range(low..).copied())
        };
        let large = self.classes.range(last.saturating_add(1)..);
        let large = large.filter_map(|(_, starts)| starts.range(low..).next().copied());
        small()
            .take(PROBES)
            .chain(large)
            .find_map(place)
            .or_else(|| small().find_map(place))
    }

    /// How many gaps were looked at so far.
    #[cfg(test)]
    pub fn visited(&self) -> usize {
        self.visited.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const END: u64 = 1 << 35;

    /// Pages that are given back are found again, at the alignment asked for, and neighbours become
    /// one gap.
    #[test]
    fn taken_and_given() {
        let mut gaps = Gaps::new(16, 64, 1);
        assert_eq!(gaps.fit(48, 1, 0, END), Some(16));
        assert_eq!(gaps.fit(49, 1, 0, END), None);
        gaps.take(20, 24);
        assert_eq!(gaps.fit(40, 1, 0, END), Some(24));
        assert_eq!(gaps.fit(4, 1, 0, END), Some(16));
        assert_eq!(gaps.fit(4, 16, 17, END), Some(32));
        assert_eq!(gaps.fit(4, 1, 30, 33), None);
        gaps.take(0, 100);
        assert_eq!(gaps.fit(1, 1, 0, END), None);
        gaps.give(16, 20);
        gaps.give(24, 64);
        gaps.give(20, 24);
        assert_eq!(gaps.fit(48, 1, 0, END), Some(16));
    }

    /// Finding a place costs as many looks with a hundred thousand ranges as with a hundred, also
    /// when the pages between them are free and too few.
    #[test]
    fn looks_do_not_grow() {
        let looks = |count: u64| {
            let mut gaps = Gaps::new(16, END, 16);
            for _ in 0..count {
                let at = gaps.fit(1, 16, 16, END).unwrap();
                gaps.take(at, at + 1);
            }
            for hole in (32..count * 16).step_by(32) {
                gaps.give(hole, hole + 1);
            }
            let before = gaps.visited();
            for (len, low) in [(1, 16), (20, 16), (20, 1000), (40, 16), (4096, 16)] {
                gaps.fit(len, 16, low, END).unwrap();
            }
            gaps.visited() - before
        };
        let (few, many) = (looks(100), looks(100_000));
        assert!(many <= few + 5 * PROBES, "{few} {many}");
    }

    proptest! {
        /// Against a list of pages: what is found is free, and nothing is found only when nothing
        /// fits.
        #[test]
        fn agrees_with_a_list(
            steps in proptest::collection::vec(
                (1_u64..9, 0_u32..4, 0_u64..100, 1_u64..100, any::<bool>()), 1..80,
            ),
            grain in 0_u32..2,
        ) {
            const PAGES: usize = 96;
            let mut gaps = Gaps::new(0, PAGES as u64, 1 << grain);
            let mut free = [true; PAGES];
            let mut taken: Vec<(u64, u64)> = Vec::new();
            for (len, align, low, span, give) in steps {
                if let (true, Some((first, end))) = (give, taken.pop()) {
                    gaps.give(first, end);
                    free[first as usize..end as usize].fill(true);
                    continue;
                }
                let align = 1 << align.max(grain);
                let high = low + span;
                let fits = |at: &u64| {
                    at % align == 0 && at + len <= high.min(PAGES as u64)
                        && free[*at as usize..(at + len) as usize].iter().all(|page| *page)
                };
                match gaps.fit(len, align, low, high) {
                    Some(at) => {
                        prop_assert!(at >= low && fits(&at));
                        gaps.take(at, at + len);
                        free[at as usize..(at + len) as usize].fill(false);
                        taken.push((at, at + len));
                    }
                    None => prop_assert!(!(low..PAGES as u64).any(|at| fits(&at))),
                }
            }
        }
    }
}
