// SPDX-License-Identifier: MIT OR Apache-2.0

//! Numbers, channels and lengths of all commands are those of the layout data.

mod common;
#[path = "common/expression.rs"]
mod expression;

use std::collections::BTreeSet;

use gpupv::*;
use serde_json::Value;

use common::{every_command, layout, list, text};
use expression::{evaluate, Variables};

fn commands(layout: &Value) -> impl Iterator<Item = &Value> {
    list(layout, "commands")
        .iter()
        .filter(|command| text(command, "channel") != "host_to_guest")
}

/// The list of commands is complete, and each entry says what the layout data says.
#[test]
fn the_list_of_commands_is_that_of_the_layout_data() {
    let layout = layout();
    assert_eq!(commands(&layout).count(), CommandId::ALL.len());
    for command in commands(&layout) {
        let name = text(command, "name");
        let id = *CommandId::ALL
            .iter()
            .find(|id| id.name() == name)
            .unwrap_or_else(|| panic!("no command {name}"));
        let channel = match text(command, "channel") {
            "global" => ChannelType::Global,
            _ => ChannelType::Adapter,
        };
        assert_eq!(Some(u64::from(id.number())), command["number"].as_u64());
        assert_eq!(id.channel(), channel, "{name}");
        let channel_type = command["channel_type"].as_u64();
        assert_eq!(Some(u64::from(channel.raw())), channel_type, "{name}");
        assert_eq!(id.has_process(), text(command, "process") != "zero");
        let asynchronous = command["asynchronous_when_enabled"].as_bool();
        assert_eq!(Some(id.may_be_async()), asynchronous, "{name}");
        assert_eq!(CommandId::find(channel, id.number()), Some(id));
    }
    assert_eq!(CommandId::find(ChannelType::Adapter, 3), None);
    assert_eq!(CommandId::find(ChannelType::HostToGuest, 0), None);
}

/// Every command has a type, once.
#[test]
fn every_command_has_a_type() {
    macro_rules! ids {
        ($($command:ident),* $(,)?) => { [$(<$command as Command>::ID),*] };
    }
    let ids = every_command!(ids);
    let names: BTreeSet<_> = ids.iter().map(|id| id.name()).collect();
    assert_eq!(names.len(), CommandId::ALL.len());
    assert_eq!(ids.len(), CommandId::ALL.len());
}

/// Replies have a status inside where the layout data says so.
#[test]
fn replies_have_a_status_where_they_should() {
    let layout = layout();
    macro_rules! statuses {
        ($($command:ident),* $(,)?) => {
            [$((<$command as Command>::ID, status::<<$command as Command>::Reply>())),*]
        };
    }
    fn status<R: Reply + Default>() -> bool {
        R::default().status().is_some()
    }
    for (id, has_status) in every_command!(statuses) {
        let command = commands(&layout).find(|command| text(command, "name") == id.name());
        let expected = command.unwrap()["reply_has_status"].as_bool();
        assert_eq!(Some(has_status), expected, "{}", id.name());
    }
}

/// Compares the lengths of one request with the layout data.
struct Lengths {
    layout: Value,
    seen: BTreeSet<&'static str>,
}

impl Lengths {
    fn check<C: Command>(&mut self, body: C, tail: C::Tail<'_>, variables: &[(&'static str, usize)])
    where
        C::Reply: Default,
    {
        let name = C::ID.name();
        self.seen.insert(name);
        let command = commands(&self.layout)
            .find(|command| text(command, "name") == name)
            .unwrap();
        let variables: Variables = variables.iter().copied().collect();
        let request = Request::new(body, tail).unwrap();

        let sent = evaluate(text(command, "sent_length"), &variables);
        assert_eq!(request.message_len(Version::LEGACY), Ok(sent), "{name}");
        assert_eq!(request.message_len(Version::CURRENT), Ok(sent + 16));
        for (version, ext) in [(Version::LEGACY, 0), (Version::CURRENT, 16)] {
            let route = Route::adapter(version, Luid::ZERO);
            let mut message = vec![0xff; sent + ext + 1];
            assert_eq!(request.encode(&route, &mut message), Ok(sent + ext));
            assert_eq!(message.pop(), Some(0xff), "{name} wrote too much");
            let room = sent + ext - 1;
            let needed = sent + ext;
            let error = EncodeError::NoRoom { needed, room };
            assert_eq!(request.encode(&route, &mut message[..room]), Err(error));
        }

        let needed = evaluate(text(command, "reply_length_needed"), &variables);
        let below = command["reply_length_needed_below_v40"]
            .as_str()
            .map_or(needed, |text| evaluate(text, &variables));
        assert_eq!(request.reply_len(Version::CURRENT), needed, "{name}");
        assert_eq!(request.reply_len(Version::LEGACY), below, "{name}");
    }
}

/// Requests and replies have the lengths of the layout data, for several counts each.
#[test]
fn lengths_are_those_of_the_layout_data() {
    let mut lengths = Lengths {
        layout: layout(),
        seen: BTreeSet::new(),
    };
    macro_rules! fixed {
        ($($command:ident),* $(,)?) => {
            $(lengths.check($command::default(), (), &[]);)*
        };
    }
    fixed!(
        CreateProcess,
        DestroyProcess,
        OpenSyncObject,
        DestroySyncObject,
        CreateNtSharedObject,
        DestroyNtSharedObject,
        SetIoSpaceRegion,
        ShareObjectWithHost,
        IsFeatureEnabledGlobal,
        CreateDevice,
        DestroyDevice,
        DestroyContext,
        CreateSyncObject,
        CreatePagingQueue,
        DestroyPagingQueue,
        OpenAdapter,
        CloseAdapter,
        FreeGpuVirtualAddress,
        MapGpuVirtualAddress,
        ReserveGpuVirtualAddress,
        QueryVideoMemoryInfo,
        Lock2,
        Unlock2,
        GetDeviceState,
        MarkDeviceAsError,
        SetContextSchedulingPriority,
        GetInternalAdapterInfo,
        FlushHeapTransitions,
        FlushDevice,
        SetExistingSysmemStore,
        QueryStatistics,
        ChangeVideoMemoryReservation,
        DestroyHwQueue,
        UpdateAllocationProperty,
        GetContextSchedulingPriority,
        QueryClockCalibration,
        InvalidateCache,
        IsFeatureEnabled,
    );
    let bytes = [7u8; 64];
    let handles = [Handle::from_raw(0x40); 8];
    let values = [9u64; 8];
    for n in [0, 1, 4, 5, 64] {
        let data = &bytes[..n];
        lengths.check(QueryAdapterInfo::default(), data, &[("n", n)]);
        lengths.check(CreateContextVirtual::default(), data, &[("n", n)]);
        lengths.check(CreateHwQueue::default(), data, &[("n", n)]);
        lengths.check(Escape::default(), data, &[("n", n)]);
        let y = 64 - n;
        let asked = GetStandardAllocationDriverData::heap(0, u32::try_from(n).unwrap(), 64);
        lengths.check(asked, (), &[("x", n), ("y", 64)]);
        for count in 0..3 {
            let primaries = List::new(&handles[..count]);
            let tail = SubmitTail {
                history_buffers: primaries,
                private_data: data,
            };
            lengths.check(SubmitCommand::default(), tail, &[("h", count), ("n", n)]);
            let tail = SubmitToHwQueueTail {
                written_primaries: primaries,
                private_data: data,
            };
            let variables = [("p", count), ("n", n)];
            lengths.check(SubmitCommandToHwQueue::default(), tail, &variables);
            let info = AllocationInfo {
                priv_drv_data_size: 3,
                ..Default::default()
            };
            let infos = [info; 2];
            let tail = CreateAllocationTail {
                infos: List::new(&infos[..count]),
                runtime_data: data,
                resource_data: &bytes[..y],
                allocation_data: &bytes[..3 * count],
            };
            let variables = [("a", count), ("r", n), ("p", y), ("q", 3 * count)];
            lengths.check(CreateAllocation::default(), tail, &variables);
        }
    }
    for a in 0..8 {
        let list = List::new(&handles[..a]);
        let fences = List::new(&values[..a]);
        let count = u32::try_from(a).unwrap();
        lengths.check(DestroyAllocation::default(), list, &[("a", a)]);
        lengths.check(MakeResident::default(), list, &[("a", a)]);
        lengths.check(Evict::default(), list, &[("a", a)]);
        lengths.check(OfferAllocations::default(), list, &[("a", a)]);
        lengths.check(GetAllocationPriority::default(), list, &[("a", a)]);
        lengths.check(QueryAllocationResidency::default(), list, &[("a", a)]);
        let tail = PriorityTail {
            allocations: list,
            priorities: List::new(&[5; 8][..a.max(1)]),
        };
        lengths.check(SetAllocationPriority::default(), tail, &[("a", a)]);
        for write_results in [false, true] {
            let body = ReclaimAllocations {
                write_results: write_results.into(),
                ..Default::default()
            };
            // Results are only asked for of one object or more.
            let a = a.max(1);
            let list = List::new(&handles[..a]);
            lengths.check(body, list, &[("a", a), ("w", usize::from(write_results))]);
        }
        let body = OpenResource {
            allocation_count: count,
            ..Default::default()
        };
        lengths.check(body, (), &[("a", a)]);
        let tail = CpuWaitTail {
            objects: list,
            fence_values: fences,
        };
        lengths.check(WaitForSyncObjectFromCpu::default(), tail, &[("o", a)]);
        let tail = GpuWaitTail {
            objects: list,
            fence_values: fences,
        };
        lengths.check(WaitForSyncObjectFromGpu::default(), tail, &[("o", a)]);
        for fence_values in [fences, List::EMPTY] {
            let tail = SignalTail {
                objects: list,
                contexts: List::new(&handles[..2]),
                fence_values,
            };
            let variables = [("o", a), ("c", 2), ("f", fence_values.len())];
            lengths.check(SignalSyncObject::default(), tail, &variables);
        }
        let operations = [GpuVaOperation::default(); 8];
        let tail = List::new(&operations[..a]);
        lengths.check(UpdateGpuVirtualAddress::default(), tail, &[("m", a)]);
        lengths.check(SetExistingSysmemPages::default(), fences, &[]);
    }
    assert_eq!(lengths.seen.len(), CommandId::ALL.len());
}

/// A message that does not fit in the largest packet is refused, one that just fits is not.
#[test]
fn messages_are_limited() {
    let data = vec![0; MAX_MESSAGE];
    let largest = MAX_MESSAGE - 16 - 55;
    let escape = |len| {
        let request = Request::new(Escape::default(), &data[..len]).unwrap();
        request.message_len(Version::CURRENT)
    };
    assert_eq!(escape(largest), Ok(MAX_MESSAGE));
    let (len, limit) = (MAX_MESSAGE + 1, MAX_MESSAGE);
    assert_eq!(
        escape(largest + 1),
        Err(EncodeError::TooLong { len, limit })
    );
    let operations = vec![GpuVaOperation::default(); 2047];
    let update = |len: u32| {
        let list = List::new(&operations[..usize::try_from(len).unwrap()]);
        let request = Request::new(UpdateGpuVirtualAddress::default(), list).unwrap();
        request.message_len(Version::CURRENT)
    };
    assert!(update(MAX_UPDATE_OPERATIONS).is_ok());
    assert!(update(MAX_UPDATE_OPERATIONS + 1).is_err());
    let pages = vec![0; MAX_PAGES_PER_MESSAGE + 1];
    let request = Request::new(SetExistingSysmemPages::default(), List::new(&pages));
    assert!(request.is_err());
}

/// Lists that belong together have to be of one length.
#[test]
fn lists_that_do_not_match_are_refused() {
    let (handles, values) = ([Handle::from_raw(0x40); 2], [1u64]);
    let (objects, fence_values) = (List::new(&handles), List::new(&values));
    let mismatch = EncodeError::Mismatch {
        first: 2,
        second: 1,
    };
    let tail = CpuWaitTail {
        objects,
        fence_values,
    };
    let error = Request::new(WaitForSyncObjectFromCpu::default(), tail).unwrap_err();
    assert_eq!(error, mismatch);
    let tail = GpuWaitTail {
        objects,
        fence_values,
    };
    let error = Request::new(WaitForSyncObjectFromGpu::default(), tail).unwrap_err();
    assert_eq!(error, mismatch);
    let tail = SignalTail {
        objects,
        contexts: List::EMPTY,
        fence_values,
    };
    let error = Request::new(SignalSyncObject::default(), tail).unwrap_err();
    assert_eq!(error, mismatch);
    let tail = PriorityTail {
        allocations: objects,
        priorities: List::new(&[1]),
    };
    let error = Request::new(SetAllocationPriority::default(), tail).unwrap_err();
    assert_eq!(error, mismatch);
    let tail = CreateAllocationTail {
        allocation_data: &[1],
        ..Default::default()
    };
    assert!(Request::new(CreateAllocation::default(), tail).is_err());
}

/// Only commands that the protocol lets travel without a reply do.
#[test]
fn asynchronous_messages_are_the_four_the_protocol_names() {
    let route = Route::global(Version::CURRENT).without_reply();
    let mut buffer = [0; 1024];
    let request = Request::from(CreateDevice::default());
    let refused = request.encode(&route, &mut buffer);
    assert_eq!(refused, Err(EncodeError::NotAsynchronous));
    let tail = SubmitTail::default();
    let request = Request::new(SubmitCommand::default(), tail).unwrap();
    let len = request.encode(&route, &mut buffer).unwrap();
    let message = Message::decode(Version::CURRENT, &buffer[..len]).unwrap();
    assert!(message.is_async());
    assert_eq!(message.id(), Ok(CommandId::SubmitCommand));
}
