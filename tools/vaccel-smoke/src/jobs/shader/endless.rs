// SPDX-License-Identifier: MIT OR Apache-2.0
//! A shader that does not end by itself.

use std::time::{Duration, Instant};

use libvaccel::compute::Session;
use libvaccel::{Deadline, State};
use vaccel_isa::{CommandStream, Opcode, MAX_DISPATCH_NS};

use super::{ends_in, module, output, works, Bench, Job, Measured, Module};
use crate::compare;
use crate::failure::Failure;

/// The test.
pub const JOB: Job = Job {
    name: "shader-endless",
    what: "a shader that does not end hangs its vm when the host's time limit is over; nothing is \
           written, other vms and later ones work (needs --timeout 120)",
    needs: &[Opcode::DispatchSpirv],
    run,
};

/// What the test needs beyond the longest dispatch.
const MARGIN: Duration = Duration::from_secs(30);
const WORDS: usize = 2;

fn run(bench: &Bench) -> Result<Measured, Failure> {
    let needed = Duration::from_nanos(MAX_DISPATCH_NS) + MARGIN;
    if bench.timeout < needed {
        return Err(Failure::NotPossible(format!(
            "a host without a limit of its own lets a shader run for 60 s: --timeout {} is needed",
            needed.as_secs()
        )));
    }
    let begin = Instant::now();
    let mut other = Session::new(&bench.device)?;
    let mut session = Session::new(&bench.device)?;
    let words = session.buffer(WORDS as u64 * 4)?;
    let shader = Module::new(&session, module!("endless"))?;
    let mut stream = CommandStream::new();
    stream.dispatch(shader.main(), [1; 3], &[output(0, &words)], &[]);
    let launched = session.launch(stream);
    let mut outputs = ends_in(bench, &session, launched, &[State::Hung])?;
    outputs += works(&mut other, Deadline::after(MARGIN))?;
    let written = words.read_u32(WORDS)?;
    outputs += compare::words("buffer of a hung shader", &written, &[0; WORDS])?;
    Ok(Measured {
        outputs,
        time: begin.elapsed(),
        ..Default::default()
    })
}
