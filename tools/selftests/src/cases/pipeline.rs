// SPDX-License-Identifier: MIT OR Apache-2.0
//! Three drivers' worth of work in a row, each in a process of its own, and nobody who polls.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use libvaccel::{
    AccessFlags, BindFlags, BindOptions, Device, EventFd, Features, QueueMode, Submission,
    SyncObjWait,
};
use vaccel_isa::CommandStream;

use super::{Case, HelperEntry};
use crate::foreign::{dma_buf_sync, Vgem};
use crate::helper::{self, Helper};
use crate::passing;
use crate::rig::{check_device_works, ensure, failed, needs, soon, Result, SIZE};
use crate::sync::{fence, session, Program};
use crate::system::{Area, How};

pub const CASES: &[Case] = &[
    Case {
        name: "pipeline",
        proves: "what a process writes into a buffer of vgem, another one's GPU copies when the first has \
                 signalled its fence, and a third one's CPU reads when an eventfd of the exported point \
                 wakes it: every word is right",
        run: |node| pipeline(node, QueueMode::Bounded),
    },
    Case {
        name: "pipeline-long-running",
        proves: "the same through a long-running queue, which gives the point only when it is reached",
        run: |node| pipeline(node, QueueMode::LongRunning),
    },
];

pub const HELPERS: &[HelperEntry] = &[("pipeline-produce", produce), ("pipeline-consume", consume)];

/// Where the consumer looks.
const POINT: u64 = 4;

/// The word at an index as the producer writes it.
fn word(index: u64) -> u64 {
    0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(index + 1)
}

fn words() -> impl Iterator<Item = (usize, u64)> {
    (0..SIZE / 8).map(|index| (index as usize * 8, word(index)))
}

fn socket() -> Result<UnixStream> {
    Ok(std::io::stdin().as_fd().try_clone_to_owned()?.into())
}

fn start(name: &str, node: &Path, socket: BorrowedFd<'_>, expected: &str) -> Result<Helper> {
    let node = node.display().to_string();
    let helper = Helper::start_with(name, &[&node], socket)?;
    ensure(helper.said == expected, format!("{name}: {}", helper.said))?;
    Ok(helper)
}

/// The one in the middle: a job that copies the producer's buffer for the consumer.
fn pipeline(node: &Path, mode: QueueMode) -> Result {
    let (device, session) = session(node, mode)?;
    needs(&device, Features::IMPORT)?;
    Vgem::open()?;
    let (to_producer, producers) = UnixStream::pair()?;
    let producer = start(
        "pipeline-produce",
        node,
        producers.as_fd(),
        "fence attached",
    )?;
    let input = device.import(passing::receive(&to_producer)?.as_fd())?;
    let input_at = session
        .vm()
        .bind(&input, &BindOptions::new(BindFlags::empty()))?;
    let output = session.buffer(SIZE)?;
    let mut stream = CommandStream::new();
    stream.copy(output.gpu_va(), input_at.gpu_va(), SIZE);
    let copy = Program::new(&session, stream)?;
    let syncobj = device.create_syncobj(false)?;
    let done = fence(session.vm())?;
    done.export_to(&syncobj, POINT, 1)?;

    let (to_consumer, consumers) = UnixStream::pair()?;
    passing::send(&to_consumer, syncobj.to_fd()?.as_fd())?;
    passing::send(&to_consumer, output.bo().export()?.as_fd())?;
    let consumer = start("pipeline-consume", node, consumers.as_fd(), "waiting")?;

    let list = Submission::new().access(&input, AccessFlags::WAIT);
    session.queue().submit(&copy.exec(list).signal(&done, 1))?;
    // The producer is told only now that it may begin.
    passing::send(&to_producer, producers.as_fd())?;
    producer.finish()?;
    consumer.finish()?;
    check_device_works(&device)
}

/// Standard input is a socket.
fn produce(_arguments: &[String]) -> Result {
    let vgem = Vgem::open()?;
    let buffer = vgem.buffer(SIZE)?;
    let area = vgem.map(buffer.handle, SIZE)?;
    let fence = vgem.attach(buffer.handle, true)?;
    let socket = socket()?;
    passing::send(&socket, buffer.dma_buf())?;
    helper::say("fence attached")?;
    drop(passing::receive(&socket)?);
    // Whoever did not wait would read zeros.
    std::thread::sleep(Duration::from_millis(100));
    for (offset, word) in words() {
        area.set(offset, word)?;
    }
    vgem.signal(fence)
}

/// Standard input is a socket, the argument the node.
fn consume(arguments: &[String]) -> Result {
    let Some(node) = arguments.first() else {
        return failed("no node was named");
    };
    let socket = socket()?;
    let device = Device::open(node)?;
    let syncobj = device.open_syncobj(passing::receive(&socket)?.as_fd())?;
    let dma_buf = passing::receive(&socket)?;
    let event = EventFd::new()?;
    syncobj.eventfd(POINT, event.as_fd(), SyncObjWait::empty())?;
    helper::say("waiting")?;
    event.wait(soon())?;
    let area = Area::map(dma_buf.as_fd(), 0, SIZE as usize, How::READ_ONLY)?;
    dma_buf_sync(dma_buf.as_fd(), false)?;
    for (offset, word) in words() {
        let seen = area.get(offset)?;
        ensure(
            seen == word,
            format!("byte {offset} is {seen:#x}, expected {word:#x}"),
        )?;
    }
    Ok(dma_buf_sync(dma_buf.as_fd(), true)?)
}
