// SPDX-License-Identifier: MIT OR Apache-2.0
//! The commands that the driver sends, and which operation has it send each.

use super::operations::Operation;

/// What a command is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// An operation needs its answer, and tells the caller what the host said.
    Asks(Operation),
    /// As before, but its answer is a handle or none, and has no place for a reason.
    AsksHandle(Operation),
    /// As [`Role::Asks`], but where the host has no memory the driver may make room and ask again.
    AsksForRoom(Operation),
    /// As [`Role::Asks`], but a failure of it is told otherwise, or not at all.
    Quiet(Operation),
    /// It gives something back: nobody is told what the host said. What the host does not take goes with
    /// the process.
    GivesBack(Operation),
    /// As before, but what the host does not take it has until the channels go.
    GivesBackLast(Operation),
    /// It is sent when virtual GPUs start, or stop.
    StartsOrStops,
}

impl Role {
    /// The operation, unless the command is sent without one.
    pub const fn operation(self) -> Option<Operation> {
        match self {
            Self::Asks(operation)
            | Self::AsksHandle(operation)
            | Self::AsksForRoom(operation)
            | Self::Quiet(operation)
            | Self::GivesBack(operation)
            | Self::GivesBackLast(operation) => Some(operation),
            Self::StartsOrStops => None,
        }
    }

    /// Whether the host may hold something after it refused, until everything is offered anew.
    pub const fn outlasts(self) -> bool {
        matches!(self, Self::GivesBackLast(_) | Self::StartsOrStops)
    }
}

/// A command.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    /// Its name in a rule.
    pub name: &'static str,
    /// What it is for.
    pub role: Role,
}

const fn sent(name: &'static str, role: Role) -> Command {
    Command { name, role }
}

const fn asks(name: &'static str, operation: Operation) -> Command {
    sent(name, Role::Asks(operation))
}

const fn asks_handle(name: &'static str, operation: Operation) -> Command {
    sent(name, Role::AsksHandle(operation))
}

const fn asks_for_room(name: &'static str, operation: Operation) -> Command {
    sent(name, Role::AsksForRoom(operation))
}

const fn quiet(name: &'static str, operation: Operation) -> Command {
    sent(name, Role::Quiet(operation))
}

const fn gives_back(name: &'static str, operation: Operation) -> Command {
    sent(name, Role::GivesBack(operation))
}

const fn gives_back_last(name: &'static str, operation: Operation) -> Command {
    sent(name, Role::GivesBackLast(operation))
}

const fn starts(name: &'static str) -> Command {
    sent(name, Role::StartsOrStops)
}

/// All that the driver sends to a host of interface version 40.
pub const ALL: &[Command] = &[
    asks_handle("CreateProcess", Operation::Job),
    asks_handle("CreateDevice", Operation::Job),
    asks_for_room("CreatePagingQueue", Operation::Job),
    asks_handle("CreateContextVirtual", Operation::Job),
    asks_for_room("CreateSyncObject", Operation::Job),
    asks("CreateAllocation", Operation::Job),
    asks("SetExistingSysmemPages", Operation::Job),
    asks("MapGpuVirtualAddress", Operation::Job),
    asks("MakeResident", Operation::Job),
    asks("SubmitCommand", Operation::Job),
    asks("SignalSyncObject", Operation::Fences),
    asks("WaitForSyncObjectFromGpu", Operation::Fences),
    asks("WaitForSyncObjectFromCpu", Operation::Fences),
    asks("SetContextSchedulingPriority", Operation::Fences),
    asks_handle("CreateNtSharedObject", Operation::SharedFence),
    asks_for_room("OpenSyncObject", Operation::SharedFence),
    asks("InvalidateCache", Operation::HostMemory),
    asks("OpenResource", Operation::HostMemory),
    asks("OfferAllocations", Operation::Residency),
    asks("ReclaimAllocations", Operation::Residency),
    asks("SetAllocationPriority", Operation::Residency),
    asks("ReserveGpuVirtualAddress", Operation::Addresses),
    asks("UpdateGpuVirtualAddress", Operation::Addresses),
    asks("QueryAdapterInfo", Operation::Queries),
    asks("QueryVideoMemoryInfo", Operation::Queries),
    asks("Escape", Operation::Queries),
    asks("ChangeVideoMemoryReservation", Operation::Queries),
    // A page fault asks again, or is a SIGBUS.
    quiet("Lock2", Operation::HostMemory),
    quiet("GetDeviceState", Operation::Hang),
    quiet("MarkDeviceAsError", Operation::Hang),
    gives_back("Evict", Operation::Residency),
    gives_back("Unlock2", Operation::HostMemory),
    gives_back_last("DestroyNtSharedObject", Operation::SharedFence),
    gives_back("FreeGpuVirtualAddress", Operation::Job),
    gives_back("DestroyAllocation", Operation::Job),
    gives_back("DestroySyncObject", Operation::Job),
    gives_back("DestroyContext", Operation::Job),
    gives_back("DestroyPagingQueue", Operation::Job),
    gives_back("FlushDevice", Operation::Job),
    gives_back("DestroyDevice", Operation::Job),
    gives_back_last("DestroyProcess", Operation::Job),
    starts("SetIoSpaceRegion"),
    starts("OpenAdapter"),
    starts("GetInternalAdapterInfo"),
    starts("CloseAdapter"),
];
