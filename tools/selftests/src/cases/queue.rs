// SPDX-License-Identifier: MIT OR Apache-2.0
//! QUEUE_CREATE and the vm's and queue's queries.

use std::path::Path;

use libc::{EFBIG, EINVAL, ENOENT, EOPNOTSUPP};
use libvaccel::{ioctl, sys, QueueMode, QueueOptions, State, Submission};

use super::Case;
use crate::expect::refused;
use crate::rig::{ensure, Result, Rig};

pub const CASES: &[Case] = &[
    Case {
        name: "queue-create-bad",
        proves: "unknown modes, priorities out of range and bad driver data are refused",
        run: create_bad,
    },
    Case {
        name: "queue-sequence",
        proves:
            "accepted submissions are numbered from 1 without gaps; refused ones take no number",
        run: sequence,
    },
    Case {
        name: "vm-flags",
        proves: "manual residency is either announced or refused",
        run: vm_flags,
    },
];

fn create_bad(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let good = sys::QueueCreate {
        vm: rig.vm.handle(),
        ..Default::default()
    };
    let refuse =
        |what: &str, bad, errno| refused::<ioctl::QueueCreate>(&rig.device, what, bad, &[errno]);
    refuse("no vm", sys::QueueCreate { vm: 0, ..good }, ENOENT)?;
    refuse(
        "unknown vm",
        sys::QueueCreate {
            vm: 0x7fff_fff0,
            ..good
        },
        ENOENT,
    )?;
    for mode in [2, u32::MAX] {
        refuse(
            &format!("mode {mode}"),
            sys::QueueCreate { mode, ..good },
            EINVAL,
        )?;
    }
    for priority in [-8, 8, i32::MIN, i32::MAX] {
        let bad = sys::QueueCreate { priority, ..good };
        refuse(&format!("priority {priority}"), bad, EINVAL)?;
    }
    let bad = sys::QueueCreate {
        priv_size: 8,
        ..good
    };
    refuse("driver data without an object", bad, ENOENT)?;
    let with_data = sys::QueueCreate {
        arg_bo: rig.arg.handle(),
        priv_size: 8,
        ..good
    };
    let bad = sys::QueueCreate {
        arg_bo: rig.bo.handle(),
        ..with_data
    };
    refuse("driver data in a guest object", bad, EINVAL)?;
    let bad = sys::QueueCreate {
        priv_size: sys::limit::PRIV_SIZE_MAX + 1,
        ..with_data
    };
    refuse("too much driver data", bad, EFBIG)?;
    let bad = sys::QueueCreate {
        arg_offset: rig.arg.size(),
        ..with_data
    };
    refuse("driver data behind the end", bad, EINVAL)?;
    let bad = sys::QueueCreate {
        arg_offset: u64::MAX - 7,
        priv_size: 16,
        ..with_data
    };
    refuse("driver data that overflows", bad, libc::EOVERFLOW)
}

fn sequence(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    for mode in [QueueMode::Bounded, QueueMode::LongRunning] {
        let queue = rig.vm.create_queue(&QueueOptions::new(mode).priority(-1))?;
        ensure(
            queue.query()? == (State::Active, 0),
            "a new queue has submissions",
        )?;
        for number in 1..=5 {
            let value = rig.fence.value()? + 1;
            let submission = Submission::new().signal(&rig.fence, value);
            let bad = submission.clone().expect_seq(number + 1);
            let error = match queue.submit(&bad) {
                Err(error) => error,
                Ok(_) => return crate::rig::failed("a wrong sequence number was accepted"),
            };
            ensure(
                error.errno().map(|errno| errno.0) == Some(libc::ESTALE),
                format!("a wrong sequence number: {error}"),
            )?;
            let seq = queue.submit(&submission.expect_seq(number))?.seq;
            ensure(
                seq == number,
                format!("submission {number} has number {seq}"),
            )?;
            rig.fence.wait(value, crate::rig::soon())?;
        }
        ensure(
            queue.query()? == (State::Active, 5),
            "the last number is not 5",
        )?;
        queue.close()?;
    }
    Ok(())
}

fn vm_flags(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let announced = rig.device.param(sys::PARAM_FEATURES)? & sys::FEATURE_MANUAL_RESIDENCY != 0;
    if announced {
        rig.device
            .create_vm(libvaccel::VmFlags::MANUAL_RESIDENCY)?
            .close()?;
        return Ok(());
    }
    let create = sys::VmCreate {
        flags: sys::VM_MANUAL_RESIDENCY,
        ..Default::default()
    };
    refused::<ioctl::VmCreate>(&rig.device, "with manual residency", create, &[EOPNOTSUPP])
}
