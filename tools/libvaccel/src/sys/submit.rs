// SPDX-License-Identifier: MIT OR Apache-2.0
//! Submission and escape: header section "submission".

super::constants! {
    OP_EXEC: u32 = 1;
    OP_FENCE_WAIT: u32 = 2;
    OP_FENCE_SIGNAL: u32 = 3;
    OP_SYNCOBJ_WAIT: u32 = 4;
    OP_SYNCOBJ_SIGNAL: u32 = 5;
    OP_BIND: u32 = 6;
    OP_UNBIND: u32 = 7;
    OP_RESIDENCY: u32 = 8;
    OP_BO_ACCESS: u32 = 9;

    ACCESS_WRITE: u32 = 1 << 0;
    ACCESS_WAIT: u32 = 1 << 1;

    SUBMIT_RESULTS: u32 = 1 << 0;
    SUBMIT_DONE_FENCE: u32 = 1 << 1;
    SUBMIT_OUT_SYNCOBJ: u32 = 1 << 2;
    SUBMIT_EXPECT_SEQ: u32 = 1 << 3;
    SUBMIT_NO_PAGING_WAIT: u32 = 1 << 4;
    SUBMIT_CQE_ON_DONE: u32 = 1 << 5;
}

super::wire! {
    OpExec as "drm_vaccel_op_exec" {
        opcode: u32,
        flags: u32,
        gpu_va: u64,
        size: u32,
        priv_size: u32,
        priv_offset: u64,
        reserved: [u64; 4],
    }
    OpFence as "drm_vaccel_op_fence" {
        opcode: u32,
        flags: u32,
        fence: u32,
        pad: u32,
        value: u64,
        reserved: [u64; 5],
    }
    OpSyncobj as "drm_vaccel_op_syncobj" {
        opcode: u32,
        flags: u32,
        syncobj: u32,
        pad: u32,
        point: u64,
        reserved: [u64; 5],
    }
    OpBoAccess as "drm_vaccel_op_bo_access" {
        opcode: u32,
        flags: u32,
        bo: u32,
        pad: u32,
        reserved: [u64; 6],
    }
    OpBind as "drm_vaccel_op_bind" {
        opcode: u32,
        flags: u32,
        bo: u32,
        pad: u32,
        gpu_va: u64,
        bo_offset: u64,
        size: u64,
        reserved: [u64; 3],
    }
    OpResidency as "drm_vaccel_op_residency" {
        opcode: u32,
        flags: u32,
        bo: u32,
        op: u32,
        priority: u32,
        pad: u32,
        reserved: [u64; 5],
    }
    OpResult as "drm_vaccel_op_result" {
        error: i32,
        host_status: u32,
        value: u64,
    }
    Submit as "drm_vaccel_submit" {
        queue: u32,
        flags: u32,
        arg_bo: u32,
        nr_ops: u32,
        arg_offset: u64,
        op_stride: u32,
        host_status: u32,
        result_offset: u64,
        seq: u64,
        done_fence: u32,
        out_syncobj: u32,
        done_value: u64,
        out_point: u64,
    }
    Escape as "drm_vaccel_escape" {
        vm: u32,
        queue: u32,
        r#type: u32,
        escape_flags: u32,
        arg_bo: u32,
        size: u32,
        arg_offset: u64,
        host_status: u32,
        pad: u32,
    }
}
