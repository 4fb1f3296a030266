// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fences of submissions on a bounded queue: they are there from the start.

use std::os::fd::AsFd;
use std::path::Path;

use libvaccel::compute::{Buffer, Session};
use libvaccel::{Deadline, EventFd, Submission, SyncObj};

use crate::job;
use crate::libdrm::{sync_file_status, WAIT_AVAILABLE};
use crate::scenario::{ensure, readable, same, soon, Result, Rig, Scenario};

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "out-fence-timeline",
        proves: "points of submissions are there at once, and signal when the work is done",
        run: timeline,
    },
    Scenario {
        name: "out-fence-binary",
        proves: "the sync_file of a submission's fence polls readable when the work is done",
        run: binary,
    },
    Scenario {
        name: "out-fence-eventfd",
        proves: "drmSyncobjEventfd of a submission's point signals when the work is done",
        run: event,
    },
    Scenario {
        name: "out-fence-import",
        proves:
            "a submission's fence raises the monitored fence of another file, as a syncobj and \
                 as a sync_file",
        run: import,
    },
];

/// Queues a job with an out-fence; returns its command buffer.
fn submit(
    session: &Session,
    target: &Buffer,
    word: u32,
    syncobj: &SyncObj,
    point: u64,
) -> Result<Buffer> {
    let code = job::job(session, target, word)?;
    let submission = job::with(Submission::new(), &code).out_syncobj(syncobj, point);
    session.queue().submit(&submission)?;
    Ok(code)
}

fn timeline(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let session = rig.session()?;
    let target = job::target(&session)?;
    let (syncobj, tie) = rig.syncobj(0)?;
    let mut jobs = Vec::new();
    for point in 1..=3 {
        jobs.push(submit(&session, &target, 7, &tie, point)?);
        syncobj.timeline_wait(point, Deadline::NOW, WAIT_AVAILABLE)?;
        same("last submitted", syncobj.query_submitted()?, point)?;
    }
    for point in 1..=3 {
        syncobj.timeline_wait(point, soon(), 0)?;
        let reached = syncobj.query()?;
        ensure(reached >= point, format!("{reached}, expected {point}"))?;
    }
    job::check(&target, 7)
}

fn binary(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let session = rig.session()?;
    let target = job::target(&session)?;
    let (syncobj, tie) = rig.syncobj(0)?;
    for word in 1..=3 {
        let job = submit(&session, &target, word, &tie, 0)?;
        let file = syncobj.export_sync_file()?;
        ensure(readable(file.as_fd(), soon())?, "the sync_file is silent")?;
        job::check(&target, word)?;
        same("sync_file", sync_file_status(file.as_fd())?, 1)?;
        syncobj.wait(Deadline::NOW, 0)?;
        job.close()?;
    }
    Ok(())
}

fn event(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let session = rig.session()?;
    let target = job::target(&session)?;
    let (syncobj, tie) = rig.syncobj(0)?;
    let (available, signalled) = (EventFd::new()?, EventFd::new()?);
    let _job = submit(&session, &target, 5, &tie, 1)?;
    syncobj.eventfd(1, available.as_fd(), WAIT_AVAILABLE)?;
    syncobj.eventfd(1, signalled.as_fd(), 0)?;
    same("events of a fence", available.wait(soon())?, 1)?;
    same("events of its signal", signalled.wait(soon())?, 1)?;
    job::check(&target, 5)
}

fn import(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let other = Rig::new(node)?;
    let session = rig.session()?;
    let target = job::target(&session)?;
    let (syncobj, tie) = rig.syncobj(0)?;
    let far = other.device.open_syncobj(syncobj.to_fd()?.as_fd())?;
    let _first = submit(&session, &target, 1, &tie, 0)?;
    other.fence.import_from(&far, 0, 1, None)?;
    other.fence.wait(1, soon())?;
    job::check(&target, 1)?;
    let _second = submit(&session, &target, 2, &tie, 0)?;
    let file = syncobj.export_sync_file()?;
    other.fence.import_sync_file(file.as_fd(), 2)?;
    other.fence.wait(2, soon())?;
    job::check(&target, 2)?;
    same("recorded error", other.fence.query()?.error, None)
}
