// SPDX-License-Identifier: GPL-2.0-only

//! Open files and their handles.
//!
//! A handle is a number of the file, for a vm, a queue or a fence; buffer objects have GEM handles.
//! Numbers are never 0 and are not reused soon, so that a stale handle is noticed.
//!
//! # Locks
//!
//! `Client::objects` is held for table operations only: objects are made before and dropped after.

use kernel::prelude::*;
use kernel::rbtree::{
    RBTree,
    RBTreeNodeReservation, //
};
use kernel::sync::{
    new_mutex,
    Arc,
    Mutex, //
};

use crate::adapter::Adapter;
use crate::budget::Subscription;
use crate::driver::{
    DrmDevice,
    VaccelDrm, //
};
use crate::drm;
use crate::fence::Fence;
use crate::pending::PendingList;
use crate::process::Process;
use crate::queue::Queue;
use crate::space::Space;
use crate::uring_operation::Operations;
use crate::vm::Vm;

/// Handles per file.
const HANDLES_MAX: usize = 1 << 16;

/// What a handle names.
#[derive(Clone)]
pub(crate) enum Object {
    /// A vm.
    Vm(Arc<Vm>),
    /// A queue.
    Queue(Arc<Queue>),
    /// A fence.
    Fence(FenceEntry),
}

/// A fence as one file sees it.
#[derive(Clone)]
pub(crate) struct FenceEntry {
    pub(crate) fence: Arc<Fence>,
    /// GEM handle that lets this file map the value, or 0.
    pub(crate) page: u32,
    /// Where to map it.
    pub(crate) mmap_offset: u64,
    /// Whether it comes and goes with its vm.
    pub(crate) of_vm: bool,
    /// Whether it was handed over to be waited for only.
    pub(crate) wait_only: bool,
}

struct Objects {
    table: RBTree<u32, Object>,
    count: usize,
    next: u32,
}

/// An open file.
#[pin_data(PinnedDrop)]
pub(crate) struct Client {
    #[pin]
    objects: Mutex<Objects>,
    /// Whether it wants to know of its budget.
    #[pin]
    pub(crate) subscription: Subscription,
    /// What it waits for without anybody sleeping.
    pub(crate) pending: Arc<PendingList>,
    /// What it has asked for by io_uring and is pending.
    pub(crate) operations: Arc<Operations>,
    /// GPU addresses, of all its vms.
    pub(crate) space: Arc<Space>,
    pub(crate) process: Arc<Process>,
}

#[pinned_drop]
impl PinnedDrop for Client {
    fn drop(self: Pin<&mut Self>) {
        self.pending.cancel_all();
    }
}

impl drm::DriverFile for Client {
    type Driver = VaccelDrm;

    fn open(dev: &DrmDevice) -> Result<Pin<KBox<Self>>> {
        let adapter: &Arc<Adapter> = dev;
        let process = Process::new(adapter.clone())?;
        let space = Space::new()?;
        let pending = Arc::pin_init(PendingList::new(), GFP_KERNEL)?;
        let operations = Arc::pin_init(Operations::new(), GFP_KERNEL)?;
        KBox::pin_init(
            pin_init!(Self {
                objects <- new_mutex!(Objects {
                    table: RBTree::new(),
                    count: 0,
                    next: 1,
                }),
                subscription <- Subscription::new(adapter.watch.clone()),
                pending,
                operations,
                space,
                process,
            }),
            GFP_KERNEL,
        )
    }
}

impl Client {
    /// Gives `object` a handle.
    ///
    /// # Errors
    ///
    /// `EMFILE` if the file has too many, `ENOMEM`.
    pub(crate) fn insert(&self, object: Object) -> Result<u32> {
        let node = RBTreeNodeReservation::new(GFP_KERNEL)?;
        let mut objects = self.objects.lock();
        if objects.count >= HANDLES_MAX {
            return Err(EMFILE);
        }
        let mut handle = objects.next;
        while handle == 0 || objects.table.get(&handle).is_some() {
            handle = handle.wrapping_add(1);
        }
        objects.next = handle.wrapping_add(1);
        objects.count += 1;
        objects.table.insert(node.into_node(handle, object));
        Ok(handle)
    }

    /// Takes the object behind `handle` out, if `wanted` says that it is the right one.
    ///
    /// # Errors
    ///
    /// `ENOENT`; what `wanted` returns.
    pub(crate) fn remove(
        &self,
        handle: u32,
        wanted: impl FnOnce(&Object) -> Result,
    ) -> Result<Object> {
        let mut objects = self.objects.lock();
        wanted(objects.table.get(&handle).ok_or(ENOENT)?)?;
        let object = objects.table.remove(&handle).ok_or(ENOENT)?;
        objects.count -= 1;
        Ok(object)
    }

    fn object<R>(&self, handle: u32, read: impl FnOnce(&Object) -> Option<R>) -> Result<R> {
        let objects = self.objects.lock();
        objects.table.get(&handle).and_then(read).ok_or(ENOENT)
    }

    /// The vm behind `handle`.
    ///
    /// # Errors
    ///
    /// `ENOENT`.
    pub(crate) fn vm(&self, handle: u32) -> Result<Arc<Vm>> {
        self.object(handle, |object| match object {
            Object::Vm(vm) => Some(vm.clone()),
            _ => None,
        })
    }

    /// All vms of the file.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn vms(&self) -> Result<KVec<Arc<Vm>>> {
        let mut vms = KVec::new();
        for object in self.objects.lock().table.values() {
            if let Object::Vm(vm) = object {
                vms.push(vm.clone(), GFP_KERNEL)?;
            }
        }
        Ok(vms)
    }

    /// The queue behind `handle`.
    ///
    /// # Errors
    ///
    /// `ENOENT`.
    pub(crate) fn queue(&self, handle: u32) -> Result<Arc<Queue>> {
        self.object(handle, |object| match object {
            Object::Queue(queue) => Some(queue.clone()),
            _ => None,
        })
    }

    /// The fence behind `handle`.
    ///
    /// # Errors
    ///
    /// `ENOENT`.
    pub(crate) fn fence(&self, handle: u32) -> Result<FenceEntry> {
        self.object(handle, |object| match object {
            Object::Fence(entry) => Some(entry.clone()),
            _ => None,
        })
    }

    /// The handle of the fence that came with `vm`.
    pub(crate) fn paging_fence_of(&self, vm: &Vm) -> Option<u32> {
        let objects = self.objects.lock();
        let found = objects.table.iter().find(|(_, object)| match object {
            Object::Fence(entry) => entry.of_vm && Arc::ptr_eq(&entry.fence, &vm.paging_fence),
            _ => false,
        });
        found.map(|(handle, _)| *handle)
    }
}
