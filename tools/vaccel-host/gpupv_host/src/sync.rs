// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sync objects: creating, destroying, signalling, waiting (protocol 4.9 and 5).
//!
//! What is said here of fences is about monitored ones; the kinds without storage are in
//! [`crate::plain_sync`]. Not supported are fences across GPUs or ahead of the pipeline's end. What a handle may do is a matter of the handle: the fence may be signalled by others.
//! Handles of one process work in all its devices and contexts on the same GPU.
//!
//! A CPU wait is always answered by an event, also when its condition held at once, and when a
//! handle it named is destroyed, be the fence still open elsewhere. A GPU wait that is queued
//! outlives the handles it named.
//!
//! As Windows documents it, a handle without GPU access has no address for command buffers, but
//! contexts wait for and signal it all the same, and a handle that can neither signal nor wait is
//! refused.

use std::sync::Arc;

use gpupv::{
    CreateSyncObject, CreateSyncObjectReply, DestroySyncObject, Handle, List, NtStatus, Request,
    SignalFlags, SignalSyncObject, SyncObjectFlags, WaitForSyncObjectFromCpu,
    WaitForSyncObjectFromGpu, WaitFromCpuFlags, MAX_SIGNAL_OBJECTS, MAX_WAIT_OBJECTS,
};

use crate::call::{Call, Verdict};
use crate::config::MAX_CPU_WAITS;
use crate::env::{Env, VgpuId};
use crate::fence::{Fence, FenceValue};
use crate::host::{CpuWait, Host};
use crate::object::{Kind, Origin, SyncObject};
use crate::plain_sync::PlainSync;
use crate::process::Process;
use crate::work::{PlainValue, Work};

/// Highest value of the mask of engines: there is one.
const ENGINES: u32 = 1;

/// Checks what a fence is created with.
fn check_creation(flags: SyncObjectFlags) -> Result<(), NtStatus> {
    let has = |flag| flags.contains(flag);
    let legacy = has(SyncObjectFlags::SHARED) && !has(SyncObjectFlags::NT_SECURITY_SHARING);
    let other = has(SyncObjectFlags::CROSS_ADAPTER) || has(SyncObjectFlags::TOP_OF_PIPELINE);
    if legacy || other {
        return Err(NtStatus::NOT_SUPPORTED);
    }
    let unshared = has(SyncObjectFlags::NT_SECURITY_SHARING) && !has(SyncObjectFlags::SHARED);
    if flags.unknown() != 0 || unshared {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    check_rights(flags)
}

/// Checks that a handle is good for something.
pub(crate) fn check_rights(flags: SyncObjectFlags) -> Result<(), NtStatus> {
    if flags.contains(SyncObjectFlags::NO_SIGNAL.union(SyncObjectFlags::NO_WAIT)) {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    Ok(())
}

/// Checks which engines are to use a fence; 0 leaves it open.
pub(crate) fn check_affinity(engines: u32) -> Result<(), NtStatus> {
    if engines > ENGINES {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    Ok(())
}

impl Host {
    /// Makes a fence in the I/O space.
    pub(crate) fn new_fence(&mut self, initial: u64) -> Result<Arc<Fence>, NtStatus> {
        let pages = self.io.as_mut().ok_or(NtStatus::UNSUCCESSFUL)?;
        pages.fence(initial).ok_or(NtStatus::NO_MEMORY)
    }

    pub(crate) fn create_sync_object(
        &mut self,
        call: &Call,
        request: &Request<'_, CreateSyncObject>,
        _env: &mut dyn Env,
    ) -> Verdict {
        let body = request.body();
        let flags = body.info.flags;
        if let Some(plain) = PlainSync::from_wire(&body.info, self.config.choices.mutex_start)? {
            return self.add_plain_sync(call, request, plain);
        }
        let Some(args) = body.info.as_monitored_fence() else {
            return Err(match body.info.kind.name() {
                Some(_) => NtStatus::NOT_SUPPORTED,
                None => NtStatus::INVALID_PARAMETER,
            });
        };
        check_creation(flags)?;
        check_affinity(args.engine_affinity)?;
        let process = self.process(call.process)?;
        process.working_device(call.vgpu, body.device)?;
        let shared = flags.contains(SyncObjectFlags::SHARED);
        if process.objects.room() == 0 || (shared && self.shared.room() == 0) {
            return Err(NtStatus::NO_MEMORY);
        }
        let fence = self.new_fence(args.initial_value)?;
        let mut sync = SyncObject::new(fence, flags, Origin::Created);
        if shared {
            sync.name = self.name_fence(call.vgpu, &sync)?;
        }
        let mut reply = CreateSyncObjectReply {
            global_sync_object: sync.name,
            fence_gpu_va: sync.gpu_va(),
            fence_storage_address: sync.fence.guest_physical(),
            ..CreateSyncObjectReply::default()
        };
        let process = self.process_mut(call.process)?;
        reply.sync_object = process.add(call.vgpu, body.device, Kind::Sync(sync))?;
        call.answer(request, &reply, ())
    }

    /// Adds an object without storage: it is the adapter's, but a device that is named has to be one.
    fn add_plain_sync(
        &mut self,
        call: &Call,
        request: &Request<'_, CreateSyncObject>,
        plain: PlainSync,
    ) -> Verdict {
        let process = self.process_mut(call.process)?;
        if let Some(device) = request.body().device.some() {
            process.working_device(call.vgpu, device)?;
        }
        let kind = Kind::Plain(Arc::new(plain));
        let reply = CreateSyncObjectReply {
            sync_object: process.add(call.vgpu, Handle::NONE, kind)?,
            ..CreateSyncObjectReply::default()
        };
        call.answer(request, &reply, ())
    }

    /// A global command: the object may be on any GPU.
    pub(crate) fn destroy_sync_object(
        &mut self,
        call: &Call,
        request: &Request<'_, DestroySyncObject>,
        _env: &mut dyn Env,
    ) -> Verdict {
        let handle = request.body().sync_object;
        let process = self.process(call.process)?;
        match process.objects.get(handle).map(|object| &object.kind) {
            Some(Kind::Sync(sync)) if sync.origin != Origin::Queue => {}
            Some(Kind::Plain(_)) => {}
            Some(Kind::Sync(_)) => return Err(NtStatus::INVALID_PARAMETER),
            _ => return Err(NtStatus::INVALID_HANDLE),
        }
        self.remove_object(call.process, handle);
        call.done(request)
    }

    pub(crate) fn signal_sync_object(
        &mut self,
        call: &Call,
        request: &Request<'_, SignalSyncObject>,
        env: &mut dyn Env,
    ) -> Verdict {
        let tail = request.tail();
        let device = request.body().device();
        let subject = tail.contexts.first().or(device).unwrap_or(Handle::NONE);
        let result = self.signal(call, request, env);
        self.report(call, subject, result, env)?;
        call.done(request)
    }

    fn signal(
        &mut self,
        call: &Call,
        request: &Request<'_, SignalSyncObject>,
        env: &mut dyn Env,
    ) -> Result<(), NtStatus> {
        let (body, tail) = (request.body(), request.tail());
        let known = SignalFlags::SIGNAL_AT_SUBMISSION
            .union(SignalFlags::ENQUEUE_CPU_EVENT)
            .union(SignalFlags::ALLOW_FENCE_REWIND);
        if body.flags.bits() & !known.bits() != 0 {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        if let Some(event) = body.cpu_event() {
            let one = tail.contexts.len() == 1 && tail.objects.is_empty();
            let context = tail.contexts.first().filter(|_| one && event != 0);
            let context = context.ok_or(NtStatus::INVALID_PARAMETER)?;
            return self.enqueue(call, context, Work::Event(event));
        }
        let process = self.process(call.process)?;
        let first = tail.objects.first().unwrap_or(Handle::NONE);
        if process.plain_sync(call.vgpu, first).is_ok() {
            return self.signal_plain(call, request, env);
        }
        let fences = pairs(
            process,
            call.vgpu,
            (tail.objects, tail.fence_values),
            MAX_SIGNAL_OBJECTS,
            SyncObject::signals,
        )?;
        let rewind = body.flags.contains(SignalFlags::ALLOW_FENCE_REWIND);
        let now = body.flags.contains(SignalFlags::SIGNAL_AT_SUBMISSION);
        let device = body.device();
        match device {
            Some(device) if tail.contexts.is_empty() => {
                process.working_device(call.vgpu, device)?;
            }
            None if !tail.contexts.is_empty() => {}
            _ => return Err(NtStatus::INVALID_PARAMETER),
        }
        for context in tail.contexts.iter() {
            self.check_room(call, context, tail.contexts.len())?;
        }
        if now || device.is_some() {
            let lower = |pair: &FenceValue| pair.value < pair.fence.value();
            if !rewind && fences.iter().any(lower) {
                return Err(NtStatus::INVALID_PARAMETER);
            }
            for pair in &fences {
                pair.fence.signal(pair.value, rewind);
            }
            return Ok(());
        }
        for context in tail.contexts.iter() {
            let fences = fences.clone();
            self.enqueue(call, context, Work::Signal { fences, rewind })?;
        }
        Ok(())
    }

    /// The legacy form: objects without storage, one value for all, by contexts.
    fn signal_plain(
        &mut self,
        call: &Call,
        request: &Request<'_, SignalSyncObject>,
        env: &mut dyn Env,
    ) -> Result<(), NtStatus> {
        let (body, tail) = (request.body(), request.tail());
        let process = self.process(call.process)?;
        let value = body.fence_value;
        let syncs = plain_values(
            process,
            call.vgpu,
            (tail.objects, value),
            MAX_SIGNAL_OBJECTS,
        )?;
        let rewinds = body.flags.contains(SignalFlags::ALLOW_FENCE_REWIND);
        if tail.contexts.is_empty() || body.device().is_some() || rewinds {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        for context in tail.contexts.iter() {
            self.check_room(call, context, tail.contexts.len())?;
        }
        if body.flags.contains(SignalFlags::SIGNAL_AT_SUBMISSION) {
            for one in &syncs {
                one.sync.signal(one.value, &mut self.out, env);
            }
            return Ok(());
        }
        for context in tail.contexts.iter() {
            self.enqueue(call, context, Work::Release(syncs.clone()))?;
        }
        Ok(())
    }

    pub(crate) fn wait_from_gpu(
        &mut self,
        call: &Call,
        request: &Request<'_, WaitForSyncObjectFromGpu>,
        env: &mut dyn Env,
    ) -> Verdict {
        let context = request.body().context;
        let result = self.queue_wait(call, request);
        self.report(call, context, result, env)?;
        call.done(request)
    }

    fn queue_wait(
        &mut self,
        call: &Call,
        request: &Request<'_, WaitForSyncObjectFromGpu>,
    ) -> Result<(), NtStatus> {
        let (body, tail) = (request.body(), request.tail());
        let process = self.process(call.process)?;
        if body.legacy_fence_object.get() {
            // Of the values only the first one counts.
            let value = tail.fence_values.first().unwrap_or(0);
            let most = MAX_WAIT_OBJECTS;
            let syncs = plain_values(process, call.vgpu, (tail.objects, value), most)?;
            if !syncs.iter().all(|one| one.sync.waits()) {
                return Err(NtStatus::INVALID_PARAMETER);
            }
            return self.enqueue(call, body.context, Work::Acquire(syncs));
        }
        let fences = pairs(
            process,
            call.vgpu,
            (tail.objects, tail.fence_values),
            MAX_WAIT_OBJECTS,
            SyncObject::waits,
        )?;
        self.enqueue(call, body.context, Work::Wait(fences))
    }

    pub(crate) fn wait_from_cpu(
        &mut self,
        call: &Call,
        request: &Request<'_, WaitForSyncObjectFromCpu>,
        _env: &mut dyn Env,
    ) -> Verdict {
        let (body, tail) = (request.body(), request.tail());
        if body.flags.unknown() != 0 || body.guest_event == 0 {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let process = self.process(call.process)?;
        process.device(call.vgpu, body.device)?;
        let fences = pairs(
            process,
            call.vgpu,
            (tail.objects, tail.fence_values),
            MAX_WAIT_OBJECTS,
            SyncObject::waits,
        )?;
        if self.cpu_waits.len() >= MAX_CPU_WAITS {
            return Err(NtStatus::NO_MEMORY);
        }
        self.cpu_waits.push(CpuWait {
            process: call.process,
            fences: tail.objects.iter().zip(fences).collect(),
            any: body.flags.contains(WaitFromCpuFlags::WAIT_ANY),
            event: body.guest_event,
        });
        call.done(request)
    }
}

/// The fences and values of a wait or signal, if every handle is `allowed` to.
fn pairs(
    process: &Process,
    vgpu: VgpuId,
    (objects, values): (List<'_, Handle>, List<'_, u64>),
    most: u32,
    allowed: impl Fn(&SyncObject) -> bool,
) -> Result<Vec<FenceValue>, NtStatus> {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    if objects.is_empty() || objects.len() > most || values.len() != objects.len() {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    let pair = |(handle, value)| {
        let sync = process.sync(vgpu, handle)?;
        if !allowed(sync) {
            return Err(NtStatus::ACCESS_DENIED);
        }
        Ok(FenceValue {
            fence: Arc::clone(&sync.fence),
            value,
        })
    };
    objects.iter().zip(values.iter()).map(pair).collect()
}

/// Objects without storage, with the one value of a wait or signal.
fn plain_values(
    process: &Process,
    vgpu: VgpuId,
    (objects, value): (List<'_, Handle>, u64),
    most: u32,
) -> Result<Vec<PlainValue>, NtStatus> {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    if objects.is_empty() || objects.len() > most {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    let named = |handle| {
        let sync = Arc::clone(process.plain_sync(vgpu, handle)?);
        Ok(PlainValue { sync, value })
    };
    objects.iter().map(named).collect()
}
