// SPDX-License-Identifier: MIT OR Apache-2.0
//! Queues: operations in order.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::arg::{self, ArgBo};
use crate::error::Result;
use crate::handle::{Handle, Kind};
use crate::ioctl;
use crate::submission::{Encoded, Rejected, Submission, Submitted};
use crate::sys;
use crate::vm::{State, Vm};

/// What a queue may be given; fixed when it is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueueMode {
    /// Work ends in bounded time and waits only for what is sure to come.
    #[default]
    Bounded,
    /// Work may run without end and wait for anything.
    LongRunning,
}

/// What kind of queue to make.
#[derive(Clone, Copy, Debug, Default)]
pub struct QueueOptions {
    mode: QueueMode,
    node: u32,
    engine_affinity: u32,
    priority: i32,
    timeout_ms: u32,
}

impl QueueOptions {
    /// A queue of `mode` on any engine of node 0 with priority 0.
    pub const fn new(mode: QueueMode) -> Self {
        Self {
            mode,
            node: 0,
            engine_affinity: 0,
            priority: 0,
            timeout_ms: 0,
        }
    }

    /// Sets the engine node and the mask of its engines, 0 for any.
    #[must_use]
    pub const fn engine(mut self, node: u32, affinity: u32) -> Self {
        self.node = node;
        self.engine_affinity = affinity;
        self
    }

    /// Sets the priority, -7 to 7.
    #[must_use]
    pub const fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// Sets how long, in whole milliseconds, work on a bounded queue may make no progress while
    /// others wait for it; 10 ms to [`Info::watchdog_ms`](crate::Info::watchdog_ms), which it is
    /// unless set.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        let milliseconds = timeout.as_millis();
        self.timeout_ms = if milliseconds > u32::MAX as u128 {
            u32::MAX
        } else {
            milliseconds as u32
        };
        self
    }
}

/// A queue of a vm.
#[derive(Debug)]
#[must_use = "the queue is destroyed when this is dropped"]
pub struct Queue {
    handle: Arc<Handle>,
    /// Where submissions are written; the kernel has copied them when the call is back.
    args: Mutex<Option<ArgBo>>,
    vm: Vm,
}

impl Queue {
    pub(crate) fn new(vm: &Vm, options: &QueueOptions) -> Result<Self> {
        let mut arg = sys::QueueCreate {
            vm: vm.handle(),
            mode: match options.mode {
                QueueMode::Bounded => sys::QUEUE_BOUNDED,
                QueueMode::LongRunning => sys::QUEUE_LONG_RUNNING,
            },
            node: options.node,
            engine_affinity: options.engine_affinity,
            priority: options.priority,
            timeout_ms: options.timeout_ms,
            ..Default::default()
        };
        vm.node().call::<ioctl::QueueCreate>(&mut arg)?;
        Ok(Self {
            handle: Arc::new(Handle::new(
                vm.node().clone(),
                Kind::Queue,
                arg.queue,
                "QUEUE_CREATE",
            )?),
            args: Mutex::new(None),
            vm: vm.clone(),
        })
    }

    /// Handle.
    pub fn handle(&self) -> u32 {
        self.handle.raw()
    }

    /// What keeps the handle.
    pub(crate) const fn hold(&self) -> &Arc<Handle> {
        &self.handle
    }

    /// The vm it belongs to.
    pub const fn vm(&self) -> &Vm {
        &self.vm
    }

    /// State of the vm, and the number of the last accepted submission (0: none yet).
    pub fn query(&self) -> Result<(State, u64)> {
        let mut arg = sys::QueueQuery {
            queue: self.handle(),
            ..Default::default()
        };
        self.vm.node().call::<ioctl::QueueQuery>(&mut arg)?;
        Ok((State::from(arg.state), arg.submitted_seq))
    }

    /// Queues a list of operations.
    ///
    /// # Errors
    ///
    /// Nothing was queued, unless the host refused an operation amid the list or the vm ended
    /// meanwhile: [`Queue::submit_reporting`] then says how far it got.
    pub fn submit(&self, submission: &Submission) -> Result<Submitted> {
        self.submit_reporting(submission).map_err(Into::into)
    }

    /// Queues a list of operations; a failure comes with the outcomes that the list asks for.
    ///
    /// # Errors
    ///
    /// As [`Queue::submit`].
    pub fn submit_reporting(
        &self,
        submission: &Submission,
    ) -> std::result::Result<Submitted, Rejected> {
        let Encoded {
            mut descriptor,
            bytes,
            total_size,
        } = submission.encode()?;
        let mut slot = self.args.lock().unwrap_or_else(PoisonError::into_inner);
        let bo = arg::at_least(&mut slot, self.vm.node(), total_size)?;
        bo.mapping().write(0, &bytes)?;
        descriptor.queue = self.handle();
        descriptor.arg_bo = bo.handle();
        let submitted = self.vm.node().call::<ioctl::Submit>(&mut descriptor);
        let outcomes = Submitted::outcomes(&descriptor, bo.mapping())?;
        match submitted {
            Ok(()) => Ok(Submitted {
                seq: descriptor.seq,
                outcomes,
            }),
            Err(error) => Err(Rejected { error, outcomes }),
        }
    }

    /// Destroys the queue and with it the work that it has not done. Refused while a pending operation
    /// of a [`Ring`](crate::ring::Ring) names it; it then goes with the last of them.
    pub fn close(self) -> Result<()> {
        let Self { handle, args, vm } = self;
        drop(args);
        let closed = handle.close_shared();
        drop(vm);
        closed
    }
}
