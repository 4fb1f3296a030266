// SPDX-License-Identifier: GPL-2.0-only

//! Whole guest-to-host messages: headers and request together.

use super::command::Command;
use super::commands::CommandId;
use super::discovery::Version;
use super::error::{DecodeError, EncodeError};
use super::handle::Handle;
use super::header::{ChannelType, CommandHeader, ExtHeader};
use super::ids::Luid;
use super::limits::MAX_MESSAGE;
use super::request::Request;
use super::wire::{length, read, split, Writer};

/// Where a guest's message goes and how it travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The negotiated version.
    pub version: Version,
    /// The host's LUID of the virtual GPU; not sent with global commands.
    pub vgpu: Luid,
    /// The host process; not sent with commands that belong to none.
    pub process: Handle,
    /// Whether the message wants no reply.
    pub asynchronous: bool,
}

impl Route {
    /// A synchronous message of no process to the VM's host.
    pub const fn global(version: Version) -> Self {
        Self::adapter(version, Luid::ZERO)
    }

    /// A synchronous message of no process to a virtual GPU.
    pub const fn adapter(version: Version, vgpu: Luid) -> Self {
        Self {
            version,
            vgpu,
            process: Handle::NONE,
            asynchronous: false,
        }
    }

    /// The same route for a host process.
    pub const fn with_process(self, process: Handle) -> Self {
        Self { process, ..self }
    }

    /// The same route without a reply.
    pub const fn without_reply(self) -> Self {
        Self {
            asynchronous: true,
            ..self
        }
    }
}

impl<C: Command> Request<'_, C> {
    /// Length of the whole message.
    ///
    /// # Errors
    ///
    /// [`EncodeError::TooLong`] when it is above [`MAX_MESSAGE`].
    pub fn message_len(&self, version: Version) -> Result<usize, EncodeError> {
        message_len(version, self.len_after_header())
    }

    /// Writes the whole message at the start of `out` and returns its length.
    ///
    /// # Errors
    ///
    /// [`EncodeError::NoRoom`] when `out` is too small, [`EncodeError::TooLong`] when no buffer
    /// would do, [`EncodeError::NotAsynchronous`] when the route asks for what this command cannot.
    pub fn encode(&self, route: &Route, out: &mut [u8]) -> Result<usize, EncodeError> {
        let needed = self.message_len(route.version)?;
        let room = out.len();
        let out = out
            .get_mut(..needed)
            .ok_or(EncodeError::NoRoom { needed, room })?;
        let mut out = Writer::new(out);
        write_headers::<C>(route, &mut out)?;
        self.write(&mut out)?;
        Ok(out.written())
    }
}

/// Length of a message of which `rest` bytes follow the command header.
///
/// # Errors
///
/// [`EncodeError::TooLong`] when it is above [`MAX_MESSAGE`].
pub(super) fn message_len(version: Version, rest: usize) -> Result<usize, EncodeError> {
    let headers = if version.has_ext_header() {
        size_of::<ExtHeader>() + size_of::<CommandHeader>()
    } else {
        size_of::<CommandHeader>()
    };
    let len = rest.saturating_add(headers);
    if len > MAX_MESSAGE {
        return Err(EncodeError::TooLong {
            len,
            limit: MAX_MESSAGE,
        });
    }
    Ok(len)
}

/// Writes the headers of a message.
///
/// # Errors
///
/// [`EncodeError::NoRoom`] when `out` is too small, [`EncodeError::NotAsynchronous`] when the route asks
/// for what this command cannot.
pub(super) fn write_headers<C: Command>(
    route: &Route,
    out: &mut Writer<'_>,
) -> Result<(), EncodeError> {
    if route.asynchronous && !C::ID.may_be_async() {
        return Err(EncodeError::NotAsynchronous);
    }
    let channel = C::ID.channel();
    if route.version.has_ext_header() {
        out.value(&ExtHeader::new(match channel {
            ChannelType::Adapter => route.vgpu,
            ChannelType::Global | ChannelType::HostToGuest => Luid::ZERO,
        }))?;
    }
    let process = if C::ID.has_process() {
        route.process
    } else {
        Handle::NONE
    };
    out.value(&CommandHeader::new(
        channel,
        route.asynchronous,
        process,
        C::ID.number(),
    ))
}

/// A guest's message as a host sees it: headers read, the rest still bytes.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    vgpu: Luid,
    header: CommandHeader,
    rest: &'a [u8],
}

impl<'a> Message<'a> {
    /// Reads the headers of a message.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Short`] when they are not all there, [`DecodeError::CommandOffset`] when the
    /// extended header points into itself.
    pub fn decode(version: Version, bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let (vgpu, command) = if version.has_ext_header() {
            let (ext, _): (ExtHeader, _) = read(bytes)?;
            let offset = length(ext.command_offset);
            if offset < size_of::<ExtHeader>() {
                return Err(DecodeError::CommandOffset(ext.command_offset));
            }
            (ext.vgpu_luid, split(bytes, offset)?.1)
        } else {
            (Luid::ZERO, bytes)
        };
        let (header, rest) = read(command)?;
        Ok(Self { vgpu, header, rest })
    }

    /// The virtual GPU named in the extended header; zero when there is none.
    pub fn vgpu(&self) -> Luid {
        self.vgpu
    }

    /// The command header.
    pub fn header(&self) -> &CommandHeader {
        &self.header
    }

    /// The host process the command is for, or none.
    pub fn process(&self) -> Handle {
        self.header.process
    }

    /// Whether the guest expects no reply.
    pub fn is_async(&self) -> bool {
        self.header.channel.is_async()
    }

    /// Which command this is.
    ///
    /// # Errors
    ///
    /// [`DecodeError::ChannelType`] when a guest may not send on that channel type,
    /// [`DecodeError::UnknownCommand`] when the channel has no such command.
    pub fn id(&self) -> Result<CommandId, DecodeError> {
        let channel_type = self.header.channel.channel_type();
        let channel = match channel_type {
            0 => ChannelType::Adapter,
            1 => ChannelType::Global,
            other => return Err(DecodeError::ChannelType(other)),
        };
        let number = self.header.command_type;
        CommandId::find(channel, number).ok_or(DecodeError::UnknownCommand {
            channel_type,
            number,
        })
    }

    /// Reads the rest as the command `C`.
    ///
    /// # Errors
    ///
    /// [`DecodeError::WrongCommand`] when it is another one, [`DecodeError::Short`] when its
    /// counts announce more than there is, and what [`Message::id`] returns.
    pub fn parse<C: Command>(&self) -> Result<Request<'a, C>, DecodeError> {
        if self.id()? != C::ID {
            return Err(DecodeError::WrongCommand {
                expected: C::ID.number(),
                got: self.header.command_type,
            });
        }
        Request::parse(self.rest)
    }

    /// Everything after the command header.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}
