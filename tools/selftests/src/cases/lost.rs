// SPDX-License-Identifier: MIT OR Apache-2.0
//! The host takes a virtual GPU back while a program has memory of every kind in use.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use libvaccel::compute::Session;
use libvaccel::{
    BindFlags, BoOptions, Deadline, Device, ErrorKind, EventMask, Features, FenceFlags,
    ReserveOptions, Submission,
};
use vaccel_isa::CommandStream;

use super::Case;
use crate::host::Host;
use crate::rig::{
    check_device_works, ensure, eventually, failed, fails, needs, soon, Result, SIZE,
};
use crate::system::{Area, How};

pub const CASES: &[Case] = &[
    Case {
        name: "lost-idle",
        proves:
            "after the virtual GPU is taken back mapped host memory is a page that starts as zeros, \
                 the same one through the node and a dma-buf, guest memory stays, calls fail with \
                 ENODEV, and the virtual GPU works again once it is offered",
        run: |node| lost(node, false),
    },
    Case {
        name: "lost-busy",
        proves: "the same in the middle of jobs, with queued BINDs and UNBINDs behind them that are \
                 yet to be done; waits for jobs and bindings fail with ENODEV",
        run: |node| lost(node, true),
    },
    Case {
        name: "lost-watch",
        proves: "a thread that waits for budget events is woken by an event or an error within 5 s of \
                 the node's going",
        run: watch,
    },
];

/// How soon a thread that waits for events is to be woken.
const WATCH: Duration = Duration::from_secs(5);
/// How often a busy one binds.
const BINDINGS: u64 = 6;
/// How long the node may take to go and to come.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn until(what: &str, mut done: impl FnMut() -> bool) -> Result {
    let end = Instant::now() + PATIENCE;
    while !done() {
        if Instant::now() >= end {
            return failed(format!("{what}: not within {} s", PATIENCE.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn lost(node: &Path, busy: bool) -> Result {
    and_back(node, |host| use_and_lose(node, busy, host))
}

/// How long it usually takes at most to give back what belonged to a virtual GPU that is gone.
const LET_GO: Duration = Duration::from_millis(200);
/// How often the virtual GPU is offered until it has its node again.
const ATTEMPTS: u32 = 20;

/// Has the virtual GPU offered again after `lose`.
pub(super) fn and_back(node: &Path, lose: impl FnOnce(&mut Host) -> Result) -> Result {
    and_back_by(node, Host::offer, lose)
}

/// Has what `lose` took back offered again by `offer`.
pub(super) fn and_back_by(
    node: &Path,
    offer: impl Fn(&mut Host) -> Result,
    lose: impl FnOnce(&mut Host) -> Result,
) -> Result {
    let mut host = Host::open(node)?;
    let outcome = lose(&mut host);
    // What the files that were just closed had is given back in the background, and with the last of it
    // the number of the node, which is to be the same again.
    std::thread::sleep(LET_GO);
    // The cases after this one need it, whatever went wrong here.
    let back = come_back(node, &mut host, &offer);
    outcome?;
    back?;
    check_device_works(&Device::open(node)?)
}

/// Has the virtual GPU offered, and where it came as another node, taken back and offered again: the
/// old one's number was still in use.
fn come_back(node: &Path, host: &mut Host, offer: &dyn Fn(&mut Host) -> Result) -> Result {
    let mut offer = offer;
    for _ in 0..ATTEMPTS {
        let others = nodes(node);
        let come = || nodes(node).iter().any(|one| !others.contains(one));
        // The host refuses until the guest has let go of the old channel.
        until("the host offers the device again", || offer(host).is_ok())?;
        until("the node comes back", || {
            Device::open(node).is_ok() || come()
        })?;
        if Device::open(node).is_ok() {
            return Ok(());
        }
        host.rescind()?;
        offer = &Host::offer;
        until("the other node goes", || !come())?;
        std::thread::sleep(LET_GO);
    }
    failed(format!("another node came {ATTEMPTS} times"))
}

/// All nodes beside `node`. Without any there is no folder either.
fn nodes(node: &Path) -> Vec<PathBuf> {
    let entries = node.parent().and_then(|folder| folder.read_dir().ok());
    let paths = entries.into_iter().flatten().flatten();
    let paths = paths.map(|entry| entry.path());
    paths.filter(|path| path != node).collect()
}

fn use_and_lose(node: &Path, busy: bool, host: &mut Host) -> Result {
    let device = Device::open(node)?;
    let mut features = Features::HOST_MEMORY | Features::VA_RESERVE | Features::EVENTS;
    if busy {
        features |= Features::QUEUED_BIND;
    }
    needs(&device, features)?;
    device.subscribe(EventMask::BUDGET)?;
    let mut session = Session::new(&device)?;
    let guest = session.buffer(SIZE)?;
    guest.mapping().write(0, &[7; 8])?;
    let vm = session.vm().clone();
    let bo = vm.create_bo(&BoOptions::host(SIZE).shareable())?;
    let mapping = bo.map()?;
    mapping.write(0, &[1; 8])?;
    let dma_buf = bo.export()?;
    let area = Area::map(dma_buf.as_fd(), 0, 4096, How::SHARED)?;
    ensure(
        area.get(0)? == 0x0101_0101_0101_0101,
        "the dma-buf shows something else",
    )?;
    let reservation = vm.reserve(SIZE, &ReserveOptions::new().zero())?;
    reservation.bind(0, &bo, 0..SIZE, BindFlags::WRITE)?;
    let bound = vm.create_fence(FenceFlags::empty(), 0)?;
    let mut ticket = None;
    if busy {
        for value in 1..=BINDINGS {
            let mut stream = CommandStream::new();
            stream.spin(300_000_000);
            stream.fill_words(reservation.gpu_va(), 4, 3);
            ticket = Some(session.launch(stream)?);
            let list = Submission::new()
                .unbind(&reservation, 0..SIZE)
                .bind(&reservation, 4096, guest.bo(), 0..4096, BindFlags::WRITE)
                .bind(&reservation, 0, &bo, 0..4096, BindFlags::WRITE)
                .signal(&bound, value);
            session.queue().submit(&list)?;
        }
        let done = bound.value()?;
        ensure(
            done < BINDINGS,
            "the bindings are done before the virtual GPU goes",
        )?;
    }

    host.rescind()?;
    until("the node goes", || !node.exists())?;
    fails(
        "BUDGET",
        device.budget(libvaccel::Segment::Local),
        ErrorKind::DeviceLost,
    )?;
    fails(
        "BO_CREATE",
        vm.create_bo(&BoOptions::new(SIZE)),
        ErrorKind::DeviceLost,
    )?;
    if let Some(ticket) = ticket {
        fails(
            "FENCE_WAIT",
            session.wait(ticket, soon()),
            ErrorKind::DeviceLost,
        )?;
        fails(
            "FENCE_WAIT behind the bindings",
            bound.wait(BINDINGS, soon()),
            ErrorKind::DeviceLost,
        )?;
    }
    // The node goes before the mappings change, and what is written in between is lost.
    eventually(
        "the dma-buf does not show what was written through the node after the loss",
        || {
            mapping.write(8, &[2; 8])?;
            Ok(area.get(8)? == 0x0202_0202_0202_0202)
        },
    )?;
    ensure(
        area.get(0)? == 0,
        "the dma-buf shows host memory after the loss",
    )?;
    let mut word = [9; 8];
    mapping.read(0, &mut word)?;
    ensure(
        word == [0; 8],
        format!("host memory reads {word:?} after the loss"),
    )?;
    guest.mapping().read(0, &mut word)?;
    ensure(word == [7; 8], "guest memory is gone with the adapter")
}

fn watch(node: &Path) -> Result {
    and_back(node, |host| {
        let device = Device::open(node)?;
        needs(&device, Features::EVENTS)?;
        device.subscribe(EventMask::BUDGET)?;
        let (sender, outcomes) = mpsc::channel();
        let reader = std::thread::spawn({
            let device = device.clone();
            let deadline = Deadline::after(3 * WATCH);
            move || drop(sender.send(device.next_event(deadline)))
        });
        std::thread::sleep(Duration::from_millis(1200));
        if let Ok(early) = outcomes.try_recv() {
            return failed(format!("woken before anything happened: {early:?}"));
        }
        host.rescind()?;
        until("the node goes", || !node.exists())?;
        let outcome = outcomes.recv_timeout(WATCH);
        // It ends by its deadline at the latest; until then its file keeps the node's number.
        let joined = reader.join();
        ensure(joined.is_ok(), "the thread died")?;
        match outcome {
            Ok(Ok(None)) => failed("the wait ended by its deadline"),
            Ok(_) => Ok(()),
            Err(_) => failed("a thread that waits for events is not woken by the loss"),
        }
    })
}
