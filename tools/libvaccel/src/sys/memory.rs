// SPDX-License-Identifier: MIT OR Apache-2.0
//! Buffer objects, GPU addresses, residency, budget: header sections "buffer objects", "GPU
//! addresses" and "memory budget, events".

super::constants! {
    BO_KIND_GUEST: u32 = 0;
    BO_KIND_HOST: u32 = 1;
    BO_KIND_IMPORT: u32 = 2;
    BO_KIND_ARG: u32 = 3;

    BO_CACHED: u32 = 0;
    BO_WRITE_COMBINED: u32 = 1;

    BO_READ_ONLY: u32 = 1 << 0;
    BO_SHAREABLE: u32 = 1 << 1;

    SYNC_FOR_CPU: u32 = 1 << 0;
    SYNC_FOR_DEVICE: u32 = 1 << 1;

    VA_ZERO: u32 = 1 << 0;

    BIND_WRITE: u32 = 1 << 0;
    BIND_EXECUTE: u32 = 1 << 1;
    BIND_NULL: u32 = 1 << 2;
    BIND_FIXED: u32 = 1 << 3;

    RESIDENCY_RESIDENT: u32 = 0;
    RESIDENCY_EVICT: u32 = 1;
    RESIDENCY_OFFER: u32 = 2;
    RESIDENCY_RECLAIM: u32 = 3;
    RESIDENCY_PRIORITY: u32 = 4;

    RESIDENT_CANT_TRIM: u32 = 1 << 0;
    OFFER_ALLOW_DECOMMIT: u32 = 1 << 1;

    OFFER_PRIORITY_LOW: u32 = 1;
    OFFER_PRIORITY_NORMAL: u32 = 2;
    OFFER_PRIORITY_HIGH: u32 = 3;
    OFFER_PRIORITY_AUTO: u32 = 4;

    PRIORITY_MINIMUM: u32 = 0x2800_0000;
    PRIORITY_LOW: u32 = 0x5000_0000;
    PRIORITY_NORMAL: u32 = 0x7800_0000;
    PRIORITY_HIGH: u32 = 0xa000_0000;
    PRIORITY_MAXIMUM: u32 = 0xc800_0000;

    RECLAIMED_KEPT: u32 = 0;
    RECLAIMED_DISCARDED: u32 = 1;
    RECLAIMED_NOT_COMMITTED: u32 = 2;

    SEGMENT_LOCAL: u32 = 0;
    SEGMENT_NON_LOCAL: u32 = 1;

    BUDGET_SET_RESERVATION: u32 = 1 << 0;

    EVENT_BUDGET: u32 = 0x8000_0000;
    EVENT_VM_STATE: u32 = 0x8000_0001;
}

super::wire! {
    BoCreate as "drm_vaccel_bo_create" {
        size: u64,
        kind: u32,
        caching: u32,
        flags: u32,
        vm: u32,
        arg_bo: u32,
        priv_size: u32,
        arg_offset: u64,
        mmap_offset: u64,
        bo: u32,
        host_status: u32,
        reserved: [u64; 2],
    }
    BoInfo as "drm_vaccel_bo_info" {
        bo: u32,
        kind: u32,
        caching: u32,
        flags: u32,
        size: u64,
        mmap_offset: u64,
        reserved: [u64; 2],
    }
    BoSync as "drm_vaccel_bo_sync" {
        bo: u32,
        flags: u32,
        bo_offset: u64,
        size: u64,
        host_status: u32,
        pad: u32,
    }
    VaRange as "drm_vaccel_va_range" {
        vm: u32,
        flags: u32,
        gpu_va: u64,
        size: u64,
        host_status: u32,
        pad: u32,
        reserved: [u64; 2],
    }
    Bind as "drm_vaccel_bind" {
        vm: u32,
        bo: u32,
        flags: u32,
        host_status: u32,
        gpu_va: u64,
        bo_offset: u64,
        size: u64,
        paging_value: u64,
        bytes_to_trim: u64,
        reserved: u64,
    }
    ResidencyEntry as "drm_vaccel_residency_entry" {
        bo: u32,
        result: u32,
    }
    Residency as "drm_vaccel_residency" {
        vm: u32,
        op: u32,
        flags: u32,
        priority: u32,
        arg_bo: u32,
        count: u32,
        arg_offset: u64,
        paging_value: u64,
        bytes_to_trim: u64,
        host_status: u32,
        pad: u32,
        reserved: [u64; 2],
    }
    Budget as "drm_vaccel_budget" {
        segment: u32,
        flags: u32,
        budget_size: u64,
        usage_size: u64,
        reservation_size: u64,
        available_size: u64,
        host_status: u32,
        pad: u32,
        reserved: [u64; 2],
    }
    Events as "drm_vaccel_events" {
        mask: u32,
        pad: u32,
    }
    /// `base` of the C structure (`struct drm_event`: type, length) is one field of two words.
    Event as "drm_vaccel_event" {
        base: [u32; 2],
        vm: u32,
        segment: u32,
        value: u64,
    }
}
