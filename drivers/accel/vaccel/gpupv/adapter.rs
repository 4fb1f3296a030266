// SPDX-License-Identifier: GPL-2.0-only

//! Virtual GPUs: opening, identity, generic queries, features (protocol 3.3, 4.3).
//!
//! A virtual GPU is opened once for the whole VM.

use super::codes::{FeatureId, QueryType};
use super::command::{fixed_command, reply, Command, NoFixedReply};
use super::commands::CommandId;
use super::discovery::Version;
use super::error::{DecodeError, EncodeError};
use super::flags::{AdapterCaps, DeviceTypes, FeatureFlags, FeatureState};
use super::handle::Handle;
use super::ids::Luid;
use super::process::utf16;
use super::status::NtStatus;
use super::wire::{count, length, split, wire_struct};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Opens a virtual GPU. The first message after its channel was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct OpenAdapter {
    /// The negotiated version.
    pub interface_version: u32,
    /// The oldest version the guest can work with.
    pub last_compatible_version: u32,
    /// Zero.
    pub guest_adapter_luid: Luid,
}

wire_struct!(OpenAdapter = 16);
fixed_command!(OpenAdapter => OpenAdapterReply);

impl OpenAdapter {
    /// Opens with the negotiated version.
    pub const fn new(version: Version) -> Self {
        Self {
            interface_version: version.raw(),
            last_compatible_version: Version::LAST_COMPATIBLE.raw(),
            guest_adapter_luid: Luid::ZERO,
        }
    }
}

/// The opened GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct OpenAdapterReply {
    /// The host's handle, for commands that name an adapter.
    pub adapter: Handle,
    /// Success or not.
    pub status: NtStatus,
    /// The host's version.
    pub interface_version: u32,
    /// The oldest version the host can work with.
    pub last_compatible_version: u32,
}

wire_struct!(OpenAdapterReply = 16);
reply!(OpenAdapterReply, status);

/// Closes a virtual GPU. The completion has no content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CloseAdapter {
    /// The handle from [`OpenAdapterReply`].
    pub adapter: Handle,
    /// Padding.
    pub _pad: u32,
}

wire_struct!(CloseAdapter = 8);
fixed_command!(CloseAdapter => NoFixedReply);

/// Asks for identity and capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GetInternalAdapterInfo;

wire_struct!(GetInternalAdapterInfo = 0);

impl Command for GetInternalAdapterInfo {
    const ID: CommandId = CommandId::GetInternalAdapterInfo;
    type Tail<'a> = ();
    type Reply = AdapterInfo;
    type ReplyTail<'a> = ();

    fn parse_tail(&self, _bytes: &[u8]) -> Result<(), DecodeError> {
        Ok(())
    }

    fn reply_fixed_len(version: Version) -> usize {
        if version.has_ext_header() {
            size_of::<AdapterInfo>()
        } else {
            size_of::<AdapterInfo>().saturating_sub(size_of::<Luid>())
        }
    }

    fn parse_reply_tail(&self, _reply: &AdapterInfo, _bytes: &[u8]) -> Result<(), DecodeError> {
        Ok(())
    }
}

/// Identity and capabilities of a virtual GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct AdapterInfo {
    /// Kind of adapter.
    pub device_types: DeviceTypes,
    /// How the driver store is copied.
    pub driver_store_copy_mode: u32,
    /// Version of the host's driver interface.
    pub driver_ddi_version: u32,
    /// Capabilities.
    pub caps: AdapterCaps,
    /// The host's adapter, for statistics.
    pub host_adapter_luid: Luid,
    /// Description in UTF-16, ended by a zero.
    pub device_description: [u16; 80],
    /// Instance id in UTF-16, ended by a zero.
    pub device_instance_id: [u16; 260],
    /// The LUID for the extended header; zero, and not sent, below version 40.
    pub host_vgpu_luid: Luid,
}

wire_struct!(AdapterInfo = 712);
reply!(AdapterInfo, short);

impl AdapterInfo {
    /// The characters of the description.
    pub fn description(&self) -> impl Iterator<Item = char> + '_ {
        utf16(&self.device_description)
    }

    /// The characters of the instance id.
    pub fn instance_id(&self) -> impl Iterator<Item = char> + '_ {
        utf16(&self.device_instance_id)
    }

    /// The same information with another description, cut to what fits.
    pub fn with_description(mut self, text: &str) -> Self {
        set_utf16(&mut self.device_description, text);
        self
    }

    /// The same information with another instance id, cut to what fits.
    pub fn with_instance_id(mut self, text: &str) -> Self {
        set_utf16(&mut self.device_instance_id, text);
        self
    }
}

fn set_utf16(to: &mut [u16], text: &str) {
    to.fill(0);
    if let Some((_end, room)) = to.split_last_mut() {
        for (to, unit) in room.iter_mut().zip(text.encode_utf16()) {
            *to = unit;
        }
    }
}

/// A generic query: data goes in, as much comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct QueryAdapterInfo {
    /// What is asked.
    pub query_type: QueryType,
    /// Bytes of data.
    pub private_data_size: u32,
}

wire_struct!(QueryAdapterInfo = 8);

impl Command for QueryAdapterInfo {
    const ID: CommandId = CommandId::QueryAdapterInfo;
    type Tail<'a> = &'a [u8];
    type Reply = QueryAdapterInfoReply;
    type ReplyTail<'a> = &'a [u8];

    fn set_counts(&mut self, tail: &&[u8]) -> Result<(), EncodeError> {
        self.private_data_size = count(tail.len())?;
        Ok(())
    }

    fn parse_tail<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8], DecodeError> {
        Ok(split(bytes, length(self.private_data_size))?.0)
    }

    fn slack(&self) -> usize {
        7
    }

    fn reply_fixed_len(version: Version) -> usize {
        if version.has_ext_header() {
            size_of::<QueryAdapterInfoReply>()
        } else {
            0
        }
    }

    fn reply_len(&self, _tail: &&[u8], version: Version) -> usize {
        Self::reply_fixed_len(version).saturating_add(length(self.private_data_size))
    }

    fn parse_reply_tail<'a>(
        &self,
        _reply: &QueryAdapterInfoReply,
        bytes: &'a [u8],
    ) -> Result<&'a [u8], DecodeError> {
        Ok(split(bytes, length(self.private_data_size))?.0)
    }
}

/// What stands before the answered data; not sent, and success, below version 40.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct QueryAdapterInfoReply {
    /// Success or not.
    pub status: NtStatus,
}

wire_struct!(QueryAdapterInfoReply = 4);
reply!(QueryAdapterInfoReply, status);

/// Asks whether this GPU has a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct IsFeatureEnabled {
    /// Which feature.
    pub feature: FeatureId,
    /// Padding.
    pub _pad: u32,
}

wire_struct!(IsFeatureEnabled = 8);
fixed_command!(IsFeatureEnabled => IsFeatureEnabledReply);

/// Asks whether the host has a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct IsFeatureEnabledGlobal {
    /// Which feature.
    pub feature: FeatureId,
    /// Padding.
    pub _pad: u32,
}

wire_struct!(IsFeatureEnabledGlobal = 8);
fixed_command!(IsFeatureEnabledGlobal => IsFeatureEnabledReply);

/// What the host knows of a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct IsFeatureEnabledReply {
    /// Success or not.
    pub status: NtStatus,
    /// Oldest version of the feature.
    pub min_supported_version: u16,
    /// Newest version of the feature.
    pub max_supported_version: u16,
    /// Properties.
    pub flags: FeatureFlags,
    /// The version in use.
    pub version: u16,
    /// State.
    pub state: FeatureState,
    /// Padding.
    pub _pad: u16,
}

wire_struct!(IsFeatureEnabledReply = 16);
reply!(IsFeatureEnabledReply, status);
