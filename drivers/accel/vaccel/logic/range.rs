// SPDX-License-Identifier: GPL-2.0-only

//! Arithmetic on {offset, length} pairs that come from user space or from the host.

/// Unit of object sizes and GPU addresses, in bytes.
pub const PAGE: u64 = 4096;

/// Why a range is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeError {
    /// Not a multiple of the unit, or empty.
    Unaligned,
    /// The end does not fit 64 bits.
    Overflow,
    /// The end is beyond the limit.
    Outside,
}

/// Checks that `offset..offset + len` is not empty and within `0..limit`; returns its end.
///
/// # Errors
///
/// See [`RangeError`]; an overflow is told apart from a range that is merely too long.
pub fn inside(offset: u64, len: u64, limit: u64) -> Result<u64, RangeError> {
    if len == 0 {
        return Err(RangeError::Unaligned);
    }
    let end = offset.checked_add(len).ok_or(RangeError::Overflow)?;
    if end > limit {
        return Err(RangeError::Outside);
    }
    Ok(end)
}

/// As [`inside`], with offset and length multiples of [`PAGE`].
///
/// # Errors
///
/// See [`RangeError`].
pub fn pages_inside(offset: u64, len: u64, limit: u64) -> Result<u64, RangeError> {
    if offset % PAGE != 0 || len % PAGE != 0 {
        return Err(RangeError::Unaligned);
    }
    inside(offset, len, limit)
}

/// Whether `first` (start, length) and `second` share an address. Neither may wrap around.
pub fn overlap(first: (u64, u64), second: (u64, u64)) -> bool {
    first.0 < second.0.saturating_add(second.1) && second.0 < first.0.saturating_add(first.1)
}

/// What is left of a range when a hole is cut into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest {
    /// Bytes before the hole; the part starts where the range did. May be 0.
    pub before: u64,
    /// Start of the part behind the hole.
    pub after_start: u64,
    /// Bytes of the part behind the hole. May be 0.
    pub after: u64,
}

/// Cuts `hole` (start, length) out of `range`. Neither may wrap around.
pub fn cut(range: (u64, u64), hole: (u64, u64)) -> Rest {
    let end = range.0.saturating_add(range.1);
    let hole_start = hole.0.clamp(range.0, end);
    let hole_end = hole.0.saturating_add(hole.1).clamp(range.0, end);
    Rest {
        before: hole_start.saturating_sub(range.0),
        after_start: hole_end,
        after: end.saturating_sub(hole_end),
    }
}
