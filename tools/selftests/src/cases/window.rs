// SPDX-License-Identifier: MIT OR Apache-2.0
//! CPU mappings of host memory: windows that the host opens when a page is touched, and that close
//! when others need the room.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{mpsc, Arc};
use std::time::{Duration, Instant};

use libvaccel::{sys, Bo, BoOptions, Device, Features, FenceFlags, Mapping, Segment, Vm, VmFlags};

use super::{Case, HelperEntry};
use crate::helper::{self, Helper};
use crate::rig::{check_device_works, ensure, failed, open_with, Numbers, Problem, Result, SIZE};
use crate::system::{Area, Child, How};

pub const CASES: &[Case] = &[
    Case {
        name: "window-outlives-handle",
        proves: "a mapping of host memory keeps its content after handle, vm and file are closed",
        run: outlives,
    },
    Case {
        name: "window-parts",
        proves:
            "the first pages of host memory map alone and see the same bytes as the whole; what \
                 begins behind the first page (EINVAL), what ends behind the object, and a private \
                 copy cannot be mapped",
        run: parts,
    },
    Case {
        name: "window-too-large",
        proves:
            "host memory that can never fit the window can be mapped and made a buffer of \
                 write(2), which fails with EFAULT instead of trying for ever; nothing else suffers",
        run: too_large,
    },
    Case {
        name: "window-room-for-fences",
        proves:
            "more host memory than the I/O space holds can be looked at, and vms and fences still \
                 find room in it, in the same file and another",
        run: room_for_fences,
    },
    Case {
        name: "window-cut-move",
        proves:
            "a mapping of host memory can be cut and moved and keeps its content, but cannot grow",
        run: cut_and_move,
    },
    Case {
        name: "window-protect",
        proves: "a mapping that is made read-only is read and refuses writes, the kernel's own too",
        run: protect,
    },
    Case {
        name: "window-fork",
        proves: "parent and child of a fork share host memory, also what neither had touched, and \
                 also after the parent has unmapped it",
        run: fork,
    },
    Case {
        name: "window-kernel-access",
        proves: "read(2) and write(2) with host memory as their buffer fault it in by themselves",
        run: kernel_access,
    },
    Case {
        name: "window-reclaim",
        proves: "more host memory than the window has room for is written and verified in random \
                 order, by one thread",
        run: |node| storm(node, 1),
    },
    Case {
        name: "window-storm-2",
        proves: "two threads fault concurrently in more host memory than fits the window",
        run: |node| storm(node, 2),
    },
    Case {
        name: "window-storm-4",
        proves: "four threads fault concurrently in more host memory than fits the window",
        run: |node| storm(node, 4),
    },
    Case {
        name: "window-kill",
        proves:
            "a process killed in the middle of a storm of faults, in which none has failed until \
                 then, leaves nothing behind",
        run: kill,
    },
];

pub const HELPERS: &[HelperEntry] = &[("window-storm", storm_for_ever)];

/// Bytes of an object of a storm.
const OBJECT: u64 = 1 << 20;
/// Most memory a storm asks the host for.
const MOST: u64 = 1 << 30;
/// Words touched in an object.
const TOUCHED: u64 = 16;
/// How long a storm blows.
const STORM: Duration = Duration::from_secs(4);

fn host_object(device: &Device, size: u64) -> Result<(Vm, Bo)> {
    let vm = device.create_vm(VmFlags::empty())?;
    let bo = vm.create_bo(&BoOptions::host(size))?;
    Ok((vm, bo))
}

/// Maps part of an object.
fn area(device: &Device, bo: &Bo, offset: u64, length: u64, how: How) -> std::io::Result<Area> {
    let start = bo.info().map_err(std::io::Error::other)?.mmap_offset;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    Area::map(device.as_fd(), start + offset, length, how)
}

fn outlives(node: &Path) -> Result {
    let device = open_with(node, Features::HOST_MEMORY)?;
    let (vm, bo) = host_object(&device, SIZE)?;
    let touched = bo.map()?;
    touched.write(4000, b"window")?;
    let untouched = bo.map()?;
    bo.close()?;
    vm.close()?;
    drop(device);
    for (what, mapping) in [("touched", &touched), ("untouched", &untouched)] {
        let mut bytes = [0; 6];
        mapping.read(4000, &mut bytes)?;
        ensure(
            &bytes == b"window",
            format!("the {what} mapping lost its content"),
        )?;
    }
    untouched.write(0, &[1])?;
    drop((touched, untouched));
    check_device_works(&Device::open(node)?)
}

fn parts(node: &Path) -> Result {
    let device = open_with(node, Features::HOST_MEMORY)?;
    let (_vm, bo) = host_object(&device, SIZE)?;
    let whole = area(&device, &bo, 0, bo.size(), How::SHARED)?;
    let page = area(&device, &bo, 0, 4096, How::SHARED)?;
    let pages = area(&device, &bo, 0, 3 * 4096, How::READ_ONLY)?;
    page.set(8, 0x1234)?;
    whole.set(8192, 0x5678)?;
    ensure(
        (whole.get(8)?, pages.get(8)?, pages.get(8192)?) == (0x1234, 0x1234, 0x5678),
        "a part of an object shows other bytes than the whole",
    )?;
    // The offset names the object, not a place in it.
    for (offset, length) in [(4096, 4096), (8192, 4096), (4096, bo.size() - 4096)] {
        let inside = area(&device, &bo, offset, length, How::SHARED);
        ensure(
            inside
                .as_ref()
                .is_err_and(|error| error.raw_os_error() == Some(libc::EINVAL)),
            format!("{length} bytes from byte {offset} on: {inside:?}, expected EINVAL"),
        )?;
    }
    let too_long = area(&device, &bo, 0, bo.size() + 4096, How::SHARED);
    ensure(too_long.is_err(), "a page too many can be mapped")?;
    let too_long = area(&device, &bo, 4096, bo.size(), How::SHARED);
    ensure(too_long.is_err(), "a part behind the end can be mapped")?;
    let private = area(&device, &bo, 0, 4096, How::PRIVATE);
    ensure(private.is_err(), "host memory can be mapped as a copy")
}

fn too_large(node: &Path) -> Result {
    let device = open_with(node, Features::HOST_MEMORY)?;
    let space = device.param(sys::PARAM_IO_SPACE_SIZE)?;
    let (vm, large) = host_object(&device, space + OBJECT)?;
    let small = vm.create_bo(&BoOptions::host(SIZE))?;
    let beside = area(&device, &small, 0, SIZE, How::SHARED)?;
    beside.set(0, 1)?;
    let mapping = area(&device, &large, 0, 4096, How::SHARED)?;
    let (socket, _peer) = UnixStream::pair()?;
    let written = mapping.write_to(socket.as_fd(), 0, 8);
    ensure(
        written
            .as_ref()
            .is_err_and(|error| error.raw_os_error() == Some(libc::EFAULT)),
        format!("write(2) from memory that does not fit the window: {written:?}"),
    )?;
    ensure(beside.get(0)? == 1, "another object lost its content")
}

fn room_for_fences(node: &Path) -> Result {
    /// Small enough that what is left when no other fits is full of fences soon.
    const ONE: u64 = 256 << 10;
    const FENCES: u64 = ONE / 4096 + 8;
    let device = open_with(node, Features::HOST_MEMORY)?;
    let space = device.param(sys::PARAM_IO_SPACE_SIZE)?;
    let looked_at = space + space / 8;
    let budget = device.budget(Segment::Local)?;
    if budget.budget.saturating_sub(budget.usage) < looked_at {
        return Err(Problem::Skipped("too little local memory".into()));
    }
    let vm = device.create_vm(VmFlags::empty())?;
    let mut seen = Vec::new();
    for _ in 0..looked_at / ONE {
        let bo = vm.create_bo(&BoOptions::host(ONE))?;
        let mapping = bo.map()?;
        mapping.write(0, &[1; 8])?;
        seen.push((bo, mapping));
    }
    let other = Device::open(node)?;
    let mut made = Vec::new();
    for device in [&device, &other] {
        let vm = device.create_vm(VmFlags::empty())?;
        for value in 0..FENCES {
            made.push(vm.create_fence(FenceFlags::empty(), value)?);
        }
    }
    check_device_works(&other)?;
    for (_, mapping) in &seen {
        let mut bytes = [0; 8];
        mapping.read(0, &mut bytes)?;
        ensure(bytes == [1; 8], "host memory lost what was written")?;
    }
    Ok(())
}

fn cut_and_move(node: &Path) -> Result {
    let device = open_with(node, Features::HOST_MEMORY)?;
    let (_vm, bo) = host_object(&device, SIZE)?;
    let mut moved = area(&device, &bo, 0, SIZE, How::SHARED)?;
    let other = area(&device, &bo, 0, SIZE, How::SHARED)?;
    // The last page is untouched before the move.
    for page in 0..3 {
        moved.set(page * 4096, 100 + page as u64)?;
    }
    let before = moved.address();
    moved.remap(SIZE as usize)?;
    ensure(moved.address() != before, "the mapping has not moved")?;
    moved.set(3 * 4096, 103)?;
    for page in 0..4 {
        let seen = (moved.get(page * 4096)?, other.get(page * 4096)?);
        let expected = 100 + page as u64;
        ensure(
            seen == (expected, expected),
            format!("page {page} is {seen:?} after a move, not {expected}"),
        )?;
    }
    moved.cut(2 * 4096)?;
    ensure(moved.get(4096)? == 101, "a cut mapping lost its start")?;
    moved.set(4096, 201)?;
    ensure(other.get(4096)? == 201, "a cut mapping is shared no more")?;
    let grown = moved.remap(SIZE as usize);
    ensure(grown.is_err(), "a mapping of host memory can grow")?;
    ensure(moved.get(0)? == 100, "a refused growth took the mapping")?;
    // Without its start, and moved, it still is the rest, also where nobody has touched it.
    let mut rest = area(&device, &bo, 0, SIZE, How::SHARED)?;
    rest.cut_start(4096)?;
    ensure(
        rest.get(4096)? == 102,
        "the rest of a mapping shows another page",
    )?;
    rest.remap(3 * 4096)?;
    ensure(
        (rest.get(0)?, rest.get(2 * 4096)?) == (201, 103),
        "the rest of a mapping shows other pages when it was moved",
    )
}

fn protect(node: &Path) -> Result {
    let device = open_with(node, Features::HOST_MEMORY)?;
    let (_vm, bo) = host_object(&device, SIZE)?;
    for touched in [true, false] {
        let mapping = area(&device, &bo, 0, SIZE, How::SHARED)?;
        if touched {
            mapping.set(4096, 5)?;
        }
        mapping.make_read_only()?;
        ensure(
            mapping.get(4096)? == 5,
            "a read-only mapping reads something else",
        )?;
        let (near, mut far) = UnixStream::pair()?;
        far.write_all(&[0xff; 8])?;
        match mapping.read_from(near.as_fd(), 4096, 8) {
            Err(error) if error.raw_os_error() == Some(libc::EFAULT) => {}
            other => return failed(format!("a write through a read-only mapping: {other:?}")),
        }
        ensure(mapping.get(4096)? == 5, "a refused write has happened")?;
    }
    Ok(())
}

fn fork(node: &Path) -> Result {
    let device = open_with(node, Features::HOST_MEMORY)?;
    let (_vm, bo) = host_object(&device, SIZE)?;
    let mapping = area(&device, &bo, 0, SIZE, How::SHARED)?;
    mapping.set(0, 1)?;
    let child = Child::fork(|| {
        let seen = mapping.get(0).is_ok_and(|word| word == 1);
        seen && mapping.set(8, 2).is_ok() && mapping.set(8192, 3).is_ok()
    })?;
    ensure(
        child.join()?,
        "the child sees something else than the parent",
    )?;
    ensure(
        (mapping.get(8)?, mapping.get(8192)?) == (2, 3),
        "the parent does not see what the child wrote",
    )?;
    // The child goes on when the parent has nothing mapped any more: it says so by a byte.
    let (mut near, far) = UnixStream::pair()?;
    let child = Child::fork(|| {
        let mut byte = [0];
        let told = std::io::Read::read_exact(&mut (&far), &mut byte).is_ok();
        let kept = mapping.get(8192).is_ok_and(|word| word == 3);
        // The second page is one that nobody has touched.
        let fresh = mapping.get(4096).is_ok_and(|word| word == 0);
        told && kept && fresh && mapping.set(4096, 4).is_ok()
    })?;
    drop(mapping);
    near.write_all(&[1])?;
    ensure(child.join()?, "the child lost what its parent unmapped")?;
    let again = area(&device, &bo, 0, SIZE, How::SHARED)?;
    ensure(
        (again.get(4096)?, again.get(0)?) == (4, 1),
        "what the child wrote last is not there",
    )
}

fn kernel_access(node: &Path) -> Result {
    let device = open_with(node, Features::HOST_MEMORY)?;
    let (_vm, bo) = host_object(&device, SIZE)?;
    let mapping = area(&device, &bo, 0, SIZE, How::SHARED)?;
    let (near, mut far) = UnixStream::pair()?;
    let sent: Vec<u8> = (0..8192u32).map(|i| (i % 251) as u8).collect();
    far.write_all(&sent)?;
    // Across a page that nobody has touched yet.
    let mut got = 0;
    while got < sent.len() {
        got += mapping.read_from(near.as_fd(), 2048 + got, sent.len() - got)?;
    }
    let fresh = area(&device, &bo, 0, SIZE, How::SHARED)?;
    let mut written = 0;
    while written < sent.len() {
        written += fresh.write_to(near.as_fd(), 2048 + written, sent.len() - written)?;
    }
    let mut back = vec![0; sent.len()];
    std::io::Read::read_exact(&mut far, &mut back)?;
    ensure(
        back == sent,
        "bytes that the kernel put into host memory come back changed",
    )
}

/// Objects of more memory than the window has, mapped; and how much that is.
struct Storm {
    objects: Vec<Mapping>,
    _vm: Vm,
}

impl Storm {
    /// As many objects as are three times the window, or as a host with less memory gives.
    fn new(device: &Device) -> Result<Self> {
        let window = device.param(sys::PARAM_IO_SPACE_SIZE)?;
        let vm = device.create_vm(VmFlags::empty())?;
        let wanted = window.saturating_mul(3).min(MOST);
        if wanted <= window {
            return Err(Problem::Skipped(format!(
                "a window of {} MiB is too large to be filled",
                window >> 20
            )));
        }
        let mut objects = Vec::new();
        for number in 0..wanted.div_ceil(OBJECT) {
            let segment = match number % 2 {
                0 => Segment::Local,
                _ => Segment::NonLocal,
            };
            match vm.create_bo(&BoOptions::host(OBJECT).segment(segment)) {
                Ok(bo) => objects.push(bo.map()?),
                Err(error) if number * OBJECT > window => {
                    ensure(
                        error.kind() == libvaccel::ErrorKind::OutOfDeviceMemory,
                        format!("object {number}: {error}"),
                    )?;
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Self { objects, _vm: vm })
    }

    /// Where the words of a thread in an object are: every thread has its own, in every page.
    fn place(thread: u64, touch: u64) -> usize {
        ((touch * (OBJECT / TOUCHED)) + thread * 8) as usize
    }

    /// Writes and verifies in random order until `end`.
    fn blow(&self, thread: u64, end: Instant) -> Result {
        let count = self.objects.len();
        let mut written = vec![[0u64; TOUCHED as usize]; count];
        let mut numbers = Numbers(thread + 1);
        while Instant::now() < end {
            let object = numbers.below(count as u64) as usize;
            let touch = numbers.below(TOUCHED);
            let fresh = numbers.below(u64::MAX).max(1);
            let (Some(mapping), Some(expected)) = (
                self.objects.get(object),
                written
                    .get_mut(object)
                    .and_then(|words| words.get_mut(touch as usize)),
            ) else {
                return failed("an object that is not there");
            };
            let place = Self::place(thread, touch);
            let seen = mapping.load_u64(place)?;
            if seen != *expected {
                return failed(format!(
                    "thread {thread}, object {object}, byte {place}: {seen:#x}, written {expected:#x}"
                ));
            }
            mapping.write(place, &fresh.to_le_bytes())?;
            *expected = fresh;
        }
        for (object, (mapping, words)) in self.objects.iter().zip(&written).enumerate() {
            for (touch, expected) in (0..).zip(words).filter(|(_, word)| **word != 0) {
                let seen = mapping.load_u64(Self::place(thread, touch))?;
                if seen != *expected {
                    return failed(format!(
                        "at last: object {object}, touch {touch}: {seen:#x}, written {expected:#x}"
                    ));
                }
            }
        }
        Ok(())
    }
}

fn storm(node: &Path, threads: u64) -> Result {
    let device = open_with(node, Features::HOST_MEMORY)?;
    let storm = Storm::new(&device)?;
    let end = Instant::now() + STORM;
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn({
                    let storm = &storm;
                    move || storm.blow(thread, end)
                })
            })
            .collect();
        running.into_iter().map(|thread| thread.join()).collect()
    });
    for outcome in outcomes {
        outcome.unwrap_or_else(|_| failed("a thread died"))?;
    }
    drop(storm);
    check_device_works(&device)
}

/// A second process that does nothing but fault, on a file of its own.
fn storm_for_ever(_: &[String]) -> Result {
    let own = Device::open(std::fs::read_link("/proc/self/fd/0")?)?;
    let storm = Arc::new(Storm::new(&own)?);
    helper::say("blowing")?;
    let end = Instant::now() + Duration::from_secs(600);
    let (sender, outcomes) = mpsc::channel();
    for thread in 0..4 {
        let (storm, sender) = (storm.clone(), sender.clone());
        // Nobody listens any more once one has failed.
        std::thread::spawn(move || drop(sender.send(storm.blow(thread, end))));
    }
    drop(sender);
    // The device stays, so that nothing excuses one that ends; the others end with the process.
    match outcomes.recv() {
        Ok(Err(problem)) => Err(problem),
        Ok(Ok(())) => failed("nobody killed the storm"),
        Err(_) => failed("all threads died"),
    }
}

fn kill(node: &Path) -> Result {
    let device = open_with(node, Features::HOST_MEMORY)?;
    drop(Storm::new(&device)?);
    for wait in [5, 50, 300] {
        let helper = Helper::start("window-storm", &device)?;
        ensure(
            helper.said == "blowing",
            format!("the process: {}", helper.said),
        )?;
        std::thread::sleep(Duration::from_millis(wait));
        helper.kill()?;
    }
    check_device_works(&device)
}
