// SPDX-License-Identifier: GPL-2.0-only

//! Messages of one host process that are sent together.
//!
//! A host with asynchronous messages answers none of those that queue work, so many can be sent at once
//! and the host told once. With any other host each message is sent, and answered, by itself.

use core::ops;

use kernel::prelude::*;
use kernel::sync::Arc;

use crate::fence::Fence;
use crate::gpupv::{
    self,
    Draft,
    Work, //
};
use crate::host_error::HostResult;
use crate::process::Process;
use crate::uring_submit::Senders;
use crate::vmbus::{
    self,
    Batch, //
};

/// Bytes that are held at most: a part of the ring, so that the host has work while more comes.
pub(crate) const HELD_MAX: usize = gpupv::RING_SIZE / 4;

/// The messages. Those that were not [sent](Outbox::flush) are dropped with it.
pub(crate) struct Outbox<'a> {
    process: &'a Process,
    /// None if nothing is held.
    held: Option<KBox<Held>>,
}

/// How much memory messages take, at most.
#[derive(Clone, Copy, Default)]
pub(crate) struct Size {
    /// Bytes of messages, and what goes with them in a ring.
    pub(crate) bytes: usize,
    /// Fences that they name.
    pub(crate) fences: usize,
}

impl Size {
    /// One message more, with `private` bytes of data behind its longest fixed part, naming a fence or
    /// none.
    pub(crate) fn add(&mut self, private: usize, fences: usize) {
        self.bytes += MESSAGE_MAX + private + vmbus::PACKET_MORE;
        self.fences += fences;
    }
}

impl ops::AddAssign for Size {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.fences += other.fences;
    }
}

/// Bytes of the headers and the longest fixed part of a message that queues work: a submission.
const MESSAGE_MAX: usize = size_of::<gpupv::ExtHeader>()
    + size_of::<gpupv::CommandHeader>()
    + size_of::<gpupv::SubmitCommand>();

/// Messages that are held, the fences that they name, which must not be destroyed before the host has
/// the messages, and who waits for that.
#[derive(Default)]
pub(crate) struct Held {
    batch: Batch,
    fences: KVec<Arc<Fence>>,
    senders: Senders,
}

impl<'a> Outbox<'a> {
    /// One that holds messages if the host takes them asynchronously, and there is memory for them. Ahead
    /// of them is what is in `rest`.
    pub(crate) fn new(process: &'a Process, rest: Option<KBox<Held>>) -> Self {
        let held = if process.adapter.transport.asynchronous {
            rest.or_else(|| KBox::new(Held::default(), GFP_KERNEL).ok())
        } else {
            None
        };
        Self { process, held }
    }

    /// One that holds nothing.
    pub(crate) fn open(process: &'a Process) -> Self {
        Self {
            process,
            held: None,
        }
    }

    /// Whether it is such a one although the host takes messages asynchronously: there was no memory.
    pub(crate) fn is_poor(&self) -> bool {
        self.held.is_none() && self.process.adapter.transport.asynchronous
    }

    /// Whether there is memory for `size` of messages.
    pub(crate) fn has_memory(&self, size: Size) -> bool {
        self.held.as_ref().is_none_or(|held| {
            let fences = held.fences.capacity() - held.fences.len();
            held.batch.room() >= size.bytes && fences >= size.fences
        })
    }

    /// Takes memory for `size` of messages.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn reserve(&mut self, size: Size) -> Result {
        match &mut self.held {
            Some(held) => {
                held.fences.reserve(size.fences, GFP_KERNEL)?;
                held.batch.reserve(size.bytes)
            }
            None => Ok(()),
        }
    }

    /// Keeps a fence until what names it was sent: to be called before.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn keep(&mut self, fence: &Arc<Fence>) -> Result {
        match &mut self.held {
            // As when one submission comes after the other.
            Some(held) if held.keeps_last(fence) => Ok(()),
            Some(held) => Ok(held.fences.push(fence.clone(), GFP_KERNEL)?),
            None => Ok(()),
        }
    }

    /// Queues work. If messages are held it is sent with [`Outbox::flush`].
    ///
    /// # Errors
    ///
    /// Those of [`Process::queue`].
    pub(crate) fn queue<C: Work>(
        &mut self,
        draft: Draft<'_, C, impl FnOnce(&mut C)>,
    ) -> HostResult {
        match &mut self.held {
            Some(held) => self.process.add(&mut held.batch, draft),
            None => self.process.queue(&draft.into_request()?),
        }
    }

    /// Whose the messages are; of nobody if none are held.
    pub(crate) fn senders(&mut self) -> Option<&mut Senders> {
        self.held.as_mut().map(|held| &mut held.senders)
    }

    /// Gives up what is held.
    pub(crate) fn clear(&mut self) {
        if let Some(held) = &mut self.held {
            held.clear();
        }
    }

    /// Whether all that it was given was sent.
    pub(crate) fn is_empty(&self) -> bool {
        self.held
            .as_ref()
            .is_none_or(|held| held.batch.bytes() == 0)
    }

    /// Whether so much is held that it had better be sent.
    pub(crate) fn is_full(&self) -> bool {
        self.held
            .as_ref()
            .is_some_and(|held| held.batch.bytes() >= HELD_MAX)
    }

    /// Sends what is held, waiting a bounded time for room.
    ///
    /// # Errors
    ///
    /// `ENODEV` without a channel, `EAGAIN` if the ring stayed full.
    pub(crate) fn flush(&mut self) -> HostResult {
        match &mut self.held {
            Some(held) => Ok(self.process.post_batch(&mut held.batch, true)?),
            None => Ok(()),
        }
    }

    /// Sends what is held, without sleeping.
    ///
    /// # Errors
    ///
    /// As [`Outbox::flush`]; `EAGAIN` if the ring is full.
    pub(crate) fn flush_now(&mut self) -> HostResult {
        match &mut self.held {
            Some(held) => Ok(self.process.post_batch(&mut held.batch, false)?),
            None => Ok(()),
        }
    }

    /// How many messages were given to it.
    pub(crate) fn added(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.batch.added())
    }

    /// How many of them were sent.
    pub(crate) fn sent(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.batch.sent())
    }

    /// What is held.
    pub(crate) fn into_rest(self) -> Option<KBox<Held>> {
        self.held
    }
}

impl Held {
    /// Whether `fence` was the last to be kept.
    fn keeps_last(&self, fence: &Arc<Fence>) -> bool {
        let last = self.fences.last();
        last.is_some_and(|last| Arc::ptr_eq(last, fence))
    }

    /// Gives up what is held; the memory stays.
    pub(crate) fn clear(&mut self) {
        self.batch.clear();
        self.fences.clear();
        self.senders = Senders::default();
    }

    /// How many bytes it has memory for.
    pub(crate) fn capacity(&self) -> usize {
        self.batch.capacity()
    }
}
