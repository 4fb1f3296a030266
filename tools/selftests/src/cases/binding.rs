// SPDX-License-Identifier: MIT OR Apache-2.0
//! BIND and UNBIND.

use std::path::Path;
use std::time::Instant;

use libc::{EACCES, EEXIST, EINVAL, ENOENT, EOVERFLOW};
use libvaccel::compute::Session;
use libvaccel::{
    ioctl, sys, BindFlags, BindOptions, BoFlags, BoOptions, Deadline, Device, ErrorKind, QueueMode,
    VmFlags,
};
use vaccel_isa::CommandStream;

use super::Case;
use crate::expect::{accepted, refused};
use crate::rig::{ensure, fails, soon, Result, Rig, SIZE};

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
        name: "unbind-beside-job",
        proves:
            "UNBIND of one object does not wait for the job that another, closed meanwhile, is \
                 used by",
        run: unbind_beside,
    },
    Case {
        name: "unbind-bad",
        proves: "UNBIND takes exactly what BIND made, once",
        run: unbind_bad,
    },
    Case {
        name: "bind-null",
        proves: "where nothing is bound by NULL a job reads zeros and its writes are dropped",
        run: null,
    },
    Case {
        name: "bind-in-several-vms",
        proves:
            "an object bound in two vms of a file is one memory to the jobs of both, also when \
                 the vm that it was made in is gone",
        run: several,
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
    refuse("address 0", sys::Bind { flags, ..good }, &[EINVAL])?;
    let bad = sys::Bind {
        flags,
        gpu_va: u64::MAX - 4095,
        size: 8192,
        ..good
    };
    refuse("address and size that overflow", bad, &[EOVERFLOW, EINVAL])?;
    let read_only = rig
        .vm
        .create_bo(&BoOptions::new(4096).flags(BoFlags::READ_ONLY))?;
    let bo = read_only.handle();
    refuse(
        "writing of a read-only object",
        sys::Bind { bo, ..good },
        &[EACCES],
    )?;
    let flags = sys::BIND_NULL;
    refuse(
        "NULL with an object",
        sys::Bind { flags, ..good },
        &[EINVAL],
    )?;
    let bad = sys::Bind {
        flags,
        bo: 0,
        bo_offset: 4096,
        ..good
    };
    refuse("NULL with an object offset", bad, &[EINVAL])
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

fn unbind_beside(node: &Path) -> Result {
    let device = Device::open(node)?;
    let mut session = Session::with_mode(&device, QueueMode::LongRunning)?;
    let vm = session.vm().clone();
    let used = session.buffer(SIZE)?;
    let other = vm
        .create_bo(&BoOptions::new(SIZE))?
        .bind(BindFlags::empty())?;
    let mut stream = CommandStream::new();
    stream.fill_words(used.gpu_va(), 4, 1);
    for _ in 0..12 {
        stream.spin(300_000_000);
    }
    let ticket = session.launch(stream)?;
    drop(used);
    let start = Instant::now();
    other.close()?;
    let took = start.elapsed();
    let running = matches!(
        session.wait(ticket, Deadline::NOW),
        Err(error) if error.kind() == ErrorKind::TimedOut
    );
    ensure(
        running,
        format!("UNBIND took {took:?}, until the job was over"),
    )?;
    session.wait(ticket, soon())?;
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

fn null(node: &Path) -> Result {
    let device = Device::open(node)?;
    let mut session = Session::new(&device)?;
    let out = session.buffer(64)?;
    out.mapping().write(0, &[0xff; 64])?;
    let binding = match session.vm().bind_null(BindFlags::WRITE, None, 8192) {
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            return Err(crate::rig::Problem::Skipped(
                "the host binds nothing by NULL".into(),
            ))
        }
        other => other?,
    };
    let mut stream = CommandStream::new();
    stream.fill_words(binding.gpu_va(), 8192, 0x1111_1111);
    stream.copy(out.gpu_va(), binding.gpu_va() + 4096, 64);
    session.run(stream, soon())?;
    ensure(
        out.read_u32(16)? == [0; 16],
        "what was written to a NULL binding is read there",
    )?;
    binding.close()?;
    Ok(())
}

fn several(node: &Path) -> Result {
    let device = Device::open(node)?;
    let owner = device.create_vm(VmFlags::empty())?;
    let bo = owner.create_bo(&BoOptions::new(8192))?;
    let mut sessions = [Session::new(&device)?, Session::new(&device)?];
    let mut bindings = Vec::new();
    for session in &sessions {
        let options = BindOptions::new(BindFlags::WRITE).part(4096, 4096);
        bindings.push(session.vm().bind(&bo, &options)?);
    }
    let own = owner.bind(&bo, &BindOptions::new(BindFlags::WRITE))?;
    let mut third = Session::in_vm(&owner, QueueMode::Bounded)?;
    let out = third.buffer(8192)?;
    for (index, (session, binding)) in sessions.iter_mut().zip(&bindings).enumerate() {
        let mut stream = CommandStream::new();
        stream.fill_words(binding.gpu_va() + 64 * index as u64, 64, 1 + index as u32);
        session.run(stream, soon())?;
    }
    let mut stream = CommandStream::new();
    stream.copy(out.gpu_va(), own.gpu_va(), 8192);
    third.run(stream, soon())?;
    let words = out.read_u32(2048)?;
    let seen = [words.first(), words.get(1024), words.get(1040)];
    ensure(
        seen == [Some(&0), Some(&1), Some(&2)],
        format!("a third vm reads {seen:?} of what two others wrote, expected 0, 1, 2"),
    )?;
    // Another file's object has no handle here.
    let other = Device::open(node)?.create_vm(VmFlags::empty())?;
    let outcome = other.bind(&bo, &BindOptions::default());
    fails(
        "an object of another file",
        outcome,
        ErrorKind::InvalidArgument,
    )?;
    // The object's first vm goes; the bindings of the others keep the memory.
    drop(out);
    own.close()?;
    drop(third);
    let [first, second] = &mut sessions;
    let vm = sys::Destroy {
        handle: owner.handle(),
        pad: 0,
    };
    accepted::<ioctl::VmDestroy>(&device, "of the owner", vm)?;
    let out = second.buffer(64)?;
    let mut stream = CommandStream::new();
    stream.fill_words(bindings.first().map_or(0, |b| b.gpu_va()), 64, 9);
    first.run(stream, soon())?;
    let mut stream = CommandStream::new();
    stream.copy(out.gpu_va(), bindings.get(1).map_or(0, |b| b.gpu_va()), 64);
    second.run(stream, soon())?;
    ensure(
        out.read_u32(16)? == [9; 16],
        "the memory is another once the vm it was made in is gone",
    )
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
