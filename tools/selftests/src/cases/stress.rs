// SPDX-License-Identifier: MIT OR Apache-2.0
//! Threads against each other on one file. What they do to each other's handles may fail; it must
//! not hang, corrupt, or leave anything behind.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use libvaccel::ioctl::{self, Errno};
use libvaccel::{sys, BoKind, BoOptions, Deadline, Device, Features, ReserveOptions, VmFlags};
use zerocopy::IntoBytes;

use super::Case;
use crate::rig::{check_device_works, failed, open_with, Numbers, Result, Rig};

pub const CASES: &[Case] = &[
    Case {
        name: "stress-handles",
        proves: "threads that create, use and destroy the same handles meet only documented errors",
        run: handles,
    },
    Case {
        name: "stress-memory",
        proves: "threads that make, bind, reserve, offer, make resident, map and close the same \
                 objects meet only documented errors, and the device still computes",
        run: memory,
    },
    Case {
        name: "stress-changing-arguments",
        proves: "an argument object that changes during SUBMIT is either accepted or refused",
        run: changing,
    },
];

/// Result of a step of a thread.
type Step = std::result::Result<(), String>;

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

/// What losing a race about memory may look like.
const LOST_MEMORY: [i32; 4] = [libc::ENOENT, libc::EINVAL, libc::EBUSY, libc::EEXIST];

/// Objects, a vm and a reservation that every thread works on.
struct Shared {
    device: Device,
    vms: [u32; 2],
    objects: Vec<u32>,
    /// Those of guest memory: what is offered must not be touched through a window.
    guest: Vec<u32>,
    reserved: [u64; 2],
}

const STRESS_PAGES: u64 = 16;

/// One random operation on what everybody uses.
fn poke(shared: &Shared, args: &libvaccel::ArgBo, numbers: &mut Numbers) -> Step {
    let fd = shared.device.as_fd();
    let pick = |list: &[u32], number: u64| {
        let index = number as usize % list.len().max(1);
        list.get(index).copied().unwrap_or(0)
    };
    let which = numbers.below(2) as usize;
    let vm = pick(&shared.vms, which as u64);
    let bo = pick(&shared.objects, numbers.below(64));
    let gpu_va = shared.reserved.get(which).copied().unwrap_or(0);
    let page = numbers.below(STRESS_PAGES);
    let pages = 1 + numbers.below(STRESS_PAGES - page);
    let bind = sys::Bind {
        vm,
        gpu_va: gpu_va + page * 4096,
        size: pages * 4096,
        ..Default::default()
    };
    let outcome = match numbers.below(8) {
        0..=2 => ioctl::call::<ioctl::Bind>(
            fd,
            &mut sys::Bind {
                bo,
                flags: sys::BIND_FIXED | sys::BIND_WRITE,
                ..bind
            },
        ),
        3 => ioctl::call::<ioctl::Unbind>(fd, &mut { bind }),
        4 => ioctl::call::<ioctl::VaRelease>(
            fd,
            &mut sys::VaRange {
                vm,
                gpu_va,
                size: STRESS_PAGES * 4096,
                ..Default::default()
            },
        )
        .and_then(|()| {
            // Nothing was bound just then: it comes back where it was, if nobody is faster.
            ioctl::call::<ioctl::VaReserve>(
                fd,
                &mut sys::VaRange {
                    vm,
                    flags: sys::VA_ZERO,
                    gpu_va,
                    size: STRESS_PAGES * 4096,
                    ..Default::default()
                },
            )
        }),
        5 => ioctl::call::<ioctl::BoSync>(
            fd,
            &mut sys::BoSync {
                bo,
                flags: sys::SYNC_FOR_CPU,
                size: 4096,
                ..Default::default()
            },
        ),
        _ => {
            let op = numbers.below(5) as u32;
            let list = match op {
                sys::RESIDENCY_OFFER => &shared.guest,
                _ => &shared.objects,
            };
            let first = numbers.below(64);
            // Two different ones: the host refuses to reclaim one twice.
            let entries = [first, first + 1].map(|number| sys::ResidencyEntry {
                bo: pick(list, number),
                result: 0,
            });
            args.mapping()
                .write(0, entries.as_bytes())
                .map_err(|error| error.to_string())?;
            ioctl::call::<ioctl::Residency>(
                fd,
                &mut sys::Residency {
                    vm,
                    op,
                    priority: match op {
                        sys::RESIDENCY_OFFER => sys::OFFER_PRIORITY_LOW,
                        sys::RESIDENCY_PRIORITY => sys::PRIORITY_LOW,
                        _ => 0,
                    },
                    arg_bo: args.handle(),
                    count: 2,
                    ..Default::default()
                },
            )
        }
    };
    match outcome {
        Err(errno) if !LOST_MEMORY.contains(&errno.0) => Err(format!("memory: {errno}")),
        _ => Ok(()),
    }
}

fn memory(node: &Path) -> Result {
    let device = open_with(node, Features::VA_RESERVE | Features::OFFER)?;
    // One that keeps what is bound resident, one that does not.
    let vms = [
        device.create_vm(VmFlags::empty())?,
        device.create_vm(VmFlags::MANUAL_RESIDENCY)?,
    ];
    let host = device.features()?.contains(Features::HOST_MEMORY);
    let mut objects = Vec::new();
    for number in 0..8 {
        let options = match number % 2 {
            1 if host => BoOptions::host(STRESS_PAGES * 4096),
            _ => BoOptions::new(STRESS_PAGES * 4096),
        };
        for vm in &vms {
            objects.push(vm.create_bo(&options)?);
        }
    }
    let mappings: Vec<_> = objects
        .iter()
        .map(libvaccel::Bo::map)
        .collect::<libvaccel::Result<_>>()?;
    let zero = ReserveOptions::new().zero();
    let [first, second] = &vms;
    let reservations = [
        first.reserve(STRESS_PAGES * 4096, &zero)?,
        second.reserve(STRESS_PAGES * 4096, &zero)?,
    ];
    let shared = Shared {
        device: device.clone(),
        vms: [first.handle(), second.handle()],
        objects: objects.iter().map(libvaccel::Bo::handle).collect(),
        guest: objects
            .iter()
            .filter(|bo| bo.kind() == BoKind::Guest)
            .map(libvaccel::Bo::handle)
            .collect(),
        reserved: [0, 1].map(|i: usize| reservations.get(i).map_or(0, |r| r.gpu_va())),
    };
    let end = Instant::now() + TIME * 2;
    let (shared, mappings) = (&shared, &mappings);
    let outcomes = std::thread::scope(|scope| {
        let mut threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn(move || {
                    let args = shared
                        .device
                        .create_arg_bo(4096)
                        .map_err(|error| error.to_string())?;
                    let mut numbers = Numbers(u64::from(thread));
                    while Instant::now() < end {
                        poke(shared, &args, &mut numbers)?;
                    }
                    Ok(())
                })
            })
            .collect();
        // The CPU looks at all of them meanwhile, offered or not.
        threads.push(scope.spawn(move || {
            while Instant::now() < end {
                for mapping in mappings {
                    mapping
                        .write(8192, &[1; 8])
                        .and_then(|()| mapping.load_u64(0))
                        .map_err(|error| error.to_string())?;
                }
            }
            Ok(())
        }));
        threads.into_iter().map(|thread| thread.join()).collect()
    });
    join(outcomes)?;
    drop((reservations, objects, vms));
    check_device_works(&device)
}
