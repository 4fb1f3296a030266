// SPDX-License-Identifier: MIT OR Apache-2.0
//! Threads against each other on one file. What they do to each other's handles may fail; it must
//! not hang, corrupt, or leave anything behind.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use libvaccel::ioctl::{self, Errno};
use libvaccel::{sys, Deadline, Device};
use zerocopy::IntoBytes;

use super::Case;
use crate::rig::{check_device_works, failed, Result, Rig};

pub const CASES: &[Case] = &[
    Case {
        name: "stress-handles",
        proves: "threads that create, use and destroy the same handles meet only documented errors",
        run: handles,
    },
    Case {
        name: "stress-changing-arguments",
        proves: "an argument object that changes during SUBMIT is either accepted or refused",
        run: changing,
    },
];

const TIME: Duration = Duration::from_millis(1500);
const THREADS: u32 = 4;

/// What losing a race may look like.
const LOST: [i32; 4] = [libc::ENOENT, libc::EINVAL, libc::ETIME, libc::EDEADLK];

fn tolerate(
    what: &str,
    outcome: std::result::Result<(), Errno>,
) -> std::result::Result<(), String> {
    match outcome {
        Err(errno) if !LOST.contains(&errno.0) => Err(format!("{what}: {errno}")),
        _ => Ok(()),
    }
}

/// One round of everything, on handles that another thread may have destroyed, or made anew.
fn round(device: &Device, arg_bo: u32) -> std::result::Result<(), String> {
    let fd = device.as_fd();
    let mut vm = sys::VmCreate::default();
    tolerate("VM_CREATE", ioctl::call::<ioctl::VmCreate>(fd, &mut vm))?;
    let mut fence = sys::FenceCreate {
        vm: vm.vm,
        ..Default::default()
    };
    tolerate(
        "FENCE_CREATE",
        ioctl::call::<ioctl::FenceCreate>(fd, &mut fence),
    )?;
    let mut queue = sys::QueueCreate {
        vm: vm.vm,
        ..Default::default()
    };
    tolerate(
        "QUEUE_CREATE",
        ioctl::call::<ioctl::QueueCreate>(fd, &mut queue),
    )?;
    let mut submit = sys::Submit {
        queue: queue.queue,
        arg_bo,
        nr_ops: 1,
        op_stride: 64,
        ..Default::default()
    };
    tolerate("SUBMIT", ioctl::call::<ioctl::Submit>(fd, &mut submit))?;
    let mut wait = sys::FenceWait {
        fence: fence.fence,
        value: 1,
        deadline_ns: Deadline::after(Duration::from_millis(2)).as_ns(),
        ..Default::default()
    };
    tolerate("FENCE_WAIT", ioctl::call::<ioctl::FenceWait>(fd, &mut wait))?;
    // Neighbours: likely another thread's.
    for step in [1, 0] {
        let destroy = |handle: u32| sys::Destroy {
            handle: handle.saturating_sub(step),
            pad: 0,
        };
        let mut arg = destroy(fence.fence);
        tolerate(
            "FENCE_DESTROY",
            ioctl::call::<ioctl::FenceDestroy>(fd, &mut arg),
        )?;
        arg = destroy(queue.queue);
        tolerate(
            "QUEUE_DESTROY",
            ioctl::call::<ioctl::QueueDestroy>(fd, &mut arg),
        )?;
        arg = destroy(vm.vm);
        tolerate("VM_DESTROY", ioctl::call::<ioctl::VmDestroy>(fd, &mut arg))?;
    }
    Ok(())
}

fn join(outcomes: Vec<std::thread::Result<std::result::Result<(), String>>>) -> Result {
    for outcome in outcomes {
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => return failed(reason),
            Err(_) => return failed("a thread died"),
        }
    }
    Ok(())
}

fn handles(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    // The record names the fence of the rig, which nobody destroys: handles are high by then.
    let op = sys::OpFence {
        opcode: sys::OP_FENCE_SIGNAL,
        fence: rig.fence.handle(),
        value: 1,
        ..Default::default()
    };
    rig.arg.mapping().write(0, op.as_bytes())?;
    let end = Instant::now() + TIME;
    let (device, arg_bo) = (&rig.device, rig.arg.handle());
    let outcomes = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(move || {
                    while Instant::now() < end {
                        round(device, arg_bo)?;
                    }
                    Ok(())
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join()).collect()
    });
    join(outcomes)?;
    drop(rig);
    check_device_works(&Device::open(node)?)
}

fn changing(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let good = sys::OpFence {
        opcode: sys::OP_FENCE_SIGNAL,
        fence: rig.fence.handle(),
        value: 1,
        ..Default::default()
    };
    let bad = sys::OpFence {
        opcode: 77,
        fence: u32::MAX,
        reserved: [u64::MAX; 5],
        ..good
    };
    let exec = sys::OpExec {
        opcode: sys::OP_EXEC,
        size: u32::MAX,
        priv_size: u32::MAX,
        priv_offset: u64::MAX - 7,
        ..Default::default()
    };
    let end = Instant::now() + TIME;
    let rig_ref = &rig;
    let outcomes = std::thread::scope(|scope| {
        let changer = scope.spawn(move || {
            let mapping = rig_ref.arg.mapping();
            while Instant::now() < end {
                for record in [bad.as_bytes(), exec.as_bytes(), good.as_bytes()] {
                    mapping
                        .write(0, record)
                        .map_err(|error| error.to_string())?;
                }
            }
            Ok(())
        });
        let submitter = scope.spawn(move || {
            // A mixture may be a command buffer at a bad address, which ends the vm.
            let errnos = [
                libc::EINVAL,
                libc::ENOENT,
                libc::EOVERFLOW,
                libc::EFBIG,
                libc::EIO,
            ];
            while Instant::now() < end {
                let mut arg = sys::Submit {
                    queue: rig_ref.queue.handle(),
                    arg_bo: rig_ref.arg.handle(),
                    nr_ops: 1,
                    op_stride: 64,
                    ..Default::default()
                };
                match ioctl::call::<ioctl::Submit>(rig_ref.device.as_fd(), &mut arg) {
                    Err(errno) if !errnos.contains(&errno.0) => {
                        return Err(format!("SUBMIT of a changing record: {errno}"));
                    }
                    _ => {}
                }
            }
            Ok(())
        });
        vec![changer.join(), submitter.join()]
    });
    join(outcomes)?;
    check_device_works(&rig.device)
}
