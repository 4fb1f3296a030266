// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which messages a rule is about.

use gpupv::CommandId;
use serde::Deserialize;

use super::Seen;
use crate::env::Channel;

/// The messages that a rule is about, and which of them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct On {
    /// These commands of the guest; none if not given.
    pub command: Option<CommandMatch>,
    /// These events of the host; none if not given.
    pub event: Option<EventMatch>,
    /// Commands on this channel.
    #[serde(default)]
    pub channel: ChannelMatch,
    /// Commands for this virtual GPU; global commands are for none.
    pub vgpu: Option<usize>,
    /// The first match that counts, 1 being the next one.
    #[serde(default = "one")]
    pub nth: u64,
    /// How many matches from there on; 0: all.
    #[serde(default = "one")]
    pub count: u64,
}

const fn one() -> u64 {
    1
}

/// A command, or all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "NumberOrName")]
pub enum CommandMatch {
    /// Every message, what is no command included.
    Any,
    /// One that has a name.
    Command(CommandId),
    /// One of this number on any channel, known or not.
    Number(u32),
}

/// An event, or all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum EventMatch {
    /// Every event.
    #[serde(rename = "any")]
    Any,
    /// A guest event.
    Signal,
    /// The state of a device.
    SetGuestData,
}

/// A kind of channel, or all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChannelMatch {
    /// Every channel.
    #[default]
    Any,
    /// The channel of the VM.
    Global,
    /// The channel of a virtual GPU.
    Vgpu,
}

/// How numbers with names are written.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a number or a name")]
pub(super) enum NumberOrName {
    Number(u32),
    Name(String),
}

impl TryFrom<NumberOrName> for CommandMatch {
    type Error = String;

    fn try_from(text: NumberOrName) -> Result<Self, String> {
        let name = match text {
            NumberOrName::Number(number) => return Ok(Self::Number(number)),
            NumberOrName::Name(name) if name == "any" => return Ok(Self::Any),
            NumberOrName::Name(name) => name,
        };
        let named = |id: &&CommandId| format!("{id:?}") == name || id.name() == name;
        let found = CommandId::ALL.iter().find(named);
        found
            .map(|id| Self::Command(*id))
            .ok_or_else(|| format!("there is no command {name:?}"))
    }
}

impl On {
    /// Whether it is about this message of the guest.
    pub(super) fn matches(&self, seen: &Seen) -> bool {
        let command = match self.command {
            None => false,
            Some(CommandMatch::Any) => true,
            Some(CommandMatch::Command(id)) => seen.command == Some(id),
            Some(CommandMatch::Number(number)) => seen.number == Some(number),
        };
        let channel = match self.channel {
            ChannelMatch::Any => true,
            ChannelMatch::Global => seen.channel == Channel::Global,
            ChannelMatch::Vgpu => seen.channel != Channel::Global,
        };
        let vgpu = self
            .vgpu
            .is_none_or(|wanted| seen.vgpu.is_some_and(|id| id.index() == wanted));
        command && channel && vgpu
    }

    /// Whether it is about an event of this number.
    pub(super) fn matches_event(&self, number: u32) -> bool {
        const SET_GUEST_DATA: u32 = 2;
        match self.event {
            None => false,
            Some(EventMatch::Any) => true,
            Some(EventMatch::Signal) => number != SET_GUEST_DATA,
            Some(EventMatch::SetGuestData) => number == SET_GUEST_DATA,
        }
    }
}
