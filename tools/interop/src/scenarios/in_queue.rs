// SPDX-License-Identifier: MIT OR Apache-2.0
//! Syncobjs that queues wait for and signal.

use std::path::Path;

use libvaccel::compute::Session;
use libvaccel::{Deadline, QueueMode, Submission};

use crate::job;
use crate::libdrm::{CREATE_SIGNALED, WAIT_FOR_SUBMIT};
use crate::scenario::{a_while, fails, soon, Result, Rig, Scenario};

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "queue-bounded",
        proves: "a bounded queue waits for a syncobj that is signalled, and refuses an empty one",
        run: bounded,
    },
    Scenario {
        name: "queue-long-running",
        proves:
            "a long-running queue waits for a point that libdrm brings later, and brings the next",
        run: long_running,
    },
];

fn bounded(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let session = rig.session()?;
    let target = job::target(&session)?;
    let (ready, ready_tie) = rig.syncobj(CREATE_SIGNALED)?;
    let (done, done_tie) = rig.syncobj(0)?;
    let code = job::job(&session, &target, 3)?;
    let waiting = Submission::new().wait_syncobj(&ready_tie, 0);
    let submission = job::with(waiting, &code).signal_syncobj(&done_tie, 0);
    session.queue().submit(&submission)?;
    // A bounded queue promises: the fence is there.
    done.wait(soon(), 0)?;
    job::check(&target, 3)?;
    ready.reset()?;
    let refused = session.queue().submit(&submission);
    fails("an empty syncobj", refused, libc::EINVAL)?;
    let later = Submission::new().wait_syncobj_for_submit(&ready_tie, 0);
    let refused = session.queue().submit(&job::with(later, &code));
    fails("one that is filled later", refused, libc::EDEADLK)
}

fn long_running(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let session = Session::with_mode(&rig.device, QueueMode::LongRunning)?;
    let target = job::target(&session)?;
    let (syncobj, tie) = rig.syncobj(0)?;
    let code = job::job(&session, &target, 9)?;
    let waiting = Submission::new().wait_syncobj_for_submit(&tie, 1);
    session
        .queue()
        .submit(&job::with(waiting, &code).signal_syncobj(&tie, 2))?;
    let early = syncobj.timeline_wait(2, a_while(), WAIT_FOR_SUBMIT);
    fails("before the first point", early, libc::ETIME)?;
    job::check(&target, 0)?;
    syncobj.timeline_signal(1)?;
    syncobj.timeline_wait(2, soon(), WAIT_FOR_SUBMIT)?;
    job::check(&target, 9)?;
    Ok(syncobj.timeline_wait(1, Deadline::NOW, 0)?)
}
