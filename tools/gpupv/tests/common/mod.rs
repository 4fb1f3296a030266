// SPDX-License-Identifier: MIT OR Apache-2.0

//! The layout data the tests compare with, and a list of all commands.

#![allow(dead_code, unused_macros, unused_imports)]

use serde_json::Value;

/// The layout data.
pub fn layout() -> Value {
    serde_json::from_str(include_str!("../data/gpu-pv-layout.json")).unwrap()
}

/// A list inside a value.
pub fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key]
        .as_array()
        .unwrap_or_else(|| panic!("{key} is no list"))
}

/// A text inside a value.
pub fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key]
        .as_str()
        .unwrap_or_else(|| panic!("{key} is no text"))
}

/// A size or offset inside a value.
pub fn number(value: &Value, key: &str) -> usize {
    let number = value[key].as_u64();
    usize::try_from(number.unwrap_or_else(|| panic!("{key} is no number"))).unwrap()
}

/// Bytes written as hexadecimal digits.
pub fn hex(digits: &str) -> Vec<u8> {
    let digit = |byte: u8| u8::try_from(char::from(byte).to_digit(16).unwrap()).unwrap();
    digits
        .as_bytes()
        .chunks(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

/// Calls a macro with the types of all commands.
macro_rules! every_command {
    ($call:ident) => {
        $call! {
                CreateProcess, DestroyProcess, OpenSyncObject, DestroySyncObject,
                CreateNtSharedObject, DestroyNtSharedObject, SetIoSpaceRegion,
                ShareObjectWithHost, IsFeatureEnabledGlobal, CreateDevice, DestroyDevice,
                QueryAdapterInfo, CreateAllocation, DestroyAllocation, CreateContextVirtual,
                DestroyContext, CreateSyncObject, CreatePagingQueue, DestroyPagingQueue,
                MakeResident, Evict, Escape, OpenAdapter, CloseAdapter, FreeGpuVirtualAddress,
                MapGpuVirtualAddress, ReserveGpuVirtualAddress, UpdateGpuVirtualAddress,
                SubmitCommand, QueryVideoMemoryInfo, WaitForSyncObjectFromCpu, Lock2, Unlock2,
                WaitForSyncObjectFromGpu, SignalSyncObject, GetDeviceState, MarkDeviceAsError,
                OpenResource, SetContextSchedulingPriority, GetInternalAdapterInfo,
                FlushHeapTransitions, GetStandardAllocationDriverData, QueryAllocationResidency,
                FlushDevice, SetExistingSysmemStore, QueryStatistics,
                ChangeVideoMemoryReservation, CreateHwQueue, DestroyHwQueue,
                SubmitCommandToHwQueue, UpdateAllocationProperty, OfferAllocations,
                ReclaimAllocations, SetAllocationPriority, GetAllocationPriority,
                GetContextSchedulingPriority, QueryClockCalibration, SetExistingSysmemPages,
                InvalidateCache, IsFeatureEnabled,
        }
    };
}
pub(crate) use every_command;
