// SPDX-License-Identifier: MIT OR Apache-2.0
//! Locking: the guest's CPU sees an allocation in the I/O space (protocol 4.7).
//!
//! Only content in host memory is locked; guest memory is where it is. Guests count nested locks
//! and send the outermost pair, but nested pairs are counted here too. Some unlock what they never
//! locked, which does nothing. What is offered is not locked; what is locked can be offered, and is
//! kept while it is.

use gpupv::{Lock2, Lock2Flags, Lock2Reply, NtStatus, Request, Unlock2};

use crate::call::{Call, Verdict};
use crate::env::Env;
use crate::host::Host;
use crate::object::{Allocation, Lock};

impl Host {
    pub(crate) fn lock(
        &mut self,
        call: &Call,
        request: &Request<'_, Lock2>,
        _env: &mut dyn Env,
    ) -> Verdict {
        let body = request.body();
        if body.flags != Lock2Flags::EMPTY {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let process = self.process(call.process)?;
        let allocation = process.allocation_of(call.vgpu, body.device, body.allocation)?;
        if allocation.offer.is_some() {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let content = allocation.backing.content();
        let content = content.ok_or(NtStatus::INVALID_PARAMETER)?;
        let lock = match allocation.lock {
            Some(lock) => Lock {
                count: lock.count.checked_add(1).ok_or(NtStatus::NO_MEMORY)?,
                ..lock
            },
            None => {
                let pages = self.io.as_mut().ok_or(NtStatus::UNSUCCESSFUL)?;
                let shown = pages.show(&content).ok_or(NtStatus::NO_MEMORY)?;
                Lock { count: 1, shown }
            }
        };
        let process = self.process_mut(call.process)?;
        process.allocation_mut(call.vgpu, body.allocation)?.lock = Some(lock);
        let reply = Lock2Reply {
            status: NtStatus::SUCCESS,
            cpu_visible_address: lock.shown.address(),
            _pad: 0,
        };
        call.answer(request, &reply, ())
    }

    pub(crate) fn unlock(
        &mut self,
        call: &Call,
        request: &Request<'_, Unlock2>,
        _env: &mut dyn Env,
    ) -> Verdict {
        let body = request.body();
        let process = self.process_mut(call.process)?;
        process.allocation_of(call.vgpu, body.device, body.allocation)?;
        let allocation = process.allocation_mut(call.vgpu, body.allocation)?;
        let left = allocation
            .lock
            .map_or(0, |lock| lock.count.saturating_sub(1));
        if left != 0 {
            if let Some(lock) = &mut allocation.lock {
                lock.count = left;
            }
        } else if let Some(lock) = allocation.lock.take() {
            self.hide(lock);
        }
        call.done(request)
    }

    /// Ends all locks of an allocation that goes away.
    pub(crate) fn unlock_all(&mut self, allocation: &mut Allocation) {
        if let Some(lock) = allocation.lock.take() {
            self.hide(lock);
        }
    }

    fn hide(&mut self, lock: Lock) {
        if let Some(pages) = &mut self.io {
            pages.hide(lock.shown);
        }
    }
}
