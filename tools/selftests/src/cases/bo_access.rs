// SPDX-License-Identifier: MIT OR Apache-2.0
//! Implicit synchronisation: dma-bufs that others use too.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use libc::{EINVAL, ENOENT};
use libvaccel::compute::Session;
use libvaccel::ioctl::readiness::{self, Readiness};
use libvaccel::{
    ioctl, sys, AccessFlags, BindFlags, BindOptions, Binding, Bo, Deadline, Features, QueueMode,
    Submission, SyncFlags,
};
use zerocopy::IntoBytes;

use super::Case;
use crate::expect::refused;
use crate::foreign::pending::Pending;
use crate::foreign::sync_file::Status;
use crate::foreign::{attach_sync_file, export_sync_file, udmabuf, Vgem, Waits};
use crate::rig::{ensure, failed, needs, soon, Problem, Result, Rig, SIZE};
use crate::sync::{fails_with, has_status, has_word, reaches, session, stays_below, Program};
use crate::system::memfd;

pub const CASES: &[Case] = &[
    Case {
        name: "access-write",
        proves: "while work that writes is on its way readers and writers of the dma-buf have a fence \
                 to wait for, which signals when the work is done: of vgem, udmabuf, own memory",
        run: |node| leaves_fence(node, true),
    },
    Case {
        name: "access-read",
        proves: "work that reads leaves a fence for writers of the dma-buf and none for readers",
        run: |node| leaves_fence(node, false),
    },
    Case {
        name: "access-wait-writer",
        proves: "a queue waits for the writer of an object before work that reads or writes, and does \
                 not unless told to",
        run: wait_writer,
    },
    Case {
        name: "access-wait-reader",
        proves: "a queue waits for the reader of an object before work that writes, and not before work \
                 that reads",
        run: wait_reader,
    },
    Case {
        name: "access-both",
        proves: "two queues that write an object by turns, each waiting for the other, do so in the \
                 order of their submissions",
        run: by_turns,
    },
    Case {
        name: "access-long-running",
        proves: "a long-running queue waits for an object and leaves no fence on it; access without a \
                 wait is refused",
        run: long_running,
    },
    Case {
        name: "access-bad",
        proves: "records with unknown flags, fields that do not belong, or of what is no object of the \
                 GPU are refused",
        run: bad,
    },
];

/// An object that others use too, bound in a session's vm.
struct Shared {
    what: &'static str,
    binding: Binding,
    bo: Bo,
    dma_buf: OwnedFd,
}

impl Shared {
    fn imported(session: &Session, what: &'static str, dma_buf: OwnedFd) -> Result<Self> {
        let bo = session.vm().device().import(dma_buf.as_fd())?;
        let binding = session
            .vm()
            .bind(&bo, &BindOptions::new(BindFlags::WRITE))?;
        Ok(Self {
            what,
            binding,
            bo,
            dma_buf,
        })
    }

    fn dma_buf(&self) -> BorrowedFd<'_> {
        self.dma_buf.as_fd()
    }
}

/// One of each kind that there is.
fn each(session: &Session) -> Result<Vec<Shared>> {
    let bo = session.vm().create_bo(&libvaccel::BoOptions::new(SIZE))?;
    let mut all = vec![Shared {
        what: "own memory",
        dma_buf: bo.export()?,
        binding: bo.bind(BindFlags::WRITE)?,
        bo,
    }];
    let vgem = Vgem::open().and_then(|vgem| Ok(vgem.export(SIZE)?.1));
    let udmabuf = memfd(SIZE)
        .map_err(Problem::from)
        .and_then(|memory| udmabuf(&memory, SIZE));
    for (what, made) in [("vgem", vgem), ("udmabuf", udmabuf)] {
        match made {
            Ok(dma_buf) => all.push(Shared::imported(session, what, dma_buf)?),
            Err(Problem::Skipped(_)) => {}
            Err(problem) => return Err(problem),
        }
    }
    Ok(all)
}

/// Whether the dma-buf polls as one that may be read now.
fn readable(dma_buf: BorrowedFd<'_>, deadline: Deadline) -> Result<bool> {
    match readiness::wait_readable(dma_buf, deadline) {
        Ok(ready) => Ok(ready == Readiness::Readable),
        Err(errno) => failed(format!("poll of a dma-buf: {errno}")),
    }
}

fn leaves_fence(node: &Path, writes: bool) -> Result {
    let (device, session) = session(node, QueueMode::Bounded)?;
    needs(&device, Features::IMPORT)?;
    for shared in each(&session)? {
        let what = shared.what;
        let out = session.buffer(4)?;
        let target = if writes {
            shared.binding.gpu_va()
        } else {
            out.gpu_va()
        };
        let job = Program::late_word(&session, 250, target, 0x77)?;
        let flags = if writes {
            AccessFlags::WRITE
        } else {
            AccessFlags::empty()
        };
        let list = job.exec(Submission::new().access(&shared.bo, flags));
        session.queue().submit(&list)?;
        let for_readers = export_sync_file(shared.dma_buf(), Waits::ForWriters)?;
        let for_writers = export_sync_file(shared.dma_buf(), Waits::ForAll)?;
        let expected = if writes {
            Status::Active
        } else {
            Status::Signalled
        };
        has_status(what, &for_readers, expected)?;
        has_status(what, &for_writers, Status::Active)?;
        ensure(
            readable(shared.dma_buf(), Deadline::NOW)? != writes,
            format!("{what}: the dma-buf polls as its fences do not say"),
        )?;
        ensure(
            readable(shared.dma_buf(), soon())? && for_writers.wait(soon())?,
            format!("{what}: the fence does not signal"),
        )?;
        has_status(what, &for_writers, Status::Signalled)?;
        if writes {
            shared.bo.sync(SyncFlags::FOR_CPU, 0..SIZE)?;
            let mut word = [0; 4];
            shared.bo.map()?.read(0, &mut word)?;
            ensure(
                word == 0x77u32.to_le_bytes(),
                format!("{what}: the memory holds {word:x?}"),
            )?;
        } else {
            has_word(what, &out, 0x77)?;
        }
    }
    Ok(())
}

/// Runs a job behind an access, and says whether it waited until `pending` was signalled.
fn waits(
    session: &Session,
    shared: &Shared,
    flags: AccessFlags,
    pending: &Pending,
    expected: bool,
) -> Result {
    let what = format!("{}, {flags:?}", shared.what);
    let out = session.buffer(4)?;
    let job = Program::late_word(session, 0, out.gpu_va(), 4)?;
    let fence = session.fence();
    let value = fence.value()? + 1;
    let list = job.exec(Submission::new().access(&shared.bo, flags));
    session.queue().submit(&list.signal(fence, value))?;
    if expected {
        stays_below(&what, fence, value)?;
        has_word(&what, &out, 0)?;
        pending.signal()?;
    }
    reaches(&what, fence, value, None)?;
    has_word(&what, &out, 4)?;
    if !expected {
        pending.signal()?;
    }
    Ok(())
}

const READ: AccessFlags = AccessFlags::empty();
const WRITE: AccessFlags = AccessFlags::WRITE;
const WAIT: AccessFlags = AccessFlags::WAIT;

fn wait_writer(node: &Path) -> Result {
    let (device, session) = session(node, QueueMode::Bounded)?;
    needs(&device, Features::IMPORT)?;
    for shared in each(&session)? {
        for (flags, expected) in [(READ, false), (READ | WAIT, true), (WRITE | WAIT, true)] {
            let pending = Pending::any()?;
            attach_sync_file(shared.dma_buf(), pending.file(), true)?;
            waits(&session, &shared, flags, &pending, expected)?;
        }
    }
    Ok(())
}

fn wait_reader(node: &Path) -> Result {
    let (device, session) = session(node, QueueMode::Bounded)?;
    needs(&device, Features::IMPORT)?;
    for shared in each(&session)? {
        for (flags, expected) in [(READ | WAIT, false), (WRITE, false), (WRITE | WAIT, true)] {
            let pending = Pending::any()?;
            attach_sync_file(shared.dma_buf(), pending.file(), false)?;
            waits(&session, &shared, flags, &pending, expected)?;
        }
    }
    Ok(())
}

fn by_turns(node: &Path) -> Result {
    let (device, first) = session(node, QueueMode::Bounded)?;
    let second = Session::with_mode(&device, QueueMode::Bounded)?;
    let bo = first.vm().create_bo(&libvaccel::BoOptions::new(SIZE))?;
    let (near, far) = (
        bo.bind(BindFlags::WRITE)?,
        second.vm().bind(&bo, &BindOptions::new(BindFlags::WRITE))?,
    );
    let mut jobs = Vec::new();
    for round in 0..6u32 {
        let (session, gpu_va) = match round % 2 {
            0 => (&first, near.gpu_va()),
            _ => (&second, far.gpu_va()),
        };
        let job = Program::late_word(session, 20, gpu_va, round)?;
        let list = job.exec(Submission::new().access(&bo, WRITE | WAIT));
        session
            .queue()
            .submit(&list.done(session.fence(), u64::from(round) + 1))?;
        jobs.push(job);
    }
    second.fence().wait(6, soon())?;
    ensure(
        first.fence().value()? == 5,
        "the last one did not wait for the one before",
    )?;
    let mut word = [0; 4];
    bo.map()?.read(0, &mut word)?;
    ensure(
        word == 5u32.to_le_bytes(),
        format!("the memory holds {word:x?}"),
    )
}

fn long_running(node: &Path) -> Result {
    let (device, session) = session(node, QueueMode::LongRunning)?;
    needs(&device, Features::IMPORT)?;
    for shared in each(&session)? {
        for flags in [READ, WRITE] {
            let list = Submission::new().access(&shared.bo, flags);
            fails_with(
                "access without a wait",
                session.queue().submit(&list),
                EINVAL,
            )?;
        }
        for flags in [READ | WAIT, WRITE | WAIT] {
            let pending = Pending::any()?;
            attach_sync_file(shared.dma_buf(), pending.file(), true)?;
            waits(&session, &shared, flags, &pending, true)?;
        }
        let pending = Pending::any()?;
        attach_sync_file(shared.dma_buf(), pending.file(), false)?;
        waits(&session, &shared, READ | WAIT, &pending, false)?;
        // Behind a gate it would still be there.
        let gate = crate::sync::fence(session.vm())?;
        let list = Submission::new()
            .access(&shared.bo, WRITE | WAIT)
            .wait(&gate, 1);
        session.queue().submit(&list)?;
        let left = export_sync_file(shared.dma_buf(), Waits::ForAll)?;
        has_status(shared.what, &left, Status::Signalled)?;
        gate.signal(1)?;
    }
    Ok(())
}

fn bad(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let device = &rig.device;
    needs(device, Features::SYNC_BRIDGE)?;
    let good = sys::OpBoAccess {
        opcode: sys::OP_BO_ACCESS,
        flags: sys::ACCESS_WRITE,
        bo: rig.bo.handle(),
        ..Default::default()
    };
    let submit = sys::Submit {
        queue: rig.queue.handle(),
        arg_bo: rig.arg.handle(),
        nr_ops: 1,
        op_stride: 64,
        ..Default::default()
    };
    let refuse = |what: &str, op: sys::OpBoAccess, errno| {
        rig.arg.mapping().write(0, op.as_bytes())?;
        refused::<ioctl::Submit>(device, what, submit, &[errno])
    };
    for bit in 2..32 {
        let bad = sys::OpBoAccess {
            flags: 1 << bit,
            ..good
        };
        refuse(&format!("with flag {bit}"), bad, EINVAL)?;
    }
    refuse(
        "with padding set",
        sys::OpBoAccess { pad: 1, ..good },
        EINVAL,
    )?;
    for index in 0..good.reserved.len() {
        let mut bad = good;
        if let Some(word) = bad.reserved.get_mut(index) {
            *word = 1;
        }
        refuse(&format!("with reserved {index}"), bad, EINVAL)?;
    }
    for bo in [0, 0x7fff_fff0] {
        refuse(
            &format!("of {bo:#x}"),
            sys::OpBoAccess { bo, ..good },
            ENOENT,
        )?;
    }
    let arg = sys::OpBoAccess {
        bo: rig.arg.handle(),
        ..good
    };
    refuse("of an argument object", arg, EINVAL)?;
    let read_only = rig
        .vm
        .create_bo(&libvaccel::BoOptions::new(SIZE).flags(libvaccel::BoFlags::READ_ONLY))?;
    let list = Submission::new().access(&read_only, READ);
    rig.queue.submit(&list.signal(&rig.fence, 1))?;
    rig.fence.wait(1, soon())?;
    Ok(())
}
