// SPDX-License-Identifier: MIT OR Apache-2.0
//! dma_fences of others as values of monitored fences.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::time::{Duration, Instant};

use libc::{EBADF, ECANCELED, EINVAL, ENOENT, ETIME};
use libvaccel::compute::Session;
use libvaccel::{ioctl, sys, Deadline, Device, Features, FenceFlags, QueueMode, VmFlags};

use super::Case;
use crate::expect::{refused, refuses_the_unknown};
use crate::foreign::pending::Pending;
use crate::foreign::sw_sync::SwSync;
use crate::rig::{check_device_works, ensure, needs, soon, Result, Rig};
use crate::sync::{
    fails_with, fence, has_word, open, reaches, session, stays_below, within, Program,
};

pub const CASES: &[Case] = &[
    Case {
        name: "sync-import-fence",
        proves: "a sync_file of each driver that there is raises a fence when it signals and not \
                 before, at once if it has",
        run: sync_files,
    },
    Case {
        name: "sync-import-merged",
        proves: "of a merged sync_file all have to signal",
        run: merged,
    },
    Case {
        name: "sync-import-chain",
        proves: "a point of a timeline is reached when its fence and all before it have signalled",
        run: chain,
    },
    Case {
        name: "sync-import-error",
        proves: "a fence that fails raises the value all the same, and its error stays recorded in wait \
                 and query, the first of several",
        run: error,
    },
    Case {
        name: "sync-import-missing",
        proves: "a point without a fence is refused, or waited for if that is asked, until it has one \
                 and that has signalled",
        run: missing,
    },
    Case {
        name: "sync-import-deadline",
        proves: "a point that does not come in time raises the value with ETIME recorded, and is \
                 forgotten",
        run: deadline,
    },
    Case {
        name: "sync-import-order",
        proves: "values of imports have to rise, and an import does not overtake the one before it",
        run: order,
    },
    Case {
        name: "sync-import-closed",
        proves: "a file with imports that are yet to happen is closed at once, and what signals later \
                 harms nobody",
        run: closed,
    },
    Case {
        name: "sync-import-closed-shared",
        proves: "another file's fence that was to be raised by an import of a closed one is raised \
                 with ECANCELED recorded, or stays as it is",
        run: closed_shared,
    },
    Case {
        name: "sync-import-own",
        proves: "the out-fence of a bounded queue raises a fence of another vm when the work is done",
        run: own,
    },
    Case {
        name: "sync-import-bad",
        proves: "imports of what is no sync_file, of or into what is not there, and with fields that do \
                 not belong are refused",
        run: bad,
    },
];

fn sync_files(node: &Path) -> Result {
    let (_device, vm) = open(node)?;
    for pending in Pending::each()? {
        let (before, after) = (fence(&vm)?, fence(&vm)?);
        before.import_sync_file(pending.file().as_fd(), 3)?;
        stays_below("nothing has signalled", &before, 1)?;
        pending.signal()?;
        reaches("it has signalled", &before, 3, None)?;
        after.import_sync_file(pending.file().as_fd(), 7)?;
        reaches("it had signalled", &after, 7, None)?;
        ensure(before.value()? == 3, "the value is another")?;
    }
    Ok(())
}

fn merged(node: &Path) -> Result {
    let (_device, vm) = open(node)?;
    let fence = fence(&vm)?;
    let pending = [Pending::any()?, Pending::any()?, Pending::any()?];
    let [first, second, third] = &pending;
    let all = first.file().merge(second.file())?.merge(third.file())?;
    fence.import_sync_file(all.as_fd(), 1)?;
    for one in [second, first, third] {
        stays_below("one has not signalled", &fence, 1)?;
        one.signal()?;
    }
    reaches("all have signalled", &fence, 1, None)
}

fn chain(node: &Path) -> Result {
    let (device, vm) = open(node)?;
    let (first, second) = (Pending::any()?, Pending::any()?);
    let syncobj = device.create_syncobj(false)?;
    syncobj.import_sync_file(2, first.file().as_fd())?;
    syncobj.import_sync_file(4, second.file().as_fd())?;
    let (early, late) = (fence(&vm)?, fence(&vm)?);
    early.import_from(&syncobj, 1, 1, None)?;
    late.import_from(&syncobj, 4, 1, None)?;
    fails_with(
        "a point behind the last",
        late.import_from(&syncobj, 5, 2, None),
        EINVAL,
    )?;
    second.signal()?;
    stays_below("the fence before has not signalled", &late, 1)?;
    stays_below("the fence has not signalled", &early, 1)?;
    first.signal()?;
    reaches("both have signalled", &late, 1, None)?;
    reaches("a point between two", &early, 1, None)?;
    // One that the core has forgotten meanwhile.
    early.import_from(&syncobj, 2, 2, None)?;
    reaches("from long ago", &early, 2, None)
}

fn error(node: &Path) -> Result {
    let (device, vm) = open(node)?;
    let fence = fence(&vm)?;
    let signalled = device.create_syncobj(true)?;
    fence.import_from(&signalled, 0, 1, None)?;
    reaches("a success", &fence, 1, None)?;
    // A timeline that goes gives its fences this error.
    let timeline = SwSync::open()?;
    fence.import_sync_file(timeline.fence(1)?.as_fd(), 2)?;
    stays_below("nothing has happened", &fence, 2)?;
    drop(timeline);
    reaches("a failure", &fence, 2, Some(ENOENT))?;
    fence.import_from(&signalled, 0, 3, None)?;
    reaches("a success behind it", &fence, 3, Some(ENOENT))?;
    let empty = device.create_syncobj(false)?;
    fence.import_from(&empty, 0, 4, Some(within(1)))?;
    reaches("another failure", &fence, 4, Some(ENOENT))?;
    fence.rewind(0)?;
    fence.signal(5)?;
    reaches("a signal of the CPU", &fence, 5, Some(ENOENT))?;
    let clean = crate::sync::fence(&vm)?;
    let list = [(&clean, 0), (&fence, 5)];
    let recorded = Some(ioctl::Errno(ENOENT));
    let (all, any) = (
        device.wait_all(&list, soon())?,
        device.wait_any(&list[1..], soon())?.error,
    );
    ensure(
        (all, any) == (recorded, recorded),
        format!("waits for many say {all:?} and {any:?}"),
    )?;
    // One that has failed already, alone and among others.
    let failed = {
        let timeline = SwSync::open()?;
        let good = timeline.fence(1)?;
        timeline.advance(1)?;
        good.merge(&timeline.fence(2)?)?
    };
    let other = crate::sync::fence(&vm)?;
    other.import_sync_file(failed.as_fd(), 1)?;
    reaches("a failure among others", &other, 1, Some(ENOENT))
}

fn missing(node: &Path) -> Result {
    let (device, vm) = open(node)?;
    let fence = fence(&vm)?;
    let (binary, timeline) = (device.create_syncobj(false)?, device.create_syncobj(false)?);
    fails_with(
        "an empty syncobj",
        fence.import_from(&binary, 0, 1, None),
        EINVAL,
    )?;
    timeline.signal(1)?;
    fails_with(
        "a point to come",
        fence.import_from(&timeline, 2, 1, None),
        EINVAL,
    )?;
    fence.import_from(&timeline, 2, 1, Some(soon()))?;
    stays_below("there is no fence", &fence, 1)?;
    timeline.signal(2)?;
    reaches("there is one that has signalled", &fence, 1, None)?;
    let pending = Pending::any()?;
    fence.import_from(&binary, 0, 2, Some(Deadline::NEVER))?;
    binary.import_sync_file(0, pending.file().as_fd())?;
    stays_below("there is one that has not signalled", &fence, 2)?;
    pending.signal()?;
    reaches("it has signalled", &fence, 2, None)?;
    // A value of a fence that makes the point: a bridge over a bridge.
    let source = crate::sync::fence(&vm)?;
    source.export_to(&timeline, 3, 9)?;
    fence.import_from(&timeline, 3, 3, Some(soon()))?;
    stays_below("its source is not there", &fence, 3)?;
    source.signal(9)?;
    reaches("its source is there", &fence, 3, None)
}

fn deadline(node: &Path) -> Result {
    let (device, vm) = open(node)?;
    let syncobj = device.create_syncobj(false)?;
    for milliseconds in [0, 100] {
        let fence = fence(&vm)?;
        let begin = Instant::now();
        let deadline = match milliseconds {
            0 => Deadline::NOW,
            _ => within(milliseconds),
        };
        fence.import_from(&syncobj, 1, 1, Some(deadline))?;
        reaches("the point did not come", &fence, 1, Some(ETIME))?;
        ensure(
            begin.elapsed() >= Duration::from_millis(milliseconds),
            "the deadline came early",
        )?;
        ensure(
            begin.elapsed() < Duration::from_secs(10),
            "the deadline came late",
        )?;
    }
    // What waits behind one that is late waits no longer.
    let fence = fence(&vm)?;
    let signalled = device.create_syncobj(true)?;
    fence.import_from(&syncobj, 1, 1, Some(within(200)))?;
    fence.import_from(&signalled, 0, 2, None)?;
    stays_below("the first is not late yet", &fence, 1)?;
    reaches("the first is late", &fence, 2, Some(ETIME))?;
    syncobj.signal(1)?;
    ensure(fence.value()? == 2, "what came late has changed the value")
}

fn order(node: &Path) -> Result {
    let (device, vm) = open(node)?;
    let fence = fence(&vm)?;
    let pending = Pending::any()?;
    let signalled = device.create_syncobj(true)?;
    fence.import_sync_file(pending.file().as_fd(), 5)?;
    for value in [5, 4, 0] {
        let what = format!("value {value} after 5");
        fails_with(&what, fence.import_from(&signalled, 0, value, None), EINVAL)?;
    }
    fence.import_from(&signalled, 0, 6, None)?;
    stays_below("the first has not signalled", &fence, 5)?;
    ensure(fence.value()? == 0, "an import has overtaken another")?;
    pending.signal()?;
    reaches("both have signalled", &fence, 6, None)?;
    fails_with(
        "value 6 again",
        fence.import_from(&signalled, 0, 6, None),
        EINVAL,
    )?;
    // The CPU was faster: an import does not take the value back.
    fence.signal(100)?;
    fence.import_from(&signalled, 0, 7, None)?;
    fence.import_from(&signalled, 0, 101, None)?;
    reaches("behind one that was passed", &fence, 101, None)
}

fn closed(node: &Path) -> Result {
    let pending = Pending::any()?;
    let (device, vm) = open(node)?;
    let empty = device.create_syncobj(false)?;
    let fences = (0..8).map(|_| fence(&vm)).collect::<Result<Vec<_>>>()?;
    for fence in &fences {
        fence.import_sync_file(pending.file().as_fd(), 1)?;
        fence.import_from(&empty, 0, 2, Some(Deadline::NEVER))?;
    }
    let begin = Instant::now();
    drop((fences, empty, vm, device));
    let took = begin.elapsed();
    ensure(
        took < Duration::from_secs(3),
        format!("closing the file took {took:?}"),
    )?;
    pending.signal()?;
    check_device_works(&Device::open(node)?)
}

fn closed_shared(node: &Path) -> Result {
    let pending = Pending::any()?;
    let (device, vm) = open(node)?;
    needs(&device, Features::FENCE_SHARING)?;
    let other = Device::open(node)?;
    let there = other.create_vm(VmFlags::empty())?;
    let made = there.create_fence(FenceFlags::SHAREABLE, 0)?;
    let opened = vm.open_fence(made.to_fd(false)?.as_fd())?;
    opened.import_sync_file(pending.file().as_fd(), 1)?;
    drop((opened, vm, device));
    if let Ok(waited) = made.wait(1, within(200)) {
        let said = waited.error.map(|errno| errno.0);
        ensure(
            matches!(said, None | Some(ECANCELED)),
            format!("the other file's fence has {said:?} recorded"),
        )?;
    }
    pending.signal()?;
    // It can still be used.
    made.signal(2)?;
    made.wait(2, soon())?;
    Ok(())
}

fn own(node: &Path) -> Result {
    let (device, session) = session(node, QueueMode::Bounded)?;
    let there = Session::with_mode(&device, QueueMode::Bounded)?;
    let syncobj = device.create_syncobj(false)?;
    let out = session.buffer(4)?;
    let job = Program::late_word(&session, 150, out.gpu_va(), 7)?;
    let fence = fence(there.vm())?;
    session
        .queue()
        .submit(&job.run().out_syncobj(&syncobj, 1))?;
    fence.import_from(&syncobj, 1, 1, None)?;
    // Work on the other vm's queue may wait for it: it is sure to come.
    let result = there.buffer(4)?;
    let second = Program::late_word(&there, 0, result.gpu_va(), 8)?;
    let list = second
        .exec(libvaccel::Submission::new().wait(&fence, 1))
        .done(there.fence(), 1);
    there.queue().submit(&list)?;
    reaches("the work is done", &fence, 1, None)?;
    has_word("the first job", &out, 7)?;
    there.fence().wait(1, soon())?;
    has_word("the second job", &result, 8)
}

fn bad(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let device = &rig.device;
    needs(device, Features::SYNC_BRIDGE)?;
    let syncobj = device.create_syncobj(true)?;
    let good = sys::Sync {
        fence: rig.fence.handle(),
        value: 1,
        syncobj: syncobj.handle(),
        ..Default::default()
    };
    let refuse = |what: &str, arg, errno| refused::<ioctl::SyncImport>(device, what, arg, &[errno]);
    let known = sys::SYNC_TIMELINE | sys::SYNC_WAIT_FOR_SUBMIT | sys::SYNC_FILE;
    refuses_the_unknown::<ioctl::SyncImport>(device, &good, known)?;
    for handle in [0, 0x7fff_fff0] {
        let no_fence = sys::Sync {
            fence: handle,
            ..good
        };
        refuse(&format!("into fence {handle:#x}"), no_fence, ENOENT)?;
        let no_syncobj = sys::Sync {
            syncobj: handle,
            ..good
        };
        refuse(&format!("of syncobj {handle:#x}"), no_syncobj, ENOENT)?;
    }
    refuse("with a descriptor", sys::Sync { fd: 1, ..good }, EINVAL)?;
    let file = sys::Sync {
        flags: sys::SYNC_FILE,
        syncobj: 0,
        ..good
    };
    for fd in [-1, 9999] {
        refuse("of no descriptor", sys::Sync { fd, ..file }, EBADF)?;
    }
    let null = File::open("/dev/null")?;
    let as_fd = syncobj.to_fd()?;
    let dma_buf = rig.bo.export()?;
    for (what, fd) in [
        ("of /dev/null", null.as_fd()),
        ("of a syncobj", as_fd.as_fd()),
        ("of a dma-buf", dma_buf.as_fd()),
        ("of the node", device.as_fd()),
    ] {
        let fd = fd.as_raw_fd();
        refuse(what, sys::Sync { fd, ..file }, EINVAL)?;
    }
    let sync_file = syncobj.export_sync_file(0)?;
    let both = sys::Sync {
        flags: sys::SYNC_FILE,
        fd: sync_file.as_raw_fd(),
        ..good
    };
    refuse("of a sync_file and a syncobj", both, EINVAL)?;
    let wait = sys::Sync {
        flags: sys::SYNC_FILE | sys::SYNC_WAIT_FOR_SUBMIT,
        fd: sync_file.as_raw_fd(),
        ..file
    };
    refuse("of a sync_file that is to be waited for", wait, EINVAL)?;
    ensure(rig.fence.value()? == 0, "a refused import was done")?;
    // The vm's own progress is nobody's to raise.
    let paging = sys::Sync {
        fence: rig.vm.paging_fence(),
        value: 1 << 40,
        ..good
    };
    refuse("into a paging fence", paging, EINVAL)?;
    rig.fence.import_sync_file(sync_file.as_fd(), 1)?;
    reaches("what is good", &rig.fence, 1, None)
}
