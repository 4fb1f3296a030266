// SPDX-License-Identifier: MIT OR Apache-2.0
//! A host that misbehaves by rules: one case for each kind of rule.

use std::path::Path;
use std::time::{Duration, Instant};

use libvaccel::compute::Session;
use libvaccel::{BoOptions, Device, VmFlags};
use serde_json::{json, Value};
use vaccel_isa::CommandStream;

use super::lost::{and_back, until};
use super::Case;
use crate::host::Host;
use crate::rig::{check_device_works, ensure, failed, soon, Result, SIZE};

pub const CASES: &[Case] = &[
    Case {
        name: "host-refuses",
        proves: "an operation whose command the host refuses fails, carried out or not, and the next \
                 one works",
        run: refuses,
    },
    Case {
        name: "host-late",
        proves: "an operation waits for an answer that is late, and an answer that comes twice counts \
                 once",
        run: late,
    },
    Case {
        name: "host-short",
        proves: "an operation whose answer is cut short fails, and the next one works",
        run: short,
    },
    Case {
        name: "host-events",
        proves: "jobs end as ever when every event comes twice",
        run: events,
    },
    Case {
        name: "host-goes",
        proves: "an operation amid which the virtual GPU is taken back fails, and the virtual GPU works \
                 once it is offered again",
        run: goes,
    },
];

/// The next command of this kind.
fn next(command: &str) -> Value {
    json!({ "command": command })
}

/// The rule fired as often as it had to.
fn fired(host: &mut Host, rule: u64, times: u64) -> Result {
    let fired = host.fired(rule)?;
    ensure(fired == times, format!("the rule fired {fired} times"))
}

fn refuses(node: &Path) -> Result {
    let device = Device::open(node)?;
    let mut host = Host::open(node)?;
    for after in [false, true] {
        let does = json!({"kind": "status", "status": "INVALID_PARAMETER", "after": after});
        let rule = host.fault(next("CreateDevice"), does)?;
        if device.create_vm(VmFlags::empty()).is_ok() {
            return failed("a vm that the host refused");
        }
        fired(&mut host, rule, 1)?;
        check_device_works(&device)?;
    }
    Ok(())
}

fn late(node: &Path) -> Result {
    const DELAY: Duration = Duration::from_millis(300);
    let device = Device::open(node)?;
    let mut host = Host::open(node)?;
    let delay = json!({"kind": "delay", "milliseconds": 300});
    let late = host.fault(next("CreateDevice"), delay)?;
    let twice = host.fault(next("CreateDevice"), json!({"kind": "duplicate"}))?;
    let start = Instant::now();
    let vm = device.create_vm(VmFlags::empty())?;
    let time = start.elapsed();
    ensure(time >= DELAY, format!("answered in {time:?}"))?;
    fired(&mut host, late, 1)?;
    fired(&mut host, twice, 1)?;
    drop(vm);
    check_device_works(&device)
}

fn short(node: &Path) -> Result {
    let device = Device::open(node)?;
    let mut host = Host::open(node)?;
    let vm = device.create_vm(VmFlags::empty())?;
    let rule = host.fault(
        next("CreateAllocation"),
        json!({"kind": "short", "bytes": 4096}),
    )?;
    if vm.create_bo(&BoOptions::new(SIZE)).is_ok() {
        return failed("an object that the host said nothing about");
    }
    fired(&mut host, rule, 1)?;
    drop(vm);
    check_device_works(&device)
}

fn events(node: &Path) -> Result {
    let device = Device::open(node)?;
    let mut host = Host::open(node)?;
    let on = json!({"event": "any", "count": 0});
    host.fault(on, json!({"kind": "duplicate"}))?;
    let mut session = Session::new(&device)?;
    let out = session.buffer(4)?;
    for word in 1..=5 {
        let mut stream = CommandStream::new();
        stream.spin(1_000_000);
        stream.fill_words(out.gpu_va(), 4, word);
        let ticket = session.launch(stream)?;
        session.wait(ticket, soon())?;
        let mut bytes = [0; 4];
        out.mapping().read(0, &mut bytes)?;
        ensure(bytes == word.to_le_bytes(), "the job did something else")?;
    }
    host.clear_faults()?;
    check_device_works(&device)
}

fn goes(node: &Path) -> Result {
    and_back(node, |host| {
        let device = Device::open(node)?;
        let vm = device.create_vm(VmFlags::empty())?;
        drop(vm.create_bo(&BoOptions::new(SIZE))?);
        let rescind = json!({"op": "rescind", "channel": "vgpu", "vgpu": host.vgpu()});
        let rule = host.fault(
            json!({"command": "CreateAllocation", "nth": 2}),
            json!({"kind": "operation", "operation": rescind}),
        )?;
        drop(vm.create_bo(&BoOptions::new(SIZE))?);
        if vm.create_bo(&BoOptions::new(SIZE)).is_ok() {
            return failed("an object of a virtual GPU that is gone");
        }
        fired(host, rule, 1)?;
        until("the node goes", || !node.exists())
    })
}
