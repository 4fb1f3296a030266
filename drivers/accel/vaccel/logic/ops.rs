// SPDX-License-Identifier: GPL-2.0-only

//! Operation lists of submissions: the records of include/uapi/drm/vaccel_accel.h, read strictly.
//!
//! The caller has copied the records out of memory that user space can write to; what is read here
//! does not change any more. A record may be shorter or longer than this code knows
//! (`op_stride`): missing bytes count as zeros, and unknown bytes must be zeros.

use core::num::NonZeroU64;

use zerocopy_derive::{
    FromBytes,
    Immutable,
    KnownLayout, //
};

/// Bytes of a record that this code knows: `sizeof(struct drm_vaccel_op_*)`.
pub const RECORD: usize = 64;

/// Smallest `op_stride`.
pub const STRIDE_MIN: usize = 16;

/// Largest `op_stride`.
pub const STRIDE_MAX: usize = 256;

/// `VACCEL_OP_*`.
pub mod opcode {
    /// Run a command buffer.
    pub const EXEC: u32 = 1;
    /// Wait for a fence.
    pub const FENCE_WAIT: u32 = 2;
    /// Signal a fence.
    pub const FENCE_SIGNAL: u32 = 3;
    /// Wait for a syncobj.
    pub const SYNCOBJ_WAIT: u32 = 4;
    /// Signal a syncobj.
    pub const SYNCOBJ_SIGNAL: u32 = 5;
    /// Bind in a reservation.
    pub const BIND: u32 = 6;
    /// Unbind in a reservation.
    pub const UNBIND: u32 = 7;
    /// Change residency.
    pub const RESIDENCY: u32 = 8;
    /// Synchronise implicitly.
    pub const BO_ACCESS: u32 = 9;
}

/// `VACCEL_SYNC_TIMELINE`.
const SYNC_TIMELINE: u32 = 1 << 0;

/// `VACCEL_SYNC_WAIT_FOR_SUBMIT`.
const SYNC_WAIT_FOR_SUBMIT: u32 = 1 << 1;

/// `VACCEL_ACCESS_WRITE`.
const ACCESS_WRITE: u32 = 1 << 0;

/// `VACCEL_ACCESS_WAIT`.
const ACCESS_WAIT: u32 = 1 << 1;

/// `VACCEL_BIND_FIXED`, which a queued binding must have.
const BIND_FIXED: u32 = 1 << 3;

/// `VACCEL_RESIDENCY_*` that have a place in a queue, and the last of all.
mod residency {
    /// Make resident.
    pub(super) const RESIDENT: u32 = 0;
    /// Take an offered object back.
    pub(super) const RECLAIM: u32 = 3;
    /// Last that there is.
    pub(super) const LAST: u32 = 4;
}

/// One operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Run the `size` bytes of commands at `gpu_va`.
    Exec {
        /// GPU address.
        gpu_va: u64,
        /// Bytes.
        size: u32,
        /// Where the opaque driver data lies in the argument object.
        priv_offset: u64,
        /// Its bytes; may be 0.
        priv_size: u32,
    },
    /// Wait until `fence` has reached `value`.
    FenceWait {
        /// Handle.
        fence: u32,
        /// Value.
        value: u64,
    },
    /// Set `fence` to `value`.
    FenceSignal {
        /// Handle.
        fence: u32,
        /// Value.
        value: u64,
    },
    /// Wait for the dma_fence of a syncobj.
    SyncobjWait {
        /// Handle.
        syncobj: u32,
        /// Timeline point, none for a binary one.
        point: Option<NonZeroU64>,
        /// Whether one that is missing is waited for.
        wait_for_submit: bool,
    },
    /// Put a dma_fence into a syncobj.
    SyncobjSignal {
        /// Handle.
        syncobj: u32,
        /// Timeline point, none for a binary one.
        point: Option<NonZeroU64>,
    },
    /// Synchronise with the other users of an object.
    BoAccess {
        /// Handle.
        bo: u32,
        /// Whether the work writes to it.
        write: bool,
        /// Whether the queue waits for the others.
        wait: bool,
    },
    /// Bind part of an object.
    Bind {
        /// `VACCEL_BIND_*`.
        flags: u32,
        /// Handle, 0 for none.
        bo: u32,
        /// First address.
        gpu_va: u64,
        /// First byte in the object.
        bo_offset: u64,
        /// Bytes.
        size: u64,
    },
    /// Unbind addresses.
    Unbind {
        /// First address.
        gpu_va: u64,
        /// Bytes.
        size: u64,
    },
    /// Make an object resident.
    Resident {
        /// Handle.
        bo: u32,
    },
    /// Take an offered object back.
    Reclaim {
        /// Handle.
        bo: u32,
    },
}

/// Why a list is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpError {
    /// `EINVAL`: unknown opcode or flag, reserved bytes that are not zero, empty command buffer,
    /// impossible stride, or records missing.
    Invalid,
    /// `E2BIG`: bytes that this code does not know are not zero.
    TooNew,
    /// `EOPNOTSUPP`: an operation that the driver does not do, or that has no place in a queue.
    Unsupported,
}

#[derive(FromBytes, KnownLayout, Immutable)]
#[repr(C)]
struct ExecRecord {
    opcode: u32,
    flags: u32,
    gpu_va: u64,
    size: u32,
    priv_size: u32,
    priv_offset: u64,
    reserved: [u64; 4],
}

#[derive(FromBytes, KnownLayout, Immutable)]
#[repr(C)]
struct FenceRecord {
    opcode: u32,
    flags: u32,
    fence: u32,
    pad: u32,
    value: u64,
    reserved: [u64; 5],
}

#[derive(FromBytes, KnownLayout, Immutable)]
#[repr(C)]
struct SyncobjRecord {
    opcode: u32,
    flags: u32,
    syncobj: u32,
    pad: u32,
    point: u64,
    reserved: [u64; 5],
}

#[derive(FromBytes, KnownLayout, Immutable)]
#[repr(C)]
struct BoAccessRecord {
    opcode: u32,
    flags: u32,
    bo: u32,
    pad: u32,
    reserved: [u64; 6],
}

#[derive(FromBytes, KnownLayout, Immutable)]
#[repr(C)]
struct BindRecord {
    opcode: u32,
    flags: u32,
    bo: u32,
    pad: u32,
    gpu_va: u64,
    bo_offset: u64,
    size: u64,
    reserved: [u64; 3],
}

#[derive(FromBytes, KnownLayout, Immutable)]
#[repr(C)]
struct ResidencyRecord {
    opcode: u32,
    flags: u32,
    bo: u32,
    op: u32,
    priority: u32,
    pad: u32,
    reserved: [u64; 5],
}

const _: () = assert!(size_of::<BindRecord>() == RECORD);
const _: () = assert!(size_of::<ResidencyRecord>() == RECORD);
const _: () = assert!(size_of::<ExecRecord>() == RECORD);
const _: () = assert!(size_of::<FenceRecord>() == RECORD);
const _: () = assert!(size_of::<SyncobjRecord>() == RECORD);
const _: () = assert!(size_of::<BoAccessRecord>() == RECORD);

/// A list of records whose extent was checked.
#[derive(Clone, Copy, Debug)]
pub struct OpList<'a> {
    records: &'a [u8],
    stride: usize,
}

impl<'a> OpList<'a> {
    /// A list of `count` records of `stride` bytes at the start of `records`.
    ///
    /// # Errors
    ///
    /// [`OpError::Invalid`] for an impossible stride, no records, or too few bytes.
    pub fn new(records: &'a [u8], stride: usize, count: usize) -> Result<Self, OpError> {
        if !(STRIDE_MIN..=STRIDE_MAX).contains(&stride) || stride % 8 != 0 || count == 0 {
            return Err(OpError::Invalid);
        }
        let len = stride.checked_mul(count).ok_or(OpError::Invalid)?;
        let records = records.get(..len).ok_or(OpError::Invalid)?;
        Ok(Self { records, stride })
    }

    /// The operations in order.
    pub fn iter(&self) -> impl Iterator<Item = Result<Op, OpError>> + 'a {
        self.records.chunks_exact(self.stride).map(parse)
    }
}

/// Reads one record of any stride.
fn parse(record: &[u8]) -> Result<Op, OpError> {
    let (head, rest) = record
        .split_at_checked(record.len().min(RECORD))
        .ok_or(OpError::Invalid)?;
    if rest.iter().any(|byte| *byte != 0) {
        return Err(OpError::TooNew);
    }
    let mut padded = [0; RECORD];
    let whole = match head.first_chunk() {
        Some(whole) => whole,
        None => {
            for (to, from) in padded.iter_mut().zip(head) {
                *to = *from;
            }
            &padded
        }
    };
    let opcode = u32::from_le_bytes([whole[0], whole[1], whole[2], whole[3]]);
    match opcode {
        opcode::EXEC => exec(whole),
        opcode::FENCE_WAIT => fence(whole).map(|(fence, value)| Op::FenceWait { fence, value }),
        opcode::FENCE_SIGNAL => fence(whole).map(|(fence, value)| Op::FenceSignal { fence, value }),
        opcode::SYNCOBJ_WAIT => syncobj_wait(whole),
        opcode::SYNCOBJ_SIGNAL => syncobj_signal(whole),
        opcode::BIND => bind(whole),
        opcode::UNBIND => unbind(whole),
        opcode::RESIDENCY => residency(whole),
        opcode::BO_ACCESS => bo_access(whole),
        _ => Err(OpError::Invalid),
    }
}

/// Whether all words are 0.
fn is_zero(words: &[u64]) -> bool {
    words.iter().fold(0, |all, word| all | word) == 0
}

fn exec(record: &[u8; RECORD]) -> Result<Op, OpError> {
    let record: ExecRecord = zerocopy::transmute!(*record);
    if record.flags != 0 || !is_zero(&record.reserved) || record.size == 0 {
        return Err(OpError::Invalid);
    }
    if record.priv_size == 0 && record.priv_offset != 0 {
        return Err(OpError::Invalid);
    }
    Ok(Op::Exec {
        gpu_va: record.gpu_va,
        size: record.size,
        priv_offset: record.priv_offset,
        priv_size: record.priv_size,
    })
}

fn fence(record: &[u8; RECORD]) -> Result<(u32, u64), OpError> {
    let record: FenceRecord = zerocopy::transmute!(*record);
    if record.flags != 0 || record.pad != 0 || !is_zero(&record.reserved) {
        return Err(OpError::Invalid);
    }
    Ok((record.fence, record.value))
}

/// Handle, flags other than `TIMELINE`, and point of a syncobj.
fn syncobj(record: &[u8; RECORD]) -> Result<(u32, u32, Option<NonZeroU64>), OpError> {
    let record: SyncobjRecord = zerocopy::transmute!(*record);
    let point = NonZeroU64::new(record.point);
    let timeline = record.flags & SYNC_TIMELINE != 0;
    if record.pad != 0 || !is_zero(&record.reserved) || timeline != point.is_some() {
        return Err(OpError::Invalid);
    }
    Ok((record.syncobj, record.flags & !SYNC_TIMELINE, point))
}

fn syncobj_wait(record: &[u8; RECORD]) -> Result<Op, OpError> {
    let (syncobj, flags, point) = syncobj(record)?;
    if flags & !SYNC_WAIT_FOR_SUBMIT != 0 {
        return Err(OpError::Invalid);
    }
    Ok(Op::SyncobjWait {
        syncobj,
        point,
        wait_for_submit: flags & SYNC_WAIT_FOR_SUBMIT != 0,
    })
}

fn syncobj_signal(record: &[u8; RECORD]) -> Result<Op, OpError> {
    let (syncobj, flags, point) = syncobj(record)?;
    if flags != 0 {
        return Err(OpError::Invalid);
    }
    Ok(Op::SyncobjSignal { syncobj, point })
}

fn bo_access(record: &[u8; RECORD]) -> Result<Op, OpError> {
    let record: BoAccessRecord = zerocopy::transmute!(*record);
    let unknown = record.flags & !(ACCESS_WRITE | ACCESS_WAIT) != 0;
    if unknown || record.pad != 0 || !is_zero(&record.reserved) {
        return Err(OpError::Invalid);
    }
    Ok(Op::BoAccess {
        bo: record.bo,
        write: record.flags & ACCESS_WRITE != 0,
        wait: record.flags & ACCESS_WAIT != 0,
    })
}

fn bind(record: &[u8; RECORD]) -> Result<Op, OpError> {
    let record: BindRecord = zerocopy::transmute!(*record);
    if record.flags & BIND_FIXED == 0 || record.pad != 0 || !is_zero(&record.reserved) {
        return Err(OpError::Invalid);
    }
    Ok(Op::Bind {
        flags: record.flags,
        bo: record.bo,
        gpu_va: record.gpu_va,
        bo_offset: record.bo_offset,
        size: record.size,
    })
}

fn unbind(record: &[u8; RECORD]) -> Result<Op, OpError> {
    let record: BindRecord = zerocopy::transmute!(*record);
    let rest = (record.flags, record.bo, record.pad, record.bo_offset);
    if rest != (0, 0, 0, 0) || !is_zero(&record.reserved) {
        return Err(OpError::Invalid);
    }
    Ok(Op::Unbind {
        gpu_va: record.gpu_va,
        size: record.size,
    })
}

fn residency(record: &[u8; RECORD]) -> Result<Op, OpError> {
    let record: ResidencyRecord = zerocopy::transmute!(*record);
    let rest = (record.flags, record.priority, record.pad);
    if rest != (0, 0, 0) || !is_zero(&record.reserved) || record.op > residency::LAST {
        return Err(OpError::Invalid);
    }
    match record.op {
        residency::RESIDENT => Ok(Op::Resident { bo: record.bo }),
        residency::RECLAIM => Ok(Op::Reclaim { bo: record.bo }),
        _ => Err(OpError::Unsupported),
    }
}
