// SPDX-License-Identifier: MIT OR Apache-2.0
//! The DRM core's own operations on this node: GEM, PRIME, syncobj.

use std::os::fd::AsFd;
use std::path::Path;

use libc::{EINVAL, ENOENT};
use libvaccel::ioctl::drm;
use libvaccel::{ioctl, sys, BoOptions, Deadline, Device};

use super::Case;
use crate::expect::{accepted, refused};
use crate::rig::{ensure, failed, Problem, Result, Rig, SIZE};

pub const CASES: &[Case] = &[
    Case {
        name: "drm-gem-close",
        proves: "GEM_CLOSE frees a handle once, whatever still uses the object",
        run: gem_close,
    },
    Case {
        name: "drm-prime",
        proves: "a guest object goes out as a dma-buf and comes back as the same handle, and the \
                 dma-buf keeps it alive; argument objects do not go out",
        run: prime,
    },
    Case {
        name: "drm-syncobj",
        proves: "syncobjs can be made, waited for and destroyed on this node",
        run: syncobj,
    },
];

fn gem_close(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let fd = rig.device.as_fd();
    let arg = sys::BoCreate {
        size: SIZE,
        vm: rig.vm.handle(),
        ..Default::default()
    };
    let bo = accepted::<ioctl::BoCreate>(&rig.device, "of guest memory", arg)?.bo;
    let bind = sys::Bind {
        vm: rig.vm.handle(),
        bo,
        size: SIZE,
        ..Default::default()
    };
    let bound = accepted::<ioctl::Bind>(&rig.device, "of it", bind)?;
    ensure(
        drm::gem_close(fd, bo).is_ok(),
        "a bound object cannot be closed",
    )?;
    let second = drm::gem_close(fd, bo);
    ensure(
        matches!(second, Err(ioctl::Errno(EINVAL | ENOENT))),
        format!("a second GEM_CLOSE: {second:?}"),
    )?;
    let info = sys::BoInfo {
        bo,
        ..Default::default()
    };
    refused::<ioctl::BoInfo>(&rig.device, "of a closed handle", info, &[ENOENT])?;
    refused::<ioctl::Bind>(&rig.device, "of a closed handle", bind, &[ENOENT])?;
    // The binding has kept the object.
    let unbind = sys::Bind {
        vm: rig.vm.handle(),
        gpu_va: bound.gpu_va,
        size: SIZE,
        ..Default::default()
    };
    accepted::<ioctl::Unbind>(&rig.device, "of a closed object", unbind)?;
    Ok(())
}

fn prime(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let fd = rig.device.as_fd();
    let bo = rig.vm.create_bo(&BoOptions::new(SIZE))?;
    let mapping = bo.map()?;
    mapping.write(100, b"shared")?;
    let dma_buf = match drm::prime_handle_to_fd(fd, bo.handle()) {
        Ok(dma_buf) => dma_buf,
        Err(errno) => return failed(format!("export: {errno}")),
    };
    match drm::prime_fd_to_handle(fd, dma_buf.as_fd()) {
        Ok(handle) if handle == bo.handle() => {}
        other => {
            return failed(format!(
                "import of the own object: {other:?}, not its handle"
            ))
        }
    }
    drop(mapping);
    bo.close()?;
    // The dma-buf is all that is left, and is enough.
    let again = drm::prime_fd_to_handle(fd, dma_buf.as_fd())
        .map_err(|errno| Problem::Failed(format!("import after close: {errno}")))?;
    let info = sys::BoInfo {
        bo: again,
        ..Default::default()
    };
    let info = accepted::<ioctl::BoInfo>(&rig.device, "of the imported object", info)?;
    ensure(info.size == SIZE, "the imported object has another size")?;
    let mapping =
        libvaccel::Mapping::new(fd, info.mmap_offset, SIZE, libvaccel::Access::ReadWrite)?;
    let mut bytes = [0; 6];
    mapping.read(100, &mut bytes)?;
    ensure(
        &bytes == b"shared",
        "the imported object has another content",
    )?;
    ensure(
        drm::gem_close(fd, again).is_ok(),
        "the imported handle cannot be closed",
    )?;
    drop(dma_buf);

    match drm::prime_handle_to_fd(fd, rig.arg.handle()) {
        Ok(_) => failed("an argument object was exported"),
        Err(ioctl::Errno(libc::EOPNOTSUPP)) => Ok(()),
        Err(errno) => failed(format!(
            "export of an argument object: {errno}, expected EOPNOTSUPP"
        )),
    }
}

fn syncobj(node: &Path) -> Result {
    let device = Device::open(node)?;
    let fd = device.as_fd();
    let drm_failed = |what: &str, errno| Problem::Failed(format!("{what}: {errno}"));
    let soon = i64::try_from(Deadline::after_secs(10).as_ns()).unwrap_or(i64::MAX);
    let signalled = drm::syncobj_create(fd, true).map_err(|e| drm_failed("create", e))?;
    drm::syncobj_wait(fd, signalled, soon).map_err(|e| drm_failed("wait", e))?;
    let empty = drm::syncobj_create(fd, false).map_err(|e| drm_failed("create", e))?;
    ensure(
        drm::syncobj_wait(fd, empty, soon).is_err(),
        "a wait for a syncobj without a fence succeeds",
    )?;
    for handle in [signalled, empty] {
        drm::syncobj_destroy(fd, handle).map_err(|e| drm_failed("destroy", e))?;
    }
    ensure(
        drm::syncobj_destroy(fd, empty).is_err(),
        "a syncobj can be destroyed twice",
    )
}
