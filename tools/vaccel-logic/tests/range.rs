// SPDX-License-Identifier: GPL-2.0-only
//! Ranges from outside never wrap and never pass their limit.

use proptest::prelude::*;
use vaccel_logic::range::{cut, inside, overlap, pages_inside, RangeError, PAGE};

/// The three ways to be wrong are told apart.
#[test]
fn wrong_ranges() {
    assert_eq!(inside(0, 0, 10), Err(RangeError::Unaligned));
    assert_eq!(inside(u64::MAX, 2, 10), Err(RangeError::Overflow));
    assert_eq!(inside(5, 6, 10), Err(RangeError::Outside));
    assert_eq!(inside(5, 5, 10), Ok(10));
    assert_eq!(pages_inside(1, PAGE, 10 * PAGE), Err(RangeError::Unaligned));
    assert_eq!(
        pages_inside(0, PAGE + 1, 10 * PAGE),
        Err(RangeError::Unaligned)
    );
    assert_eq!(pages_inside(PAGE, PAGE, 2 * PAGE), Ok(2 * PAGE));
}

proptest! {
    /// Agrees with arithmetic that cannot overflow.
    #[test]
    fn agrees_with_wide_arithmetic(offset: u64, len: u64, limit: u64) {
        let fits = len != 0 && u128::from(offset) + u128::from(len) <= u128::from(limit);
        prop_assert_eq!(inside(offset, len, limit).is_ok(), fits);
    }

    /// Two ranges overlap exactly if some address is in both.
    #[test]
    fn overlap_is_shared_addresses(a in 0u64..40, n in 1u64..10, b in 0u64..40, m in 1u64..10) {
        let shared = (a..a + n).any(|address| (b..b + m).contains(&address));
        prop_assert_eq!(overlap((a, n), (b, m)), shared);
    }

    /// What a cut leaves are the addresses of the range that are not in the hole, in two parts.
    #[test]
    fn cut_leaves_the_rest(a in 0u64..40, n in 1u64..10, b in 0u64..60, m in 1u64..20) {
        let rest = cut((a, n), (b, m));
        let left: Vec<u64> = (a..a + n).filter(|address| !(b..b + m).contains(address)).collect();
        let parts: Vec<u64> = (a..a + rest.before)
            .chain(rest.after_start..rest.after_start + rest.after)
            .collect();
        prop_assert_eq!(left, parts);
    }
}
