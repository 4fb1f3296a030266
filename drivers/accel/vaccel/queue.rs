// SPDX-License-Identifier: GPL-2.0-only

//! Queues: contexts of the host, each running its operations in order.
//!
//! # Locks
//!
//! A submission holds the [`Turn`] of its queue while it sends, so that the operations of two
//! submissions do not mix. That is a wait for the host, hence not a mutex: it can be interrupted.

use kernel::prelude::*;
use kernel::sync::{
    new_condvar,
    new_mutex,
    Arc,
    CondVar,
    Mutex, //
};

use crate::bindings::uapi;
use crate::bo::ArgRef;
use crate::capability;
use crate::client::Object;
use crate::driver::{
    DrmDevice,
    DrmFile, //
};
use crate::gpupv::{
    self,
    CreateContextFlags,
    Handle,
    Request, //
};
use crate::host_error::HostResult;
use crate::process::Process;
use crate::reaper::Owned;
use crate::release::What;
use crate::vm::Vm;

/// Priorities the host knows.
const PRIORITY: core::ops::RangeInclusive<i32> = -7..=7;

/// What a queue may wait for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Only what is sure to come.
    Bounded,
    /// Anything.
    LongRunning,
}

struct TurnState {
    taken: bool,
    /// Number of the last accepted submission.
    seq: u64,
}

/// Whose turn it is to submit.
#[pin_data]
struct Turn {
    #[pin]
    state: Mutex<TurnState>,
    #[pin]
    free: CondVar,
}

/// A queue.
#[pin_data]
pub(crate) struct Queue {
    #[pin]
    turn: Turn,
    owned: Owned,
    pub(crate) mode: Mode,
    pub(crate) vm: Arc<Vm>,
}

/// The right to submit to a queue.
pub(crate) struct Submitting<'a> {
    queue: &'a Queue,
    seq: u64,
}

impl Queue {
    /// The host's handle.
    pub(crate) fn handle(&self) -> Handle {
        self.owned.handle()
    }

    /// Waits for the turn to submit.
    ///
    /// # Errors
    ///
    /// `ERESTARTSYS` on a signal.
    pub(crate) fn begin(&self) -> Result<Submitting<'_>> {
        let mut state = self.turn.state.lock();
        while state.taken {
            if self.turn.free.wait_interruptible(&mut state) {
                // The wake-up may have been meant for the next one.
                if !state.taken {
                    self.turn.free.notify_one();
                }
                return Err(ERESTARTSYS);
            }
        }
        state.taken = true;
        Ok(Submitting {
            queue: self,
            seq: state.seq,
        })
    }

    /// Number of the last accepted submission.
    fn submitted(&self) -> u64 {
        self.turn.state.lock().seq
    }
}

impl Submitting<'_> {
    /// The number this submission will have.
    pub(crate) fn next_seq(&self) -> u64 {
        self.seq.wrapping_add(1)
    }

    /// Counts the submission as accepted.
    pub(crate) fn accept(&mut self) {
        self.seq = self.next_seq();
    }
}

impl Drop for Submitting<'_> {
    fn drop(&mut self) {
        let mut state = self.queue.turn.state.lock();
        state.taken = false;
        state.seq = self.seq;
        drop(state);
        self.queue.turn.free.notify_one();
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
    if args.flags != 0 || !PRIORITY.contains(&args.priority) || args.reserved != [0; 2] {
        return Err(EINVAL.into());
    }
    if args.priority > 0 && !capability::sys_nice() {
        return Err(EACCES.into());
    }
    let private = private_data(args, file)?;
    let client = file.inner();
    let vm = client.vm(args.vm)?;
    vm.device.check()?;
    let (owned, answer) = create_context(&vm, args, mode, private.as_deref())?;
    set_priority(&vm.device.process, owned.handle(), args.priority)?;
    if let Some(private) = &private {
        private.write_back(&answer)?;
    }
    let queue = Arc::pin_init(
        pin_init!(Queue {
            turn <- pin_init!(Turn {
                state <- new_mutex!(TurnState { taken: false, seq: 0 }),
                free <- new_condvar!(),
            }),
            owned,
            mode,
            vm,
        }),
        GFP_KERNEL,
    )?;
    args.queue = client.insert(Object::Queue(queue))?;
    Ok(())
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
    Ok(())
}
