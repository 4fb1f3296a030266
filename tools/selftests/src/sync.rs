// SPDX-License-Identifier: MIT OR Apache-2.0
//! What cases about synchronisation start from, and what they ask again and again.

use std::path::Path;
use std::time::Duration;

use libvaccel::compute::{Buffer, Session};
use libvaccel::ioctl::Errno;
use libvaccel::{
    Deadline, Device, ErrorKind, Features, Fence, FenceFlags, QueueMode, State, Submission,
    SyncObj, SyncObjWait, Vm, VmFlags,
};
use vaccel_isa::CommandStream;

use crate::foreign::sync_file::{Status, SyncFile};
use crate::rig::{ensure, eventually, failed, open_with, soon, Result};

/// What must not happen is given this long to happen.
const WATCH: Duration = Duration::from_millis(60);

/// A deadline for what must not happen.
pub fn briefly() -> Deadline {
    Deadline::after(WATCH)
}

/// A deadline that many milliseconds away.
pub fn within(milliseconds: u64) -> Deadline {
    Deadline::after(Duration::from_millis(milliseconds))
}

/// Opens a node whose driver has all of synchronisation but sharing, and makes a vm.
pub fn open(node: &Path) -> Result<(Device, Vm)> {
    let device = open_with(node, Features::SYNC_BRIDGE)?;
    let vm = device.create_vm(VmFlags::empty())?;
    Ok((device, vm))
}

/// A session on a node whose driver has all of synchronisation but sharing.
pub fn session(node: &Path, mode: QueueMode) -> Result<(Device, Session)> {
    let device = open_with(node, Features::SYNC_BRIDGE)?;
    let session = Session::with_mode(&device, mode)?;
    Ok((device, session))
}

/// A fence at 0.
pub fn fence(vm: &Vm) -> Result<Fence> {
    Ok(vm.create_fence(FenceFlags::empty(), 0)?)
}

/// An operation that must fail with this errno.
pub fn fails_with<T>(what: &str, outcome: libvaccel::Result<T>, errno: i32) -> Result {
    let expected = Errno(errno);
    match outcome {
        Err(error) if error.errno() == Some(expected) => Ok(()),
        Err(error) => failed(format!("{what}: {error}, expected {expected}")),
        Ok(_) => failed(format!("{what}: accepted, expected {expected}")),
    }
}

/// A fence must not get to `value`, now that it has the time.
pub fn stays_below(what: &str, fence: &Fence, value: u64) -> Result {
    match fence.wait(value, briefly()) {
        Err(error) if error.kind() == ErrorKind::TimedOut => Ok(()),
        Err(error) => failed(format!("{what}: {error}")),
        Ok(waited) => failed(format!("{what}: the fence is at {} already", waited.value)),
    }
}

/// A fence must get to `value`, and have this error recorded or none.
pub fn reaches(what: &str, fence: &Fence, value: u64, error: Option<i32>) -> Result {
    let waited = fence.wait(value, soon())?;
    let expected = error.map(Errno);
    ensure(
        waited.value >= value,
        format!("{what}: waited for {value}, saw {}", waited.value),
    )?;
    ensure(
        waited.error == expected,
        format!("{what}: the wait says {:?}", waited.error),
    )?;
    let state = fence.query()?;
    ensure(
        state.error == expected,
        format!("{what}: the query says {:?}", state.error),
    )
}

/// A point must have no fence, now that it has the time to get one.
pub fn absent(what: &str, syncobj: &SyncObj, point: u64) -> Result {
    let flags = SyncObjWait::AVAILABLE | SyncObjWait::FOR_SUBMIT;
    match syncobj.wait(point, briefly(), flags) {
        Err(error) if error.kind() == ErrorKind::TimedOut => Ok(()),
        Err(error) => failed(format!("{what}: {error}")),
        Ok(()) => failed(format!("{what}: point {point} has a fence already")),
    }
}

/// A point must get a fence that signals, with this errno or as a success. The error can be seen at
/// the last point of a timeline only: the core forgets signalled ones before it.
pub fn signals(what: &str, syncobj: &SyncObj, point: u64, error: Option<i32>) -> Result {
    syncobj
        .wait(point, soon(), SyncObjWait::FOR_SUBMIT)
        .map_err(|error| crate::rig::Problem::Failed(format!("{what}: {error}")))?;
    let expected = error.map_or(Status::Signalled, Status::Failed);
    has_status(what, &syncobj.export_sync_file(point)?.into(), expected)
}

/// The status of a sync_file must be this now.
pub fn has_status(what: &str, file: &SyncFile, expected: Status) -> Result {
    let status = file.status()?;
    ensure(
        status == expected,
        format!("{what}: the fence is {status:?}, expected {expected:?}"),
    )
}

/// A command stream in memory of its own, to be run any number of times.
#[derive(Debug)]
pub struct Program {
    code: Buffer,
    size: u32,
}

impl Program {
    /// Puts a stream into memory of the session's vm.
    pub fn new(session: &Session, stream: CommandStream) -> Result<Self> {
        let Ok(bytes) = stream.finish() else {
            return failed("the stream cannot be encoded");
        };
        let code = session.code_buffer(bytes.len() as u64)?;
        code.mapping().write(0, &bytes)?;
        Ok(Self {
            code,
            size: bytes.len() as u32,
        })
    }

    /// One that keeps the engine busy for `milliseconds` and then writes a word.
    pub fn late_word(session: &Session, milliseconds: u64, gpu_va: u64, word: u32) -> Result<Self> {
        let mut stream = CommandStream::new();
        if milliseconds > 0 {
            stream.spin(milliseconds * 1_000_000);
        }
        stream.fill_words(gpu_va, 4, word);
        Self::new(session, stream)
    }

    /// One that runs for minutes.
    pub fn endless(session: &Session) -> Result<Self> {
        let mut stream = CommandStream::new();
        for _ in 0..4 {
            stream.spin(vaccel_isa::MAX_SPIN_NS);
        }
        Self::new(session, stream)
    }

    /// Adds a run to a list.
    pub fn exec(&self, list: Submission) -> Submission {
        list.exec(self.code.gpu_va(), self.size)
    }

    /// A list that begins with a run.
    pub fn run(&self) -> Submission {
        self.exec(Submission::new())
    }
}

/// The first word of a buffer must be this.
pub fn has_word(what: &str, buffer: &Buffer, word: u32) -> Result {
    let seen = buffer.read_u32(1)?;
    ensure(
        seen == [word],
        format!("{what}: the memory holds {seen:x?}"),
    )
}

/// Has a job of the vm touch what is not there, and waits until the vm has failed of it.
pub fn break_vm(vm: &Vm) -> Result {
    let mut session = Session::in_vm(vm, QueueMode::LongRunning)?;
    let somewhere = session.buffer(4096)?.gpu_va() + (1 << 36);
    let mut stream = CommandStream::new();
    stream.fill_words(somewhere, 64, 1);
    // The fault may be there before all of it is queued.
    let _ = session.launch(stream);
    eventually("the vm does not fail of a page fault", || {
        Ok(vm.query()?.state != State::Active)
    })
}
