// SPDX-License-Identifier: MIT OR Apache-2.0
//! Commands to a virtual GPU as such: opening, identity, queries (protocol 3.3, 4.3).

use gpupv::{
    AdapterCaps, AdapterInfo, ClockData, CloseAdapter, DeviceTypes, GetInternalAdapterInfo,
    NtStatus, OpenAdapter, OpenAdapterReply, QueryAdapterInfo, QueryAdapterInfoReply,
    QueryClockCalibration, QueryClockCalibrationReply, Request, Version,
};

use crate::call::{Call, Verdict};
use crate::env::Env;
use crate::host::Host;

/// Driver model 2.9, the first for compute-only adapters in virtual machines.
pub const DRIVER_MODEL: u32 = 2900;
/// State 2, stable, of the support of hardware scheduling (d3dkmdt.h: DXGK_FEATURE_SUPPORT_STABLE).
const HW_SUPPORT_STABLE: u32 = 2 << 7;
/// Ticks a second of the clocks we report.
pub const NANOSECONDS: u64 = 1_000_000_000;

impl Host {
    /// Opening again is allowed: a driver that was killed does not close.
    pub(crate) fn open_adapter(
        &mut self,
        call: &Call,
        request: &Request<'_, OpenAdapter>,
        _env: &mut dyn Env,
    ) -> Verdict {
        let body = request.body();
        if body.interface_version < Version::LAST_COMPATIBLE.raw()
            || body.last_compatible_version > call.version.raw()
        {
            return Err(NtStatus::NOT_SUPPORTED);
        }
        let vgpu = self.vgpus.get_mut(call.vgpu.index());
        vgpu.ok_or(NtStatus::DEVICE_REMOVED)?.open = true;
        let reply = OpenAdapterReply {
            adapter: call.vgpu.adapter_handle(),
            status: NtStatus::SUCCESS,
            interface_version: call.version.raw(),
            last_compatible_version: Version::LAST_COMPATIBLE.raw(),
        };
        call.answer(request, &reply, ())
    }

    pub(crate) fn close_adapter_command(
        &mut self,
        call: &Call,
        request: &Request<'_, CloseAdapter>,
        _env: &mut dyn Env,
    ) -> Verdict {
        call.vgpu.check_adapter(request.body().adapter)?;
        self.close_adapter(call.vgpu);
        call.acknowledge(request, &self.config.choices)
    }

    pub(crate) fn internal_adapter_info(
        &mut self,
        call: &Call,
        request: &Request<'_, GetInternalAdapterInfo>,
        _env: &mut dyn Env,
    ) -> Verdict {
        let config = &self.vgpu(call.vgpu)?.config;
        let reply = AdapterInfo {
            device_types: DeviceTypes::VIRTUAL_RENDER_DEVICE,
            driver_ddi_version: DRIVER_MODEL,
            caps: self.adapter_caps(),
            host_adapter_luid: config.host_adapter_luid,
            host_vgpu_luid: config.vgpu_luid,
            ..AdapterInfo::default()
        };
        let instance = format!("VACCEL\\VGPU\\{}", call.vgpu.index());
        let reply = reply
            .with_description(&config.name)
            .with_instance_id(&instance);
        call.answer(request, &reply, ())
    }

    fn adapter_caps(&self) -> AdapterCaps {
        let choices = &self.config.choices;
        let queues = AdapterCaps::HW_SCH_ENABLED
            | AdapterCaps::HW_SCH_CAPABLE
            | AdapterCaps::from_bits(HW_SUPPORT_STABLE);
        [
            (self.config.async_messages, AdapterCaps::ASYNC_MSG_ENABLED),
            (choices.hw_scheduling, queues),
            (choices.host_sharing, AdapterCaps::IS_VAIL_SUPPORTED),
        ]
        .into_iter()
        .filter(|(there, _)| *there)
        .fold(AdapterCaps::EMPTY, |caps, (_, cap)| caps | cap)
    }

    pub(crate) fn query_adapter_info(
        &mut self,
        call: &Call,
        request: &Request<'_, QueryAdapterInfo>,
        _env: &mut dyn Env,
    ) -> Verdict {
        let vgpu = self.vgpu(call.vgpu)?;
        let input = request.tail();
        let answer = vgpu.query(&self.config.choices, request.body().query_type, input)?;
        if answer.len() > input.len() {
            return Err(NtStatus::BUFFER_TOO_SMALL);
        }
        let mut data = answer;
        data.resize(input.len(), 0);
        let reply = QueryAdapterInfoReply {
            status: NtStatus::SUCCESS,
        };
        call.answer(request, &reply, data.as_slice())
    }

    pub(crate) fn query_clock_calibration(
        &mut self,
        call: &Call,
        request: &Request<'_, QueryClockCalibration>,
        env: &mut dyn Env,
    ) -> Verdict {
        let body = request.body();
        call.vgpu.check_adapter(body.adapter)?;
        if body.node_ordinal != 0 || body.physical_adapter_index != 0 {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let now = env.now_ns();
        let reply = QueryClockCalibrationReply {
            status: NtStatus::SUCCESS,
            clock_data: ClockData {
                gpu_frequency: NANOSECONDS.into(),
                gpu_clock_counter: now.into(),
                cpu_clock_counter: now.into(),
                ..ClockData::default()
            },
        };
        call.answer(request, &reply, ())
    }
}
