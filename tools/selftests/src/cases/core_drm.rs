// SPDX-License-Identifier: MIT OR Apache-2.0
//! The DRM core's own operations on this node: GEM, PRIME, syncobj.

use std::os::fd::AsFd;
use std::path::Path;

use libc::{EINVAL, ENOENT, ETIME};
use libvaccel::ioctl::{drm, syncobj};
use libvaccel::{ioctl, sys, BoOptions, Deadline, Device, EventFd, SyncObjWait};

use super::Case;
use crate::expect::{accepted, refused};
use crate::foreign::pending::Pending;
use crate::foreign::sw_sync::SwSync;
use crate::foreign::sync_file::{Status, SyncFile};
use crate::rig::{ensure, failed, soon, Problem, Result, Rig, SIZE};
use crate::sync::{absent, briefly, fails_with, has_status, signals};

pub const CASES: &[Case] = &[
    Case {
        name: "drm-gem-close",
        proves: "GEM_CLOSE frees a handle once, whatever still uses the object",
        run: gem_close,
    },
    Case {
        name: "drm-prime",
        proves: "a guest object goes out as a dma-buf and comes back as the same handle, and the \
                 dma-buf keeps it alive; argument objects do not go out",
        run: prime,
    },
    Case {
        name: "drm-syncobj",
        proves: "syncobjs can be made, waited for and destroyed on this node",
        run: sync_objects,
    },
    Case {
        name: "drm-syncobj-timeline",
        proves: "points of a timeline are signalled, queried, transferred, waited for and told by \
                 eventfd, here and on another file of the node",
        run: timelines,
    },
    Case {
        name: "drm-syncobj-foreign",
        proves: "fences of other drivers go in and out of syncobjs of this node as sync_files, alone and \
                 merged",
        run: foreign_fences,
    },
    Case {
        name: "drm-syncobj-failed",
        proves: "the error of a fence that failed is seen in the syncobj of this node that holds it",
        run: failed_fence,
    },
];

fn gem_close(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let fd = rig.device.as_fd();
    let arg = sys::BoCreate {
        size: SIZE,
        vm: rig.vm.handle(),
        ..Default::default()
    };
    let bo = accepted::<ioctl::BoCreate>(&rig.device, "of guest memory", arg)?.bo;
    let bind = sys::Bind {
        vm: rig.vm.handle(),
        bo,
        size: SIZE,
        ..Default::default()
    };
    let bound = accepted::<ioctl::Bind>(&rig.device, "of it", bind)?;
    ensure(
        drm::gem_close(fd, bo).is_ok(),
        "a bound object cannot be closed",
    )?;
    let second = drm::gem_close(fd, bo);
    ensure(
        matches!(second, Err(ioctl::Errno(EINVAL | ENOENT))),
        format!("a second GEM_CLOSE: {second:?}"),
    )?;
    let info = sys::BoInfo {
        bo,
        ..Default::default()
    };
    refused::<ioctl::BoInfo>(&rig.device, "of a closed handle", info, &[ENOENT])?;
    refused::<ioctl::Bind>(&rig.device, "of a closed handle", bind, &[ENOENT])?;
    // The binding has kept the object.
    let unbind = sys::Bind {
        vm: rig.vm.handle(),
        gpu_va: bound.gpu_va,
        size: SIZE,
        ..Default::default()
    };
    accepted::<ioctl::Unbind>(&rig.device, "of a closed object", unbind)?;
    Ok(())
}

fn prime(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let fd = rig.device.as_fd();
    let bo = rig.vm.create_bo(&BoOptions::new(SIZE))?;
    let mapping = bo.map()?;
    mapping.write(100, b"shared")?;
    let dma_buf = match drm::prime_handle_to_fd(fd, bo.handle()) {
        Ok(dma_buf) => dma_buf,
        Err(errno) => return failed(format!("export: {errno}")),
    };
    match drm::prime_fd_to_handle(fd, dma_buf.as_fd()) {
        Ok(handle) if handle == bo.handle() => {}
        other => {
            return failed(format!(
                "import of the own object: {other:?}, not its handle"
            ))
        }
    }
    drop(mapping);
    bo.close()?;
    // The dma-buf is all that is left, and is enough.
    let again = drm::prime_fd_to_handle(fd, dma_buf.as_fd())
        .map_err(|errno| Problem::Failed(format!("import after close: {errno}")))?;
    let info = sys::BoInfo {
        bo: again,
        ..Default::default()
    };
    let info = accepted::<ioctl::BoInfo>(&rig.device, "of the imported object", info)?;
    ensure(info.size == SIZE, "the imported object has another size")?;
    let mapping =
        libvaccel::Mapping::new(fd, info.mmap_offset, SIZE, libvaccel::Access::ReadWrite)?;
    let mut bytes = [0; 6];
    mapping.read(100, &mut bytes)?;
    ensure(
        &bytes == b"shared",
        "the imported object has another content",
    )?;
    ensure(
        drm::gem_close(fd, again).is_ok(),
        "the imported handle cannot be closed",
    )?;
    drop(dma_buf);

    match drm::prime_handle_to_fd(fd, rig.arg.handle()) {
        Ok(_) => failed("an argument object was exported"),
        Err(ioctl::Errno(libc::EOPNOTSUPP)) => Ok(()),
        Err(errno) => failed(format!(
            "export of an argument object: {errno}, expected EOPNOTSUPP"
        )),
    }
}

fn sync_objects(node: &Path) -> Result {
    let device = Device::open(node)?;
    let fd = device.as_fd();
    let drm_failed = |what: &str, errno| Problem::Failed(format!("{what}: {errno}"));
    let end = i64::try_from(Deadline::after_secs(10).as_ns()).unwrap_or(i64::MAX);
    let signalled = syncobj::create(fd, true).map_err(|e| drm_failed("create", e))?;
    syncobj::wait(fd, &[signalled], end, 0).map_err(|e| drm_failed("wait", e))?;
    let empty = syncobj::create(fd, false).map_err(|e| drm_failed("create", e))?;
    ensure(
        syncobj::wait(fd, &[empty], end, 0).is_err(),
        "a wait for a syncobj without a fence succeeds",
    )?;
    for handle in [signalled, empty] {
        syncobj::destroy(fd, handle).map_err(|e| drm_failed("destroy", e))?;
    }
    ensure(
        syncobj::destroy(fd, empty).is_err(),
        "a syncobj can be destroyed twice",
    )
}

fn timelines(node: &Path) -> Result {
    let device = Device::open(node)?;
    let syncobj = device.create_syncobj(false)?;
    let none = SyncObjWait::empty();
    absent("nothing is signalled", &syncobj, 1)?;
    fails_with("a wait for nothing", syncobj.wait(1, soon(), none), EINVAL)?;
    let (signalled, available) = (EventFd::new()?, EventFd::new()?);
    syncobj.eventfd(3, signalled.as_fd(), none)?;
    syncobj.eventfd(3, available.as_fd(), SyncObjWait::AVAILABLE)?;
    let other = Device::open(node)?;
    let there = other.open_syncobj(syncobj.to_fd()?.as_fd())?;
    there.signal(2)?;
    ensure(
        (signalled.take()?, available.take()?) == (0, 0),
        "an eventfd is signalled by an earlier point",
    )?;
    there.signal(4)?;
    ensure(
        (signalled.wait(soon())?, available.wait(soon())?) == (1, 1),
        "an eventfd has counted something else",
    )?;
    signals("point 3 of 4", &syncobj, 3, None)?;
    ensure(
        (syncobj.query()?, syncobj.query_last_submitted()?) == (4, 4),
        "the timeline is not at 4",
    )?;
    let binary = device.create_syncobj(false)?;
    fails_with(
        "a transfer of what is not there",
        syncobj.transfer(5, &binary, 0, none),
        EINVAL,
    )?;
    syncobj.transfer(4, &binary, 0, none)?;
    signals("what was transferred", &binary, 0, None)?;
    binary.reset()?;
    absent("what was reset", &binary, 0)?;
    fails_with(
        "a syncobj of what is none",
        device.open_syncobj(device.as_fd()),
        EINVAL,
    )?;
    syncobj.close()?;
    signals("with one handle closed", &there, 4, None)
}

fn foreign_fences(node: &Path) -> Result {
    let device = Device::open(node)?;
    let none = SyncObjWait::empty();
    for pending in Pending::each()? {
        let second = Pending::any()?;
        let (binary, timeline) = (device.create_syncobj(false)?, device.create_syncobj(true)?);
        binary.import_sync_file(0, pending.file().as_fd())?;
        timeline.import_sync_file(7, pending.file().merge(second.file())?.as_fd())?;
        for (syncobj, point) in [(&binary, 0), (&timeline, 7)] {
            fails_with("too early", syncobj.wait(point, briefly(), none), ETIME)?;
            let file = SyncFile::from(syncobj.export_sync_file(point)?);
            has_status("before", &file, Status::Active)?;
        }
        pending.signal()?;
        signals("alone", &binary, 0, None)?;
        fails_with("one of two", timeline.wait(7, briefly(), none), ETIME)?;
        let file = SyncFile::from(timeline.export_sync_file(7)?);
        ensure(file.fences()?.len() >= 2, "two fences are merged into one")?;
        second.signal()?;
        signals("both", &timeline, 7, None)?;
        ensure(file.wait(soon())?, "the sync_file does not poll")?;
        has_status("both", &file, Status::Signalled)?;
    }
    Ok(())
}

fn failed_fence(node: &Path) -> Result {
    let device = Device::open(node)?;
    let syncobj = device.create_syncobj(false)?;
    let timeline = SwSync::open()?;
    syncobj.import_sync_file(0, timeline.fence(1)?.as_fd())?;
    drop(timeline);
    signals("one that failed", &syncobj, 0, Some(ENOENT))
}
