// SPDX-License-Identifier: MIT OR Apache-2.0
//! Comparing results with what they must be.

use crate::failure::Failure;

/// Bit for bit; returns how many were compared.
pub fn floats(what: &str, got: &[f32], expected: &[f32]) -> Result<u64, Failure> {
    compare(what, got, expected, |got, expected| {
        got.to_bits() == expected.to_bits()
    })
}

/// Equal words.
pub fn words(what: &str, got: &[u32], expected: &[u32]) -> Result<u64, Failure> {
    compare(what, got, expected, |got, expected| got == expected)
}

/// Within `tolerance` of `expected`, absolutely.
pub fn close(what: &str, got: &[f32], expected: &[f32], tolerance: f32) -> Result<u64, Failure> {
    // A difference that is no number is not within anything.
    compare(what, got, expected, |got, expected| {
        (got - expected).abs() <= tolerance
    })
}

fn compare<T: std::fmt::Display>(
    what: &str,
    got: &[T],
    expected: &[T],
    same: impl Fn(&T, &T) -> bool,
) -> Result<u64, Failure> {
    if got.len() != expected.len() {
        return Err(Failure::Behaviour(format!(
            "{what}: {} outputs, expected {}",
            got.len(),
            expected.len()
        )));
    }
    let mut different = got
        .iter()
        .zip(expected)
        .enumerate()
        .filter(|(_, (got, expected))| !same(got, expected));
    match different.next() {
        None => Ok(got.len() as u64),
        Some((index, (first, wanted))) => Err(Failure::Wrong {
            what: what.to_owned(),
            count: 1 + different.count(),
            total: got.len(),
            index,
            got: first.to_string(),
            expected: wanted.to_string(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that one wrong element is found, named and counted.
    #[test]
    fn one_wrong_element() {
        let error = words("fill", &[1, 2, 9], &[1, 2, 3]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "fill: 1 of 3 outputs differ, first at 2: 9, expected 3"
        );
        assert!(floats("x", &[0.0], &[-0.0]).is_err(), "bits, not values");
        assert_eq!(floats("x", &[1.5, f32::NAN], &[1.5, f32::NAN]).unwrap(), 2);
    }

    /// Proves that a tolerance has an edge, that NaN is outside, and that a short result is wrong.
    #[test]
    fn tolerances_and_lengths() {
        assert!(close("x", &[1.5], &[1.0], 0.5).is_ok());
        assert!(close("x", &[1.75], &[1.0], 0.5).is_err());
        assert!(close("x", &[f32::NAN], &[1.0], 0.5).is_err());
        assert!(words("x", &[1], &[1, 2]).is_err());
    }
}
