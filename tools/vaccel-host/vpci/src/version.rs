// SPDX-License-Identifier: MIT OR Apache-2.0
//! Protocol versions.

use std::fmt;
use std::str::FromStr;

use serde::{de, Deserialize, Deserializer, Serialize, Serializer};

/// A version of the protocol; later versions compare greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(u32);

impl Version {
    /// 1.1, the oldest one.
    pub const V1_1: Self = Self(0x1_0001);
    /// 1.2: another length of the message that assigns resources, other interrupt messages.
    pub const V1_2: Self = Self(0x1_0002);
    /// 1.3: descriptions of functions have a NUMA node.
    pub const V1_3: Self = Self(0x1_0003);
    /// 1.4: longer interrupt vectors. The newest one.
    pub const V1_4: Self = Self(0x1_0004);

    const SERVED: [Self; 4] = [Self::V1_1, Self::V1_2, Self::V1_3, Self::V1_4];

    /// The version that is this number on the wire, if there is one.
    pub fn from_wire(number: u32) -> Option<Self> {
        Self::SERVED.into_iter().find(|version| version.0 == number)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 >> 16, self.0 & 0xFFFF)
    }
}

/// A text that names no version of this crate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is none of 1.1, 1.2, 1.3, 1.4")]
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

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each version is read as it is written; what is none is refused with its text.
    #[test]
    fn text_and_wire() {
        for (text, number) in [("1.1", 0x1_0001), ("1.4", 0x1_0004)] {
            let version: Version = text.parse().unwrap();
            assert_eq!(version.to_string(), text);
            assert_eq!(Version::from_wire(number), Some(version));
        }
        let error = "1.5".parse::<Version>().unwrap_err();
        assert!(error.to_string().contains("\"1.5\""), "{error}");
        for number in [0, 1, 0x1_0000, 0x1_0005, 0x2_0001, u32::MAX] {
            assert_eq!(Version::from_wire(number), None);
        }
    }
}
