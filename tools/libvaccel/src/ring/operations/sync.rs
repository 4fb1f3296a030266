// SPDX-License-Identifier: MIT OR Apache-2.0
//! Monitored fences to syncobjs and back. To drop these futures ends no more than the waiting: what
//! has been asked for may come about.

use crate::deadline::Deadline;
use crate::fence::{self, Fence};
use crate::ioctl::{self, Errno};
use crate::ring::command::Command;
use crate::ring::{Pending, Ring};
use crate::syncobj::SyncObj;
use crate::sys;

impl Ring {
    /// Has `point` of a syncobj get a signalled fence when `fence` has reached `value`; ends when it
    /// has it.
    ///
    /// # Errors
    ///
    /// As [`Fence::export_to`], and why the value cannot be reached any more.
    pub fn export(&self, fence: &Fence, value: u64, syncobj: &SyncObj, point: u64) -> Pending<()> {
        self.or_refused(|| {
            self.own(fence.vm().node(), "SYNC_EXPORT")?;
            let arg = fence.tie(syncobj, point, value, "SYNC_EXPORT")?;
            let kept = (fence.hold().clone(), syncobj.hold().clone());
            Ok(self.begin(Command::SyncExport(arg), move |outcome| {
                drop(kept);
                outcome.of::<ioctl::SyncExport>().map(drop)
            }))
        })
    }

    /// Has `fence` raised to `value` when `point` of a syncobj has signalled; ends when it has the
    /// value, and gives the error that is recorded on it. A point without a fence is waited for until
    /// `missing`, if that is given.
    ///
    /// # Errors
    ///
    /// As [`Fence::import_from`], and why the value cannot be reached any more.
    pub fn import(
        &self,
        fence: &Fence,
        value: u64,
        syncobj: &SyncObj,
        point: u64,
        missing: Option<Deadline>,
    ) -> Pending<Option<Errno>> {
        self.or_refused(|| {
            self.own(fence.vm().node(), "SYNC_IMPORT")?;
            let mut arg = fence.tie(syncobj, point, value, "SYNC_IMPORT")?;
            if let Some(deadline) = missing {
                arg.flags |= sys::SYNC_WAIT_FOR_SUBMIT;
                arg.deadline_ns = deadline.as_ns();
            }
            let (fence, kept) = (fence.hold().clone(), syncobj.hold().clone());
            Ok(self.begin(Command::SyncImport(arg), move |outcome| {
                drop(kept);
                let success = outcome.of::<ioctl::SyncImport>()?;
                match success.recorded {
                    true => Ok(fence::query(&fence)?.error),
                    false => Ok(None),
                }
            }))
        })
    }
}
