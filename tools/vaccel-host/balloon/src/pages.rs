// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which pages the guest gave.

use std::collections::BTreeMap;

/// Pages that follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// Number of the first one.
    pub first: u64,
    /// How many.
    pub count: u64,
}

impl Range {
    fn end(self) -> u64 {
        self.first.saturating_add(self.count)
    }
}

/// A set of pages.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pages {
    /// Lengths by first page; ranges neither meet nor touch.
    ranges: BTreeMap<u64, u64>,
    count: u64,
}

impl Pages {
    /// How many pages.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Adds a range; returns whether none of it was there, and otherwise adds nothing.
    pub fn insert(&mut self, range: Range) -> bool {
        let before = self.ranges.range(..range.end()).next_back();
        let before = before.map(|(first, count)| Range {
            first: *first,
            count: *count,
        });
        if before.is_some_and(|before| before.end() > range.first) {
            return false;
        }
        let mut merged = range;
        if let Some(before) = before.filter(|before| before.end() == range.first) {
            merged.first = before.first;
            merged.count = merged.count.saturating_add(before.count);
        }
        if let Some(count) = self.ranges.remove(&range.end()) {
            merged.count = merged.count.saturating_add(count);
        }
        self.ranges.insert(merged.first, merged.count);
        self.count = self.count.saturating_add(range.count);
        true
    }

    /// Takes up to `count` pages out, in up to `limit` ranges of up to `longest` pages.
    pub fn take(&mut self, count: u64, limit: usize, longest: u64) -> Vec<Range> {
        let mut left = count;
        let mut taken = Vec::new();
        while left > 0 && taken.len() < limit {
            let Some((first, available)) = self.ranges.pop_last() else {
                break;
            };
            let count = available.min(left).min(longest);
            let rest = available.saturating_sub(count);
            if rest > 0 {
                self.ranges.insert(first, rest);
            }
            taken.push(Range {
                first: first.saturating_add(rest),
                count,
            });
            left = left.saturating_sub(count);
            self.count = self.count.saturating_sub(count);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(first: u64, count: u64) -> Range {
        Range { first, count }
    }

    /// Neighbours become one range; what is there already is refused as a whole.
    #[test]
    fn insertion() {
        let mut pages = Pages::default();
        for (first, count) in [(10, 5), (20, 5), (15, 5), (5, 5)] {
            assert!(pages.insert(range(first, count)));
        }
        assert_eq!((pages.count(), pages.ranges.len()), (20, 1));
        for (first, count) in [(5, 1), (24, 1), (0, 6), (24, 9), (0, 99)] {
            assert!(!pages.insert(range(first, count)), "{first}");
        }
        assert_eq!(pages.count(), 20);
    }

    /// Pages come out in ranges of the wanted size and number.
    #[test]
    fn taking() {
        let mut pages = Pages::default();
        pages.insert(range(100, 10));
        pages.insert(range(200, 10));
        assert_eq!(
            pages.take(12, 9, 8),
            [range(202, 8), range(200, 2), range(108, 2)]
        );
        assert_eq!(pages.take(99, 1, 3), [range(105, 3)]);
        assert_eq!(pages.take(99, 9, 99), [range(100, 5)]);
        assert_eq!((pages.take(1, 9, 9), pages.count()), (vec![], 0));
    }

    proptest! {
        /// The set holds exactly the pages that were put in and not taken out.
        #[test]
        fn model(steps in prop::collection::vec((0_u64..64, 1_u64..9, any::<bool>()), 0..60)) {
            let mut pages = Pages::default();
            let mut model = std::collections::BTreeSet::new();
            for (first, count, insert) in steps {
                if insert {
                    let fresh = (first..first + count).all(|page| !model.contains(&page));
                    prop_assert_eq!(pages.insert(range(first, count)), fresh);
                    if fresh {
                        model.extend(first..first + count);
                    }
                } else {
                    for taken in pages.take(count, 3, 4) {
                        for page in taken.first..taken.end() {
                            prop_assert!(model.remove(&page));
                        }
                    }
                }
                prop_assert_eq!(pages.count(), model.len() as u64);
            }
        }
    }
}
