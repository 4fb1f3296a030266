// SPDX-License-Identifier: MIT OR Apache-2.0
//! The host misbehaving on request: mute, failing devices, losing events; and jobs over the limit of
//! time.

use engine::Outcome;
use gpupv::*;

use super::guest::*;
use crate::{Channel, HostConfig, JobOutcome, VgpuId};

const NONE: SyncObjectFlags = SyncObjectFlags::EMPTY;

/// A mute host answers nothing, says nothing and starts nothing, on any channel, until its time is
/// over; then everything happens in its order.
#[test]
fn mute() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let (_, va) = guest.buffer(&setup, &[1]);
    let pair = [(setup.fence.sync_object, 1)];
    let all = WaitFromCpuFlags::EMPTY;
    guest.wait_cpu(setup.device, &pair, all, 5).unwrap();
    guest.submit(setup.context, (4096, va), |_| ()).unwrap();
    guest.signal_gpu(setup.context, setup.fence.sync_object, 1);
    assert!(!guest.host.is_mute() && guest.host.deadline().is_none());
    guest.host.mute(100, &guest.world);
    assert_eq!(guest.host.deadline(), Some(100_000_000));
    assert!(guest.host.is_mute());
    assert_eq!(guest.run_all(), [Outcome::Done], "jobs that run end");
    let on_vgpu = guest.post(&Request::from(CreateDevice::default()));
    let submitted = SubmitCommand::new(setup.context, va, 8);
    let request = Request::new(submitted, SubmitTail::default()).unwrap();
    let submitted = guest.post(&request);
    let process = guest.post(&Request::from(CreateProcess::new(1, 1, "p")));
    for _ in 0..2 {
        assert!(guest.world.completions.is_empty());
        assert!(guest.world.events.is_empty() && guest.world.jobs.is_empty());
        assert_eq!(guest.fence_value(setup.fence.fence_storage_address), 0);
        guest.pass_ms(49);
    }
    guest.pass_ms(2);
    assert!(!guest.host.is_mute());
    assert_eq!(guest.guest_events(), [5]);
    let order = guest.world.completions.iter().map(|(_, id, _)| *id);
    assert_eq!(order.collect::<Vec<_>>(), [on_vgpu, submitted, process]);
    guest.world.completions.clear();
    assert_eq!(guest.run_all().len(), 1);
    guest.host.channel_closed(Channel::Global, &mut guest.world);
    guest.assert_empty();
}

/// Being mute can be cut short and drawn out; either counts from when it is asked for.
#[test]
fn mute_again() {
    let mut guest = Guest::with_process(modern());
    guest.host.mute(100, &guest.world);
    guest.pass_ms(50);
    guest.host.mute(100, &guest.world);
    guest.pass_ms(99);
    assert!(guest.host.is_mute());
    guest.host.mute(0, &guest.world);
    guest.pass_ms(0);
    assert!(!guest.host.is_mute());
    guest.host.mute(u64::MAX, &guest.world);
    guest.pass_ms(1 << 40);
    assert!(guest.host.is_mute());
}

/// A channel that closes while the host is mute takes its objects at once, and the messages that
/// nobody waits for any more; nothing is said until the time is over.
#[test]
fn mute_and_closed() {
    for channel in [Channel::Vgpu(GPU), Channel::Global] {
        let mut guest = Guest::with_process(modern());
        let setup = guest.setup();
        let (_, va) = guest.buffer(&setup, &[1]);
        let pair = [(setup.fence.sync_object, 1)];
        let all = WaitFromCpuFlags::EMPTY;
        guest.wait_cpu(setup.device, &pair, all, 5).unwrap();
        guest.submit(setup.context, (4096, va), |_| ()).unwrap();
        guest.host.mute(10, &guest.world);
        let lost = guest.post(&Request::from(CreateDevice::default()));
        let kept = guest.post(&Request::from(CreateProcess::new(1, 1, "p")));
        guest.host.channel_closed(channel, &mut guest.world);
        assert_eq!(guest.host.census().pinned_pages, 0);
        assert!(matches!(
            guest.run_all()[..],
            [Outcome::Cancelled | Outcome::PageFault(_)]
        ));
        assert!(guest.world.events.is_empty());
        guest.pass_ms(10);
        assert_eq!(guest.completion(lost), None);
        let global = channel == Channel::Global;
        assert_eq!(guest.completion(kept).is_none(), global);
        assert_eq!(guest.guest_events().is_empty(), global);
        guest.host.channel_closed(Channel::Global, &mut guest.world);
        guest.assert_empty();
    }
}

/// Every live device of a GPU fails as its job would have: with the state, a notice, dropped work and
/// fences at the highest value. One that has failed stays as it is; other GPUs have no part in it.
#[test]
fn failing_devices() {
    let mut guest = Guest::with_process(modern());
    let dead = guest.device(0xdead);
    let reason = DeviceErrorReason::GENERIC;
    let body = MarkDeviceAsError {
        device: dead,
        reason,
    };
    guest.call(body).unwrap();
    let setup = guest.setup();
    let owner = guest.process;
    guest.process = guest.create_process();
    let other = guest.device(0x07e4);
    let (opener, state) = (guest.speak_as(owner), ExecutionState::HUNG);
    let (_, va) = guest.buffer(&setup, &[1]);
    guest
        .submit(setup.context, (4096, va), |s| {
            s.spin(1_000_000_000);
        })
        .unwrap();
    let pair = [(setup.fence.sync_object, 1)];
    let all = WaitFromCpuFlags::EMPTY;
    guest.wait_cpu(setup.device, &pair, all, 5).unwrap();
    guest.world.events.clear();
    let nowhere = VgpuId(1);
    let world = &mut guest.world;
    assert!(!guest.host.fail_devices(nowhere, state, world));
    assert!(guest.host.fail_devices(GPU, state, world));
    let told = guest.world.events.iter().filter_map(|event| match event {
        Event::SetGuestData(data) => Some((data.guest_pointer, data.data32())),
        Event::Signal(_) => None,
        _ => panic!("{event:?}"),
    });
    let told: Vec<_> = told.collect();
    assert_eq!(told, [(0xc00c1e, Some(3)), (0x07e4, Some(3))]);
    assert_eq!(guest.guest_events(), [5]);
    let page = setup.fence.fence_storage_address;
    assert_eq!(guest.fence_value(page), u64::MAX);
    assert_eq!(guest.run_all(), [Outcome::Cancelled]);
    assert_eq!(guest.execution_state(setup.device), state);
    assert_eq!(guest.execution_state(dead), ExecutionState::RESET);
    guest.process = opener;
    assert_eq!(guest.execution_state(other), state);
    let next = guest.device(1);
    assert_eq!(guest.execution_state(next), ExecutionState::ACTIVE);
    guest.call(DestroyProcess).unwrap();
    guest.process = owner;
    guest.finish();
}

/// What is to fail while the host is mute fails when it goes on.
#[test]
fn failing_when_mute() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    guest.host.mute(10, &guest.world);
    let state = ExecutionState::ERROR_DMA_PAGE_FAULT;
    assert!(guest.host.fail_devices(GPU, state, &mut guest.world));
    assert!(guest.world.events.is_empty());
    guest.pass_ms(10);
    assert_eq!(guest.execution_state(setup.device), state);
    guest.finish();
}

/// So many guest events are lost, whatever they are of, and no other message.
#[test]
fn lost_events() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let fence = setup.fence.sync_object;
    let all = WaitFromCpuFlags::EMPTY;
    guest.wait_cpu(setup.device, &[(fence, 1)], all, 1).unwrap();
    guest.host.drop_events(2);
    guest.event_gpu(setup.context, 2).unwrap();
    let flags = SignalFlags::EMPTY;
    guest.signal_cpu(setup.device, fence, 1, flags).unwrap();
    assert_eq!(guest.host.census().cpu_waits, 0, "as if it had been sent");
    assert!(guest.guest_events().is_empty());
    guest.event_gpu(setup.context, 3).unwrap();
    assert_eq!(guest.guest_events(), [3]);
    guest.host.drop_events(1);
    let state = ExecutionState::HUNG;
    guest.host.fail_devices(GPU, state, &mut guest.world);
    assert_eq!(guest.world.events.len(), 1, "device states are told");
    guest.host.drop_events(0);
    let next = guest.setup();
    guest.event_gpu(next.context, 4).unwrap();
    assert_eq!(guest.guest_events(), [4]);
    guest.finish();
}

/// A guest with a job that runs, in a context and device of these flags.
fn running(
    tdr_ms: u32,
    device: CreateDeviceFlags,
    context: CreateContextFlags,
) -> (Guest, Setup, Handle) {
    let mut guest = Guest::with_process(HostConfig { tdr_ms, ..modern() });
    let setup = guest.setup();
    let (_, va) = guest.buffer(&setup, &[1]);
    let body = CreateDevice {
        flags: device,
        error_code: 1,
        ..CreateDevice::default()
    };
    let device = guest.call(body).unwrap().device;
    let body = CreateContextVirtual {
        device,
        flags: context,
        ..CreateContextVirtual::default()
    };
    let context = guest.send(body, &[]).unwrap().body.context;
    guest
        .submit(context, (4096, va), |s| {
            s.spin(1_000_000_000);
        })
        .unwrap();
    (guest, setup, device)
}

/// A job over the limit hangs its device, and only that; it is told to stop, and the engine goes on
/// with others.
#[test]
fn time_limit() {
    let none = (CreateDeviceFlags::EMPTY, CreateContextFlags::EMPTY);
    let (mut guest, setup, device) = running(50, none.0, none.1);
    let fence = guest.fence(setup.device, NONE);
    guest.signal_gpu(setup.context, fence.sync_object, 1);
    assert_eq!(guest.host.deadline(), Some(50_000_000));
    guest.pass_ms(49);
    assert_eq!(guest.execution_state(device), ExecutionState::ACTIVE);
    guest.pass_ms(1);
    assert_eq!(guest.execution_state(device), ExecutionState::HUNG);
    assert_eq!(guest.host.deadline(), None, "once");
    let state = guest.execution_state(setup.device);
    assert_eq!(state, ExecutionState::ACTIVE);
    assert_eq!(guest.run_all(), [Outcome::Cancelled]);
    assert_eq!(guest.fence_value(fence.fence_storage_address), 1);
    guest.finish();
}

/// Without a limit, or for a context or device that is exempt, a job runs as long as it likes.
#[test]
fn no_time_limit() {
    let (device, context) = (CreateDeviceFlags::EMPTY, CreateContextFlags::EMPTY);
    for (tdr_ms, device, context) in [
        (0, device, context),
        (50, CreateDeviceFlags::DISABLE_GPU_TIMEOUT, context),
        (50, device, CreateContextFlags::DISABLE_GPU_TIMEOUT),
    ] {
        let (mut guest, _, device) = running(tdr_ms, device, context);
        assert_eq!(guest.host.deadline(), None);
        guest.pass_ms(1 << 30);
        assert_eq!(guest.execution_state(device), ExecutionState::ACTIVE);
        guest.host.channel_closed(Channel::Global, &mut guest.world);
        guest.run_all();
        guest.assert_empty();
    }
}

/// A job that ended while the host was mute was in time; one that still runs was not.
#[test]
fn time_limit_when_mute() {
    for ends in [true, false] {
        let none = (CreateDeviceFlags::EMPTY, CreateContextFlags::EMPTY);
        let (mut guest, _, device) = running(50, none.0, none.1);
        guest.host.mute(100, &guest.world);
        assert_eq!(guest.host.deadline(), Some(100_000_000));
        if ends {
            let (_, job) = guest.world.jobs.pop_front().unwrap();
            let outcome = JobOutcome::Ran {
                outcome: Outcome::Done,
                flipped: false,
            };
            guest.host.engine_done(job.id(), outcome, &mut guest.world);
        }
        guest.pass_ms(100);
        let state = guest.execution_state(device);
        assert_eq!(state == ExecutionState::ACTIVE, ends, "{state:?}");
        guest.run_all();
        guest.finish();
    }
}

/// A job whose context is gone is over no limit.
#[test]
fn time_limit_of_nobody() {
    let none = (CreateDeviceFlags::EMPTY, CreateContextFlags::EMPTY);
    let (mut guest, setup, device) = running(50, none.0, none.1);
    let request = Request::from(DestroyDevice { device, _pad: 0 });
    let transaction = guest.post(&request);
    guest.world.events.clear();
    guest.pass_ms(50);
    assert!(guest.world.events.is_empty());
    assert_eq!(guest.host.deadline(), None);
    assert_eq!(guest.run_all(), [Outcome::Cancelled]);
    assert!(guest.completion(transaction).is_some());
    let state = guest.execution_state(setup.device);
    assert_eq!(state, ExecutionState::ACTIVE);
    guest.finish();
}
