// SPDX-License-Identifier: MIT OR Apache-2.0
//! What other threads bring to the device thread.
//!
//! Everything the guest can put in is bounded: messages are refused when the queue is full (the
//! guest tries again), signals are a set with one element a channel, control lines are dropped
//! beyond a limit. One event wakes the device thread.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use gpupv_host::{JobId, JobOutcome};
use vmm::Hypercalls;
use vmm_sys_util::eventfd::{EventFd, EFD_NONBLOCK};

/// Messages of the guest that may wait.
const MAX_MESSAGES: usize = 64;
/// Control lines of the guest that may wait; a guest that waits for answers needs one.
const MAX_CONTROL_LINES: usize = 16;
/// Connections of channels, by which the guest signals.
const SIGNAL_CONNECTIONS: std::ops::Range<u32> = 0x2000..0x2800;

/// The guest named a connection that does not exist.
const INVALID_CONNECTION: u16 = 0x12;
/// The guest should try again later.
const INSUFFICIENT_BUFFERS: u16 = 0x13;
const SUCCESS: u16 = 0;

/// A message the guest posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posted {
    /// Connection it was posted to.
    pub connection: u32,
    /// Its type.
    pub message_type: u32,
    /// Its payload.
    pub payload: Vec<u8>,
}

/// Everything that waits.
#[derive(Debug, Default)]
pub struct Waiting {
    /// Messages, oldest first.
    pub messages: VecDeque<Posted>,
    /// Connections signalled since they were last taken.
    pub signals: BTreeSet<u32>,
    /// Control lines, oldest first.
    pub control: VecDeque<String>,
    /// Jobs that ended.
    pub done: Vec<(JobId, JobOutcome)>,
    /// The device thread is to end.
    pub stop: bool,
}

/// The device thread's mailbox.
pub struct Inbox {
    waiting: Mutex<Waiting>,
    wake: EventFd,
    connections: &'static [u32],
    /// There is one processor, which the guest's and all threads of the host share.
    alone: bool,
}

impl Inbox {
    /// Makes an empty mailbox; messages are taken for `connections` only.
    ///
    /// # Errors
    ///
    /// Fails if the process is out of file descriptors.
    pub fn new(connections: &'static [u32]) -> io::Result<Self> {
        Ok(Self {
            waiting: Mutex::default(),
            wake: EventFd::new(EFD_NONBLOCK)?,
            connections,
            alone: thread::available_parallelism().is_ok_and(|count| count.get() == 1),
        })
    }

    /// The event that fires when something was put in. Non-blocking.
    pub fn wake(&self) -> &EventFd {
        &self.wake
    }

    /// What waits, for the device thread to take from.
    pub fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts in a line of the control channel.
    pub fn control(&self, line: String) {
        let mut waiting = self.lock();
        if waiting.control.len() < MAX_CONTROL_LINES {
            waiting.control.push_back(line);
            drop(waiting);
            self.ring();
        }
    }

    /// Puts in the outcome of a job.
    pub fn done(&self, job: JobId, outcome: JobOutcome) {
        self.lock().done.push((job, outcome));
        self.ring();
    }

    /// Ends the device thread.
    pub fn stop(&self) {
        self.lock().stop = true;
        self.ring();
    }

    /// Has the guest's processor make way for who was just woken. With one processor nothing happens
    /// beside the guest: it would run on, find its work not done, and ask for it once more.
    fn let_others_run(&self) {
        if self.alone {
            thread::yield_now();
        }
    }

    fn ring(&self) {
        // Fails only when the counter is at its limit, and then the event has fired.
        let _ = self.wake.write(1);
    }
}

impl Hypercalls for Inbox {
    fn post_message(&self, connection: u32, message_type: u32, payload: &[u8]) -> u16 {
        if !self.connections.contains(&connection) {
            return INVALID_CONNECTION;
        }
        let mut waiting = self.lock();
        if waiting.messages.len() >= MAX_MESSAGES {
            return INSUFFICIENT_BUFFERS;
        }
        waiting.messages.push_back(Posted {
            connection,
            message_type,
            payload: payload.to_vec(),
        });
        drop(waiting);
        self.ring();
        SUCCESS
    }

    fn signal_event(&self, connection: u32, flag: u16) -> u16 {
        if flag != 0 || !SIGNAL_CONNECTIONS.contains(&connection) {
            return INVALID_CONNECTION;
        }
        self.lock().signals.insert(connection);
        self.ring();
        self.let_others_run();
        SUCCESS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages beyond the limit are refused with the status that makes a guest retry.
    #[test]
    fn message_limit() {
        let inbox = Inbox::new(&[1]).unwrap();
        for _ in 0..MAX_MESSAGES {
            assert_eq!(inbox.post_message(1, 1, &[0]), SUCCESS);
        }
        assert_eq!(inbox.post_message(1, 1, &[0]), INSUFFICIENT_BUFFERS);
        assert_eq!(inbox.post_message(2, 1, &[0]), INVALID_CONNECTION);
        inbox.lock().messages.pop_front();
        assert_eq!(inbox.post_message(1, 1, &[0]), SUCCESS);
    }

    /// Signals of one channel become one, and connections that cannot exist are refused.
    #[test]
    fn signals() {
        let inbox = Inbox::new(&[]).unwrap();
        for _ in 0..1000 {
            assert_eq!(inbox.signal_event(0x2001, 0), SUCCESS);
        }
        assert_eq!(inbox.lock().signals.len(), 1);
        assert_eq!(inbox.signal_event(0x2800, 0), INVALID_CONNECTION);
        assert_eq!(inbox.signal_event(0x2001, 1), INVALID_CONNECTION);
    }

    /// Whatever is put in wakes the device thread.
    #[test]
    fn waking() {
        let inbox = Inbox::new(&[1]).unwrap();
        assert!(inbox.wake().read().is_err());
        inbox.control("{}".into());
        assert!(inbox.wake().read().is_ok());
        inbox.stop();
        assert!(inbox.wake().read().is_ok());
    }
}
