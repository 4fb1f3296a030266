// SPDX-License-Identifier: GPL-2.0-only

//! What a queue waits for that is not its own: dma_fences.
//!
//! A dma_fence of a queue of the same adapter is waited for on the GPU: the host knows its progress, and
//! the CPU has no part in it. For all others the queue has a bridge, a monitored fence of the driver's
//! own: the queue waits on the GPU for the next value of it, and an
//! [import](crate::sync_import) raises it when the dma_fence has signalled.

use core::num::NonZeroU64;

use kernel::prelude::*;
use kernel::rbtree::{
    RBTree,
    RBTreeNode, //
};
use kernel::sync::{
    new_mutex,
    Arc,
    Mutex,
    SetOnce, //
};

use crate::client::Client;
use crate::device::Device;
use crate::dma_fence::DmaFence;
use crate::driver::DrmFile;
use crate::fence::Fence;
use crate::host_error::HostResult;
use crate::out_fence::OutFences;
use crate::queue::{
    Mode,
    Queue, //
};
use crate::sync_import;

/// Progress of other vms' queues that a queue keeps open.
const OPENED_MAX: usize = 64;

/// Progress of other vms' queues, by the contexts of their dma_fences.
struct Opened {
    all: RBTree<u64, Arc<Fence>>,
    count: usize,
}

/// Something that a queue was made to wait for and that comes to an end by itself.
pub(crate) enum Wait {
    /// A dma_fence.
    Fence(DmaFence),
    /// A value that an import is to bring.
    Import(Arc<Fence>, u64),
}

impl Wait {
    /// Whether it has yet to come.
    pub(crate) fn is_pending(&mut self) -> bool {
        match self {
            Self::Fence(fence) => !fence.is_signaled(),
            Self::Import(fence, value) => fence.first_import().is_some_and(|first| first <= *value),
        }
    }
}

/// What a queue waits for.
#[pin_data]
pub(crate) struct Inputs {
    /// Since the last dma_fence of the queue.
    #[pin]
    waits: Mutex<KVec<Wait>>,
    bridge: SetOnce<Arc<Fence>>,
    #[pin]
    opened: Mutex<Opened>,
}

impl Inputs {
    /// Nothing.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            waits <- new_mutex!(KVec::new(), "Inputs::waits"),
            bridge: SetOnce::new(),
            opened <- new_mutex!(
                Opened {
                    all: RBTree::new(),
                    count: 0,
                },
                "Inputs::opened"
            ),
        })
    }

    /// Ends the waits by way of the driver: the queue goes.
    pub(crate) fn cancel(&self) {
        if let Some(bridge) = self.bridge.as_ref() {
            bridge.cancel_imports();
        }
    }

    /// Notes what the queue is made to wait for.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn note(&self, wait: Wait) -> Result {
        let mut waits = self.waits.lock();
        // What has come since is not needed; looked for when there is no room.
        if waits.len() == waits.capacity() {
            waits.retain(Wait::is_pending);
        }
        Ok(waits.push(wait, GFP_KERNEL)?)
    }

    /// Notes that the queue is made to wait for a value of a monitored fence.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn note_value(&self, fence: &Arc<Fence>, value: u64) -> Result {
        let mut wait = Wait::Import(fence.clone(), value);
        if wait.is_pending() {
            self.note(wait)
        } else {
            Ok(())
        }
    }

    /// What the queue was made to wait for since this was asked last.
    pub(crate) fn take_waits(&self) -> KVec<Wait> {
        core::mem::take(&mut self.waits.lock())
    }

    /// The bridge, made when it is first needed. The caller has the queue's turn.
    fn bridge(&self, device: &Arc<Device>) -> HostResult<&Arc<Fence>> {
        if self.bridge.as_ref().is_none() {
            let bridge = Fence::internal(device.clone())?;
            bridge.imports.lock().of_queue = true;
            self.bridge.populate(bridge);
        }
        Ok(self.bridge.as_ref().ok_or(EIO)?)
    }

    /// The progress of another queue as `device` knows it.
    fn progress_of(&self, out: &OutFences, device: &Arc<Device>) -> HostResult<Arc<Fence>> {
        if Arc::ptr_eq(&out.device, device) {
            return Ok(out.progress.clone());
        }
        if let Some(fence) = self.opened.lock().all.get(&out.context()) {
            return Ok(fence.clone());
        }
        let fence = out.progress.open_in(device)?;
        let node = RBTreeNode::new(out.context(), fence.clone(), GFP_KERNEL)?;
        let forgotten = {
            let mut opened = self.opened.lock();
            let forgotten = if opened.count >= OPENED_MAX {
                opened.count = 0;
                core::mem::replace(&mut opened.all, RBTree::new())
            } else {
                RBTree::new()
            };
            opened.all.insert(node);
            opened.count += 1;
            forgotten
        };
        drop(forgotten);
        Ok(fence)
    }
}

/// A value of the progress of a queue.
pub(crate) type Progressed = (Arc<OutFences>, u64);

/// What a dma_fence consists of and has not signalled.
pub(crate) struct Sources {
    /// Of queues of the adapter.
    pub(crate) own: KVec<Progressed>,
    /// Whether there is more.
    pub(crate) foreign: bool,
}

/// What `source` consists of and has not signalled.
///
/// # Errors
///
/// `ENOMEM`.
pub(crate) fn sources(source: &DmaFence, device: &Device) -> Result<Sources> {
    let queues = &device.process.adapter.out_queues;
    let (mut own, mut foreign) = (KVec::new(), false);
    source.for_each_leaf(|leaf| {
        if leaf.is_signaled() {
            return Ok(());
        }
        match queues.of(leaf) {
            Some(out) => own.push((out, leaf.seqno()), GFP_KERNEL)?,
            None => foreign = true,
        }
        Ok(())
    })?;
    Ok(Sources { own, foreign })
}

impl Queue {
    /// Has the queue wait for a dma_fence. The caller has its turn.
    ///
    /// # Errors
    ///
    /// `EBUSY` if the file waits for too much, `ENOMEM`; those of the host.
    pub(crate) fn wait_for_fence(&self, source: &DmaFence, client: &Client) -> HostResult {
        let device = &self.vm.device;
        let Sources { own, mut foreign } = sources(source, device)?;
        if self.mode == Mode::Bounded && (foreign || !own.is_empty()) {
            self.inputs.note(Wait::Fence(source.clone()))?;
        }
        for (out, value) in &own {
            // What it has queued itself comes first anyway.
            if out.queue() == self.handle() && Arc::ptr_eq(&out.device, device) {
                continue;
            }
            match self.inputs.progress_of(out, device) {
                Ok(progress) => self.wait(&progress, *value)?,
                // It can still be waited for by way of the driver.
                Err(_) => foreign = true,
            }
        }
        if foreign {
            let bridge = self.inputs.bridge(device)?;
            let value = bridge.next_import();
            sync_import::import(bridge, value, source, &client.pending)?;
            self.wait(bridge, value)?;
        }
        Ok(())
    }

    /// Has the queue wait until a syncobj has a fence at `point` and that has signalled. The caller has
    /// the queue's turn.
    ///
    /// # Errors
    ///
    /// As [`Queue::wait_for_fence`].
    pub(crate) fn wait_for_point(
        &self,
        at: (u32, Option<NonZeroU64>),
        file: &DrmFile,
    ) -> HostResult {
        let bridge = self.inputs.bridge(&self.vm.device)?;
        let value = bridge.next_import();
        let never = u64::MAX;
        sync_import::import_missing(bridge, value, at, never, file)?;
        self.wait(bridge, value)
    }
}
