// SPDX-License-Identifier: MIT OR Apache-2.0
//! A queue with its fence, and empty jobs for it.
//!
//! Both ways take the same structure and the same argument object, which is written once: all jobs
//! of a lane are alike but for the value of their fence.

use libvaccel::compute::{Buffer, Session};
use libvaccel::ioctl::Submit;
use libvaccel::{sys, ArgBo, Deadline, Device, QueueMode, Submission, Vm};
use vaccel_isa::CommandStream;

use super::super::{Unfinished, WAIT_SECS};
use super::door::{call, complete, push, wait, Door};

/// A queue, an empty job for it, and the fence that its jobs raise one by one.
#[derive(Debug)]
pub struct Lane {
    session: Session,
    descriptor: sys::Submit,
    /// The last value that a job was given.
    last: u64,
    _code: Buffer,
    _args: ArgBo,
}

impl Lane {
    /// A lane of its own queue in `vm`.
    pub fn new(device: &Device, vm: &Vm) -> Result<Self, Unfinished> {
        let session = Session::in_vm(vm, QueueMode::Bounded)?;
        let bytes = CommandStream::new()
            .finish()
            .map_err(|error| Unfinished::Failed(error.to_string()))?;
        let code = session.code_buffer(bytes.len() as u64)?;
        code.mapping().write(0, &bytes)?;
        let job = Submission::new()
            .exec(code.gpu_va(), code.len() as u32)
            .done(session.fence(), 0)
            .encode()?;
        let args = device.create_arg_bo(u64::from(sys::limit::PAGE_SIZE))?;
        args.mapping().write(0, &job.bytes)?;
        Ok(Self {
            descriptor: sys::Submit {
                queue: session.queue().handle(),
                arg_bo: args.handle(),
                ..job.descriptor
            },
            session,
            last: 0,
            _code: code,
            _args: args,
        })
    }

    /// The next job.
    fn job(&mut self) -> sys::Submit {
        self.last += 1;
        sys::Submit {
            done_value: self.last,
            ..self.descriptor
        }
    }

    /// Submits `count` jobs, which are all queued when this is back.
    pub fn submit(&mut self, door: &mut Door<'_>, count: u32) -> Result<(), Unfinished> {
        match door {
            Door::Ioctl(file) => {
                for _ in 0..count {
                    call::<Submit>(file, &mut self.job())?;
                }
                Ok(())
            }
            Door::Ring(ring) => {
                for _ in 0..count {
                    push::<Submit>(ring, &self.job())?;
                }
                complete(ring, count as usize, "SUBMIT by ring")
            }
        }
    }

    /// Waits until all jobs are done.
    pub fn finish(&self) -> Result<(), Unfinished> {
        let deadline = Deadline::after_secs(WAIT_SECS);
        self.session.fence().wait(self.last, deadline)?;
        Ok(())
    }

    /// One job, until its end is known: by ioctl two calls, by ring one whose completion is its end.
    pub fn single(&mut self, door: &mut Door<'_>) -> Result<(), Unfinished> {
        match door {
            Door::Ioctl(_) => {
                self.submit(door, 1)?;
                wait(door, self.session.fence(), self.last)
            }
            Door::Ring(ring) => {
                let mut job = self.job();
                job.flags |= sys::SUBMIT_CQE_ON_DONE;
                push::<Submit>(ring, &job)?;
                complete(ring, 1, "SUBMIT by ring")
            }
        }
    }
}
