// SPDX-License-Identifier: MIT OR Apache-2.0
//! Jobs that go wrong: the vm ends in a named state, others go on.

use std::path::Path;

use libvaccel::compute::Session;
use libvaccel::{BindFlags, BoOptions, Device, ErrorKind, State, Submission};
use vaccel_isa::CommandStream;

use super::Case;
use crate::rig::{check_device_works, ensure, failed, soon, Result};

pub const CASES: &[Case] = &[
    Case {
        name: "fault-unmapped",
        proves: "a job that touches unmapped memory ends its vm in PAGE_FAULT and no other",
        run: unmapped,
    },
    Case {
        name: "fault-read-only",
        proves: "a job cannot write through a binding without WRITE; the memory is unchanged",
        run: read_only,
    },
    Case {
        name: "fault-malformed",
        proves: "a malformed command buffer ends its vm in an error, without any of it having run",
        run: malformed,
    },
    Case {
        name: "fault-unbind-then-use",
        proves: "memory whose binding has ended is not reachable for later jobs",
        run: unbound,
    },
];

/// Judges work that must not end well, and its vm's state. The fault may be there before the whole
/// list is queued: then the submission says so already.
fn ends_in(
    session: &Session,
    launched: libvaccel::Result<libvaccel::compute::Ticket>,
    states: &[State],
) -> Result {
    match launched.and_then(|ticket| session.wait(ticket, soon())) {
        Ok(()) => return failed("a job that must fault was reported done"),
        Err(error) if error.kind() == ErrorKind::VmError => {}
        Err(error) => return failed(format!("a faulted vm: {error}, expected EIO")),
    }
    let state = session.vm().query()?.state;
    ensure(
        states.contains(&state),
        format!("the vm is in state {state:?}, expected one of {states:?}"),
    )?;
    // No new work in a vm in error.
    match session
        .queue()
        .submit(&Submission::new().signal(session.fence(), 1 << 40))
    {
        Err(error) if error.kind() == ErrorKind::VmError => Ok(()),
        Err(error) => failed(format!(
            "a submission to a vm in error: {error}, expected EIO"
        )),
        Ok(_) => failed("a vm in error takes new work"),
    }
}

fn unmapped(node: &Path) -> Result {
    let device = Device::open(node)?;
    let mut healthy = Session::new(&device)?;
    let mut session = Session::new(&device)?;
    let buffer = session.buffer(4096)?;
    let gpu_va = buffer.gpu_va() + (1 << 36);
    let mut stream = CommandStream::new();
    stream.fill_words(gpu_va, 64, 1);
    let launched = session.launch(stream);
    ends_in(&session, launched, &[State::PageFault])?;
    // The other vm of the same file is not concerned.
    let other = healthy.buffer(64)?;
    let mut stream = CommandStream::new();
    stream.fill_words(other.gpu_va(), 64, 7);
    healthy.run(stream, soon())?;
    ensure(
        other.read_u32(16)? == [7; 16],
        "another vm of the file was disturbed",
    )?;
    check_device_works(&device)
}

fn read_only(node: &Path) -> Result {
    let device = Device::open(node)?;
    let mut session = Session::new(&device)?;
    let bo = session.vm().create_bo(&BoOptions::new(4096))?;
    let mapping = bo.map()?;
    mapping.write(0, &[0x33; 64])?;
    let binding = bo.bind(BindFlags::empty())?;
    let mut stream = CommandStream::new();
    stream.fill_words(binding.gpu_va(), 64, 1);
    let launched = session.launch(stream);
    ends_in(&session, launched, &[State::PageFault])?;
    let mut bytes = [0; 64];
    mapping.read(0, &mut bytes)?;
    ensure(
        bytes == [0x33; 64],
        "a job wrote through a binding without WRITE",
    )?;
    check_device_works(&device)
}

fn malformed(node: &Path) -> Result {
    let device = Device::open(node)?;
    let session = Session::new(&device)?;
    let target = session.buffer(64)?;
    let mut stream = CommandStream::new();
    stream.fill_words(target.gpu_va(), 64, 5);
    let Ok(mut bytes) = stream.finish() else {
        return failed("the stream cannot be encoded");
    };
    // A good packet, then one of an opcode that does not exist.
    let length = bytes.len();
    if let Some(last) = bytes.get_mut(length - 8..) {
        last.copy_from_slice(&[0xff, 0xff, 0, 0, 8, 0, 0, 0]);
    }
    let code = session.code_buffer(bytes.len() as u64)?;
    code.mapping().write(0, &bytes)?;
    let submission = Submission::new()
        .exec(code.gpu_va(), bytes.len() as u32)
        .done(session.fence(), 1);
    let submitted = session.queue().submit(&submission);
    match submitted.and_then(|_| session.fence().wait(1, soon())) {
        Err(error) if error.kind() == ErrorKind::VmError => {}
        other => return failed(format!("the wait of a malformed job: {other:?}")),
    }
    let state = session.vm().query()?.state;
    let errors = [State::DmaFault, State::Stopped, State::Reset];
    ensure(
        errors.contains(&state),
        format!("the vm is in state {state:?} after a malformed command buffer"),
    )?;
    ensure(
        target.read_u32(16)? == [0; 16],
        "a part of a malformed command buffer has run",
    )?;
    check_device_works(&device)
}

fn unbound(node: &Path) -> Result {
    let device = Device::open(node)?;
    let mut session = Session::new(&device)?;
    let bo = session.vm().create_bo(&BoOptions::new(4096))?;
    let mapping = bo.map()?;
    let binding = bo.bind(BindFlags::WRITE)?;
    let gpu_va = binding.gpu_va();
    let fill = |word| {
        let mut stream = CommandStream::new();
        stream.fill_words(gpu_va, 64, word);
        stream
    };
    session.run(fill(1), soon())?;
    // Code buffers must not land where the binding was: launch once more before it goes.
    let spare = session.launch(CommandStream::new())?;
    session.wait(spare, soon())?;
    binding.close()?;
    let launched = session.launch(fill(2));
    ends_in(&session, launched, &[State::PageFault])?;
    let mut bytes = [0; 4];
    mapping.read(0, &mut bytes)?;
    ensure(
        bytes == 1u32.to_le_bytes(),
        "a job wrote to memory that is no longer bound",
    )?;
    check_device_works(&device)
}
