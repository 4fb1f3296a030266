// SPDX-License-Identifier: GPL-2.0-only

//! The GPU addresses of a file.
//!
//! The host has one address space for a process and a virtual GPU (protocol 4.10); so all vms of a
//! file share it, and a [`Space`] knows who uses what. An address that the caller fixes is reserved
//! with the host before anything is mapped there, so that the host never chooses it for somebody else
//! in between.
//!
//! # Locks
//!
//! `Space::ranges` is held for look-ups and changes only; the host is asked before and after. What is
//! taken out is dropped behind it.

use core::sync::atomic::{
    AtomicU64,
    Ordering, //
};

use kernel::prelude::*;
use kernel::sync::{
    new_mutex,
    Arc,
    Mutex, //
};

use crate::backed::Backed;
use crate::host_error::HostResult;
use crate::range_map::RangeMap;
use crate::reaper::Owned;
use crate::reservation::Reservation;

/// An object, or nothing, at addresses that are there for nothing else.
pub(crate) struct Binding {
    // In this order: the addresses are free, then what was behind them may go.
    range: Owned,
    backed: Option<Arc<Backed>>,
}

impl Binding {
    /// A binding, made of its parts.
    pub(crate) fn new(range: Owned, backed: Option<Arc<Backed>>) -> Self {
        Self { range, backed }
    }

    /// Ends the binding and waits for the host.
    ///
    /// # Errors
    ///
    /// Those of [`Owned::give_back`].
    fn end(self) -> HostResult {
        self.range.give_back()?;
        self.backed.map_or(Ok(()), Backed::end)
    }
}

/// What addresses are used for.
enum Use {
    /// About to be bound, or being unbound; the number tells one from the next.
    Changing(u64),
    Bound(Binding),
    Reserved(Arc<Reservation>),
}

/// Addresses that are not free.
struct Entry {
    /// The vm that uses them.
    vm: u64,
    usage: Use,
}

/// GPU addresses of one file.
#[pin_data]
pub(crate) struct Space {
    #[pin]
    ranges: Mutex<RangeMap<Entry>>,
    next_change: AtomicU64,
}

/// Where something is to be bound.
pub(crate) enum Place<'a> {
    /// At addresses that are free, and taken now.
    Free(Changing<'a>),
    /// In a reservation.
    Reserved(Arc<Reservation>),
}

/// What is to be unbound.
pub(crate) enum Bound<'a> {
    /// A binding of its own, which is taken out.
    Whole(Binding, Changing<'a>),
    /// Part of a reservation.
    Reserved(Arc<Reservation>),
}

impl Space {
    /// No addresses are used.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                ranges <- new_mutex!(RangeMap::new(), "Space::ranges"),
                next_change: AtomicU64::new(0),
            }),
            GFP_KERNEL,
        )
    }

    /// Finds out where `vm` can bind `size` bytes at `start`, and takes free addresses.
    ///
    /// # Errors
    ///
    /// `EEXIST` if part of them is not free, `ENOMEM`.
    pub(crate) fn place(&self, vm: u64, start: u64, size: u64) -> Result<Place<'_>> {
        let slot = RangeMap::slot()?;
        let id = self.next_change.fetch_add(1, Ordering::Relaxed);
        let mut ranges = self.ranges.lock();
        match ranges.around(start, size).map(|(_, range)| &range.value) {
            Some(Entry {
                vm: owner,
                usage: Use::Reserved(reservation),
            }) if *owner == vm => return Ok(Place::Reserved(reservation.clone())),
            _ => {}
        }
        let entry = Entry {
            vm,
            usage: Use::Changing(id),
        };
        ranges
            .insert(slot, start, size, entry)
            .map_err(|_| EEXIST)?;
        Ok(Place::Free(Changing {
            space: self,
            start,
            id,
        }))
    }

    /// The reservation of `vm` that has all of `size` bytes at `start`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is none.
    pub(crate) fn reservation(&self, vm: u64, start: u64, size: u64) -> Result<Arc<Reservation>> {
        let ranges = self.ranges.lock();
        match ranges.around(start, size).map(|(_, range)| &range.value) {
            Some(Entry {
                vm: owner,
                usage: Use::Reserved(reservation),
            }) if *owner == vm => Ok(reservation.clone()),
            _ => Err(EINVAL),
        }
    }

    /// Takes out what `vm` has bound at exactly `size` bytes at `start`, or finds the reservation
    /// they are in.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is neither.
    pub(crate) fn bound(&self, vm: u64, start: u64, size: u64) -> Result<Bound<'_>> {
        let id = self.next_change.fetch_add(1, Ordering::Relaxed);
        let mut ranges = self.ranges.lock();
        let exact = ranges.get(start).is_some_and(|range| range.size == size);
        if exact {
            if let Some(entry) = ranges.get_mut(start) {
                if entry.vm == vm && matches!(entry.usage, Use::Bound(_)) {
                    let usage = core::mem::replace(&mut entry.usage, Use::Changing(id));
                    let change = Changing {
                        space: self,
                        start,
                        id,
                    };
                    if let Use::Bound(binding) = usage {
                        return Ok(Bound::Whole(binding, change));
                    }
                }
            }
        }
        drop(ranges);
        self.reservation(vm, start, size).map(Bound::Reserved)
    }

    /// Enters something at addresses that the host chose.
    ///
    /// Addresses that are just being given back may be in the way: the host has them back already,
    /// or it would not have chosen them.
    ///
    /// # Errors
    ///
    /// `EIO` if the host gave away what is used, `ENOMEM`.
    fn enter_chosen(&self, vm: u64, start: u64, size: u64, usage: Use) -> Result {
        let slot = RangeMap::slot()?;
        let mut ranges = self.ranges.lock();
        while let Some((stale, range)) = ranges.first_overlap(start, size) {
            if !matches!(range.value.usage, Use::Changing(_)) {
                drop(ranges);
                drop(usage);
                return Err(EIO);
            }
            ranges.remove(stale);
        }
        let refused = ranges.insert(slot, start, size, Entry { vm, usage });
        drop(ranges);
        refused.map_err(|_| EIO)
    }

    /// Enters a binding at an address that the host chose.
    ///
    /// # Errors
    ///
    /// As `enter_chosen`.
    pub(crate) fn bind_chosen(&self, vm: u64, start: u64, size: u64, binding: Binding) -> Result {
        self.enter_chosen(vm, start, size, Use::Bound(binding))
    }

    /// Enters a reservation at an address that the host chose.
    ///
    /// # Errors
    ///
    /// As `enter_chosen`.
    pub(crate) fn reserve_chosen(&self, vm: u64, reservation: Arc<Reservation>) -> Result {
        let (start, size) = (reservation.start(), reservation.size());
        self.enter_chosen(vm, start, size, Use::Reserved(reservation))
    }

    /// The reservation of `vm` of exactly `size` bytes at `start`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is none.
    pub(crate) fn whole_reservation(
        &self,
        vm: u64,
        start: u64,
        size: u64,
    ) -> Result<Arc<Reservation>> {
        let reservation = self.reservation(vm, start, size)?;
        if (reservation.start(), reservation.size()) != (start, size) {
            return Err(EINVAL);
        }
        Ok(reservation)
    }

    /// Takes a reservation out that was closed; its addresses are not free before the result is
    /// dropped.
    pub(crate) fn retire(&self, reservation: &Arc<Reservation>) -> Changing<'_> {
        let id = self.next_change.fetch_add(1, Ordering::Relaxed);
        let start = reservation.start();
        let mut ranges = self.ranges.lock();
        let old = match ranges.get_mut(start) {
            Some(entry) if matches!(&entry.usage, Use::Reserved(r) if Arc::ptr_eq(r, reservation)) => {
                Some(core::mem::replace(&mut entry.usage, Use::Changing(id)))
            }
            _ => None,
        };
        drop(ranges);
        drop(old);
        Changing {
            space: self,
            start,
            id,
        }
    }

    /// Frees all addresses of a vm.
    pub(crate) fn forget(&self, vm: u64) {
        let mut from = 0;
        loop {
            let mut ranges = self.ranges.lock();
            let Some((start, range)) = ranges.next(from) else {
                return;
            };
            let ours = range.value.vm == vm;
            from = start.saturating_add(range.size);
            let gone = if ours { ranges.remove(start) } else { None };
            drop(ranges);
            drop(gone);
        }
    }

    /// Everything that `vm` has bound.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn all_backed(&self, vm: u64) -> Result<KVVec<Arc<Backed>>> {
        let mut all = KVVec::new();
        let mut from = 0;
        loop {
            let reservation = {
                let ranges = self.ranges.lock();
                let Some((start, range)) = ranges.next(from) else {
                    return Ok(all);
                };
                from = start.saturating_add(range.size);
                match &range.value.usage {
                    _ if range.value.vm != vm => continue,
                    Use::Bound(binding) => {
                        if let Some(backed) = &binding.backed {
                            all.push(backed.clone(), GFP_KERNEL)?;
                        }
                        continue;
                    }
                    Use::Reserved(reservation) => reservation.clone(),
                    Use::Changing(_) => continue,
                }
            };
            reservation.collect(&mut all)?;
        }
    }
}

/// Addresses that are about to be used otherwise; free when this is dropped.
pub(crate) struct Changing<'a> {
    space: &'a Space,
    start: u64,
    id: u64,
}

impl Changing<'_> {
    fn fill(&self, usage: Use) -> Result {
        let mut ranges = self.space.ranges.lock();
        match ranges.get_mut(self.start) {
            Some(entry) if matches!(entry.usage, Use::Changing(id) if id == self.id) => {
                entry.usage = usage;
                Ok(())
            }
            _ => {
                drop(ranges);
                drop(usage);
                Err(EIO)
            }
        }
    }

    /// Uses them for a binding.
    ///
    /// # Errors
    ///
    /// `EIO` if the host gave them to somebody else meanwhile.
    pub(crate) fn bind(self, binding: Binding) -> Result {
        self.fill(Use::Bound(binding))
    }

    /// Uses them for a reservation.
    ///
    /// # Errors
    ///
    /// `EIO` if the host gave them to somebody else meanwhile.
    pub(crate) fn reserve(self, reservation: Arc<Reservation>) -> Result {
        self.fill(Use::Reserved(reservation))
    }
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        let mut ranges = self.space.ranges.lock();
        let stale = ranges
            .get(self.start)
            .is_some_and(|range| matches!(range.value.usage, Use::Changing(id) if id == self.id));
        if stale {
            ranges.remove(self.start);
        }
    }
}

impl Bound<'_> {
    /// Ends a binding of its own and waits for the host.
    ///
    /// # Errors
    ///
    /// Those of [`Owned::give_back`].
    pub(crate) fn end_whole(binding: Binding, change: Changing<'_>) -> HostResult {
        let ended = binding.end();
        drop(change);
        ended
    }
}
