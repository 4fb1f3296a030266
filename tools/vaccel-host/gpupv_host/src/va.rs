// SPDX-License-Identifier: MIT OR Apache-2.0
//! GPU virtual address spaces: one per process and virtual GPU (protocol 4.10), in 4 KiB pages.
//!
//! A space is a map of disjoint ranges. Reserving adds a range without memory, mapping replaces
//! whatever it covers, freeing cuts ranges out. The table is shared with a running job as it was
//! when the job started ([`VaSpace::snapshot`]); changing a shared table copies it first, once a
//! job. No operation looks at more ranges than it changes, however many there are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::backing::Backing;
use crate::config::MAX_VA_RANGES;
use crate::gaps::Gaps;

/// Bytes of a page.
pub const PAGE: u64 = gpupv::PAGE_SIZE;
/// First page handed out: the first 64 KiB stay unmapped, so that address 0 always faults.
pub const FIRST_PAGE: u64 = 16;
/// First page past the space: 47 bits of address.
pub const END_PAGE: u64 = 1 << 35;
/// Alignment, in pages, of addresses the host chooses.
const CHOSEN_ALIGN: u64 = 16;

/// Why a range could not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VaError {
    /// Outside the space, empty, or overflowing.
    Range,
    /// Part of it is in use (or, when freeing, not in use).
    Taken,
    /// No room, or too many ranges.
    Full,
}

/// What a range leads to.
#[derive(Debug, Clone)]
pub enum Target {
    /// Nothing: access faults.
    NoAccess,
    /// Reads give zeros, writes are dropped.
    Zero,
    /// An allocation.
    Memory {
        /// Its pages.
        backing: Arc<Backing>,
        /// First page of the range in the allocation.
        first: u64,
        /// Writing is allowed.
        write: bool,
    },
}

impl Target {
    /// The same target `pages` further on.
    fn skip(&self, pages: u64) -> Self {
        let mut target = self.clone();
        if let Self::Memory { first, .. } = &mut target {
            *first = first.saturating_add(pages);
        }
        target
    }

    /// What tells its backing store from others, as long as the target is there.
    fn backing(&self) -> Option<usize> {
        match self {
            Self::Memory { backing, .. } => Some(identity(backing)),
            Self::NoAccess | Self::Zero => None,
        }
    }
}

fn identity(backing: &Arc<Backing>) -> usize {
    Arc::as_ptr(backing).addr()
}

/// A range of pages with one target.
#[derive(Debug, Clone)]
pub struct VaRange {
    /// Length in pages.
    pub pages: u64,
    /// Where it leads.
    pub target: Target,
}

/// Ranges by their first page.
#[derive(Debug, Clone, Default)]
pub struct VaTable {
    ranges: BTreeMap<u64, VaRange>,
    /// First pages of the ranges that lead to a backing store, by what identifies it.
    by_backing: BTreeSet<(usize, u64)>,
}

/// Where a range may be placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Exactly here, in bytes.
    At(u64),
    /// Anywhere from the first address up to (not including) the second; 0 for the second means
    /// the end of the space.
    Between(u64, u64),
}

impl Place {
    /// The place a command asks for: its base address if there is one, else its bounds.
    pub fn from_wire(base: u64, minimum: u64, maximum: u64) -> Self {
        if base == 0 {
            Self::Between(minimum, maximum)
        } else {
            Self::At(base)
        }
    }
}

fn page_of(address: u64) -> Result<u64, VaError> {
    if address & PAGE.wrapping_sub(1) != 0 {
        return Err(VaError::Range);
    }
    address.checked_div(PAGE).ok_or(VaError::Range)
}

/// The address of a page.
fn address_of(page: u64) -> u64 {
    page.saturating_mul(PAGE)
}

/// Checks a range of pages against the space, and returns its end.
fn check(first: u64, pages: u64) -> Result<u64, VaError> {
    let end = first.checked_add(pages).ok_or(VaError::Range)?;
    if pages == 0 || first < FIRST_PAGE || end > END_PAGE {
        return Err(VaError::Range);
    }
    Ok(end)
}

/// Checks a range in bytes against the space.
pub fn check_bytes(base: u64, bytes: u64) -> Result<(), VaError> {
    check(page_of(base)?, page_of(bytes)?).map(drop)
}

impl VaTable {
    /// The range that contains `page`: its first page, and the range.
    pub fn find(&self, page: u64) -> Option<(u64, &VaRange)> {
        let (first, range) = self.ranges.range(..=page).next_back()?;
        (page < first.saturating_add(range.pages)).then_some((*first, range))
    }

    /// Whether any range leads to this backing store.
    pub fn uses(&self, wanted: &Arc<Backing>) -> bool {
        self.leading_to(wanted).next().is_some()
    }

    /// First pages of the ranges that lead to this backing store.
    fn leading_to(&self, wanted: &Arc<Backing>) -> impl Iterator<Item = u64> + '_ {
        let wanted = identity(wanted);
        let found = self.by_backing.range((wanted, 0)..=(wanted, u64::MAX));
        found.map(|(_, first)| *first)
    }

    fn insert(&mut self, first: u64, range: VaRange) {
        if let Some(backing) = range.target.backing() {
            self.by_backing.insert((backing, first));
        }
        self.ranges.insert(first, range);
    }

    fn remove(&mut self, first: u64) {
        let gone = self.ranges.remove(&first);
        if let Some(backing) = gone.and_then(|range| range.target.backing()) {
            self.by_backing.remove(&(backing, first));
        }
    }

    /// Whether anything lies in the pages from `first` up to `end`.
    fn occupied(&self, first: u64, end: u64) -> bool {
        self.find(first).is_some() || self.ranges.range(first..end).next().is_some()
    }

    /// Makes `page` the first of a range, if it is inside one.
    fn split(&mut self, page: u64) {
        let Some((first, range)) = self.find(page) else {
            return;
        };
        let before = page.saturating_sub(first);
        if before == 0 {
            return;
        }
        let after = VaRange {
            pages: range.pages.saturating_sub(before),
            target: range.target.skip(before),
        };
        if let Some(range) = self.ranges.get_mut(&first) {
            range.pages = before;
        }
        self.insert(page, after);
    }

    /// Cuts the pages from `first` up to `end` out of all ranges.
    fn carve(&mut self, first: u64, end: u64) {
        self.split(first);
        self.split(end);
        let inside: Vec<u64> = self.ranges.range(first..end).map(|(at, _)| *at).collect();
        for at in inside {
            self.remove(at);
        }
    }

    /// Where the pages from `first` up to `end` lead, in parts; those in no range lead to nothing.
    fn parts(&self, first: u64, end: u64) -> Vec<(u64, VaRange)> {
        let start = self.find(first).map_or(first, |(start, _)| start);
        let mut parts = Vec::new();
        let mut next = first;
        let nothing = |from: u64, to: u64| {
            let pages = to.saturating_sub(from);
            let target = Target::NoAccess;
            (pages > 0).then_some((from, VaRange { pages, target }))
        };
        for (at, range) in self.ranges.range(start..end) {
            let from = first.max(*at);
            let to = at.saturating_add(range.pages).min(end);
            parts.extend(nothing(next, from));
            let part = VaRange {
                pages: to.saturating_sub(from),
                target: range.target.skip(from.saturating_sub(*at)),
            };
            parts.push((from, part));
            next = to;
        }
        parts.extend(nothing(next, end));
        parts
    }

    /// How many of the pages from `first` up to `end` are in ranges.
    fn covered(&self, first: u64, end: u64) -> u64 {
        let start = self.find(first).map_or(first, |(start, _)| start);
        self.ranges
            .range(start..end)
            .map(|(at, range)| {
                let range_end = at.saturating_add(range.pages).min(end);
                range_end.saturating_sub(*at.max(&first))
            })
            .fold(0, u64::saturating_add)
    }
}

/// A process's space on one GPU.
#[derive(Debug)]
pub struct VaSpace {
    table: Arc<VaTable>,
    /// What no range covers.
    gaps: Gaps,
}

impl Default for VaSpace {
    fn default() -> Self {
        Self {
            table: Arc::default(),
            gaps: Gaps::new(FIRST_PAGE, END_PAGE, CHOSEN_ALIGN),
        }
    }
}

impl VaSpace {
    /// The table as it is now.
    pub fn snapshot(&self) -> Arc<VaTable> {
        Arc::clone(&self.table)
    }

    /// How many gaps were looked at so far.
    #[cfg(test)]
    pub fn looks(&self) -> usize {
        self.gaps.visited()
    }

    /// How many ranges there are.
    pub fn ranges(&self) -> usize {
        self.table.ranges.len()
    }

    /// Room for a range that may cut another one in two.
    fn check_room(&self) -> Result<(), VaError> {
        if self.ranges().saturating_add(2) > MAX_VA_RANGES {
            return Err(VaError::Full);
        }
        Ok(())
    }

    fn choose(&self, pages: u64, minimum: u64, maximum: u64) -> Result<u64, VaError> {
        let low = minimum.div_ceil(PAGE).max(FIRST_PAGE);
        let high = match maximum {
            0 => END_PAGE,
            _ => maximum.checked_div(PAGE).unwrap_or(0).min(END_PAGE),
        };
        if pages == 0 || low >= high {
            return Err(VaError::Range);
        }
        let place = self.gaps.fit(pages, CHOSEN_ALIGN, low, high);
        place.ok_or(VaError::Full)
    }

    /// Reserves pages that are not in use yet, and returns their address.
    ///
    /// # Errors
    ///
    /// When there is no such place.
    pub fn reserve(&mut self, place: Place, pages: u64, target: Target) -> Result<u64, VaError> {
        self.check_room()?;
        let first = match place {
            Place::At(base) => page_of(base)?,
            Place::Between(minimum, maximum) => self.choose(pages, minimum, maximum)?,
        };
        let end = check(first, pages)?;
        if self.table.occupied(first, end) {
            return Err(VaError::Taken);
        }
        let range = VaRange { pages, target };
        Arc::make_mut(&mut self.table).insert(first, range);
        self.gaps.take(first, end);
        Ok(address_of(first))
    }

    /// Maps pages, replacing what is there if the caller chose the place, and returns their
    /// address.
    ///
    /// # Errors
    ///
    /// When there is no such place.
    pub fn map(&mut self, place: Place, pages: u64, target: Target) -> Result<u64, VaError> {
        let Place::At(base) = place else {
            return self.reserve(place, pages, target);
        };
        self.check_room()?;
        let first = page_of(base)?;
        let end = check(first, pages)?;
        let table = Arc::make_mut(&mut self.table);
        table.carve(first, end);
        table.insert(first, VaRange { pages, target });
        self.gaps.take(first, end);
        Ok(base)
    }

    /// Has pages at `to` lead where those at `from` do, replacing what is there; pages in no range lead to
    /// nothing. Both places may overlap: what counts is what was there before.
    ///
    /// # Errors
    ///
    /// When a place is outside of the space, or there would be more ranges than `room` allows or a space may
    /// have; then nothing changes.
    pub fn copy(&mut self, from: u64, to: u64, pages: u64, room: usize) -> Result<(), VaError> {
        let (from, to) = (page_of(from)?, page_of(to)?);
        let parts = self.table.parts(from, check(from, pages)?);
        let end = check(to, pages)?;
        // What is at either end of the place may be cut in two.
        let new = parts.len().saturating_add(2);
        if new > room || self.ranges().saturating_add(new) > MAX_VA_RANGES {
            return Err(VaError::Full);
        }
        let table = Arc::make_mut(&mut self.table);
        table.carve(to, end);
        for (at, part) in parts {
            table.insert(to.saturating_add(at.saturating_sub(from)), part);
        }
        self.gaps.take(to, end);
        Ok(())
    }

    /// Gives pages back. All of them must be reserved or mapped.
    ///
    /// # Errors
    ///
    /// [`VaError::Taken`] when some are not; then nothing changes.
    pub fn free(&mut self, base: u64, bytes: u64) -> Result<(), VaError> {
        self.check_room()?;
        let (first, pages) = (page_of(base)?, page_of(bytes)?);
        let end = check(first, pages)?;
        if self.table.covered(first, end) != pages {
            return Err(VaError::Taken);
        }
        Arc::make_mut(&mut self.table).carve(first, end);
        self.gaps.give(first, end);
        Ok(())
    }

    /// Leaves the ranges of an allocation that goes away in place, without access.
    pub fn forget(&mut self, gone: &Arc<Backing>) {
        if !self.table.uses(gone) {
            return;
        }
        let table = Arc::make_mut(&mut self.table);
        let ranges: Vec<u64> = table.leading_to(gone).collect();
        for first in ranges {
            table.by_backing.remove(&(identity(gone), first));
            if let Some(range) = table.ranges.get_mut(&first) {
                range.target = Target::NoAccess;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn targets(space: &VaSpace) -> Vec<(u64, u64, &'static str)> {
        space
            .table
            .ranges
            .iter()
            .map(|(first, range)| {
                let name = match range.target {
                    Target::NoAccess => "none",
                    Target::Zero => "zero",
                    Target::Memory { .. } => "memory",
                };
                (*first, range.pages, name)
            })
            .collect()
    }

    fn memory(pages: u64) -> (Arc<Backing>, Target) {
        let backing = Arc::new(Backing::new(pages, true));
        let target = Target::Memory {
            backing: Arc::clone(&backing),
            first: 0,
            write: true,
        };
        (backing, target)
    }

    /// Chosen addresses are aligned, inside the bounds, never overlap, and run out.
    #[test]
    fn chosen_places() {
        let mut space = VaSpace::default();
        let anywhere = Place::Between(0, 0);
        let first = space.reserve(anywhere, 1, Target::Zero).unwrap();
        let second = space.reserve(anywhere, 1, Target::Zero).unwrap();
        assert_eq!((first, second), (0x1_0000, 0x2_0000));
        let bounded = Place::Between(MIB + 1, MIB + 0x3_0000);
        assert_eq!(space.reserve(bounded, 16, Target::Zero), Ok(MIB + 0x1_0000));
        assert_eq!(space.reserve(bounded, 16, Target::Zero), Ok(MIB + 0x2_0000));
        assert_eq!(space.reserve(bounded, 16, Target::Zero), Err(VaError::Full));
        let huge = space.reserve(anywhere, u64::MAX, Target::Zero);
        assert_eq!(huge, Err(VaError::Full));
    }

    /// Places outside the space, misaligned or taken are refused.
    #[test]
    fn refused_places() {
        let mut space = VaSpace::default();
        for (base, pages) in [
            (0xf000, 1),
            (MIB + 1, 1),
            (MIB, 0),
            (1 << 47, 1),
            (MIB, u64::MAX),
        ] {
            let result = space.reserve(Place::At(base), pages, Target::NoAccess);
            assert_eq!(result, Err(VaError::Range), "{base:#x} {pages}");
        }
        space.reserve(Place::At(MIB), 4, Target::NoAccess).unwrap();
        for base in [MIB - PAGE, MIB, MIB + 3 * PAGE] {
            let result = space.reserve(Place::At(base), 2, Target::NoAccess);
            assert_eq!(result, Err(VaError::Taken), "{base:#x}");
        }
        assert_eq!(space.free(MIB, 5 * PAGE), Err(VaError::Taken));
        assert_eq!(space.free(MIB, 4 * PAGE), Ok(()));
        assert_eq!(space.ranges(), 0);
    }

    /// A copy leads where its source did, part by part, to nothing where nothing was; it may overlap its
    /// source, and what else was at its place is cut.
    #[test]
    fn copies() {
        let mut space = VaSpace::default();
        let page = MIB / PAGE;
        let (backing, target) = memory(4);
        space.map(Place::At(MIB), 4, target).unwrap();
        space
            .map(Place::At(MIB + 6 * PAGE), 2, Target::Zero)
            .unwrap();
        let full = space.copy(MIB + PAGE, MIB + 2 * PAGE, 6, 4);
        assert_eq!((full, space.ranges()), (Err(VaError::Full), 2));
        space.copy(MIB + PAGE, MIB + 2 * PAGE, 6, 5).unwrap();
        let expected = [
            (page, 2, "memory"),
            (page + 2, 3, "memory"),
            (page + 5, 2, "none"),
            (page + 7, 1, "zero"),
        ];
        assert_eq!(targets(&space), expected);
        let first = |page| match space.table.find(page).unwrap().1.target {
            Target::Memory { first, .. } => first,
            _ => panic!("no memory"),
        };
        assert_eq!((first(page), first(page + 2)), (0, 1));
        // Both parts go with the allocation.
        space.forget(&backing);
        assert!(targets(&space).iter().all(|(.., name)| *name != "memory"));
        assert_eq!(space.copy(0, MIB, 1, 9), Err(VaError::Range));
        assert_eq!(space.copy(MIB, 1 << 47, 1, 9), Err(VaError::Range));
        assert_eq!(space.copy(MIB, MIB + 1, 1, 9), Err(VaError::Range));
        let before = targets(&space);
        for at in 0..MAX_VA_RANGES as u64 / 2 {
            let place = Place::At(2 * MIB + 2 * at * PAGE);
            space.map(place, 1, Target::Zero).unwrap();
        }
        let full = space.copy(2 * MIB, 1 << 40, MAX_VA_RANGES as u64, usize::MAX);
        assert_eq!((full, before.len()), (Err(VaError::Full), 4));
        assert!(space.table.find((1 << 40) / PAGE).is_none());
    }

    /// Mapping into the middle of a range cuts it, and freeing across both leaves the ends.
    #[test]
    fn map_and_free_cut_ranges() {
        let mut space = VaSpace::default();
        let (backing, target) = memory(8);
        space.map(Place::At(MIB), 8, target).unwrap();
        let middle = Place::At(MIB + 3 * PAGE);
        space.map(middle, 2, Target::Zero).unwrap();
        assert_eq!(
            targets(&space),
            [(256, 3, "memory"), (259, 2, "zero"), (261, 3, "memory")]
        );
        let (_, last) = space.table.find(262).unwrap();
        assert!(matches!(last.target, Target::Memory { first: 5, .. }));
        space.free(MIB + 2 * PAGE, 4 * PAGE).unwrap();
        assert_eq!(targets(&space), [(256, 2, "memory"), (262, 2, "memory")]);
        space.forget(&backing);
        assert_eq!(targets(&space), [(256, 2, "none"), (262, 2, "none")]);
        assert!(!space.table.uses(&backing));
    }

    /// What leads to a backing store is known without looking for it, through cuts and
    /// replacements, and what was freed is found as a gap again.
    #[test]
    fn uses_and_gaps_follow_the_ranges() {
        let mut space = VaSpace::default();
        let (backing, target) = memory(48);
        space.map(Place::At(MIB), 48, target.clone()).unwrap();
        space.map(Place::At(2 * MIB), 48, target).unwrap();
        for (at, pieces) in [(MIB, 3), (2 * MIB, 2)] {
            assert!(space.table.uses(&backing));
            space
                .map(Place::At(at + 16 * PAGE), 16, Target::Zero)
                .unwrap();
            assert_eq!(space.table.leading_to(&backing).count(), pieces);
            space.free(at, 16 * PAGE).unwrap();
            space.map(Place::At(at), 48, Target::NoAccess).unwrap();
            if at == MIB {
                assert_eq!(space.table.leading_to(&backing).count(), 1);
            }
            let (middle, end) = (at + 16 * PAGE, at + 48 * PAGE);
            space.free(middle, 16 * PAGE).unwrap();
            let found = space.reserve(Place::Between(at, end), 16, Target::Zero);
            assert_eq!(found, Ok(middle));
            let found = space.reserve(Place::Between(at, end), 16, Target::Zero);
            assert_eq!(found, Err(VaError::Full));
            space
                .map(Place::At(at + 8 * PAGE), 8, Target::Zero)
                .unwrap();
        }
        assert!(!space.table.uses(&backing));
        assert!(space.table.by_backing.is_empty());
    }

    /// A snapshot does not change with the space.
    #[test]
    fn snapshots_stay() {
        let mut space = VaSpace::default();
        space.reserve(Place::At(MIB), 1, Target::Zero).unwrap();
        let snapshot = space.snapshot();
        space.free(MIB, PAGE).unwrap();
        assert!(snapshot.find(256).is_some());
        assert!(space.table.find(256).is_none());
    }
}
