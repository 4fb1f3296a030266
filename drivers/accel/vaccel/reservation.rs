// SPDX-License-Identifier: GPL-2.0-only

//! Reserved GPU addresses: `DRM_IOCTL_VACCEL_VA_RESERVE`, `DRM_IOCTL_VACCEL_VA_RELEASE`.
//!
//! Inside of a reservation pieces are bound, replaced and cut at will. The host is told of what
//! changes; what is left of a piece stays mapped there as it is.
//!
//! # Locks
//!
//! One change at a time has the [`Turn`], from before the host is told until the pieces say what the
//! host knows. `Reservation::inner` is held for look-ups and changes only.
//!
//! # Changes by queues
//!
//! The pieces say what will be when all queued changes have been made. Until then nothing overtakes
//! one: neither a change at once of the same addresses nor the end of the reservation, after which
//! the queue would map into somebody else's addresses.
//!
//! # Lifetime
//!
//! A piece keeps its object; what is replaced is dropped when the host has answered. A change whose
//! caller was killed may or may not have happened: the pieces are then those of before, and what
//! would have been bound is given back, so nothing is reached that is not kept.

use kernel::prelude::*;
use kernel::sync::{
    new_mutex,
    Arc,
    Mutex, //
};

use crate::backed::Backed;
use crate::bindings::uapi;
use crate::bo;
use crate::driver::{
    DrmDevice,
    DrmFile, //
};
use crate::gpupv::{
    self,
    Protection,
    Request,
    ReservationType, //
};
use crate::host_error::HostResult;
use crate::logic::range;
use crate::progress::Step;
use crate::range_map::{
    RangeMap,
    Slot, //
};
use crate::reaper::Owned;
use crate::release::What;
use crate::space::Place;
use crate::turn::{
    Taken,
    Turn, //
};
use crate::vm::{
    self,
    Vm, //
};

/// Most changes that queues have yet to make in one reservation. Hosts queue less than that.
const QUEUED_MAX: usize = 1 << 16;

/// What is behind a piece; nothing for a null binding.
type Piece = Option<Arc<Backed>>;

/// Reserved addresses.
#[pin_data]
pub(crate) struct Reservation {
    #[pin]
    turn: Turn,
    #[pin]
    inner: Mutex<Inner>,
    start: u64,
    size: u64,
    /// What accesses do where nothing is bound.
    pub(crate) empty: Protection,
}

struct Inner {
    /// The addresses; none once they were released.
    // Before the pieces: the addresses are free, then what was behind them may go.
    range: Option<Owned>,
    pieces: RangeMap<Piece>,
    /// Changes that a queue has not got to when it was looked at last.
    queued: KVVec<Queued>,
}

/// A change that a queue makes when it gets there.
struct Queued {
    start: u64,
    size: u64,
    step: Step,
}

impl Inner {
    /// Forgets the queued changes that have been made, or never will because their queue is gone.
    fn tidy(&mut self) {
        self.queued.retain(|change| !change.step.is_over());
    }

    /// Whether a queue has yet to change some of `size` bytes at `start`.
    fn is_queued(&self, start: u64, size: u64) -> bool {
        self.queued
            .iter()
            .any(|change| range::overlap((change.start, change.size), (start, size)))
    }
}

impl Reservation {
    fn new(range: Owned, start: u64, size: u64, empty: Protection) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                turn <- Turn::new(),
                inner <- new_mutex!(
                    Inner {
                        pieces: RangeMap::new(),
                        queued: KVVec::new(),
                        range: Some(range),
                    },
                    "Reservation::inner"
                ),
                start,
                size,
                empty,
            }),
            GFP_KERNEL,
        )
    }

    /// First address.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// Bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Takes the addresses out, so that nothing is bound in it any more.
    ///
    /// # Errors
    ///
    /// `EBUSY` if something is bound in it or a queue has yet to change it, `EINVAL` if it was closed
    /// before, `ERESTARTSYS` on a signal.
    fn close(&self) -> Result<Owned> {
        let _turn = self.turn.take()?;
        let mut inner = self.inner.lock();
        inner.tidy();
        if !inner.pieces.is_empty() || !inner.queued.is_empty() {
            return Err(EBUSY);
        }
        inner.range.take().ok_or(EINVAL)
    }

    /// Adds what is bound in it to `all`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn collect(&self, all: &mut KVVec<Arc<Backed>>) -> Result {
        let inner = self.inner.lock();
        let mut from = 0;
        while let Some((start, range)) = inner.pieces.next(from) {
            from = start.saturating_add(range.size);
            if let Some(backed) = &range.value {
                all.push(backed.clone(), GFP_KERNEL)?;
            }
        }
        Ok(())
    }

    /// How many pieces share an address with `size` bytes at `start`.
    fn count(&self, start: u64, size: u64) -> Result<usize> {
        let inner = self.inner.lock();
        inner.range.as_ref().ok_or(EINVAL)?;
        // OVERFLOW: the range is inside of the reservation.
        let end = start + size;
        let mut from = start;
        let mut count = 0;
        while from < end {
            let Some((piece, range)) = inner.pieces.first_overlap(from, end - from) else {
                break;
            };
            count += 1;
            from = piece.saturating_add(range.size);
        }
        Ok(count)
    }

    /// Prepares to change `size` bytes at `start` at once: waits for the turn and takes the memory
    /// that the change needs.
    ///
    /// # Errors
    ///
    /// `EBUSY` if a queue has yet to change some of them, `ERESTARTSYS` on a signal, `ENOMEM`,
    /// `EINVAL` if it was released meanwhile.
    pub(crate) fn change(&self, start: u64, size: u64) -> Result<Change<'_>> {
        let turn = self.turn.take()?;
        let change = self.prepare(turn, start, size)?;
        let mut inner = self.inner.lock();
        inner.tidy();
        if inner.is_queued(start, size) {
            return Err(EBUSY);
        }
        drop(inner);
        Ok(change)
    }

    /// As [`Reservation::change`], for a change by a queue: to be ended by
    /// [`Change::commit_queued`]. Queues see to their order among themselves.
    ///
    /// It is made in the middle of a submission, which must not start anew.
    ///
    /// # Errors
    ///
    /// `EBUSY` if too many are queued, `EINTR` if killed, `ETIMEDOUT`, `ENOMEM`, `EINVAL` if it was
    /// released meanwhile.
    pub(crate) fn change_queued(&self, start: u64, size: u64) -> Result<Change<'_>> {
        let turn = self.turn.take_killable()?;
        let change = self.prepare(turn, start, size)?;
        let mut inner = self.inner.lock();
        inner.tidy();
        if inner.queued.len() >= QUEUED_MAX {
            return Err(EBUSY);
        }
        inner.queued.reserve(1, GFP_KERNEL)?;
        drop(inner);
        Ok(change)
    }

    fn prepare<'a>(&'a self, turn: Taken<'a>, start: u64, size: u64) -> Result<Change<'a>> {
        let slots = [RangeMap::slot()?, RangeMap::slot()?, RangeMap::slot()?];
        let mut gone = KVVec::new();
        // One more for what comes, if a queue brings it.
        gone.reserve(self.count(start, size)? + 1, GFP_KERNEL)?;
        Ok(Change {
            reservation: self,
            start,
            size,
            slots: slots.map(Some),
            gone,
            _turn: turn,
        })
    }
}

/// A change of a reservation that nothing stands in the way of any more.
pub(crate) struct Change<'a> {
    reservation: &'a Reservation,
    start: u64,
    size: u64,
    slots: [Option<Slot<Piece>>; 3],
    gone: KVVec<Arc<Backed>>,
    _turn: Taken<'a>,
}

impl Change<'_> {
    fn slot(&mut self) -> Option<Slot<Piece>> {
        self.slots.iter_mut().find_map(Option::take)
    }

    /// Notes that a queue has yet to make the change, in `step`. Room for that was taken.
    fn note_queued(&self, step: Step) {
        let queued = Queued {
            start: self.start,
            size: self.size,
            step,
        };
        let mut inner = self.reservation.inner.lock();
        let _ = inner.queued.push(queued, GFP_NOWAIT);
    }

    /// Notes that a queue will make the change in `step`; returns what has to stay until then: what
    /// is behind nothing any more, and what comes.
    pub(crate) fn commit_queued(self, new: Option<Piece>, step: Step) -> KVVec<Arc<Backed>> {
        self.note_queued(step);
        let comes = new.clone().flatten();
        let mut stays = self.commit(new);
        if let Some(backed) = comes {
            // Room for it was taken.
            let _ = stays.push(backed, GFP_NOWAIT);
        }
        stays
    }

    /// Notes that a queue may make the change in `step`: its caller did not wait for the answer. The
    /// pieces stay as they are; returns what has to stay until then, which is what may come.
    pub(crate) fn leave_queued(mut self, new: Option<Piece>, step: Step) -> KVVec<Arc<Backed>> {
        self.note_queued(step);
        if let Some(backed) = new.flatten() {
            // Room for it was taken.
            let _ = self.gone.push(backed, GFP_NOWAIT);
        }
        core::mem::take(&mut self.gone)
    }

    /// Notes that the host has made the change; returns what is behind nothing of it any more.
    ///
    /// Pieces that are cut in two stay behind both parts: they are in the result and in the pieces.
    pub(crate) fn commit(mut self, new: Option<Piece>) -> KVVec<Arc<Backed>> {
        let reservation = self.reservation;
        let (start, size) = (self.start, self.size);
        let mut inner = reservation.inner.lock();
        let pieces = &mut inner.pieces;
        while let Some((at, _)) = pieces.first_overlap(start, size) {
            let Some(old) = pieces.remove(at) else {
                break;
            };
            let rest = range::cut((at, old.size), (start, size));
            for (from, len) in [(at, rest.before), (rest.after_start, rest.after)] {
                if len == 0 {
                    continue;
                }
                // Two parts at most are left over in all, and a slot was taken for each.
                if let Some(slot) = self.slot() {
                    let _ = pieces.insert(slot, from, len, old.value.clone());
                }
            }
            if let Some(backed) = old.value {
                // Room for it was taken.
                let _ = self.gone.push(backed, GFP_NOWAIT);
            }
        }
        if let (Some(piece), Some(slot)) = (new, self.slot()) {
            let _ = pieces.insert(slot, start, size, piece);
        }
        drop(inner);
        core::mem::take(&mut self.gone)
    }
}

/// Ends what a change has replaced, and waits for the host.
///
/// # Errors
///
/// Those of [`Backed::end`]; the rest is given back all the same.
pub(crate) fn end_replaced(gone: KVVec<Arc<Backed>>) -> HostResult {
    let mut result = Ok(());
    for backed in gone {
        if result.is_ok() {
            result = Backed::end(backed);
        }
    }
    result
}

/// Has the host reserve addresses: exactly at `base`, or where it likes if that is 0.
///
/// # Errors
///
/// Those of the host; `EIO` if it reserves somewhere else.
pub(crate) fn reserve_range(vm: &Vm, base: u64, size: u64, zero: bool) -> HostResult<(Owned, u64)> {
    let process = &vm.device.process;
    let chosen = base == 0;
    let request = Request::from(gpupv::ReserveGpuVirtualAddress {
        adapter: process.adapter.handle,
        base_address: base,
        minimum_address: if chosen { vm::VA_MIN } else { 0 },
        maximum_address: if chosen { vm::VA_MAX } else { 0 },
        size,
        reservation_type: if zero {
            ReservationType::ZERO
        } else {
            ReservationType::NO_ACCESS
        },
        ..Default::default()
    });
    let what = What::GpuVa {
        adapter: process.adapter.handle,
        base,
        size,
    };
    let (range, start) =
        process.create(&request, what, |answer| Ok(answer.reply.virtual_address))?;
    vm::check_range(start, size)?;
    if !chosen && start != base {
        return Err(EIO.into());
    }
    Ok((range, start))
}

/// `DRM_IOCTL_VACCEL_VA_RESERVE`.
pub(crate) fn reserve(
    _dev: &DrmDevice,
    args: &mut uapi::drm_vaccel_va_range,
    file: &DrmFile,
) -> HostResult {
    if args.flags & !uapi::VACCEL_VA_ZERO != 0 || args.pad != 0 || args.reserved != [0; 2] {
        return Err(EINVAL.into());
    }
    vm::check_pages(args.gpu_va, args.size).map_err(bo::range_error)?;
    let vm = file.inner().vm(args.vm)?;
    vm.device.check()?;
    let zero = args.flags & uapi::VACCEL_VA_ZERO != 0;
    let empty = if zero {
        Protection::ZERO
    } else {
        Protection::NO_ACCESS
    };
    let make = |base| {
        let (range, start) = reserve_range(&vm, base, args.size, zero)?;
        HostResult::Ok(Reservation::new(range, start, args.size, empty)?)
    };
    if args.gpu_va == 0 {
        let reservation: Arc<Reservation> = make(0)?;
        let start = reservation.start();
        vm.space.reserve_chosen(vm.id, reservation)?;
        args.gpu_va = start;
        return Ok(());
    }
    let place = vm.space.place(vm.id, args.gpu_va, args.size)?;
    match place {
        Place::Reserved(_) => Err(EEXIST.into()),
        Place::Free(place) => Ok(place.reserve(make(args.gpu_va)?)?),
    }
}

/// `DRM_IOCTL_VACCEL_VA_RELEASE`.
pub(crate) fn release(
    _dev: &DrmDevice,
    args: &mut uapi::drm_vaccel_va_range,
    file: &DrmFile,
) -> HostResult {
    if args.flags != 0 || args.pad != 0 || args.reserved != [0; 2] || args.gpu_va == 0 {
        return Err(EINVAL.into());
    }
    vm::check_pages(args.gpu_va, args.size).map_err(bo::range_error)?;
    let vm = file.inner().vm(args.vm)?;
    let reservation = vm.space.whole_reservation(vm.id, args.gpu_va, args.size)?;
    let range = reservation.close()?;
    let change = vm.space.retire(&reservation);
    let ended = range.give_back();
    drop(change);
    ended
}
