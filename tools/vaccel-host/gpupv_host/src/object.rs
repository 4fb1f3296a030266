// SPDX-License-Identifier: MIT OR Apache-2.0
//! The objects of a process (protocol 4): what they hold and who frees them.
//!
//! Everything but a device belongs to one, and goes when it goes; sync objects without storage belong
//! to the process. A fence that belongs to a paging queue or a hardware queue goes with the queue, a
//! hardware queue with its context; a fence that is shared stays for those who have it too.

use std::collections::BTreeMap;
use std::sync::Arc;

use gpupv::{
    CreateContextFlags, CreateDeviceFlags, CreateHwQueueFlags, ExecutionState, Handle,
    PageFaultState, SyncObjectFlags,
};
use vaccel_isa::Segment;

use crate::backing::Backing;
use crate::env::VgpuId;
use crate::fence::Fence;
use crate::io_pages::Shown;
use crate::offer::Offer;
use crate::plain_sync::PlainSync;
use crate::work::WorkQueue;

/// An object, and where it belongs.
#[derive(Debug)]
pub struct Object {
    /// The virtual GPU it is on.
    pub vgpu: VgpuId,
    /// The device it belongs to; none for a device and for a sync object without storage.
    pub device: Handle,
    /// What it is.
    pub kind: Kind,
}

/// What an object is.
#[derive(Debug)]
pub enum Kind {
    /// A device.
    Device(Device),
    /// An execution context.
    Context(Context),
    /// A hardware queue.
    HwQueue(HwQueue),
    /// A paging queue.
    PagingQueue(PagingQueue),
    /// An allocation.
    Allocation(Allocation),
    /// A resource.
    Resource(Resource),
    /// A monitored fence.
    Sync(SyncObject),
    /// A sync object without storage.
    Plain(Arc<PlainSync>),
}

/// A device: container of everything else.
#[derive(Debug)]
pub struct Device {
    /// What the guest wants back in SETGUESTDATA.
    pub cookie: u64,
    /// How it was created.
    pub flags: CreateDeviceFlags,
    /// ACTIVE until something goes wrong, then for ever what went wrong first.
    pub state: ExecutionState,
    /// The page fault that stopped it.
    pub fault: PageFaultState,
}

/// An execution context: a queue whose work is done in order.
#[derive(Debug, Default)]
pub struct Context {
    /// How it was created.
    pub flags: CreateContextFlags,
    /// What it has to do.
    pub work: WorkQueue,
    /// Global scheduling priority, -7 to 7.
    pub priority: i32,
    /// Priority among the contexts of the process, -7 to 7.
    pub in_process_priority: i32,
}

/// A hardware queue: a queue of a context whose progress has a fence.
#[derive(Debug)]
pub struct HwQueue {
    /// The context it belongs to, and goes with.
    pub context: Handle,
    /// How it was created.
    pub flags: CreateHwQueueFlags,
    /// Its progress fence.
    pub fence: Arc<Fence>,
    /// The fence's handle.
    pub fence_handle: Handle,
    /// The value that the last submission brings the fence to.
    pub last: u64,
    /// What it has to do.
    pub work: WorkQueue,
}

/// A paging queue.
#[derive(Debug)]
pub struct PagingQueue {
    /// Its fence.
    pub fence: Arc<Fence>,
    /// The fence's handle.
    pub fence_handle: Handle,
    /// The value that the last operation reaches.
    pub last: u64,
}

/// An allocation.
#[derive(Debug)]
pub struct Allocation {
    /// Its memory.
    pub backing: Arc<Backing>,
    /// Where it is while it is resident.
    pub segment: Segment,
    /// How often it was made resident and not evicted.
    pub resident: u32,
    /// The resource it is in, or none.
    pub resource: Handle,
    /// Its place in that resource.
    pub place: u64,
    /// How the guest's CPU sees it.
    pub lock: Option<Lock>,
    /// How dear it is to its owner.
    pub priority: u32,
    /// Its owner can do without it for now.
    pub offer: Option<Offer>,
    /// The GPADL its pages came from.
    pub gpadl: Option<u32>,
}

/// A lock of an allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lock {
    /// How often it was locked and not unlocked.
    pub count: u32,
    /// Where it is seen.
    pub shown: Shown,
}

impl Allocation {
    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        self.backing.pages().saturating_mul(gpupv::PAGE_SIZE)
    }
}

/// A resource: allocations that go together.
#[derive(Debug, Default)]
pub struct Resource {
    /// Its allocations, in the order of their creation.
    pub allocations: BTreeMap<u64, Handle>,
    /// The place of the next one.
    pub next: u64,
    /// Other processes may open it.
    pub shared: bool,
}

impl Resource {
    /// Adds an allocation that was made with place `next`.
    pub fn push(&mut self, allocation: Handle) {
        self.allocations.insert(self.next, allocation);
        self.next = self.next.saturating_add(1);
    }
}

/// A handle of a monitored fence.
#[derive(Debug)]
pub struct SyncObject {
    /// The fence.
    pub fence: Arc<Fence>,
    /// What the holder may not do, and what becomes of the value when its device fails.
    pub flags: SyncObjectFlags,
    /// How the device came by it.
    pub origin: Origin,
    /// The fence's name in the VM, or none if it cannot be shared.
    pub name: Handle,
}

/// How a device came by a fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It comes with a paging queue or a hardware queue: the host signals it, the guest cannot signal
    /// or destroy it.
    Queue,
    /// It was created there.
    Created,
    /// It was opened there.
    Opened,
}

impl SyncObject {
    /// A fence that a device has to itself.
    pub fn new(fence: Arc<Fence>, flags: SyncObjectFlags, origin: Origin) -> Self {
        Self {
            fence,
            flags,
            origin,
            name: Handle::NONE,
        }
    }

    /// Whether the holder may signal it.
    pub fn signals(&self) -> bool {
        self.origin != Origin::Queue && !self.flags.contains(SyncObjectFlags::NO_SIGNAL)
    }

    /// Whether the holder may wait for it.
    pub fn waits(&self) -> bool {
        !self.flags.contains(SyncObjectFlags::NO_WAIT)
    }

    /// Its address for the holder's GPU work; 0 where that has no access.
    pub fn gpu_va(&self) -> u64 {
        if self.flags.contains(SyncObjectFlags::NO_GPU_ACCESS) {
            0
        } else {
            self.fence.gpu_va()
        }
    }

    /// Whether the value becomes the highest when its device fails.
    pub fn jumps(&self) -> bool {
        let keeps = SyncObjectFlags::NO_SIGNAL_MAX_VALUE_ON_TDR;
        self.origin != Origin::Opened && !self.flags.contains(keeps)
    }
}
