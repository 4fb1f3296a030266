// SPDX-License-Identifier: MIT OR Apache-2.0
//! Values of monitored fences as points of syncobjs and as sync_files.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use libc::{EBUSY, ECANCELED, EINVAL, EIO, ENOENT};
use libvaccel::{
    ioctl, sys, Device, EventFd, Features, QueueMode, Submission, SyncObjWait, VmFlags,
};

use super::{Case, HelperEntry};
use crate::expect::{refused, refuses_the_unknown};
use crate::foreign::sync_file::{Status, SyncFile};
use crate::helper::{self, Helper};
use crate::passing;
use crate::rig::{
    check_device_works, ensure, eventually, failed, needs, soon, Problem, Result, Rig,
};
use crate::sync::{
    absent, break_vm, fails_with, fence, has_status, open, session, signals, stays_below,
};

pub const CASES: &[Case] = &[
    Case {
        name: "sync-export-timeline",
        proves: "a value that is yet to come is a point without a fence, which waits for submission \
                 only take; when it is reached the point has one that has signalled",
        run: timeline,
    },
    Case {
        name: "sync-export-waiters",
        proves: "one signal wakes those who wait for the point, for it to be available, and by eventfd \
                 for either, here and on another device file",
        run: waiters,
    },
    Case {
        name: "sync-export-binary",
        proves: "values go to a binary syncobj one after the other, whatever their order",
        run: binary,
    },
    Case {
        name: "sync-export-handed-on",
        proves: "a point that a value has made can be transferred to other syncobjs and made a \
                 sync_file, and the transfer of one that is missing waits if told to",
        run: handed_on,
    },
    Case {
        name: "sync-export-order",
        proves: "points of a timeline are refused unless they rise, and two fences that are reached in \
                 the wrong order still give their points in the right one",
        run: order,
    },
    Case {
        name: "sync-export-thousand",
        proves: "of a thousand values of one fence each signal gives exactly the points whose values it \
                 reaches",
        run: thousand,
    },
    Case {
        name: "sync-export-given-up",
        proves: "an export outlives the handle of its fence, which a queue then reaches, and that of its \
                 syncobj",
        run: given_up,
    },
    Case {
        name: "sync-export-failed",
        proves: "a vm that fails gives each point that is yet to come a fence with EIO, and that of \
                 another vm none",
        run: failing,
    },
    Case {
        name: "sync-export-closed",
        proves: "when the file is closed another one sees ECANCELED at each point that was yet to come",
        run: closed,
    },
    Case {
        name: "kill-exporter",
        proves: "when a process is killed another one sees ECANCELED at the point it was to reach, and \
                 its wait ends",
        run: killed,
    },
    Case {
        name: "sync-export-sync-file",
        proves: "a value is a sync_file once it is reached, signalled; before that EBUSY",
        run: sync_file,
    },
    Case {
        name: "sync-export-bad",
        proves: "exports of or to what is not there, and with flags or fields that do not belong, are \
                 refused and leave nothing",
        run: bad,
    },
    Case {
        name: "sync-limit",
        proves: "a file has a limit of exports that are yet to happen, EBUSY, and is as good as new once \
                 they have",
        run: limit,
    },
];

pub const HELPERS: &[HelperEntry] = &[("exporter", exporter)];

fn timeline(node: &Path) -> Result {
    let (device, vm) = open(node)?;
    let fence = fence(&vm)?;
    let syncobj = device.create_syncobj(false)?;
    fence.export_to(&syncobj, 5, 10)?;
    absent("nothing is signalled", &syncobj, 5)?;
    fails_with(
        "a wait that does not wait for submission",
        syncobj.wait(5, soon(), SyncObjWait::empty()),
        EINVAL,
    )?;
    fails_with("a sync_file", syncobj.export_sync_file(5), EINVAL)?;
    fence.signal(9)?;
    absent("at 9", &syncobj, 5)?;
    ensure(syncobj.query()? == 0, "a point that did not come counts")?;
    fence.signal(10)?;
    signals("at 10", &syncobj, 5, None)?;
    syncobj.wait(5, soon(), SyncObjWait::empty())?;
    ensure(
        (syncobj.query()?, syncobj.query_last_submitted()?) == (5, 5),
        "the timeline is not at its point",
    )?;
    // What is reached is there at once, or nearly.
    fence.export_to(&syncobj, 6, 3)?;
    signals("a value from long ago", &syncobj, 6, None)?;
    fence.export_to(&syncobj, 8, 11)?;
    absent("at 10", &syncobj, 7)?;
    fence.signal(100)?;
    // A point that nobody asked for is passed on the way.
    signals("at 100", &syncobj, 7, None)?;
    signals("at 100", &syncobj, 8, None)
}

fn waiters(node: &Path) -> Result {
    let (device, vm) = open(node)?;
    let other = Device::open(node)?;
    let fence = fence(&vm)?;
    let here = device.create_syncobj(false)?;
    let there = other.open_syncobj(here.to_fd()?.as_fd())?;
    fence.export_to(&here, 3, 1)?;
    let mut events = Vec::new();
    for syncobj in [&here, &there] {
        for flags in [SyncObjWait::empty(), SyncObjWait::AVAILABLE] {
            let event = EventFd::new()?;
            syncobj.eventfd(3, event.as_fd(), flags)?;
            events.push(event);
        }
    }
    let outcomes = std::thread::scope(|scope| {
        let mut waits = Vec::new();
        for syncobj in [&here, &there] {
            for flags in [SyncObjWait::empty(), SyncObjWait::AVAILABLE] {
                let flags = flags | SyncObjWait::FOR_SUBMIT;
                waits.push(scope.spawn(move || syncobj.wait(3, soon(), flags)));
            }
        }
        std::thread::sleep(Duration::from_millis(50));
        let early = events.iter().map(EventFd::take).collect::<Vec<_>>();
        let signalled = fence.signal(1);
        let waits: Vec<_> = waits.into_iter().map(|wait| wait.join()).collect();
        (early, signalled, waits)
    });
    let (early, signalled, waits) = outcomes;
    for count in early {
        ensure(count? == 0, "an eventfd was signalled before the value")?;
    }
    signalled?;
    for wait in waits {
        match wait {
            Ok(wait) => wait?,
            Err(_) => return failed("a thread died"),
        }
    }
    for event in &events {
        let count = event.wait(soon())?;
        ensure(count == 1, format!("an eventfd counted {count}"))?;
    }
    Ok(())
}

fn binary(node: &Path) -> Result {
    let (device, vm) = open(node)?;
    let fence = fence(&vm)?;
    let syncobj = device.create_syncobj(false)?;
    for value in 1..=5 {
        fence.export_to(&syncobj, 0, value)?;
        absent("nothing is signalled", &syncobj, 0)?;
        fence.signal(value)?;
        signals(&format!("at {value}"), &syncobj, 0, None)?;
        syncobj.reset()?;
    }
    // Later and earlier ones at the same time.
    fence.export_to(&syncobj, 0, 8)?;
    fence.export_to(&syncobj, 0, 7)?;
    fence.signal(7)?;
    signals("the earlier", &syncobj, 0, None)?;
    syncobj.reset()?;
    absent("the later", &syncobj, 0)?;
    fence.signal(8)?;
    signals("the later", &syncobj, 0, None)
}

fn handed_on(node: &Path) -> Result {
    let (device, vm) = open(node)?;
    let fence = fence(&vm)?;
    let from = device.create_syncobj(false)?;
    let (binary, timeline) = (device.create_syncobj(false)?, device.create_syncobj(false)?);
    fence.export_to(&from, 2, 1)?;
    let none = SyncObjWait::empty();
    fails_with(
        "a transfer of what is missing",
        from.transfer(2, &binary, 0, none),
        EINVAL,
    )?;
    let moved = std::thread::scope(|scope| {
        let mover = scope.spawn(|| from.transfer(2, &binary, 0, SyncObjWait::FOR_SUBMIT));
        std::thread::sleep(Duration::from_millis(20));
        fence.signal(1)?;
        mover
            .join()
            .map_err(|_| Problem::Failed("a thread died".into()))
    })?;
    moved?;
    signals("a transfer that waited", &binary, 0, None)?;
    from.transfer(2, &timeline, 9, none)?;
    signals("a transfer to a timeline", &timeline, 9, None)?;
    let file = SyncFile::from(from.export_sync_file(2)?);
    ensure(
        file.wait(soon())?,
        "its sync_file does not poll as signalled",
    )?;
    has_status("its sync_file", &file, Status::Signalled)?;
    let other = Device::open(node)?;
    let there = other.create_syncobj(false)?;
    there.import_sync_file(0, file.as_fd())?;
    signals("imported on another file", &there, 0, None)
}

fn order(node: &Path) -> Result {
    let (device, vm) = open(node)?;
    let (a, b) = (fence(&vm)?, fence(&vm)?);
    let syncobj = device.create_syncobj(false)?;
    a.export_to(&syncobj, 4, 1)?;
    for point in [4, 3, 1] {
        let what = format!("point {point} after 4");
        fails_with(&what, a.export_to(&syncobj, point, 2), EINVAL)?;
        fails_with(&what, b.export_to(&syncobj, point, 1), EINVAL)?;
    }
    b.export_to(&syncobj, 5, 1)?;
    b.signal(1)?;
    stays_below("the first fence", &a, 1)?;
    absent("the second fence alone is reached", &syncobj, 5)?;
    absent("the second fence alone is reached", &syncobj, 4)?;
    a.signal(1)?;
    signals("both are reached", &syncobj, 5, None)?;
    ensure(syncobj.query()? == 5, "the timeline is not at 5")?;
    fails_with("point 5 again", a.export_to(&syncobj, 5, 1), EINVAL)?;
    // What somebody else has put there counts too.
    let signalled = device.create_syncobj(false)?;
    signalled.signal(10)?;
    fails_with(
        "a point before one that is there",
        a.export_to(&signalled, 10, 1),
        EINVAL,
    )?;
    a.export_to(&signalled, 11, 1)?;
    signals("a point behind it", &signalled, 11, None)
}

fn thousand(node: &Path) -> Result {
    const COUNT: u64 = 1000;
    let (device, vm) = open(node)?;
    let fence = fence(&vm)?;
    let syncobj = device.create_syncobj(false)?;
    for point in 1..=COUNT {
        fence.export_to(&syncobj, point, point * 3)?;
    }
    ensure(
        syncobj.query_last_submitted()? == 0,
        "a point is there early",
    )?;
    for reached in [1, 2, 500, 501, COUNT] {
        fence.signal(reached * 3)?;
        syncobj.wait(reached, soon(), SyncObjWait::FOR_SUBMIT)?;
        if reached < COUNT {
            absent(&format!("at {reached}"), &syncobj, reached + 1)?;
        }
        let at = (syncobj.query()?, syncobj.query_last_submitted()?);
        ensure(
            at == (reached, reached),
            format!("the timeline is at {at:?}, expected {reached}"),
        )?;
    }
    Ok(())
}

fn given_up(node: &Path) -> Result {
    let (device, session) = session(node, QueueMode::LongRunning)?;
    let (gate, reached) = (fence(session.vm())?, fence(session.vm())?);
    let syncobj = device.create_syncobj(false)?;
    let other = Device::open(node)?;
    let there = other.open_syncobj(syncobj.to_fd()?.as_fd())?;
    let list = Submission::new().wait(&gate, 1).signal(&reached, 1);
    session.queue().submit(&list)?;
    reached.export_to(&syncobj, 1, 1)?;
    reached.close()?;
    syncobj.close()?;
    absent("the gate is closed", &there, 1)?;
    gate.signal(1)?;
    signals("the gate is open", &there, 1, None)
}

fn failing(node: &Path) -> Result {
    let (device, vm) = open(node)?;
    let healthy = device.create_vm(VmFlags::empty())?;
    let (lost, alive) = (fence(&vm)?, fence(&healthy)?);
    let (binary, timeline) = (device.create_syncobj(false)?, device.create_syncobj(false)?);
    let other = device.create_syncobj(false)?;
    let event = EventFd::new()?;
    lost.export_to(&timeline, 1, 1)?;
    lost.export_to(&timeline, 2, 5)?;
    lost.export_to(&binary, 0, 2)?;
    alive.export_to(&other, 1, 1)?;
    timeline.eventfd(2, event.as_fd(), SyncObjWait::empty())?;
    lost.signal(1)?;
    signals("before the failure", &timeline, 1, None)?;
    break_vm(&vm)?;
    signals("of the failed vm", &timeline, 2, Some(EIO))?;
    signals("of the failed vm", &binary, 0, Some(EIO))?;
    event.wait(soon())?;
    absent("of the other vm", &other, 1)?;
    alive.signal(1)?;
    signals("of the other vm", &other, 1, None)?;
    check_device_works(&device)
}

fn closed(node: &Path) -> Result {
    let (device, vm) = open(node)?;
    let other = Device::open(node)?;
    let fence = fence(&vm)?;
    let mut there = Vec::new();
    for point in [0, 1, 7] {
        let syncobj = device.create_syncobj(false)?;
        fence.export_to(&syncobj, point, 1)?;
        there.push((point, other.open_syncobj(syncobj.to_fd()?.as_fd())?));
    }
    for (point, syncobj) in &there {
        absent("the file is open", syncobj, *point)?;
    }
    drop((fence, vm, device));
    for (point, syncobj) in &there {
        signals("the file is closed", syncobj, *point, Some(ECANCELED))?;
    }
    check_device_works(&other)
}

fn killed(node: &Path) -> Result {
    let (device, _vm) = open(node)?;
    let (near, far) = UnixStream::pair()?;
    let name = node.display().to_string();
    let helper = Helper::start_with("exporter", &[&name], far.as_fd())?;
    ensure(
        helper.said == "exported",
        format!("the process: {}", helper.said),
    )?;
    let syncobj = device.open_syncobj(passing::receive(&near)?.as_fd())?;
    absent("the process lives", &syncobj, 1)?;
    helper.kill()?;
    signals("the process is dead", &syncobj, 1, Some(ECANCELED))?;
    check_device_works(&device)
}

/// The other process: standard input is a socket, the argument the node.
fn exporter(arguments: &[String]) -> Result {
    let Some(node) = arguments.first() else {
        return failed("no node was named");
    };
    let (device, vm) = open(Path::new(node))?;
    let fence = fence(&vm)?;
    let syncobj = device.create_syncobj(false)?;
    fence.export_to(&syncobj, 1, 1)?;
    let socket = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    passing::send(&socket, syncobj.to_fd()?.as_fd())?;
    helper::say("exported")?;
    std::thread::sleep(Duration::from_secs(600));
    failed("nobody killed the process")
}

fn sync_file(node: &Path) -> Result {
    let (device, vm) = open(node)?;
    let fence = fence(&vm)?;
    fails_with("of a value to come", fence.sync_file(1), EBUSY)?;
    fence.signal(4)?;
    for value in [0, 1, 4] {
        let file = SyncFile::from(fence.sync_file(value)?);
        has_status(&format!("value {value} at 4"), &file, Status::Signalled)?;
    }
    fails_with("of a value to come", fence.sync_file(5), EBUSY)?;
    let file = SyncFile::from(fence.sync_file(4)?);
    fence.close()?;
    drop((vm, device));
    has_status("with the file closed", &file, Status::Signalled)
}

fn bad(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let device = &rig.device;
    needs(device, Features::SYNC_BRIDGE)?;
    let syncobj = device.create_syncobj(false)?;
    let good = sys::Sync {
        fence: rig.fence.handle(),
        flags: sys::SYNC_TIMELINE,
        value: 1,
        syncobj: syncobj.handle(),
        point: 1,
        ..Default::default()
    };
    let refuse = |what: &str, arg, errno| refused::<ioctl::SyncExport>(device, what, arg, &[errno]);
    refuses_the_unknown::<ioctl::SyncExport>(device, &good, sys::SYNC_TIMELINE | sys::SYNC_FILE)?;
    for handle in [0, 0x7fff_fff0] {
        let what = format!("handle {handle:#x}");
        let no_fence = sys::Sync {
            fence: handle,
            ..good
        };
        refuse(&format!("fence {what}"), no_fence, ENOENT)?;
        let no_syncobj = sys::Sync {
            syncobj: handle,
            ..good
        };
        refuse(&format!("syncobj {what}"), no_syncobj, ENOENT)?;
    }
    let both = sys::Sync {
        flags: sys::SYNC_FILE,
        value: 0,
        point: 0,
        ..good
    };
    refuse("a sync_file with a syncobj", both, EINVAL)?;
    let both = sys::Sync {
        flags: sys::SYNC_FILE | sys::SYNC_TIMELINE,
        value: 0,
        syncobj: 0,
        ..good
    };
    refuse("a sync_file with a point", both, EINVAL)?;
    absent("nothing was accepted", &syncobj, 1)?;
    rig.fence.signal(1)?;
    absent("nothing was accepted", &syncobj, 1)?;
    rig.fence.export_to(&syncobj, 1, 1)?;
    signals("what is good", &syncobj, 1, None)
}

fn limit(node: &Path) -> Result {
    /// More than a driver may reasonably keep for one file.
    const MANY: u64 = 1 << 17;
    /// A kernel full of checks takes minutes for so many, and to let go of them.
    const PATIENCE: Duration = Duration::from_secs(15);
    let (device, vm) = open(node)?;
    let fence = fence(&vm)?;
    let syncobj = device.create_syncobj(false)?;
    let mut taken = 0;
    let begin = Instant::now();
    loop {
        if begin.elapsed() > PATIENCE {
            let slow = format!("{taken} exports take {PATIENCE:?} here, and are below the limit");
            return Err(Problem::Skipped(slow));
        }
        match fence.export_to(&syncobj, taken + 1, 1) {
            Ok(()) => taken += 1,
            Err(error) if error.errno() == Some(ioctl::Errno(EBUSY)) => break,
            Err(error) => return Err(error.into()),
        }
        ensure(taken < MANY, format!("{taken} exports have no limit"))?;
    }
    ensure(taken >= 1000, format!("{taken} exports are the limit"))?;
    let other = Device::open(node)?;
    let vm_there = other.create_vm(VmFlags::empty())?;
    let fence_there = crate::sync::fence(&vm_there)?;
    let syncobj_there = other.create_syncobj(false)?;
    fence_there.export_to(&syncobj_there, 1, 1)?;
    fence.signal(1)?;
    syncobj.wait(taken, soon(), SyncObjWait::FOR_SUBMIT)?;
    eventually("what has happened counts still", || {
        Ok(fence.export_to(&syncobj, taken + 1, 2).is_ok())
    })?;
    fence.signal(2)?;
    signals("the next", &syncobj, taken + 1, None)
}
