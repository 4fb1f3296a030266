// SPDX-License-Identifier: GPL-2.0-only

//! Files that stand for a fence.
//!
//! C header: [`include/linux/sync_file.h`](srctree/include/linux/sync_file.h)

use core::ptr::NonNull;

use kernel::{
    fs::{
        File,
        LocalFile, //
    },
    prelude::*,
    sync::aref::ARef, //
};

use crate::{
    bindings,
    dma_fence::DmaFence, //
};

/// Makes a sync_file of a fence. May sleep.
///
/// # Errors
///
/// `ENOMEM`, also if there cannot be more files.
pub fn create(fence: &DmaFence) -> Result<ARef<File>> {
    // SAFETY: The fence is valid; the file takes a reference of its own.
    let sync_file = unsafe { bindings::sync_file_create(fence.as_raw()) };
    if sync_file.is_null() {
        return Err(ENOMEM);
    }

    // SAFETY: The function returned a valid object, whose file does not change.
    let file = unsafe { (*sync_file).file };
    let file = NonNull::new(file).ok_or(ENOMEM)?;
    // SAFETY: The file is a new one, which keeps the object; its reference is ours, and nobody uses its
    // position.
    Ok(unsafe { ARef::from_raw(file.cast()) })
}

/// The fence of a sync_file, by a file descriptor of the calling process.
///
/// # Errors
///
/// `EBADF` if there is no such descriptor, `EINVAL` if it is that of another kind of file.
pub fn fence_of(fd: i32) -> Result<DmaFence> {
    // SAFETY: No requirements; the function returns null or a reference.
    let fence = unsafe { DmaFence::from_raw(bindings::sync_file_get_fence(fd)) };

    match fence {
        Some(fence) => Ok(fence),
        None => {
            // Only to tell the reason.
            // CAST: No descriptor is as large as a negative one becomes.
            LocalFile::fget(fd as u32)?;
            Err(EINVAL)
        }
    }
}
