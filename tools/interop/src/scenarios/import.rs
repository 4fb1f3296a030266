// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fences of syncobjs that raise monitored fences.

use std::os::fd::AsFd;
use std::path::Path;

use libvaccel::Deadline;

use crate::libdrm::CREATE_SIGNALED;
use crate::scenario::{a_while, ends_by, fails, same, soon, Result, Rig, Scenario};

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "import-binary",
        proves: "drmSyncobjSignal raises a monitored fence, before its import and after",
        run: binary,
    },
    Scenario {
        name: "import-timeline",
        proves: "drmSyncobjTimelineSignal raises a monitored fence, before its import and after",
        run: timeline,
    },
    Scenario {
        name: "import-sync-file",
        proves: "a sync_file of drmSyncobjExportSyncFile raises a monitored fence",
        run: sync_file,
    },
    Scenario {
        name: "import-missing",
        proves: "a point without a fence is refused, and one that never gets it is an error",
        run: missing,
    },
    Scenario {
        name: "round-trip",
        proves: "what is exported to a point can be imported from it into another fence",
        run: round_trip,
    },
];

fn binary(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let (syncobj, tie) = rig.syncobj(CREATE_SIGNALED)?;
    rig.fence.import_from(&tie, 0, 1, None)?;
    rig.fence.wait(1, soon())?;
    syncobj.reset()?;
    rig.fence.import_from(&tie, 0, 2, Some(soon()))?;
    ends_by(
        "the fence",
        || rig.fence.wait(2, soon()).map(drop),
        || Ok(syncobj.signal()?),
    )?;
    same("recorded error", rig.fence.query()?.error, None)
}

fn timeline(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let (syncobj, tie) = rig.syncobj(0)?;
    syncobj.timeline_signal(3)?;
    rig.fence.import_from(&tie, 3, 1, None)?;
    rig.fence.wait(1, soon())?;
    rig.fence.import_from(&tie, 4, 2, Some(soon()))?;
    rig.fence.import_from(&tie, 5, 3, Some(soon()))?;
    ends_by(
        "the fence at the next point",
        || rig.fence.wait(2, soon()).map(drop),
        || Ok(syncobj.timeline_signal(4)?),
    )?;
    ends_by(
        "the fence at the last point",
        || rig.fence.wait(3, soon()).map(drop),
        || Ok(syncobj.timeline_signal(5)?),
    )?;
    same("value", rig.fence.query()?.value, 3)?;
    same("recorded error", rig.fence.query()?.error, None)
}

fn sync_file(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let syncobj = rig.drm().create_syncobj(CREATE_SIGNALED)?;
    let file = syncobj.export_sync_file()?;
    // The syncobj is not needed any more.
    syncobj.close()?;
    rig.fence.import_sync_file(file.as_fd(), 1)?;
    rig.fence.wait(1, soon())?;
    same("recorded error", rig.fence.query()?.error, None)
}

fn missing(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let (_syncobj, tie) = rig.syncobj(0)?;
    for point in [0, 1] {
        let refused = rig.fence.import_from(&tie, point, 1, None);
        fails("import of what is not there", refused, libc::EINVAL)?;
    }
    rig.fence.import_from(&tie, 1, 1, Some(a_while()))?;
    rig.fence.wait(1, soon())?;
    let error = rig.fence.query()?.error.map(|errno| errno.0);
    same("recorded error", error, Some(libc::ETIME))
}

fn round_trip(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let other = Rig::new(node)?;
    let (near, tie) = rig.syncobj(0)?;
    let far = other.device.open_syncobj(near.to_fd()?.as_fd())?;
    other.fence.import_from(&far, 9, 1, Some(soon()))?;
    rig.fence.export_to(&tie, 9, 1)?;
    ends_by(
        "the fence of the other file",
        || other.fence.wait(1, soon()).map(drop),
        || Ok(rig.fence.signal(1)?),
    )?;
    near.timeline_wait(9, Deadline::NOW, 0)?;
    same("recorded error", other.fence.query()?.error, None)
}
