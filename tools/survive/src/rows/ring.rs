// SPDX-License-Identifier: MIT OR Apache-2.0
//! The operations as commands of io_uring, inline and by a thread of the kernel.

use anyhow::Result;
use libvaccel::ioctl::{
    Bind, Cancel, FenceWait, FenceWaitMany, Residency, Submit, SyncExport, SyncImport, Unbind,
};
use libvaccel::ring::raw::{EntryFlags, RingOperation};
use libvaccel::sys;

use super::{bridge, fence, memory, submit};
use crate::rig::Rig;
use crate::row::{command, Row, Step};

/// What else a command may end with for want of memory: io_uring's own.
const ALSO: &[i32] = &[libc::EAGAIN, libc::ECANCELED];

const INLINE: EntryFlags = EntryFlags::empty();

/// A command that is refused with `errno`.
fn refused<'a, O: RingOperation + 'a>(rig: &'a Rig, arg: O::Arg, errno: i32) -> Result<Step<'a>> {
    let mut step = command::<O>(rig, arg, INLINE)?;
    Ok(Box::new(move || match step() {
        Err(refused) if refused.0 == errno => Ok(()),
        other => other,
    }))
}

/// The rows.
pub const ROWS: &[Row] = &[
    Row::new("ring-submit", "SUBMIT", |rig| {
        command::<Submit>(rig, submit::done(rig)?, INLINE)
    })
    .also(ALSO),
    Row::new("ring-submit-async", "SUBMIT", |rig| {
        command::<Submit>(rig, submit::done(rig)?, EntryFlags::ASYNC)
    })
    .also(ALSO),
    Row::new("ring-submit-on-done", "SUBMIT", |rig| {
        let mut arg = submit::done(rig)?;
        arg.flags |= sys::SUBMIT_CQE_ON_DONE;
        command::<Submit>(rig, arg, INLINE)
    })
    .also(ALSO),
    Row::new("ring-fence-wait", "FENCE_WAIT", |rig| {
        command::<FenceWait>(rig, fence::wait(rig, 0)?, INLINE)
    })
    .also(ALSO),
    Row::new("ring-fence-wait-pending", "FENCE_WAIT", |rig| {
        refused::<FenceWait>(rig, fence::wait(rig, 1)?, libc::ETIME)
    })
    .also(ALSO),
    Row::new("ring-fence-wait-many", "FENCE_WAIT_MANY", |rig| {
        let arg = fence::wait_many(rig, 1, 0)?;
        refused::<FenceWaitMany>(rig, arg, libc::ETIME)
    })
    .also(ALSO),
    Row::new("ring-residency", "RESIDENCY", |rig| {
        let arg = memory::residency(rig, sys::RESIDENCY_RESIDENT, None)?;
        command::<Residency>(rig, arg, INLINE)
    })
    .also(ALSO),
    Row::new("ring-bind", "BIND", |rig| {
        command::<Bind>(rig, memory::anywhere(rig)?, INLINE)
    })
    .also(ALSO),
    Row::new("ring-bind-reserved", "BIND", |rig| {
        command::<Bind>(rig, memory::fixed(rig)?, INLINE)
    })
    .also(ALSO),
    Row::new("ring-unbind", "UNBIND", |rig| {
        command::<Unbind>(rig, memory::whole(rig)?, INLINE)
    })
    .also(ALSO),
    Row::new("ring-unbind-part", "UNBIND", |rig| {
        command::<Unbind>(rig, memory::part(rig)?, INLINE)
    })
    .also(ALSO),
    Row::new("ring-sync-export", "SYNC_EXPORT", |rig| {
        command::<SyncExport>(rig, bridge::export(rig, 0)?, INLINE)
    })
    .also(ALSO),
    Row::new("ring-sync-import", "SYNC_IMPORT", |rig| {
        command::<SyncImport>(rig, bridge::import(rig, true)?, INLINE)
    })
    .also(ALSO),
    Row::new("ring-cancel", "CANCEL", |rig| {
        let arg = sys::Cancel {
            user_value: u64::MAX,
            reserved: 0,
        };
        refused::<Cancel>(rig, arg, libc::ENOENT)
    })
    .also(ALSO),
];
