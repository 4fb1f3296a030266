// SPDX-License-Identifier: MIT OR Apache-2.0
//! Budgets, and what processes use and reserve of them (protocol 4.11), by segment group.
//!
//! Each process may use as much as the budget says before it is told to trim. A reservation is a
//! promise among the processes of a GPU: together they can reserve half of a group's budget, so a
//! process can reserve what the others have left of that half. Reservations that a budget shrinks
//! below stay; only larger ones are refused.

use gpupv::{
    ChangeVideoMemoryReservation, NtStatus, QueryVideoMemoryInfo, Request, VideoMemoryInfo,
};
use vaccel_isa::Segment;

use crate::call::{Call, Verdict};
use crate::env::{Env, VgpuId};
use crate::host::{Host, Vgpu};
use crate::segment::{from_wire, PerSegment};

impl Vgpu {
    /// The budgets in force.
    pub(crate) fn budget(&self) -> PerSegment<u64> {
        let configured = self.config.budget;
        self.set_budget
            .zip(configured, |set, configured| set.unwrap_or(configured))
    }
}

impl Host {
    /// Changes the budget of a GPU's segment group, or goes back to what was configured. Whether
    /// there is such a GPU. Nothing is evicted: guests are told with their next command.
    pub fn set_budget(&mut self, vgpu: VgpuId, segment: Segment, bytes: Option<u64>) -> bool {
        let vgpu = self.vgpus.get_mut(vgpu.index());
        vgpu.map(|vgpu| *vgpu.set_budget.of_mut(segment) = bytes)
            .is_some()
    }

    /// What the process could reserve in all: what others leave of half of the budget.
    fn reservable(&self, call: &Call, segment: Segment) -> Result<u64, NtStatus> {
        let budget = *self.vgpu(call.vgpu)?.budget().of(segment);
        let others = self
            .processes
            .iter()
            .filter(|(handle, _)| *handle != call.process);
        let reserved = others.map(|(_, process)| *process.reserved(call.vgpu).of(segment));
        let reserved = reserved.fold(0, u64::saturating_add);
        Ok(budget.div_euclid(2).saturating_sub(reserved))
    }

    pub(crate) fn query_video_memory_info(
        &mut self,
        call: &Call,
        request: &Request<'_, QueryVideoMemoryInfo>,
        _env: &mut dyn Env,
    ) -> Verdict {
        let body = request.body();
        call.vgpu.check_adapter(body.adapter)?;
        if body.physical_adapter_index != 0 {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let segment = from_wire(body.memory_segment_group)?;
        let process = self.process(call.process)?;
        let reply = VideoMemoryInfo {
            budget: *self.vgpu(call.vgpu)?.budget().of(segment),
            current_usage: *process.used(call.vgpu).of(segment),
            current_reservation: *process.reserved(call.vgpu).of(segment),
            available_for_reservation: self.reservable(call, segment)?,
        };
        call.answer(request, &reply, ())
    }

    pub(crate) fn change_reservation(
        &mut self,
        call: &Call,
        request: &Request<'_, ChangeVideoMemoryReservation>,
        _env: &mut dyn Env,
    ) -> Verdict {
        let body = request.body();
        let segment = from_wire(body.memory_segment_group)?;
        // Guests leave the adapter out; the channel says which it is.
        if let Some(adapter) = body.adapter.some() {
            call.vgpu.check_adapter(adapter)?;
        }
        let own = body.process == 0 && body.physical_adapter_index == 0;
        if !own || body.reservation > self.reservable(call, segment)? {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let process = self.process_mut(call.process)?;
        let mut reserved = process.reserved(call.vgpu);
        *reserved.of_mut(segment) = body.reservation;
        process.set_reserved(call.vgpu, reserved);
        call.done(request)
    }
}
