// SPDX-License-Identifier: GPL-2.0-only

//! Queues: contexts of the host, each running its operations in order.
//!
//! # Locks
//!
//! A submission holds the [`Turn`] of its queue while it sends, so that the operations of two
//! submissions do not mix. `Queue::fifo` and `Progress::replaced` are held for list operations only.

use core::sync::atomic::{
    AtomicU64,
    Ordering, //
};

use kernel::prelude::*;
use kernel::sync::{
    new_mutex,
    Arc,
    Mutex,
    SetOnce, //
};
use kernel::workqueue::{
    impl_has_work,
    new_work,
    Work, //
};

use crate::backed::Backed;
use crate::bindings::uapi;
use crate::bo::ArgRef;
use crate::capability;
use crate::client::Object;
use crate::driver::{
    DrmDevice,
    DrmFile, //
};
use crate::fence::Fence;
use crate::gpupv::{
    self,
    CreateContextFlags,
    Handle,
    Request, //
};
use crate::host_error::HostResult;
use crate::inputs::Inputs;
use crate::out_fence::{
    self,
    OutFences, //
};
use crate::outbox::Outbox;
use crate::process::Process;
use crate::progress::Progress;
use crate::reaper::Owned;
use crate::release::What;
use crate::task::{
    self,
    TASK_NAME, //
};
use crate::turn::{
    Taken,
    Turn, //
};
use crate::uring_submit::Fifo;
use crate::vm::Vm;
use crate::watchdog;

/// Priorities the host knows.
const PRIORITY: core::ops::RangeInclusive<i32> = -7..=7;

/// Changes of bindings of a queue that wait to happen and replace something.
const REPLACED_MAX: usize = 1 << 16;

/// Shortest timeout of a bounded queue.
const TIMEOUT_MIN_MS: u32 = 10;

/// What a queue may wait for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Only what is sure to come.
    Bounded,
    /// Anything.
    LongRunning,
}

/// A queue.
#[pin_data(PinnedDrop)]
pub(crate) struct Queue {
    #[pin]
    turn: Turn,
    /// Number of the last accepted submission; changed by who has the turn.
    seq: AtomicU64,
    /// Its dma_fences, once there are any.
    out: SetOnce<Arc<OutFences>>,
    /// What it waits for.
    pub(crate) inputs: Arc<Inputs>,
    /// What came by io_uring and has yet to be queued, or sent.
    #[pin]
    pub(crate) fifo: Mutex<Fifo>,
    #[pin]
    drain: Work<Self>,
    /// How long the work of a dma_fence may make no progress.
    timeout_ms: u32,
    /// The thread group that made it, and the name of the task.
    maker: i32,
    maker_name: [u8; TASK_NAME],
    /// Holds the host's queue itself.
    pub(crate) progress: Arc<Progress>,
    pub(crate) mode: Mode,
    pub(crate) vm: Arc<Vm>,
}

impl_has_work! {
    impl HasWork<Self> for Queue { self.drain }
}

/// What a queued change of bindings replaces, until it has happened.
struct Replaced {
    /// The progress at which it has.
    value: u64,
    gone: KVVec<Arc<Backed>>,
}

/// What is replaced, oldest first: a queue's progress only grows.
pub(crate) struct ReplacedList {
    all: KVVec<Replaced>,
    /// How many at the front have been taken out.
    taken: usize,
}

impl ReplacedList {
    /// Nothing.
    pub(crate) const fn new() -> Self {
        Self {
            all: KVVec::new(),
            taken: 0,
        }
    }

    /// Takes the oldest out, if the queue is past it.
    fn take_oldest(&mut self, progress: &Progress) -> Option<KVVec<Arc<Backed>>> {
        let oldest = self.all.get_mut(self.taken)?;
        if !progress.has_reached(oldest.value) {
            return None;
        }
        self.taken += 1;
        Some(core::mem::take(&mut oldest.gone))
    }

    /// Takes room for one more. The places of what was taken out are used again once they are half
    /// of the list, so that each is moved once on average.
    fn reserve(&mut self) -> Result {
        let left = self.all.len() - self.taken;
        if left >= REPLACED_MAX {
            return Err(EBUSY);
        }
        if self.taken >= left {
            self.all.rotate_left(self.taken);
            self.all.truncate(left);
            self.taken = 0;
        }
        Ok(self.all.reserve(1, GFP_KERNEL)?)
    }
}

#[pinned_drop]
impl PinnedDrop for Queue {
    fn drop(self: Pin<&mut Self>) {
        self.inputs.cancel();
        if let Some(out) = self.out.as_ref() {
            out.close();
        }
        self.vm.remove_queue(&self.progress);
    }
}

/// The right to submit to a queue.
pub(crate) struct Submitting<'a> {
    queue: &'a Queue,
    _turn: Taken<'a>,
}

impl Queue {
    /// The host's handle.
    pub(crate) fn handle(&self) -> Handle {
        self.progress.context()
    }

    /// Has the queue wait on the GPU. The caller has its turn.
    ///
    /// # Errors
    ///
    /// Those of [`Process::queue`].
    pub(crate) fn wait(&self, fence: &Fence, value: u64) -> HostResult {
        fence.wait_in(self.handle(), value)
    }

    /// As [`Queue::wait`], with other messages.
    ///
    /// # Errors
    ///
    /// Those of [`Outbox::queue`].
    pub(crate) fn wait_by(&self, outbox: &mut Outbox<'_>, fence: &Fence, value: u64) -> HostResult {
        fence.wait_by(outbox, self.handle(), value)
    }

    /// The dma_fences of the queue, a bounded one. The caller has its turn.
    ///
    /// # Errors
    ///
    /// Those of [`Progress::fence`], `ENOMEM`.
    pub(crate) fn out_fences(&self, drm: &DrmDevice) -> HostResult<Arc<OutFences>> {
        if let Some(out) = self.out.as_ref() {
            return Ok(out.clone());
        }
        let out = OutFences::new(out_fence::Of {
            queue: self.handle(),
            progress: self.progress.fence(&self.vm.device)?.clone(),
            gone: self.progress.gone(),
            inputs: self.inputs.clone(),
            device: self.vm.device.clone(),
            drm: drm.into(),
            timeout_ms: self.timeout_ms,
            maker: self.maker,
            maker_name: self.maker_name,
        })?;
        self.out.populate(out.clone());
        Ok(out)
    }

    /// Waits for the turn to submit.
    ///
    /// # Errors
    ///
    /// `ERESTARTSYS` on a signal; those of [`Submitting::send_rest`].
    pub(crate) fn begin(&self) -> Result<Submitting<'_>> {
        let turn = Submitting {
            queue: self,
            _turn: self.turn.take()?,
        };
        turn.send_rest()?;
        Ok(turn)
    }

    /// Takes the turn to submit, if it is nobody's. What was held back before is not sent yet.
    pub(crate) fn try_begin(&self) -> Option<Submitting<'_>> {
        Some(Submitting {
            queue: self,
            _turn: self.turn.try_take()?,
        })
    }

    /// Number of the last accepted submission.
    fn submitted(&self) -> u64 {
        self.seq.load(Ordering::Acquire)
    }

    /// Takes room for one more [`Queue::keep_replaced`], and lets go of what is not needed any more.
    ///
    /// # Errors
    ///
    /// `EBUSY` if too many changes wait to happen: the caller may wait for the queue to get on, and
    /// try again. `ENOMEM`.
    pub(crate) fn tidy(&self) -> Result {
        self.let_go();
        self.progress.replaced.lock().reserve()
    }

    /// Lets go of what was replaced and is not needed any more.
    fn let_go(&self) {
        // The lock is not held while something is dropped.
        while let Some(gone) = self.take_oldest() {
            drop(gone);
        }
    }

    fn take_oldest(&self) -> Option<KVVec<Arc<Backed>>> {
        self.progress.replaced.lock().take_oldest(&self.progress)
    }

    /// Keeps what is replaced until the queue got to `value`. Room for it was taken; the caller has
    /// the queue's turn.
    pub(crate) fn keep_replaced(&self, value: u64, gone: KVVec<Arc<Backed>>) {
        let replaced = Replaced { value, gone };
        let _ = self.progress.replaced.lock().all.push(replaced, GFP_NOWAIT);
    }
}

impl<'a> Submitting<'a> {
    /// The queue.
    pub(crate) fn queue(&self) -> &'a Queue {
        self.queue
    }

    /// The number this submission will have.
    pub(crate) fn next_seq(&self) -> u64 {
        self.queue.submitted().wrapping_add(1)
    }

    /// Counts the submission as accepted; returns its number.
    pub(crate) fn accept(&mut self) -> u64 {
        let seq = self.next_seq();
        self.queue.seq.store(seq, Ordering::Release);
        seq
    }
}

/// `DRM_IOCTL_VACCEL_QUEUE_CREATE`.
pub(crate) fn create(
    _dev: &DrmDevice,
    args: &mut uapi::drm_vaccel_queue_create,
    file: &DrmFile,
) -> HostResult {
    let mode = match args.mode {
        uapi::VACCEL_QUEUE_BOUNDED => Mode::Bounded,
        uapi::VACCEL_QUEUE_LONG_RUNNING => Mode::LongRunning,
        _ => return Err(EINVAL.into()),
    };
    let padding = (args.flags, args.pad, args.reserved);
    if padding != (0, 0, 0) || !PRIORITY.contains(&args.priority) {
        return Err(EINVAL.into());
    }
    if args.priority > 0 && !capability::sys_nice() {
        return Err(EACCES.into());
    }
    let timeout_ms = timeout(mode, args.timeout_ms)?;
    let private = private_data(args, file)?;
    let client = file.inner();
    let vm = client.vm(args.vm)?;
    vm.device.check()?;
    let (mut owned, answer) = create_context(&vm, args, mode, private.as_deref())?;
    let counted = vm.count_context()?;
    let gone = counted.gone();
    owned.count(counted);
    set_priority(&vm.device.process, owned.handle(), args.priority)?;
    if let Some(private) = &private {
        private.write_back(&answer)?;
    }
    let progress = Arc::pin_init(Progress::new(owned, gone), GFP_KERNEL)?;
    let inputs = Arc::pin_init(Inputs::new(), GFP_KERNEL)?;
    let queue = Arc::pin_init(
        pin_init!(Queue {
            turn <- Turn::new(),
            seq: AtomicU64::new(0),
            out: SetOnce::new(),
            inputs,
            fifo <- new_mutex!(Fifo::new(), "Queue::fifo"),
            drain <- new_work!("vaccel::Queue::drain"),
            timeout_ms,
            maker: kernel::current!().tgid(),
            maker_name: task::current_name(),
            progress,
            mode,
            vm,
        }),
        GFP_KERNEL,
    )?;
    queue.vm.add_queue(queue.progress.clone())?;
    args.queue = client.insert(Object::Queue(queue))?;
    Ok(())
}

/// The timeout of a queue.
fn timeout(mode: Mode, wanted_ms: u32) -> Result<u32> {
    match (mode, wanted_ms) {
        (Mode::LongRunning, 0) => Ok(0),
        (Mode::Bounded, 0) => Ok(watchdog::timeout_ms()),
        (Mode::Bounded, wanted) if (TIMEOUT_MIN_MS..=watchdog::timeout_ms()).contains(&wanted) => {
            Ok(wanted)
        }
        _ => Err(EINVAL),
    }
}

/// Opaque driver data of a queue: read once, replaced by the host's version.
struct Private {
    place: ArgRef,
    bytes: KVVec<u8>,
}

impl core::ops::Deref for Private {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Private {
    fn write_back(&self, bytes: &[u8]) -> Result {
        self.place.write(bytes)
    }
}

fn private_data(args: &uapi::drm_vaccel_queue_create, file: &DrmFile) -> Result<Option<Private>> {
    if args.priv_size == 0 {
        return if args.arg_bo == 0 && args.arg_offset == 0 {
            Ok(None)
        } else {
            Err(EINVAL)
        };
    }
    if args.priv_size > uapi::VACCEL_PRIV_SIZE_MAX {
        return Err(EFBIG);
    }
    // CAST: checked above.
    let place = ArgRef::new(file, args.arg_bo, args.arg_offset, args.priv_size as usize)?;
    let bytes = place.read()?;
    Ok(Some(Private { place, bytes }))
}

fn create_context(
    vm: &Vm,
    args: &uapi::drm_vaccel_queue_create,
    mode: Mode,
    private: Option<&[u8]>,
) -> HostResult<(Owned, KVVec<u8>)> {
    let request = Request::new(
        gpupv::CreateContextVirtual {
            device: vm.device.handle(),
            node_ordinal: args.node,
            engine_affinity: args.engine_affinity,
            flags: match mode {
                Mode::Bounded => CreateContextFlags::EMPTY,
                Mode::LongRunning => CreateContextFlags::DISABLE_GPU_TIMEOUT,
            },
            ..Default::default()
        },
        private.unwrap_or_default(),
    )?;
    let what = What::Context(Handle::NONE);
    vm.device.process.create(&request, what, |answer| {
        let mut bytes = KVVec::new();
        bytes.extend_from_slice(answer.tail, GFP_KERNEL)?;
        Ok(bytes)
    })
}

fn set_priority(process: &Process, context: Handle, priority: i32) -> HostResult {
    if priority == 0 {
        return Ok(());
    }
    let request = Request::from(gpupv::SetContextSchedulingPriority {
        context,
        priority,
        in_process: false.into(),
        _pad: [0; 7],
    });
    process.call(&request, |_| Ok(()))
}

/// `DRM_IOCTL_VACCEL_QUEUE_DESTROY`.
pub(crate) fn destroy(
    _dev: &DrmDevice,
    args: &mut uapi::drm_vaccel_destroy,
    file: &DrmFile,
) -> HostResult {
    if args.pad != 0 {
        return Err(EINVAL.into());
    }
    let object = file.inner().remove(args.handle, |object| match object {
        Object::Queue(_) => Ok(()),
        _ => Err(ENOENT),
    })?;
    drop(object);
    Ok(())
}

/// `DRM_IOCTL_VACCEL_QUEUE_QUERY`.
pub(crate) fn query(
    _dev: &DrmDevice,
    args: &mut uapi::drm_vaccel_queue_query,
    file: &DrmFile,
) -> HostResult {
    if args.reserved != [0; 2] {
        return Err(EINVAL.into());
    }
    let queue = file.inner().queue(args.queue)?;
    args.state = queue.vm.device.state()?;
    args.submitted_seq = queue.submitted();
    queue.let_go();
    Ok(())
}
