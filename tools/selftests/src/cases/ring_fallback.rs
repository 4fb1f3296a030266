// SPDX-License-Identifier: MIT OR Apache-2.0
//! Futures where there is no io_uring.

use std::fs;
use std::path::Path;

use libvaccel::ring::{Backend, Options, Ring};
use libvaccel::{Features, Submission};

use super::ring_async::all;
use super::Case;
use crate::rig::{ensure, failed, needs, soon, Problem, Result, Rig};
use crate::seccomp;

pub const CASES: &[Case] = &[Case {
    name: "async-disabled",
    proves: "where the sysctl io_uring_disabled or a filter denies io_uring, and where the \
                 environment says so, the same futures work by ioctls; without that they do not",
    run: disabled,
}];

/// Denies io_uring to all: 2.
const SYSCTL: &str = "/proc/sys/kernel/io_uring_disabled";
/// Denies it to this library: 0.
const VARIABLE: &str = "VACCEL_URING";

/// The sysctl at 2, and as it was when dropped.
struct Denied {
    before: String,
}

impl Denied {
    fn new() -> Result<Self> {
        let before = match fs::read_to_string(SYSCTL) {
            Ok(before) => before,
            Err(error) => return Err(Problem::Skipped(format!("{SYSCTL}: {error}"))),
        };
        fs::write(SYSCTL, "2")?;
        Ok(Self { before })
    }
}

impl Drop for Denied {
    fn drop(&mut self) {
        if let Err(error) = fs::write(SYSCTL, &self.before) {
            eprintln!("{SYSCTL}: {error}");
        }
    }
}

/// Which way is taken, after it was tried.
fn works(rig: &Rig) -> Result<Backend> {
    let ring = Ring::new(&rig.device, &Options::new())?;
    let start = rig.fence.value()?;
    let futures = (1..=20).map(|step| {
        let list = Submission::new().done(&rig.fence, start + step);
        let list = list.signal(&rig.fence, start + step);
        ring.submit_and_complete(&rig.queue, &list)
    });
    all(futures.collect())?;
    ring.fence_wait(&rig.fence, start + 20, soon())
        .wait(soon())?;
    Ok(ring.backend())
}

fn takes(rig: &Rig, what: &str, expected: Backend) -> Result {
    let backend = works(rig)?;
    ensure(
        backend == expected,
        format!("{what}: {backend:?} was taken, expected {expected:?}"),
    )?;
    let asked = Ring::new(&rig.device, &Options::new().backend(Backend::IoUring));
    ensure(
        asked.is_ok() == (expected == Backend::IoUring),
        format!("{what}: asked for io_uring: {:?}", asked.err()),
    )
}

fn disabled(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let denied = Denied::new()?;
    takes(&rig, "denied by sysctl", Backend::Ioctl)?;
    drop(denied);
    needs(&rig.device, Features::URING)?;
    takes(&rig, "allowed", Backend::IoUring)?;
    std::env::set_var(VARIABLE, "0");
    takes(&rig, "denied by the environment", Backend::Ioctl)?;
    std::env::set_var(VARIABLE, "1");
    takes(&rig, "allowed by the environment", Backend::IoUring)?;
    let syscalls = [
        libc::SYS_io_uring_setup,
        libc::SYS_io_uring_enter,
        libc::SYS_io_uring_register,
    ];
    match seccomp::refuse(&syscalls) {
        Ok(()) => takes(&rig, "denied by a filter", Backend::Ioctl),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            Err(Problem::Skipped("the kernel has no filters".into()))
        }
        Err(error) => failed(format!("seccomp: {error}")),
    }
}
