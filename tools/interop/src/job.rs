// SPDX-License-Identifier: MIT OR Apache-2.0
//! Work for queues: something that takes a while and whose result shows that it was done.

use libvaccel::compute::{Buffer, Session};
use libvaccel::Submission;
use vaccel_isa::CommandStream;

use crate::scenario::{failed, same, Result};

const WORDS: usize = 1024;
const NANOSECONDS: u64 = 50_000_000;

/// Memory that a job writes.
pub fn target(session: &Session) -> Result<Buffer> {
    Ok(session.buffer(4 * WORDS as u64)?)
}

/// A command buffer that writes `word` all over `target`, but not at once.
pub fn job(session: &Session, target: &Buffer, word: u32) -> Result<Buffer> {
    let mut stream = CommandStream::new();
    stream.spin(NANOSECONDS);
    stream.fill_words(target.gpu_va(), target.len(), word);
    let Ok(bytes) = stream.finish() else {
        return failed("the job cannot be encoded");
    };
    let code = session.code_buffer(bytes.len() as u64)?;
    code.mapping().write(0, &bytes)?;
    Ok(code)
}

/// Adds a job to a list of operations.
pub fn with(submission: Submission, job: &Buffer) -> Submission {
    submission.exec(job.gpu_va(), job.len() as u32)
}

/// What a target must hold.
pub fn check(target: &Buffer, word: u32) -> Result {
    same("result", target.read_u32(WORDS)?, vec![word; WORDS])
}
