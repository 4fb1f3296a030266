// SPDX-License-Identifier: GPL-2.0-only

//! Submission: a list of operations, copied, checked as a whole, then queued in order.

use kernel::prelude::*;
use kernel::sync::Arc;

use crate::bindings::uapi;
use crate::bo::ArgRef;
use crate::client::Client;
use crate::driver::{
    DrmDevice,
    DrmFile, //
};
use crate::fence::Fence;
use crate::gpupv::{
    self,
    GpuWaitTail,
    List,
    Request,
    SignalFlags,
    SignalTail,
    SubmitTail, //
};
use crate::host_error::HostResult;
use crate::logic::ops::{
    self,
    Op,
    OpError,
    OpList, //
};
use crate::queue::{
    Mode,
    Queue, //
};

/// One operation with everything it needs.
enum Prepared {
    Exec {
        gpu_va: u64,
        size: u32,
        private: KVVec<u8>,
    },
    Wait {
        fence: Arc<Fence>,
        value: u64,
    },
    Signal {
        fence: Arc<Fence>,
        value: u64,
    },
}

/// What became of an operation, as user space sees it: `struct drm_vaccel_op_result`.
#[derive(Clone, Copy)]
struct OpResult {
    error: i32,
    host_status: u32,
}

impl OpResult {
    const NOT_TRIED: Self = Self {
        error: 1,
        host_status: 0,
    };

    fn of(result: &HostResult) -> Self {
        match result {
            Ok(()) => Self {
                error: 0,
                host_status: 0,
            },
            Err(error) => Self {
                error: error.errno.to_errno(),
                host_status: error.status.bits(),
            },
        }
    }

    fn to_bytes(self) -> [u8; size_of::<uapi::drm_vaccel_op_result>()] {
        let [a, b, c, d] = self.error.to_le_bytes();
        let [e, f, g, h] = self.host_status.to_le_bytes();
        [a, b, c, d, e, f, g, h, 0, 0, 0, 0, 0, 0, 0, 0]
    }
}

const _: () = assert!(size_of::<uapi::drm_vaccel_op_exec>() == ops::RECORD);
const _: () = assert!(size_of::<uapi::drm_vaccel_op_fence>() == ops::RECORD);

/// `DRM_IOCTL_VACCEL_SUBMIT`.
pub(crate) fn submit(
    _dev: &DrmDevice,
    args: &mut uapi::drm_vaccel_submit,
    file: &DrmFile,
) -> HostResult {
    check(args)?;
    let client = file.inner();
    let queue = client.queue(args.queue)?;
    let mut results = results(args, file)?;
    let list = prepare(args, file, &client, &queue)?;

    let mut turn = queue.begin()?;
    let expects = args.flags & uapi::VACCEL_SUBMIT_EXPECT_SEQ != 0;
    if expects && args.seq != turn.next_seq() {
        return Err(ESTALE.into());
    }
    queue.vm.device.check()?;
    if args.flags & uapi::VACCEL_SUBMIT_NO_PAGING_WAIT == 0 {
        wait_for_paging(&queue)?;
    }
    let (done, outcome) = run(&queue, &list);
    if let Some(results) = &mut results {
        results.report(done, &outcome)?;
    }
    outcome?;
    turn.accept();
    args.seq = turn.next_seq().wrapping_sub(1);
    Ok(())
}

/// Checks everything that needs no look-up.
fn check(args: &uapi::drm_vaccel_submit) -> Result {
    let known = uapi::VACCEL_SUBMIT_RESULTS
        | uapi::VACCEL_SUBMIT_DONE_FENCE
        | uapi::VACCEL_SUBMIT_OUT_SYNCOBJ
        | uapi::VACCEL_SUBMIT_EXPECT_SEQ
        | uapi::VACCEL_SUBMIT_NO_PAGING_WAIT;
    let has = |flag| args.flags & flag != 0;
    if args.flags & !known != 0 {
        return Err(EINVAL);
    }
    if has(uapi::VACCEL_SUBMIT_OUT_SYNCOBJ) {
        return Err(EOPNOTSUPP);
    }
    let done = has(uapi::VACCEL_SUBMIT_DONE_FENCE);
    if (!done && (args.done_fence != 0 || args.done_value != 0))
        || (!has(uapi::VACCEL_SUBMIT_RESULTS) && args.result_offset != 0)
        || (!has(uapi::VACCEL_SUBMIT_EXPECT_SEQ) && args.seq != 0)
        || args.out_syncobj != 0
        || args.out_point != 0
        || args.nr_ops == 0
    {
        return Err(EINVAL);
    }
    if args.nr_ops > uapi::VACCEL_OPS_MAX {
        return Err(EFBIG);
    }
    // CAST: 32 to 64 bits.
    let stride = args.op_stride as usize;
    if !(ops::STRIDE_MIN..=ops::STRIDE_MAX).contains(&stride) || stride % 8 != 0 {
        return Err(EINVAL);
    }
    Ok(())
}

/// Where the results go. The memory for them is taken before anything is queued.
struct Results {
    place: ArgRef,
    bytes: KVVec<u8>,
}

/// The place for the results, if they are wanted.
fn results(args: &uapi::drm_vaccel_submit, file: &DrmFile) -> Result<Option<Results>> {
    if args.flags & uapi::VACCEL_SUBMIT_RESULTS == 0 {
        return Ok(None);
    }
    let count = args.nr_ops as usize;
    let size = count * size_of::<uapi::drm_vaccel_op_result>();
    let place = ArgRef::new(file, args.arg_bo, args.result_offset, size)?;
    let bytes = KVVec::with_capacity(size, GFP_KERNEL)?;
    Ok(Some(Results { place, bytes }))
}

impl Results {
    /// Writes the results: `done` operations taken, then `outcome`, the rest not tried.
    fn report(&mut self, done: usize, outcome: &HostResult) -> Result {
        let count = self.bytes.capacity() / size_of::<uapi::drm_vaccel_op_result>();
        for at in 0..count {
            let result = match at {
                at if at < done => OpResult::of(&Ok(())),
                at if at == done => OpResult::of(outcome),
                _ => OpResult::NOT_TRIED,
            };
            self.bytes
                .extend_from_slice(&result.to_bytes(), GFP_KERNEL)?;
        }
        self.place.write(&self.bytes)
    }
}

/// Copies the list and checks all of it.
fn prepare(
    args: &uapi::drm_vaccel_submit,
    file: &DrmFile,
    client: &Client,
    queue: &Queue,
) -> Result<KVVec<Prepared>> {
    let stride = args.op_stride as usize;
    let count = args.nr_ops as usize;
    // OVERFLOW: both were checked against small limits.
    let records = ArgRef::new(file, args.arg_bo, args.arg_offset, stride * count)?.read()?;
    let list = OpList::new(&records, stride, count).map_err(op_error)?;
    let mut prepared = KVVec::with_capacity(count + 1, GFP_KERNEL)?;
    let mut private_room = uapi::VACCEL_ARG_SIZE_MAX;
    for op in list.iter() {
        let op = match op.map_err(op_error)? {
            Op::Exec {
                gpu_va,
                size,
                priv_offset,
                priv_size,
            } => {
                let fits = priv_size <= uapi::VACCEL_PRIV_SIZE_MAX;
                private_room = private_room
                    .checked_sub(priv_size)
                    .filter(|_| fits)
                    .ok_or(EFBIG)?;
                let private = match priv_size {
                    0 => KVVec::new(),
                    size => ArgRef::new(file, args.arg_bo, priv_offset, size as usize)?.read()?,
                };
                Prepared::Exec {
                    gpu_va,
                    size,
                    private,
                }
            }
            Op::FenceWait { fence, value } => {
                let fence = fence_of(client, queue, fence, false)?;
                if !may_wait(queue, &prepared, &fence, value) {
                    return Err(EDEADLK);
                }
                Prepared::Wait { fence, value }
            }
            Op::FenceSignal { fence, value } => Prepared::Signal {
                fence: fence_of(client, queue, fence, true)?,
                value,
            },
        };
        prepared.push(op, GFP_KERNEL)?;
    }
    if args.flags & uapi::VACCEL_SUBMIT_DONE_FENCE != 0 {
        let fence = fence_of(client, queue, args.done_fence, true)?;
        let value = args.done_value;
        prepared.push(Prepared::Signal { fence, value }, GFP_KERNEL)?;
    }
    Ok(prepared)
}

fn op_error(error: OpError) -> Error {
    match error {
        OpError::Invalid => EINVAL,
        OpError::TooNew => E2BIG,
        OpError::Unsupported => EOPNOTSUPP,
    }
}

/// Finds a fence that the queue may use.
fn fence_of(client: &Client, queue: &Queue, handle: u32, signal: bool) -> Result<Arc<Fence>> {
    let entry = client.fence(handle)?;
    if !Arc::ptr_eq(&entry.fence.device, &queue.vm.device) || (signal && entry.of_vm) {
        return Err(EINVAL);
    }
    Ok(entry.fence)
}

/// Whether a queue of this mode may wait for `value`: the graph of waits that the kernel builds for
/// bounded queues must not depend on user space.
fn may_wait(queue: &Queue, before: &[Prepared], fence: &Arc<Fence>, value: u64) -> bool {
    let in_list = before.iter().any(|op| match op {
        Prepared::Signal {
            fence: other,
            value: signalled,
        } => Arc::ptr_eq(fence, other) && *signalled >= value,
        _ => false,
    });
    queue.mode == Mode::LongRunning || in_list || fence.is_bounded(value)
}

/// Has the queue wait for the bindings that were made before.
fn wait_for_paging(queue: &Queue) -> HostResult {
    let value = queue.vm.paging_value();
    let fence = &queue.vm.paging_fence;
    if fence.has_reached(value) {
        return Ok(());
    }
    wait(queue, fence, value)
}

/// Queues the operations; says how many were taken, and what became of the next one.
fn run(queue: &Queue, list: &[Prepared]) -> (usize, HostResult) {
    for (at, op) in list.iter().enumerate() {
        let result = match op {
            Prepared::Exec {
                gpu_va,
                size,
                private,
            } => exec(queue, *gpu_va, *size, private),
            Prepared::Wait { fence, value } => wait(queue, fence, *value),
            Prepared::Signal { fence, value } => signal(queue, fence, *value),
        };
        if result.is_err() {
            return (at, result);
        }
    }
    (list.len(), Ok(()))
}

fn exec(queue: &Queue, gpu_va: u64, size: u32, private: &[u8]) -> HostResult {
    let body = KBox::new(
        gpupv::SubmitCommand::new(queue.handle(), gpu_va, size),
        GFP_KERNEL,
    )?;
    let request = Request::new(
        *body,
        SubmitTail {
            history_buffers: List::EMPTY,
            private_data: private,
        },
    )?;
    queue.vm.device.process.queue(&request)
}

fn wait(queue: &Queue, fence: &Fence, value: u64) -> HostResult {
    let (values, objects) = ([value], [fence.handle()]);
    let request = Request::new(
        gpupv::WaitForSyncObjectFromGpu::new(queue.handle()),
        GpuWaitTail {
            fence_values: List::new(&values),
            objects: List::new(&objects),
        },
    )?;
    queue.vm.device.process.queue(&request)
}

fn signal(queue: &Queue, fence: &Fence, value: u64) -> HostResult {
    let (objects, contexts, values) = ([fence.handle()], [queue.handle()], [value]);
    let request = Request::new(
        gpupv::SignalSyncObject {
            flags: SignalFlags::EMPTY,
            ..Default::default()
        },
        SignalTail {
            objects: List::new(&objects),
            contexts: List::new(&contexts),
            fence_values: List::new(&values),
        },
    )?;
    queue.vm.device.process.queue(&request)?;
    if queue.mode == Mode::Bounded {
        fence.promise(value);
    }
    Ok(())
}
