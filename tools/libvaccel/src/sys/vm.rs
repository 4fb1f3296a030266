// SPDX-License-Identifier: MIT OR Apache-2.0
//! Parameters, adapter queries, vm and queue: header sections "parameters", "vm" and "queues".

super::constants! {
    PARAM_FEATURES: u32 = 0;
    PARAM_INTERFACE_VERSION: u32 = 1;
    PARAM_ADAPTER_LUID: u32 = 2;
    PARAM_HOST_ADAPTER_LUID: u32 = 3;
    PARAM_HOST_VGPU_LUID: u32 = 4;
    PARAM_COMPUTE_ONLY: u32 = 5;
    PARAM_HOST_CAPS: u32 = 6;
    PARAM_IO_SPACE_SIZE: u32 = 7;
    PARAM_BO_SIZE_MAX: u32 = 8;
    PARAM_RESETS: u32 = 9;
    PARAM_SEGMENT_SIZE: u32 = 10;
    PARAM_PIN_LIMIT: u32 = 11;
    PARAM_WATCHDOG_MS: u32 = 12;

    FEATURE_ARG_SUBMIT: u64 = 1 << 0;
    FEATURE_FENCE_MMAP: u64 = 1 << 1;
    FEATURE_HOST_MEMORY: u64 = 1 << 2;
    FEATURE_MANUAL_RESIDENCY: u64 = 1 << 3;
    FEATURE_FENCE_SHARING: u64 = 1 << 4;
    FEATURE_SYNC_BRIDGE: u64 = 1 << 5;
    FEATURE_URING: u64 = 1 << 6;
    FEATURE_EVENTS: u64 = 1 << 7;
    FEATURE_IMPORT: u64 = 1 << 8;
    FEATURE_VA_RESERVE: u64 = 1 << 9;
    FEATURE_OFFER: u64 = 1 << 10;
    FEATURE_QUEUED_BIND: u64 = 1 << 11;
    FEATURE_ESCAPE: u64 = 1 << 12;

    HOST_CAP_PAGE_LISTS: u64 = 1 << 0;
    HOST_CAP_ASYNC: u64 = 1 << 1;
    HOST_CAP_HW_QUEUES: u64 = 1 << 2;

    QUERY_HOST: u32 = 0;
    QUERY_DESCRIPTION: u32 = 1;
    QUERY_INSTANCE_ID: u32 = 2;

    VM_MANUAL_RESIDENCY: u32 = 1 << 0;

    STATE_ACTIVE: u32 = 1;
    STATE_RESET: u32 = 2;
    STATE_HUNG: u32 = 3;
    STATE_STOPPED: u32 = 4;
    STATE_OUT_OF_MEMORY: u32 = 5;
    STATE_DMA_FAULT: u32 = 6;
    STATE_PAGE_FAULT: u32 = 7;

    QUEUE_BOUNDED: u32 = 0;
    QUEUE_LONG_RUNNING: u32 = 1;
}

super::wire! {
    GetParam as "drm_vaccel_get_param" {
        param: u32,
        index: u32,
        value: u64,
    }
    AdapterQuery as "drm_vaccel_adapter_query" {
        source: u32,
        r#type: u32,
        arg_bo: u32,
        pad: u32,
        arg_offset: u64,
        size: u32,
        host_status: u32,
    }
    VmCreate as "drm_vaccel_vm_create" {
        flags: u32,
        vm: u32,
        paging_fence: u32,
        host_status: u32,
        reserved: [u64; 4],
    }
    Destroy as "drm_vaccel_destroy" {
        handle: u32,
        pad: u32,
    }
    VmQuery as "drm_vaccel_vm_query" {
        vm: u32,
        state: u32,
        fault_gpu_va: u64,
        fault_flags: u32,
        host_status: u32,
        paging_value: u64,
        reserved: [u64; 2],
    }
    QueueCreate as "drm_vaccel_queue_create" {
        vm: u32,
        mode: u32,
        flags: u32,
        node: u32,
        engine_affinity: u32,
        priority: i32,
        arg_bo: u32,
        priv_size: u32,
        arg_offset: u64,
        queue: u32,
        host_status: u32,
        timeout_ms: u32,
        pad: u32,
        reserved: u64,
    }
    QueueQuery as "drm_vaccel_queue_query" {
        queue: u32,
        state: u32,
        submitted_seq: u64,
        reserved: [u64; 2],
    }
}
