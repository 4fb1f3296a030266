// SPDX-License-Identifier: MIT OR Apache-2.0
//! SYNC_EXPORT and SYNC_IMPORT by io_uring.

use std::os::fd::AsFd;
use std::path::Path;

use libc::{EINVAL, EIO, ENOENT, ETIME};
use libvaccel::{ioctl, sys, Deadline, Device, Features, Fence, SyncObj, Vm, VmFlags};

use super::Case;
use crate::foreign::pending::Pending;
use crate::foreign::sw_sync::SwSync;
use crate::rig::{ensure, needs, soon, Result, Rig};
use crate::sync::{absent, break_vm, fence, reaches, signals, within};
use crate::uring::door::{self, as_refused, refuses_the_unknown};
use crate::uring::{Completion, Entry, Ring};

pub const CASES: &[Case] = &[
    Case {
        name: "uring-export",
        proves: "an export by io_uring completes when its point is in the syncobj and not before, with \
                 the value",
        run: export,
    },
    Case {
        name: "uring-export-many",
        proves: "of a hundred exports each has its point in the syncobj as soon as its completion is \
                 seen",
        run: many,
    },
    Case {
        name: "uring-export-failed",
        proves: "an export of a vm that fails completes, and its point has a fence with EIO",
        run: failing,
    },
    Case {
        name: "uring-import",
        proves: "an import by io_uring completes when the fence has its value and not before",
        run: import,
    },
    Case {
        name: "uring-import-failed",
        proves: "an import by io_uring of a fence that fails completes with 1, and has the error \
                 recorded",
        run: import_failed,
    },
    Case {
        name: "uring-import-missing",
        proves: "an import waits for a point that is missing if told to, and completes with it or at its \
                 deadline",
        run: missing,
    },
    Case {
        name: "uring-sync-bad",
        proves: "what the ioctls refuse io_uring refuses with the same errno, and sync_files too",
        run: bad,
    },
];

fn open(node: &Path) -> Result<(Device, Vm, Ring)> {
    let device = door::open(node)?;
    needs(&device, Features::SYNC_BRIDGE)?;
    let vm = device.create_vm(VmFlags::empty())?;
    Ok((device, vm, Ring::usual()?))
}

fn tie(fence: &Fence, value: u64, syncobj: &SyncObj, point: u64) -> sys::Sync {
    sys::Sync {
        fence: fence.handle(),
        flags: if point == 0 { 0 } else { sys::SYNC_TIMELINE },
        value,
        syncobj: syncobj.handle(),
        point,
        ..Default::default()
    }
}

fn export_entry(device: &Device, arg: &sys::Sync) -> Entry {
    Entry::new::<ioctl::SyncExport>(device.as_fd(), arg, arg.value)
}

fn import_entry(device: &Device, arg: &sys::Sync) -> Entry {
    Entry::new::<ioctl::SyncImport>(device.as_fd(), arg, arg.value)
}

fn only(completions: Vec<Completion>) -> Result<Completion> {
    match completions.as_slice() {
        [completion] => Ok(*completion),
        other => crate::rig::failed(format!("completions {other:?}, expected one")),
    }
}

fn export(node: &Path) -> Result {
    let (device, vm, mut ring) = open(node)?;
    let fence = fence(&vm)?;
    let (timeline, binary) = (device.create_syncobj(false)?, device.create_syncobj(false)?);
    ring.push(&export_entry(&device, &tie(&fence, 10, &timeline, 5)))?;
    ring.submit()?;
    fence.signal(9)?;
    ring.stays_quiet("at 9")?;
    absent("at 9", &timeline, 5)?;
    fence.signal(11)?;
    let completion = only(ring.collect(1, soon())?)?;
    let seen = timeline.query()?;
    ensure(
        seen == 5,
        format!("completed, and the timeline is at {seen}"),
    )?;
    completion.gives("an export", 10)?;
    ring.one(&export_entry(&device, &tie(&fence, 3, &binary, 0)))?
        .gives("an export of a value that was reached", 3)?;
    binary.wait(0, Deadline::NOW, libvaccel::SyncObjWait::empty())?;
    Ok(())
}

fn many(node: &Path) -> Result {
    const COUNT: u64 = 100;
    let (device, vm, mut ring) = open(node)?;
    let fence = fence(&vm)?;
    let syncobj = device.create_syncobj(false)?;
    for point in 1..=COUNT {
        ring.queue(&export_entry(&device, &tie(&fence, point, &syncobj, point)))?;
    }
    ring.submit()?;
    let mut count = 0;
    for value in [1, 2, 3, 10, 11, 50, COUNT] {
        fence.signal(value)?;
        while count < value {
            for completion in ring.wait(1, soon())? {
                let seen = syncobj.query()?;
                completion.gives("an export", completion.user_data)?;
                ensure(
                    completion.user_data <= seen,
                    format!(
                        "{} completed, the timeline is at {seen}",
                        completion.user_data
                    ),
                )?;
                count += 1;
            }
        }
        ensure(count == value, format!("{count} completions at {value}"))?;
    }
    ring.stays_quiet("all were seen")
}

fn failing(node: &Path) -> Result {
    let (device, vm, mut ring) = open(node)?;
    let fence = fence(&vm)?;
    let syncobj = device.create_syncobj(false)?;
    ring.push(&export_entry(&device, &tie(&fence, 1, &syncobj, 0)))?;
    ring.submit()?;
    ring.stays_quiet("nothing has failed")?;
    break_vm(&vm)?;
    let completion = only(ring.collect(1, soon())?)?;
    ensure(
        [-EIO, 0, 1].contains(&completion.result),
        format!("an export of a vm that fails: {completion:?}"),
    )?;
    signals("an export of a vm that fails", &syncobj, 0, Some(EIO))
}

fn import(node: &Path) -> Result {
    let (device, vm, mut ring) = open(node)?;
    for pending in Pending::each()? {
        let fence = fence(&vm)?;
        let syncobj = device.create_syncobj(false)?;
        syncobj.import_sync_file(0, pending.file().as_fd())?;
        ring.push(&import_entry(&device, &tie(&fence, 4, &syncobj, 0)))?;
        ring.submit()?;
        ring.stays_quiet("nothing is signalled")?;
        pending.signal()?;
        let completion = only(ring.collect(1, soon())?)?;
        let seen = fence.value()?;
        ensure(seen == 4, format!("completed, and the fence is at {seen}"))?;
        completion.gives("an import", 4)?;
        ring.one(&import_entry(&device, &tie(&fence, 5, &syncobj, 0)))?
            .gives("an import of what has signalled", 5)?;
    }
    Ok(())
}

fn import_failed(node: &Path) -> Result {
    let (device, vm, mut ring) = open(node)?;
    let timeline = SwSync::open()?;
    let fence = fence(&vm)?;
    let syncobj = device.create_syncobj(false)?;
    syncobj.import_sync_file(0, timeline.fence(1)?.as_fd())?;
    ring.push(&import_entry(&device, &tie(&fence, 1, &syncobj, 0)))?;
    ring.submit()?;
    // What has not signalled does, with ENOENT.
    drop(timeline);
    only(ring.collect(1, soon())?)?.is("an import of what failed", 1)?;
    reaches("an import of what failed", &fence, 1, Some(ENOENT))
}

fn missing(node: &Path) -> Result {
    let (device, vm, mut ring) = open(node)?;
    let fence = fence(&vm)?;
    let syncobj = device.create_syncobj(false)?;
    let with = |value, deadline: Deadline| {
        let mut arg = tie(&fence, value, &syncobj, value);
        arg.flags |= sys::SYNC_WAIT_FOR_SUBMIT;
        arg.deadline_ns = deadline.as_ns();
        import_entry(&device, &arg)
    };
    ring.push(&with(1, Deadline::NEVER))?;
    ring.submit()?;
    ring.stays_quiet("the point is missing")?;
    syncobj.signal(1)?;
    only(ring.collect(1, soon())?)?.gives("a point that comes", 1)?;
    ring.one(&with(2, within(80)))?
        .is("a point that does not come in time", 1)?;
    reaches("a point that does not come in time", &fence, 2, Some(ETIME))
}

fn bad(node: &Path) -> Result {
    let (rig, mut ring) = door::rig(node)?;
    let device = &rig.device;
    needs(device, Features::SYNC_BRIDGE)?;
    let syncobj = device.create_syncobj(true)?;
    let good = tie(&rig.fence, 1, &syncobj, 0);
    let known = sys::SYNC_TIMELINE | sys::SYNC_WAIT_FOR_SUBMIT | sys::SYNC_FILE;
    refuses_the_unknown::<ioctl::SyncExport>(device, &mut ring, &good, known)?;
    refuses_the_unknown::<ioctl::SyncImport>(device, &mut ring, &good, known)?;
    let bad = [
        ("of no fence", sys::Sync { fence: 0, ..good }),
        ("with no syncobj", sys::Sync { syncobj: 0, ..good }),
        (
            "with an unknown syncobj",
            sys::Sync {
                syncobj: 0x7fff_fff0,
                ..good
            },
        ),
        ("with a stray point", sys::Sync { point: 1, ..good }),
        ("with a stray descriptor", sys::Sync { fd: 1, ..good }),
    ];
    for (what, arg) in bad {
        as_refused::<ioctl::SyncExport>(device, &mut ring, what, arg)?;
        as_refused::<ioctl::SyncImport>(device, &mut ring, what, arg)?;
    }
    sync_files(&rig, &mut ring)
}

/// By ioctl these would do.
fn sync_files(rig: &Rig, ring: &mut Ring) -> Result {
    let device = &rig.device;
    rig.fence.signal(1)?;
    let file = rig.fence.sync_file(1)?;
    let export = sys::Sync {
        fence: rig.fence.handle(),
        flags: sys::SYNC_FILE,
        value: 1,
        ..Default::default()
    };
    let import = sys::Sync {
        value: 2,
        fd: std::os::fd::AsRawFd::as_raw_fd(&file),
        ..export
    };
    ring.one(&export_entry(device, &export))?
        .is("a sync_file as a result", -EINVAL)?;
    ring.one(&import_entry(device, &import))?
        .is("a sync_file as an argument", -EINVAL)?;
    ensure(rig.fence.value()? == 1, "what was refused was done")
}
