// SPDX-License-Identifier: GPL-2.0-only

//! What is left of a device that failed, for user space to read.
//!
//! C header: [`include/linux/devcoredump.h`](srctree/include/linux/devcoredump.h)

use kernel::{
    device::Device,
    prelude::*, //
};

use crate::bindings;

/// Shows `data` as the dump of `dev`, until user space has read it or some minutes are over. May sleep.
///
/// It is dropped if there is nothing in it, if an earlier dump is still there, if there is no memory for
/// the rest, or if the kernel has no dumps.
pub fn emit(dev: &Device, data: VVec<u8>) {
    if data.is_empty() {
        return;
    }

    let (data, len, _) = data.into_raw_parts();
    let dev = core::ptr::from_ref(dev).cast_mut().cast();
    // SAFETY:
    // - The device is valid: `Device` is a transparent wrapper of `struct device`.
    // - The memory is of `vmalloc()`, as it is not empty, holds `len` bytes and becomes the function's.
    unsafe { bindings::vaccel_dev_coredumpv(dev, data.cast(), len) };
}
