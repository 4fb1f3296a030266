// SPDX-License-Identifier: MIT OR Apache-2.0
//! Processes that are killed while they hold memory in every state: the census after each case says
//! whether something stayed.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use libvaccel::compute::Session;
use libvaccel::{
    BindFlags, BindOptions, BoOptions, Device, EventMask, Features, OfferPriority, ReserveOptions,
    Segment, Submission, VmFlags,
};
use vaccel_isa::CommandStream;

use super::{Case, HelperEntry};
use crate::foreign::udmabuf;
use crate::helper::{self, Helper};
use crate::rig::{check_device_works, ensure, failed, open_with, soon, Result, SIZE};
use crate::system::memfd;

pub const CASES: &[Case] = &[
    Case {
        name: "kill-reserved",
        proves: "a process killed with bound reservations leaves nothing behind",
        run: |node| kill(node, "reserved", Features::VA_RESERVE),
    },
    Case {
        name: "kill-offered",
        proves: "a process killed with offered and with resident objects leaves nothing behind",
        run: |node| kill(node, "offered", Features::OFFER),
    },
    Case {
        name: "kill-mapped",
        proves: "a process killed with windows on host memory open leaves nothing behind",
        run: |node| kill(node, "mapped", Features::HOST_MEMORY),
    },
    Case {
        name: "kill-queued",
        proves: "a process killed while bindings are queued behind work leaves nothing behind",
        run: |node| kill(node, "queued", Features::QUEUED_BIND),
    },
    Case {
        name: "kill-imported",
        proves: "a process killed while a job uses imported memory leaves nothing behind",
        run: |node| {
            // Without udmabuf there is nothing to import.
            let memory = memfd(SIZE)?;
            udmabuf(&memory, SIZE)?;
            kill(node, "imported", Features::IMPORT)
        },
    },
    Case {
        name: "kill-events",
        proves:
            "a process killed while it waits for events with a reservation of the budget leaves \
                 nothing behind",
        run: |node| kill(node, "events", Features::EVENTS),
    },
];

pub const HELPERS: &[HelperEntry] = &[("hold", hold)];

fn kill(node: &Path, state: &str, features: Features) -> Result {
    let device = open_with(node, features)?;
    let name = node.display().to_string();
    for _ in 0..3 {
        let helper = Helper::start_with("hold", &[state, &name], device.as_fd())?;
        ensure(
            helper.said == "holding",
            format!("the process: {}", helper.said),
        )?;
        helper.kill()?;
    }
    check_device_works(&device)
}

/// Several launches that keep the engine busy for long.
fn busy(session: &mut Session, gpu_va: u64) -> Result {
    for _ in 0..8 {
        let mut stream = CommandStream::new();
        stream.spin(300_000_000);
        stream.fill_words(gpu_va, 64, 1);
        let _ = session.launch(stream)?;
    }
    Ok(())
}

/// The process: the state, and the node.
fn hold(arguments: &[String]) -> Result {
    let [state, node] = arguments else {
        return failed("a state and a node");
    };
    let device = Device::open(node)?;
    let held = || {
        helper::say("holding")?;
        std::thread::sleep(Duration::from_secs(600));
        failed("nobody killed the process")
    };
    match state.as_str() {
        "reserved" => {
            let vm = device.create_vm(VmFlags::empty())?;
            let bo = vm.create_bo(&BoOptions::new(SIZE))?;
            let plain = vm.reserve(16 * SIZE, &ReserveOptions::new())?;
            let zero = vm.reserve(16 * SIZE, &ReserveOptions::new().zero())?;
            for reservation in [&plain, &zero] {
                reservation.bind(0, &bo, 0..SIZE, BindFlags::WRITE)?;
                reservation.bind(4096, &bo, 0..4096, BindFlags::empty())?;
                reservation.bind(8 * SIZE, &bo, 4096..8192, BindFlags::WRITE)?;
            }
            held()
        }
        "offered" => {
            let vm = device.create_vm(VmFlags::MANUAL_RESIDENCY)?;
            let mut options = vec![BoOptions::new(SIZE)];
            if device.features()?.contains(Features::HOST_MEMORY) {
                options.push(BoOptions::host(SIZE));
            }
            let mut all = Vec::new();
            for options in &options {
                for _ in 0..4 {
                    all.push(vm.create_bo(options)?);
                }
            }
            for (index, bo) in all.iter().enumerate() {
                match index % 3 {
                    0 => vm.offer(&[bo], OfferPriority::Low, false)?,
                    1 => vm.offer(&[bo], OfferPriority::High, true)?,
                    _ => vm.make_resident(&[bo])?.wait(soon())?,
                }
            }
            held()
        }
        "mapped" => {
            let session = Session::new(&device)?;
            let mut all = Vec::new();
            for segment in [Segment::Local, Segment::NonLocal] {
                for _ in 0..8 {
                    let buffer = session.host_buffer(1 << 20, segment)?;
                    buffer.mapping().write(4096, &[1; 64])?;
                    // A second mapping, whose object is closed.
                    all.push((buffer.bo().map()?, buffer));
                }
            }
            held()
        }
        "queued" => {
            let mut session = Session::new(&device)?;
            let out = session.buffer(SIZE)?;
            let reservation = session
                .vm()
                .reserve(16 * SIZE, &ReserveOptions::new().zero())?;
            busy(&mut session, out.gpu_va())?;
            for round in 0..16 {
                let bo = session.vm().create_bo(&BoOptions::new(SIZE))?;
                let list = Submission::new()
                    .bind(&reservation, round * SIZE, &bo, 0..SIZE, BindFlags::WRITE)
                    .unbind(&reservation, 0..round * SIZE + 4096);
                session.queue().submit(&list)?;
            }
            held()
        }
        "imported" => {
            let memory = memfd(SIZE)?;
            let dma_buf = udmabuf(&memory, SIZE)?;
            let bo = device.import(dma_buf.as_fd())?;
            let mut session = Session::new(&device)?;
            let binding = session
                .vm()
                .bind(&bo, &BindOptions::new(BindFlags::WRITE))?;
            busy(&mut session, binding.gpu_va())?;
            held()
        }
        "events" => {
            let available = device.budget(Segment::Local)?.available;
            device.set_reservation(Segment::Local, available / 2)?;
            device.subscribe(EventMask::BUDGET)?;
            helper::say("holding")?;
            loop {
                device.next_event(libvaccel::Deadline::NEVER)?;
            }
        }
        other => failed(format!("unknown state {other}")),
    }
}
