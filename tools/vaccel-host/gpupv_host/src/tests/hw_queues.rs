// SPDX-License-Identifier: MIT OR Apache-2.0
//! Hardware queues: progress fences, order, priorities, refusals, and what goes with what.

use engine::Outcome;
use gpupv::*;

use super::guest::*;
use crate::HostConfig;

const BAD: NtStatus = NtStatus::INVALID_PARAMETER;

/// A context for hardware queues.
fn queue_context(guest: &mut Guest, device: Handle) -> Handle {
    let body = CreateContextVirtual {
        device,
        flags: CreateContextFlags::HW_QUEUE_SUPPORTED,
        ..CreateContextVirtual::default()
    };
    guest.send(body, &[]).unwrap().body.context
}

/// A hardware queue of a context.
fn queue(guest: &mut Guest, context: Handle) -> CreateHwQueue {
    let body = CreateHwQueue {
        context,
        ..CreateHwQueue::default()
    };
    guest.send(body, &[]).unwrap().body
}

/// Submits the commands at an address, which bring the progress fence to a value.
fn submit(guest: &mut Guest, queue: &CreateHwQueue, (va, bytes): (u64, u32), value: u64) {
    try_submit(guest, queue.hwqueue, (va, bytes), value).unwrap();
}

fn try_submit(
    guest: &mut Guest,
    hwqueue: Handle,
    (command_buffer, command_length): (u64, u32),
    hwqueue_progress_fence_id: u64,
) -> Result<NtStatus, NtStatus> {
    let body = SubmitCommandToHwQueue {
        hwqueue,
        hwqueue_progress_fence_id,
        command_buffer,
        command_length,
        ..SubmitCommandToHwQueue::default()
    };
    guest.send(body, SubmitToHwQueueTail::default())
}

fn progress(guest: &Guest, queue: &CreateHwQueue) -> u64 {
    guest.fence_value(queue.progress_fence_address.get())
}

fn destroy(guest: &mut Guest, hwqueue: Handle) -> Result<NtStatus, NtStatus> {
    guest.call(DestroyHwQueue { hwqueue, _pad: 0 })
}

/// The reply repeats the request behind a command header, with private data, queue, fence and both
/// addresses; the fence gets the value of each submission when its commands have run, not before.
#[test]
fn progress_fence() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let context = queue_context(&mut guest, setup.device);
    let data = [7, 8, 9];
    let body = CreateHwQueue {
        context,
        ..CreateHwQueue::default()
    };
    let request = Request::new(body, &data).unwrap();
    let payload = guest.exchange(&request).unwrap();
    assert_eq!(payload.len(), (71 + data.len()).next_multiple_of(8));
    let answer = request.parse_reply(guest.version, &payload).unwrap();
    assert_eq!(answer.tail, data);
    let header = answer.reply.header;
    assert_eq!((header.process, header.command_type), (guest.process, 50));
    let queue = answer.reply.body;
    assert_eq!((queue.status, queue.context), (NtStatus::SUCCESS, context));
    assert_eq!(queue.priv_drv_data_size, 3);
    assert_ne!(queue.progress_fence_gpuva.get(), 0);
    assert_eq!(progress(&guest, &queue), 0);
    let census = guest.host.census();
    assert_eq!((census.hw_queues, census.fence_pages), (1, 3));

    let (_, va) = guest.buffer(&setup, &[1, 2]);
    let bytes = guest.stage(4096, |s| {
        s.fill_words(va + 4096, 4, 5);
    });
    let pair = [(queue.progress_fence, 20)];
    let flags = WaitFromCpuFlags::EMPTY;
    guest.wait_cpu(setup.device, &pair, flags, 9).unwrap();
    submit(&mut guest, &queue, (va, bytes), 10);
    submit(&mut guest, &queue, (va, bytes), 20);
    assert_eq!(progress(&guest, &queue), 0);
    let (job, outcome) = guest.run_job().unwrap();
    guest.host.engine_done(job.id(), outcome, &mut guest.world);
    assert_eq!(progress(&guest, &queue), 10);
    assert!(guest.guest_events().is_empty());
    assert_eq!(guest.run_all(), [Outcome::Done]);
    assert_eq!(progress(&guest, &queue), 20);
    assert_eq!(guest.guest_events(), [9]);
    guest.finish();
}

/// A hardware queue takes waits, signals and events in order, and does not wait for other queues of
/// its context; other contexts wait for its progress.
#[test]
fn order_and_waits() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let context = queue_context(&mut guest, setup.device);
    let (first, second) = (queue(&mut guest, context), queue(&mut guest, context));
    let (_, va) = guest.buffer(&setup, &[1]);
    let bytes = guest.stage(4096, |_| ());
    let done = guest.fence(setup.device, SyncObjectFlags::EMPTY);
    guest.wait_gpu(first.hwqueue, setup.fence.sync_object, 1);
    submit(&mut guest, &first, (va, bytes), 1);
    guest.event_gpu(first.hwqueue, 6).unwrap();
    submit(&mut guest, &second, (va, bytes), 1);
    guest.wait_gpu(setup.context, first.progress_fence, 1);
    guest.signal_gpu(setup.context, done.sync_object, 1);
    assert_eq!(guest.run_all(), [Outcome::Done], "the second queue");
    assert_eq!(
        (progress(&guest, &first), progress(&guest, &second)),
        (0, 1)
    );
    assert!(guest.guest_events().is_empty());
    guest.signal_gpu(second.hwqueue, setup.fence.sync_object, 1);
    assert_eq!(guest.run_all(), [Outcome::Done]);
    assert_eq!(guest.guest_events(), [6]);
    assert_eq!(guest.fence_value(done.fence_storage_address), 1);
    guest.finish();
}

/// A queue counts with the priority of its context.
#[test]
fn priority() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let context = queue_context(&mut guest, setup.device);
    let queue = queue(&mut guest, context);
    guest
        .call(SetContextSchedulingPriority {
            context,
            priority: 2,
            ..SetContextSchedulingPriority::default()
        })
        .unwrap();
    let (_, va) = guest.buffer(&setup, &[1]);
    let bytes = guest.stage(4096, |_| ());
    for _ in 0..2 {
        guest.submit(setup.context, (4096, va), |_| ()).unwrap();
    }
    submit(&mut guest, &queue, (va, bytes), 1);
    let (job, outcome) = guest.run_job().unwrap();
    guest.host.engine_done(job.id(), outcome, &mut guest.world);
    let (job, outcome) = guest.run_job().unwrap();
    guest.host.engine_done(job.id(), outcome, &mut guest.world);
    assert_eq!(
        progress(&guest, &queue),
        1,
        "before the second of the context"
    );
    guest.run_all();
    guest.finish();
}

/// The guest neither signals nor destroys a progress fence.
#[test]
fn fence_is_the_hosts() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let context = queue_context(&mut guest, setup.device);
    let queue = queue(&mut guest, context);
    let denied = Err(NtStatus::ACCESS_DENIED);
    let flags = SignalFlags::EMPTY;
    let fence = queue.progress_fence;
    assert_eq!(guest.signal_cpu(setup.device, fence, 1, flags), denied);
    assert_eq!(guest.try_signal_gpu(setup.context, fence, 1), denied);
    assert_eq!(guest.destroy_fence(fence), Err(BAD));
    destroy(&mut guest, queue.hwqueue).unwrap();
    let gone = Err(NtStatus::INVALID_HANDLE);
    assert_eq!(guest.destroy_fence(fence), gone);
    guest.finish();
}

/// Contexts without hardware queues, other handles, unknown flags, commands that cannot be; and a
/// context for hardware queues takes no commands of its own.
#[test]
fn refusals() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let context = queue_context(&mut guest, setup.device);
    let none = NtStatus::INVALID_HANDLE;
    let make = |guest: &mut Guest, context, flags| {
        let body = CreateHwQueue {
            context,
            flags,
            ..CreateHwQueue::default()
        };
        guest.send(body, &[]).err()
    };
    let empty = CreateHwQueueFlags::EMPTY;
    assert_eq!(make(&mut guest, setup.context, empty), Some(BAD));
    assert_eq!(make(&mut guest, setup.device, empty), Some(none));
    let unknown = CreateHwQueueFlags::from_bits(2);
    assert_eq!(make(&mut guest, context, unknown), Some(BAD));
    assert_eq!(guest.host.census().hw_queues, 0);
    let body = CreateHwQueue {
        context: setup.device,
        ..CreateHwQueue::default()
    };
    let request = Request::new(body, &[0; 9]).unwrap();
    let payload = guest.exchange(&request).unwrap();
    assert_eq!(payload.len(), 80, "fails with a reply of full length");

    let queue = queue(&mut guest, context);
    assert_eq!(try_submit(&mut guest, context, (4096, 8), 1), Err(none));
    for bytes in [0, 2 << 20] {
        let refused = try_submit(&mut guest, queue.hwqueue, (4096, bytes), 1);
        assert_eq!(refused, Err(BAD));
    }
    let primaries = [setup.context; 17];
    let tail = SubmitToHwQueueTail {
        written_primaries: (&primaries).into(),
        private_data: &[],
    };
    let body = SubmitCommandToHwQueue {
        hwqueue: queue.hwqueue,
        command_length: 8,
        ..SubmitCommandToHwQueue::default()
    };
    assert_eq!(guest.send(body, tail), Err(BAD));
    for handle in [context, queue.hwqueue] {
        let own = SubmitCommand::new(handle, 4096, 8);
        assert!(guest.send(own, SubmitTail::default()).is_err());
    }
    for handle in [Handle::NONE, context, queue.progress_fence] {
        assert_eq!(destroy(&mut guest, handle), Err(none));
    }
    // 4094 and a submission of two are too many.
    guest.wait_gpu(queue.hwqueue, setup.fence.sync_object, 1);
    for _ in 0..2047 {
        submit(&mut guest, &queue, (4096, 8), 1);
    }
    let full = try_submit(&mut guest, queue.hwqueue, (4096, 8), 1);
    assert_eq!(full, Err(NtStatus::NO_MEMORY));
    guest.finish();
}

/// Destroying a queue, its context or its device drops what has not begun, stops the job that runs
/// and waits for it; nothing is left, not even of the other queues.
#[test]
fn teardown() {
    for level in 0..4 {
        let mut guest = Guest::with_process(modern());
        let setup = guest.setup();
        let context = queue_context(&mut guest, setup.device);
        let (first, second) = (queue(&mut guest, context), queue(&mut guest, context));
        let (_, va) = guest.buffer(&setup, &[1]);
        let bytes = guest.stage(4096, |s| {
            s.spin(1_000_000_000);
        });
        submit(&mut guest, &first, (va, bytes), 1);
        submit(&mut guest, &first, (va, bytes), 2);
        submit(&mut guest, &second, (va, bytes), 1);
        let (hwqueue, device) = (first.hwqueue, setup.device);
        if level == 0 {
            destroy(&mut guest, second.hwqueue).unwrap();
        }
        let transaction = match level {
            0 => guest.post(&Request::from(DestroyHwQueue { hwqueue, _pad: 0 })),
            1 => guest.post(&Request::from(DestroyContext { context, _pad: 0 })),
            2 => guest.post(&Request::from(DestroyDevice { device, _pad: 0 })),
            _ => guest.post(&Request::from(DestroyProcess)),
        };
        assert_eq!(guest.completion(transaction), None);
        let census = guest.host.census();
        assert_eq!((census.hw_queues, census.queued_work), (0, 0));
        assert_eq!(guest.run_all(), [Outcome::Cancelled]);
        assert!(guest.completion(transaction).is_some());
        if level < 3 {
            guest.finish();
        } else {
            guest.assert_empty();
        }
    }
}

/// A fault in a queue stops its device: nothing more runs, and the progress fence jumps, so that
/// nobody waits for ever.
#[test]
fn fault() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let context = queue_context(&mut guest, setup.device);
    let queue = queue(&mut guest, context);
    submit(&mut guest, &queue, (0x10_0000, 8), 1);
    submit(&mut guest, &queue, (0x10_0000, 8), 2);
    assert!(matches!(guest.run_all()[..], [Outcome::PageFault(_)]));
    assert_eq!(progress(&guest, &queue), u64::MAX);
    let removed = Err(NtStatus::DEVICE_REMOVED);
    let again = try_submit(&mut guest, queue.hwqueue, (0x10_0000, 8), 3);
    assert_eq!(again, removed);
    guest.finish();
}

/// A queue without a time limit runs on where another would hang its device.
#[test]
fn time_limit() {
    for (flags, state) in [
        (CreateHwQueueFlags::EMPTY, ExecutionState::HUNG),
        (
            CreateHwQueueFlags::DISABLE_GPU_TIMEOUT,
            ExecutionState::ACTIVE,
        ),
    ] {
        let mut guest = Guest::with_process(HostConfig {
            tdr_ms: 10,
            ..modern()
        });
        let setup = guest.setup();
        let context = queue_context(&mut guest, setup.device);
        let body = CreateHwQueue {
            context,
            flags,
            ..CreateHwQueue::default()
        };
        let queue = guest.send(body, &[]).unwrap().body;
        let (_, va) = guest.buffer(&setup, &[1]);
        let bytes = guest.stage(4096, |_| ());
        submit(&mut guest, &queue, (va, bytes), 1);
        guest.pass_ms(10);
        assert_eq!(guest.execution_state(setup.device), state);
        guest.run_all();
        guest.finish();
    }
}

/// Without an answer: a good submission runs, a bad one stops its device.
#[test]
fn asynchronous() {
    let mut guest = Guest::with_process(HostConfig {
        async_messages: true,
        ..modern()
    });
    let setup = guest.setup();
    let context = queue_context(&mut guest, setup.device);
    let queue = queue(&mut guest, context);
    let (_, va) = guest.buffer(&setup, &[1]);
    let bytes = guest.stage(4096, |_| ());
    let body = SubmitCommandToHwQueue {
        hwqueue: queue.hwqueue,
        hwqueue_progress_fence_id: 4,
        command_buffer: va,
        command_length: bytes,
        ..SubmitCommandToHwQueue::default()
    };
    guest.post_async(body, SubmitToHwQueueTail::default());
    assert_eq!(guest.run_all(), [Outcome::Done]);
    assert_eq!(progress(&guest, &queue), 4);
    let bad = SubmitCommandToHwQueue {
        command_length: 0,
        ..body
    };
    guest.post_async(bad, SubmitToHwQueueTail::default());
    let state = guest.execution_state(setup.device);
    assert_eq!(state, ExecutionState::STOPPED);
    guest.finish();
}

/// The host can be one without hardware queues, and one that insists on rising values.
#[test]
fn choices() {
    let mut config = modern();
    config.choose("hw-scheduling", "off").unwrap();
    let mut guest = Guest::with_process(config);
    let device = guest.device(1);
    let body = CreateContextVirtual {
        device,
        flags: CreateContextFlags::HW_QUEUE_SUPPORTED,
        ..CreateContextVirtual::default()
    };
    let refused = guest.send(body, &[]).unwrap().body.context;
    assert!(refused.is_none());
    guest.finish();
    for (value, again) in [("any", Ok(NtStatus::SUCCESS)), ("rising", Err(BAD))] {
        let mut config = modern();
        config.choose("progress-values", value).unwrap();
        let mut guest = Guest::with_process(config);
        let setup = guest.setup();
        let context = queue_context(&mut guest, setup.device);
        let queue = queue(&mut guest, context);
        let (_, va) = guest.buffer(&setup, &[1]);
        let bytes = guest.stage(4096, |_| ());
        submit(&mut guest, &queue, (va, bytes), 5);
        for lower in [5, 4] {
            let got = try_submit(&mut guest, queue.hwqueue, (va, bytes), lower);
            assert_eq!(got, again);
        }
        guest.run_all();
        assert_eq!(progress(&guest, &queue), 5, "never lower");
        guest.finish();
    }
}

/// Several contexts of a device each run a command buffer that names them; contexts of different
/// devices do not, and nothing is queued then.
#[test]
fn broadcast() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let second = guest.context(setup.device);
    let other = guest.setup();
    let (_, va) = guest.buffer(&setup, &[1]);
    let bytes = guest.stage(4096, |_| ());
    let mut body = SubmitCommand {
        broadcast_context_count: 2,
        ..SubmitCommand::new(setup.context, va, bytes)
    };
    body.broadcast_context[1] = other.context;
    assert_eq!(guest.send(body, SubmitTail::default()), Err(BAD));
    assert!(guest.world.jobs.is_empty());
    body.broadcast_context[1] = second;
    guest.send(body, SubmitTail::default()).unwrap();
    assert_eq!(guest.run_all(), [Outcome::Done, Outcome::Done]);
    guest.finish();
}
