// SPDX-License-Identifier: MIT OR Apache-2.0
//! What libdrm finds on the node before any fence of ours comes into it.

use std::os::fd::AsFd;
use std::path::Path;

use libvaccel::compute::Session;
use libvaccel::{Deadline, Device, EventFd};

use crate::libdrm::{
    sync_file_status, Drm, CAP_SYNCOBJ, CAP_SYNCOBJ_TIMELINE, CREATE_SIGNALED, WAIT_AVAILABLE,
    WAIT_FOR_SUBMIT,
};
use crate::scenario::{a_while, ends_by, fails, same, soon, Result, Scenario};

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "node",
        proves: "libdrm knows the node's driver, and that it has binary and timeline syncobjs",
        run: node_itself,
    },
    Scenario {
        name: "syncobj-binary",
        proves: "a binary syncobj of the node signals, resets and becomes a sync_file and back",
        run: binary,
    },
    Scenario {
        name: "syncobj-timeline",
        proves: "a timeline syncobj of the node is signalled, queried, waited for and transferred",
        run: timeline,
    },
    Scenario {
        name: "prime",
        proves: "an object goes through drmPrimeHandleToFD into another file with its content",
        run: prime,
    },
];

fn node_itself(node: &Path) -> Result {
    let device = Device::open(node)?;
    let drm = Drm::new(device.as_fd());
    same("driver", drm.driver_name()?.as_str(), "vaccel")?;
    same("DRM_CAP_SYNCOBJ", drm.cap(CAP_SYNCOBJ)?, 1)?;
    same(
        "DRM_CAP_SYNCOBJ_TIMELINE",
        drm.cap(CAP_SYNCOBJ_TIMELINE)?,
        1,
    )
}

fn binary(node: &Path) -> Result {
    let device = Device::open(node)?;
    let drm = Drm::new(device.as_fd());
    let syncobj = drm.create_syncobj(CREATE_SIGNALED)?;
    syncobj.wait(Deadline::NOW, 0)?;
    syncobj.reset()?;
    fails("no fence", syncobj.wait(soon(), 0), libc::EINVAL)?;
    let without = syncobj.wait(a_while(), WAIT_FOR_SUBMIT);
    fails("no fence until the deadline", without, libc::ETIME)?;
    ends_by(
        "drmSyncobjWait",
        || syncobj.wait(soon(), WAIT_FOR_SUBMIT),
        || Ok(syncobj.signal()?),
    )?;
    let file = syncobj.export_sync_file()?;
    same("sync_file", sync_file_status(file.as_fd())?, 1)?;
    let other = drm.create_syncobj(0)?;
    other.import_sync_file(file.as_fd())?;
    other.wait(Deadline::NOW, 0)?;
    other.close()?;
    Ok(syncobj.close()?)
}

fn timeline(node: &Path) -> Result {
    let device = Device::open(node)?;
    let drm = Drm::new(device.as_fd());
    let syncobj = drm.create_syncobj(0)?;
    let event = EventFd::new()?;
    syncobj.eventfd(3, event.as_fd(), 0)?;
    ends_by(
        "drmSyncobjTimelineWait",
        || syncobj.timeline_wait(3, soon(), WAIT_AVAILABLE),
        || Ok(syncobj.timeline_signal(3)?),
    )?;
    same("events", event.wait(soon())?, 1)?;
    same("last signalled", syncobj.query()?, 3)?;
    same("last submitted", syncobj.query_submitted()?, 3)?;
    let other = drm.create_syncobj(0)?;
    other.transfer_from(0, &syncobj, 3)?;
    other.wait(soon(), 0)?;
    other.close()?;
    Ok(syncobj.close()?)
}

fn prime(node: &Path) -> Result {
    const CONTENT: &[u8] = b"through libdrm";
    let device = Device::open(node)?;
    let session = Session::new(&device)?;
    let buffer = session.buffer(4096)?;
    buffer.mapping().write(0, CONTENT)?;
    let dma_buf = Drm::new(device.as_fd()).prime_handle_to_fd(buffer.bo().handle())?;
    let other = Device::open(node)?;
    let drm = Drm::new(other.as_fd());
    let handle = drm.prime_fd_to_handle(dma_buf.as_fd())?;
    let same_handle = drm.prime_fd_to_handle(dma_buf.as_fd())?;
    same("handle of the second import", same_handle, handle)?;
    drm.close_buffer_handle(handle)?;
    fails(
        "closed twice",
        drm.close_buffer_handle(handle),
        libc::EINVAL,
    )?;
    let imported = other.import(dma_buf.as_fd())?;
    let mut content = [0; CONTENT.len()];
    imported.map()?.read(0, &mut content)?;
    same("content", content.as_slice(), CONTENT)
}
