// SPDX-License-Identifier: GPL-2.0-only

//! Statistics of the host: blocks of bytes this protocol does not look into (protocol 4.11).

use super::codes::StatisticsType;
use super::command::{fixed_command, reply};
use super::ids::Luid;
use super::status::NtStatus;
use super::wire::wire_struct;
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of a block of statistics.
pub const STATISTICS_SIZE: usize = 776;

/// Asks for statistics about the process in the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct QueryStatistics {
    /// Which statistics.
    pub kind: StatisticsType,
    /// The host's adapter.
    pub adapter_luid: Luid,
    /// Padding.
    pub _pad0: u32,
    /// Zero.
    pub process: u64,
    /// What the caller gave to select what it wants.
    pub result: [u8; STATISTICS_SIZE],
    /// Padding.
    pub _pad1: [u8; 8],
}

wire_struct!(QueryStatistics = 808);

impl QueryStatistics {
    /// Which segment, node or segment group is asked about. Hosts take it from behind the block.
    pub fn selector(&self) -> u32 {
        let [a, b, c, d, ..] = self._pad1;
        u32::from_le_bytes([a, b, c, d])
    }

    /// The same question about another segment, node or segment group.
    pub fn about(mut self, selector: u32) -> Self {
        let [a, b, c, d] = selector.to_le_bytes();
        self._pad1 = [a, b, c, d, 0, 0, 0, 0];
        self
    }
}

fixed_command!(QueryStatistics => QueryStatisticsReply);

/// The statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct QueryStatisticsReply {
    /// Success or not.
    pub status: NtStatus,
    /// Zero.
    pub reserved: u32,
    /// The block.
    pub result: [u8; STATISTICS_SIZE],
}

wire_struct!(QueryStatisticsReply = 784);
reply!(QueryStatisticsReply, status);
