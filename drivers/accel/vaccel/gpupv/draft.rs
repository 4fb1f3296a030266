// SPDX-License-Identifier: GPL-2.0-only

//! Messages whose fixed part is made in the place where the message lies.
//!
//! A [`Request`] carries its fixed part by value, and is copied into a message. That of the commands
//! that queue work can be long, and nearly all zero; there are many of them, and nobody asks them
//! about their reply.

use super::command::Command;
use super::discovery::Version;
use super::error::EncodeError;
use super::list::Tail;
use super::message::{message_len, write_headers, Route};
use super::request::Request;
use super::wire::{zeroed, Writer};

/// A command that queues work: its message has no slack.
pub trait Work: Command {}

/// A command with what follows it, and what fills its fixed part in.
#[derive(Clone, Copy, Debug)]
pub struct Draft<'a, C: Work, F> {
    tail: C::Tail<'a>,
    fill: F,
}

impl<'a, C: Work, F: FnOnce(&mut C)> Draft<'a, C, F> {
    /// A draft. `fill` gets a fixed part that is all zero; the counts are set from `tail`
    /// afterwards.
    pub fn new(tail: C::Tail<'a>, fill: F) -> Self {
        Self { tail, fill }
    }

    /// Length of the whole message.
    ///
    /// # Errors
    ///
    /// As [`Request::message_len`].
    pub fn message_len(&self, version: Version) -> Result<usize, EncodeError> {
        message_len(version, size_of::<C>().saturating_add(self.tail.byte_len()))
    }

    /// Makes the whole message at the start of `out`, which must be all zero, and returns its length.
    ///
    /// # Errors
    ///
    /// Those of [`Request::encode`], and those of [`Request::new`].
    pub fn encode(self, route: &Route, out: &mut [u8]) -> Result<usize, EncodeError> {
        let mut out = Writer::new(out);
        write_headers::<C>(route, &mut out)?;
        let place = out.next(size_of::<C>())?;
        match C::mut_from_bytes(place) {
            Ok(body) => {
                (self.fill)(body);
                body.set_counts(&self.tail)?;
            }
            // It is not aligned as the structure has to be.
            Err(_) => {
                let mut body: C = zeroed();
                (self.fill)(&mut body);
                body.set_counts(&self.tail)?;
                place.copy_from_slice(body.bytes());
            }
        }
        self.tail.write(&mut out)?;
        Ok(out.written())
    }

    /// The same as a request.
    ///
    /// # Errors
    ///
    /// Those of [`Request::new`].
    pub fn into_request(self) -> Result<Request<'a, C>, EncodeError> {
        let mut body: C = zeroed();
        (self.fill)(&mut body);
        Request::new(body, self.tail)
    }
}
