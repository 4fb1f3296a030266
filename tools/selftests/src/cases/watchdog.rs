// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fences that have to signal whatever becomes of the work: hung jobs, queues and processes that go,
//! and a host that is silent.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use libc::{ECANCELED, EINVAL, EIO, ETIME};
use libvaccel::compute::Session;
use libvaccel::{
    ioctl, sys, Deadline, Features, Queue, QueueMode, QueueOptions, State, SyncObj, SyncObjWait,
};

use super::{Case, HelperEntry};
use crate::expect::{accepted, refused};
use crate::foreign::sync_file::{Status, SyncFile};
use crate::helper::{self, Helper};
use crate::host::Host;
use crate::passing;
use crate::rig::{
    check_device_works, ensure, eventually, failed, open_with, soon, Problem, Result, Rig,
};
use crate::sync::{
    absent, fails_with, fence, has_status, has_word, session, signals, stays_below, within, Program,
};
use crate::uevent::Uevents;

pub const CASES: &[Case] = &[
    Case {
        name: "watchdog-limits",
        proves: "a bounded queue takes a time limit from 10 ms to the driver's, a long-running one none",
        run: limits,
    },
    Case {
        name: "watchdog-hung",
        proves: "a job that makes no progress gives its out-fence ETIME and those behind it ECANCELED, \
                 ends its vm with all that waits for it, and disturbs no other",
        run: hung,
    },
    Case {
        name: "watchdog-report",
        proves: "a hung job is told to user space: an event that names the device and the task, and a \
                 core dump where the kernel keeps them",
        run: report,
    },
    Case {
        name: "watchdog-progress",
        proves: "jobs that together take longer than the limit, each less, are all done",
        run: progress,
    },
    Case {
        name: "watchdog-waits",
        proves: "the time that a queue waits for a fence of another driver is not held against its work",
        run: waiting,
    },
    Case {
        name: "watchdog-long-running",
        proves: "work on a long-running queue, and on a bounded one that no dma_fence stands for, runs \
                 longer than the driver's limit",
        run: long_running,
    },
    Case {
        name: "watchdog-queue-closed",
        proves: "when a queue goes its out-fences end with ECANCELED at once, and its vm goes on",
        run: queue_closed,
    },
    Case {
        name: "watchdog-queue-closed-late",
        proves: "the same when the code that the queue runs was closed before it: it is the queue's end \
                 that ends its work",
        run: queue_closed_late,
    },
    Case {
        name: "kill-submitter",
        proves: "when a process is killed in the middle of its work another one's wait for its out-fence \
                 ends with an error",
        run: killed,
    },
    Case {
        name: "watchdog-vm-failed",
        proves: "when the host ends a vm its first out-fence has EIO, ETIME if it hung, and those behind \
                 it ECANCELED",
        run: vm_failed,
    },
    Case {
        name: "mute-host",
        proves: "while the host is silent for less than the limit what is reached is known without it, \
                 and afterwards nothing is lost: values, points and out-fences",
        run: mute,
    },
    Case {
        name: "lost-event",
        proves: "out-fences of work whose events are lost signal within the limit, as a success",
        run: lost_event,
    },
];

pub const HELPERS: &[HelperEntry] = &[("submitter", submitter)];

/// A limit that a machine which is emulated keeps when it works.
const LIMIT: Duration = Duration::from_millis(700);

fn bounded(session: &Session, limit: Duration) -> Result<Queue> {
    let options = QueueOptions::new(QueueMode::Bounded).timeout(limit);
    Ok(session.vm().create_queue(&options)?)
}

fn limits(node: &Path) -> Result {
    session(node, QueueMode::Bounded)?;
    let rig = Rig::new(node)?;
    let device = &rig.device;
    let limit = device.param(sys::PARAM_WATCHDOG_MS)?;
    ensure(
        (10..=3_600_000).contains(&limit),
        format!("the driver's limit is {limit} ms"),
    )?;
    let limit = limit as u32;
    let good = sys::QueueCreate {
        vm: rig.vm.handle(),
        ..Default::default()
    };
    for timeout_ms in [0, 10, limit] {
        let arg = sys::QueueCreate { timeout_ms, ..good };
        accepted::<ioctl::QueueCreate>(device, &format!("with {timeout_ms} ms"), arg)?;
    }
    for timeout_ms in [1, 9, limit + 1, u32::MAX] {
        let arg = sys::QueueCreate { timeout_ms, ..good };
        refused::<ioctl::QueueCreate>(device, &format!("with {timeout_ms} ms"), arg, &[EINVAL])?;
    }
    let long = sys::QueueCreate {
        mode: sys::QUEUE_LONG_RUNNING,
        timeout_ms: 10,
        ..good
    };
    refused::<ioctl::QueueCreate>(device, "of long-running work", long, &[EINVAL])
}

fn hung(node: &Path) -> Result {
    let (device, session) = session(node, QueueMode::Bounded)?;
    let healthy = Session::with_mode(&device, QueueMode::Bounded)?;
    let alive = fence(healthy.vm())?;
    // The first is blamed: the other one's limit is longer.
    let (queue, second) = (bounded(&session, LIMIT)?, bounded(&session, 5 * LIMIT)?);
    let out = session.buffer(4)?;
    let endless = Program::endless(&session)?;
    let quick = Program::late_word(&session, 0, out.gpu_va(), 1)?;
    let value = fence(session.vm())?;
    let exported = device.create_syncobj(false)?;
    value.export_to(&exported, 0, 1)?;
    let points = (0..5)
        .map(|_| device.create_syncobj(false))
        .collect::<libvaccel::Result<Vec<SyncObj>>>()?;
    let [culprit, behind, amid, other, other_behind] = points.as_slice() else {
        return failed("five were made");
    };
    let begin = Instant::now();
    queue.submit(&endless.run().out_syncobj(culprit, 0))?;
    queue.submit(&quick.run().out_syncobj(behind, 0))?;
    queue.submit(&quick.run().signal_syncobj(amid, 1).signal(&value, 1))?;
    second.submit(&quick.run().out_syncobj(other, 0))?;
    second.submit(&quick.run().out_syncobj(other_behind, 0))?;
    signals("the hung work", culprit, 0, Some(ETIME))?;
    let took = begin.elapsed();
    ensure(took >= LIMIT, format!("given up after {took:?} already"))?;
    ensure(took < 10 * LIMIT, format!("given up after {took:?} only"))?;
    signals("behind it", behind, 0, Some(ECANCELED))?;
    signals("behind it, amid a submission", amid, 1, Some(ECANCELED))?;
    // The first of a queue that did nothing wrong.
    other.wait(0, soon(), SyncObjWait::empty())?;
    let status = SyncFile::from(other.export_sync_file(0)?).status()?;
    ensure(
        matches!(status, Status::Failed(EIO | ECANCELED)),
        format!("on the vm's other queue: {status:?}"),
    )?;
    signals("behind that", other_behind, 0, Some(ECANCELED))?;
    signals("an export of the vm", &exported, 0, Some(EIO))?;
    fails_with("a wait in the vm", value.wait(1, soon()), EIO)?;
    fails_with("work for the vm", queue.submit(&quick.run()), EIO)?;
    let state = session.vm().query()?.state;
    ensure(state != State::Active, "the vm is called active")?;
    has_word("nothing behind it has run", &out, 0)?;
    alive.signal(1)?;
    alive.wait(1, soon())?;
    let healthy_out = healthy.buffer(4)?;
    let job = Program::late_word(&healthy, 0, healthy_out.gpu_va(), 2)?;
    healthy
        .queue()
        .submit(&job.run().done(healthy.fence(), 1))?;
    healthy.fence().wait(1, soon())?;
    has_word("another vm", &healthy_out, 2)?;
    drop((queue, second, session));
    check_device_works(&device)
}

fn dumps() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/sys/class/devcoredump") else {
        return Vec::new();
    };
    let names = entries.filter_map(|entry| entry.ok());
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("devcd")).collect()
}

fn report(node: &Path) -> Result {
    let (device, session) = session(node, QueueMode::Bounded)?;
    let uevents = Uevents::open()?;
    // The kernel keeps one of a device at a time, for minutes.
    for name in dumps() {
        std::fs::write(format!("/sys/class/devcoredump/{name}/data"), "1")?;
    }
    eventually("core dumps from before stay", || Ok(dumps().is_empty()))?;
    let queue = bounded(&session, Duration::from_millis(200))?;
    let endless = Program::endless(&session)?;
    let syncobj = device.create_syncobj(false)?;
    queue.submit(&endless.run().out_syncobj(&syncobj, 0))?;
    signals("the hung work", &syncobj, 0, Some(ETIME))?;
    let Some(fields) = uevents.next_with("WEDGED=", within(5000))? else {
        return failed("no event tells of it");
    };
    let has = |field: &str| fields.iter().any(|own| own == field);
    ensure(
        has("ACTION=change") && has("WEDGED=none"),
        format!("the event says {fields:?}"),
    )?;
    let name = node.file_name().unwrap_or_default().to_string_lossy();
    ensure(
        fields
            .iter()
            .any(|field| field.starts_with("DEVPATH=") && field.ends_with(name.as_ref())),
        format!("the event names another device: {fields:?}"),
    )?;
    ensure(
        has(&format!("PID={}", std::process::id())),
        format!("the event names another task: {fields:?}"),
    )?;
    if !Path::new("/sys/class/devcoredump").exists() {
        return Err(Problem::Skipped(
            "the event is right; the kernel keeps no core dumps".into(),
        ));
    }
    let mut new = None;
    eventually("there is no core dump", || {
        new = dumps().pop();
        Ok(new.is_some())
    })?;
    let data = format!("/sys/class/devcoredump/{}/data", new.unwrap_or_default());
    let text = String::from_utf8_lossy(&std::fs::read(&data)?).into_owned();
    // What is written there takes it away.
    std::fs::write(&data, "1")?;
    ensure(
        text.contains("vaccel"),
        format!("the core dump says {text:?}"),
    )
}

fn progress(node: &Path) -> Result {
    let (device, session) = session(node, QueueMode::Bounded)?;
    // Machines that are emulated are slow at times: a job may take five times as long as it should.
    let limit = 5 * LIMIT;
    let queue = bounded(&session, limit)?;
    let out = session.buffer(4)?;
    let syncobj = device.create_syncobj(false)?;
    let mut jobs = Vec::new();
    let begin = Instant::now();
    for number in 1..=7u32 {
        let job = Program::late_word(&session, 600, out.gpu_va(), number)?;
        queue.submit(&job.run().out_syncobj(&syncobj, u64::from(number)))?;
        jobs.push(job);
    }
    signals("the last", &syncobj, 7, None)?;
    ensure(
        begin.elapsed() > limit,
        "all of it took less than the limit",
    )?;
    has_word("the last", &out, 7)?;
    ensure(
        session.vm().query()?.state == State::Active,
        "the vm was given up",
    )
}

fn waiting(node: &Path) -> Result {
    use crate::foreign::pending::Pending;
    let (device, session) = session(node, QueueMode::Bounded)?;
    let limit = Duration::from_millis(300);
    let queue = bounded(&session, limit)?;
    let out = session.buffer(4)?;
    let job = Program::late_word(&session, 0, out.gpu_va(), 3)?;
    let (input, syncobj) = (device.create_syncobj(false)?, device.create_syncobj(false)?);
    let pending = Pending::any()?;
    input.import_sync_file(0, pending.file().as_fd())?;
    let list = libvaccel::Submission::new().wait_syncobj(&input, 0);
    queue.submit(&job.exec(list).out_syncobj(&syncobj, 0))?;
    std::thread::sleep(3 * limit);
    let file = SyncFile::from(syncobj.export_sync_file(0)?);
    has_status("the queue waits", &file, Status::Active)?;
    pending.signal()?;
    signals("the wait is over", &syncobj, 0, None)?;
    has_word("the wait is over", &out, 3)
}

fn long_running(node: &Path) -> Result {
    /// A longer limit is not waited for.
    const PATIENCE: Duration = Duration::from_secs(15);
    let (device, session) = session(node, QueueMode::LongRunning)?;
    let limit = Duration::from_millis(device.param(sys::PARAM_WATCHDOG_MS)?);
    if limit > PATIENCE {
        return Err(Problem::Skipped(format!("the limit is {limit:?}")));
    }
    let endless = Program::endless(&session)?;
    let reached = session.fence();
    let syncobj = device.create_syncobj(false)?;
    reached.export_to(&syncobj, 0, 1)?;
    session.queue().submit(&endless.run().done(reached, 1))?;
    let bounded_session = Session::with_mode(&device, QueueMode::Bounded)?;
    let second = Program::endless(&bounded_session)?;
    let short = bounded(&bounded_session, Duration::from_millis(100))?;
    short.submit(&second.run().done(bounded_session.fence(), 1))?;
    std::thread::sleep(limit + limit / 4);
    for session in [&session, &bounded_session] {
        stays_below("the work does not end", session.fence(), 1)?;
        ensure(
            session.vm().query()?.state == State::Active,
            "a vm was given up",
        )?;
    }
    absent("the work does not end", &syncobj, 0)?;
    // The queues go before the code that they run.
    drop((session, short, bounded_session));
    drop((endless, second));
    check_device_works(&device)
}

/// Work that hangs, with an out-fence at each of some syncobjs.
fn pile(session: &Session, queue: &Queue, count: u32) -> Result<(Program, Vec<SyncObj>)> {
    let endless = Program::endless(session)?;
    let device = session.vm().device();
    let mut points = Vec::new();
    for _ in 0..count {
        let syncobj = device.create_syncobj(false)?;
        queue.submit(&endless.run().out_syncobj(&syncobj, 0))?;
        points.push(syncobj);
    }
    Ok((endless, points))
}

fn queue_closed(node: &Path) -> Result {
    queue_closes(node, false)
}

fn queue_closed_late(node: &Path) -> Result {
    queue_closes(node, true)
}

/// Closes a queue in the middle of its work, with its code still there or given up before.
fn queue_closes(node: &Path, code_first: bool) -> Result {
    let (device, session) = session(node, QueueMode::Bounded)?;
    let queue = bounded(&session, Duration::from_secs(5))?;
    let (endless, points) = pile(&session, &queue, 4)?;
    let begin = Instant::now();
    let mut code = Some(endless);
    if code_first {
        code = None;
    }
    queue.close()?;
    drop(code);
    for syncobj in &points {
        signals("the queue is closed", syncobj, 0, Some(ECANCELED))?;
    }
    let took = begin.elapsed();
    ensure(
        took < Duration::from_secs(4),
        format!("the fences took {took:?}"),
    )?;
    let out = session.buffer(4)?;
    let job = Program::late_word(&session, 0, out.gpu_va(), 1)?;
    session
        .queue()
        .submit(&job.run().done(session.fence(), 1))?;
    session.fence().wait(1, soon())?;
    has_word("the vm goes on", &out, 1)?;
    check_device_works(&device)
}

fn killed(node: &Path) -> Result {
    let (device, _session) = session(node, QueueMode::Bounded)?;
    let (near, far) = UnixStream::pair()?;
    let name = node.display().to_string();
    let helper = Helper::start_with("submitter", &[&name], far.as_fd())?;
    ensure(
        helper.said == "submitted",
        format!("the process: {}", helper.said),
    )?;
    let (first, second) = (passing::receive(&near)?, passing::receive(&near)?);
    let first = device.open_syncobj(first.as_fd())?;
    let second = device.open_syncobj(second.as_fd())?;
    let file = SyncFile::from(first.export_sync_file(0)?);
    has_status("the process lives", &file, Status::Active)?;
    let begin = Instant::now();
    helper.kill()?;
    ensure(file.wait(soon())?, "the sync_file does not poll")?;
    for syncobj in [&first, &second] {
        signals("the process is dead", syncobj, 0, Some(ECANCELED))?;
    }
    let took = begin.elapsed();
    ensure(
        took < Duration::from_secs(8),
        format!("the fences took {took:?}"),
    )?;
    check_device_works(&device)
}

/// The other process: standard input is a socket, the argument the node.
fn submitter(arguments: &[String]) -> Result {
    let Some(node) = arguments.first() else {
        return failed("no node was named");
    };
    let (_device, session) = session(Path::new(node), QueueMode::Bounded)?;
    let (_endless, points) = pile(&session, session.queue(), 2)?;
    let socket = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    for syncobj in &points {
        passing::send(&socket, syncobj.to_fd()?.as_fd())?;
    }
    helper::say("submitted")?;
    std::thread::sleep(Duration::from_secs(600));
    failed("nobody killed the process")
}

fn vm_failed(node: &Path) -> Result {
    let device = open_with(node, Features::SYNC_BRIDGE)?;
    let mut host = Host::open(node)?;
    for (name, state, errno) in [
        ("hung", State::Hung, ETIME),
        ("reset", State::Reset, EIO),
        ("page-fault", State::PageFault, EIO),
    ] {
        let session = Session::with_mode(&device, QueueMode::Bounded)?;
        let (endless, points) = pile(&session, session.queue(), 3)?;
        let value = fence(session.vm())?;
        let exported = device.create_syncobj(false)?;
        value.export_to(&exported, 0, u64::MAX)?;
        absent("nothing has failed", &exported, 0)?;
        host.fail_devices(name)?;
        for (syncobj, errno) in points.iter().zip([errno, ECANCELED, ECANCELED]) {
            signals(name, syncobj, 0, Some(errno))?;
        }
        signals(name, &exported, 0, Some(EIO))?;
        let seen = session.vm().query()?.state;
        ensure(
            seen == state,
            format!("{name}: the vm is in state {seen:?}"),
        )?;
        drop((session, endless));
    }
    check_device_works(&device)
}

fn mute(node: &Path) -> Result {
    const SILENCE: Duration = Duration::from_millis(900);
    let (device, session) = session(node, QueueMode::Bounded)?;
    let mut host = Host::open(node)?;
    let out = session.buffer(4)?;
    let job = Program::late_word(&session, 0, out.gpu_va(), 4)?;
    let (reached, to_come) = (fence(session.vm())?, fence(session.vm())?);
    reached.signal(3)?;
    let (point, done) = (device.create_syncobj(false)?, device.create_syncobj(false)?);
    to_come.export_to(&point, 1, 1)?;
    let event = libvaccel::EventFd::new()?;
    to_come.eventfd(1, event.as_fd())?;
    let list = job.run().out_syncobj(&done, 0).signal(&to_come, 1);
    let slow = Program::late_word(&session, 200, out.gpu_va(), 3)?;
    session.queue().submit(&slow.run())?;
    session.queue().submit(&list)?;
    let begin = Instant::now();
    host.mute(SILENCE)?;
    // None of these needs the host.
    reached.wait(3, Deadline::NOW)?;
    reached.query()?;
    let file = SyncFile::from(reached.sync_file(2)?);
    has_status("a value that is reached", &file, Status::Signalled)?;
    device.wait_all(&[(&reached, 1), (&reached, 3)], Deadline::NOW)?;
    let took = begin.elapsed();
    ensure(
        took < SILENCE,
        format!("what is reached is known after {took:?}"),
    )?;
    signals("an out-fence", &done, 0, None)?;
    signals("an export", &point, 1, None)?;
    event.wait(soon())?;
    to_come.wait(1, soon())?;
    has_word("the work is done", &out, 4)?;
    ensure(
        session.vm().query()?.state == State::Active,
        "the vm was given up",
    )
}

fn lost_event(node: &Path) -> Result {
    let (device, session) = session(node, QueueMode::Bounded)?;
    let mut host = Host::open(node)?;
    let queue = bounded(&session, LIMIT)?;
    let out = session.buffer(4)?;
    for round in 1..=3 {
        let syncobj = device.create_syncobj(false)?;
        let job = Program::late_word(&session, 50, out.gpu_va(), round)?;
        host.drop_events(1)?;
        queue.submit(&job.run().out_syncobj(&syncobj, 0))?;
        signals("its event is lost", &syncobj, 0, None)?;
        has_word("its event is lost", &out, round)?;
    }
    ensure(
        session.vm().query()?.state == State::Active,
        "the vm was given up",
    )
}
