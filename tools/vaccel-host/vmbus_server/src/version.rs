// SPDX-License-Identifier: MIT OR Apache-2.0
//! Protocol versions.

use std::fmt;
use std::str::FromStr;

use serde::{de, Deserialize, Deserializer, Serialize, Serializer};

/// A version of the VMBus protocol; later versions compare greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(
    /// Major version in the upper half, minor version in the lower one.
    pub u32,
);

impl Version {
    /// 4.0, the oldest one served: messages of the guest go to connection 1, and the field that later
    /// names an interrupt is an address.
    pub const V4_0: Self = Self::new(4, 0);
    /// 4.1: channels can change their interrupt's target.
    pub const V4_1: Self = Self::new(4, 1);
    /// 5.0: the guest names the interrupt and trust level for its messages, and is told which connection
    /// takes its own.
    pub const V5_0: Self = Self::new(5, 0);
    /// 5.1: no difference in what is served here.
    pub const V5_1: Self = Self::new(5, 1);
    /// 5.2: longer socket requests, which are ignored here.
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

/// A text that names no version of this crate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is none of {}", Served)]
pub struct UnknownVersion {
    text: String,
}

impl FromStr for Version {
    type Err = UnknownVersion;

    fn from_str(text: &str) -> Result<Self, UnknownVersion> {
        Self::SERVED
            .into_iter()
            .find(|version| version.to_string() == text)
            .ok_or_else(|| UnknownVersion {
                text: text.to_owned(),
            })
    }
}

/// The versions of this crate, oldest first, as an error lists them.
struct Served;

impl fmt::Display for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, version) in Version::SERVED.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{version}")?;
        }
        Ok(())
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

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every version served is read back from its own text; others are refused with the list.
    #[test]
    fn texts() {
        for version in Version::SERVED {
            assert_eq!(version.to_string().parse(), Ok(version));
        }
        for text in ["", "4", "5.4", "6.0", "5.3 ", "05.3", "3.0"] {
            let error = text.parse::<Version>().unwrap_err().to_string();
            assert!(error.ends_with("4.0, 4.1, 5.0, 5.1, 5.2, 5.3"), "{error}");
        }
    }
}
