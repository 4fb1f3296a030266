// SPDX-License-Identifier: GPL-2.0-only

//! The request engine: one VMBus channel, the calls in flight on it, and their answers.
//!
//! A call is entered in the table of calls *before* its message is sent, so its answer always finds
//! it. Answers are matched by transaction id alone and may come in any order. A call ends in one of
//! four ways:
//!
//! - the answer comes: its bytes are copied into the call and the caller wakes;
//! - the channel goes away ([`Link::close`]): every call in the table ends with `ENODEV`;
//! - the caller is killed, or does not want to wait longer than [`reply_timeout_ms`]: the call stays in the
//!   table, without a caller. If it would have made a host object it keeps a [`Cleanup`], and the
//!   late answer hands the object to the reaper. **A call is never forgotten.**
//!
//! # Locks
//!
//! 1. `Link::calls`, 2. `Call::state`. Both are taken in the channel callback (softirq) and held for
//!    a few instructions; nothing is allocated or sent under them.
//!
//! # Lifetime
//!
//! [`Link::close`] closes the channel and waits for its callback; callers and objects may hold the
//! link itself for as long as they like, and only get `ENODEV` from it.

use core::sync::atomic::{
    AtomicU64,
    Ordering, //
};

use kernel::prelude::*;
use kernel::rbtree::{
    RBTree,
    RBTreeNodeReservation, //
};
use kernel::sync::{
    new_spinlock_irq,
    Arc,
    SpinLockIrq, //
};
use kernel::time::{
    delay::fsleep,
    msecs_to_jiffies,
    Delta, //
};

use crate::gpupv;
use crate::host_error::HostResult;
use crate::reaper::Cleanup;
use crate::sync::{
    Completion,
    Wait as WaitEnd, //
};
use crate::vmbus;

/// Bounds of the module parameter.
const REPLY_TIMEOUT_MS: core::ops::RangeInclusive<u32> = 500..=120_000;

/// How long the host may take for an answer. A paused VM stops this clock with it.
pub(crate) fn reply_timeout_ms() -> u32 {
    let wanted = crate::module_parameters::reply_ms.value();
    wanted.clamp(*REPLY_TIMEOUT_MS.start(), *REPLY_TIMEOUT_MS.end())
}

/// How long a waiter sleeps before it looks whether the channel is still there.
const WAIT_SLICE_MS: u32 = 500;

/// How long a full ring is retried, in steps of [`RING_RETRY_US`].
pub(crate) const RING_TIMEOUT_US: i64 = 10_000_000;

/// Pause between two attempts to send into a full ring.
const RING_RETRY_US: i64 = 1_000;

/// Rings and packets as the protocol wants them (1.2).
const RING: vmbus::RingConfig = vmbus::RingConfig {
    // CAST: small constants.
    send: gpupv::RING_SIZE as u32,
    receive: gpupv::RING_SIZE as u32,
    max_packet: gpupv::MAX_MESSAGE as u32,
};

/// What may end the wait for an answer early.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// A fatal signal to the caller, or [`reply_timeout_ms`].
    Killable,
    /// [`reply_timeout_ms`].
    Bounded,
    /// So many milliseconds.
    Within(u32),
    /// Only the end of the channel: somebody has to learn that the host let go of an object. Not for
    /// a caller that anybody waits for.
    ToTheEnd,
}

/// How far a call got.
enum Outcome {
    /// No answer yet.
    Pending,
    /// Answered; the bytes are in [`CallState::reply`].
    Answered,
    /// The channel went away.
    Lost,
}

struct CallState {
    outcome: Outcome,
    /// Room for the answer while pending, the answer then.
    reply: KVec<u8>,
    /// Set when the caller gave up.
    cleanup: Option<Cleanup>,
}

/// One request that has been, or is about to be, sent.
#[pin_data]
struct Call {
    #[pin]
    state: SpinLockIrq<CallState>,
    #[pin]
    done: Completion,
}

impl Call {
    fn new(room: KVec<u8>) -> impl PinInit<Self> {
        pin_init!(Self {
            state <- new_spinlock_irq!(CallState {
                outcome: Outcome::Pending,
                reply: room,
                cleanup: None,
            }),
            done <- Completion::new(),
        })
    }

    /// Takes the answer. Called in softirq.
    fn answer(&self, payload: &[u8]) {
        // The call has left the table, so nobody else answers it; its caller does not look before
        // the outcome is set.
        let mut reply = core::mem::take(&mut self.state.lock().reply);
        let len = payload.len().min(reply.capacity());
        // The room was made by the caller, so nothing is allocated; what does not fit was not asked
        // for.
        let _ = reply.extend_from_slice(payload.get(..len).unwrap_or_default(), GFP_ATOMIC);
        let cleanup = {
            let mut state = self.state.lock();
            state.reply = reply;
            state.outcome = Outcome::Answered;
            state.cleanup.take()
        };
        self.done.complete_all();
        if let Some(cleanup) = cleanup {
            cleanup.answered(payload);
        }
    }

    /// Ends the call without an answer.
    fn lose(&self) {
        let cleanup = {
            let mut state = self.state.lock();
            state.outcome = Outcome::Lost;
            state.cleanup.take()
        };
        self.done.complete_all();
        // The host object, if there ever was one, went with the channel.
        drop(cleanup);
    }

    /// Ends the caller's interest, unless the call has just ended by itself.
    fn abandon(&self, cleanup: &mut Option<Cleanup>) -> Option<HostResult<KVec<u8>>> {
        let mut state = self.state.lock();
        match state.outcome {
            Outcome::Pending => {
                state.cleanup = cleanup.take();
                None
            }
            Outcome::Answered => Some(Ok(core::mem::take(&mut state.reply))),
            Outcome::Lost => Some(Err(ENODEV.into())),
        }
    }

    /// The end of a call whose completion was signalled.
    fn finish(&self) -> HostResult<KVec<u8>> {
        let mut state = self.state.lock();
        match state.outcome {
            Outcome::Answered => Ok(core::mem::take(&mut state.reply)),
            Outcome::Pending | Outcome::Lost => Err(ENODEV.into()),
        }
    }
}

/// The calls in flight.
struct Calls {
    /// By transaction id.
    pending: RBTree<u64, Arc<Call>>,
    /// No further call is taken.
    closed: bool,
}

/// What a host-to-guest message is given to.
pub(crate) trait Listener: Send + Sync {
    /// Takes the payload of an in-band packet. Called in softirq: no sleeping.
    fn message(&self, payload: &[u8]);
}

/// What the channel callback needs: the calls in flight, and who takes host-to-guest messages.
#[pin_data]
pub(crate) struct Dispatch {
    #[pin]
    calls: SpinLockIrq<Calls>,
    listener: Option<Arc<dyn Listener>>,
}

impl Dispatch {
    fn new(listener: Option<Arc<dyn Listener>>) -> impl PinInit<Self> {
        pin_init!(Self {
            calls <- new_spinlock_irq!(Calls {
                pending: RBTree::new(),
                closed: false,
            }),
            listener,
        })
    }

    fn enter(
        &self,
        id: u64,
        call: Arc<Call>,
        node: RBTreeNodeReservation<u64, Arc<Call>>,
    ) -> Result {
        let mut calls = self.calls.lock();
        if calls.closed {
            return Err(ENODEV);
        }
        // Ids are never reused, so nothing is replaced.
        calls.pending.insert(node.into_node(id, call));
        Ok(())
    }

    fn remove(&self, id: u64) -> Option<Arc<Call>> {
        self.calls.lock().pending.remove(&id)
    }

    /// Ends every call and takes no more.
    fn close(&self) {
        let pending = {
            let mut calls = self.calls.lock();
            calls.closed = true;
            core::mem::replace(&mut calls.pending, RBTree::new())
        };
        for call in pending.values() {
            call.lose();
        }
    }
}

impl vmbus::ChannelCallback for Dispatch {
    fn packet(&self, packet: vmbus::Packet<'_>) {
        match packet.kind {
            vmbus::PacketKind::Completion => {
                // Without a call it is a duplicate or was never asked for: dropped.
                if let Some(call) = self.remove(packet.trans_id) {
                    call.answer(packet.payload);
                }
            }
            vmbus::PacketKind::InBand => {
                if let Some(listener) = &self.listener {
                    listener.message(packet.payload);
                }
            }
            vmbus::PacketKind::Other(_) => {}
        }
    }
}

/// A channel to the host and the calls in flight on it.
#[pin_data]
pub(crate) struct Link {
    channel: Arc<vmbus::Channel<Dispatch>>,
    dispatch: Arc<Dispatch>,
    next_id: AtomicU64,
    /// Completed when the host cannot reach anything through this channel any more.
    #[pin]
    closed: Completion,
}

impl Link {
    /// Opens the channel of `device`.
    ///
    /// # Errors
    ///
    /// Those of [`vmbus::Channel::open`], and `ENOMEM`.
    pub(crate) fn open(
        device: &vmbus::Device<kernel::device::Bound>,
        listener: Option<Arc<dyn Listener>>,
    ) -> Result<Arc<Self>> {
        let dispatch = Arc::pin_init(Dispatch::new(listener), GFP_KERNEL)?;
        let channel = Arc::pin_init(
            vmbus::Channel::open(device, RING, dispatch.clone()),
            GFP_KERNEL,
        )?;
        Arc::pin_init(
            pin_init!(Self {
                channel,
                dispatch,
                next_id: AtomicU64::new(1),
                closed <- Completion::new(),
            }),
            GFP_KERNEL,
        )
    }

    /// The channel itself, to share memory through.
    pub(crate) fn channel(&self) -> Arc<vmbus::Channel<Dispatch>> {
        self.channel.clone()
    }

    /// Wakes everybody who waits on this channel; later calls fail with `ENODEV`.
    ///
    /// The channel itself stays open until [`Link::close`], so this may be called where closing
    /// must not wait yet.
    pub(crate) fn fail(&self) {
        self.dispatch.close();
    }

    /// Closes the channel. After this its callback does not run any more and the host cannot reach
    /// memory that was shared through it. Sleeps.
    pub(crate) fn close(&self) {
        self.fail();
        self.channel.close();
        self.closed.complete_all();
    }

    /// Whether calls are still taken.
    pub(crate) fn is_open(&self) -> bool {
        !self.dispatch.calls.lock().closed && !self.channel.is_gone()
    }

    /// Waits until the host cannot reach anything through this channel any more. Only for a channel
    /// that somebody is about to close.
    pub(crate) fn wait_closed(&self) {
        let slice = msecs_to_jiffies(WAIT_SLICE_MS);
        while !self.channel.is_gone() && self.closed.wait_timeout(slice) != WaitEnd::Done {}
    }

    fn send_once(&self, message: &[u8], id: u64) -> Result {
        // Id 0 says that no answer is wanted.
        self.channel.send(message, id, id != 0)
    }

    /// Sends, waiting a bounded time for room in the ring.
    fn send(&self, message: &[u8], id: u64) -> Result {
        self.with_room(|| self.send_once(message, id))
    }

    /// Does what needs room in the ring, waiting a bounded time for it.
    fn with_room(&self, mut send: impl FnMut() -> Result) -> Result {
        let mut waited_us = 0;
        loop {
            match send() {
                Err(EAGAIN) => {}
                other => return other,
            }
            if !self.is_open() {
                return Err(ENODEV);
            }
            if waited_us >= RING_TIMEOUT_US {
                return Err(EAGAIN);
            }
            fsleep(Delta::from_micros(RING_RETRY_US));
            waited_us += RING_RETRY_US;
        }
    }

    /// Sends messages that want no answer, all at once.
    ///
    /// # Errors
    ///
    /// `ENODEV` without a channel, `EAGAIN` if the ring is full, or stays so if this may sleep.
    pub(crate) fn post_batch(&self, batch: &mut vmbus::Batch, may_sleep: bool) -> Result {
        if !self.is_open() {
            return Err(ENODEV);
        }
        if !may_sleep {
            return self.channel.send_batch(batch);
        }
        loop {
            let before = batch.sent();
            match self.with_room(|| self.channel.send_batch(batch)) {
                // The host is slow, but not asleep.
                Err(EAGAIN) if batch.sent() != before => {}
                outcome => return outcome,
            }
        }
    }

    /// Sends a message that wants no answer.
    ///
    /// # Errors
    ///
    /// `ENODEV` without a channel, `EAGAIN` if the ring stayed full.
    pub(crate) fn post(&self, message: &[u8]) -> Result {
        if !self.is_open() {
            return Err(ENODEV);
        }
        self.send(message, 0)
    }

    /// Sends a message and waits for the answer, of which up to `room` bytes are kept.
    ///
    /// # Errors
    ///
    /// `ENODEV` without a channel, or when `gone` says that nobody will answer, `EAGAIN` if the ring stayed full, `EINTR` if killed and
    /// `ETIMEDOUT` if the host does not answer: then `cleanup` is taken for the late answer.
    pub(crate) fn call(
        &self,
        message: &[u8],
        room: usize,
        wait: Wait,
        gone: impl Fn() -> bool,
        cleanup: &mut Option<Cleanup>,
    ) -> HostResult<KVec<u8>> {
        let reply = KVec::with_capacity(room, GFP_KERNEL)?;
        let call = Arc::pin_init(Call::new(reply), GFP_KERNEL)?;
        let node = RBTreeNodeReservation::new(GFP_KERNEL)?;
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        self.dispatch.enter(id, call.clone(), node)?;

        if let Err(error) = self.send(message, id) {
            self.dispatch.remove(id);
            return Err(error.into());
        }
        let error = match self.wait(&call, wait, gone) {
            Ok(()) => return call.finish(),
            Err(error) => error,
        };
        // The answer may have come just now; then it counts.
        call.abandon(cleanup).unwrap_or(Err(error.into()))
    }

    /// Waits for the end of a call, in slices: a channel that the host takes back while its driver
    /// is still being probed is not closed by anybody before the probe ends.
    fn wait(&self, call: &Call, wait: Wait, gone: impl Fn() -> bool) -> Result {
        let slice = msecs_to_jiffies(WAIT_SLICE_MS);
        let mut waited_ms: u32 = 0;
        loop {
            if gone() {
                return Err(ENODEV);
            }
            let end = match wait {
                Wait::Killable => call.done.wait_killable_timeout(slice),
                Wait::Bounded | Wait::Within(_) | Wait::ToTheEnd => call.done.wait_timeout(slice),
            };
            match end {
                WaitEnd::Done => return Ok(()),
                WaitEnd::Signal => return Err(EINTR),
                WaitEnd::TimedOut if self.channel.is_gone() => return Err(ENODEV),
                WaitEnd::TimedOut => waited_ms = waited_ms.saturating_add(WAIT_SLICE_MS),
            }
            let most = match wait {
                Wait::Killable | Wait::Bounded => reply_timeout_ms(),
                Wait::Within(most) => most,
                Wait::ToTheEnd => continue,
            };
            if waited_ms >= most {
                return Err(ETIMEDOUT);
            }
        }
    }
}
