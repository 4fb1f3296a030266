// SPDX-License-Identifier: MIT OR Apache-2.0
//! Arbitrary messages: the host never panics, and is empty when the process is gone.

use gpupv::*;
use proptest::prelude::*;

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

fn word() -> impl Strategy<Value = u32> {
    prop_oneof![
        3 => Just(0),
        2 => 0_u32..4,
        6 => (1_u32..10).prop_map(|index| Handle::pack(0, index, 1).raw()),
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
        guest.setup();
        for step in &steps {
            let bytes = message(&guest, step);
            let channel = if step.global || step.number >= 1000 {
                Channel::Global
            } else {
                Channel::Vgpu(GPU)
            };
            guest.raw(channel, &bytes, !step.run);
            if step.run {
                guest.run_all();
            }
        }
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
        damage in proptest::collection::vec((0_usize..40, 0_usize..160, any::<u8>()), 1..12),
        twice in 0_usize..40,
        dropped in 0_usize..40,
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
