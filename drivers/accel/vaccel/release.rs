// SPDX-License-Identifier: GPL-2.0-only

//! Giving host objects back.
//!
//! Every host object the driver makes has a [`Release`]: a small node, allocated *before* the
//! object is made, that says how to give it back. So giving back never needs memory, may start in
//! any context, and exists for every object the host ever made for us:
//!
//! - the object lives in an [`Owned`](crate::reaper::Owned); dropping that queues its node;
//! - the caller that asked for the object was killed before the answer came: the pending call keeps
//!   the node, and the late answer fills it in and queues it.
//!
//! Nodes are worked off in the order they were queued, one list per host process
//! ([`Reaper`](crate::reaper::Reaper)), so an endless job of one client delays no other. A parent
//! is queued after its children because children hold a reference to their parent. Ranges,
//! residencies and locks, which have neither memory nor children, may go past the list.
//!
//! Memory that the host can reach hangs on the node and is freed with it: after the host
//! acknowledged, or when the channel is gone.

use core::sync::atomic::{
    AtomicUsize,
    Ordering, //
};

use kernel::prelude::*;
use kernel::sync::Arc;

use crate::gpupv::{
    self,
    Command,
    Handle,
    List,
    Request, //
};
use crate::guest_memory::Backing;
use crate::host_error::HostResult;
use crate::sync::Completion;
use crate::transport::{
    Transport,
    Wait, //
};

/// What to give back. The host process is the reaper's.
pub(crate) enum What {
    /// The process itself.
    Process(Handle),
    /// A device: its scheduler is drained first.
    Device(Handle),
    /// A context.
    Context(Handle),
    /// A paging queue and its fence.
    PagingQueue(Handle),
    /// A monitored fence.
    SyncObject(Handle),
    /// An allocation.
    Allocation {
        /// Device it belongs to.
        device: Handle,
        /// The allocation.
        allocation: Handle,
    },
    /// A resource with the one allocation in it.
    Resource {
        /// Device it belongs to.
        device: Handle,
        /// The resource.
        resource: Handle,
        /// The allocation.
        allocation: Handle,
    },
    /// The name by which other processes of the VM open a resource, or which keeps a sync object for
    /// them.
    SharedName(Handle),
    /// Visibility of an allocation in the I/O space.
    Lock {
        /// Device it belongs to.
        device: Handle,
        /// The allocation.
        allocation: Handle,
    },
    /// A range of GPU addresses.
    GpuVa {
        /// The host's handle of the adapter.
        adapter: Handle,
        /// First address.
        base: u64,
        /// Bytes.
        size: u64,
    },
    /// One residency reference of an allocation.
    Residency {
        /// Device it belongs to.
        device: Handle,
        /// The allocation.
        allocation: Handle,
    },
}

impl What {
    /// The host's handle of the object.
    pub(crate) fn handle(&self) -> Handle {
        match *self {
            Self::Process(handle)
            | Self::Device(handle)
            | Self::Context(handle)
            | Self::PagingQueue(handle)
            | Self::SyncObject(handle)
            | Self::SharedName(handle)
            | Self::Allocation {
                allocation: handle, ..
            }
            | Self::Resource {
                allocation: handle, ..
            }
            | Self::Lock {
                allocation: handle, ..
            }
            | Self::Residency {
                allocation: handle, ..
            } => handle,
            Self::GpuVa { .. } => Handle::NONE,
        }
    }

    /// Asks the host to take it back and waits for the answer.
    ///
    /// # Errors
    ///
    /// Fails without an answer: no memory for the message (nothing was sent), no answer in time, or
    /// the channel is gone. A host that refuses has answered: there is nothing left to give back.
    pub(crate) fn send(&self, transport: &Transport, process: Handle, wait: Wait) -> HostResult {
        let host = Host {
            transport,
            process,
            wait,
        };
        match *self {
            Self::Process(process) => Host { process, ..host }.tell(gpupv::DestroyProcess),
            Self::Device(device) => {
                // A device that cannot be drained is destroyed all the same.
                let _ = host.tell(gpupv::FlushDevice {
                    device,
                    reason: gpupv::FlushReason::DEVICE_TERMINATE,
                });
                host.tell(gpupv::DestroyDevice { device, _pad: 0 })
            }
            Self::Context(context) => host.tell(gpupv::DestroyContext { context, _pad: 0 }),
            Self::PagingQueue(paging_queue) => host.tell(gpupv::DestroyPagingQueue {
                paging_queue,
                _pad: 0,
            }),
            Self::SyncObject(sync_object) => host.tell(gpupv::DestroySyncObject {
                sync_object,
                _pad: 0,
            }),
            Self::Allocation { device, allocation } => {
                let body = gpupv::DestroyAllocation {
                    device,
                    ..Default::default()
                };
                let list = [allocation];
                host.ask(&Request::new(body, List::new(&list))?)
            }
            Self::Resource {
                device, resource, ..
            } => {
                let body = gpupv::DestroyAllocation {
                    device,
                    resource,
                    ..Default::default()
                };
                host.ask(&Request::new(body, List::EMPTY)?)
            }
            Self::SharedName(shared_handle) => host.tell(gpupv::DestroyNtSharedObject {
                shared_handle,
                _pad: 0,
            }),
            Self::Lock { device, allocation } => host.tell(gpupv::Unlock2 {
                device,
                allocation,
                ..Default::default()
            }),
            Self::GpuVa {
                adapter,
                base,
                size,
            } => host.tell(gpupv::FreeGpuVirtualAddress {
                adapter,
                reserved: 0,
                base_address: base,
                size,
            }),
            Self::Residency { device, allocation } => {
                let body = gpupv::Evict {
                    device,
                    ..Default::default()
                };
                let list = [allocation];
                host.ask(&Request::new(body, List::new(&list))?)
            }
        }
    }
}

/// The host, as somebody to give things back to.
struct Host<'a> {
    transport: &'a Transport,
    process: Handle,
    wait: Wait,
}

impl Host<'_> {
    fn tell<C>(&self, body: C) -> HostResult
    where
        C: for<'a> Command<Tail<'a> = ()>,
    {
        self.ask(&body.into())
    }

    fn ask<C: Command>(&self, request: &Request<'_, C>) -> HostResult {
        let answer = self
            .transport
            .call(self.process, request, self.wait, |_| Ok(()));
        match answer {
            Err(error) if error.status.is_error() => Ok(()),
            answer => answer,
        }
    }
}

/// How to give back one host object, and the memory that goes with it.
pub(crate) struct Release {
    /// Link of the reaper's list.
    pub(crate) next: Option<KBox<Release>>,
    pub(crate) what: What,
    /// Somebody who waits for it.
    pub(crate) done: Option<Arc<Done>>,
    /// Guest memory the host can reach until it has acknowledged.
    pub(crate) memory: Option<Backing>,
    /// Counts the object until the host has acknowledged.
    pub(crate) counted: Option<Counted>,
}

/// An object for as long as the host has it: one more in a count, and a mark of its own.
pub(crate) struct Counted {
    count: Arc<AtomicUsize>,
    gone: Arc<Done>,
}

impl Counted {
    /// Counts one more in `count`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(count: &Arc<AtomicUsize>) -> Result<Self> {
        let gone = Arc::pin_init(Done::new(), GFP_KERNEL)?;
        count.fetch_add(1, Ordering::Relaxed);
        Ok(Self {
            count: count.clone(),
            gone,
        })
    }

    /// What is completed when the host does not have the object any more.
    pub(crate) fn gone(&self) -> Arc<Done> {
        self.gone.clone()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Release);
        self.gone.complete_all();
    }
}

/// Completed when something has been given back.
pub(crate) type Done = Completion;

impl Release {
    /// A node; `what` need not know its handle yet.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(what: What) -> Result<KBox<Self>> {
        Ok(KBox::new(
            Self {
                next: None,
                what,
                done: None,
                memory: None,
                counted: None,
            },
            GFP_KERNEL,
        )?)
    }
}

/// How to give back an allocation that was made in `resource`: by itself if there is none.
fn made_in(device: Handle, resource: Handle, allocation: Handle) -> What {
    if resource.is_none() {
        What::Allocation { device, allocation }
    } else {
        What::Resource {
            device,
            resource,
            allocation,
        }
    }
}

/// A command that makes something which has to be given back.
pub(crate) trait Creates: Command {
    /// Fills in what the answer brought; false if it brought nothing.
    fn made(what: &mut What, reply: &[u8]) -> bool;
}

/// Implements [`Creates`] for commands whose reply begins with the handle in a named field.
macro_rules! creates {
    ($command:ident, $reply:ident.$($field:ident).+, $what:ident) => {
        impl Creates for gpupv::$command {
            fn made(what: &mut What, reply: &[u8]) -> bool {
                let Ok((reply, _)) = gpupv::read::<gpupv::$reply>(reply) else {
                    return false;
                };
                let handle = reply.$($field).+;
                *what = What::$what(handle);
                !handle.is_none()
            }
        }
    };
}

creates!(CreateProcess, CreateProcessReply.process, Process);
creates!(CreateDevice, CreateDeviceReply.device, Device);
creates!(
    CreateContextVirtual,
    CreateContextVirtualReply.body.context,
    Context
);
creates!(
    CreatePagingQueue,
    CreatePagingQueueReply.paging_queue,
    PagingQueue
);
creates!(
    CreateSyncObject,
    CreateSyncObjectReply.sync_object,
    SyncObject
);

creates!(
    CreateNtSharedObject,
    CreateNtSharedObjectReply.shared_handle,
    SharedName
);

impl Creates for gpupv::CreateAllocation {
    fn made(what: &mut What, reply: &[u8]) -> bool {
        // The driver asks for one allocation at a time.
        let Ok((head, rest)) = gpupv::read::<gpupv::CreateAllocationReply>(reply) else {
            return false;
        };
        let Ok((created, _)) = gpupv::read::<gpupv::CreatedAllocation>(rest) else {
            return false;
        };
        match what {
            What::Allocation { allocation, .. } => *allocation = created.allocation,
            What::Resource { device, .. } => {
                *what = made_in(*device, head.resource, created.allocation);
            }
            _ => return false,
        }
        !created.allocation.is_none()
    }
}

impl Creates for gpupv::OpenResource {
    fn made(what: &mut What, reply: &[u8]) -> bool {
        let Ok((head, rest)) = gpupv::read::<gpupv::OpenResourceReply>(reply) else {
            return false;
        };
        if head.status.is_error() {
            return false;
        }
        // The driver shares one allocation at a time.
        match (&*what, gpupv::read::<Handle>(rest)) {
            (What::Resource { device, .. }, Ok((handle, _))) => {
                *what = made_in(*device, head.resource, handle);
                !handle.is_none()
            }
            _ => false,
        }
    }
}

impl Creates for gpupv::OpenSyncObject {
    fn made(what: &mut What, reply: &[u8]) -> bool {
        let Ok((reply, _)) = gpupv::read::<gpupv::OpenSyncObjectReply>(reply) else {
            return false;
        };
        *what = What::SyncObject(reply.sync_object);
        !reply.status.is_error() && !reply.sync_object.is_none()
    }
}

impl Creates for gpupv::Lock2 {
    fn made(_what: &mut What, reply: &[u8]) -> bool {
        // The allocation is known beforehand; the answer says only whether it worked.
        gpupv::read::<gpupv::Lock2Reply>(reply).is_ok_and(|(reply, _)| !reply.status.is_error())
    }
}

impl Creates for gpupv::ReserveGpuVirtualAddress {
    fn made(what: &mut What, reply: &[u8]) -> bool {
        let reply = gpupv::read::<gpupv::ReserveGpuVirtualAddressReply>(reply);
        match (what, reply) {
            (What::GpuVa { base, .. }, Ok((reply, _))) => {
                *base = reply.virtual_address;
                reply.virtual_address != 0
            }
            _ => false,
        }
    }
}

impl Creates for gpupv::MapGpuVirtualAddress {
    fn made(what: &mut What, reply: &[u8]) -> bool {
        match (what, gpupv::read::<gpupv::MapGpuVirtualAddressReply>(reply)) {
            (What::GpuVa { base, .. }, Ok((reply, _))) => {
                *base = reply.virtual_address;
                !reply.status.is_error()
            }
            _ => false,
        }
    }
}

impl Creates for gpupv::MakeResident {
    fn made(_what: &mut What, reply: &[u8]) -> bool {
        // The objects are known beforehand; the answer says only whether it worked.
        gpupv::read::<gpupv::MakeResidentReply>(reply)
            .is_ok_and(|(reply, _)| !reply.status.is_error())
    }
}
