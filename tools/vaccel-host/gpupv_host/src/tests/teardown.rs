// SPDX-License-Identifier: MIT OR Apache-2.0
//! Destruction: what goes with what, what is waited for, and that nothing is left.

use engine::{Fault, FaultKind, Outcome};
use gpupv::*;

use super::guest::*;
use crate::{Channel, JobOutcome};

/// Destroying a device destroys everything on it; the address space belongs to the process.
#[test]
fn device_takes_everything() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    guest.buffer(&setup, &[1]);
    guest.wait_gpu(setup.context, setup.fence.sync_object, 1);
    let pair = [(setup.fence.sync_object, 1)];
    let flags = WaitFromCpuFlags::EMPTY;
    guest.wait_cpu(setup.device, &pair, flags, 5).unwrap();
    let device = setup.device;
    guest.call(DestroyDevice { device, _pad: 0 }).unwrap();
    assert_eq!(guest.guest_events(), [5], "waiters are let go");
    let census = guest.host.census();
    let left = (census.processes, census.va_ranges);
    assert_eq!(left, (1, 1));
    assert_eq!(
        crate::Census {
            processes: 0,
            va_ranges: 0,
            ..census
        },
        crate::Census::default()
    );
    guest.finish();
}

/// A destroyed allocation is acknowledged only when the job that may touch it has ended; the job
/// itself is not disturbed.
#[test]
fn allocation_waits_for_the_job() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let (allocation, va) = guest.buffer(&setup, &[1]);
    let (other, _) = guest.buffer(&setup, &[2]);
    guest
        .submit(setup.context, (4096, va), |s| {
            s.fill_bytes(va + 1024, 4, 9);
        })
        .unwrap();
    let destroy = |guest: &mut Guest, allocation| {
        let body = DestroyAllocation {
            device: setup.device,
            ..DestroyAllocation::default()
        };
        guest.post(&Request::new(body, (&[allocation]).into()).unwrap())
    };
    let transaction = destroy(&mut guest, allocation);
    assert_eq!(guest.completion(transaction), None);
    let census = guest.host.census();
    assert_eq!((census.allocations, census.pinned_pages), (1, 2));
    assert_eq!(census.held_completions, 1);
    assert_eq!(guest.run_all(), [Outcome::Done]);
    assert!(guest.completion(transaction).is_some());
    assert_eq!(guest.host.census().pinned_pages, 1);
    // No job: at once.
    let transaction = destroy(&mut guest, other);
    assert!(guest.completion(transaction).is_some());
    guest.finish();
}

/// An owner who says the allocation is not in use gets the answer at once, and a job that does use
/// it faults.
#[test]
fn assumed_not_in_use() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let (allocation, va) = guest.buffer(&setup, &[1]);
    guest.submit(setup.context, (4096, va), |_| ()).unwrap();
    let body = DestroyAllocation {
        device: setup.device,
        flags: DestroyAllocationFlags::ASSUME_NOT_IN_USE,
        ..DestroyAllocation::default()
    };
    guest.send(body, (&[allocation]).into()).unwrap();
    let fault = Outcome::PageFault(Fault {
        va,
        access: engine::Access::Read,
        kind: FaultKind::NotResident,
    });
    assert_eq!(guest.run_all(), [fault]);
    guest.finish();
}

/// Destroying a process, a device or a context stops its running job and waits for it.
#[test]
fn destruction_waits_for_the_job() {
    for level in 0..3 {
        let mut guest = Guest::with_process(modern());
        let setup = guest.setup();
        let (_, va) = guest.buffer(&setup, &[1]);
        guest
            .submit(setup.context, (4096, va), |s| {
                s.spin(1_000_000_000);
            })
            .unwrap();
        let transaction = match level {
            0 => guest.post(&Request::from(DestroyContext {
                context: setup.context,
                _pad: 0,
            })),
            1 => guest.post(&Request::from(DestroyDevice {
                device: setup.device,
                _pad: 0,
            })),
            _ => guest.post(&Request::from(DestroyProcess)),
        };
        assert_eq!(guest.completion(transaction), None);
        assert_eq!(guest.host.census().running_jobs, 1);
        assert_eq!(guest.run_all(), [Outcome::Cancelled]);
        assert!(guest.completion(transaction).is_some());
        if level < 2 {
            guest.finish();
        } else {
            guest.assert_empty();
        }
    }
}

/// Flushing waits for the running job; before destruction it also stops it and drops queued work.
#[test]
fn flushing() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let (_, va) = guest.buffer(&setup, &[1]);
    let mut flush = |reason, expected: &[Outcome]| {
        for _ in 0..2 {
            guest.submit(setup.context, (4096, va), |_| ()).unwrap();
        }
        let body = FlushDevice {
            device: setup.device,
            reason: FlushReason::from_raw(reason),
        };
        let transaction = guest.post(&Request::from(body));
        assert_eq!(guest.completion(transaction), None);
        let outcomes = guest.run_all();
        assert_eq!(outcomes, expected);
        assert!(guest.completion(transaction).is_some());
    };
    flush(0, &[Outcome::Done, Outcome::Done]);
    flush(4, &[Outcome::Cancelled]);
    guest.finish();
}

/// A queued GPU wait outlives the handle of its fence.
#[test]
fn waits_outlive_handles() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let second = guest.context(setup.device);
    let done = guest.fence(setup.device, SyncObjectFlags::EMPTY);
    let gone = setup.fence.sync_object;
    guest.wait_gpu(setup.context, gone, 1);
    guest.signal_gpu(setup.context, done.sync_object, 1);
    let (_, va) = guest.buffer(&setup, &[1]);
    guest.submit(second, (4096, va), |_| ()).unwrap();
    guest.signal_gpu(second, gone, 1);
    let body = DestroySyncObject {
        sync_object: gone,
        _pad: 0,
    };
    guest.call(body).unwrap();
    assert_eq!(guest.fence_value(done.fence_storage_address), 0);
    guest.run_all();
    assert_eq!(guest.fence_value(done.fence_storage_address), 1);
    guest.finish();
}

/// Closing channels in the middle of work ends everything of theirs; late outcomes and late
/// completions do no harm; the guest can start again.
#[test]
fn channels_close() {
    for channel in [Channel::Vgpu(GPU), Channel::Global] {
        let mut guest = Guest::with_process(modern());
        let setup = guest.setup();
        let (allocation, va) = guest.buffer(&setup, &[1]);
        guest.submit(setup.context, (4096, va), |_| ()).unwrap();
        let body = DestroyAllocation {
            device: setup.device,
            ..DestroyAllocation::default()
        };
        let list = [allocation];
        let request = Request::new(body, (&list).into()).unwrap();
        let transaction = guest.post(&request);
        guest.host.channel_closed(channel, &mut guest.world);
        let (job, outcome) = guest.run_job().unwrap();
        let touched = matches!(
            outcome,
            JobOutcome::Ran {
                outcome: Outcome::Done,
                ..
            }
        );
        assert!(!touched, "pages are out of reach once the channel closed");
        guest.host.engine_done(job.id(), outcome, &mut guest.world);
        guest.host.engine_done(job.id(), outcome, &mut guest.world);
        // The command came on the GPU's channel.
        let answered = guest.completion(transaction).is_some();
        assert_eq!(answered, channel == Channel::Global);
        match channel {
            Channel::Global => {
                guest.assert_empty();
                guest.io_space(IO_BASE, MIB).unwrap();
                guest.process = guest.create_process();
            }
            Channel::Vgpu(_) => {}
        }
        guest.call(OpenAdapter::new(guest.version)).unwrap();
        guest.setup();
        guest.finish();
    }
}

/// A guest keeps the handles of what an adapter took along until it ends the process, and takes no
/// object with an index that is taken. What it destroyed itself is used again.
#[test]
fn a_closed_adapter_leaves_its_indexes() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let mut taken = setup.handles();
    taken.push(guest.allocation(setup.device, &[1]));
    guest
        .call(CloseAdapter {
            adapter: GPU.adapter_handle(),
            _pad: 0,
        })
        .unwrap();
    guest.call(OpenAdapter::new(guest.version)).unwrap();
    let setup = guest.setup();
    for handle in setup.handles() {
        let known = taken.iter().any(|old| old.index() == handle.index());
        assert!(!known, "{handle}");
    }
    let context = setup.context;
    guest.call(DestroyContext { context, _pad: 0 }).unwrap();
    assert_eq!(guest.context(setup.device).index(), context.index());
    guest.finish();
}

/// A shader that takes too long hangs its device, one that is refused or kills its runner is a fault.
#[test]
fn shader_ends() {
    let mut guest = Guest::with_process(modern());
    for (outcome, state) in [
        (Outcome::Hung, ExecutionState::HUNG),
        (Outcome::BadProgram, ExecutionState::ERROR_DMA_FAULT),
    ] {
        let setup = guest.setup();
        let (_, va) = guest.buffer(&setup, &[1]);
        guest.submit(setup.context, (4096, va), |_| ()).unwrap();
        let (_, job) = guest.world.jobs.pop_front().unwrap();
        let outcome = JobOutcome::Ran {
            outcome,
            flipped: false,
        };
        guest.host.engine_done(job.id(), outcome, &mut guest.world);
        assert_eq!(guest.execution_state(setup.device), state);
    }
    guest.finish();
}

/// An engine that crashed hangs the device, not the host.
#[test]
fn engine_crash() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let (_, va) = guest.buffer(&setup, &[1]);
    guest.submit(setup.context, (4096, va), |_| ()).unwrap();
    let (_, job) = guest.world.jobs.pop_front().unwrap();
    guest
        .host
        .engine_done(job.id(), JobOutcome::Crashed, &mut guest.world);
    assert_eq!(guest.execution_state(setup.device), ExecutionState::HUNG);
    guest.finish();
}

/// The census names what there is, and goes to JSON as the control channel sends it.
#[test]
fn census_counts() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    guest.buffer(&setup, &[1, 2]);
    let json = serde_json::to_value(guest.host.census()).unwrap();
    assert_eq!(json["processes"], 1);
    assert_eq!(json["sync_objects"], 2, "one is the paging queue's");
    assert_eq!(json["pinned_pages"], 2);
    assert_eq!(json["resident_bytes"], 8192);
    assert_eq!(json["va_ranges"], 1);
    guest.finish();
}
