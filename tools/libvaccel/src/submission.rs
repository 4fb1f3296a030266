// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lists of operations and their encoding.
//!
//! A [`Submission`] is built without a device and encoded into the bytes of an argument object:
//! records of one stride, then the private data of the operations, then room for results. Handles
//! are numbers in it; that they name living objects is checked by the kernel, as a whole, before
//! anything is queued.

use std::any::Any;
use std::ops::Range;
use std::sync::{Arc, Weak};

use zerocopy::{FromBytes, IntoBytes};

use crate::bo::{Bo, WeakBo};
use crate::bridge;
use crate::error::{Error, ErrorKind, Result};
use crate::fence::Fence;
use crate::flags::{AccessFlags, BindFlags};
use crate::handle::Handle;
use crate::ioctl::Errno;
use crate::mapping::Mapping;
use crate::reservation::Reservation;
use crate::syncobj::SyncObj;
use crate::sys;

/// Bytes per record: every record of the interface has this size.
const STRIDE: usize = size_of::<sys::OpExec>();
const _: () = assert!(
    STRIDE == size_of::<sys::OpFence>()
        && STRIDE == size_of::<sys::OpSyncobj>()
        && STRIDE == size_of::<sys::OpBind>()
        && STRIDE == size_of::<sys::OpResidency>()
        && STRIDE == size_of::<sys::OpBoAccess>()
);
const OPERATION: &str = "SUBMIT";

#[derive(Clone, Debug)]
enum Op {
    Exec {
        gpu_va: u64,
        size: u32,
        private: Vec<u8>,
    },
    Fence {
        opcode: u32,
        fence: u32,
        value: u64,
    },
    Syncobj(sys::OpSyncobj),
    Access(sys::OpBoAccess),
    Bind(sys::OpBind),
    Residency {
        op: u32,
        bo: u32,
    },
    /// What cannot be encoded; reported when the list is.
    Bad(Error),
}

/// What a list names by its handle. A list does not keep it: who closes it first has a list that the
/// kernel refuses.
#[derive(Clone, Debug)]
enum Named {
    Handle(Weak<Handle>),
    Bo(WeakBo),
}

/// What keeps one of them.
pub(crate) type Kept = Arc<dyn Any + Send + Sync>;

impl Named {
    fn keep(&self) -> Option<Kept> {
        match self {
            Self::Handle(handle) => handle.upgrade().map(|handle| handle as Kept),
            Self::Bo(bo) => bo.keep(),
        }
    }
}

impl From<&Fence> for Named {
    fn from(fence: &Fence) -> Self {
        Self::Handle(Arc::downgrade(fence.hold()))
    }
}

impl From<&SyncObj> for Named {
    fn from(syncobj: &SyncObj) -> Self {
        Self::Handle(Arc::downgrade(syncobj.hold()))
    }
}

impl From<&Bo> for Named {
    fn from(bo: &Bo) -> Self {
        Self::Bo(bo.downgrade())
    }
}

/// Operations for a queue, in order.
#[derive(Clone, Debug, Default)]
pub struct Submission {
    ops: Vec<Op>,
    named: Vec<Named>,
    flags: u32,
    seq: u64,
    done: Option<Done>,
    out: Option<(u32, u64)>,
}

/// A submission as the interface takes it; `queue` and `arg_bo` are still 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The structure.
    pub descriptor: sys::Submit,
    /// Start of the argument object.
    pub bytes: Vec<u8>,
    /// Bytes the argument object must have, results included.
    pub total_size: u64,
}

/// What became of one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpOutcome {
    /// The host took it. The number is a paging value or bytes to trim, by operation.
    Accepted(u64),
    /// It failed.
    Failed {
        /// Why.
        errno: Errno,
        /// The host's NTSTATUS.
        host_status: u32,
        /// With ENOSPC: what has to be evicted first.
        bytes_to_trim: u64,
    },
    /// An earlier one failed.
    NotTried,
}

/// An accepted submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// Its number on the queue, from 1.
    pub seq: u64,
    /// One entry per operation, if they were asked for; else empty.
    pub outcomes: Vec<OpOutcome>,
}

/// A submission that failed, and what became of each of its operations, if that was asked for:
/// those before the one that failed are queued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct Rejected {
    /// Why.
    pub error: Error,
    /// One entry per operation, or empty.
    pub outcomes: Vec<OpOutcome>,
}

impl From<Rejected> for Error {
    fn from(rejected: Rejected) -> Self {
        let trim = rejected.outcomes.iter().find_map(|outcome| match outcome {
            OpOutcome::Failed { bytes_to_trim, .. } => Some(*bytes_to_trim),
            _ => None,
        });
        rejected.error.with_bytes_to_trim(trim.unwrap_or(0))
    }
}

impl From<Error> for Rejected {
    fn from(error: Error) -> Self {
        Self {
            error,
            outcomes: Vec::new(),
        }
    }
}

/// The fence that is set behind the last operation.
#[derive(Clone, Debug)]
struct Done {
    handle: u32,
    fence: Weak<Handle>,
    value: u64,
}

fn closed() -> Error {
    Error::local(
        ErrorKind::NotFound,
        OPERATION,
        "something that the submission names is closed",
    )
}

impl Submission {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs the command buffer of `size` bytes at `gpu_va`.
    #[must_use]
    pub fn exec(self, gpu_va: u64, size: u32) -> Self {
        self.exec_with(gpu_va, size, Vec::new())
    }

    /// Runs a command buffer with opaque driver data.
    #[must_use]
    pub fn exec_with(mut self, gpu_va: u64, size: u32, private: Vec<u8>) -> Self {
        self.ops.push(Op::Exec {
            gpu_va,
            size,
            private,
        });
        self
    }

    /// The queue waits until `fence` has reached `value`.
    #[must_use]
    pub fn wait(mut self, fence: &Fence, value: u64) -> Self {
        self.ops.push(Op::Fence {
            opcode: sys::OP_FENCE_WAIT,
            fence: fence.handle(),
            value,
        });
        self.named.push(fence.into());
        self
    }

    /// The queue raises `fence` to `value`.
    #[must_use]
    pub fn signal(mut self, fence: &Fence, value: u64) -> Self {
        self.ops.push(Op::Fence {
            opcode: sys::OP_FENCE_SIGNAL,
            fence: fence.handle(),
            value,
        });
        self.named.push(fence.into());
        self
    }

    /// The queue waits for the fence that `point` of a syncobj has when this is submitted, whatever
    /// its error. Refused with [`ErrorKind::InvalidArgument`] if there is none.
    #[must_use]
    pub fn wait_syncobj(self, syncobj: &SyncObj, point: u64) -> Self {
        self.push_syncobj(sys::OP_SYNCOBJ_WAIT, syncobj, point, 0)
    }

    /// A long-running queue waits until `point` of a syncobj has a fence and that has signalled. A
    /// bounded one waits for no fence to come: [`ErrorKind::Deadlock`].
    #[must_use]
    pub fn wait_syncobj_for_submit(self, syncobj: &SyncObj, point: u64) -> Self {
        let flags = sys::SYNC_WAIT_FOR_SUBMIT;
        self.push_syncobj(sys::OP_SYNCOBJ_WAIT, syncobj, point, flags)
    }

    /// The queue signals `point` of a syncobj. From a bounded queue it has a fence at once, from a
    /// long-running one when the queue got so far.
    #[must_use]
    pub fn signal_syncobj(self, syncobj: &SyncObj, point: u64) -> Self {
        self.push_syncobj(sys::OP_SYNCOBJ_SIGNAL, syncobj, point, 0)
    }

    fn push_syncobj(mut self, opcode: u32, syncobj: &SyncObj, point: u64, flags: u32) -> Self {
        self.ops.push(Op::Syncobj(sys::OpSyncobj {
            opcode,
            flags: flags | bridge::timeline(point),
            syncobj: syncobj.handle(),
            point,
            ..Default::default()
        }));
        self.named.push(syncobj.into());
        self
    }

    /// Says that the submission uses an object that others use too and synchronise by. A long-running
    /// queue can only wait, with [`AccessFlags::WAIT`].
    #[must_use]
    pub fn access(mut self, bo: &Bo, flags: AccessFlags) -> Self {
        self.ops.push(Op::Access(sys::OpBoAccess {
            opcode: sys::OP_BO_ACCESS,
            flags: flags.bits(),
            bo: bo.handle(),
            ..Default::default()
        }));
        self.named.push(bo.into());
        self
    }

    /// Binds bytes `part` of an object at `offset` of a reservation, over what is there: behind the
    /// operations before and ahead of those after. The object may be dropped at once.
    #[must_use]
    pub fn bind(
        mut self,
        reservation: &Reservation,
        offset: u64,
        bo: &Bo,
        part: Range<u64>,
        flags: BindFlags,
    ) -> Self {
        self.named.push(bo.into());
        self.push_bind(sys::OP_BIND, reservation.describe(offset, bo, &part, flags))
    }

    /// Binds nothing to `range` of a reservation: reads give zeros and writes are dropped.
    #[must_use]
    pub fn bind_null(self, reservation: &Reservation, range: Range<u64>, flags: BindFlags) -> Self {
        self.push_bind(sys::OP_BIND, reservation.describe_null(&range, flags))
    }

    /// Leaves `range` as the reservation is.
    #[must_use]
    pub fn unbind(self, reservation: &Reservation, range: Range<u64>) -> Self {
        let place = reservation.place(&range, OPERATION);
        self.push_bind(
            sys::OP_UNBIND,
            place.map(|(gpu_va, size)| sys::Bind {
                gpu_va,
                size,
                ..Default::default()
            }),
        )
    }

    fn push_bind(mut self, opcode: u32, arg: Result<sys::Bind>) -> Self {
        self.ops.push(match arg {
            Ok(arg) => Op::Bind(sys::OpBind {
                opcode,
                flags: arg.flags,
                bo: arg.bo,
                gpu_va: arg.gpu_va,
                bo_offset: arg.bo_offset,
                size: arg.size,
                ..Default::default()
            }),
            Err(error) => Op::Bad(error),
        });
        self
    }

    /// The queue waits on the GPU until the object is resident, which the submission makes it.
    #[must_use]
    pub fn resident(self, bo: &Bo) -> Self {
        self.push_residency(sys::RESIDENCY_RESIDENT, bo)
    }

    /// Takes an offered object back ahead of later operations; fails with
    /// [`ErrorKind::ContentLost`] if its content was dropped.
    #[must_use]
    pub fn reclaim(self, bo: &Bo) -> Self {
        self.push_residency(sys::RESIDENCY_RECLAIM, bo)
    }

    fn push_residency(mut self, op: u32, bo: &Bo) -> Self {
        self.ops.push(Op::Residency {
            op,
            bo: bo.handle(),
        });
        self.named.push(bo.into());
        self
    }

    /// Sets `fence` to `value` behind the last operation.
    #[must_use]
    pub fn done(mut self, fence: &Fence, value: u64) -> Self {
        self.done = Some(Done {
            handle: fence.handle(),
            fence: Arc::downgrade(fence.hold()),
            value,
        });
        self
    }

    /// Puts a fence at `point` of a syncobj that signals when all of this is done, within bounded time
    /// and with an error if it was not. Bounded queues only.
    #[must_use]
    pub fn out_syncobj(mut self, syncobj: &SyncObj, point: u64) -> Self {
        self.named.push(syncobj.into());
        self.out = Some((syncobj.handle(), point));
        self
    }

    /// Refuses with [`ErrorKind::Stale`] unless this becomes number `seq` of the queue.
    #[must_use]
    pub fn expect_seq(mut self, seq: u64) -> Self {
        self.flags |= sys::SUBMIT_EXPECT_SEQ;
        self.seq = seq;
        self
    }

    /// Asks for the outcome of each operation.
    #[must_use]
    pub fn with_outcomes(mut self) -> Self {
        self.flags |= sys::SUBMIT_RESULTS;
        self
    }

    /// Does not wait on the GPU for bindings made before.
    #[must_use]
    pub fn no_paging_wait(mut self) -> Self {
        self.flags |= sys::SUBMIT_NO_PAGING_WAIT;
        self
    }

    /// What keeps the fence that is set behind the last operation, if there is one.
    pub(crate) fn done_fence(&self) -> Result<Option<Arc<Handle>>> {
        let done = self.done.as_ref();
        done.map(|done| done.fence.upgrade().ok_or_else(closed))
            .transpose()
    }

    /// What keeps all that the list names.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if some of it is closed.
    pub(crate) fn keep(&self) -> Result<Vec<Kept>> {
        let named = self.named.iter().map(Named::keep);
        let done = self.done_fence()?.map(|fence| Some(fence as Kept));
        named
            .chain(done)
            .map(|kept| kept.ok_or_else(closed))
            .collect()
    }

    /// Whether memory has to become resident before it is queued.
    pub(crate) fn makes_resident(&self) -> bool {
        self.ops.iter().any(|op| match op {
            Op::Bind(bind) => bind.opcode == sys::OP_BIND,
            Op::Residency { op, .. } => *op == sys::RESIDENCY_RESIDENT,
            _ => false,
        })
    }

    /// The bytes for the kernel.
    pub fn encode(&self) -> Result<Encoded> {
        self.encode_at(0)
    }

    /// The bytes for the kernel, to be written at `base` of the argument object, a multiple of 8.
    pub(crate) fn encode_at(&self, base: u64) -> Result<Encoded> {
        let nr_ops = u32::try_from(self.ops.len())
            .ok()
            .filter(|count| (1..=sys::limit::OPS_MAX).contains(count))
            .ok_or_else(|| {
                Error::local(
                    ErrorKind::InvalidArgument,
                    OPERATION,
                    format!(
                        "{} operations, 1 to {} allowed",
                        self.ops.len(),
                        sys::limit::OPS_MAX
                    ),
                )
            })?;
        let mut records = Vec::with_capacity(self.ops.len() * STRIDE);
        let mut private_area = Vec::new();
        let private_start = self.ops.len() * STRIDE;
        for op in &self.ops {
            match op {
                Op::Exec {
                    gpu_va,
                    size,
                    private,
                } => {
                    let priv_size = u32::try_from(private.len())
                        .ok()
                        .filter(|size| *size <= sys::limit::PRIV_SIZE_MAX)
                        .ok_or_else(|| {
                            Error::local(
                                ErrorKind::TooLarge,
                                OPERATION,
                                format!(
                                    "{} bytes of driver data, at most {}",
                                    private.len(),
                                    sys::limit::PRIV_SIZE_MAX
                                ),
                            )
                        })?;
                    let priv_offset = if private.is_empty() {
                        0
                    } else {
                        base + (private_start + private_area.len()) as u64
                    };
                    private_area.extend_from_slice(private);
                    private_area.resize(private_area.len().next_multiple_of(8), 0);
                    let record = sys::OpExec {
                        opcode: sys::OP_EXEC,
                        gpu_va: *gpu_va,
                        size: *size,
                        priv_size,
                        priv_offset,
                        ..Default::default()
                    };
                    records.extend_from_slice(record.as_bytes());
                }
                Op::Fence {
                    opcode,
                    fence,
                    value,
                } => {
                    let record = sys::OpFence {
                        opcode: *opcode,
                        fence: *fence,
                        value: *value,
                        ..Default::default()
                    };
                    records.extend_from_slice(record.as_bytes());
                }
                Op::Syncobj(record) => records.extend_from_slice(record.as_bytes()),
                Op::Access(record) => records.extend_from_slice(record.as_bytes()),
                Op::Bind(record) => records.extend_from_slice(record.as_bytes()),
                Op::Residency { op, bo } => {
                    let record = sys::OpResidency {
                        opcode: sys::OP_RESIDENCY,
                        bo: *bo,
                        op: *op,
                        ..Default::default()
                    };
                    records.extend_from_slice(record.as_bytes());
                }
                Op::Bad(error) => return Err(error.clone()),
            }
        }
        records.append(&mut private_area);
        let mut descriptor = sys::Submit {
            flags: self.flags,
            nr_ops,
            arg_offset: base,
            op_stride: STRIDE as u32,
            seq: self.seq,
            ..Default::default()
        };
        if let Some(done) = &self.done {
            descriptor.flags |= sys::SUBMIT_DONE_FENCE;
            descriptor.done_fence = done.handle;
            descriptor.done_value = done.value;
        }
        if let Some((syncobj, point)) = self.out {
            descriptor.flags |= sys::SUBMIT_OUT_SYNCOBJ;
            descriptor.out_syncobj = syncobj;
            descriptor.out_point = point;
        }
        let mut total_size = records.len() as u64;
        if self.flags & sys::SUBMIT_RESULTS != 0 {
            descriptor.result_offset = base + total_size;
            // What the kernel does not write stays "not tried".
            let untried = sys::OpResult {
                error: 1,
                ..Default::default()
            };
            for _ in 0..nr_ops {
                records.extend_from_slice(untried.as_bytes());
            }
            total_size = records.len() as u64;
        }
        if total_size > u64::from(sys::limit::ARG_SIZE_MAX) {
            return Err(Error::local(
                ErrorKind::TooLarge,
                OPERATION,
                format!(
                    "{total_size} bytes of arguments, at most {}",
                    sys::limit::ARG_SIZE_MAX
                ),
            ));
        }
        Ok(Encoded {
            descriptor,
            bytes: records,
            total_size,
        })
    }
}

impl OpOutcome {
    fn from_wire(result: &sys::OpResult) -> Self {
        match result.error {
            0 => Self::Accepted(result.value),
            error if error < 0 => Self::Failed {
                errno: Errno(error.saturating_neg()),
                host_status: result.host_status,
                bytes_to_trim: result.value,
            },
            _ => Self::NotTried,
        }
    }
}

impl Submitted {
    /// The results that a submission has left.
    pub(crate) fn outcomes(descriptor: &sys::Submit, args: &Mapping) -> Result<Vec<OpOutcome>> {
        let mut outcomes = Vec::new();
        if descriptor.flags & sys::SUBMIT_RESULTS != 0 {
            let start = usize::try_from(descriptor.result_offset).unwrap_or(usize::MAX);
            let mut bytes = vec![0; descriptor.nr_ops as usize * size_of::<sys::OpResult>()];
            args.read(start, &mut bytes)?;
            outcomes = bytes
                .chunks_exact(size_of::<sys::OpResult>())
                .filter_map(|chunk| sys::OpResult::read_from_bytes(chunk).ok())
                .map(|result| OpOutcome::from_wire(&result))
                .collect();
        }
        Ok(outcomes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handle::Node;
    use std::fs::File;

    /// Proves the bytes of a submission field by field: one exec with private data, results behind
    /// it.
    #[test]
    fn encoding_is_what_the_header_says() {
        let encoded = Submission::new()
            .exec(0x1000, 16)
            .exec_with(0x2000, 24, vec![0xaa; 3])
            .with_outcomes()
            .encode()
            .unwrap();
        let descriptor = encoded.descriptor;
        assert_eq!(descriptor.nr_ops, 2);
        assert_eq!(descriptor.op_stride, 64);
        assert_eq!(descriptor.flags, sys::SUBMIT_RESULTS);
        assert_eq!(descriptor.arg_offset, 0);
        assert_eq!(descriptor.result_offset, 136);
        assert_eq!(encoded.total_size, 136 + 32);
        let bytes = &encoded.bytes;
        assert_eq!(bytes[0..4], 1u32.to_ne_bytes());
        assert_eq!(bytes[8..16], 0x1000u64.to_ne_bytes());
        assert_eq!(bytes[16..20], 16u32.to_ne_bytes());
        assert_eq!(bytes[20..32], [0; 12], "no private data, no offset");
        assert_eq!(bytes[64 + 20..64 + 24], 3u32.to_ne_bytes());
        assert_eq!(bytes[64 + 24..64 + 32], 128u64.to_ne_bytes());
        assert_eq!(bytes[128..136], [0xaa, 0xaa, 0xaa, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[136..140], 1i32.to_ne_bytes(), "not tried yet");
        assert_eq!(bytes.len(), 136 + 32);
    }

    /// Proves that what lies elsewhere in an argument object says so.
    #[test]
    fn encoding_at_a_place() {
        let list = Submission::new()
            .exec_with(0x2000, 24, vec![0xaa; 3])
            .with_outcomes();
        let (here, there) = (list.encode().unwrap(), list.encode_at(4096).unwrap());
        assert_eq!(there.descriptor.arg_offset, 4096);
        assert_eq!(there.descriptor.result_offset, 4096 + 72);
        assert_eq!(there.total_size, here.total_size);
        assert_eq!(there.bytes[24..32], (4096u64 + 64).to_ne_bytes());
    }

    /// Proves the bytes of the synchronisation records and of an out-fence, points and flags included.
    #[test]
    fn synchronisation_is_what_the_header_says() {
        let node = Arc::new(Node::new(
            File::open("/dev/null").unwrap(),
            "/dev/null".into(),
        ));
        let syncobj = SyncObj::of(&node, 5).unwrap();
        let encoded = Submission::new()
            .wait_syncobj(&syncobj, 0)
            .wait_syncobj_for_submit(&syncobj, 7)
            .signal_syncobj(&syncobj, 8)
            .out_syncobj(&syncobj, 9)
            .encode()
            .unwrap();
        let descriptor = encoded.descriptor;
        assert_eq!(descriptor.flags, sys::SUBMIT_OUT_SYNCOBJ);
        assert_eq!((descriptor.out_syncobj, descriptor.out_point), (5, 9));
        let records: Vec<(u32, u32, u32, u64)> = encoded
            .bytes
            .chunks_exact(STRIDE)
            .map(|bytes| sys::OpSyncobj::read_from_bytes(bytes).unwrap())
            .map(|op| (op.opcode, op.flags, op.syncobj, op.point))
            .collect();
        assert_eq!(records, [(4, 0, 5, 0), (4, 3, 5, 7), (5, 1, 5, 8)]);
    }

    /// Proves that the limits are enforced before the kernel is asked.
    #[test]
    fn limits() {
        assert!(Submission::new().encode().is_err());
        let mut long = Submission::new();
        for _ in 0..1024 {
            long = long.exec(8, 8);
        }
        assert!(long.encode().is_ok());
        assert!(long.exec(8, 8).encode().is_err());
        let fat = Submission::new().exec_with(8, 8, vec![0; 65537]);
        assert_eq!(fat.encode().unwrap_err().kind(), ErrorKind::TooLarge);
    }

    /// Proves that the three outcomes of a result record are told apart.
    #[test]
    fn outcomes() {
        let record = |error| sys::OpResult {
            error,
            host_status: 0xc000_0001,
            value: 9,
        };
        assert_eq!(OpOutcome::from_wire(&record(0)), OpOutcome::Accepted(9));
        assert_eq!(OpOutcome::from_wire(&record(1)), OpOutcome::NotTried);
        assert_eq!(
            OpOutcome::from_wire(&record(-5)),
            OpOutcome::Failed {
                errno: Errno(5),
                host_status: 0xc000_0001,
                bytes_to_trim: 9,
            }
        );
        let rejected = Rejected {
            error: Error::from_errno(OPERATION, Errno(libc::ENOSPC), 0xc000_0001),
            outcomes: [0, -28, 1]
                .map(|error| OpOutcome::from_wire(&record(error)))
                .to_vec(),
        };
        assert_eq!(Error::from(rejected).bytes_to_trim(), Some(9));
    }
}
