// SPDX-License-Identifier: MIT OR Apache-2.0
//! What contexts and hardware queues have to do: work in a queue, done strictly in order.

use std::collections::VecDeque;
use std::sync::Arc;

use engine::Commands;

use crate::fence::FenceValue;
use crate::job::JobId;
use crate::plain_sync::PlainSync;
use crate::update::Update;

/// The queue of a context or of a hardware queue.
#[derive(Debug, Default)]
pub struct WorkQueue {
    /// What has not begun.
    pub queue: VecDeque<Work>,
    /// Changes of GPU addresses in the queue.
    pub changes: usize,
    /// The job of this queue that the engine runs.
    pub running: Option<JobId>,
}

impl WorkQueue {
    /// Drops what has not begun.
    pub fn clear(&mut self) {
        self.queue.clear();
        self.changes = 0;
    }
}

/// One thing to do.
#[derive(Debug)]
pub enum Work {
    /// Wait until all are reached.
    Wait(Vec<FenceValue>),
    /// Take each of these as it can be had; over when all are taken.
    Acquire(Vec<PlainValue>),
    /// Run commands.
    Run(Commands),
    /// Signal fences; a lower value than the present one only with `rewind`.
    Signal {
        /// What to signal.
        fences: Vec<FenceValue>,
        /// Allow lower values.
        rewind: bool,
    },
    /// Signal objects without storage.
    Release(Vec<PlainValue>),
    /// Send a guest event.
    Event(u64),
    /// Change GPU addresses.
    Update(Update),
}

/// An object without storage, and the value to wait for or to signal if it is a fence.
#[derive(Debug, Clone)]
pub struct PlainValue {
    /// The object.
    pub sync: Arc<PlainSync>,
    /// The value.
    pub value: u64,
}
