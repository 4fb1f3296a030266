// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fences to syncobjs and sync_files, and back.

use std::os::fd::AsRawFd;

use anyhow::Result;
use libvaccel::ioctl::{descriptor, SyncExport, SyncImport};
use libvaccel::sys;

use crate::rig::{os, Rig};
use crate::row::{ioctl, Row, Step};

/// SYNC_EXPORT of `value` of a new fence at 0 into a new syncobj.
pub(super) fn export(rig: &Rig, value: u64) -> Result<sys::Sync> {
    Ok(sys::Sync {
        fence: rig.make_fence()?,
        value,
        syncobj: rig.make_syncobj(false)?,
        ..Default::default()
    })
}

/// SYNC_IMPORT of a new syncobj into a new fence.
pub(super) fn import(rig: &Rig, signalled: bool) -> Result<sys::Sync> {
    // Only what waits has a deadline.
    let (flags, deadline_ns) = match signalled {
        true => (0, 0),
        false => (sys::SYNC_WAIT_FOR_SUBMIT, sys::TIME_FOREVER),
    };
    Ok(sys::Sync {
        fence: rig.make_fence()?,
        flags,
        value: 1,
        syncobj: rig.make_syncobj(signalled)?,
        deadline_ns,
        ..Default::default()
    })
}

fn import_file(rig: &Rig) -> Result<Step<'_>> {
    let file = descriptor::sync_file(rig.fd(), rig.fence.handle(), 0).map_err(os)?;
    let arg = sys::Sync {
        fence: rig.make_fence()?,
        flags: sys::SYNC_FILE,
        value: 1,
        fd: file.as_raw_fd(),
        ..Default::default()
    };
    let mut step = ioctl::<SyncImport>(rig, arg)?;
    Ok(Box::new(move || {
        let _open = &file;
        step()
    }))
}

/// The rows.
pub const ROWS: &[Row] = &[
    Row::new("sync-export", "SYNC_EXPORT", |rig| {
        ioctl::<SyncExport>(rig, export(rig, 0)?)
    }),
    Row::new("sync-export-pending", "SYNC_EXPORT", |rig| {
        ioctl::<SyncExport>(rig, export(rig, 1)?)
    }),
    Row::new("sync-export-file", "SYNC_EXPORT", |rig| {
        Ok(Box::new(|| {
            descriptor::sync_file(rig.fd(), rig.fence.handle(), 0).map(drop)
        }))
    }),
    Row::new("sync-import", "SYNC_IMPORT", |rig| {
        ioctl::<SyncImport>(rig, import(rig, true)?)
    }),
    Row::new("sync-import-pending", "SYNC_IMPORT", |rig| {
        ioctl::<SyncImport>(rig, import(rig, false)?)
    }),
    Row::new("sync-import-file", "SYNC_IMPORT", import_file),
];
