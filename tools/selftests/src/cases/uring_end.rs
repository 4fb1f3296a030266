// SPDX-License-Identifier: MIT OR Apache-2.0
//! The end of rings, files, processes and the adapter while commands are pending: the census after each
//! case says whether something stayed.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use libc::{ENODEV, ETIME};
use libvaccel::{ioctl, sys, Deadline, Device, Features, QueueMode, QueueOptions, Submission};

use super::lost::{and_back, until};
use super::uring_cancel::{begin, Seen};
use super::{Case, HelperEntry};
use crate::expect::accepted;
use crate::helper::{self, Helper};
use crate::host::Host;
use crate::rig::{check_device_works, ensure, eventually, failed, needs, soon, Result, Rig};
use crate::sync::{fence, within};
use crate::uring::door::{self, wait_for, Lists};
use crate::uring::{Entry, Ring, Setup, CQE32, DEFER_TASKRUN, SQE128, SQPOLL};

pub const CASES: &[Case] = &[
    Case {
        name: "uring-end-ring",
        proves: "rings of each kind are closed with 2000 waits pending, at once, and the file is as good \
                 as before",
        run: end_of_ring,
    },
    Case {
        name: "uring-end-file",
        proves: "waits outlive the descriptor they were made by, end at their deadline, and with the ring \
                 goes the file",
        run: end_of_file,
    },
    Case {
        name: "kill-uring-waits",
        proves: "a process killed with 2000 waits pending is gone at once and leaves nothing",
        run: |node| killed(node, "waits"),
    },
    Case {
        name: "kill-uring-polled",
        proves: "the same of a process whose entries a thread of the kernel takes",
        run: |node| killed(node, "polled"),
    },
    Case {
        name: "kill-uring-mute",
        proves: "a process killed while submissions and bindings are queued for a host that does not \
                 answer is gone before the host is back, and leaves nothing",
        run: |node| killed(node, "mute"),
    },
    Case {
        name: "lost-uring",
        proves: "when the virtual GPU is taken back each pending command of every kind completes once, \
                 with ENODEV, new ones are refused so, and the file and the ring can be closed",
        run: |node| and_back(node, |host| lose(node, host)),
    },
    Case {
        name: "lost-uring-mute",
        proves: "the same while the host does not answer and submissions wait for it",
        run: |node| and_back(node, |host| lose_mute(node, host)),
    },
];

pub const HELPERS: &[HelperEntry] = &[("uring-hold", hold)];

const COUNT: u64 = 2000;
/// The end of thousands of waits takes less, on a slow machine too.
const AT_ONCE: Duration = Duration::from_secs(15);

fn end_of_ring(node: &Path) -> Result {
    let (rig, _) = door::rig(node)?;
    for flags in [0, SQPOLL, DEFER_TASKRUN] {
        // With less room than there are completions.
        for completions in [256, 8192] {
            let mut ring = Ring::new(&Setup {
                flags: SQE128 | CQE32 | flags,
                completions,
                ..Default::default()
            })?;
            begin(&mut ring, &rig, COUNT / 2)?;
            let since = Instant::now();
            drop(ring);
            let took = since.elapsed();
            ensure(took < AT_ONCE, format!("to close a ring took {took:?}"))?;
        }
    }
    // What a ring had ends behind its close.
    eventually("waits of closed rings stay", || {
        let mut ring = Ring::usual()?;
        let gone = ring.one(&Entry::cancel(rig.device.as_fd(), 1, 1))?;
        Ok(gone.result == -libc::ENOENT)
    })?;
    check_device_works(&rig.device)
}

fn end_of_file(node: &Path) -> Result {
    door::open(node)?;
    let mut ring = Ring::usual()?;
    {
        let file: OwnedFd = std::fs::File::options()
            .read(true)
            .write(true)
            .open(node)?
            .into();
        // What is made by number goes with the file only.
        let device = Device::from_fd(file, node);
        let vm = accepted::<ioctl::VmCreate>(&device, "a vm", sys::VmCreate::default())?;
        let arg = sys::FenceCreate {
            vm: vm.vm,
            ..Default::default()
        };
        let fence = accepted::<ioctl::FenceCreate>(&device, "a fence", arg)?.fence;
        for (user_data, deadline) in [(1, within(400)), (2, Deadline::NEVER), (3, soon())] {
            let arg = sys::FenceWait {
                fence,
                value: 1,
                deadline_ns: deadline.as_ns(),
                ..Default::default()
            };
            ring.push(&Entry::new::<ioctl::FenceWait>(
                device.as_fd(),
                &arg,
                user_data,
            ))?;
        }
        ring.submit()?;
    }
    ring.stays_quiet("the descriptor is closed")?;
    let completions = ring.collect(1, soon())?;
    for completion in completions {
        ensure(completion.user_data == 1, "another one ended")?;
        completion.is("a deadline", -ETIME)?;
    }
    ring.stays_quiet("two are left")?;
    drop(ring);
    check_device_works(&Device::open(node)?)
}

fn killed(node: &Path, state: &str) -> Result {
    let device = door::open(node)?;
    let name = node.display().to_string();
    for _ in 0..2 {
        let helper = Helper::start_with("uring-hold", &[state, &name], device.as_fd())?;
        ensure(
            helper.said == "holding",
            format!("the process: {}", helper.said),
        )?;
        let since = Instant::now();
        helper.kill()?;
        let took = since.elapsed();
        ensure(
            took < AT_ONCE,
            format!("the process was gone after {took:?}"),
        )?;
        Host::open(node)?.mute(Duration::ZERO)?;
    }
    check_device_works(&device)
}

/// The process: the state, and the node.
fn hold(arguments: &[String]) -> Result {
    let [state, node] = arguments else {
        return failed("a state and a node");
    };
    let node = Path::new(node);
    let rig = Rig::new(node)?;
    let polled = if state == "polled" { SQPOLL } else { 0 };
    let mut ring = Ring::new(&Setup {
        flags: SQE128 | CQE32 | polled,
        completions: 8192,
        ..Default::default()
    })?;
    begin(&mut ring, &rig, COUNT)?;
    let lists = Lists::new(&rig.device, 1)?;
    if state == "mute" {
        Host::open(node)?.mute(MUTE)?;
        queue_much(&rig, &lists, &mut ring)?;
    }
    helper::say("holding")?;
    std::thread::sleep(Duration::from_secs(600));
    failed("nobody killed the process")
}

/// How long the host says nothing.
const MUTE: Duration = Duration::from_secs(40);

/// Submissions and bindings, more than are done before the host has to say something.
fn queue_much(rig: &Rig, lists: &Lists, ring: &mut Ring) -> Result {
    let list = Submission::new().signal(&rig.fence, 1);
    let submit = lists.entry(0, &rig.queue, &list)?;
    let bind = sys::Bind {
        vm: rig.vm.handle(),
        bo: rig.bo.handle(),
        size: rig.bo.size(),
        ..Default::default()
    };
    for number in COUNT..COUNT + 100 {
        ring.queue(&submit.with(32, &number.to_ne_bytes()))?;
        if number % 10 == 0 {
            let entry = Entry::new::<ioctl::Bind>(rig.device.as_fd(), &bind, number + 1000);
            ring.queue(&entry)?;
        }
    }
    Ok(ring.submit()?)
}

/// All that is pending must end once; what it ends with.
fn all_end(ring: &mut Ring, count: usize) -> Result<Seen> {
    let mut seen = Seen::default();
    while seen.count() < count {
        let completions = ring.wait(1, soon())?;
        ensure(
            !completions.is_empty(),
            format!("{} of {count} commands have ended", seen.count()),
        )?;
        seen.add(completions)?;
    }
    ring.stays_quiet("all have ended")?;
    Ok(seen)
}

fn lose(node: &Path, host: &mut Host) -> Result {
    let (rig, _) = door::rig(node)?;
    needs(&rig.device, Features::SYNC_BRIDGE)?;
    let mut ring = Ring::deep(4096)?;
    begin(&mut ring, &rig, 1000)?;
    let queue = rig
        .vm
        .create_queue(&QueueOptions::new(QueueMode::LongRunning))?;
    let lists = Lists::new(&rig.device, 1)?;
    let (go, done) = (fence(&rig.vm)?, fence(&rig.vm)?);
    let mut submit = lists.write(0, &queue, &Submission::new().wait(&go, 1).done(&done, 1))?;
    submit.flags |= sys::SUBMIT_CQE_ON_DONE;
    let missing = rig.device.create_syncobj(false)?;
    let import = sys::Sync {
        fence: rig.fence.handle(),
        flags: sys::SYNC_TIMELINE | sys::SYNC_WAIT_FOR_SUBMIT,
        value: 1,
        syncobj: missing.handle(),
        point: 1,
        deadline_ns: Deadline::NEVER.as_ns(),
        ..Default::default()
    };
    let file = rig.device.as_fd();
    ring.queue(&Entry::new::<ioctl::Submit>(file, &submit, 5000))?;
    ring.queue(&Entry::new::<ioctl::SyncImport>(file, &import, 5001))?;
    ring.submit()?;
    ring.stays_quiet("all are pending")?;
    host.rescind()?;
    until("the node goes", || !node.exists())?;
    let seen = all_end(&mut ring, 1002)?;
    let others = seen.others(-ENODEV);
    ensure(others.is_empty(), format!("others than ENODEV: {others:?}"))?;
    for entry in [
        wait_for(&rig.fence, 0, Deadline::NEVER, 1),
        Entry::new::<ioctl::Submit>(file, &submit, 2),
    ] {
        ring.one(&entry)?.is("a command after the loss", -ENODEV)?;
    }
    let gone = ring.one(&Entry::cancel(file, 1, 1))?;
    ensure(
        [-ENODEV, -libc::ENOENT].contains(&gone.result),
        format!("CANCEL after the loss: {gone:?}"),
    )
}

fn lose_mute(node: &Path, host: &mut Host) -> Result {
    let (rig, _) = door::rig(node)?;
    let mut ring = Ring::deep(4096)?;
    let lists = Lists::new(&rig.device, 1)?;
    host.mute(MUTE)?;
    begin(&mut ring, &rig, 100)?;
    queue_much(&rig, &lists, &mut ring)?;
    host.rescind()?;
    until("the node goes", || !node.exists())?;
    let seen = all_end(&mut ring, 210)?;
    // The file's process is gone when the host has said so; until then the device keeps its name.
    host.mute(Duration::ZERO)?;
    // Hosts with asynchronous messages have been given some.
    let odd: Vec<_> = seen
        .others(-ENODEV)
        .into_iter()
        .filter(|(_, result)| *result != 0)
        .collect();
    ensure(odd.is_empty(), format!("others than ENODEV: {odd:?}"))
}
