// SPDX-License-Identifier: MIT OR Apache-2.0
//! A guest for tests: it encodes commands, decodes answers, and owns the host and its world.

use std::sync::Arc;

use engine::{BuiltIn, Outcome};
use gpupv::*;
use guest_memory::{FlatMemory, GuestMemory};
use vaccel_isa::{AllocationData, CommandStream, Segment};

pub use super::world::*;
use crate::{
    Channel, Host, HostConfig, IoSpace, Job, JobOutcome, MessageIn, PerSegment, VgpuConfig, VgpuId,
};

pub const GPU: VgpuId = VgpuId(0);
pub const IO_BASE: u64 = 0xf_e000_0000;
pub const MIB: u64 = 1 << 20;
/// Guest memory, from address 0.
pub const MEMORY: usize = 16 << 20;

pub struct Guest {
    pub host: Host,
    pub world: World,
    pub memory: FlatMemory,
    pub version: Version,
    pub channel: Channel,
    pub process: Handle,
    pub next_transaction: u64,
    /// Every message sent, for replays.
    pub sent: Vec<(Channel, Vec<u8>)>,
}

/// What every test of computing needs.
#[derive(Clone, Copy)]
pub struct Setup {
    pub device: Handle,
    pub context: Handle,
    pub queue: CreatePagingQueueReply,
    pub fence: CreateSyncObjectReply,
}

impl Setup {
    pub fn handles(&self) -> Vec<Handle> {
        let queue = (self.queue.paging_queue, self.queue.sync_object);
        let fence = self.fence.sync_object;
        vec![self.device, self.context, queue.0, queue.1, fence]
    }
}

impl Guest {
    /// A guest that has negotiated with a host, but sent nothing yet.
    pub fn new(config: HostConfig) -> Self {
        let vgpu = VgpuConfig {
            budget: PerSegment::both(4 * MIB),
            memory: PerSegment {
                local: 5 * MIB,
                non_local: 6 * MIB,
            },
            commit_limit: 16 * MIB,
            ..VgpuConfig::numbered(0)
        };
        Self::on(config, [vgpu])
    }

    /// A guest with a process, on a GPU with so much of everything.
    pub fn with_limits(config: HostConfig, bytes: u64) -> Self {
        let vgpu = VgpuConfig {
            budget: PerSegment::both(bytes),
            memory: PerSegment::both(bytes),
            commit_limit: bytes,
            ..VgpuConfig::numbered(0)
        };
        let mut guest = Self::on(config, [vgpu]);
        guest.bring_up();
        guest.process = guest.create_process();
        guest
    }

    /// A guest that has negotiated, with these GPUs.
    pub fn on(config: HostConfig, vgpus: impl IntoIterator<Item = VgpuConfig>) -> Self {
        let mut host = Host::new(config);
        for vgpu in vgpus {
            host.add_vgpu(vgpu).unwrap();
        }
        let window = host.pci_window(GPU).unwrap();
        window.write(PCI_GUEST_CAPS, 1);
        let version = Version::negotiate(window.read(PCI_VERSION, 4));
        if version.has_ext_header() {
            window.write(PCI_VERSION, version.raw());
        }
        host.channel_opened(Channel::Global);
        host.channel_opened(Channel::Vgpu(GPU));
        Self {
            host,
            world: World::default(),
            memory: FlatMemory::new(0, MEMORY),
            version,
            channel: Channel::Vgpu(GPU),
            process: Handle::NONE,
            next_transaction: 1,
            sent: Vec::new(),
        }
    }

    /// A guest whose adapter is open.
    pub fn up(config: HostConfig) -> Self {
        let mut guest = Self::new(config);
        guest.bring_up();
        guest
    }

    fn bring_up(&mut self) {
        self.io_space(IO_BASE, 64 * MIB).unwrap();
        let reply = self.call(OpenAdapter::new(self.version)).unwrap();
        assert_eq!(reply.adapter, GPU.adapter_handle());
        let info = self.call(GetInternalAdapterInfo).unwrap();
        if info.caps.contains(AdapterCaps::ASYNC_MSG_ENABLED) {
            self.channel = Channel::Global;
        }
    }

    /// A guest with a process.
    pub fn with_process(config: HostConfig) -> Self {
        let mut guest = Self::up(config);
        guest.process = guest.create_process();
        guest
    }

    pub fn create_process(&mut self) -> Handle {
        let reply = self.call(CreateProcess::new(7, 42, "test")).unwrap();
        assert!(!reply.process.is_none());
        reply.process
    }

    pub fn io_space(&mut self, start: u64, length: u64) -> Result<NtStatus, NtStatus> {
        self.call(SetIoSpaceRegion::new(start, length))
    }

    /// A device with a context, a paging queue and a fence.
    pub fn setup(&mut self) -> Setup {
        let device = self.device(0xc00c1e);
        let context = self.context(device);
        let queue = CreatePagingQueue::new(device, PagingQueuePriority::NORMAL);
        let queue = self.call(queue).unwrap();
        let fence = self.fence(device, SyncObjectFlags::EMPTY);
        Setup {
            device,
            context,
            queue,
            fence,
        }
    }

    pub fn device(&mut self, cookie: u64) -> Handle {
        let body = CreateDevice {
            error_code: cookie,
            ..CreateDevice::default()
        };
        self.call(body).unwrap().device
    }

    pub fn context(&mut self, device: Handle) -> Handle {
        let body = CreateContextVirtual {
            device,
            ..CreateContextVirtual::default()
        };
        self.send(body, &[]).unwrap().body.context
    }

    pub fn fence(&mut self, device: Handle, flags: SyncObjectFlags) -> CreateSyncObjectReply {
        self.try_fence(device, flags).unwrap()
    }

    pub fn try_fence(
        &mut self,
        device: Handle,
        flags: SyncObjectFlags,
    ) -> Result<CreateSyncObjectReply, NtStatus> {
        let args = MonitoredFence::default();
        let info = SyncObjectInfo::monitored_fence(flags, &args);
        self.call(CreateSyncObject::new(device, info))
    }

    /// A fence that can be shared.
    pub fn shared_fence(&mut self, device: Handle) -> CreateSyncObjectReply {
        let flags = SyncObjectFlags::SHARED | SyncObjectFlags::NT_SECURITY_SHARING;
        self.fence(device, flags)
    }

    pub fn open_fence(
        &mut self,
        device: Handle,
        name: Handle,
        flags: SyncObjectFlags,
    ) -> Result<OpenSyncObjectReply, NtStatus> {
        self.call(OpenSyncObject {
            device,
            global_sync_object: name,
            flags,
            ..OpenSyncObject::default()
        })
    }

    pub fn destroy_fence(&mut self, sync_object: Handle) -> Result<NtStatus, NtStatus> {
        self.call(DestroySyncObject {
            sync_object,
            _pad: 0,
        })
    }

    /// An NT handle for a resource or fence, or none.
    pub fn share(&mut self, object: Handle) -> Handle {
        let reply = self.call(CreateNtSharedObject { object, _pad: 0 });
        reply.unwrap().shared_handle
    }

    /// Drops an NT handle.
    pub fn unshare(&mut self, shared_handle: Handle) -> Result<NtStatus, NtStatus> {
        let owner = std::mem::replace(&mut self.process, Handle::NONE);
        let body = DestroyNtSharedObject {
            shared_handle,
            _pad: 0,
        };
        let result = self.call(body);
        self.process = owner;
        result
    }

    /// Sends a command without a tail.
    pub fn call<C>(&mut self, body: C) -> Result<C::Reply, NtStatus>
    where
        C: for<'a> Command<Tail<'a> = ()>,
    {
        self.send(body, ())
    }

    /// Sends a command and returns its reply, or the status of its failure.
    pub fn send<C: Command>(&mut self, body: C, tail: C::Tail<'_>) -> Result<C::Reply, NtStatus> {
        let request = Request::new(body, tail).unwrap();
        let payload = self.exchange(&request).expect("a completion");
        match request.parse_reply(self.version, &payload) {
            Ok(answer) if answer.status().is_error() => Err(answer.status()),
            Ok(answer) => Ok(answer.reply),
            Err(ReplyError::Failed(status)) => Err(status),
            Err(error) => panic!("{error}: {payload:?}"),
        }
    }

    /// Sends a command; the payload of its completion, if that came at once.
    pub fn exchange<C: Command>(&mut self, request: &Request<'_, C>) -> Option<Vec<u8>> {
        let transaction = self.post(request);
        self.completion(transaction)
    }

    /// Sends a command and does not look for its completion.
    pub fn post<C: Command>(&mut self, request: &Request<'_, C>) -> u64 {
        let vgpu = self.host.vgpus().next().unwrap().1.vgpu_luid;
        let route = Route::adapter(self.version, vgpu).with_process(self.process);
        let mut bytes = vec![0; request.message_len(self.version).unwrap()];
        request.encode(&route, &mut bytes).unwrap();
        let channel = match C::ID.channel() {
            ChannelType::Adapter => self.channel,
            _ => Channel::Global,
        };
        self.raw(channel, &bytes, true)
    }

    /// Sends a command asynchronously.
    pub fn post_async<C: Command>(&mut self, body: C, tail: C::Tail<'_>) {
        let request = Request::new(body, tail).unwrap();
        let vgpu = self.host.vgpus().next().unwrap().1.vgpu_luid;
        let route = Route::adapter(self.version, vgpu)
            .with_process(self.process)
            .without_reply();
        let mut bytes = vec![0; request.message_len(self.version).unwrap()];
        request.encode(&route, &mut bytes).unwrap();
        self.raw(Channel::Global, &bytes, false);
    }

    pub fn raw(&mut self, channel: Channel, payload: &[u8], completion_requested: bool) -> u64 {
        let transaction_id = self.next_transaction;
        self.next_transaction += 1;
        self.sent.push((channel, payload.to_vec()));
        let message = MessageIn {
            transaction_id,
            completion_requested,
            payload,
        };
        self.host.message(channel, message, &mut self.world);
        transaction_id
    }

    pub fn completion(&mut self, transaction: u64) -> Option<Vec<u8>> {
        let found = |(_, id, _): &(Channel, u64, Vec<u8>)| *id == transaction;
        let at = self.world.completions.iter().position(found)?;
        Some(self.world.completions.remove(at)?.2)
    }

    /// An allocation of these guest page frames.
    pub fn allocation(&mut self, device: Handle, frames: &[u64]) -> Handle {
        let allocation = self
            .heap(
                device,
                frames.len() as u64 * PAGE_SIZE,
                CreateAllocationFlags::EMPTY,
            )
            .unwrap();
        let body = SetExistingSysmemPages {
            device,
            allocation,
            ..SetExistingSysmemPages::default()
        };
        self.send(body, List::new(frames)).unwrap();
        allocation
    }

    /// An allocation on an existing heap, without pages yet.
    pub fn heap(
        &mut self,
        device: Handle,
        size: u64,
        flags: CreateAllocationFlags,
    ) -> Result<Handle, NtStatus> {
        let heap = StandardAllocation {
            kind: StandardAllocationType::EXISTING_HEAP,
            size,
            ..StandardAllocation::default()
        };
        let flags = flags
            | CreateAllocationFlags::EXISTING_SYSMEM
            | CreateAllocationFlags::STANDARD_ALLOCATION;
        let body = CreateAllocation {
            device,
            flags,
            ..CreateAllocation::default()
        };
        let infos = [AllocationInfo::default()];
        let tail = CreateAllocationTail {
            infos: (&infos).into(),
            resource_data: heap.bytes(),
            ..CreateAllocationTail::default()
        };
        let request = Request::new(body, tail).unwrap();
        let payload = self.exchange(&request).unwrap();
        match request.parse_reply(self.version, &payload) {
            Ok(answer) => {
                let entry = answer.tail.entries.first().unwrap();
                assert_eq!(entry.size, size);
                Ok(entry.allocation)
            }
            Err(ReplyError::Failed(status)) => Err(status),
            Err(error) => panic!("{error}"),
        }
    }

    /// Creates allocations in host memory; the reply and its entries.
    pub fn create(
        &mut self,
        device: Handle,
        resource: Handle,
        flags: CreateAllocationFlags,
        data: &[&[u8]],
    ) -> Result<(CreateAllocationReply, Vec<CreatedAllocation>), NtStatus> {
        let infos: Vec<AllocationInfo> = data
            .iter()
            .map(|data| AllocationInfo {
                priv_drv_data_size: data.len() as u32,
                ..AllocationInfo::default()
            })
            .collect();
        let body = CreateAllocation {
            device,
            resource,
            flags,
            ..CreateAllocation::default()
        };
        let data = data.concat();
        let tail = CreateAllocationTail {
            infos: List::new(&infos),
            allocation_data: &data,
            ..CreateAllocationTail::default()
        };
        let request = Request::new(body, tail).unwrap();
        let payload = self.exchange(&request).unwrap();
        match request.parse_reply(self.version, &payload) {
            Ok(answer) => {
                assert_eq!(answer.tail.data, data, "private data comes back");
                Ok((answer.reply, answer.tail.entries.iter().collect()))
            }
            Err(ReplyError::Failed(status)) => Err(status),
            Err(error) => panic!("{error}"),
        }
    }

    /// An allocation in host memory.
    pub fn host_allocation(
        &mut self,
        device: Handle,
        size: u64,
        segment: Segment,
    ) -> Result<Handle, NtStatus> {
        let data = AllocationData { size, segment }.to_bytes();
        let none = CreateAllocationFlags::EMPTY;
        let (_, entries) = self.create(device, Handle::NONE, none, &[&data])?;
        Ok(entries[0].allocation)
    }

    pub fn lock(&mut self, device: Handle, allocation: Handle) -> Result<u64, NtStatus> {
        let body = Lock2 {
            device,
            allocation,
            ..Lock2::default()
        };
        self.call(body).map(|reply| reply.cpu_visible_address)
    }

    pub fn unlock(&mut self, device: Handle, allocation: Handle) -> Result<NtStatus, NtStatus> {
        self.call(Unlock2 {
            device,
            allocation,
            ..Unlock2::default()
        })
    }

    /// The part of a GPU's memory that the guest sees at a guest-physical address.
    pub fn seen(&self, address: u64) -> Option<(Arc<FakeMemory>, u64)> {
        let (base, io) = self.world.io.as_ref().unwrap();
        io.seen(address - base)
    }

    /// What the guest's GPU has as memory.
    pub fn gpu_memory(&self) -> Arc<FakeMemory> {
        Arc::clone(&self.world.memories.lock().unwrap()[&GPU])
    }

    /// Destroys allocations.
    pub fn destroy(
        &mut self,
        device: Handle,
        allocations: &[Handle],
    ) -> Result<NtStatus, NtStatus> {
        let body = DestroyAllocation {
            device,
            ..DestroyAllocation::default()
        };
        self.send(body, List::new(allocations))
    }

    pub fn make_resident(
        &mut self,
        setup: &Setup,
        allocations: &[Handle],
        flags: MakeResidentFlags,
    ) -> Result<MakeResidentReply, NtStatus> {
        let body = MakeResident {
            paging_queue: setup.queue.paging_queue,
            flags,
            ..MakeResident::default()
        };
        self.send(body, List::new(allocations))
    }

    pub fn evict(&mut self, device: Handle, allocations: &[Handle]) -> Vec<u8> {
        let body = Evict {
            device,
            ..Evict::default()
        };
        let request = Request::new(body, List::new(allocations)).unwrap();
        self.exchange(&request).unwrap()
    }

    pub fn map(
        &mut self,
        setup: &Setup,
        allocation: Handle,
        pages: u64,
        protection: Protection,
    ) -> Result<MapGpuVirtualAddressReply, NtStatus> {
        self.call(MapGpuVirtualAddress {
            paging_queue: setup.queue.paging_queue,
            allocation,
            size_in_pages: pages,
            protection,
            ..MapGpuVirtualAddress::default()
        })
    }

    /// Memory that is allocated, resident and mapped for writing: handle and address.
    pub fn buffer(&mut self, setup: &Setup, frames: &[u64]) -> (Handle, u64) {
        let allocation = self.allocation(setup.device, frames);
        self.make_resident(setup, &[allocation], MakeResidentFlags::EMPTY)
            .unwrap();
        let map = self
            .map(setup, allocation, frames.len() as u64, Protection::WRITE)
            .unwrap();
        (allocation, map.virtual_address)
    }

    /// Puts a command buffer into guest memory at `gpa` and submits it from `va`.
    pub fn submit(
        &mut self,
        context: Handle,
        (gpa, va): (u64, u64),
        build: impl FnOnce(&mut CommandStream),
    ) -> Result<NtStatus, NtStatus> {
        let bytes = self.stage(gpa, build);
        self.send(
            SubmitCommand::new(context, va, bytes),
            SubmitTail::default(),
        )
    }

    pub fn stage(&mut self, gpa: u64, build: impl FnOnce(&mut CommandStream)) -> u32 {
        let mut stream = CommandStream::new();
        build(&mut stream);
        let stream = stream.finish().unwrap();
        self.memory.write(gpa, &stream).unwrap();
        stream.len() as u32
    }

    pub fn signal_gpu(&mut self, context: Handle, fence: Handle, value: u64) -> NtStatus {
        self.try_signal_gpu(context, fence, value).unwrap()
    }

    pub fn try_signal_gpu(
        &mut self,
        context: Handle,
        fence: Handle,
        value: u64,
    ) -> Result<NtStatus, NtStatus> {
        let (objects, contexts, values) = ([fence], [context], [value]);
        let tail = SignalTail {
            objects: (&objects).into(),
            contexts: (&contexts).into(),
            fence_values: (&values).into(),
        };
        self.send(SignalSyncObject::default(), tail)
    }

    pub fn signal_cpu(
        &mut self,
        device: Handle,
        fence: Handle,
        value: u64,
        flags: SignalFlags,
    ) -> Result<NtStatus, NtStatus> {
        let (objects, values) = ([fence], [value]);
        let tail = SignalTail {
            objects: (&objects).into(),
            fence_values: (&values).into(),
            ..SignalTail::default()
        };
        self.send(SignalSyncObject::from_cpu(device, flags), tail)
    }

    pub fn wait_gpu(&mut self, context: Handle, fence: Handle, value: u64) -> NtStatus {
        self.try_wait_gpu(context, fence, value).unwrap()
    }

    pub fn try_wait_gpu(
        &mut self,
        context: Handle,
        fence: Handle,
        value: u64,
    ) -> Result<NtStatus, NtStatus> {
        let (objects, values) = ([fence], [value]);
        let tail = GpuWaitTail {
            fence_values: (&values).into(),
            objects: (&objects).into(),
        };
        self.send(WaitForSyncObjectFromGpu::new(context), tail)
    }

    /// Has a context send a guest event.
    pub fn event_gpu(&mut self, context: Handle, event: u64) -> Result<NtStatus, NtStatus> {
        let contexts = [context];
        let tail = SignalTail {
            contexts: (&contexts).into(),
            ..SignalTail::default()
        };
        self.send(SignalSyncObject::event(event), tail)
    }

    /// Makes the other process the one that speaks; the one that spoke.
    pub fn speak_as(&mut self, process: Handle) -> Handle {
        std::mem::replace(&mut self.process, process)
    }

    /// Lets time pass.
    pub fn pass_ms(&mut self, milliseconds: u64) {
        self.world.now += milliseconds * 1_000_000;
        self.host.tick(&mut self.world);
    }

    pub fn wait_cpu(
        &mut self,
        device: Handle,
        pairs: &[(Handle, u64)],
        flags: WaitFromCpuFlags,
        event: u64,
    ) -> Result<NtStatus, NtStatus> {
        let objects: Vec<Handle> = pairs.iter().map(|pair| pair.0).collect();
        let values: Vec<u64> = pairs.iter().map(|pair| pair.1).collect();
        let tail = CpuWaitTail {
            objects: List::new(&objects),
            fence_values: List::new(&values),
        };
        self.send(WaitForSyncObjectFromCpu::new(device, flags, event), tail)
    }

    /// The value in the fence page at this guest-physical address.
    pub fn fence_value(&self, address: u64) -> u64 {
        let (base, io) = self.world.io.as_ref().unwrap();
        assert_eq!(address % 4096, 0);
        io.load_u64(address - base)
    }

    /// The ids of the guest events that came, in order.
    pub fn guest_events(&mut self) -> Vec<u64> {
        let events = std::mem::take(&mut self.world.events);
        let id = |event: &Event| match event {
            Event::Signal(signal) => Some(signal.event),
            _ => None,
        };
        events.iter().filter_map(id).collect()
    }

    pub fn execution_state(&mut self, device: Handle) -> ExecutionState {
        let body = GetDeviceState::new(device, DeviceStateType::EXECUTION);
        self.call(body).unwrap().args.execution().unwrap()
    }

    /// Runs the job an engine was given last, without reporting its outcome.
    pub fn run_job(&mut self) -> Option<(Job, JobOutcome)> {
        let (_, job) = self.world.jobs.pop_front()?;
        let outcome = job.run(&BuiltIn, &self.memory, &|_| ());
        Some((job, outcome))
    }

    /// Runs jobs until there are no more. The outcomes.
    pub fn run_all(&mut self) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        while let Some((job, outcome)) = self.run_job() {
            if let JobOutcome::Ran { outcome, .. } = outcome {
                outcomes.push(outcome);
            }
            self.host.engine_done(job.id(), outcome, &mut self.world);
        }
        outcomes
    }

    pub fn f32s(&self, gpa: u64, count: usize) -> Vec<f32> {
        let mut bytes = vec![0; count * 4];
        self.memory.read(gpa, &mut bytes).unwrap();
        bytes
            .chunks_exact(4)
            .map(|chunk| f32::from_le_bytes(chunk.try_into().unwrap()))
            .collect()
    }

    pub fn put_f32s(&self, gpa: u64, values: &[f32]) {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.memory.write(gpa, &bytes).unwrap();
    }

    /// Ends the process and checks that nothing is left of it.
    pub fn finish(mut self) {
        self.call(DestroyProcess).unwrap();
        self.assert_empty();
    }

    pub fn assert_empty(&self) {
        let census = self.host.census();
        assert!(census.is_zero(), "{census:?}");
        assert!(self.host.vgpus.iter().all(|vgpu| vgpu.offers.is_empty()));
        assert!(self.host.by_gpadl.is_empty());
    }
}

/// The usual host.
pub fn modern() -> HostConfig {
    HostConfig::default()
}
