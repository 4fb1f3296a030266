// SPDX-License-Identifier: MIT OR Apache-2.0
//! EVENTS: the budget's, by poll and read on the file.

use std::path::Path;
use std::time::Duration;

use libc::{EINVAL, EOPNOTSUPP};
use libvaccel::{
    ioctl, sys, BoOptions, Deadline, Device, ErrorKind, Event, EventMask, Features, ResidentFlags,
    Segment, Vm, VmFlags,
};

use super::budget::{short, MEGABYTE};
use super::Case;
use crate::expect::refused;
use crate::rig::{check_device_works, ensure, failed, fails, open_with, soon, Result};

pub const CASES: &[Case] = &[
    Case {
        name: "event-budget",
        proves:
            "a changed budget is an event that says how much to trim, one until BUDGET is asked \
                 again, and none after the file asks for no events",
        run: event,
    },
    Case {
        name: "event-usage",
        proves: "usage that crosses the budget is an event",
        run: usage_event,
    },
    Case {
        name: "event-bad",
        proves: "masks with unknown events are EINVAL, with planned ones EOPNOTSUPP",
        run: bad_events,
    },
    Case {
        name: "event-closed-file",
        proves:
            "a file that has asked for events can be closed with one unread, and with one coming",
        run: closed_file,
    },
    Case {
        name: "budget-both",
        proves: "when the budgets of both segment groups change together there is an event for one, \
                 and, at the latest after BUDGET was asked for that one, an event for the other",
        run: both_groups,
    },
    Case {
        name: "budget-unread",
        proves: "BUDGET succeeds 400 times for each group, while as many changes are events that \
                 nobody reads (more than the core keeps for a file, if each is sent); after they are \
                 read, the next change is an event again",
        run: unread,
    },
];

/// The driver looks twice a second.
const QUIET: Duration = Duration::from_millis(2500);

fn resident(device: &Device, megabytes: u64) -> Result<(Vm, libvaccel::Bo)> {
    let vm = device.create_vm(VmFlags::MANUAL_RESIDENCY)?;
    let bo = vm.create_bo(&BoOptions::host(megabytes * MEGABYTE))?;
    vm.make_resident(&[&bo])?.wait(soon())?;
    Ok((vm, bo))
}

const EVENTS: Features = Features::EVENTS.union(Features::MANUAL_RESIDENCY);

fn expect_event(device: &Device, what: &str, bytes_to_trim: u64) -> Result {
    let expected = Event::Budget {
        segment: Segment::Local,
        bytes_to_trim,
    };
    match device.next_event(Deadline::after_secs(20))? {
        Some(event) if event == expected => Ok(()),
        other => failed(format!("{what}: {other:?}, expected {expected:?}")),
    }
}

fn expect_none(device: &Device, what: &str) -> Result {
    match device.next_event(Deadline::after(QUIET))? {
        None => Ok(()),
        Some(event) => failed(format!("{what}: {event:?}")),
    }
}

fn event(node: &Path) -> Result {
    let (mut host, device, base) = short(node, EVENTS, 16 * MEGABYTE)?;
    let (_vm, _bo) = resident(&device, 4)?;
    device.budget(Segment::Local)?;
    device.budget(Segment::NonLocal)?;
    let mut set = |room: u64| host.set_budget(Segment::Local, base + room);
    set(15 * MEGABYTE)?;
    expect_none(&device, "without having asked")?;
    device.budget(Segment::Local)?;
    device.subscribe(EventMask::BUDGET)?;
    expect_none(&device, "without a change")?;
    set(3 * MEGABYTE)?;
    expect_event(&device, "a budget below the usage", MEGABYTE)?;
    set(2 * MEGABYTE)?;
    expect_none(&device, "a second change that nobody has asked about")?;
    let budget = device.budget(Segment::Local)?;
    ensure(
        budget.budget == base + 2 * MEGABYTE,
        format!("BUDGET says {budget:?} after the event"),
    )?;
    expect_none(&device, "the change that BUDGET has told")?;
    set(8 * MEGABYTE)?;
    expect_event(&device, "a budget above the usage", 0)?;
    device.budget(Segment::Local)?;
    device.subscribe(EventMask::empty())?;
    set(MEGABYTE)?;
    expect_none(&device, "after asking for no events")
}

fn usage_event(node: &Path) -> Result {
    let (_host, device, _) = short(node, EVENTS, 2 * MEGABYTE)?;
    let vm = device.create_vm(VmFlags::MANUAL_RESIDENCY)?;
    let bo = vm.create_bo(&BoOptions::host(5 * MEGABYTE))?;
    device.budget(Segment::Local)?;
    device.subscribe(EventMask::BUDGET)?;
    expect_none(&device, "without a change")?;
    vm.make_resident_with(&[&bo], ResidentFlags::CANT_TRIM)?
        .wait(soon())?;
    expect_event(&device, "usage above the budget", 3 * MEGABYTE)?;
    vm.evict(&[&bo])?;
    Ok(())
}

fn bad_events(node: &Path) -> Result {
    let device = open_with(node, Features::EVENTS)?;
    let budget = EventMask::BUDGET.bits();
    for mask in [1 << 2, 1 << 31, budget | 1 << 5] {
        let arg = sys::Events { mask, pad: 0 };
        refused::<ioctl::Events>(&device, &format!("mask {mask:#x}"), arg, &[EINVAL])?;
    }
    let state = EventMask::VM_STATE.bits();
    for mask in [state, state | budget] {
        let arg = sys::Events { mask, pad: 0 };
        refused::<ioctl::Events>(&device, &format!("mask {mask:#x}"), arg, &[EOPNOTSUPP])?;
    }
    fails(
        "the library",
        device.subscribe(EventMask::VM_STATE),
        ErrorKind::Unsupported,
    )?;
    device.subscribe(EventMask::BUDGET)?;
    device.subscribe(EventMask::BUDGET)?;
    device.subscribe(EventMask::empty())?;
    Ok(())
}

fn closed_file(node: &Path) -> Result {
    let (mut host, device, base) = short(node, EVENTS, 16 * MEGABYTE)?;
    let other = Device::open(node)?;
    for file in [&device, &other] {
        file.budget(Segment::Local)?;
        file.subscribe(EventMask::BUDGET)?;
    }
    host.set_budget(Segment::Local, base + 12 * MEGABYTE)?;
    // One has its event by then, unread.
    expect_event(&other, "of the other file", 0)?;
    other.budget(Segment::Local)?;
    host.set_budget(Segment::Local, base + 10 * MEGABYTE)?;
    drop((device, other));
    std::thread::sleep(Duration::from_millis(1200));
    check_device_works(&Device::open(node)?)
}

fn both_groups(node: &Path) -> Result {
    let (mut host, device, base) = short(node, EVENTS, 16 * MEGABYTE)?;
    let non_local = device.budget(Segment::NonLocal)?.budget;
    for round in 1..=3 {
        device.budget(Segment::Local)?;
        device.budget(Segment::NonLocal)?;
        device.subscribe(EventMask::BUDGET)?;
        host.set_budget(Segment::Local, base + (16 - round) * MEGABYTE)?;
        host.set_budget(Segment::NonLocal, non_local - round * MEGABYTE)?;
        let mut left = vec![Segment::Local, Segment::NonLocal];
        while !left.is_empty() {
            match device.next_event(Deadline::after_secs(10))? {
                Some(Event::Budget { segment, .. }) if left.contains(&segment) => {
                    left.retain(|group| *group != segment);
                    device.budget(segment)?;
                }
                Some(event) => return failed(format!("round {round}: {event:?} again")),
                None => return failed(format!("round {round}: no event for {left:?}")),
            }
        }
        expect_none(&device, "after both were told")?;
    }
    Ok(())
}

fn unread(node: &Path) -> Result {
    const TIMES: u64 = 400;
    let (mut host, device, base) = short(node, EVENTS, 16 * MEGABYTE)?;
    device.subscribe(EventMask::BUDGET)?;
    let ask = |number: u64| -> Result {
        for segment in [Segment::Local, Segment::NonLocal] {
            if let Err(error) = device.budget(segment) {
                return failed(format!("{segment:?}, time {number}: {error}"));
            }
        }
        Ok(())
    };
    // Without a change nothing adds up.
    for number in 0..TIMES {
        ask(number)?;
        device.subscribe(EventMask::BUDGET)?;
    }
    expect_none(&device, "without a change")?;
    let other = Device::open(node)?;
    for number in 0..TIMES {
        host.set_budget(Segment::Local, base + (8 + number % 2) * MEGABYTE)?;
        // The driver looks when a file stops to ask for events, not only twice a second.
        other.subscribe(EventMask::BUDGET)?;
        other.subscribe(EventMask::empty())?;
        std::thread::sleep(Duration::from_millis(5));
        ask(number)?;
    }
    let mut read = 0;
    while let Some(event) = device.next_event(Deadline::after(QUIET))? {
        read += 1;
        ensure(
            matches!(
                event,
                Event::Budget {
                    segment: Segment::Local,
                    ..
                }
            ),
            format!("event {read} is {event:?}"),
        )?;
    }
    ensure(read > 0, "no change was an event")?;
    device.budget(Segment::Local)?;
    host.set_budget(Segment::Local, base + 5 * MEGABYTE)?;
    expect_event(&device, "a change after all were read", 0)
}
