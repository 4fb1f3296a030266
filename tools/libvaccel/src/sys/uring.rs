// SPDX-License-Identifier: MIT OR Apache-2.0
//! What exists by io_uring only: header sections "cancel" and "operations as io_uring commands".

super::constants! {
    URING_RECORDED: u32 = 1;
}

super::wire! {
    Cancel as "drm_vaccel_cancel" {
        user_value: u64,
        reserved: u64,
    }
}
