// SPDX-License-Identifier: MIT OR Apache-2.0
//! Protocol versions.

use std::fmt;

use serde::{Serialize, Serializer};

/// A version of the VMBus protocol; later versions compare greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(
    /// Major version in the upper half, minor version in the lower one.
    pub u32,
);

impl Version {
    /// 4.0, the oldest one served.
    pub const V4_0: Self = Self::new(4, 0);
    /// 4.1: channels can change their interrupt's target.
    pub const V4_1: Self = Self::new(4, 1);
    /// 5.0: its own message connection.
    pub const V5_0: Self = Self::new(5, 0);
    /// 5.1.
    pub const V5_1: Self = Self::new(5, 1);
    /// 5.2.
    pub const V5_2: Self = Self::new(5, 2);
    /// 5.3: a change of the interrupt's target is acknowledged. The newest one served.
    pub const V5_3: Self = Self::new(5, 3);

    const SERVED: [Self; 6] = [
        Self::V4_0,
        Self::V4_1,
        Self::V5_0,
        Self::V5_1,
        Self::V5_2,
        Self::V5_3,
    ];

    /// Makes the version `major.minor`.
    pub const fn new(major: u16, minor: u16) -> Self {
        let [high1, high0] = major.to_be_bytes();
        let [low1, low0] = minor.to_be_bytes();
        Self(u32::from_be_bytes([high1, high0, low1, low0]))
    }

    /// Whether this crate knows the version.
    pub fn is_served(self) -> bool {
        Self::SERVED.contains(&self)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 >> 16, self.0 & 0xffff)
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
