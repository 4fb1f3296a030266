// SPDX-License-Identifier: MIT OR Apache-2.0
//! Commands on GPU virtual addresses (protocol 4.10).

use std::sync::Arc;

use gpupv::{
    FreeGpuVirtualAddress, MapGpuVirtualAddress, MapGpuVirtualAddressReply, NtStatus, Protection,
    Request, ReservationType, ReserveGpuVirtualAddress, ReserveGpuVirtualAddressReply,
};

use crate::call::{Call, Verdict};
use crate::env::Env;
use crate::host::{whole_pages, Host};
use crate::object::Allocation;
use crate::process::Process;
use crate::va::{Place, Target, VaError};

/// Protection a guest may ask for.
const ALLOWED: Protection = Protection::WRITE
    .union(Protection::EXECUTE)
    .union(Protection::ZERO)
    .union(Protection::NO_ACCESS);

impl From<VaError> for NtStatus {
    fn from(error: VaError) -> Self {
        match error {
            VaError::Range | VaError::Taken => Self::INVALID_PARAMETER,
            VaError::Full => Self::NO_MEMORY,
        }
    }
}

impl Host {
    pub(crate) fn reserve_gpu_va(
        &mut self,
        call: &Call,
        request: &Request<'_, ReserveGpuVirtualAddress>,
        _env: &mut dyn Env,
    ) -> Verdict {
        let body = request.body();
        let process = self.process_mut(call.process)?;
        // An adapter, or a paging queue on it.
        call.vgpu
            .check_adapter(body.adapter)
            .or_else(|_| process.paging_queue(call.vgpu, body.adapter).map(drop))?;
        let pages = whole_pages(body.size).ok_or(NtStatus::INVALID_PARAMETER)?;
        let target = match body.reservation_type {
            ReservationType::NO_ACCESS | ReservationType::NO_COMMIT => Target::NoAccess,
            ReservationType::ZERO => Target::Zero,
            _ => return Err(NtStatus::INVALID_PARAMETER),
        };
        let place = Place::from_wire(
            body.base_address,
            body.minimum_address,
            body.maximum_address,
        );
        let space = process.spaces.entry(call.vgpu).or_default();
        let reply = ReserveGpuVirtualAddressReply {
            virtual_address: space.reserve(place, pages, target)?,
            paging_fence_value: 0,
        };
        call.answer(request, &reply, ())
    }

    pub(crate) fn map_gpu_va(
        &mut self,
        call: &Call,
        request: &Request<'_, MapGpuVirtualAddress>,
        _env: &mut dyn Env,
    ) -> Verdict {
        let body = request.body();
        let process = self.process_mut(call.process)?;
        process.paging_queue(call.vgpu, body.paging_queue)?;
        let target = mapping(process, call, body)?;
        let place = Place::from_wire(
            body.base_address,
            body.minimum_address,
            body.maximum_address,
        );
        let space = process.spaces.entry(call.vgpu).or_default();
        let virtual_address = space.map(place, body.size_in_pages, target)?;
        let (paging_fence_value, status) = self.page(call, body.paging_queue)?;
        let reply = MapGpuVirtualAddressReply {
            virtual_address,
            paging_fence_value,
            status,
            _pad: 0,
        };
        call.answer(request, &reply, ())
    }

    pub(crate) fn free_gpu_va(
        &mut self,
        call: &Call,
        request: &Request<'_, FreeGpuVirtualAddress>,
        _env: &mut dyn Env,
    ) -> Verdict {
        let body = request.body();
        call.vgpu.check_adapter(body.adapter)?;
        let process = self.process_mut(call.process)?;
        let space = process.spaces.get_mut(&call.vgpu);
        let space = space.ok_or(NtStatus::INVALID_PARAMETER)?;
        space.free(body.base_address, body.size)?;
        call.done(request)
    }
}

/// What a MAPGPUVIRTUALADDRESS maps: an allocation's pages, zeros, or nothing.
fn mapping(
    process: &Process,
    call: &Call,
    body: &MapGpuVirtualAddress,
) -> Result<Target, NtStatus> {
    if let Some(target) = without_memory(body.protection)? {
        return Ok(target);
    }
    let device = process.device_of(call.vgpu, body.paging_queue)?;
    let allocation = process.allocation_of(call.vgpu, device, body.allocation)?;
    let write = body.protection.contains(Protection::WRITE);
    memory(allocation, body.offset_in_pages, body.size_in_pages, write)
}

/// The target that a protection alone describes, if it does.
pub(crate) fn without_memory(protection: Protection) -> Result<Option<Target>, NtStatus> {
    if protection.bits() & !ALLOWED.bits() != 0 {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    let has = |flag: Protection| protection.contains(flag);
    match (has(Protection::ZERO), has(Protection::NO_ACCESS)) {
        (true, true) => Err(NtStatus::INVALID_PARAMETER),
        (true, false) => Ok(Some(Target::Zero)),
        (false, true) => Ok(Some(Target::NoAccess)),
        (false, false) => Ok(None),
    }
}

/// Pages of an allocation as a target.
pub(crate) fn memory(
    allocation: &Allocation,
    first: u64,
    pages: u64,
    write: bool,
) -> Result<Target, NtStatus> {
    let end = first.checked_add(pages);
    if end.is_none_or(|end| end > allocation.backing.pages()) {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    if write && !allocation.backing.writable() {
        return Err(NtStatus::ACCESS_DENIED);
    }
    Ok(Target::Memory {
        backing: Arc::clone(&allocation.backing),
        first,
        write,
    })
}
