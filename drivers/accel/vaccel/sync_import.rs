// SPDX-License-Identifier: GPL-2.0-only

//! syncobjs and sync_files into monitored fences: when a dma_fence has signalled, a value is raised.
//!
//! This direction needs no promise of anybody: a dma_fence signals in bounded time, whoever made it.
//! Its callback, which may run in the middle of somebody else's signalling, does nothing but count
//! and leave the rest to a worker; that raises the value by a message to the host. Chains and arrays
//! are unwrapped, so that what is waited for are the fences that somebody signals.
//!
//! The imports into one fence have rising values and take effect in that order, even if their
//! dma_fences signal in another one: a fence that reached a value counts as having reached all lower
//! ones. So a value is not sure to come as long as one before it waits for user space.
//!
//! On the way to another dma_fence: work on a bounded queue may wait for an imported value, and a
//! dma_fence stand for the end of that work. So the worker belongs to the signalling path: it
//! works on a queue with a rescuer, allocates without reclaim, and takes no lock under which anybody
//! waits for memory or for a dma_fence.
//!
//! # Locks
//!
//! `Fence::imports` and `Import::parts` are held for list operations only, each by itself.
//!
//! # Lifetime
//!
//! An import keeps its fence, its callbacks keep the import. It ends when it took effect, and early if
//! its file is closed: then the value is raised at once, with `ECANCELED` as the error, so that
//! nobody who shares the fence hangs. A [bridge](crate::inputs), which nobody shares, is not raised
//! then: the work behind it goes with its queue, and must not begin before the dma_fence.

use core::num::NonZeroU64;
use core::sync::atomic::{
    AtomicBool,
    AtomicUsize,
    Ordering, //
};

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
use kernel::time::{
    delay::fsleep,
    Delta, //
};
use kernel::workqueue::WorkItem;

use crate::alarm::{
    Alarm,
    Ring, //
};
use crate::bindings::uapi;
use crate::client::Client;
use crate::dma_fence::{
    Callback,
    DmaFence,
    Signaled,
    Signalling, //
};
use crate::driver::{
    DrmDevice,
    DrmFile, //
};
use crate::drm::{
    PointWait,
    PointWaiter,
    SyncObj, //
};
use crate::fence::{
    Fence,
    IMPORT_WORK, //
};
use crate::host_error::HostResult;
use crate::inputs::{
    self,
    Sources, //
};
use crate::mm::NoReclaim;
use crate::pending::{
    Cancel,
    PendingList,
    Ticket, //
};
use crate::relay;
use crate::sync_export::point;
use crate::sync_file;

/// Pause before a message is tried again for which there was no room.
const RETRY_US: i64 = 1_000;

/// How often a relay that should have raised a value is looked at, with that pause, before it is done in
/// its place.
const RELAY_TRIES: usize = 1_000;

/// A value that waits for a dma_fence.
#[pin_data]
pub(crate) struct Import {
    target: Arc<Fence>,
    value: u64,
    /// Whether user space has yet to say what is waited for.
    missing: bool,
    /// Whether the GPU raises the value by itself; the driver sees to the error and to the order.
    relayed: AtomicBool,
    /// What has yet to happen: fences that have not signalled, and one for whoever sets it up.
    waits: AtomicUsize,
    /// Whether it was ended early.
    over: AtomicBool,
    /// Whether who waits for the value is going.
    unwanted: AtomicBool,
    #[pin]
    parts: Mutex<Parts>,
}

/// What an import consists of, until it takes effect.
#[derive(Default)]
struct Parts {
    sources: KVec<DmaFence>,
    callbacks: KVec<Callback<Import>>,
    /// While there is no dma_fence yet.
    point: Option<PointWait>,
    deadline: Option<Alarm>,
    error: Option<Error>,
    ticket: Option<Ticket>,
}

/// The imports into a fence.
pub(crate) struct ImportList {
    all: RBTree<u64, Arc<Import>>,
    /// The highest value so far.
    last: u64,
    /// How many wait for user space, and with them those behind.
    missing: usize,
    /// Whether nobody waits but a queue, which goes with its file.
    pub(crate) of_queue: bool,
}

impl ImportList {
    /// None.
    pub(crate) fn new() -> Self {
        Self {
            all: RBTree::new(),
            last: 0,
            missing: 0,
            of_queue: false,
        }
    }
}

impl Import {
    fn new(target: Arc<Fence>, value: u64, missing: bool) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                target,
                value,
                missing,
                relayed: AtomicBool::new(false),
                waits: AtomicUsize::new(1),
                over: AtomicBool::new(false),
                unwanted: AtomicBool::new(false),
                parts <- new_mutex!(Parts::default(), "Import::parts"),
            }),
            GFP_KERNEL,
        )
    }

    /// Waits for what `source` consists of.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    fn wait_for(self: &Arc<Self>, source: &DmaFence) -> Result {
        let mut sources = KVec::new();
        let mut callbacks = KVec::new();
        let added = source.for_each_leaf(|leaf| {
            sources.push(leaf.clone(), GFP_KERNEL)?;
            callbacks.reserve(1, GFP_KERNEL)?;
            self.waits.fetch_add(1, Ordering::Relaxed);
            match leaf.on_signal(self.clone())? {
                Some(callback) => callbacks.push(callback, GFP_KERNEL)?,
                None => {
                    self.waits.fetch_sub(1, Ordering::Relaxed);
                }
            }
            Ok(())
        });
        if let Err(error) = added {
            // When the callbacks are gone nobody counts any more.
            drop(callbacks);
            self.waits.store(1, Ordering::Release);
            return Err(error);
        }
        {
            let mut parts = self.parts.lock();
            parts.sources = sources;
            parts.callbacks = callbacks;
        }
        // Who ended it early may have looked for them before.
        self.drop_callbacks_if_over();
        Ok(())
    }

    fn drop_callbacks_if_over(&self) {
        if self.over.load(Ordering::SeqCst) {
            let callbacks = core::mem::take(&mut self.parts.lock().callbacks);
            drop(callbacks);
        }
    }

    /// One thing less to wait for. In any context.
    fn one_less(&self) {
        if self.waits.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.target.import_later();
        }
    }

    fn is_done(&self) -> bool {
        self.waits.load(Ordering::Acquire) == 0 || self.over.load(Ordering::SeqCst)
    }

    /// Lets go of everything.
    fn let_go(&self) {
        let parts = core::mem::take(&mut *self.parts.lock());
        drop(parts);
    }

    /// Lets go of everything before it was entered: nobody else will.
    fn abandon(&self) {
        // Whoever finds the point just now sees this and keeps no callbacks, or has stored them.
        self.over.store(true, Ordering::SeqCst);
        self.let_go();
    }

    /// Ends it early with an error, unless it has ended. Waits for nobody: who waits for the point is
    /// ended by the worker.
    fn fail(&self, error: Error) {
        if self.is_done() {
            return;
        }
        {
            let mut parts = self.parts.lock();
            parts.error = parts.error.or(Some(error));
        }
        self.over.store(true, Ordering::SeqCst);
        self.drop_callbacks_if_over();
        self.target.import_later();
    }

    /// The error of the fences waited for, or of the wait itself.
    fn error(&self) -> Option<Error> {
        let parts = self.parts.lock();
        let of_source = || parts.sources.iter().find_map(DmaFence::error);
        parts.error.or_else(of_source)
    }

    /// Keeps who waits for the point, unless it has come already.
    fn keep_point(&self, point: PointWait, deadline: Option<Alarm>) {
        let mut parts = self.parts.lock();
        if !self.is_done() {
            parts.point = Some(point);
            parts.deadline = deadline;
            return;
        }
        drop(parts);
        drop((point, deadline));
    }
}

impl Signaled for Import {
    fn signaled(this: Arc<Self>) {
        this.one_less();
    }
}

impl Cancel for Import {
    fn cancel(&self) {
        let of_queue = self.target.imports.lock().of_queue;
        self.unwanted.store(of_queue, Ordering::Release);
        self.fail(ECANCELED);
    }
}

/// The deadline of a point that is missing.
impl Ring for Import {
    fn ring(&self) {
        // It may have come just now: then it counts.
        let missing = self.parts.lock().sources.is_empty();
        if missing {
            self.fail(ETIME);
        }
    }
}

/// An import whose point is missing, as who waits for that knows it.
struct Missing(Arc<Import>);

impl PointWaiter for Missing {
    fn found(&self, fence: Result<DmaFence>) {
        let import = &self.0;
        let waited = fence.and_then(|fence| import.wait_for(&fence));
        if let Err(error) = waited {
            let mut parts = import.parts.lock();
            parts.error = parts.error.or(Some(error));
        }
        import.one_less();
    }
}

impl Fence {
    /// Enters an import that is set up. Whether its value is sure to come: those that come first do not
    /// wait for user space.
    ///
    /// # Errors
    ///
    /// `EINVAL` unless its value is higher than those before, `ENOMEM`. The import is then let go of.
    fn enter_import(self: &Arc<Self>, import: &Arc<Import>) -> Result<bool> {
        let node = RBTreeNodeReservation::new(GFP_KERNEL);
        let entered = node.and_then(|node| {
            let mut imports = self.imports.lock();
            if import.value <= imports.last {
                return Err(EINVAL);
            }
            imports.last = import.value;
            imports.missing += usize::from(import.missing);
            imports
                .all
                .insert(node.into_node(import.value, import.clone()));
            Ok(imports.missing == 0)
        });
        entered.inspect_err(|_| import.abandon())
    }

    /// Has the worker see whether an import took effect. In any context.
    fn import_later(self: &Arc<Self>) {
        let workers = &self.device.process.adapter.background.workers;
        let _ = workers.enqueue::<_, { IMPORT_WORK }>(self.clone());
    }

    /// Takes out the first import, if it is done.
    fn take_done(&self) -> Option<Arc<Import>> {
        let mut imports = self.imports.lock();
        let (value, import) = imports.all.iter().next()?;
        if !import.is_done() {
            return None;
        }
        let value = *value;
        let done = imports.all.remove(&value)?;
        if done.missing {
            imports.missing -= 1;
            if imports.missing == 0 {
                // What was behind it waits for dma_fences only.
                self.promise(imports.last);
            }
        }
        Some(done)
    }

    /// Ends the imports that have yet to take effect.
    pub(crate) fn cancel_imports(&self) {
        let mut last = 0;
        while let Some(import) = self.import_behind(last) {
            last = import.value;
            import.cancel();
        }
    }

    /// The first import with a value above `last`.
    fn import_behind(&self, last: u64) -> Option<Arc<Import>> {
        let imports = self.imports.lock();
        let mut all = imports.all.iter();
        all.find(|(value, _)| **value > last)
            .map(|(_, import)| import.clone())
    }

    /// A value that an import may have.
    pub(crate) fn next_import(&self) -> u64 {
        self.imports.lock().last + 1
    }

    /// The value of the first import that has yet to take effect.
    pub(crate) fn first_import(&self) -> Option<u64> {
        self.imports.lock().all.keys().next().copied()
    }

    /// Whether the GPU raises the value, as it was told, now that it can: the next import has to come
    /// behind that. Waits for a moment.
    fn is_raised_by_gpu(&self, value: u64) -> bool {
        for _ in 0..RELAY_TRIES {
            if self.value() >= value || self.device.failure().is_some() {
                return true;
            }
            fsleep(Delta::from_micros(RETRY_US));
        }
        false
    }

    /// Raises the value, whatever it takes. On the way to dma_fences.
    pub(crate) fn raise(&self, value: u64) {
        let _allocates = NoReclaim::begin();
        // The GPU looks at the present value: what was reached before a rewind is not enough.
        while self.value() < value && !self.device.process.adapter.is_stopping() {
            match self.signal(value, false) {
                Err(error) if [ENOMEM, EAGAIN, ETIMEDOUT].contains(&error.errno) => {
                    fsleep(Delta::from_micros(RETRY_US));
                }
                // Told; or refused, because the device failed or somebody was faster.
                Ok(()) | Err(_) => return,
            }
        }
    }
}

impl WorkItem<{ IMPORT_WORK }> for Fence {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        loop {
            let signalling = Signalling::begin();
            let Some(import) = this.take_done() else {
                return;
            };
            let error = import.error();
            if let Some(error) = error {
                this.record(error);
            }
            // What failed the GPU may wait for in vain.
            let by_cpu = !import.relayed.load(Ordering::Acquire)
                || error.is_some()
                || !this.is_raised_by_gpu(import.value);
            if by_cpu && !import.unwanted.load(Ordering::Acquire) {
                this.raise(import.value);
            }
            drop(signalling);
            import.let_go();
        }
    }
}

/// Raises `target` to `value` when `source` has signalled.
///
/// # Errors
///
/// `EINVAL` unless the value is higher than with the import before, `EBUSY` if the file waits for too
/// much, `ENOMEM`.
pub(crate) fn import(
    target: &Arc<Fence>,
    value: u64,
    source: &DmaFence,
    pending: &Arc<PendingList>,
) -> Result<Arc<Import>> {
    let import = Import::new(target.clone(), value, false)?;
    let ticket = pending.insert(import.clone())?;
    import.parts.lock().ticket = Some(ticket);
    import.wait_for(source).inspect_err(|_| import.abandon())?;
    if target.enter_import(&import)? {
        target.promise(value);
    }
    import.one_less();
    Ok(import)
}

/// Raises `target` to `value` when the syncobj `handle` has a fence at `point` and that has signalled.
/// If it has none at `deadline_ns`, the value is raised with an error.
///
/// # Errors
///
/// As [`import`], and those of [`DrmFile::wait_for_point`].
pub(crate) fn import_missing(
    target: &Arc<Fence>,
    value: u64,
    (handle, point): (u32, Option<NonZeroU64>),
    deadline_ns: u64,
    file: &DrmFile,
) -> Result {
    let import = Import::new(target.clone(), value, true)?;
    let client = file.inner();
    let ticket = client.pending.insert(import.clone())?;
    import.parts.lock().ticket = Some(ticket);
    let set_up = || -> Result {
        let missing = Arc::new(Missing(import.clone()), GFP_KERNEL)?;
        let deadline = match deadline_ns {
            uapi::VACCEL_TIME_FOREVER.. => None,
            at => Some(
                client
                    .process
                    .adapter
                    .background
                    .alarms
                    .set(at, import.clone())?,
            ),
        };
        let point = file.wait_for_point(handle, point.map_or(0, NonZeroU64::get), missing)?;
        import.keep_point(point, deadline);
        Ok(())
    };
    set_up().inspect_err(|_| import.abandon())?;
    target.enter_import(&import)?;
    if import.is_done() {
        target.import_later();
    }
    Ok(())
}

/// `DRM_IOCTL_VACCEL_SYNC_IMPORT`.
pub(crate) fn sync_import(
    _dev: &DrmDevice,
    args: &mut uapi::drm_vaccel_sync,
    file: &DrmFile,
) -> HostResult {
    let has = |flag| args.flags & flag != 0;
    let known =
        uapi::VACCEL_SYNC_TIMELINE | uapi::VACCEL_SYNC_WAIT_FOR_SUBMIT | uapi::VACCEL_SYNC_FILE;
    let waits = has(uapi::VACCEL_SYNC_WAIT_FOR_SUBMIT);
    if args.flags & !known != 0 || args.reserved != [0; 2] || (!waits && args.deadline_ns != 0) {
        return Err(EINVAL.into());
    }
    let client = file.inner();
    let entry = client.fence(args.fence)?;
    if entry.of_vm {
        return Err(EINVAL.into());
    }
    if entry.wait_only {
        return Err(EACCES.into());
    }
    let source = if has(uapi::VACCEL_SYNC_FILE) {
        if args.flags != uapi::VACCEL_SYNC_FILE || args.syncobj != 0 || args.point != 0 {
            return Err(EINVAL.into());
        }
        Some(sync_file::fence_of(args.fd)?)
    } else {
        if args.fd != 0 {
            return Err(EINVAL.into());
        }
        fence_at(
            file,
            args.syncobj,
            point(has(uapi::VACCEL_SYNC_TIMELINE), args.point)?,
        )?
    };
    match source {
        Some(source) => into_fence(&client, &entry.fence, args.value, &source),
        None if waits => {
            let at = (args.syncobj, NonZeroU64::new(args.point));
            Ok(import_missing(
                &entry.fence,
                args.value,
                at,
                args.deadline_ns,
                file,
            )?)
        }
        None => Err(EINVAL.into()),
    }
}

/// What a syncobj has at a timeline point, or as a binary one.
///
/// # Errors
///
/// `ENOENT` if there is no such syncobj.
pub(crate) fn fence_at(
    file: &DrmFile,
    handle: u32,
    point: Option<NonZeroU64>,
) -> Result<Option<DmaFence>> {
    let syncobj = SyncObj::find(file, handle)?;
    Ok(match point {
        Some(point) => syncobj.point(point.get()),
        None => syncobj.fence(),
    })
}

/// Raises `fence` when `source` has signalled: by the GPU, if the source is a fence of this adapter.
fn into_fence(client: &Client, fence: &Arc<Fence>, value: u64, source: &DmaFence) -> HostResult {
    let import = import(fence, value, source, &client.pending)?;
    // Behind an import that has yet to take effect it must not come first.
    if fence.first_import() != Some(value) {
        return Ok(());
    }
    let Sources { own, foreign } = inputs::sources(source, &fence.device)?;
    if !own.is_empty() && !foreign && relay::relay(fence, value, &own, source).is_ok() {
        import.relayed.store(true, Ordering::Release);
    }
    Ok(())
}
