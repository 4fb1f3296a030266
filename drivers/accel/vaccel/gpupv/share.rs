// SPDX-License-Identifier: GPL-2.0-only

//! Sharing between processes and with the host (protocol 4.8).
//!
//! An NT shared object keeps a resource or a sync object alive while a guest's file descriptor
//! stands for it.

use super::command::{fixed_command, reply, Command};
use super::commands::CommandId;
use super::discovery::Version;
use super::error::DecodeError;
use super::handle::Handle;
use super::list::List;
use super::status::NtStatus;
use super::wire::{align8, length, wire_struct, Bool8};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Makes an object shareable by a name of the whole VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CreateNtSharedObject {
    /// The resource or sync object.
    pub object: Handle,
    /// Padding.
    pub _pad: u32,
}

wire_struct!(CreateNtSharedObject = 8);
fixed_command!(CreateNtSharedObject => CreateNtSharedObjectReply);

/// The name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CreateNtSharedObjectReply {
    /// The name; none on failure.
    pub shared_handle: Handle,
}

wire_struct!(CreateNtSharedObjectReply = 4);
reply!(CreateNtSharedObjectReply, zero);

/// Drops the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct DestroyNtSharedObject {
    /// The name.
    pub shared_handle: Handle,
    /// Padding.
    pub _pad: u32,
}

wire_struct!(DestroyNtSharedObject = 8);
fixed_command!(DestroyNtSharedObject => NtStatus);

/// Makes a handle by which a program on the host can open an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ShareObjectWithHost {
    /// The device.
    pub device: Handle,
    /// The object.
    pub object: Handle,
    /// Zero.
    pub reserved: u64,
}

wire_struct!(ShareObjectWithHost = 16);
fixed_command!(ShareObjectWithHost => ShareObjectWithHostReply);

/// The handle on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ShareObjectWithHostReply {
    /// Success or not.
    pub status: NtStatus,
    /// Padding.
    pub _pad: u32,
    /// The handle.
    pub vail_nt_handle: u64,
}

wire_struct!(ShareObjectWithHostReply = 16);
reply!(ShareObjectWithHostReply, status);

/// Opens a shared resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct OpenResource {
    /// The device that gets it.
    pub device: Handle,
    /// True.
    pub nt_security_sharing: Bool8,
    /// Padding.
    pub _pad0: [u8; 3],
    /// Its name, from [`CreateNtSharedObjectReply`].
    pub global_share: Handle,
    /// How many allocations it has.
    pub allocation_count: u32,
    /// Room the caller has for private data.
    pub total_priv_drv_data_size: u32,
    /// Padding.
    pub _pad1: u32,
}

wire_struct!(OpenResource = 24);

impl Command for OpenResource {
    const ID: CommandId = CommandId::OpenResource;
    type Tail<'a> = ();
    type Reply = OpenResourceReply;
    /// The allocations.
    type ReplyTail<'a> = List<'a, Handle>;

    fn parse_tail(&self, _bytes: &[u8]) -> Result<(), DecodeError> {
        Ok(())
    }

    fn reply_len(&self, _tail: &(), _version: Version) -> usize {
        let handles = length(self.allocation_count).saturating_mul(size_of::<Handle>());
        align8(size_of::<OpenResourceReply>().saturating_add(handles))
    }

    fn parse_reply_tail<'a>(
        &self,
        _reply: &OpenResourceReply,
        bytes: &'a [u8],
    ) -> Result<List<'a, Handle>, DecodeError> {
        Ok(List::take(bytes, self.allocation_count)?.0)
    }
}

/// The opened resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct OpenResourceReply {
    /// The resource in this process.
    pub resource: Handle,
    /// Success or not.
    pub status: NtStatus,
}

wire_struct!(OpenResourceReply = 8);
reply!(OpenResourceReply, status);
