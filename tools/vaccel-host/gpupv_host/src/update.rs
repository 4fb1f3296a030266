// SPDX-License-Identifier: MIT OR Apache-2.0
//! Changes of GPU addresses in the order of a context's work (protocol 3.7).
//!
//! When the context reaches them they are made in their order, then the fence is set; later work of
//! the context sees them, a job that runs already does not. Everything that can be checked is
//! checked when the message comes. What cannot: an allocation may be gone by then, and leaves a
//! range without access; ranges may be too many, and then the device is out of memory. A copy takes
//! what is there when it is made, and no access where nothing is.
//!
//! That, that a host sets the fence when the changes are made, and that "do not wait" changes nothing for
//! one that makes them at once, is inferred.

use std::sync::Arc;

use gpupv::{
    ExecutionState, GpuVaChange, GpuVaOperation, Handle, NtStatus, PageFaultState, Protection,
    Request, UpdateGpuVirtualAddress, MAX_UPDATE_OPERATIONS,
};

use crate::call::{Call, Verdict};
use crate::config::MAX_VM_QUEUED_CHANGES;
use crate::env::{Env, VgpuId};
use crate::fence::FenceValue;
use crate::gpuva::{memory, without_memory};
use crate::host::{whole_pages, Host, Owner};
use crate::process::Process;
use crate::va::{self, Place, Target, VaError};
use crate::work::{Work, WorkQueue};

/// A range that leads somewhere else.
#[derive(Debug)]
pub struct Change {
    base: u64,
    pages: u64,
    new: New,
}

/// Where a changed range leads.
#[derive(Debug)]
enum New {
    /// To a target, with whose memory it is, or none.
    Target(Target, Handle),
    /// Where the range at this address does.
    CopyOf(u64),
}

/// Changes that belong together.
#[derive(Debug)]
pub struct Update {
    /// In the order in which they are made.
    pub changes: Vec<Change>,
    /// What says that they are made.
    pub fence: Option<FenceValue>,
}

impl WorkQueue {
    /// The update that comes next, taken off the queue.
    pub(crate) fn take_update(&mut self) -> Option<Update> {
        if self.running.is_some() || !matches!(self.queue.front(), Some(Work::Update(_))) {
            return None;
        }
        let Some(Work::Update(update)) = self.queue.pop_front() else {
            return None;
        };
        self.changes = self.changes.saturating_sub(update.changes.len());
        Some(update)
    }
}

impl Host {
    pub(crate) fn update_gpu_va(
        &mut self,
        call: &Call,
        request: &Request<'_, UpdateGpuVirtualAddress>,
        _env: &mut dyn Env,
    ) -> Verdict {
        let (body, operations) = (request.body(), request.tail());
        let most = usize::try_from(MAX_UPDATE_OPERATIONS).unwrap_or(usize::MAX);
        if body.flags.unknown() != 0 || operations.is_empty() || operations.len() > most {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let process = self.process(call.process)?;
        process.working_device(call.vgpu, body.device)?;
        process.context(call.vgpu, body.context)?;
        if process.device_of(call.vgpu, body.context)? != body.device {
            return Err(NtStatus::INVALID_HANDLE);
        }
        let fence = match body.fence_object.some() {
            Some(handle) => Some(fence(process, call, body, handle)?),
            None => None,
        };
        let changes = operations
            .iter()
            .map(|operation| change(process, call, body.device, &operation))
            .collect::<Result<Vec<_>, _>>()?;
        let queued = self.queued_changes().saturating_add(changes.len());
        if queued > MAX_VM_QUEUED_CHANGES {
            return Err(NtStatus::NO_MEMORY);
        }
        let count = changes.len();
        let update = Update { changes, fence };
        self.enqueue(call, body.context, Work::Update(update))?;
        let process = self.process_mut(call.process)?;
        let work = process.work_mut(call.vgpu, body.context)?;
        work.changes = work.changes.saturating_add(count);
        call.done(request)
    }

    /// Changes queued to all contexts.
    fn queued_changes(&self) -> usize {
        let queued = |(vgpu, owner): &(VgpuId, Owner)| {
            let process = self.processes.get(owner.process)?;
            Some(process.work(*vgpu, owner.queue).ok()?.changes)
        };
        let all = self.active.values().filter_map(queued);
        all.fold(0, usize::saturating_add)
    }

    /// Makes changes that a context has reached.
    pub(crate) fn apply(&mut self, vgpu: VgpuId, owner: Owner, update: Update, env: &mut dyn Env) {
        // Each may cut a range in two; a copy brings what is at its source, too.
        let new = update.changes.len().saturating_mul(2);
        let made = if self.has_room(0, new) {
            let room = self.va_room();
            let process = self.process_mut(owner.process);
            process.and_then(|process| Ok(process.change(vgpu, update.changes, room)?))
        } else {
            Err(NtStatus::NO_MEMORY)
        };
        match made {
            Ok(()) => {
                if let Some(pair) = update.fence {
                    pair.fence.signal(pair.value, false);
                }
            }
            Err(status) => {
                tracing::debug!(%status, "an update of addresses failed");
                let state = ExecutionState::ERROR_OUT_OF_MEMORY;
                let fault = PageFaultState::default();
                self.fail_device(owner.process, owner.device, state, fault, env);
            }
        }
    }
}

impl Process {
    /// Makes changes; copies of more ranges than there is `room` for are refused.
    fn change(
        &mut self,
        vgpu: VgpuId,
        changes: Vec<Change>,
        mut room: usize,
    ) -> Result<(), VaError> {
        for change in changes {
            let (target, allocation) = match change.new {
                New::Target(target, allocation) => (target, allocation),
                New::CopyOf(from) => {
                    let space = self.spaces.entry(vgpu).or_default();
                    let before = space.ranges();
                    space.copy(from, change.base, change.pages, room)?;
                    room = room.saturating_add(before).saturating_sub(space.ranges());
                    continue;
                }
            };
            let there = match &target {
                Target::Memory { backing, .. } => self
                    .allocation(vgpu, allocation)
                    .is_ok_and(|allocation| Arc::ptr_eq(&allocation.backing, backing)),
                Target::NoAccess | Target::Zero => true,
            };
            let target = if there { target } else { Target::NoAccess };
            let space = self.spaces.entry(vgpu).or_default();
            space.map(Place::At(change.base), change.pages, target)?;
        }
        Ok(())
    }
}

/// The fence of an update: one of the device that guests may signal.
fn fence(
    process: &Process,
    call: &Call,
    body: &UpdateGpuVirtualAddress,
    handle: Handle,
) -> Result<FenceValue, NtStatus> {
    let sync = process.sync(call.vgpu, handle)?;
    if process.device_of(call.vgpu, handle)? != body.device {
        return Err(NtStatus::INVALID_HANDLE);
    }
    if !sync.signals() {
        return Err(NtStatus::ACCESS_DENIED);
    }
    Ok(FenceValue {
        fence: Arc::clone(&sync.fence),
        value: body.fence_value,
    })
}

/// Checks an operation.
fn change(
    process: &Process,
    call: &Call,
    device: Handle,
    operation: &GpuVaOperation,
) -> Result<Change, NtStatus> {
    let change = operation.change().ok_or(NtStatus::INVALID_PARAMETER)?;
    let pages = |bytes| whole_pages(bytes).ok_or(NtStatus::INVALID_PARAMETER);
    match change {
        GpuVaChange::Map {
            base,
            size,
            allocation,
            allocation_offset,
            allocation_size,
            protection,
        } => {
            va::check_bytes(base, size)?;
            let nothing = protection.map(|(protection, _)| without_memory(protection));
            if let Some(target) = nothing.transpose()?.flatten() {
                return Ok(Change {
                    base,
                    pages: pages(size)?,
                    new: New::Target(target, Handle::NONE),
                });
            }
            let object = process.allocation_of(call.vgpu, device, allocation)?;
            let write = protection.map_or(object.backing.writable(), |(protection, _)| {
                protection.contains(Protection::WRITE)
            });
            let first = match allocation_offset {
                0 => 0,
                offset => pages(offset)?,
            };
            // More of the allocation may be named than is mapped, not less.
            let named = pages(allocation_size)?;
            let end = first.checked_add(named);
            let inside = end.is_some_and(|end| end <= object.backing.pages());
            if !inside || named < pages(size)? {
                return Err(NtStatus::INVALID_PARAMETER);
            }
            Ok(Change {
                base,
                pages: pages(size)?,
                new: New::Target(memory(object, first, pages(size)?, write)?, allocation),
            })
        }
        GpuVaChange::Unmap {
            base,
            size,
            protection,
        } => {
            va::check_bytes(base, size)?;
            let known = Protection::ZERO.union(Protection::NO_ACCESS);
            if protection.bits() & !known.bits() != 0 {
                return Err(NtStatus::INVALID_PARAMETER);
            }
            Ok(Change {
                base,
                pages: pages(size)?,
                new: New::Target(
                    without_memory(protection)?.unwrap_or(Target::NoAccess),
                    Handle::NONE,
                ),
            })
        }
        GpuVaChange::Copy {
            source,
            size,
            destination,
        } => {
            va::check_bytes(source, size)?;
            va::check_bytes(destination, size)?;
            Ok(Change {
                base: destination,
                pages: pages(size)?,
                new: New::CopyOf(source),
            })
        }
    }
}
