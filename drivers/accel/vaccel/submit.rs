// SPDX-License-Identifier: GPL-2.0-only

//! Submission: a list of operations, copied, checked as a whole, then queued in order.

use kernel::prelude::*;
use kernel::sync::aref::ARef;
use kernel::sync::Arc;

use crate::allocation::{
    self,
    Allocation,
    Refusal, //
};
use crate::backed::Backed;
use crate::bind::Target;
use crate::bindings::uapi;
use crate::bo::{
    self,
    ArgRef,
    Bo, //
};
use crate::client::Client;
use crate::dma_fence::DmaFence;
use crate::driver::{
    DrmDevice,
    DrmFile, //
};
use crate::drm::gem;
use crate::fence::Fence;
use crate::gpupv::{
    self,
    Draft,
    GpuVaChange,
    GpuVaOperation,
    List,
    MakeResidentFlags,
    ReclaimResult,
    Request,
    SubmitTail, //
};
use crate::host_error::HostResult;
use crate::logic::ops::{
    self,
    Op,
    OpError,
    OpList, //
};
use crate::outbox::{
    Outbox,
    Size, //
};
use crate::plain::Plain;
use crate::queue::{
    Mode,
    Queue,
    Submitting, //
};
use crate::reservation::{
    Change,
    Reservation, //
};
use crate::residency;
use crate::submit_sync::{
    self,
    Input,
    Outputs,
    Target as OutTarget, //
};
use crate::trim;
use crate::vm::{
    self,
    Vm, //
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
    Bind {
        reservation: Arc<Reservation>,
        gpu_va: u64,
        size: u64,
        target: Target,
    },
    Unbind {
        reservation: Arc<Reservation>,
        gpu_va: u64,
        size: u64,
    },
    Resident(Arc<Allocation>),
    Reclaim(Arc<Allocation>),
    Input(Input),
    Output(OutTarget),
    Access {
        object: ARef<gem::Object<Bo>>,
        write: bool,
        wait: bool,
    },
}

/// What became of an operation, as user space sees it: `struct drm_vaccel_op_result`.
#[derive(Clone, Copy)]
struct OpResult {
    error: i32,
    host_status: u32,
    value: u64,
}

impl OpResult {
    const NOT_TRIED: Self = Self {
        error: 1,
        host_status: 0,
        value: 0,
    };

    fn of(result: &Result<u64, Refusal>) -> Self {
        match result {
            Ok(value) => Self {
                error: 0,
                host_status: 0,
                value: *value,
            },
            Err(refusal) => Self {
                error: refusal.error.errno.to_errno(),
                host_status: refusal.error.status.bits(),
                value: refusal.bytes_to_trim,
            },
        }
    }

    fn to_bytes(self) -> [u8; size_of::<uapi::drm_vaccel_op_result>()] {
        let [a, b, c, d] = self.error.to_ne_bytes();
        let [e, f, g, h] = self.host_status.to_ne_bytes();
        let [i, j, k, l, m, n, o, p] = self.value.to_ne_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }
}

const _: () = assert!(size_of::<uapi::drm_vaccel_op_exec>() == ops::RECORD);
const _: () = assert!(size_of::<uapi::drm_vaccel_op_bind>() == ops::RECORD);
const _: () = assert!(size_of::<uapi::drm_vaccel_op_residency>() == ops::RECORD);
const _: () = assert!(size_of::<uapi::drm_vaccel_op_fence>() == ops::RECORD);
const _: () = assert!(size_of::<uapi::drm_vaccel_op_syncobj>() == ops::RECORD);
const _: () = assert!(size_of::<uapi::drm_vaccel_op_bo_access>() == ops::RECORD);

/// A submission that was checked, and has everything it needs.
pub(crate) struct Job {
    flags: u32,
    /// The number it expects to have.
    expects: Option<u64>,
    work: Work,
}

enum Work {
    Plain(Plain),
    List(KBox<OperationList>),
}

/// Operations, and what becomes of them.
struct OperationList {
    ops: KVVec<Prepared>,
    results: Option<Results>,
    /// Where the fence of all of it goes.
    last: Option<OutTarget>,
}

impl Job {
    /// Copies the list and checks all of it.
    ///
    /// # Errors
    ///
    /// Those of the operation. `EAGAIN` if the caller does not pay for memory, but memory has to be
    /// paid for; otherwise the host may be waited for.
    pub(crate) fn new(
        args: &uapi::drm_vaccel_submit,
        file: &DrmFile,
        queue: &Queue,
        pays: bool,
    ) -> HostResult<Self> {
        let client = file.inner();
        if !pays && queue.vm.needs_revival() {
            return Err(EAGAIN.into());
        }
        let work = match Plain::new(args, file, &client, queue) {
            Some(plain) => Work::Plain(plain),
            None => {
                let list = OperationList::new(args, file, &client, queue, pays)?;
                Work::List(KBox::new(list, GFP_KERNEL)?)
            }
        };
        let expects = args.flags & uapi::VACCEL_SUBMIT_EXPECT_SEQ != 0;
        Ok(Self {
            flags: args.flags,
            expects: expects.then_some(args.seq),
            work,
        })
    }

    /// Whether its operations are such that queueing them never waits for a host with asynchronous
    /// messages.
    pub(crate) fn is_simple(&self) -> bool {
        match &self.work {
            Work::Plain(_) => true,
            Work::List(list) => list.is_simple(),
        }
    }

    /// What its messages take, if it is a [simple](Job::is_simple) one.
    pub(crate) fn size(&self) -> Size {
        // The wait for bindings.
        let mut size = Size::default();
        size.add(0, 0);
        match &self.work {
            Work::Plain(plain) => size += plain.size(),
            Work::List(list) => size += list.size(),
        }
        size
    }

    /// Queues the operations; returns the number of the submission. With a [simple](Job::is_simple)
    /// one messages may be left in the outbox. The caller stays inside of the gate of the vm until that
    /// is empty. Unless this `may_ask` the host is not asked whether the vm works.
    ///
    /// # Errors
    ///
    /// Those of the operation.
    pub(crate) fn run(
        self,
        turn: &mut Submitting<'_>,
        dev: &DrmDevice,
        file: &DrmFile,
        outbox: &mut Outbox<'_>,
        may_ask: bool,
    ) -> HostResult<u64> {
        let queue = turn.queue();
        if self.expects.is_some_and(|seq| seq != turn.next_seq()) {
            return Err(ESTALE.into());
        }
        if may_ask {
            queue.vm.device.check()?;
        } else if queue.vm.device.failure().is_some() {
            return Err(EIO.into());
        }
        let client = file.inner();
        queue
            .vm
            .revive(|backed| trim::retry(&client, &queue.vm, || backed.make_resident(&queue.vm)))?;
        let paged = if self.flags & uapi::VACCEL_SUBMIT_NO_PAGING_WAIT == 0 {
            // The bindings that were made before.
            queue.vm.paging_value()
        } else {
            // User space waits for what it asked for; it does not know what the driver evicted.
            queue.vm.revived_value()
        };
        wait_until_paged(queue, paged, outbox)?;
        match self.work {
            // What was queued must not be queued again: the call does not start anew.
            Work::Plain(plain) => plain
                .run(queue, outbox)
                .map_err(|error| not_again(error.into()))?,
            Work::List(list) => {
                let place = Place {
                    client: &client,
                    queue,
                    file,
                    outbox,
                };
                KBox::into_inner(list).run(place, dev)?;
            }
        }
        Ok(turn.accept())
    }
}

impl OperationList {
    /// Copies the list and checks all of it.
    fn new(
        args: &uapi::drm_vaccel_submit,
        file: &DrmFile,
        client: &Client,
        queue: &Queue,
        pays: bool,
    ) -> HostResult<Self> {
        let results = results(args, file)?;
        let ops = prepare(args, file, client, queue, pays)?;
        let last = submit_sync::out_syncobj(args, file, queue)?;
        if let Some(last) = &last {
            check_order(&ops, last)?;
        }
        Ok(Self { ops, results, last })
    }

    fn is_simple(&self) -> bool {
        let simple = |op: &Prepared| {
            matches!(
                op,
                Prepared::Exec { .. } | Prepared::Wait { .. } | Prepared::Signal { .. }
            )
        };
        self.last.is_none() && self.ops.iter().all(simple)
    }

    fn size(&self) -> Size {
        let mut size = Size::default();
        for op in &self.ops {
            match op {
                Prepared::Exec { private, .. } => size.add(private.len(), 0),
                _ => size.add(0, 1),
            }
        }
        size
    }

    /// Queues the operations.
    fn run(self, mut place: Place<'_, '_>, dev: &DrmDevice) -> HostResult {
        let mut results = self.results;
        let mut outputs = Outputs::new(place.queue, dev);
        let outcome = place
            .run(self.ops, &mut outputs, results.as_mut())
            .and_then(|()| place.finish(&mut outputs, self.last));
        if let Some(results) = &results {
            results.place.write(&results.bytes)?;
        }
        outputs.publish(outcome?.as_ref());
        Ok(())
    }
}

/// `DRM_IOCTL_VACCEL_SUBMIT`.
pub(crate) fn submit(
    dev: &DrmDevice,
    args: &mut uapi::drm_vaccel_submit,
    file: &DrmFile,
) -> HostResult {
    if args.flags & uapi::VACCEL_SUBMIT_CQE_ON_DONE != 0 {
        return Err(EINVAL.into());
    }
    check(args)?;
    args.seq = submit_and_wait(dev, args, file)?;
    Ok(())
}

/// Queues a submission that was [checked](check), waiting for its turn and for the host; returns its
/// number.
///
/// # Errors
///
/// Those of the operation.
pub(crate) fn submit_and_wait(
    dev: &DrmDevice,
    args: &uapi::drm_vaccel_submit,
    file: &DrmFile,
) -> HostResult<u64> {
    let queue = file.inner().queue(args.queue)?;
    let job = Job::new(args, file, &queue, true)?;
    let mut turn = queue.begin()?;
    let _inside = queue.vm.gate.enter()?;
    let mut outbox = turn.outbox();
    let outcome = job.run(&mut turn, dev, file, &mut outbox, true);
    // Also what was queued before something failed.
    let flushed = outbox.flush();
    turn.keep(outbox);
    let seq = outcome?;
    flushed?;
    Ok(seq)
}

/// Who submits, and where.
struct Place<'a, 'b> {
    client: &'a Client,
    queue: &'a Queue,
    file: &'a DrmFile,
    outbox: &'a mut Outbox<'b>,
}

/// Checks that points of one timeline come in rising order.
fn check_order(before: &[Prepared], target: &OutTarget) -> Result {
    let follows = |op: &Prepared| match op {
        Prepared::Output(other) => target.follows(other),
        _ => true,
    };
    if before.iter().all(follows) {
        Ok(())
    } else {
        Err(EINVAL)
    }
}

/// Checks everything that needs no look-up.
///
/// # Errors
///
/// `EINVAL`, `EFBIG`.
pub(crate) fn check(args: &uapi::drm_vaccel_submit) -> Result {
    let known = uapi::VACCEL_SUBMIT_RESULTS
        | uapi::VACCEL_SUBMIT_DONE_FENCE
        | uapi::VACCEL_SUBMIT_OUT_SYNCOBJ
        | uapi::VACCEL_SUBMIT_EXPECT_SEQ
        | uapi::VACCEL_SUBMIT_NO_PAGING_WAIT
        | uapi::VACCEL_SUBMIT_CQE_ON_DONE;
    let has = |flag| args.flags & flag != 0;
    if args.flags & !known != 0 {
        return Err(EINVAL);
    }
    let out = has(uapi::VACCEL_SUBMIT_OUT_SYNCOBJ);
    let done = has(uapi::VACCEL_SUBMIT_DONE_FENCE);
    if (!done && (args.done_fence != 0 || args.done_value != 0))
        || (!has(uapi::VACCEL_SUBMIT_RESULTS) && args.result_offset != 0)
        || (!has(uapi::VACCEL_SUBMIT_EXPECT_SEQ) && args.seq != 0)
        || (!done && has(uapi::VACCEL_SUBMIT_CQE_ON_DONE))
        || (!out && (args.out_syncobj != 0 || args.out_point != 0))
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
    let mut bytes = KVVec::with_capacity(size, GFP_KERNEL)?;
    for _ in 0..count {
        bytes.extend_from_slice(&OpResult::NOT_TRIED.to_bytes(), GFP_KERNEL)?;
    }
    Ok(Some(Results { place, bytes }))
}

impl Results {
    /// Notes the result of operation `at`.
    fn note(&mut self, at: usize, result: &Result<u64, Refusal>) {
        let bytes = OpResult::of(result).to_bytes();
        if let Some(to) = self.bytes.chunks_exact_mut(bytes.len()).nth(at) {
            to.copy_from_slice(&bytes);
        }
    }
}

/// Copies the list and checks all of it.
fn prepare(
    args: &uapi::drm_vaccel_submit,
    file: &DrmFile,
    client: &Client,
    queue: &Queue,
    pays: bool,
) -> HostResult<KVVec<Prepared>> {
    let vm = &queue.vm;
    let stride = args.op_stride as usize;
    let count = args.nr_ops as usize;
    // OVERFLOW: both were checked against small limits.
    let records = ArgRef::new(file, args.arg_bo, args.arg_offset, stride * count)?.read()?;
    let list = OpList::new(&records, stride, count).map_err(op_error)?;
    let mut prepared = KVVec::with_capacity(count + 1, GFP_KERNEL)?;
    let mut private_room = uapi::VACCEL_ARG_SIZE_MAX;
    for op in list.iter() {
        let op = match op.map_err(op_error)? {
            Op::Bind { .. } | Op::Resident { .. } if !pays => return Err(EAGAIN.into()),
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
                    return Err(EDEADLK.into());
                }
                Prepared::Wait { fence, value }
            }
            Op::FenceSignal { fence, value } => Prepared::Signal {
                fence: fence_of(client, queue, fence, true)?,
                value,
            },
            Op::SyncobjWait {
                syncobj,
                point,
                wait_for_submit,
            } => {
                let at = (syncobj, point);
                Prepared::Input(Input::of_syncobj(file, queue, at, wait_for_submit)?)
            }
            Op::SyncobjSignal { syncobj, point } => {
                let target = OutTarget::new(file, queue, syncobj, point)?;
                check_order(&prepared, &target)?;
                Prepared::Output(target)
            }
            Op::BoAccess { bo, write, wait } => {
                if queue.mode == Mode::LongRunning && !wait {
                    return Err(EINVAL.into());
                }
                let object = bo::find(file, bo)?;
                // It has memory that others may know.
                object.memory()?;
                Prepared::Access {
                    object,
                    write,
                    wait,
                }
            }
            Op::Bind {
                flags,
                bo,
                gpu_va,
                bo_offset,
                size,
            } => Prepared::Bind {
                reservation: reservation(vm, gpu_va, size)?,
                gpu_va,
                size,
                target: Target::new(file, vm, flags, bo, bo_offset, size)?,
            },
            Op::Unbind { gpu_va, size } => Prepared::Unbind {
                reservation: reservation(vm, gpu_va, size)?,
                gpu_va,
                size,
            },
            Op::Resident { bo } => Prepared::Resident(allocation(file, vm, bo)?),
            Op::Reclaim { bo } => {
                let object = bo::find(file, bo)?;
                Prepared::Reclaim(bo::used_allocation(&object, &vm.device)?)
            }
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

/// The reservation of the vm that all of a range is in.
fn reservation(vm: &Vm, gpu_va: u64, size: u64) -> Result<Arc<Reservation>> {
    vm::check_pages(gpu_va, size).map_err(bo::range_error)?;
    vm.space.reservation(vm.id, gpu_va, size)
}

/// The allocation of an object in the vm.
fn allocation(file: &DrmFile, vm: &Vm, handle: u32) -> HostResult<Arc<Allocation>> {
    let object = bo::find(file, handle)?;
    bo::allocation(&object, &vm.device)
}

fn op_error(error: OpError) -> Error {
    match error {
        OpError::Invalid => EINVAL,
        OpError::TooNew => E2BIG,
        OpError::Unsupported => EOPNOTSUPP,
    }
}

/// Finds a fence that the queue may use, and for `signal` set.
///
/// # Errors
///
/// `ENOENT`; `EINVAL` for one of another vm, or one that nobody but the driver sets; `EACCES` for one that
/// was handed over to be waited for.
pub(crate) fn fence_of(
    client: &Client,
    queue: &Queue,
    handle: u32,
    signal: bool,
) -> Result<Arc<Fence>> {
    let entry = client.fence(handle)?;
    if !Arc::ptr_eq(&entry.fence.device, &queue.vm.device) || (signal && entry.of_vm) {
        return Err(EINVAL);
    }
    if signal && entry.wait_only {
        return Err(EACCES);
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
    let mut outbox = Outbox::open(&queue.vm.device.process);
    wait_until_paged(queue, queue.vm.paging_value(), &mut outbox)
}

/// Has the queue wait for `value` of the paging fence, unless that is reached.
fn wait_until_paged(queue: &Queue, value: u64, outbox: &mut Outbox<'_>) -> HostResult {
    let fence = &queue.vm.paging_fence;
    if fence.has_reached(value) {
        return Ok(());
    }
    queue.wait_by(outbox, fence, value)
}

impl Place<'_, '_> {
    /// Queues the operations, up to the first that fails, and notes the results.
    fn run(
        &mut self,
        list: KVVec<Prepared>,
        outputs: &mut Outputs<'_>,
        mut results: Option<&mut Results>,
    ) -> HostResult {
        for (at, op) in list.into_iter().enumerate() {
            // What was queued must not be queued again: the call does not start anew.
            let result = self.one(op, outputs).map_err(not_again);
            if let Some(results) = &mut results {
                results.note(at, &result);
            }
            result?;
        }
        Ok(())
    }

    /// Marks the end of the submission, if anybody gets its fence.
    fn finish(
        &mut self,
        outputs: &mut Outputs<'_>,
        last: Option<OutTarget>,
    ) -> HostResult<Option<DmaFence>> {
        if last.is_some() || outputs.has_any() {
            self.outbox.flush()?;
        }
        outputs.finish(last)
    }

    /// Queues one operation; returns the value of its result.
    fn one(&mut self, op: Prepared, outputs: &mut Outputs<'_>) -> Result<u64, Refusal> {
        let (client, queue) = (self.client, self.queue);
        let op = match op {
            Prepared::Exec {
                gpu_va,
                size,
                private,
            } => {
                exec(queue, gpu_va, size, &private, self.outbox)?;
                return Ok(0);
            }
            Prepared::Wait { fence, value } => {
                if queue.mode == Mode::Bounded {
                    queue.inputs.note_value(&fence, value)?;
                }
                self.outbox.keep(&fence)?;
                queue.wait_by(self.outbox, &fence, value)?;
                return Ok(0);
            }
            Prepared::Signal { fence, value } => {
                signal(queue, &fence, value, self.outbox)?;
                return Ok(0);
            }
            op => op,
        };
        // What follows is told the host by itself.
        self.outbox.flush()?;
        match op {
            Prepared::Input(input) => input.queue(queue, client, self.file)?,
            Prepared::Output(target) if queue.mode == Mode::Bounded => {
                outputs.add_syncobj(target)?
            }
            Prepared::Output(target) => target.appear(queue, client)?,
            Prepared::Access {
                object,
                write,
                wait,
            } => {
                if wait {
                    let input = Input::Reservation(object.clone(), write);
                    input.queue(queue, client, self.file)?;
                }
                if queue.mode == Mode::Bounded {
                    outputs.add_access(object, write)?;
                }
            }
            op => return one(client, queue, op),
        }
        Ok(0)
    }
}

/// Turns a request to start the call anew into one to give up.
fn not_again(refusal: Refusal) -> Refusal {
    if refusal.error.errno == ERESTARTSYS {
        EINTR.into()
    } else {
        refusal
    }
}

/// Queues one operation that has nothing to do with dma_fences.
fn one(client: &Client, queue: &Queue, op: Prepared) -> Result<u64, Refusal> {
    match op {
        Prepared::Bind {
            reservation,
            gpu_va,
            size,
            target,
        } => {
            target.make_resident(client, &queue.vm)?;
            wait_for_paging(queue)?;
            let change = reservation.change_queued(gpu_va, size)?;
            let to = GpuVaChange::Map {
                base: gpu_va,
                size,
                allocation: target.allocation(),
                allocation_offset: target.offset,
                allocation_size: size,
                protection: Some((target.protection, 0)),
            };
            update(queue, change, to, Some(target.backed))?;
        }
        Prepared::Unbind {
            reservation,
            gpu_va,
            size,
        } => {
            let change = reservation.change_queued(gpu_va, size)?;
            let to = GpuVaChange::Unmap {
                base: gpu_va,
                size,
                protection: reservation.empty,
            };
            update(queue, change, to, None)?;
        }
        Prepared::Resident(allocation) => return resident(client, queue, &allocation),
        Prepared::Reclaim(allocation) => return reclaim(queue, allocation),
        Prepared::Exec { .. }
        | Prepared::Wait { .. }
        | Prepared::Signal { .. }
        | Prepared::Input(_)
        | Prepared::Output(_)
        | Prepared::Access { .. } => {}
    }
    Ok(0)
}

/// Queues a change of bindings. What it replaces, and what it brings, is kept until the queue is past
/// it.
fn update(
    queue: &Queue,
    change: Change<'_>,
    to: GpuVaChange,
    piece: Option<Option<Arc<Backed>>>,
) -> HostResult {
    queue.tidy()?;
    let device = &queue.vm.device;
    let fence = queue.progress.fence(device)?.handle();
    let value = queue.progress.next();
    let step = queue.progress.step(device, value)?;
    let operations = [GpuVaOperation::from(to)];
    let request = Request::new(
        gpupv::UpdateGpuVirtualAddress {
            fence_value: value,
            device: device.handle(),
            context: queue.handle(),
            fence_object: fence,
            ..Default::default()
        },
        List::new(&operations),
    )?;
    let told = device.process.call(&request, |_| Ok(()));
    let stays = match &told {
        Ok(()) => change.commit_queued(piece, step),
        // The host has the message, and the queue may come to it.
        Err(error) if error.errno == EINTR || error.errno == ETIMEDOUT => {
            change.leave_queued(piece, step)
        }
        Err(_) => return told,
    };
    queue.keep_replaced(value, stays);
    told
}

/// Makes an object resident on behalf of user space, and has the queue wait for it.
fn resident(client: &Client, queue: &Queue, allocation: &Arc<Allocation>) -> Result<u64, Refusal> {
    let vm = &queue.vm;
    let handles = [allocation.handle()];
    let mut hold = None;
    trim::retry(client, vm, || {
        hold = Some(allocation.hold()?);
        allocation::make_list_resident(vm, &handles, MakeResidentFlags::EMPTY)
    })?;
    if let Some(hold) = hold {
        allocation.keep_by_hand(hold);
    }
    wait_for_paging(queue)?;
    Ok(vm.paging_value())
}

/// Takes an offered object back, and has the queue wait for it.
fn reclaim(queue: &Queue, allocation: Arc<Allocation>) -> Result<u64, Refusal> {
    let results = residency::reclaim(&queue.vm, core::slice::from_ref(&allocation))?;
    if results.iter().any(|result| *result != ReclaimResult::OK) {
        return Err(ENODATA.into());
    }
    wait_for_paging(queue)?;
    Ok(queue.vm.paging_value())
}

/// Has the queue run the `size` bytes of commands at `gpu_va`. The caller has its turn.
///
/// # Errors
///
/// Those of [`Outbox::queue`].
pub(crate) fn exec(
    queue: &Queue,
    gpu_va: u64,
    size: u32,
    private: &[u8],
    outbox: &mut Outbox<'_>,
) -> HostResult {
    let tail = SubmitTail {
        history_buffers: List::EMPTY,
        private_data: private,
    };
    let submit = |body: &mut gpupv::SubmitCommand| body.set(queue.handle(), gpu_va, size);
    outbox.queue(Draft::new(tail, submit))
}

/// Has the queue set the fence. The caller has its turn.
///
/// # Errors
///
/// Those of [`Outbox::queue`], `ENOMEM`.
pub(crate) fn signal(
    queue: &Queue,
    fence: &Arc<Fence>,
    value: u64,
    outbox: &mut Outbox<'_>,
) -> HostResult {
    outbox.keep(fence)?;
    fence.signal_by(outbox, queue.handle(), value)?;
    if queue.mode == Mode::Bounded {
        fence.promise(value);
    }
    Ok(())
}
