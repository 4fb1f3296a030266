// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory, submissions, fences and waits when all goes well.

use engine::Outcome;
use gpupv::*;
use guest_memory::GuestMemory;
use vaccel_isa::{Elementwise, ElementwiseOp, Operand};

use super::guest::*;
use crate::{HostConfig, PagingMode};

/// The whole way: memory by page list, mapping, residency, a computation, a fence the guest reads,
/// an event for a CPU wait, and nothing left afterwards.
#[test]
fn compute_and_fence() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let (_, va) = guest.buffer(&setup, &[9, 3, 7]);
    guest.put_f32s(3 * 4096, &[1.0, 2.0, 3.0]);
    guest.put_f32s(7 * 4096, &[10.0]);
    let flags = WaitFromCpuFlags::EMPTY;
    let pair = [(setup.fence.sync_object, 5)];
    guest.wait_cpu(setup.device, &pair, flags, 77).unwrap();
    guest
        .submit(setup.context, (9 * 4096, va), |s| {
            s.elementwise(Elementwise {
                op: ElementwiseOp::Add,
                dst: va + 8192 + 64,
                a: va + 4096,
                b: Operand::Immediate(0.5),
                rows: 1,
                cols: 3,
            });
        })
        .unwrap();
    guest.signal_gpu(setup.context, setup.fence.sync_object, 5);
    assert_eq!(guest.fence_value(setup.fence.fence_storage_address), 0);
    assert!(guest.guest_events().is_empty());
    assert_eq!(guest.run_all(), [Outcome::Done]);
    assert_eq!(guest.f32s(7 * 4096 + 64, 3), [1.5, 2.5, 3.5]);
    assert_eq!(guest.fence_value(setup.fence.fence_storage_address), 5);
    assert_eq!(guest.guest_events(), [77]);
    // A wait that is over already is answered too.
    guest.wait_cpu(setup.device, &pair, flags, 78).unwrap();
    assert_eq!(guest.guest_events(), [78]);
    guest.finish();
}

/// Pending paging operations answer first and signal the queue's fence then; immediate ones give a
/// value that is reached.
#[test]
fn paging_modes() {
    for paging in [PagingMode::Pending, PagingMode::Immediate] {
        let mut guest = Guest::with_process(HostConfig { paging, ..modern() });
        let setup = guest.setup();
        let allocation = guest.allocation(setup.device, &[1]);
        let reply = guest
            .make_resident(&setup, &[allocation], MakeResidentFlags::EMPTY)
            .unwrap();
        let map = guest.map(&setup, allocation, 1, Protection::WRITE).unwrap();
        let address = setup.queue.fence_storage_physical_address;
        let values = (reply.paging_fence_value, map.paging_fence_value);
        match paging {
            PagingMode::Pending => {
                assert_eq!(values, (1, 2));
                assert_eq!(reply.status, NtStatus::PENDING);
            }
            PagingMode::Immediate => {
                assert_eq!(values, (0, 0));
                assert_eq!(reply.status, NtStatus::SUCCESS);
            }
        }
        assert_eq!(guest.fence_value(address), values.1);
        guest.finish();
    }
}

/// A blocked wait holds its own context only, in order; a CPU signal lets it go on.
#[test]
fn contexts_are_queues() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let other = guest.context(setup.device);
    let (_, va) = guest.buffer(&setup, &[1, 2, 3]);
    let done = guest.fence(setup.device, SyncObjectFlags::EMPTY);
    guest.wait_gpu(setup.context, setup.fence.sync_object, 1);
    guest
        .submit(setup.context, (4096, va), |s| {
            s.fill_words(va + 4096, 4, 1);
        })
        .unwrap();
    guest.signal_gpu(setup.context, done.sync_object, 1);
    assert!(guest.world.jobs.is_empty(), "blocked");
    guest
        .submit(other, (3 * 4096, va + 8192), |s| {
            s.fill_words(va + 4100, 4, 2);
        })
        .unwrap();
    assert_eq!(guest.run_all(), [Outcome::Done], "the other context runs");
    assert_eq!(guest.fence_value(done.fence_storage_address), 0);
    let flags = SignalFlags::EMPTY;
    guest
        .signal_cpu(setup.device, setup.fence.sync_object, 1, flags)
        .unwrap();
    assert_eq!(guest.run_all(), [Outcome::Done]);
    assert_eq!(guest.fence_value(done.fence_storage_address), 1);
    let mut words = [0; 8];
    guest.memory.read(2 * 4096, &mut words).unwrap();
    assert_eq!(words, [1, 0, 0, 0, 2, 0, 0, 0]);
    guest.finish();
}

/// Contexts of equal priority take turns; a higher one goes first.
#[test]
fn turns_and_priorities() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let second = guest.context(setup.device);
    let (_, va) = guest.buffer(&setup, &[1, 2]);
    let submit = |guest: &mut Guest, context| {
        guest
            .submit(context, (4096, va), |s| {
                s.nop();
            })
            .unwrap();
    };
    let contexts = [setup.context, setup.context, setup.context, second, second];
    for context in contexts {
        submit(&mut guest, context);
    }
    let order = |guest: &mut Guest| {
        let mut order = Vec::new();
        while let Some(owner) = guest.host.vgpus[0].running.as_ref().and_then(|r| r.owner) {
            order.push(owner.queue);
            let (job, outcome) = guest.run_job().unwrap();
            guest.host.engine_done(job.id(), outcome, &mut guest.world);
        }
        order
    };
    let (a, b) = (setup.context, second);
    assert_eq!(order(&mut guest), [a, b, a, b, a]);
    guest
        .call(SetContextSchedulingPriority {
            context: second,
            priority: 3,
            ..SetContextSchedulingPriority::default()
        })
        .unwrap();
    let read = GetContextSchedulingPriority {
        context: second,
        ..GetContextSchedulingPriority::default()
    };
    assert_eq!(guest.call(read).unwrap().priority, 3);
    for context in [a, a, a, b, b] {
        submit(&mut guest, context);
    }
    assert_eq!(order(&mut guest), [a, b, b, a, a]);
    guest.finish();
}

/// Waiting for any of several fences, waiting for all, and events queued to a context.
#[test]
fn waits_and_events() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let (a, b) = (
        guest
            .fence(setup.device, SyncObjectFlags::EMPTY)
            .sync_object,
        guest
            .fence(setup.device, SyncObjectFlags::EMPTY)
            .sync_object,
    );
    let pairs = [(a, 2), (b, 1)];
    let any = WaitFromCpuFlags::WAIT_ANY;
    guest.wait_cpu(setup.device, &pairs, any, 10).unwrap();
    let all = WaitFromCpuFlags::EMPTY;
    guest.wait_cpu(setup.device, &pairs, all, 11).unwrap();
    let flags = SignalFlags::EMPTY;
    guest.signal_cpu(setup.device, a, 1, flags).unwrap();
    assert!(guest.guest_events().is_empty());
    guest.signal_cpu(setup.device, b, 1, flags).unwrap();
    assert_eq!(guest.guest_events(), [10]);
    guest.signal_cpu(setup.device, a, 3, flags).unwrap();
    assert_eq!(guest.guest_events(), [11]);

    guest.wait_gpu(setup.context, a, 9);
    let contexts = [setup.context];
    let tail = SignalTail {
        contexts: (&contexts).into(),
        ..SignalTail::default()
    };
    guest.send(SignalSyncObject::event(12), tail).unwrap();
    assert!(guest.guest_events().is_empty());
    guest.signal_cpu(setup.device, a, 9, flags).unwrap();
    assert_eq!(guest.guest_events(), [12]);
    guest.finish();
}

/// A lower value is refused from the CPU unless rewinding is allowed.
#[test]
fn rewinding() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let fence = setup.fence.sync_object;
    let address = setup.fence.fence_storage_address;
    let flags = SignalFlags::EMPTY;
    guest.signal_cpu(setup.device, fence, 9, flags).unwrap();
    let lower = guest.signal_cpu(setup.device, fence, 8, flags);
    assert_eq!(lower, Err(NtStatus::INVALID_PARAMETER));
    assert_eq!(guest.fence_value(address), 9);
    let rewind = SignalFlags::ALLOW_FENCE_REWIND;
    guest.signal_cpu(setup.device, fence, 8, rewind).unwrap();
    assert_eq!(guest.fence_value(address), 8);
    guest.finish();
}

/// Backing store by GPADL works like page lists, needs whole pages and enough of them.
#[test]
fn gpadl_memory() {
    let mut guest = Guest::with_process(HostConfig {
        map_guest_memory: false,
        ..modern()
    });
    let setup = guest.setup();
    let flags = CreateAllocationFlags::EMPTY;
    let allocation = guest.heap(setup.device, 3 * 4096, flags).unwrap();
    let body = SetExistingSysmemPages {
        device: setup.device,
        allocation,
        ..SetExistingSysmemPages::default()
    };
    let pages = guest.send(body, (&[1, 2, 3]).into());
    assert_eq!(pages, Err(NtStatus::NOT_SUPPORTED));
    let range = |gpa, len| guest_memory::GuestRange { gpa, len };
    let world = &mut guest.world;
    world.gpadls.insert(1, vec![range(0x5000, 4096)]);
    world.gpadls.insert(2, vec![range(0x5010, 3 * 4096)]);
    world
        .gpadls
        .insert(3, vec![range(0x5000, 4096), range(0x9000, 8192)]);
    let store = |gpadl| SetExistingSysmemStore {
        device: setup.device,
        allocation,
        gpadl,
        _pad: 0,
    };
    assert_eq!(guest.call(store(9)), Err(NtStatus::INVALID_HANDLE));
    assert_eq!(guest.call(store(1)), Err(NtStatus::INVALID_PARAMETER));
    assert_eq!(guest.call(store(2)), Err(NtStatus::INVALID_PARAMETER));
    let flags = MakeResidentFlags::EMPTY;
    let early = guest.make_resident(&setup, &[allocation], flags);
    assert_eq!(early, Err(NtStatus::INVALID_PARAMETER), "no pages yet");
    guest.call(store(3)).unwrap();
    assert_eq!(guest.call(store(3)), Err(NtStatus::INVALID_PARAMETER));
    guest.make_resident(&setup, &[allocation], flags).unwrap();
    let map = guest.map(&setup, allocation, 3, Protection::WRITE).unwrap();
    let va = map.virtual_address;
    guest
        .submit(setup.context, (0x5000, va), |s| {
            s.fill_bytes(va + 2 * 4096, 4096, 0xab);
        })
        .unwrap();
    assert_eq!(guest.run_all(), [Outcome::Done]);
    let mut byte = [0];
    guest.memory.read(0xafff, &mut byte).unwrap();
    assert_eq!(byte, [0xab]);
    guest.host.gpadl_revoked(3);
    guest.submit(setup.context, (0x5000, va), |_| ()).unwrap();
    assert!(matches!(guest.run_all()[..], [Outcome::PageFault(_)]));
    guest.finish();
}

/// The wrong-result option changes one element of one job, and waits for a job that writes.
#[test]
fn wrong_result_once() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let (_, va) = guest.buffer(&setup, &[1, 2]);
    assert!(guest.host.arm_wrong_result(GPU));
    let run = |guest: &mut Guest, write: bool| {
        guest.put_f32s(2 * 4096, &[0.0; 4]);
        guest
            .submit(setup.context, (4096, va), |s| {
                if write {
                    s.fill_words(va + 4096, 16, 1.0_f32.to_bits());
                }
            })
            .unwrap();
        guest.run_all();
        guest.f32s(2 * 4096, 4)
    };
    assert_eq!(run(&mut guest, false), [0.0; 4]);
    assert_eq!(run(&mut guest, true), [2.0, 1.0, 1.0, 1.0]);
    assert_eq!(run(&mut guest, true), [1.0; 4]);
    guest.finish();
}
