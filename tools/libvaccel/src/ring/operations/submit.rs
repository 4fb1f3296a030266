// SPDX-License-Identifier: MIT OR Apache-2.0
//! Submission.

use std::sync::Arc;

use crate::arg::ArgBo;
use crate::error::{Error, ErrorKind, Result};
use crate::fence;
use crate::ioctl::{self, Errno};
use crate::queue::Queue;
use crate::ring::args::{Place, PLACE};
use crate::ring::command::{Command, Outcome, Success};
use crate::ring::{Pending, Ring};
use crate::submission::{Encoded, Rejected, Submission, Submitted};
use crate::sys;

const OPERATION: &str = "SUBMIT";

/// A submission that is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completed {
    /// What it was when it was accepted.
    pub submitted: Submitted,
    /// First error recorded on its fence.
    pub error: Option<Errno>,
}

/// A submission where the kernel finds it.
struct Written {
    descriptor: sys::Submit,
    place: Place,
}

impl Written {
    /// The outcomes of its operations with the outcome of all.
    fn outcome(&self, outcome: Outcome) -> Result<(Success, Submitted)> {
        let outcomes = Submitted::outcomes(&self.descriptor, self.place.mapping())?;
        match outcome.of::<ioctl::Submit>() {
            Ok(success) => Ok((
                success,
                Submitted {
                    seq: success.extra,
                    outcomes,
                },
            )),
            Err(error) => Err(Rejected { error, outcomes }.into()),
        }
    }
}

impl Ring {
    /// Queues a list of operations; ends when they are queued.
    ///
    /// Submissions to one queue are queued in the order in which they were asked for, with one
    /// exception: where the driver had to evict memory of the vm, one that has to bring it back may be
    /// overtaken. [`Submission::expect_seq`] refuses what came too early.
    ///
    /// # Errors
    ///
    /// As [`Queue::submit`], and ENOBUFS if too many submissions of the queue have yet to be queued.
    pub fn submit(&self, queue: &Queue, submission: &Submission) -> Pending<Submitted> {
        self.or_refused(|| {
            let written = self.write(queue, submission)?;
            let command = Command::Submit {
                arg: written.descriptor,
                slow: submission.makes_resident(),
            };
            let kept = (queue.hold().clone(), submission.keep()?);
            Ok(self.begin(command, move |outcome| {
                let submitted = written.outcome(outcome);
                drop(kept);
                submitted.map(|(_, submitted)| submitted)
            }))
        })
    }

    /// Queues a list of operations; ends when all are done, which is when the fence of
    /// [`Submission::done`] has its value.
    ///
    /// # Errors
    ///
    /// As [`Ring::submit`] and [`Fence::wait`](crate::Fence::wait);
    /// [`ErrorKind::InvalidArgument`] if the list sets no fence.
    pub fn submit_and_complete(
        &self,
        queue: &Queue,
        submission: &Submission,
    ) -> Pending<Completed> {
        self.or_refused(|| {
            let Some(done) = submission.done_fence()? else {
                return Err(Error::local(
                    ErrorKind::InvalidArgument,
                    OPERATION,
                    "the submission sets no fence when it is done",
                ));
            };
            let mut written = self.write(queue, submission)?;
            written.descriptor.flags |= sys::SUBMIT_CQE_ON_DONE;
            let command = Command::Submit {
                arg: written.descriptor,
                slow: submission.makes_resident(),
            };
            let kept = (queue.hold().clone(), submission.keep()?);
            Ok(self.begin(command, move |outcome| {
                let ended = written.outcome(outcome);
                drop(kept);
                let (success, submitted) = ended?;
                let error = match success.recorded {
                    true => fence::query(&done)?.error,
                    false => None,
                };
                Ok(Completed { submitted, error })
            }))
        })
    }

    /// Queues what the caller has written into an argument object of its own, and gives its number.
    /// `descriptor` says where; its queue and argument object are set here. With
    /// [`sys::SUBMIT_CQE_ON_DONE`] it ends when the operations are done. What the operations name
    /// is the caller's to keep.
    ///
    /// # Errors
    ///
    /// As [`Ring::submit`].
    pub fn submit_prepared(
        &self,
        queue: &Queue,
        args: &Arc<ArgBo>,
        descriptor: &sys::Submit,
    ) -> Pending<u64> {
        self.or_refused(|| {
            self.own(queue.vm().node(), OPERATION)?;
            self.own(args.node(), OPERATION)?;
            let arg = sys::Submit {
                queue: queue.handle(),
                arg_bo: args.handle(),
                ..*descriptor
            };
            let kept = (queue.hold().clone(), args.clone());
            let command = Command::Submit { arg, slow: false };
            Ok(self.begin(command, move |outcome| {
                drop(kept);
                Ok(outcome.of::<ioctl::Submit>()?.extra)
            }))
        })
    }

    /// Puts a list where the kernel finds it until it is queued.
    fn write(&self, queue: &Queue, submission: &Submission) -> Result<Written> {
        self.own(queue.vm().node(), OPERATION)?;
        let mut place = self.place(PLACE)?;
        let mut encoded = submission.encode_at(place.offset())?;
        if encoded.total_size > PLACE {
            place = self.place(encoded.total_size)?;
            encoded = submission.encode_at(place.offset())?;
        }
        let Encoded {
            mut descriptor,
            bytes,
            ..
        } = encoded;
        place.write(&bytes)?;
        descriptor.queue = queue.handle();
        descriptor.arg_bo = place.handle();
        Ok(Written { descriptor, place })
    }
}
