// SPDX-License-Identifier: MIT OR Apache-2.0
//! Syncobjs that go from process to process by drmSyncobjHandleToFD.

use std::os::fd::AsFd;
use std::path::Path;

use libvaccel::Deadline;

use crate::libdrm::{sync_file_status, WAIT_FOR_SUBMIT};
use crate::process::{Second, POINT};
use crate::scenario::{fails, same, soon, Result, Rig, Scenario};

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "process-waits",
        proves: "a second process waits for a value of this one's fence by libdrm alone",
        run: waits,
    },
    Scenario {
        name: "process-signals",
        proves: "a second process raises this one's fence by libdrm alone",
        run: signals,
    },
    Scenario {
        name: "process-dies",
        proves: "waits for a point end with an error when the process that promised it is killed",
        run: dies,
    },
];

fn waits(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let (syncobj, tie) = rig.syncobj(0)?;
    let second = Second::start("wait", node, &syncobj)?;
    rig.fence.export_to(&tie, POINT, 1)?;
    // What the second process has opened needs nothing of this one's handles.
    syncobj.close()?;
    tie.close()?;
    rig.fence.signal(1)?;
    second.finish()
}

fn signals(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let (syncobj, tie) = rig.syncobj(0)?;
    rig.fence.import_from(&tie, POINT, 1, Some(soon()))?;
    Second::start("signal", node, &syncobj)?.finish()?;
    rig.fence.wait(1, soon())?;
    same("recorded error", rig.fence.query()?.error, None)
}

fn dies(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let syncobj = rig.drm().create_syncobj(0)?;
    let second = Second::start("promise", node, &syncobj)?;
    let early = syncobj.timeline_wait(POINT, Deadline::NOW, WAIT_FOR_SUBMIT);
    fails("while it lives", early, libc::ETIME)?;
    second.kill()?;
    syncobj.timeline_wait(POINT, soon(), WAIT_FOR_SUBMIT)?;
    let binary = rig.drm().create_syncobj(0)?;
    binary.transfer_from(0, &syncobj, POINT)?;
    let file = binary.export_sync_file()?;
    same(
        "sync_file",
        sync_file_status(file.as_fd())?,
        -libc::ECANCELED,
    )
}
