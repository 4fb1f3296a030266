// SPDX-License-Identifier: GPL-2.0-only

//! Allocations: what the host makes of the memory of an object for one of its devices.
//!
//! An object has an [`Allocation`] for each vm it is used in, all over the same memory. This file
//! keeps count of who needs one resident, and makes it resident; how allocations are made is said in
//! [`guest_memory`](crate::guest_memory) and [`host_memory`](crate::host_memory).
//!
//! # Locks
//!
//! `Allocation::state` is held for counting only; the host is asked before and after.

use core::sync::atomic::{
    AtomicBool,
    AtomicU32,
    Ordering, //
};

use kernel::alloc::AllocError;
use kernel::prelude::*;
use kernel::sync::{
    new_mutex,
    Arc,
    Mutex, //
};

use crate::bindings::uapi;
use crate::device::Device;
use crate::gpupv::{
    self,
    EncodeError,
    Handle,
    List,
    MakeResidentFlags,
    Request, //
};
use crate::host_error::{
    HostError,
    HostResult, //
};
use crate::memory_charge::{
    MemoryCharge,
    Segment, //
};
use crate::reaper::Owned;
use crate::release::What;
use crate::vm::Vm;

/// How the allocations of one object are used, all together; read where nobody may sleep.
///
/// Memory is one, however many allocations are over it: either it is needed, or one is offered. Who
/// wants the one announces it before looking for the other, so both cannot come to be.
#[derive(Default)]
pub(crate) struct Usage {
    resident: AtomicU32,
    bound: AtomicU32,
    offered: AtomicBool,
}

/// What is bound in a vm that keeps its bindings resident, also while that is evicted.
pub(crate) struct InUse(Arc<Usage>);

impl InUse {
    /// Counts one more binding.
    ///
    /// # Errors
    ///
    /// `EBUSY` if the memory is offered.
    fn new(usage: &Arc<Usage>) -> Result<Self> {
        usage.bound.fetch_add(1, Ordering::SeqCst);
        let this = Self(usage.clone());
        if usage.is_offered() {
            return Err(EBUSY);
        }
        Ok(this)
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.bound.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Usage {
    /// Whether one of them is resident.
    pub(crate) fn is_resident(&self) -> bool {
        self.resident.load(Ordering::SeqCst) != 0
    }

    /// Whether one of them is offered to the host.
    pub(crate) fn is_offered(&self) -> bool {
        self.offered.load(Ordering::SeqCst)
    }

    /// Counts one more that is resident.
    ///
    /// # Errors
    ///
    /// `EBUSY` if one is offered.
    fn resident(&self) -> Result {
        self.resident.fetch_add(1, Ordering::SeqCst);
        if self.is_offered() {
            self.evicted();
            return Err(EBUSY);
        }
        Ok(())
    }

    /// Counts one less that is resident.
    fn evicted(&self) {
        self.resident.fetch_sub(1, Ordering::SeqCst);
    }

    /// Notes that one is about to be offered.
    ///
    /// # Errors
    ///
    /// `EBUSY` if one is offered, resident or bound in a vm that will make it so.
    fn offer(&self) -> Result {
        if self.offered.swap(true, Ordering::SeqCst) {
            return Err(EBUSY);
        }
        if self.is_resident() || self.bound.load(Ordering::SeqCst) != 0 {
            self.reclaimed();
            return Err(EBUSY);
        }
        Ok(())
    }

    /// Notes that none is offered.
    fn reclaimed(&self) {
        self.offered.store(false, Ordering::SeqCst);
    }
}

struct State {
    /// Who needs it resident: bindings, and user space by hand.
    holders: u32,
    /// How many of them are user space's.
    by_hand: u32,
    offered: bool,
    /// What the cgroup pays while there are holders.
    charge: Option<MemoryCharge>,
}

/// An allocation of the host.
#[pin_data(PinnedDrop)]
pub(crate) struct Allocation {
    #[pin]
    state: Mutex<State>,
    usage: Arc<Usage>,
    size: u64,
    segment: Segment,
    // Given back before the device it belongs to.
    owned: Owned,
    pub(crate) device: Arc<Device>,
}

#[pinned_drop]
impl PinnedDrop for Allocation {
    fn drop(self: Pin<&mut Self>) {
        // What was said of this allocation ends with it; the memory need not.
        let (by_hand, offered) = {
            let state = self.state.lock();
            (state.by_hand != 0, state.offered)
        };
        if by_hand {
            self.usage.evicted();
        }
        if offered {
            self.usage.reclaimed();
        }
    }
}

impl Allocation {
    /// Takes charge of an allocation of `size` bytes that the host made.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; the allocation is then given back.
    pub(crate) fn new(
        device: Arc<Device>,
        owned: Owned,
        size: u64,
        segment: Segment,
        usage: Arc<Usage>,
    ) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                state <- new_mutex!(
                    State {
                        holders: 0,
                        by_hand: 0,
                        offered: false,
                        charge: None,
                    },
                    "Allocation::state"
                ),
                usage,
                size,
                segment,
                owned,
                device,
            }),
            GFP_KERNEL,
        )
    }

    /// Gives it back and waits for the host, unless others need it still.
    ///
    /// # Errors
    ///
    /// Those of [`Owned::settle`].
    pub(crate) fn end(this: Arc<Self>) -> HostResult {
        match Arc::into_unique_or_drop(this) {
            Some(mut last) => last.as_mut().project().owned.settle(),
            None => Ok(()),
        }
    }

    /// The host's handle.
    pub(crate) fn handle(&self) -> Handle {
        self.owned.handle()
    }

    /// Counts a binding of a vm that keeps its bindings resident.
    ///
    /// # Errors
    ///
    /// `EBUSY` if the memory is offered.
    pub(crate) fn use_bound(&self) -> Result<InUse> {
        InUse::new(&self.usage)
    }

    /// Whether the memory was offered through another allocation.
    pub(crate) fn is_offered_elsewhere(&self) -> bool {
        let state = self.state.lock();
        !state.offered && self.usage.is_offered()
    }

    /// Size in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Counts somebody who is about to make it resident.
    ///
    /// # Errors
    ///
    /// `EBUSY` if it is offered, `ENOSPC` if the cgroup may not have it resident, `ENOMEM`.
    pub(crate) fn hold(self: &Arc<Self>) -> Result<Hold> {
        let mut state = self.state.lock();
        if state.holders == 0 {
            self.usage.resident()?;
            let adapter = &self.device.process.adapter;
            let charge = adapter.charge(self.segment, self.size);
            state.charge = charge.inspect_err(|_| self.usage.evicted())?;
        }
        state.holders = state.holders.checked_add(1).ok_or(EOVERFLOW)?;
        Ok(Hold(Some(self.clone())))
    }

    fn release(&self) {
        let charge = {
            let mut state = self.state.lock();
            state.holders = state.holders.saturating_sub(1);
            if state.holders != 0 {
                return;
            }
            self.usage.evicted();
            state.charge.take()
        };
        drop(charge);
    }

    /// Makes the hold one that user space gives back by hand.
    pub(crate) fn keep_by_hand(&self, hold: Hold) {
        self.state.lock().by_hand += 1;
        hold.forget();
    }

    /// Takes a hold back that user space had by hand.
    pub(crate) fn take_by_hand(self: &Arc<Self>) -> Option<Hold> {
        let mut state = self.state.lock();
        state.by_hand = state.by_hand.checked_sub(1)?;
        Some(Hold(Some(self.clone())))
    }

    /// Notes that it is about to be offered.
    ///
    /// # Errors
    ///
    /// `EBUSY` if somebody needs the memory resident, or it is offered already.
    pub(crate) fn offer(&self) -> Result {
        let mut state = self.state.lock();
        self.usage.offer()?;
        state.offered = true;
        Ok(())
    }

    /// Notes that it is not offered any more.
    pub(crate) fn reclaimed(&self) {
        let mut state = self.state.lock();
        if state.offered {
            state.offered = false;
            self.usage.reclaimed();
        }
    }

    /// Whether the host has been offered the memory.
    pub(crate) fn is_offered(&self) -> bool {
        self.usage.is_offered()
    }
}

/// Somebody who needs an allocation resident.
pub(crate) struct Hold(Option<Arc<Allocation>>);

impl Hold {
    /// Leaves the count as it is.
    fn forget(mut self) {
        self.0 = None;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(allocation) = &self.0 {
            allocation.release();
        }
    }
}

/// Why an allocation was not made resident.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refusal {
    pub(crate) error: HostError,
    /// What would have to go first, in bytes; 0 if that is not the reason.
    pub(crate) bytes_to_trim: u64,
}

impl Refusal {
    /// Whether something else has to go first.
    pub(crate) fn is_over_budget(&self) -> bool {
        self.error.errno == ENOSPC
    }
}

impl From<HostError> for Refusal {
    fn from(error: HostError) -> Self {
        Self {
            error,
            bytes_to_trim: 0,
        }
    }
}

impl From<Error> for Refusal {
    fn from(errno: Error) -> Self {
        HostError::from(errno).into()
    }
}

impl From<AllocError> for Refusal {
    fn from(error: AllocError) -> Self {
        HostError::from(error).into()
    }
}

impl From<EncodeError> for Refusal {
    fn from(error: EncodeError) -> Self {
        HostError::from(error).into()
    }
}

impl From<Refusal> for HostError {
    fn from(refusal: Refusal) -> Self {
        refusal.error
    }
}

/// Residency of one allocation; ended when it is dropped.
pub(crate) struct Residency {
    owned: Owned,
    _hold: Hold,
}

impl Residency {
    /// Makes `allocation` resident through the paging queue of `vm`, which later submissions wait
    /// for.
    ///
    /// # Errors
    ///
    /// A [`Refusal`].
    pub(crate) fn new(vm: &Vm, allocation: &Arc<Allocation>) -> Result<Self, Refusal> {
        let hold = allocation.hold().map_err(|errno| Refusal {
            bytes_to_trim: if errno == ENOSPC { allocation.size } else { 0 },
            ..errno.into()
        })?;
        let handles = [allocation.handle()];
        let request = make_resident(vm, &handles, MakeResidentFlags::EMPTY)?;
        let what = What::Residency {
            device: vm.device.handle(),
            allocation: allocation.handle(),
        };
        let mut bytes_to_trim = 0;
        let made = vm.device.process.try_create(&request, what, |answer| {
            bytes_to_trim = answer.reply.num_bytes_to_trim;
            paging_value(&answer.reply)
        });
        let (owned, value) = made.map_err(|error| Refusal {
            error,
            bytes_to_trim,
        })?;
        vm.note_paging(value);
        Ok(Self { owned, _hold: hold })
    }

    /// Ends it and waits for the host.
    ///
    /// # Errors
    ///
    /// Those of [`Owned::give_back`].
    pub(crate) fn end(self) -> HostResult {
        self.owned.give_back()
    }

    /// The allocation.
    pub(crate) fn allocation(&self) -> Handle {
        self.owned.handle()
    }

    /// Forgets it: the host has been told that it ends.
    pub(crate) fn forget(self) {
        self.owned.forget();
    }
}

/// The paging fence value at which a list is resident.
///
/// # Errors
///
/// The host's refusal.
fn paging_value(reply: &gpupv::MakeResidentReply) -> HostResult<u64> {
    if reply.status.is_error() {
        return Err(HostError::refused(reply.status));
    }
    Ok(reply.paging_fence_value)
}

fn make_resident<'a>(
    vm: &Vm,
    allocations: &'a [Handle],
    flags: MakeResidentFlags,
) -> HostResult<Request<'a, gpupv::MakeResident>> {
    let body = gpupv::MakeResident {
        paging_queue: vm.paging_queue,
        flags,
        ..Default::default()
    };
    Ok(Request::new(body, List::new(allocations))?)
}

/// Makes a list resident on behalf of user space: all of it or nothing.
///
/// # Errors
///
/// A [`Refusal`].
pub(crate) fn make_list_resident(
    vm: &Vm,
    allocations: &[Handle],
    flags: MakeResidentFlags,
) -> Result<(), Refusal> {
    let request = make_resident(vm, allocations, flags)?;
    let mut bytes_to_trim = 0;
    let made = vm.device.process.ask(&request, |answer| {
        bytes_to_trim = answer.reply.num_bytes_to_trim;
        paging_value(&answer.reply)
    });
    let value = made.map_err(|error| Refusal {
        error,
        bytes_to_trim,
    })?;
    vm.note_paging(value);
    Ok(())
}

/// Ends residency, of many at a time.
///
/// # Errors
///
/// Those of [`evict_list`]; what is left is given back by the reaper.
pub(crate) fn evict_all(device: &Device, mut all: KVVec<Residency>) -> HostResult {
    const MOST: usize = uapi::VACCEL_RESIDENCY_MAX as usize;
    let mut handles = KVVec::with_capacity(all.len().min(MOST), GFP_KERNEL)?;
    while !all.is_empty() {
        let from = all.len().saturating_sub(MOST);
        handles.clear();
        for residency in all.get(from..).unwrap_or_default() {
            handles.push(residency.allocation(), GFP_KERNEL)?;
        }
        let told = evict_list(device, &handles).map(|_| ());
        // A caller who did not wait for the answer has sent the message all the same.
        let sent = match &told {
            Ok(()) => true,
            Err(error) => error.errno == EINTR || error.errno == ETIMEDOUT,
        };
        for _ in 0..handles.len() {
            match all.pop() {
                Some(residency) if sent => residency.forget(),
                _ => {}
            }
        }
        told?;
    }
    Ok(())
}

/// Evicts a list; returns the bytes the host still wants back.
///
/// # Errors
///
/// Those of [`Process::call`](crate::process::Process::call).
pub(crate) fn evict_list(device: &Device, allocations: &[Handle]) -> HostResult<u64> {
    let body = gpupv::Evict {
        device: device.handle(),
        ..Default::default()
    };
    let request = Request::new(body, List::new(allocations))?;
    device
        .process
        .call(&request, |answer| Ok(answer.reply.num_bytes_to_trim))
}
