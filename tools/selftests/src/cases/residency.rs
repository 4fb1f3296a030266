// SPDX-License-Identifier: MIT OR Apache-2.0
//! RESIDENCY by hand.

use std::path::Path;

use libc::{EFBIG, EINVAL, ENOENT};
use libvaccel::{ioctl, sys, ErrorKind};
use zerocopy::IntoBytes;

use super::Case;
use crate::expect::{accepted, refused, refuses_the_unknown};
use crate::rig::{soon, Problem, Result, Rig, SIZE};

pub const CASES: &[Case] = &[
    Case {
        name: "residency",
        proves: "objects can be made resident and evicted, and the paging fence gets there",
        run: resident,
    },
    Case {
        name: "residency-bad",
        proves: "bad lists, counts and operations are refused, and then nothing is resident",
        run: bad,
    },
];

fn resident(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    match rig.vm.make_resident(&[&rig.bo]) {
        Ok(resident) => {
            resident.wait(soon())?;
            rig.vm.evict(&[&rig.bo])?;
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::Unsupported => Err(Problem::Skipped(
            "the driver provides no RESIDENCY yet".into(),
        )),
        Err(error) => Err(error.into()),
    }
}

fn bad(node: &Path) -> Result {
    resident(node)?;
    let rig = Rig::new(node)?;
    let device = &rig.device;
    let list = |bo| sys::ResidencyEntry { bo, result: 0 };
    let entries = [list(rig.bo.handle()), list(0x7fff_fff0)];
    rig.arg.mapping().write(0, entries.as_bytes())?;
    let good = sys::Residency {
        vm: rig.vm.handle(),
        op: sys::RESIDENCY_RESIDENT,
        arg_bo: rig.arg.handle(),
        count: 1,
        ..Default::default()
    };
    accepted::<ioctl::Residency>(device, "as it should be", good)?;
    let evict = sys::Residency {
        op: sys::RESIDENCY_EVICT,
        ..good
    };
    accepted::<ioctl::Residency>(device, "evict", evict)?;
    refuses_the_unknown::<ioctl::Residency>(device, &good, 0)?;
    let refuse = |what: &str, bad, errno| refused::<ioctl::Residency>(device, what, bad, &[errno]);
    refuse("operation 5", sys::Residency { op: 5, ..good }, EINVAL)?;
    refuse(
        "unknown vm",
        sys::Residency {
            vm: 0x7fff_fff0,
            ..good
        },
        ENOENT,
    )?;
    refuse("no list", sys::Residency { arg_bo: 0, ..good }, ENOENT)?;
    refuse("count 0", sys::Residency { count: 0, ..good }, EINVAL)?;
    let count = sys::limit::RESIDENCY_MAX + 1;
    refuse(
        "count above the limit",
        sys::Residency { count, ..good },
        EFBIG,
    )?;
    let arg_offset = SIZE - 8;
    let beyond = sys::Residency {
        arg_offset,
        count: 2,
        ..good
    };
    refuse("list behind the end", beyond, EINVAL)?;
    refuse(
        "priority",
        sys::Residency {
            priority: 1,
            ..good
        },
        EINVAL,
    )?;
    refuse(
        "a list with an unknown object",
        sys::Residency { count: 2, ..good },
        ENOENT,
    )
}
