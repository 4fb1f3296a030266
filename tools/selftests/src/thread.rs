// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where another thread of the program is.

use std::fs;
use std::path::{Path, PathBuf};

use crate::rig::{eventually, Result};

/// The thread that calls this, in /proc.
pub fn this_thread() -> Result<PathBuf> {
    Ok(Path::new("/proc").join(fs::read_link("/proc/thread-self")?))
}

/// Waits until a thread sleeps in an ioctl: on a busy machine no pause is long enough.
pub fn sleeps_in_ioctl(thread: &Path) -> Result {
    let ioctl = format!("{} ", libc::SYS_ioctl);
    eventually("the thread does not get to its ioctl", || {
        // Of a thread that runs it says just that.
        Ok(fs::read_to_string(thread.join("syscall"))?.starts_with(&ioctl))
    })
}
