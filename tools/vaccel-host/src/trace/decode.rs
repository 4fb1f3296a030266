// SPDX-License-Identifier: MIT OR Apache-2.0
//! Commands, replies and events as fields.

use gpupv::{Command, CommandId, Event, Message, NtStatus, Reply, ReplyError, Request, Version};
use serde_json::{json, Value};

use super::fields::fields;

/// What can be said about a command.
#[derive(Debug, Clone)]
pub struct Decoded {
    /// The command, if there is such a one.
    pub id: Option<CommandId>,
    /// The number in the header.
    pub number: u32,
    /// The process in the header.
    pub process: u32,
    /// The LUID in the extended header.
    pub luid: String,
    /// The fields; none if they cannot be read.
    pub fields: Option<Value>,
}

/// Reads a message of the guest; none if it has no header.
pub fn command(version: Version, payload: &[u8]) -> Option<Decoded> {
    let message = Message::decode(version, payload).ok()?;
    let id = message.id().ok();
    Some(Decoded {
        id,
        number: message.header().command_type,
        process: message.process().raw(),
        luid: message.vgpu().to_string(),
        fields: id.and_then(|id| request_fields(id, message.rest())),
    })
}

/// What can be said about an answer.
#[derive(Debug, Clone)]
pub struct Answered {
    /// Name of the command, or its number, or nothing.
    pub command: Value,
    /// The status in it.
    pub status: Option<NtStatus>,
    /// The fields; none if they cannot be read.
    pub fields: Option<Value>,
}

/// Reads the answer to a command, whose message was `payload`.
pub fn reply(version: Version, payload: &[u8], answer: &[u8]) -> Answered {
    let message = Message::decode(version, payload).ok();
    let found = message.and_then(|message| Some((message.id().ok()?, message.rest())));
    let (command, (status, fields)) = match found {
        Some((id, rest)) => (id.name().into(), reply_fields(id, version, rest, answer)),
        None => (
            message.map_or(Value::Null, |m| m.header().command_type.into()),
            (bare_status(answer), None),
        ),
    };
    Answered {
        command,
        status,
        fields,
    }
}

/// The name, number and fields of a message of the host.
pub fn event(payload: &[u8]) -> (Value, Option<Value>) {
    match Event::decode(payload) {
        Ok(event) => {
            let name = match event {
                Event::Signal(_) => "SIGNALGUESTEVENT",
                Event::SignalPassive(_) => "SIGNALGUESTEVENTPASSIVE",
                Event::SetGuestData(_) => "SETGUESTDATA",
                Event::Other(number) => return (number.into(), None),
            };
            (name.into(), Some(fields(&event)))
        }
        Err(_) => (Value::Null, None),
    }
}

fn bare_status(answer: &[u8]) -> Option<NtStatus> {
    let bits = answer.first_chunk::<4>()?;
    Some(NtStatus::from_bits(u32::from_le_bytes(*bits)))
}

fn request_of<C: Command>(rest: &[u8]) -> Option<Value> {
    let request = Request::<C>::parse(rest).ok()?;
    Some(json!({ "body": fields(request.body()), "tail": fields(&request.tail()) }))
}

fn reply_of<C: Command>(
    version: Version,
    rest: &[u8],
    answer: &[u8],
) -> (Option<NtStatus>, Option<Value>) {
    let Ok(request) = Request::<C>::parse(rest) else {
        return (bare_status(answer), None);
    };
    match request.parse_reply(version, answer) {
        Ok(answer) => {
            let value = json!({ "body": fields(&answer.reply), "tail": fields(&answer.tail) });
            (answer.reply.status(), Some(value))
        }
        Err(ReplyError::Failed(status)) => (Some(status), None),
        Err(_) => (None, None),
    }
}

/// Makes the two functions that know which type belongs to which command: the names are the same.
macro_rules! by_type {
    ($($name:ident)*) => {
        fn request_fields(id: CommandId, rest: &[u8]) -> Option<Value> {
            match id {
                $(CommandId::$name => request_of::<gpupv::$name>(rest),)*
            }
        }

        fn reply_fields(
            id: CommandId,
            version: Version,
            rest: &[u8],
            answer: &[u8],
        ) -> (Option<NtStatus>, Option<Value>) {
            match id {
                $(CommandId::$name => reply_of::<gpupv::$name>(version, rest, answer),)*
            }
        }
    };
}

by_type! {
    CreateProcess
    DestroyProcess
    OpenSyncObject
    DestroySyncObject
    CreateNtSharedObject
    DestroyNtSharedObject
    SetIoSpaceRegion
    ShareObjectWithHost
    IsFeatureEnabledGlobal
    CreateDevice
    DestroyDevice
    QueryAdapterInfo
    CreateAllocation
    DestroyAllocation
    CreateContextVirtual
    DestroyContext
    CreateSyncObject
    CreatePagingQueue
    DestroyPagingQueue
    MakeResident
    Evict
    Escape
    OpenAdapter
    CloseAdapter
    FreeGpuVirtualAddress
    MapGpuVirtualAddress
    ReserveGpuVirtualAddress
    UpdateGpuVirtualAddress
    SubmitCommand
    QueryVideoMemoryInfo
    WaitForSyncObjectFromCpu
    Lock2
    Unlock2
    WaitForSyncObjectFromGpu
    SignalSyncObject
    GetDeviceState
    MarkDeviceAsError
    OpenResource
    SetContextSchedulingPriority
    GetInternalAdapterInfo
    FlushHeapTransitions
    GetStandardAllocationDriverData
    QueryAllocationResidency
    FlushDevice
    SetExistingSysmemStore
    QueryStatistics
    ChangeVideoMemoryReservation
    CreateHwQueue
    DestroyHwQueue
    SubmitCommandToHwQueue
    UpdateAllocationProperty
    OfferAllocations
    ReclaimAllocations
    SetAllocationPriority
    GetAllocationPriority
    GetContextSchedulingPriority
    QueryClockCalibration
    SetExistingSysmemPages
    InvalidateCache
    IsFeatureEnabled
}
