// SPDX-License-Identifier: GPL-2.0-only
//! Operation lists are read strictly: what is not understood is refused, never ignored.

use proptest::prelude::*;
use vaccel_logic::ops::{Op, OpError, OpList, RECORD};

fn exec(gpu_va: u64, size: u32) -> Vec<u8> {
    let mut record = vec![0; RECORD];
    record[0] = 1;
    record[8..16].copy_from_slice(&gpu_va.to_le_bytes());
    record[16..20].copy_from_slice(&size.to_le_bytes());
    record
}

fn fence(opcode: u8, handle: u32, value: u64) -> Vec<u8> {
    let mut record = vec![0; RECORD];
    record[0] = opcode;
    record[8..12].copy_from_slice(&handle.to_le_bytes());
    record[16..24].copy_from_slice(&value.to_le_bytes());
    record
}

/// BIND (6) or UNBIND (7).
fn bind(opcode: u8, flags: u32, bo: u32, gpu_va: u64, bo_offset: u64, size: u64) -> Vec<u8> {
    let mut record = vec![0; RECORD];
    record[0] = opcode;
    record[4..8].copy_from_slice(&flags.to_le_bytes());
    record[8..12].copy_from_slice(&bo.to_le_bytes());
    record[16..24].copy_from_slice(&gpu_va.to_le_bytes());
    record[24..32].copy_from_slice(&bo_offset.to_le_bytes());
    record[32..40].copy_from_slice(&size.to_le_bytes());
    record
}

fn residency(op: u32, bo: u32) -> Vec<u8> {
    let mut record = vec![0; RECORD];
    record[0] = 8;
    record[8..12].copy_from_slice(&bo.to_le_bytes());
    record[12..16].copy_from_slice(&op.to_le_bytes());
    record
}

fn parse(bytes: &[u8], stride: usize, count: usize) -> Result<Vec<Op>, OpError> {
    OpList::new(bytes, stride, count)?.iter().collect()
}

/// Each supported record gives the operation it describes, in order.
#[test]
fn records_become_operations() {
    let bytes = [
        exec(0x1000, 64),
        fence(2, 7, 9),
        fence(3, 8, 10),
        bind(6, 0b1001, 5, 0x2000, 0x3000, 0x4000),
        bind(7, 0, 0, 0x2000, 0, 0x1000),
        residency(0, 6),
        residency(3, 7),
    ]
    .concat();
    assert_eq!(
        parse(&bytes, RECORD, 7).unwrap(),
        [
            Op::Exec {
                gpu_va: 0x1000,
                size: 64,
                priv_offset: 0,
                priv_size: 0
            },
            Op::FenceWait { fence: 7, value: 9 },
            Op::FenceSignal {
                fence: 8,
                value: 10
            },
            Op::Bind {
                flags: 0b1001,
                bo: 5,
                gpu_va: 0x2000,
                bo_offset: 0x3000,
                size: 0x4000
            },
            Op::Unbind {
                gpu_va: 0x2000,
                size: 0x1000
            },
            Op::Resident { bo: 6 },
            Op::Reclaim { bo: 7 },
        ]
    );
}

/// A short stride stands for zeros, a long one must hold zeros.
#[test]
fn strides_grow_and_shrink() {
    let short = &fence(2, 7, 9)[..24];
    assert_eq!(
        parse(short, 24, 1).unwrap(),
        [Op::FenceWait { fence: 7, value: 9 }]
    );
    let mut long = fence(2, 7, 9);
    long.resize(RECORD + 8, 0);
    assert!(parse(&long, RECORD + 8, 1).is_ok());
    long[RECORD + 3] = 1;
    assert_eq!(parse(&long, RECORD + 8, 1), Err(OpError::TooNew));
    for stride in [0, 8, 20, 264] {
        assert_eq!(parse(&[0; 1024], stride, 1), Err(OpError::Invalid));
    }
}

/// Every byte beside the ones with a meaning must be zero.
#[test]
fn reserved_bytes_are_checked() {
    for (record, used) in [
        (exec(0x1000, 64), vec![0..4, 8..32]),
        (fence(2, 7, 9), vec![0..4, 8..12, 16..24]),
        (bind(6, 8, 5, 1, 2, 3), vec![0..12, 16..40]),
        (bind(7, 0, 0, 1, 0, 3), vec![0..4, 16..24, 32..40]),
        (residency(0, 6), vec![0..4, 8..16]),
    ] {
        for at in 4..RECORD {
            if used.iter().any(|range| range.contains(&at)) {
                continue;
            }
            let mut bad = record.clone();
            bad[at] = 1;
            assert_eq!(parse(&bad, RECORD, 1), Err(OpError::Invalid), "byte {at}");
        }
    }
}

/// Unknown operations and empty command buffers have their own errors.
#[test]
fn bad_operations() {
    assert_eq!(parse(&fence(0, 1, 1), RECORD, 1), Err(OpError::Invalid));
    assert_eq!(parse(&fence(10, 1, 1), RECORD, 1), Err(OpError::Invalid));
    // A queued binding has a place; EVICT, OFFER and PRIORITY have none in a queue.
    let anywhere = bind(6, 1, 5, 0x1000, 0, 0x1000);
    assert_eq!(parse(&anywhere, RECORD, 1), Err(OpError::Invalid));
    for op in [1, 2, 4] {
        let record = residency(op, 1);
        assert_eq!(parse(&record, RECORD, 1), Err(OpError::Unsupported));
    }
    assert_eq!(parse(&residency(5, 1), RECORD, 1), Err(OpError::Invalid));
    assert_eq!(parse(&exec(0x1000, 0), RECORD, 1), Err(OpError::Invalid));
    assert_eq!(parse(&exec(0, 1), RECORD, 2), Err(OpError::Invalid));
    assert_eq!(parse(&[], RECORD, 0), Err(OpError::Invalid));
}

proptest! {
    /// No bytes make the parser panic, and what it accepts has the number of records asked for.
    #[test]
    fn anything_goes(bytes in proptest::collection::vec(any::<u8>(), 0..600),
                     stride in 0usize..300, count in 0usize..12) {
        if let Ok(ops) = parse(&bytes, stride, count) {
            prop_assert_eq!(ops.len(), count);
        }
    }
}
