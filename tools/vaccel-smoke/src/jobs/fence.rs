// SPDX-License-Identifier: MIT OR Apache-2.0
//! Monitored fences between CPU and GPU in both directions.

use std::time::{Duration, Instant};

use libvaccel::compute::Session;
use libvaccel::{Deadline, ErrorKind, FenceFlags, QueueMode, Submission};
use vaccel_isa::{CommandStream, Opcode};

use super::{Bench, Job, Measured};
use crate::compare;
use crate::failure::Failure;

/// The test.
pub const JOB: Job = Job {
    name: "fence",
    what: "CPU signals wake CPU and GPU waits, GPU signals wake CPU waits, deadlines hold",
    needs: &[Opcode::Fill],
    run,
};

/// How long work that must not start is watched.
const WATCH: Duration = Duration::from_millis(50);
const WORD: u32 = 0x5197_a11d;

fn expect(condition: bool, otherwise: &str) -> Result<u64, Failure> {
    if condition {
        Ok(1)
    } else {
        Err(Failure::Behaviour(otherwise.to_owned()))
    }
}

fn run(bench: &Bench) -> Result<Measured, Failure> {
    let begin = Instant::now();
    let session = Session::with_mode(&bench.device, QueueMode::LongRunning)?;
    let mut outputs = 0;

    // The CPU sets a value and sees it, in the page and by query.
    let fence = session.vm().create_fence(FenceFlags::empty(), 3)?;
    outputs += expect(
        fence.value()? == 3,
        "a new fence does not have its first value",
    )?;
    fence.signal(7)?;
    outputs += expect(
        fence.value()? == 7,
        "the mapped value is not the signalled one",
    )?;
    outputs += expect(
        fence.query()?.value == 7,
        "the value by query is not the signalled one",
    )?;
    outputs += expect(
        fence.wait(5, bench.deadline)?.value >= 5,
        "a wait saw less than it waited for",
    )?;

    // A wait for what does not come ends at its deadline, and not before.
    let start = Instant::now();
    let waited = fence.wait(8, Deadline::after(WATCH));
    let timed_out = matches!(&waited, Err(error) if error.kind() == ErrorKind::TimedOut);
    outputs += expect(timed_out, "a wait without a signal did not time out")?;
    outputs += expect(start.elapsed() >= WATCH, "a wait ended before its deadline")?;

    // A CPU signal wakes a CPU wait.
    let woken = std::thread::scope(|scope| {
        let waiter = scope.spawn(|| fence.wait(9, bench.deadline));
        std::thread::sleep(WATCH / 5);
        fence.signal(9)?;
        waiter.join().unwrap_or_else(|_| {
            Err(libvaccel::Error::local(
                ErrorKind::Other,
                "wait",
                "panicked",
            ))
        })
    })?;
    outputs += expect(woken.value >= 9, "a woken wait saw an old value")?;

    // The GPU waits for the CPU, then works, then signals.
    let buffer = session.buffer(4)?;
    let mut fill = CommandStream::new();
    fill.fill_words(buffer.gpu_va(), 4, WORD);
    let code = fill
        .finish()
        .map_err(|error| Failure::Behaviour(error.to_string()))?;
    let code_buffer = session.code_buffer(code.len() as u64)?;
    code_buffer.mapping().write(0, &code)?;
    let done = session.vm().create_fence(FenceFlags::empty(), 0)?;
    let submission = Submission::new()
        .wait(&fence, 10)
        .exec(code_buffer.gpu_va(), code.len() as u32)
        .signal(&done, 1);
    session.queue().submit(&submission)?;
    std::thread::sleep(WATCH);
    outputs += expect(
        buffer.read_u32(1)? == [0] && done.value()? == 0,
        "the GPU did not wait for the fence",
    )?;
    fence.signal(10)?;
    done.wait(1, bench.deadline)?;
    outputs += compare::words("word behind the wait", &buffer.read_u32(1)?, &[WORD])?;

    buffer.close()?;
    code_buffer.close()?;
    done.close()?;
    fence.close()?;
    Ok(Measured {
        outputs,
        time: begin.elapsed(),
        ..Default::default()
    })
}
