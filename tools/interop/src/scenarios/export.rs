// SPDX-License-Identifier: MIT OR Apache-2.0
//! Values of monitored fences that become fences of syncobjs when they are reached.

use std::os::fd::AsFd;
use std::path::Path;

use crate::job;
use crate::libdrm::{sync_file_status, WAIT_AVAILABLE, WAIT_FOR_SUBMIT};
use crate::scenario::{
    a_while, ends_by, ensure, fails, readable, same, soon, Result, Rig, Scenario,
};
use libvaccel::{Deadline, EventFd, Submission};

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "export-timeline",
        proves:
            "a point has no fence before the value is reached, and a signalled one from then on",
        run: timeline,
    },
    Scenario {
        name: "export-available",
        proves: "WAIT_AVAILABLE ends with the value",
        run: available,
    },
    Scenario {
        name: "export-points",
        proves: "points appear in their order, and drmSyncobjQuery follows them",
        run: points,
    },
    Scenario {
        name: "export-eventfd",
        proves: "drmSyncobjEventfd signals with the value, for the fence and for its signalling",
        run: event,
    },
    Scenario {
        name: "export-binary",
        proves: "a binary syncobj gets its fence with the value, and can be used again",
        run: binary,
    },
    Scenario {
        name: "export-transfer",
        proves:
            "drmSyncobjTransfer makes a binary one of the point, whose sync_file polls readable",
        run: transfer,
    },
    Scenario {
        name: "export-gpu",
        proves: "a value that a queue brings ends a wait for the point, and the work is done then",
        run: gpu,
    },
    Scenario {
        name: "export-sync-file",
        proves:
            "a reached value is a sync_file that drmSyncobjImportSyncFile takes, others are none",
        run: sync_file,
    },
];

fn timeline(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let (syncobj, tie) = rig.syncobj(0)?;
    rig.fence.export_to(&tie, 1, 5)?;
    let wait = |deadline, flags| syncobj.timeline_wait(1, deadline, flags);
    fails("no fence yet", wait(soon(), 0), libc::EINVAL)?;
    fails("a poll", wait(Deadline::NOW, WAIT_FOR_SUBMIT), libc::ETIME)?;
    same("last submitted", syncobj.query_submitted()?, 0)?;
    rig.fence.signal(4)?;
    let lower = wait(a_while(), WAIT_FOR_SUBMIT);
    fails("with a lower value", lower, libc::ETIME)?;
    ends_by(
        "WAIT_FOR_SUBMIT",
        || wait(soon(), WAIT_FOR_SUBMIT),
        || Ok(rig.fence.signal(5)?),
    )?;
    wait(Deadline::NOW, 0)?;
    same("last signalled", syncobj.query()?, 1)?;
    Ok(syncobj.close()?)
}

fn available(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let (syncobj, tie) = rig.syncobj(0)?;
    rig.fence.export_to(&tie, 7, 1)?;
    let wait = |deadline| syncobj.timeline_wait(7, deadline, WAIT_AVAILABLE);
    fails("before", wait(a_while()), libc::ETIME)?;
    ends_by(
        "WAIT_AVAILABLE",
        || wait(soon()),
        || Ok(rig.fence.signal(1)?),
    )?;
    // What came late is signalled from the start.
    syncobj.timeline_wait(7, Deadline::NOW, 0)?;
    // A value that is reached already is no different.
    rig.fence.export_to(&tie, 8, 1)?;
    Ok(syncobj.timeline_wait(8, soon(), WAIT_FOR_SUBMIT)?)
}

fn points(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let (syncobj, tie) = rig.syncobj(0)?;
    for (value, point) in [(1, 10), (2, 20), (3, 30), (4, 40)] {
        rig.fence.export_to(&tie, point, value)?;
    }
    rig.fence.signal(1)?;
    syncobj.timeline_wait(10, soon(), WAIT_FOR_SUBMIT)?;
    same("after the first value", syncobj.query()?, 10)?;
    rig.fence.signal(3)?;
    syncobj.timeline_wait(30, soon(), WAIT_FOR_SUBMIT)?;
    same("after the third value", syncobj.query()?, 30)?;
    syncobj.timeline_wait(20, Deadline::NOW, 0)?;
    // Between two points the later one counts.
    let between = syncobj.timeline_wait(31, a_while(), WAIT_FOR_SUBMIT);
    fails("between two points", between, libc::ETIME)?;
    rig.fence.signal(u64::MAX)?;
    syncobj.timeline_wait(31, soon(), WAIT_FOR_SUBMIT)?;
    same("at the end", syncobj.query()?, 40)
}

fn event(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let (syncobj, tie) = rig.syncobj(0)?;
    let (signalled, available) = (EventFd::new()?, EventFd::new()?);
    syncobj.eventfd(2, signalled.as_fd(), 0)?;
    rig.fence.export_to(&tie, 2, 1)?;
    syncobj.eventfd(2, available.as_fd(), WAIT_AVAILABLE)?;
    for event in [&signalled, &available] {
        fails("an early event", event.wait(a_while()), libc::ETIME)?;
    }
    rig.fence.signal(1)?;
    for event in [&signalled, &available] {
        same("events", event.wait(soon())?, 1)?;
    }
    let late = EventFd::new()?;
    syncobj.eventfd(2, late.as_fd(), 0)?;
    same(
        "events of a point that has signalled",
        late.wait(soon())?,
        1,
    )
}

fn binary(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let (syncobj, tie) = rig.syncobj(0)?;
    for value in 1..=3 {
        rig.fence.export_to(&tie, 0, value)?;
        fails("no fence yet", syncobj.wait(soon(), 0), libc::EINVAL)?;
        ends_by(
            "drmSyncobjWait",
            || syncobj.wait(soon(), WAIT_FOR_SUBMIT),
            || Ok(rig.fence.signal(value)?),
        )?;
        syncobj.wait(Deadline::NOW, 0)?;
        syncobj.reset()?;
    }
    Ok(syncobj.close()?)
}

fn transfer(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let (timeline, tie) = rig.syncobj(0)?;
    let binary = rig.drm().create_syncobj(0)?;
    rig.fence.export_to(&tie, 6, 1)?;
    let early = binary.transfer_from(0, &timeline, 6);
    fails("transfer of what is not there", early, libc::EINVAL)?;
    let early = timeline.export_sync_file();
    fails("sync_file of what is not there", early, libc::EINVAL)?;
    rig.fence.signal(1)?;
    timeline.timeline_wait(6, soon(), WAIT_FOR_SUBMIT)?;
    binary.transfer_from(0, &timeline, 6)?;
    binary.wait(Deadline::NOW, 0)?;
    let file = binary.export_sync_file()?;
    ensure(readable(file.as_fd(), soon())?, "the sync_file is silent")?;
    same("sync_file", sync_file_status(file.as_fd())?, 1)?;
    // And to a timeline of its own.
    let other = rig.drm().create_syncobj(0)?;
    other.transfer_from(60, &timeline, 6)?;
    other.timeline_wait(60, soon(), 0)?;
    same("last signalled", other.query()?, 60)
}

fn gpu(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let session = rig.session()?;
    let target = job::target(&session)?;
    let (syncobj, tie) = rig.syncobj(0)?;
    let fence = session.fence();
    fence.export_to(&tie, 1, 1)?;
    let code = job::job(&session, &target, 6)?;
    let submission = job::with(Submission::new(), &code).signal(fence, 1);
    session.queue().submit(&submission)?;
    syncobj.timeline_wait(1, soon(), WAIT_FOR_SUBMIT)?;
    job::check(&target, 6)
}

fn sync_file(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let syncobj = rig.drm().create_syncobj(0)?;
    let early = rig.fence.sync_file(1);
    fails("sync_file of a value to come", early, libc::EBUSY)?;
    rig.fence.signal(1)?;
    let file = rig.fence.sync_file(1)?;
    ensure(readable(file.as_fd(), soon())?, "the sync_file is silent")?;
    same("sync_file", sync_file_status(file.as_fd())?, 1)?;
    syncobj.import_sync_file(file.as_fd())?;
    Ok(syncobj.wait(Deadline::NOW, 0)?)
}
