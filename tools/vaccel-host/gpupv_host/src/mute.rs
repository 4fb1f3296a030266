// SPDX-License-Identifier: MIT OR Apache-2.0
//! A host that is mute for a while, as one that hangs or whose machine is paused.
//!
//! It answers nothing, takes no message, sends no event and starts no job, on all channels. Jobs that
//! run may end, and what is to fail fails, afterwards. What a closing channel takes away goes at
//! once: memory must not be touched any more. Then all that waited happens, in the order it came.
//!
//! The caller leaves messages where the guest put them, so that its rings fill up; what it brings
//! all the same is kept.

use gpupv::ExecutionState;

use crate::env::{Channel, Env, MessageIn, VgpuId};
use crate::host::Host;
use crate::job::{JobId, JobOutcome};

/// Nanoseconds of a millisecond.
pub const MILLISECOND: u64 = 1_000_000;

/// What came while the host was mute.
#[derive(Debug)]
pub enum Unheard {
    /// A message.
    Message {
        /// The channel it came on.
        channel: Channel,
        /// As in [`MessageIn`].
        transaction_id: u64,
        /// As in [`MessageIn`].
        completion_requested: bool,
        /// As in [`MessageIn`].
        payload: Vec<u8>,
    },
    /// The end of a job.
    Done(JobId, JobOutcome),
    /// Devices that are to fail.
    Fail(VgpuId, ExecutionState),
}

/// Whether the host is mute.
#[derive(Debug, Default)]
pub struct Mute {
    /// Until when, by the host's clock.
    until: Option<u64>,
    /// What came meanwhile, oldest first.
    unheard: Vec<Unheard>,
}

impl Mute {
    /// When it ends; none if the host is not mute.
    pub fn until(&self) -> Option<u64> {
        self.until
    }

    /// Keeps something for later.
    pub fn keep(&mut self, unheard: Unheard) {
        self.unheard.push(unheard);
    }

    /// Forgets the messages of a channel that is closed: nobody waits for answers.
    pub fn forget(&mut self, closed: Channel) {
        self.unheard.retain(|unheard| match unheard {
            Unheard::Message { channel, .. } => closed != Channel::Global && *channel != closed,
            Unheard::Done(..) | Unheard::Fail(..) => true,
        });
    }
}

impl Host {
    /// Makes the host mute from now on, for so long. [`Host::tick`] ends it.
    pub fn mute(&mut self, milliseconds: u64, env: &dyn Env) {
        let length = milliseconds.saturating_mul(MILLISECOND);
        self.mute.until = Some(env.now_ns().saturating_add(length));
    }

    /// Whether the host is mute: messages had better stay where they are.
    pub fn is_mute(&self) -> bool {
        self.mute.until.is_some()
    }

    /// Goes on after it was mute, if the time has come.
    pub(crate) fn unmute(&mut self, now: u64, env: &mut dyn Env) {
        if self.mute.until.is_none_or(|until| now < until) {
            return;
        }
        self.mute.until = None;
        self.resume(env);
        for unheard in std::mem::take(&mut self.mute.unheard) {
            match unheard {
                Unheard::Message {
                    channel,
                    transaction_id,
                    completion_requested,
                    payload,
                } => {
                    let message = MessageIn {
                        transaction_id,
                        completion_requested,
                        payload: &payload,
                    };
                    self.message(channel, message, env);
                }
                Unheard::Done(job, outcome) => self.engine_done(job, outcome, env),
                Unheard::Fail(vgpu, state) => {
                    self.fail_devices(vgpu, state, env);
                }
            }
        }
        self.settle(env);
    }
}
