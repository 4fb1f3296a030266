// SPDX-License-Identifier: GPL-2.0-only

//! Tasks.
//!
//! C header: [`include/linux/sched.h`](srctree/include/linux/sched.h)

use crate::bindings;

/// Bytes of the name of a task, with a terminating zero.
pub const TASK_NAME: usize = bindings::TASK_COMM_LEN as usize;

/// The name of the current task, filled up with zeros.
pub fn current_name() -> [u8; TASK_NAME] {
    let mut name = [0; TASK_NAME];

    // SAFETY: The buffer has room for a whole name.
    unsafe { bindings::vaccel_current_comm(name.as_mut_ptr().cast()) };
    name
}
