// SPDX-License-Identifier: MIT OR Apache-2.0
//! The uAPI as Rust types: a mirror of `include/uapi/drm/vaccel_accel.h`.
//!
//! Structures and constants have the C names without their prefix; what they mean is in the header
//! and is not repeated here. Every structure is plain old data without implicit padding (the
//! `IntoBytes` derive refuses to compile otherwise) and holds no CPU address. A test compiles the
//! C header and compares every size, offset and constant with the tables this module keeps.

#![expect(
    missing_docs,
    reason = "the C header documents every constant and field"
)]

pub mod clock;
pub mod fence;
pub mod memory;
pub mod submit;
pub mod uring;
pub mod vm;

pub use fence::*;
pub use memory::*;
pub use submit::*;
pub use uring::*;
pub use vm::*;

/// One structure as the C compiler must see it.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Name without `struct`.
    pub c_name: &'static str,
    /// Size in bytes.
    pub size: usize,
    /// Name, offset and size of each field, in order.
    pub fields: &'static [(&'static str, usize, usize)],
}

/// Plain structures that cross the kernel boundary.
pub trait Wire:
    zerocopy::FromBytes + zerocopy::IntoBytes + zerocopy::Immutable + Copy + Default
{
    /// What C must agree with.
    const LAYOUT: Layout;

    /// The NTSTATUS in the structure; 0 if it has none.
    fn host_status(&self) -> u32 {
        let field = Self::LAYOUT
            .fields
            .iter()
            .find(|(name, _, size)| *name == "host_status" && *size == 4);
        field
            .and_then(|(_, offset, _)| self.as_bytes().get(*offset..)?.first_chunk())
            .map_or(0, |bytes| u32::from_ne_bytes(*bytes))
    }
}

/// Declares a structure together with its layout table.
macro_rules! wire {
    ($($(#[$attr:meta])* $name:ident as $c_name:literal { $($field:ident: $type:ty,)* })*) => {$(
        $(#[$attr])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[derive(
            zerocopy_derive::FromBytes,
            zerocopy_derive::IntoBytes,
            zerocopy_derive::Immutable,
            zerocopy_derive::KnownLayout,
        )]
        pub struct $name { $(pub $field: $type,)* }

        impl $crate::sys::Wire for $name {
            const LAYOUT: $crate::sys::Layout = $crate::sys::Layout {
                c_name: $c_name,
                size: core::mem::size_of::<$name>(),
                fields: &[$((
                    stringify!($field),
                    core::mem::offset_of!($name, $field),
                    core::mem::size_of::<$type>(),
                ),)*],
            };
        }

        // The interface's own rules: a descriptor fits an io_uring command.
        const _: () = assert!(core::mem::size_of::<$name>() <= 80);
        const _: () = assert!(core::mem::size_of::<$name>() % 8 == 0);
    )*
    /// The structures of this module.
    pub(super) const LAYOUTS: &[$crate::sys::Layout] = &[$(<$name as $crate::sys::Wire>::LAYOUT,)*];
    };
}
pub(crate) use wire;

/// Declares constants together with the table `CONSTANTS`.
macro_rules! constants {
    ($($name:ident: $type:ty = $value:expr;)*) => {
        $(pub const $name: $type = $value;)*
        /// The constants of this module by their C names without `VACCEL_`.
        pub(super) const CONSTANTS: &[(&str, u64)] = &[$((stringify!($name), $name as u64),)*];
    };
}
pub(crate) use constants;

/// Deadline that never comes.
pub const TIME_FOREVER: u64 = 0x7fff_ffff_ffff_ffff;

/// Limits of the interface.
pub mod limit {
    super::constants! {
        TIME_FOREVER: u64 = super::TIME_FOREVER;
        ARG_SIZE_MAX: u32 = 1 << 20;
        OPS_MAX: u32 = 1024;
        PRIV_SIZE_MAX: u32 = 65536;
        WAIT_MANY_MAX: u32 = 64;
        RESIDENCY_MAX: u32 = 10240;
        PAGE_SIZE: u32 = 4096;
    }
}

/// Every structure of the interface.
pub fn layouts() -> impl Iterator<Item = &'static Layout> {
    [
        vm::LAYOUTS,
        memory::LAYOUTS,
        fence::LAYOUTS,
        submit::LAYOUTS,
        uring::LAYOUTS,
    ]
    .into_iter()
    .flatten()
}

/// Every constant of the interface by its C name without `VACCEL_`.
pub fn constants_by_name() -> impl Iterator<Item = &'static (&'static str, u64)> {
    [
        limit::CONSTANTS,
        vm::CONSTANTS,
        memory::CONSTANTS,
        fence::CONSTANTS,
        submit::CONSTANTS,
        uring::CONSTANTS,
    ]
    .into_iter()
    .flatten()
}
