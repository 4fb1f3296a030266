// SPDX-License-Identifier: GPL-2.0-only

//! Lists inside messages: entries of one type, back to back, at any alignment.
//!
//! The same type serves both directions. A sender makes a list from a slice of values, without
//! copying; a receiver gets one whose length was checked, and copies entries out as it needs them.

use core::fmt;
use core::marker::PhantomData;

use zerocopy::IntoBytes as _;

use super::error::{DecodeError, EncodeError};
use super::wire::{length, split, zeroed, Wire, Writer};

/// A list of wire values.
///
/// # Invariants
///
/// `bytes` is a whole number of entries.
pub struct List<'a, T> {
    bytes: &'a [u8],
    entry: PhantomData<T>,
}

impl<'a, T: Wire> List<'a, T> {
    /// A list without entries.
    pub const EMPTY: Self = Self {
        bytes: &[],
        entry: PhantomData,
    };

    const ENTRY: usize = {
        assert!(size_of::<T>() != 0);
        size_of::<T>()
    };

    /// A list of the values in a slice.
    pub fn new(values: &'a [T]) -> Self {
        Self {
            bytes: values.as_bytes(),
            entry: PhantomData,
        }
    }

    /// Cuts a list of `count` entries off the start of `bytes`.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Short`] when there are fewer bytes than that.
    pub fn take(bytes: &'a [u8], count: u32) -> Result<(Self, &'a [u8]), DecodeError> {
        let (bytes, rest) = split(bytes, length(count).saturating_mul(Self::ENTRY))?;
        let list = Self {
            bytes,
            entry: PhantomData,
        };
        Ok((list, rest))
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.bytes.len() / Self::ENTRY
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The entry at `index`.
    pub fn get(&self, index: usize) -> Option<T> {
        let start = index.checked_mul(Self::ENTRY)?;
        let bytes = self.bytes.get(start..)?;
        T::read_from_prefix(bytes).ok().map(|(value, _)| value)
    }

    /// The first entry.
    pub fn first(&self) -> Option<T> {
        self.get(0)
    }

    /// The entries, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = T> + ExactSizeIterator + Clone + 'a {
        self.bytes
            .chunks_exact(Self::ENTRY)
            .map(|entry| T::read_from_bytes(entry).unwrap_or_else(|_| zeroed()))
    }

    /// The entries as they travel.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

impl<T> Clone for List<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for List<'_, T> {}

impl<T: Wire> Default for List<'_, T> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<T> PartialEq for List<'_, T> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl<T> Eq for List<'_, T> {}

impl<'a, T: Wire> From<&'a [T]> for List<'a, T> {
    fn from(values: &'a [T]) -> Self {
        Self::new(values)
    }
}

impl<'a, T: Wire, const N: usize> From<&'a [T; N]> for List<'a, T> {
    fn from(values: &'a [T; N]) -> Self {
        Self::new(values)
    }
}

impl<T: Wire> fmt::Debug for List<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// What follows the fixed part of a command or a reply.
pub trait Tail: Copy + fmt::Debug {
    /// Its length in bytes.
    fn byte_len(&self) -> usize;

    /// Appends it.
    ///
    /// # Errors
    ///
    /// [`EncodeError::NoRoom`] when it does not fit.
    fn write(&self, out: &mut Writer<'_>) -> Result<(), EncodeError>;
}

/// Nothing follows.
impl Tail for () {
    fn byte_len(&self) -> usize {
        0
    }

    fn write(&self, _out: &mut Writer<'_>) -> Result<(), EncodeError> {
        Ok(())
    }
}

/// Bytes the protocol does not look into: private driver data.
impl Tail for &[u8] {
    fn byte_len(&self) -> usize {
        self.len()
    }

    fn write(&self, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        out.put(self)
    }
}

impl<T: Wire> Tail for List<'_, T> {
    fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    fn write(&self, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        out.put(self.bytes)
    }
}

/// Writes a tail of several parts: each part is a tail itself.
macro_rules! tail_struct {
    ($name:ident: $($part:ident),+) => {
        impl super::list::Tail for $name<'_> {
            fn byte_len(&self) -> usize {
                0usize$(.saturating_add(super::list::Tail::byte_len(&self.$part)))+
            }

            fn write(
                &self,
                out: &mut super::wire::Writer<'_>,
            ) -> Result<(), super::error::EncodeError> {
                $(super::list::Tail::write(&self.$part, out)?;)+
                Ok(())
            }
        }
    };
}
pub(super) use tail_struct;
