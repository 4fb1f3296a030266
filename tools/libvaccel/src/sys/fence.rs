// SPDX-License-Identifier: MIT OR Apache-2.0
//! Monitored fences and bridges: header sections "monitored fences" and "bridges".

super::constants! {
    FENCE_SHAREABLE: u32 = 1 << 0;
    FENCE_NO_MMAP: u32 = 1 << 1;

    SIGNAL_REWIND: u32 = 1 << 0;

    WAIT_ANY: u32 = 1 << 0;

    FENCE_WAIT_ONLY: u32 = 1 << 0;

    SYNC_TIMELINE: u32 = 1 << 0;
    SYNC_WAIT_FOR_SUBMIT: u32 = 1 << 1;
    SYNC_FILE: u32 = 1 << 2;
}

super::wire! {
    FenceCreate as "drm_vaccel_fence_create" {
        vm: u32,
        flags: u32,
        initial_value: u64,
        gpu_va: u64,
        mmap_offset: u64,
        fence: u32,
        host_status: u32,
        reserved: [u64; 2],
    }
    FenceSignal as "drm_vaccel_fence_signal" {
        fence: u32,
        flags: u32,
        value: u64,
        host_status: u32,
        pad: u32,
    }
    FenceQuery as "drm_vaccel_fence_query" {
        fence: u32,
        error: i32,
        value: u64,
        gpu_va: u64,
        mmap_offset: u64,
        reserved: [u64; 2],
    }
    FenceWait as "drm_vaccel_fence_wait" {
        fence: u32,
        flags: u32,
        value: u64,
        deadline_ns: u64,
        observed_value: u64,
        host_status: u32,
        error: i32,
        reserved: [u64; 2],
    }
    WaitEntry as "drm_vaccel_wait_entry" {
        fence: u32,
        pad: u32,
        value: u64,
    }
    FenceWaitMany as "drm_vaccel_fence_wait_many" {
        arg_bo: u32,
        count: u32,
        arg_offset: u64,
        deadline_ns: u64,
        observed_value: u64,
        flags: u32,
        index: u32,
        host_status: u32,
        error: i32,
        reserved: [u64; 2],
    }
    FenceEventfd as "drm_vaccel_fence_eventfd" {
        fence: u32,
        fd: i32,
        value: u64,
        flags: u32,
        host_status: u32,
        reserved: u64,
    }
    FenceFd as "drm_vaccel_fence_fd" {
        fence: u32,
        fd: i32,
        vm: u32,
        flags: u32,
        gpu_va: u64,
        mmap_offset: u64,
        host_status: u32,
        pad: u32,
    }
    Sync as "drm_vaccel_sync" {
        fence: u32,
        flags: u32,
        value: u64,
        syncobj: u32,
        fd: i32,
        point: u64,
        deadline_ns: u64,
        reserved: [u64; 2],
    }
}
