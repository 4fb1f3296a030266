// SPDX-License-Identifier: MIT OR Apache-2.0
//! CPU mappings of objects and of fence values.

use std::fs::File;
use std::ops::Range;
use std::os::fd::AsFd;
use std::path::Path;

use libc::{EACCES, EINVAL, EPERM};
use libvaccel::{sys, Access, Bo, BoOptions, Mapping};

use super::Case;
use crate::rig::{ensure, eventually, failed, mark_pages, Problem, Result, Rig, SIZE};
use crate::system::{Area, Child, How};

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
        proves: "offsets that belong to no object, lengths beyond one, and what begins behind the \
                 first page of one (EINVAL) cannot be mapped",
        run: bounds,
    },
    Case {
        name: "mmap-fence-read-only",
        proves: "the fence page shows the value and can neither be mapped nor made writable",
        run: fence_page,
    },
    Case {
        name: "mmap-part-unmapped",
        proves: "pages touched first after the start of their mapping was unmapped are their own, \
                 for reads and writes",
        run: unmapped_start,
    },
    Case {
        name: "mmap-part-protected",
        proves: "pages touched first after the middle of their mapping was made read-only are \
                 their own, and the middle alone refuses writes",
        run: protected_middle,
    },
    Case {
        name: "mmap-part-moved",
        proves: "pages touched first after the end of their mapping was moved elsewhere are their \
                 own, at both places",
        run: moved_end,
    },
    Case {
        name: "mmap-part-fork",
        proves: "a forked child finds the right pages in what is left of a mapping, also in what \
                 it cuts itself",
        run: parts_in_child,
    },
    Case {
        name: "mmap-part-kept",
        proves: "the first word of each page that was written through what is left of a mapping is \
                 there after the kernel was told to drop clean pages; whether it dropped any is not \
                 checked",
        run: written_parts_stay,
    },
    Case {
        name: "mmap-huge",
        proves: "a large object is mapped by large pages: few faults for all of it",
        run: huge,
    },
    Case {
        name: "mmap-huge-part",
        proves: "a mapping of an object big enough for large pages, all of it touched, of which the \
                 start and a page in the middle are unmapped, has the right first word in each other \
                 page and shares what is written behind it; those words are there after the kernel \
                 was told to drop clean pages. Whether pages were large, or dropped, is not checked",
        run: huge_part,
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
    let inside = Mapping::new(rig.device.as_fd(), offset + 4096, 4096, Access::ReadWrite);
    ensure(
        inside
            .as_ref()
            .is_err_and(|error| error.errno().is_some_and(|errno| errno.0 == EINVAL)),
        format!("the second page alone: {inside:?}, expected EINVAL"),
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
        // A host with asynchronous messages sets it a moment later.
        eventually(&format!("the page does not show {value}"), || {
            Ok(page.load_u64(0)? == value)
        })?;
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
    eventually("the page does not follow the value", || {
        Ok(page.load_u64(0)? == (1 << 40) + 1)
    })?;
    // Nothing but the value of this fence is on it.
    let mut rest = vec![0xff; 4096 - 8];
    page.read(8, &mut rest)?;
    ensure(
        rest.iter().all(|byte| *byte == 0),
        "the page holds more than the value",
    )
}

const PAGE: usize = 4096;
/// Bytes of an object that is big enough for large pages.
const LARGE: usize = 8 << 20;

/// An object whose every page begins with a number of its own.
struct Marked {
    bo: Bo,
    length: usize,
    rig: Rig,
}

/// The first word of page `page`.
fn mark(page: usize) -> u64 {
    300 + page as u64
}

impl Marked {
    fn new(node: &Path, length: usize) -> Result<Self> {
        let rig = Rig::new(node)?;
        let bo = rig.vm.create_bo(&BoOptions::new(length as u64))?;
        let object = Self { bo, length, rig };
        let area = object.map()?;
        for page in 0..length / PAGE {
            area.set(page * PAGE, mark(page))?;
        }
        Ok(object)
    }

    /// A mapping of all of it in which nothing was touched.
    fn map(&self) -> Result<Area> {
        let offset = self.bo.info()?.mmap_offset;
        let area = Area::map(self.rig.device.as_fd(), offset, self.length, How::SHARED)?;
        Ok(area)
    }

    /// The pages of `area` from `offset` of the object on must be those of `range`; writes a second
    /// word to each, which a new mapping of all of it must show.
    fn check(&self, what: &str, area: &Area, offset: usize, range: Range<usize>) -> Result {
        for page in range.clone() {
            let seen = area.get(page * PAGE - offset)?;
            let expected = mark(page);
            ensure(
                seen == expected,
                format!("{what}: page {page} is {seen}, not {expected}"),
            )?;
            area.set(page * PAGE - offset + 8, 2 * mark(page))?;
        }
        let all = self.map()?;
        for page in range {
            let seen = (all.get(page * PAGE)?, all.get(page * PAGE + 8)?);
            let expected = (mark(page), 2 * mark(page));
            ensure(
                seen == expected,
                format!("{what}: page {page} of the object is {seen:?}, not {expected:?}"),
            )?;
        }
        Ok(())
    }
}

fn unmapped_start(node: &Path) -> Result {
    let object = Marked::new(node, 8 * PAGE)?;
    let area = object.map()?;
    part::unmap(&area, 0..PAGE)?;
    object.check("the first page unmapped", &area, 0, 1..4)?;
    part::unmap(&area, PAGE..3 * PAGE)?;
    object.check("two more pages unmapped", &area, 0, 3..8)
}

fn protected_middle(node: &Path) -> Result {
    let object = Marked::new(node, 8 * PAGE)?;
    let area = object.map()?;
    part::make_read_only(&area, 2 * PAGE..5 * PAGE)?;
    // The first write to a page that was not even read, and the kernel's refusal of one.
    area.set(6 * PAGE + 16, 66)?;
    ensure(
        object.map()?.get(6 * PAGE + 16)? == 66,
        "behind a protected part another page is written",
    )?;
    let zeros = File::open("/dev/zero")?;
    match area.read_from(zeros.as_fd(), 4 * PAGE, 8) {
        Err(error) if error.raw_os_error() == Some(libc::EFAULT) => {}
        other => return failed(format!("a write to a protected part: {other:?}")),
    }
    for page in 2..5 {
        let seen = area.get(page * PAGE)?;
        ensure(
            seen == mark(page),
            format!("protected page {page} is {seen}, not {}", mark(page)),
        )?;
    }
    object.check("before a protected part", &area, 0, 0..2)?;
    object.check("behind a protected part", &area, 0, 5..8)
}

fn moved_end(node: &Path) -> Result {
    let object = Marked::new(node, 8 * PAGE)?;
    let area = object.map()?;
    // A place for the end: another mapping, which it replaces.
    let place = Marked::new(node, 3 * PAGE)?.map()?;
    // One page is moved as it is, the others are touched at the new place.
    ensure(area.get(6 * PAGE)? == mark(6), "the mapping is not marked")?;
    part::move_to(&area, 5 * PAGE..8 * PAGE, &place)?;
    object.check("the end, moved", &place, 5 * PAGE, 5..8)?;
    object.check("what stayed", &area, 0, 0..5)
}

fn parts_in_child(node: &Path) -> Result {
    let object = Marked::new(node, 8 * PAGE)?;
    let area = object.map()?;
    part::unmap(&area, 0..2 * PAGE)?;
    let child = Child::fork(|| {
        let inherited = area.get(2 * PAGE).is_ok_and(|word| word == mark(2))
            && area.set(3 * PAGE + 8, 1).is_ok();
        let cut = part::unmap(&area, 2 * PAGE..4 * PAGE).is_ok();
        let left = area.get(4 * PAGE).is_ok_and(|word| word == mark(4));
        inherited && cut && left && area.set(7 * PAGE + 8, 2).is_ok()
    })?;
    ensure(child.join()?, "the child sees other pages")?;
    let all = object.map()?;
    ensure(
        (all.get(3 * PAGE + 8)?, all.get(7 * PAGE + 8)?) == (1, 2),
        "the child has written to other pages",
    )?;
    object.check("what the parent has left", &area, 0, 2..8)
}

/// Has the kernel drop the content of files that is no different from what they are made of.
fn drop_clean_pages() -> Result {
    Ok(std::fs::write("/proc/sys/vm/drop_caches", "1")?)
}

fn written_parts_stay(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let bo = rig.vm.create_bo(&BoOptions::new(8 * PAGE as u64))?;
    let object = Marked {
        bo,
        length: 8 * PAGE,
        rig,
    };
    let area = object.map()?;
    part::unmap(&area, 0..3 * PAGE)?;
    for page in 3..8 {
        area.set(page * PAGE, mark(page))?;
    }
    drop(area);
    drop_clean_pages()?;
    object.check("after clean pages were dropped", &object.map()?, 0, 3..8)
}

/// Minor faults of this process so far.
fn faults() -> Result<usize> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The name may contain anything; what follows it begins with the third field.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    match fields.split_whitespace().nth(7).map(str::parse) {
        Some(Ok(count)) => Ok(count),
        _ => failed(format!("no count of faults in {stat:?}")),
    }
}

/// Touches each page; returns how many faults that took.
fn touch_large(area: &Area, length: usize) -> Result<usize> {
    let before = faults()?;
    for page in 0..length / PAGE {
        area.set(page * PAGE + 16, mark(page))?;
    }
    Ok(faults()? - before)
}

fn large(node: &Path) -> Result<(Marked, Area)> {
    if !Path::new("/sys/kernel/mm/transparent_hugepage/shmem_enabled").exists() {
        return Err(Problem::Skipped("the kernel has no large pages".into()));
    }
    let object = Marked::new(node, LARGE)?;
    let area = object.map()?;
    Ok((object, area))
}

fn huge(node: &Path) -> Result {
    let (_object, area) = large(node)?;
    let count = touch_large(&area, LARGE)?;
    // Without large pages at least one for each page. Memory may be too scattered for some.
    let most = LARGE / PAGE / 2;
    ensure(
        count < most,
        format!("{count} faults to touch {} pages", LARGE / PAGE),
    )
}

fn huge_part(node: &Path) -> Result {
    let (object, area) = large(node)?;
    touch_large(&area, LARGE)?;
    // From the middle of a large page on, which falls apart, and up to the middle of another.
    part::unmap(&area, 0..3 * PAGE)?;
    part::unmap(&area, LARGE / 2..LARGE / 2 + PAGE)?;
    let pages = LARGE / PAGE;
    object.check("the start", &area, 0, 3..pages / 2)?;
    object.check("behind the gap", &area, 0, pages / 2 + 1..pages)?;
    drop(area);
    drop_clean_pages()?;
    let what = "after clean pages were dropped";
    let area = object.map()?;
    part::unmap(&area, 0..3 * PAGE)?;
    // Written before the pages were dropped, where it was mapped.
    for page in (3..pages).filter(|page| *page != pages / 2) {
        let seen = area.get(page * PAGE + 8)?;
        let expected = 2 * mark(page);
        ensure(
            seen == expected,
            format!("{what}: the second word of page {page} is {seen}, not {expected}"),
        )?;
    }
    object.check(what, &area, 0, 3..pages)
}

/// What can be done to a part of a mapping. The addresses of an area stay its own meanwhile: where
/// something was taken away nothing can be accessed, and nobody else's memory gets there.
#[expect(
    unsafe_code,
    reason = "these system calls have no safe form in the standard library"
)]
mod part {
    use std::io;
    use std::ops::Range;

    use crate::system::Area;

    fn address(area: &Area, range: &Range<usize>) -> *mut libc::c_void {
        (area.address() + range.start) as *mut libc::c_void
    }

    fn done(result: *mut libc::c_void) -> io::Result<()> {
        if result == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Unmaps a part.
    pub fn unmap(area: &Area, range: Range<usize>) -> io::Result<()> {
        let flags = libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: the callers name a part of the area, which nobody accesses any more: what
        // replaces it can only raise a signal.
        done(unsafe {
            libc::mmap(
                address(area, &range),
                range.len(),
                libc::PROT_NONE,
                flags,
                -1,
                0,
            )
        })
    }

    /// Takes the right to write to a part away.
    pub fn make_read_only(area: &Area, range: Range<usize>) -> io::Result<()> {
        // SAFETY: the callers name a part of the area; no reference to it exists that could mind.
        match unsafe { libc::mprotect(address(area, &range), range.len(), libc::PROT_READ) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Moves a part to where `place` is, an area of the same length.
    pub fn move_to(area: &Area, range: Range<usize>, place: &Area) -> io::Result<()> {
        // SAFETY: the callers name a part of one area, and all of another, which has no other use.
        done(unsafe {
            libc::mremap(
                address(area, &range),
                range.len(),
                range.len(),
                libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED,
                address(place, &(0..0)),
            )
        })?;
        // Nothing got to the old place yet: a case has one thread.
        unmap(area, range)
    }
}
