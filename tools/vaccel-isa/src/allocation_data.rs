// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an allocation in memory of the host is made as: the private data of an allocation in
//! CREATEALLOCATION (gpu-pv protocol: create allocation). Guest memory needs none.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, IntoBytes};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// First four bytes of the private data: "VALC" read as a little-endian word.
pub const ALLOCATION_DATA_MAGIC: u32 = u32::from_le_bytes(*b"VALC");
/// Bytes of the private data.
pub const ALLOCATION_DATA_BYTES: usize = size_of::<WireAllocationData>();

/// Which memory an allocation is in while it is resident.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Segment {
    /// The virtual GPU's own.
    #[default]
    Local,
    /// The host's system memory.
    NonLocal,
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct WireAllocationData {
    magic: U32,
    segment: U32,
    size: U64,
    reserved: [u8; 16],
}

/// An allocation's description in typed form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AllocationData {
    /// Bytes; the host rounds up to pages.
    pub size: u64,
    /// Where it is.
    pub segment: Segment,
}

impl AllocationData {
    /// The private data as bytes.
    pub fn to_bytes(&self) -> [u8; ALLOCATION_DATA_BYTES] {
        let wire = WireAllocationData {
            magic: ALLOCATION_DATA_MAGIC.into(),
            segment: match self.segment {
                Segment::Local => 0,
                Segment::NonLocal => 1,
            }
            .into(),
            size: self.size.into(),
            reserved: [0; 16],
        };
        let mut bytes = [0; ALLOCATION_DATA_BYTES];
        for (to, from) in bytes.iter_mut().zip(wire.as_bytes()) {
            *to = *from;
        }
        bytes
    }

    /// Reads private data. `None` unless it is exactly that: foreign or of another length, with an
    /// unknown segment or reserved bytes that are not zero, or of no bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let wire = WireAllocationData::ref_from_bytes(bytes).ok()?;
        let segment = match wire.segment.get() {
            0 => Segment::Local,
            1 => Segment::NonLocal,
            _ => return None,
        };
        let fits = wire.magic.get() == ALLOCATION_DATA_MAGIC
            && wire.reserved == [0; 16]
            && wire.size.get() != 0;
        fits.then_some(Self {
            size: wire.size.get(),
            segment,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The private data is 32 bytes, survives a round trip, and is refused when it is cut, longer,
    /// foreign, empty, or has bits that mean nothing.
    #[test]
    fn round_trip_and_refusals() {
        let data = AllocationData {
            size: 0x1_2345_6000,
            segment: Segment::NonLocal,
        };
        let bytes = data.to_bytes();
        assert_eq!(bytes.len(), 32);
        assert_eq!(AllocationData::from_bytes(&bytes), Some(data));
        assert_eq!(AllocationData::from_bytes(&bytes[..31]), None);
        let mut longer = bytes.to_vec();
        longer.push(0);
        assert_eq!(AllocationData::from_bytes(&longer), None);
        for at in [0, 5, 31] {
            let mut bad = bytes;
            bad[at] ^= 2;
            assert_eq!(AllocationData::from_bytes(&bad), None, "byte {at}");
        }
        let empty = AllocationData { size: 0, ..data };
        assert_eq!(AllocationData::from_bytes(&empty.to_bytes()), None);
    }
}
