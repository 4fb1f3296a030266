// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a message to its handler: headers, routing (protocol 2.2 to 2.5), and the shape of
//! failures (2.7).
//!
//! Adapter commands are for the GPU whose channel they come on, or, on the global channel, for the
//! one whose LUID the extended header names. A message that asks for no completion is handled and
//! not answered; if it is an asynchronous one, its failure puts the device in error instead.

use gpupv::{
    ChannelType, Command, CommandId, DecodeError, ExecutionState, Handle, Message, NtStatus,
    PageFaultState, Request,
};

use crate::call::{Call, Completion, Forced, Verdict};
use crate::config::{MAX_HELD_COMPLETIONS, MAX_VM_OBJECTS, MAX_VM_VA_RANGES};
use crate::env::{Channel, Env, MessageIn, VgpuId};
use crate::host::{Held, Host};
use crate::va::VaSpace;

/// A handler of a command.
type Handler<C> = for<'a> fn(&mut Host, &Call, &Request<'a, C>, &mut dyn Env) -> Verdict;

impl Host {
    pub(crate) fn dispatch(
        &mut self,
        channel: Channel,
        input: MessageIn<'_>,
        forced: Option<Forced>,
        env: &mut dyn Env,
    ) {
        self.messages.taken = self.messages.taken.saturating_add(1);
        let completion = input.completion_requested.then_some(Completion {
            channel,
            transaction_id: input.transaction_id,
        });
        if let Err(status) = self.route(channel, completion, forced, input.payload, env) {
            self.refuse(completion, status, env);
        }
    }

    fn route(
        &mut self,
        channel: Channel,
        completion: Option<Completion>,
        forced: Option<Forced>,
        payload: &[u8],
        env: &mut dyn Env,
    ) -> Result<(), NtStatus> {
        let version = self.negotiation.version();
        let message = Message::decode(version, payload).map_err(|error| {
            tracing::debug!(?channel, %error, "message refused");
            NtStatus::INVALID_PARAMETER
        })?;
        let id = message.id().map_err(|error| {
            tracing::debug!(?channel, %error, "command refused");
            match error {
                DecodeError::UnknownCommand { .. } => NtStatus::NOT_SUPPORTED,
                _ => NtStatus::INVALID_PARAMETER,
            }
        })?;
        tracing::trace!(?channel, command = id.name(), process = %message.process(), "command");
        let vgpu = match (id.channel(), channel) {
            (ChannelType::Adapter, Channel::Vgpu(vgpu)) => vgpu,
            (ChannelType::Adapter, Channel::Global) => self.vgpu_of(&message)?,
            (_, Channel::Global) => VgpuId(0),
            (_, Channel::Vgpu(_)) => return Err(NtStatus::INVALID_PARAMETER),
        };
        if message.is_async() && !(id.may_be_async() && self.config.async_messages) {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let call = Call {
            version,
            vgpu,
            process: message.process(),
            completion,
            forced,
        };
        self.command(id, &call, &message, env)
    }

    /// The GPU that an adapter command on the global channel is for. Without an extended header it
    /// can only be the single one.
    pub(crate) fn vgpu_of(&self, message: &Message<'_>) -> Result<VgpuId, NtStatus> {
        if !self.negotiation.version().has_ext_header() && self.vgpus.len() == 1 {
            return Ok(VgpuId(0));
        }
        let luid = message.vgpu();
        let found = self.vgpus().find(|(_, config)| config.vgpu_luid == luid);
        found.map(|(id, _)| id).ok_or(NtStatus::INVALID_PARAMETER)
    }

    fn command(
        &mut self,
        id: CommandId,
        call: &Call,
        message: &Message<'_>,
        env: &mut dyn Env,
    ) -> Result<(), NtStatus> {
        macro_rules! run {
            ($handler:path) => {
                self.run(call, message, $handler, env)
            };
        }
        match id {
            CommandId::CreateProcess => run!(Self::create_process),
            CommandId::DestroyProcess => run!(Self::destroy_process),
            CommandId::SetIoSpaceRegion => run!(Self::set_io_space_region),
            CommandId::OpenAdapter => run!(Self::open_adapter),
            CommandId::CloseAdapter => run!(Self::close_adapter_command),
            CommandId::GetInternalAdapterInfo => run!(Self::internal_adapter_info),
            CommandId::QueryAdapterInfo => run!(Self::query_adapter_info),
            CommandId::QueryVideoMemoryInfo => run!(Self::query_video_memory_info),
            CommandId::QueryClockCalibration => run!(Self::query_clock_calibration),
            CommandId::CreateDevice => run!(Self::create_device),
            CommandId::DestroyDevice => run!(Self::destroy_device),
            CommandId::FlushDevice => run!(Self::flush_device),
            CommandId::GetDeviceState => run!(Self::get_device_state),
            CommandId::MarkDeviceAsError => run!(Self::mark_device_as_error),
            CommandId::CreateContextVirtual => run!(Self::create_context),
            CommandId::DestroyContext => run!(Self::destroy_context),
            CommandId::CreatePagingQueue => run!(Self::create_paging_queue),
            CommandId::DestroyPagingQueue => run!(Self::destroy_paging_queue),
            CommandId::MakeResident => run!(Self::make_resident),
            CommandId::Evict => run!(Self::evict),
            CommandId::CreateAllocation => run!(Self::create_allocation),
            CommandId::DestroyAllocation => run!(Self::destroy_allocation),
            CommandId::GetStandardAllocationDriverData => run!(Self::standard_allocation_data),
            CommandId::SetExistingSysmemStore => run!(Self::set_existing_sysmem_store),
            CommandId::SetExistingSysmemPages => run!(Self::set_existing_sysmem_pages),
            CommandId::ReserveGpuVirtualAddress => run!(Self::reserve_gpu_va),
            CommandId::MapGpuVirtualAddress => run!(Self::map_gpu_va),
            CommandId::FreeGpuVirtualAddress => run!(Self::free_gpu_va),
            CommandId::CreateSyncObject => run!(Self::create_sync_object),
            CommandId::DestroySyncObject => run!(Self::destroy_sync_object),
            CommandId::SignalSyncObject => run!(Self::signal_sync_object),
            CommandId::WaitForSyncObjectFromGpu => run!(Self::wait_from_gpu),
            CommandId::WaitForSyncObjectFromCpu => run!(Self::wait_from_cpu),
            CommandId::SubmitCommand => run!(Self::submit_command),
            CommandId::SetContextSchedulingPriority => run!(Self::set_context_priority),
            CommandId::GetContextSchedulingPriority => run!(Self::get_context_priority),
            CommandId::Unlock2 => run!(Self::unlock),
            CommandId::InvalidateCache => run!(Self::invalidate_cache),
            CommandId::FlushHeapTransitions => run!(Self::flush_heap_transitions),
            CommandId::QueryAllocationResidency => run!(Self::query_residency),
            CommandId::Lock2 => run!(Self::lock),
            CommandId::OpenSyncObject => run!(Self::open_sync_object),
            CommandId::CreateNtSharedObject => run!(Self::create_shared),
            CommandId::DestroyNtSharedObject => run!(Self::destroy_shared),
            CommandId::ShareObjectWithHost => run!(Self::share_with_host),
            CommandId::IsFeatureEnabledGlobal => run!(Self::is_feature_enabled_global),
            CommandId::IsFeatureEnabled => run!(Self::is_feature_enabled),
            CommandId::Escape => run!(Self::escape),
            CommandId::UpdateGpuVirtualAddress => {
                run!(Self::update_gpu_va)
            }
            CommandId::OpenResource => run!(Self::open_resource),
            CommandId::QueryStatistics => run!(Self::query_statistics),
            CommandId::ChangeVideoMemoryReservation => {
                run!(Self::change_reservation)
            }
            CommandId::CreateHwQueue => run!(Self::create_hw_queue),
            CommandId::DestroyHwQueue => run!(Self::destroy_hw_queue),
            CommandId::SubmitCommandToHwQueue => run!(Self::submit_to_hw_queue),
            CommandId::UpdateAllocationProperty => {
                run!(Self::update_allocation_property)
            }
            CommandId::OfferAllocations => run!(Self::offer_allocations),
            CommandId::ReclaimAllocations => run!(Self::reclaim_allocations),
            CommandId::SetAllocationPriority => run!(Self::set_allocation_priority),
            CommandId::GetAllocationPriority => run!(Self::allocation_priority),
        }
    }

    /// Parses a command, runs its handler and answers.
    fn run<C: Command>(
        &mut self,
        call: &Call,
        message: &Message<'_>,
        handler: Handler<C>,
        env: &mut dyn Env,
    ) -> Result<(), NtStatus> {
        let Ok(request) = message.parse::<C>() else {
            tracing::debug!(command = C::ID.name(), "malformed");
            if let Some(to) = call.completion {
                let payload = call.malformed::<C>(&self.config.choices);
                self.reply(to, &payload, env);
            }
            return Ok(());
        };
        let verdict = match call.forced {
            Some(Forced {
                status,
                after: false,
                ..
            }) => Err(status),
            _ => self
                .admit(C::ID, call)
                .and_then(|()| handler(self, call, &request, env)),
        };
        match verdict {
            Ok(answer) => {
                let held = Held {
                    completion: call.completion,
                    bytes: match call.forced {
                        Some(forced) => call.forced_failure(&request, forced),
                        None => answer.bytes,
                    },
                    jobs: answer.hold.jobs,
                    backings: answer.hold.backings,
                };
                self.complete(held, env);
            }
            Err(status) => {
                tracing::debug!(command = C::ID.name(), %status, "refused");
                if let Some(to) = call.completion {
                    let payload = match call.forced {
                        Some(forced) => call.forced_failure(&request, forced),
                        None => call.failure(&request, status, &self.config.choices),
                    };
                    self.reply(to, &payload, env);
                }
            }
        }
        Ok(())
    }

    /// Checks what every command of its kind needs: a process, an open adapter.
    fn admit(&self, id: CommandId, call: &Call) -> Result<(), NtStatus> {
        if self.held.len() >= MAX_HELD_COMPLETIONS {
            return Err(NtStatus::NO_MEMORY);
        }
        if id.has_process() {
            self.process(call.process)?;
        }
        let opens = matches!(
            id,
            CommandId::OpenAdapter | CommandId::GetInternalAdapterInfo
        );
        if id.channel() == ChannelType::Adapter && !opens {
            self.open_vgpu(call.vgpu)?;
        }
        let makes = matches!(
            id,
            CommandId::CreateDevice
                | CommandId::CreateContextVirtual
                | CommandId::CreatePagingQueue
                | CommandId::CreateHwQueue
                | CommandId::CreateAllocation
                | CommandId::OpenResource
                | CommandId::CreateSyncObject
                | CommandId::OpenSyncObject
                | CommandId::ReserveGpuVirtualAddress
                | CommandId::MapGpuVirtualAddress
        );
        // One command makes at most two of each, unless it checks for more.
        if makes && !self.has_room(2, 2) {
            return Err(NtStatus::NO_MEMORY);
        }
        Ok(())
    }

    /// Whether the VM may have so many objects and address ranges more.
    pub(crate) fn has_room(&self, mut objects: usize, ranges: usize) -> bool {
        for (_, process) in self.processes.iter() {
            objects = objects.saturating_add(process.objects.len());
        }
        objects <= MAX_VM_OBJECTS && ranges <= self.va_room()
    }

    /// How many address ranges the VM may have more.
    pub(crate) fn va_room(&self) -> usize {
        let spaces = self.processes.iter();
        let spaces = spaces.flat_map(|(_, process)| process.spaces.values());
        let ranges = spaces.map(VaSpace::ranges).fold(0, usize::saturating_add);
        MAX_VM_VA_RANGES.saturating_sub(ranges)
    }

    /// Sends a completion, now or when the jobs it waits for have ended.
    pub(crate) fn complete(&mut self, mut held: Held, env: &mut dyn Env) {
        let running = |job| {
            self.vgpus
                .iter()
                .any(|vgpu| vgpu.running.as_ref().is_some_and(|run| run.job == job))
        };
        held.jobs.retain(|job| running(*job));
        if !held.jobs.is_empty() {
            self.held.push(held);
            return;
        }
        for backing in &held.backings {
            self.release(backing);
        }
        if let Some(to) = held.completion {
            self.reply(to, &held.bytes, env);
        }
    }

    /// Gives an asynchronous command's failure to the device it was for.
    pub(crate) fn report<T>(
        &mut self,
        call: &Call,
        object: Handle,
        result: Result<T, NtStatus>,
        env: &mut dyn Env,
    ) -> Result<T, NtStatus> {
        if let (Err(status), None) = (&result, call.completion) {
            let device = self.process(call.process).and_then(|process| {
                let object_device = process.device_of(call.vgpu, object)?;
                Ok(object_device.some().unwrap_or(object))
            });
            if let (Ok(device), true) = (device, self.config.choices.async_failure_stops) {
                tracing::debug!(%device, %status, "asynchronous command failed");
                let state = ExecutionState::STOPPED;
                let fault = PageFaultState::default();
                self.fail_device(call.process, device, state, fault, env);
            }
        }
        result
    }
}
