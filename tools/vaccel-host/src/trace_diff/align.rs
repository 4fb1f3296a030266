// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which exchange of one trace belongs to which of the other: in each sequence the longest common
//! subsequence of their names.

use std::collections::BTreeMap;

use similar::{Algorithm, DiffOp};

use super::read::Exchange;

/// Exchanges that belong together, or one that has no other.
#[derive(Debug, Clone, Copy)]
pub enum Pair<'a> {
    /// In both traces.
    Both(&'a Exchange, &'a Exchange),
    /// In the first trace only.
    OnlyA(&'a Exchange),
    /// In the second trace only.
    OnlyB(&'a Exchange),
}

impl Pair<'_> {
    /// Where it is, for an order over all sequences: as in the first trace, as far as it is in that.
    fn place(&self) -> (usize, usize) {
        match self {
            Self::Both(a, b) => (a.line, b.line),
            Self::OnlyA(a) => (a.line, 0),
            Self::OnlyB(b) => (b.line, usize::MAX),
        }
    }
}

/// Aligns two traces, sequence by sequence; the result is in the order of the first.
pub fn pairs<'a>(a: &'a [Exchange], b: &'a [Exchange]) -> Vec<Pair<'a>> {
    let mut sequences: BTreeMap<&str, [Vec<&Exchange>; 2]> = BTreeMap::new();
    for exchange in a {
        sequences.entry(&exchange.sequence).or_default()[0].push(exchange);
    }
    for exchange in b {
        sequences.entry(&exchange.sequence).or_default()[1].push(exchange);
    }
    let mut pairs: Vec<Pair<'_>> = sequences.values().flat_map(|[a, b]| align(a, b)).collect();
    pairs.sort_by_key(Pair::place);
    pairs
}

fn align<'a>(a: &[&'a Exchange], b: &[&'a Exchange]) -> Vec<Pair<'a>> {
    fn names<'n>(list: &[&'n Exchange]) -> Vec<&'n str> {
        list.iter().map(|exchange| exchange.name.as_str()).collect()
    }
    let operations = similar::capture_diff_slices(Algorithm::Myers, &names(a), &names(b));
    let mut pairs = Vec::new();
    for operation in operations {
        let a = a.get(operation.old_range()).unwrap_or_default();
        let b = b.get(operation.new_range()).unwrap_or_default();
        if let DiffOp::Equal { .. } = operation {
            pairs.extend(a.iter().zip(b).map(|(a, b)| Pair::Both(a, b)));
        } else {
            pairs.extend(a.iter().map(|a| Pair::OnlyA(a)));
            pairs.extend(b.iter().map(|b| Pair::OnlyB(b)));
        }
    }
    pairs
}
