// SPDX-License-Identifier: MIT OR Apache-2.0
//! SUBMIT by io_uring.

use std::os::fd::AsFd;
use std::path::Path;

use libc::{EAGAIN, EINVAL, EIO, ENOENT, ESTALE};
use libvaccel::compute::Session;
use libvaccel::{
    ioctl, sys, AccessFlags, BindFlags, Features, QueueMode, ReserveOptions, Submission,
};

use super::Case;
use crate::expect::refused;
use crate::foreign::sync_file::Status;
use crate::rig::{ensure, failed, needs, soon, Result, Rig, SIZE};
use crate::sync::{break_vm, fence, has_status, has_word, reaches, signals, stays_below, Program};
use crate::uring::door::{self, as_refused, Lists};
use crate::uring::entry::ASYNC;
use crate::uring::{Entry, Ring};

pub const CASES: &[Case] = &[
    Case {
        name: "uring-submit",
        proves:
            "lists submitted by io_uring run in order on both kinds of queue, and their numbers go \
                 on where those of the ioctl end and the other way round",
        run: submit,
    },
    Case {
        name: "uring-submit-sync",
        proves:
            "a submission by io_uring leaves an out-fence, waits for and signals syncobjs, and \
                 leaves its fence on an object, as one by ioctl does",
        run: synchronised,
    },
    Case {
        name: "uring-submit-results",
        proves: "the results of a list are written when its submission by io_uring completes, and \
                 nothing around them",
        run: results,
    },
    Case {
        name: "uring-submit-seq",
        proves:
            "EXPECT_SEQ takes the next number and refuses any other with ESTALE, by io_uring and \
                 ioctl in turn",
        run: sequence,
    },
    Case {
        name: "uring-submit-done",
        proves: "with CQE_ON_DONE a submission completes when its fence is at its value and not \
                 before; without a fence, and by ioctl, the flag is refused",
        run: done,
    },
    Case {
        name: "uring-submit-failed",
        proves:
            "a submission that completes when it is done ends with EIO if its vm fails before, and \
                 one to a failed vm is refused",
        run: failing,
    },
    Case {
        name: "uring-submit-bind",
        proves: "a list that has to make memory resident is queued or refused with EAGAIN, and is \
                 queued with IOSQE_ASYNC and by ioctl",
        run: binding,
    },
    Case {
        name: "uring-submit-bad",
        proves: "what the ioctl refuses of a submission io_uring refuses with the same errno",
        run: bad,
    },
];

fn submit(node: &Path) -> Result {
    let device = door::open(node)?;
    for mode in [QueueMode::Bounded, QueueMode::LongRunning] {
        let session = Session::with_mode(&device, mode)?;
        let mut ring = Ring::usual()?;
        let lists = Lists::new(&device, 8)?;
        let out = session.buffer(4)?;
        let done = fence(session.vm())?;
        let queue = session.queue();
        let jobs = (1..=4)
            .map(|word| Program::late_word(&session, 1, out.gpu_va(), word))
            .collect::<Result<Vec<_>>>()?;
        let entries = (1..)
            .zip(&jobs)
            .map(|(slot, job)| lists.entry(slot, queue, &job.run().signal(&done, slot)))
            .collect::<Result<Vec<_>>>()?;
        for completion in ring.all(&entries)? {
            completion.gives("SUBMIT", completion.user_data)?;
        }
        reaches("the lists", &done, 4, None)?;
        has_word("the last list", &out, 4)?;
        let by_ioctl = queue.submit(&Submission::new().signal(&done, 5))?;
        ensure(by_ioctl.seq == 5, format!("number {}", by_ioctl.seq))?;
        let list = Submission::new().signal(&done, 6);
        ring.one(&lists.entry(6, queue, &list)?)?
            .gives("SUBMIT", 6)?;
        reaches("the rest", &done, 6, None)?;
    }
    Ok(())
}

fn synchronised(node: &Path) -> Result {
    let device = door::open(node)?;
    needs(&device, Features::SYNC_BRIDGE)?;
    let session = Session::new(&device)?;
    let mut ring = Ring::usual()?;
    let lists = Lists::new(&device, 4)?;
    let queue = session.queue();
    let out = session.buffer(4096)?;
    let (gone, point) = (device.create_syncobj(false)?, device.create_syncobj(false)?);
    let dma_buf = out.bo().export()?;
    let job = Program::late_word(&session, 30, out.gpu_va(), 7)?;
    let first = job
        .run()
        .access(out.bo(), AccessFlags::WRITE)
        .signal_syncobj(&point, 5)
        .out_syncobj(&gone, 0);
    ring.one(&lists.entry(0, queue, &first)?)?
        .gives("SUBMIT", 1)?;
    // All three are there as soon as the command has completed.
    let waits = crate::foreign::Waits::ForAll;
    let access = crate::foreign::export_sync_file(dma_buf.as_fd(), waits)?;
    let mut second = Submission::new().wait_syncobj(&point, 5);
    let done = fence(session.vm())?;
    second = second.signal(&done, 1);
    ring.one(&lists.entry(1, queue, &second)?)?
        .gives("SUBMIT", 2)?;
    signals("an out-fence", &gone, 0, None)?;
    signals("a point", &point, 5, None)?;
    reaches("work behind the point", &done, 1, None)?;
    has_status("the access", &access, Status::Signalled)?;
    has_word("the work", &out, 7)
}

fn results(node: &Path) -> Result {
    let (rig, mut ring) = door::rig(node)?;
    let lists = Lists::new(&rig.device, 2)?;
    lists.args().mapping().write(0, &[0xee; 384])?;
    let list = Submission::new()
        .signal(&rig.fence, 1)
        .signal(&rig.fence, 2)
        .with_outcomes();
    let mut arg = lists.write(0, &rig.queue, &list)?;
    lists.args().mapping().write(128, &[0xee; 64])?;
    arg.result_offset = 144;
    let entry = Entry::new::<ioctl::Submit>(rig.device.as_fd(), &arg, 0);
    ring.one(&entry)?.gives("SUBMIT", 1)?;
    let mut bytes = [0; 64];
    lists.args().mapping().read(128, &mut bytes)?;
    let (before, rest) = bytes.split_at(16);
    let (written, behind) = rest.split_at(32);
    ensure(
        written.iter().all(|byte| *byte == 0),
        "a result of an accepted operation is not 0",
    )?;
    let untouched = before.iter().chain(behind).all(|byte| *byte == 0xee);
    ensure(untouched, "something around the results was written")?;
    reaches("the list", &rig.fence, 2, None)
}

fn sequence(node: &Path) -> Result {
    let (rig, mut ring) = door::rig(node)?;
    let lists = Lists::new(&rig.device, 1)?;
    let with = |seq: u64, value: u64| {
        let list = Submission::new().signal(&rig.fence, value).expect_seq(seq);
        lists.entry(0, &rig.queue, &list)
    };
    for seq in [0, 2, u64::MAX] {
        ring.one(&with(seq, 100)?)?
            .is(&format!("number {seq} as the first"), -ESTALE)?;
    }
    for seq in [1, 3, 5] {
        ring.one(&with(seq, seq)?)?.gives("the next number", seq)?;
        ring.one(&with(seq, 100)?)?.is("a number again", -ESTALE)?;
        let list = Submission::new().signal(&rig.fence, seq + 1);
        rig.queue.submit(&list.expect_seq(seq + 1))?;
    }
    reaches("what was taken", &rig.fence, 6, None)?;
    stays_below("what was refused", &rig.fence, 100)
}

fn done(node: &Path) -> Result {
    let device = door::open(node)?;
    let session = Session::with_mode(&device, QueueMode::LongRunning)?;
    let mut ring = Ring::usual()?;
    let lists = Lists::new(&device, 2)?;
    let queue = session.queue();
    let (go, done) = (fence(session.vm())?, fence(session.vm())?);
    let list = Submission::new().wait(&go, 1).done(&done, 3);
    let arg = lists.write(0, queue, &list)?;
    let flags = arg.flags | sys::SUBMIT_CQE_ON_DONE;
    let late = sys::Submit { flags, ..arg };
    let entry = |arg: &sys::Submit| Entry::new::<ioctl::Submit>(device.as_fd(), arg, 9);
    ring.push(&entry(&late))?;
    ring.submit()?;
    ring.stays_quiet("a submission that is to complete when it is done")?;
    go.signal(1)?;
    let completions = ring.collect(1, soon())?;
    ensure(
        done.value()? == 3,
        "it completed before its fence was there",
    )?;
    for completion in completions {
        completion.gives("CQE_ON_DONE", 1)?;
    }
    // One that is done at once, or nearly.
    ring.one(&entry(&late))?.gives("CQE_ON_DONE again", 2)?;
    let without = lists.write(1, queue, &Submission::new().signal(&done, 50))?;
    let flags = sys::SUBMIT_CQE_ON_DONE;
    let without = sys::Submit { flags, ..without };
    ring.one(&entry(&without))?
        .is("CQE_ON_DONE without a fence", -EINVAL)?;
    refused::<ioctl::Submit>(&device, "with CQE_ON_DONE", late, &[EINVAL])?;
    stays_below("what was refused", &done, 50)
}

fn failing(node: &Path) -> Result {
    let device = door::open(node)?;
    let session = Session::with_mode(&device, QueueMode::LongRunning)?;
    let mut ring = Ring::usual()?;
    let lists = Lists::new(&device, 1)?;
    let (go, done) = (fence(session.vm())?, fence(session.vm())?);
    let list = Submission::new().wait(&go, 1).done(&done, 1);
    let mut arg = lists.write(0, session.queue(), &list)?;
    arg.flags |= sys::SUBMIT_CQE_ON_DONE;
    let entry = Entry::new::<ioctl::Submit>(device.as_fd(), &arg, 3);
    ring.push(&entry)?;
    ring.submit()?;
    ring.stays_quiet("a submission that is to complete when it is done")?;
    break_vm(session.vm())?;
    for completion in ring.collect(1, soon())? {
        completion.is("of a vm that fails", -EIO)?;
    }
    ring.one(&entry)?.is("to a failed vm", -EIO)
}

fn binding(node: &Path) -> Result {
    let device = door::open(node)?;
    needs(&device, Features::QUEUED_BIND | Features::VA_RESERVE)?;
    let session = Session::new(&device)?;
    let mut ring = Ring::usual()?;
    let lists = Lists::new(&device, 2)?;
    let reservation = session.vm().reserve(SIZE, &ReserveOptions::new().zero())?;
    let bo = session.vm().create_bo(&libvaccel::BoOptions::new(SIZE))?;
    bo.map()?.write(0, &42u32.to_le_bytes())?;
    let done = fence(session.vm())?;
    let list = Submission::new()
        .bind(&reservation, 0, &bo, 0..SIZE, BindFlags::empty())
        .signal(&done, 1);
    let entry = lists.entry(0, session.queue(), &list)?;
    let first = ring.one(&entry)?;
    if first.result != 0 {
        first.is("a list that binds", -EAGAIN)?;
        stays_below("what was refused", &done, 1)?;
        ring.one(&entry.flags(ASYNC))?
            .is("a list that binds, with IOSQE_ASYNC", 0)?;
    }
    reaches("a list that binds", &done, 1, None)?;
    let mut reader = Session::in_vm(session.vm(), QueueMode::Bounded)?;
    let seen = crate::rig::gpu_words(&mut reader, &[reservation.gpu_va()])?;
    ensure(
        seen == [42],
        format!("the memory that was bound holds {seen:?}"),
    )
}

/// Submissions that are wrong in one thing.
fn wrong(rig: &Rig, good: sys::Submit) -> Vec<(&'static str, sys::Submit)> {
    let bo = rig.bo.handle();
    vec![
        ("to no queue", sys::Submit { queue: 0, ..good }),
        ("of no object", sys::Submit { arg_bo: 0, ..good }),
        ("of a guest object", sys::Submit { arg_bo: bo, ..good }),
        ("of nothing", sys::Submit { nr_ops: 0, ..good }),
        (
            "of too much",
            sys::Submit {
                nr_ops: 1025,
                ..good
            },
        ),
        (
            "with a stride of 12",
            sys::Submit {
                op_stride: 12,
                ..good
            },
        ),
        (
            "at a bad offset",
            sys::Submit {
                arg_offset: 4,
                ..good
            },
        ),
        (
            "behind the end",
            sys::Submit {
                arg_offset: 1 << 40,
                ..good
            },
        ),
        (
            "around the end",
            sys::Submit {
                arg_offset: u64::MAX - 7,
                ..good
            },
        ),
        (
            "with an unknown flag",
            sys::Submit {
                flags: 1 << 31,
                ..good
            },
        ),
        ("with a stray number", sys::Submit { seq: 1, ..good }),
        (
            "with a stray value",
            sys::Submit {
                done_value: 1,
                ..good
            },
        ),
        (
            "with a stray syncobj",
            sys::Submit {
                out_syncobj: 1,
                ..good
            },
        ),
    ]
}

fn bad(node: &Path) -> Result {
    let (rig, mut ring) = door::rig(node)?;
    let lists = Lists::new(&rig.device, 2)?;
    let good = lists.write(0, &rig.queue, &Submission::new().signal(&rig.fence, 1))?;
    for (what, arg) in wrong(&rig, good) {
        as_refused::<ioctl::Submit>(&rig.device, &mut ring, what, arg)?;
    }
    // Records.
    let record = sys::OpFence {
        opcode: sys::OP_FENCE_SIGNAL,
        fence: rig.fence.handle(),
        value: 1,
        ..Default::default()
    };
    let unknown = sys::OpFence {
        fence: 0x7fff_fff0,
        ..record
    };
    let bounded = sys::OpFence {
        opcode: sys::OP_FENCE_WAIT,
        value: 9,
        ..record
    };
    let bad = [
        (
            "of an unknown operation",
            sys::OpFence {
                opcode: 99,
                ..record
            },
        ),
        ("with padding", sys::OpFence { pad: 1, ..record }),
        ("of an unknown fence", unknown),
        ("that may never end", bounded),
    ];
    for (what, record) in bad {
        use zerocopy::IntoBytes;
        lists.args().mapping().write(0, record.as_bytes())?;
        as_refused::<ioctl::Submit>(&rig.device, &mut ring, what, good)?;
    }
    let mut done = good;
    done.flags = sys::SUBMIT_DONE_FENCE | sys::SUBMIT_CQE_ON_DONE;
    done.done_fence = 0x7fff_fff0;
    let entry = Entry::new::<ioctl::Submit>(rig.device.as_fd(), &done, 0);
    ring.one(&entry)?
        .is("with an unknown done fence", -ENOENT)?;
    if rig.queue.query()?.1 != 0 {
        return failed("something that was refused counts as submitted");
    }
    stays_below("what was refused", &rig.fence, 1)
}
