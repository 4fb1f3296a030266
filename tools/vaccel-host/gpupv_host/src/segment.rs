// SPDX-License-Identifier: MIT OR Apache-2.0
//! The two groups of memory segments of a virtual GPU: its own memory, and the host's.

use gpupv::{MemorySegmentGroup, NtStatus};
use vaccel_isa::Segment;

/// Something there is one of for each group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PerSegment<T> {
    /// Of the GPU's own memory.
    pub local: T,
    /// Of the host's memory, guest memory included.
    pub non_local: T,
}

impl<T> PerSegment<T> {
    /// The one of a group.
    pub fn of(&self, segment: Segment) -> &T {
        match segment {
            Segment::Local => &self.local,
            Segment::NonLocal => &self.non_local,
        }
    }

    /// The one of a group, to change it.
    pub fn of_mut(&mut self, segment: Segment) -> &mut T {
        match segment {
            Segment::Local => &mut self.local,
            Segment::NonLocal => &mut self.non_local,
        }
    }
}

impl<T: Copy> PerSegment<T> {
    /// The same for both.
    pub fn both(value: T) -> Self {
        Self {
            local: value,
            non_local: value,
        }
    }

    /// Both, changed together with another two.
    pub fn zip<U: Copy, R>(self, other: PerSegment<U>, f: impl Fn(T, U) -> R) -> PerSegment<R> {
        PerSegment {
            local: f(self.local, other.local),
            non_local: f(self.non_local, other.non_local),
        }
    }
}

impl PerSegment<u64> {
    /// The larger.
    pub fn max(self) -> u64 {
        self.local.max(self.non_local)
    }

    /// Whether both are 0.
    pub fn is_zero(&self) -> bool {
        self.max() == 0
    }
}

/// The group a command names.
pub fn from_wire(group: MemorySegmentGroup) -> Result<Segment, NtStatus> {
    match group {
        MemorySegmentGroup::LOCAL => Ok(Segment::Local),
        MemorySegmentGroup::NON_LOCAL => Ok(Segment::NonLocal),
        _ => Err(NtStatus::INVALID_PARAMETER),
    }
}
