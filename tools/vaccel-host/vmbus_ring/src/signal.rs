// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether the guest must be interrupted.

use std::ops::BitOrAssign;

/// Whether the guest must be interrupted after a ring was read or written.
///
/// Interrupts are not free, and a guest may throttle a host that sends them without need; a missed
/// one stops the channel. The reader and the writer know the rules; whoever owns the channel carries
/// the answer to its interrupt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[must_use]
pub enum Signal {
    /// The guest must be interrupted.
    Needed,
    /// The guest will notice, or has nothing to notice.
    #[default]
    NotNeeded,
}

impl Signal {
    /// Whether the guest must be interrupted.
    pub fn is_needed(self) -> bool {
        self == Self::Needed
    }
}

impl From<bool> for Signal {
    fn from(needed: bool) -> Self {
        if needed {
            Self::Needed
        } else {
            Self::NotNeeded
        }
    }
}

impl BitOrAssign for Signal {
    fn bitor_assign(&mut self, other: Self) {
        if other.is_needed() {
            *self = Self::Needed;
        }
    }
}
