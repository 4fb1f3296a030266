// SPDX-License-Identifier: GPL-2.0-only

//! Disjoint ranges of addresses, each with a value. Everything takes logarithmic time.

use kernel::prelude::*;
use kernel::rbtree::{
    RBTree,
    RBTreeNodeReservation, //
};

use crate::logic::range::overlap;

/// A range, apart from its start.
pub(crate) struct Range<V> {
    pub(crate) size: u64,
    pub(crate) value: V,
}

/// Memory for one more range.
pub(crate) type Slot<V> = RBTreeNodeReservation<u64, Range<V>>;

/// Ranges by their start.
///
/// # Invariants
///
/// No two ranges share an address, and none is empty.
pub(crate) struct RangeMap<V> {
    tree: RBTree<u64, Range<V>>,
}

impl<V> RangeMap<V> {
    /// No ranges.
    pub(crate) fn new() -> Self {
        Self {
            tree: RBTree::new(),
        }
    }

    /// Memory for one range, taken before a lock is.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn slot() -> Result<Slot<V>> {
        RBTreeNodeReservation::new(GFP_KERNEL)
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.tree.is_empty()
    }

    /// The range that starts at `start`.
    pub(crate) fn get(&self, start: u64) -> Option<&Range<V>> {
        self.tree.get(&start)
    }

    /// The range that starts at `start`, to change its value.
    pub(crate) fn get_mut(&mut self, start: u64) -> Option<&mut V> {
        self.tree.get_mut(&start).map(|range| &mut range.value)
    }

    /// The last range that starts before `address`, or at it.
    fn at_or_before(&self, address: u64) -> Option<(u64, &Range<V>)> {
        let end = match address.checked_add(1) {
            Some(next) => self.tree.cursor_lower_bound(&next),
            None => None,
        };
        let found = match &end {
            Some(cursor) => cursor.peek_prev().map(|(start, _)| *start),
            None => self
                .tree
                .cursor_back()
                .map(|cursor| *cursor.current().0)
                .filter(|start| *start <= address),
        };
        found.and_then(|start| Some((start, self.tree.get(&start)?)))
    }

    /// The first range that shares an address with `size` bytes at `start`.
    pub(crate) fn first_overlap(&self, start: u64, size: u64) -> Option<(u64, &Range<V>)> {
        if let Some((before, range)) = self.at_or_before(start) {
            if overlap((before, range.size), (start, size)) {
                return Some((before, range));
            }
        }
        let cursor = self.tree.cursor_lower_bound(&start)?;
        let (first, range) = cursor.current();
        let first = *first;
        if overlap((first, range.size), (start, size)) {
            return Some((first, self.tree.get(&first)?));
        }
        None
    }

    /// The range that all of the `size` bytes at `start` are in.
    pub(crate) fn around(&self, start: u64, size: u64) -> Option<(u64, &Range<V>)> {
        let (first, range) = self.at_or_before(start)?;
        // OVERFLOW: `start` is not before `first`.
        let room = range.size.checked_sub(start - first)?;
        (size <= room).then_some((first, range))
    }

    /// The first range at or behind `start`.
    pub(crate) fn next(&self, start: u64) -> Option<(u64, &Range<V>)> {
        let first = *self.tree.cursor_lower_bound(&start)?.current().0;
        Some((first, self.tree.get(&first)?))
    }

    /// Enters a range.
    ///
    /// # Errors
    ///
    /// Gives the value back if part of the range is not free, or there is none.
    pub(crate) fn insert(
        &mut self,
        slot: Slot<V>,
        start: u64,
        size: u64,
        value: V,
    ) -> Result<(), V> {
        if size == 0 || self.first_overlap(start, size).is_some() {
            return Err(value);
        }
        // INVARIANT: Nothing was in the way, and the range has a size.
        self.tree
            .insert(slot.into_node(start, Range { size, value }));
        Ok(())
    }

    /// Takes the range that starts at `start` out.
    pub(crate) fn remove(&mut self, start: u64) -> Option<Range<V>> {
        self.tree.remove(&start)
    }
}
