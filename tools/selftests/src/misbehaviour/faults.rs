// SPDX-License-Identifier: MIT OR Apache-2.0
//! The faults that each command meets, and what has to become of the operation then.

use libvaccel::{Error, ErrorKind};
use serde_json::{json, Value};

/// What has to become of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Must {
    /// It succeeds: the driver puts up with this.
    Succeed,
    /// It fails with this errno and NTSTATUS, if the driver has somebody to tell.
    Refuse {
        /// The errno.
        errno: i32,
        /// The host's NTSTATUS.
        status: u32,
    },
    /// It succeeds, or fails as the interface documents.
    End,
}

/// Something that the host does wrong with an answer, by a rule of misbehaviour.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Name in the output.
    pub name: &'static str,
    /// The operation.
    pub must: Must,
    /// Whether the virtual GPU has to be offered anew before the host is clean again: an object may
    /// be there that the driver cannot know, or a release unanswered.
    pub dirty: bool,
    rule: fn(u64) -> Value,
}

impl Fault {
    /// What the rule does; the number is its seed.
    pub fn does(&self, seed: u64) -> Value {
        (self.rule)(seed)
    }
}

const fn clean(name: &'static str, must: Must, rule: fn(u64) -> Value) -> Fault {
    Fault {
        name,
        must,
        dirty: false,
        rule,
    }
}

const fn dirty(name: &'static str, rule: fn(u64) -> Value) -> Fault {
    Fault {
        name,
        must: Must::End,
        dirty: true,
        rule,
    }
}

/// STATUS_NO_MEMORY.
pub const NO_MEMORY: u32 = 0xc000_0017;
const INVALID_PARAMETER: u32 = 0xc000_000d;
const UNSUCCESSFUL: u32 = 0xc000_0001;
const DEVICE_REMOVED: u32 = 0xc000_02b6;
const NOT_SUPPORTED: u32 = 0xc000_00bb;
const GRAPHICS_ALLOCATION_BUSY: u32 = 0xc01e_0102;

const fn refuse(errno: i32, status: u32) -> Must {
    Must::Refuse { errno, status }
}

fn status(status: u32) -> Value {
    json!({"kind": "status", "status": status})
}

/// All faults of an answer.
pub const ALL: &[Fault] = &[
    clean(
        "delay",
        Must::Succeed,
        |_| json!({"kind": "delay", "milliseconds": 300}),
    ),
    clean("duplicate", Must::Succeed, |_| json!({"kind": "duplicate"})),
    clean("no-memory", refuse(libc::ENOSPC, NO_MEMORY), |_| {
        status(NO_MEMORY)
    }),
    clean(
        "invalid",
        refuse(libc::EREMOTEIO, INVALID_PARAMETER),
        |_| status(INVALID_PARAMETER),
    ),
    clean(
        "unsuccessful",
        refuse(libc::EREMOTEIO, UNSUCCESSFUL),
        |_| status(UNSUCCESSFUL),
    ),
    clean("removed", refuse(libc::EIO, DEVICE_REMOVED), |_| {
        status(DEVICE_REMOVED)
    }),
    clean(
        "unsupported",
        refuse(libc::EOPNOTSUPP, NOT_SUPPORTED),
        |_| status(NOT_SUPPORTED),
    ),
    clean(
        "busy",
        refuse(libc::EREMOTEIO, GRAPHICS_ALLOCATION_BUSY),
        |_| status(GRAPHICS_ALLOCATION_BUSY),
    ),
    dirty("drop-message", |_| json!({"kind": "drop-message"})),
    dirty("drop-answer", |_| json!({"kind": "drop-answer"})),
    dirty(
        "done-and-refused",
        |_| json!({"kind": "status", "status": UNSUCCESSFUL, "after": true}),
    ),
    dirty(
        "bare-status",
        |_| json!({"kind": "status", "status": UNSUCCESSFUL, "bare": true}),
    ),
    dirty("short", |_| json!({"kind": "short", "bytes": 4})),
    dirty("empty", |_| json!({"kind": "short", "bytes": 16384})),
    dirty(
        "long",
        |seed| json!({"kind": "long", "bytes": 64, "seed": seed}),
    ),
    dirty("zeros", |_| json!({"kind": "malformed", "mode": "zero"})),
    dirty("ones", |_| json!({"kind": "malformed", "mode": "ones"})),
    dirty(
        "random",
        |seed| json!({"kind": "malformed", "mode": "random", "seed": seed}),
    ),
    dirty(
        "flip",
        |seed| json!({"kind": "malformed", "mode": "flip", "seed": seed}),
    ),
    dirty("wrong-id", |_| json!({"kind": "wrong-id"})),
    dirty("early", |_| json!({"kind": "before", "bytes": 64})),
];

/// The errnos that the interface documents for a host that refuses, breaks the protocol, is silent or
/// gone, for a vm that failed, and for a wait whose deadline passed.
const DOCUMENTED: &[i32] = &[
    libc::ENOSPC,
    libc::EOPNOTSUPP,
    libc::EBUSY,
    libc::EIO,
    libc::EREMOTEIO,
    libc::ENODEV,
    libc::ETIMEDOUT,
    libc::ETIME,
    libc::ECANCELED,
];

/// Whether an operation may end in this error when its host is wrong.
pub fn is_documented(error: &Error) -> bool {
    match error.errno() {
        Some(errno) => DOCUMENTED.contains(&errno.0),
        // Not the kernel's: a node that is gone, or a result that the host spoilt.
        None => matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Other),
    }
}

#[cfg(test)]
mod tests {
    use libvaccel::ioctl::Errno;

    use super::*;

    /// Proves that each fault has a name of its own and says a kind.
    #[test]
    fn faults_have_names() {
        let mut names: Vec<&str> = ALL.iter().map(|fault| fault.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        assert!(ALL.iter().all(|fault| fault.does(1)["kind"].is_string()));
    }

    /// Proves that an errno that says something of the caller is not put up with.
    #[test]
    fn errors() {
        let error = |errno| Error::from_errno("BIND", Errno(errno), 0);
        assert!(is_documented(&error(libc::EREMOTEIO)));
        for errno in [libc::EINVAL, libc::EFAULT, libc::ENOMEM, libc::EPERM] {
            assert!(!is_documented(&error(errno)));
        }
    }
}
