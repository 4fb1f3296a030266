// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory budgets: what is told, and what happens over them.

use std::collections::VecDeque;
use std::path::Path;

use libc::EINVAL;
use libvaccel::compute::Session;
use libvaccel::{
    ioctl, sys, BindFlags, BoOptions, Budget, Deadline, Device, ErrorKind, Features, OfferPriority,
    ResidentFlags, Segment, Vm, VmFlags,
};
use vaccel_isa::{CommandStream, Elementwise, ElementwiseOp, Operand};

use super::Case;
use crate::expect::refused;
use crate::host::Host;
use crate::rig::{ensure, eventually, failed, fails, open_with, soon, Problem, Result};

pub const CASES: &[Case] = &[
    Case {
        name: "budget-query",
        proves: "both segment groups have a budget, host memory counts in the one it lies in and \
                 guest memory as non-local, from being made resident to being evicted",
        run: query,
    },
    Case {
        name: "budget-bad",
        proves: "segments that do not exist are refused",
        run: bad,
    },
    Case {
        name: "budget-reservation",
        proves: "a file can reserve what is available, sees it, cannot have more, and gives it back",
        run: reservation,
    },
    Case {
        name: "budget-bytes-to-trim",
        proves: "over the budget RESIDENT fails with ENOSPC, the host's status and exactly the bytes \
                 that are missing, nothing of the list is resident, and evicting that much is enough; so does BIND",
        run: bytes_to_trim,
    },
    Case {
        name: "budget-cant-trim",
        proves: "a caller with nothing left to evict is taken over its budget while there is memory",
        run: cant_trim,
    },
    Case {
        name: "budget-idle-vm",
        proves: "over the budget an idle vm of the file makes room for another one and is resident \
                 again with its next submission; both go on computing on what they had",
        run: idle_vm,
    },
    Case {
        name: "budget-idle-offer",
        proves: "what an evicted vm has bound cannot be offered (EBUSY): its next SUBMIT needs it",
        run: idle_offer,
    },
    Case {
        name: "budget-busy-vm",
        proves: "a vm that works makes no room: BIND and SUBMIT of another fail with ENOSPC and the \
                 host's status, and succeed once it is idle",
        run: busy_vm,
    },
    Case {
        name: "budget-oversubscribe",
        proves: "a working set of five times the budget, kept resident by hand with what ENOSPC says \
                 is to be trimmed, is computed on as a whole and ends up right in every page",
        run: oversubscribe,
    },
];

pub(super) const MEGABYTE: u64 = 1 << 20;

fn query(node: &Path) -> Result {
    let device = open_with(node, Features::HOST_MEMORY | Features::MANUAL_RESIDENCY)?;
    let vm = device.create_vm(VmFlags::MANUAL_RESIDENCY)?;
    let both = || -> Result<(Budget, Budget)> {
        Ok((
            device.budget(Segment::Local)?,
            device.budget(Segment::NonLocal)?,
        ))
    };
    let before = both()?;
    ensure(
        before.0.budget > 0 && before.1.budget > 0,
        format!("budgets of {before:?}"),
    )?;
    let size = 3 * MEGABYTE;
    for (what, options, local) in [
        ("local", BoOptions::host(size), true),
        (
            "non-local",
            BoOptions::host(size).segment(Segment::NonLocal),
            false,
        ),
        ("guest", BoOptions::new(size), false),
    ] {
        let bo = vm.create_bo(&options)?;
        vm.make_resident(&[&bo])?.wait(soon())?;
        let with = both()?;
        let moved = (with.0.usage - before.0.usage, with.1.usage - before.1.usage);
        let expected = if local { (size, 0) } else { (0, size) };
        ensure(
            moved == expected,
            format!("{what}: usage of local, non-local grew by {moved:?}, expected {expected:?}"),
        )?;
        vm.evict(&[&bo])?;
        let after = both()?;
        ensure(
            (after.0.usage, after.1.usage) == (before.0.usage, before.1.usage),
            format!("{what}: usage is {after:?} after EVICT, {before:?} before"),
        )?;
    }
    // What a vm keeps resident by itself counts too.
    let auto = device.create_vm(VmFlags::empty())?;
    let bo = auto.create_bo(&BoOptions::host(size))?;
    let binding = bo.bind(BindFlags::empty())?;
    let with = both()?;
    ensure(
        with.0.usage - before.0.usage == size,
        format!(
            "a binding of {size} bytes counts {}",
            with.0.usage - before.0.usage
        ),
    )?;
    binding.close()?;
    bo.close()?;
    eventually("a closed object counts as used", || {
        Ok(both()?.0.usage == before.0.usage)
    })
}

fn bad(node: &Path) -> Result {
    let device = Device::open(node)?;
    for segment in [2, u32::MAX] {
        let arg = sys::Budget {
            segment,
            ..Default::default()
        };
        refused::<ioctl::Budget>(&device, &format!("segment {segment}"), arg, &[EINVAL])?;
    }
    Ok(())
}

fn reservation(node: &Path) -> Result {
    let device = Device::open(node)?;
    if let Err(error) = device.set_reservation(Segment::Local, 0) {
        return match error.kind() {
            ErrorKind::Unsupported => Err(Problem::Skipped("no reservations here".into())),
            _ => Err(error.into()),
        };
    }
    for segment in [Segment::Local, Segment::NonLocal] {
        let before = device.budget(segment)?;
        ensure(
            before.reservation == 0,
            format!("{segment:?}: reserved at first: {before:?}"),
        )?;
        let half = before.available / 2;
        let set = device.set_reservation(segment, half)?;
        let seen = device.budget(segment)?;
        ensure(
            (set.reservation, seen.reservation) == (half, half),
            format!("{segment:?}: reserved {half}: {set:?}, then {seen:?}"),
        )?;
        match device.set_reservation(segment, u64::MAX / 2) {
            Err(error) => ensure(
                error.host_status().is_some() || error.kind() == ErrorKind::InvalidArgument,
                format!("{segment:?}: too much: {error}"),
            )?,
            Ok(budget) => {
                return failed(format!(
                    "{segment:?}: reserved more than there is: {budget:?}"
                ))
            }
        }
        ensure(
            device.budget(segment)?.reservation == half,
            format!("{segment:?}: a refused reservation changed the one there was"),
        )?;
        let none = device.set_reservation(segment, 0)?;
        ensure(
            none.reservation == 0,
            format!("{segment:?}: not given back: {none:?}"),
        )?;
    }
    // What is reserved when the file is closed goes with it.
    device.set_reservation(Segment::Local, 4096)?;
    drop(device);
    let device = Device::open(node)?;
    ensure(
        device.budget(Segment::Local)?.reservation == 0,
        "a new file has the reservation of an old one",
    )
}

/// A file whose local budget is `room` above what it uses.
pub(super) fn short(node: &Path, features: Features, room: u64) -> Result<(Host, Device, u64)> {
    let mut host = Host::open(node)?;
    let device = open_with(node, features | Features::HOST_MEMORY)?;
    let base = device.budget(Segment::Local)?.usage;
    host.set_budget(Segment::Local, base + room)?;
    let budget = device.budget(Segment::Local)?.budget;
    ensure(
        budget == base + room,
        format!("the host says a budget of {budget}, set to {}", base + room),
    )?;
    Ok((host, device, base))
}

/// RESIDENT must fail for want of exactly `bytes`.
fn lacks<T>(what: &str, outcome: libvaccel::Result<T>, bytes: u64) -> Result {
    match outcome {
        Err(error) if error.kind() == ErrorKind::OutOfDeviceMemory => {
            ensure(
                error.bytes_to_trim() == Some(bytes),
                format!("{what}: {error}, expected {bytes} bytes to trim"),
            )?;
            ensure(
                error.host_status().is_some(),
                format!("{what}: ENOSPC without the host's status"),
            )
        }
        Err(error) => failed(format!("{what}: {error}, expected ENOSPC")),
        Ok(_) => failed(format!("{what}: there was room")),
    }
}

fn bytes_to_trim(node: &Path) -> Result {
    let (_host, device, base) = short(node, Features::MANUAL_RESIDENCY, 8 * MEGABYTE)?;
    let vm = device.create_vm(VmFlags::MANUAL_RESIDENCY)?;
    let make = |megabytes| vm.create_bo(&BoOptions::host(megabytes * MEGABYTE));
    let (a, b, c, d) = (make(4)?, make(4)?, make(6)?, make(1)?);
    vm.make_resident(&[&a, &b])?.wait(soon())?;
    lacks(
        "6 MiB into a full budget",
        vm.make_resident(&[&c]),
        6 * MEGABYTE,
    )?;
    lacks("7 MiB in two", vm.make_resident(&[&d, &c]), 7 * MEGABYTE)?;
    let usage = device.budget(Segment::Local)?.usage;
    ensure(
        usage == base + 8 * MEGABYTE,
        format!("a refused list counts: {} used", usage - base),
    )?;
    if vm.evict(&[&d]).is_ok() {
        return failed("an object of a refused list is resident");
    }
    vm.evict(&[&a])?;
    lacks("6 MiB into 4", vm.make_resident(&[&c]), 2 * MEGABYTE)?;
    vm.make_resident(&[&d])?.wait(soon())?;
    lacks("6 MiB into 3", vm.make_resident(&[&c]), 3 * MEGABYTE)?;
    // What is resident already costs nothing.
    vm.make_resident(&[&b])?.wait(soon())?;
    vm.evict(&[&b])?;
    vm.evict(&[&b])?;
    vm.make_resident(&[&c])?.wait(soon())?;
    vm.evict(&[&c, &d])?;
    let usage = device.budget(Segment::Local)?.usage;
    ensure(usage == base, format!("{} used in the end", usage - base))?;
    // A binding that would be resident says the same.
    let vm = device.create_vm(VmFlags::empty())?;
    let bo = vm.create_bo(&BoOptions::host(9 * MEGABYTE))?;
    lacks("9 MiB bound", bo.bind(BindFlags::WRITE), MEGABYTE)
}

fn cant_trim(node: &Path) -> Result {
    let (_host, device, base) = short(node, Features::MANUAL_RESIDENCY, 2 * MEGABYTE)?;
    let vm = device.create_vm(VmFlags::MANUAL_RESIDENCY)?;
    let bo = vm.create_bo(&BoOptions::host(5 * MEGABYTE))?;
    lacks("5 MiB into 2", vm.make_resident(&[&bo]), 3 * MEGABYTE)?;
    vm.make_resident_with(&[&bo], ResidentFlags::CANT_TRIM)?
        .wait(soon())?;
    let budget = device.budget(Segment::Local)?;
    ensure(
        budget.usage == base + 5 * MEGABYTE && budget.usage > budget.budget,
        format!("over the budget by hand: {budget:?}"),
    )?;
    vm.evict(&[&bo])?;
    Ok(())
}

/// A vm with 6 MiB of local memory that starts with `word`.
fn with_memory(device: &Device, word: u32) -> Result<(Session, libvaccel::compute::Buffer)> {
    let session = Session::new(device)?;
    let buffer = session.host_buffer(6 * MEGABYTE, Segment::Local)?;
    buffer.mapping().write(0, &word.to_le_bytes())?;
    Ok((session, buffer))
}

fn idle_vm(node: &Path) -> Result {
    // Either fits, both do not.
    let (_host, device, base) = short(node, Features::empty(), 8 * MEGABYTE)?;
    let mut all = vec![with_memory(&device, 1000)?];
    all.push(with_memory(&device, 2000)?);
    for round in 0..4u32 {
        for (number, (session, buffer)) in (1..).zip(all.iter_mut()) {
            let last = 6 * MEGABYTE - 4;
            let mut stream = CommandStream::new();
            stream.copy(buffer.gpu_va() + last, buffer.gpu_va(), 4);
            stream.fill_words(buffer.gpu_va(), 4, number * 1000 + round + 1);
            session.run(stream, soon())?;
            let mut bytes = [0; 4];
            buffer.mapping().read(last as usize, &mut bytes)?;
            let seen = u32::from_le_bytes(bytes);
            let expected = number * 1000 + round;
            ensure(
                seen == expected,
                format!("round {round}, vm {number}: {seen}, expected {expected}"),
            )?;
            let usage = device.budget(Segment::Local)?.usage - base;
            ensure(
                usage <= 8 * MEGABYTE,
                format!("round {round}, vm {number}: {usage} bytes used of 8 MiB"),
            )?;
        }
    }
    Ok(())
}

fn idle_offer(node: &Path) -> Result {
    let (_host, device, _) = short(node, Features::OFFER, 8 * MEGABYTE)?;
    let (mut first, one) = with_memory(&device, 1)?;
    let (_second, _two) = with_memory(&device, 2)?;
    let outcome = first.vm().offer(&[one.bo()], OfferPriority::Normal, false);
    fails("OFFER in an evicted vm", outcome, ErrorKind::Busy)?;
    let mut stream = CommandStream::new();
    stream.fill_words(one.gpu_va(), 4, 3);
    first.run(stream, soon())?;
    ensure(one.read_u32(1)? == [3], "a job of the evicted vm is lost")
}

fn over_budget<T>(what: &str, outcome: libvaccel::Result<T>) -> Result {
    match outcome {
        Err(error) if error.kind() == ErrorKind::OutOfDeviceMemory => ensure(
            error.host_status().is_some(),
            format!("{what}: ENOSPC without the host's status"),
        ),
        Err(error) => failed(format!("{what}: {error}, expected ENOSPC")),
        Ok(_) => failed(format!("{what}: there was room")),
    }
}

fn busy_vm(node: &Path) -> Result {
    let (_host, device, _) = short(node, Features::empty(), 8 * MEGABYTE)?;
    let (mut first, one) = with_memory(&device, 1)?;
    let (mut second, two) = with_memory(&device, 2)?;
    // Busy for as long as it takes to try.
    let spin = |session: &mut Session, at: u64| -> Result<libvaccel::compute::Ticket> {
        let mut last = None;
        for _ in 0..12 {
            let mut stream = CommandStream::new();
            stream.spin(300_000_000);
            stream.fill_words(at, 4, 9);
            last = Some(session.launch(stream)?);
        }
        last.ok_or_else(|| Problem::Failed("nothing launched".into()))
    };
    let ticket = spin(&mut second, two.gpu_va())?;
    let mut stream = CommandStream::new();
    stream.fill_words(one.gpu_va(), 4, 3);
    over_budget(
        "SUBMIT to a vm that was evicted",
        first.launch(stream.clone()),
    )?;
    let third = device.create_vm(VmFlags::empty())?;
    let bo = third.create_bo(&BoOptions::host(6 * MEGABYTE))?;
    over_budget("BIND in a third vm", bo.bind(BindFlags::empty()))?;
    match second.wait(ticket, Deadline::NOW) {
        Err(error) if error.kind() == ErrorKind::TimedOut => {}
        _ => {
            return Err(Problem::Skipped(
                "the machine is too slow to keep a vm busy".into(),
            ))
        }
    }
    second.wait(ticket, soon())?;
    first.run(stream, soon())?;
    ensure(
        one.read_u32(1)? == [3] && two.read_u32(1)? == [9],
        "what two vms computed over the budget is wrong",
    )?;
    drop((first, second, one, two));
    bo.bind(BindFlags::empty())?.close()?;
    Ok(())
}

/// Objects in local memory of which the least recently used make room.
struct WorkingSet {
    vm: Vm,
    objects: Vec<libvaccel::compute::Buffer>,
    /// Which are resident, the least recently used first.
    resident: VecDeque<usize>,
    evictions: u64,
}

impl WorkingSet {
    /// Makes an object resident, whatever has to go for it.
    fn take(&mut self, index: usize) -> Result {
        if let Some(place) = self.resident.iter().position(|have| *have == index) {
            self.resident.remove(place);
            self.resident.push_back(index);
            return Ok(());
        }
        let Some(buffer) = self.objects.get(index) else {
            return failed("an object that is not there");
        };
        loop {
            let error = match self.vm.make_resident(&[buffer.bo()]) {
                Ok(resident) => {
                    resident.wait(soon())?;
                    self.resident.push_back(index);
                    return Ok(());
                }
                Err(error) => error,
            };
            let Some(mut trim) = error.bytes_to_trim() else {
                return failed(format!("object {index}: {error}"));
            };
            while trim > 0 {
                let oldest = self.resident.pop_front();
                let Some(old) = oldest.and_then(|old| self.objects.get(old)) else {
                    return failed(format!("{trim} bytes to trim and nothing left to evict"));
                };
                self.vm.evict(&[old.bo()])?;
                self.evictions += 1;
                trim = trim.saturating_sub(old.bo().size());
            }
        }
    }
}

fn oversubscribe(node: &Path) -> Result {
    const OBJECTS: usize = 40;
    const PASSES: usize = 3;
    let (_host, device, base) = short(node, Features::MANUAL_RESIDENCY, 8 * MEGABYTE)?;
    let vm = device.create_vm(VmFlags::MANUAL_RESIDENCY)?;
    let mut session = Session::in_vm(&vm, libvaccel::QueueMode::Bounded)?;
    let mut set = WorkingSet {
        objects: (0..OBJECTS)
            .map(|_| session.host_buffer(MEGABYTE, Segment::Local))
            .collect::<libvaccel::Result<_>>()?,
        vm,
        resident: VecDeque::new(),
        evictions: 0,
    };
    let words = (MEGABYTE / 4) as u32;
    for pass in 0..PASSES {
        for step in 0..OBJECTS {
            // Forwards and backwards: the end of one pass is still there at the start of the next.
            let index = if pass % 2 == 0 {
                step
            } else {
                OBJECTS - 1 - step
            };
            set.take(index)?;
            let Some(buffer) = set.objects.get(index) else {
                return failed("an object that is not there");
            };
            let mut stream = CommandStream::new();
            match pass {
                0 => stream.fill_words(buffer.gpu_va(), MEGABYTE, (index as f32).to_bits()),
                _ => stream.elementwise(Elementwise {
                    op: ElementwiseOp::Add,
                    dst: buffer.gpu_va(),
                    a: buffer.gpu_va(),
                    b: Operand::Immediate(OBJECTS as f32),
                    rows: 1,
                    cols: words,
                }),
            };
            session.run(stream, soon())?;
            let usage = device.budget(Segment::Local)?.usage - base;
            ensure(
                usage <= 8 * MEGABYTE,
                format!("pass {pass}, object {index}: {usage} bytes used of 8 MiB"),
            )?;
        }
    }
    ensure(
        set.evictions >= (OBJECTS as u64 - 8) * PASSES as u64,
        format!(
            "{} evictions: the set was not over the budget",
            set.evictions
        ),
    )?;
    for (index, buffer) in set.objects.iter().enumerate() {
        buffer
            .bo()
            .sync(libvaccel::SyncFlags::FOR_CPU, 0..MEGABYTE)?;
        let expected = (OBJECTS * (PASSES - 1) + index) as f32;
        let wrong = buffer
            .read_f32(words as usize)?
            .iter()
            .position(|value| value.to_bits() != expected.to_bits());
        ensure(
            wrong.is_none(),
            format!("object {index}: word {wrong:?} is not {expected}"),
        )?;
    }
    Ok(())
}
