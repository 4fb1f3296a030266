// SPDX-License-Identifier: MIT OR Apache-2.0
//! Arbitrary messages: the host never panics, and is empty when the process is gone.

use gpupv::*;
use proptest::prelude::*;

use vaccel_isa::{AllocationData, Segment};

use super::guest::*;
use crate::{Channel, HostConfig};

/// One step of a random conversation: a command number, where it goes, and words that are, with
/// some luck, handles and small numbers.
#[derive(Debug, Clone)]
struct Step {
    global: bool,
    number: u32,
    words: Vec<u32>,
    run: bool,
}

/// Commands that do not exist, beside which the host itself misbehaves.
const FAILURE: u32 = 3;
const SILENCE: u32 = 27;

fn word() -> impl Strategy<Value = u32> {
    prop_oneof![
        3 => Just(0),
        2 => 0_u32..4,
        6 => (1_u32..20).prop_map(|index| Handle::pack(0, index, 1).raw()),
        1 => Just(GPU.adapter_handle().raw()),
        1 => Just(4096),
        1 => any::<u32>(),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    (
        any::<bool>(),
        prop_oneof![8 => 0_u32..70, 1 => 1000_u32..1024],
        proptest::collection::vec(word(), 0..40),
        any::<bool>(),
    )
        .prop_map(|(global, number, words, run)| Step {
            global,
            number,
            words,
            run,
        })
}

fn message(guest: &Guest, step: &Step) -> Vec<u8> {
    let luid = guest.host.vgpus().next().unwrap().1.vgpu_luid;
    let kind = u32::from(step.number >= 1000);
    let head = [16, 0, luid.low, luid.high, 0, 0];
    let head = head
        .into_iter()
        .chain([guest.process.raw(), kind, step.number, 0]);
    let words = head.chain(step.words.iter().copied());
    words.flat_map(u32::to_le_bytes).collect()
}

/// Allocations in host memory, alone and in a shared resource.
fn host_memory(guest: &mut Guest, setup: &Setup) -> (Handle, CreateAllocationReply) {
    let far = Segment::NonLocal;
    let alone = guest.host_allocation(setup.device, 8192, far).unwrap();
    let data = AllocationData {
        size: 4096,
        segment: Segment::Local,
    };
    let flags = CreateAllocationFlags::CREATE_RESOURCE
        | CreateAllocationFlags::CREATE_SHARED
        | CreateAllocationFlags::NT_SECURITY_SHARING;
    let data = [data.to_bytes(); 2];
    let data = [data[0].as_slice(), &data[1]];
    let shared = guest.create(setup.device, Handle::NONE, flags, &data);
    (alone, shared.unwrap().0)
}

/// The part of a conversation about fences that others have open.
fn shared_fences(guest: &mut Guest, setup: &Setup) {
    let made = guest.shared_fence(setup.device);
    let kept = guest.share(made.sync_object);
    let flags = SyncObjectFlags::NO_SIGNAL;
    let name = made.global_sync_object;
    let opened = guest.open_fence(setup.device, name, flags).unwrap();
    guest.wait_gpu(setup.context, opened.sync_object, 1);
    guest.destroy_fence(opened.sync_object).unwrap();
    guest.signal_gpu(setup.context, made.sync_object, 2);
    let none = SignalFlags::EMPTY;
    guest
        .signal_cpu(setup.device, made.sync_object, 1, none)
        .unwrap();
    guest.destroy_fence(made.sync_object).unwrap();
    guest.unshare(kept).unwrap();
}

/// The part of a conversation about memory of the GPU.
fn own_memory(guest: &mut Guest, setup: &Setup) {
    let device = setup.device;
    let (alone, shared) = host_memory(guest, setup);
    guest.lock(device, alone).unwrap();
    let none = MakeResidentFlags::EMPTY;
    guest.make_resident(setup, &[alone], none).unwrap();
    let change = GpuVaChange::Map {
        base: 4 * MIB,
        size: 8192,
        allocation: alone,
        allocation_offset: 0,
        allocation_size: 8192,
        protection: None,
    };
    let body = UpdateGpuVirtualAddress {
        device,
        context: setup.context,
        ..UpdateGpuVirtualAddress::default()
    };
    guest.send(body, (&[change.into()]).into()).unwrap();
    guest.unlock(device, alone).unwrap();
    let reply = guest.call(CreateNtSharedObject {
        object: shared.resource,
        _pad: 0,
    });
    let shared_handle = reply.unwrap().shared_handle;
    let body = OpenResource {
        device,
        nt_security_sharing: true.into(),
        global_share: shared_handle,
        allocation_count: 2,
        ..OpenResource::default()
    };
    guest.call(body).unwrap();
    let body = DestroyNtSharedObject {
        shared_handle,
        _pad: 0,
    };
    guest.call(body).unwrap();
    let body = OfferAllocations {
        device,
        priority: OfferPriority::AUTO,
        flags: OfferFlags::OFFER_IMMEDIATELY | OfferFlags::ALLOW_DECOMMIT,
        ..OfferAllocations::default()
    };
    guest.send(body, (&[alone]).into()).unwrap();
    let body = ReclaimAllocations {
        device,
        paging_queue: setup.queue.paging_queue,
        write_results: true.into(),
        ..ReclaimAllocations::default()
    };
    guest.send(body, (&[alone]).into()).unwrap();
    let body = ChangeVideoMemoryReservation {
        reservation: 4096,
        ..ChangeVideoMemoryReservation::default()
    };
    guest.call(body).unwrap();
}

/// The part of a conversation about hardware queues and objects without storage.
fn queues_and_plain_syncs(guest: &mut Guest, setup: &Setup, va: u64) {
    let body = CreateContextVirtual {
        device: setup.device,
        flags: CreateContextFlags::HW_QUEUE_SUPPORTED,
        ..CreateContextVirtual::default()
    };
    let context = guest.send(body, &[]).unwrap().body.context;
    let body = CreateHwQueue {
        context,
        ..CreateHwQueue::default()
    };
    let queue = guest.send(body, &[1]).unwrap().body;
    let info = SyncObjectInfo::mutex(SyncObjectFlags::EMPTY, 0);
    let body = CreateSyncObject::new(setup.device, info);
    let mutex = guest.call(body).unwrap().sync_object;
    let body = WaitForSyncObjectFromGpu {
        legacy_fence_object: true.into(),
        ..WaitForSyncObjectFromGpu::new(queue.hwqueue)
    };
    let (objects, values) = ([mutex], [0]);
    let tail = GpuWaitTail {
        fence_values: (&values).into(),
        objects: (&objects).into(),
    };
    guest.send(body, tail).unwrap();
    let bytes = guest.stage(4096, |_| ());
    let body = SubmitCommandToHwQueue {
        hwqueue: queue.hwqueue,
        hwqueue_progress_fence_id: 1,
        command_buffer: va,
        command_length: bytes,
        ..SubmitCommandToHwQueue::default()
    };
    guest.send(body, SubmitToHwQueueTail::default()).unwrap();
    let queues = [queue.hwqueue];
    let tail = SignalTail {
        objects: (&objects).into(),
        contexts: (&queues).into(),
        ..SignalTail::default()
    };
    guest.send(SignalSyncObject::default(), tail).unwrap();
    guest.run_all();
    let hwqueue = queue.hwqueue;
    guest.call(DestroyHwQueue { hwqueue, _pad: 0 }).unwrap();
}

/// The part of a conversation about what the host says of itself, and what it is told.
fn questions(guest: &mut Guest, setup: &Setup) {
    let luid = guest.host.vgpus().next().unwrap().1.host_adapter_luid;
    for kind in 0..11 {
        let body = QueryStatistics {
            kind: StatisticsType::from_raw(kind),
            adapter_luid: luid,
            ..QueryStatistics::default()
        };
        // There are no video sources.
        assert_eq!(guest.call(body).is_ok(), !(7..9).contains(&kind));
    }
    guest.call(IsFeatureEnabled::default()).unwrap();
    guest.call(IsFeatureEnabledGlobal::default()).unwrap();
    let body = Escape {
        adapter: GPU.adapter_handle(),
        device: setup.device,
        ..Escape::default()
    };
    guest.send(body, &[0; 24]).unwrap();
    let fence = guest.shared_fence(setup.device);
    let body = ShareObjectWithHost {
        device: setup.device,
        object: fence.sync_object,
        reserved: 0,
    };
    guest.call(body).unwrap();
    for query in 0..80 {
        let body = QueryAdapterInfo {
            query_type: QueryType::from_raw(query),
            ..QueryAdapterInfo::default()
        };
        let request = Request::new(body, &[0; 4096]).unwrap();
        guest.exchange(&request).unwrap();
    }
}

/// The messages of a conversation that uses everything.
fn conversation() -> Vec<(Channel, Vec<u8>)> {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let (allocation, va) = guest.buffer(&setup, &[1, 2, 3]);
    let pair = [(setup.fence.sync_object, 1)];
    let flags = WaitFromCpuFlags::EMPTY;
    guest.wait_cpu(setup.device, &pair, flags, 5).unwrap();
    guest.wait_gpu(setup.context, setup.queue.sync_object, 1);
    guest
        .submit(setup.context, (4096, va), |s| {
            s.copy(va + 4096, va, 4096);
        })
        .unwrap();
    guest.signal_gpu(setup.context, setup.fence.sync_object, 1);
    guest.run_all();
    let none = SignalFlags::EMPTY;
    guest
        .signal_cpu(setup.device, setup.fence.sync_object, 2, none)
        .unwrap();
    own_memory(&mut guest, &setup);
    shared_fences(&mut guest, &setup);
    queues_and_plain_syncs(&mut guest, &setup, va);
    questions(&mut guest, &setup);
    guest.evict(setup.device, &[allocation]);
    let body = DestroyAllocation {
        device: setup.device,
        ..DestroyAllocation::default()
    };
    guest.send(body, (&[allocation]).into()).unwrap();
    let device = setup.device;
    guest
        .call(FlushDevice {
            device,
            reason: FlushReason::DEVICE_TERMINATE,
        })
        .unwrap();
    guest.call(DestroyDevice { device, _pad: 0 }).unwrap();
    guest.call(DestroyProcess).unwrap();
    guest.sent
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Commands with plausible contents, in random order, jobs run or not.
    #[test]
    fn plausible_commands(steps in proptest::collection::vec(step(), 1..40)) {
        let mut guest = Guest::with_process(HostConfig {
            async_messages: true,
            ..modern()
        });
        let setup = guest.setup();
        host_memory(&mut guest, &setup);
        let fence = guest.shared_fence(setup.device);
        guest.share(fence.sync_object);
        let body = CreateContextVirtual {
            device: setup.device,
            flags: CreateContextFlags::HW_QUEUE_SUPPORTED,
            ..CreateContextVirtual::default()
        };
        let context = guest.send(body, &[]).unwrap().body.context;
        let body = CreateHwQueue {
            context,
            ..CreateHwQueue::default()
        };
        guest.send(body, &[]).unwrap();
        for step in &steps {
            if step.number == FAILURE {
                let state = ExecutionState::HUNG;
                guest.host.fail_devices(GPU, state, &mut guest.world);
            }
            if step.number == SILENCE {
                guest.host.mute(1, &guest.world);
            }
            let bytes = message(&guest, step);
            let channel = if step.global || step.number >= 1000 {
                Channel::Global
            } else {
                Channel::Vgpu(GPU)
            };
            guest.raw(channel, &bytes, !step.run);
            if step.run {
                guest.run_all();
                guest.pass_ms(1);
            }
        }
        guest.pass_ms(1);
        guest.host.channel_closed(Channel::Global, &mut guest.world);
        guest.run_all();
        guest.assert_empty();
    }

    /// Arbitrary bytes on either channel, in either version.
    #[test]
    fn arbitrary_bytes(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        global: bool,
        current: bool,
    ) {
        let version = if current { 40 } else { 27 };
        let mut guest = Guest::up(HostConfig { version, ..modern() });
        let channel = if global { Channel::Global } else { Channel::Vgpu(GPU) };
        guest.raw(channel, &bytes, true);
        prop_assert_eq!(guest.world.completions.len(), 1);
    }

    /// A good conversation, a few bytes of which are changed, messages left out or sent twice.
    #[test]
    fn damaged_conversation(
        damage in proptest::collection::vec((0_usize..200, 0_usize..160, any::<u8>()), 1..24),
        twice in 0_usize..200,
        dropped in 0_usize..200,
    ) {
        let mut guest = Guest::new(modern());
        for (number, (channel, mut bytes)) in conversation().into_iter().enumerate() {
            for (_, at, value) in damage.iter().filter(|(message, _, _)| *message == number) {
                if let Some(byte) = bytes.get_mut(*at) {
                    *byte = *value;
                }
            }
            if number != dropped {
                guest.raw(channel, &bytes, true);
            }
            if number == twice {
                guest.raw(channel, &bytes, true);
            }
            if number % 3 == 0 {
                guest.run_all();
            }
        }
        guest.host.channel_closed(Channel::Global, &mut guest.world);
        guest.run_all();
        guest.assert_empty();
    }
}
