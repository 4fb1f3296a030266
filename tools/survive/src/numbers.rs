// SPDX-License-Identifier: MIT OR Apache-2.0
//! Numbers that follow from a seed.

/// A source of numbers without a pattern that gives the same ones for the same seed.
#[derive(Clone, Debug)]
pub struct Numbers(u64);

impl Numbers {
    /// From a seed; any is good.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits (SplitMix64).
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// The next one below `limit`; 0 if that is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.word() % limit.max(1)
    }

    /// True once in `of` times.
    pub fn one_in(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }

    /// One of a list.
    pub fn pick<'a, T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        let place = self.below(list.len() as u64);
        list.get(usize::try_from(place).ok()?)
    }

    /// Another order.
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for end in (1..list.len()).rev() {
            let place = self.below(end as u64 + 1) as usize;
            list.swap(end, place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that a seed gives the same numbers again, another one others, and that limits hold.
    #[test]
    fn seeds() {
        let take = |seed| {
            let mut numbers = Numbers::new(seed);
            [numbers.word(), numbers.below(10), numbers.below(0)]
        };
        assert_eq!(take(1), take(1));
        assert_ne!(take(1), take(2));
        assert!(take(3)[1] < 10 && take(3)[2] == 0);
    }

    /// Proves that a list in another order has the same elements.
    #[test]
    fn orders() {
        let mut list: Vec<u32> = (0..100).collect();
        Numbers::new(5).shuffle(&mut list);
        assert_ne!(list, (0..100).collect::<Vec<_>>());
        list.sort_unstable();
        assert_eq!(list, (0..100).collect::<Vec<_>>());
    }
}
