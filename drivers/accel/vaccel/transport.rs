// SPDX-License-Identifier: GPL-2.0-only

//! Commands to the host: which channel they take, how they are written, how the answer is read.
//!
//! The channel rules are those of protocol 2.5: global commands use the VM's channel; adapter
//! commands use the virtual GPU's own, or the VM's as well once the host enabled asynchronous
//! messages, which is a property of the whole VM.

use core::sync::atomic::AtomicUsize;

use kernel::prelude::*;
use kernel::sync::Arc;

use crate::gpupv::{
    Answer,
    ChannelType,
    Command,
    Draft,
    Handle,
    Luid,
    Request,
    Route,
    Version,
    Work, //
};
use crate::host_error::{
    HostError,
    HostResult, //
};
use crate::link::Link;
pub(crate) use crate::link::Wait;
use crate::reaper::{
    Cleanup,
    Owned,
    Reaper, //
};
use crate::release::{
    Creates,
    What, //
};
use crate::vmbus::Batch;

/// The way to the host for one virtual GPU.
pub(crate) struct Transport {
    /// Negotiated interface version.
    pub(crate) version: Version,
    /// The VM's channel.
    pub(crate) global: Arc<Link>,
    /// The virtual GPU's own channel.
    pub(crate) vgpu: Arc<Link>,
    /// The host's LUID of the virtual GPU, for the extended header.
    pub(crate) luid: Luid,
    /// Whether adapter commands travel on the VM's channel, and submissions without an answer.
    pub(crate) asynchronous: bool,
    /// Release nodes queued and not yet given back.
    pub(crate) releases: AtomicUsize,
}

impl Transport {
    fn link(&self, channel: ChannelType) -> &Link {
        match channel {
            ChannelType::Adapter if !self.asynchronous => &self.vgpu,
            _ => &self.global,
        }
    }

    fn route(&self, process: Handle) -> Route {
        Route::adapter(self.version, self.luid).with_process(process)
    }

    fn encode<C: Command>(&self, route: &Route, request: &Request<'_, C>) -> HostResult<KVVec<u8>> {
        let mut message = KVVec::zeroed(request.message_len(self.version)?, GFP_KERNEL)?;
        request.encode(route, &mut message)?;
        Ok(message)
    }

    /// Whether the host can still be reached.
    pub(crate) fn is_open(&self) -> bool {
        self.global.is_open() && self.vgpu.is_open()
    }

    /// Sends a command and reads its answer with `read`. A failure status in it is an error.
    ///
    /// # Errors
    ///
    /// What [`Link::call`] returns; the host's refusal; `EIO` for an answer that is none.
    pub(crate) fn call<C: Command, R>(
        &self,
        process: Handle,
        request: &Request<'_, C>,
        wait: Wait,
        read: impl FnOnce(&Answer<'_, C>) -> HostResult<R>,
    ) -> HostResult<R> {
        let reply = self.exchange(process, request, wait, &mut None)?;
        read(&request.parse_reply(self.version, &reply)?.ok()?)
    }

    /// As [`Transport::call`], but a failure status in the answer is left to `read`.
    ///
    /// # Errors
    ///
    /// As [`Transport::call`]; also the host's refusal if there is no whole answer.
    pub(crate) fn ask<C: Command, R>(
        &self,
        process: Handle,
        request: &Request<'_, C>,
        read: impl FnOnce(&Answer<'_, C>) -> HostResult<R>,
    ) -> HostResult<R> {
        let reply = self.exchange(process, request, Wait::Killable, &mut None)?;
        read(&request.parse_reply(self.version, &reply)?)
    }

    /// As [`Transport::call`] for a command that makes a host object, which is given back to the
    /// host when the [`Owned`] is dropped, or when the answer comes after its maker was killed.
    pub(crate) fn create<C: Creates, R>(
        &self,
        process: &Arc<Reaper>,
        request: &Request<'_, C>,
        what: What,
        read: impl FnOnce(&Answer<'_, C>) -> HostResult<R>,
    ) -> HostResult<(Owned, R)> {
        self.try_create(process, request, what, |answer| match answer.status() {
            status if status.is_error() => Err(HostError::refused(status)),
            _ => read(answer),
        })
    }

    /// As [`Transport::create`], but a failure status in the answer is left to `read`, which must
    /// fail then.
    pub(crate) fn try_create<C: Creates, R>(
        &self,
        process: &Arc<Reaper>,
        request: &Request<'_, C>,
        what: What,
        read: impl FnOnce(&Answer<'_, C>) -> HostResult<R>,
    ) -> HostResult<(Owned, R)> {
        let mut cleanup = Some(Cleanup::new::<C>(process, what)?);
        let reply = self.exchange(process.process(), request, Wait::Killable, &mut cleanup)?;
        // First of all: whatever else is wrong with the answer, the object has to be given back.
        let owned = cleanup.and_then(|cleanup| cleanup.into_owned(&reply));
        let made = read(&request.parse_reply(self.version, &reply)?)?;
        // Without a handle it failed, and the answer has no place to say why.
        Ok((owned.ok_or(HostError::NO_REASON)?, made))
    }

    fn exchange<C: Command>(
        &self,
        process: Handle,
        request: &Request<'_, C>,
        wait: Wait,
        cleanup: &mut Option<Cleanup>,
    ) -> HostResult<KVec<u8>> {
        let message = self.encode(&self.route(process), request)?;
        // A failure may be longer than a reply of which nothing is needed.
        let room = request.reply_len(self.version).max(size_of::<u32>());
        let channel = C::ID.channel();
        // Whatever channel an adapter command takes, it is answered only while its adapter is there.
        let gone = || channel == ChannelType::Adapter && !self.vgpu.is_open();
        if gone() {
            return Err(ENODEV.into());
        }
        self.link(channel).call(&message, room, wait, gone, cleanup)
    }

    /// Waits until the host cannot reach what belongs to this adapter any more.
    pub(crate) fn wait_closed(&self) {
        if self.global.is_open() {
            self.vgpu.wait_closed();
        }
    }

    /// Queues work: without an answer where the host takes that, else as [`Transport::call`].
    ///
    /// # Errors
    ///
    /// As [`Transport::call`]; an asynchronous failure shows only in the state of the device.
    pub(crate) fn queue<C: Command>(
        &self,
        process: Handle,
        request: &Request<'_, C>,
    ) -> HostResult {
        if !self.asynchronous {
            return self.call(process, request, Wait::Killable, |_| Ok(()));
        }
        if !self.vgpu.is_open() {
            return Err(ENODEV.into());
        }
        let message = self.encode(&self.route(process).without_reply(), request)?;
        Ok(self.global.post(&message)?)
    }

    /// Adds a message that queues work, as the host takes it without an answer.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn add<C: Work>(
        &self,
        batch: &mut Batch,
        process: Handle,
        draft: Draft<'_, C, impl FnOnce(&mut C)>,
    ) -> HostResult {
        let route = self.route(process).without_reply();
        batch.push(draft.message_len(self.version)?, |message| {
            draft.encode(&route, message)?;
            Ok(())
        })
    }

    /// Sends such messages, all at once; what could not be sent is in the batch still.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the host is gone, `EAGAIN` if the ring is full, or stays so if this may sleep.
    pub(crate) fn post_batch(&self, batch: &mut Batch, may_sleep: bool) -> Result {
        if batch.bytes() == 0 {
            return Ok(());
        }
        if !self.vgpu.is_open() {
            return Err(ENODEV);
        }
        self.global.post_batch(batch, may_sleep)
    }
}
