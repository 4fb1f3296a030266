// SPDX-License-Identifier: GPL-2.0-only

//! The list of guest-to-host commands (protocol 3.1).

use super::header::ChannelType;

/// Makes [`CommandId`] from one line per command: name in the protocol, channel and number,
/// whether the header names a process, and whether it can travel asynchronously.
macro_rules! commands {
    ($($id:ident: $name:literal, $channel:ident $number:literal, $process:ident, $mode:ident;)*) => {
        /// A guest-to-host command.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum CommandId {
            $(#[doc = concat!("Command ", stringify!($number), ", ", $name, ".")] $id,)*
        }

        impl CommandId {
            /// Every command.
            pub const ALL: &'static [Self] = &[$(Self::$id,)*];

            /// The command with this number on this channel.
            pub const fn find(channel: ChannelType, number: u32) -> Option<Self> {
                match (channel, number) {
                    $((ChannelType::$channel, $number) => Some(Self::$id),)*
                    _ => None,
                }
            }

            /// The name in the protocol's documentation.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$id => $name,)*
                }
            }

            /// The number in the header.
            pub const fn number(self) -> u32 {
                match self {
                    $(Self::$id => $number,)*
                }
            }

            /// Whom the command addresses. Adapter commands may still travel on the VM's channel.
            pub const fn channel(self) -> ChannelType {
                match self {
                    $(Self::$id => ChannelType::$channel,)*
                }
            }

            /// Whether the header names a host process.
            pub const fn has_process(self) -> bool {
                match self {
                    $(Self::$id => commands!(@ $process),)*
                }
            }

            /// Whether it is sent without a reply once the host enabled that (protocol 2.5).
            pub const fn may_be_async(self) -> bool {
                match self {
                    $(Self::$id => commands!(@ $mode),)*
                }
            }
        }
    };
    (@ process) => { true };
    (@ none) => { false };
    (@ either) => { true };
    (@ sync) => { false };
}

commands! {
    CreateProcess: "CREATEPROCESS", Global 1000, none, sync;
    DestroyProcess: "DESTROYPROCESS", Global 1001, process, sync;
    OpenSyncObject: "OPENSYNCOBJECT", Global 1002, process, sync;
    DestroySyncObject: "DESTROYSYNCOBJECT", Global 1003, process, sync;
    CreateNtSharedObject: "CREATENTSHAREDOBJECT", Global 1004, process, sync;
    DestroyNtSharedObject: "DESTROYNTSHAREDOBJECT", Global 1005, none, sync;
    SetIoSpaceRegion: "SETIOSPACEREGION", Global 1010, none, sync;
    ShareObjectWithHost: "SHAREOBJECTWITHHOST", Global 1021, process, sync;
    IsFeatureEnabledGlobal: "ISFEATUREENABLED_GLOBAL", Global 1022, none, sync;
    CreateDevice: "CREATEDEVICE", Adapter 0, process, sync;
    DestroyDevice: "DESTROYDEVICE", Adapter 1, process, sync;
    QueryAdapterInfo: "QUERYADAPTERINFO", Adapter 2, process, sync;
    CreateAllocation: "CREATEALLOCATION", Adapter 4, process, sync;
    DestroyAllocation: "DESTROYALLOCATION", Adapter 5, process, sync;
    CreateContextVirtual: "CREATECONTEXTVIRTUAL", Adapter 6, process, sync;
    DestroyContext: "DESTROYCONTEXT", Adapter 7, process, sync;
    CreateSyncObject: "CREATESYNCOBJECT", Adapter 8, process, sync;
    CreatePagingQueue: "CREATEPAGINGQUEUE", Adapter 9, process, sync;
    DestroyPagingQueue: "DESTROYPAGINGQUEUE", Adapter 10, process, sync;
    MakeResident: "MAKERESIDENT", Adapter 11, process, sync;
    Evict: "EVICT", Adapter 12, process, sync;
    Escape: "ESCAPE", Adapter 13, process, sync;
    OpenAdapter: "OPENADAPTER", Adapter 14, none, sync;
    CloseAdapter: "CLOSEADAPTER", Adapter 15, none, sync;
    FreeGpuVirtualAddress: "FREEGPUVIRTUALADDRESS", Adapter 16, process, sync;
    MapGpuVirtualAddress: "MAPGPUVIRTUALADDRESS", Adapter 17, process, sync;
    ReserveGpuVirtualAddress: "RESERVEGPUVIRTUALADDRESS", Adapter 18, process, sync;
    UpdateGpuVirtualAddress: "UPDATEGPUVIRTUALADDRESS", Adapter 19, process, sync;
    SubmitCommand: "SUBMITCOMMAND", Adapter 20, process, either;
    QueryVideoMemoryInfo: "QUERYVIDEOMEMORYINFO", Adapter 21, process, sync;
    WaitForSyncObjectFromCpu: "WAITFORSYNCOBJECTFROMCPU", Adapter 22, process, sync;
    Lock2: "LOCK2", Adapter 23, process, sync;
    Unlock2: "UNLOCK2", Adapter 24, process, sync;
    WaitForSyncObjectFromGpu: "WAITFORSYNCOBJECTFROMGPU", Adapter 25, process, either;
    SignalSyncObject: "SIGNALSYNCOBJECT", Adapter 26, process, either;
    GetDeviceState: "GETDEVICESTATE", Adapter 28, process, sync;
    MarkDeviceAsError: "MARKDEVICEASERROR", Adapter 29, process, sync;
    OpenResource: "OPENRESOURCE", Adapter 32, process, sync;
    SetContextSchedulingPriority: "SETCONTEXTSCHEDULINGPRIORITY", Adapter 33, process, sync;
    GetInternalAdapterInfo: "GETINTERNALADAPTERINFO", Adapter 36, none, sync;
    FlushHeapTransitions: "FLUSHHEAPTRANSITIONS", Adapter 37, process, sync;
    GetStandardAllocationDriverData: "DDIGETSTANDARDALLOCATIONDRIVERDATA", Adapter 39, process, sync;
    QueryAllocationResidency: "QUERYALLOCATIONRESIDENCY", Adapter 41, process, sync;
    FlushDevice: "FLUSHDEVICE", Adapter 42, process, sync;
    SetExistingSysmemStore: "SETEXISTINGSYSMEMSTORE", Adapter 45, process, sync;
    QueryStatistics: "QUERYSTATISTICS", Adapter 48, process, sync;
    ChangeVideoMemoryReservation: "CHANGEVIDEOMEMORYRESERVATION", Adapter 49, process, sync;
    CreateHwQueue: "CREATEHWQUEUE", Adapter 50, process, sync;
    DestroyHwQueue: "DESTROYHWQUEUE", Adapter 51, process, sync;
    SubmitCommandToHwQueue: "SUBMITCOMMANDTOHWQUEUE", Adapter 52, process, either;
    UpdateAllocationProperty: "UPDATEALLOCATIONPROPERTY", Adapter 56, process, sync;
    OfferAllocations: "OFFERALLOCATIONS", Adapter 57, process, sync;
    ReclaimAllocations: "RECLAIMALLOCATIONS", Adapter 58, process, sync;
    SetAllocationPriority: "SETALLOCATIONPRIORITY", Adapter 59, process, sync;
    GetAllocationPriority: "GETALLOCATIONPRIORITY", Adapter 60, process, sync;
    GetContextSchedulingPriority: "GETCONTEXTSCHEDULINGPRIORITY", Adapter 61, process, sync;
    QueryClockCalibration: "QUERYCLOCKCALIBRATION", Adapter 62, process, sync;
    SetExistingSysmemPages: "SETEXISTINGSYSMEMPAGES", Adapter 66, process, sync;
    InvalidateCache: "INVALIDATECACHE", Adapter 67, process, sync;
    IsFeatureEnabled: "ISFEATUREENABLED", Adapter 68, none, sync;
}
