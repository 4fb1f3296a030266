// SPDX-License-Identifier: GPL-2.0-only

//! Host processes: one for every open file.
//!
//! The open file is the identity; who uses it, and from which task, does not matter. The host frees
//! whatever is left of a process when it is destroyed, but the driver gives everything back by
//! itself before.

use core::sync::atomic::Ordering;

use kernel::prelude::*;
use kernel::sync::Arc;

use crate::adapter::Adapter;
use crate::gpupv::{
    self,
    Answer,
    Command,
    Draft,
    Handle,
    Request,
    Work, //
};
use crate::host_error::HostResult;
use crate::pinned::Account;
use crate::reaper::{
    Owned,
    Reaper, //
};
use crate::release::{
    Creates,
    What, //
};
use crate::transport::Wait;
use crate::vmbus::Batch;

/// The host's side of an open file.
pub(crate) struct Process {
    pub(crate) adapter: Arc<Adapter>,
    reaper: Arc<Reaper>,
    /// What it has pinned.
    pub(crate) pinned: Arc<Account>,
    /// Given back when the last object of the process has been queued before it.
    _owned: Owned,
}

impl Process {
    /// Makes a host process.
    ///
    /// # Errors
    ///
    /// Those of [`Transport::create`](crate::transport::Transport::create).
    pub(crate) fn new(adapter: Arc<Adapter>) -> HostResult<Arc<Self>> {
        let reaper = Reaper::new(
            adapter.transport.clone(),
            adapter.background.reapers.clone(),
        )?;
        let cookie = adapter.next_cookie.fetch_add(1, Ordering::Relaxed);
        let body = KBox::new(
            // CAST: thread ids are positive.
            gpupv::CreateProcess::new(cookie, kernel::current!().pid() as u64, "vaccel"),
            GFP_KERNEL,
        )?;
        let (owned, ()) = adapter.transport.create(
            &reaper,
            &Request::from(*body),
            What::Process(Handle::NONE),
            |_| Ok(()),
        )?;
        reaper.set_process(owned.handle());
        Ok(Arc::new(
            Self {
                adapter,
                reaper,
                pinned: Arc::new(Account::default(), GFP_KERNEL)?,
                _owned: owned,
            },
            GFP_KERNEL,
        )?)
    }

    /// The host's handle.
    pub(crate) fn handle(&self) -> Handle {
        self.reaper.process()
    }

    /// Sends a command of this process; see [`Transport::call`](crate::transport::Transport::call).
    pub(crate) fn call<C: Command, R>(
        &self,
        request: &Request<'_, C>,
        read: impl FnOnce(&Answer<'_, C>) -> HostResult<R>,
    ) -> HostResult<R> {
        self.adapter
            .transport
            .call(self.handle(), request, Wait::Killable, read)
    }

    /// As [`Process::call`], but a failure status in the answer is left to `read`.
    pub(crate) fn ask<C: Command, R>(
        &self,
        request: &Request<'_, C>,
        read: impl FnOnce(&Answer<'_, C>) -> HostResult<R>,
    ) -> HostResult<R> {
        self.adapter.transport.ask(self.handle(), request, read)
    }

    /// Makes a host object; see [`Transport::create`](crate::transport::Transport::create).
    pub(crate) fn create<C: Creates, R>(
        &self,
        request: &Request<'_, C>,
        what: What,
        read: impl FnOnce(&Answer<'_, C>) -> HostResult<R>,
    ) -> HostResult<(Owned, R)> {
        self.adapter
            .transport
            .create(&self.reaper, request, what, read)
    }

    /// As [`Process::create`], but a failure status in the answer is left to `read`.
    pub(crate) fn try_create<C: Creates, R>(
        &self,
        request: &Request<'_, C>,
        what: What,
        read: impl FnOnce(&Answer<'_, C>) -> HostResult<R>,
    ) -> HostResult<(Owned, R)> {
        self.adapter
            .transport
            .try_create(&self.reaper, request, what, read)
    }

    /// Queues work; see [`Transport::queue`](crate::transport::Transport::queue).
    pub(crate) fn queue<C: Command>(&self, request: &Request<'_, C>) -> HostResult {
        self.adapter.transport.queue(self.handle(), request)
    }

    /// Adds a message; see [`Transport::add`](crate::transport::Transport::add).
    pub(crate) fn add<C: Work>(
        &self,
        batch: &mut Batch,
        draft: Draft<'_, C, impl FnOnce(&mut C)>,
    ) -> HostResult {
        self.adapter.transport.add(batch, self.handle(), draft)
    }

    /// Sends such messages; see [`Transport::post_batch`](crate::transport::Transport::post_batch).
    pub(crate) fn post_batch(&self, batch: &mut Batch, may_sleep: bool) -> Result {
        self.adapter.transport.post_batch(batch, may_sleep)
    }
}
