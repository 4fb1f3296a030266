// SPDX-License-Identifier: MIT OR Apache-2.0
//! The commands that the driver sends, and which operation has it send each.

use super::operations::Operation;

/// What a command is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// An operation needs its answer, and tells the caller what the host said.
    Asks(Operation),
    /// As before, but a failure of it is told otherwise, or not at all.
    Quiet(Operation),
    /// It gives something back: nobody is told what the host said.
    GivesBack(Operation),
    /// It is sent when virtual GPUs start, or stop.
    StartsOrStops,
}

/// A command.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    /// Its name in a rule.
    pub name: &'static str,
    /// What it is for.
    pub role: Role,
}

const fn asks(name: &'static str, operation: Operation) -> Command {
    Command {
        name,
        role: Role::Asks(operation),
    }
}

const fn quiet(name: &'static str, operation: Operation) -> Command {
    Command {
        name,
        role: Role::Quiet(operation),
    }
}

const fn gives_back(name: &'static str, operation: Operation) -> Command {
    Command {
        name,
        role: Role::GivesBack(operation),
    }
}

const fn starts(name: &'static str) -> Command {
    Command {
        name,
        role: Role::StartsOrStops,
    }
}

/// All that the driver sends to a host of interface version 40.
pub const ALL: &[Command] = &[
    asks("CreateProcess", Operation::Job),
    asks("CreateDevice", Operation::Job),
    asks("CreatePagingQueue", Operation::Job),
    asks("CreateContextVirtual", Operation::Job),
    asks("CreateSyncObject", Operation::Job),
    asks("CreateAllocation", Operation::Job),
    asks("SetExistingSysmemPages", Operation::Job),
    asks("MapGpuVirtualAddress", Operation::Job),
    asks("MakeResident", Operation::Job),
    asks("SubmitCommand", Operation::Job),
    asks("SignalSyncObject", Operation::Fences),
    asks("WaitForSyncObjectFromGpu", Operation::Fences),
    asks("WaitForSyncObjectFromCpu", Operation::Fences),
    asks("SetContextSchedulingPriority", Operation::Fences),
    asks("CreateNtSharedObject", Operation::SharedFence),
    asks("OpenSyncObject", Operation::SharedFence),
    asks("Lock2", Operation::HostMemory),
    asks("InvalidateCache", Operation::HostMemory),
    asks("OpenResource", Operation::HostMemory),
    asks("OfferAllocations", Operation::Residency),
    asks("ReclaimAllocations", Operation::Residency),
    asks("SetAllocationPriority", Operation::Residency),
    asks("ReserveGpuVirtualAddress", Operation::Addresses),
    asks("UpdateGpuVirtualAddress", Operation::Addresses),
    asks("QueryAdapterInfo", Operation::Queries),
    asks("QueryVideoMemoryInfo", Operation::Queries),
    asks("ChangeVideoMemoryReservation", Operation::Queries),
    quiet("GetDeviceState", Operation::Hang),
    quiet("MarkDeviceAsError", Operation::Hang),
    gives_back("Evict", Operation::Residency),
    gives_back("Unlock2", Operation::HostMemory),
    gives_back("DestroyNtSharedObject", Operation::SharedFence),
    gives_back("FreeGpuVirtualAddress", Operation::Job),
    gives_back("DestroyAllocation", Operation::Job),
    gives_back("DestroySyncObject", Operation::Job),
    gives_back("DestroyContext", Operation::Job),
    gives_back("DestroyPagingQueue", Operation::Job),
    gives_back("FlushDevice", Operation::Job),
    gives_back("DestroyDevice", Operation::Job),
    gives_back("DestroyProcess", Operation::Job),
    starts("SetIoSpaceRegion"),
    starts("OpenAdapter"),
    starts("GetInternalAdapterInfo"),
    starts("CloseAdapter"),
];
