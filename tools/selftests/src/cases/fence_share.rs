// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fences as file descriptors: between vms, files and processes.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use libc::{EACCES, EBADF, EINVAL, EIO, ENOENT, ETIME, EXDEV};
use libvaccel::compute::Session;
use libvaccel::{
    ioctl, sys, Deadline, Device, Features, Fence, FenceFlags, QueueMode, Submission, Vm, VmFlags,
};

use super::sharing::second_node;
use super::{Case, HelperEntry};
use crate::expect::{refused, refuses_the_unknown};
use crate::helper::{self, Helper};
use crate::passing;
use crate::rig::{check_device_works, ensure, failed, open_with, soon, Result, Rig};
use crate::sync::{break_vm, briefly, fails_with, has_word, stays_below, Program};

pub const CASES: &[Case] = &[
    Case {
        name: "fence-share-process",
        proves: "a process that got a fence's descriptor waits for it by CPU and GPU and signals it by \
                 both, and each side sees the other's values",
        run: between_processes,
    },
    Case {
        name: "fence-share-gpu",
        proves: "a queue of another vm waits for an opened fence before its job runs, and a queue's \
                 signal of an opened fence reaches the first",
        run: between_vms,
    },
    Case {
        name: "fence-share-wait-only",
        proves: "a fence opened to wait only cannot be signalled by CPU, operation, done fence or \
                 import, nor passed on as more; waits work",
        run: wait_only,
    },
    Case {
        name: "fence-share-kept",
        proves: "a descriptor keeps fence and value when handle, vm and file are gone, may be opened \
                 again and again, and what is opened is one fence",
        run: kept,
    },
    Case {
        name: "fence-share-refused",
        proves: "a fence that was not made for it is not shared, and what stands for no fence is not \
                 opened",
        run: not_shareable,
    },
    Case {
        name: "fence-share-other-adapter",
        proves: "a fence of another adapter is refused with EXDEV",
        run: other_adapter,
    },
    Case {
        name: "fence-share-failed",
        proves: "when the vm that made a fence fails, waits for it in other vms end with EIO, and these \
                 go on",
        run: failing,
    },
    Case {
        name: "kill-fence-producer",
        proves: "a fence whose maker is killed stays good for a process that opened it, whose wait \
                 ends at its deadline or when it signals the fence itself",
        run: killed,
    },
];

pub const HELPERS: &[HelperEntry] = &[("fence-peer", peer), ("fence-producer", producer)];

fn open(node: &Path) -> Result<(Device, Vm)> {
    let device = open_with(node, Features::FENCE_SHARING)?;
    let vm = device.create_vm(VmFlags::empty())?;
    Ok((device, vm))
}

fn shareable(vm: &Vm, value: u64) -> Result<Fence> {
    Ok(vm.create_fence(FenceFlags::SHAREABLE, value)?)
}

/// The socket that a second process has as its standard input.
fn socket() -> Result<UnixStream> {
    Ok(std::io::stdin().as_fd().try_clone_to_owned()?.into())
}

fn between_processes(node: &Path) -> Result {
    let (_device, vm) = open(node)?;
    let fence = shareable(&vm, 7)?;
    let (near, far) = UnixStream::pair()?;
    passing::send(&near, fence.to_fd(false)?.as_fd())?;
    let name = node.display().to_string();
    let helper = Helper::start_with("fence-peer", &[&name], far.as_fd())?;
    ensure(helper.said == "7", format!("the process: {}", helper.said))?;
    fence.signal(8)?;
    fence.wait(9, soon())?;
    // The process has queued a wait for 10, a job, and a signal of 11.
    stays_below("the process' queue waits", &fence, 10)?;
    fence.signal(10)?;
    fence.wait(11, soon())?;
    fence.wait(12, soon())?;
    helper.finish()
}

/// The other process: standard input is a socket with the fence, the argument the node.
fn peer(arguments: &[String]) -> Result {
    let Some(node) = arguments.first() else {
        return failed("no node was named");
    };
    let fd = passing::receive(&socket()?)?;
    let device = Device::open(node)?;
    let session = Session::with_mode(&device, QueueMode::LongRunning)?;
    let fence = session.vm().open_fence(fd.as_fd())?;
    let out = session.buffer(4)?;
    let job = Program::late_word(&session, 0, out.gpu_va(), 5)?;
    helper::say(&fence.value()?.to_string())?;
    fence.wait(8, soon())?;
    let list = job
        .exec(Submission::new().wait(&fence, 10))
        .signal(&fence, 11);
    session.queue().submit(&list)?;
    fence.signal(9)?;
    fence.wait(11, soon())?;
    has_word("the job is done", &out, 5)?;
    fence.signal(12)?;
    Ok(())
}

fn between_vms(node: &Path) -> Result {
    let (device, vm) = open(node)?;
    let made = shareable(&vm, 0)?;
    for mode in [QueueMode::LongRunning, QueueMode::Bounded] {
        let session = Session::with_mode(&device, mode)?;
        let opened = session.vm().open_fence(made.to_fd(false)?.as_fd())?;
        let out = session.buffer(4)?;
        let job = Program::late_word(&session, 0, out.gpu_va(), 6)?;
        let start = made.value()?;
        let mut list = Submission::new();
        if mode == QueueMode::LongRunning {
            list = list.wait(&opened, start + 1);
        }
        session
            .queue()
            .submit(&job.exec(list).signal(&opened, start + 2))?;
        if mode == QueueMode::LongRunning {
            stays_below("nobody has signalled", &made, start + 2)?;
            has_word("the job has not run", &out, 0)?;
            made.signal(start + 1)?;
        }
        made.wait(start + 2, soon())?;
        has_word("the job has run", &out, 6)?;
        ensure(
            opened.value()? == start + 2,
            "the opened fence has another value",
        )?;
    }
    Ok(())
}

fn wait_only(node: &Path) -> Result {
    let (device, vm) = open(node)?;
    let made = shareable(&vm, 0)?;
    let session = Session::with_mode(&device, QueueMode::LongRunning)?;
    let opened = session.vm().open_fence(made.to_fd(true)?.as_fd())?;
    fails_with("a signal", opened.signal(1), EACCES)?;
    fails_with("a rewind", opened.rewind(0), EACCES)?;
    let queue = session.queue();
    let signal = Submission::new().signal(&opened, 1);
    fails_with("an operation that signals", queue.submit(&signal), EACCES)?;
    let own = session.fence();
    let done = Submission::new().signal(own, 1).done(&opened, 1);
    fails_with("a done fence", queue.submit(&done), EACCES)?;
    ensure(own.value()? == 0, "a refused submission has run in part")?;
    if device.features()?.contains(Features::SYNC_BRIDGE) {
        let signalled = device.create_syncobj(true)?;
        fails_with(
            "an import",
            opened.import_from(&signalled, 0, 1, None),
            EACCES,
        )?;
    }
    fails_with("to pass it on as more", opened.to_fd(false), EACCES)?;
    stays_below("nothing has signalled it", &made, 1)?;

    let again = vm.open_fence(opened.to_fd(true)?.as_fd())?;
    fails_with("a signal of what was passed on", again.signal(1), EACCES)?;
    let list = Submission::new().wait(&opened, 1).signal(own, 2);
    queue.submit(&list)?;
    made.signal(1)?;
    opened.wait(1, soon())?;
    again.wait(1, soon())?;
    own.wait(2, soon())?;
    Ok(())
}

fn kept(node: &Path) -> Result {
    let (device, vm) = open(node)?;
    let made = shareable(&vm, 3)?;
    let fd = made.to_fd(false)?;
    let second_fd = made.to_fd(false)?;
    made.signal(4)?;
    made.close()?;
    vm.close()?;
    drop(device);
    let (_device, vm) = open(node)?;
    let (first, second) = (
        vm.open_fence(fd.as_fd())?,
        vm.open_fence(second_fd.as_fd())?,
    );
    drop(fd);
    ensure(
        first.handle() != second.handle(),
        "two that were opened have one handle",
    )?;
    ensure(
        (first.value()?, second.value()?) == (4, 4),
        "the value did not stay",
    )?;
    first.signal(5)?;
    second.wait(5, soon())?;
    first.close()?;
    second.signal(6)?;
    let other = Device::open(node)?;
    let third = other
        .create_vm(VmFlags::empty())?
        .open_fence(second_fd.as_fd())?;
    ensure(third.value()? == 6, "a later one has another value")?;
    second.close()?;
    // Descriptors again of what is only open, after all that there were are closed.
    drop(second_fd);
    let fourth = vm.open_fence(third.to_fd(false)?.as_fd())?;
    third.signal(7)?;
    fourth.wait(7, soon())?;
    Ok(())
}

fn not_shareable(node: &Path) -> Result {
    open_with(node, Features::FENCE_SHARING)?;
    let rig = Rig::new(node)?;
    let device = &rig.device;
    let to_fd = sys::FenceFd {
        fence: rig.fence.handle(),
        ..Default::default()
    };
    let refuse_to =
        |what: &str, arg, errno| refused::<ioctl::FenceToFd>(device, what, arg, &[errno]);
    refuse_to("of one not made for it", to_fd, EINVAL)?;
    let shared = shareable(&rig.vm, 0)?;
    let good = sys::FenceFd {
        fence: shared.handle(),
        ..Default::default()
    };
    refuses_the_unknown::<ioctl::FenceToFd>(device, &good, sys::FENCE_WAIT_ONLY)?;
    let with_vm = sys::FenceFd {
        vm: rig.vm.handle(),
        ..good
    };
    refuse_to("with a vm", with_vm, EINVAL)?;
    for fence in [0, 0x7fff_fff0] {
        refuse_to("of no fence", sys::FenceFd { fence, ..good }, ENOENT)?;
    }
    let descriptor = shared.to_fd(false)?;
    let from_fd = sys::FenceFd {
        vm: rig.vm.handle(),
        fd: descriptor.as_raw_fd(),
        ..Default::default()
    };
    refuses_the_unknown::<ioctl::FenceFromFd>(device, &from_fd, 0)?;
    let refuse_from =
        |what: &str, arg, errno| refused::<ioctl::FenceFromFd>(device, what, arg, &[errno]);
    for vm in [0, 0x7fff_fff0] {
        refuse_from("in no vm", sys::FenceFd { vm, ..from_fd }, ENOENT)?;
    }
    for fd in [-1, 9999] {
        refuse_from("of no descriptor", sys::FenceFd { fd, ..from_fd }, EBADF)?;
    }
    let null = File::open("/dev/null")?;
    let syncobj = device.create_syncobj(true)?;
    let (syncobj, sync_file) = (syncobj.to_fd()?, syncobj.export_sync_file(0)?);
    let dma_buf = rig.bo.export()?;
    for (what, fd) in [
        ("/dev/null", null.as_fd()),
        ("a syncobj", syncobj.as_fd()),
        ("a sync_file", sync_file.as_fd()),
        ("a dma-buf", dma_buf.as_fd()),
        ("the node", device.as_fd()),
    ] {
        let fd = fd.as_raw_fd();
        refuse_from(what, sys::FenceFd { fd, ..from_fd }, EINVAL)?;
    }
    rig.vm.open_fence(descriptor.as_fd())?.close()?;
    // Nor is a fence's descriptor anything else.
    ensure(
        device.import(descriptor.as_fd()).is_err()
            && device.open_syncobj(descriptor.as_fd()).is_err(),
        "a fence is taken for a dma-buf or a syncobj",
    )
}

fn other_adapter(node: &Path) -> Result {
    let (_device, vm) = open(node)?;
    let second = Device::open(second_node(node)?)?;
    let there = second.create_vm(VmFlags::empty())?;
    let fence = shareable(&vm, 0)?;
    fails_with(
        "a fence of another adapter",
        there.open_fence(fence.to_fd(false)?.as_fd()),
        EXDEV,
    )?;
    check_device_works(&second)
}

fn failing(node: &Path) -> Result {
    let (device, vm) = open(node)?;
    let other = device.create_vm(VmFlags::empty())?;
    let made = shareable(&vm, 0)?;
    let opened = other.open_fence(made.to_fd(false)?.as_fd())?;
    let waited = std::thread::scope(|scope| {
        let waiter = scope.spawn(|| opened.wait(1, soon()));
        std::thread::sleep(std::time::Duration::from_millis(20));
        break_vm(&vm)?;
        Ok::<_, crate::rig::Problem>(waiter.join())
    })?;
    let Ok(waited) = waited else {
        return failed("a thread died");
    };
    fails_with("a wait in another vm", waited, EIO)?;
    fails_with("a later one", opened.wait(1, Deadline::NOW), EIO)?;
    let mut session = Session::in_vm(&other, QueueMode::Bounded)?;
    let out = session.buffer(4)?;
    crate::rig::gpu_set(&mut session, out.gpu_va(), 3)?;
    has_word("the other vm goes on", &out, 3)
}

fn killed(node: &Path) -> Result {
    let (_device, vm) = open(node)?;
    let (near, far) = UnixStream::pair()?;
    let name = node.display().to_string();
    let helper = Helper::start_with("fence-producer", &[&name], far.as_fd())?;
    ensure(
        helper.said == "working",
        format!("the process: {}", helper.said),
    )?;
    let opened = vm.open_fence(passing::receive(&near)?.as_fd())?;
    opened.wait(1, soon())?;
    let waited = std::thread::scope(|scope| {
        let waiter = scope.spawn(|| opened.wait(2, soon()));
        let killed = helper.kill();
        let late = opened.wait(2, briefly());
        let signalled = opened.signal(2);
        (waiter.join(), killed, late, signalled)
    });
    let (Ok(waited), killed, late, signalled) = waited else {
        return failed("a thread died");
    };
    killed?;
    fails_with("a wait for the dead", late, ETIME)?;
    signalled?;
    ensure(waited?.value == 2, "a wait saw another value")?;
    check_device_works(&Device::open(node)?)
}

/// The maker of a fence: standard input is a socket, the argument the node.
fn producer(arguments: &[String]) -> Result {
    let Some(node) = arguments.first() else {
        return failed("no node was named");
    };
    let device = Device::open(node)?;
    let session = Session::new(&device)?;
    let fence = shareable(session.vm(), 0)?;
    passing::send(&socket()?, fence.to_fd(false)?.as_fd())?;
    fence.signal(1)?;
    // What would signal 2 is behind work that does not end.
    let endless = Program::endless(&session)?;
    session.queue().submit(&endless.run().signal(&fence, 2))?;
    helper::say("working")?;
    std::thread::sleep(std::time::Duration::from_secs(600));
    failed("nobody killed the process")
}
