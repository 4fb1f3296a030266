// SPDX-License-Identifier: MIT OR Apache-2.0
//! One command being handled: where it came from, and what is answered.

use std::sync::Arc;

use gpupv::{
    Command, CommandHeader, Handle, NoFixedReply, NtStatus, Reply, Request, Version, Wire,
    MAX_REPLY,
};

use crate::backing::Backing;
use crate::choices::Choices;
use crate::env::{Channel, VgpuId};
use crate::job::JobId;

/// Payloads come in multiples of so many bytes.
const CHANNEL_GRAIN: usize = 8;

/// The answer of a command, whatever its handler would say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forced {
    /// Says that it failed with this status.
    pub status: NtStatus,
    /// The command is carried out all the same.
    pub after: bool,
    /// The answer is the status alone, whatever the reply looks like.
    pub bare: bool,
}

/// Where a command came from.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// The version of its headers and replies.
    pub version: Version,
    /// The virtual GPU it is for; the first one for global commands, which do not look at it.
    pub vgpu: VgpuId,
    /// The host process in its header.
    pub process: Handle,
    /// How to complete it, unless the guest does not want that.
    pub completion: Option<Completion>,
    /// How it is answered, if that has been decided.
    pub forced: Option<Forced>,
}

/// Identifies a completion.
#[derive(Debug, Clone, Copy)]
pub struct Completion {
    /// The channel the message came on.
    pub channel: Channel,
    /// Its transaction.
    pub transaction_id: u64,
}

/// Reasons to hold an answer back.
#[derive(Debug, Default)]
pub struct Hold {
    /// Jobs that have to end first.
    pub jobs: Vec<JobId>,
    /// Backing store that those jobs may touch until then.
    pub backings: Vec<Arc<Backing>>,
}

/// A successful answer.
#[derive(Debug)]
pub struct Answer {
    /// The completion's payload.
    pub bytes: Vec<u8>,
    /// When it may be sent.
    pub hold: Hold,
}

impl Answer {
    /// The same answer, held back until jobs have ended.
    pub fn held(self, hold: Hold) -> Self {
        Self { hold, ..self }
    }
}

/// What a handler returns: an answer, or the status of the failure.
pub type Verdict = Result<Answer, NtStatus>;

impl Call {
    /// An answer with a reply and what follows it.
    pub fn answer<C: Command>(
        &self,
        request: &Request<'_, C>,
        reply: &C::Reply,
        tail: C::ReplyTail<'_>,
    ) -> Verdict {
        let len = request.answer_len(self.version, tail);
        if len > MAX_REPLY {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let mut bytes = vec![0; len];
        let written = request
            .encode_reply(self.version, reply, tail, &mut bytes)
            .map_err(|_| NtStatus::INVALID_PARAMETER)?;
        bytes.truncate(written);
        Ok(Answer {
            bytes,
            hold: Hold::default(),
        })
    }

    /// The header of the command, as the replies that repeat the request begin with it.
    pub fn header<C: Command>(&self) -> CommandHeader {
        CommandHeader::new(C::ID.channel(), false, self.process, C::ID.number())
    }

    /// An answer of a command whose reply is a bare status: success.
    pub fn done<C>(&self, request: &Request<'_, C>) -> Verdict
    where
        C: for<'a> Command<Reply = NtStatus, ReplyTail<'a> = ()>,
    {
        self.answer(request, &NtStatus::SUCCESS, ())
    }

    /// A completion whose content the documents do not know: nothing, or a status if so chosen.
    pub fn acknowledge<C>(&self, request: &Request<'_, C>, choices: &Choices) -> Verdict
    where
        C: for<'a> Command<Reply = NoFixedReply, ReplyTail<'a> = ()>,
    {
        let mut answer = self.answer(request, &NoFixedReply, ())?;
        if choices.status_in_empty_replies {
            answer.bytes = bare(NtStatus::SUCCESS);
        }
        Ok(answer)
    }

    /// The payload of a failure that was decided beforehand.
    pub fn forced_failure<C: Command>(&self, request: &Request<'_, C>, forced: Forced) -> Vec<u8> {
        if forced.bare {
            bare(forced.status)
        } else {
            self.in_full(request, forced.status)
        }
    }

    /// The payload that says a command was malformed: the fixed part of its reply, if that can say
    /// so. What the guest expects behind it is not known.
    pub fn malformed<C: Command>(&self, choices: &Choices) -> Vec<u8> {
        let status = NtStatus::INVALID_PARAMETER;
        match C::Reply::failure(status).filter(|_| self.tells::<C>()) {
            Some(reply) => reply.bytes().to_vec(),
            None => self.shorter(C::reply_fixed_len(self.version), status, choices),
        }
    }

    /// The payload that says a command failed, in the shape of its reply.
    pub fn failure<C: Command>(
        &self,
        request: &Request<'_, C>,
        status: NtStatus,
        choices: &Choices,
    ) -> Vec<u8> {
        if self.tells::<C>() {
            self.in_full(request, status)
        } else {
            self.shorter(request.reply_len(self.version), status, choices)
        }
    }

    /// Whether a reply of full length can say that its command failed.
    fn tells<C: Command>(&self) -> bool {
        C::Reply::failure(NtStatus::UNSUCCESSFUL).is_some()
            && C::reply_fixed_len(self.version) == size_of::<C::Reply>()
    }

    /// What is shorter than a reply of `len` bytes, by which guests know a failure: a status alone,
    /// unless the channel's padding makes it as long. A reply of no length hides every failure.
    fn shorter(&self, len: usize, status: NtStatus, choices: &Choices) -> Vec<u8> {
        if (1..=CHANNEL_GRAIN).contains(&len) && !choices.status_as_short_reply {
            Vec::new()
        } else {
            bare(status)
        }
    }

    fn in_full<C: Command>(&self, request: &Request<'_, C>, status: NtStatus) -> Vec<u8> {
        let len = request.reply_len(self.version).max(size_of::<NtStatus>());
        if len > MAX_REPLY {
            return bare(status);
        }
        let mut bytes = vec![0; len];
        match request.encode_failure(self.version, status, &mut bytes) {
            Ok(written) => {
                bytes.truncate(written);
                bytes
            }
            Err(_) => bare(status),
        }
    }
}

/// A bare status: how everything without a reply of its own fails.
pub fn bare(status: NtStatus) -> Vec<u8> {
    status.bits().to_le_bytes().to_vec()
}
