// SPDX-License-Identifier: GPL-2.0-only

//! C declarations that the kernel crate lacks.
//!
//! bindgen writes only what the Makefile lists; every other name is the kernel crate's, so that a
//! `struct device` met here is the very type the kernel crate works with. Only the abstraction
//! layers ([`drm`](crate::drm), [`vmbus`](crate::vmbus) and their neighbours) may use this module;
//! the driver itself uses [`uapi`] alone.

#[allow(
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    clippy::ptr_as_ptr,
    clippy::ref_as_ptr,
    clippy::cast_lossless,
    dead_code,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    unsafe_op_in_unsafe_fn,
    unused_imports,
    improper_ctypes,
    reason = "generated code"
)]
mod generated {
    pub(crate) use kernel::bindings::*;

    use kernel::ffi;
    use pin_init::MaybeZeroable;

    include!(concat!(env!("VACCEL_OBJ"), "/bindings_generated.rs"));
}

pub(crate) use generated::*;

/// The user-space interface of this driver, `include/uapi/drm/vaccel_accel.h`.
///
/// The structures hold integers only and have no padding, which the derived traits prove at compile time.
#[allow(
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    clippy::ptr_as_ptr,
    clippy::ref_as_ptr,
    clippy::cast_lossless,
    dead_code,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    unused_imports,
    reason = "generated code"
)]
pub(crate) mod uapi {
    use kernel::{
        bindings::*,
        ffi, //
    };
    use zerocopy_derive::{
        FromBytes,
        Immutable,
        IntoBytes,
        KnownLayout, //
    };

    include!(concat!(env!("VACCEL_OBJ"), "/uapi_generated.rs"));

    const _: () = assert!(core::mem::offset_of!(drm_vaccel_event, base) == 0);

    // SAFETY: It begins with a `struct drm_event`, as asserted; it has no padding, as the derived
    // `IntoBytes` proves, and consists of integers, which need no drop.
    unsafe impl crate::drm::Event for drm_vaccel_event {}
}

// The types of the kernel crate and of this one coincide: these would not compile otherwise.
const _: fn(&hv_device) -> &kernel::bindings::device = |dev| &dev.device;
const _: fn(&drm_syncobj) -> *mut kernel::bindings::dma_fence = |obj| obj.fence;
