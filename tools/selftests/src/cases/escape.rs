// SPDX-License-Identifier: MIT OR Apache-2.0
//! ESCAPE: opaque exchanges with the host's driver. That of our host gives data back as it was.

use std::path::Path;

use libc::{EFBIG, EINVAL, ENOENT, EOPNOTSUPP};
use libvaccel::{
    ioctl, sys, ErrorKind, Features, QueueMode, QueueOptions, Result as Outcome, VmFlags,
};
use serde_json::json;

use super::Case;
use crate::expect::{accepted, refused, refuses_the_unknown};
use crate::host::Host;
use crate::rig::{ensure, failed, fails, needs, Result, Rig, SIZE};

pub const CASES: &[Case] = &[
    Case {
        name: "escape",
        proves:
            "data of any length goes to the host's driver and its answer comes back, about the \
                 adapter, a vm or a queue",
        run: exchange,
    },
    Case {
        name: "escape-refused",
        proves:
            "a host that refuses is told with its status where the data is longer than one, and \
                 changes no data",
        run: host_refuses,
    },
    Case {
        name: "escape-bad",
        proves:
            "escapes to others than the driver, bad flags, objects, offsets and sizes are refused \
                 with the documented errno",
        run: bad,
    },
];

/// STATUS_INVALID_PARAMETER.
const INVALID_PARAMETER: u32 = 0xc000_000d;

fn exchange(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    needs(&rig.device, Features::ESCAPE)?;
    let mut host = Host::open(node)?;
    for len in [1, 4, 5, 8, 4095, sys::limit::PRIV_SIZE_MAX as usize] {
        let data: Vec<u8> = (0..len).map(|at| (at * 7 + len) as u8).collect();
        let came_back = |what: &str, escape: &dyn Fn(&mut [u8]) -> Outcome<()>| {
            let mut answer = data.clone();
            escape(&mut answer)?;
            ensure(answer == data, format!("{len} bytes about {what}: changed"))
        };
        came_back("the adapter", &|data| rig.device.escape(0, data))?;
        came_back("a vm", &|data| rig.vm.escape(0, data))?;
        came_back("a queue", &|data| rig.queue.escape(0, data))?;
    }
    // It is the host's answer that comes back, not what was there.
    let rule = host.fault(
        json!({"command": "Escape"}),
        json!({"kind": "malformed", "mode": "ones"}),
    )?;
    let mut answer = [7; 64];
    rig.queue.escape(0, &mut answer)?;
    ensure(answer == [0xff; 64], format!("the answer is {answer:x?}"))?;
    ensure(host.fired(rule)? == 1, "the host had no escape")
}

fn host_refuses(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    needs(&rig.device, Features::ESCAPE)?;
    let mut host = Host::open(node)?;
    host.fault(
        json!({"command": "Escape"}),
        json!({"kind": "status", "status": "INVALID_PARAMETER"}),
    )?;
    let mut data = [7; 64];
    match rig.device.escape(0, &mut data) {
        Err(error) => ensure(
            error.kind() == ErrorKind::HostRefused
                && error.host_status() == Some(INVALID_PARAMETER),
            format!("refused as {error}"),
        )?,
        Ok(()) => return failed("the host refused, and nobody was told"),
    }
    ensure(data == [7; 64], "a refusal has changed the data")?;
    rig.device.escape(0, &mut data).map_err(Into::into)
}

fn bad(node: &Path) -> Result {
    /// Another escape than to the driver: to the memory manager.
    const VIDMM: u32 = 1;
    /// Flag of an escape that every driver knows.
    const KNOWN: u32 = 1 << 6;
    let rig = Rig::new(node)?;
    let device = &rig.device;
    needs(device, Features::ESCAPE)?;
    let other = device.create_vm(VmFlags::empty())?;
    let stray = other.create_queue(&QueueOptions::new(QueueMode::Bounded))?;
    let good = sys::Escape {
        vm: rig.vm.handle(),
        queue: rig.queue.handle(),
        arg_bo: rig.arg.handle(),
        size: 16,
        ..Default::default()
    };
    accepted::<ioctl::Escape>(device, "as it should be", good)?;
    refuses_the_unknown::<ioctl::Escape>(device, &good, 0)?;
    let refuse = |what: &str, arg, errno| refused::<ioctl::Escape>(device, what, arg, &[errno]);
    let with = |change: &dyn Fn(&mut sys::Escape)| {
        let mut arg = good;
        change(&mut arg);
        arg
    };
    refuse("VIDMM", with(&|arg| arg.r#type = VIDMM), EOPNOTSUPP)?;
    refuse(
        "a known escape",
        with(&|arg| arg.escape_flags = KNOWN),
        EOPNOTSUPP,
    )?;
    refuse("flag 31", with(&|arg| arg.escape_flags = 1 << 31), EINVAL)?;
    refuse("no vm for the queue", with(&|arg| arg.vm = 0), EINVAL)?;
    refuse(
        "another vm's queue",
        with(&|arg| arg.queue = stray.handle()),
        EINVAL,
    )?;
    refuse(
        "a queue as vm",
        with(&|arg| arg.vm = rig.queue.handle()),
        ENOENT,
    )?;
    refuse(
        "a vm as queue",
        with(&|arg| arg.queue = rig.vm.handle()),
        ENOENT,
    )?;
    refuse("no object", with(&|arg| arg.arg_bo = 0), ENOENT)?;
    refuse(
        "a guest object",
        with(&|arg| arg.arg_bo = rig.bo.handle()),
        EINVAL,
    )?;
    refuse("no data", with(&|arg| arg.size = 0), EINVAL)?;
    refuse("offset 4", with(&|arg| arg.arg_offset = 4), EINVAL)?;
    refuse(
        "behind the end",
        with(&|arg| arg.arg_offset = SIZE - 8),
        EINVAL,
    )?;
    let large = sys::limit::PRIV_SIZE_MAX + 1;
    refuse("too much", with(&|arg| arg.size = large), EFBIG)?;
    fails(
        "nothing",
        device.escape(0, &mut []),
        ErrorKind::InvalidArgument,
    )
}
