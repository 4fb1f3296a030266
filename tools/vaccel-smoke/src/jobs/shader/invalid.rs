// SPDX-License-Identifier: MIT OR Apache-2.0
//! Modules that are none, and dispatches that lack something.

use std::time::Instant;

use libvaccel::compute::Session;
use libvaccel::State;
use vaccel_isa::{Binding, CommandStream, Opcode};

use super::{ends_in, module, output, Bench, Job, Measured, Module};
use crate::compare;
use crate::failure::Failure;

/// The test.
pub const JOB: Job = Job {
    name: "shader-invalid",
    what: "a module of zeros, one that is cut and one without its buffers end their vm as faults; \
           nothing is written, other vms and later ones work",
    needs: &[Opcode::DispatchSpirv],
    run,
};

const WORDS: usize = 2;

fn run(bench: &Bench) -> Result<Measured, Failure> {
    let begin = Instant::now();
    let good = module!("endless");
    let cut = good.get(..good.len() / 8 * 4).unwrap_or_default();
    let mut outputs = refused(bench, &[0; 256], true)?;
    outputs += refused(bench, cut, true)?;
    outputs += refused(bench, good, false)?;
    Ok(Measured {
        outputs,
        time: begin.elapsed(),
        ..Default::default()
    })
}

/// Dispatches a module that must be refused, with or without the buffer that it needs.
fn refused(bench: &Bench, module: &[u8], with_buffer: bool) -> Result<u64, Failure> {
    let mut session = Session::new(&bench.device)?;
    let words = session.buffer(WORDS as u64 * 4)?;
    let shader = Module::new(&session, module)?;
    let buffers: &[Binding] = if with_buffer {
        &[output(0, &words)]
    } else {
        &[]
    };
    let mut stream = CommandStream::new();
    stream.dispatch(shader.main(), [1; 3], buffers, &[]);
    let launched = session.launch(stream);
    // The state that a malformed command buffer leaves is a word of the host's.
    let states = [State::DmaFault, State::Stopped, State::Reset];
    let outputs = ends_in(bench, &session, launched, &states)?;
    let written = words.read_u32(WORDS)?;
    Ok(outputs + compare::words("buffer of a refused shader", &written, &[0; WORDS])?)
}
