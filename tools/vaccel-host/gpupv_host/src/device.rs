// SPDX-License-Identifier: MIT OR Apache-2.0
//! Commands on devices (protocol 4.4), and what a failed device means.
//!
//! A device that fails stays failed: its queued work is dropped, its running job is told to stop,
//! the fences that were created in it jump to the highest value so that nobody waits for ever (unless
//! a fence was created not to, or the host is configured not to), and the guest is told by
//! SETGUESTDATA. Fences that were only opened in it keep their value: others go on with them. (Windows
//! documents the jump for a device that can signal the fence; that opening it does not count is our
//! choice.)

use gpupv::{
    CreateDevice, CreateDeviceReply, DestroyDevice, DeviceStateType, Event, ExecutionState,
    FlushDevice, FlushReason, GetDeviceState, GetDeviceStateReply, Handle, MarkDeviceAsError,
    NtStatus, PageFaultState, Request, SetGuestData,
};

use crate::call::{Call, Hold, Verdict};
use crate::env::Env;
use crate::host::Host;
use crate::object::{Device, Kind};

impl Host {
    pub(crate) fn create_device(
        &mut self,
        call: &Call,
        request: &Request<'_, CreateDevice>,
        _env: &mut dyn Env,
    ) -> Verdict {
        let body = request.body();
        if body.flags.unknown() != 0 {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let device = Device {
            cookie: body.error_code,
            flags: body.flags,
            state: ExecutionState::ACTIVE,
            fault: PageFaultState::default(),
        };
        let process = self.process_mut(call.process)?;
        let device = process.add(call.vgpu, Handle::NONE, Kind::Device(device))?;
        call.answer(request, &CreateDeviceReply { device }, ())
    }

    pub(crate) fn destroy_device(
        &mut self,
        call: &Call,
        request: &Request<'_, DestroyDevice>,
        _env: &mut dyn Env,
    ) -> Verdict {
        let device = request.body().device;
        self.process(call.process)?.device(call.vgpu, device)?;
        let jobs = self.remove_device(call.process, device);
        let hold = Hold {
            jobs,
            backings: Vec::new(),
        };
        Ok(call.done(request)?.held(hold))
    }

    /// Answered when no job of the device runs. A device about to be destroyed loses its work.
    pub(crate) fn flush_device(
        &mut self,
        call: &Call,
        request: &Request<'_, FlushDevice>,
        _env: &mut dyn Env,
    ) -> Verdict {
        let FlushDevice { device, reason } = *request.body();
        self.process(call.process)?.device(call.vgpu, device)?;
        if reason == FlushReason::DEVICE_TERMINATE {
            self.drop_work(call.process, device);
        }
        let hold = Hold {
            jobs: self.jobs_of(call.process, device),
            backings: Vec::new(),
        };
        Ok(call.done(request)?.held(hold))
    }

    pub(crate) fn get_device_state(
        &mut self,
        call: &Call,
        request: &Request<'_, GetDeviceState>,
        _env: &mut dyn Env,
    ) -> Verdict {
        let mut args = request.body().args;
        let device = self.process(call.process)?.device(call.vgpu, args.device)?;
        args.state = [0; 48];
        let args = match args.state_type {
            DeviceStateType::EXECUTION => args.with_state(&device.state),
            DeviceStateType::PAGE_FAULT => args.with_state(&device.fault),
            DeviceStateType::RESET => args,
            _ => return Err(NtStatus::INVALID_PARAMETER),
        };
        let reply = GetDeviceStateReply {
            args,
            status: NtStatus::SUCCESS,
            _pad: 0,
        };
        call.answer(request, &reply, ())
    }

    pub(crate) fn mark_device_as_error(
        &mut self,
        call: &Call,
        request: &Request<'_, MarkDeviceAsError>,
        env: &mut dyn Env,
    ) -> Verdict {
        let device = request.body().device;
        self.process(call.process)?.device(call.vgpu, device)?;
        let fault = PageFaultState::default();
        self.fail_device(call.process, device, ExecutionState::RESET, fault, env);
        call.done(request)
    }

    /// Puts a device in error, once.
    pub(crate) fn fail_device(
        &mut self,
        owner: Handle,
        device: Handle,
        state: ExecutionState,
        fault: PageFaultState,
        env: &mut dyn Env,
    ) {
        self.drop_work(owner, device);
        let max_value = self.config.max_value_on_error;
        let Ok(process) = self.process_mut(owner) else {
            return;
        };
        if let Some(Kind::Device(failed)) = process.objects.get_mut(device).map(|o| &mut o.kind) {
            if failed.state != ExecutionState::ACTIVE {
                return;
            }
            failed.state = state;
            failed.fault = fault;
            tracing::debug!(%device, ?state, "device failed");
            let data = SetGuestData::new(failed.cookie, state.raw());
            self.out.send(&Event::SetGuestData(data), env);
        }
        let process = self.processes.get(owner);
        for (_, object) in process.iter().flat_map(|process| process.objects.iter()) {
            if let (true, Kind::Sync(sync)) = (object.device == device, &object.kind) {
                if max_value && sync.jumps() {
                    sync.fence.store(u64::MAX);
                }
            }
        }
    }

    /// Empties the queues of a device and tells its running job to stop.
    fn drop_work(&mut self, process: Handle, device: Handle) {
        for vgpu in &self.vgpus {
            let running = vgpu.running.as_ref().filter(|running| {
                let owner = running.owner;
                owner.is_some_and(|owner| owner.process == process && owner.device == device)
            });
            if let Some(running) = running {
                running.cancel.cancel();
            }
        }
        if let Ok(process) = self.process_mut(process) {
            for (_, object) in process.objects.iter_mut() {
                match &mut object.kind {
                    _ if object.device != device => {}
                    Kind::Context(context) => context.work.clear(),
                    Kind::HwQueue(queue) => queue.work.clear(),
                    _ => {}
                }
            }
        }
    }
}
