// SPDX-License-Identifier: MIT OR Apache-2.0
//! GPU-PV messages to a host that a guest has brought up: a process, a device, a context, a paging queue, a
//! fence and an allocation exist. Jobs touch memory wherever the bytes say; time passes; the host is told to
//! misbehave. In the end nothing may be left.

mod world;

use std::time::Duration;

use engine::{AddressSpace, BuiltIn, Commands, Engine, Outcome, Pace};
use gpupv::{
    AllocationInfo, Command, CreateAllocation, CreateAllocationTail, CreateContextVirtual,
    CreateDevice, CreatePagingQueue, CreateProcess, CreateSyncObject, DestroyProcess,
    ExecutionState, Handle, List, Lock2, MakeResident, MapGpuVirtualAddress, MonitoredFence,
    OpenAdapter, PagingQueuePriority, Request, Route, SetIoSpaceRegion, SyncObjectFlags,
    SyncObjectInfo, Version, PCI_GUEST_CAPS, PCI_VERSION,
};
use gpupv_host::{
    Channel, Host, HostConfig, JobOutcome, MessageIn, PerSegment, VgpuConfig, VgpuId,
};
use guest_memory::FlatMemory;
use vaccel_isa::{AdapterInfo, AllocationData, Segment};

use crate::input::{Input, Output};
use world::World;

/// Guest memory, from address 0.
const MEMORY: usize = 1 << 20;
/// Where the guest wants its I/O space.
const IO_BASE: u64 = 0xf_e000_0000;
const MIB: u64 = 1 << 20;
const IO_MEGABYTES: u16 = 2;
const STEPS: usize = 200;
/// Bytes that one job reads and writes at most.
const JOB_BYTES: usize = 3 * 4096;

/// An engine that touches memory as it was told, and nothing else.
struct Toucher {
    va: u64,
    len: usize,
    write: bool,
}

impl Engine for Toucher {
    fn info(&self) -> AdapterInfo {
        BuiltIn.info()
    }

    fn run(&self, commands: Commands, space: &dyn AddressSpace, _pace: &dyn Pace) -> Outcome {
        let mut bytes = vec![0; self.len];
        let va = if self.va == 0 { commands.va } else { self.va };
        let touched = if self.write {
            space.write(va, &bytes)
        } else {
            space.read(va, &mut bytes)
        };
        touched.map_or_else(Outcome::PageFault, |()| Outcome::Done)
    }
}

/// What the set-up made.
struct Made {
    process: Handle,
    device: Handle,
    paging_queue: Handle,
    allocation: Handle,
}

struct Session {
    host: Host,
    world: World,
    memory: FlatMemory,
    vgpus: Vec<VgpuId>,
    version: Version,
    process: Handle,
    transaction: u64,
}

impl Session {
    fn new(flags: u8) -> Self {
        let mut host = Host::new(HostConfig {
            version: if flags & 1 == 0 { 40 } else { 27 },
            async_messages: flags & 2 != 0,
            map_guest_memory: flags & 4 == 0,
            mmio_megabytes: IO_MEGABYTES,
            tdr_ms: u32::from(flags & 8),
            ..HostConfig::default()
        });
        let vgpus: Vec<VgpuId> = (0..2)
            .map(|number| {
                host.add_vgpu(VgpuConfig {
                    budget: PerSegment::both(4 * MIB),
                    memory: PerSegment::both(5 * MIB),
                    commit_limit: 8 * MIB,
                    ..VgpuConfig::numbered(number)
                })
                .unwrap()
            })
            .collect();
        let window = host.pci_window(vgpus[0]).unwrap();
        window.write(PCI_GUEST_CAPS, 1);
        let version = Version::negotiate(window.read(PCI_VERSION, 4));
        if version.has_ext_header() {
            window.write(PCI_VERSION, version.raw());
        }
        host.channel_opened(Channel::Global);
        for vgpu in &vgpus {
            host.channel_opened(Channel::Vgpu(*vgpu));
        }
        Self {
            host,
            world: World::default(),
            memory: FlatMemory::new(0, MEMORY),
            vgpus,
            version,
            process: Handle::NONE,
            transaction: 0,
        }
    }

    /// The bytes of a command of this guest.
    fn encode<C: Command>(&self, body: C, tail: C::Tail<'_>) -> (Channel, Vec<u8>) {
        let request = Request::new(body, tail).unwrap();
        let gpu = self.host.vgpus().next().unwrap().1.vgpu_luid;
        let route = Route::adapter(self.version, gpu).with_process(self.process);
        let mut bytes = vec![0; request.message_len(self.version).unwrap()];
        request.encode(&route, &mut bytes).unwrap();
        let channel = match C::ID.channel() {
            gpupv::ChannelType::Adapter => Channel::Vgpu(self.vgpus[0]),
            _ => Channel::Global,
        };
        (channel, bytes)
    }

    fn call<C: Command>(&mut self, body: C, tail: C::Tail<'_>) -> C::Reply {
        let request = Request::new(body, tail).unwrap();
        let (channel, bytes) = self.encode(body, tail);
        self.message(channel, &bytes, true);
        let reply = self.world.completion.take().unwrap();
        request.parse_reply(self.version, &reply).unwrap().reply
    }

    fn set_up(&mut self) -> Made {
        let io = u64::from(IO_MEGABYTES) * MIB;
        self.call(SetIoSpaceRegion::new(IO_BASE, io), ());
        self.call(OpenAdapter::new(self.version), ());
        self.process = self.call(CreateProcess::new(7, 42, "fuzz"), ()).process;
        let device = self.call(CreateDevice::default(), ()).device;
        let body = CreateContextVirtual {
            device,
            ..CreateContextVirtual::default()
        };
        self.call(body, &[]);
        let body = CreatePagingQueue::new(device, PagingQueuePriority::NORMAL);
        let paging_queue = self.call(body, ()).paging_queue;
        let flags = SyncObjectFlags::SHARED | SyncObjectFlags::NT_SECURITY_SHARING;
        let info = SyncObjectInfo::monitored_fence(flags, &MonitoredFence::default());
        self.call(CreateSyncObject::new(device, info), ());
        let allocation = self.allocate(device);
        Made {
            process: self.process,
            device,
            paging_queue,
            allocation,
        }
    }

    /// An allocation of two pages in the GPU's own memory.
    fn allocate(&mut self, device: Handle) -> Handle {
        let data = AllocationData {
            size: 8192,
            segment: Segment::Local,
        }
        .to_bytes();
        let infos = [AllocationInfo {
            priv_drv_data_size: u32::try_from(data.len()).unwrap(),
            ..AllocationInfo::default()
        }];
        let tail = CreateAllocationTail {
            infos: List::new(&infos),
            allocation_data: &data,
            ..CreateAllocationTail::default()
        };
        let body = CreateAllocation {
            device,
            ..CreateAllocation::default()
        };
        let request = Request::new(body, tail).unwrap();
        let (channel, bytes) = self.encode(body, tail);
        self.message(channel, &bytes, true);
        let reply = self.world.completion.take().unwrap();
        let answer = request.parse_reply(self.version, &reply).unwrap();
        answer.tail.entries.first().unwrap().allocation
    }

    fn message(&mut self, channel: Channel, payload: &[u8], completion_requested: bool) {
        self.transaction += 1;
        let message = MessageIn {
            transaction_id: self.transaction,
            completion_requested,
            payload,
        };
        self.host.message(channel, message, &mut self.world);
    }

    fn channel(&self, choice: u8) -> Channel {
        match self.vgpus.get(usize::from(choice % 3)) {
            Some(vgpu) => Channel::Vgpu(*vgpu),
            None => Channel::Global,
        }
    }

    /// Runs the job that waits longest.
    fn run_job(&mut self, toucher: &Toucher) -> bool {
        let Some(job) = self.world.jobs.pop_front() else {
            return false;
        };
        let outcome = job.run(toucher, &self.memory, &|_: Duration| {});
        self.host.engine_done(job.id(), outcome, &mut self.world);
        true
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let vgpu = self.vgpus[usize::from(input.u8() % 2)];
        match input.u8() % 10 {
            0 | 1 => {
                let channel = self.channel(input.u8());
                let wants = input.u8() % 4 != 0;
                self.message(channel, input.bytes(), wants);
            }
            2 | 3 => {
                let channel = self.channel(input.u8());
                let bytes = self.plausible(input);
                self.message(channel, &bytes, true);
            }
            4 => {
                let toucher = Toucher {
                    va: input.u64(),
                    len: usize::from(input.u16()) % JOB_BYTES,
                    write: input.u8() % 2 == 0,
                };
                self.run_job(&toucher);
            }
            5 => {
                if let Some(job) = self.world.jobs.pop_front() {
                    let crashed = JobOutcome::Crashed;
                    self.host.engine_done(job.id(), crashed, &mut self.world);
                }
            }
            6 => {
                self.world.now += u64::from(input.u32());
                self.host.tick(&mut self.world);
            }
            7 => {
                let gpadl = u32::from(input.u8() % 4);
                self.host.gpadl_revoked(gpadl);
                self.world.set_gpadl(gpadl, input.u32(), input.u8());
            }
            8 => self.misbehave(vgpu, input),
            _ => {
                let channel = self.channel(input.u8());
                self.host.channel_closed(channel, &mut self.world);
                self.host.channel_opened(channel);
            }
        }
    }

    /// A command whose words are, with some luck, handles and small numbers.
    fn plausible(&self, input: &mut Input<'_>) -> Vec<u8> {
        let gpu = self.host.vgpus().next().unwrap().1.vgpu_luid;
        let number = u32::from(input.u8()) % 70;
        let global = input.u8() % 4 == 0;
        let number = if global { 1000 + number % 24 } else { number };
        let mut words = Vec::new();
        if self.version.has_ext_header() {
            words.extend([16, 0, gpu.low, gpu.high, 0, 0]);
        }
        words.extend([self.process.raw(), u32::from(global), number, 0]);
        for _ in 0..input.u8() % 48 {
            words.push(match input.u8() {
                choice @ 0..=63 => u32::from(choice % 4),
                choice @ 64..=191 => Handle::pack(0, u32::from(choice % 16), 1).raw(),
                192..=207 => 4096,
                _ => input.u32(),
            });
        }
        words.into_iter().flat_map(u32::to_le_bytes).collect()
    }

    fn misbehave(&mut self, vgpu: VgpuId, input: &mut Input<'_>) {
        match input.u8() % 5 {
            0 => {
                let bytes = u64::from(input.u32());
                self.host.set_budget(vgpu, Segment::Local, Some(bytes));
            }
            1 => {
                self.host.pressure(vgpu, u64::from(input.u32()));
            }
            2 => self.host.mute(u64::from(input.u8()), &self.world),
            3 => self.host.drop_events(u64::from(input.u8())),
            _ => {
                let state = ExecutionState::HUNG;
                self.host.fail_devices(vgpu, state, &mut self.world);
            }
        }
    }

    /// Everything ends: the guest's channels close and what still runs comes to its end.
    fn end(mut self) {
        // A mute host hears of nothing until its time is over.
        self.world.now += 1_000_000_000;
        self.host.tick(&mut self.world);
        self.host.channel_closed(Channel::Global, &mut self.world);
        let none = Toucher {
            va: 0,
            len: 0,
            write: false,
        };
        while self.run_job(&none) {}
        let census = self.host.census();
        assert!(census.is_zero(), "{census:?}");
        assert!(!self.world.has_io_space());
    }
}

/// Runs the bytes of a fuzzer.
///
/// # Panics
///
/// When the host breaks its contract.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut session = Session::new(input.u8());
    session.set_up();
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        session.step(&mut input);
    }
    session.end();
}

/// One step that sends a message.
fn say(out: &mut Output, (channel, bytes): (Channel, Vec<u8>)) {
    let choice = match channel {
        Channel::Vgpu(vgpu) => u8::try_from(vgpu.index()).unwrap(),
        Channel::Global => 2,
    };
    out.u8(0).u8(0).u8(choice).u8(1).bytes(&bytes);
}

/// Memory that is mapped, resident and locked, and a process that goes, with each kind of host; and
/// plausible commands.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = [0, 1, 2, 4].map(conversation).into();
    let mut plausible = Output::default();
    plausible.u8(2);
    for number in 0..70 {
        plausible.u8(0).u8(2).u8(number % 3).u8(number).u8(number);
        plausible.u8(12);
        for word in 0..12_u8 {
            plausible.u8(word.wrapping_mul(17).wrapping_add(number));
            if word.wrapping_mul(17).wrapping_add(number) > 207 {
                plausible.u32(u32::from(number));
            }
        }
    }
    all.push(plausible.done());
    all
}

fn conversation(flags: u8) -> Vec<u8> {
    let mut session = Session::new(flags);
    let made = session.set_up();
    let mut out = Output::default();
    out.u8(flags);
    let body = MakeResident {
        paging_queue: made.paging_queue,
        ..MakeResident::default()
    };
    say(
        &mut out,
        session.encode(body, List::new(&[made.allocation])),
    );
    let body = MapGpuVirtualAddress {
        paging_queue: made.paging_queue,
        allocation: made.allocation,
        size_in_pages: 2,
        ..MapGpuVirtualAddress::default()
    };
    say(&mut out, session.encode(body, ()));
    let body = Lock2 {
        device: made.device,
        allocation: made.allocation,
        ..Lock2::default()
    };
    say(&mut out, session.encode(body, ()));
    out.u8(0).u8(7).u8(1).u32(16).u8(3);
    out.u8(1).u8(8).u8(1).u32(4096);
    out.u8(0).u8(4).u64(0).u16(64).u8(0);
    out.u8(0).u8(6).u32(20_000_000);
    session.process = made.process;
    say(&mut out, session.encode(DestroyProcess, ()));
    out.done()
}
