// SPDX-License-Identifier: MIT OR Apache-2.0
//! BIND, UNBIND and RESIDENCY by io_uring.

use std::os::fd::AsFd;
use std::path::Path;

use libc::{EINVAL, ENOSPC};
use libvaccel::compute::Session;
use libvaccel::{
    ioctl, sys, Bo, BoOptions, Device, Features, QueueMode, ReserveOptions, Vm, VmFlags,
};
use zerocopy::IntoBytes;

use super::budget::short;
use super::Case;
use crate::rig::{ensure, gpu_words, needs, Result, SIZE};
use crate::uring::door::{self, as_refused, refuses_the_unknown};
use crate::uring::{Entry, Ring};

pub const CASES: &[Case] = &[
    Case {
        name: "uring-bind",
        proves:
            "a binding made by io_uring has its address in the completion and can be used by then, \
                 and goes by io_uring or ioctl",
        run: bind,
    },
    Case {
        name: "uring-bind-batch",
        proves: "of many BINDs in one go each has an address of its own that shows its object",
        run: batch,
    },
    Case {
        name: "uring-bind-fixed",
        proves: "BIND and UNBIND by io_uring work inside of a reservation",
        run: fixed,
    },
    Case {
        name: "uring-residency",
        proves:
            "an object that is made resident by io_uring can be used when the command completes, \
                 and evicted",
        run: residency,
    },
    Case {
        name: "uring-no-space",
        proves:
            "over the budget RESIDENCY and BIND by io_uring end with ENOSPC and the bytes to trim",
        run: no_space,
    },
    Case {
        name: "uring-memory-bad",
        proves:
            "what the ioctls refuse of bindings and residency io_uring refuses with the same errno",
        run: bad,
    },
];

const MEGABYTE: u64 = 1 << 20;

fn binding(vm: &Vm, bo: &Bo) -> sys::Bind {
    sys::Bind {
        vm: vm.handle(),
        bo: bo.handle(),
        flags: sys::BIND_WRITE,
        size: bo.size(),
        ..Default::default()
    }
}

fn unbinding(vm: &Vm, gpu_va: u64, size: u64) -> sys::Bind {
    sys::Bind {
        vm: vm.handle(),
        gpu_va,
        size,
        ..Default::default()
    }
}

fn bind_entry(device: &Device, arg: &sys::Bind, user_data: u64) -> Entry {
    Entry::new::<ioctl::Bind>(device.as_fd(), arg, user_data)
}

fn unbind_entry(device: &Device, arg: &sys::Bind) -> Entry {
    Entry::new::<ioctl::Unbind>(device.as_fd(), arg, 0)
}

/// An object whose first word is this.
fn marked(vm: &Vm, word: u32) -> Result<Bo> {
    let bo = vm.create_bo(&BoOptions::new(SIZE))?;
    bo.map()?.write(0, &word.to_le_bytes())?;
    Ok(bo)
}

/// Does a BIND; the address.
fn bound(ring: &mut Ring, device: &Device, arg: &sys::Bind) -> Result<u64> {
    let completion = ring.one(&bind_entry(device, arg, 0))?;
    completion.is("BIND", 0)?;
    let gpu_va = completion.extra.unwrap_or(0);
    ensure(gpu_va != 0, "BIND gives no address")?;
    Ok(gpu_va)
}

fn bind(node: &Path) -> Result {
    let device = door::open(node)?;
    let mut session = Session::new(&device)?;
    let mut ring = Ring::usual()?;
    let vm = session.vm().clone();
    for word in 1..=4 {
        let bo = marked(&vm, word)?;
        let gpu_va = bound(&mut ring, &device, &binding(&vm, &bo))?;
        let seen = gpu_words(&mut session, &[gpu_va])?;
        ensure(seen == [word], format!("{seen:?} instead of {word}"))?;
        let arg = unbinding(&vm, gpu_va, SIZE);
        if word % 2 == 0 {
            ring.one(&unbind_entry(&device, &arg))?.gives("UNBIND", 0)?;
        } else {
            crate::expect::accepted::<ioctl::Unbind>(&device, "by ioctl", arg)?;
        }
        ring.one(&unbind_entry(&device, &arg))?
            .is("UNBIND again", -EINVAL)?;
    }
    Ok(())
}

fn batch(node: &Path) -> Result {
    const COUNT: u32 = 64;
    let device = door::open(node)?;
    let mut session = Session::new(&device)?;
    let mut ring = Ring::usual()?;
    let vm = session.vm().clone();
    let objects = (0..COUNT)
        .map(|word| marked(&vm, word))
        .collect::<Result<Vec<_>>>()?;
    let entries: Vec<Entry> = (0..)
        .zip(&objects)
        .map(|(number, bo)| bind_entry(&device, &binding(&vm, bo), number))
        .collect();
    let completions = ring.all(&entries)?;
    let mut addresses = Vec::new();
    for completion in &completions {
        completion.is("BIND", 0)?;
        addresses.push(completion.extra.unwrap_or(0));
    }
    let seen = gpu_words(&mut session, &addresses)?;
    ensure(
        seen.iter().copied().eq(0..COUNT),
        format!("the objects show {seen:?}"),
    )?;
    let entries: Vec<Entry> = addresses
        .iter()
        .map(|gpu_va| unbind_entry(&device, &unbinding(&vm, *gpu_va, SIZE)))
        .collect();
    for completion in ring.all(&entries)? {
        completion.is("UNBIND", 0)?;
    }
    Ok(())
}

fn fixed(node: &Path) -> Result {
    let device = door::open(node)?;
    needs(&device, Features::VA_RESERVE)?;
    let mut session = Session::new(&device)?;
    let mut ring = Ring::usual()?;
    let vm = session.vm().clone();
    let reservation = vm.reserve(4 * SIZE, &ReserveOptions::new().zero())?;
    let (first, second) = (marked(&vm, 1)?, marked(&vm, 2)?);
    let gpu_va = reservation.gpu_va();
    for (bo, place) in [
        (&first, gpu_va),
        (&second, gpu_va + SIZE),
        (&second, gpu_va),
    ] {
        let mut arg = binding(&vm, bo);
        arg.flags |= sys::BIND_FIXED;
        arg.gpu_va = place;
        ring.one(&bind_entry(&device, &arg, 0))?
            .gives("BIND", place)?;
    }
    let seen = gpu_words(&mut session, &[gpu_va, gpu_va + SIZE])?;
    ensure(seen == [2, 2], format!("bound over: {seen:?}"))?;
    let arg = unbinding(&vm, gpu_va, SIZE);
    ring.one(&unbind_entry(&device, &arg))?.gives("UNBIND", 0)?;
    let seen = gpu_words(&mut session, &[gpu_va, gpu_va + SIZE])?;
    ensure(seen == [0, 2], format!("unbound: {seen:?}"))
}

/// RESIDENCY of one object.
struct Residency<'a> {
    device: &'a Device,
    args: &'a libvaccel::ArgBo,
    vm: &'a Vm,
}

impl Residency<'_> {
    fn arg(&self, op: u32, bo: &Bo) -> Result<sys::Residency> {
        let entry = sys::ResidencyEntry {
            bo: bo.handle(),
            result: 0,
        };
        self.args.mapping().write(0, entry.as_bytes())?;
        Ok(sys::Residency {
            vm: self.vm.handle(),
            op,
            arg_bo: self.args.handle(),
            count: 1,
            ..Default::default()
        })
    }

    fn entry(&self, op: u32, bo: &Bo) -> Result<Entry> {
        let arg = self.arg(op, bo)?;
        Ok(Entry::new::<ioctl::Residency>(
            self.device.as_fd(),
            &arg,
            op.into(),
        ))
    }
}

fn residency(node: &Path) -> Result {
    let device = door::open(node)?;
    needs(&device, Features::MANUAL_RESIDENCY)?;
    let vm = device.create_vm(VmFlags::MANUAL_RESIDENCY)?;
    let args = device.create_arg_bo(4096)?;
    let mut ring = Ring::usual()?;
    let of = Residency {
        device: &device,
        args: &args,
        vm: &vm,
    };
    let mut session = Session::in_vm(&vm, QueueMode::Bounded)?;
    let bo = marked(&vm, 9)?;
    let gpu_va = bound(&mut ring, &device, &binding(&vm, &bo))?;
    for round in 0..3 {
        ring.one(&of.entry(sys::RESIDENCY_RESIDENT, &bo)?)?
            .gives("RESIDENT", 0)?;
        if round == 0 {
            let seen = gpu_words(&mut session, &[gpu_va])?;
            ensure(seen == [9], format!("{seen:?} instead of 9"))?;
        }
        ring.one(&of.entry(sys::RESIDENCY_EVICT, &bo)?)?
            .is("EVICT", 0)?;
    }
    let again = of.arg(sys::RESIDENCY_EVICT, &bo)?;
    as_refused::<ioctl::Residency>(&device, &mut ring, "EVICT again", again)
}

fn no_space(node: &Path) -> Result {
    door::open(node)?;
    let (_host, device, _) = short(node, Features::MANUAL_RESIDENCY, 2 * MEGABYTE)?;
    let vm = device.create_vm(VmFlags::MANUAL_RESIDENCY)?;
    let args = device.create_arg_bo(4096)?;
    let mut ring = Ring::usual()?;
    let of = Residency {
        device: &device,
        args: &args,
        vm: &vm,
    };
    let bo = vm.create_bo(&BoOptions::host(5 * MEGABYTE))?;
    let completion = ring.one(&of.entry(sys::RESIDENCY_RESIDENT, &bo)?)?;
    completion.is("RESIDENT of 5 MiB into 2", -ENOSPC)?;
    ensure(
        completion.extra == Some(3 * MEGABYTE),
        format!("RESIDENT: {:?} bytes to trim", completion.extra),
    )?;
    let automatic = device.create_vm(VmFlags::empty())?;
    let bo = automatic.create_bo(&BoOptions::host(3 * MEGABYTE))?;
    let completion = ring.one(&bind_entry(&device, &binding(&automatic, &bo), 0))?;
    completion.is("BIND of 3 MiB into 2", -ENOSPC)?;
    ensure(
        completion.extra == Some(MEGABYTE),
        format!("BIND: {:?} bytes to trim", completion.extra),
    )
}

fn bad(node: &Path) -> Result {
    let (rig, mut ring) = door::rig(node)?;
    let device = &rig.device;
    let good = binding(&rig.vm, &rig.bo);
    let known = sys::BIND_WRITE | sys::BIND_FIXED | sys::BIND_NULL | sys::BIND_EXECUTE;
    refuses_the_unknown::<ioctl::Bind>(device, &mut ring, &good, known)?;
    let bad = [
        ("in no vm", sys::Bind { vm: 0, ..good }),
        ("of no object", sys::Bind { bo: 0, ..good }),
        ("of nothing", sys::Bind { size: 0, ..good }),
        ("of half a page", sys::Bind { size: 2048, ..good }),
        (
            "behind the end",
            sys::Bind {
                bo_offset: SIZE,
                ..good
            },
        ),
        (
            "around the end",
            sys::Bind {
                bo_offset: u64::MAX - 4095,
                ..good
            },
        ),
        (
            "at an address without FIXED",
            sys::Bind {
                gpu_va: 4096,
                ..good
            },
        ),
        (
            "of an argument object",
            sys::Bind {
                bo: rig.arg.handle(),
                ..good
            },
        ),
    ];
    for (what, arg) in bad {
        as_refused::<ioctl::Bind>(device, &mut ring, what, arg)?;
    }
    let there = unbinding(&rig.vm, rig.binding.gpu_va(), SIZE);
    refuses_the_unknown::<ioctl::Unbind>(device, &mut ring, &there, 0)?;
    let bad = [
        (
            "of a part",
            sys::Bind {
                size: 4096,
                ..there
            },
        ),
        (
            "with an object",
            sys::Bind {
                bo: rig.bo.handle(),
                ..there
            },
        ),
        ("of nothing", sys::Bind { size: 0, ..there }),
        ("in no vm", sys::Bind { vm: 0, ..there }),
    ];
    for (what, arg) in bad {
        as_refused::<ioctl::Unbind>(device, &mut ring, what, arg)?;
    }
    needs(device, Features::MANUAL_RESIDENCY)?;
    let of = Residency {
        device,
        args: &rig.arg,
        vm: &rig.vm,
    };
    let good = of.arg(sys::RESIDENCY_RESIDENT, &rig.bo)?;
    let known = sys::RESIDENT_CANT_TRIM;
    refuses_the_unknown::<ioctl::Residency>(device, &mut ring, &good, known)?;
    let bad = [
        ("operation 5", sys::Residency { op: 5, ..good }),
        ("of no vm", sys::Residency { vm: 0, ..good }),
        ("of no list", sys::Residency { arg_bo: 0, ..good }),
        ("of none", sys::Residency { count: 0, ..good }),
        (
            "of too many",
            sys::Residency {
                count: 10241,
                ..good
            },
        ),
        (
            "with a priority",
            sys::Residency {
                priority: 1,
                ..good
            },
        ),
        (
            "behind the end",
            sys::Residency {
                arg_offset: 1 << 40,
                ..good
            },
        ),
    ];
    for (what, arg) in bad {
        as_refused::<ioctl::Residency>(device, &mut ring, what, arg)?;
    }
    Ok(())
}
