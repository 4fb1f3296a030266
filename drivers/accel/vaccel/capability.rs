// SPDX-License-Identifier: GPL-2.0-only

//! Capabilities of the calling task.
//!
//! C header: [`include/linux/capability.h`](srctree/include/linux/capability.h)

use crate::bindings;

/// Whether the caller may raise priorities (`CAP_SYS_NICE`).
pub(crate) fn sys_nice() -> bool {
    // SAFETY: Only looks at the credentials of the current task.
    // CAST: a small constant.
    unsafe { bindings::capable(bindings::CAP_SYS_NICE as i32) }
}
