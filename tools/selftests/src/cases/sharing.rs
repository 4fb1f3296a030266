// SPDX-License-Identifier: MIT OR Apache-2.0
//! dma-bufs: between files and processes, with other drivers, and between adapters.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use libc::{EBADF, EFAULT, EINVAL, EOPNOTSUPP};
use libvaccel::compute::Session;
use libvaccel::{
    BindFlags, BindOptions, Bo, BoKind, BoOptions, Device, ErrorKind, Features, SyncFlags,
};
use vaccel_isa::CommandStream;

use super::{Case, HelperEntry};
use crate::foreign::{dma_buf_sync, udmabuf, Vgem};
use crate::helper::{self, Helper};
use crate::rig::{
    check_device_works, ensure, failed, fails, gpu_words, mark_pages, open_with, soon, Problem,
    Result, Rig, SIZE,
};
use crate::system::{memfd, Area, How};

pub const CASES: &[Case] = &[
    Case {
        name: "share-guest-process",
        proves:
            "a process that got a dma-buf of guest memory computes on it through a file of its \
                 own, and each side sees what the other's CPU and GPU wrote",
        run: |node| between_processes(node, &BoOptions::new(SIZE), Features::empty()),
    },
    Case {
        name: "share-host-process",
        proves: "the same with shareable memory of the host",
        run: |node| {
            let options = BoOptions::host(SIZE).shareable();
            between_processes(node, &options, Features::HOST_MEMORY)
        },
    },
    Case {
        name: "share-refused",
        proves: "memory of the host that was not made shareable, and argument objects, are not \
                 exported: EOPNOTSUPP",
        run: not_shareable,
    },
    Case {
        name: "share-handles",
        proves:
            "a dma-buf that is imported again gives the same handle, which stays until the last \
                 import is closed, and BO_INFO says what it is made of",
        run: handles,
    },
    Case {
        name: "share-kept",
        proves:
            "a dma-buf keeps its memory when handle, vm and file are closed, and is all that a \
                 new file needs",
        run: kept,
    },
    Case {
        name: "share-mmap",
        proves: "a dma-buf can be mapped by itself and shows what the GPU wrote between SYNC calls",
        run: mmap,
    },
    Case {
        name: "import-udmabuf",
        proves:
            "a job reads and writes the pages of a memfd through a udmabuf, and nothing is left \
                 to close but the import",
        run: import_udmabuf,
    },
    Case {
        name: "import-udmabuf-vms",
        proves:
            "imported memory is bound in parts, in two vms, and in a reservation like any other",
        run: import_vms,
    },
    Case {
        name: "import-sync-again",
        proves: "SYNC of imported memory for the CPU or the device is good any number of times in a \
                 row, and for both at once; the CPU sees what a job wrote between two for the CPU",
        run: sync_again,
    },
    Case {
        name: "import-vgem",
        proves: "a job reads and writes an object of vgem",
        run: import_vgem,
    },
    Case {
        name: "export-vgem",
        proves: "vgem takes guest memory of this driver and hands it on; it shows what a job wrote, and \
                 stays when everything here is closed",
        run: export_vgem,
    },
    Case {
        name: "import-bad",
        proves: "what is no dma-buf is refused by PRIME_FD_TO_HANDLE and leaves nothing",
        run: garbage,
    },
    Case {
        name: "share-other-adapter",
        proves: "another adapter takes guest memory as an import and computes on it, and refuses \
                 memory of the host cleanly",
        run: other_adapter,
    },
    Case {
        name: "share-mmap-parts",
        proves: "each page of a dma-buf can be mapped by itself, is the right one, and is written \
                 as such",
        run: mmap_parts,
    },
    Case {
        name: "share-kept-written",
        proves: "every word of guest memory that only a job has written is read through the dma-buf \
                 after all else was closed and the kernel was told to drop clean pages; whether it \
                 dropped any is not checked",
        run: kept_written,
    },
    Case {
        name: "share-kept-written-there",
        proves: "the same where the only job was one of another adapter, on an import, after the file \
                 that made the object was closed",
        run: kept_written_there,
    },
];

pub const HELPERS: &[HelperEntry] = &[("share", shared_work)];

/// Which word the second process writes, and where.
const WORD: u32 = 0x0bad_cafe;
const HALF: u64 = SIZE / 2;

/// The marks of the first half must be what a job of `session` reads at `gpu_va`.
fn reads_marks(session: &mut Session, gpu_va: u64, first: u32) -> Result {
    let pages: Vec<u64> = (0..HALF).step_by(4096).map(|page| gpu_va + page).collect();
    let words = gpu_words(session, &pages)?;
    ensure(
        words.iter().copied().eq((first..).take(pages.len())),
        format!("a job reads {words:?}, expected {first} and so on"),
    )
}

fn fill(session: &mut Session, gpu_va: u64, bytes: u64, word: u32) -> Result {
    let mut stream = CommandStream::new();
    stream.fill_words(gpu_va, bytes, word);
    session.run(stream, soon())?;
    Ok(())
}

/// The second process: standard input is the dma-buf, the argument the node.
fn shared_work(arguments: &[String]) -> Result {
    let Some(node) = arguments.first() else {
        return failed("no node was named");
    };
    let dma_buf = std::io::stdin().as_fd().try_clone_to_owned()?;
    let device = Device::open(node)?;
    let bo = device.import(dma_buf.as_fd())?;
    ensure(
        bo.size() == SIZE,
        format!("the import has {} bytes", bo.size()),
    )?;
    let mut session = Session::new(&device)?;
    let binding = session
        .vm()
        .bind(&bo, &BindOptions::new(BindFlags::WRITE))?;
    reads_marks(&mut session, binding.gpu_va(), 500)?;
    fill(&mut session, binding.gpu_va() + HALF, HALF, WORD)?;
    // The CPU of this process too.
    let mapping = bo.map()?;
    mapping.write(64, &WORD.to_le_bytes())?;
    bo.sync(SyncFlags::FOR_DEVICE, 0..SIZE)?;
    helper::say("done")?;
    Ok(())
}

fn between_processes(node: &Path, options: &BoOptions, features: Features) -> Result {
    let device = open_with(node, features)?;
    let mut session = Session::new(&device)?;
    let shared = session.buffer_with(SIZE, options)?;
    mark_pages(shared.mapping(), 500)?;
    shared.bo().sync(SyncFlags::FOR_DEVICE, 0..SIZE)?;
    let dma_buf = shared.bo().export()?;
    let name = node.display().to_string();
    for _ in 0..2 {
        let helper = Helper::start_with("share", &[&name], dma_buf.as_fd())?;
        let said = helper.said.clone();
        helper.finish()?;
        ensure(said == "done", format!("the second process: {said}"))?;
    }
    shared.bo().sync(SyncFlags::FOR_CPU, 0..SIZE)?;
    let words = shared.read_u32((SIZE / 4) as usize)?;
    let second_half = words.get((HALF / 4) as usize..).unwrap_or_default();
    ensure(
        second_half.iter().all(|word| *word == WORD) && words.get(16) == Some(&WORD),
        "the CPU does not see what the other process wrote",
    )?;
    let at = shared.gpu_va();
    let seen = gpu_words(&mut session, &[at, at + 64, at + HALF, at + SIZE - 4])?;
    ensure(
        seen == [500, WORD, WORD, WORD],
        format!("a job sees {seen:x?} of what the other process wrote"),
    )
}

fn not_shareable(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let refuse = |what: &str, handle| match libvaccel::ioctl::drm::prime_handle_to_fd(
        rig.device.as_fd(),
        handle,
    ) {
        Err(errno) if errno.0 == EOPNOTSUPP => Ok(()),
        Err(errno) => failed(format!("export of {what}: {errno}, expected EOPNOTSUPP")),
        Ok(_) => failed(format!("{what} was exported")),
    };
    refuse("an argument object", rig.arg.handle())?;
    if rig.device.features()?.contains(Features::HOST_MEMORY) {
        let private = rig.vm.create_bo(&BoOptions::host(SIZE))?;
        refuse("memory of the host that is not shareable", private.handle())?;
        fails("the library", private.export(), ErrorKind::Unsupported)?;
        // Still good for what it was made for.
        private.bind(BindFlags::WRITE)?.close()?;
    }
    Ok(())
}

fn handles(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let dma_buf = rig.bo.export()?;
    // In the file that it comes from it is the object itself.
    let own = rig.device.import(dma_buf.as_fd())?;
    ensure(
        own.handle() == rig.bo.handle() && own.kind() == BoKind::Guest,
        "an export that comes back is another object",
    )?;
    own.close()?;
    rig.bo.info()?;

    let other = Device::open(node)?;
    let first = other.import(dma_buf.as_fd())?;
    let second = other.import(dma_buf.as_fd())?;
    ensure(
        first.handle() == second.handle(),
        "two imports of a dma-buf in one file have two handles",
    )?;
    let info = first.info()?;
    ensure(
        (info.kind, info.size) == (BoKind::Guest, SIZE),
        format!("an import of the same adapter's guest memory: {info:?}"),
    )?;
    first.close()?;
    second.info()?;
    let handle = second.handle();
    second.close()?;
    let gone = libvaccel::sys::BoInfo {
        bo: handle,
        ..Default::default()
    };
    crate::expect::refused::<libvaccel::ioctl::BoInfo>(
        &other,
        "of a closed import",
        gone,
        &[libc::ENOENT],
    )?;
    if rig.device.features()?.contains(Features::HOST_MEMORY) {
        let host = rig.vm.create_bo(&BoOptions::host(SIZE).shareable())?;
        let import = other.import(host.export()?.as_fd())?;
        let info = import.info()?;
        ensure(
            (info.kind, info.size) == (BoKind::Host, host.size()),
            format!("an import of the same adapter's host memory: {info:?}"),
        )?;
    }
    Ok(())
}

/// Guest memory, and shareable memory of the host where there is any.
fn exportable(device: &Device) -> Result<Vec<BoOptions>> {
    let mut all = vec![BoOptions::new(SIZE)];
    if device.features()?.contains(Features::HOST_MEMORY) {
        all.push(BoOptions::host(SIZE).shareable());
    }
    Ok(all)
}

fn kept(node: &Path) -> Result {
    for options in exportable(&Device::open(node)?)? {
        let device = Device::open(node)?;
        let vm = device.create_vm(libvaccel::VmFlags::empty())?;
        let bo = vm.create_bo(&options)?;
        mark_pages(&bo.map()?, 800)?;
        let dma_buf = bo.export()?;
        bo.close()?;
        vm.close()?;
        drop(device);
        let device = Device::open(node)?;
        let bo = device.import(dma_buf.as_fd())?;
        drop(dma_buf);
        let mut session = Session::new(&device)?;
        let binding = session
            .vm()
            .bind(&bo, &BindOptions::new(BindFlags::WRITE))?;
        reads_marks(&mut session, binding.gpu_va(), 800)?;
        fill(&mut session, binding.gpu_va(), 4, 9)?;
        let mapping = bo.map()?;
        let mut bytes = [0; 4];
        mapping.read(0, &mut bytes)?;
        ensure(
            bytes == [9, 0, 0, 0],
            "the CPU does not see what a job wrote",
        )?;
    }
    check_device_works(&Device::open(node)?)
}

fn mmap(node: &Path) -> Result {
    for options in exportable(&Device::open(node)?)? {
        let device = Device::open(node)?;
        let mut session = Session::new(&device)?;
        let buffer = session.buffer_with(SIZE, &options)?;
        let kind = buffer.bo().kind();
        let dma_buf = buffer.bo().export()?;
        let area = Area::map(dma_buf.as_fd(), 0, SIZE as usize, How::SHARED)?;
        // If mappings from the middle are taken they must be right.
        let part = Area::map(dma_buf.as_fd(), 4096, 4096, How::READ_ONLY).ok();
        fill(&mut session, buffer.gpu_va() + 4096, 8, 0x77)?;
        dma_buf_sync(dma_buf.as_fd(), false)?;
        let expected = 0x77_0000_0077;
        ensure(
            area.get(4096)? == expected,
            format!("{kind:?}: a mapped dma-buf does not show what a job wrote"),
        )?;
        if let Some(part) = &part {
            ensure(
                part.get(0)? == expected,
                format!("{kind:?}: a part of a dma-buf shows another page"),
            )?;
        }
        area.set(8192, 0x1234)?;
        dma_buf_sync(dma_buf.as_fd(), true)?;
        let words = gpu_words(&mut session, &[buffer.gpu_va() + 8192])?;
        ensure(
            words == [0x1234],
            format!("{kind:?}: a job reads {words:x?} of what was written by the dma-buf"),
        )?;
        let behind = Area::map(dma_buf.as_fd(), SIZE, 4096, How::SHARED);
        ensure(
            behind.is_err(),
            format!("{kind:?}: the page behind the end can be mapped"),
        )?;
        // The mapping alone keeps the memory.
        drop((buffer, session, dma_buf, device));
        ensure(
            area.get(8192)? == 0x1234,
            format!("{kind:?}: a mapped dma-buf lost its content"),
        )?;
    }
    Ok(())
}

fn mmap_parts(node: &Path) -> Result {
    for options in exportable(&Device::open(node)?)? {
        let device = Device::open(node)?;
        let vm = device.create_vm(libvaccel::VmFlags::empty())?;
        let bo = vm.create_bo(&options)?;
        let kind = bo.kind();
        mark_pages(&bo.map()?, 600)?;
        let dma_buf = bo.export()?;
        let pages = 0..SIZE / 4096;
        for page in pages.clone() {
            let part = Area::map(dma_buf.as_fd(), page * 4096, 4096, How::SHARED)?;
            let seen = part.get(0)?;
            ensure(
                seen == 600 + page,
                format!("{kind:?}: page {page} of a dma-buf is {seen}"),
            )?;
            part.set(8, 700 + page)?;
        }
        let whole = Area::map(dma_buf.as_fd(), 0, SIZE as usize, How::SHARED)?;
        for page in pages {
            let seen = whole.get(page as usize * 4096 + 8)?;
            ensure(
                seen == 700 + page,
                format!("{kind:?}: page {page} holds {seen} after each was written"),
            )?;
        }
    }
    Ok(())
}

/// Guest memory whose pages only `writer` has written must still hold that when nobody keeps them in
/// place any more and the kernel drops what is no different from what it was made of.
fn stays(dma_buf: &OwnedFd, writer: &str) -> Result {
    std::fs::write("/proc/sys/vm/drop_caches", "1")?;
    let area = Area::map(dma_buf.as_fd(), 0, SIZE as usize, How::SHARED)?;
    for offset in (0..SIZE as usize).step_by(8) {
        let seen = area.get(offset)?;
        ensure(
            seen == u64::from(WORD) << 32 | u64::from(WORD),
            format!("{writer}: byte {offset} is {seen:#x} after clean pages were dropped"),
        )?;
    }
    Ok(())
}

fn kept_written(node: &Path) -> Result {
    let device = Device::open(node)?;
    let mut session = Session::new(&device)?;
    let buffer = session.buffer(SIZE)?;
    let dma_buf = buffer.bo().export()?;
    fill(&mut session, buffer.gpu_va(), SIZE, WORD)?;
    drop((buffer, session, device));
    stays(&dma_buf, "a job")
}

fn kept_written_there(node: &Path) -> Result {
    let second = Device::open(second_node(node)?)?;
    let device = Device::open(node)?;
    let vm = device.create_vm(libvaccel::VmFlags::empty())?;
    let dma_buf = vm.create_bo(&BoOptions::new(SIZE))?.export()?;
    drop((vm, device));
    let import = second.import(dma_buf.as_fd())?;
    let mut session = Session::new(&second)?;
    let binding = session
        .vm()
        .bind(&import, &BindOptions::new(BindFlags::WRITE))?;
    fill(&mut session, binding.gpu_va(), SIZE, WORD)?;
    drop((binding, session, import, second));
    stays(&dma_buf, "a job of another adapter")
}

/// The pages of a memfd, its dma-buf, and a mapping.
fn memory() -> Result<(File, OwnedFd, Area)> {
    let file = memfd(SIZE)?;
    let dma_buf = udmabuf(&file, SIZE)?;
    let area = Area::map(file.as_fd(), 0, SIZE as usize, How::SHARED)?;
    Ok((file, dma_buf, area))
}

/// CPU and GPU on imported memory that the CPU sees by `area`.
fn both_ways(session: &mut Session, bo: &Bo, area: &Area, what: &str) -> Result {
    let binding = session.vm().bind(bo, &BindOptions::new(BindFlags::WRITE))?;
    for page in 0..SIZE / 4096 {
        area.set((page * 4096) as usize, 40 + page)?;
    }
    bo.sync(SyncFlags::FOR_DEVICE, 0..SIZE)?;
    let pages: Vec<u64> = (0..SIZE)
        .step_by(4096)
        .map(|page| binding.gpu_va() + page)
        .collect();
    let words = gpu_words(session, &pages)?;
    ensure(
        words == [40, 41, 42, 43],
        format!("{what}: a job reads {words:?}"),
    )?;
    fill(session, binding.gpu_va() + SIZE - 8, 8, 0x55)?;
    bo.sync(SyncFlags::FOR_CPU, 0..SIZE)?;
    ensure(
        area.get(SIZE as usize - 8)? == 0x55_0000_0055,
        format!("{what}: the CPU does not see what a job wrote"),
    )?;
    binding.close()?;
    Ok(())
}

fn import_udmabuf(node: &Path) -> Result {
    let device = open_with(node, Features::IMPORT)?;
    let (file, dma_buf, area) = memory()?;
    let bo = device.import(dma_buf.as_fd())?;
    let info = bo.info()?;
    ensure(
        (info.kind, info.size) == (BoKind::Import, SIZE),
        format!("an imported udmabuf is {info:?}"),
    )?;
    fails(
        "BIND without a vm",
        bo.bind(BindFlags::WRITE),
        ErrorKind::InvalidArgument,
    )?;
    // The import is all that is kept.
    drop((file, dma_buf));
    let mut session = Session::new(&device)?;
    both_ways(&mut session, &bo, &area, "udmabuf")?;
    // What comes in can go out again, as what it was.
    let again = bo.export()?;
    let other = Device::open(node)?;
    let import = other.import(again.as_fd())?;
    let mut second = Session::new(&other)?;
    both_ways(&mut second, &import, &area, "udmabuf, handed on")?;
    bo.close()?;
    import.close()?;
    check_device_works(&device)
}

fn import_vms(node: &Path) -> Result {
    let device = open_with(node, Features::IMPORT)?;
    let (_file, dma_buf, area) = memory()?;
    let bo = device.import(dma_buf.as_fd())?;
    let mut sessions = [Session::new(&device)?, Session::new(&device)?];
    for (number, session) in (1..).zip(sessions.iter_mut()) {
        let options = BindOptions::new(BindFlags::WRITE).part(4096 * number, 4096);
        let binding = session.vm().bind(&bo, &options)?;
        fill(session, binding.gpu_va() + 8, 8, number as u32)?;
        let word = area.get(4096 * number as usize + 8)?;
        ensure(
            word == number << 32 | number,
            format!("vm {number} wrote {word:#x} to its part"),
        )?;
    }
    let [first, _] = &mut sessions;
    if device.features()?.contains(Features::VA_RESERVE) {
        let options = libvaccel::ReserveOptions::new().zero();
        let reservation = first.vm().reserve(2 * SIZE, &options)?;
        reservation.bind(4096, &bo, 8192..12288, BindFlags::WRITE)?;
        let words = gpu_words(first, &[reservation.gpu_va() + 4104, reservation.gpu_va()])?;
        ensure(
            words == [2, 0],
            format!("a job reads {words:?} in a reservation"),
        )?;
    }
    Ok(())
}

fn sync_again(node: &Path) -> Result {
    let device = open_with(node, Features::IMPORT)?;
    let (_file, dma_buf, area) = memory()?;
    let bo = device.import(dma_buf.as_fd())?;
    let mut session = Session::new(&device)?;
    let options = BindOptions::new(BindFlags::WRITE);
    let binding = session.vm().bind(&bo, &options)?;
    let both = SyncFlags::FOR_CPU | SyncFlags::FOR_DEVICE;
    let rounds = [
        SyncFlags::FOR_CPU,
        SyncFlags::FOR_CPU,
        SyncFlags::FOR_CPU,
        SyncFlags::FOR_DEVICE,
        SyncFlags::FOR_DEVICE,
        both,
        both,
        SyncFlags::FOR_DEVICE,
        SyncFlags::FOR_CPU,
    ];
    for (flags, word) in rounds.into_iter().zip(0x31u32..) {
        // All of it, and a part, as often.
        bo.sync(flags, 0..SIZE)?;
        bo.sync(flags, 4096..8192)?;
        if flags.contains(SyncFlags::FOR_CPU) {
            fill(&mut session, binding.gpu_va() + 4096, 8, word)?;
            bo.sync(SyncFlags::FOR_CPU, 0..SIZE)?;
            let seen = area.get(4096)?;
            ensure(
                seen == u64::from(word) << 32 | u64::from(word),
                format!("{flags:?}: the CPU reads {seen:#x}, a job wrote {word:#x}"),
            )?;
        } else {
            area.set(8192, u64::from(word))?;
            bo.sync(SyncFlags::FOR_DEVICE, 0..SIZE)?;
            let words = gpu_words(&mut session, &[binding.gpu_va() + 8192])?;
            ensure(
                words == [word],
                format!("{flags:?}: a job reads {words:x?}, the CPU wrote {word:#x}"),
            )?;
        }
    }
    binding.close()?;
    bo.close()?;
    check_device_works(&device)
}

fn import_vgem(node: &Path) -> Result {
    let device = open_with(node, Features::IMPORT)?;
    let vgem = Vgem::open()?;
    let (area, dma_buf) = vgem.export(SIZE)?;
    let bo = device.import(dma_buf.as_fd())?;
    ensure(
        bo.kind() == BoKind::Import && bo.size() == SIZE,
        format!(
            "an object of vgem is {:?} of {} bytes",
            bo.kind(),
            bo.size()
        ),
    )?;
    drop((vgem, dma_buf));
    let mut session = Session::new(&device)?;
    both_ways(&mut session, &bo, &area, "vgem")
}

fn export_vgem(node: &Path) -> Result {
    let device = Device::open(node)?;
    let vgem = Vgem::open()?;
    let mut session = Session::new(&device)?;
    let buffer = session.buffer(SIZE)?;
    let dma_buf = buffer.bo().export()?;
    let area = vgem.import(dma_buf.as_fd(), SIZE)?;
    fill(&mut session, buffer.gpu_va() + 4096, 8, 0x66)?;
    ensure(
        area.get(4096)? == 0x66_0000_0066,
        "vgem does not show what a job wrote",
    )?;
    area.set(0, 0x4321)?;
    let words = gpu_words(&mut session, &[buffer.gpu_va()])?;
    ensure(
        words == [0x4321],
        format!("a job reads {words:x?} of what vgem wrote"),
    )?;
    // vgem keeps it when everything here is gone.
    drop((buffer, session, dma_buf, device));
    area.set(8, 1)?;
    ensure(area.get(0)? == 0x4321, "vgem lost an exported object")?;
    drop((area, vgem));
    check_device_works(&Device::open(node)?)
}

fn garbage(node: &Path) -> Result {
    let device = Device::open(node)?;
    let file = memfd(SIZE)?;
    let socket = std::os::unix::net::UnixStream::pair()?.0;
    let null = File::open("/dev/null")?;
    let fds = [
        ("a memfd", file.as_fd()),
        ("a socket", socket.as_fd()),
        ("/dev/null", null.as_fd()),
        ("the node itself", device.as_fd()),
    ];
    for (what, fd) in fds {
        match device.import(fd) {
            Err(error) => ensure(
                error.errno().is_some_and(|errno| {
                    [EINVAL, EBADF, EOPNOTSUPP].contains(&errno.0) && errno.0 != EFAULT
                }),
                format!("import of {what}: {error}"),
            )?,
            Ok(bo) => return failed(format!("{what} became an object of {} bytes", bo.size())),
        }
    }
    check_device_works(&device)
}

/// Another node of this driver.
pub(super) fn second_node(node: &Path) -> Result<PathBuf> {
    for number in 0..16 {
        let path = PathBuf::from(format!("/dev/accel/accel{number}"));
        if path != node && Device::open(&path).is_ok() {
            return Ok(path);
        }
    }
    Err(Problem::Skipped("there is one virtual GPU only".into()))
}

fn other_adapter(node: &Path) -> Result {
    let device = open_with(node, Features::IMPORT)?;
    let second = Device::open(second_node(node)?)?;
    let mut here = Session::new(&device)?;
    let mut there = Session::new(&second)?;
    let buffer = here.buffer(SIZE)?;
    mark_pages(buffer.mapping(), 600)?;
    let import = second.import(buffer.bo().export()?.as_fd())?;
    ensure(
        import.kind() == BoKind::Import,
        format!("another adapter's guest memory is {:?}", import.kind()),
    )?;
    let binding = there
        .vm()
        .bind(&import, &BindOptions::new(BindFlags::WRITE))?;
    reads_marks(&mut there, binding.gpu_va(), 600)?;
    fill(&mut there, binding.gpu_va() + HALF, HALF, 0x2222)?;
    let seen = gpu_words(
        &mut here,
        &[buffer.gpu_va() + HALF, buffer.gpu_va() + SIZE - 4],
    )?;
    ensure(
        seen == [0x2222, 0x2222],
        format!("this adapter reads {seen:x?} of what the other wrote"),
    )?;
    binding.close()?;
    import.close()?;
    if device.features()?.contains(Features::HOST_MEMORY) {
        let host = here.buffer_with(SIZE, &BoOptions::host(SIZE).shareable())?;
        let dma_buf = host.bo().export()?;
        match second.import(dma_buf.as_fd()) {
            // Refused when it is taken in, or when a vm is to see it.
            Err(error) => ensure(
                [ErrorKind::Unsupported, ErrorKind::InvalidArgument].contains(&error.kind()),
                format!("another adapter's host memory: {error}"),
            )?,
            Ok(import) => {
                let options = BindOptions::new(BindFlags::WRITE);
                if there.vm().bind(&import, &options).is_ok() {
                    return failed("another adapter's host memory was bound");
                }
            }
        }
        fill(&mut here, host.gpu_va(), 64, 5)?;
    }
    check_device_works(&second)
}
