// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keeps the engine busy for a known time, with work in order behind it.

use std::time::{Duration, Instant};

use libvaccel::compute::Session;
use libvaccel::{Deadline, ErrorKind};
use vaccel_isa::{CommandStream, Opcode};

use super::{Bench, Job, Measured};
use crate::compare;
use crate::failure::Failure;

/// The test.
pub const JOB: Job = Job {
    name: "spin",
    what: "keeps the engine busy for 100 ms: waits neither end early nor lose the work behind it",
    needs: &[Opcode::Spin, Opcode::Fill],
    run,
};

const SPIN: Duration = Duration::from_millis(100);
const WORD: u32 = 0x600d_600d;

fn run(bench: &Bench) -> Result<Measured, Failure> {
    let mut session = Session::new(&bench.device)?;
    let buffer = session.buffer(4)?;
    let mut spin = CommandStream::new();
    spin.spin(SPIN.as_nanos() as u64);
    let mut fill = CommandStream::new();
    fill.fill_words(buffer.gpu_va(), 4, WORD);

    let begin = Instant::now();
    let spinning = session.launch(spin)?;
    let filled = session.launch(fill)?;
    match session.wait(spinning, Deadline::NOW) {
        Err(error) if error.kind() == ErrorKind::TimedOut => {}
        Err(error) => return Err(error.into()),
        // The machine may have been away for longer than the spin; only the order of times tells.
        Ok(()) if begin.elapsed() >= SPIN => {}
        Ok(()) => {
            return Err(Failure::Behaviour(
                "a job of 100 ms was reported done before that time".into(),
            ))
        }
    }
    session.wait(filled, bench.deadline)?;
    let time = begin.elapsed();
    if time < SPIN {
        return Err(Failure::Behaviour(format!(
            "work behind a job of 100 ms was done after {} us",
            time.as_micros()
        )));
    }
    let outputs = compare::words("word behind the spin", &buffer.read_u32(1)?, &[WORD])?;
    buffer.close()?;
    Ok(Measured {
        outputs,
        time,
        ..Default::default()
    })
}
