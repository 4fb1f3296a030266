// SPDX-License-Identifier: MIT OR Apache-2.0
//! What must not ask the host, by the host's own count of messages.

use std::os::fd::AsFd;
use std::path::Path;

use libvaccel::compute::{Buffer, Session};
use libvaccel::{
    Deadline, Device, EventFd, Features, FenceFlags, HostCaps, QueueMode, Submission, SyncObj,
    SyncObjWait,
};
use vaccel_isa::CommandStream;

use super::Case;
use crate::host::{Host, Messages};
use crate::rig::{ensure, eventually, failed, open_with, soon, Problem, Result};

pub const CASES: &[Case] = &[
    Case {
        name: "round-trips-reached",
        proves:
            "a value that is reached is waited for, exported to a syncobj and a sync_file, and \
                 told by an eventfd without a message to the host",
        run: reached,
    },
    Case {
        name: "round-trips-submit",
        proves:
            "with asynchronous messages the host answers none of those that a submission takes, \
                 on both kinds of queue, with a fence for a syncobj or without",
        run: submissions,
    },
];

/// How often each is done.
const TIMES: u64 = 100;

/// How many messages came and were answered since `before`.
fn since(host: &mut Host, before: Messages) -> Result<Messages> {
    let now = host.messages()?;
    Ok(Messages {
        taken: now.taken - before.taken,
        answered: now.answered - before.answered,
    })
}

/// Does something many times and expects the host to hear nothing of it.
fn silent(host: &mut Host, what: &str, mut once: impl FnMut(u64) -> Result) -> Result {
    let before = host.quiet_messages()?;
    for number in 1..=TIMES {
        once(number)?;
    }
    let Messages { taken, answered } = since(host, before)?;
    ensure(
        taken == 0,
        format!("{what}, {TIMES} times: {taken} messages, {answered} of them answered"),
    )
}

fn reached(node: &Path) -> Result {
    let mut host = Host::open(node)?;
    let device = open_with(node, Features::SYNC_BRIDGE)?;
    let session = Session::new(&device)?;
    let fence = session.vm().create_fence(FenceFlags::empty(), 0)?;
    fence.signal(TIMES)?;
    let (timeline, binary) = (device.create_syncobj(false)?, device.create_syncobj(false)?);
    silent(&mut host, "wait", |value| {
        let seen = fence.wait(value, soon())?.value;
        ensure(seen == TIMES, format!("a wait saw {seen}"))
    })?;
    silent(&mut host, "wait with a past deadline", |value| {
        fence.wait(value, Deadline::NOW)?;
        Ok(())
    })?;
    silent(&mut host, "export to a timeline", |point| {
        fence.export_to(&timeline, point, point)?;
        Ok(timeline.wait(point, Deadline::NOW, SyncObjWait::empty())?)
    })?;
    silent(&mut host, "export to a binary syncobj", |value| {
        fence.export_to(&binary, 0, value)?;
        Ok(binary.wait(0, Deadline::NOW, SyncObjWait::empty())?)
    })?;
    silent(&mut host, "sync_file", |value| {
        fence.sync_file(value)?;
        Ok(())
    })?;
    silent(&mut host, "eventfd", |value| {
        let event = EventFd::new()?;
        fence.eventfd(value, event.as_fd())?;
        ensure(event.take()? == 1, "the eventfd is silent")
    })
}

/// An empty command buffer, resident.
fn empty(session: &Session) -> Result<Buffer> {
    let Ok(bytes) = CommandStream::new().finish() else {
        return failed("the job cannot be encoded");
    };
    let code = session.code_buffer(bytes.len() as u64)?;
    code.mapping().write(0, &bytes)?;
    Ok(code)
}

fn submissions(node: &Path) -> Result {
    let mut host = Host::open(node)?;
    let device = open_with(node, Features::SYNC_BRIDGE)?;
    let caps = device.info()?.host_caps.unwrap_or_default();
    if !caps.contains(HostCaps::ASYNC) {
        return Err(Problem::Skipped(
            "the host has no asynchronous messages".into(),
        ));
    }
    submit(&mut host, &device, QueueMode::Bounded, None)?;
    submit(&mut host, &device, QueueMode::LongRunning, None)?;
    let syncobj = device.create_syncobj(false)?;
    submit(&mut host, &device, QueueMode::Bounded, Some(&syncobj))
}

fn submit(host: &mut Host, device: &Device, mode: QueueMode, out: Option<&SyncObj>) -> Result {
    let session = Session::with_mode(device, mode)?;
    let code = empty(&session)?;
    let fence = session.vm().create_fence(FenceFlags::empty(), 0)?;
    let once = |value| -> Result {
        let work = Submission::new()
            .exec(code.gpu_va(), code.len() as u32)
            .signal(&fence, value);
        let work = match out {
            Some(syncobj) => work.out_syncobj(syncobj, value),
            None => work,
        };
        session.queue().submit(&work)?;
        Ok(())
    };
    // The first makes what the queue keeps.
    once(1)?;
    fence.wait(1, soon())?;
    let before = host.quiet_messages()?;
    for value in 2..=TIMES + 1 {
        once(value)?;
    }
    // The mapped value, which takes no message either.
    eventually("the work is not done", || Ok(fence.value()? == TIMES + 1))?;
    let Messages { taken, answered } = since(host, before)?;
    let what = format!("{TIMES} submissions to a {mode:?} queue");
    ensure(
        taken >= 2 * TIMES,
        format!("{what}: {taken} messages are too few to be true"),
    )?;
    ensure(
        answered == 0,
        format!("{what}: {answered} of {taken} messages were answered"),
    )?;
    match out {
        Some(syncobj) => Ok(syncobj.wait(TIMES + 1, soon(), SyncObjWait::empty())?),
        None => Ok(()),
    }
}
