// SPDX-License-Identifier: MIT OR Apache-2.0
//! Commands to a virtual GPU as such: opening, identity, queries (protocol 3.3, 4.3).

use gpupv::{
    AdapterCaps, AdapterInfo, AdapterTypeFlags, ClockData, CloseAdapter, DeviceTypes,
    GetInternalAdapterInfo, NoFixedReply, NtStatus, OpenAdapter, OpenAdapterReply,
    QueryAdapterInfo, QueryAdapterInfoReply, QueryClockCalibration, QueryClockCalibrationReply,
    QueryType, Request, Version, PCI_DEVICE_COMPUTE, PCI_DEVICE_RENDER, PCI_VENDOR,
};

use crate::call::{Call, Verdict};
use crate::env::Env;
use crate::host::{Host, Vgpu};

/// Adapter queries this host answers beyond those the protocol knows, by their D3DKMT numbers.
mod query {
    use gpupv::QueryType;

    /// Sizes of dedicated video, dedicated system and shared memory: three u64.
    pub const SEGMENT_SIZE: QueryType = QueryType::from_raw(3);
    /// Driver model version: u32.
    pub const DRIVER_VERSION: QueryType = QueryType::from_raw(13);
    /// How many GPUs are linked: u32.
    pub const PHYSICAL_ADAPTER_COUNT: QueryType = QueryType::from_raw(30);
    /// Index (in), then vendor, device, subsystem vendor, subsystem, revision, bus type: u32 each.
    pub const PHYSICAL_ADAPTER_IDS: QueryType = QueryType::from_raw(31);
    /// Name, UTF-16.
    pub const DRIVER_DESCRIPTION: QueryType = QueryType::from_raw(65);
    /// The same for render-only adapters.
    pub const DRIVER_DESCRIPTION_RENDER: QueryType = QueryType::from_raw(66);
}

/// Driver model 2.9, the first for compute-only adapters in virtual machines.
const DRIVER_MODEL: u32 = 2900;
/// Bus type PCI.
const BUS_PCI: u32 = 1;
/// Ticks a second of the clocks we report.
const NANOSECONDS: u64 = 1_000_000_000;

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
        call.answer(request, &NoFixedReply, ())
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
            caps: if self.config.async_messages {
                AdapterCaps::ASYNC_MSG_ENABLED
            } else {
                AdapterCaps::EMPTY
            },
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

    pub(crate) fn query_adapter_info(
        &mut self,
        call: &Call,
        request: &Request<'_, QueryAdapterInfo>,
        _env: &mut dyn Env,
    ) -> Verdict {
        let vgpu = self.vgpu(call.vgpu)?;
        let input = request.tail();
        let answer = vgpu.query(request.body().query_type, input)?;
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

impl Vgpu {
    /// Answers an adapter query with as many bytes as its answer has.
    fn query(&self, query: QueryType, input: &[u8]) -> Result<Vec<u8>, NtStatus> {
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect();
        Ok(match query {
            QueryType::UM_DRIVER_PRIVATE => self.config.engine.to_bytes().to_vec(),
            QueryType::ADAPTER_TYPE | QueryType::ADAPTER_TYPE_RENDER => {
                let mut flags =
                    AdapterTypeFlags::RENDER_SUPPORTED | AdapterTypeFlags::PARAVIRTUALIZED;
                if self.config.compute_only {
                    flags = flags | AdapterTypeFlags::COMPUTE_ONLY;
                }
                words(&[flags.bits()])
            }
            query::SEGMENT_SIZE => {
                let sizes = [self.config.memory.local, 0, self.config.memory.non_local];
                sizes.iter().flat_map(|size| size.to_le_bytes()).collect()
            }
            query::DRIVER_VERSION => words(&[DRIVER_MODEL]),
            query::PHYSICAL_ADAPTER_COUNT => words(&[1]),
            query::PHYSICAL_ADAPTER_IDS => {
                if input.get(..4).is_some_and(|index| index != [0; 4]) {
                    return Err(NtStatus::INVALID_PARAMETER);
                }
                let device = if self.config.compute_only {
                    PCI_DEVICE_COMPUTE
                } else {
                    PCI_DEVICE_RENDER
                };
                let (vendor, device) = (u32::from(PCI_VENDOR), u32::from(device));
                words(&[0, vendor, device, 0, 0, 0, BUS_PCI])
            }
            query::DRIVER_DESCRIPTION | query::DRIVER_DESCRIPTION_RENDER => self
                .config
                .name
                .encode_utf16()
                .chain([0])
                .flat_map(u16::to_le_bytes)
                .collect(),
            _ => return Err(NtStatus::NOT_SUPPORTED),
        })
    }
}
