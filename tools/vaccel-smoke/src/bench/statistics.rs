// SPDX-License-Identifier: MIT OR Apache-2.0
//! Medians, quartiles and ratios of what was measured.
//!
//! Times of operations have a long tail, so nothing here is a mean. Two things are compared by their
//! ratio, and by nothing else: absolute times are those of one machine. Where both were measured in
//! turns, each round gives one ratio, so that a machine that gets slower or faster meanwhile does
//! not count ([`Ratio::paired`]); else the medians are compared ([`Ratio::of_medians`]).

use std::time::Duration;

use serde::Serialize;

/// Measured values of one thing, in the order of measuring.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Adds a value.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// Adds a time, in seconds.
    pub fn time(&mut self, time: Duration) {
        self.push(time.as_secs_f64());
    }

    /// The values in the order of measuring.
    pub fn values(&self) -> &[f64] {
        &self.0
    }

    /// The middle value; 0 of none.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The value below which the part `q` lies, between values by proportion; 0 of none.
    pub fn quantile(&self, q: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let Some(last) = sorted.len().checked_sub(1) else {
            return 0.0;
        };
        let place = q.clamp(0.0, 1.0) * last as f64;
        let below = sorted[place.floor() as usize];
        let above = sorted[place.ceil() as usize];
        below + (above - below) * place.fract()
    }

    /// What is said of them.
    pub fn summary(&self) -> Summary {
        Summary {
            count: self.0.len(),
            median: self.median(),
            q1: self.quantile(0.25),
            q3: self.quantile(0.75),
            min: self.quantile(0.0),
            p99: self.quantile(0.99),
            max: self.quantile(1.0),
        }
    }
}

/// What is said of samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// How many.
    pub count: usize,
    /// The middle one.
    pub median: f64,
    /// A quarter is below.
    pub q1: f64,
    /// A quarter is above.
    pub q3: f64,
    /// The lowest.
    pub min: f64,
    /// One in a hundred is above.
    pub p99: f64,
    /// The highest.
    pub max: f64,
}

/// How a ratio came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Basis {
    /// Median and quartiles of the ratio of each round.
    Paired,
    /// The ratio of two medians; its range from quartile against quartile.
    Medians,
    /// The ratio of two 99th percentiles; its range the quartiles of the same for parts of the run.
    Tails,
}

/// How many times the one is the other.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ratio {
    /// How it came about.
    pub basis: Basis,
    /// The ratio.
    pub value: f64,
    /// Lower end of its spread.
    pub low: f64,
    /// Upper end of its spread.
    pub high: f64,
    /// Rounds, or samples of the smaller side.
    pub count: usize,
}

/// Samples of a part of a run that has a 99th percentile of its own.
const PART: usize = 100;

fn divide(a: f64, b: f64) -> f64 {
    // A clock that did not move must not divide by zero.
    a / b.max(1e-12)
}

impl Ratio {
    /// `a` to `b`, which were measured in turns: sample by sample.
    pub fn paired(a: &Samples, b: &Samples) -> Self {
        let each = a.0.iter().zip(&b.0).map(|(a, b)| divide(*a, *b));
        let ratios = Samples(each.collect());
        Self {
            basis: Basis::Paired,
            value: ratios.median(),
            low: ratios.quantile(0.25),
            high: ratios.quantile(0.75),
            count: ratios.0.len(),
        }
    }

    /// `a` to `b`, by their medians.
    pub fn of_medians(a: &Samples, b: &Samples) -> Self {
        let (one, other) = (a.summary(), b.summary());
        Self {
            basis: Basis::Medians,
            value: divide(one.median, other.median),
            low: divide(one.q1, other.q3),
            high: divide(one.q3, other.q1),
            count: one.count.min(other.count),
        }
    }

    /// `a` to `b`, by what one in a hundred is above.
    pub fn of_tails(a: &Samples, b: &Samples) -> Self {
        let tail = |part: &[f64]| Samples(part.to_vec()).quantile(0.99);
        let parts = a.0.chunks(PART).zip(b.0.chunks(PART));
        let ratios = Samples(parts.map(|(a, b)| divide(tail(a), tail(b))).collect());
        Self {
            basis: Basis::Tails,
            value: divide(tail(&a.0), tail(&b.0)),
            low: ratios.quantile(0.25),
            high: ratios.quantile(0.75),
            count: a.0.len().min(b.0.len()),
        }
    }
}

/// What a ratio should be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// Not above.
    AtMost(f64),
    /// Not below.
    AtLeast(f64),
}

impl Target {
    /// Whether a ratio is what it should be; one that is no number never is.
    pub fn is_met(self, ratio: f64) -> bool {
        match self {
            Self::AtMost(limit) => ratio <= limit,
            Self::AtLeast(limit) => ratio >= limit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[f64]) -> Samples {
        Samples(values.to_vec())
    }

    /// Proves quantiles of odd and even counts, of one value and of none, in any order.
    #[test]
    fn quantiles() {
        let odd = samples(&[5.0, 1.0, 3.0, 2.0, 4.0]);
        assert_eq!((odd.median(), odd.quantile(0.25)), (3.0, 2.0));
        let even = samples(&[4.0, 1.0, 2.0, 3.0]);
        assert_eq!((even.median(), even.quantile(0.75)), (2.5, 3.25));
        let summary = samples(&[7.0]).summary();
        assert_eq!(
            (summary.count, summary.q1, summary.p99, summary.max),
            (1, 7.0, 7.0, 7.0)
        );
        assert_eq!(samples(&[]).median(), 0.0);
    }

    /// Proves that one value out of line moves no median.
    #[test]
    fn medians_ignore_outliers() {
        let ratio = Ratio::of_medians(&samples(&[2.0, 2.0, 900.0]), &samples(&[1.0, 1.0, 1.0]));
        assert_eq!(ratio.value, 2.0);
        assert!(ratio.high > 2.0);
    }

    /// Proves that a machine that slows down during the rounds changes no paired ratio.
    #[test]
    fn drift_cancels_in_pairs() {
        let a = samples(&[2.0, 4.0, 8.0, 16.0]);
        let b = samples(&[1.0, 2.0, 4.0, 8.0]);
        let ratio = Ratio::paired(&a, &b);
        assert_eq!(
            (ratio.value, ratio.low, ratio.high, ratio.count),
            (2.0, 2.0, 2.0, 4)
        );
    }

    /// Proves that a ratio of tails sees what a median does not, and where it comes from.
    #[test]
    fn tails() {
        let mut slow = vec![1.0; 300];
        slow[..6].fill(4.0);
        let ratio = Ratio::of_tails(&samples(&slow), &samples(&[1.0; 300]));
        assert_eq!((ratio.value, ratio.low, ratio.count), (4.0, 1.0, 300));
        assert_eq!(ratio.high, 2.5);
    }

    /// Proves that targets hold at their limits, on the right side of them, and for no nonsense.
    #[test]
    fn targets() {
        assert!(Target::AtMost(2.0).is_met(2.0) && !Target::AtMost(2.0).is_met(2.01));
        assert!(Target::AtLeast(0.95).is_met(0.95) && !Target::AtLeast(0.95).is_met(0.94));
        assert!(!Target::AtMost(2.0).is_met(f64::NAN) && !Target::AtLeast(1.0).is_met(f64::NAN));
        let zero = Ratio::paired(&samples(&[0.0]), &samples(&[0.0]));
        assert!(zero.value.is_finite());
    }
}
