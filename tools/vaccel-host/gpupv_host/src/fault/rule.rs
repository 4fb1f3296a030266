// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a rule does, and which rules make sense.

use gpupv::NtStatus;
use serde::Deserialize;

use super::select::NumberOrName;
use super::{On, OperationId, Seen};

/// Rules that can be armed at a time.
pub const MAX_RULES: usize = 1024;
/// Bytes that an answer can be made longer by; more could fit no ring.
const MAX_BYTES: usize = 16 << 10;

/// A rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// On which messages.
    pub on: On,
    /// What then.
    pub action: Action,
    /// Seed of its random bytes; made from the host's if not given.
    pub seed: Option<u64>,
}

/// What a rule does.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Action {
    /// The answer, the event, or a message without answer is late.
    Delay {
        /// By so many milliseconds.
        milliseconds: u64,
    },
    /// The command is carried out and the answer lost.
    DropAnswer {},
    /// The message is not carried out and not answered; an event is lost.
    DropMessage {},
    /// The answer is a failure in the shape of the command's reply.
    Status {
        /// With this status.
        status: Status,
        /// The command is carried out all the same.
        #[serde(default)]
        after: bool,
        /// As four bytes, whatever the reply looks like.
        #[serde(default)]
        bare: bool,
    },
    /// The end is missing.
    Short {
        /// So many bytes of it; all if there are not more.
        bytes: usize,
    },
    /// Random bytes follow the end.
    Long {
        /// So many.
        bytes: usize,
    },
    /// The payload is garbage.
    Malformed {
        /// Of this kind.
        #[serde(default)]
        mode: Garbage,
    },
    /// It comes twice.
    Duplicate {},
    /// The answer has a transaction id that nobody waits for; the right one is never answered.
    WrongId {},
    /// Before the message is handled comes a completion of zeros, so that the true answer is one
    /// that nobody waits for.
    Before {
        /// So many bytes.
        bytes: usize,
    },
    /// Bytes are changed at random.
    Mutate {
        /// So large a part of them, on average: more than 0, at most 1.
        rate: f64,
    },
    /// Something of the caller's is done.
    #[serde(skip)]
    Operation {
        /// This.
        id: OperationId,
        /// After the message was handled instead of before it.
        after: bool,
        /// After so many milliseconds if not 0, without the message waiting for it.
        milliseconds: u64,
    },
}

/// How a payload is spoilt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Garbage {
    /// One bit is wrong.
    Flip,
    /// All bytes are random.
    #[default]
    Random,
    /// All bytes are 0.
    Zero,
    /// All bytes are FF.
    Ones,
}

/// A status as rules name it: by number, by number in hexadecimal, or by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "NumberOrName")]
pub struct Status(pub NtStatus);

impl TryFrom<NumberOrName> for Status {
    type Error = String;

    fn try_from(text: NumberOrName) -> Result<Self, String> {
        let name = match text {
            NumberOrName::Number(bits) => return Ok(Self(NtStatus::from_bits(bits))),
            NumberOrName::Name(name) => name,
        };
        let number = name.strip_prefix("0x").unwrap_or("");
        if let Ok(bits) = u32::from_str_radix(number, 16) {
            return Ok(Self(NtStatus::from_bits(bits)));
        }
        let named = NtStatus::NAMED.iter().find(|(named, _)| *named == name);
        named
            .map(|(_, status)| Self(*status))
            .ok_or_else(|| format!("there is no status {name:?}"))
    }
}

/// Why a rule cannot be armed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// There are [`MAX_RULES`] already.
    #[error("there are {MAX_RULES} rules already")]
    TooMany,
    /// It is about nothing.
    #[error("on: neither \"command\" nor \"event\" is given")]
    AboutNothing,
    /// The first match is number 1.
    #[error("on: \"nth\" starts at 1")]
    NthIsZero,
    /// Only commands have answers.
    #[error("do: events have no answer for this kind to act on")]
    NotForEvents,
    /// The rate is no part of a whole.
    #[error("do: \"rate\" must be more than 0 and at most 1")]
    Rate,
    /// So much does not fit into a ring.
    #[error("do: \"bytes\" is more than {MAX_BYTES}")]
    TooLong,
    /// There is no such virtual GPU.
    #[error("on: there is no virtual GPU {0}")]
    NoVgpu(usize),
}

impl Rule {
    /// Checks a rule of a host with so many virtual GPUs.
    pub(super) fn check(&self, vgpus: usize) -> Result<(), RuleError> {
        let On {
            command,
            event,
            vgpu,
            nth,
            ..
        } = &self.on;
        if command.is_none() && event.is_none() {
            return Err(RuleError::AboutNothing);
        }
        if *nth == 0 {
            return Err(RuleError::NthIsZero);
        }
        if let Some(vgpu) = vgpu.filter(|vgpu| *vgpu >= vgpus) {
            return Err(RuleError::NoVgpu(vgpu));
        }
        if event.is_some() && self.action.needs_command() {
            return Err(RuleError::NotForEvents);
        }
        match self.action {
            Action::Mutate { rate } if !(rate > 0.0 && rate <= 1.0) => Err(RuleError::Rate),
            Action::Short { bytes } | Action::Long { bytes } | Action::Before { bytes }
                if bytes > MAX_BYTES =>
            {
                Err(RuleError::TooLong)
            }
            _ => Ok(()),
        }
    }

    /// Whether it is about this message of the guest.
    pub(super) fn is_about(&self, seen: &Seen) -> bool {
        (seen.answered || !self.action.needs_answer()) && self.on.matches(seen)
    }
}

impl Action {
    /// Whether it acts on an answer.
    fn needs_answer(&self) -> bool {
        !matches!(
            self,
            Self::Delay { .. } | Self::DropMessage {} | Self::Operation { .. }
        )
    }

    /// Whether it acts on what only commands have.
    fn needs_command(&self) -> bool {
        matches!(
            self,
            Self::DropAnswer {} | Self::Status { .. } | Self::WrongId {} | Self::Before { .. }
        )
    }
}
