// SPDX-License-Identifier: GPL-2.0-only

//! Waiting for fences that a syncobj does not have yet, without anybody sleeping.
//!
//! C header: [`include/drm/drm_syncobj.h`](srctree/include/drm/drm_syncobj.h)
//!
//! The core lets a task wait for a point that is to come, and nothing else: so each wait is a thread.
//! An open file keeps its threads, and they end before it gives up its syncobjs.

use core::{
    ptr::NonNull,
    sync::atomic::{
        AtomicUsize,
        Ordering, //
    }, //
};

use kernel::{
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNodeReservation, //
    },
    sync::{
        new_condvar,
        new_mutex,
        Arc,
        CondVar,
        Mutex, //
    },
};

use crate::{
    dma_fence::DmaFence,
    drm,
    drm::syncobj::{
        self,
        SyncObj, //
    },
    kthread::{
        self,
        Thread, //
    },
};

/// Most threads of a file.
const THREADS_MAX: usize = 64;

/// Most threads of all files: they are the kernel's, and no limit of a user holds for them.
const THREADS_MAX_ALL: usize = 1024;

/// Threads of all files.
static THREADS: AtomicUsize = AtomicUsize::new(0);

/// Somebody who wants to know what a syncobj gets.
pub trait PointWaiter: Send + Sync + 'static {
    /// It has a fence at the point now, or will not have one: `ENOENT` if the handle is gone. Called
    /// at most once, on a thread, and not after the [`PointWait`] was dropped.
    fn found(&self, fence: Result<DmaFence>);
}

struct State {
    threads: RBTree<u64, Thread>,
    next: u64,
    /// Threads whose function has not returned, and those that are being started.
    running: usize,
    closed: bool,
}

/// The waits of an open file.
#[pin_data]
pub(super) struct PointWaits {
    #[pin]
    state: Mutex<State>,
    #[pin]
    ended: CondVar,
}

/// A wait; dropping it ends it. Sleeps.
#[must_use = "the wait ends when this is dropped"]
pub struct PointWait {
    waits: Arc<PointWaits>,
    number: u64,
}

/// A thread that is counted, from before it starts until its function has returned.
struct Running(Arc<PointWaits>);

impl Running {
    fn new(waits: &Arc<PointWaits>) -> Result<Self> {
        let mut state = waits.state.lock();
        if state.closed || state.running >= THREADS_MAX {
            return Err(EBUSY);
        }
        if THREADS.fetch_add(1, Ordering::Relaxed) >= THREADS_MAX_ALL {
            THREADS.fetch_sub(1, Ordering::Relaxed);
            return Err(EBUSY);
        }
        state.running += 1;
        Ok(Self(waits.clone()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        THREADS.fetch_sub(1, Ordering::Relaxed);
        self.0.state.lock().running -= 1;
        self.0.ended.notify_all();
    }
}

/// A file, as a thread knows it.
struct OpenFile<T: drm::DriverFile>(NonNull<drm::File<T>>);

// SAFETY: A shared file may be used on any thread.
unsafe impl<T: drm::DriverFile> Send for OpenFile<T> {}

impl PointWaits {
    /// None.
    pub(super) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                state <- new_mutex!(
                    State {
                        threads: RBTree::new(),
                        next: 0,
                        running: 0,
                        closed: false,
                    },
                    "PointWaits::state"
                ),
                ended <- new_condvar!("PointWaits::ended"),
            }),
            GFP_KERNEL,
        )
    }

    fn take(&self, number: u64) -> Option<Thread> {
        self.state.lock().threads.remove(&number)
    }

    /// Ends all waits. No thread uses the file after that.
    pub(super) fn close(&self) {
        loop {
            let mut state = self.state.lock();
            state.closed = true;
            let first = state.threads.keys().next().copied();
            let thread = first.and_then(|number| state.threads.remove(&number));
            drop(state);
            if thread.is_none() {
                break;
            }
        }
        // Those that somebody else is ending just now.
        let mut state = self.state.lock();
        while state.running != 0 {
            self.ended.wait(&mut state);
        }
    }
}

impl Drop for PointWait {
    fn drop(&mut self) {
        drop(self.waits.take(self.number));
    }
}

impl<T: drm::DriverFile + 'static> drm::File<T> {
    /// Has `waiter` told when the syncobj `handle` of this file has a fence at `point`, 0 for a binary
    /// one. Sleeps.
    ///
    /// # Errors
    ///
    /// `EBUSY` if the file, or all of them, wait for too much, or it is being closed; `ENOMEM`; those of
    /// [`Thread::spawn`].
    pub fn wait_for_point(
        &self,
        handle: u32,
        point: u64,
        waiter: Arc<dyn PointWaiter>,
    ) -> Result<PointWait> {
        let waits = self.point_waits();
        let running = Running::new(waits)?;
        let node = RBTreeNodeReservation::new(GFP_KERNEL)?;
        let file = OpenFile(NonNull::from(self));
        let thread = Thread::spawn(c"vaccel-syncobj", move || {
            let file = file;
            let running = running;
            // SAFETY: The file and its syncobjs go only after `PointWaits::close()`, which waits for
            // `running` to be dropped.
            let found = wait(unsafe { file.0.as_ref() }, handle, point);
            drop(running);
            if let Some(found) = found {
                waiter.found(found);
            }
        })?;
        let mut state = waits.state.lock();
        let number = state.next;
        state.next += 1;
        state.threads.insert(node.into_node(number, thread));
        Ok(PointWait {
            waits: waits.clone(),
            number,
        })
    }
}

/// Waits; none if the thread shall end.
fn wait<T: drm::DriverFile>(
    file: &drm::File<T>,
    handle: u32,
    point: u64,
) -> Option<Result<DmaFence>> {
    let syncobj = match SyncObj::find(file, handle) {
        Ok(syncobj) => syncobj,
        Err(error) => return Some(Err(error)),
    };
    // The core looks the handle up anew, and it may name another one by then.
    let is_same = || SyncObj::find(file, handle).is_ok_and(|found| found.key() == syncobj.key());
    while !kthread::interrupted() {
        if !is_same() {
            return Some(Err(ENOENT));
        }
        match syncobj::wait_for_point(file, handle, point) {
            // The core waits for some time only.
            Err(ETIME) => {}
            // The thread shall end.
            Err(ERESTARTSYS) => return None,
            found if is_same() => return Some(found),
            _ => return Some(Err(ENOENT)),
        }
    }
    None
}
