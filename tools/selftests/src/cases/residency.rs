// SPDX-License-Identifier: MIT OR Apache-2.0
//! RESIDENCY by hand.

use std::path::Path;

use libc::{EFBIG, EINVAL, ENOENT};
use libvaccel::{ioctl, sys, BindFlags, BoOptions, ErrorKind, Features, VmFlags};
use zerocopy::IntoBytes;

use super::Case;
use crate::expect::{accepted, refused, refuses_the_unknown};
use crate::rig::{ensure, failed, open_with, soon, Problem, Result, Rig, SIZE};

pub const CASES: &[Case] = &[
    Case {
        name: "residency",
        proves: "objects can be made resident and evicted, and the paging fence gets there",
        run: resident,
    },
    Case {
        name: "residency-counted",
        proves: "RESIDENT counts: an object goes with as many EVICTs, and one more is refused; a \
                 list is all or nothing in both",
        run: counted,
    },
    Case {
        name: "residency-manual-fault",
        proves:
            "in a vm with residency by hand a job on an object that is not resident faults, and \
                 on one that is made resident works",
        run: manual,
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
    refuses_the_unknown::<ioctl::Residency>(device, &good, sys::RESIDENT_CANT_TRIM)?;
    let flags = sys::RESIDENT_CANT_TRIM;
    refused::<ioctl::Residency>(
        device,
        "EVICT with CANT_TRIM",
        sys::Residency { flags, ..evict },
        &[EINVAL],
    )?;
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

fn counted(node: &Path) -> Result {
    let device = open_with(node, Features::MANUAL_RESIDENCY)?;
    let vm = device.create_vm(VmFlags::MANUAL_RESIDENCY)?;
    let one = vm.create_bo(&BoOptions::new(SIZE))?;
    let two = vm.create_bo(&BoOptions::new(SIZE))?;
    let not_resident = |what: &str, outcome: libvaccel::Result<()>| match outcome {
        Err(error) if [ErrorKind::InvalidArgument, ErrorKind::Busy].contains(&error.kind()) => {
            Ok(())
        }
        other => failed(format!("{what}: {other:?}, expected EINVAL or EBUSY")),
    };
    not_resident("EVICT at first", vm.evict(&[&one]))?;
    vm.make_resident(&[&one])?.wait(soon())?;
    vm.make_resident(&[&one, &two])?.wait(soon())?;
    vm.evict(&[&one])?;
    vm.evict(&[&two])?;
    // The list is refused for its second object: the first stays.
    not_resident("EVICT of a list", vm.evict(&[&one, &two]))?;
    vm.evict(&[&one])?;
    not_resident("EVICT once too often", vm.evict(&[&one]))?;
    // An object that is named twice counts twice.
    vm.make_resident(&[&one, &one])?.wait(soon())?;
    vm.evict(&[&one])?;
    vm.evict(&[&one])?;
    not_resident("EVICT of both and one more", vm.evict(&[&one]))
}

fn manual(node: &Path) -> Result {
    let device = open_with(node, Features::MANUAL_RESIDENCY)?;
    for resident in [true, false] {
        let vm = device.create_vm(VmFlags::MANUAL_RESIDENCY)?;
        let mut session = libvaccel::compute::Session::in_vm(&vm, libvaccel::QueueMode::Bounded)?;
        let bo = vm.create_bo(&BoOptions::new(SIZE))?;
        let mapping = bo.map()?;
        let binding = bo.bind(BindFlags::WRITE)?;
        vm.make_resident(&[&bo])?.wait(soon())?;
        if !resident {
            vm.evict(&[&bo])?;
        }
        let mut stream = vaccel_isa::CommandStream::new();
        stream.fill_words(binding.gpu_va(), 64, 6);
        let outcome = session
            .launch(stream)
            .and_then(|ticket| session.wait(ticket, soon()));
        let mut bytes = [0; 4];
        mapping.read(0, &mut bytes)?;
        match (resident, outcome) {
            (true, Ok(())) => ensure(bytes == [6, 0, 0, 0], "the job has not written")?,
            (false, Err(error)) if error.kind() == ErrorKind::VmError => {
                ensure(
                    bytes == [0; 4],
                    "the job wrote to an object that is not resident",
                )?;
                let state = vm.query()?.state;
                ensure(
                    state == libvaccel::State::PageFault,
                    format!("the vm is in state {state:?}"),
                )?;
            }
            (_, other) => return failed(format!("resident {resident}: the job ends in {other:?}")),
        }
    }
    crate::rig::check_device_works(&device)
}
