// SPDX-License-Identifier: GPL-2.0-only

//! Host devices: the host's side of a vm, and the state that all its objects share.
//!
//! A device, in WDDM's words, is what contexts, allocations and fences belong to, and what fails as
//! a whole. It is a part of its own, apart from [`Vm`](crate::vm::Vm), so that objects can refer to
//! it while the vm refers to the objects bound in it.

use core::sync::atomic::{
    AtomicBool,
    AtomicU32,
    AtomicU64,
    Ordering, //
};

use kernel::prelude::*;
use kernel::sync::Arc;

use crate::bindings::uapi;
use crate::events::DeviceEntry;
use crate::gpupv::{
    self,
    DeviceErrorReason,
    DeviceStateType,
    ExecutionState,
    Handle,
    NtStatus,
    PageFaultState,
    Request, //
};
use crate::host_error::{
    HostError,
    HostResult, //
};
use crate::link::reply_timeout_ms;
use crate::process::Process;
use crate::reaper::Owned;
use crate::relay::Relays;
use crate::release::What;
use crate::transport::Wait;

/// A host device.
pub(crate) struct Device {
    // Ahead of the device that they belong to.
    pub(crate) relays: Arc<Relays>,
    owned: Owned,
    notice: Arc<DeviceEntry>,
    /// `VACCEL_STATE_*`; leaves `ACTIVE` once and for all.
    state: AtomicU32,
    /// The change that `state` knows of.
    seen: AtomicU64,
    /// Whether its vm is gone.
    retired: AtomicBool,
    /// Whether user space was told that it failed.
    reported: AtomicBool,
    /// Whether it was given up, and the host is to be told.
    abandoned: AtomicBool,
    pub(crate) process: Arc<Process>,
}

impl Device {
    /// Makes a device.
    ///
    /// # Errors
    ///
    /// Those of [`Process::create`].
    pub(crate) fn new(process: Arc<Process>) -> HostResult<Arc<Self>> {
        let notice = Arc::new(process.adapter.events.device()?, GFP_KERNEL)?;
        let body = gpupv::CreateDevice {
            error_code: notice.cookie(),
            ..Default::default()
        };
        let (owned, ()) =
            process.create(&Request::from(body), What::Device(Handle::NONE), |_| Ok(()))?;
        let relays = Arc::pin_init(Relays::new(), GFP_KERNEL)?;
        Ok(Arc::new(
            Self {
                relays,
                owned,
                notice,
                state: AtomicU32::new(uapi::VACCEL_STATE_ACTIVE),
                seen: AtomicU64::new(0),
                retired: AtomicBool::new(false),
                reported: AtomicBool::new(false),
                abandoned: AtomicBool::new(false),
                process,
            },
            GFP_KERNEL,
        )?)
    }

    /// The host's handle.
    pub(crate) fn handle(&self) -> Handle {
        self.owned.handle()
    }

    /// The number by which the host names the device in its notices.
    pub(crate) fn cookie(&self) -> u64 {
        self.notice.cookie()
    }

    /// What the host says of the device, also when the driver has it no more.
    pub(crate) fn notice(&self) -> Arc<DeviceEntry> {
        self.notice.clone()
    }

    /// Notes that its vm is gone, so that nobody will use its allocations any more.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    /// Whether its vm is gone.
    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// The state, asked from the host only if it announced a change.
    ///
    /// # Errors
    ///
    /// Those of [`Process::call`].
    pub(crate) fn state(&self) -> HostResult<u32> {
        // Read before the state is asked for: a change meanwhile is asked for again.
        let changes = self.notice.changes();
        let known = self.state.load(Ordering::Acquire);
        if known != uapi::VACCEL_STATE_ACTIVE || self.seen.load(Ordering::Acquire) == changes {
            return Ok(known);
        }
        let state = self.ask_state()?;
        self.seen.fetch_max(changes, Ordering::AcqRel);
        Ok(state)
    }

    /// Whether [`Device::state`] is known without asking the host.
    pub(crate) fn is_state_known(&self) -> bool {
        self.failure().is_some() || self.seen.load(Ordering::Acquire) == self.notice.changes()
    }

    fn ask_state(&self) -> HostResult<u32> {
        let state = self
            .ask(DeviceStateType::EXECUTION, |state| state.execution())?
            .ok_or(HostError::PROTOCOL)?;
        if state != ExecutionState::ACTIVE {
            // The numbers are the host's own.
            self.fail(state.raw());
        }
        Ok(state.raw())
    }

    /// Notes that it failed, unless that is known.
    fn fail(&self, state: u32) {
        let (active, order) = (uapi::VACCEL_STATE_ACTIVE, Ordering::AcqRel);
        let _ = self
            .state
            .compare_exchange(active, state, order, Ordering::Relaxed);
    }

    /// The state in which it is known to have failed.
    pub(crate) fn failure(&self) -> Option<u32> {
        let state = self.state.load(Ordering::Acquire);
        (state != uapi::VACCEL_STATE_ACTIVE).then_some(state)
    }

    /// Gives it up: its work does not end.
    pub(crate) fn give_up(&self) {
        self.fail(uapi::VACCEL_STATE_HUNG);
    }

    /// Gives it up, as what it was asked for was lost, and has everybody look who waits for it. Somebody
    /// who can wait for the host is to [tell](Device::tell_abandoned) it. Does not sleep.
    pub(crate) fn abandon(&self) {
        self.give_up();
        self.abandoned.store(true, Ordering::Release);
        self.process.adapter.events.disturb(self.cookie());
    }

    /// Tells the host if it was [abandoned](Device::abandon), so that nobody waits for its fences. Whether
    /// it has to be told again, as it did not answer.
    pub(crate) fn tell_abandoned(&self) -> bool {
        if !self.abandoned.swap(false, Ordering::AcqRel) {
            return false;
        }
        match self.mark_as_error(reply_timeout_ms()) {
            Err(error) if [EAGAIN, ETIMEDOUT].contains(&error.errno) => {
                self.abandoned.store(true, Ordering::Release);
                true
            }
            _ => false,
        }
    }

    /// Whether its failure is to be told to user space: once.
    pub(crate) fn take_report(&self) -> bool {
        !self.reported.swap(true, Ordering::AcqRel)
    }

    /// As [`Device::state`], but asks the host in any case, which has to answer within `most_ms`.
    ///
    /// # Errors
    ///
    /// Those of [`Transport::call`](crate::transport::Transport::call).
    pub(crate) fn ask_within(&self, most_ms: u32) -> HostResult<u32> {
        let execution = DeviceStateType::EXECUTION;
        let request = Request::from(gpupv::GetDeviceState::new(self.handle(), execution));
        let process = &self.process;
        let wait = Wait::Within(most_ms);
        let transport = &process.adapter.transport;
        let state = transport.call(process.handle(), &request, wait, |answer| {
            answer.reply.args.execution().ok_or(HostError::PROTOCOL)
        })?;
        if state != ExecutionState::ACTIVE {
            self.fail(state.raw());
        }
        Ok(self.state.load(Ordering::Acquire))
    }

    /// Tells the host that it is in error, so that the host stops its work.
    ///
    /// # Errors
    ///
    /// As [`Device::ask_within`].
    pub(crate) fn mark_as_error(&self, most_ms: u32) -> HostResult {
        let request = Request::from(gpupv::MarkDeviceAsError {
            device: self.handle(),
            reason: DeviceErrorReason::GENERIC,
        });
        let process = &self.process;
        let wait = Wait::Within(most_ms);
        let transport = &process.adapter.transport;
        transport.call(process.handle(), &request, wait, |_| Ok(()))
    }

    /// The first page fault.
    ///
    /// # Errors
    ///
    /// Those of [`Process::call`].
    pub(crate) fn page_fault(&self) -> HostResult<PageFaultState> {
        let fault = self.ask(DeviceStateType::PAGE_FAULT, |state| state.page_fault())?;
        fault.ok_or(HostError::PROTOCOL)
    }

    fn ask<R>(
        &self,
        state_type: DeviceStateType,
        read: impl FnOnce(&gpupv::DeviceState) -> R,
    ) -> HostResult<R> {
        let request = Request::from(gpupv::GetDeviceState::new(self.handle(), state_type));
        self.process
            .call(&request, |answer| Ok(read(&answer.reply.args)))
    }

    /// Whether the device still works.
    ///
    /// # Errors
    ///
    /// `EIO` if it does not, and those of [`Device::state`].
    pub(crate) fn check(&self) -> HostResult {
        working(self.state()?)
    }

    /// As [`Device::check`], but asks the host even if it announced nothing.
    ///
    /// # Errors
    ///
    /// As [`Device::check`].
    pub(crate) fn ask_and_check(&self) -> HostResult {
        self.check()?;
        working(self.ask_state()?)
    }
}

/// `EIO` unless `state` is the one of a device that works.
fn working(state: u32) -> HostResult {
    match state {
        uapi::VACCEL_STATE_ACTIVE => Ok(()),
        _ => Err(HostError {
            errno: EIO,
            status: NtStatus::SUCCESS,
        }),
    }
}
