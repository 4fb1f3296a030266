// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compute shaders, where the host's engine runs them. Their sources are in `shaders`; the build
//! makes SPIR-V of them.

mod add;
mod endless;
mod gemm;
mod invalid;
mod reduce;

use libvaccel::compute::{Buffer, Session, Ticket};
use libvaccel::{Deadline, ErrorKind, State};
use vaccel_isa::{Binding, BindingAccess, CommandStream, Shader};

use super::{Bench, Job, Measured};
use crate::compare;
use crate::failure::Failure;

pub use add::JOB as ADD;
pub use endless::JOB as ENDLESS;
pub use gemm::JOB as GEMM;
pub use invalid::JOB as INVALID;
pub use reduce::JOB as REDUCE;

/// A shader that was built from its source in `shaders`.
macro_rules! module {
    ($name:literal) => {
        include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".spv"))
    };
}
use module;

/// A module in memory that the GPU sees.
struct Module(Buffer);

impl Module {
    fn new(session: &Session, bytes: &[u8]) -> Result<Self, Failure> {
        let buffer = session.buffer(bytes.len() as u64)?;
        buffer.mapping().write(0, bytes)?;
        Ok(Self(buffer))
    }

    /// The shader `main` in it.
    fn main(&self) -> Shader<'static> {
        Shader {
            va: self.0.gpu_va(),
            // Modules are far below 4 GiB, and the engine refuses a wrong length.
            bytes: self.0.len() as u32,
            entry_point: "main",
        }
    }
}

/// A buffer that a shader reads.
fn input(number: u32, buffer: &Buffer) -> Binding {
    Binding {
        number,
        va: buffer.gpu_va(),
        bytes: buffer.len(),
        access: BindingAccess::Read,
    }
}

/// A buffer that a shader reads and writes.
fn output(number: u32, buffer: &Buffer) -> Binding {
    Binding {
        access: BindingAccess::ReadWrite,
        ..input(number, buffer)
    }
}

/// Judges work that must end its vm in one of `states`, and shows that a shader of a
/// new vm runs.
fn ends_in(
    bench: &Bench,
    session: &Session,
    launched: libvaccel::Result<Ticket>,
    states: &[State],
) -> Result<u64, Failure> {
    let wrong = |text: String| Err(Failure::Behaviour(text));
    match launched.and_then(|ticket| session.wait(ticket, bench.deadline)) {
        Ok(()) => return wrong("a shader that must fail was reported done".into()),
        Err(error) if error.kind() == ErrorKind::VmError => {}
        Err(error) => return Err(error.into()),
    }
    let state = session.vm().query()?.state;
    if !states.contains(&state) {
        return wrong(format!(
            "the vm is in state {state:?}, expected one of {states:?}"
        ));
    }
    works(&mut Session::new(&bench.device)?, bench.deadline)
}

/// Runs a shader on a few elements.
fn works(session: &mut Session, deadline: Deadline) -> Result<u64, Failure> {
    let module = Module::new(session, module!("add"))?;
    let a = session.buffer_f32(&[1.0, 2.0, 3.0])?;
    let sum = session.buffer(12)?;
    let mut stream = CommandStream::new();
    let buffers = [input(0, &a), input(1, &a), output(2, &sum)];
    stream.dispatch(module.main(), [1; 3], &buffers, &0.5f32.to_le_bytes());
    session.run(stream, deadline)?;
    compare::floats("shader afterwards", &sum.read_f32(3)?, &[2.5, 4.5, 6.5])
}
