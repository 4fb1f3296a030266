// SPDX-License-Identifier: MIT OR Apache-2.0
//! BIND and UNBIND.

use std::path::Path;

use libc::{EEXIST, EINVAL, ENOENT, EOVERFLOW};
use libvaccel::{ioctl, sys, BindFlags};

use super::Case;
use crate::expect::{accepted, refused};
use crate::rig::{ensure, soon, Result, Rig, SIZE};

pub const CASES: &[Case] = &[
    Case {
        name: "bind-bad",
        proves: "bad handles, kinds, sizes, offsets and addresses are refused by BIND",
        run: bind_bad,
    },
    Case {
        name: "bind-fixed",
        proves: "a fixed address is honoured, an overlap is EEXIST, and it is free after UNBIND",
        run: fixed,
    },
    Case {
        name: "unbind-bad",
        proves: "UNBIND takes exactly what BIND made, once",
        run: unbind_bad,
    },
    Case {
        name: "bind-paging-value",
        proves: "the paging fence reaches the value that BIND reports, and cannot be signalled",
        run: paging,
    },
];

fn good(rig: &Rig) -> sys::Bind {
    sys::Bind {
        vm: rig.vm.handle(),
        bo: rig.bo.handle(),
        flags: sys::BIND_WRITE,
        size: 4096,
        ..Default::default()
    }
}

fn bind_bad(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let good = good(&rig);
    let refuse =
        |what: &str, bad, errnos: &[i32]| refused::<ioctl::Bind>(&rig.device, what, bad, errnos);
    refuse("no vm", sys::Bind { vm: 0, ..good }, &[ENOENT])?;
    refuse(
        "unknown vm",
        sys::Bind {
            vm: 0x7fff_fff0,
            ..good
        },
        &[ENOENT],
    )?;
    refuse("no object", sys::Bind { bo: 0, ..good }, &[ENOENT])?;
    refuse(
        "unknown object",
        sys::Bind {
            bo: 0x7fff_fff0,
            ..good
        },
        &[ENOENT],
    )?;
    let bo = rig.arg.handle();
    refuse("argument object", sys::Bind { bo, ..good }, &[EINVAL])?;
    for size in [0, 1, 4095, 6000] {
        refuse(
            &format!("size {size}"),
            sys::Bind { size, ..good },
            &[EINVAL],
        )?;
    }
    for bo_offset in [1, 2048, SIZE] {
        let bad = sys::Bind { bo_offset, ..good };
        refuse(&format!("object offset {bo_offset}"), bad, &[EINVAL])?;
    }
    let size = SIZE + 4096;
    refuse(
        "more than the object",
        sys::Bind { size, ..good },
        &[EINVAL],
    )?;
    let bad = sys::Bind {
        bo_offset: u64::MAX - 4095,
        size: 8192,
        ..good
    };
    refuse("offset and size that overflow", bad, &[EOVERFLOW])?;
    let gpu_va = 0x10_0000;
    refuse(
        "an address without FIXED",
        sys::Bind { gpu_va, ..good },
        &[EINVAL],
    )?;
    let flags = good.flags | sys::BIND_FIXED;
    let bad = sys::Bind {
        flags,
        gpu_va: 0x10_0800,
        ..good
    };
    refuse("an unaligned address", bad, &[EINVAL])?;
    let bad = sys::Bind {
        flags,
        gpu_va: u64::MAX - 4095,
        size: 8192,
        ..good
    };
    refuse("address and size that overflow", bad, &[EOVERFLOW, EINVAL])?;
    let flags = sys::BIND_NULL;
    refuse(
        "NULL with an object",
        sys::Bind { flags, ..good },
        &[EINVAL],
    )
}

fn fixed(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    // An address that the host chose, and has given back, is one that it can map.
    let probe = rig.bo.bind(BindFlags::WRITE)?;
    let gpu_va = probe.gpu_va();
    probe.close()?;
    let fixed = rig.bo.bind_range(BindFlags::WRITE, Some(gpu_va), 0, 8192)?;
    ensure(
        fixed.gpu_va() == gpu_va,
        format!("bound at {:#x}, asked for {gpu_va:#x}", fixed.gpu_va()),
    )?;
    for (offset, what) in [(0, "the same range"), (4096, "a part of it")] {
        let overlap = sys::Bind {
            flags: sys::BIND_FIXED,
            gpu_va: gpu_va + offset,
            ..good(&rig)
        };
        refused::<ioctl::Bind>(&rig.device, what, overlap, &[EEXIST])?;
    }
    fixed.close()?;
    let again = rig
        .bo
        .bind_range(BindFlags::WRITE, Some(gpu_va), 4096, 4096)?;
    again.close()?;
    Ok(())
}

fn unbind_bad(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let gpu_va = rig.binding.gpu_va();
    let good = sys::Bind {
        vm: rig.vm.handle(),
        gpu_va,
        size: SIZE,
        ..Default::default()
    };
    let refuse =
        |what: &str, bad, errno| refused::<ioctl::Unbind>(&rig.device, what, bad, &[errno]);
    refuse(
        "unknown vm",
        sys::Bind {
            vm: 0x7fff_fff0,
            ..good
        },
        ENOENT,
    )?;
    refuse(
        "a part from the start",
        sys::Bind { size: 4096, ..good },
        EINVAL,
    )?;
    let bad = sys::Bind {
        gpu_va: gpu_va + 4096,
        size: SIZE - 4096,
        ..good
    };
    refuse("a part from the middle", bad, EINVAL)?;
    let size = SIZE + 4096;
    refuse("more than was bound", sys::Bind { size, ..good }, EINVAL)?;
    refuse("size 0", sys::Bind { size: 0, ..good }, EINVAL)?;
    let bo = rig.bo.handle();
    refuse("with an object", sys::Bind { bo, ..good }, EINVAL)?;
    refuse(
        "with an object offset",
        sys::Bind {
            bo_offset: 4096,
            ..good
        },
        EINVAL,
    )?;
    accepted::<ioctl::Unbind>(&rig.device, "as it was bound", good)?;
    refuse("a second time", good, EINVAL)
}

fn paging(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    rig.binding.wait(soon())?;
    let state = rig.vm.query()?;
    ensure(
        state.paging_value >= rig.binding.paging_value(),
        "the vm has not asked for the paging value that BIND reported",
    )?;
    let fence = rig.vm.paging_fence();
    let signal = sys::FenceSignal {
        fence,
        value: u64::MAX / 2,
        ..Default::default()
    };
    let errnos = [EINVAL, libc::EPERM];
    refused::<ioctl::FenceSignal>(&rig.device, "of the paging fence", signal, &errnos)?;
    let destroy = sys::Destroy {
        handle: fence,
        pad: 0,
    };
    refused::<ioctl::FenceDestroy>(&rig.device, "of the paging fence", destroy, &errnos)?;
    rig.vm.wait_paging(rig.binding.paging_value(), soon())?;
    Ok(())
}
