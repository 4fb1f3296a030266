// SPDX-License-Identifier: GPL-2.0-only

//! Requests and answers: commands and replies with their variable parts.
//!
//! Both sides hold a [`Request`]: the guest the one it made, the host the one it read. What the
//! reply looks like depends on the request, so both ask it.

use super::command::{Command, Reply};
use super::discovery::Version;
use super::error::{DecodeError, EncodeError, ReplyError};
use super::limits::MAX_REPLY;
use super::list::Tail;
use super::status::NtStatus;
use super::wire::{read, read_partial, Wire, Writer};

/// A command with what follows it, counts and parts in agreement.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a, C: Command> {
    body: C,
    tail: C::Tail<'a>,
}

/// A reply, split in its parts.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a, C: Command> {
    /// The fixed part.
    pub reply: C::Reply,
    /// What follows it.
    pub tail: C::ReplyTail<'a>,
}

impl<'a, C: Command> Request<'a, C> {
    /// A request to send; the counts in `body` are set from `tail`.
    ///
    /// # Errors
    ///
    /// When the parts of `tail` contradict each other or a count does not fit.
    pub fn new(mut body: C, tail: C::Tail<'a>) -> Result<Self, EncodeError> {
        body.set_counts(&tail)?;
        Ok(Self { body, tail })
    }

    /// A request as received: `bytes` is what follows the command header.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Short`] when something is missing at the end.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let (body, rest): (C, _) = read(bytes)?;
        let tail = body.parse_tail(rest)?;
        Ok(Self { body, tail })
    }

    /// The fixed part.
    pub fn body(&self) -> &C {
        &self.body
    }

    /// What follows it.
    pub fn tail(&self) -> C::Tail<'a> {
        self.tail
    }

    /// Length of everything that follows the command header.
    pub fn len_after_header(&self) -> usize {
        size_of::<C>()
            .saturating_add(self.tail.byte_len())
            .saturating_add(self.body.slack())
    }

    /// Writes everything that follows the command header.
    pub(super) fn write(&self, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        out.value(&self.body)?;
        self.tail.write(out)?;
        out.zeros(self.body.slack())
    }

    /// Guest: how many bytes to make room for in the reply.
    pub fn reply_len(&self, version: Version) -> usize {
        self.body.reply_len(&self.tail, version)
    }

    /// Guest: reads the reply. A status inside it is left for the caller to look at
    /// ([`Answer::ok`]).
    ///
    /// # Errors
    ///
    /// [`ReplyError::Failed`] when the host answered with a short failure status instead of a
    /// reply, [`ReplyError::Malformed`] when the reply is too short for anything else.
    pub fn parse_reply<'r>(
        &self,
        version: Version,
        payload: &'r [u8],
    ) -> Result<Answer<'r, C>, ReplyError> {
        let fixed: Result<(C::Reply, _), _> = read_partial(payload, C::reply_fixed_len(version));
        let answer = fixed.and_then(|(reply, rest)| {
            match self.body.parse_reply_tail(&reply, rest) {
                Ok(tail) => Ok(Ok(Answer { reply, tail })),
                // A host that failed may leave out what it would have filled in.
                Err(error) => match reply.status().filter(|status| status.is_error()) {
                    Some(status) => Ok(Err(ReplyError::Failed(status))),
                    None => Err(error),
                },
            }
        });
        answer.unwrap_or_else(|error| {
            Err(match read::<NtStatus>(payload) {
                Ok((status, _)) if status.is_error() => ReplyError::Failed(status),
                _ => ReplyError::Malformed(error),
            })
        })
    }

    /// Host: length of the reply made of `tail`.
    pub fn answer_len(&self, version: Version, tail: C::ReplyTail<'_>) -> usize {
        C::reply_fixed_len(version)
            .saturating_add(tail.byte_len())
            .max(self.demanded_len(version))
    }

    /// What a guest demands; not more than any reply can have, whatever its counts say.
    fn demanded_len(&self, version: Version) -> usize {
        self.reply_len(version).min(MAX_REPLY)
    }

    /// Host: writes a reply and returns its length. What a guest demands beyond it is zero; a
    /// buffer of [`MAX_REPLY`] bytes is enough for every reply that can be sent.
    ///
    /// # Errors
    ///
    /// [`EncodeError::NoRoom`] when `out` is too small.
    pub fn encode_reply(
        &self,
        version: Version,
        reply: &C::Reply,
        tail: C::ReplyTail<'_>,
        out: &mut [u8],
    ) -> Result<usize, EncodeError> {
        let mut out = Writer::new(out);
        let fixed = reply.bytes();
        out.put(fixed.get(..C::reply_fixed_len(version)).unwrap_or(fixed))?;
        tail.write(&mut out)?;
        self.pad(version, out)
    }

    /// Host: writes the reply that says the command failed, and returns its length.
    ///
    /// # Errors
    ///
    /// [`EncodeError::NoRoom`] when `out` is too small.
    pub fn encode_failure(
        &self,
        version: Version,
        status: NtStatus,
        out: &mut [u8],
    ) -> Result<usize, EncodeError> {
        let mut out = Writer::new(out);
        match C::Reply::failure(status) {
            Some(reply) if C::reply_fixed_len(version) == size_of::<C::Reply>() => {
                out.value(&reply)?;
                self.pad(version, out)
            }
            _ => {
                out.value(&status)?;
                Ok(out.written())
            }
        }
    }

    fn pad(&self, version: Version, mut out: Writer<'_>) -> Result<usize, EncodeError> {
        let missing = self.demanded_len(version).saturating_sub(out.written());
        out.zeros(missing)?;
        Ok(out.written())
    }
}

impl<C: Command> Answer<'_, C> {
    /// This answer, unless the status inside says that the command failed.
    ///
    /// # Errors
    ///
    /// [`ReplyError::Failed`] with that status.
    pub fn ok(self) -> Result<Self, ReplyError> {
        match self.status() {
            status if status.is_error() => Err(ReplyError::Failed(status)),
            _ => Ok(self),
        }
    }

    /// The status inside; success where the reply has none.
    pub fn status(&self) -> NtStatus {
        self.reply.status().unwrap_or(NtStatus::SUCCESS)
    }
}

/// A request of a command without variable parts.
impl<C> From<C> for Request<'static, C>
where
    C: for<'a> Command<Tail<'a> = ()>,
{
    fn from(body: C) -> Self {
        Self { body, tail: () }
    }
}
