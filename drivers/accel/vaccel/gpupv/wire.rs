// SPDX-License-Identifier: GPL-2.0-only

//! The ground every wire structure stands on: byte conversion, zero filling, bounded writing.
//!
//! A wire structure is `repr(C)` with every padding byte spelled out, so that it has no
//! uninitialised bytes and any bytes make a valid value. Its size is asserted where it is
//! declared.

use core::fmt::Debug;

use super::error::{DecodeError, EncodeError};

/// A plain value with one defined layout, free of invalid values and of padding.
pub trait Wire:
    zerocopy::FromBytes
    + zerocopy::IntoBytes
    + zerocopy::Immutable
    + zerocopy::KnownLayout
    + Copy
    + Debug
    + 'static
{
    /// The bytes of this value, as they travel.
    fn bytes(&self) -> &[u8] {
        self.as_bytes()
    }
}

/// Declares a type as a wire structure, pins its size, and makes all zeros its default.
macro_rules! wire_struct {
    ($name:ty = $size:literal) => {
        const _: () = assert!(core::mem::size_of::<$name>() == $size);

        impl super::wire::Wire for $name {}

        impl Default for $name {
            fn default() -> Self {
                super::wire::zeroed()
            }
        }
    };
}
pub(super) use wire_struct;

impl Wire for u8 {}
impl Wire for u32 {}
impl Wire for i32 {}
impl Wire for u64 {}

/// A 64-bit number that may start at any byte.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    zerocopy_derive::FromBytes,
    zerocopy_derive::IntoBytes,
    zerocopy_derive::KnownLayout,
    zerocopy_derive::Immutable,
    zerocopy_derive::Unaligned,
)]
#[repr(transparent)]
pub struct PackedU64([u8; 8]);

impl PackedU64 {
    /// Packs a number.
    pub const fn new(value: u64) -> Self {
        Self(value.to_le_bytes())
    }

    /// The number.
    pub const fn get(self) -> u64 {
        u64::from_le_bytes(self.0)
    }
}

wire_struct!(PackedU64 = 8);

impl From<u64> for PackedU64 {
    fn from(value: u64) -> Self {
        Self::new(value)
    }
}

impl From<PackedU64> for u64 {
    fn from(value: PackedU64) -> Self {
        value.get()
    }
}

impl Debug for PackedU64 {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.get().fmt(f)
    }
}

/// A boolean of one byte. Any value but 0 reads as true.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    zerocopy_derive::FromBytes,
    zerocopy_derive::IntoBytes,
    zerocopy_derive::KnownLayout,
    zerocopy_derive::Immutable,
    zerocopy_derive::Unaligned,
)]
#[repr(transparent)]
pub struct Bool8(u8);

impl Bool8 {
    /// The truth value.
    pub const fn get(self) -> bool {
        self.0 != 0
    }
}

wire_struct!(Bool8 = 1);

impl From<bool> for Bool8 {
    fn from(value: bool) -> Self {
        Self(u8::from(value))
    }
}

impl Debug for Bool8 {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.get().fmt(f)
    }
}

/// A value whose bytes are all zero.
pub fn zeroed<T: Wire>() -> T {
    T::new_zeroed()
}

/// Copies a value out of the start of `bytes`; the rest comes with it.
///
/// # Errors
///
/// [`DecodeError::Short`] when `bytes` is smaller than the value.
pub fn read<T: Wire>(bytes: &[u8]) -> Result<(T, &[u8]), DecodeError> {
    T::read_from_prefix(bytes).map_err(|_| DecodeError::Short {
        needed: size_of::<T>(),
        got: bytes.len(),
    })
}

/// Copies the first `present` bytes of a value out of `bytes`; the others are zero.
///
/// # Errors
///
/// [`DecodeError::Short`] when `bytes` has fewer than `present` bytes.
pub fn read_partial<T: Wire>(bytes: &[u8], present: usize) -> Result<(T, &[u8]), DecodeError> {
    let present = present.min(size_of::<T>());
    let (start, rest) = split(bytes, present)?;
    let mut value: T = zeroed();
    for (to, from) in value.as_mut_bytes().iter_mut().zip(start) {
        *to = *from;
    }
    Ok((value, rest))
}

/// Cuts `len` bytes off the start of `bytes`.
///
/// # Errors
///
/// [`DecodeError::Short`] when there are fewer.
pub fn split(bytes: &[u8], len: usize) -> Result<(&[u8], &[u8]), DecodeError> {
    bytes.split_at_checked(len).ok_or(DecodeError::Short {
        needed: len,
        got: bytes.len(),
    })
}

/// The length that `len` has after rounding up to a multiple of 8, as VMBus does.
pub const fn align8(len: usize) -> usize {
    len.saturating_add(7) & !7
}

/// A count or size from the wire as a length in memory.
///
/// Where the machine's lengths are too small for it the result is the largest length, which no
/// buffer has, so the check that follows fails as it should.
pub fn length(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// A length in memory as a count on the wire.
///
/// # Errors
///
/// [`EncodeError::TooLong`] above 32 bits.
pub fn count(value: usize) -> Result<u32, EncodeError> {
    u32::try_from(value).map_err(|_| EncodeError::TooLong {
        len: value,
        limit: length(u32::MAX),
    })
}

/// Fills a caller's buffer from the front, and says when it is full.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl<'a> Writer<'a> {
    /// Starts at the beginning of `out`.
    pub fn new(out: &'a mut [u8]) -> Self {
        Self { out, at: 0 }
    }

    /// How many bytes were written.
    pub fn written(&self) -> usize {
        self.at
    }

    /// Appends bytes.
    ///
    /// # Errors
    ///
    /// [`EncodeError::NoRoom`] when they do not fit; then nothing is written.
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.next(bytes.len())?.copy_from_slice(bytes);
        Ok(())
    }

    /// Appends a value.
    ///
    /// # Errors
    ///
    /// As [`Writer::put`].
    pub fn value<T: Wire>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.put(value.as_bytes())
    }

    /// Appends `len` zero bytes.
    ///
    /// # Errors
    ///
    /// As [`Writer::put`].
    pub fn zeros(&mut self, len: usize) -> Result<(), EncodeError> {
        self.next(len)?.fill(0);
        Ok(())
    }

    /// The next `len` bytes, which count as written.
    ///
    /// # Errors
    ///
    /// As [`Writer::put`].
    pub fn next(&mut self, len: usize) -> Result<&mut [u8], EncodeError> {
        let room = self.out.len();
        let end = self.at.saturating_add(len);
        let place = self
            .out
            .get_mut(self.at..end)
            .ok_or(EncodeError::NoRoom { needed: end, room })?;
        self.at = end;
        Ok(place)
    }
}
