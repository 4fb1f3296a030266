// SPDX-License-Identifier: MIT OR Apache-2.0
//! BO_CREATE and BO_INFO.

use std::path::Path;

use libc::{EFBIG, EINVAL, ENOENT, EOPNOTSUPP};
use libvaccel::{ioctl, sys};

use super::Case;
use crate::expect::{accepted, refused};
use crate::rig::{ensure, Result, Rig, SIZE};

pub const CASES: &[Case] = &[
    Case {
        name: "bo-create-bad",
        proves: "sizes 0, unaligned and huge, unknown kinds and modes, wrong owners are refused",
        run: create_bad,
    },
    Case {
        name: "bo-info",
        proves: "an object reports what it was made as, and unknown handles are ENOENT",
        run: info,
    },
];

fn create_bad(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let device = &rig.device;
    let vm = rig.vm.handle();
    let guest = sys::BoCreate {
        size: 4096,
        vm,
        ..Default::default()
    };
    let arg = sys::BoCreate {
        kind: sys::BO_KIND_ARG,
        vm: 0,
        ..guest
    };
    let refuse = |what: &str, bad, errno| refused::<ioctl::BoCreate>(device, what, bad, &[errno]);
    for good in [guest, arg] {
        let kind = good.kind;
        refuse(
            &format!("size 0, kind {kind}"),
            sys::BoCreate { size: 0, ..good },
            EINVAL,
        )?;
        for size in [1, 4095, 4097, u64::MAX] {
            let bad = sys::BoCreate { size, ..good };
            refuse(&format!("size {size:#x}, kind {kind}"), bad, EINVAL)?;
        }
        for size in [1 << 62, u64::MAX - 4095] {
            let bad = sys::BoCreate { size, ..good };
            refuse(&format!("size {size:#x}, kind {kind}"), bad, EFBIG)?;
        }
        refuse("caching 2", sys::BoCreate { caching: 2, ..good }, EINVAL)?;
    }
    let combined = sys::BoCreate {
        caching: sys::BO_WRITE_COMBINED,
        ..guest
    };
    refuse("write-combined guest memory", combined, EOPNOTSUPP)?;
    let limit = device.param(sys::PARAM_BO_SIZE_MAX)?;
    let size = (limit / 4096 + 1).saturating_mul(4096);
    refuse(
        "size above the parameter",
        sys::BoCreate { size, ..guest },
        EFBIG,
    )?;
    let size = u64::from(sys::limit::ARG_SIZE_MAX) + 4096;
    refuse(
        "argument object above the limit",
        sys::BoCreate { size, ..arg },
        EFBIG,
    )?;
    for kind in [sys::BO_KIND_IMPORT, 4, u32::MAX] {
        refuse(
            &format!("kind {kind}"),
            sys::BoCreate { kind, ..guest },
            EINVAL,
        )?;
    }
    refuse(
        "guest object without a vm",
        sys::BoCreate { vm: 0, ..guest },
        ENOENT,
    )?;
    refuse(
        "unknown vm",
        sys::BoCreate {
            vm: 0x7fff_fff0,
            ..guest
        },
        ENOENT,
    )?;
    let queue = rig.queue.handle();
    if queue != vm {
        refuse(
            "a queue as the vm",
            sys::BoCreate { vm: queue, ..guest },
            ENOENT,
        )?;
    }
    refuse(
        "argument object with a vm",
        sys::BoCreate { vm, ..arg },
        EINVAL,
    )?;
    let arg_bo = rig.arg.handle();
    let private = sys::BoCreate {
        arg_bo,
        priv_size: 8,
        ..guest
    };
    refuse("driver data for guest memory", private, EINVAL)?;
    if device.param(sys::PARAM_FEATURES)? & sys::FEATURE_HOST_MEMORY == 0 {
        let host = sys::BoCreate {
            kind: sys::BO_KIND_HOST,
            ..guest
        };
        refuse("host memory without its feature", host, EOPNOTSUPP)?;
    }
    Ok(())
}

fn info(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    for (bo, kind) in [
        (rig.bo.handle(), sys::BO_KIND_GUEST),
        (rig.arg.handle(), sys::BO_KIND_ARG),
    ] {
        let arg = sys::BoInfo {
            bo,
            // Output fields are ignored on input.
            kind: u32::MAX,
            size: u64::MAX,
            mmap_offset: u64::MAX,
            ..Default::default()
        };
        let info = accepted::<ioctl::BoInfo>(&rig.device, "as it should be", arg)?;
        ensure(
            info.kind == kind,
            format!("kind {}, made as {kind}", info.kind),
        )?;
        ensure(
            info.size == SIZE,
            format!("size {}, made as {SIZE}", info.size),
        )?;
        ensure(
            (info.caching, info.flags) == (sys::BO_CACHED, 0),
            format!("caching {}, flags {}", info.caching, info.flags),
        )?;
        ensure(info.mmap_offset % 4096 == 0, "the mmap offset is no page's")?;
    }
    for bo in [0, 0x7fff_fff0, u32::MAX] {
        let arg = sys::BoInfo {
            bo,
            ..Default::default()
        };
        refused::<ioctl::BoInfo>(&rig.device, &format!("handle {bo:#x}"), arg, &[ENOENT])?;
    }
    Ok(())
}
