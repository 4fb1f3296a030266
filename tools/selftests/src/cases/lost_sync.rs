// SPDX-License-Identifier: MIT OR Apache-2.0
//! The host takes a virtual GPU back while threads wait for its fences in every way there is.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use libc::{EIO, ENODEV, EREMOTEIO};
use libvaccel::compute::Session;
use libvaccel::{
    Device, ErrorKind, EventFd, Features, Fence, FenceFlags, QueueMode, Submission, SyncObj,
    SyncObjWait, VmFlags,
};

use super::lost::{and_back, and_back_by, until};
use super::Case;
use crate::foreign::pending::Pending;
use crate::foreign::sync_file::{Status, SyncFile};
use crate::host::Host;
use crate::rig::{ensure, failed, needs, soon, Problem, Result};
use crate::sync::{absent, fails_with, fence, has_status, signals, within, Program};

pub const CASES: &[Case] = &[
    Case {
        name: "lost-waits",
        proves: "when the virtual GPU is taken back every wait ends within 5 s: for one and many fences, by \
                 eventfd, for points yet to come and for out-fences, which have ENODEV; it works again once \
                 it is offered",
        run: waits,
    },
    Case {
        name: "lost-signal",
        proves: "who signals a fence when the virtual GPU is taken back is told so, also before the driver \
                 knows, and never that the value is too low",
        run: signal,
    },
];

/// How soon all waits are to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// How soon who signals is to hear of it.
const LONG_PATIENCE: Duration = Duration::from_secs(30);

/// Ways to wait.
struct Waiters {
    /// What it waits by, and how that has ended.
    ended: mpsc::Receiver<(&'static str, std::result::Result<(), String>)>,
    count: usize,
}

/// A wait must have ended because the adapter is gone.
fn told<T>(outcome: libvaccel::Result<T>) -> std::result::Result<(), String> {
    match outcome {
        Err(error) if error.kind() == ErrorKind::DeviceLost => Ok(()),
        Err(error) => Err(error.to_string()),
        Ok(_) => Err("a success".into()),
    }
}

/// A wait must have ended, however: it says nothing about the reason.
fn ended<T>(outcome: libvaccel::Result<T>) -> std::result::Result<(), String> {
    outcome.map(drop).map_err(|error| error.to_string())
}

impl Waiters {
    /// Has a thread of its own for each wait.
    fn start<'scope>(
        scope: &'scope std::thread::Scope<'scope, '_>,
        waits: Vec<(&'static str, Wait<'scope>)>,
    ) -> Self {
        let (sender, ended) = mpsc::channel();
        let count = waits.len();
        for (name, wait) in waits {
            let sender = sender.clone();
            scope.spawn(move || drop(sender.send((name, wait()))));
        }
        Self { ended, count }
    }

    /// All must have ended in time and well.
    fn judge(&self) -> Result {
        let end = Instant::now() + PATIENCE;
        let mut wrong = Vec::new();
        for number in 0..self.count {
            let left = end.saturating_duration_since(Instant::now());
            match self.ended.recv_timeout(left) {
                Ok((_, Ok(()))) => {}
                Ok((name, Err(how))) => wrong.push(format!("{name}: {how}")),
                Err(_) => {
                    wrong.push(format!("{} waits go on", self.count - number));
                    break;
                }
            }
        }
        ensure(wrong.is_empty(), wrong.join("; "))
    }
}

type Wait<'scope> = Box<dyn FnOnce() -> std::result::Result<(), String> + Send + 'scope>;

/// What is waited for. None of it comes.
struct Never {
    syncobjs: Vec<SyncObj>,
    fence: Fence,
    opened: Option<Fence>,
    eventfd: EventFd,
    point_eventfd: EventFd,
    exported: SyncObj,
    by_queue: SyncObj,
    out: SyncObj,
    out_file: SyncFile,
    imported: Fence,
    _endless: Program,
}

impl Never {
    fn new(device: &Device, session: &Session, long: &Session, pending: &Pending) -> Result<Self> {
        let vm = session.vm();
        let fence = fence(vm)?;
        let mut opened = None;
        if device.features()?.contains(Features::FENCE_SHARING) {
            let shared = vm.create_fence(FenceFlags::SHAREABLE, 0)?;
            opened = Some(long.vm().open_fence(shared.to_fd(true)?.as_fd())?);
        }
        let exported = device.create_syncobj(false)?;
        fence.export_to(&exported, 1, 1)?;
        let (eventfd, point_eventfd) = (EventFd::new()?, EventFd::new()?);
        fence.eventfd(1, eventfd.as_fd())?;
        exported.eventfd(1, point_eventfd.as_fd(), SyncObjWait::empty())?;
        let out = device.create_syncobj(false)?;
        let endless = Program::endless(session)?;
        let list = endless.run().out_syncobj(&out, 1);
        session.queue().submit(&list)?;
        session
            .queue()
            .submit(&endless.run().done(session.fence(), 1))?;
        let by_queue = device.create_syncobj(false)?;
        let gate = crate::sync::fence(long.vm())?;
        let list = Submission::new()
            .wait(&gate, 1)
            .signal_syncobj(&by_queue, 0);
        long.queue().submit(&list)?;
        let imported = crate::sync::fence(vm)?;
        imported.import_sync_file(pending.file().as_fd(), 1)?;
        let empty = device.create_syncobj(false)?;
        let second = crate::sync::fence(vm)?;
        second.import_from(&empty, 0, 1, Some(soon()))?;
        Ok(Self {
            syncobjs: vec![empty],
            fence,
            opened,
            eventfd,
            point_eventfd,
            out_file: out.export_sync_file(1)?.into(),
            exported,
            by_queue,
            out,
            imported,
            _endless: endless,
        })
    }

    fn waits<'a>(
        &'a self,
        device: &'a Device,
        session: &'a Session,
    ) -> Vec<(&'static str, Wait<'a>)> {
        let for_submit = |syncobj: &'a SyncObj, point| -> Wait<'a> {
            Box::new(move || ended(syncobj.wait(point, soon(), SyncObjWait::FOR_SUBMIT)))
        };
        let for_event = |event: &'a EventFd| -> Wait<'a> { Box::new(|| ended(event.wait(soon()))) };
        let for_value = |fence: &'a Fence| -> Wait<'a> { Box::new(|| told(fence.wait(1, soon()))) };
        let list = [(&self.fence, 1), (&self.imported, 1)];
        let mut waits: Vec<(&'static str, Wait<'a>)> = vec![
            ("FENCE_WAIT", for_value(&self.fence)),
            ("FENCE_WAIT of a done fence", for_value(session.fence())),
            ("FENCE_WAIT of an import", for_value(&self.imported)),
            (
                "WAIT_MANY for all",
                Box::new(move || told(device.wait_all(&list, soon()))),
            ),
            (
                "WAIT_MANY for any",
                Box::new(move || told(device.wait_any(&list, soon()))),
            ),
            ("eventfd", for_event(&self.eventfd)),
            ("eventfd of a point", for_event(&self.point_eventfd)),
            ("an exported point", for_submit(&self.exported, 1)),
            (
                "a long-running queue's syncobj",
                for_submit(&self.by_queue, 0),
            ),
            ("an out-fence", for_submit(&self.out, 1)),
            (
                "a sync_file",
                Box::new(|| match self.out_file.wait(soon()) {
                    Ok(true) => Ok(()),
                    outcome => Err(format!("{outcome:?}")),
                }),
            ),
        ];
        if let Some(opened) = &self.opened {
            waits.push(("FENCE_WAIT of an opened fence", for_value(opened)));
        }
        waits
    }
}

/// A syncobj as a descriptor, and the point of it that was waited for.
type Left = (&'static str, OwnedFd, u64);

fn waits(node: &Path) -> Result {
    let mut left = Vec::new();
    and_back(node, |host| wait_and_lose(node, host, &mut left))?;
    // The lost one's file answers no more.
    let device = Device::open(node)?;
    for (what, fd, point) in &left {
        let syncobj = device.open_syncobj(fd.as_fd())?;
        signals(what, &syncobj, *point, Some(ENODEV))?;
    }
    Ok(())
}

fn wait_and_lose(node: &Path, host: &mut Host, left: &mut Vec<Left>) -> Result {
    let device = Device::open(node)?;
    needs(&device, Features::SYNC_BRIDGE)?;
    let pending = Pending::any()?;
    let session = Session::with_mode(&device, QueueMode::Bounded)?;
    let long = Session::with_mode(&device, QueueMode::LongRunning)?;
    let never = Never::new(&device, &session, &long, &pending)?;
    left.extend([
        ("an exported point", never.exported.to_fd()?, 1),
        ("a long-running queue's syncobj", never.by_queue.to_fd()?, 0),
        ("an out-fence", never.out.to_fd()?, 1),
    ]);
    absent("nothing is lost yet", &never.exported, 1)?;
    std::thread::scope(|scope| {
        let waiters = Waiters::start(scope, never.waits(&device, &session));
        std::thread::sleep(Duration::from_millis(100));
        if let Ok((name, how)) = waiters.ended.try_recv() {
            return failed(format!("{name} ended before anything happened: {how:?}"));
        }
        host.rescind()?;
        waiters.judge()
    })?;
    until("the node goes", || !node.exists())?;
    has_status("a sync_file", &never.out_file, Status::Failed(ENODEV))?;
    fails_with("a later wait", never.fence.wait(1, within(1000)), ENODEV)?;
    let late = device
        .create_syncobj(false)
        .map_err(Problem::from)
        .and_then(|syncobj| Ok(never.fence.export_to(&syncobj, 0, 2)?));
    ensure(late.is_err(), "an export was taken after the loss")?;
    // What signals now is of no concern any more.
    for syncobj in &never.syncobjs {
        let _ = syncobj.signal(0);
    }
    pending.signal()
}

fn signal(node: &Path) -> Result {
    /// How often each channel is taken back.
    const TIMES: usize = 2;
    for _ in 0..TIMES {
        and_back(node, |host| signal_until(node, || host.rescind()))?;
        and_back_by(node, Host::offer_vm, |host| {
            signal_until(node, || host.rescind_vm())
        })?;
    }
    Ok(())
}

/// Signals a fence, by higher and higher values, until `lose` has taken the virtual GPU.
fn signal_until(node: &Path, lose: impl FnOnce() -> Result) -> Result {
    let device = Device::open(node)?;
    let vm = device.create_vm(VmFlags::empty())?;
    let fence = fence(&vm)?;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let signaller = scope.spawn(|| {
            let mut value = 1;
            loop {
                match fence.signal(value) {
                    Ok(()) if !stop.load(Ordering::Relaxed) => value += 1,
                    Ok(()) => return None,
                    Err(error) => return Some(error),
                }
            }
        });
        std::thread::sleep(Duration::from_millis(20));
        let lost = lose();
        // It is taken back now, and the driver hears of it; a busy machine takes its time for that.
        let end = Instant::now() + LONG_PATIENCE;
        while !signaller.is_finished() && lost.is_ok() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
        stop.store(true, Ordering::Relaxed);
        lost?;
        match signaller.join() {
            Ok(Some(error)) => ensure(
                // EREMOTEIO: a host that has forgotten the fence with the process.
                [ENODEV, EIO, EREMOTEIO]
                    .map(Some)
                    .contains(&error.errno().map(|errno| errno.0)),
                error.to_string(),
            ),
            Ok(None) => failed("signals go on when the virtual GPU is gone"),
            Err(_) => failed("the thread that signals has panicked"),
        }
    })
}
