// SPDX-License-Identifier: MIT OR Apache-2.0
//! Objects in memory of the host: how they are made, and that CPU and GPU see the same in them.

use std::path::Path;

use libc::{EFBIG, EINVAL, ENOENT, EOVERFLOW, EREMOTEIO};
use libvaccel::compute::Session;
use libvaccel::{
    ioctl, sys, BoFlags, BoKind, BoOptions, Caching, Device, ErrorKind, Features, Segment,
    SyncFlags,
};
use vaccel_isa::{AllocationData, CommandStream, Gemm, Matrix, ALLOCATION_DATA_BYTES};

use super::Case;
use crate::expect::{accepted, refused};
use crate::rig::{
    check_device_works, ensure, failed, fails, gpu_set, gpu_words, mark_pages, needs, open_with,
    soon, Result, Rig, SIZE,
};

pub const CASES: &[Case] = &[
    Case {
        name: "host-create",
        proves: "objects of host memory can be made in both segments, cached and write-combined, \
                 report what they are, and read as zeros to CPU and GPU",
        run: create,
    },
    Case {
        name: "host-create-bad",
        proves:
            "host memory without, with foreign or with cut driver data, of a bad size or in no \
                 vm is refused, with the host's status where the host refused",
        run: create_bad,
    },
    Case {
        name: "host-create-size",
        proves: "a host that makes more than was asked for is believed, one that makes less is not",
        run: size,
    },
    Case {
        name: "host-cpu-gpu-cpu",
        proves: "what the CPU writes to host memory of either segment and caching a job computes \
                 with, and the CPU reads what the job wrote",
        run: round_trip,
    },
    Case {
        name: "host-in-several-vms",
        proves:
            "shareable host memory bound in two vms of a file is one memory to the jobs of both; \
                 what is not shareable is refused by the second vm or is one memory too",
        run: several,
    },
    Case {
        name: "bo-sync",
        proves: "BO_SYNC takes ranges of objects of every kind that a job may see and refuses \
                 ranges outside, no direction, and argument objects",
        run: sync,
    },
];

const KINDS: [(Segment, Caching); 4] = [
    (Segment::Local, Caching::Cached),
    (Segment::Local, Caching::WriteCombined),
    (Segment::NonLocal, Caching::Cached),
    (Segment::NonLocal, Caching::WriteCombined),
];

fn create(node: &Path) -> Result {
    let device = open_with(node, Features::HOST_MEMORY)?;
    let mut session = Session::new(&device)?;
    for (segment, caching) in KINDS {
        for flags in [BoFlags::empty(), BoFlags::SHAREABLE, BoFlags::READ_ONLY] {
            let options = BoOptions::host(SIZE).segment(segment).caching(caching);
            let bo = session.vm().create_bo(&options.flags(flags))?;
            let what = format!("{segment:?} {caching:?} {flags:?}");
            ensure(
                bo.kind() == BoKind::Host && bo.size() >= SIZE,
                format!("{what}: {:?} of {} bytes", bo.kind(), bo.size()),
            )?;
            let info = bo.info()?;
            ensure(
                (info.kind, info.caching, info.flags, info.size)
                    == (BoKind::Host, caching, flags, bo.size()),
                format!("{what}: BO_INFO says {info:?}"),
            )?;
            let mapping = bo.map()?;
            let mut bytes = vec![0xff; SIZE as usize];
            mapping.read(0, &mut bytes)?;
            ensure(
                bytes.iter().all(|byte| *byte == 0),
                format!("{what}: not zeros to the CPU"),
            )?;
            let binding = bo.bind(libvaccel::BindFlags::empty())?;
            let addresses: Vec<u64> = (0..SIZE)
                .step_by(1024)
                .map(|o| binding.gpu_va() + o)
                .collect();
            let words = gpu_words(&mut session, &addresses)?;
            ensure(
                words.iter().all(|word| *word == 0),
                format!("{what}: not zeros to the GPU"),
            )?;
            drop(mapping);
            binding.close()?;
            bo.close()?;
        }
    }
    Ok(())
}

fn data(size: u64) -> [u8; ALLOCATION_DATA_BYTES] {
    AllocationData {
        size,
        segment: vaccel_isa::Segment::Local,
    }
    .to_bytes()
}

fn create_bad(node: &Path) -> Result {
    open_with(node, Features::HOST_MEMORY)?;
    let rig = Rig::new(node)?;
    let device = &rig.device;
    rig.arg.mapping().write(0, &data(SIZE))?;
    let good = sys::BoCreate {
        size: SIZE,
        kind: sys::BO_KIND_HOST,
        vm: rig.vm.handle(),
        arg_bo: rig.arg.handle(),
        priv_size: ALLOCATION_DATA_BYTES as u32,
        ..Default::default()
    };
    let refuse = |what: &str, bad, errno| refused::<ioctl::BoCreate>(device, what, bad, &[errno]);
    let made = accepted::<ioctl::BoCreate>(device, "as it should be", good)?;
    ensure(made.host_status == 0, "a success with a host status")?;
    let none = sys::BoCreate {
        arg_bo: 0,
        priv_size: 0,
        ..good
    };
    refuse("without driver data", none, EINVAL)?;
    let none = sys::BoCreate {
        priv_size: 0,
        ..good
    };
    refuse("with driver data of 0 bytes", none, EINVAL)?;
    refuse(
        "no argument object",
        sys::BoCreate { arg_bo: 0, ..good },
        ENOENT,
    )?;
    let arg_bo = rig.bo.handle();
    refuse(
        "guest memory as argument",
        sys::BoCreate { arg_bo, ..good },
        EINVAL,
    )?;
    let priv_size = sys::limit::PRIV_SIZE_MAX + 1;
    refuse(
        "driver data above the limit",
        sys::BoCreate { priv_size, ..good },
        EFBIG,
    )?;
    let arg_offset = SIZE - 8;
    refuse(
        "driver data behind the end",
        sys::BoCreate { arg_offset, ..good },
        EINVAL,
    )?;
    let arg_offset = u64::MAX - 7;
    refuse(
        "an offset that overflows",
        sys::BoCreate { arg_offset, ..good },
        EOVERFLOW,
    )?;
    for size in [0, 1, 4097] {
        refuse(
            &format!("size {size}"),
            sys::BoCreate { size, ..good },
            EINVAL,
        )?;
    }
    let limit = device.param(sys::PARAM_BO_SIZE_MAX)?;
    let size = (limit / 4096 + 1).saturating_mul(4096);
    refuse(
        "size above the parameter",
        sys::BoCreate { size, ..good },
        EFBIG,
    )?;
    refuse("no vm", sys::BoCreate { vm: 0, ..good }, ENOENT)?;
    refuse("caching 2", sys::BoCreate { caching: 2, ..good }, EINVAL)?;

    // The rest only the host can refuse.
    let mut foreign = data(SIZE);
    foreign.reverse();
    let short = data(SIZE).get(..24).unwrap_or_default().to_vec();
    for (what, bytes) in [("foreign", foreign.to_vec()), ("cut", short)] {
        let options = BoOptions::host(SIZE).private_data(bytes);
        host_refuses(&format!("{what} driver data"), rig.vm.create_bo(&options))?;
    }
    check_device_works(device)
}

/// The host must have refused, and said why.
fn host_refuses<T>(what: &str, outcome: libvaccel::Result<T>) -> Result {
    match outcome {
        Err(error) if error.errno().is_some_and(|errno| errno.0 == EREMOTEIO) => ensure(
            error.host_status().is_some(),
            format!("{what}: EREMOTEIO without a host status"),
        ),
        Err(error) => failed(format!("{what}: {error}, expected EREMOTEIO")),
        Ok(_) => failed(format!("{what}: accepted")),
    }
}

fn size(node: &Path) -> Result {
    let device = open_with(node, Features::HOST_MEMORY)?;
    let mut session = Session::new(&device)?;
    let vm = session.vm().clone();
    let more = vm.create_bo(&BoOptions::host(SIZE).private_data(data(4 * SIZE)))?;
    ensure(
        more.size() == 4 * SIZE && more.info()?.size == 4 * SIZE,
        format!("the host made {}, the object has {}", 4 * SIZE, more.size()),
    )?;
    let mapping = more.map()?;
    mark_pages(&mapping, 1)?;
    let binding = more.bind(libvaccel::BindFlags::empty())?;
    let last = gpu_words(&mut session, &[binding.gpu_va() + 4 * SIZE - 4096])?;
    ensure(
        last == [16],
        format!("the last page holds {last:?}, not 16"),
    )?;

    let options = BoOptions::host(SIZE).private_data(data(SIZE / 2));
    match vm.create_bo(&options) {
        Err(error) if error.errno().is_some_and(|errno| errno.0 == EREMOTEIO) => {}
        Err(error) => return failed(format!("less than asked for: {error}, expected EREMOTEIO")),
        Ok(bo) => {
            return failed(format!(
                "half of what was asked for became an object of {} bytes",
                bo.size()
            ))
        }
    }
    check_device_works(&device)
}

fn round_trip(node: &Path) -> Result {
    let device = open_with(node, Features::HOST_MEMORY)?;
    let mut session = Session::new(&device)?;
    const N: usize = 24;
    let left: Vec<f32> = (0..N * N).map(|i| (i % 13) as f32 - 6.0).collect();
    let right: Vec<f32> = (0..N * N).map(|i| (i % 7) as f32).collect();
    // Small whole numbers: every sum is exact, in whatever order.
    let mut product = vec![0f32; N * N];
    for (row, line) in product.chunks_exact_mut(N).enumerate() {
        for (col, cell) in line.iter_mut().enumerate() {
            let terms = (0..N).map(|k| left.get(row * N + k).zip(right.get(k * N + col)));
            *cell = terms.flatten().map(|(a, b)| a * b).sum();
        }
    }
    for (segment, caching) in KINDS {
        let bytes = (N * N * 4) as u64;
        let options = BoOptions::host(SIZE).segment(segment).caching(caching);
        let a = session.buffer_with(bytes, &options)?;
        let b = session.buffer_with(bytes, &options)?;
        let c = session.buffer_with(bytes, &options)?;
        a.write_f32(&left)?;
        b.write_f32(&right)?;
        for buffer in [&a, &b] {
            buffer.bo().sync(SyncFlags::FOR_DEVICE, 0..SIZE)?;
        }
        let n = N as u32;
        let mut stream = CommandStream::new();
        stream.gemm(Gemm {
            m: n,
            n,
            k: n,
            a: Matrix::dense(a.gpu_va(), n),
            b: Matrix::dense(b.gpu_va(), n),
            c: Matrix::dense(c.gpu_va(), n),
            alpha: 1.0,
            beta: 0.0,
        });
        session.run(stream, soon())?;
        c.bo().sync(SyncFlags::FOR_CPU, 0..SIZE)?;
        ensure(
            c.read_f32(N * N)? == product,
            format!("{segment:?} {caching:?}: a product in host memory is wrong"),
        )?;
        for buffer in [a, b, c] {
            buffer.close()?;
        }
    }
    Ok(())
}

fn several(node: &Path) -> Result {
    let device = open_with(node, Features::HOST_MEMORY)?;
    for shareable in [true, false] {
        let mut options = BoOptions::host(SIZE);
        if shareable {
            options = options.shareable();
        }
        let mut first = Session::new(&device)?;
        let mut second = Session::new(&device)?;
        let shared = first.buffer_with(SIZE, &options)?;
        let bind = libvaccel::BindOptions::new(libvaccel::BindFlags::WRITE);
        let there = match second.vm().bind(shared.bo(), &bind) {
            // The host cannot give another device what it was not told to share.
            Err(error) if !shareable && error.kind() == ErrorKind::InvalidArgument => continue,
            other => other?,
        };
        gpu_set(&mut first, shared.gpu_va() + 8192, 0x51)?;
        gpu_set(&mut second, there.gpu_va() + 8196, 0x52)?;
        let places = [shared.gpu_va() + 8192, shared.gpu_va() + 8196];
        let seen = gpu_words(&mut first, &places)?;
        ensure(
            seen == [0x51, 0x52],
            format!("the first vm reads {seen:x?} where both wrote 51 and 52"),
        )?;
        let mut bytes = [0; 8];
        shared.mapping().read(8192, &mut bytes)?;
        ensure(
            bytes == [0x51, 0, 0, 0, 0x52, 0, 0, 0],
            "the CPU reads something else than the jobs of two vms wrote",
        )?;
    }
    Ok(())
}

fn sync(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let device: &Device = &rig.device;
    let mut objects = vec![rig.bo.clone()];
    if needs(device, Features::HOST_MEMORY).is_ok() {
        objects.push(rig.vm.create_bo(&BoOptions::host(SIZE))?);
        let combined = BoOptions::host(SIZE).caching(Caching::WriteCombined);
        objects.push(rig.vm.create_bo(&combined)?);
    }
    for bo in &objects {
        let good = sys::BoSync {
            bo: bo.handle(),
            flags: sys::SYNC_FOR_CPU,
            size: 4096,
            ..Default::default()
        };
        let kind = bo.kind();
        for flags in [SyncFlags::FOR_CPU, SyncFlags::FOR_DEVICE, SyncFlags::all()] {
            for range in [0..SIZE, 4096..8192, SIZE - 4096..SIZE, 100..200] {
                bo.sync(flags, range)?;
            }
        }
        let refuse = |what: &str, bad, errno| {
            refused::<ioctl::BoSync>(device, &format!("{kind:?} {what}"), bad, &[errno])
        };
        let size = bo.size() + 4096;
        refuse("more than the object", sys::BoSync { size, ..good }, EINVAL)?;
        let bo_offset = bo.size();
        refuse("behind the end", sys::BoSync { bo_offset, ..good }, EINVAL)?;
        let bo_offset = u64::MAX - 100;
        refuse(
            "a range that overflows",
            sys::BoSync { bo_offset, ..good },
            EOVERFLOW,
        )?;
    }
    let arg = sys::BoSync {
        bo: rig.arg.handle(),
        flags: sys::SYNC_FOR_CPU,
        size: 4096,
        ..Default::default()
    };
    refused::<ioctl::BoSync>(device, "an argument object", arg, &[EINVAL])?;
    for bo in [0, 0x7fff_fff0] {
        let what = format!("object {bo:#x}");
        refused::<ioctl::BoSync>(device, &what, sys::BoSync { bo, ..arg }, &[ENOENT])?;
    }
    let outcome = rig.bo.sync(SyncFlags::FOR_CPU, 0..SIZE + 1);
    fails("the library", outcome, ErrorKind::InvalidArgument)
}
