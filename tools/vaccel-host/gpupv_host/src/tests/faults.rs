// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rules of misbehaviour: the guest sees exactly what they say.

use gpupv::*;

use super::guest::*;
use crate::{
    Action, Channel, ChannelMatch, CommandMatch, EventMatch, Garbage, HostConfig, On, OperationId,
    Rule, RuleCounts, RuleError, Status, MAX_RULES,
};

/// The next command of this kind.
fn on(command: CommandId) -> On {
    On {
        command: Some(CommandMatch::Command(command)),
        event: None,
        channel: ChannelMatch::Any,
        vgpu: None,
        nth: 1,
        count: 1,
    }
}

/// The next CREATEDEVICE.
fn next() -> On {
    on(CommandId::CreateDevice)
}

/// The next event.
fn event() -> On {
    On {
        command: None,
        event: Some(EventMatch::Any),
        ..next()
    }
}

fn arm(guest: &mut Guest, on: On, action: Action) -> u64 {
    let rule = Rule {
        on,
        action,
        seed: None,
    };
    guest.host.arm(rule).unwrap()
}

fn counts(guest: &Guest) -> Vec<(u64, u64)> {
    let counts = guest.host.rule_counts();
    counts
        .iter()
        .map(|rule| (rule.matched, rule.fired))
        .collect()
}

/// Asks for a device without looking at the answer.
fn ask(guest: &mut Guest) -> u64 {
    guest.post(&Request::from(CreateDevice::default()))
}

/// Asks for a device; the bytes of the answer, as the host sent them.
fn answer(guest: &mut Guest) -> Vec<u8> {
    let id = ask(guest);
    guest.completion(id).unwrap()
}

/// How many objects the host has.
fn devices(guest: &Guest) -> u64 {
    guest.host.census().devices
}

/// An answer is late by what the rule says, to the nanosecond, and the next one is not.
#[test]
fn late_answer() {
    let mut guest = Guest::with_process(modern());
    arm(&mut guest, next(), Action::Delay { milliseconds: 5 });
    let late = ask(&mut guest);
    assert_eq!(devices(&guest), 1, "carried out at once");
    assert!(guest.completion(late).is_none());
    guest.device(1);
    assert_eq!(guest.host.deadline(), Some(5_000_000));
    guest.pass_ms(4);
    assert!(guest.completion(late).is_none());
    guest.pass_ms(1);
    assert!(guest.completion(late).is_some());
    assert_eq!(guest.host.deadline(), None);
    guest.finish();
}

/// A lost answer is of a command that was carried out; a lost message is not.
#[test]
fn lost() {
    for (action, made) in [(Action::DropAnswer {}, 1), (Action::DropMessage {}, 0)] {
        let mut guest = Guest::with_process(modern());
        arm(&mut guest, next(), action);
        ask(&mut guest);
        assert!(guest.world.completions.is_empty());
        assert_eq!(devices(&guest), made);
        guest.device(1);
        assert_eq!(counts(&guest), [(2, 1)]);
        guest.finish();
    }
}

/// A status comes in the shape of the reply, instead of the command or after it.
#[test]
fn status() {
    for after in [false, true] {
        let mut guest = Guest::with_process(modern());
        let status = Status(NtStatus::GRAPHICS_ALLOCATION_BUSY);
        arm(
            &mut guest,
            next(),
            Action::Status {
                status,
                after,
                bare: false,
            },
        );
        // A reply without a status says it by an empty handle.
        assert!(guest
            .call(CreateDevice::default())
            .unwrap()
            .device
            .is_none());
        assert_eq!(devices(&guest), u64::from(after));
        let flush = on(CommandId::FlushDevice);
        arm(
            &mut guest,
            flush,
            Action::Status {
                status,
                after,
                bare: false,
            },
        );
        let device = guest.device(1);
        let reason = FlushReason::DEVICE_TERMINATE;
        let error = guest.call(FlushDevice { device, reason }).unwrap_err();
        assert_eq!(error, status.0);
        guest.finish();
    }
}

/// A bare status is four bytes, whatever the reply looks like.
#[test]
fn bare_status() {
    let mut guest = Guest::with_process(modern());
    let action = Action::Status {
        status: Status(NtStatus::NO_MEMORY),
        after: false,
        bare: true,
    };
    arm(&mut guest, on(CommandId::GetInternalAdapterInfo), action);
    let id = guest.post(&Request::from(GetInternalAdapterInfo));
    // The fake world pads to 8 bytes.
    assert_eq!(
        guest.completion(id),
        Some(vec![0x17, 0, 0, 0xc0, 0, 0, 0, 0])
    );
    guest.finish();
}

/// An answer that is refused after it was carried out is still held back until the job ends.
#[test]
fn status_of_a_held_answer() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    let (_, va) = guest.buffer(&setup, &[1]);
    guest.submit(setup.context, (4096, va), |_| ()).unwrap();
    let status = Status(NtStatus::NO_MEMORY);
    let after = true;
    arm(
        &mut guest,
        on(CommandId::DestroyDevice),
        Action::Status {
            status,
            after,
            bare: false,
        },
    );
    let id = guest.post(&Request::from(DestroyDevice {
        device: setup.device,
        _pad: 0,
    }));
    assert!(guest.completion(id).is_none());
    guest.run_all();
    let answer = guest.completion(id).unwrap();
    assert_eq!(answer[..4], NtStatus::NO_MEMORY.bits().to_le_bytes());
    guest.finish();
}

/// Answers are cut, made longer, spoilt; the host's side of it is as ever.
#[test]
fn spoilt_answers() {
    let mut guest = Guest::with_process(modern());
    let info = || on(CommandId::GetInternalAdapterInfo);
    let answer = |guest: &mut Guest| {
        let id = guest.post(&Request::from(GetInternalAdapterInfo));
        guest.completion(id).unwrap()
    };
    let good = answer(&mut guest).len();
    for (action, len) in [
        (Action::Short { bytes: 8 }, good - 8),
        (Action::Short { bytes: 16 << 10 }, 0),
        (Action::Long { bytes: 64 }, good + 64),
    ] {
        arm(&mut guest, info(), action);
        assert_eq!(answer(&mut guest).len(), len);
    }
    for (mode, byte) in [(Garbage::Zero, 0), (Garbage::Ones, 0xff)] {
        arm(&mut guest, info(), Action::Malformed { mode });
        assert_eq!(answer(&mut guest), vec![byte; good]);
    }
    arm(&mut guest, on(CommandId::FlushDevice), {
        Action::Malformed {
            mode: Garbage::Flip,
        }
    });
    let device = guest.device(1);
    let reason = FlushReason::DEVICE_TERMINATE;
    let id = guest.post(&Request::from(FlushDevice { device, reason }));
    let answer = guest.completion(id).unwrap();
    let bits: u32 = answer.iter().map(|byte| byte.count_ones()).sum();
    assert_eq!(bits, 1, "success with one bit wrong");
    guest.finish();
}

/// Two completions of one transaction; one that comes early; one of a transaction that nobody made.
#[test]
fn wrong_completions() {
    let mut guest = Guest::with_process(modern());
    arm(&mut guest, next(), Action::Duplicate {});
    let id = ask(&mut guest);
    let (first, second) = (guest.completion(id), guest.completion(id));
    assert!(first.is_some() && first == second);
    arm(&mut guest, next(), Action::Before { bytes: 8 });
    let id = ask(&mut guest);
    assert_eq!(guest.completion(id), Some(vec![0; 8]));
    assert!(guest.completion(id).is_some_and(|answer| answer != [0; 8]));
    arm(&mut guest, next(), Action::WrongId {});
    let id = ask(&mut guest);
    assert!(guest.completion(id).is_none());
    let (_, other, _) = guest.world.completions.pop_front().unwrap();
    assert!(other > u64::from(u32::MAX), "{other:#x}");
    assert_eq!(devices(&guest), 3);
    guest.finish();
}

/// The same rules, seed and messages give the same bytes, and another seed gives others.
#[test]
fn reproducible() {
    let run = |host_seed, seed| {
        let mut guest = Guest::with_process(modern());
        guest.host.set_fault_seed(host_seed);
        let every = On { count: 0, ..next() };
        let actions = [
            Action::Mutate { rate: 0.3 },
            Action::Long { bytes: 32 },
            Action::Malformed {
                mode: Garbage::Flip,
            },
        ];
        for action in actions {
            let on = every.clone();
            guest.host.arm(Rule { on, action, seed }).unwrap();
        }
        (0..20).map(|_| answer(&mut guest)).collect::<Vec<_>>()
    };
    assert_eq!(run(1, None), run(1, None));
    assert_ne!(run(1, None), run(2, None));
    assert_eq!(run(1, Some(5)), run(2, Some(5)));
    let answers = run(1, None);
    assert_ne!(
        answers[0][16..],
        answers[1][16..],
        "not the same bytes each time"
    );
}

/// Mutation changes about as many bytes as it is told to, and all of them at rate 1.
#[test]
fn mutation_rate() {
    let mut guest = Guest::with_process(modern());
    let zeros = 1 << 12;
    let mut run = |rate| {
        let every = next();
        arm(
            &mut guest,
            every.clone(),
            Action::Malformed {
                mode: Garbage::Zero,
            },
        );
        arm(&mut guest, every.clone(), Action::Long { bytes: zeros });
        arm(
            &mut guest,
            every.clone(),
            Action::Malformed {
                mode: Garbage::Zero,
            },
        );
        arm(&mut guest, every, Action::Mutate { rate });
        let answer = answer(&mut guest);
        answer.iter().filter(|byte| **byte != 0).count()
    };
    let quarter = run(0.25);
    assert!((900..1200).contains(&quarter), "{quarter}");
    // The fake world pads to 8 bytes.
    assert!(run(1.0) >= zeros);
}

/// Rules count from when they are armed, fire on the n-th match, as often as they say, and only on
/// their channel and GPU.
#[test]
fn counting() {
    let mut guest = Guest::with_process(modern());
    let third = On {
        nth: 3,
        count: 2,
        ..next()
    };
    let wrong_channel = On {
        channel: ChannelMatch::Global,
        ..next()
    };
    let any = On {
        command: Some(CommandMatch::Any),
        vgpu: Some(0),
        count: 0,
        ..next()
    };
    let number = On {
        command: Some(CommandMatch::Number(0)),
        channel: ChannelMatch::Vgpu,
        ..next()
    };
    arm(&mut guest, third, Action::DropAnswer {});
    arm(&mut guest, wrong_channel, Action::DropAnswer {});
    arm(&mut guest, any, Action::Delay { milliseconds: 0 });
    arm(&mut guest, number, Action::Delay { milliseconds: 0 });
    let answered: Vec<bool> = (0..6)
        .map(|_| {
            let id = ask(&mut guest);
            guest.completion(id).is_some()
        })
        .collect();
    assert_eq!(answered, [true, true, false, false, true, true]);
    assert_eq!(counts(&guest), [(6, 2), (0, 0), (6, 6), (6, 1)]);
    // A command of the VM is for no GPU.
    guest.create_process();
    assert_eq!(counts(&guest)[2], (6, 6));
    guest.host.clear_rules();
    assert_eq!(counts(&guest), []);
    guest.device(1);
}

/// What is no command matches "any" and numbers that do not exist.
#[test]
fn unknown_messages() {
    let mut guest = Guest::with_process(modern());
    let any = On {
        command: Some(CommandMatch::Any),
        ..next()
    };
    arm(&mut guest, any, Action::DropAnswer {});
    let id = guest.raw(Channel::Global, &[0; 3], true);
    assert!(guest.completion(id).is_none());
    assert_eq!(counts(&guest), [(1, 1)]);
    guest.finish();
}

/// Several rules: they do their part in the order they were armed, and not carrying out wins.
#[test]
fn together() {
    let mut guest = Guest::with_process(modern());
    arm(&mut guest, next(), Action::Duplicate {});
    arm(&mut guest, next(), Action::Short { bytes: 1000 });
    arm(&mut guest, next(), Action::Delay { milliseconds: 1 });
    let id = ask(&mut guest);
    assert!(guest.completion(id).is_none());
    guest.pass_ms(1);
    assert_eq!(guest.completion(id), Some(vec![]));
    assert_eq!(guest.completion(id), Some(vec![]));
    arm(&mut guest, next(), Action::Duplicate {});
    arm(&mut guest, next(), Action::DropMessage {});
    ask(&mut guest);
    assert!(guest.world.completions.is_empty());
    assert_eq!(devices(&guest), 1);
    guest.finish();
}

/// Messages without an answer can be lost and late, and do not count for rules about answers.
#[test]
fn asynchronous() {
    let config = HostConfig {
        async_messages: true,
        ..modern()
    };
    let mut guest = Guest::with_process(config);
    let setup = guest.setup();
    let signal = || On {
        count: 1,
        ..on(CommandId::SignalSyncObject)
    };
    let send = |guest: &mut Guest, value| {
        let (objects, contexts, values) = ([setup.fence.sync_object], [setup.context], [value]);
        let tail = SignalTail {
            objects: (&objects).into(),
            contexts: (&contexts).into(),
            fence_values: (&values).into(),
        };
        guest.post_async(SignalSyncObject::default(), tail);
        guest.fence_value(setup.fence.fence_storage_address)
    };
    let status = Status(NtStatus::NO_MEMORY);
    let after = false;
    arm(
        &mut guest,
        signal(),
        Action::Status {
            status,
            after,
            bare: false,
        },
    );
    arm(&mut guest, signal(), Action::DropMessage {});
    assert_eq!(send(&mut guest, 1), 0, "lost");
    arm(&mut guest, signal(), Action::Delay { milliseconds: 2 });
    assert_eq!(send(&mut guest, 2), 0, "late");
    guest.pass_ms(2);
    assert_eq!(guest.fence_value(setup.fence.fence_storage_address), 2);
    assert_eq!(counts(&guest)[0], (0, 0));
    assert_eq!(send(&mut guest, 3), 3);
    guest.finish();
}

/// Events are lost, doubled and late.
#[test]
fn events() {
    let mut guest = Guest::with_process(modern());
    let setup = guest.setup();
    arm(&mut guest, event(), Action::DropMessage {});
    guest.event_gpu(setup.context, 1).unwrap();
    assert!(guest.guest_events().is_empty());
    arm(&mut guest, event(), Action::Duplicate {});
    guest.event_gpu(setup.context, 2).unwrap();
    assert_eq!(guest.guest_events(), [2, 2]);
    arm(&mut guest, event(), Action::Delay { milliseconds: 3 });
    guest.event_gpu(setup.context, 3).unwrap();
    assert!(guest.guest_events().is_empty());
    guest.pass_ms(3);
    assert_eq!(guest.guest_events(), [3]);
    let state = On {
        event: Some(EventMatch::SetGuestData),
        ..event()
    };
    arm(&mut guest, state, Action::DropMessage {});
    guest.event_gpu(setup.context, 4).unwrap();
    assert_eq!(guest.guest_events(), [4], "another kind");
    let hung = ExecutionState::HUNG;
    guest.host.fail_devices(GPU, hung, &mut guest.world);
    assert!(guest.world.events.is_empty());
    guest.finish();
}

/// An operation comes before the message it waits for, or after it, or later; messages behind it
/// wait too, and are not counted twice.
#[test]
fn operations() {
    let mut guest = Guest::with_process(modern());
    let act = |id, after, milliseconds| Action::Operation {
        id: OperationId(id),
        after,
        milliseconds,
    };
    arm(&mut guest, next(), act(7, false, 0));
    let (first, second) = (ask(&mut guest), ask(&mut guest));
    assert!(guest.world.completions.is_empty(), "both wait");
    guest.host.resume(&mut guest.world);
    assert!(guest.world.completions.is_empty(), "not carried out yet");
    assert_eq!(guest.host.take_operation(), Some(OperationId(7)));
    assert_eq!(guest.host.take_operation(), None);
    guest.host.resume(&mut guest.world);
    assert!(guest.completion(first).is_some() && guest.completion(second).is_some());
    assert_eq!(counts(&guest), [(2, 1)]);
    guest.host.clear_rules();
    arm(&mut guest, next(), act(8, true, 0));
    guest.device(1);
    assert_eq!(guest.host.take_operation(), Some(OperationId(8)));
    arm(&mut guest, next(), act(9, false, 4));
    guest.device(2);
    assert_eq!(guest.host.take_operation(), None);
    guest.pass_ms(4);
    assert_eq!(guest.host.take_operation(), Some(OperationId(9)));
    guest.finish();
}

/// A message that waits for an operation that mutes the host is handled when it speaks again, and
/// before those that came meanwhile.
#[test]
fn muting_operation() {
    let mut guest = Guest::with_process(modern());
    let id = OperationId(1);
    let action = Action::Operation {
        id,
        after: false,
        milliseconds: 0,
    };
    arm(&mut guest, next(), action);
    let first = ask(&mut guest);
    assert_eq!(guest.host.take_operation(), Some(id));
    guest.host.mute(10, &guest.world);
    guest.host.resume(&mut guest.world);
    let second = ask(&mut guest);
    assert!(guest.world.completions.is_empty());
    guest.pass_ms(10);
    let order: Vec<u64> = guest.world.completions.iter().map(|c| c.1).collect();
    assert_eq!(order, [first, second]);
    guest.finish();
}

/// What waits for a channel goes with it: a message that a rule holds back while its channel is taken
/// away is not carried out, and late answers do not come.
#[test]
fn closed_channel() {
    let mut guest = Guest::with_process(modern());
    arm(&mut guest, next(), Action::Delay { milliseconds: 5 });
    ask(&mut guest);
    let id = OperationId(1);
    let action = Action::Operation {
        id,
        after: false,
        milliseconds: 0,
    };
    arm(&mut guest, next(), action);
    ask(&mut guest);
    assert_eq!(guest.host.take_operation(), Some(id));
    let channel = Channel::Vgpu(GPU);
    guest.host.channel_closed(channel, &mut guest.world);
    guest.host.resume(&mut guest.world);
    guest.pass_ms(5);
    assert!(guest.world.completions.is_empty());
    assert_eq!((devices(&guest), guest.host.deadline()), (0, None));
    guest.finish();
}

/// A job that hangs ends when its device is failed, by the limit of time or otherwise, and only that
/// one job hangs.
#[test]
fn hanging_job() {
    let config = HostConfig {
        tdr_ms: 50,
        ..modern()
    };
    let mut guest = Guest::with_process(config);
    let setup = guest.setup();
    let (_, va) = guest.buffer(&setup, &[1]);
    assert!(guest.host.arm_hang(GPU));
    guest.submit(setup.context, (4096, va), |_| ()).unwrap();
    assert!(!guest.world.jobs[0].1.is_trivial());
    guest.pass_ms(50);
    let state = guest.execution_state(setup.device);
    assert_eq!(state, ExecutionState::HUNG);
    assert_eq!(guest.run_all(), [engine::Outcome::Cancelled]);
    let next = guest.setup();
    let (_, va) = guest.buffer(&next, &[2]);
    guest.submit(next.context, (8192, va), |_| ()).unwrap();
    assert_eq!(guest.run_all(), [engine::Outcome::Done]);
    guest.finish();
}

/// A GPU that stops tells its devices, has nothing left, and refuses commands until it is opened again.
#[test]
fn stopped_adapter() {
    let mut guest = Guest::with_process(modern());
    guest.setup();
    assert!(guest.host.stop_adapter(GPU, &mut guest.world));
    let told = guest.world.events.iter();
    let stopped = |event: &&Event| matches!(event, Event::SetGuestData(_));
    assert_eq!(told.filter(stopped).count(), 1);
    assert_eq!(devices(&guest), 0);
    assert!(guest
        .call(CreateDevice::default())
        .unwrap()
        .device
        .is_none());
    guest.call(OpenAdapter::new(guest.version)).unwrap();
    guest.device(1);
    guest.finish();
}

/// There are only so many rules, and a cleared one gives its place back.
#[test]
fn many_rules() {
    let mut guest = Guest::with_process(modern());
    for _ in 0..MAX_RULES {
        arm(&mut guest, next(), Action::Duplicate {});
    }
    let rule = Rule {
        on: next(),
        action: Action::Duplicate {},
        seed: None,
    };
    assert_eq!(guest.host.arm(rule.clone()), Err(RuleError::TooMany));
    guest.host.clear_rules();
    let id = guest.host.arm(rule).unwrap();
    assert_eq!(id, MAX_RULES as u64 + 1, "numbers are not used twice");
    let fresh = RuleCounts {
        id,
        matched: 0,
        fired: 0,
    };
    assert_eq!(guest.host.rule_counts(), [fresh]);
}
