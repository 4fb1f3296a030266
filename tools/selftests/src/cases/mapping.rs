// SPDX-License-Identifier: MIT OR Apache-2.0
//! CPU mappings of objects and of fence values.

use std::os::fd::AsFd;
use std::path::Path;

use libc::{EACCES, EINVAL, EPERM};
use libvaccel::{sys, Access, BoOptions, Mapping};

use super::Case;
use crate::rig::{ensure, failed, mark_pages, Problem, Result, Rig, SIZE};
use crate::system::{Area, How};

pub const CASES: &[Case] = &[
    Case {
        name: "mmap-content",
        proves: "a new object reads as zeros, and its mappings share what is written",
        run: content,
    },
    Case {
        name: "mmap-outlives-handle",
        proves: "a mapping stays valid after handle and file are closed",
        run: outlives,
    },
    Case {
        name: "mmap-cut-move",
        proves: "a mapping that loses its start and its end and is moved still shows its own pages",
        run: cut_and_move,
    },
    Case {
        name: "mmap-bounds",
        proves: "offsets that belong to no object, and lengths beyond one, cannot be mapped",
        run: bounds,
    },
    Case {
        name: "mmap-fence-read-only",
        proves: "the fence page shows the value and can neither be mapped nor made writable",
        run: fence_page,
    },
];

fn content(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let first = rig.bo.map()?;
    let second = rig.bo.map()?;
    let mut bytes = vec![0xff; SIZE as usize];
    first.read(0, &mut bytes)?;
    ensure(
        bytes.iter().all(|byte| *byte == 0),
        "a new object is not zeros",
    )?;
    for offset in [0, 4095, SIZE as usize - 1] {
        first.write(offset, &[0xa7])?;
        let mut byte = [0];
        second.read(offset, &mut byte)?;
        ensure(byte == [0xa7], format!("byte {offset} is not shared"))?;
    }
    Ok(())
}

fn outlives(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let bo = rig.vm.create_bo(&BoOptions::new(8192))?;
    let mapping = bo.map()?;
    mapping.write(8000, b"still here")?;
    bo.close()?;
    drop(rig);
    let mut bytes = [0; 10];
    mapping.read(8000, &mut bytes)?;
    ensure(&bytes == b"still here", "the content is gone")?;
    mapping.write(0, &[1])?;
    Ok(())
}

fn cut_and_move(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    mark_pages(&rig.bo.map()?, 300)?;
    let offset = bo_offset(&rig)?;
    let mut area = Area::map(rig.device.as_fd(), offset, SIZE as usize, How::SHARED)?;
    area.cut_start(4096)?;
    area.cut(2 * 4096)?;
    ensure(
        area.get(0)? == 301,
        "a mapping without its start shows another page",
    )?;
    area.remap(2 * 4096)?;
    ensure(
        (area.get(0)?, area.get(4096)?) == (301, 302),
        "a mapping that was cut and moved shows other pages",
    )
}

fn refuse_mapping(rig: &Rig, offset: u64, length: u64, access: Access, what: &str) -> Result {
    match Mapping::new(rig.device.as_fd(), offset, length, access) {
        Ok(_) => failed(format!("{what}: mapped")),
        Err(error) => match error.errno() {
            Some(errno) if [EINVAL, EACCES, EPERM].contains(&errno.0) => Ok(()),
            _ => failed(format!("{what}: {error}")),
        },
    }
}

fn bo_offset(rig: &Rig) -> Result<u64> {
    let arg = sys::BoInfo {
        bo: rig.bo.handle(),
        ..Default::default()
    };
    let info = crate::expect::accepted::<libvaccel::ioctl::BoInfo>(&rig.device, "of the rig", arg)?;
    Ok(info.mmap_offset)
}

fn bounds(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let offset = bo_offset(&rig)?;
    refuse_mapping(
        &rig,
        offset,
        SIZE + 4096,
        Access::ReadWrite,
        "a page too many",
    )?;
    refuse_mapping(&rig, 0, 4096, Access::ReadWrite, "offset 0")?;
    refuse_mapping(
        &rig,
        1 << 46,
        4096,
        Access::ReadWrite,
        "an offset of nothing",
    )?;
    let private = Area::map(rig.device.as_fd(), offset, 4096, How::PRIVATE);
    ensure(
        private.is_err(),
        "an object can be mapped as a copy of one's own",
    )?;
    // Another file has not been given this object.
    let other = Rig::new(node)?;
    let taken = bo_offset(&other)?;
    if taken != offset {
        refuse_mapping(
            &other,
            offset,
            SIZE,
            Access::ReadWrite,
            "the object of another file",
        )?;
    }
    Ok(())
}

fn fence_page(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let Some(page) = rig.fence.page() else {
        return Err(Problem::Skipped("fence values are not mapped here".into()));
    };
    for value in [1, 5, 1 << 40] {
        rig.fence.signal(value)?;
        let seen = page.load_u64(0)?;
        ensure(
            seen == value,
            format!("the page shows {seen}, the value is {value}"),
        )?;
    }
    let arg = sys::FenceQuery {
        fence: rig.fence.handle(),
        ..Default::default()
    };
    let query =
        crate::expect::accepted::<libvaccel::ioctl::FenceQuery>(&rig.device, "of the rig", arg)?;
    refuse_mapping(
        &rig,
        query.mmap_offset,
        4096,
        Access::ReadWrite,
        "a writable fence page",
    )?;
    refuse_mapping(
        &rig,
        query.mmap_offset,
        8192,
        Access::Read,
        "two pages of a fence",
    )?;
    match page.try_make_writable() {
        Err(errno) if [EACCES, EPERM].contains(&errno.0) => {}
        other => return failed(format!("mprotect of a fence page: {other:?}")),
    }
    // The page is still there and still right.
    rig.fence.signal((1 << 40) + 1)?;
    ensure(
        page.load_u64(0)? == (1 << 40) + 1,
        "the page does not follow the value",
    )?;
    // Nothing but the value of this fence is on it.
    let mut rest = vec![0xff; 4096 - 8];
    page.read(8, &mut rest)?;
    ensure(
        rest.iter().all(|byte| *byte == 0),
        "the page holds more than the value",
    )
}
