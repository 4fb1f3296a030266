// SPDX-License-Identifier: MIT OR Apache-2.0
//! Messages: layouts, parser, encoders.

use serde::Serialize;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::pages::Range;

/// Class of the channel, {525074DC-8985-46E2-8057-A307DC18A502}, in the byte order of the wire.
pub const CHANNEL_CLASS: [u8; 16] = [
    0xDC, 0x74, 0x50, 0x52, 0x85, 0x89, 0xE2, 0x46, 0x80, 0x57, 0xA3, 0x07, 0xDC, 0x18, 0xA5, 0x02,
];
/// Pages of 4096 bytes.
pub const PAGES_PER_MIB: u64 = 256;

/// Versions that are spoken.
pub(crate) const VERSIONS: [u32; 3] = [0x3, 0x1_0000, 0x2_0000];

pub(crate) mod kind {
    pub const VERSION_REQUEST: u16 = 1;
    pub const VERSION_RESPONSE: u16 = 2;
    pub const CAPABILITIES_REPORT: u16 = 3;
    pub const CAPABILITIES_RESPONSE: u16 = 4;
    pub const STATUS_REPORT: u16 = 5;
    pub const BALLOON_REQUEST: u16 = 6;
    pub const BALLOON_RESPONSE: u16 = 7;
    pub const UNBALLOON_REQUEST: u16 = 8;
    pub const UNBALLOON_RESPONSE: u16 = 9;
}

/// Names of kinds, from 0 on.
const NAMES: [&str; 13] = [
    "ERROR",
    "VERSION_REQUEST",
    "VERSION_RESPONSE",
    "CAPABILITIES_REPORT",
    "CAPABILITIES_RESPONSE",
    "STATUS_REPORT",
    "BALLOON_REQUEST",
    "BALLOON_RESPONSE",
    "UNBALLOON_REQUEST",
    "UNBALLOON_RESPONSE",
    "MEM_HOT_ADD_REQUEST",
    "MEM_HOT_ADD_RESPONSE",
    "INFO_MESSAGE",
];

/// The number of the kind of a message, if it is long enough to have one.
pub fn number(payload: &[u8]) -> Option<u32> {
    let bytes = payload.first_chunk::<2>()?;
    Some(u16::from_le_bytes(*bytes).into())
}

/// The name of a kind of message.
pub fn name(number: u32) -> Option<&'static str> {
    NAMES.get(usize::try_from(number).ok()?).copied()
}

/// Bits of the guest's capabilities.
pub(crate) const CAN_BALLOON: u64 = 1;

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct Header {
    kind: U16,
    size: U16,
    transaction: U32,
}

const HEADER_LEN: usize = 8;
/// Bytes of a message before its ranges.
const RANGES_AT: usize = 16;
/// Longest message that a guest takes.
const MAX_MESSAGE: usize = 4096;
/// Most ranges in a message of the host.
pub(crate) const MAX_RANGES: usize = (MAX_MESSAGE - RANGES_AT) / 8;
/// Bits of a range's first page; the others are its length.
const FIRST_BITS: u32 = 40;
/// Most pages in a range.
pub(crate) const MAX_COUNT: u64 = (1 << (64 - FIRST_BITS)) - 1;

#[derive(Debug, Clone, Copy, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct VersionRequest {
    version: U32,
    flags: U32,
}

#[derive(Debug, Clone, Copy, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Capabilities {
    caps: U64,
    min_pages: U64,
    max_page: U64,
}

#[derive(Debug, Clone, Copy, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Status {
    available: U64,
    committed: U64,
    page_file: U64,
    zero_free: U64,
    page_file_writes: U32,
    io_difference: U32,
}

#[derive(Debug, Clone, Copy, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Given {
    reserved: U32,
    /// Bit 0: more messages follow. The others: how many ranges.
    flags: U32,
}

/// What the guest says of its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Pressure {
    /// Pages that it could use.
    pub available_pages: u64,
    /// Pages that it needs, those that it gave among them.
    pub committed_pages: u64,
}

/// A message of the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    Version(u32),
    Capabilities(u64),
    Status(Pressure),
    Given { ranges: Vec<Range>, more: bool },
    TakenBack,
}

/// Why a message was not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ParseError {
    #[error("message {kind} says it has {size} bytes, of {len}")]
    Length { kind: u16, size: usize, len: usize },
    #[error("message {kind} is none of the guest")]
    Unknown { kind: u16 },
}

impl Request {
    /// Takes a message apart.
    pub fn parse(payload: &[u8]) -> Result<Self, ParseError> {
        let len = payload.len();
        let header = Header::ref_from_prefix(payload).map_err(|_| ParseError::Length {
            kind: 0,
            size: HEADER_LEN,
            len,
        });
        let (header, _) = header?;
        let (kind, size) = (header.kind.get(), usize::from(header.size.get()));
        let error = ParseError::Length { kind, size, len };
        let body = payload.get(HEADER_LEN..size).ok_or(error)?;
        match kind {
            kind::VERSION_REQUEST => {
                let request: &VersionRequest = prefix(body).ok_or(error)?;
                Ok(Self::Version(request.version.get()))
            }
            kind::CAPABILITIES_REPORT => {
                let report: &Capabilities = prefix(body).ok_or(error)?;
                Ok(Self::Capabilities(report.caps.get()))
            }
            kind::STATUS_REPORT => {
                let status: &Status = prefix(body).ok_or(error)?;
                Ok(Self::Status(Pressure {
                    available_pages: status.available.get(),
                    committed_pages: status.committed.get(),
                }))
            }
            kind::BALLOON_RESPONSE => given(body).ok_or(error),
            kind::UNBALLOON_RESPONSE => Ok(Self::TakenBack),
            _ => Err(ParseError::Unknown { kind }),
        }
    }
}

fn given(body: &[u8]) -> Option<Request> {
    let (given, rest) = Given::ref_from_prefix(body).ok()?;
    let flags = given.flags.get();
    let count = usize::try_from(flags >> 1).ok()?;
    let ranges = rest.get(..count.checked_mul(8)?)?;
    let ranges = ranges.chunks_exact(8).filter_map(|bytes| {
        let word = u64::from_le_bytes(*bytes.first_chunk()?);
        Some(Range {
            first: word & ((1 << FIRST_BITS) - 1),
            count: word >> FIRST_BITS,
        })
    });
    Some(Request::Given {
        ranges: ranges.collect(),
        more: flags & 1 != 0,
    })
}

fn prefix<T: FromBytes + KnownLayout + Immutable + Unaligned>(body: &[u8]) -> Option<&T> {
    T::ref_from_prefix(body).ok().map(|(message, _)| message)
}

/// A message of the host.
fn message(kind: u16, transaction: u32, body: &[u8]) -> Vec<u8> {
    let size = HEADER_LEN.saturating_add(body.len());
    let header = Header {
        kind: U16::new(kind),
        size: U16::new(u16::try_from(size).unwrap_or(u16::MAX)),
        transaction: U32::new(transaction),
    };
    [header.as_bytes(), body].concat()
}

/// Whether a version or the guest's capabilities are accepted.
pub(crate) fn accept(kind: u16, transaction: u32, accepted: bool) -> Vec<u8> {
    message(kind, transaction, &u64::from(accepted).to_le_bytes())
}

/// Asks for so many pages.
pub(crate) fn ask(transaction: u32, pages: u32) -> Vec<u8> {
    let body = u64::from(pages).to_le_bytes();
    message(kind::BALLOON_REQUEST, transaction, &body)
}

/// Gives pages back, at most [`MAX_RANGES`] ranges of at most [`MAX_COUNT`] pages.
pub(crate) fn give_back(transaction: u32, ranges: &[Range]) -> Vec<u8> {
    // No more messages of this transaction follow.
    let mut body = 0_u32.to_le_bytes().to_vec();
    body.extend(u32::try_from(ranges.len()).unwrap_or(0).to_le_bytes());
    for range in ranges {
        let word = range.first | range.count << FIRST_BITS;
        body.extend(word.to_le_bytes());
    }
    message(kind::UNBALLOON_REQUEST, transaction, &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// Messages of the host have their members where the guest looks for them.
    #[test]
    fn encoding() {
        let accepted = accept(kind::VERSION_RESPONSE, 5, true);
        assert_eq!(accepted, words(&[0x10_0002, 5, 1, 0]));
        assert_eq!(ask(6, 512), words(&[0x10_0006, 6, 512, 0]));
        let range = Range {
            first: 0x12_3456_789A,
            count: 0x51,
        };
        let back = give_back(7, &[range]);
        assert_eq!(back, words(&[0x18_0008, 7, 0, 1, 0x3456_789A, 0x5112]));
        let most = vec![range; MAX_RANGES];
        assert!(give_back(8, &most).len() <= MAX_MESSAGE);
    }

    /// Each message is understood in the length it says, refused a byte short of what it needs, and refused
    /// if it says more than there is.
    #[test]
    fn parsing() {
        let pressure = Pressure {
            available_pages: 7,
            committed_pages: 8,
        };
        let given = Request::Given {
            ranges: vec![Range {
                first: 0x200,
                count: 3,
            }],
            more: true,
        };
        for (kind, body, request) in [
            (1, words(&[0x2_0000, 1]), Request::Version(0x2_0000)),
            (3, words(&[3, 0, 0, 0, 0, 0]), Request::Capabilities(3)),
            (
                5,
                words(&[7, 0, 8, 0, 0, 0, 0, 0, 0, 0]),
                Request::Status(pressure),
            ),
            (7, words(&[0, 3, 0x200, 0x300]), given),
        ] {
            let good = message(kind, 1, &body);
            assert_eq!(Request::parse(&good), Ok(request));
            let short = message(kind, 1, &body[..body.len() - 1]);
            assert!(Request::parse(&short).is_err(), "{kind}");
            assert!(Request::parse(&good[..good.len() - 1]).is_err(), "{kind}");
        }
        assert_eq!(Request::parse(&message(9, 1, &[])), Ok(Request::TakenBack));
        for kind in [0, 2, 6, 11, 13, u16::MAX] {
            let error = Request::parse(&message(kind, 1, &[0; 64])).unwrap_err();
            assert_eq!(error, ParseError::Unknown { kind });
        }
        let many = message(7, 1, &words(&[0, u32::MAX, 0, 0]));
        assert!(Request::parse(&many).is_err());
        let small = words(&[0x4_0009, 1]);
        assert!(Request::parse(&small).is_err(), "smaller than its header");
        assert!(Request::parse(&[9, 0]).is_err());
    }

    /// Kinds have names up to the last.
    #[test]
    fn names() {
        assert_eq!((name(6), name(13)), (Some("BALLOON_REQUEST"), None));
        assert_eq!(number(&ask(1, 1)), Some(6));
    }
}
