// SPDX-License-Identifier: MIT OR Apache-2.0
//! Monitored fences from the CPU.

use std::path::Path;
use std::time::{Duration, Instant};

use libc::{EINVAL, ENOENT, EOPNOTSUPP, ETIME};
use libvaccel::{ioctl, sys, Deadline, FenceFlags};

use super::Case;
use crate::expect::{accepted, refused};
use crate::rig::{ensure, soon, Result, Rig};

pub const CASES: &[Case] = &[
    Case {
        name: "fence-values",
        proves: "values only rise without REWIND, and query, page and wait agree",
        run: values,
    },
    Case {
        name: "fence-wait-deadlines",
        proves: "a wait polls at 0, ends with ETIME at its deadline, and at once when it is past",
        run: deadlines,
    },
    Case {
        name: "fence-wait-wakes",
        proves: "one signal wakes many waits, each with a value that is enough",
        run: wakes,
    },
    Case {
        name: "fence-bad",
        proves: "bad handles and flags are refused, and a fence without a page has no offset",
        run: bad,
    },
];

fn values(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let fence = rig.vm.create_fence(FenceFlags::empty(), 41)?;
    ensure(
        fence.query()?.value == 41,
        "the first value is not the initial one",
    )?;
    fence.signal(42)?;
    fence.signal(42)?;
    let lower = sys::FenceSignal {
        fence: fence.handle(),
        value: 41,
        ..Default::default()
    };
    refused::<ioctl::FenceSignal>(&rig.device, "with a lower value", lower, &[EINVAL])?;
    ensure(
        fence.wait(42, soon())?.value == 42,
        "a wait saw another value",
    )?;
    ensure(fence.value()? == 42, "a refused signal changed the value")?;
    fence.rewind(7)?;
    ensure(fence.query()?.value == 7, "the value was not rewound")?;
    ensure(
        fence.query()?.error.is_none(),
        "a fence without errors reports one",
    )?;
    fence.signal(u64::MAX)?;
    fence.wait(u64::MAX, soon())?;
    ensure(fence.value()? == u64::MAX, "the largest value is not kept")?;
    fence.close()?;
    Ok(())
}

fn deadlines(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let wait = sys::FenceWait {
        fence: rig.fence.handle(),
        value: 1,
        observed_value: u64::MAX,
        host_status: u32::MAX,
        ..Default::default()
    };
    let timed_out = |what: &str, deadline_ns| {
        let arg = sys::FenceWait {
            deadline_ns,
            ..wait
        };
        refused::<ioctl::FenceWait>(&rig.device, what, arg, &[ETIME])
    };
    let begin = Instant::now();
    timed_out("poll", 0)?;
    timed_out("a deadline in the past", 1)?;
    ensure(begin.elapsed() < Duration::from_secs(10), "a poll waited")?;
    let begin = Instant::now();
    timed_out("50 ms", Deadline::after(Duration::from_millis(50)).as_ns())?;
    ensure(
        begin.elapsed() >= Duration::from_millis(50),
        "a wait ended early",
    )?;
    rig.fence.signal(1)?;
    // A host with asynchronous messages sets it a moment later.
    rig.fence.wait(1, soon())?;
    let seen = accepted::<ioctl::FenceWait>(&rig.device, "poll of a reached value", wait)?;
    ensure(
        seen.observed_value == 1,
        format!("saw {}", seen.observed_value),
    )?;
    ensure(
        seen.host_status == 0,
        "a status although the host agreed or was not asked",
    )
}

fn wakes(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let fence = &rig.fence;
    let seen = std::thread::scope(|scope| {
        let waiters: Vec<_> = (1..=16)
            .map(|value| scope.spawn(move || (value, fence.wait(value, soon()))))
            .collect();
        std::thread::sleep(Duration::from_millis(20));
        let signalled = fence.signal(8).and_then(|()| {
            std::thread::sleep(Duration::from_millis(5));
            fence.signal(16)
        });
        let seen: Vec<_> = waiters.into_iter().map(|waiter| waiter.join()).collect();
        signalled.map(|()| seen)
    })?;
    for outcome in seen {
        let Ok((wanted, waited)) = outcome else {
            return crate::rig::failed("a waiting thread died");
        };
        let value = waited?.value;
        ensure(value >= wanted, format!("waited for {wanted}, saw {value}"))?;
    }
    Ok(())
}

fn bad(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let device = &rig.device;
    for fence in [0, 0x7fff_fff0] {
        let query = sys::FenceQuery {
            fence,
            ..Default::default()
        };
        refused::<ioctl::FenceQuery>(device, &format!("handle {fence:#x}"), query, &[ENOENT])?;
        let wait = sys::FenceWait {
            fence,
            ..Default::default()
        };
        refused::<ioctl::FenceWait>(device, &format!("handle {fence:#x}"), wait, &[ENOENT])?;
        let signal = sys::FenceSignal {
            fence,
            ..Default::default()
        };
        refused::<ioctl::FenceSignal>(device, &format!("handle {fence:#x}"), signal, &[ENOENT])?;
    }
    let create = sys::FenceCreate {
        vm: 0x7fff_fff0,
        ..Default::default()
    };
    refused::<ioctl::FenceCreate>(device, "of an unknown vm", create, &[ENOENT])?;
    let hidden = rig.vm.create_fence(FenceFlags::NO_MMAP, 3)?;
    ensure(
        hidden.page().is_none(),
        "a fence made without a page has one",
    )?;
    ensure(
        hidden.value()? == 3,
        "a fence without a page has another value",
    )?;
    hidden.close()?;
    if device.param(sys::PARAM_FEATURES)? & sys::FEATURE_FENCE_SHARING == 0 {
        let create = sys::FenceCreate {
            vm: rig.vm.handle(),
            flags: sys::FENCE_SHAREABLE,
            ..Default::default()
        };
        refused::<ioctl::FenceCreate>(
            device,
            "SHAREABLE without its feature",
            create,
            &[EOPNOTSUPP],
        )?;
    }
    Ok(())
}
