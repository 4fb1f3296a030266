// SPDX-License-Identifier: MIT OR Apache-2.0
//! BIND and UNBIND as operations of a queue.

use std::path::Path;

use libc::{EACCES, EBUSY, EEXIST, EINVAL, ENOENT, EOPNOTSUPP, EOVERFLOW};
use libvaccel::compute::{Buffer, Session};
use libvaccel::{
    ioctl, sys, BindFlags, Bo, BoFlags, BoOptions, ErrorKind, Features, FenceFlags, OpOutcome,
    Queue, QueueMode, QueueOptions, Reservation, ReserveOptions, Submission,
};
use vaccel_isa::CommandStream;
use zerocopy::IntoBytes;

use super::Case;
use crate::expect::refused;
use crate::rig::{
    check_device_works, ensure, eventually, failed, fails, mark_pages, open_with, soon, Result, Rig,
};

pub const CASES: &[Case] = &[
    Case {
        name: "queued-order",
        proves:
            "in one queue a job before a queued BIND or UNBIND sees the old memory and the job \
                 behind it the new",
        run: order,
    },
    Case {
        name: "queued-many",
        proves:
            "a page that is bound anew between each two of a hundred jobs is each time the one \
                 that its job reads",
        run: many,
    },
    Case {
        name: "queued-across-queues",
        proves:
            "another queue and the CPU see a queued BIND behind a fence that is signalled behind it",
        run: across,
    },
    Case {
        name: "queued-closed-object",
        proves:
            "an object whose handle is closed as soon as its UNBIND is queued is used until then",
        run: closed,
    },
    Case {
        name: "queued-overtaken",
        proves:
            "while a queue has yet to change addresses, UNBIND and BIND of them at once and the                  end of their reservation are refused with EBUSY, and other addresses are not; when                  it has, or is destroyed, they are not either",
        run: overtaken,
    },
    Case {
        name: "queued-bad",
        proves: "queued bindings outside of reservations, with bad objects, ranges and flags are \
                 refused, and then nothing of the list has happened",
        run: bad,
    },
    Case {
        name: "queued-results",
        proves: "the results of a list with bindings tell what became of each operation",
        run: results,
    },
];

pub(super) const PAGE: u64 = 4096;
pub(super) const FEATURES: Features = Features::QUEUED_BIND.union(Features::VA_RESERVE);

/// A session, a zero reservation, and objects whose pages are marked.
struct Bench {
    session: Session,
    reservation: Reservation,
    out: Buffer,
    objects: Vec<Bo>,
}

/// Pages of the reservation and of each object.
pub(super) const PAGES: u64 = 4;

impl Bench {
    fn new(node: &Path) -> Result<Self> {
        let device = open_with(node, FEATURES)?;
        let session = Session::new(&device)?;
        let vm = session.vm();
        let mut objects = Vec::new();
        for number in 1..=3u32 {
            let bo = vm.create_bo(&BoOptions::new(PAGES * PAGE))?;
            mark_pages(&bo.map()?, 100 * number)?;
            objects.push(bo);
        }
        Ok(Self {
            reservation: vm.reserve(PAGES * PAGE, &ReserveOptions::new().zero())?,
            out: session.buffer(64 * 1024)?,
            objects,
            session,
        })
    }

    fn object(&self, index: usize) -> Result<&Bo> {
        match self.objects.get(index) {
            Some(bo) => Ok(bo),
            None => failed("an object that is not there"),
        }
    }

    /// A command buffer that copies the first word of each page to the `row`-th row of the output.
    fn look(&self, row: u64) -> Result<(Buffer, u32)> {
        let mut stream = CommandStream::new();
        for page in 0..PAGES {
            stream.copy(
                self.out.gpu_va() + (row * PAGES + page) * 4,
                self.reservation.gpu_va() + page * PAGE,
                4,
            );
        }
        code(&self.session, stream)
    }

    /// What the looks have seen.
    fn seen(&self, rows: u64) -> Result<Vec<Vec<u32>>> {
        let words = self.out.read_u32((rows * PAGES) as usize)?;
        Ok(words.chunks(PAGES as usize).map(<[u32]>::to_vec).collect())
    }
}

/// A command buffer of its own, and its length.
pub(super) fn code(session: &Session, stream: CommandStream) -> Result<(Buffer, u32)> {
    let bytes = match stream.finish() {
        Ok(bytes) => bytes,
        Err(error) => return failed(format!("a stream cannot be encoded: {error}")),
    };
    let buffer = session.code_buffer(bytes.len() as u64)?;
    buffer.mapping().write(0, &bytes)?;
    Ok((buffer, bytes.len() as u32))
}

fn expect(what: &str, seen: &[Vec<u32>], expected: &[[u32; 4]]) -> Result {
    for (index, (seen, expected)) in seen.iter().zip(expected).enumerate() {
        ensure(
            seen == expected,
            format!("{what}: look {index} sees {seen:?}, expected {expected:?}"),
        )?;
    }
    Ok(())
}

fn order(node: &Path) -> Result {
    for in_one in [true, false] {
        let bench = Bench::new(node)?;
        let looks: Vec<_> = (0..4)
            .map(|row| bench.look(row))
            .collect::<Result<Vec<_>>>()?;
        let steps = |index: usize, list: Submission| -> Result<Submission> {
            let reservation = &bench.reservation;
            Ok(match index {
                0 => list.bind(
                    reservation,
                    0,
                    bench.object(0)?,
                    0..PAGES * PAGE,
                    BindFlags::WRITE,
                ),
                1 => list.bind(
                    reservation,
                    PAGE,
                    bench.object(1)?,
                    0..2 * PAGE,
                    BindFlags::empty(),
                ),
                _ => list.unbind(reservation, 0..2 * PAGE),
            })
        };
        // Look, change, look, change, look, change, look.
        let queue = bench.session.queue();
        let mut list = Submission::new();
        for (index, (buffer, size)) in looks.iter().enumerate() {
            list = list.exec(buffer.gpu_va(), *size);
            if index < 3 {
                list = steps(index, list)?;
            }
            if !in_one {
                queue.submit(&list)?;
                list = Submission::new();
            }
        }
        let fence = bench.session.fence();
        queue.submit(&list.signal(fence, 1))?;
        fence.wait(1, soon())?;
        let expected = [
            [0, 0, 0, 0],
            [100, 101, 102, 103],
            [100, 200, 201, 103],
            [0, 0, 201, 103],
        ];
        let what = if in_one { "one list" } else { "many lists" };
        expect(what, &bench.seen(4)?, &expected)?;
    }
    Ok(())
}

fn many(node: &Path) -> Result {
    const ROUNDS: u64 = 100;
    let bench = Bench::new(node)?;
    let looks: Vec<_> = (0..ROUNDS)
        .map(|row| bench.look(row))
        .collect::<Result<Vec<_>>>()?;
    let mut list = Submission::new();
    for (round, (buffer, size)) in (0..).zip(&looks) {
        let bo = bench.object((round % 3) as usize)?;
        let page = round % PAGES;
        list = list
            .bind(
                &bench.reservation,
                0,
                bo,
                page * PAGE..(page + 1) * PAGE,
                BindFlags::empty(),
            )
            .exec(buffer.gpu_va(), *size);
    }
    let fence = bench.session.fence();
    bench.session.queue().submit(&list.signal(fence, 1))?;
    fence.wait(1, soon())?;
    for (round, row) in (0..).zip(bench.seen(ROUNDS)?) {
        let expected = [(round % 3 + 1) * 100 + round % 4, 0, 0, 0];
        ensure(
            row == expected,
            format!("job {round} sees {row:?}, expected {expected:?}"),
        )?;
    }
    Ok(())
}

fn across(node: &Path) -> Result {
    let bench = Bench::new(node)?;
    let vm = bench.session.vm();
    let other = vm.create_queue(&QueueOptions::new(QueueMode::LongRunning))?;
    let ready = vm.create_fence(FenceFlags::empty(), 0)?;
    let done = vm.create_fence(FenceFlags::empty(), 0)?;
    let (buffer, size) = bench.look(0)?;
    // The look is queued first and waits.
    other.submit(
        &Submission::new()
            .wait(&ready, 1)
            .exec(buffer.gpu_va(), size)
            .signal(&done, 1),
    )?;
    let mut spin = CommandStream::new();
    spin.spin(30_000_000);
    let (spin, spin_size) = code(&bench.session, spin)?;
    bench.session.queue().submit(
        &Submission::new()
            .exec(spin.gpu_va(), spin_size)
            .bind(
                &bench.reservation,
                0,
                bench.object(2)?,
                0..PAGES * PAGE,
                BindFlags::WRITE,
            )
            .signal(&ready, 1),
    )?;
    done.wait(1, soon())?;
    expect("another queue", &bench.seen(1)?, &[[300, 301, 302, 303]])?;
    // The CPU, behind the same fence, changes what it now knows to be bound.
    bench
        .reservation
        .bind(0, bench.object(0)?, PAGE..2 * PAGE, BindFlags::empty())?;
    let (buffer, size) = bench.look(0)?;
    let list = Submission::new()
        .exec(buffer.gpu_va(), size)
        .signal(&done, 2);
    bench.session.queue().submit(&list)?;
    done.wait(2, soon())?;
    expect(
        "behind a BIND of the CPU",
        &bench.seen(1)?,
        &[[101, 301, 302, 303]],
    )
}

fn overtaken(node: &Path) -> Result {
    let bench = Bench::new(node)?;
    let vm = bench.session.vm();
    let go = vm.create_fence(FenceFlags::empty(), 0)?;
    let reservation = &bench.reservation;
    let (first, second) = (bench.object(0)?, bench.object(1)?);
    let busy = |what: &str, outcome: libvaccel::Result<()>| fails(what, outcome, ErrorKind::Busy);
    let queue_bind = |queue: &Queue, value: u64| -> Result {
        let list = Submission::new().wait(&go, value).bind(
            reservation,
            0,
            first,
            0..2 * PAGE,
            BindFlags::empty(),
        );
        queue.submit(&list)?;
        busy("UNBIND", reservation.unbind(0..PAGE))?;
        let bound = reservation.bind(PAGE, second, 0..PAGE, BindFlags::empty());
        busy("BIND", bound.map(drop))?;
        reservation.bind(2 * PAGE, second, 0..PAGE, BindFlags::empty())?;
        reservation.unbind(2 * PAGE..3 * PAGE)?;
        let whole = sys::VaRange {
            vm: vm.handle(),
            flags: 0,
            gpu_va: reservation.gpu_va(),
            size: reservation.size(),
            host_status: 0,
            pad: 0,
            reserved: [0; 2],
        };
        refused::<ioctl::VaRelease>(&vm.device(), "under a queue", whole, &[EBUSY])
    };
    let queue = vm.create_queue(&QueueOptions::new(QueueMode::LongRunning))?;
    queue_bind(&queue, 1)?;
    go.signal(1)?;
    eventually("UNBIND of what a queue has bound", || {
        match reservation.unbind(0..2 * PAGE) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::Busy => Ok(false),
            Err(error) => Err(error.into()),
        }
    })?;
    // What a queue would have bound that is gone is not in the way either.
    queue_bind(&queue, 2)?;
    queue.close()?;
    eventually("UNBIND of what a queue would have bound", || {
        Ok(reservation.unbind(0..2 * PAGE).is_ok())
    })?;
    bench.reservation.close()?;
    Ok(())
}

fn closed(node: &Path) -> Result {
    let bench = Bench::new(node)?;
    let vm = bench.session.vm();
    let (before, before_size) = bench.look(0)?;
    let (after, after_size) = bench.look(1)?;
    let mut spin = CommandStream::new();
    spin.spin(50_000_000);
    let (spin, spin_size) = code(&bench.session, spin)?;
    let bo = vm.create_bo(&BoOptions::new(PAGES * PAGE))?;
    mark_pages(&bo.map()?, 700)?;
    let fence = bench.session.fence();
    let list = Submission::new()
        .bind(
            &bench.reservation,
            0,
            &bo,
            0..PAGES * PAGE,
            BindFlags::empty(),
        )
        .exec(spin.gpu_va(), spin_size)
        .exec(before.gpu_va(), before_size)
        .unbind(&bench.reservation, 0..PAGES * PAGE)
        .exec(after.gpu_va(), after_size)
        .signal(fence, 1);
    bench.session.queue().submit(&list)?;
    bo.close()?;
    // New objects would take its memory if it were free.
    let others: Vec<Bo> = (0..16)
        .map(|_| vm.create_bo(&BoOptions::new(PAGES * PAGE)))
        .collect::<libvaccel::Result<_>>()?;
    for bo in &others {
        mark_pages(&bo.map()?, 900)?;
    }
    fence.wait(1, soon())?;
    expect(
        "a closed object",
        &bench.seen(2)?,
        &[[700, 701, 702, 703], [0; 4]],
    )
}

fn bad(node: &Path) -> Result {
    open_with(node, FEATURES)?;
    let rig = Rig::new(node)?;
    let device = &rig.device;
    let reservation = rig.vm.reserve(PAGES * PAGE, &ReserveOptions::new())?;
    let submit = sys::Submit {
        queue: rig.queue.handle(),
        arg_bo: rig.arg.handle(),
        nr_ops: 2,
        op_stride: 64,
        ..Default::default()
    };
    let signal = sys::OpFence {
        opcode: sys::OP_FENCE_SIGNAL,
        fence: rig.fence.handle(),
        value: 77,
        ..Default::default()
    };
    rig.arg.mapping().write(0, signal.as_bytes())?;
    let refuse = |what: &str, op: &[u8], errnos: &[i32]| -> Result {
        rig.arg.mapping().write(64, op)?;
        refused::<ioctl::Submit>(device, what, submit, errnos)
    };
    let bind = sys::OpBind {
        opcode: sys::OP_BIND,
        flags: sys::BIND_FIXED,
        bo: rig.bo.handle(),
        gpu_va: reservation.gpu_va(),
        size: PAGE,
        ..Default::default()
    };
    let bad = |what: &str, op: sys::OpBind, errnos: &[i32]| refuse(what, op.as_bytes(), errnos);
    // A range that is in no reservation: of a value that cannot be, or one that is taken.
    let outside = [EINVAL, EEXIST];
    let gpu_va = rig.binding.gpu_va();
    bad("over a binding", sys::OpBind { gpu_va, ..bind }, &outside)?;
    let gpu_va = reservation.gpu_va() + (1 << 34);
    bad(
        "on free addresses",
        sys::OpBind { gpu_va, ..bind },
        &outside,
    )?;
    let gpu_va = reservation.gpu_va() + (PAGES - 1) * PAGE;
    let size = 2 * PAGE;
    bad(
        "across the end",
        sys::OpBind {
            gpu_va,
            size,
            ..bind
        },
        &outside,
    )?;
    bad(
        "of no address",
        sys::OpBind { gpu_va: 0, ..bind },
        &[EINVAL],
    )?;
    bad("without FIXED", sys::OpBind { flags: 0, ..bind }, &[EINVAL])?;
    let flags = bind.flags | 1 << 20;
    bad(
        "of an unknown flag",
        sys::OpBind { flags, ..bind },
        &[EINVAL],
    )?;
    bad("of no object", sys::OpBind { bo: 0, ..bind }, &[ENOENT])?;
    let bo = 0x7fff_fff0;
    bad(
        "of an unknown object",
        sys::OpBind { bo, ..bind },
        &[ENOENT],
    )?;
    let bo = rig.arg.handle();
    bad(
        "of an argument object",
        sys::OpBind { bo, ..bind },
        &[EINVAL],
    )?;
    let flags = bind.flags | sys::BIND_NULL;
    bad(
        "of NULL with an object",
        sys::OpBind { flags, ..bind },
        &[EINVAL],
    )?;
    bad("of size 0", sys::OpBind { size: 0, ..bind }, &[EINVAL])?;
    bad(
        "of half a page",
        sys::OpBind { size: 2048, ..bind },
        &[EINVAL],
    )?;
    let bo_offset = rig.bo.size();
    bad(
        "behind the object",
        sys::OpBind { bo_offset, ..bind },
        &[EINVAL],
    )?;
    let bo_offset = u64::MAX - PAGE + 1;
    let size = 2 * PAGE;
    bad(
        "of an offset that overflows",
        sys::OpBind {
            bo_offset,
            size,
            ..bind
        },
        &[EOVERFLOW],
    )?;
    bad("with padding", sys::OpBind { pad: 1, ..bind }, &[EINVAL])?;
    for index in 0..3 {
        let mut reserved = [0; 3];
        if let Some(word) = reserved.get_mut(index) {
            *word = 1 << 63;
        }
        bad(
            "with reserved bits",
            sys::OpBind { reserved, ..bind },
            &[EINVAL],
        )?;
    }
    let read_only = rig
        .vm
        .create_bo(&BoOptions::new(PAGE).flags(BoFlags::READ_ONLY))?;
    let op = sys::OpBind {
        bo: read_only.handle(),
        flags: bind.flags | sys::BIND_WRITE,
        ..bind
    };
    bad("for writing of a read-only object", op, &[EACCES])?;
    let unbind = sys::OpBind {
        opcode: sys::OP_UNBIND,
        flags: 0,
        bo: 0,
        ..bind
    };
    let bo = rig.bo.handle();
    bad(
        "UNBIND with an object",
        sys::OpBind { bo, ..unbind },
        &[EINVAL],
    )?;
    let flags = sys::BIND_FIXED;
    bad(
        "UNBIND with a flag",
        sys::OpBind { flags, ..unbind },
        &[EINVAL],
    )?;
    let bo_offset = PAGE;
    bad(
        "UNBIND with an offset",
        sys::OpBind {
            bo_offset,
            ..unbind
        },
        &[EINVAL],
    )?;
    let gpu_va = rig.binding.gpu_va();
    bad(
        "UNBIND of a binding",
        sys::OpBind { gpu_va, ..unbind },
        &outside,
    )?;

    let resident = sys::OpResidency {
        opcode: sys::OP_RESIDENCY,
        bo: rig.bo.handle(),
        ..Default::default()
    };
    for op in [
        sys::RESIDENCY_EVICT,
        sys::RESIDENCY_OFFER,
        sys::RESIDENCY_PRIORITY,
    ] {
        let what = format!("RESIDENCY operation {op}");
        let bad = sys::OpResidency { op, ..resident };
        refuse(&what, bad.as_bytes(), &[EOPNOTSUPP])?;
    }
    let bad = sys::OpResidency { op: 5, ..resident };
    refuse("RESIDENCY operation 5", bad.as_bytes(), &[EINVAL])?;
    let bad = sys::OpResidency {
        priority: 1,
        ..resident
    };
    refuse("RESIDENCY with a priority", bad.as_bytes(), &[EINVAL])?;
    let bad = sys::OpResidency {
        flags: 1,
        ..resident
    };
    refuse("RESIDENCY with a flag", bad.as_bytes(), &[EINVAL])?;
    let bad = sys::OpResidency { bo: 0, ..resident };
    refuse("RESIDENCY of no object", bad.as_bytes(), &[ENOENT])?;

    ensure(
        rig.fence.value()? == 0,
        "an operation ahead of a refused one has run",
    )?;
    reservation.close()?;
    check_device_works(device)
}

fn results(node: &Path) -> Result {
    let bench = Bench::new(node)?;
    let (buffer, size) = bench.look(0)?;
    let fence = bench.session.fence();
    let list = Submission::new()
        .bind(
            &bench.reservation,
            0,
            bench.object(0)?,
            0..PAGE,
            BindFlags::empty(),
        )
        .bind_null(&bench.reservation, PAGE..2 * PAGE, BindFlags::WRITE)
        .exec(buffer.gpu_va(), size)
        .unbind(&bench.reservation, 0..PAGES * PAGE)
        .signal(fence, 1)
        .with_outcomes();
    let submitted = bench.session.queue().submit(&list)?;
    fence.wait(1, soon())?;
    ensure(
        submitted.outcomes == [OpOutcome::Accepted(0); 5],
        format!("outcomes {:?}", submitted.outcomes),
    )?;
    expect("a list with results", &bench.seen(1)?, &[[100, 0, 0, 0]])?;
    // A list that is refused as a whole has tried nothing.
    let list = Submission::new()
        .unbind(&bench.reservation, 0..PAGE)
        .exec(buffer.gpu_va(), 0)
        .with_outcomes();
    match bench.session.queue().submit_reporting(&list) {
        Ok(_) => failed("a command buffer of 0 bytes is taken"),
        Err(rejected) => ensure(
            rejected.outcomes.iter().all(|o| *o == OpOutcome::NotTried),
            format!("a refused list has outcomes {:?}", rejected.outcomes),
        ),
    }
}
