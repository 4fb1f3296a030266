// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the documents of the protocol leave open, and how this host answers it unless told otherwise.
//!
//! A choice has a name and two values, the first of which is the usual one.
//! Documentation/accel/vaccel/protocol.rst says for each what it is about.

use crate::config::{HostConfig, PagingMode};

/// What was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choices {
    /// Contexts can have hardware queues, and the adapter says so.
    pub hw_scheduling: bool,
    /// Which values a submission to a hardware queue can name.
    pub progress_values: ProgressValues,
    /// What the initial state of a mutex means.
    pub mutex_start: MutexStart,
    /// A feature that the host does not know is answered as unknown, not refused.
    pub unknown_feature_answered: bool,
    /// Data of an escape to the driver comes back unchanged, and is not refused.
    pub escape_echoed: bool,
    /// Objects can be shared with programs of the host, and the adapter says so.
    pub host_sharing: bool,
    /// Guest events are sent by SIGNALGUESTEVENTPASSIVE.
    pub passive_events: bool,
    /// An asynchronous command that fails stops its device.
    pub async_failure_stops: bool,
    /// Unit of running times in statistics.
    pub running_time: RunningTime,
    /// Completions whose content is not known have a status in them.
    pub status_in_empty_replies: bool,
    /// A failure is a bare status also where guests take that for the reply.
    pub status_as_short_reply: bool,
}

/// Which values a submission to a hardware queue can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgressValues {
    /// Any; one that is not higher leaves the fence as it is.
    Any,
    /// Only one above that of the submission before.
    Rising,
}

/// What the initial state of a mutex means if it is not zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MutexStart {
    /// Somebody has it.
    OwnedIfSet,
    /// Nobody has it.
    FreeIfSet,
}

/// Unit of running times in statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunningTime {
    /// 100 ns, as those that show these times take it.
    HundredNanoseconds,
    /// A microsecond, as the public header says.
    Microseconds,
}

impl Default for Choices {
    fn default() -> Self {
        Self {
            hw_scheduling: true,
            progress_values: ProgressValues::Any,
            mutex_start: MutexStart::OwnedIfSet,
            unknown_feature_answered: true,
            escape_echoed: true,
            host_sharing: true,
            passive_events: false,
            async_failure_stops: true,
            running_time: RunningTime::HundredNanoseconds,
            status_in_empty_replies: false,
            status_as_short_reply: false,
        }
    }
}

/// A choice that can be made by name.
#[derive(Debug)]
pub struct Choice {
    /// What it is called.
    pub name: &'static str,
    /// The usual value and the other one.
    pub values: [&'static str; 2],
    /// What it is about, in a line.
    pub about: &'static str,
    /// Makes it: the usual value, or the other one.
    set: fn(&mut HostConfig, bool),
}

/// All of them.
pub const CHOICES: &[Choice] = &[
    Choice {
        name: "paging",
        values: ["pending", "immediate"],
        about: "operations of paging queues are done after the answer, or before it",
        set: |config, usual| {
            config.paging = if usual {
                PagingMode::Pending
            } else {
                PagingMode::Immediate
            };
        },
    },
    Choice {
        name: "error-fences",
        values: ["highest", "kept"],
        about: "fences of a device that fails get the highest value, or keep theirs",
        set: |config, usual| config.max_value_on_error = usual,
    },
    Choice {
        name: "hw-scheduling",
        values: ["on", "off"],
        about: "contexts can have hardware queues, or not",
        set: |config, usual| config.choices.hw_scheduling = usual,
    },
    Choice {
        name: "progress-values",
        values: ["any", "rising"],
        about: "submissions to a hardware queue name any value, or only rising ones",
        set: |config, usual| {
            config.choices.progress_values = if usual {
                ProgressValues::Any
            } else {
                ProgressValues::Rising
            };
        },
    },
    Choice {
        name: "mutex-start",
        values: ["owned-if-set", "free-if-set"],
        about: "what the initial state of a mutex means",
        set: |config, usual| {
            config.choices.mutex_start = if usual {
                MutexStart::OwnedIfSet
            } else {
                MutexStart::FreeIfSet
            };
        },
    },
    Choice {
        name: "unknown-feature",
        values: ["answered", "refused"],
        about: "a feature the host does not know is answered as unknown, or refused",
        set: |config, usual| config.choices.unknown_feature_answered = usual,
    },
    Choice {
        name: "driver-escape",
        values: ["echoed", "refused"],
        about: "data of an escape to the driver comes back unchanged, or is refused",
        set: |config, usual| config.choices.escape_echoed = usual,
    },
    Choice {
        name: "host-sharing",
        values: ["on", "off"],
        about: "objects can be shared with programs of the host, or not",
        set: |config, usual| config.choices.host_sharing = usual,
    },
    Choice {
        name: "guest-events",
        values: ["active", "passive"],
        about: "guest events are sent by SIGNALGUESTEVENT, or by SIGNALGUESTEVENTPASSIVE",
        set: |config, usual| config.choices.passive_events = !usual,
    },
    Choice {
        name: "async-failure",
        values: ["stops", "ignored"],
        about: "an asynchronous command that fails stops its device, or nothing happens",
        set: |config, usual| config.choices.async_failure_stops = usual,
    },
    Choice {
        name: "running-time",
        values: ["100ns", "us"],
        about: "unit of running times in statistics",
        set: |config, usual| {
            config.choices.running_time = if usual {
                RunningTime::HundredNanoseconds
            } else {
                RunningTime::Microseconds
            };
        },
    },
    Choice {
        name: "empty-replies",
        values: ["empty", "status"],
        about: "completions of CLOSEADAPTER and DESTROYPAGINGQUEUE are empty, or have a status",
        set: |config, usual| config.choices.status_in_empty_replies = !usual,
    },
    Choice {
        name: "short-failures",
        values: ["empty", "status"],
        about: "failures whose bare status would pass for the reply are empty, or that status",
        set: |config, usual| config.choices.status_as_short_reply = !usual,
    },
];

/// A choice that cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChoiceError {
    /// There is none of that name.
    #[error("no choice is called {0:?}")]
    Name(String),
    /// It has no such value.
    #[error("{name} is {usual} or {other}, not {value:?}")]
    Value {
        /// The choice.
        name: &'static str,
        /// Its usual value.
        usual: &'static str,
        /// Its other value.
        other: &'static str,
        /// What was asked for.
        value: String,
    },
}

impl HostConfig {
    /// Makes a choice by name.
    ///
    /// # Errors
    ///
    /// [`ChoiceError`] if there is no such choice or value; nothing is changed then.
    pub fn choose(&mut self, name: &str, value: &str) -> Result<(), ChoiceError> {
        let choice = CHOICES.iter().find(|choice| choice.name == name);
        let choice = choice.ok_or_else(|| ChoiceError::Name(name.to_owned()))?;
        let [usual, other] = choice.values;
        if value != usual && value != other {
            return Err(ChoiceError::Value {
                name: choice.name,
                usual,
                other,
                value: value.to_owned(),
            });
        }
        (choice.set)(self, value == usual);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The usual values are what a host has that was told nothing, and each other value makes a
    /// difference; names and values that do not exist change nothing.
    #[test]
    fn usual_and_other() {
        let usual = format!("{:?}", HostConfig::default());
        for choice in CHOICES {
            let mut config = HostConfig::default();
            config.choose(choice.name, choice.values[1]).unwrap();
            assert_ne!(format!("{config:?}"), usual, "{}", choice.name);
            assert!(config.choose(choice.name, "neither").is_err());
            config.choose(choice.name, choice.values[0]).unwrap();
            assert_eq!(format!("{config:?}"), usual, "{}", choice.name);
        }
        let mut config = HostConfig::default();
        let unknown = config.choose("colour", "red");
        assert_eq!(unknown, Err(ChoiceError::Name("colour".into())));
        assert_eq!(format!("{config:?}"), usual);
    }
}
