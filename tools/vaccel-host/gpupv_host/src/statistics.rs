// SPDX-License-Identifier: MIT OR Apache-2.0
//! Statistics (command 48).
//!
//! The protocol carries 776 opaque bytes and, behind them, a selector: the segment, node or group
//! that is asked about. What is in them is D3DKMT_QUERYSTATISTICS of Microsoft's public d3dkmthk.h,
//! whose 0x328 bytes are those of the message. Counters that are not kept here are 0. There are two
//! segments, the GPU's own memory and the host's, one node and no video source.

use gpupv::{NtStatus, QueryStatistics, QueryStatisticsReply, QueryType, Request};
use gpupv::{StatisticsType, STATISTICS_SIZE};
use vaccel_isa::Segment;

use crate::call::{Call, Verdict};
use crate::choices::RunningTime;
use crate::env::{Env, VgpuId};
use crate::host::{Host, Vgpu};
use crate::object::Kind;
use crate::process::Process;
use crate::segment::PerSegment;

/// Nanoseconds of a microsecond, and of the usual unit of Windows.
const MICROSECOND: u64 = 1000;
const HUNDRED: u64 = 100;

/// What an engine did, for everybody or for a process.
#[derive(Debug, Clone, Copy, Default)]
pub struct EngineUse {
    /// Nanoseconds of jobs that ended.
    pub busy_ns: u64,
    /// Jobs that began.
    pub started: u32,
    /// Jobs that ended.
    pub ended: u32,
    /// How often another queue's job followed.
    pub switches: u32,
}

impl EngineUse {
    /// A job begins, of another queue than the last one or not.
    pub fn begin(&mut self, switched: bool) {
        self.started = self.started.wrapping_add(1);
        self.switches = self.switches.wrapping_add(switched.into());
    }

    /// A job ended after so many nanoseconds.
    pub fn end(&mut self, ns: u64) {
        self.ended = self.ended.wrapping_add(1);
        self.busy_ns = self.busy_ns.saturating_add(ns);
    }
}

/// What there is of allocations in a segment.
#[derive(Debug, Clone, Copy, Default)]
struct Use {
    bytes: u64,
    count: u32,
    resident_bytes: u64,
    resident_count: u32,
}

impl Use {
    fn add(&mut self, bytes: u64, resident: bool) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.count = self.count.saturating_add(1);
        if resident {
            self.resident_bytes = self.resident_bytes.saturating_add(bytes);
            self.resident_count = self.resident_count.saturating_add(1);
        }
    }
}

/// The block of an answer, written field by field.
struct Block([u8; STATISTICS_SIZE]);

impl Block {
    fn put(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset.saturating_add(bytes.len());
        if let Some(to) = self.0.get_mut(offset..end) {
            to.copy_from_slice(bytes);
        }
    }

    fn word(&mut self, offset: usize, value: u32) {
        self.put(offset, &value.to_le_bytes());
    }

    fn long(&mut self, offset: usize, value: u64) {
        self.put(offset, &value.to_le_bytes());
    }
}

impl Host {
    pub(crate) fn query_statistics(
        &mut self,
        call: &Call,
        request: &Request<'_, QueryStatistics>,
        env: &mut dyn Env,
    ) -> Verdict {
        let body = request.body();
        let vgpu = self.vgpu(call.vgpu)?;
        let process = self.process(call.process)?;
        if body.adapter_luid != vgpu.config.host_adapter_luid {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let selector = body.selector();
        let mut block = Block([0; STATISTICS_SIZE]);
        match body.kind {
            StatisticsType::ADAPTER => {
                block.word(0, 2);
                block.word(4, 1);
                block.word(16, vgpu.hangs);
            }
            StatisticsType::PROCESS => {
                block.word(0, 1);
                block.long(8, used(process, call.vgpu).non_local.bytes);
            }
            StatisticsType::PROCESS_ADAPTER => {
                block.word(0, 2);
                block.word(4, 1);
                // Every allocation is made for the segment it prefers.
                let used = used(process, call.vgpu);
                let all = used.local.bytes.saturating_add(used.non_local.bytes);
                block.long(48, all);
            }
            StatisticsType::SEGMENT => self.segment(&mut block, call.vgpu, selector)?,
            StatisticsType::PROCESS_SEGMENT => {
                let used = used(process, call.vgpu);
                let used = used.of(segment(selector)?);
                block.long(0, used.bytes);
                block.word(32, used.count);
                block.word(40, used.resident_count);
                block.long(48, used.resident_bytes);
            }
            StatisticsType::NODE => {
                node(selector)?;
                let running = vgpu.running.as_ref().map(|running| running.started);
                self.engine_use(&mut block, vgpu.engine_use, running, env.now_ns());
                block.put(
                    544,
                    &vgpu.query(&self.config.choices, PERF_OF_NODE, &[0; 8])?,
                );
            }
            StatisticsType::PROCESS_NODE => {
                node(selector)?;
                let own = vgpu.running.as_ref().filter(|running| {
                    let owner = running.owner;
                    owner.is_some_and(|owner| owner.process == call.process)
                });
                let own = own.map(|running| running.started);
                let done = process.engine_use.get(&call.vgpu).copied();
                self.engine_use(&mut block, done.unwrap_or_default(), own, env.now_ns());
            }
            StatisticsType::PROCESS_SEGMENT_GROUP => {
                let segment = segment(selector)?;
                let used = used(process, call.vgpu);
                block.long(0, *vgpu.budget().of(segment));
                block.long(8, used.of(segment).bytes);
                block.long(16, *process.used(call.vgpu).of(segment));
            }
            StatisticsType::PHYSICAL_ADAPTER => {
                node(selector)?;
                physical(&mut block, vgpu, &self.config.choices)?;
            }
            _ => return Err(NtStatus::INVALID_PARAMETER),
        }
        let reply = QueryStatisticsReply {
            status: NtStatus::SUCCESS,
            reserved: 0,
            result: block.0,
        };
        call.answer(request, &reply, ())
    }

    /// A segment, with what all processes have there.
    fn segment(&self, block: &mut Block, vgpu: VgpuId, selector: u32) -> Result<(), NtStatus> {
        let which = segment(selector)?;
        let mut all = Use::default();
        for (_, process) in self.processes.iter() {
            let one = used(process, vgpu);
            let one = one.of(which);
            all.bytes = all.bytes.saturating_add(one.bytes);
            all.count = all.count.saturating_add(one.count);
            all.resident_bytes = all.resident_bytes.saturating_add(one.resident_bytes);
            all.resident_count = all.resident_count.saturating_add(one.resident_count);
        }
        block.long(0, *self.vgpu(vgpu)?.config.memory.of(which));
        block.long(8, all.bytes);
        block.long(16, all.resident_bytes);
        block.word(32, all.count);
        block.word(36, all.resident_count);
        // An aperture to system memory, or not.
        let system = u32::from(which == Segment::NonLocal);
        block.word(40, system);
        block.long(104, system.into());
        Ok(())
    }

    /// Time, switches, and packets that began and ended; with the job that runs since `running`.
    fn engine_use(&self, block: &mut Block, done: EngineUse, running: Option<u64>, now: u64) {
        let since = running.map_or(0, |started| now.saturating_sub(started));
        let busy = done.busy_ns.saturating_add(since);
        let unit = match self.config.choices.running_time {
            RunningTime::HundredNanoseconds => HUNDRED,
            RunningTime::Microseconds => MICROSECOND,
        };
        block.long(0, busy.checked_div(unit).unwrap_or(0));
        block.word(8, done.switches);
        block.word(140, done.started);
        block.word(144, done.ended);
    }
}

/// Adapter queries whose answers are part of statistics.
const PERF_OF_NODE: QueryType = QueryType::from_raw(61);
const OF_ADAPTER: [(usize, QueryType); 3] = [
    (0, QueryType::from_raw(62)),
    (64, QueryType::from_raw(63)),
    (104, QueryType::from_raw(64)),
];

fn physical(block: &mut Block, vgpu: &Vgpu, choices: &crate::Choices) -> Result<(), NtStatus> {
    for (offset, query) in OF_ADAPTER {
        block.put(offset, &vgpu.query(choices, query, &[0; 8])?);
    }
    Ok(())
}

/// The only node, or physical adapter.
fn node(selector: u32) -> Result<(), NtStatus> {
    if selector != 0 {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    Ok(())
}

/// A segment, or group of segments: both have the same numbers.
fn segment(selector: u32) -> Result<Segment, NtStatus> {
    match selector {
        0 => Ok(Segment::Local),
        1 => Ok(Segment::NonLocal),
        _ => Err(NtStatus::INVALID_PARAMETER),
    }
}

/// What a process has on a GPU.
fn used(process: &Process, vgpu: VgpuId) -> PerSegment<Use> {
    let mut used = PerSegment::default();
    for (_, object) in process.objects.iter() {
        if let (true, Kind::Allocation(allocation)) = (object.vgpu == vgpu, &object.kind) {
            let there: &mut Use = used.of_mut(allocation.segment);
            there.add(allocation.bytes(), allocation.charged() != 0);
        }
    }
    used
}
