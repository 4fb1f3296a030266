// SPDX-License-Identifier: MIT OR Apache-2.0
//! The window in which configuration space is.
//!
//! The first dword selects a function by its slot; the second page is the configuration space of the one
//! that is selected.

use std::ops::Range;

/// Length of the window in bytes.
pub const WINDOW_LEN: u64 = 0x2000;
/// Where configuration space is in it.
const CONFIG: Range<u64> = 0x1000..WINDOW_LEN;

/// What an access is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The slot of the selected function.
    Slot,
    /// So far into the configuration space of the selected function; with its length it stays in one dword.
    Config(u16),
    /// Nothing: it reads as ones, and a write is lost.
    Nothing,
}

/// What an access of `len` bytes at `offset` in the window is for.
pub fn access(offset: u64, len: usize) -> Access {
    if offset == 0 && len == 4 {
        return Access::Slot;
    }
    let within = offset
        .checked_sub(CONFIG.start)
        .filter(|_| offset < CONFIG.end)
        .and_then(|at| u16::try_from(at).ok());
    match within {
        Some(at) if matches!(len, 1 | 2 | 4) && usize::from(at & 3).saturating_add(len) <= 4 => {
            Access::Config(at)
        }
        _ => Access::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whole accesses inside one dword reach configuration space; all others reach nothing.
    #[test]
    fn accesses() {
        assert_eq!(access(0, 4), Access::Slot);
        assert_eq!(access(0x1000, 2), Access::Config(0));
        assert_eq!(access(0x10D3, 1), Access::Config(0xD3));
        assert_eq!(access(0x1FFC, 4), Access::Config(0xFFC));
        for (offset, len) in [
            (0, 2),
            (0, 8),
            (4, 4),
            (0xFFC, 4),
            (0x1002, 4),
            (0x1003, 2),
            (0x1000, 8),
            (0x1000, 3),
            (0x1000, 0),
            (0x2000, 4),
            (u64::MAX, 4),
        ] {
            assert_eq!(access(offset, len), Access::Nothing, "{offset:#x}, {len}");
        }
    }
}
