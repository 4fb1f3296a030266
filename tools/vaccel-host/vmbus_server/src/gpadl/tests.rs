// SPDX-License-Identifier: MIT OR Apache-2.0
//! Page lists, good and bad.

use guest_memory::FlatMemory;

use super::*;

const CHANNEL: ChannelId = ChannelId(1);

fn memory() -> FlatMemory {
    FlatMemory::new(0, 64 << PAGE_SHIFT)
}

fn list(ranges: &[(u32, u32, &[u64])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (count, offset, pages) in ranges {
        bytes.extend_from_slice(&count.to_le_bytes());
        bytes.extend_from_slice(&offset.to_le_bytes());
        for page in *pages {
            bytes.extend_from_slice(&page.to_le_bytes());
        }
    }
    bytes
}

fn make(count: u16, bytes: &[u8]) -> Result<Vec<(u64, u64)>, GpadlError> {
    let mut table = GpadlTable::new(4, 64);
    table.start(CHANNEL, 7, count, bytes.len() as u16)?;
    match table.extend(7, bytes, &memory()) {
        Some(Ok(Progress::Ready(_))) => {}
        Some(Err((_, error))) => {
            assert!(table.get(7).is_none(), "a refused gpadl is gone");
            assert!(table.is_consistent());
            return Err(error);
        }
        other => panic!("{other:?}"),
    }
    let ranges = table.ready(CHANNEL, 7).unwrap();
    Ok(ranges.iter().map(|range| (range.gpa, range.len)).collect())
}

/// Several ranges, each with an offset in its first page and a part of its last one, become exactly
/// the bytes they describe.
#[test]
fn ranges_with_offsets() {
    let bytes = list(&[(0x1800, 0x900, &[4, 5, 9]), (16, 0xff8, &[20, 22])]);
    let ranges = make(2, &bytes).unwrap();
    assert_eq!(
        ranges,
        [
            (0x4900, 0x1700),
            (0x9000, 0x100),
            (0x14ff8, 8),
            (0x16000, 8)
        ]
    );
}

/// Every way in which a list can contradict itself or leave memory is refused.
#[test]
fn bad_lists() {
    let too_many: Vec<u64> = (0..64).collect();
    let cases: [(u16, Vec<u8>, &str); 9] = [
        (1, list(&[(0, 0, &[1])]), "range of 0 bytes"),
        (1, list(&[(8, 4096, &[1, 2])]), "at byte 4096"),
        (1, list(&[(8192, 1, &[1, 2])]), "ends inside range 0"),
        (2, list(&[(4096, 0, &[1, 8192, 3])]), "ends inside range 1"),
        (1, list(&[(4096, 0, &[1, 2])]), "8 bytes after"),
        (1, list(&[(4096, 0, &[64])]), "not guest memory"),
        (1, list(&[(4096, 0, &[u64::MAX])]), "not an address"),
        (1, list(&[(4096, 0, &[u64::MAX >> 12])]), "overflow"),
        (1, list(&[(4096, 0, &too_many)]), "limit of 64"),
    ];
    for (count, bytes, expected) in cases {
        let error = make(count, &bytes).unwrap_err().to_string();
        assert!(error.contains(expected), "{error} / {expected}");
    }
}

/// A header that announces too little, too much, or a used or reserved handle adds nothing.
#[test]
fn bad_headers() {
    let mut table = GpadlTable::new(2, 100);
    table.start(CHANNEL, 1, 1, 160).unwrap();
    for (handle, count, bytes) in [
        (0, 1, 16),
        (1, 1, 16),
        (2, 0, 16),
        (2, 1, 8),
        (2, 2, 24),
        (2, 1, 17),
        (2, 1, 1000),
    ] {
        assert!(table.start(CHANNEL, handle, count, bytes).is_err());
    }
    table.start(CHANNEL, 2, 1, 16).unwrap();
    assert!(matches!(
        table.start(CHANNEL, 3, 1, 16),
        Err(GpadlError::TooMany { count: 2 })
    ));
    assert!(table.is_consistent());
}

/// A list arrives in parts of any size; what is more than announced is not kept.
#[test]
fn parts() {
    let memory = memory();
    let pages: Vec<u64> = (1..20).collect();
    let bytes = list(&[(19 * 4096, 0, &pages)]);
    let mut table = GpadlTable::new(1, 20);
    table.start(CHANNEL, 7, 1, bytes.len() as u16).unwrap();
    for part in bytes[..152].chunks(40) {
        let progress = table.extend(7, part, &memory);
        assert_eq!(progress.unwrap().unwrap(), Progress::Incomplete);
    }
    let last = [&bytes[152..], &[0xff; 24]].concat();
    let progress = table.extend(7, &last, &memory);
    assert_eq!(progress.unwrap().unwrap(), Progress::Ready(CHANNEL));
    assert!(table.extend(7, &last, &memory).is_none());
    assert!(table.ready(ChannelId(2), 7).is_none(), "other channel");
    table.remove(7);
    assert!(table.is_consistent());
    table.start(CHANNEL, 8, 1, 160).unwrap();
}
