// SPDX-License-Identifier: MIT OR Apache-2.0
//! dma_fences out of bounded queues, and syncobjs in queue order.

use std::os::fd::AsFd;
use std::path::Path;

use libc::{EDEADLK, EINVAL, ENOENT};
use libvaccel::{ioctl, sys, Features, QueueMode, Submission, SyncObjWait};
use zerocopy::IntoBytes;

use super::Case;
use crate::expect::refused;
use crate::foreign::pending::Pending;
use crate::foreign::sw_sync::SwSync;
use crate::foreign::sync_file::{Status, SyncFile};
use crate::rig::{ensure, needs, soon, Result, Rig};
use crate::sync::{
    absent, fails_with, fence, has_status, has_word, reaches, session, signals, stays_below,
    Program,
};

pub const CASES: &[Case] = &[
    Case {
        name: "out-fence",
        proves: "an out-fence is there when the submission is accepted, binary or at a point, signals \
                 when its work is done and not before, and what the work wrote is there then",
        run: out_fence,
    },
    Case {
        name: "out-fence-order",
        proves: "out-fences of one queue signal in its order, each behind its own work",
        run: in_order,
    },
    Case {
        name: "out-fence-kept",
        proves: "an out-fence signals as a success after the queue's file has let go of all but the \
                 queue, and a sync_file of it outlives the file",
        run: kept,
    },
    Case {
        name: "out-fence-amid",
        proves: "a bounded queue's SYNCOBJ_SIGNAL signals when the queue gets there, ahead of what \
                 follows",
        run: amid,
    },
    Case {
        name: "out-fence-refused",
        proves: "long-running queues give no out-fence, and out-fields without their flag or of what is \
                 not there are refused before anything runs",
        run: refused_out,
    },
    Case {
        name: "syncobj-signal-late",
        proves: "a long-running queue's SYNCOBJ_SIGNAL makes a fence only when the queue got there, and \
                 what ran before is done then",
        run: signal_late,
    },
    Case {
        name: "syncobj-wait",
        proves: "queues of both kinds wait for fences of other drivers, whatever these end with, before \
                 they run what follows",
        run: wait,
    },
    Case {
        name: "syncobj-wait-failed",
        proves: "work behind the wait for a fence that fails runs",
        run: wait_failed,
    },
    Case {
        name: "syncobj-wait-missing",
        proves: "a long-running queue waits for a point that is yet to come if told to; a bounded one \
                 does not, and nothing of the submission runs",
        run: wait_missing,
    },
    Case {
        name: "syncobj-op-bad",
        proves: "records of syncobj operations with unknown flags, fields that do not belong or of what \
                 is not there are refused",
        run: bad,
    },
    Case {
        name: "bounded-import",
        proves: "a bounded queue waits for a value that an import is to bring, and is refused one that \
                 nobody is",
        run: bounded_import,
    },
];

fn out_fence(node: &Path) -> Result {
    let (device, session) = session(node, QueueMode::Bounded)?;
    for point in [0, 7] {
        let out = session.buffer(4)?;
        let job = Program::late_word(&session, 250, out.gpu_va(), 3)?;
        let syncobj = device.create_syncobj(false)?;
        session
            .queue()
            .submit(&job.run().out_syncobj(&syncobj, point))?;
        // It is there without being waited for.
        let file = SyncFile::from(syncobj.export_sync_file(point)?);
        has_status("while the job runs", &file, Status::Active)?;
        has_word("while the job runs", &out, 0)?;
        syncobj.wait(point, soon(), SyncObjWait::empty())?;
        has_word("when the fence has signalled", &out, 3)?;
        ensure(file.wait(soon())?, "the sync_file does not poll")?;
        has_status("when the job is done", &file, Status::Signalled)?;
        ensure(
            syncobj.query()? == point,
            "the timeline is not at its point",
        )?;
    }
    Ok(())
}

fn in_order(node: &Path) -> Result {
    const COUNT: u64 = 8;
    let (device, session) = session(node, QueueMode::Bounded)?;
    let out = session.buffer(4)?;
    let syncobj = device.create_syncobj(false)?;
    // Their code has to stay until they have run.
    let mut jobs = Vec::new();
    for number in 1..=COUNT {
        let job = Program::late_word(&session, 30, out.gpu_va(), number as u32)?;
        session
            .queue()
            .submit(&job.run().out_syncobj(&syncobj, number))?;
        jobs.push(job);
    }
    let submitted = syncobj.query_last_submitted()?;
    ensure(
        submitted == COUNT,
        format!("{submitted} of {COUNT} points have a fence"),
    )?;
    for number in 1..=COUNT {
        syncobj.wait(number, soon(), SyncObjWait::empty())?;
        let done = out.read_u32(1)?;
        ensure(
            done.first().is_some_and(|word| u64::from(*word) >= number),
            format!("at point {number} the memory holds {done:?}"),
        )?;
    }
    ensure(syncobj.query()? == COUNT, "the timeline is not at its end")
}

fn kept(node: &Path) -> Result {
    let (device, session) = session(node, QueueMode::Bounded)?;
    let out = session.buffer(4)?;
    let job = Program::late_word(&session, 100, out.gpu_va(), 3)?;
    let syncobj = device.create_syncobj(false)?;
    session
        .queue()
        .submit(&job.run().out_syncobj(&syncobj, 0))?;
    let file = SyncFile::from(syncobj.export_sync_file(0)?);
    syncobj.close()?;
    ensure(file.wait(soon())?, "the fence does not signal")?;
    has_word("when the fence has signalled", &out, 3)?;
    drop((job, out, session, device));
    has_status("with the file closed", &file, Status::Signalled)
}

fn amid(node: &Path) -> Result {
    let (device, session) = session(node, QueueMode::Bounded)?;
    let (first, second) = (session.buffer(4)?, session.buffer(4)?);
    let early = Program::late_word(&session, 50, first.gpu_va(), 1)?;
    let late = Program::late_word(&session, 400, second.gpu_va(), 2)?;
    let syncobj = device.create_syncobj(false)?;
    let list = early.run().signal_syncobj(&syncobj, 1);
    session
        .queue()
        .submit(&late.exec(list).out_syncobj(&syncobj, 2))?;
    syncobj.wait(1, soon(), SyncObjWait::empty())?;
    has_word("at the first point", &first, 1)?;
    let file = SyncFile::from(syncobj.export_sync_file(2)?);
    has_status("at the first point", &file, Status::Active)?;
    has_word("at the first point", &second, 0)?;
    syncobj.wait(2, soon(), SyncObjWait::empty())?;
    has_word("at the second point", &second, 2)
}

fn refused_out(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let device = &rig.device;
    needs(device, Features::SYNC_BRIDGE)?;
    let syncobj = device.create_syncobj(false)?;
    let list = Submission::new().signal(&rig.fence, 1);
    let long = libvaccel::QueueOptions::new(QueueMode::LongRunning);
    let long = rig.vm.create_queue(&long)?;
    fails_with(
        "of a long-running queue",
        long.submit(&list.clone().out_syncobj(&syncobj, 0)),
        EINVAL,
    )?;
    let op = sys::OpFence {
        opcode: sys::OP_FENCE_SIGNAL,
        fence: rig.fence.handle(),
        value: 1,
        ..Default::default()
    };
    rig.arg.mapping().write(0, op.as_bytes())?;
    let good = sys::Submit {
        queue: rig.queue.handle(),
        flags: sys::SUBMIT_OUT_SYNCOBJ,
        arg_bo: rig.arg.handle(),
        nr_ops: 1,
        op_stride: 64,
        out_syncobj: syncobj.handle(),
        ..Default::default()
    };
    let refuse = |what: &str, arg, errno| refused::<ioctl::Submit>(device, what, arg, &[errno]);
    for out_syncobj in [0, 0x7fff_fff0] {
        let bad = sys::Submit {
            out_syncobj,
            ..good
        };
        refuse(&format!("to syncobj {out_syncobj:#x}"), bad, ENOENT)?;
    }
    refuse("without its flag", sys::Submit { flags: 0, ..good }, EINVAL)?;
    let point = sys::Submit {
        flags: 0,
        out_syncobj: 0,
        out_point: 1,
        ..good
    };
    refuse("of a point alone", point, EINVAL)?;
    absent("nothing was accepted", &syncobj, 0)?;
    stays_below("nothing was accepted", &rig.fence, 1)?;
    rig.queue.submit(&list.out_syncobj(&syncobj, 0))?;
    signals("what is good", &syncobj, 0, None)
}

fn signal_late(node: &Path) -> Result {
    let (device, session) = session(node, QueueMode::LongRunning)?;
    let gate = fence(session.vm())?;
    let out = session.buffer(4)?;
    let job = Program::late_word(&session, 0, out.gpu_va(), 4)?;
    for point in [0, 9] {
        let syncobj = device.create_syncobj(false)?;
        let value = gate.value()? + 1;
        let list = job
            .exec(Submission::new().wait(&gate, value))
            .signal_syncobj(&syncobj, point);
        session.queue().submit(&list)?;
        absent("the gate is closed", &syncobj, point)?;
        gate.signal(value)?;
        signals("the gate is open", &syncobj, point, None)?;
        has_word("the job has run", &out, 4)?;
    }
    Ok(())
}

fn wait(node: &Path) -> Result {
    for mode in [QueueMode::Bounded, QueueMode::LongRunning] {
        let (device, session) = session(node, mode)?;
        for pending in Pending::each()? {
            let out = session.buffer(4)?;
            let job = Program::late_word(&session, 0, out.gpu_va(), 5)?;
            let (binary, timeline) = (device.create_syncobj(false)?, device.create_syncobj(false)?);
            binary.import_sync_file(0, pending.file().as_fd())?;
            timeline.import_sync_file(3, pending.file().as_fd())?;
            let value = session.fence().value()? + 1;
            let list = Submission::new()
                .wait_syncobj(&binary, 0)
                .wait_syncobj(&timeline, 2);
            session
                .queue()
                .submit(&job.exec(list).signal(session.fence(), value))?;
            // The fence that was there then counts, whatever the syncobj has now.
            binary.signal(0)?;
            stays_below("the fence has not signalled", session.fence(), value)?;
            has_word("the fence has not signalled", &out, 0)?;
            pending.signal()?;
            reaches("the fence has signalled", session.fence(), value, None)?;
            has_word("the fence has signalled", &out, 5)?;
        }
    }
    Ok(())
}

fn wait_failed(node: &Path) -> Result {
    for mode in [QueueMode::Bounded, QueueMode::LongRunning] {
        let (device, session) = session(node, mode)?;
        let timeline = SwSync::open()?;
        let out = session.buffer(4)?;
        let job = Program::late_word(&session, 0, out.gpu_va(), 5)?;
        let syncobj = device.create_syncobj(false)?;
        syncobj.import_sync_file(0, timeline.fence(1)?.as_fd())?;
        let list = Submission::new().wait_syncobj(&syncobj, 0);
        session
            .queue()
            .submit(&job.exec(list).done(session.fence(), 1))?;
        stays_below("nothing has happened", session.fence(), 1)?;
        drop(timeline);
        reaches("the fence has failed", session.fence(), 1, None)?;
        has_word("the fence has failed", &out, 5)?;
    }
    Ok(())
}

fn wait_missing(node: &Path) -> Result {
    let (device, session) = session(node, QueueMode::LongRunning)?;
    let out = session.buffer(4)?;
    let job = Program::late_word(&session, 0, out.gpu_va(), 6)?;
    let fence = session.fence();
    for point in [0, 4] {
        let syncobj = device.create_syncobj(false)?;
        let plain = Submission::new().wait_syncobj(&syncobj, point);
        let later = Submission::new().wait_syncobj_for_submit(&syncobj, point);
        let queue = session.queue();
        fails_with(
            "a point to come",
            queue.submit(&job.exec(plain.clone())),
            EINVAL,
        )?;
        let value = fence.value()? + 1;
        queue.submit(&job.exec(later.clone()).signal(fence, value))?;
        stays_below("there is no fence", fence, value)?;
        let pending = Pending::any()?;
        syncobj.import_sync_file(point, pending.file().as_fd())?;
        stays_below("there is one that has not signalled", fence, value)?;
        pending.signal()?;
        reaches("it has signalled", fence, value, None)?;
        has_word("it has signalled", &out, 6)?;

        let (_device, bounded) = crate::sync::session(node, QueueMode::Bounded)?;
        let there = bounded.vm().device();
        let empty = there.create_syncobj(false)?;
        let list = Submission::new()
            .signal(bounded.fence(), 1)
            .wait_syncobj_for_submit(&empty, point);
        fails_with("of a bounded queue", bounded.queue().submit(&list), EDEADLK)?;
        let list = Submission::new()
            .signal(bounded.fence(), 1)
            .wait_syncobj(&empty, point);
        fails_with("of a bounded queue", bounded.queue().submit(&list), EINVAL)?;
        stays_below("nothing of it runs", bounded.fence(), 1)?;
    }
    Ok(())
}

fn bad(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let device = &rig.device;
    needs(device, Features::SYNC_BRIDGE)?;
    let syncobj = device.create_syncobj(true)?;
    let good = sys::OpSyncobj {
        opcode: sys::OP_SYNCOBJ_WAIT,
        syncobj: syncobj.handle(),
        ..Default::default()
    };
    let submit = sys::Submit {
        queue: rig.queue.handle(),
        arg_bo: rig.arg.handle(),
        nr_ops: 1,
        op_stride: 64,
        ..Default::default()
    };
    let refuse = |what: &str, op: sys::OpSyncobj, errno| {
        rig.arg.mapping().write(0, op.as_bytes())?;
        refused::<ioctl::Submit>(device, what, submit, &[errno])
    };
    let signal = sys::OpSyncobj {
        opcode: sys::OP_SYNCOBJ_SIGNAL,
        ..good
    };
    for op in [good, signal] {
        let what = format!("operation {}", op.opcode);
        let mut known = sys::SYNC_TIMELINE;
        if op.opcode == sys::OP_SYNCOBJ_WAIT {
            known |= sys::SYNC_WAIT_FOR_SUBMIT;
        }
        for bit in (0..32).map(|bit| 1u32 << bit) {
            if bit & known == 0 {
                let bad = sys::OpSyncobj { flags: bit, ..op };
                refuse(&format!("{what} with flag {bit:#x}"), bad, EINVAL)?;
            }
        }
        refuse(&what, sys::OpSyncobj { pad: 1, ..op }, EINVAL)?;
        for index in 0..op.reserved.len() {
            let mut bad = op;
            if let Some(word) = bad.reserved.get_mut(index) {
                *word = 1 << 63;
            }
            refuse(&format!("{what} with reserved {index}"), bad, EINVAL)?;
        }
        for syncobj in [0, 0x7fff_fff0] {
            refuse(&what, sys::OpSyncobj { syncobj, ..op }, ENOENT)?;
        }
        let point = sys::OpSyncobj { point: 1, ..op };
        refuse(
            &format!("{what} of a point without its flag"),
            point,
            EINVAL,
        )?;
        let flag = sys::OpSyncobj {
            flags: sys::SYNC_TIMELINE,
            ..op
        };
        refuse(&format!("{what} of point 0"), flag, EINVAL)?;
    }
    let list = Submission::new()
        .wait_syncobj(&syncobj, 0)
        .signal(&rig.fence, 1);
    rig.queue.submit(&list)?;
    reaches("what is good", &rig.fence, 1, None)
}

fn bounded_import(node: &Path) -> Result {
    let (_device, session) = session(node, QueueMode::Bounded)?;
    let out = session.buffer(4)?;
    let job = Program::late_word(&session, 0, out.gpu_va(), 9)?;
    let input = fence(session.vm())?;
    let list = |value| {
        job.exec(Submission::new().wait(&input, value))
            .signal(session.fence(), 1)
    };
    fails_with("a value to come", session.queue().submit(&list(5)), EDEADLK)?;
    let pending = Pending::any()?;
    input.import_sync_file(pending.file().as_fd(), 5)?;
    fails_with(
        "a value beyond the import's",
        session.queue().submit(&list(6)),
        EDEADLK,
    )?;
    session.queue().submit(&list(5))?;
    stays_below("the import is to come", session.fence(), 1)?;
    pending.signal()?;
    reaches("the import has come", session.fence(), 1, None)?;
    has_word("the job has run", &out, 9)
}
